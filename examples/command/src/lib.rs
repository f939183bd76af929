//! What the examples share on a command line, so that each of them holds its own subject alone.
//!
//! A program of this kind parses, opens a store and a (simulated) cloud, starts or finds a run,
//! shows it, and says at the end what exists:
//!
//! | Module | Holds |
//! |---|---|
//! | [`exit`] | exit codes, and errors as one line with a code and one with a hint |
//! | [`place`] | `--data-dir`, `--store`, `--json`, and the data folder |
//! | [`progress`] | lines and a bar while a run is driven |
//! | [`report`] | the table and the JSON at the end |
//! | [`plan`] | `--plan`: what a run would do |
//! | [`drive`] | begins, goes on with, tears down and follows runs |
//! | [`workers`] | drives whatever is in a store |
//! | [`signals`] | Ctrl-C and SIGTERM |
//! | [`crash`] | `--crash-at`: dies at a chosen step |
//! | `stores` (feature `stores`) | opens what `--store` names |
//! | `database` (feature `database`) | the database of `DATABASE_URL`, or a private server |
//! | `tables` (feature `database`) | a pool, making tables one at a time, what the server refuses |
//! | `payments` (feature `payments`) | deliveries as a payment provider signs them |
//! | `folder` (feature `sim`) | the folder of a simulated cloud, and who serves it |
//! | `stage` (feature `sim`) | `--fail-at`, and the short times of a simulated cloud |

pub mod crash;
#[cfg(feature = "database")]
pub mod database;
pub mod drive;
pub mod exit;
#[cfg(feature = "sim")]
pub mod folder;
#[cfg(feature = "payments")]
pub mod payments;
pub mod place;
pub mod plan;
pub mod progress;
pub mod report;
pub mod signals;
#[cfg(feature = "sim")]
pub mod stage;
#[cfg(feature = "stores")]
pub mod stores;
#[cfg(feature = "database")]
pub mod tables;
pub mod workers;

use std::{
    ffi::OsString,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};

use clap::{Parser, error::ErrorKind};
use exit::{Exit, Trouble};

/// How a program words what the library leaves to it.
#[derive(Debug, Clone, Copy)]
pub struct Wording {
    /// Why a step is not part of a run, such as "not part of this tier".
    pub skipped: &'static str,
    /// What a person may do next with a run that succeeded.
    pub succeeded: &'static str,
}

impl Default for Wording {
    fn default() -> Self {
        Self { skipped: "not part of this run", succeeded: "next: --tear-down removes it" }
    }
}

/// Parses the arguments, does what they ask, and says how it went.
///
/// With `--json` anywhere among them, also what cannot be parsed is told as JSON.
pub fn run<C: Parser, F: Future<Output = Result<Exit, Trouble>>>(
    arguments: impl IntoIterator<Item = OsString>,
    work: impl FnOnce(C) -> F,
) -> ExitCode {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let for_programs = arguments.iter().any(|argument| argument == "--json");
    match guarded(|| carried_out(arguments, work)) {
        Ok(exit) => exit.into(),
        Err(trouble) => {
            trouble.print(for_programs);
            trouble.exit().into()
        }
    }
}

/// A panic is a bug of ours, and has the exit code of one.
fn guarded(work: impl FnOnce() -> Result<Exit, Trouble>) -> Result<Exit, Trouble> {
    // What the panic left half-done goes with this process; what is stored is never half-done.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_said_by_its_hook| {
        Err(Trouble::bug("panic", "the program came upon something that must not be"))
    })
}

fn carried_out<C: Parser, F: Future<Output = Result<Exit, Trouble>>>(
    arguments: Vec<OsString>,
    work: impl FnOnce(C) -> F,
) -> Result<Exit, Trouble> {
    let Some(cli) = parse(arguments)? else { return Ok(Exit::Done) };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Trouble::bug("runtime", error.to_string()))?;
    runtime.block_on(work(cli))
}

/// Reads the command line. `None` means that the answer (help, version) has been printed.
fn parse<C: Parser>(arguments: Vec<OsString>) -> Result<Option<C>, Trouble> {
    match C::try_parse_from(arguments) {
        Ok(cli) => Ok(Some(cli)),
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

#[cfg(test)]
mod tests {
    use super::{Exit, guarded};

    #[test]
    fn a_panic_is_a_bug() {
        let ended = guarded(|| panic!("somebody's index"));
        let trouble = ended.unwrap_err();
        assert_eq!((trouble.exit(), trouble.code()), (Exit::Bug, "panic"));
        assert_eq!(guarded(|| Ok(Exit::Parked)).unwrap(), Exit::Parked);
    }
}
