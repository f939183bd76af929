//! `cargo run -p host-with-postgres -- postgres://..`: a shop whose orders and runs are written in one
//! transaction. `README.md` says what to look at.

use std::process::ExitCode;

fn main() -> ExitCode {
    host_with_postgres::run(std::env::args_os())
}
