//! A service that connects tenants to five social platforms and publishes for them, durably.
//!
//! A host that copies this keeps the shape of [`service`], of the [`saga`]s and of the migrations,
//! and has the [`platform`]s that it needs.

pub mod check;
pub mod cli;
pub mod database;
pub mod flags;
mod forms;
pub mod metrics;
pub mod platform;
pub mod rotation;
pub mod saga;
pub mod schema;
pub mod serve;
pub mod service;
pub mod shared;
pub mod sim;
pub mod trouble;
pub mod vault;
pub mod webhook;

use std::{ffi::OsString, process::ExitCode};

/// Parses the arguments, does what they ask, and says how it went.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    example_command::run(arguments, |cli: cli::Cli| cli.work())
}
