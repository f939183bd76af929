//! The only file that touches the real clock and timer.
//!
//! Local timers run on tokio's clock, so a test with paused time drives every deadline. Due times
//! and leases are judged by the store's clock, never by these.

use std::{
    fmt::Debug,
    future::Future,
    time::{Duration, SystemTime},
};

use crate::id::Timestamp;

/// A wall clock that a test can replace. Decides nothing but what people read.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The wall clock's reading.
    fn wall(&self) -> Timestamp;
}

/// The machine's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this file is where the real clock is read")]
    fn wall(&self) -> Timestamp {
        Timestamp::from_system(SystemTime::now())
    }
}

/// A moment of the local monotonic clock.
pub(crate) type Moment = tokio::time::Instant;

/// The local monotonic clock.
pub(crate) fn moment() -> Moment {
    tokio::time::Instant::now()
}

/// Lets time pass.
#[allow(clippy::disallowed_methods, reason = "this file is where the real timer is used")]
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Runs a future for at most `allowed`; `None` when its time is over.
///
/// S6: the timer is asked before the future on every poll, so that a process that was frozen past
/// the end does not go on with the call when it wakes.
pub async fn within<T>(allowed: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = sleep(allowed) => None,
        value = future => Some(value),
    }
}
