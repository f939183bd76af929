//! How a saga repeats what went wrong. It is said once for each saga, and holds for all its steps.

use std::time::Duration;

use clap::{Args, ValueEnum};
use example_command::exit::Trouble;
use provision_core::Policy;

/// Time between two attempts where nothing else is said.
const EVERY: Duration = Duration::from_mins(5);

/// The policies there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// Always the same time apart.
    Fixed,
    /// Twice as long each time, up to a minute, and spread.
    Exponential,
}

/// How long waits and attempts are.
#[derive(Debug, Clone, Args)]
pub struct RetryArgs {
    /// How attempts are spaced.
    #[arg(long, value_enum, default_value = "fixed")]
    pub retry: Preset,
    /// Attempts of a step, the first one included.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub attempts: u32,
    /// Time between two attempts with `--retry fixed`, in milliseconds [default: five minutes]
    #[arg(long, value_name = "MS")]
    pub retry_every_ms: Option<u64>,
    /// Longest time of one attempt, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 60_000)]
    pub attempt_timeout_ms: u64,
}

/// What a saga does about failures. It has no default: whoever wires one says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Going forward.
    pub forward: Policy,
    /// Undoing.
    pub undo: Policy,
    /// Longest time of one attempt.
    pub attempt: Duration,
}

impl Retry {
    /// Three attempts, exactly five minutes apart.
    #[must_use]
    pub const fn every_five_minutes() -> Self {
        Self {
            forward: Policy::tenants_default(),
            undo: Policy::undo(),
            attempt: Duration::from_secs(60),
        }
    }

    /// Three attempts; one second first, then twice as long, spread.
    #[must_use]
    pub const fn exponential() -> Self {
        Self { forward: Policy::attempts(3), ..Self::every_five_minutes() }
    }

    /// What was typed.
    ///
    /// # Errors
    /// A number is out of its range.
    pub fn typed(args: &RetryArgs) -> Result<Self, Trouble> {
        let attempt = Duration::from_millis(args.attempt_timeout_ms);
        if attempt.is_zero() || attempt > Duration::from_hours(1) {
            return Err(wrong("an attempt takes 1 ms to an hour"));
        }
        if args.retry == Preset::Exponential && args.retry_every_ms.is_some() {
            return Err(wrong("--retry-every-ms is about --retry fixed"));
        }
        let every = args.retry_every_ms.map_or(EVERY, Duration::from_millis);
        if every > Duration::from_hours(24) {
            return Err(wrong("attempts are at most a day apart"));
        }
        let preset = match args.retry {
            Preset::Fixed => {
                let total = every.saturating_mul(args.attempts).max(Duration::from_hours(1));
                let forward = Policy::tenants_default().fixed(every).with_total(total);
                Self { forward, ..Self::every_five_minutes() }
            }
            Preset::Exponential => Self::exponential(),
        };
        let forward = preset.forward.clone().with_attempts(args.attempts);
        forward.validate().map_err(|error| wrong(error.context().unwrap_or("see --help")))?;
        Ok(Self { forward, attempt, ..preset })
    }
}

fn wrong(what: &str) -> Trouble {
    Trouble::usage("bad_retry", what, "see --help for --attempts and the times around it")
}

#[cfg(test)]
mod tests {
    use super::{Preset, Retry, RetryArgs};

    #[test]
    fn what_is_typed_by_default_is_every_five_minutes() {
        let typed = |retry, attempts, retry_every_ms| {
            let args = RetryArgs { retry, attempts, retry_every_ms, attempt_timeout_ms: 60_000 };
            Retry::typed(&args)
        };
        assert_eq!(typed(Preset::Fixed, 3, None).unwrap(), Retry::every_five_minutes());
        assert_eq!(typed(Preset::Fixed, 3, Some(300_000)).unwrap(), Retry::every_five_minutes());
        assert_eq!(typed(Preset::Exponential, 3, None).unwrap(), Retry::exponential());
        for (preset, attempts, every) in [
            (Preset::Fixed, 0, Some(1)),
            (Preset::Fixed, 3, Some(u64::MAX)),
            (Preset::Exponential, 3, Some(300_000)),
        ] {
            assert_eq!(typed(preset, attempts, every).unwrap_err().code(), "bad_retry");
        }
    }
}
