//! How late the machine is: what a time that was measured on it may be late by.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use provision_core::{Engine, clock::sleep, store::RunFilter};
use tokio::task::JoinSet;

use super::now;

/// How long each pause is that is timed.
const PAUSE: Duration = Duration::from_millis(100);

/// Pauses for a tenth of a second and asks the store one question, again and again, beside what is
/// measured.
#[derive(Debug)]
pub(super) struct Pace {
    worst_ms: Arc<AtomicU64>,
    /// Ends with this value.
    _asking: JoinSet<()>,
}

impl Pace {
    pub(super) fn of(engine: &Engine) -> Self {
        let (worst_ms, engine) = (Arc::new(AtomicU64::new(0)), engine.clone());
        let (worst, mut asking) = (Arc::clone(&worst_ms), JoinSet::new());
        asking.spawn(async move {
            let one = RunFilter { limit: 1, ..RunFilter::default() };
            loop {
                let begun = now();
                sleep(PAUSE).await;
                drop(engine.runs(&one).await);
                let late = now().since(begun).saturating_sub(PAUSE);
                worst.fetch_max(u64::try_from(late.as_millis()).unwrap_or(u64::MAX), Relaxed);
            }
        });
        Self { worst_ms, _asking: asking }
    }

    /// By how much the slowest of them took longer than its pause.
    pub(super) fn lateness(self) -> Duration {
        Duration::from_millis(self.worst_ms.load(Relaxed))
    }
}
