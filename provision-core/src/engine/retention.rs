//! Retention, as workers and hosts ask for it.

use std::time::Duration;

use super::{Engine, no_such_run};
use crate::{
    clock,
    error::{Error, ErrorKind},
    id::{RunId, Timestamp},
    metric,
    retention::{Prune, PruneReport, Retention, Tombstone, TombstoneQuery},
};

/// Between two steps of a walk, so that runs under way find the store free.
const PAUSE: Duration = Duration::from_millis(100);
/// Tombstones forgotten in one step.
const FORGOTTEN: usize = 200;

impl Engine {
    /// Removes runs that are over and have been kept for long enough, in small steps with pauses,
    /// until none is left that may go. [`crate::retention`] says which may.
    ///
    /// Workers do this by themselves where the engine was built with
    /// [`EngineBuilder::retention`](crate::EngineBuilder::retention). Safe to cancel, and safe to run
    /// at the same time on any number of machines: each run is removed whole or not at all.
    ///
    /// # Errors
    /// The retention is outside its range (kind `Invalid`), or the store cannot be reached: what was
    /// removed until then stays removed.
    pub async fn prune(&self, retention: &Retention) -> Result<PruneReport, Error> {
        retention.check()?;
        let now = self.inner.store.now().await?;
        let mut report = PruneReport::default();
        loop {
            let removed = self.walk(retention.first(now, false)).await?;
            report.removed = report.removed.saturating_add(removed);
            // Children go once their parents are gone, and may come earlier in the walk.
            if removed == 0 {
                break;
            }
        }
        if let Some(before) = retention.forgets(now) {
            report.forgotten = self.forget(before).await?;
        }
        if report != PruneReport::default() {
            let PruneReport { removed, forgotten } = report;
            tracing::info!(removed, forgotten, "runs that were over were removed");
        }
        Ok(report)
    }

    /// Counts the runs that one walk of [`Engine::prune`] would remove, and changes nothing. Runs
    /// whose parents are among them would go with the next walk, and are not counted.
    ///
    /// # Errors
    /// As of [`Engine::prune`].
    pub async fn prunable(&self, retention: &Retention) -> Result<u64, Error> {
        retention.check()?;
        let now = self.inner.store.now().await?;
        self.walk(retention.first(now, true)).await
    }

    async fn walk(&self, mut prune: Prune) -> Result<u64, Error> {
        let mut removed = 0_u64;
        loop {
            let pruned = self.inner.retention_store.prune(&prune).await?;
            let count = pruned.runs.len() as u64;
            removed = removed.saturating_add(count);
            if count > 0 && !prune.dry_run {
                metric::count(metric::RUNS_PRUNED, count, &[]);
            }
            if pruned.next.is_none() {
                return Ok(removed);
            }
            prune.after = pruned.next;
            clock::sleep(PAUSE).await;
        }
    }

    async fn forget(&self, before: Timestamp) -> Result<u64, Error> {
        let mut forgotten = 0_u64;
        loop {
            let count = self.inner.retention_store.forget(before, FORGOTTEN).await?;
            forgotten = forgotten.saturating_add(count as u64);
            if count < FORGOTTEN {
                return Ok(forgotten);
            }
            clock::sleep(PAUSE).await;
        }
    }

    /// What is known of a run that was removed; `None` of one that is there, and of one that never
    /// was, or whose tombstone is forgotten.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn tombstone(&self, run: &RunId) -> Result<Option<Tombstone>, Error> {
        let query = TombstoneQuery::Runs(vec![*run]);
        Ok(self.inner.retention_store.tombstones(&query).await?.pop())
    }

    /// The error about a run that is not there: it was removed, or there is no such run.
    pub(crate) async fn absent(&self, run: &RunId) -> Error {
        match self.tombstone(run).await {
            Ok(Some(tombstone)) => pruned(&tombstone),
            Ok(None) => no_such_run(run),
            Err(error) => error,
        }
    }
}

/// The error about a run that was removed.
pub(crate) fn pruned(tombstone: &Tombstone) -> Error {
    let Tombstone { run, status, ended_at, pruned_at, .. } = tombstone;
    Error::new(ErrorKind::NotFound, "pruned", "look up a run")
        .with_context(format!(
            "run {run} ended as {} at {} and was removed at {}, in milliseconds since 1970",
            status.as_str(),
            ended_at.as_millis(),
            pruned_at.as_millis(),
        ))
        .with_hint("nothing of it is left but its tombstone; start a run under another key")
}
