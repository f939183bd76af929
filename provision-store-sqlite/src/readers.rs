//! Connections that only read, apart from the writer's: a long listing holds no step back.

use std::sync::{Arc, Mutex, PoisonError};

use provision_core::error::StoreError;
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{config::SqliteConfig, error::Fault, schema};

/// A bounded number of readers. A connection is dear (it reads the schema and prepares every
/// statement again), so who finds all of them busy waits for one.
#[derive(Debug)]
pub(crate) struct Readers {
    config: SqliteConfig,
    free: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(crate) fn new(config: SqliteConfig) -> Self {
        let free = Arc::new(Semaphore::new(config.readers_max.max(1)));
        Self { config, free, idle: Mutex::new(Vec::new()) }
    }

    /// The right to read; dropped afterwards. It belongs to the thread that reads, because a call
    /// that is given up leaves its reading behind.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).acquire_owned().await.ok()
    }

    /// Reads on this thread.
    pub(crate) fn read<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        // The lock is held to take or give back a connection only.
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let conn = match idle {
            Some(conn) => conn,
            None => schema::open_reader(&self.config)?,
        };
        let found = in_snapshot(&conn, work).map_err(|fault| fault.into_store(operation));
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if conn.is_autocommit() {
            idle.push(conn);
        }
        found
    }
}

/// All statements of one call see the same commit: row, frames and requests belong together.
fn in_snapshot<T>(
    conn: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, Fault>,
) -> Result<T, Fault> {
    conn.prepare_cached("BEGIN")?.execute(())?;
    let found = work(conn);
    let ended = conn.prepare_cached("COMMIT")?.execute(());
    let found = found?;
    ended?;
    Ok(found)
}
