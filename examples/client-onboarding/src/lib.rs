//! Onboards a client: a Supabase project, a repository from a template, a Vercel site, an n8n
//! workflow and a row in the host's own table, as one durable saga.
//!
//! A host that copies this keeps [`input`], [`saga`] and [`host_row`], and writes its own entry.
//! [`cloud`] stands in for the four providers so that everything runs without an account;
//! [`stage`] and [`crash`] make it fail or die at a chosen step.

pub mod cli;
pub mod cloud;
pub mod crash;
pub mod exit;
pub mod host;
pub mod host_row;
pub mod input;
pub mod inventory;
pub mod live;
pub mod onboard;
pub mod options;
pub mod plan;
pub mod progress;
pub mod providers;
pub mod report;
pub mod saga;
pub mod stage;
pub mod workers;

use std::{
    ffi::OsString,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};

use exit::{Exit, Trouble};

/// Parses the arguments, does what they ask, and says how it went.
///
/// With `--json` anywhere among them, also what cannot be parsed is told as JSON.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let for_programs = arguments.iter().any(|argument| argument == "--json");
    match guarded(|| carried_out(arguments)) {
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

fn carried_out(arguments: Vec<OsString>) -> Result<Exit, Trouble> {
    let Some(command) = cli::parse(arguments)? else { return Ok(Exit::Done) };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Trouble::bug("runtime", error.to_string()))?;
    runtime.block_on(onboard::carry_out(command))
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
