//! `cargo run -p connector-platform -- demo`: five social platforms, simulated, and a publishing
//! service for tenants on PostgreSQL. `README.md` says what to look at.

use std::process::ExitCode;

fn main() -> ExitCode {
    connector_platform::run(std::env::args_os())
}
