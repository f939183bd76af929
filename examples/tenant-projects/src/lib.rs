//! Projects for tenants: each gets a database of its own with a schema and two roles, three
//! services and two API keys, in eight stages, and goes away as a whole.
//!
//! | Module | Concern |
//! |---|---|
//! | [`input`] | validation: what is asked for, and everything that is wrong with it |
//! | [`retry`] | how a saga repeats what went wrong |
//! | [`services`] | the three services a project is registered with |
//! | [`keys`] | API keys: drawn, hashed, revoked |
//! | [`delivery`] | API keys: shown once, replaced where they were lost |
//! | [`tables`] | the host's own tables |
//! | [`saga`] | the sagas, and the registry of what this host can do |
//! | [`folder`] | the data folder, and which runs belong to it |
//! | [`host`] | everything that is open while a command works |
//! | [`report`] | what exists, and how much of it is used |

pub mod cli;
pub mod cloud;
pub mod delivery;
pub mod folder;
pub mod host;
pub mod input;
pub mod keys;
pub mod report;
pub mod retry;
pub mod saga;
pub mod server;
pub mod services;
pub mod tables;

use std::{ffi::OsString, process::ExitCode};

/// Parses the arguments, does what they ask, and says how it went.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    example_command::run(arguments, cli::work)
}
