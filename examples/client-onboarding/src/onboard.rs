//! What a command does, from opening to the last line.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use example_command::{
    Wording,
    drive::{Driver, Order, Subject},
    exit::{Exit, Trouble},
    folder::show_inventory,
    plan,
    progress::Screen,
    report::{Beside, FleetReport, RunReport, print_json, tell},
    signals::interrupted,
    workers,
};
use provision_core::{
    RunId, RunStatus,
    clock::{Clock, SystemClock},
    store::RunHead,
};
use serde::Serialize;

use crate::{
    cloud::{self, Cloud, CloudOptions},
    host::{Host, client_of},
    input::Client,
    options::{Command, Mode, Options, Wanted},
    saga::ONBOARD,
};

/// How this program words what it shares with others.
const WORDING: Wording = Wording {
    skipped: "not part of this tier",
    succeeded: "next: --plan looks whether it is still so, --tear-down removes it",
};

/// Carries a command out.
///
/// # Errors
/// It could not be begun, or something it needs is out of reach.
pub async fn carry_out(command: Command) -> Result<Exit, Trouble> {
    match command {
        Command::Inventory { data_dir, json } => {
            show_inventory(&cloud::stored_inventory(&data_dir)?, json)
        }
        Command::Cloud { data_dir, cloud, json } => serve(&data_dir, &cloud, json).await,
        Command::Run(options) => runs(&options).await,
    }
}

/// Serves the simulated cloud until it is told to stop.
async fn serve(data_dir: &Path, options: &CloudOptions, json: bool) -> Result<Exit, Trouble> {
    let cloud = Cloud::start(data_dir, options).await?;
    let (_stopped, mut stop) = interrupted();
    let addresses = cloud.announce(data_dir)?;
    let screen = Screen::new(json, true);
    screen.line(format!("data: {}", data_dir.display()));
    if json {
        print_json(&addresses)?;
    } else {
        screen.line(format!("supabase  {}", addresses.supabase));
        screen.line(format!("github    {}", addresses.github));
        screen.line(format!("vercel    {}", addresses.vercel));
        screen.line(format!("n8n       {}", addresses.n8n));
        screen.line("Ctrl-C or SIGTERM ends it; what is in it stays");
    }
    // An error means that nobody listens for interrupts any more.
    let _ = stop.wait_for(|stopped| *stopped).await;
    Ok(Exit::Done)
}

async fn runs(options: &Options) -> Result<Exit, Trouble> {
    let screen = Screen::new(options.json, options.fleet || options.mode == Mode::Plan);
    screen.line(format!("data: {}", options.data_dir.display()));
    let host = Arc::new(Host::open(options).await?);
    host.check_cloud(options.live).await?;
    let order = match options.mode {
        Mode::Plan => return look(&host, options, &screen).await,
        Mode::Work { until_idle } => {
            let worker = host.worker();
            return workers::work(&host.engine, worker, &screen, until_idle, options.json).await;
        }
        Mode::Submit | Mode::Run => Order::Run,
        Mode::TearDown => Order::TearDown,
    };
    // Nothing is started for any client before the options of all are known to agree.
    for wanted in &options.clients {
        stored(&host, wanted).await?;
    }
    if options.mode == Mode::Submit {
        return submit(&host, options, &screen).await;
    }
    drive(&host, options, &screen, order).await
}

/// `--plan`: looks what a run of the client would do.
async fn look(host: &Host, options: &Options, screen: &Screen) -> Result<Exit, Trouble> {
    let Some(wanted) = options.clients.first() else { return Ok(Exit::Done) };
    let plan = match stored(host, wanted).await? {
        Some((head, _)) => host.engine.plan_run(&head.id).await?,
        None => host.engine.plan(ONBOARD, &wanted.fresh()?).await?,
    };
    plan::show(&plan, WORDING, screen, options.json)
}

/// Drives every client's run to its end, and shows what came of it.
async fn drive(
    host: &Arc<Host>,
    options: &Options,
    screen: &Screen,
    order: Order,
) -> Result<Exit, Trouble> {
    let began = SystemClock.wall();
    let elapsed = || SystemClock.wall().since(began);
    let one = |wanted: &Wanted| -> Arc<dyn Subject> {
        Arc::new(One { host: Arc::clone(host), wanted: wanted.clone() })
    };
    let subjects = options.clients.iter().map(one).collect();
    let driver = Driver::new(&host.engine, screen).with_wording(WORDING);
    let driver = driver.with_labels(options.fleet);
    let runs = driver.drive(host.worker(), subjects, order, &host.clients).await?;
    let mut reports = Vec::new();
    for run in runs {
        let own = host.clients.of_run(run).await?.map(|row| row.shown()).into_iter().collect();
        let beside = Beside { elapsed: elapsed(), own, wording: WORDING, ..Beside::default() };
        reports.push(RunReport::read(&host.engine, run, &beside).await?);
    }
    let fleet = FleetReport::new(reports, elapsed());
    tell(screen, fleet, options.clients.len(), options.fleet, options.json)
}

/// A run that was started, or was there.
#[derive(Debug, Serialize)]
struct Submitted {
    client: String,
    run: String,
    status: &'static str,
}

/// Starts the runs of all clients and leaves them to workers. A client whose run is there keeps it.
async fn submit(host: &Host, options: &Options, screen: &Screen) -> Result<Exit, Trouble> {
    let mut runs = Vec::new();
    for wanted in &options.clients {
        let (run, status) = match stored(host, wanted).await? {
            Some((head, _)) => (head.id, head.status),
            None => (*host.start(&wanted.fresh()?).await?.id(), RunStatus::Running),
        };
        screen.line(format!("{:<14} run {run}", wanted.id));
        let status = status.as_str();
        runs.push(Submitted { client: wanted.id.clone(), run: run.to_string(), status });
    }
    if options.json {
        print_json(&serde_json::json!({ "runs": runs }))?;
    }
    Ok(Exit::Done)
}

/// The client of the run that is there, checked against what was typed.
async fn stored(host: &Host, wanted: &Wanted) -> Result<Option<(RunHead, Client)>, Trouble> {
    let Some(head) = host.current(&wanted.id).await? else { return Ok(None) };
    let client = wanted.agreeing_with(client_of(&head)?)?;
    Ok(Some((head, client)))
}

/// One client of a command.
struct One {
    host: Arc<Host>,
    wanted: Wanted,
}

#[async_trait]
impl Subject for One {
    fn id(&self) -> &str {
        &self.wanted.id
    }

    async fn current(&self) -> Result<Option<RunHead>, Trouble> {
        Ok(stored(&self.host, &self.wanted).await?.map(|(head, _)| head))
    }

    async fn begin(&self) -> Result<(RunId, String), Trouble> {
        let client = self.wanted.fresh()?;
        let run = *self.host.start(&client).await?.id();
        Ok((run, format!("run {run} of client `{}`, tier {}", client.id, client.tier)))
    }

    async fn newest(&self) -> Result<RunHead, Trouble> {
        let id = &self.wanted.id;
        self.host.newest(id).await?.ok_or_else(|| {
            let message = format!("client `{id}` has no run here");
            Trouble::usage("no_such_client", message, "check --client, --store and --data-dir")
        })
    }
}
