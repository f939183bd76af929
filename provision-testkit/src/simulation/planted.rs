//! Stores that break one promise each. Every one of these bugs must be found.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use provision_core::{
    MemoryStore, ResourceState, RunId, StoreError, Timestamp,
    ledger::{LedgerOp, LedgerReply},
    run::journal::Record,
    store::{
        Append, Appended, Fence, LeaseGrant, LeaseRequest, Leased, RunFilter, RunPage, RunRecord,
        StateStore, Submission, Submitted,
    },
};

use crate::rng::Rng;

use super::Plant;

/// The memory store with one bug in it.
pub(super) struct Planted {
    memory: MemoryStore,
    plant: Option<Plant>,
    state: Mutex<Bug>,
}

#[derive(Debug)]
struct Bug {
    rng: Rng,
    /// The newest lease of every run, as the store knows it.
    fences: BTreeMap<RunId, Fence>,
    /// Incarnations that asked for leases.
    workers: Vec<provision_core::store::Incarnation>,
}

impl fmt::Debug for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Planted").field("plant", &self.plant).finish_non_exhaustive()
    }
}

impl Planted {
    pub(super) fn new(memory: &MemoryStore, plant: Option<Plant>, rng: Rng) -> Arc<Self> {
        let state = Bug { rng, fences: BTreeMap::new(), workers: Vec::new() };
        Arc::new(Self { memory: memory.clone(), plant, state: Mutex::new(state) })
    }

    fn is(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    fn bug(&self) -> MutexGuard<'_, Bug> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn strikes(&self, plant: Plant, percent: u64) -> bool {
        self.is(plant) && self.bug().rng.chance(percent)
    }

    /// What the store makes of an append before it writes it.
    fn spoilt(&self, append: &Append) -> Append {
        let mut append = append.clone();
        if self.is(Plant::LedgerForgetsIntents) {
            append.ledger.retain(|row| row.state != ResourceState::Unknown);
        }
        if self.strikes(Plant::LosesTimers, 15)
            && let Some(release) = &mut append.release
        {
            release.due = Timestamp::NEVER;
        }
        if self.is(Plant::EpochsStandStill) {
            append.fence = self.bug().fences.get(&append.run).copied().unwrap_or(append.fence);
        }
        let torn = self.strikes(Plant::TearsFrames, 20);
        let turned = self.strikes(Plant::ReordersRecords, 20);
        if let Some(body) = append.frame.as_ref().filter(|_| torn || turned)
            && let Ok(mut records) = Record::decode(body)
            && records.len() > 1
        {
            if torn {
                records.truncate(1);
            } else {
                records.reverse();
            }
            append.frame = Record::encode(&records).ok().or(append.frame);
        }
        append
    }

    async fn append_one(&self, append: &Append) -> Result<Appended, StoreError> {
        let applied = Appended::Applied { requests: 0, lease_lost: false };
        if append.frame.is_some() && self.strikes(Plant::LosesAppends, 5) {
            return Ok(applied);
        }
        let append = self.spoilt(append);
        let answer = self.write(&append).await?;
        if answer == Appended::Stale && self.is(Plant::TakesStaleWrites) {
            return self.force(append).await;
        }
        if matches!(answer, Appended::Applied { .. }) && self.strikes(Plant::AppendsTwice, 10) {
            self.write(&Append { seq: append.seq + 1, ..append }).await?;
        }
        Ok(answer)
    }

    async fn write(&self, append: &Append) -> Result<Appended, StoreError> {
        let answers = self.memory.append(std::slice::from_ref(append)).await?;
        Ok(answers.into_iter().next().unwrap_or(Appended::Stale))
    }

    /// Writes for an owner who has lost the lease.
    async fn force(&self, append: Append) -> Result<Appended, StoreError> {
        let fence = self.bug().fences.get(&append.run).copied();
        let record = self.memory.load(&[append.run]).await?.pop().flatten();
        let (Some(fence), Some(record)) = (fence, record) else { return Ok(Appended::Stale) };
        let seq = record.head.seq + u64::from(append.frame.is_some());
        self.write(&Append { fence, seq, ..append }).await
    }

    /// What the store makes of a grant before it answers.
    async fn spoil_grant(
        &self,
        request: &LeaseRequest,
        grant: &mut LeaseGrant,
    ) -> Result<(), StoreError> {
        let known = {
            let mut bug = self.bug();
            for leased in &grant.leased {
                bug.fences.insert(leased.record.head.id, leased.fence);
            }
            bug.fences.clone()
        };
        let asks = request.acquire.as_ref().is_some_and(|acquire| acquire.limit > 0);
        if asks && grant.alive && self.strikes(Plant::TwoOwners, 20) {
            for (run, fence) in known {
                let mine = fence.owner == request.worker;
                let record = self.memory.load(&[run]).await?.pop().flatten();
                let Some(record) = record.filter(|r| r.head.owner.is_some() && !mine) else {
                    continue;
                };
                let leased = Leased { record, fence, died_at: None };
                grant.leased.push(leased);
                break;
            }
        }
        for leased in &mut grant.leased {
            if self.is(Plant::EpochsStandStill) {
                leased.fence.epoch = 1;
            }
            if self.is(Plant::ForgetsDeaths) {
                let long_ago = |at: Timestamp| Timestamp::from_millis(at.as_millis() - 60_000);
                leased.died_at = leased.died_at.map(long_ago);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl StateStore for Planted {
    async fn submit(&self, batch: &[Submission]) -> Result<Vec<Submitted>, StoreError> {
        let mut answers = Vec::new();
        for submission in batch {
            if let Submission::Request { run, .. } = submission
                && self.strikes(Plant::LosesRequests, 50)
            {
                let head = self.memory.load(&[*run]).await?.pop().flatten().map(|r| r.head);
                let next = head.map_or(1, |head| head.requests + 1);
                answers.push(Submitted::Requested(next));
                continue;
            }
            let mut submission = submission.clone();
            if let Submission::Run(new) = &mut submission
                && self.is(Plant::ForgetsStartKeys)
            {
                new.head.key = None;
            }
            let answer = self.memory.submit(&[submission]).await?;
            for one in &answer {
                if let Submitted::Created(Some(leased)) = one {
                    self.bug().fences.insert(leased.record.head.id, leased.fence);
                }
            }
            answers.extend(answer);
        }
        Ok(answers)
    }

    async fn append(&self, batch: &[Append]) -> Result<Vec<Appended>, StoreError> {
        let mut answers = Vec::new();
        for append in batch {
            answers.push(self.append_one(append).await?);
        }
        Ok(answers)
    }

    async fn load(&self, runs: &[RunId]) -> Result<Vec<Option<RunRecord>>, StoreError> {
        self.memory.load(runs).await
    }

    async fn list(&self, filter: &RunFilter) -> Result<RunPage, StoreError> {
        self.memory.list(filter).await
    }

    async fn ledger(&self, ops: &[LedgerOp]) -> Result<Vec<LedgerReply>, StoreError> {
        self.memory.ledger(ops).await
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<LeaseGrant, StoreError> {
        let mut request = request.clone();
        if self.strikes(Plant::BuriesTheLiving, 5) {
            request.dead.clone_from(&self.bug().workers);
        }
        if !self.bug().workers.contains(&request.worker) {
            self.bug().workers.push(request.worker);
        }
        let mut grant = self.memory.lease(&request).await?;
        self.spoil_grant(&request, &mut grant).await?;
        Ok(grant)
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        self.memory.now().await
    }
}
