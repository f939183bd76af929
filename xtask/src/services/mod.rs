//! Throwaway servers for tests: private, on a loopback port, in a folder of their own, gone with
//! the command that used them.

mod install;

use std::{
    io::Read as _,
    path::Path,
    process::{Command, ExitStatus},
};

use throwaway_services::{pgbouncer, postgres, redis};

use crate::Outcome;

/// Where tests look for a PostgreSQL server.
const POSTGRES_URL: &str = "PROVISION_TEST_POSTGRES_URL";
/// Where tests look for a `PgBouncer` in transaction mode before a PostgreSQL server.
const PGBOUNCER_URL: &str = "PROVISION_TEST_PGBOUNCER_URL";
/// Where tests look for a Redis server.
const REDIS_URL: &str = "PROVISION_TEST_REDIS_URL";

/// A server that was started here.
#[derive(Debug)]
enum Server {
    Postgres(postgres::Server),
    PgBouncer(pgbouncer::Server),
    Redis(redis::Server),
}

impl Server {
    fn url(&self) -> &str {
        match self {
            Self::Postgres(server) => server.url(),
            Self::PgBouncer(server) => server.url(),
            Self::Redis(server) => server.url(),
        }
    }

    fn version(&self) -> &str {
        match self {
            Self::Postgres(server) => server.version(),
            Self::PgBouncer(server) => server.version(),
            Self::Redis(server) => server.version(),
        }
    }
}

/// A server, or why there is none.
#[derive(Debug)]
enum Found {
    /// One that was already there, named by the environment.
    Given,
    Started(Server),
    Missing(String),
}

/// One kind of server that tests may use.
#[derive(Debug)]
struct Service {
    name: &'static str,
    variable: &'static str,
    found: Found,
}

impl Service {
    /// Takes the one that the environment names, or starts one; in CI a missing one is an error.
    fn find(
        name: &'static str,
        variable: &'static str,
        start: impl FnOnce() -> Outcome<Server>,
    ) -> Outcome<Self> {
        let found = if std::env::var_os(variable).is_some() {
            Found::Given
        } else {
            match start() {
                Ok(server) => Found::Started(server),
                Err(why) if in_ci() => return Err(format!("{name} is needed in CI: {why}")),
                Err(why) => Found::Missing(why),
            }
        };
        Ok(Self { name, variable, found })
    }

    /// One line for people.
    fn describe(&self) -> String {
        let Self { name, variable, found } = self;
        match found {
            Found::Given => format!("{name}: the one of {variable}"),
            Found::Started(server) => {
                format!("{name}: {} in {}", server.version(), without_password(server.url()))
            }
            Found::Missing(why) => format!("{name}: NOT THERE, its tests are skipped ({why})"),
        }
    }

    /// Where it is, if it is anywhere.
    fn url(&self) -> Option<String> {
        match &self.found {
            Found::Given => std::env::var(self.variable).ok(),
            Found::Started(server) => Some(server.url().to_owned()),
            Found::Missing(_) => None,
        }
    }
}

/// The servers that tests may use.
#[derive(Debug)]
pub(crate) struct Services(Vec<Service>);

impl Services {
    /// None: nobody asked for one.
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    /// Finds or starts all of them, installing what is missing. Those `for_tests` alone need not
    /// reach the disk.
    pub(crate) fn find(for_tests: bool) -> Outcome<Self> {
        let postgres = Service::find("PostgreSQL", POSTGRES_URL, || {
            postgres::Server::start(&install::postgres()?, for_tests).map(Server::Postgres)
        })?;
        let behind = postgres.url();
        let pgbouncer = Service::find("PgBouncer", PGBOUNCER_URL, || {
            let behind = behind.ok_or("there is no PostgreSQL server behind it")?;
            pgbouncer::Server::start(&install::pgbouncer()?, &behind).map(Server::PgBouncer)
        })?;
        let redis = Service::find("Redis", REDIS_URL, || {
            redis::Server::start(&install::redis()?, for_tests).map(Server::Redis)
        })?;
        // They end in this order: who stands before another server first.
        Ok(Self(vec![pgbouncer, postgres, redis]))
    }

    /// Lets a command see the servers.
    pub(crate) fn lend(&self, command: &mut Command) {
        for service in &self.0 {
            let Found::Started(server) = &service.found else { continue };
            command.env(service.variable, server.url());
            if let Server::Postgres(server) = server {
                command.env("PATH", server.path_with_clients());
            }
        }
    }

    /// One line for people about each.
    pub(crate) fn describe(&self) -> Vec<String> {
        self.0.iter().map(Service::describe).collect()
    }

    /// The lines about those that are not there.
    pub(crate) fn missing(&self) -> Vec<String> {
        let missing = self.0.iter().filter(|service| matches!(service.found, Found::Missing(_)));
        missing.map(Service::describe).collect()
    }
}

/// An address as it may be shown: who needs the password is given it in the environment.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://{place}"),
        _ => url.to_owned(),
    }
}

/// Whether nobody is there to read that something was skipped.
pub(crate) fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

/// Runs one command with the servers and ends with its status.
pub(crate) fn run(root: &Path, words: &[&str]) -> Outcome {
    let [program, args @ ..] = words else { return stay(root) };
    let services = told()?;
    let mut command = Command::new(program);
    command.args(args);
    services.lend(&mut command);
    let status = command.status().map_err(|error| format!("{program}: {error}"))?;
    drop(services);
    ended(program, status)
}

/// All of them, with a line about each.
pub(crate) fn told() -> Outcome<Services> {
    let services = Services::find(false)?;
    for line in services.describe() {
        eprintln!("{line}");
    }
    Ok(services)
}

fn ended(program: &str, status: ExitStatus) -> Outcome {
    if status.success() { Ok(()) } else { Err(format!("{program}: {status}")) }
}

/// Prints the addresses and keeps the servers until a signal or the end of the input.
pub(crate) fn stay(_root: &Path) -> Outcome {
    let services = told()?;
    let mut any = false;
    for service in &services.0 {
        if let Found::Started(server) = &service.found {
            println!("{}={}", service.variable, server.url());
            any = true;
        }
    }
    if !any {
        return Ok(());
    }
    // A signal ends this process; the guardians of the servers notice and stop them. Without a
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

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(without_password("redis://:secret@127.0.0.1:7"), "redis://127.0.0.1:7");
        assert_eq!(without_password("postgres://a:b@h:1/d"), "postgres://h:1/d");
        assert_eq!(without_password("redis://127.0.0.1:7"), "redis://127.0.0.1:7");
    }
}
