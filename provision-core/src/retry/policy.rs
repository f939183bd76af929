//! The policy of one series of attempts, and the one function that answers it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{after::THROTTLED_WITHOUT_HINT, millis};
use crate::{
    error::{Error, ErrorKind},
    id::Timestamp,
};

/// How one step is repeated: how often, with which waits, and for how long altogether.
///
/// Stored as JSON with all durations in milliseconds. The default is 5 attempts, 1 s first,
/// doubling up to 60 s, full jitter, 15 min in total, 1 h of being throttled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    attempts: u32,
    backoff: Backoff,
    jitter: Jitter,
    #[serde(with = "millis")]
    total: Duration,
    #[serde(with = "millis")]
    max_throttled: Duration,
}

/// How the wait grows from one attempt to the next, before jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Backoff {
    /// Each wait is the one before times `factor`, up to `cap`.
    Exponential {
        /// Wait after the first attempt.
        #[serde(with = "millis")]
        first: Duration,
        /// Growth from wait to wait, 1 to 10.
        factor: u32,
        /// Longest wait before jitter.
        #[serde(with = "millis")]
        cap: Duration,
    },
    /// Always the same wait.
    Fixed {
        /// The wait.
        #[serde(with = "millis")]
        every: Duration,
    },
    /// No wait of our own; what a provider asks for still holds.
    None,
}

/// How a wait is spread, so that runs which fail together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Jitter {
    /// Anything from zero to the wait, evenly.
    Full,
    /// Half of the wait, and anything up to the other half.
    Equal,
    /// The wait, and anything from zero to `max` on top; may pass the cap by `max`.
    Additive {
        /// Largest addition.
        #[serde(with = "millis")]
        max: Duration,
    },
    /// Exactly the wait.
    None,
}

/// Where a series of attempts stands when one of them has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Series {
    /// Attempts that have ended and count, the first one included. A throttled or interrupted
    /// attempt does not count.
    pub attempts_made: u32,
    /// When the first attempt began.
    pub started: Timestamp,
    /// When the provider began to throttle, if the last answer was a throttling one.
    pub throttled_since: Option<Timestamp>,
    /// Now.
    pub now: Timestamp,
    /// The wait the provider asked for (`Retry-After`); never shortened.
    pub asked: Option<Duration>,
    /// Injected randomness, uniform over all values.
    pub draw: u64,
}

impl Series {
    /// Describes a series without throttling or a provider's wish.
    #[must_use]
    pub const fn new(attempts_made: u32, started: Timestamp, now: Timestamp, draw: u64) -> Self {
        Self { attempts_made, started, throttled_since: None, now, asked: None, draw }
    }

    /// Adds the wait the provider asked for.
    #[must_use]
    pub const fn with_asked(mut self, asked: Option<Duration>) -> Self {
        self.asked = asked;
        self
    }

    /// Says that the last answer throttled us, and since when that goes on.
    #[must_use]
    pub const fn with_throttled_since(mut self, since: Option<Timestamp>) -> Self {
        self.throttled_since = since;
        self
    }
}

/// What a policy answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Next {
    /// Try again after so long.
    After(Duration),
    /// No further attempt.
    Exhausted(Why),
}

/// Why a series of attempts is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// All attempts are used.
    Attempts,
    /// The next attempt would begin after the total time.
    Total,
    /// The provider has throttled us for too long.
    Throttled,
}

impl Why {
    /// A short stable word, for the journal and for people.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Attempts => "attempts_exhausted",
            Self::Total => "time_exhausted",
            Self::Throttled => "throttled_too_long",
        }
    }
}

impl Policy {
    /// Most attempts a policy may allow.
    pub const MAX_ATTEMPTS: u32 = 10_000;
    /// Longest total time a policy may allow.
    pub const MAX_TOTAL: Duration = Duration::from_hours(24 * 365);

    /// Allows `n` attempts, the first one included; everything else as in the default policy.
    #[must_use]
    pub const fn attempts(n: u32) -> Self {
        Self {
            attempts: n,
            backoff: Backoff::Exponential {
                first: Duration::from_secs(1),
                factor: 2,
                cap: Duration::from_mins(1),
            },
            jitter: Jitter::Full,
            total: Duration::from_mins(15),
            max_throttled: Duration::from_hours(1),
        }
    }

    /// Allows one attempt only.
    #[must_use]
    pub const fn once() -> Self {
        Self::attempts(1)
    }

    /// Changes the number of attempts, the first one included; 1 to [`Self::MAX_ATTEMPTS`].
    #[must_use]
    pub const fn with_attempts(mut self, n: u32) -> Self {
        self.attempts = n;
        self
    }

    /// Waits `first`, then `factor` times longer each time, up to `cap`; keeps the jitter.
    #[must_use]
    pub const fn exponential(mut self, first: Duration, factor: u32, cap: Duration) -> Self {
        self.backoff = Backoff::Exponential { first, factor, cap };
        self
    }

