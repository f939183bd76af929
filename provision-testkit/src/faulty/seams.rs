//! Every seam of a store, through the plan.

use async_trait::async_trait;
use provision_core::{
    bucket::Bucket,
    error::StoreError,
    id::{RunId, Timestamp},
    ledger::{LedgerOp, LedgerReply},
    limit::{Admission, Ask, Limiter, Observed},
    queue::{Claim, Offer, Queue, QueueStats},
    retention::{Prune, PruneStep, RetentionStore, Tombstone, TombstoneQuery},
    secret::{Sealed, SecretKey, SecretStore},
    store::{
        Append, Appended, Incarnation, LeaseGrant, LeaseRequest, RunFilter, RunPage, RunRecord,
        StateStore, Submission, Submitted,
    },
};

use super::{Faulty, Op};

#[async_trait]
impl<S: StateStore> StateStore for Faulty<S> {
    async fn submit(&self, batch: &[Submission]) -> Result<Vec<Submitted>, StoreError> {
        self.through(Op::Submit, self.inner.submit(batch)).await
    }

    async fn append(&self, batch: &[Append]) -> Result<Vec<Appended>, StoreError> {
        self.through(Op::Append, self.inner.append(batch)).await
    }

    async fn load(&self, runs: &[RunId]) -> Result<Vec<Option<RunRecord>>, StoreError> {
        self.through(Op::Load, self.inner.load(runs)).await
    }

    async fn list(&self, filter: &RunFilter) -> Result<RunPage, StoreError> {
        self.through(Op::List, self.inner.list(filter)).await
    }

    async fn ledger(&self, ops: &[LedgerOp]) -> Result<Vec<LedgerReply>, StoreError> {
        self.through(Op::Ledger, self.inner.ledger(ops)).await
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<LeaseGrant, StoreError> {
        self.through(Op::Lease, self.inner.lease(request)).await
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        self.through(Op::Now, self.inner.now()).await
    }
}

#[async_trait]
impl<S: Queue> Queue for Faulty<S> {
    async fn offer(&self, offers: &[Offer]) -> Result<(), StoreError> {
        self.through(Op::Offer, self.inner.offer(offers)).await
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<RunId>, StoreError> {
        self.through(Op::Claim, self.inner.claim(claim)).await
    }

    async fn ack(&self, runs: &[RunId]) -> Result<(), StoreError> {
        self.through(Op::Ack, self.inner.ack(runs)).await
    }

    async fn wake(&self, runs: &[RunId]) -> Result<(), StoreError> {
        self.through(Op::Wake, self.inner.wake(runs)).await
    }

    async fn stats(&self) -> Result<QueueStats, StoreError> {
        self.through(Op::Stats, self.inner.stats()).await
    }
}

#[async_trait]
impl<S: Limiter> Limiter for Faulty<S> {
    async fn admit(&self, ask: &Ask) -> Result<Admission, StoreError> {
        self.through(Op::Admit, self.inner.admit(ask)).await
    }

    async fn observe(
        &self,
        bucket: &str,
        worker: Incarnation,
        seen: &Observed,
    ) -> Result<(), StoreError> {
        self.through(Op::Observe, self.inner.observe(bucket, worker, seen)).await
    }

    async fn look(&self, bucket: &str) -> Result<Bucket, StoreError> {
        self.through(Op::Look, self.inner.look(bucket)).await
    }
}

#[async_trait]
impl<S: SecretStore> SecretStore for Faulty<S> {
    async fn put(&self, key: &SecretKey, sealed: &Sealed) -> Result<Sealed, StoreError> {
        self.through(Op::Put, self.inner.put(key, sealed)).await
    }

    async fn replace(
        &self,
        key: &SecretKey,
        old: &Sealed,
        new: &Sealed,
    ) -> Result<bool, StoreError> {
        self.through(Op::Replace, self.inner.replace(key, old, new)).await
    }

    async fn get(&self, key: &SecretKey) -> Result<Option<Sealed>, StoreError> {
        self.through(Op::Get, self.inner.get(key)).await
    }

    async fn keys(&self, after: Option<&SecretKey>) -> Result<Vec<SecretKey>, StoreError> {
        self.through(Op::Keys, self.inner.keys(after)).await
    }

    async fn erase(&self, key: &SecretKey) -> Result<(), StoreError> {
        self.through(Op::Erase, self.inner.erase(key)).await
    }
}

#[async_trait]
impl<S: RetentionStore> RetentionStore for Faulty<S> {
    async fn prune(&self, prune: &Prune) -> Result<PruneStep, StoreError> {
        self.through(Op::Prune, self.inner.prune(prune)).await
    }

    async fn tombstones(&self, query: &TombstoneQuery) -> Result<Vec<Tombstone>, StoreError> {
        self.through(Op::Tombstones, self.inner.tombstones(query)).await
    }

    async fn forget(&self, ended_before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.through(Op::Forget, self.inner.forget(ended_before, limit)).await
    }
}
