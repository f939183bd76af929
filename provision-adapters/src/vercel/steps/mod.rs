//! What can be provisioned at Vercel, one file each.

use std::time::Duration;

use provision_core::{StepContext, Timestamp};

pub(crate) mod deployment;
pub(crate) mod domain;
pub(crate) mod env;
pub(crate) mod project;

/// Reads a moment in milliseconds since 1970 as the provider writes it, a JSON number.
pub(crate) fn moment(ms: Option<f64>) -> Option<Timestamp> {
    let ms = ms?;
    // Above 2^53 a JSON number is not exact, and no real moment is there.
    if !(0.0..=9_007_199_254_740_992.0).contains(&ms) {
        return None;
    }
    format!("{ms:.0}").parse().ok().map(Timestamp::from_millis)
}

/// Whether polling began so recently that a look may still be behind the create.
pub(crate) fn may_lag(cx: &StepContext, lag: Duration) -> bool {
    cx.memory().polling_since.is_none_or(|since| cx.now().since(since) < lag)
}
