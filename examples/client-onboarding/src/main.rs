//! `cargo run -p client-onboarding`: onboards a client into a simulated cloud, durably.
//!
//! `--help` lists what else it does; `README.md` says what to look at.

use std::process::ExitCode;

fn main() -> ExitCode {
    client_onboarding::run(std::env::args_os())
}
