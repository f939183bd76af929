//! The service on a real PostgreSQL server, against five simulated platforms over HTTP.
//!
//! The server is the one of `PROVISION_TEST_POSTGRES_URL`; where that is not set, the tests say so
//! and pass, except in CI. `cargo xtask services run -- cargo test -p connector-platform` starts one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests fail by panicking, wait for processes, and say what they skip"
)]

mod caps;
mod checking;
mod connecting;
mod flags;
mod kills;
mod model;
mod place;
mod points;
mod publishing;
mod refreshing;
mod rotation;
mod serving;
mod webhooks;
