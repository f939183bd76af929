//! A budget of retries per provider: when most calls fail, retrying every one of them doubles the
//! load on somebody who is down already.
//!
//! Each call pays something in, each retry takes one out. The value is kept by whoever owns it;
//! losing it costs one reserve of retries.

use std::time::Duration;

use crate::id::Timestamp;

/// A token bucket filled by calls: allows retries up to a share of the calls made.
///
/// Default: one retry per five calls, a reserve of 10 that never waits for calls, and one further
/// retry per second, so that a quiet provider can always be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Thousandths of a retry, so that all arithmetic is whole.
    level: u64,
    reserve: u64,
    per_call: u64,
    per_second: u64,
    filled_at: Timestamp,
}

/// One retry, in the unit of the level.
const RETRY: u64 = 1_000;

impl Budget {
    /// A full budget: `reserve` retries at once, one more per `calls_per_retry` calls.
    #[must_use]
    pub fn new(reserve: u32, calls_per_retry: u32, now: Timestamp) -> Self {
        let reserve = u64::from(reserve.max(1)) * RETRY;
        Self {
            level: reserve,
            reserve,
            per_call: RETRY / u64::from(calls_per_retry.clamp(1, 1_000)),
            per_second: RETRY,
            filled_at: now,
        }
    }

    /// The default budget, full.
    #[must_use]
    pub fn standard(now: Timestamp) -> Self {
        Self::new(10, 5, now)
    }

    /// Changes how many retries come back per second without any call; 0 turns that off.
    #[must_use]
    pub fn with_retries_per_second(mut self, retries: u32) -> Self {
        self.per_second = u64::from(retries) * RETRY;
        self
    }

    /// Counts a first attempt.
    pub fn called(&mut self) {
        self.level = self.level.saturating_add(self.per_call).min(self.reserve);
    }

    /// Takes one retry out; if there is none, says how long to wait before asking again.
    ///
    /// # Errors
    /// The wait; nothing was taken.
    pub fn withdraw(&mut self, now: Timestamp) -> Result<(), Duration> {
        self.refill(now);
        if let Some(rest) = self.level.checked_sub(RETRY) {
            self.level = rest;
            return Ok(());
        }
        let missing = RETRY - self.level;
        let ms = (missing * 1_000).checked_div(self.per_second).unwrap_or(60_000);
        Err(Duration::from_millis(ms.max(1)))
    }

    /// Retries that are left, rounded down.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.level / RETRY
    }

    fn refill(&mut self, now: Timestamp) {
        let since = now.since(self.filled_at).as_millis();
        let gained = since.saturating_mul(u128::from(self.per_second)) / 1_000;
        if gained == 0 {
            return;
        }
        let gained = u64::try_from(gained).unwrap_or(u64::MAX);
        self.level = self.level.saturating_add(gained).min(self.reserve);
        self.filled_at = now;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};

    use super::{Budget, Duration, Timestamp};

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    // covers: R1-14
    #[test]
    fn a_provider_that_is_down_gets_the_reserve_and_then_a_trickle() {
        let mut budget = Budget::standard(at(0));
        let taken = (0..1_000).filter(|_| budget.withdraw(at(0)).is_ok()).count();
        assert_eq!(taken, 10);
        assert_eq!(budget.withdraw(at(0)), Err(Duration::from_secs(1)));
        assert_eq!(budget.withdraw(at(400)), Err(Duration::from_millis(600)));
        assert_eq!(budget.withdraw(at(1_000)), Ok(()));
        assert!(budget.withdraw(at(1_000)).is_err());
    }

    #[test]
    fn calls_pay_for_a_share_of_retries() {
        let mut budget = Budget::new(10, 5, at(0)).with_retries_per_second(0);
        while budget.withdraw(at(0)).is_ok() {}
        (0..4).for_each(|_| budget.called());
        assert_eq!(budget.withdraw(at(9_000)), Err(Duration::from_mins(1)));
        budget.called();
        assert_eq!(budget.withdraw(at(9_000)), Ok(()));
        (0..1_000).for_each(|_| budget.called());
        assert_eq!(budget.left(), 10);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn retries_never_exceed_reserve_share_and_trickle(
            steps in proptest::collection::vec((any::<bool>(), 0u64..2_000), 1..300),
        ) {
            let (mut budget, mut now, mut calls, mut taken) = (Budget::standard(at(0)), 0, 0, 0);
            for (call, pause) in steps {
                now += pause;
                if call {
                    budget.called();
                    calls += 1;
                } else if budget.withdraw(at(now)).is_ok() {
                    taken += 1;
                }
            }
            prop_assert!(taken * 1_000 <= 10_000 + calls * 200 + now);
        }

        #[test]
        fn waiting_as_told_is_enough(pauses in proptest::collection::vec(0u64..300, 1..60)) {
            let (mut budget, mut now) = (Budget::new(3, 5, at(0)), 0);
            for pause in pauses {
                now += pause;
                if let Err(wait) = budget.withdraw(at(now)) {
                    now += u64::try_from(wait.as_millis()).unwrap();
                    prop_assert!(budget.withdraw(at(now)).is_ok());
                }
            }
        }
    }
}
