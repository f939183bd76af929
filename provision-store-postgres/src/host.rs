//! The host's own tables in the same database: written in the same transaction as a run's end, or
//! as its start, so that a crash leaves both or neither.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
};

use futures_util::FutureExt as _;
use provision_core::{
    error::{StoreError, StoreErrorKind},
    store::{Append, Submission, Submitted},
};
use sqlx::PgConnection;

use crate::{error::Fault, store::PostgresStore, submit};

type Writing<'a> = Pin<Box<dyn Future<Output = sqlx::Result<()>> + Send + 'a>>;

/// What a host writes with the end of a run.
pub(crate) type EndHandler =
    Arc<dyn for<'a> Fn(&'a mut PgConnection, &'a Append) -> Writing<'a> + Send + Sync>;

/// What hosts want to write with the end of a run, by namespace.
#[derive(Default)]
pub(crate) struct EndHandlers(RwLock<HashMap<i32, EndHandler>>);

impl EndHandlers {
    pub(crate) fn of(&self, ns: i32) -> Option<EndHandler> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&ns).cloned()
    }
}

impl fmt::Debug for EndHandlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EndHandlers")
    }
}

/// Calls a handler; an error of it, or a panic, fails the transaction.
pub(crate) async fn call(
    handler: &EndHandler,
    tx: &mut PgConnection,
    append: &Append,
) -> Result<(), Fault> {
    const OPERATION: &str = "append the end of a run";
    let failed = || StoreError::new(StoreErrorKind::Invalid, "host_write_failed", OPERATION);
    // A handler may panic before it answers with its future, or inside it.
    let writing = async { handler(tx, append).await };
    match AssertUnwindSafe(writing).catch_unwind().await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            let failed = failed().with_context(error.to_string()).with_source(error);
            let hint = "the host's own statement failed; nothing of this append was written";
            Err(failed.with_hint(hint).into())
        }
        Err(_panic) => {
            Err(failed().with_hint("the host's function panicked inside the transaction").into())
        }
    }
}

impl PostgresStore {
    /// Calls `handler` inside the transaction of every append that ends a run of this namespace.
    ///
    /// The handler runs before the commit, once for each end that is accepted: it must be short
    /// and write only, by the connection it is given. What it writes is there if and only if the
    /// end is. An error, or a panic, rolls that append back and fails its call with code
    /// `host_write_failed`; appends of other runs are not affected, but those of the same call are
    /// answered only when they are repeated. A later handler replaces the earlier one.
    ///
    /// Handlers belong to this handle and its clones: every process that drives runs sets them.
    pub fn on_end(
        &self,
        handler: impl for<'a> Fn(
            &'a mut PgConnection,
            &'a Append,
        ) -> Pin<Box<dyn Future<Output = sqlx::Result<()>> + Send + 'a>>
        + Send
        + Sync
        + 'static,
    ) {
        let handlers = &self.shared.handlers;
        let mut handlers = handlers.0.write().unwrap_or_else(PoisonError::into_inner);
        handlers.insert(self.ns, Arc::new(handler));
    }

    /// Starts runs, or sends requests, in a transaction of the host: they are there if and only if
    /// it commits.
    ///
    /// `tx` is a connection, or a dereferenced [`sqlx::Transaction`], with an open transaction at
    /// isolation level `READ COMMITTED`. A start key that another open transaction is about to
    /// take is waited for, up to the configured busy time. Workers are woken by the commit, where
    /// notifications are on. Keep the transaction short: what it starts or asks is locked.
    ///
    /// # Errors
    /// Code `postgres_busy`, or what [`submit`] reports; then roll the transaction back.
    ///
    /// [`submit`]: provision_core::store::StateStore::submit
    pub async fn start_in(
        &self,
        tx: &mut PgConnection,
        batch: &[Submission],
    ) -> Result<Vec<Submitted>, StoreError> {
        const OPERATION: &str = "start in the host's transaction";
        let db = &self.shared.db;
        let mut answers = Vec::with_capacity(batch.len());
        for submission in batch {
            let answer = submit::patiently(db, tx, self.ns, submission, OPERATION).await;
            answers.push(answer.map_err(|fault| fault.into_store(OPERATION))?);
        }
        if let Some(notify) = self.shared.stirred.notification(db) {
            db.run(tx, notify).await.map_err(|fault| fault.into_store(OPERATION))?;
        }
        Ok(answers)
    }
}
