//! The store that is always there: everything in memory, nothing durable.
//!
//! It serves tests, simulations and programs whose runs may end with the process. It keeps the
//! same promises as the durable stores (fences, leases, start keys, namespaces, the ledger) and
//! passes the same suites; what it lacks is a disk.

mod due;
mod lease;
mod ledger;
mod list;
mod queue;
mod retention;
mod tables;
mod write;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tokio::{sync::Notify, time::Instant};

use crate::{
    bucket::{Bucket, Standing},
    clock::{Clock as _, SystemClock},
    error::StoreError,
    id::{RunId, Timestamp},
    ledger::{LedgerOp, LedgerReply},
    limit::{Admission, Ask, Limiter, Observed},
    secret::{Sealed, SecretKey, SecretStore},
    store::{
        Append, Appended, Incarnation, LeaseGrant, LeaseRequest, RunFilter, RunPage, RunRecord,
        StateStore, Submission, Submitted,
    },
};

use tables::Tables;

/// Buckets kept before unused ones are dropped.
const BUCKETS_KEPT: usize = 4_096;
/// Keys one call of [`SecretStore::keys`] answers.
const KEYS_PAGE: usize = 1_000;
const DEFAULT_NAMESPACE: &str = "default";

type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Keeps runs, queue, limits, secrets and the ledger in memory, for as long as the process lives.
///
/// Cheap to clone; clones share everything. A crash of the process loses it all.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    space: Arc<Space>,
}

struct Shared {
    clock: Clock,
    spaces: Mutex<HashMap<String, Arc<Space>>>,
}

/// One namespace.
#[derive(Default)]
struct Space {
    /// A plain mutex: each call is short, computes only, and never holds it across an await.
    tables: Mutex<Tables>,
    /// Wakes claimants when a run came into the due index.
    stirred: Notify,
}

impl MemoryStore {
    /// Creates an empty store in the namespace `default`.
    ///
    /// Its clock is the system's at this moment plus what tokio's clock says has passed, so a
    /// paused runtime drives it.
    #[must_use]
    pub fn new() -> Self {
        let base = SystemClock.wall();
        let start = Instant::now();
        Self::with_clock(Arc::new(move || base.plus(start.elapsed())))
    }

    /// Creates an empty store that reads its time from `clock`, which must never go back.
    #[must_use]
    pub fn with_clock(clock: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        let space = Arc::new(Space::default());
        let spaces = HashMap::from([(DEFAULT_NAMESPACE.to_owned(), Arc::clone(&space))]);
        Self { shared: Arc::new(Shared { clock, spaces: Mutex::new(spaces) }), space }
    }

    /// A handle to another namespace of the same store; nothing of this one can be reached by it.
    #[must_use]
    pub fn in_namespace(&self, namespace: impl Into<String>) -> Self {
        let mut spaces = self.shared.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        let space = Arc::clone(spaces.entry(namespace.into()).or_default());
        Self { shared: Arc::clone(&self.shared), space }
    }

    /// Copies everything of this namespace into a store of its own, which goes on by `clock`.
    ///
    /// What happens in either is not seen in the other: a test can try several futures of one
    /// past. `clock` must not be behind this store's.
    #[must_use]
    pub fn fork(&self, clock: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        let copy = Self::with_clock(clock);
        let tables = self.tables().clone();
        *copy.tables() = tables;
        copy
    }

    /// Runs `work` on the tables; the clock is read under the lock, so time never goes back
    /// between two calls.
    fn read<T>(&self, work: impl FnOnce(&mut Tables, Timestamp) -> T) -> T {
        let mut tables = self.tables();
        let now = (self.shared.clock)();
        work(&mut tables, now)
    }

    /// Like [`Self::read`], and wakes claimants when a run came into the due index.
    fn write<T>(&self, work: impl FnOnce(&mut Tables, Timestamp) -> T) -> T {
        let mut tables = self.tables();
        let now = (self.shared.clock)();
        let out = work(&mut tables, now);
        let stirred = std::mem::take(&mut tables.stirred);
        drop(tables);
        if stirred {
            self.space.stirred.notify_waiters();
        }
        out
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // A panic inside a call leaves at worst a half-written row of a store nobody relies on
        // across a crash; refusing all other runs would help nobody.
        self.space.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.tables().runs.len();
        f.debug_struct("MemoryStore").field("runs", &runs).finish_non_exhaustive()
    }
}

