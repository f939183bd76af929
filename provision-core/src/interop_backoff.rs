//! For hosts that still use the `backoff` crate: its errors and policies, to ours and back.
//!
//! That crate is unmaintained (RUSTSEC-2025-0012), so nothing here is compiled without the feature
//! `backoff`, and nothing of the engine uses it. It knows no effect: whoever converts an error says
//! what may have happened.
//!
//! ```
//! use std::{io, time::Duration};
//!
//! use backoff::backoff::Backoff;
//! use provision_core::{Effect, Policy, Verdict, interop_backoff::{PolicyBackoff, policy, step_error}};
//!
//! // A policy of theirs as ours, with the number of attempts that theirs lacks.
//! let theirs = backoff::ExponentialBackoff { multiplier: 3.0, ..Default::default() };
//! let ours: Policy = policy(&theirs, 5);
//! assert_eq!(ours.base(1), theirs.initial_interval);
//!
//! // A policy of ours where theirs is asked for.
//! let mut twice = PolicyBackoff::new(Policy::attempts(2).fixed(Duration::from_millis(1)));
//! assert!(twice.next_backoff().is_some());
//! assert_eq!(twice.next_backoff(), None);
//!
//! // An error of theirs as ours; whoever converts it says what may have happened.
//! let lost = backoff::Error::transient(io::Error::other("reset"));
//! let error = step_error(lost, "order seats", Effect::Unknown);
//! assert_eq!(error.verdict(), &Verdict::Retry { after: None });
//! ```

use std::{error::Error as StdError, sync::Arc, time::Duration};

use backoff::{backoff::Backoff as BackoffTrait, exponential::ExponentialBackoff};

use crate::{
    clock::{Clock, SystemClock},
    draw::{Entropy, SystemEntropy, number},
    error::{Effect, StepError, Verdict},
    id::Timestamp,
    retry::{Backoff, Jitter, Next, Policy, Series},
};

/// Turns an error of `backoff` into ours: transient ones are worth repeating, permanent ones not.
#[must_use]
pub fn step_error<E: StdError + Send + Sync + 'static>(
    error: backoff::Error<E>,
    operation: &'static str,
    effect: Effect,
) -> StepError {
    match error {
        backoff::Error::Permanent(error) => {
            StepError::new(effect, Verdict::Permanent, operation).with_source(error)
        }
        backoff::Error::Transient { err, retry_after } => {
            StepError::new(effect, Verdict::Retry { after: retry_after }, operation)
                .with_source(err)
        }
    }
}

/// Turns our error into one of `backoff`.
///
/// Only errors that surely had no effect become transient: that crate repeats without looking
/// whether the first call has landed.
#[must_use]
pub fn backoff_error(error: StepError) -> backoff::Error<StepError> {
    let after = match (error.effect(), error.verdict()) {
        (Effect::None, Verdict::Retry { after }) => Some(*after),
        (Effect::None, Verdict::Throttled { after, .. }) => Some(Some(*after)),
        _ => None,
    };
    match after {
        Some(retry_after) => backoff::Error::Transient { err: error, retry_after },
        None => backoff::Error::Permanent(error),
    }
}

/// Turns an exponential policy of `backoff` into ours, with a number of attempts, which it lacks.
///
/// The factor becomes the nearest whole number of 1 to 10 (its default 1.5 becomes 2). Without
/// randomization there is no jitter, else half of each wait is random. No limit of time becomes
/// [`Policy::MAX_TOTAL`].
#[must_use]
pub fn policy<C>(from: &ExponentialBackoff<C>, attempts: u32) -> Policy {
    let distance = |factor: &u32| (f64::from(*factor) - from.multiplier).abs();
    // Downwards, so that of two equally near factors the gentler one is taken.
    let factor = (1..=10).rev().min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(2);
    let first = from.initial_interval.min(from.max_interval);
    let jitter = if from.randomization_factor > 0.0 { Jitter::Equal } else { Jitter::None };
    Policy::attempts(attempts)
        .exponential(first, factor, from.max_interval)
        .with_jitter(jitter)
        .with_total(from.max_elapsed_time.unwrap_or(Policy::MAX_TOTAL).min(Policy::MAX_TOTAL))
}

/// Turns our policy into an exponential one of `backoff`, as near as it can express it.
///
/// Exact for first wait, factor, cap, total time, and full, equal or no jitter. Lost are the
/// number of attempts and an additive jitter; [`PolicyBackoff`] keeps both.
#[must_use]
pub fn exponential(from: &Policy) -> backoff::ExponentialBackoff {
    let (first, factor, cap) = match from.backoff() {
        Backoff::Exponential { first, factor, cap } => (first, factor, cap),
        Backoff::Fixed { every } => (every, 1, every),
        Backoff::None => (Duration::ZERO, 1, Duration::ZERO),
    };
    // Its waits are the interval plus or minus a share of it: the middle of ours, and its width.
    let (middle, share) = match from.jitter() {
        Jitter::Full => (0.5, 1.0),
        Jitter::Equal => (0.75, 1.0 / 3.0),
        Jitter::Additive { .. } | Jitter::None => (1.0, 0.0),
    };
    backoff::ExponentialBackoff {
        current_interval: first.mul_f64(middle),
        initial_interval: first.mul_f64(middle),
        randomization_factor: share,
        multiplier: f64::from(factor),
        max_interval: cap.mul_f64(middle),
        max_elapsed_time: Some(from.total()),
        ..backoff::ExponentialBackoff::default()
    }
}

