//! The command line, and what it means, checked before anything is opened.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use example_command::{
    exit::Trouble,
    place::{PlaceArgs, StoreAt},
};

use crate::{
    input::{Preset, Subscription},
    saga,
};

/// The subscription of a command that names none.
const SUBSCRIPTION_DEFAULT: &str = "demo";
/// Most subscriptions of a fleet.
pub const FLEET_MAX: u32 = 200;
/// Longest time from the end of a subscription until its removal begins, in seconds; the rest of
/// the day in which it has to be gone is for the removal itself.
pub const REMOVE_AFTER_MAX: u64 = 20 * 3_600;

/// Hosts an agent on a machine of its own, in a simulated cloud: kill it at any moment and type it
/// again.
#[derive(Debug, Parser)]
#[command(name = "agent-hosting", version, max_term_width = 100, args_override_self = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Other>,
    #[command(flatten)]
    order: OrderArgs,
    #[command(flatten)]
    mode: ModeArgs,
    #[command(flatten)]
    place: PlaceArgs,
    /// How long the simulated cloud takes: 1 is as long as the real ones.
    #[arg(long, value_name = "FACTOR", default_value_t = 0.04, global = true)]
    speed: f64,
}

/// Other things to do.
#[derive(Debug, Clone, Copy, Subcommand)]
enum Other {
    /// Stop the machine; its state and its costs stay.
    Stop,
    /// Start the machine again.
    Start,
    /// End the subscription: a durable run says so when the time has come, and a worker removes
    /// everything.
    Cancel(CancelArgs),
    /// Reconcile all subscriptions, until Ctrl-C or SIGTERM.
    Work(WorkArgs),
    /// Print every subscription: what is wanted, what is so, where.
    Status,
    /// Print what machines cost, by customer.
    Cost,
    /// Compare what the providers hold with what is wanted; exit code 3 when something is wrong.
    Sweep,
    /// Print what exists in the simulated cloud, and exit.
    Inventory,
}

/// When a subscription ends.
#[derive(Debug, Clone, Copy, Args)]
struct CancelArgs {
    /// Seconds from now; at most 72000, so that everything is gone within a day.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    after: u64,
}

/// How long a worker works.
#[derive(Debug, Clone, Copy, Args)]
struct WorkArgs {
    /// End as soon as everything is as wanted.
    #[arg(long)]
    until_idle: bool,
}

/// What was paid for.
#[derive(Debug, Args)]
struct OrderArgs {
    /// Id of the subscription; everything is named after it.
    #[arg(long, value_name = "ID", default_value = SUBSCRIPTION_DEFAULT, global = true)]
    subscription: String,
    /// Who pays [default: demo]
    #[arg(long, value_name = "ID")]
    customer: Option<String>,
    /// small, medium or large [default: small]
    #[arg(long, value_name = "PRESET")]
    preset: Option<String>,
    /// fsn1, nbg1, hel1 or ash [default: fsn1]
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// So many subscriptions, `ID-1` to `ID-N`.
    #[arg(long, value_name = "N", global = true)]
    fleet: Option<u32>,
}

/// What to do.
#[derive(Debug, Args)]
struct ModeArgs {
    /// Remove everything of the subscription now.
    #[arg(long)]
    tear_down: bool,
    /// Let the provider refuse the last call of this step for good.
    #[arg(long, value_name = "STEP")]
    fail_at: Option<String>,
    /// Kill this process after the last effect of this step, before its outcome is recorded.
    #[arg(long, value_name = "STEP")]
    crash_at: Option<String>,
}

/// A subscription as it was typed: what was left out is as it was ordered, or a default.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its id.
    pub id: String,
    customer: Option<String>,
    preset: Option<Preset>,
    region: Option<String>,
}

impl Wanted {
    /// The subscription to order.
    ///
    /// # Errors
    /// Something of it cannot be used.
    pub fn fresh(&self) -> Result<Subscription, Trouble> {
        let customer = self.customer.as_deref().unwrap_or("demo");
        let region = self.region.as_deref().unwrap_or("fsn1");
        Subscription::new(&*self.id, customer, self.preset.unwrap_or(Preset::Small), region)
    }

