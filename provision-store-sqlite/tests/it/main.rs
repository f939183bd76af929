//! The SQLite store on real files: all suites, and what only a file can show.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "these are tests; some start processes and measure time"
)]

mod claims;
mod clock;
mod conformance;
mod crash;
mod crash_matrix;
mod damage;
mod executors;
mod features;
mod fleet;
mod given;
mod group_commit;
mod host;
mod kill;
mod opening;
mod processes;
mod retention;
mod soak;
mod views;
