//! The command line, and what it does.

use std::{path::PathBuf, sync::Arc};

use clap::{Args, Parser, Subcommand};
use example_command::{
    database::Database,
    drive::{Driver, Order, Subject},
    exit::{Exit, Trouble},
    progress::Screen,
    report::{Beside, FleetReport, RunReport, tell},
};
use provision_core::{
    RunId, RunStatus,
    clock::{Clock, SystemClock},
};

use crate::{
    delivery::Delivery,
    folder::Folder,
    host::{Host, Look, Places, Wanted},
    input::{Project, Request},
    keys::Hashing,
    report,
    retry::{Retry, RetryArgs},
    saga::STEPS,
    server::TenantServer,
};

/// Most projects of a fleet.
pub const FLEET_MAX: u32 = 100;
/// Projects that are under way at a time.
const AT_ONCE: usize = 20;

/// Brings up projects for tenants, durably: kill it at any moment and type it again.
#[derive(Debug, Parser)]
#[command(name = "tenant-projects", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Other>,
    #[command(flatten)]
    request: Request,
    #[command(flatten)]
    mode: ModeArgs,
    #[command(flatten)]
    retry: RetryArgs,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Other things to do.
#[derive(Debug, Subcommand)]
enum Other {
    /// Print what exists, and exit.
    Inventory,
    /// Measure how much every project uses, and print it beside its quota.
    Usage,
}

/// What to do.
#[derive(Debug, Args)]
struct ModeArgs {
    /// So many projects, `SLUG-1` to `SLUG-N`.
    #[arg(long, value_name = "N")]
    fleet: Option<u32>,
    /// Remove everything of the project.
    #[arg(long)]
    tear_down: bool,
    /// Fail at this step for good.
    #[arg(long, value_name = "STEP")]
    fail_at: Option<String>,
    /// Kill this process after the last effect of this step, before its outcome is recorded.
    #[arg(long, value_name = "STEP")]
    crash_at: Option<String>,
}

/// Where things are kept, and how they are shown.
#[derive(Debug, Args)]
struct PlaceArgs {
    /// Folder of keys, of the simulated services, and of a private database server where
    /// `DATABASE_URL` names none.
    #[arg(long, value_name = "DIR", default_value = "./.tenant-projects", global = true)]
    data_dir: PathBuf,
    /// Print one JSON object on the last line of stdout, and everything else on stderr.
    #[arg(long, global = true)]
    json: bool,
    /// How long the simulated services take.
    #[arg(long, value_name = "FACTOR", default_value_t = 0.04, global = true, value_parser = factor)]
    speed: f64,
    /// How API keys are hashed.
    #[arg(long, value_enum, default_value = "scrypt", global = true)]
    key_hash: Hashing,
}

fn factor(text: &str) -> Result<f64, String> {
    let factor: f64 = text.parse().map_err(|_| "this is no number".to_owned())?;
    match (0.001..=10.0).contains(&factor) {
        true => Ok(factor),
        false => Err("it is 0.001 to 10".to_owned()),
    }
}

/// Does what was typed.
///
/// # Errors
/// It could not be begun, or something it needs is out of reach.
pub async fn work(cli: Cli) -> Result<Exit, Trouble> {
    // Before the first file and the first connection: what cannot work leaves nothing behind.
    let requests = requests(&cli)?;
    let retry = Retry::typed(&cli.retry)?;
    for step in [&cli.mode.fail_at, &cli.mode.crash_at].into_iter().flatten() {
        check_step(step)?;
    }
    if let Some(other) = &cli.command {
        return look(&cli, other, retry).await;
    }
    let database = Database::of(&cli.place.data_dir).await?;
    let host = Arc::new(Host::open(&places(&cli, &database, retry).await?).await?);
    let screen = Screen::new(cli.place.json, cli.mode.fleet.is_some());
    screen.line(database.describe());
    drive(&host, &cli, requests, &screen).await
}

/// Shows what there is, and makes nothing, a private server neither.
async fn look(cli: &Cli, other: &Other, retry: Retry) -> Result<Exit, Trouble> {
    let (data_dir, json) = (&cli.place.data_dir, cli.place.json);
    let Some(database) = Database::existing(data_dir).await? else {
        // What there is was begun beside a database that nobody names now.
        if Folder::is_begun(data_dir) || TenantServer::is_named().await? {
            let message = "the database with the host's tables is not named";
            let hint = "set DATABASE_URL to the one that was set when the projects were begun";
            return Err(Trouble::unavailable("no_database", message, hint));
        }
        return report::nothing(json);
    };
    let look = Look::open(&places(cli, &database, retry).await?).await?;
    match other {
        Other::Inventory => report::inventory(&look, data_dir, json).await,
        Other::Usage => report::usage(&look, json).await,
    }
}

