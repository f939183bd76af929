//! The engine over the memory store, as a host uses it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests"
)]

mod asking;
mod beside;
mod children;
mod cloud;
mod counting;
mod doubt;
mod effects;
mod failures;
mod fleets;
mod frozen;
mod handover;
mod journeys;
mod keeping;
mod keys;
mod leases;
mod ledger;
mod limits;
#[cfg(feature = "metrics")]
mod meters;
mod panics;
mod parallel;
mod parked;
mod pausing;
mod progress;
mod retention;
mod sealed;
mod sharing;
mod sightings;
mod signals;
mod starting;
mod strays;
mod telling;
mod troubles;
mod undoing;
mod unlisted;
mod waits;
mod worker;
mod yard;
