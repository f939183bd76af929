//! The host's own tables in the same file: written in the same transaction as a run's end, or as
//! its start, so that a crash leaves both or neither.

use std::{
    collections::HashMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError},
};

use provision_core::{
    error::{StoreError, StoreErrorKind},
    run::RunStatus,
    store::{Append, Appended, Submission, Submitted},
};
use rusqlite::{Connection, ErrorCode, Transaction};

use crate::{append::Prepared, error::Fault, store::SqliteStore, unit::Unit};

type EndHandler = Arc<dyn Fn(&Transaction<'_>, &Append) -> rusqlite::Result<()> + Send + Sync>;

/// What hosts want to write with the end of a run, by namespace.
#[derive(Default)]
pub(crate) struct EndHandlers(HashMap<i64, EndHandler>);

impl fmt::Debug for EndHandlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EndHandlers").field(&self.0.len()).finish()
    }
}

fn host_failed(operation: &'static str, error: rusqlite::Error) -> StoreError {
    StoreError::new(StoreErrorKind::Invalid, "host_write_failed", operation)
        .with_context(error.to_string())
        .with_hint("the host's own statement failed; nothing of this call was written")
        .with_source(error)
}

/// What a host's function answered, sorted: the store's own trouble, met inside it, is told as what
/// it is, so that whoever called tries again (S18); the rest is the host's.
fn checked<T>(
    tx: &Transaction<'_>,
    operation: &'static str,
    answer: rusqlite::Result<T>,
) -> Result<Result<T, StoreError>, Fault> {
    match answer {
        Err(error) if tx.is_autocommit() || is_store_trouble(&error) => Err(Fault::Sql(error)),
        // A function that hides such an error, or ends the transaction itself.
        Ok(_) if tx.is_autocommit() => Err(rolled_back(operation).into()),
        answer => Ok(answer.map_err(|error| host_failed(operation, error))),
    }
}

fn is_store_trouble(error: &rusqlite::Error) -> bool {
    use ErrorCode::{DatabaseBusy, DatabaseCorrupt, DiskFull, OutOfMemory, SystemIoFailure};
    matches!(
        error.sqlite_error_code(),
        Some(DiskFull | SystemIoFailure | OutOfMemory | DatabaseBusy | DatabaseCorrupt)
    )
}

fn rolled_back(operation: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "sqlite_rolled_back", operation)
        .with_context("the transaction was over when the host's function came back")
        .with_hint("let the function return the errors of its statements, and leave commits alone")
}

impl SqliteStore {
    /// Calls `handler` inside the transaction of every append that ends a run of this namespace.
    ///
    /// The handler runs before the commit, once for each end that is accepted, on the writer's
    /// thread: it must be short and write only. What it writes is there if and only if the end is.
    /// An error, or a panic, rolls that append back and fails its call with code
    /// `host_write_failed`; appends of other runs are not affected, but those of the same call are
    /// answered only when they are repeated. A full disk and other trouble of the store, met inside
    /// the handler, is reported as such and the append tried again: the handler must return the
    /// errors of its statements. A later handler replaces the earlier one.
    pub fn on_end(
        &self,
        handler: impl Fn(&Transaction<'_>, &Append) -> rusqlite::Result<()> + Send + Sync + 'static,
    ) {
        let mut handlers = self.shared.handlers.write().unwrap_or_else(PoisonError::into_inner);
        handlers.0.insert(self.ns(), Arc::new(handler));
    }

    /// Reads the host's own tables on a connection that cannot write.
    ///
    /// # Errors
    /// What the query reports, sorted like the store's own errors.
    pub async fn query_host<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.read("query the host's tables", move |conn| Ok(query(conn)?)).await
    }

