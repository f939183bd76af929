//! Connections that only read, apart from the writer's: a long listing holds no step back.

use std::sync::{Mutex, PoisonError};

use provision_core::error::StoreError;
use rusqlite::Connection;

use crate::{config::SqliteConfig, error::Fault, schema};

/// Idle readers; more are opened when all are busy, and closed again afterwards.
#[derive(Debug)]
pub(crate) struct Readers {
    config: SqliteConfig,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(crate) fn new(config: SqliteConfig) -> Self {
        Self { config, idle: Mutex::new(Vec::new()) }
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
        if idle.len() < self.config.readers_max && conn.is_autocommit() {
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
