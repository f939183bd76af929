//! `cargo run -p agent-hosting`: an agent on a machine of its own, in a simulated cloud, durably.
//!
//! `--help` lists what else it does; `README.md` says what to look at.

use std::process::ExitCode;

fn main() -> ExitCode {
    agent_hosting::run(std::env::args_os())
}
