//! The memory store as a queue: proposals come from its own due index.

use std::{pin::pin, time::Duration};

use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};

use crate::{
    error::StoreError,
    id::{RunId, Timestamp},
    queue::{Claim, Offer, Queue, QueueStats},
};

use super::{MemoryStore, tables::Tables};

/// A claim waits at most so long in one call, whatever it asks for.
const WAIT_MAX: Duration = Duration::from_secs(3_600);

#[async_trait]
impl Queue for MemoryStore {
    async fn offer(&self, offers: &[Offer]) -> Result<(), StoreError> {
        self.write(|tables, now| {
            for offer in offers {
                if tables.runs.get(&offer.run).is_some_and(|row| row.head.owner.is_none()) {
                    tables.set_due(offer.run, offer.due, now);
                }
            }
        });
        Ok(())
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<RunId>, StoreError> {
        let deadline = Instant::now() + claim.wait.min(WAIT_MAX);
        loop {
            // Listens before it looks, so that what comes in between is not missed.
            let mut stirred = pin!(self.space.stirred.notified());
            stirred.as_mut().enable();
            let (found, next_in) = self.read(|tables, now| tables.propose(claim, now));
            let now = Instant::now();
            if !found.is_empty() || now >= deadline {
                return Ok(found);
            }
            let until = deadline.min(now + next_in.min(WAIT_MAX));
            // Why the wait ended does not matter: the next look decides.
            let _: Result<(), _> = timeout_at(until, stirred).await;
        }
    }

    async fn ack(&self, _runs: &[RunId]) -> Result<(), StoreError> {
        // The run's own release moves or removes its entry.
        Ok(())
    }

    async fn wake(&self, _runs: &[RunId]) -> Result<(), StoreError> {
        self.space.stirred.notify_waiters();
        Ok(())
    }

    async fn stats(&self) -> Result<QueueStats, StoreError> {
        Ok(self.read(|tables, now| {
            let (ready, delayed, oldest) = tables.due.stats(now);
            let leased: usize = tables.alive.values().map(|life| life.runs.len()).sum();
            let over = tables.alive.values().filter(|life| life.expires <= now);
            let expired: usize = over.map(|life| life.runs.len()).sum();
            let oldest = oldest.map_or(Duration::ZERO, |due| now.since(due));
            QueueStats {
                ready: ready as u64,
                delayed: delayed as u64,
                leased: leased as u64,
                expired: expired as u64,
                oldest_ms: u64::try_from(oldest.as_millis()).unwrap_or(u64::MAX),
            }
        }))
    }
}

impl Tables {
    /// Due runs, and how long until there may be more.
    ///
    /// L2: what a dead worker holds is due when its lease is over: whoever leases buries it then.
    fn propose(&mut self, claim: &Claim, now: Timestamp) -> (Vec<RunId>, Duration) {
        let mut groups = self.due.matching(&claim.queues, None);
        let kept = |queue: &str| !claim.except.iter().any(|except| except == queue);
        groups.retain(|group| self.due.queue_of(*group).is_some_and(kept));
        let mut found = self.due.peek(&groups, claim.limit, now);
        let dead = self.alive.values().filter(|life| life.expires <= now);
        let fits =
            |run: &&RunId| self.runs.get(*run).is_some_and(|row| groups.contains(&row.spot.group));
        let freed = dead.flat_map(|life| &life.runs).filter(fits).copied();
        found.extend(freed.take(claim.limit.saturating_sub(found.len())));
        let ends = self.alive.values().map(|life| life.expires).filter(|end| *end > now);
        let next = ends.chain(self.due.next_due(&groups)).min().map(|due| due.since(now));
        (found, next.unwrap_or(WAIT_MAX))
    }
}
