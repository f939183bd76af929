//! What a queue beside the store is told: which runs are due, when others will be, which are over.
//!
//! S23: the journal is the truth and the queue a hint. So nothing here fails for its caller, and
//! nothing waits long: what the queue does not take is found by the store's own scan.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    clock,
    error::StoreError,
    id::{RunId, Timestamp},
    queue::{Claim, Offer, Queue},
    silence::Silence,
    store::{Append, RunHead, RunRecord, StateStore},
};

/// How long the store is waited for on behalf of the queue.
const PATIENCE: Duration = Duration::from_secs(1);
/// Due runs that are put forward again at once, after the queue has lost them.
const AGAIN_MAX: usize = 1_000;
/// Runs that are read in one call for that.
const PAGE: usize = 100;

/// A queue that is not the store.
pub(crate) struct Offers {
    queue: Arc<dyn Queue>,
    store: Arc<dyn StateStore>,
    /// The queue did not answer in time: what it is to be told is left to the store's scan.
    silence: Silence,
}

impl fmt::Debug for Offers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offers").field("queue", &self.queue).finish_non_exhaustive()
    }
}

/// What an append means to the queue, once it is applied.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The run is given back, due then; a request newer than this number makes it due at once.
    released: Option<(Offer, u64)>,
    begun: Vec<Offer>,
    woken: Vec<RunId>,
    at: Timestamp,
}

/// Puts a run forward as its row says.
pub(crate) fn offer_of(head: &RunHead, due: Timestamp) -> Offer {
    Offer {
        run: head.id,
        queue: head.queue.clone(),
        priority: head.priority,
        tenant: head.tenant.clone(),
        due,
    }
}

impl Told {
    /// `None` when the queue need not know of it: a step of a run that goes on.
    pub(crate) fn of(head: &RunHead, append: &Append) -> Option<Box<Self>> {
        let released = append
            .release
            .as_ref()
            .map(|release| (offer_of(head, release.due), append.consumed.max(release.seen)));
        let begun = append.starts.iter().map(|new| offer_of(&new.head, new.head.due)).collect();
        let told = Self { released, begun, woken: append.wakes.clone(), at: append.at };
        let nothing = told.released.is_none() && told.begun.is_empty() && told.woken.is_empty();
        (!nothing).then(|| Box::new(told))
    }
}

impl Offers {
    pub(crate) fn new(queue: Arc<dyn Queue>, store: Arc<dyn StateStore>) -> Self {
        Self { queue, store, silence: Silence::default() }
    }

    pub(crate) fn queue(&self) -> &Arc<dyn Queue> {
        &self.queue
    }

    /// Puts runs forward; answers whether the queue took them.
    pub(crate) async fn put(&self, offers: &[Offer]) -> bool {
        offers.is_empty() || self.taken("offer", self.queue.offer(offers)).await
    }

    async fn forget(&self, runs: &[RunId]) {
        if !runs.is_empty() {
            self.taken("ack", self.queue.ack(runs)).await;
        }
    }

    /// Tells what an append has changed; `requests` is the number of the run's newest request.
    pub(crate) async fn tell(&self, told: Box<Told>, requests: u64) {
        let Told { released, begun, woken, at } = *told;
        let (mut offers, mut over) = (begun, Vec::new());
        if let Some((mut offer, seen)) = released {
            if requests > seen {
                offer.due = at;
            }
            match offer.due < Timestamp::NEVER {
                true => offers.push(offer),
                false => over.push(offer.run),
            }
        }
        // What the store does not tell now is found by its scan.
        for record in self.load(&woken).await.unwrap_or_default() {
            if record.head.status.is_moving() {
                offers.push(offer_of(&record.head, at));
            }
        }
        self.put(&offers).await;
        self.forget(&over).await;
    }

    /// Looks after what was proposed and could not be leased at `now`: what is over is forgotten,
    /// what is not due yet comes when it is, and what somebody holds is left to them. What is due
    /// and cannot be claimed here now comes again at `again`.
    ///
    /// Where the store does not answer, nothing is known: the entries come again by themselves.
    pub(crate) async fn settle(&self, left: &[RunId], now: Timestamp, again: Timestamp) {
        let Some(found) = self.load(left).await else { return };
        let (mut offers, mut over) = (Vec::new(), Vec::new());
        for run in left {
            match found.iter().map(|record| &record.head).find(|head| head.id == *run) {
                Some(head) if head.owner.is_some() => {}
                Some(head) if head.due < Timestamp::NEVER => {
                    // One that was proposed a moment early waits for that moment alone.
                    let due = if head.due > now { head.due } else { again };
                    offers.push(offer_of(head, due));
                }
                _ => over.push(*run),
            }
        }
        self.put(&offers).await;
        self.forget(&over).await;
    }

    /// Puts due runs forward that the queue has lost: those that the store itself would propose
    /// first to the same claim, no more than a bounded number.
    pub(crate) async fn again(&self, own: &dyn Queue, claim: Claim) {
        let claim = Claim { limit: AGAIN_MAX, wait: Duration::ZERO, ..claim };
        let due = match clock::within(PATIENCE, own.claim(&claim)).await {
            Some(Ok(due)) => due,
            missed => return tracing::debug!(?missed, "due runs could not be looked for"),
        };
        for page in due.chunks(PAGE) {
            let Some(found) = self.load(page).await else { return };
            let free = found.iter().map(|record| &record.head).filter(|head| head.owner.is_none());
            let offers: Vec<Offer> = free.map(|head| offer_of(head, head.due)).collect();
            if !self.put(&offers).await {
                return;
            }
        }
    }

    /// Those of these runs that the store has; `None` when it does not answer.
    async fn load(&self, runs: &[RunId]) -> Option<Vec<RunRecord>> {
        if runs.is_empty() {
            return Some(Vec::new());
        }
        match clock::within(PATIENCE, self.store.load(runs)).await {
            Some(Ok(found)) => Some(found.into_iter().flatten().collect()),
            missed => {
                tracing::debug!(?missed, "runs could not be read for the queue");
                None
            }
        }
    }

    /// Whether the queue answered in time. One that did not is left alone for a while.
    async fn taken(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<(), StoreError>> + Send,
    ) -> bool {
        let answer = self.silence.broken_by(call).await;
        let taken = matches!(answer, Some(Ok(())));
        if !taken {
            tracing::debug!(?answer, what, "the queue did not take it; the store's scan will do");
        }
        taken
    }
}
