//! The command line, as clap reads it; what it means is decided in [`crate::options`].

use clap::{Args, Parser, Subcommand};
use example_command::place::PlaceArgs;

use crate::options;

/// Onboards a client into a simulated cloud, durably: kill it at any moment and type it again.
#[derive(Debug, Parser)]
#[command(name = "client-onboarding", version, max_term_width = 100, args_override_self = true)]
pub struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Other>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(flatten)]
    pub(crate) mode: ModeArgs,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    #[command(flatten)]
    pub(crate) cloud: CloudArgs,
}

/// How the simulated cloud behaves.
#[derive(Debug, Clone, Args)]
pub struct CloudArgs {
    /// How long the simulated cloud takes: 1 is as long as the real ones. Below 0.01 it also
    /// leaves out the refusal that every other command can be seen to wait for.
    #[arg(long, value_name = "FACTOR", default_value_t = 0.04, global = true)]
    pub(crate) speed: f64,
    /// PostgreSQL server on this machine that holds the databases of new simulated projects, as
    /// `postgres://..` of a superuser; without it a model of the catalog answers their SQL.
    #[arg(long, value_name = "URL", global = true)]
    pub(crate) simulated_sql: Option<String>,
}

/// Other things to do.
#[derive(Debug, Subcommand)]
pub enum Other {
    /// Print what exists in the simulated cloud, and exit.
    Inventory,
    /// Serve the simulated cloud to all other commands of the data folder, until Ctrl-C or SIGTERM.
    Cloud,
    /// Drive whatever runs are in the store, until Ctrl-C or SIGTERM; as many of these as wanted.
    Worker(WorkerArgs),
    /// Start runs and leave them to workers.
    Submit(ClientArgs),
}

/// How long a worker works.
#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// End as soon as no run is open.
    #[arg(long)]
    pub(crate) until_idle: bool,
}

/// Who is onboarded.
#[derive(Debug, Args)]
pub struct ClientArgs {
    /// Id of the client; everything is named after it.
    #[arg(long, value_name = "ID", default_value = options::CLIENT_DEFAULT)]
    pub(crate) client: String,
    /// Display name [default: the id]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// starter, professional or enterprise [default: professional]
    #[arg(long, value_name = "TIER")]
    pub(crate) tier: Option<String>,
    /// Region of the database [default: eu-central-1]
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<String>,
    /// Onboard so many clients, `ID-1` to `ID-N`, a few at a time.
    #[arg(long, value_name = "N")]
    pub(crate) fleet: Option<u32>,
}

/// What to do.
#[derive(Debug, Args)]
pub struct ModeArgs {
    /// Only look, and say what a run would do.
    #[arg(long)]
    pub(crate) plan: bool,
    /// Remove everything the client's run made.
    #[arg(long)]
    pub(crate) tear_down: bool,
    /// Let the provider refuse the last call of this step for good.
    #[arg(long, value_name = "STEP")]
    pub(crate) fail_at: Option<String>,
    /// Kill this process after the last effect of this step, before its outcome is recorded.
    #[arg(long, value_name = "STEP")]
    pub(crate) crash_at: Option<String>,
    /// Use the real providers, with tokens from the environment.
    #[arg(long)]
    pub(crate) live: bool,
}
