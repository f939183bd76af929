//! The shop over a real database and simulated clouds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and say aloud what they skip"
)]

mod cli;
mod intake;
mod kills;
mod many;
mod payments;
mod points;
mod pooler;
mod roles;
mod songs;
mod world;
