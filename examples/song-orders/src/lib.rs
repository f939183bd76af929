//! Paid songs: a signed webhook becomes an order and a run in one transaction, the run makes three
//! variants, and who holds the order's token may hear them.
//!
//! [`intake`] is the point where money becomes work, [`saga`] is the work, and `sql/schema.sql` says
//! who may see what of it.

pub mod checkout;
pub mod cli;
pub mod cloud;
pub mod commands;
pub mod database;
pub mod intake;
pub mod live;
pub mod payments;
pub mod saga;
pub mod secret;
pub mod shop;
pub mod song;
pub mod web;

use std::{ffi::OsString, process::ExitCode};

/// Parses the arguments, does what they ask, and says how it went.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    example_command::run(arguments, commands::work)
}
