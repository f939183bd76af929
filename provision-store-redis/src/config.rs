//! What can be set before the store is opened.

use std::{fmt, time::Duration};

use provision_core::error::StoreError;

use crate::{sidecar::RedisSidecar, store::RedisStore};

/// What must not lose a call that was answered. The store verifies it on every new connection.
///
/// | Level | Server process killed | Power or system lost | Failover to a replica |
/// |---|---|---|---|
/// | [`ProcessCrash`](Self::ProcessCrash) | nothing lost | up to a second lost | what was on its way is lost |
/// | [`Fsync`](Self::Fsync) | nothing lost | nothing lost | what was on its way is lost |
/// | [`Replicated`](Self::Replicated) | nothing lost | nothing lost | nothing lost, if one of the replicas that answered takes over |
///
/// What is lost in a lost second is forgotten, never mixed up: leases carry random numbers, so a
/// worker from before cannot write into what came after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Durability {
    /// Survives a crash of the server's process: `appendonly yes`, whatever `appendfsync` says.
    ProcessCrash,
    /// Survives the loss of power, too: `appendonly yes`, `appendfsync always` and
    /// `no-appendfsync-on-rewrite no`.
    #[default]
    Fsync,
    /// As `Fsync`, and so many replicas have each write before it is answered (`WAIT`). A write
    /// that does not reach them in time is answered as not known, and repeated by the engine.
    Replicated(u32),
}

/// Options of a [`RedisStore`] or a [`RedisSidecar`].
#[derive(Clone)]
#[non_exhaustive]
pub struct RedisConfig {
    pub(crate) url: String,
    pub(crate) namespace: String,
    /// `None` where nothing need last.
    pub(crate) durability: Option<Durability>,
    pub(crate) poll: Duration,
    pub(crate) response_timeout: Duration,
    pub(crate) connection_timeout: Duration,
    pub(crate) listen: bool,
    pub(crate) hidden: Duration,
    pub(crate) silence: Duration,
}

impl RedisConfig {
    /// Options with their defaults for the server at `url`, such as
    /// `redis://user:password@host:6379/0`; `rediss://` with the feature `tls`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            namespace: "default".to_owned(),
            durability: Some(Durability::default()),
            poll: Duration::from_secs(1),
            response_timeout: Duration::from_secs(10),
            connection_timeout: Duration::from_secs(5),
            listen: true,
            hidden: Duration::from_secs(30),
            silence: Duration::from_secs(60),
        }
    }

    /// Namespace of the handle, which is the hash tag of all its keys; default `default`. A
    /// deployment scales over the nodes of a cluster by namespaces. Not empty, without `{` and `}`.
    #[must_use]
    pub fn with_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// What must not lose a call that was answered; default [`Durability::Fsync`]. Of a sidecar
    /// nothing need last: there it says nothing.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// How often a waiting claim looks for work of which nobody has told; default 1 s, at least
    /// 1 ms. It also looks when the next run is due that it knows of.
    #[must_use]
    pub fn with_poll_interval(mut self, poll: Duration) -> Self {
        self.poll = poll.max(Duration::from_millis(1));
        self
    }

    /// How long to wait for an answer; default 10 s. What takes longer is answered as not known.
    /// Half of it is what a replica is given with [`Durability::Replicated`].
    ///
    /// A call may take longer as a whole: it waits for the connection that others are making, and
    /// with `Replicated` for the writes before it on its connection.
    #[must_use]
    pub fn with_response_timeout(mut self, timeout: Duration) -> Self {
        self.response_timeout = timeout.max(Duration::from_millis(2));
        self
    }

    /// How long to wait for a connection; default 5 s.
    #[must_use]
    pub fn with_connection_timeout(mut self, timeout: Duration) -> Self {
        self.connection_timeout = timeout;
        self
    }

    /// Hears of new work by polling alone, without a second connection that subscribes to it.
    #[must_use]
    pub fn with_polling_only(mut self) -> Self {
        self.listen = false;
        self
    }

    /// How long a sidecar keeps what it has proposed from other workers, unless it is acked or
    /// offered again meanwhile; default 30 s, at least 100 ms. A worker that dies between hearing
    /// of a run and leasing it costs as much, or until the next scan of the store.
    #[must_use]
    pub fn with_hidden_for(mut self, hidden: Duration) -> Self {
        self.hidden = hidden.max(Duration::from_millis(100));
        self
    }

    /// After how long a sidecar takes a worker for dead of which it has not heard, and frees its
    /// concurrency slots; default 60 s, at least 1 s. A worker that holds slots tells of itself at
    /// every third of its lease, so it should be a few leases.
    #[must_use]
    pub fn with_silence(mut self, silence: Duration) -> Self {
        self.silence = silence.max(Duration::from_secs(1));
        self
    }

    /// Opens a sidecar: a queue and a limiter beside a journal in another store.
    ///
    /// # Errors
    /// Kind `Unsuitable`: `redis_wrong_url`, `redis_wrong_password`, `redis_password_needed`,
    /// `redis_not_permitted`, `redis_too_old`, `redis_is_replica`, `redis_settings_hidden`,
    /// `redis_other_node`. Kind `Invalid`: `redis_wrong_namespace`. Kind `Damaged`:
    /// `schema_newer` (the namespace is a store's, or of a newer version), `redis_wrong_type`. Kind
    /// `Unavailable`: `redis_unreachable`, `redis_timeout`, `redis_loading`,
    /// `redis_too_many_clients`.
    pub async fn open_sidecar(mut self) -> Result<RedisSidecar, StoreError> {
        self.durability = None;
        RedisSidecar::open_with(self).await
    }

    /// Opens the store.
    ///
    /// # Errors
    /// See [`RedisStore::open`].
    pub async fn open(self) -> Result<RedisStore, StoreError> {
        RedisStore::open_with(self).await
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // X1: the URL may hold a password.
        f.debug_struct("RedisConfig")
            .field("namespace", &self.namespace)
            .field("durability", &self.durability)
            .field("poll", &self.poll)
            .field("response_timeout", &self.response_timeout)
            .field("connection_timeout", &self.connection_timeout)
            .field("listen", &self.listen)
            .field("hidden", &self.hidden)
            .field("silence", &self.silence)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::RedisConfig;

    // covers: X1
    #[test]
    fn a_password_is_not_printed() {
        let config = RedisConfig::new("redis://worker:hunter2@127.0.0.1:6379");
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