#[async_trait]
impl StateStore for MemoryStore {
    async fn submit(&self, batch: &[Submission]) -> Result<Vec<Submitted>, StoreError> {
        Ok(self.write(|tables, now| batch.iter().map(|s| tables.submit(s, now)).collect()))
    }

    async fn append(&self, batch: &[Append]) -> Result<Vec<Appended>, StoreError> {
        Ok(self.write(|tables, now| batch.iter().map(|a| tables.append(a, now)).collect()))
    }

    async fn load(&self, runs: &[RunId]) -> Result<Vec<Option<RunRecord>>, StoreError> {
        Ok(self.read(|tables, _| {
            runs.iter().map(|run| tables.runs.get(run).map(tables::Row::record)).collect()
        }))
    }

    async fn list(&self, filter: &RunFilter) -> Result<RunPage, StoreError> {
        Ok(self.read(|tables, _| tables.list(filter)))
    }

    async fn ledger(&self, ops: &[LedgerOp]) -> Result<Vec<LedgerReply>, StoreError> {
        Ok(self.write(|tables, now| ops.iter().map(|op| tables.ledger_op(op, now)).collect()))
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<LeaseGrant, StoreError> {
        Ok(self.write(|tables, now| tables.lease(request, now)))
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        Ok(self.read(|_, now| now))
    }
}

#[async_trait]
impl Limiter for MemoryStore {
    async fn admit(&self, ask: &Ask) -> Result<Admission, StoreError> {
        Ok(self.read(|Tables { buckets, dead, alive, .. }, now| {
            if buckets.len() >= BUCKETS_KEPT {
                buckets.retain(|_, bucket| !bucket.is_idle(now));
            }
            let bucket = buckets.entry(ask.profile.bucket.clone()).or_default();
            bucket.admit(ask, now, |worker| match () {
                () if dead.contains(&worker) => Standing::Dead,
                () if alive.contains_key(&worker) => Standing::Alive,
                () => Standing::Unknown,
            })
        }))
    }

    async fn observe(
        &self,
        bucket: &str,
        worker: Incarnation,
        seen: &Observed,
    ) -> Result<(), StoreError> {
        self.read(|tables, now| {
            tables.buckets.entry(bucket.to_owned()).or_default().observe(worker, seen, now);
        });
        Ok(())
    }

    async fn look(&self, bucket: &str) -> Result<Bucket, StoreError> {
        Ok(self.read(|tables, _| tables.buckets.get(bucket).cloned().unwrap_or_default()))
    }
}

#[async_trait]
impl SecretStore for MemoryStore {
    async fn put(&self, key: &SecretKey, sealed: &Sealed) -> Result<Sealed, StoreError> {
        Ok(self.read(|tables, _| {
            tables.sealed.entry(key.clone()).or_insert_with(|| sealed.clone()).clone()
        }))
    }

    async fn replace(
        &self,
        key: &SecretKey,
        old: &Sealed,
        new: &Sealed,
    ) -> Result<bool, StoreError> {
        Ok(self.read(|tables, _| match tables.sealed.get_mut(key) {
            Some(held) if held == old => {
                held.clone_from(new);
                true
            }
            _ => false,
        }))
    }

    async fn get(&self, key: &SecretKey) -> Result<Option<Sealed>, StoreError> {
        Ok(self.read(|tables, _| tables.sealed.get(key).cloned()))
    }

    async fn keys(&self, after: Option<&SecretKey>) -> Result<Vec<SecretKey>, StoreError> {
        Ok(self.read(|tables, _| {
            let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
            let range = tables.sealed.range((from, std::ops::Bound::Unbounded));
            range.take(KEYS_PAGE).map(|(key, _)| key.clone()).collect()
        }))
    }

    async fn erase(&self, key: &SecretKey) -> Result<(), StoreError> {
        self.read(|tables, _| tables.sealed.remove(key));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
