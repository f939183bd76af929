//! Policies with a name: the numbers the example systems were specified with.

use std::time::Duration;

use super::policy::{Jitter, Policy};

impl Policy {
    /// For undoing: hours instead of minutes, since what is left behind costs money.
    ///
    /// Up to 1,000 attempts, 1 s first, doubling up to 5 min, full jitter, 4 h in total, and as
    /// long for being throttled.
    #[must_use]
    pub const fn undo() -> Self {
        Self::attempts(1_000)
            .exponential(Duration::from_secs(1), 2, Duration::from_mins(5))
            .with_total(Duration::from_hours(4))
            .with_max_throttled(Duration::from_hours(4))
    }

    /// For onboarding a client: 5 attempts, 1 s first, doubling, full jitter.
    #[must_use]
    pub const fn onboarding_default() -> Self {
        Self::attempts(5)
    }

    /// For hosting machines: waits of exactly 2, 4, 8 and 16 s, then it has failed.
    #[must_use]
    pub const fn hosting_default() -> Self {
        Self::attempts(5)
            .exponential(Duration::from_secs(2), 2, Duration::from_secs(16))
            .with_jitter(Jitter::None)
    }

    /// For orders of paid work: 5 attempts, the waits of the default policy.
    #[must_use]
    pub const fn orders_default() -> Self {
        Self::attempts(5)
    }

    /// For tenants' projects: 3 attempts, exactly 5 min apart, within an hour.
    #[must_use]
    pub const fn tenants_default() -> Self {
        Self::attempts(3).fixed(Duration::from_mins(5)).with_total(Duration::from_hours(1))
    }

    /// For connectors: 4 attempts; waits of 1, 3, 9 (and 27) s up to 60 s, and 0 to 1 s on top.
    ///
    /// The wait of 27 s comes into play with [`Policy::with_attempts`] of five or more.
    #[must_use]
    pub const fn connector_default() -> Self {
        Self::attempts(4)
            .exponential(Duration::from_secs(1), 3, Duration::from_mins(1))
            .with_jitter(Jitter::Additive { max: Duration::from_secs(1) })
    }
}
