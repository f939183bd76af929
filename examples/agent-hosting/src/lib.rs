//! Hosts agents: each paid subscription gets one machine at Hetzner behind a firewall, which sets
//! itself up at its first boot, joins a tailnet with a key of one use, and is removed without a
//! rest when the subscription ends.
//!
//! A host that copies this keeps [`input`], [`intake`], [`mails`], [`saga`], [`workflow`], [`table`],
//! [`reconcile`], [`watch`] and [`web`]. [`cloud`], [`machines`], [`runner`] and [`payments`] stand in
//! for the providers, for the machines themselves, for who runs workflows and for who sends payments.

pub mod cli;
pub mod cloud;
pub mod commands;
pub mod exchange;
pub mod host;
pub mod input;
pub mod intake;
pub mod machines;
pub mod mails;
pub mod payments;
pub mod providers;
pub mod reconcile;
pub mod runner;
pub mod saga;
pub mod table;
pub mod watch;
pub mod web;
pub mod workflow;

use std::{ffi::OsString, process::ExitCode};

/// Parses the arguments, does what they ask, and says how it went.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    example_command::run(arguments, async |cli| commands::carry_out(cli::checked(cli)?).await)
}
