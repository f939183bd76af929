//! Wake-ups inside one process: who waits for a run, and who waits for work.
//!
//! They save latency and nothing else; without them polling finds the same.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::{
    error::Failure,
    id::{Payload, RunId},
    run::RunStatus,
};

/// What a run was when it came to a stop: enough to tell its outcome without reading it again.
#[derive(Debug)]
pub(crate) struct Still {
    pub(crate) status: RunStatus,
    pub(crate) failure: Option<Failure>,
    pub(crate) output: Option<Payload>,
    pub(crate) tolerated: Vec<Failure>,
}

/// The two wake-ups of a run: at every commit, and when it stands still.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wakes {
    pub(crate) each: Arc<Notify>,
    pub(crate) still: Arc<Notify>,
    stops: Arc<Mutex<Stops>>,
}

#[derive(Debug, Default)]
struct Stops {
    count: u64,
    last: Option<Arc<Still>>,
}

impl Wakes {
    fn stops(&self) -> MutexGuard<'_, Stops> {
        self.stops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often it stood still since somebody watches.
    pub(crate) fn count(&self) -> u64 {
        self.stops().count
    }

    /// How it stands, if it came to a stop after the `count`th time and did not go on since.
    pub(crate) fn after(&self, count: u64) -> Option<Arc<Still>> {
        let stops = self.stops();
        stops.last.clone().filter(|_| stops.count > count)
    }
}

/// Wake-ups of one engine.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// A std mutex: held for a look-up only, never across an await.
    runs: Mutex<HashMap<RunId, (usize, Wakes)>>,
    /// Woken at every submission.
    pub(crate) work: Notify,
}

impl Changes {
    /// Waits for changes of one run until the watcher is dropped.
    pub(crate) fn watch(self: &Arc<Self>, run: RunId) -> Watcher {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, wakes) = runs.entry(run).or_default();
        *count += 1;
        Watcher { changes: Arc::clone(self), run, wakes: wakes.clone() }
    }

    /// Wakes who waits for a run after a commit.
    pub(crate) fn changed(&self, run: &RunId) {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, wakes)) = runs.get(run) {
            wakes.stops().last = None;
            wakes.each.notify_waiters();
        }
    }

    /// Wakes who waits for a run that is over or parked; asks how it stands only if somebody does.
    pub(crate) fn stopped(&self, run: &RunId, still: impl FnOnce() -> Option<Still>) {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, wakes)) = runs.get(run) {
            {
                let mut stops = wakes.stops();
                stops.count += 1;
                stops.last = still().map(Arc::new);
            }
            wakes.each.notify_waiters();
            wakes.still.notify_waiters();
        }
    }
}

/// Someone who waits for a run.
#[derive(Debug)]
pub(crate) struct Watcher {
    changes: Arc<Changes>,
    run: RunId,
    pub(crate) wakes: Wakes,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut runs = self.changes.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((count, _)) = runs.get_mut(&self.run) {
            *count -= 1;
            if *count == 0 {
                runs.remove(&self.run);
            }
        }
    }
}
