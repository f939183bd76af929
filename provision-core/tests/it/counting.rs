//! A store that counts what it is asked, and may be slow or out of order; else a [`MemoryStore`].

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use provision_core::{
    Data, MemoryStore, RunId, Saga, StoreError, Timestamp,
    bucket::Bucket,
    error::StoreErrorKind,
    ledger::{LedgerOp, LedgerReply},
    limit::{Admission, Ask, Limiter, Observed},
    queue::{Claim, Offer, Queue, QueueStats},
    retention::{Prune, PruneStep, RetentionStore, Tombstone, TombstoneQuery},
    secret::{Sealed, SecretKey, SecretStore},
    store::{
        Acquire, Append, Appended, Incarnation, LeaseGrant, LeaseRequest, Leased, RunFilter,
        RunPage, RunRecord, StateStore, Submission, Submitted,
    },
};
use uuid::Uuid;

/// What calls of one kind meet from now on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Road {
    #[default]
    Open,
    /// The answer travels so long.
    Slow(Duration),
    /// Nothing is done; the caller is told that it is not known.
    Down,
    /// Nothing is done; the caller is told that it never will be.
    Refused,
}

#[derive(Debug, Default)]
struct Seen {
    late: Duration,
    /// Submissions under way, which land whoever waits for them.
    landing: tokio::task::JoinSet<()>,
    counts: HashMap<&'static str, usize>,
    roads: HashMap<&'static str, Road>,
    workers: BTreeSet<Uuid>,
}

/// Counts calls, by name of the method; renewals of leases count as `renew`. Cheap to clone;
/// clones share everything.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counting {
    pub(crate) store: MemoryStore,
    seen: Arc<Mutex<Seen>>,
}

impl Counting {
    /// Calls of all kinds since the last time this was asked.
    pub(crate) fn taken(&self) -> usize {
        std::mem::take(&mut self.seen.lock().unwrap().counts).into_values().sum()
    }

    /// Calls of one kind since [`Self::taken`] was asked.
    pub(crate) fn count(&self, kind: &str) -> usize {
        self.seen.lock().unwrap().counts.get(kind).copied().unwrap_or_default()
    }

    /// How many incarnations have asked for leases.
    pub(crate) fn workers(&self) -> usize {
        self.seen.lock().unwrap().workers.len()
    }

    /// Sets what calls of one kind meet from now on.
    pub(crate) fn set(&self, kind: &'static str, road: Road) {
        self.seen.lock().unwrap().roads.insert(kind, road);
    }

    /// New runs land so much later, whether their sender is still there or not.
    pub(crate) fn hold_back(&self, late: Duration) {
        self.seen.lock().unwrap().late = late;
    }

    async fn go<T>(
        &self,
        kind: &'static str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let road = {
            let mut seen = self.seen.lock().unwrap();
            *seen.counts.entry(kind).or_default() += 1;
            seen.roads.get(kind).copied().unwrap_or_default()
        };
        match road {
            Road::Open => call.await,
            Road::Slow(time) => {
                let answer = call.await;
                provision_core::clock::sleep(time).await;
                answer
            }
            Road::Down => Err(StoreError::unavailable(kind)),
            Road::Refused => Err(StoreError::new(StoreErrorKind::Damaged, "refused", kind)),
        }
    }
}

impl Counting {
    /// Leases the one due run of a saga, as a worker that nobody has heard of.
    pub(crate) async fn lease_by_hand<I: Data, O: Data>(&self, saga: &Saga<I, O>) -> Leased {
        let request = LeaseRequest {
            acquire: Some(Acquire {
                limit: 1,
                runs: None,
                queues: Vec::new(),
                code: vec![saga.saga_ref().clone()],
                caps: provision_core::caps::Caps::default(),
            }),
            ..self.by_hand(Incarnation(Uuid::from_u128(7)), false)
        };
        for _ in 0..100_000 {
            if let Some(leased) = self.store.lease(&request).await.unwrap().leased.pop() {
                return leased;
            }
            provision_core::clock::sleep(Duration::from_secs(1)).await;
        }
        panic!("no run was due");
    }

    /// Ends such a worker in order.
    pub(crate) async fn retire_by_hand(&self, worker: Incarnation) {
        self.store.lease(&self.by_hand(worker, true)).await.unwrap();
    }

    fn by_hand(&self, worker: Incarnation, retire: bool) -> LeaseRequest {
        LeaseRequest {
            worker,
            ttl: Duration::from_secs(15),
            acquire: None,
            release: Vec::new(),
            strangers: Vec::new(),
            dead: Vec::new(),
            retire,
        }
    }
}

