//! Hetzner Cloud: servers with what belongs to them: SSH keys, firewalls, networks, volumes.
//!
//! Names are unique per project and kind, and labels carry the owner mark from the creating call
//! on, so a create whose answer was lost is found again by its name. Most changes are actions that
//! go on after the answer; what waits for them asks again later and keeps nothing in memory.
#![doc = include_str!("docs.md")]

use std::time::Duration;

mod client;
mod config;
mod error;
mod model;
#[cfg(feature = "sim")]
pub mod sim;
mod steps;

pub use client::Hetzner;
pub use config::HetznerConfig;
pub use steps::{
    attachment::{Attached, Attachment, AttachmentMade, AttachmentSpec},
    change_type::{ChangeTypeSpec, ServerType, TypeChanged},
    firewall::{Firewall, FirewallMade, FirewallSpec, Inbound, Protocol},
    network::{Network, NetworkMade, NetworkSpec},
    power::{Power, PowerSpec, Powered, ServerPower},
    prices::{Prices, ReadPrices, ServerPrice},
    rebuild::{Rebuild, RebuildSpec, Rebuilt},
    server::{Server, ServerMade, ServerSpec},
    ssh_key::{SshKey, SshKeyMade, SshKeySpec},
    user_data::UserData,
    volume::{Volume, VolumeMade, VolumeSpec},
};

/// Address of the real provider.
pub const API: &str = "https://api.hetzner.cloud";
/// Calls per hour and project, given back one by one; all of them may come at once.
pub const CALLS_PER_HOUR: u32 = 3_600;
/// Time in which the provider gives one call back.
pub const REFILL: Duration = Duration::from_secs(1);
/// Most calls open at the same time for one project; the provider documents no number.
pub const CONCURRENCY: u32 = 8;
/// Items of one page of a listing, the most the provider gives.
pub const PAGE_ITEMS: u32 = 50;
/// Most pages one listing may have before it is given up as endless.
pub const PAGES_MAX: u32 = 400;
/// How many of a server's actions are looked at, the latest first.
pub const ACTIONS_SHOWN: u32 = 50;
/// Largest user data, in bytes.
pub const USER_DATA_MAX: usize = 32 << 10;
/// Longest time a cut create may still need to land.
pub const LATE_WINDOW: Duration = Duration::from_secs(60);
/// How far a look-up may lag behind a change; the provider promises nothing here.
pub const LISTING_LAG: Duration = Duration::from_secs(5);
/// Longest time from a server's creation until it is powered on.
pub const READY_WITHIN: Duration = Duration::from_secs(15 * 60);
/// How soon to look again at what is being deleted or detached.
pub const GOING_POLL: Duration = Duration::from_secs(3);
/// How soon to try again what was refused because an action was under way.
pub const LOCKED_WAIT: Duration = Duration::from_secs(5);
/// How soon to try again what a location had no room for.
pub const CAPACITY_WAIT: Duration = Duration::from_secs(120);
/// How soon to try again what was refused because of maintenance.
pub const MAINTENANCE_WAIT: Duration = Duration::from_secs(60);
/// How long a server may take to shut down by itself before its power is cut.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(60);
