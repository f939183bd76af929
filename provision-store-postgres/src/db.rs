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
    config::{PostgresConfig, Server},
    counters::Tally,
    error::{Fault, sorted},
    sql::{Sql, Text},
};

/// A statement with its values.
pub(crate) type Statement = Query<'static, Postgres, PgArguments>;

/// A transaction waits no longer than this for a row or key that another one holds, and the server
/// ends that of a process that froze or is out of reach: nobody waits for what it locked (L2).
/// Behind a pooler, and in a pool of the host, the plans are made as [`SETTLE`] says by this alone.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '5s'; \
                     SET LOCAL idle_in_transaction_session_timeout = '8s'; \
                     SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL jit = off; \
                     SET LOCAL enable_seqscan = off";

/// What a connection of the store's own is set to. Statements are few, short and made for their
/// indexes: plans are made once, by no statistics of tables that were empty a moment ago, and not
/// compiled. Nobody waits for a lock without end.
pub(crate) const SETTLE: &str = "SET plan_cache_mode = force_generic_plan; SET jit = off; \
                                 SET enable_seqscan = off; SET lock_timeout = '5s'";

/// What every operation works with.
pub(crate) struct Db {
    pub(crate) pool: PgPool,
    pub(crate) sql: Sql,
    /// A pooler in transaction mode stands in between: nothing outlives a transaction.
    pub(crate) pooler: bool,
    /// The connections are the store's own, and keep their settings.
    pub(crate) settled: bool,
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
    pub(crate) fn new(pool: PgPool, sql: Sql, config: &PostgresConfig) -> Self {
        let (tally, lanes) = (Tally::default(), Mutex::default());
        let (pooler, busy) = (config.pooler, config.busy);
        let settled = !pooler && matches!(config.server, Server::Url(_));
        Self { pool, sql, pooler, settled, busy, tally, lanes }
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
        self.alone(conn, statement).await
    }

    /// As [`single`](Self::single), for a statement that may wait for rows, or whose plan is
    /// intricate: on a connection that is not the store's own the settings come with it.
    pub(crate) async fn careful(
        &self,
        conn: &mut PgConnection,
        statement: Statement,
    ) -> Result<Vec<PgRow>, Fault> {
        match self.settled {
            true => self.single(conn, statement).await,
            false => self.alone(conn, statement).await,
        }
    }

    async fn alone(
        &self,
        conn: &mut PgConnection,
        statement: Statement,
    ) -> Result<Vec<PgRow>, Fault> {
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

    /// A transaction in which the host writes, too: its statements end in time.
    pub(crate) async fn begin_with_host<'c>(
        &self,
        conn: &'c mut PgConnection,
    ) -> Result<Transaction<'c, Postgres>, Fault> {
        // The host's function is given up before that: this only ends what is left of it.
        const LIMITS: &str = "SET LOCAL statement_timeout = '7s'; SET LOCAL lock_timeout = '3s'";
        Ok(conn.begin_with(AssertSqlSafe(format!("{BEGIN}; {LIMITS}"))).await?)
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

    /// What to do with a transaction that failed. Where others hold what it needs, it is tried again
    /// after a pause: it must not hold anything until then.
    pub(crate) async fn undone(&self, tx: Transaction<'_, Postgres>, fault: Fault) -> Fault {
        match tx.rollback().await {
            Err(error) if fault.is_busy() => error.into(),
            _ => fault,
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
        // Still unknown: a transaction that is open has made it.
        Ok(found.first().ok_or(Fault::Busy)?.try_get(0)?)
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
