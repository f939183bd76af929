//! Names of everything that is counted, and the one place that counts it.
//!
//! With the feature `metrics` the values go to the recorder that the host has installed for the
//! `metrics` facade; without it every function here is empty and compiles to nothing. Labels are a
//! closed list: none of them is a run, a tenant or a user, so the number of series stays bounded
//! and no identity leaves through this door.
#![cfg_attr(feature = "metrics", doc = include_str!("metric.md"))]

use std::time::Duration;

use crate::error::{Effect, StepError, Verdict};

/// Seconds from the first byte of a provider call to its answer or its end without one; labels:
/// provider, operation, outcome.
pub const HTTP_REQUEST_LATENCY: &str = "http.request.latency";
/// Seconds one attempt of a step, or one poll, took; labels: saga, step, outcome.
pub const OPERATION_LATENCY: &str = "operation.latency";
/// Calls of a provider, by outcome: the error rate is the share of those that are not `ok`;
/// labels: provider, outcome.
pub const API_ERROR_RATE: &str = "api.error_rate";
/// Runs that are due and not claimed, of all queues; set by each worker's maintenance.
pub const QUEUE_JOBS_WAITING: &str = "queue.jobs_waiting";
/// Seconds from due to claimed; label: queue.
pub const QUEUE_LATENCY: &str = "queue.latency";
/// Values of the token vault that expire within the window the host asks for; set when it asks.
pub const TOKEN_EXPIRING_SOON: &str = "token.expiring_soon";
/// Runs that ended or parked; labels: saga, outcome.
pub const RUNS_ENDED: &str = "run.ended";
/// Runs that retention has removed.
pub const RUNS_PRUNED: &str = "run.pruned";
/// Runs that became dead letters: parked, or undone after a failure; label: saga.
pub const DEAD_LETTERS: &str = "run.dead_letters";
/// Failed attempts that are followed by another; labels: saga, step, outcome (of the failed one).
pub const RETRIES: &str = "step.retries";
/// Runs taken over from workers that died.
pub const LEASES_TAKEN_OVER: &str = "lease.taken_over";
/// Panics of other people's code that were caught; label: operation.
pub const PANICS: &str = "code.panics";
/// Seconds until the store had taken an append, its troubles included.
pub const STORE_LATENCY: &str = "store.latency";

/// Every name, for the page that documents them and for recorders that want them described.
pub const ALL: [&str; 13] = [
    HTTP_REQUEST_LATENCY,
    OPERATION_LATENCY,
    API_ERROR_RATE,
    QUEUE_JOBS_WAITING,
    QUEUE_LATENCY,
    TOKEN_EXPIRING_SOON,
    RUNS_ENDED,
    RUNS_PRUNED,
    DEAD_LETTERS,
    RETRIES,
    LEASES_TAKEN_OVER,
    PANICS,
    STORE_LATENCY,
];

/// What a value may be told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Label {
    /// The provider.
    Provider,
    /// The operation, a constant of the code.
    Operation,
    /// The named queue.
    Queue,
    /// The saga.
    Saga,
    /// Path of the step in the graph, without item keys.
    Step,
    /// How it ended: a word of a closed list.
    Outcome,
}

impl Label {
    /// The name of the label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Operation => "operation",
            Self::Queue => "queue",
            Self::Saga => "saga",
            Self::Step => "step",
            Self::Outcome => "outcome",
        }
    }
}

/// How an attempt or a call ended, as one word of a closed list.
pub(crate) fn outcome(error: Option<&StepError>) -> &'static str {
    error.map_or("ok", |error| outcome_of(error.effect(), error.verdict()))
}

/// How a failure ended, as one word of a closed list.
pub(crate) fn outcome_of(effect: Effect, verdict: &Verdict) -> &'static str {
    match verdict {
        _ if effect == Effect::Unknown => "unknown",
        Verdict::Retry { .. } => "retry",
        Verdict::Throttled { .. } => "throttled",
        Verdict::Permanent => "permanent",
        Verdict::Operator => "operator",
    }
}

/// Whether anything is counted, for values that cost something to find out.
pub(crate) const ENABLED: bool = cfg!(feature = "metrics");

#[cfg(feature = "metrics")]
fn labels(of: &[(Label, &str)]) -> Vec<metrics::Label> {
    of.iter()
        .map(|(label, value)| metrics::Label::new(label.as_str(), (*value).to_owned()))
        .collect()
}

/// Adds to a counter.
#[inline]
pub fn count(name: &'static str, by: u64, of: &[(Label, &str)]) {
    #[cfg(feature = "metrics")]
    metrics::counter!(name, labels(of)).increment(by);
    #[cfg(not(feature = "metrics"))]
    let _ = (name, by, of);
}

/// Sets a gauge.
#[inline]
pub fn gauge(name: &'static str, value: u32, of: &[(Label, &str)]) {
    #[cfg(feature = "metrics")]
    metrics::gauge!(name, labels(of)).set(f64::from(value));
    #[cfg(not(feature = "metrics"))]
    let _ = (name, value, of);
}

/// Records one value of a histogram.
#[inline]
pub fn observe(name: &'static str, value: f64, of: &[(Label, &str)]) {
    #[cfg(feature = "metrics")]
    metrics::histogram!(name, labels(of)).record(value);
    #[cfg(not(feature = "metrics"))]
    let _ = (name, value, of);
}

/// Records a duration in seconds.
#[inline]
pub fn took(name: &'static str, duration: Duration, of: &[(Label, &str)]) {
    observe(name, duration.as_secs_f64(), of);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::ALL;

    // covers: R5-45
    #[test]
    fn the_agreed_names_are_there_once() {
        let all: BTreeSet<&str> = ALL.into_iter().collect();
        assert_eq!(all.len(), ALL.len());
        for name in [
            "http.request.latency",
            "operation.latency",
            "api.error_rate",
            "queue.jobs_waiting",
            "queue.latency",
            "token.expiring_soon",
        ] {
            assert!(all.contains(name), "{name}");
        }
    }
}
