//! Workers of this process, as `start` sees them: a run that is created while one of them has a
//! free slot is leased to it by the very write that creates it, and handed over in memory.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::{
    drive::{Begun, Shared},
    store::{Incarnation, Leased, NewLease, RunHead},
};

/// A leased run on its way to a worker.
pub(crate) struct Handed {
    pub(crate) leased: Leased,
    /// What the start has written of it already.
    pub(crate) begun: Option<Box<Begun>>,
    /// The slot that was kept for it.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// One worker of this process.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) shared: Arc<Shared>,
    pub(crate) ttl: Duration,
    pub(crate) queues: Vec<String>,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) hand: mpsc::UnboundedSender<Handed>,
}

impl Local {
    /// The lease that a run is to be born with, and what is decided of it already.
    pub(crate) fn lease_of(&self, head: &RunHead) -> (NewLease, Option<Box<Begun>>) {
        let plan = self.shared.plans.get(&head.saga);
        let (begun, first) = plan.and_then(|plan| Begun::of(&self.shared, plan, head)).unzip();
        let first = first.map(Box::new);
        (NewLease { worker: self.shared.worker, ttl: self.ttl, first }, begun.map(Box::new))
    }
}

/// A slot that a start has kept.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) local: Arc<Local>,
    permit: OwnedSemaphorePermit,
}

impl Kept {
    /// Hands the run over. Were the worker gone, its lease would run out and the run be taken over.
    pub(crate) fn hand(self, leased: Leased, begun: Option<Box<Begun>>) {
        // A store that has not written the first frame has it decided again.
        let begun = begun.filter(|_| leased.record.head.seq == 1);
        let _ = self.local.hand.send(Handed { leased, begun, permit: self.permit });
    }
}

/// The workers of one engine in this process.
#[derive(Debug, Default)]
pub(crate) struct Locals {
    /// A std mutex: held for a look only.
    workers: Mutex<Vec<Arc<Local>>>,
}

impl Locals {
    pub(crate) fn add(&self, local: Arc<Local>) {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(local);
    }

    pub(crate) fn remove(&self, worker: Incarnation) {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|local| local.shared.worker != worker);
    }

    /// Whether any worker is there.
    pub(crate) fn any(&self) -> bool {
        !self.workers.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Keeps a slot of a worker that serves this queue, if one is free.
    pub(crate) fn keep(&self, queue: &str) -> Option<Kept> {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.iter().find_map(|local| {
            let serves = local.queues.is_empty() || local.queues.iter().any(|q| q == queue);
            if !serves || local.hand.is_closed() {
                return None;
            }
            let permit = Arc::clone(&local.slots).try_acquire_owned().ok()?;
            Some(Kept { local: Arc::clone(local), permit })
        })
    }
}
