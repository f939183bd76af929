//! The command line, and what it means, checked before anything is opened.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use example_command::{
    exit::Trouble,
    place::{PlaceArgs, StoreAt},
};

use crate::{
    host::KEPT,
    input::{MadeBy, Preset, Subscription},
    mails, saga,
    watch::Watch,
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
    /// Address to listen at for webhooks; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0", global = true)]
    listen: SocketAddr,
    /// Who is mailed when something is amiss.
    #[arg(long, value_name = "ADDRESS", default_value = "ops@example.com", global = true)]
    alerts_to: String,
    /// How long the simulated cloud takes: 1 is as long as the real ones.
    #[arg(long, value_name = "FACTOR", default_value_t = 0.04, global = true)]
    speed: f64,
}

/// Other things to do.
#[derive(Debug, Clone, Subcommand)]
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
    /// Deliver an event to who works, signed as the payment provider signs it.
    Event(EventArgs),
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
    /// Seconds from one look at the agents to the next; one that misses two counts as not well.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    heartbeat: u64,
    /// Seconds from one sweep to the next.
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    sweep_every: u64,
}

/// What the payment provider says.
#[derive(Debug, Clone, Args)]
struct EventArgs {
    /// What has happened to the subscription.
    #[arg(value_enum)]
    kind: EventKind,
    /// Where `work` listens, such as `http://127.0.0.1:8080`.
    #[arg(long, value_name = "URL")]
    to: String,
    /// Id of the event: one that was delivered already changes nothing [default: a new one]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// The provider's own id of the subscription [default: a new one that is paid for; of an end, the
    /// one that this data folder knows as paid for]
    #[arg(long = "of", value_name = "ID")]
    provider: Option<String>,
}

/// What happens to subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EventKind {
    /// It was paid for.
    Paid,
    /// It is over.
    Ended,
}

/// What was paid for.
#[derive(Debug, Args)]
struct OrderArgs {
    /// Id of the subscription; everything is named after it.
    #[arg(long, value_name = "ID", default_value = SUBSCRIPTION_DEFAULT, global = true)]
    subscription: String,
    /// Who pays [default: demo]
    #[arg(long, value_name = "ID", global = true)]
    customer: Option<String>,
    /// small, medium or large [default: small]
    #[arg(long, value_name = "PRESET", global = true)]
    preset: Option<String>,
    /// fsn1, nbg1, hel1 or ash [default: fsn1]
    #[arg(long, value_name = "REGION", global = true)]
    region: Option<String>,
    /// direct or workflow: who makes the machine [default: direct]
    #[arg(long, value_name = "PATH", global = true)]
    path: Option<String>,
    /// So many subscriptions, `ID-1` to `ID-N`.
    #[arg(long, value_name = "N", global = true)]
    fleet: Option<u32>,
}

/// What to do.
#[derive(Debug, Args)]
struct ModeArgs {
    /// Show what an order would do; nothing is changed.
    #[arg(long, conflicts_with = "tear_down")]
    plan: bool,
    /// Remove everything of the subscription now.
    #[arg(long)]
    tear_down: bool,
    /// Let the provider refuse the last call of this step for good.
    #[arg(long, value_name = "STEP")]
    fail_at: Option<String>,
    /// Kill this process after the last effect of this step, before its outcome is recorded; `tell`
    /// is the mail about a failure.
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
    made_by: Option<MadeBy>,
}

impl Wanted {
    /// The subscription to order.
    ///
    /// # Errors
    /// Something of it cannot be used.
    pub fn fresh(&self) -> Result<Subscription, Trouble> {
        let customer = self.customer.as_deref().unwrap_or("demo");
        let region = self.region.as_deref().unwrap_or("fsn1");
        let preset = self.preset.unwrap_or(Preset::Small);
        let order = Subscription::new(&*self.id, customer, preset, region)?;
        Ok(order.made_by(self.made_by.unwrap_or_default()))
    }

    /// Whether what was typed is what was ordered.
    ///
    /// # Errors
    /// Code `other_options`; nothing was changed.
    pub fn agrees_with(&self, ordered: &Subscription) -> Result<(), Trouble> {
        let same = self.customer.as_ref().is_none_or(|customer| *customer == ordered.customer)
            && self.preset.is_none_or(|preset| preset == ordered.preset)
            && self.region.as_ref().is_none_or(|region| *region == ordered.region)
            && self.made_by.is_none_or(|made_by| made_by == ordered.made_by);
        if same {
            return Ok(());
        }
        Err(Trouble::usage(
            "other_options",
            format!(
                "subscription `{}` is of {}: {} in {}, path {}",
                ordered.id,
                ordered.customer,
                ordered.preset,
                ordered.region,
                ordered.made_by.as_str()
            ),
            "leave these options out to go on, or --tear-down it first",
        ))
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Do {
    /// Order, or go on.
    Order,
    /// Show what an order would do.
    Plan,
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
        /// How often agents and providers are looked at.
        watch: Watch,
    },
    /// Deliver an event of the payment provider.
    Event {
        /// What has happened.
        kind: EventKind,
        /// Where to.
        to: String,
        /// Its id; none for a new one.
        id: Option<String>,
        /// The provider's own id of the subscription.
        provider: Option<String>,
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
    /// Where webhooks are taken.
    pub listen: SocketAddr,
    /// Who is mailed when something is amiss.
    pub alerts_to: String,
}

/// Checks a command line.
///
/// # Errors
/// What cannot be used, with what would do.
pub fn checked(cli: Cli) -> Result<Checked, Trouble> {
    let Cli { command, order, mode, place, listen, alerts_to, speed } = cli;
    if !(speed.is_finite() && (0.0..=10.0).contains(&speed)) {
        let hint = "1 is as slow as the real providers";
        return Err(Trouble::usage("usage", "--speed is a factor from 0 to 10", hint));
    }
    let made_by = order.path.as_deref().map(str::parse).transpose()?.unwrap_or_default();
    check_mode(&mode, command.is_some(), made_by)?;
    check_fleet(&order, command.as_ref())?;
    let what = what_to_do(command, &mode)?;
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
        listen,
        alerts_to,
    })
}

