//! Circuit breaker arithmetic: pure, one for all stores.
//!
//! While a provider is down, calls are held back instead of burning attempts; one probe at a time
//! finds out whether it is up again. Unlike a rate, the breaker knows nothing of how many calls
//! are made, only how they ended.
//!
//! ```
//! use provision_core::{Timestamp, breaker::{Breaker, FAILURES_MAX, OPEN_FOR}};
//!
//! let (mut breaker, mut now) = (Breaker::default(), Timestamp::from_millis(1_000_000));
//! for _ in 0..FAILURES_MAX {
//!     breaker.record(false, now);
//! }
//! assert_eq!(breaker.check(now), Err(now.plus(OPEN_FOR)));
//!
//! // After a while one call is the probe; its good end lets all others pass.
//! now = now.plus(OPEN_FOR);
//! assert_eq!(breaker.check(now), Ok(1));
//! breaker.pass(now);
//! assert!(breaker.check(now).is_err());
//! breaker.record(true, now);
//! assert_eq!(breaker.check(now), Ok(u32::MAX));
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::Timestamp;

/// Unhealthy calls, less the healthy ones since, that open the breaker.
pub const FAILURES_MAX: usize = 5;
/// Unhealthy calls older than this are forgotten.
pub const FAILURE_WINDOW: Duration = Duration::from_secs(60);
/// How long calls are held back before a probe, and how long a probe may take to answer.
pub const OPEN_FOR: Duration = Duration::from_secs(30);

/// State of the breaker of one bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Breaker {
    /// Calls pass; holds the moments of the recent unhealthy ones, oldest first.
    Closed {
        /// Never [`FAILURES_MAX`] or more.
        failures: Vec<Timestamp>,
    },
    /// No call passes.
    Open {
        /// Moment of the first probe.
        until: Timestamp,
    },
    /// One probe is out.
    HalfOpen {
        /// A probe that has not answered by then is given up, and another one may go.
        until: Timestamp,
    },
}

impl Default for Breaker {
    fn default() -> Self {
        Self::Closed { failures: Vec::new() }
    }
}

impl Breaker {
    /// Says how many calls may pass: any number, one probe, or none before a moment.
    ///
    /// # Errors
    /// The moment to ask again.
    pub fn check(&self, now: Timestamp) -> Result<u32, Timestamp> {
        match self {
            Self::Closed { .. } => Ok(u32::MAX),
            Self::Open { until } | Self::HalfOpen { until } if now < *until => Err(*until),
            Self::Open { .. } | Self::HalfOpen { .. } => Ok(1),
        }
    }

    /// Notes that a call passes; makes it the probe unless the breaker is closed.
    pub fn pass(&mut self, now: Timestamp) {
        if !matches!(self, Self::Closed { .. }) {
            *self = Self::HalfOpen { until: now.plus(OPEN_FOR) };
        }
    }

    /// Notes how a call ended. Answers of calls sent before it opened do not move an open breaker.
    pub fn record(&mut self, healthy: bool, now: Timestamp) {
        match (&mut *self, healthy) {
            (Self::HalfOpen { .. }, true) => *self = Self::default(),
            (Self::HalfOpen { .. }, false) => *self = Self::Open { until: now.plus(OPEN_FOR) },
            (Self::Open { .. }, _) => {}
            // One healthy call takes one failure back, so that a few errors among many good
            // answers never close off a provider.
            (Self::Closed { failures }, true) => {
                if !failures.is_empty() {
                    failures.remove(0);
                }
            }
            (Self::Closed { failures }, false) => {
                failures.retain(|at| now.since(*at) < FAILURE_WINDOW);
                failures.push(now);
                if failures.len() >= FAILURES_MAX {
                    *self = Self::Open { until: now.plus(OPEN_FOR) };
                }
            }
        }
    }

    /// Whether the state says nothing any more, so that it need not be kept.
    #[must_use]
    pub fn is_idle(&self, now: Timestamp) -> bool {
        match self {
            Self::Closed { failures } => failures.iter().all(|at| now.since(*at) >= FAILURE_WINDOW),
            Self::Open { .. } | Self::HalfOpen { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Breaker, FAILURES_MAX, Timestamp};

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        for second in 0..FAILURES_MAX as u64 {
            assert!(breaker.check(at(second)).is_ok());
            breaker.record(false, at(second));
        }
        breaker
    }

    // covers: R4-28
    #[test]
    fn five_failures_within_a_minute_open_it_for_half_a_minute() {
        let breaker = opened();
        assert_eq!(breaker.check(at(4)), Err(at(34)));
        assert_eq!(breaker.check(at(33)), Err(at(34)));
        assert_eq!(breaker.check(at(34)), Ok(1));
    }

    #[test]
    fn failures_spread_over_minutes_do_not_open_it() {
        let mut breaker = Breaker::default();
        for round in 0..50 {
            breaker.record(false, at(round * 16));
            assert!(breaker.check(at(round * 16)).is_ok());
        }
        assert!(!breaker.is_idle(at(49 * 16)) && breaker.is_idle(at(49 * 16 + 60)));
    }

    #[test]
    fn healthy_answers_take_failures_back() {
        let mut breaker = Breaker::default();
        for _ in 0..50 {
            breaker.record(false, at(0));
            breaker.record(true, at(0));
        }
        assert_eq!(breaker, Breaker::default());
    }

    // covers: R4-28
    #[test]
    fn one_probe_at_a_time_decides() {
        let mut breaker = opened();
        breaker.pass(at(40));
        assert_eq!(breaker.check(at(41)), Err(at(70)), "the probe is out");
        breaker.record(false, at(42));
        assert_eq!(breaker.check(at(43)), Err(at(72)), "a failed probe opens it again");
        breaker.pass(at(72));
        breaker.record(true, at(73));
        assert_eq!(breaker, Breaker::default());
    }

    #[test]
    fn a_lost_probe_is_followed_by_another() {
        let mut breaker = opened();
        breaker.pass(at(34));
        assert!(breaker.check(at(63)).is_err());
        assert_eq!(breaker.check(at(64)), Ok(1));
    }

    #[test]
    fn late_answers_do_not_move_an_open_breaker() {
        let mut breaker = opened();
        breaker.record(true, at(10));
        breaker.record(false, at(20));
        assert_eq!(breaker.check(at(20)), Err(at(34)));
    }
}
