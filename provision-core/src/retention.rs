//! Retention: what may be removed of runs that are over, and what stays known of them.
//!
//! Nothing is removed unless the host says so, by
//! [`EngineBuilder::retention`](crate::EngineBuilder::retention) or [`Engine::prune`](crate::Engine::prune).
//! A store removes a run only when all of this holds in the very transaction that removes it (S1):
//!
//! - it was rolled back or torn down, nobody holds it, and no request has made it due;
//! - its business key is free;
//! - every row of its ledger is gone and off the watch, and the ledger says what became of
//!   everything that a worker without a lease has seen;
//! - it is no dead letter, unless the host wants those removed, too (L5);
//! - the run that started it was removed before, and all of this holds for every run below it: a
//!   parent is torn down and driven again through its children. One with very many below it stays
//!   ([`Prune::FAMILY_MAX`]).
//!
//! A run that succeeded stays, and so does one that was rolled back and has kept something. The
//! ledger names resources alone: what a plain step has done (a record in a database, a setting, a
//! message) still stands after such an end, and only the journal says so and can undo it. A host that
//! will never tear such runs down says so by [`Retention::with_succeeded`].
//!
//! A run's journal, requests, ledger rows, sightings and sealed values go with it. What stays is a
//! [`Tombstone`].
//!
//! A worker that lost its lease long before, and learns only after the removal of something that it
//! had made, can still write down that it has seen it. The sighting is kept, and a sweep tells it as a
//! stray of a removed run, which only a person can delete. That is why runs are kept for an hour at
//! least.
//!
//! ```
//! use std::time::Duration;
//!
//! use provision_core::{
//!     Engine, MemoryStore, Saga, SagaId, executor::{Executor, HostDriven}, retention::Retention,
//! };
//!
//! const SEATS: SagaId<u32, u32> = SagaId::new("seats", 1);
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let saga = Saga::define(SEATS, |s| s.value("seats").input((), |n, ()| *n))?;
//! let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
//! let run = engine.start(SEATS, &4).key("acme").await?;
//! HostDriven.drive(&engine, run.id()).await?;
//!
//! // What this saga does leaves nothing that would have to be undone.
//! let month = Retention::keeping(Duration::from_secs(30 * 24 * 3_600)).with_succeeded(true);
//! assert_eq!(engine.prune(&month).await?.removed, 0);
//! tokio::time::advance(Duration::from_secs(31 * 24 * 3_600)).await;
//! assert_eq!(engine.prunable(&month).await?, 1);
//! assert_eq!(engine.prune(&month).await?.removed, 1);
//!
//! // The key stays known.
//! let again = engine.start(SEATS, &4).key("acme").await?;
//! assert_eq!(again.pruned().map(|tombstone| tombstone.run), Some(*run.id()));
//! assert_eq!(engine.run(run.id()).await.unwrap_err().code(), "pruned");
//! # Ok(())
//! # }
//! ```

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, ErrorKind, StoreError},
    id::{RunId, Timestamp},
    run::RunStatus,
    store::RunHead,
};

/// What stays known of a run that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// The run.
    pub run: RunId,
    /// Its start key.
    pub key: Option<String>,
    /// Name of its saga.
    pub saga: String,
    /// Version of its saga.
    pub version: u32,
    /// Hash of its input, compared when its start key comes again.
    pub input_hash: String,
    /// How it ended.
    pub status: RunStatus,
    /// When it was started.
    pub created_at: Timestamp,
    /// When it ended: the last time that anything about it changed.
    pub ended_at: Timestamp,
    /// When it was removed.
    pub pruned_at: Timestamp,
}

impl Tombstone {
    /// What stays of a run that is removed at this moment.
    #[must_use]
    pub fn of(head: &RunHead, pruned_at: Timestamp) -> Self {
        Self {
            run: head.id,
            key: head.key.clone(),
            saga: head.saga.name.clone(),
            version: head.saga.version,
            input_hash: head.input_hash.clone(),
            status: head.status,
            created_at: head.created_at,
            ended_at: head.updated_at,
            pruned_at,
        }
    }

    /// Whether a start with this saga and input is the start of that run (S2), of whichever version.
    #[must_use]
    pub fn is_of(&self, saga: &str, input_hash: &str) -> bool {
        self.saga == saga && self.input_hash == input_hash
    }
}

/// Which runs to remove, in one bounded step of a walk over all runs.
///
/// The walk goes by the ids of the runs, which is the order in which they were started, but for
/// children, whose ids have no order. A store begins to look at no further run once it has looked at
/// [`Prune::LOOKS_MAX`] of them, those below another one counted, or has removed [`Prune::limit`] runs
/// or [`Prune::FRAMES_MAX`] frames: appends that wait meanwhile wait for a moment, however much there
/// is to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prune {
    /// Only runs about which nothing has changed since this moment.
    pub ended_before: Timestamp,
    /// Only runs after this one, in the order of the walk; `None` begins it.
    pub after: Option<RunId>,
    /// At most so many; 0 means 100, and no store removes more than 1,000 in one call.
    pub limit: usize,
    /// Whether runs that succeeded, or that have kept something, are removed, too: whatever their
    /// plain steps have done still stands.
    pub succeeded: bool,
    /// Whether dead letters that nobody has looked at are removed, too.
    pub dead_letters: bool,
    /// Change nothing; answer what would be removed.
    pub dry_run: bool,
}

