//! Where an incarnation hears that there may be work.
//!
//! The store proposes its own runs, and a proposal only says that a scan is worth it. A queue beside
//! the store is leased from: exactly what it proposes is asked for, and the store's scan at every
//! poll finds what it does not know of.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::task::JoinSet;

use super::WorkerConfig;
use crate::{
    clock,
    engine::Engine,
    error::StoreError,
    id::{RunId, Timestamp},
    offers::Offers,
    queue::Claim,
    store::LeaseGrant,
};

type Proposals = Pin<Box<dyn Future<Output = Result<Heard, StoreError>> + Send>>;

/// What ended a wait.
enum Heard {
    /// The queue's answer.
    Proposed(Vec<RunId>),
    /// Nobody was asked.
    Nothing,
}

/// How long the queue is left alone after it proposed nothing that could be leased; doubled each
/// time, up to the poll interval.
const FRUITLESS: Duration = Duration::from_millis(20);
/// How much longer than was asked for a claim of a queue beside the store may take: while it does
/// not answer, nothing is scanned.
const PATIENCE: Duration = Duration::from_secs(1);
/// Answers whose rest is settled at the same time; that of others comes again by itself.
const SETTLING_MAX: usize = 8;

/// What an incarnation has heard, and how it hears more.
pub(super) struct Hints {
    engine: Engine,
    queues: Vec<String>,
    poll: Duration,
    /// A wait for proposals that goes on while drives come and go.
    proposals: Option<Proposals>,
    /// What the next ask is about; empty means the store's own scan.
    proposed: Vec<RunId>,
    /// The next ask is for what the store itself has proposed.
    by_store: bool,
    /// The queue beside the store did not answer, or proposed nothing, when it was asked last.
    silent: bool,
    deaf: bool,
    fruitless: u32,
    /// Queues that were at their cap when the store was asked last.
    full: Vec<String>,
    scanned: clock::Moment,
    /// What the queue is told of runs that could not be leased. Tasks of their own: what was granted
    /// does not wait for a queue. They end with the incarnation: the scan finds what is not told.
    settling: JoinSet<()>,
    /// The queue is being filled again with what it has lost.
    refilling: JoinSet<()>,
}

impl Hints {
    pub(super) fn new(engine: &Engine, config: &WorkerConfig) -> Self {
        Self {
            engine: engine.clone(),
            queues: config.queues.clone(),
            poll: config.poll,
            proposals: None,
            proposed: Vec::new(),
            by_store: false,
            silent: true,
            deaf: false,
            fruitless: 0,
            full: Vec::new(),
            scanned: clock::moment(),
            settling: JoinSet::new(),
            refilling: JoinSet::new(),
        }
    }

    /// The queue that is leased from, unless it does not answer.
    fn beside(&self) -> Option<&Arc<Offers>> {
        self.engine.inner.offers.as_ref().filter(|_| !self.deaf)
    }

    /// Whether the store's scan is what finds work: then a free slot is a reason to scan. Also while
    /// a queue proposes only what cannot be leased here, such as runs of another version: what is
    /// behind those must not wait for them.
    pub(super) fn scans(&self) -> bool {
        self.beside().is_none() || self.fruitless > 0
    }

    /// Whether a queue was at its cap when the store was asked last.
    pub(super) fn found_full(&self) -> bool {
        !self.full.is_empty()
    }

    /// What the next ask is about: these runs, or with `None` whatever the store finds.
    pub(super) fn wanted(&mut self) -> Option<Vec<RunId>> {
        let proposed = std::mem::take(&mut self.proposed);
        if proposed.is_empty() {
            self.scanned = clock::moment();
        }
        (!proposed.is_empty()).then_some(proposed)
    }

    /// Waits for a reason to ask the store; answers whether there is one.
    ///
    /// Safe to cancel: the wait goes on where it was.
    pub(super) async fn next(&mut self, free: usize) -> bool {
        if self.proposals.is_none() && free == 0 && self.beside().is_some() {
            // What a full worker took from a queue would be kept from others. A slot that a start
            // has kept in vain comes back without a word, so they are counted again at each poll.
            clock::sleep(self.poll).await;
            return false;
        }
        let begun = self.proposals.take().unwrap_or_else(|| self.claim(free));
        let found = self.proposals.insert(begun).await;
        self.proposals = None;
        self.heard(found)
    }

