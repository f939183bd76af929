//! The PostgreSQL store on a real server: all suites, and what only a server can show.
//!
//! The server is the one of `PROVISION_TEST_POSTGRES_URL`; where that is not set, the tests say so
//! and pass, except in CI. `cargo xtask services run -- cargo test -p provision-store-postgres`
//! starts one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "these are tests; some start processes and measure time"
)]

mod capped;
mod chaos;
mod conformance;
mod cost;
mod crash_matrix;
mod damage;
mod executors;
mod features;
mod fleet;
mod full_disk;
mod given;
mod group_commit;
mod host;
mod kill;
mod lost_reply;
mod opening;
mod orders;
mod pools;
mod retention;
mod roles;
mod server;
mod soak;
mod takeover;
mod views;
mod waking;
