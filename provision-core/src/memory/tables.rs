//! Everything one namespace holds, and the moves of a run between its owner and the due index.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use crate::{
    bucket::Bucket,
    id::{RunId, Timestamp},
    retention::Tombstone,
    secret::{Sealed, SecretKey},
    store::{Fence, Frame, Guard, Incarnation, Leased, Release, Request, RunHead, RunRecord},
};

use super::{
    due::{DueIndex, Spot},
    ledger::Ledger,
};

/// One namespace.
#[derive(Debug, Clone, Default)]
pub(super) struct Tables {
    pub(super) runs: BTreeMap<RunId, Row>,
    pub(super) keys: HashMap<String, RunId>,
    /// Which runs were started by which, of those that are there.
    pub(super) children: HashMap<RunId, BTreeSet<RunId>>,
    /// Of runs that were removed; their start keys stay among `keys`.
    pub(super) tombstones: BTreeMap<RunId, Tombstone>,
    pub(super) guards: HashMap<String, RunId>,
    pub(super) due: DueIndex,
    /// Ordered, so that the same calls give the same answers in every process.
    pub(super) alive: BTreeMap<Incarnation, Life>,
    pub(super) dead: Dead,
    pub(super) ledger: Ledger,
    pub(super) sealed: BTreeMap<SecretKey, Sealed>,
    pub(super) buckets: HashMap<String, Bucket>,
    pub(super) nonces: Nonces,
    /// Whether a run came into the due index since the claimants were last woken.
    pub(super) stirred: bool,
}

/// One run.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) head: RunHead,
    pub(super) frames: Vec<Frame>,
    pub(super) requests: Vec<Request>,
    pub(super) spot: Spot,
    pub(super) nonce: u64,
    /// When the previous owner's lease ended by death, until the next lease tells it.
    pub(super) died_at: Option<Timestamp>,
    /// Another run asked for it while it was leased: the next release makes it due at once.
    pub(super) poked: bool,
    /// The business key it had until its end freed it.
    pub(super) freed: Option<Guard>,
}

/// One incarnation that is not marked dead.
#[derive(Debug, Clone, Default)]
pub(super) struct Life {
    pub(super) expires: Timestamp,
    pub(super) runs: BTreeSet<RunId>,
}

/// Incarnations that are marked dead, in the order of their deaths.
#[derive(Debug, Clone, Default)]
pub(super) struct Dead {
    known: BTreeSet<Incarnation>,
    order: VecDeque<(Timestamp, Incarnation)>,
}

impl Dead {
    /// None of them is renewed for so long; what comes later holds nothing, under any name.
    const KEPT: Duration = Duration::from_secs(24 * 3_600);
    /// Most that one call forgets: more than one call buries, as a rule.
    const AT_ONCE: usize = 100;

    pub(super) fn contains(&self, who: &Incarnation) -> bool {
        self.known.contains(who)
    }

    fn add(&mut self, who: Incarnation, now: Timestamp) {
        self.known.insert(who);
        self.order.push_back((now, who));
    }

    /// Forgets those that have been dead for long. Burying one has freed its runs: none names it.
    pub(super) fn forget(&mut self, now: Timestamp) {
        for _ in 0..Self::AT_ONCE {
            let Some((at, who)) = self.order.front() else { return };
            if now < at.plus(Self::KEPT) {
                return;
            }
            self.known.remove(who);
            self.order.pop_front();
        }
    }
}

impl Row {
    /// S5: owner, epoch and nonce, all three.
    pub(super) fn is_held_by(&self, fence: &Fence) -> bool {
        self.head.owner == Some(fence.owner)
            && self.head.epoch == fence.epoch
            && self.nonce == fence.nonce
    }

    pub(super) fn frame(&self, seq: u64) -> Option<&Frame> {
        self.frames.get(usize::try_from(seq.checked_sub(1)?).ok()?)
    }

    pub(super) fn record(&self) -> RunRecord {
        RunRecord {
            head: self.head.clone(),
            frames: self.frames.clone(),
            requests: self.requests.clone(),
        }
    }
}

