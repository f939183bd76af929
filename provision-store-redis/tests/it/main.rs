//! The Redis store on a real server: all suites, and what only a server can show.
//!
//! The server is the one of `PROVISION_TEST_REDIS_URL`; `cargo xtask services run -- CMD` starts
//! one. Without it these tests are skipped, and say so.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "these are tests; some start processes and measure time"
)]

mod chaos;
mod cluster;
mod conformance;
mod crash;
mod crash_matrix;
mod damage;
mod desk;
mod everything;
mod executors;
mod features;
mod fleet;
mod given;
mod hearing;
mod kill;
mod losses;
mod opening;
mod outages;
mod processes;
mod server;
mod sidecar;
mod soak;
mod steps;
mod way;
mod workers;
