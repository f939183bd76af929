//! The way to the database: connections, statements, transactions, counted.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use provision_core::{error::StoreError, store::SagaRef};
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, PgPool, Postgres, Row as _, Transaction,
    pool::PoolConnection,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use crate::{
    counters::Tally,
    error::{Fault, sorted},
    sql::{Sql, Text},
};

/// A statement with its values.
pub(crate) type Statement = Query<'static, Postgres, PgArguments>;

/// A transaction waits no longer than this for a row or key that another one holds.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '5s'";

/// What every operation works with.
pub(crate) struct Db {
    pub(crate) pool: PgPool,
    pub(crate) sql: Sql,
    /// A pooler in transaction mode stands in between: nothing outlives a transaction.
    pub(crate) pooler: bool,
    /// How long a call tries to get what others hold.
    pub(crate) busy: Duration,
    pub(crate) tally: Tally,
    /// Numbers of lanes; a plain mutex, held for one look. Rows it names are never deleted.
    lanes: Mutex<HashMap<(i32, String, SagaRef), i32>>,
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db").field("pooler", &self.pooler).finish_non_exhaustive()
    }
}

impl Db {
    pub(crate) fn new(pool: PgPool, sql: Sql, pooler: bool, busy: Duration) -> Self {
        let (tally, lanes) = (Tally::default(), Mutex::default());
        Self { pool, sql, pooler, busy, tally, lanes }
    }

    pub(crate) async fn acquire(
        &self,
        operation: &'static str,
    ) -> Result<PoolConnection<Postgres>, StoreError> {
        self.pool.acquire().await.map_err(|error| sorted(error, operation))
    }

    /// A statement without its values.
    pub(crate) fn query(&self, text: &Text) -> Statement {
        sqlx::query(AssertSqlSafe(Arc::clone(text))).persistent(!self.pooler)
    }

    /// Runs a statement inside a transaction that somebody has begun.
    pub(crate) async fn rows(
        &self,
        conn: &mut PgConnection,
        statement: Statement,
    ) -> Result<Vec<PgRow>, Fault> {
        self.tally.statement();
        Ok(statement.fetch_all(conn).await?)
    }

    /// Runs a statement inside a transaction that somebody has begun; answers how many rows it
    /// changed.
    pub(crate) async fn run(
        &self,
        conn: &mut PgConnection,
        statement: Statement,
    ) -> Result<u64, Fault> {
        self.tally.statement();
        Ok(statement.execute(conn).await?.rows_affected())
    }

    /// Runs one statement as a transaction of its own.
    pub(crate) async fn single(
        &self,
        conn: &mut PgConnection,
        statement: Statement,
    ) -> Result<Vec<PgRow>, Fault> {
        if !self.pooler {
            let rows = self.rows(conn, statement).await?;
            self.tally.committed();
            return Ok(rows);
        }
        // Behind a pooler parse and execution must meet the same server.
        let mut tx = self.begin(conn).await?;
        let rows = self.rows(&mut tx, statement).await?;
        self.commit(tx).await?;
        Ok(rows)
    }

    /// Runs one statement on a connection of the pool.
    pub(crate) async fn once(
        &self,
        operation: &'static str,
        statement: Statement,
    ) -> Result<Vec<PgRow>, StoreError> {
        let mut conn = self.acquire(operation).await?;
        self.single(&mut conn, statement).await.map_err(|fault| fault.into_store(operation))
    }

    pub(crate) async fn begin<'c>(
        &self,
        conn: &'c mut PgConnection,
    ) -> Result<Transaction<'c, Postgres>, Fault> {
        Ok(conn.begin_with(BEGIN).await?)
    }

    /// A transaction where a pooler needs it to keep statements together; else the connection.
    pub(crate) async fn begin_if_pooler<'c>(
        &self,
        conn: &'c mut PgConnection,
    ) -> Result<Together<'c>, Fault> {
        match self.pooler {
            true => Ok(Together::Tx(self.begin(conn).await?)),
            false => Ok(Together::Plain(conn)),
        }
    }

    pub(crate) async fn commit(&self, tx: Transaction<'_, Postgres>) -> Result<(), Fault> {
        tx.commit().await?;
        self.tally.committed();
        Ok(())
    }

    /// The lane of a queue and saga, if it is known here.
    pub(crate) fn known_lane(&self, ns: i32, queue: &str, saga: &SagaRef) -> Option<i32> {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.get(&(ns, queue.to_owned(), saga.clone())).copied()
    }

    /// Remembers a lane that was committed.
    pub(crate) fn remember_lane(&self, ns: i32, queue: &str, saga: &SagaRef, lane: i32) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.insert((ns, queue.to_owned(), saga.clone()), lane);
    }

    /// The lane of a queue and saga, made inside this transaction when it is new.
    pub(crate) async fn lane(
        &self,
        tx: &mut PgConnection,
        ns: i32,
        queue: &str,
        saga: &SagaRef,
    ) -> Result<i32, Fault> {
        if let Some(lane) = self.known_lane(ns, queue, saga) {
            return Ok(lane);
        }
        let find = || with_lane(self.query(&self.sql.lane_find), ns, queue, saga);
        let mut found = self.rows(tx, find()).await?;
        if found.is_empty() {
            let add = with_lane(self.query(&self.sql.lane_add), ns, queue, saga);
            self.run(tx, add).await?;
            found = self.rows(tx, find()).await?;
        }
        Ok(found.first().ok_or(sqlx::Error::RowNotFound)?.try_get(0)?)
    }
}

/// Statements that need no common transaction, and get one behind a pooler.
pub(crate) enum Together<'c> {
    Plain(&'c mut PgConnection),
    Tx(Transaction<'c, Postgres>),
}

impl Together<'_> {
    pub(crate) fn conn(&mut self) -> &mut PgConnection {
        match self {
            Self::Plain(conn) => conn,
            Self::Tx(tx) => tx,
        }
    }

    pub(crate) async fn end(self, db: &Db) -> Result<(), Fault> {
        match self {
            Self::Plain(_) => {
                db.tally.committed();
                Ok(())
            }
            Self::Tx(tx) => db.commit(tx).await,
        }
    }
}

fn with_lane(statement: Statement, ns: i32, queue: &str, saga: &SagaRef) -> Statement {
    let version = i64::from(saga.version);
    statement.bind(ns).bind(queue).bind(&saga.name).bind(version).bind(&saga.fingerprint)
}
