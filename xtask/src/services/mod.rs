//! Throwaway servers for tests: private, on a loopback port, in a folder of their own, gone with
//! the command that used them.

mod find;
mod postgres;

use std::{
    io::Read as _,
    path::Path,
    process::{Command, ExitStatus},
};

pub(crate) use postgres::Server;

use crate::Outcome;

/// Where tests look for a PostgreSQL server.
pub(crate) const POSTGRES_URL: &str = "PROVISION_TEST_POSTGRES_URL";

/// A server, or why there is none.
#[derive(Debug)]
pub(crate) enum Found {
    /// One that was already there, named by the environment.
    Given,
    Started(Server),
    Missing(String),
}

impl Found {
    /// Lets a command see the server.
    pub(crate) fn lend(&self, command: &mut Command) {
        if let Self::Started(server) = self {
            command.env(POSTGRES_URL, server.url());
            command.env("PATH", server.path_with_clients());
        }
    }

    /// One line for people.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Given => format!("PostgreSQL: the one of {POSTGRES_URL}"),
            Self::Started(server) => {
                format!("PostgreSQL: {} in {}", server.version(), server.url())
            }
            Self::Missing(why) => format!("PostgreSQL: NOT THERE, its tests are skipped ({why})"),
        }
    }
}

/// Finds or starts PostgreSQL; in CI a missing one is an error.
pub(crate) fn postgres(install: bool) -> Outcome<Found> {
    if std::env::var_os(POSTGRES_URL).is_some() {
        return Ok(Found::Given);
    }
    let started = find::binaries(install).and_then(|folder| Server::start(&folder));
    match started {
        Ok(server) => Ok(Found::Started(server)),
        Err(why) if in_ci() => Err(format!("PostgreSQL is needed in CI: {why}")),
        Err(why) => Ok(Found::Missing(why)),
    }
}

/// Whether nobody is there to read that something was skipped.
pub(crate) fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

/// Runs one command with the servers and ends with its status.
pub(crate) fn run(root: &Path, words: &[&str]) -> Outcome {
    let [program, args @ ..] = words else { return stay(root) };
    let found = postgres(true)?;
    eprintln!("{}", found.describe());
    let mut command = Command::new(program);
    command.args(args);
    found.lend(&mut command);
    let status = command.status().map_err(|error| format!("{program}: {error}"))?;
    drop(found);
    ended(program, status)
}

fn ended(program: &str, status: ExitStatus) -> Outcome {
    if status.success() { Ok(()) } else { Err(format!("{program}: {status}")) }
}

/// Prints the addresses and keeps the servers until a signal or the end of the input.
pub(crate) fn stay(_root: &Path) -> Outcome {
    let found = postgres(true)?;
    eprintln!("{}", found.describe());
    let Found::Started(server) = &found else { return Ok(()) };
    println!("{POSTGRES_URL}={}", server.url());
    // A signal ends this process; the guardian of the server notices and stops it. Without a
    // terminal the input may end at once, so only a person's end of input counts.
    let mut input = Vec::new();
    drop(std::io::stdin().read_to_end(&mut input));
    if !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        loop {
            std::thread::park();
        }
    }
    Ok(())
}
