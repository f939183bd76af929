//! Conformance suites, the saga harness and fault wrappers for `provision`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::indexing_slicing,
    reason = "a test kit fails by panicking"
)]

pub mod conformance;
pub mod executor;
pub mod executors;
pub mod faulty;
pub mod features;
pub mod fleet;
pub mod harness;
pub mod idle;
mod rng;
pub mod simulation;
pub mod skips;
pub mod soak;
pub mod solo;
pub mod suite;
