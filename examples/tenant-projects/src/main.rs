//! `cargo run -p tenant-projects`: brings up projects for tenants, and takes them down. `README.md`
//! says what to look at.

use std::process::ExitCode;

fn main() -> ExitCode {
    tenant_projects::run(std::env::args_os())
}
