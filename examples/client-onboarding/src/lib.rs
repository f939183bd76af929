//! Onboards a client: a Supabase project, a repository from a template, a Vercel site, an n8n
//! workflow and a row in the host's own table, as one durable saga.
//!
//! A host that copies this keeps [`input`], [`saga`] and [`host_row`], and writes its own entry.
//! [`cloud`] stands in for the four providers so that everything runs without an account, and can
//! refuse a step; what is not about clients at all is in `example-command`.

pub mod cli;
pub mod cloud;
pub mod host;
pub mod host_row;
pub mod input;
pub mod inventory;
pub mod live;
pub mod onboard;
pub mod options;
pub mod providers;
pub mod saga;

use std::{ffi::OsString, process::ExitCode};

/// Parses the arguments, does what they ask, and says how it went.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    example_command::run(arguments, async |cli| onboard::carry_out(options::command(cli)?).await)
}
