//! The test kit, tried on the store that is always there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "these are tests"
)]

mod crash_matrix;
mod executors;
mod faulty;
mod features;
mod memory_conformance;
mod model;
mod outages;
mod planted;
mod simulation;
mod soak;
