//! `cargo run -p song-orders`: takes paid orders by webhook and makes their songs. `README.md` says
//! what to look at.

use std::process::ExitCode;

fn main() -> ExitCode {
    song_orders::run(std::env::args_os())
}
