//! The project's own tool: one command that says whether the tree may land, and the small ones
//! it is made of.
//!
//! ```text
//! cargo xtask verify [--quick | --long] [--only STAGE]
//! cargo xtask tidy
//! cargo xtask requirements [--check]
//! cargo xtask services run [-- CMD..]
//! cargo xtask bench [ARGS..]
//! ```
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a tool for people: it prints, reads its environment and looks at the clock"
)]

mod command;
mod covers;
mod metadata;
mod requirements;
mod services;
mod tidy;
mod tree;
mod verify;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// What a part of this tool answers with; the error is a sentence for a person.
type Outcome<T = ()> = Result<T, String>;

const USAGE: &str = "\
cargo xtask verify [--quick | --long] [--only STAGE]
                                all that a landing needs; --quick without servers and slow
                                stages, --long with everything the tests can be asked for
cargo xtask tidy                the house rules that no compiler knows
cargo xtask requirements        writes the test columns of docs/requirements.md and
                                ARCHITECTURE.md anew; --check only compares
cargo xtask services run -- CMD runs CMD with throwaway servers; without CMD they stay
                                until a signal
cargo xtask bench ARGS          runs the benches in the release profile
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = root().and_then(|root| dispatch(&root, &words));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(root: &Path, words: &[&str]) -> Outcome {
    match words {
        ["verify", rest @ ..] => verify::run(root, rest),
        ["tidy"] => tidy::run(root),
        ["requirements"] => requirements::write(root),
        ["requirements", "--check"] => requirements::check(root),
        ["services"] | ["services", "run"] => services::stay(root),
        ["services", "run", "--", command @ ..] => services::run(root, command),
        ["bench", rest @ ..] => bench(root, rest),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        _ => Err(format!("no such command\n{USAGE}")),
    }
}

fn bench(root: &Path, args: &[&str]) -> Outcome {
    let services = services::told()?;
    let mut benches = command::cargo(root);
    services.lend(&mut benches);
    let status = benches
        .args(["run", "--release", "--locked", "-p", "benches", "--"])
        .args(args)
        .status()
        .map_err(|error| format!("cargo did not start: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("bench: {status}")) }
}

/// The workspace around the working folder, or the one cargo runs this tool for.
///
/// Never the one it was compiled in: worktrees may share a target folder, and this tool writes.
fn root() -> Outcome<PathBuf> {
    if let Some(here) = std::env::var_os("CARGO_MANIFEST_DIR") {
        let here = PathBuf::from(here);
        return Ok(here.parent().map_or(here.clone(), PathBuf::from));
    }
    let here = std::env::current_dir().map_err(|error| format!("the working folder: {error}"))?;
    let found = here.ancestors().find(|folder| folder.join("xtask/Cargo.toml").is_file());
    found.map(PathBuf::from).ok_or_else(|| "not inside the workspace".to_owned())
}