/// Our policy as a policy of `backoff`, with attempts, jitter and total time exactly as they are.
#[derive(Debug, Clone)]
pub struct PolicyBackoff {
    policy: Policy,
    made: u32,
    started: Timestamp,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl PolicyBackoff {
    /// Starts a series now.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self::with(policy, Arc::new(SystemClock), Arc::new(SystemEntropy))
    }

    /// Starts a series on a clock and a source of randomness.
    #[must_use]
    pub fn with(policy: Policy, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { policy, made: 0, started: clock.wall(), clock, entropy }
    }
}

impl BackoffTrait for PolicyBackoff {
    fn reset(&mut self) {
        self.made = 0;
        self.started = self.clock.wall();
    }

    fn next_backoff(&mut self) -> Option<Duration> {
        self.made = self.made.saturating_add(1);
        // Without randomness the longest wait is the careful one.
        let draw = number(self.entropy.as_ref()).unwrap_or(u64::MAX);
        match self.policy.next(&Series::new(self.made, self.started, self.clock.wall(), draw)) {
            Next::After(wait) => Some(wait),
            Next::Exhausted(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc, time::Duration};

    use backoff::backoff::Backoff as _;

    use super::{PolicyBackoff, backoff_error, exponential, policy, step_error};
    use crate::{
        clock::Clock,
        draw::SeededEntropy,
        error::{Effect, StepError, Verdict},
        id::Timestamp,
        retry::{Backoff, Jitter, Policy},
    };

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn errors_keep_their_class_and_the_wait_that_was_asked_for() {
        let io = || io::Error::other("x");
        let error = step_error(backoff::Error::permanent(io()), "call", Effect::None);
        assert_eq!((error.effect(), error.verdict()), (Effect::None, &Verdict::Permanent));
        let error = step_error(backoff::Error::retry_after(io(), SECOND), "call", Effect::Unknown);
        assert_eq!(error.verdict(), &Verdict::Retry { after: Some(SECOND) });
        assert_eq!(error.effect(), Effect::Unknown);

        let bucket = "b".to_owned();
        let told =
            StepError::new(Effect::None, Verdict::Throttled { bucket, after: SECOND }, "call");
        let wait = |error| match backoff_error(error) {
            backoff::Error::Transient { retry_after, .. } => Some(retry_after),
            backoff::Error::Permanent(_) => None,
        };
        assert_eq!(wait(told), Some(Some(SECOND)));
        assert_eq!(wait(StepError::retry("call")), Some(None));
        assert_eq!(wait(StepError::permanent("call")), None);
        assert_eq!(wait(StepError::unknown("call")), None, "never repeated without a look");
    }

    #[test]
    fn policies_convert_both_ways() {
        let theirs = backoff::ExponentialBackoff::default();
        let ours = policy(&theirs, 7);
        ours.validate().unwrap();
        assert_eq!(ours.max_attempts(), 7);
        assert_eq!((ours.total(), ours.jitter()), (Duration::from_mins(15), Jitter::Equal));
        let first = Duration::from_millis(500);
        let cap = Duration::from_mins(1);
        assert_eq!(ours.backoff(), Backoff::Exponential { first, factor: 2, cap });

        let exact = Policy::hosting_default();
        assert_eq!(policy(&exponential(&exact), 5), exact);
        let full = exponential(&Policy::default());
        assert_eq!((full.initial_interval, full.max_interval), (SECOND / 2, cap / 2));
        assert!((full.randomization_factor - 1.0).abs() < 1e-9);
        let fixed = exponential(&Policy::tenants_default());
        assert_eq!((fixed.initial_interval, fixed.max_interval), (SECOND * 300, SECOND * 300));
    }

    #[derive(Debug)]
    struct Still;

    impl Clock for Still {
        fn wall(&self) -> Timestamp {
            Timestamp::from_millis(5)
        }
    }

    #[test]
    fn a_policy_used_by_that_crate_waits_as_it_says() {
        let entropy = Arc::new(SeededEntropy::new(1));
        let mut series = PolicyBackoff::with(Policy::hosting_default(), Arc::new(Still), entropy);
        for _ in 0..2 {
            let waits: Vec<u64> =
                std::iter::from_fn(|| series.next_backoff()).map(|wait| wait.as_secs()).collect();
            assert_eq!(waits, [2, 4, 8, 16]);
            series.reset();
        }
    }
}
