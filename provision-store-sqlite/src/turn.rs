//! Whose turn it is to write: an OS file lock, taken for one bounded batch at a time.
//!
//! Waiting inside SQLite does not queue: with four busy processes its busy handler starves three
//! of them. The kernel's lock is freed when its holder dies, but does not queue either: who gives it
//! back and wants it again is there before those that have to be woken. So there are two: who waits
//! for the turn holds the place next to it, and who comes back from a turn finds that place taken.

use std::{
    fs::{File, TryLockError},
    path::Path,
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use provision_core::error::{StoreError, StoreErrorKind};

use crate::place::beside;

/// Opening waits longer than a call, by this factor: another process may be changing the schema.
const OPEN_PATIENCE: u32 = 6;

/// How often, and how long apart, one looks whether the place next to the turn is free: several
/// turns, so that nobody is overtaken for long.
const POLITE_LOOKS: u32 = 500;
const POLITE_PAUSE: Duration = Duration::from_micros(200);

/// The lock files of one handle.
#[derive(Debug)]
pub(crate) struct Turn {
    next: File,
    turn: File,
}

/// A turn under way; ends when dropped.
#[derive(Debug)]
pub(crate) struct Taken<'a>(&'a File);

/// Since when the turn is waited for, as seen by those whose calls wait with it.
#[derive(Debug, Default)]
pub(crate) struct Wanted(Mutex<Option<Instant>>);

impl Wanted {
    #[allow(
        clippy::disallowed_methods,
        reason = "how long a lock is waited for is no time of a run"
    )]
    fn set(&self, wanted: bool) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = wanted.then(Instant::now);
    }

    /// Whether it has been waited for so long: somebody holds it who does not go on.
    pub(crate) fn since(&self, long: Duration) -> bool {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() >= long)
    }
}

impl Turn {
    /// Opens the lock files beside `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let open = |suffix| {
            let mut options = File::options();
            options.create(true).truncate(false).write(true);
            options.open(beside(path, suffix)).map_err(|error| {
                StoreError::new(
                    StoreErrorKind::Unsuitable,
                    "sqlite_cannot_open",
                    "open the turn file",
                )
                .with_hint("check that the directory exists and is writable for this process")
                .with_source(error)
            })
        };
        Ok(Self { next: open("next")?, turn: open("turn")? })
    }

    /// Waits for the turn; `wanted` tells others since when.
    pub(crate) fn take(&self, wanted: &Wanted) -> Result<Taken<'_>, StoreError> {
        wanted.set(true);
        let taken = self.lock();
        wanted.set(false);
        taken?;
        Ok(Taken(&self.turn))
    }

    /// Takes the first turn, with a bound: its holder may be frozen. A call waits `busy`.
    ///
    /// The kernel's lock knows no bound, so another thread waits for it.
    pub(crate) fn take_first(self, busy: Duration) -> Result<Self, StoreError> {
        const OPERATION: &str = "open the store";
        let (sender, taken) = mpsc::channel();
        let waits = move || {
            let locked = self.lock();
            // Who asked may be gone; then the files are closed here, and the turn is free again.
            let _ = sender.send(locked.map(|()| self));
        };
        thread::Builder::new()
            .name("provision-turn".to_owned())
            .spawn(waits)
            .map_err(|error| StoreError::unavailable(OPERATION).with_source(error))?;
        let taken = taken.recv_timeout(busy.saturating_mul(OPEN_PATIENCE));
        taken.map_err(|_error| not_had(OPERATION))?
    }

    /// Gives back what [`take_first`](Self::take_first) took.
    pub(crate) fn give_back(&self) {
        drop(Taken(&self.turn));
    }

    fn lock(&self) -> Result<(), StoreError> {
        let has_place = self.takes_place();
        let locked = self.turn.lock();
        if has_place {
            // There is nobody to tell.
            let _ = self.next.unlock();
        }
        locked.map_err(|error| {
            StoreError::new(StoreErrorKind::Unavailable, "sqlite_turn", "take the turn to write")
                .with_source(error)
        })
    }
}

impl Turn {
    /// Waits for the place next to the turn, for a bounded time: who has it may be frozen, and nobody
    /// needs it to write.
    fn takes_place(&self) -> bool {
        for _ in 0..POLITE_LOOKS {
            match self.next.try_lock() {
                Ok(()) => return true,
                Err(TryLockError::WouldBlock) => thread::sleep(POLITE_PAUSE),
                Err(TryLockError::Error(_)) => return false,
            }
        }
        false
    }
}

/// The turn was waited for in vain: nothing was written.
pub(crate) fn not_had(operation: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "sqlite_busy", operation)
        .with_context("another process has the turn to write and does not give it back")
        .with_hint("look for a process of this file that is stopped, or dumps its memory")
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        // The kernel frees the lock in any case when the file is closed; there is nobody to tell.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, AtomicU32, Ordering},
        },
        thread,
        time::Duration,
    };

    use super::{Turn, Wanted};

    // covers: L2, L3
    #[test]
    fn who_stands_still_beside_the_turn_keeps_nobody_from_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p.db");
        let (frozen, other) = (Turn::open(&path).unwrap(), Turn::open(&path).unwrap());
        frozen.next.lock().unwrap();
        for _ in 0..2 {
            drop(other.take(&Wanted::default()).unwrap());
        }
    }

    // covers: L3
    #[test]
    fn who_comes_back_from_a_turn_waits_for_those_who_wait() {
        const TRIES: usize = 31;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p.db");
        let (turns, over) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let (greedy, counted, stop) =
            (Turn::open(&path).unwrap(), Arc::clone(&turns), Arc::clone(&over));
        let busy = thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let _taken = greedy.take(&Wanted::default()).unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(1));
            }
        });
        let (modest, mut missed) = (Turn::open(&path).unwrap(), Vec::new());
        for _ in 0..TRIES {
            let before = turns.load(Ordering::Relaxed);
            let taken = modest.take(&Wanted::default()).unwrap();
            missed.push(turns.load(Ordering::Relaxed) - before);
            drop(taken);
            thread::sleep(Duration::from_millis(2));
        }
        over.store(true, Ordering::Relaxed);
        busy.join().unwrap();
        missed.sort_unstable();
        // One that is preempted before it asks may miss many; most are not.
        assert!(missed[TRIES / 2] <= 2, "the other one's turns before ours: {missed:?}");
    }
}
