//! A worker's door to everything outside it: shut while the worker is frozen, for ever once it is
//! dead.
//!
//! A frozen process does nothing that others can see, and neither does a worker whose gate is
//! shut; what it computes meanwhile is only between it and itself. When the gate opens it goes on
//! exactly where it was: that is the zombie that leases and fences are for.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::{sync::Notify, time::Instant};

#[derive(Debug, Default)]
struct Inside {
    frozen_until: Option<Instant>,
    dead: bool,
    passed: u64,
    dies_at: Option<u64>,
}

/// The gate of one life of one worker.
#[derive(Debug, Default)]
pub(super) struct Gate {
    inside: Mutex<Inside>,
    /// Woken when the gate opens early.
    changed: Notify,
}

impl Gate {
    /// Passes when the worker is awake; never when it is dead.
    pub(super) async fn pass(&self) {
        loop {
            let changed = self.changed.notified();
            let until = match self.look() {
                Look::Open => return,
                Look::Frozen(until) => until,
                Look::Dead => return std::future::pending().await,
            };
            tokio::select! {
                biased;
                () = changed => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    /// Passes a seam that is counted: the worker may die right here.
    pub(super) async fn seam(&self) {
        self.pass().await;
        let dies = {
            let mut inside = self.lock();
            inside.passed += 1;
            let dies = inside.dies_at == Some(inside.passed);
            inside.dead |= dies;
            dies
        };
        if dies {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn freeze(&self, until: Instant) {
        self.lock().frozen_until = Some(until);
    }

    pub(super) fn thaw(&self) {
        self.lock().frozen_until = None;
        self.changed.notify_waiters();
    }

    pub(super) fn kill(&self) {
        self.lock().dead = true;
    }

    /// Lets the worker die at so many seams from now.
    pub(super) fn die_in(&self, seams: u64) {
        let mut inside = self.lock();
        inside.dies_at = Some(inside.passed + seams);
    }

    pub(super) fn spare(&self) {
        self.lock().dies_at = None;
    }

    pub(super) fn is_dead(&self) -> bool {
        self.lock().dead
    }

    fn look(&self) -> Look {
        let mut inside = self.lock();
        if inside.dead {
            return Look::Dead;
        }
        match inside.frozen_until {
            Some(until) if until > Instant::now() => Look::Frozen(until),
            _ => {
                inside.frozen_until = None;
                Look::Open
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Look {
    Open,
    Frozen(Instant),
    Dead,
}
