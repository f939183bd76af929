//! Wake-ups inside one process: who waits for a run, and who waits for work.
//!
//! They save latency and nothing else; without them polling finds the same.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

use crate::id::RunId;

/// The two wake-ups of a run: at every commit, and when it stands still.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wakes {
    pub(crate) each: Arc<Notify>,
    pub(crate) still: Arc<Notify>,
    /// Whether it stood still since somebody watches.
    pub(crate) stood: Arc<AtomicBool>,
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

    /// Wakes who waits for a run; `still` says that it is over or parked.
    pub(crate) fn changed(&self, run: &RunId, still: bool) {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, wakes)) = runs.get(run) {
            wakes.each.notify_waiters();
            if still {
                wakes.stood.store(true, Ordering::Release);
                wakes.still.notify_waiters();
            }
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
