//! What a queue beside the store is told: which runs are due, when others will be, which are over.
//!
//! S23: the journal is the truth and the queue a hint. So nothing here fails for its caller, and
//! nothing waits long: what the queue does not take is found by the store's own scan.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    clock,
    error::StoreError,
    id::{RunId, Timestamp},
    queue::{Offer, Queue},
    store::{Append, RunFilter, RunHead, RunRecord, StateStore},
};

/// How long a run waits for a queue that does not answer, once for each thing it is told.
const PATIENCE: Duration = Duration::from_secs(1);
/// Due runs that are put forward again at once, after the queue has lost them.
const AGAIN_MAX: usize = 1_000;
/// Rows that are read in one call for that.
const PAGE: usize = 250;

/// A queue that is not the store.
pub(crate) struct Offers {
    queue: Arc<dyn Queue>,
    store: Arc<dyn StateStore>,
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
        Self { queue, store }
    }

    pub(crate) fn queue(&self) -> &Arc<dyn Queue> {
        &self.queue
    }

    /// Puts runs forward; answers whether the queue took them.
    pub(crate) async fn put(&self, offers: &[Offer]) -> bool {
        offers.is_empty() || taken("offer", self.queue.offer(offers)).await
    }

    async fn forget(&self, runs: &[RunId]) {
        if !runs.is_empty() {
            taken("ack", self.queue.ack(runs)).await;
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
        for record in self.load(&woken).await {
            if record.head.status.is_moving() {
                offers.push(offer_of(&record.head, at));
            }
        }
        self.put(&offers).await;
        self.forget(&over).await;
    }

    /// Looks after what was proposed and could not be leased: what is over is forgotten, what is
    /// not due yet comes when it is, and what somebody holds is left to them. What is due and
    /// cannot be claimed here now comes again at `again`.
    pub(crate) async fn settle(&self, left: &[RunId], again: Timestamp) {
        let found = self.load(left).await;
        let (mut offers, mut over) = (Vec::new(), Vec::new());
        for run in left {
            match found.iter().map(|record| &record.head).find(|head| head.id == *run) {
                Some(head) if head.owner.is_some() => {}
                Some(head) if head.due < Timestamp::NEVER => {
                    offers.push(offer_of(head, head.due.max(again)));
                }
                _ => over.push(*run),
            }
        }
        self.put(&offers).await;
        self.forget(&over).await;
    }

    /// Puts due runs forward that the queue has lost, in bounded batches.
    pub(crate) async fn again(&self, now: Timestamp) {
        let mut filter = RunFilter { due_by: Some(now), limit: PAGE, ..RunFilter::default() };
        for _ in 0..AGAIN_MAX.div_ceil(PAGE) {
            let page = match self.store.list(&filter).await {
                Ok(page) => page,
                Err(error) => return tracing::debug!(%error, "due runs could not be listed"),
            };
            let free = page.runs.iter().filter(|head| head.owner.is_none());
            let offers: Vec<Offer> = free.map(|head| offer_of(head, head.due)).collect();
            if !self.put(&offers).await || page.next.is_none() {
                return;
            }
            filter.after = page.next;
        }
    }

    async fn load(&self, runs: &[RunId]) -> Vec<RunRecord> {
        if runs.is_empty() {
            return Vec::new();
        }
        let loaded = clock::within(PATIENCE, self.store.load(runs)).await;
        loaded.and_then(Result::ok).unwrap_or_default().into_iter().flatten().collect()
    }
}

/// Whether the queue answered in time.
async fn taken(
    what: &'static str,
    call: impl Future<Output = Result<(), StoreError>> + Send,
) -> bool {
    match clock::within(PATIENCE, call).await {
        Some(Ok(())) => true,
        Some(Err(error)) => {
            tracing::debug!(%error, what, "the queue did not take it; the store's scan will do");
            false
        }
        None => {
            tracing::debug!(what, "the queue did not answer in time; the store's scan will do");
            false
        }
    }
}