    /// Writes the host's own tables, or makes them, in a transaction of its own.
    ///
    /// # Errors
    /// Code `host_write_failed`; nothing was written.
    pub async fn execute_host<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        const OPERATION: &str = "write the host's tables";
        let work = move |unit: &mut Unit<'_>| {
            let answer = write(unit.tx);
            Ok(checked(unit.tx, OPERATION, answer)??)
        };
        self.shared.writer.alone(OPERATION, work).await
    }

    /// Submits runs and requests together with the host's own rows: all or nothing.
    ///
    /// `write` sees the answers before the commit, so it can refuse, with any error, what it does
    /// not want; then nothing is stored.
    ///
    /// # Errors
    /// Code `host_write_failed`, or what [`submit`] reports; nothing was written.
    ///
    /// [`submit`]: provision_core::store::StateStore::submit
    pub async fn submit_with_host<T: Send + 'static>(
        &self,
        batch: Vec<Submission>,
        write: impl FnOnce(&Transaction<'_>, &[Submitted]) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<(Vec<Submitted>, T), StoreError> {
        const OPERATION: &str = "submit with the host's rows";
        let ns = self.ns();
        let work = move |unit: &mut Unit<'_>| {
            let answers: Vec<_> =
                batch.iter().map(|one| unit.submit(ns, one)).collect::<Result<_, _>>()?;
            let wrote = write(unit.tx, &answers);
            Ok((answers, checked(unit.tx, OPERATION, wrote)??))
        };
        self.shared.writer.alone(OPERATION, work).await
    }
}

impl Unit<'_> {
    /// Writes a batch; an end whose host refuses it is rolled back alone, and fails the call after
    /// its other appends have been written (a repeat finds them).
    pub(crate) fn append_all(
        &mut self,
        ns: i64,
        batch: &[Prepared],
    ) -> Result<Result<Vec<Appended>, StoreError>, Fault> {
        let mut answers = Ok(Vec::with_capacity(batch.len()));
        for prepared in batch {
            let append = &prepared.append;
            let handler = self.handlers.0.get(&ns).filter(|_| append.status.is_end()).cloned();
            // What is written to a run that is over already is no end.
            let handler = match handler {
                Some(handler) if !self.status(ns, &append.run)?.is_some_and(RunStatus::is_end) => {
                    Some(handler)
                }
                _ => None,
            };
            let answer = match handler {
                None => Ok(self.append(ns, prepared)?),
                Some(handler) => self.append_end(ns, prepared, &handler)?,
            };
            match (answer, &mut answers) {
                (Ok(answer), Ok(answers)) => answers.push(answer),
                (Err(error), answers @ Ok(_)) => *answers = Err(error),
                (_, Err(_)) => {}
            }
        }
        Ok(answers)
    }

    fn append_end(
        &mut self,
        ns: i64,
        prepared: &Prepared,
        handler: &EndHandler,
    ) -> Result<Result<Appended, StoreError>, Fault> {
        const OPERATION: &str = "append the end of a run";
        self.tx.execute_batch("SAVEPOINT provision_end")?;
        let before = self.appends();
        let answer = self.append(ns, prepared)?;
        let mut refused = None;
        if self.appends() > before {
            // A repeat of an end that is written already wrote the host's row with it.
            let called = catch_unwind(AssertUnwindSafe(|| handler(self.tx, &prepared.append)));
            refused = match called {
                Ok(answer) => checked(self.tx, OPERATION, answer)?.err(),
                Err(_panic) if self.tx.is_autocommit() => {
                    return Err(rolled_back(OPERATION).into());
                }
                Err(_panic) => Some(
                    StoreError::new(StoreErrorKind::Invalid, "host_write_failed", OPERATION)
                        .with_hint("the host's function panicked inside the transaction"),
                ),
            };
        }
        if refused.is_some() {
            self.tx.execute_batch("ROLLBACK TO provision_end")?;
            // A lane that was made since is gone with it.
            self.caches.forget();
            self.uncount_append();
        }
        self.tx.execute_batch("RELEASE provision_end")?;
        Ok(refused.map_or(Ok(answer), Err))
    }
}
