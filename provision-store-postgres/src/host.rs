//! The host's own tables in the same database: written in the same transaction as a run's end, or
//! as its start, so that a crash leaves both or neither.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use futures_util::FutureExt as _;
use provision_core::{
    error::{StoreError, StoreErrorKind},
    store::{Append, Submission, Submitted},
};
use sqlx::PgConnection;
use tokio::time::timeout;

use crate::{
    error::{Fault, context, is_trouble},
    store::PostgresStore,
    submit,
};

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

/// A handler that takes longer has hung. It ends before the server's patience with the transaction
/// does, and holds up the appends of its process no longer.
const HANDLER_MAX: Duration = Duration::from_secs(5);

/// Calls a handler; an error of it, or a panic, fails the transaction.
pub(crate) async fn call(
    handler: &EndHandler,
    tx: &mut PgConnection,
    append: &Append,
) -> Result<(), Fault> {
    const OPERATION: &str = "append the end of a run";
    let failed = |hint: &'static str| {
        StoreError::new(StoreErrorKind::Invalid, "host_write_failed", OPERATION).with_hint(hint)
    };
    // A handler may panic before it answers with its future, or inside it.
    let writing = AssertUnwindSafe(async { handler(tx, append).await }).catch_unwind();
    match timeout(HANDLER_MAX, writing).await {
        Ok(Ok(Ok(()))) => Ok(()),
        // S18: the host has refused nothing.
        Ok(Ok(Err(error))) if is_trouble(&error) => Err(Fault::Sql(error)),
        Ok(Ok(Err(error))) => {
            let failed =
                failed("the host's own statement failed; nothing of this append was written");
            Err(match context(&error) {
                Some(context) => failed.with_context(context).into(),
                None => failed.into(),
            })
        }
        Ok(Err(_panic)) => {
            Err(failed("the host's function panicked inside the transaction").into())
        }
        Err(_over) => {
            let context = format!("it took longer than {} s", HANDLER_MAX.as_secs());
            let failed = failed("let the host's function write by its connection, and do no more");
            Err(failed.with_context(context).into())
        }
    }
}

impl PostgresStore {
    /// Calls `handler` inside the transaction of every append that ends a run of this namespace.
    ///
    /// The handler runs before the commit, once for each end that is accepted: it must be short
    /// and write only, by the connection it is given. What it writes is there if and only if the
    /// end is. An error, a panic, or more than 5 s rolls that append back and fails its call with
    /// code `host_write_failed`; appends of other runs are not affected, but those of the same call
    /// are answered only when they are repeated. Trouble of the server or the way there is no
    /// refusal: the append is repeated. A later handler replaces the earlier one.
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
    /// isolation level `READ COMMITTED`. A start key, business key, run or new kind of saga that
    /// another open transaction holds is waited for, up to the configured busy time; a run id that
    /// one is about to take, without limit. Workers are woken by the commit, where
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