impl Prune {
    /// Runs after which a call looks at no further one.
    pub const LOOKS_MAX: usize = 1_000;
    /// A run stays when it, and those below it, are more than so many.
    pub const FAMILY_MAX: usize = 1_000;
    /// Frames after which a call removes no further run.
    pub const FRAMES_MAX: u64 = 2_000;

    /// The first step of a walk over the runs that ended before a moment; those that succeeded, and
    /// dead letters, stay.
    #[must_use]
    pub const fn before(ended_before: Timestamp) -> Self {
        Self {
            ended_before,
            after: None,
            limit: 0,
            succeeded: false,
            dead_letters: false,
            dry_run: false,
        }
    }

    /// Whether a run that stands so may be removed.
    #[must_use]
    pub const fn takes(&self, status: RunStatus) -> bool {
        match status {
            RunStatus::RolledBack | RunStatus::TornDown => true,
            RunStatus::Succeeded | RunStatus::PartlySucceeded | RunStatus::RolledBackKeeping => {
                self.succeeded
            }
            RunStatus::Running
            | RunStatus::Waiting
            | RunStatus::Unwinding
            | RunStatus::Paused
            | RunStatus::Parked => false,
        }
    }

    /// How many runs this step removes, at most.
    #[must_use]
    pub const fn most(&self) -> usize {
        match self.limit {
            0 => 100,
            1..=1_000 => self.limit,
            _ => 1_000,
        }
    }
}

/// What one step has removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneStep {
    /// The runs, in the order of the walk.
    pub runs: Vec<RunId>,
    /// Pass as `after` for the next step; `None` at the end of the walk.
    pub next: Option<RunId>,
}

/// Which tombstones to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TombstoneQuery {
    /// Those of these runs, in any order.
    Runs(Vec<RunId>),
    /// That of the run with this start key.
    Key(String),
    /// That of the run whose start key comes last, byte by byte, from one on and before another. A
    /// store finds it by an index, however many tombstones there are.
    LastKey {
        /// The first key that is looked at.
        from: String,
        /// The first one after those that are.
        below: String,
    },
}

/// Removes runs that are over: the part of a store that nobody needs to run sagas.
///
/// It is kept apart from [`StateStore`](crate::store::StateStore) because no run calls it, and so
/// that a role of a database can be denied what only this part does (X12).
#[async_trait]
pub trait RetentionStore: Debug + Send + Sync + 'static {
    /// Removes runs that may go, each whole or not at all, and leaves their tombstones.
    ///
    /// Whether a run may go is judged in the transaction that removes it, whatever was known before.
    ///
    /// # Errors
    /// Whether any of them was removed is not known; repeat it.
    async fn prune(&self, prune: &Prune) -> Result<PruneStep, StoreError>;

    /// Reads tombstones; runs without one are left out.
    ///
    /// # Errors
    /// The store cannot be read.
    async fn tombstones(&self, query: &TombstoneQuery) -> Result<Vec<Tombstone>, StoreError>;

    /// Forgets up to `limit` tombstones of runs that ended before a moment; answers how many. Their
    /// start keys are free then.
    ///
    /// # Errors
    /// Whether any was forgotten is not known; repeat it.
    async fn forget(&self, ended_before: Timestamp, limit: usize) -> Result<usize, StoreError>;
}

/// How long runs that are over are kept.
///
/// Times are counted from the end of a run, by the store's clock: the last time that anything about
/// it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    keep: Duration,
    forget_after: Option<Duration>,
    every: Duration,
    succeeded: bool,
    dead_letters: bool,
}

impl Retention {
    /// Shortest time for which a run is kept: those who wait for its outcome must find it, and a
    /// worker without a lease must have written down what it has seen.
    const KEEP_MIN: Duration = Duration::from_secs(3_600);

    /// Keeps a run for so long after its end, at least one hour; start keys stay known for ever.
    #[must_use]
    pub const fn keeping(keep: Duration) -> Self {
        Self {
            keep,
            forget_after: None,
            every: Duration::from_secs(3_600),
            succeeded: false,
            dead_letters: false,
        }
    }

    /// Forgets tombstones so long after the end of their runs, not before the runs are removed.
    /// Default: never.
    ///
    /// A start key that comes again after that starts a new run. It must be longer than anybody
    /// repeats a start, and than the longest time between two firings of a schedule.
    #[must_use]
    pub const fn with_forget_after(mut self, forget_after: Duration) -> Self {
        self.forget_after = Some(forget_after);
        self
    }

    /// How often a worker looks for runs that may go; default once an hour, at least every second.
    #[must_use]
    pub fn with_every(mut self, every: Duration) -> Self {
        self.every = every.max(Duration::from_secs(1));
        self
    }

