//! The example from outside, as a program, and from inside, as a host's own test would see it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests fail by panicking, and wait for processes"
)]

mod crashes;
mod exchange;
mod hosting;
mod life;
mod place;
mod points;
mod table;
mod versions;
mod watch;
mod webhooks;
mod workflow;
mod workflow_points;
