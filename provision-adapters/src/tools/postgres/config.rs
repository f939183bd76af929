//! Options of the administration of a PostgreSQL server. Values come in as arguments; nothing here
//! reads the environment.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use provision_core::SecretRef;

use super::{CONCURRENCY, DUMP_BYTES_MAX, LATE_WINDOW, STATEMENT_TIMEOUT};

/// Where a server is, and as whom it is administered.
///
/// The role needs `CREATEDB` and `CREATEROLE`; to clone schemas with extensions, or to run on a
/// server where others own the databases, it is a superuser.
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

    /// Sets the folder that has `pg_dump` and `psql`. Default: they are looked for on `PATH`.
    ///
    /// `pg_dump` must not be older than the server.
    #[must_use]
    pub fn with_programs(mut self, folder: impl Into<PathBuf>) -> Self {
        self.programs = Some(folder.into());
        self
    }

    /// Longest time that a statement of a call that was cut may still run on. Default
    /// [`LATE_WINDOW`], which is right where a lost connection is noticed by neither side.
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

    /// Whether connections leave this machine.
    pub(crate) fn is_remote(&self) -> bool {
        let loopback = self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        !loopback && !self.host.starts_with('/')
    }
}
