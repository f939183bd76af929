//! Patience with what is beside the store: who does not answer in time is left alone for a while.
//!
//! A queue or a limiter that hangs must not cost each of many calls a wait of its own.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::clock::{self, Moment};

/// How long one answer is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long nobody is asked after an answer did not come in time.
const LEFT_ALONE: Duration = Duration::from_secs(1);

/// Until when something is left alone.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    /// A std mutex: held for a look only.
    until: Mutex<Option<Moment>>,
}

impl Silence {
    /// Whether an answer did not come a moment ago: nothing is asked now.
    pub(crate) fn is_on(&self) -> bool {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| clock::moment() < until)
    }

    /// Waits for an answer, not for long; `None` when it did not come, or the silence is on.
    pub(crate) async fn broken_by<T>(&self, call: impl Future<Output = T> + Send) -> Option<T> {
        if self.is_on() {
            return None;
        }
        let answer = clock::within(PATIENCE, call).await;
        let until = answer.is_none().then(|| clock::moment() + LEFT_ALONE);
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use super::Silence;
    use crate::clock;

    // covers: S23, L7
    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_waited_for_once_and_asked_again_later() {
        let silence = Silence::default();
        let began = clock::moment();
        for _ in 0..50 {
            assert_eq!(silence.broken_by(pending::<()>()).await, None);
        }
        assert!(began.elapsed() < Duration::from_millis(1_100), "{:?}", began.elapsed());
        assert!(silence.is_on());
        clock::sleep(Duration::from_millis(1_010)).await;
        assert_eq!(silence.broken_by(async { 7 }).await, Some(7));
        assert!(!silence.is_on());
    }
}