impl Tables {
    /// Leases an unowned run that is not in the due index.
    pub(super) fn grant(
        &mut self,
        run: RunId,
        worker: Incarnation,
        now: Timestamp,
    ) -> Option<Leased> {
        let row = self.runs.get_mut(&run)?;
        self.alive.get_mut(&worker)?.runs.insert(run);
        row.nonce = self.nonces.draw();
        row.head.epoch = row.head.epoch.saturating_add(1);
        row.head.owner = Some(worker);
        row.head.updated_at = now;
        row.poked = false;
        let fence = Fence { owner: worker, epoch: row.head.epoch, nonce: row.nonce };
        let died_at = row.died_at.take();
        Some(Leased { record: row.record(), fence, died_at })
    }

    /// Gives a leased run back. A request or a wake that came meanwhile makes it due at once.
    pub(super) fn release(&mut self, run: RunId, release: &Release, now: Timestamp) {
        let Some(row) = self.runs.get_mut(&run) else { return };
        let asked = row.head.requests > row.head.consumed.max(release.seen);
        let woken = row.poked && row.head.status.is_moving();
        row.head.due = if asked || woken { now } else { release.due };
        row.head.polls.clone_from(&release.polls);
        row.poked = false;
        let owner = row.head.owner;
        self.let_go(run, now);
        if let Some(life) = owner.and_then(|owner| self.alive.get_mut(&owner)) {
            life.runs.remove(&run);
        }
    }

    /// Gives back a lease that its owner never heard of.
    pub(super) fn give_back(&mut self, run: RunId, owner: Incarnation, epoch: u64, now: Timestamp) {
        let Some(row) = self.runs.get_mut(&run) else { return };
        if row.head.owner != Some(owner) || row.head.epoch != epoch {
            return;
        }
        row.head.due = now;
        row.poked = false;
        self.let_go(run, now);
        if let Some(life) = self.alive.get_mut(&owner) {
            life.runs.remove(&run);
        }
    }

    /// Ends a lease and puts the run where its due time says.
    fn let_go(&mut self, run: RunId, now: Timestamp) {
        let Some(row) = self.runs.get_mut(&run) else { return };
        row.head.owner = None;
        row.nonce = 0;
        row.head.updated_at = now;
        self.due.insert(&row.spot, row.head.due, run);
        self.stirred = true;
    }

    /// Makes an unowned run due at `due`.
    pub(super) fn set_due(&mut self, run: RunId, due: Timestamp, now: Timestamp) {
        let Some(row) = self.runs.get_mut(&run) else { return };
        self.due.remove(&row.spot, row.head.due, run);
        row.head.due = due;
        row.head.updated_at = now;
        self.due.insert(&row.spot, due, run);
        self.stirred = true;
    }

    /// Wakes a run that waits for another one.
    pub(super) fn poke(&mut self, run: RunId, now: Timestamp) {
        match self.runs.get_mut(&run) {
            Some(row) if row.head.owner.is_some() => row.poked = true,
            Some(row) if row.head.status.is_moving() => self.set_due(run, now, now),
            _ => {}
        }
    }

    /// Marks an incarnation dead and makes its runs due. `died_at` is `None` for one that retired.
    pub(super) fn bury(&mut self, who: Incarnation, died_at: Option<Timestamp>, now: Timestamp) {
        let Some(life) = self.alive.remove(&who) else { return };
        self.dead.add(who, now);
        for run in life.runs {
            if let Some(row) = self.runs.get_mut(&run) {
                if died_at.is_some() && row.head.open {
                    row.head.deaths = row.head.deaths.saturating_add(1);
                }
                row.died_at = died_at;
                row.head.due = now;
            }
            self.let_go(run, now);
        }
        self.buckets.values_mut().for_each(|bucket| bucket.bury(who));
    }
}

/// Draws the nonces of leases; numbers below 2^53.
#[derive(Debug, Clone)]
pub(super) struct Nonces(u64);

impl Default for Nonces {
    fn default() -> Self {
        // Without the system's generator the nonces are still distinct within this store, whose
        // state no other process ever sees.
        Self(getrandom::u64().unwrap_or(0x9e37_79b9_7f4a_7c15))
    }
}

impl Nonces {
    /// The next number of a splitmix64 sequence, cut to 53 bits.
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) >> 11
    }
}