    /// Waits exactly `every` between attempts: sets the jitter to none.
    #[must_use]
    pub const fn fixed(mut self, every: Duration) -> Self {
        self.backoff = Backoff::Fixed { every };
        self.jitter = Jitter::None;
        self
    }

    /// Does not wait between attempts, except where a provider asks for it.
    #[must_use]
    pub const fn immediate(mut self) -> Self {
        self.backoff = Backoff::None;
        self.jitter = Jitter::None;
        self
    }

    /// Changes how waits are spread.
    #[must_use]
    pub const fn with_jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Changes the total time, from the start of the first attempt to the start of the last one.
    #[must_use]
    pub const fn with_total(mut self, total: Duration) -> Self {
        self.total = total;
        self
    }

    /// Changes how long a provider may throttle without a break; default 1 h.
    #[must_use]
    pub const fn with_max_throttled(mut self, max: Duration) -> Self {
        self.max_throttled = max;
        self
    }

    /// Number of attempts, the first one included.
    #[must_use]
    pub const fn max_attempts(&self) -> u32 {
        self.attempts
    }

    /// How waits grow.
    #[must_use]
    pub const fn backoff(&self) -> Backoff {
        self.backoff
    }

    /// How waits are spread.
    #[must_use]
    pub const fn jitter(&self) -> Jitter {
        self.jitter
    }

    /// Total time of a series.
    #[must_use]
    pub const fn total(&self) -> Duration {
        self.total
    }

    /// Longest time of being throttled without a break.
    #[must_use]
    pub const fn max_throttled(&self) -> Duration {
        self.max_throttled
    }

    /// Refuses values outside their range; defining a saga calls it.
    ///
    /// # Errors
    /// Kind `Invalid`: attempts not within 1 to [`Self::MAX_ATTEMPTS`], a factor not within 1 to
    /// 10, a first wait above its cap, or a total time above [`Self::MAX_TOTAL`].
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |code, what: &str| {
            Err(Error::new(ErrorKind::Invalid, code, "check retry policy").with_context(what))
        };
        if self.attempts == 0 || self.attempts > Self::MAX_ATTEMPTS {
            return refuse("policy_attempts", "attempts must be 1 to 10,000");
        }
        if self.total > Self::MAX_TOTAL || self.max_throttled > Self::MAX_TOTAL {
            return refuse("policy_total", "times must be at most a year");
        }
        if let Backoff::Exponential { first, factor, cap } = self.backoff {
            if factor == 0 || factor > 10 {
                return refuse("policy_factor", "the factor must be 1 to 10");
            }
            if first > cap {
                return refuse("policy_cap", "the first wait must not be above the cap");
            }
        }
        Ok(())
    }

    /// Says when the next attempt begins, or that there is none.
    ///
    /// A wait that would end after the total time ends the series at once: nobody sleeps towards
    /// an attempt that will not be made. That holds for what the provider asked for, too, since it
    /// is never shortened.
    #[must_use]
    pub fn next(&self, series: &Series) -> Next {
        // L4: what the provider asked for is a lower bound, whatever the policy's own cap says.
        let wait = if series.throttled_since.is_some() {
            series.asked.unwrap_or(THROTTLED_WITHOUT_HINT)
        } else {
            if series.attempts_made >= self.attempts {
                return Next::Exhausted(Why::Attempts);
            }
            self.spread(self.base(series.attempts_made), series.draw)
                .max(series.asked.unwrap_or_default())
        };
        if let Some(since) = series.throttled_since
            && series.now.since(since).saturating_add(wait) > self.max_throttled
        {
            return Next::Exhausted(Why::Throttled);
        }
        if series.now.since(series.started).saturating_add(wait) > self.total {
            return Next::Exhausted(Why::Total);
        }
        Next::After(wait)
    }

    /// The wait after `attempts_made` attempts, before jitter.
    #[must_use]
    pub fn base(&self, attempts_made: u32) -> Duration {
        match self.backoff {
            Backoff::Exponential { first, factor, cap } => {
                let growth = factor.saturating_pow(attempts_made.saturating_sub(1));
                first.saturating_mul(growth).min(cap)
            }
            Backoff::Fixed { every } => every,
            Backoff::None => Duration::ZERO,
        }
    }

    fn spread(&self, base: Duration, draw: u64) -> Duration {
        match self.jitter {
            Jitter::Full => portion(base, draw),
            Jitter::Equal => {
                let half = base / 2;
                half.saturating_add(portion(base.saturating_sub(half), draw))
            }
            Jitter::Additive { max } => base.saturating_add(portion(max, draw)),
            Jitter::None => base,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::attempts(5)
    }
}

/// A whole number of milliseconds from zero to `limit`, both included, evenly chosen by `draw`.
fn portion(limit: Duration, draw: u64) -> Duration {
    let top = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX - 1).min(u64::MAX - 1);
    // The upper half of the product is uniform over 0..=top, off by at most one part in 2^64.
    let ms = (u128::from(draw) * (u128::from(top) + 1)) >> 64;
    Duration::from_millis(u64::try_from(ms).unwrap_or(top))
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
