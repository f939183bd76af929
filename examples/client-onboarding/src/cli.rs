//! The command line, as clap reads it; what it means is decided in [`crate::options`].

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Parser, Subcommand, error::ErrorKind};

use crate::{
    exit::Trouble,
    options::{self, Command},
};

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

/// Where things are kept, and how they are shown.
#[derive(Debug, Args)]
pub struct PlaceArgs {
    /// Folder of the store, its keys and the simulated cloud.
    #[arg(long, value_name = "DIR", default_value = "./.provision", global = true)]
    pub(crate) data_dir: PathBuf,
    /// `memory:`, `sqlite:` with an optional path, `postgres://..` or `redis://..`.
    #[arg(long, value_name = "URL", default_value = "sqlite:", global = true)]
    pub(crate) store: String,
    /// Print one JSON object on the last line of stdout, and everything else on stderr.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// How long the simulated cloud takes: 1 is as long as the real ones. Below 0.01 it also
    /// leaves out the refusal that every other command can be seen to wait for.
    #[arg(long, value_name = "FACTOR", default_value_t = 0.04, global = true)]
    pub(crate) speed: f64,
}

/// Reads the command line. `None` means that the answer (help, version) has been printed.
///
/// # Errors
/// Something in it cannot be used.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Option<Command>, Trouble> {
    match Cli::try_parse_from(arguments) {
        Ok(cli) => options::command(cli).map(Some),
        Err(error)
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
        {
            // A closed pipe is no reason to fail.
            let _ = error.print();
            Ok(None)
        }
        Err(error) => Err(wrong(&error)),
    }
}

/// clap explains over several lines; the first says what is wrong.
fn wrong(error: &clap::Error) -> Trouble {
    let text = error.render().to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    let tip = lines.find_map(|line| line.strip_prefix("tip: ")).map(str::to_owned);
    Trouble::usage("usage", first, tip.unwrap_or_else(|| "see --help".to_owned()))
}
