//! The two layers between a worker and its store: the network, which fails, and the witness, who
//! writes down what the store really answered.
//!
//! The network lies above the witness: what was applied and never answered is known to it.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use provision_core::{
    MemoryStore, RunId, StoreError, Timestamp,
    bucket::Bucket,
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

use super::{
    Plant,
    gate::Gate,
    state::{Sim, unreachable_store},
};

/// What one life of one worker sees of the store.
pub(super) struct SimStore {
    pub(super) sim: Arc<Sim>,
    pub(super) gate: Arc<Gate>,
    pub(super) life: usize,
    /// The store, with what is planted in it.
    pub(super) under: Arc<dyn StateStore>,
    pub(super) memory: MemoryStore,
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimStore").field("life", &self.life).finish_non_exhaustive()
    }
}

impl SimStore {
    /// One call over the network: delayed, lost before it is applied, or lost afterwards.
    async fn over<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.gate.seam().await;
        let (before, after, error) = self.sim.store_weather(self.life);
        self.wait(before).await;
        if error == Some(false) {
            return Err(unreachable_store(operation));
        }
        self.gate.seam().await;
        let answer = call.await;
        self.gate.seam().await;
        self.wait(after).await;
        self.gate.pass().await;
        if error == Some(true) {
            return Err(unreachable_store(operation));
        }
        answer
    }

    async fn wait(&self, time: Duration) {
        if !time.is_zero() {
            provision_core::clock::sleep(time).await;
        }
        self.gate.pass().await;
    }
}

#[async_trait]
impl StateStore for SimStore {
    async fn submit(&self, batch: &[Submission]) -> Result<Vec<Submitted>, StoreError> {
        self.over("submit", async {
            let answers = self.under.submit(batch).await?;
            self.sim.with(|state, now| state.submitted(now, batch, &answers));
            Ok(answers)
        })
        .await
    }

    async fn append(&self, batch: &[Append]) -> Result<Vec<Appended>, StoreError> {
        self.over("append", async {
            let answers = self.under.append(batch).await?;
            self.sim.with(|state, now| {
                for (append, answer) in batch.iter().zip(&answers) {
                    state.appended(now, append, answer);
                }
            });
            Ok(answers)
        })
        .await
    }

    async fn load(&self, runs: &[RunId]) -> Result<Vec<Option<RunRecord>>, StoreError> {
        self.over("load", async {
            let records = self.under.load(runs).await?;
            self.sim.with(|state, now| {
                for record in records.iter().flatten() {
                    state.compare(now, record);
                }
            });
            Ok(records)
        })
        .await
    }

    async fn list(&self, filter: &RunFilter) -> Result<RunPage, StoreError> {
        self.over("list", self.under.list(filter)).await
    }

    async fn ledger(&self, ops: &[LedgerOp]) -> Result<Vec<LedgerReply>, StoreError> {
        self.over("ledger", self.under.ledger(ops)).await
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<LeaseGrant, StoreError> {
        self.over("lease", async {
            let grant = self.under.lease(request).await?;
            self.sim.with(|state, now| state.leased(now, self.life, request, &grant));
            Ok(grant)
        })
        .await
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        self.over("now", self.under.now()).await
    }
}

#[async_trait]
impl Queue for SimStore {
    async fn offer(&self, offers: &[Offer]) -> Result<(), StoreError> {
        self.over("offer", self.memory.offer(offers)).await
    }

    /// Proposals are lost, doubled and invented; the wait is not.
    async fn claim(&self, claim: &Claim) -> Result<Vec<RunId>, StoreError> {
        self.gate.pass().await;
        let lost = self.sim.with(|state, _| {
            let percent = state.weather.queue;
            state.rng.chance(percent)
        });
        if lost || self.sim.is_planted(Plant::QueueLosesAll) {
            provision_core::clock::sleep(claim.wait).await;
            self.gate.pass().await;
            return Ok(Vec::new());
        }
        let mut runs = self.memory.claim(claim).await?;
        self.gate.pass().await;
        let doubled = self.sim.with(|state, _| {
            let percent = state.weather.queue;
            state.rng.chance(percent)
        });
        if doubled {
            runs.extend(runs.clone());
        }
        Ok(runs)
    }

    async fn ack(&self, runs: &[RunId]) -> Result<(), StoreError> {
        self.over("ack", self.memory.ack(runs)).await
    }

    async fn wake(&self, runs: &[RunId]) -> Result<(), StoreError> {
        self.over("wake", self.memory.wake(runs)).await
    }

    async fn stats(&self) -> Result<QueueStats, StoreError> {
        self.memory.stats().await
    }
}

#[async_trait]
impl Limiter for SimStore {
    async fn admit(&self, ask: &Ask) -> Result<Admission, StoreError> {
        self.over("admit", async {
            let answer = if self.sim.is_planted(Plant::LimiterIsDeaf) {
                Admission::Now { calls: 1 }
            } else {
                self.memory.admit(ask).await?
            };
            self.sim.with(|state, now| {
                let bucket = &ask.profile.bucket;
                let paused = state.witness.pauses.get(bucket).is_some_and(|until| now < *until);
                if paused && matches!(answer, Admission::Now { .. }) {
                    // L4: what a provider asked for is never shortened.
                    state.violated(now, "L4", format!("a call on {bucket} during its pause"));
                }
            });
            Ok(answer)
        })
        .await
    }

    async fn observe(
        &self,
        bucket: &str,
        worker: Incarnation,
        seen: &Observed,
    ) -> Result<(), StoreError> {
        self.over("observe", async {
            self.memory.observe(bucket, worker, seen).await?;
            if let Some(pause) = seen.pause {
                self.sim.with(|state, now| {
                    let until = state.witness.pauses.entry(bucket.to_owned()).or_default();
                    *until = (*until).max(now.plus(pause));
                });
            }
            Ok(())
        })
        .await
    }

    async fn look(&self, bucket: &str) -> Result<Bucket, StoreError> {
        self.over("look", self.memory.look(bucket)).await
    }
}

#[async_trait]
impl SecretStore for SimStore {
    async fn put(&self, key: &SecretKey, sealed: &Sealed) -> Result<Sealed, StoreError> {
        self.over("put", self.memory.put(key, sealed)).await
    }

    async fn replace(
        &self,
        key: &SecretKey,
        old: &Sealed,
        new: &Sealed,
    ) -> Result<bool, StoreError> {
        self.over("replace", self.memory.replace(key, old, new)).await
    }

    async fn get(&self, key: &SecretKey) -> Result<Option<Sealed>, StoreError> {
        self.over("get", self.memory.get(key)).await
    }

    async fn keys(&self, after: Option<&SecretKey>) -> Result<Vec<SecretKey>, StoreError> {
        self.over("keys", self.memory.keys(after)).await
    }

    async fn erase(&self, key: &SecretKey) -> Result<(), StoreError> {
        self.over("erase", self.memory.erase(key)).await
    }
}

#[async_trait]
impl RetentionStore for SimStore {
    async fn prune(&self, prune: &Prune) -> Result<PruneStep, StoreError> {
        self.over("prune", self.memory.prune(prune)).await
    }

    async fn tombstones(&self, query: &TombstoneQuery) -> Result<Vec<Tombstone>, StoreError> {
        self.over("tombstones", self.memory.tombstones(query)).await
    }

    async fn forget(&self, ended_before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.over("forget", self.memory.forget(ended_before, limit)).await
    }
}
