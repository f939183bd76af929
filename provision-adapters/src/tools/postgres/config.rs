//! Options of the administration of a PostgreSQL server. Values come in as arguments; nothing here
//! reads the environment.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use provision_core::SecretRef;

use super::{CONCURRENCY, DUMP_BYTES_MAX, LATE_NETWORK, LATE_WINDOW, STATEMENT_TIMEOUT};

/// Where a server is, and as whom it is administered.
///
/// The role is a superuser, or one with the few rights that the documents of the
/// [module](crate::tools::postgres) name: it gives what it makes to other roles, and works inside the
/// databases of tenants with their rights alone.
#[derive(Debug, Clone)]
pub struct PostgresConfig {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: SecretRef,
    pub(crate) database: String,
    pub(crate) root_certificate: Option<PathBuf>,
    pub(crate) programs: Option<PathBuf>,
    pub(crate) late_window: Duration,
    pub(crate) statement_timeout: Duration,
    pub(crate) concurrency: u32,
    pub(crate) dump_bytes_max: usize,
}

impl PostgresConfig {
    /// Describes a server at a host, with the role that administers it and a reference to that
    /// role's password.
    ///
    /// Connections are encrypted and the server's certificate is verified (feature `live`), except
    /// to a literal loopback address or to a folder of sockets, which begins with `/` (X2).
    #[must_use]
    pub fn new(host: impl Into<String>, user: impl Into<String>, password: SecretRef) -> Self {
        Self {
            host: host.into(),
            port: 5432,
            user: user.into(),
            password,
            database: "postgres".to_owned(),
            root_certificate: None,
            programs: None,
            late_window: LATE_WINDOW,
            statement_timeout: STATEMENT_TIMEOUT,
            concurrency: CONCURRENCY,
            dump_bytes_max: DUMP_BYTES_MAX,
        }
    }

    /// Sets the port. Default 5432.
    #[must_use]
    pub fn with_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Sets the database from which others are made and dropped. Default `postgres`.
    #[must_use]
    pub fn with_database(mut self, name: impl Into<String>) -> Self {
        self.database = name.into();
        self
    }

    /// Sets the file with the certificate that the server's must come from. Default: the roots
    /// that the system, or the program, trusts.
    #[must_use]
    pub fn with_root_certificate(mut self, file: impl Into<PathBuf>) -> Self {
        self.root_certificate = Some(file.into());
        self
    }

    /// Sets the folder that has `pg_dump`. Default: it is looked for on `PATH`.
    ///
    /// It must not be older than the server.
    #[must_use]
    pub fn with_programs(mut self, folder: impl Into<PathBuf>) -> Self {
        self.programs = Some(folder.into());
        self
    }

    /// Longest time that a statement of a call that was cut may still run on. Default
    /// [`LATE_WINDOW`], which is right where a lost connection is noticed by neither side.
    ///
    /// To another machine it is at least the longest time of a statement and [`LATE_NETWORK`].
    #[must_use]
    pub fn with_late_window(mut self, time: Duration) -> Self {
        self.late_window = time;
        self
    }

    /// Longest time of one statement. Default [`STATEMENT_TIMEOUT`]; the server ends those that
    /// take longer.
    #[must_use]
    pub fn with_statement_timeout(mut self, time: Duration) -> Self {
        self.statement_timeout = time;
        self
    }

    /// Most calls on this server at a time, over all workers. Default [`CONCURRENCY`].
    #[must_use]
    pub fn with_concurrency(mut self, calls: u32) -> Self {
        self.concurrency = calls.max(1);
        self
    }

    /// Most bytes of the dump of a template. Default [`DUMP_BYTES_MAX`].
    #[must_use]
    pub fn with_dump_max(mut self, bytes: usize) -> Self {
        self.dump_bytes_max = bytes;
        self
    }

    /// When nothing of a call that was cut can land any more.
    pub(crate) fn late_window(&self) -> Duration {
        // On one machine a closed connection is noticed; a network may lose that it was closed.
        match self.is_remote() {
            true => self.late_window.max(self.statement_timeout + LATE_NETWORK),
            false => self.late_window,
        }
    }

    /// Whether connections leave this machine.
    pub(crate) fn is_remote(&self) -> bool {
        let loopback = self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        !loopback && !self.host.starts_with('/')
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use provision_core::SecretRef;

    use super::PostgresConfig;

    // covers: S9
    #[test]
    fn over_a_network_no_statement_outlives_the_late_window() {
        let window = |host: &str| {
            PostgresConfig::new(host, "admin", SecretRef::named("PASSWORD"))
                .with_late_window(Duration::from_secs(2))
                .with_statement_timeout(Duration::from_secs(300))
                .late_window()
        };
        assert_eq!(window("db.example.com"), Duration::from_secs(360));
        assert_eq!(window("127.0.0.1"), Duration::from_secs(2));
        assert_eq!(window("/run/postgresql"), Duration::from_secs(2));
    }
}
