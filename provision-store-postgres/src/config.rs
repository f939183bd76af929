//! What can be set before the store is opened.

use std::{fmt, time::Duration};

use provision_core::{Secret, error::StoreError};
use sqlx::PgPool;

use crate::store::PostgresStore;

/// Where the server is.
#[derive(Clone)]
pub(crate) enum Server {
    /// The address holds the password.
    Url(Secret),
    Pool(PgPool),
}

/// Options of a [`PostgresStore`].
#[derive(Clone)]
#[non_exhaustive]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct PostgresConfig {
    pub(crate) server: Server,
    pub(crate) schema: String,
    pub(crate) namespace: String,
    pub(crate) migrate: bool,
    pub(crate) pooler: bool,
    pub(crate) notify: bool,
    pub(crate) unsafe_settings: bool,
    pub(crate) connections_max: u32,
    pub(crate) connect_timeout: Duration,
    pub(crate) batch_max: usize,
    pub(crate) batch_bytes_max: usize,
    pub(crate) queue_max: usize,
    pub(crate) busy: Duration,
    poll: Option<Duration>,
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("schema", &self.schema)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl PostgresConfig {
    /// Options with their defaults for the server at `url`, such as
    /// `postgres://user:password@host:5432/database`; the store makes its own pool.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self::on(Server::Url(Secret::new(url)))
    }

    /// Options with their defaults for a pool of the host, which the store shares.
    ///
    /// The store needs one connection of it at a time. While steps and starts are written, it keeps
    /// one for each of the two, where the pool has four or more and some are idle.
    /// [`with_connections_max`](Self::with_connections_max) and
    /// [`with_connect_timeout`](Self::with_connect_timeout) do nothing then.
    #[must_use]
    pub fn with_pool(pool: PgPool) -> Self {
        Self::on(Server::Pool(pool))
    }

    fn on(server: Server) -> Self {
        Self {
            server,
            schema: "provision".to_owned(),
            namespace: "default".to_owned(),
            migrate: true,
            pooler: false,
            notify: true,
            unsafe_settings: false,
            connections_max: 8,
            connect_timeout: Duration::from_secs(10),
            batch_max: 512,
            batch_bytes_max: 4 << 20,
            queue_max: 4_096,
            busy: Duration::from_secs(5),
            poll: None,
        }
    }

    /// Schema of the tables; default `provision`. Lower-case letters, digits and underscores, at
    /// most 63, not beginning with a digit or `pg_`.
    #[must_use]
    pub fn with_schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// Namespace of the handle; default `default`.
    #[must_use]
    pub fn with_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Whether opening brings the schema up to date; default yes. Without it the schema must be
    /// there, and a role without the right to change it will do.
    #[must_use]
    pub fn with_migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// Declares a pooler in transaction mode between store and server; default no.
    ///
    /// Statements are then not kept prepared, and nobody listens: other processes' runs are found
    /// by polling.
    #[must_use]
    pub fn with_transaction_pooler(mut self, pooler: bool) -> Self {
        self.pooler = pooler;
        self
    }

    /// Whether processes tell each other of ready runs by `NOTIFY`, on one further connection;
    /// default yes. Without it they find them by polling.
    #[must_use]
    pub fn with_notify(mut self, notify: bool) -> Self {
        self.notify = notify;
        self
    }

    /// Accepts a server whose settings (`fsync`, `full_page_writes`, `synchronous_commit`) may lose
    /// what was acknowledged; default no. For servers that are thrown away.
    #[must_use]
    pub fn with_unsafe_settings(mut self, accept: bool) -> Self {
        self.unsafe_settings = accept;
        self
    }

    /// Connections of the store's own pool, at most; default 8, at least 1. Listening takes one
    /// more.
    #[must_use]
    pub fn with_connections_max(mut self, connections: u32) -> Self {
        self.connections_max = connections.max(1);
        self
    }

    /// How long a call waits for a connection of the store's own pool; default 10 s.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Appends in one statement, at most; default 512, at least 1.
    #[must_use]
    pub fn with_batch_max(mut self, appends: usize) -> Self {
        self.batch_max = appends.max(1);
        self
    }

    /// Bytes of records in one statement after which no further append is added; default 4 MiB.
    #[must_use]
    pub fn with_batch_bytes_max(mut self, bytes: usize) -> Self {
        self.batch_bytes_max = bytes.max(1);
        self
    }

    /// How long a call tries to get rows and keys that other transactions hold; default 5 s. Then
    /// it fails with `postgres_busy`, and may be repeated.
    #[must_use]
    pub fn with_busy_timeout(mut self, busy: Duration) -> Self {
        self.busy = busy;
        self
    }

    /// How often a waiting claim looks for ready runs; default 5 s where notifications are heard,
    /// else 1 s.
    #[must_use]
    pub fn with_poll_interval(mut self, poll: Duration) -> Self {
        self.poll = Some(poll.max(Duration::from_millis(1)));
        self
    }

    /// Whether notifications of other processes are heard.
    pub(crate) fn listens(&self) -> bool {
        self.notify && !self.pooler
    }

    pub(crate) fn poll(&self) -> Duration {
        self.poll.unwrap_or(Duration::from_secs(if self.listens() { 5 } else { 1 }))
    }

    /// Opens the store.
    ///
    /// # Errors
    /// See [`PostgresStore::open`].
    pub async fn open(self) -> Result<PostgresStore, StoreError> {
        PostgresStore::open_with(self).await
    }
}
