//! What the store has done since it was opened: counts that do not move with the machine.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts since the store was opened, of this process alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Requests sent that were waited for.
    pub round_trips: u64,
    /// Among them those that sent the text of a script, because the server did not know it.
    pub texts_sent: u64,
    /// Bytes of names and arguments sent.
    pub bytes_sent: u64,
}

/// The counts while they grow.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    round_trips: AtomicU64,
    texts_sent: AtomicU64,
    bytes_sent: AtomicU64,
}

impl Tally {
    pub(crate) fn sent(&self, bytes: usize, text: bool) {
        self.round_trips.fetch_add(1, Relaxed);
        self.texts_sent.fetch_add(u64::from(text), Relaxed);
        self.bytes_sent.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn read(&self) -> Counters {
        Counters {
            round_trips: self.round_trips.load(Relaxed),
            texts_sent: self.texts_sent.load(Relaxed),
            bytes_sent: self.bytes_sent.load(Relaxed),
        }
    }
}
