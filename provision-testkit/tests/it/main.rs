//! The test kit, tried on the store that is always there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod executors;
mod faulty;
mod memory_conformance;
