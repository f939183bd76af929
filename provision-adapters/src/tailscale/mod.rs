//! Tailscale: a one-use key for one machine, and the device that the machine becomes.
//!
//! No call of the provider creates a device: a machine joins with a key, and is a device from
//! then on. So the host name that the machine joins under carries the owner mark, the key is
//! minted for this one host name, and both undos know what joined with it.
#![doc = include_str!("docs.md")]

use std::time::Duration;

mod client;
mod config;
mod error;
mod model;
#[cfg(feature = "sim")]
pub mod sim;
mod steps;
mod token;

pub use client::Tailscale;
pub use config::TailscaleConfig;
pub use steps::{
    device::{DeviceSpec, Enrolled, TailscaleDevice},
    key::{KeyMade, KeySpec, TailscaleKey},
};

/// Address of the real provider.
pub const API: &str = "https://api.tailscale.com";
/// Name of the tailnet that a credential belongs to, as the provider takes it in paths.
pub const OWN_TAILNET: &str = "-";
/// Longest name of a machine here: a DNS label (63 characters) with room for the owner's token.
pub const NAME_MAX: usize = 49;
/// Longest description of a key that the provider takes, in characters.
pub const DESCRIPTION_MAX: usize = 50;
/// Default life of a key: long enough for a machine to boot, short enough to be lost.
pub const KEY_LIFE: Duration = Duration::from_secs(3_600);
/// Shortest life of a key here.
pub const KEY_LIFE_MIN: Duration = Duration::from_secs(60);
/// Longest life of a key that the provider allows.
pub const KEY_LIFE_MAX: Duration = Duration::from_secs(90 * 24 * 3_600);
/// Default time from the key to the enrolled device.
pub const ENROLLED_WITHIN: Duration = Duration::from_secs(15 * 60);
/// Time between two looks for a device.
pub const DEVICE_POLL: Duration = Duration::from_secs(5);
/// An access token is replaced so long before its end.
pub const TOKEN_MARGIN: Duration = Duration::from_secs(60);
/// Most calls open at the same time for one account; the provider publishes no number.
pub const CONCURRENCY: u32 = 8;
/// Most calls in a second for one account; the provider publishes no number.
pub const CALLS_PER_SECOND: u32 = 5;
/// How far a look-up may lag behind a change; the provider promises nothing here.
pub const LISTING_LAG: Duration = Duration::from_secs(5);
/// How late a cut request may still land.
pub const LATE_WINDOW: Duration = Duration::from_secs(60);
