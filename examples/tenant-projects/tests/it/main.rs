//! Projects on a real PostgreSQL server, with simulated services.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and say aloud what they skip"
)]

mod canary;
mod crashes;
mod delivering;
mod folders;
mod kills;
mod late;
mod place;
mod points;
mod retrying;
mod rights;
mod whole;
