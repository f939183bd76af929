//! The seam that proposes runs to workers.
//!
//! A queue is a hint: it may lose or repeat an entry without harm, because the lease decides
//! ([`crate::store::StateStore::lease`]) and the store's own scan finds what was lost. Where the
//! queue is the state store itself, offering and acking are done by its own writes.
//!
//! A queue beside the store ([`crate::engine::EngineBuilder::queue`]) is told by the engine: what
//! starts, is asked or is given back is offered with its due time, what ends or parks is acked. It
//! keeps an entry until then, and hides what it has proposed from other claims for a while: what
//! nobody acks or offers meanwhile comes again.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    error::StoreError,
    id::{RunId, Timestamp},
};

/// Puts one run forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The run.
    pub run: RunId,
    /// Named queue.
    pub queue: String,
    /// Higher is proposed earlier.
    pub priority: i32,
    /// Tenant, for fairness.
    pub tenant: Option<String>,
    /// Not before this moment.
    pub due: Timestamp,
}

/// Asks for proposals.
#[derive(Debug, Clone)]
pub struct Claim {
    /// At most so many.
    pub limit: usize,
    /// Only from these named queues; empty means all.
    pub queues: Vec<String>,
    /// Not from these: they are at their cap.
    pub except: Vec<String>,
    /// Wait at most so long when nothing is due; a wake-up ends the wait early.
    pub wait: Duration,
}

/// Figures of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct QueueStats {
    /// Entries that are due.
    pub ready: u64,
    /// Entries that become due later.
    pub delayed: u64,
    /// Runs under a lease; 0 of a queue beside the store, which alone knows.
    pub leased: u64,
    /// Those of them whose lease is over: they are taken over by the next claim that sees them. 0 of
    /// a queue beside the store.
    #[serde(default)]
    pub expired: u64,
    /// Age of the oldest due entry, in milliseconds.
    pub oldest_ms: u64,
}

/// Proposes run ids; delivery is at least once and decides nothing.
#[async_trait]
pub trait Queue: Debug + Send + Sync + 'static {
    /// Puts runs forward; offering a known run moves its due time.
    ///
    /// # Errors
    /// The queue cannot be reached; the store's scan finds the runs later.
    async fn offer(&self, offers: &[Offer]) -> Result<(), StoreError>;

    /// Proposes due runs, waiting up to `claim.wait` when there are none. Safe to cancel.
    ///
    /// A queue that is the store itself knows when leases end: it proposes what a worker holds whose
    /// lease is over, and no wait lasts past that moment unnoticed.
    ///
    /// # Errors
    /// The queue cannot be reached.
    async fn claim(&self, claim: &Claim) -> Result<Vec<RunId>, StoreError>;

    /// Forgets entries, after the record that ends, parks or delays their runs was committed.
    ///
    /// # Errors
    /// The queue cannot be reached; the entries come again.
    async fn ack(&self, runs: &[RunId]) -> Result<(), StoreError>;

    /// Ends the waits of claimants, here and in other processes where the queue can.
    ///
    /// # Errors
    /// The queue cannot be reached; polling finds the runs.
    async fn wake(&self, runs: &[RunId]) -> Result<(), StoreError>;

    /// Counts.
    ///
    /// # Errors
    /// The queue cannot be read.
    async fn stats(&self) -> Result<QueueStats, StoreError>;
}
