//! Terraform: a module of yours as one step, with a workspace and a state of its own for every run.
//!
//! It differs from calling a provider's adapter in who knows what exists: Terraform's state does,
//! the ledger names the workspace. The lock of that state is what keeps an interrupted command and
//! its successor apart, so it is never forced open. And a state names only what an apply came to
//! write down, so a killed apply is never repeated before a person has looked.
#![doc = include_str!("docs.md")]

use std::time::Duration;

use crate::tools::version::Version;

mod client;
mod config;
mod error;
mod kept;
mod model;
mod steps;

pub use client::Terraform;
pub use config::{State, TerraformConfig};
pub use steps::{Infrastructure, InfrastructureMade, InfrastructureSpec, Variable};

/// Oldest release that locks a state in object storage without a second service.
pub const OLDEST: Version = Version::new(1, 10, 0);
/// Oldest releases of provider plug-ins that still work, by the end of their source address.
///
/// Hetzner has removed `datacenter` from its answers (2026-07-01), and older plug-ins need it.
pub const OLDEST_PLUGINS: [(&str, Version); 1] = [("hetznercloud/hcloud", Version::new(1, 67, 0))];
/// Longest name of an instance, in characters; its workspace gets a token appended.
pub const NAME_MAX: usize = 60;
/// Bytes of output that are read of one command: the last ones.
pub const OUTPUT_BYTES_MAX: usize = 8 << 20;
/// How long Terraform itself waits for a state that is locked.
pub const LOCK_WAIT: Duration = Duration::from_secs(20);
/// Default of [`TerraformConfig::with_locked_again_in`].
pub const LOCKED_AGAIN_IN: Duration = Duration::from_secs(30);
/// Default of [`TerraformConfig::with_concurrency`].
pub const CONCURRENCY: u32 = 4;
/// How long a state may stay locked, and what is missing be made, before the step has failed.
pub const READY_WITHIN: Duration = Duration::from_hours(24);