    /// Whether runs are removed, too, that succeeded, wholly or in part, or that were rolled back and
    /// have kept something. Default: they stay until they are torn down.
    ///
    /// A removed run cannot be torn down any more. What its resources are is in the ledger, and keeps
    /// the run as long as they exist; what its plain steps have done is in its journal alone. Say this
    /// where nobody will ever want it undone.
    #[must_use]
    pub const fn with_succeeded(mut self, succeeded: bool) -> Self {
        self.succeeded = succeeded;
        self
    }

    /// Whether dead letters that nobody has looked at are removed, too. Default: they are kept until
    /// somebody resolves them.
    #[must_use]
    pub const fn with_dead_letters(mut self, dead_letters: bool) -> Self {
        self.dead_letters = dead_letters;
        self
    }

    /// How long a run is kept after its end.
    #[must_use]
    pub const fn keep(&self) -> Duration {
        self.keep
    }

    /// How long after the end of its run a tombstone is forgotten; `None`: never.
    #[must_use]
    pub const fn forget_after(&self) -> Option<Duration> {
        self.forget_after
    }

    /// How often a worker looks.
    #[must_use]
    pub const fn every(&self) -> Duration {
        self.every
    }

    /// Whether runs that succeeded are removed, too.
    #[must_use]
    pub const fn succeeded(&self) -> bool {
        self.succeeded
    }

    /// Whether dead letters are removed, too.
    #[must_use]
    pub const fn dead_letters(&self) -> bool {
        self.dead_letters
    }

    /// The first step of a walk at a moment of the store's clock.
    pub(crate) fn first(&self, now: Timestamp, dry_run: bool) -> Prune {
        let prune = Prune::before(before(now, self.keep));
        Prune { succeeded: self.succeeded, dead_letters: self.dead_letters, dry_run, ..prune }
    }

    /// The end before which tombstones are forgotten, if any are.
    pub(crate) fn forgets(&self, now: Timestamp) -> Option<Timestamp> {
        self.forget_after.map(|after| before(now, after))
    }

    /// Refuses what cannot be meant.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let refused = |what: &'static str| {
            Err(Error::new(ErrorKind::Invalid, "retention_range", "set the retention")
                .with_context(what))
        };
        if self.keep < Self::KEEP_MIN {
            return refused("runs are kept for one hour at least");
        }
        if self.forget_after.is_some_and(|after| after < self.keep) {
            return refused("a start key is forgotten before its run is removed");
        }
        Ok(())
    }
}

/// The moment `time` before another one.
fn before(now: Timestamp, time: Duration) -> Timestamp {
    // Times beyond what the clock can tell reach back to its beginning.
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Timestamp::from_millis(now.as_millis().saturating_sub(ms))
}

/// What became of retention.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneReport {
    /// Runs that were removed.
    pub removed: u64,
    /// Tombstones that were forgotten.
    pub forgotten: u64,
}

#[cfg(test)]
mod tests {
    use super::{Duration, Prune, Retention, RunStatus, Timestamp};

    #[test]
    fn a_retention_that_cannot_be_meant_is_refused() {
        let day = Duration::from_secs(24 * 3_600);
        assert!(Retention::keeping(day).check().is_ok());
        assert!(Retention::keeping(day).with_forget_after(day).check().is_ok());
        let refused = [
            Retention::keeping(Duration::from_secs(3_599)),
            Retention::keeping(day).with_forget_after(day / 2),
        ];
        for retention in refused {
            assert_eq!(retention.check().unwrap_err().code(), "retention_range");
        }
    }

    #[test]
    fn what_stands_is_removed_on_request_only() {
        let plain = Prune::before(Timestamp::ZERO);
        let all = Prune { succeeded: true, ..plain.clone() };
        for status in RunStatus::ALL {
            assert_eq!(all.takes(status), status.is_end(), "{status:?}");
            let undone = matches!(status, RunStatus::RolledBack | RunStatus::TornDown);
            assert_eq!(plain.takes(status), undone, "{status:?}");
        }
        let first = |retention: Retention| retention.first(Timestamp::ZERO, false).succeeded;
        let hour = Retention::keeping(Duration::from_secs(3_600));
        assert_eq!([first(hour.clone()), first(hour.with_succeeded(true))], [false, true]);
    }

    #[test]
    fn steps_are_bounded_and_times_reach_back_to_the_beginning() {
        let limits = [0, 1, 1_000, usize::MAX]
            .map(|limit| Prune { limit, ..Prune::before(Timestamp::ZERO) }.most());
        assert_eq!(limits, [100, 1, 1_000, 1_000]);
        let now = Timestamp::from_millis(90_000);
        let first = |keep| Retention::keeping(keep).first(now, false).ended_before;
        assert_eq!(first(Duration::from_secs(60)), Timestamp::from_millis(30_000));
        assert_eq!(first(Duration::MAX), Timestamp::ZERO);
    }
}
