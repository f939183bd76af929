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

use std::{ffi::OsString, process::ExitCode};

use exit::{Exit, Trouble};

/// Parses the arguments, does what they ask, and says how it went.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let ended = cli::parse(arguments).and_then(|command| {
        let Some(command) = command else { return Ok(Exit::Done) };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| Trouble::bug("runtime", error.to_string()))?;
        runtime.block_on(onboard::carry_out(command))
    });
    match ended {
        Ok(exit) => exit.into(),
        Err(trouble) => {
            trouble.print();
            trouble.exit().into()
        }
    }
}
