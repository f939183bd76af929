//! What can be set before the store is opened.

use std::{path::PathBuf, sync::Arc, time::Duration};

use provision_core::error::StoreError;

use crate::{
    clock::{Machine, ThisMachine},
    store::SqliteStore,
};

/// Options of a [`SqliteStore`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SqliteConfig {
    pub(crate) path: PathBuf,
    pub(crate) namespace: String,
    pub(crate) busy: Duration,
    pub(crate) batch_max: usize,
    pub(crate) queue_max: usize,
    pub(crate) poll: Duration,
    pub(crate) bytes_max: Option<u64>,
    pub(crate) readers_max: usize,
    pub(crate) machine: Arc<dyn Machine>,
}

impl SqliteConfig {
    /// Options with their defaults for the file at `path`, which is created when it is missing.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            namespace: "default".to_owned(),
            busy: Duration::from_secs(5),
            batch_max: 256,
            queue_max: 4_096,
            poll: Duration::from_millis(50),
            bytes_max: None,
            readers_max: 4,
            machine: Arc::new(ThisMachine::new()),
        }
    }

    /// Namespace of the handle; default `default`.
    #[must_use]
    pub fn with_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// How long to wait for a program that holds SQLite's own write lock without taking turns,
    /// such as a shell on the file, and for the turn of a process that was stopped in the middle of
    /// its own; default 5 s. Opening waits six times as long.
    #[must_use]
    pub fn with_busy_timeout(mut self, busy: Duration) -> Self {
        self.busy = busy;
        self
    }

    /// Calls written in one turn, at most; default 256, at least 1. Smaller turns let other
    /// processes in sooner, larger ones commit less often.
    #[must_use]
    pub fn with_batch_max(mut self, calls: usize) -> Self {
        self.batch_max = calls.max(1);
        self
    }

    /// How often a waiting claim looks for commits of other processes; default 50 ms.
    #[must_use]
    pub fn with_poll_interval(mut self, poll: Duration) -> Self {
        self.poll = poll.max(Duration::from_millis(1));
        self
    }

    /// Largest size of the file; default: none but the disk's. What does not fit is refused as
    /// [`Full`](provision_core::error::StoreErrorKind::Full) and nothing of it is written.
    #[must_use]
    pub fn with_bytes_max(mut self, bytes: u64) -> Self {
        self.bytes_max = Some(bytes);
        self
    }

    /// Where the store's clock comes from; default [`ThisMachine`].
    #[must_use]
    pub fn with_machine(mut self, machine: Arc<dyn Machine>) -> Self {
        self.machine = machine;
        self
    }

    /// Opens the store.
    ///
    /// # Errors
    /// See [`SqliteStore::open`].
    pub async fn open(self) -> Result<SqliteStore, StoreError> {
        SqliteStore::open_with(self).await
    }
}
