//! What the store has done since it was opened: counts that do not move with the machine.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts since the store was opened, of this handle's process alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Transactions committed, those of a single statement included.
    pub commits: u64,
    /// Statements sent, without `BEGIN` and `COMMIT`.
    pub statements: u64,
    /// Appends that were accepted.
    pub appends: u64,
    /// Notifications sent to other processes.
    pub notifications: u64,
}

/// The counts while they grow.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    commits: AtomicU64,
    statements: AtomicU64,
    appends: AtomicU64,
    notifications: AtomicU64,
}

impl Tally {
    pub(crate) fn committed(&self) {
        self.commits.fetch_add(1, Relaxed);
    }

    pub(crate) fn statement(&self) {
        self.statements.fetch_add(1, Relaxed);
    }

    pub(crate) fn appended(&self) {
        self.appends.fetch_add(1, Relaxed);
    }

    pub(crate) fn notified(&self) {
        self.notifications.fetch_add(1, Relaxed);
    }

    pub(crate) fn read(&self) -> Counters {
        Counters {
            commits: self.commits.load(Relaxed),
            statements: self.statements.load(Relaxed),
            appends: self.appends.load(Relaxed),
            notifications: self.notifications.load(Relaxed),
        }
    }
}
