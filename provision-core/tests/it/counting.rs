//! A store that counts what it is asked, and is a [`MemoryStore`] otherwise.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use provision_core::{
    MemoryStore, RunId, StoreError, Timestamp,
    ledger::{LedgerOp, LedgerReply},
    limit::{Admission, Ask, Limiter, Observed},
    queue::{Claim, Offer, Queue, QueueStats},
    secret::{Sealed, SecretKey, SecretStore},
    store::{
        Append, Appended, Incarnation, LeaseGrant, LeaseRequest, RunFilter, RunPage, RunRecord,
        StateStore, Submission, Submitted,
    },
};

/// Counts calls of every kind together. Cheap to clone; clones share the count.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counting {
    pub(crate) store: MemoryStore,
    calls: Arc<AtomicUsize>,
}

impl Counting {
    /// Calls since the last time this was asked.
    pub(crate) fn taken(&self) -> usize {
        self.calls.swap(0, Ordering::SeqCst)
    }

    fn counted(&self) -> &MemoryStore {
        self.calls.fetch_add(1, Ordering::SeqCst);
        &self.store
    }
}

#[async_trait]
impl StateStore for Counting {
    async fn submit(&self, batch: &[Submission]) -> Result<Vec<Submitted>, StoreError> {
        self.counted().submit(batch).await
    }

    async fn append(&self, batch: &[Append]) -> Result<Vec<Appended>, StoreError> {
        self.counted().append(batch).await
    }

    async fn load(&self, runs: &[RunId]) -> Result<Vec<Option<RunRecord>>, StoreError> {
        self.counted().load(runs).await
    }

    async fn list(&self, filter: &RunFilter) -> Result<RunPage, StoreError> {
        self.counted().list(filter).await
    }

    async fn ledger(&self, ops: &[LedgerOp]) -> Result<Vec<LedgerReply>, StoreError> {
        self.counted().ledger(ops).await
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<LeaseGrant, StoreError> {
        self.counted().lease(request).await
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        self.counted().now().await
    }
}

#[async_trait]
impl Queue for Counting {
    async fn offer(&self, offers: &[Offer]) -> Result<(), StoreError> {
        self.counted().offer(offers).await
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<RunId>, StoreError> {
        self.counted().claim(claim).await
    }

    async fn ack(&self, runs: &[RunId]) -> Result<(), StoreError> {
        self.counted().ack(runs).await
    }

    async fn wake(&self, runs: &[RunId]) -> Result<(), StoreError> {
        self.counted().wake(runs).await
    }

    async fn stats(&self) -> Result<QueueStats, StoreError> {
        self.counted().stats().await
    }
}

#[async_trait]
impl Limiter for Counting {
    async fn admit(&self, ask: &Ask) -> Result<Admission, StoreError> {
        self.counted().admit(ask).await
    }

    async fn observe(
        &self,
        bucket: &str,
        worker: Incarnation,
        seen: &Observed,
    ) -> Result<(), StoreError> {
        self.counted().observe(bucket, worker, seen).await
    }
}

#[async_trait]
impl SecretStore for Counting {
    async fn put(&self, key: &SecretKey, sealed: &Sealed) -> Result<Sealed, StoreError> {
        self.counted().put(key, sealed).await
    }

    async fn replace(
        &self,
        key: &SecretKey,
        old: &Sealed,
        new: &Sealed,
    ) -> Result<bool, StoreError> {
        self.counted().replace(key, old, new).await
    }

    async fn get(&self, key: &SecretKey) -> Result<Option<Sealed>, StoreError> {
        self.counted().get(key).await
    }

    async fn keys(&self, after: Option<&SecretKey>) -> Result<Vec<SecretKey>, StoreError> {
        self.counted().keys(after).await
    }

    async fn erase(&self, key: &SecretKey) -> Result<(), StoreError> {
        self.counted().erase(key).await
    }
}
