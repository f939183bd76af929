//! What is at one moment of the model, and what of it decides what may follow.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{Hash, Hasher},
};

use futures_util::FutureExt;
use provision_core::{
    MemoryStore, RunId, Timestamp,
    store::{Fence, Incarnation, RunRecord, StateStore},
};
use uuid::Uuid;

use super::{DONE, INTENT, LATE, TTL};

/// What has happened at least once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Seen {
    /// Somebody asked to take it all back.
    Cancelled,
    /// A call was sent by somebody whose lease was over.
    FoulCall,
    /// A write was taken from somebody who was not the owner.
    FoulWrite,
    /// A write was refused.
    Refused,
    /// A write that stood was recognised when it was repeated.
    Recognised,
}

/// Where a worker stands with the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    Idle,
    /// About to write the intent.
    Intends,
    /// The intent is written: about to send.
    Sends,
    /// A call is open.
    Waits(usize),
    /// Nobody knows how the last call ended; "absent" counts from then on.
    Looks(u64),
    /// About to delete what there is.
    Undoes,
    /// About to write that it is done, or undone.
    Records(&'static str),
}

#[derive(Debug, Clone)]
pub(super) struct Worker {
    pub(super) life: u8,
    pub(super) stand: Stand,
    pub(super) lease: Option<(Fence, u64)>,
    /// End of its lease, as it knows.
    pub(super) until: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Call {
    pub(super) sent: u64,
    pub(super) landed: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Scene {
    pub(super) store: MemoryStore,
    pub(super) run: RunId,
    pub(super) now: u64,
    pub(super) workers: [Worker; 2],
    pub(super) calls: Vec<Call>,
    /// Things that exist at the provider.
    pub(super) made: u8,
    /// Ends of leases by incarnation, as the store knows.
    pub(super) ends: BTreeMap<Incarnation, u64>,
    pub(super) newest: Option<Fence>,
    /// Declared dead although they live.
    pub(super) buried: [bool; 2],
    pub(super) seen: BTreeSet<Seen>,
    pub(super) crashes: u8,
    pub(super) pauses: u8,
    pub(super) losses: u8,
    /// Everything that decides what may follow, moments relative to now.
    pub(super) key: Vec<i64>,
}

impl Hash for Scene {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.key.hash(hasher);
    }
}

impl PartialEq for Scene {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}
pub(super) fn at(moment: u64) -> Timestamp {
    Timestamp::from_millis(1_000 * moment)
}
pub(super) fn incarnation(worker: usize, life: u8) -> Incarnation {
    Incarnation(Uuid::from_u128(1_000 + 100 * worker as u128 + u128::from(life)))
}

/// The memory store never waits.
pub(super) fn now_or_never<T>(
    call: impl Future<Output = Result<T, provision_core::StoreError>>,
) -> T {
    call.now_or_never().unwrap().unwrap()
}

impl Scene {
    pub(super) fn who(&self, worker: usize) -> Incarnation {
        incarnation(worker, self.workers[worker].life)
    }

    pub(super) fn record(&self) -> RunRecord {
        now_or_never(self.store.load(&[self.run])).pop().unwrap().unwrap()
    }

    /// Whether the store takes this worker for the owner.
    pub(super) fn owns(&self, worker: usize) -> bool {
        let head = self.record().head;
        let epoch = self.workers[worker].lease.map(|(fence, _)| fence.epoch);
        head.owner == Some(self.who(worker)) && Some(head.epoch) == epoch
    }

    /// Whether nobody else can be the owner now.
    pub(super) fn is_safe(&self, worker: usize) -> bool {
        self.owns(worker) && self.ends[&self.who(worker)] > self.now
    }

    pub(super) fn is_done(&self) -> bool {
        self.record().head.status.is_end()
    }

    /// Whether a claim would get the run.
    pub(super) fn is_free(&self) -> bool {
        let head = self.record().head;
        let over = |owner: Incarnation| self.ends[&owner] <= self.now;
        !head.status.is_end() && head.owner.map_or(head.due <= at(self.now), over)
    }

    pub(super) fn let_go(&mut self, worker: usize) {
        let worker = &mut self.workers[worker];
        (worker.stand, worker.lease, worker.until) = (Stand::Idle, None, 0);
    }

    /// A number of a lease, seen from the newest.
    pub(super) fn back(&self, epoch: u64) -> i64 {
        (self.record().head.epoch - epoch).min(2).cast_signed()
    }

    /// A moment seen from now, between the first and the last that make a difference.
    pub(super) fn ago(&self, moment: u64) -> i64 {
        let from_now = moment.cast_signed() - self.now.cast_signed();
        from_now.clamp(-LATE.cast_signed() - 1, (TTL + LATE).cast_signed())
    }

    pub(super) fn sealed(mut self) -> Self {
        let RunRecord { head, frames, .. } = self.record();
        let owner = head.owner.map_or(-1, |owner| {
            let worker = i64::from(owner != self.who(0)) + i64::from(owner != self.who(1));
            2 * worker + i64::from(owner == self.who(1))
        });
        let begun = frames.iter().any(|frame| &*frame.body == INTENT);
        let end = head.owner.map_or(0, |owner| self.ago(self.ends[&owner]));
        let mut key = vec![i64::from(self.made), head.status as i64, owner, end];
        key.extend([self.crashes, self.pauses, self.losses].map(i64::from));
        key.extend(self.seen.iter().map(|seen| -10 - *seen as i64));
        key.extend([
            i64::from(begun),
            i64::from(head.epoch > 1),
            self.ago(head.due.as_millis() / 1_000).max(0),
        ]);
        for (number, worker) in self.workers.iter().enumerate() {
            let (stand, moment) = match worker.stand {
                Stand::Idle => (0, 0),
                Stand::Intends => (1, 0),
                Stand::Sends => (2, 0),
                Stand::Waits(call) => (3, self.ago(self.calls[call].sent)),
                Stand::Looks(quiet) => (4, self.ago(quiet).max(0)),
                Stand::Undoes => (5, 0),
                Stand::Records(outcome) => (6, i64::from(outcome == DONE)),
            };
            let waits = matches!(worker.stand, Stand::Waits(call) if self.calls[call].landed);
            let lease = worker.lease.map_or((-1, 0), |(fence, seq)| {
                (self.back(fence.epoch), head.seq.saturating_sub(seq).min(3).cast_signed())
            });
            let end = self.ends.get(&self.who(number)).map_or(-9, |end| self.ago(*end).max(0));
            key.extend([stand, moment, i64::from(waits), self.ago(worker.until).max(0)]);
            key.extend([lease.0, lease.1, end, i64::from(self.buried[number])]);
        }
        let flying = self.calls.iter().filter(|call| self.may_land(call));
        key.extend(flying.map(|call| self.ago(call.sent)));
        self.key = key;
        self
    }

    pub(super) fn may_land(&self, call: &Call) -> bool {
        !call.landed && self.now < call.sent + LATE
    }
}