#[async_trait]
impl StateStore for Counting {
    async fn submit(&self, batch: &[Submission]) -> Result<Vec<Submitted>, StoreError> {
        let late = self.seen.lock().unwrap().late;
        if late.is_zero() || !batch.iter().any(|one| matches!(one, Submission::Run(_))) {
            return self.go("submit", self.store.submit(batch)).await;
        }
        // Who sent it may be gone when it lands.
        let (store, batch) = (self.store.clone(), batch.to_vec());
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.seen.lock().unwrap().landing.spawn(async move {
            provision_core::clock::sleep(late).await;
            drop(answer.send(store.submit(&batch).await));
        });
        answered.await.unwrap()
    }

    async fn append(&self, batch: &[Append]) -> Result<Vec<Appended>, StoreError> {
        let framed = batch.iter().any(|append| append.frame.is_some());
        self.go(if framed { "append frame" } else { "append row" }, self.store.append(batch)).await
    }

    async fn load(&self, runs: &[RunId]) -> Result<Vec<Option<RunRecord>>, StoreError> {
        self.go("load", self.store.load(runs)).await
    }

    async fn list(&self, filter: &RunFilter) -> Result<RunPage, StoreError> {
        self.go("list", self.store.list(filter)).await
    }

    async fn ledger(&self, ops: &[LedgerOp]) -> Result<Vec<LedgerReply>, StoreError> {
        self.go("ledger", self.store.ledger(ops)).await
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<LeaseGrant, StoreError> {
        self.seen.lock().unwrap().workers.insert(request.worker.0);
        let renews = request.acquire.is_none() && !request.retire;
        self.go(if renews { "renew" } else { "lease" }, self.store.lease(request)).await
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        self.go("now", self.store.now()).await
    }
}

#[async_trait]
impl Queue for Counting {
    async fn offer(&self, offers: &[Offer]) -> Result<(), StoreError> {
        self.go("offer", self.store.offer(offers)).await
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<RunId>, StoreError> {
        self.go("claim", self.store.claim(claim)).await
    }

    async fn ack(&self, runs: &[RunId]) -> Result<(), StoreError> {
        self.go("ack", self.store.ack(runs)).await
    }

    async fn wake(&self, runs: &[RunId]) -> Result<(), StoreError> {
        self.go("wake", self.store.wake(runs)).await
    }

    async fn stats(&self) -> Result<QueueStats, StoreError> {
        self.go("stats", self.store.stats()).await
    }
}

#[async_trait]
impl Limiter for Counting {
    async fn admit(&self, ask: &Ask) -> Result<Admission, StoreError> {
        self.go("admit", self.store.admit(ask)).await
    }

    async fn observe(
        &self,
        bucket: &str,
        worker: Incarnation,
        seen: &Observed,
    ) -> Result<(), StoreError> {
        self.go("observe", self.store.observe(bucket, worker, seen)).await
    }

    async fn look(&self, bucket: &str) -> Result<Bucket, StoreError> {
        self.go("look", self.store.look(bucket)).await
    }
}

#[async_trait]
impl SecretStore for Counting {
    async fn put(&self, key: &SecretKey, sealed: &Sealed) -> Result<Sealed, StoreError> {
        self.go("put", self.store.put(key, sealed)).await
    }

    async fn replace(
        &self,
        key: &SecretKey,
        old: &Sealed,
        new: &Sealed,
    ) -> Result<bool, StoreError> {
        self.go("replace", self.store.replace(key, old, new)).await
    }

    async fn get(&self, key: &SecretKey) -> Result<Option<Sealed>, StoreError> {
        self.go("get", self.store.get(key)).await
    }

    async fn keys(&self, after: Option<&SecretKey>) -> Result<Vec<SecretKey>, StoreError> {
        self.go("keys", self.store.keys(after)).await
    }

    async fn erase(&self, key: &SecretKey) -> Result<(), StoreError> {
        self.go("erase", self.store.erase(key)).await
    }
}

#[async_trait]
impl RetentionStore for Counting {
    async fn prune(&self, prune: &Prune) -> Result<PruneStep, StoreError> {
        self.go("prune", self.store.prune(prune)).await
    }

    async fn tombstones(&self, query: &TombstoneQuery) -> Result<Vec<Tombstone>, StoreError> {
        self.go("tombstones", self.store.tombstones(query)).await
    }

    async fn forget(&self, ended_before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.go("forget", self.store.forget(ended_before, limit)).await
    }
}
