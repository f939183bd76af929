//! Rate arithmetic: the generic cell rate algorithm on whole microseconds, pure, one for all stores.
//!
//! It answers with a moment instead of sleeping, its state is one number, and it never grants more
//! than the burst plus what the time since then has earned.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{id::Timestamp, limit::Rate};

/// Where a rate stands: the moment at which the bucket is full again, in microseconds since 1970.
///
/// The number stays below 2^53 for centuries, so every store keeps it exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Gcra {
    /// Theoretical arrival time of the next call of a caller who never bursts.
    tat_us: u64,
}

impl Gcra {
    /// Says how many calls could be taken now, at least 1, or when the next one can.
    ///
    /// # Errors
    /// The first moment, in whole milliseconds, at which one call can be taken.
    pub fn available(self, rate: Rate, now: Timestamp) -> Result<u32, Timestamp> {
        let every = interval_us(rate);
        if every == 0 {
            return Ok(u32::MAX);
        }
        let now = micros(now);
        let room = now.saturating_add(every.saturating_mul(burst(rate)));
        let tat = self.tat_us.max(now);
        let calls = room.saturating_sub(tat) / every;
        if calls == 0 {
            let over = tat.saturating_add(every).saturating_sub(room);
            let at = now.saturating_add(over).div_ceil(1_000);
            return Err(Timestamp::from_millis(at));
        }
        Ok(u32::try_from(calls).unwrap_or(u32::MAX))
    }

    /// Takes `calls` calls; take no more than [`Self::available`] allows.
    #[must_use]
    pub fn take(self, rate: Rate, now: Timestamp, calls: u32) -> Self {
        let used = interval_us(rate).saturating_mul(u64::from(calls));
        Self { tat_us: self.tat_us.max(micros(now)).saturating_add(used) }
    }

    /// The first moment at or after `first` that is an interval of the rate later than the last one
    /// named, so that callers are told distinct moments. Begins anew when that is more than `most`
    /// after `first`: turns that nobody came for hold back newcomers for no longer.
    #[must_use]
    pub(crate) fn turn_after(self, rate: Rate, first: Timestamp, most: Duration) -> Self {
        let first = micros(first);
        let next = self.tat_us.saturating_add(interval_us(rate));
        let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        let in_line = (first..=first.saturating_add(most)).contains(&next);
        Self { tat_us: if in_line { next } else { first } }
    }

    /// The moment itself, in whole milliseconds.
    pub(crate) fn moment(self) -> Timestamp {
        Timestamp::from_millis(self.tat_us.div_ceil(1_000))
    }

    /// Whether the bucket is full again, so that its state need not be kept.
    #[must_use]
    pub fn is_idle(self, now: Timestamp) -> bool {
        self.tat_us <= micros(now)
    }
}

/// Microseconds between two calls, rounded up so that rounding never grants more.
fn interval_us(rate: Rate) -> u64 {
    let per = u64::try_from(rate.per.as_micros()).unwrap_or(u64::MAX);
    per.div_ceil(u64::from(rate.calls.max(1)))
}

fn burst(rate: Rate) -> u64 {
    u64::from(rate.burst.max(1))
}

fn micros(at: Timestamp) -> u64 {
    at.as_millis().saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{ProptestConfig, prop, prop_assert, prop_assert_eq, proptest};

    use super::{Gcra, Rate, Timestamp, interval_us};

    fn rate(calls: u32, per_ms: u64, burst: u32) -> Rate {
        Rate { calls, per: Duration::from_millis(per_ms), burst }
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + ms)
    }

    #[test]
    fn a_burst_is_granted_at_once_and_then_one_per_interval() {
        let rate = rate(10, 1_000, 3);
        assert_eq!(Gcra::default().available(rate, at(0)), Ok(3));
        let state = Gcra::default().take(rate, at(0), 3);
        assert_eq!(state.available(rate, at(0)), Err(at(100)));
        assert_eq!(state.available(rate, at(99)), Err(at(100)));
        assert_eq!(state.available(rate, at(100)), Ok(1));
        assert_eq!(state.available(rate, at(1_000)), Ok(3));
        assert!(state.is_idle(at(300)) && !state.is_idle(at(299)));
    }

    #[test]
    fn a_period_of_zero_limits_nothing() {
        assert_eq!(Gcra::default().available(rate(1, 0, 1), at(0)), Ok(u32::MAX));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        // The oracle is a bucket of tokens in exact arithmetic: full at first, one more per interval.
        #[test]
        fn grants_equal_those_of_an_exact_token_bucket(
            calls in 1_u32..50, per_ms in 1_u64..5_000, burst in 1_u32..20,
            asks in prop::collection::vec((0_u64..2_000, 1_u32..10), 1..60),
        ) {
            let rate = rate(calls, per_ms, burst);
            let every = u128::from(interval_us(rate));
            let full = every * u128::from(burst);
            let (mut state, mut level, mut now, mut total) = (Gcra::default(), full, 0_u64, 0_u128);
            for (pause, wanted) in asks {
                now += pause;
                level = full.min(level + u128::from(pause) * 1_000);
                let oracle = u32::try_from(level / every).unwrap();
                match state.available(rate, at(now)) {
                    Ok(found) => {
                        prop_assert_eq!(found, oracle);
                        let taken = found.min(wanted);
                        state = state.take(rate, at(now), taken);
                        level -= every * u128::from(taken);
                        total += u128::from(taken);
                    }
                    Err(next) => {
                        prop_assert_eq!(oracle, 0);
                        prop_assert!(next > at(now));
                        prop_assert!(state.available(rate, next).is_ok());
                        let before = Timestamp::from_millis(next.as_millis() - 1);
                        prop_assert!(state.available(rate, before).is_err());
                    }
                }
                prop_assert!(total * every <= full + u128::from(now) * 1_000);
            }
        }
    }
}
