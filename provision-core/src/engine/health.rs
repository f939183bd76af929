//! Whether this engine can do its work now: for health and readiness checks.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Engine;
use crate::{clock, queue::QueueStats};

/// What is still healthy. The defaults suit one-minute alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthLimits {
    /// Longest answer of the store; default 2 s. A store that needs longer counts as unreachable.
    pub store: Duration,
    /// Largest difference between this machine's wall clock and the store's; default 60 s.
    pub skew: Duration,
    /// Oldest due run that nobody has claimed; default 5 min.
    pub oldest: Duration,
    /// Runs whose owner's lease is over and that nobody has taken over; default 0.
    pub expired: u64,
}

impl Default for HealthLimits {
    fn default() -> Self {
        Self {
            store: Duration::from_secs(2),
            skew: Duration::from_secs(60),
            oldest: Duration::from_secs(300),
            expired: 0,
        }
    }
}

/// What stands against being ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Trouble {
    /// The store did not answer, or not in time: nothing else is known.
    Store,
    /// The queue's figures could not be read, of the store or of the queue beside it.
    Queue,
    /// This machine's wall clock and the store's differ: times that people read are wrong.
    Skew,
    /// Due runs are not claimed: there are too few workers, or none for their saga or queue.
    Lag,
    /// Workers died, and nobody takes their runs over.
    Leases,
}

/// How the engine is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Milliseconds until the store answered, if it did.
    pub store_ms: Option<u64>,
    /// Milliseconds by which this machine's wall clock is ahead of the store's; negative when it is
    /// behind. Decides nothing but what people read: due times and leases go by the store's clock.
    pub skew_ms: Option<i64>,
    /// Due, waiting and leased runs, if they could be counted; by the store, which alone knows all.
    pub queue: Option<QueueStats>,
    /// What stands against being ready, worst first; empty when nothing does.
    pub troubles: Vec<Trouble>,
}

impl Health {
    /// Whether nothing stands against work.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.troubles.is_empty()
    }
}

impl Engine {
    /// Says how the engine is doing, within the default limits. Never fails: trouble is an answer.
    ///
    /// Two reads of the store and one of a queue beside it, none of a provider. Answers within
    /// three times the limit for the store, or twice without such a queue.
    ///
    /// ```
    /// # use provision_core::{Engine, MemoryStore};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = Engine::builder(MemoryStore::new()).build().await?;
    /// let health = engine.health().await;
    /// let status = if health.is_ready() { 200 } else { 503 };
    /// assert_eq!((status, health.troubles.len()), (200, 0));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn health(&self) -> Health {
        self.health_within(HealthLimits::default()).await
    }

    /// Says how the engine is doing, within the host's own limits.
    pub async fn health_within(&self, limits: HealthLimits) -> Health {
        let inner = &self.inner;
        let (began, before) = (clock::moment(), inner.clock.wall());
        let answer = clock::within(limits.store, inner.store.now()).await;
        let Some(Ok(store_now)) = answer else {
            let troubles = vec![Trouble::Store];
            return Health { store_ms: None, skew_ms: None, queue: None, troubles };
        };
        let took = began.elapsed();
        // The store read its clock about half-way between question and answer.
        let skew_ms = signed(before.plus(took / 2).as_millis()) - signed(store_now.as_millis());
        let queue = match clock::within(limits.store, inner.queue.stats()).await {
            Some(Ok(stats)) => Some(stats),
            Some(Err(_)) | None => None,
        };
        let beside = match &inner.offers {
            Some(offers) => clock::within(limits.store, offers.queue().stats()).await,
            None => Some(Ok(QueueStats::default())),
        };
        let uncounted = queue.is_none() || !matches!(beside, Some(Ok(_)));
        let lag =
            queue.is_some_and(|queue| u128::from(queue.oldest_ms) > limits.oldest.as_millis());
        let found = [
            (Trouble::Queue, uncounted),
            (Trouble::Skew, u128::from(skew_ms.unsigned_abs()) > limits.skew.as_millis()),
            (Trouble::Lag, lag),
            (Trouble::Leases, queue.is_some_and(|queue| queue.expired > limits.expired)),
        ];
        Health {
            store_ms: Some(u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
            skew_ms: Some(skew_ms),
            queue,
            troubles: found.into_iter().filter(|(_, is)| *is).map(|(trouble, _)| trouble).collect(),
        }
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
