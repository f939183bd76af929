//! The example from outside: as a program, and as a host's own test would see its saga.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests fail by panicking, wait for processes, and say what they skip"
)]

mod cli;
mod crashes;
mod disk;
mod exits;
mod golden;
mod host;
mod kills;
mod place;
mod points;
mod servers;
mod stops;
mod terminal;