    /// Whether what was typed is what was ordered.
    ///
    /// # Errors
    /// Code `other_options`; nothing was changed.
    pub fn agrees_with(&self, ordered: &Subscription) -> Result<(), Trouble> {
        let same = self.customer.as_ref().is_none_or(|customer| *customer == ordered.customer)
            && self.preset.is_none_or(|preset| preset == ordered.preset)
            && self.region.as_ref().is_none_or(|region| *region == ordered.region);
        if same {
            return Ok(());
        }
        Err(Trouble::usage(
            "other_options",
            format!(
                "subscription `{}` is of {}: {} in {}",
                ordered.id, ordered.customer, ordered.preset, ordered.region
            ),
            "leave these options out to go on, or --tear-down it first",
        ))
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Do {
    /// Order, or go on.
    Order,
    /// Remove everything now.
    TearDown,
    /// Stop machines.
    Stop,
    /// Start machines again.
    Start,
    /// End subscriptions after so many seconds.
    Cancel {
        /// Seconds from now.
        after: u64,
    },
    /// Reconcile all.
    Work {
        /// End when everything is as wanted.
        until_idle: bool,
    },
    /// Print subscriptions.
    Status,
    /// Print costs.
    Cost,
    /// Compare with the providers.
    Sweep,
    /// Print the simulated cloud.
    Inventory,
}

/// A checked command line.
#[derive(Debug, Clone)]
pub struct Checked {
    /// What is to be done.
    pub what: Do,
    /// The subscriptions it is about; one, unless there is a fleet.
    pub wanted: Vec<Wanted>,
    /// Whether the answer is that of a fleet.
    pub fleet: bool,
    /// Step whose last call is refused.
    pub fail_at: Option<String>,
    /// Step after which this process dies.
    pub crash_at: Option<String>,
    /// Folder of store, keys and cloud.
    pub data_dir: PathBuf,
    /// The store's file.
    pub file: PathBuf,
    /// One JSON object on the last line of stdout.
    pub json: bool,
    /// Factor of the simulated cloud's times.
    pub speed: f64,
}

/// Checks a command line.
///
/// # Errors
/// What cannot be used, with what would do.
pub fn checked(cli: Cli) -> Result<Checked, Trouble> {
    let Cli { command, order, mode, place, speed } = cli;
    if !(speed.is_finite() && (0.0..=10.0).contains(&speed)) {
        let hint = "1 is as slow as the real providers";
        return Err(Trouble::usage("usage", "--speed is a factor from 0 to 10", hint));
    }
    for step in [&mode.fail_at, &mode.crash_at].into_iter().flatten() {
        check_step(step)?;
    }
    if command.is_some() && mode.tear_down {
        let hint = "type it without a command";
        return Err(Trouble::usage("usage", "--tear-down goes without a command", hint));
    }
    let what = what_to_do(command, mode.tear_down)?;
    let StoreAt::Sqlite(file) = StoreAt::parse(&place.store, &place.data_dir)? else {
        return Err(Trouble::usage(
            "unknown_store",
            "subscriptions and runs are written in one transaction of a SQLite file",
            "say `--store sqlite:` with an optional path",
        ));
    };
    let wanted = wanted(&order)?;
    wanted.iter().try_for_each(|one| one.fresh().map(drop))?;
    Ok(Checked {
        what,
        wanted,
        fleet: order.fleet.is_some(),
        fail_at: mode.fail_at,
        crash_at: mode.crash_at,
        data_dir: place.data_dir,
        file,
        json: place.json,
        speed,
    })
}

fn what_to_do(command: Option<Other>, tear_down: bool) -> Result<Do, Trouble> {
    Ok(match command {
        None if tear_down => Do::TearDown,
        None => Do::Order,
        Some(Other::Stop) => Do::Stop,
        Some(Other::Start) => Do::Start,
        Some(Other::Cancel(CancelArgs { after })) if after <= REMOVE_AFTER_MAX => {
            Do::Cancel { after }
        }
        Some(Other::Cancel(_)) => {
            let hint = format!("at most {REMOVE_AFTER_MAX} seconds, so that it is gone in a day");
            return Err(Trouble::usage("usage", "--after is too long", hint));
        }
        Some(Other::Work(WorkArgs { until_idle })) => Do::Work { until_idle },
        Some(Other::Status) => Do::Status,
        Some(Other::Cost) => Do::Cost,
        Some(Other::Sweep) => Do::Sweep,
        Some(Other::Inventory) => Do::Inventory,
    })
}

/// # Errors
/// There is no such step; the hint lists them.
fn check_step(step: &str) -> Result<(), Trouble> {
    if saga::STEPS.contains(&step) {
        return Ok(());
    }
    let message = format!("there is no step `{step}`; the steps are {}", saga::STEPS.join(", "));
    Err(Trouble::usage("unknown_step", message, "name one of the listed steps"))
}

fn wanted(args: &OrderArgs) -> Result<Vec<Wanted>, Trouble> {
    let one = Wanted {
        id: args.subscription.clone(),
        customer: args.customer.clone(),
        preset: args.preset.as_deref().map(str::parse).transpose()?,
        region: args.region.clone(),
    };
    match args.fleet {
        None => Ok(vec![one]),
        Some(size @ 1..=FLEET_MAX) => {
            let of = |number| Wanted { id: format!("{}-{number}", one.id), ..one.clone() };
            Ok((1..=size).map(of).collect())
        }
        Some(_) => Err(Trouble::usage(
            "bad_fleet",
            "this size of a fleet cannot be used",
            format!("1 to {FLEET_MAX} subscriptions"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use example_command::exit::Trouble;

    use super::{Checked, Cli, Do, REMOVE_AFTER_MAX, checked};

    fn typed(arguments: &[&str]) -> Result<Checked, Trouble> {
        checked(Cli::try_parse_from(["agent-hosting"].iter().chain(arguments)).unwrap())
    }

    #[test]
    fn commands_are_told_apart_and_checked() {
        assert_eq!(typed(&[]).unwrap().what, Do::Order);
        assert_eq!(typed(&["--tear-down"]).unwrap().what, Do::TearDown);
        let stop = typed(&["stop", "--subscription", "a"]).unwrap();
        assert_eq!((stop.what, stop.wanted[0].id.as_str()), (Do::Stop, "a"));
        let code = |arguments: &[&str]| typed(arguments).unwrap_err().code().to_owned();
        assert_eq!(code(&["--fail-at", "dns"]), "unknown_step");
        assert_eq!(code(&["--store", "memory:"]), "unknown_store");
        assert_eq!(code(&["--fleet", "0"]), "bad_fleet");
        let late = (REMOVE_AFTER_MAX + 1).to_string();
        assert_eq!(code(&["cancel", "--after", &late]), "usage");
    }
}
