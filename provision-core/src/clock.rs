//! The only file that touches the real clock and timer.
//!
//! Local timers run on tokio's clock, so a test with paused time drives every deadline. Due times
//! and leases are judged by the store's clock, never by these.

use std::{
    fmt::Debug,
    future::Future,
    task::Poll,
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
/// S6: the clock itself is read before the future on every poll, so that a process that was frozen
/// past the end does not go on with the call when it wakes. The timer alone would not do: it hears
/// of the time only when the runtime gets to its driver.
pub async fn within<T>(allowed: Duration, future: impl Future<Output = T>) -> Option<T> {
    let end = moment().checked_add(allowed);
    let mut timer = std::pin::pin!(sleep(allowed));
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        let over = end.is_some_and(|end| moment() >= end);
        if over || timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Poll, time::Duration};

    use super::within;

    // covers: S6
    #[tokio::test]
    async fn a_future_is_not_polled_once_its_time_is_over_though_no_timer_has_told() {
        let mut polls = 0;
        let frozen = poll_fn(|cx| {
            polls += 1;
            // The process stands still, and is woken by something else than its timer.
            std::thread::sleep(Duration::from_millis(500));
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert_eq!(within(Duration::from_millis(400), frozen).await, None);
        assert_eq!(polls, 1);
    }
}
