//! A connection that a task keeps while it is busy, and gives back when it rests.

use std::sync::Arc;

use provision_core::error::StoreError;
use sqlx::{PgConnection, Postgres, pool::PoolConnection};

use crate::db::Db;

/// Nothing is kept of a smaller pool.
const KEPT_OF: u32 = 4;

/// At most one connection.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) db: Arc<Db>,
    conn: Option<PoolConnection<Postgres>>,
    /// A pool of few connections must have it back after each piece of work: two tasks keep one
    /// each, and others need some, too.
    shares: bool,
}

impl Held {
    pub(crate) fn new(db: Arc<Db>) -> Self {
        let shares = db.pool.options().get_max_connections() < KEPT_OF;
        Self { db, conn: None, shares }
    }

    pub(crate) async fn get(
        &mut self,
        operation: &'static str,
    ) -> Result<(&Db, &mut PgConnection), StoreError> {
        let conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.db.acquire(operation).await?,
        };
        Ok((&self.db, self.conn.insert(conn)))
    }

    /// After each piece of work.
    pub(crate) fn pause(&mut self) {
        let pool = &self.db.pool;
        let used_up = pool.num_idle() == 0 && pool.size() >= pool.options().get_max_connections();
        if self.shares || used_up {
            self.conn = None;
        }
    }

    /// When there has been nothing to do for a while, and after an error: the pool looks whether
    /// the connection is still good.
    pub(crate) fn give_back(&mut self) {
        self.conn = None;
    }
}
