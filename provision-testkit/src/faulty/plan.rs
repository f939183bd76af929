//! Which calls fail, and how: by number, by chance from a seed, or for a span of time.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use provision_core::error::StoreError;
use tokio::time::Instant;

/// One operation of one of the four seams of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// `StateStore::submit`.
    Submit,
    /// `StateStore::append`.
    Append,
    /// `StateStore::load`.
    Load,
    /// `StateStore::list`.
    List,
    /// `StateStore::ledger`.
    Ledger,
    /// `StateStore::lease`.
    Lease,
    /// `StateStore::now`.
    Now,
    /// `Queue::offer`.
    Offer,
    /// `Queue::claim`.
    Claim,
    /// `Queue::ack`.
    Ack,
    /// `Queue::wake`.
    Wake,
    /// `Queue::stats`.
    Stats,
    /// `Limiter::admit`.
    Admit,
    /// `Limiter::observe`.
    Observe,
    /// `Limiter::look`.
    Look,
    /// `SecretStore::put`.
    Put,
    /// `SecretStore::replace`.
    Replace,
    /// `SecretStore::get`.
    Get,
    /// `SecretStore::keys`.
    Keys,
    /// `SecretStore::erase`.
    Erase,
    /// `RetentionStore::prune`.
    Prune,
    /// `RetentionStore::tombstones`.
    Tombstones,
    /// `RetentionStore::forget`.
    Forget,
}

/// How a call of a store fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is written, and the call reports that the store is unavailable.
    Before,
    /// Everything is written, and the call reports that the store is unavailable: whether the
    /// write landed is then unknown to the caller.
    After,
}

/// How likely a call fails, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Odds {
    /// Of [`Fault::Before`].
    pub before: u32,
    /// Of [`Fault::After`].
    pub after: u32,
}

#[derive(Debug, Default)]
struct State {
    odds: Odds,
    /// Where the random numbers stand.
    random: u64,
    /// What the next calls of an operation do, before chance has a say.
    next: BTreeMap<Op, VecDeque<Option<Fault>>>,
    /// The outage that begins with call number `.0` of any operation, and how long it lasts.
    outage_at: Option<(u64, Duration)>,
    /// Every call fails until then.
    down_until: Option<Instant>,
    /// Every call fails until told otherwise.
    down: bool,
    calls: BTreeMap<Op, u64>,
    all: u64,
    failed: u64,
}

/// A plan of trouble and the count of what came of it. Clones share everything.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// A plain mutex, held for one look at the plan and never across an await.
    state: Arc<Mutex<State>>,
}

impl Faults {
    /// No trouble at all, until some is added.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Trouble by chance; the same seed and the same calls give the same trouble.
    #[must_use]
    pub fn seeded(seed: u64, odds: Odds) -> Self {
        let faults = Self::default();
        faults.state().odds = odds;
        faults.state().random = seed;
        faults
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the next `skip` calls of an operation pass, and the one after them fail.
    pub fn fail(&self, op: Op, skip: usize, fault: Fault) {
        let mut state = self.state();
        let next = state.next.entry(op).or_default();
        next.extend(std::iter::repeat_n(None, skip));
        next.push_back(Some(fault));
    }

    /// Begins an outage with call number `number` of all operations, from 1, for so long by
    /// tokio's clock. Nothing is written while it lasts.
    pub fn outage_at(&self, number: u64, lasting: Duration) {
        self.state().outage_at = Some((number, lasting));
    }

    /// Ends every outage, or begins one that lasts until told otherwise.
    pub fn set_down(&self, down: bool) {
        let mut state = self.state();
        state.down = down;
        state.down_until = None;
    }

    /// Ends trouble by chance: from here on the store is well, but for what is planned by number.
    pub fn heal(&self) {
        let mut state = self.state();
        state.odds = Odds::default();
        state.down = false;
        state.down_until = None;
    }

    /// Calls of one operation so far, failed ones among them.
    #[must_use]
    pub fn calls(&self, op: Op) -> u64 {
        self.state().calls.get(&op).copied().unwrap_or(0)
    }

    /// Calls of all operations so far.
    #[must_use]
    pub fn all_calls(&self) -> u64 {
        self.state().all
    }

    /// Calls that failed by this plan so far.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.state().failed
    }

    /// Makes one call as the plan wants it.
    pub(super) async fn through<T>(
        &self,
        op: Op,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let Some(fault) = self.state().next(op) else { return call.await };
        if fault == Fault::After {
            call.await?;
        }
        Err(StoreError::unavailable("reach the store").with_context("as planned"))
    }
}

impl State {
    fn next(&mut self, op: Op) -> Option<Fault> {
        self.all += 1;
        *self.calls.entry(op).or_default() += 1;
        if let Some((number, lasting)) = self.outage_at
            && self.all >= number
        {
            self.outage_at = None;
            self.down_until = Some(Instant::now() + lasting);
        }
        let planned = self.next.get_mut(&op).and_then(VecDeque::pop_front).flatten();
        let out = self.down || self.down_until.is_some_and(|until| Instant::now() < until);
        let fault = if out { Some(Fault::Before) } else { planned.or_else(|| self.chance()) };
        self.failed += u64::from(fault.is_some());
        fault
    }

    fn chance(&mut self) -> Option<Fault> {
        if self.odds == Odds::default() {
            return None;
        }
        let drawn = self.draw() % 1000;
        let (before, after) = (u64::from(self.odds.before), u64::from(self.odds.after));
        if drawn < before {
            Some(Fault::Before)
        } else {
            (drawn < before + after).then_some(Fault::After)
        }
    }

    /// `SplitMix64`: small, seeded, and good enough to spread trouble evenly.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