/// What is said of an order goes with an order alone.
fn check_mode(mode: &ModeArgs, has_command: bool, made_by: MadeBy) -> Result<(), Trouble> {
    let steps = saga::steps(made_by);
    if let Some(step) = &mode.fail_at {
        check_step(step, steps)?;
    }
    if let Some(step) = mode.crash_at.as_ref().filter(|step| **step != mails::TELL) {
        check_step(step, steps)?;
    }
    let stage = mode.fail_at.is_some() || mode.crash_at.is_some();
    let alone = "type it without a command";
    if has_command && (mode.tear_down || mode.plan) {
        let message = "--tear-down and --plan go without a command";
        return Err(Trouble::usage("usage", message, alone));
    }
    if stage && (has_command || mode.tear_down || mode.plan) {
        let message = "--fail-at and --crash-at are about an order";
        return Err(Trouble::usage("usage", message, "type them with an order alone"));
    }
    Ok(())
}

/// Commands that are about everything are about no fleet.
fn check_fleet(order: &OrderArgs, command: Option<&Other>) -> Result<(), Trouble> {
    let of_some = matches!(command, None | Some(Other::Stop | Other::Start | Other::Cancel(_)));
    if order.fleet.is_none() || of_some {
        return Ok(());
    }
    let hint = "leave it out";
    Err(Trouble::usage("usage", "--fleet goes with no command that is about all of them", hint))
}

fn what_to_do(command: Option<Other>, mode: &ModeArgs) -> Result<Do, Trouble> {
    Ok(match command {
        None if mode.tear_down => Do::TearDown,
        None if mode.plan => Do::Plan,
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
        Some(Other::Work(WorkArgs { heartbeat, sweep_every, .. }))
            if heartbeat.max(sweep_every) > KEPT.as_secs() =>
        {
            let hint = format!("at most {} seconds", KEPT.as_secs());
            let message = "--heartbeat or --sweep-every is too long";
            return Err(Trouble::usage("usage", message, hint));
        }
        Some(Other::Work(WorkArgs { until_idle, heartbeat, sweep_every })) => {
            let watch = Watch {
                heartbeat: Duration::from_secs(heartbeat),
                sweep: Duration::from_secs(sweep_every),
            };
            Do::Work { until_idle, watch }
        }
        Some(Other::Event(EventArgs { kind, to, id, provider })) => {
            Do::Event { kind, to, id, provider }
        }
        Some(Other::Status) => Do::Status,
        Some(Other::Cost) => Do::Cost,
        Some(Other::Sweep) => Do::Sweep,
        Some(Other::Inventory) => Do::Inventory,
    })
}

/// # Errors
/// There is no such step; the hint lists them.
fn check_step(step: &str, steps: &[&str]) -> Result<(), Trouble> {
    if steps.contains(&step) {
        return Ok(());
    }
    let message = format!("there is no step `{step}`; the steps are {}", steps.join(", "));
    Err(Trouble::usage("unknown_step", message, "name one of the listed steps"))
}

fn wanted(args: &OrderArgs) -> Result<Vec<Wanted>, Trouble> {
    let one = Wanted {
        id: args.subscription.clone(),
        customer: args.customer.clone(),
        preset: args.preset.as_deref().map(str::parse).transpose()?,
        region: args.region.clone(),
        made_by: args.path.as_deref().map(str::parse).transpose()?,
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
        assert_eq!(typed(&["--plan"]).unwrap().what, Do::Plan);
        assert!(typed(&["--fail-at", "dispatch", "--path", "workflow"]).is_ok());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let late = (REMOVE_AFTER_MAX + 1).to_string();
        let cases: [(&[&str], &str); 13] = [
            (&["--fail-at", "dns"], "unknown_step"),
            (&["--fail-at", "tell"], "unknown_step"),
            (&["--fail-at", "dispatch"], "unknown_step"),
            (&["--path", "terraform"], "unknown_path"),
            (&["--fail-at", "server", "stop"], "usage"),
            (&["--crash-at", "server", "--tear-down"], "usage"),
            (&["--plan", "status"], "usage"),
            (&["status", "--fleet", "3"], "usage"),
            (&["--store", "memory:"], "unknown_store"),
            (&["--fleet", "0"], "bad_fleet"),
            (&["cancel", "--after", &late], "usage"),
            (&["work", "--sweep-every", "2592001"], "usage"),
            (&["work", "--heartbeat", "2592001"], "usage"),
        ];
        for (arguments, code) in cases {
            assert_eq!(typed(arguments).unwrap_err().code(), code, "{arguments:?}");
        }
    }
}