    fn claim(&self, free: usize) -> Proposals {
        let beside = self.beside();
        let queue = beside.map_or(&self.engine.inner.queue, |offers| offers.queue());
        let queue = Arc::clone(queue);
        // The scan keeps its time, however much the queue has to propose.
        let wait = beside.map_or(self.poll, |_| self.poll.saturating_sub(self.scanned.elapsed()));
        let limit = if beside.is_some() { free } else { 1 };
        let claim = Claim { limit, queues: self.queues.clone(), except: self.full.clone(), wait };
        let patience = beside.map(|_| wait.saturating_add(PATIENCE));
        Box::pin(async move {
            let answer = queue.claim(&claim);
            let found = match patience {
                Some(patience) => clock::within(patience, answer).await,
                None => Some(answer.await),
            };
            found.unwrap_or_else(|| Err(StoreError::unavailable("claim"))).map(Heard::Proposed)
        })
    }

    /// Takes note of what was heard; whether to ask the store now.
    fn heard(&mut self, found: Result<Heard, StoreError>) -> bool {
        let beside = self.engine.inner.offers.is_some();
        // While it does not answer, the store's own proposals serve, one wait long.
        let by_store = !beside || std::mem::take(&mut self.deaf);
        match found {
            // Also when nothing was proposed: the store's own scan finds what a queue lost.
            Ok(Heard::Nothing) => return !beside || self.is_scan_due(),
            // A queue that cannot answer is not asked again at once, either.
            found if by_store => {
                let nothing = matches!(&found, Ok(Heard::Proposed(found)) if found.is_empty());
                self.by_store = !nothing;
            }
            Ok(Heard::Proposed(found)) => {
                self.silent = found.is_empty();
                self.proposed = found;
                if self.silent && !self.is_scan_due() {
                    self.pause(FRUITLESS);
                    return false;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "the queue cannot be asked; the store is scanned");
                (self.deaf, self.silent) = (true, true);
            }
        }
        true
    }

    /// Whether the store was not scanned for a poll interval.
    fn is_scan_due(&self) -> bool {
        self.scanned.elapsed() >= self.poll
    }

    /// Takes note of what came of an ask; whether to ask again at once.
    pub(super) fn answered(
        &mut self,
        wanted: Option<Vec<RunId>>,
        grant: &LeaseGrant,
        full: bool,
    ) -> bool {
        let none = grant.leased.is_empty();
        let learned = self.full != grant.full;
        self.full.clone_from(&grant.full);
        let Some(wanted) = wanted else {
            let by_store = std::mem::take(&mut self.by_store);
            if by_store && none && !learned {
                // What was proposed is nothing for us (another saga, another's lease).
                self.pause(self.poll);
            }
            if full && self.silent {
                self.refill();
            }
            return false;
        };
        let granted = |run: &RunId| grant.leased.iter().any(|one| one.record.head.id == *run);
        let left: Vec<RunId> = wanted.iter().filter(|run| !granted(run)).copied().collect();
        // With all slots taken it is for others, at once.
        let again = if full { Timestamp::ZERO } else { grant.now.plus(self.poll) };
        self.settle(left, grant.now, again);
        self.fruitless = if none { self.fruitless.saturating_add(1) } else { 0 };
        if none {
            self.pause(self.poll.min(FRUITLESS * 2_u32.saturating_pow(self.fruitless.min(16))));
        }
        self.is_scan_due()
    }

    /// Tells the queue of what it proposed and could not be leased.
    fn settle(&mut self, left: Vec<RunId>, now: Timestamp, again: Timestamp) {
        while self.settling.try_join_next().is_some() {}
        let Some(offers) = self.engine.inner.offers.as_ref().filter(|_| !left.is_empty()) else {
            return;
        };
        if self.settling.len() < SETTLING_MAX {
            let offers = Arc::clone(offers);
            self.settling.spawn(async move { offers.settle(&left, now, again).await });
        }
    }

    /// Fills the queue again with what it has lost.
    fn refill(&mut self) {
        while self.refilling.try_join_next().is_some() {}
        let Some(offers) = self.beside().filter(|_| self.refilling.is_empty()) else { return };
        let (offers, own) = (Arc::clone(offers), Arc::clone(&self.engine.inner.queue));
        let (queues, except) = (self.queues.clone(), self.full.clone());
        let claim = Claim { limit: 0, queues, except, wait: Duration::ZERO };
        self.refilling.spawn(async move { offers.again(&*own, claim).await });
    }

    /// Hears nothing for so long.
    fn pause(&mut self, pause: Duration) {
        self.proposals = Some(Box::pin(async move {
            clock::sleep(pause).await;
            Ok(Heard::Nothing)
        }));
    }
}