async fn places(cli: &Cli, database: &Database, retry: Retry) -> Result<Places, Trouble> {
    Ok(Places {
        database: database.url().to_owned(),
        tenants: TenantServer::find(database.url()).await?,
        data_dir: cli.place.data_dir.clone(),
        speed: cli.place.speed,
        retry,
        hashing: cli.place.key_hash,
        fail_at: cli.mode.fail_at.clone(),
        crash_at: cli.mode.crash_at.clone(),
    })
}

/// The projects of a command, each looked at before the first is begun.
fn requests(cli: &Cli) -> Result<Vec<Request>, Trouble> {
    if cli.command.is_some() && (cli.mode.tear_down || cli.mode.fleet.is_some()) {
        let message = "inventory and usage are about all projects, and only look";
        return Err(Trouble::usage("usage", message, "leave out --tear-down and --fleet"));
    }
    let requests = match cli.mode.fleet {
        None => vec![cli.request.clone()],
        Some(size @ 1..=FLEET_MAX) => (1..=size).map(|n| cli.request.member(n)).collect(),
        Some(_) => {
            let message = format!("a fleet has 1 to {FLEET_MAX} projects");
            return Err(Trouble::usage("usage", message, "choose another --fleet"));
        }
    };
    for request in &requests {
        request.project()?;
    }
    Ok(requests)
}

fn check_step(step: &str) -> Result<(), Trouble> {
    if STEPS.contains(&step) {
        return Ok(());
    }
    let message = format!("there is no step `{step}`; the steps are {}", STEPS.join(", "));
    Err(Trouble::usage("unknown_step", message, "name one of the listed steps"))
}

/// Drives every project's run to its end, and shows what came of it.
async fn drive(
    host: &Arc<Host>,
    cli: &Cli,
    requests: Vec<Request>,
    screen: &Screen,
) -> Result<Exit, Trouble> {
    let (began, wanted) = (SystemClock.wall(), requests.len());
    let order = if cli.mode.tear_down { Order::TearDown } else { Order::Run };
    let one = |request| -> Arc<dyn Subject> {
        Arc::new(Wanted { host: Arc::clone(host), request, order })
    };
    let subjects = requests.into_iter().map(one).collect();
    let driver = Driver::new(&host.engine, screen).with_labels(cli.mode.fleet.is_some());
    let driver = driver.with_stages(true);
    let runs = driver.with_at_once(AT_ONCE).drive(host.worker(), subjects, order, &**host).await?;
    let mut reports = Vec::new();
    for run in &runs {
        let elapsed = SystemClock.wall().since(began);
        let own = host.row_of(*run).await?.into_iter().collect();
        let beside = Beside { elapsed, own, stages: true, ..Beside::default() };
        reports.push(RunReport::read(&host.engine, *run, &beside).await?);
    }
    let elapsed = SystemClock.wall().since(began);
    let fleet = FleetReport::new(reports, elapsed);
    let (as_fleet, json) = (cli.mode.fleet.is_some(), cli.place.json);
    let ready = ready(host, &runs).await?;
    let delivery = Delivery::new(host, screen, json);
    if json {
        // The report is the last line, also where the keys could not all be shown.
        let delivered = delivery.all(&ready).await;
        let exit = tell(screen, fleet, wanted, as_fleet, json)?;
        return Ok(exit.or_worse(delivered?));
    }
    let exit = tell(screen, fleet, wanted, as_fleet, json)?;
    Ok(exit.or_worse(delivery.all(&ready).await?))
}

/// The projects that are complete.
async fn ready(host: &Host, runs: &[RunId]) -> Result<Vec<Project>, Trouble> {
    let mut projects = Vec::with_capacity(runs.len());
    for run in runs {
        let head = host.engine.run(run).await?;
        if head.status == RunStatus::Succeeded {
            let project = head.input.decode();
            projects.push(project.map_err(|error| Trouble::bug("input", error.to_string()))?);
        }
    }
    Ok(projects)
}
