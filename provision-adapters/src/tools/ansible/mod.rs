//! Ansible: machines that are known by their host keys, and playbooks of yours that are run on them.
//!
//! It differs from a shell over SSH in what is trusted: a machine is spoken to only under the key
//! that was recorded when it was first met, a playbook comes from the host's own folder, and every
//! value it is given has a name and a type that the host has allowed.
#![doc = include_str!("docs.md")]

use std::time::Duration;

use crate::tools::version::Version;

mod client;
mod config;
mod error;
mod machine;
mod model;
mod steps;

pub use client::Ansible;
pub use config::{AnsibleConfig, Playbook, VariableType};
pub use machine::Machine;
pub use steps::{
    known::{KnownMachine, MachineSpec},
    playbook::{Done, PlaybookInput, Recap, RunPlaybook, UndoPlaybook, Value},
};

/// Oldest release whose exit codes and options are those that are read here.
pub const OLDEST: Version = Version::new(2, 16, 0);
/// Most machines of one playbook.
pub const MACHINES_MAX: usize = 500;
/// Longest value of a variable, in bytes.
pub const VALUE_BYTES_MAX: usize = 64 << 10;
/// Bytes of output that are read of one playbook; with more it is killed.
pub const OUTPUT_BYTES_MAX: usize = 16 << 20;
/// How long to leave a machine alone that does not answer yet, or has not booted.
pub const BOOTING_AGAIN_IN: Duration = Duration::from_secs(5);
/// How long a machine may take from the first look to having booted.
pub const BOOTED_WITHIN: Duration = Duration::from_mins(15);
/// Default of [`AnsibleConfig::with_booted_command`]: cloud-init has done all it was told.
pub const BOOTED_COMMAND: &str = "test -e /var/lib/cloud/instance/boot-finished";
/// Default of [`AnsibleConfig::with_concurrency`].
pub const CONCURRENCY: u32 = 8;
