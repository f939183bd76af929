//! Names of everything that is counted, and the one place that counts it.
//!
//! With the feature `metrics` the values go to the recorder that the host has installed for the
//! `metrics` facade; without it every function here is empty and compiles to nothing. Labels are a
//! closed list: none of them is a run, a tenant or a user, so the number of series stays bounded
//! and no identity leaves through this door.

use std::time::Duration;

use crate::error::{Effect, StepError, Verdict};

/// Seconds from the first byte of a provider call to its answer; labels: provider, operation,
/// outcome.
pub const HTTP_REQUEST_LATENCY: &str = "http.request.latency";
/// Seconds one attempt of a step took; labels: saga, step, outcome.
pub const OPERATION_LATENCY: &str = "operation.latency";
/// Calls of a provider, by outcome: the error rate is the share of those that are not `ok`;
/// labels: provider, outcome.
pub const API_ERROR_RATE: &str = "api.error_rate";
/// Runs that are due and not claimed; label: queue.
pub const QUEUE_JOBS_WAITING: &str = "queue.jobs_waiting";
/// Seconds from due to claimed; label: queue.
pub const QUEUE_LATENCY: &str = "queue.latency";
/// Values of the token vault that expire within the window the host asks for.
pub const TOKEN_EXPIRING_SOON: &str = "token.expiring_soon";
/// Runs that ended or parked; labels: saga, outcome.
pub const RUNS_ENDED: &str = "run.ended";
/// Runs that need a person.
pub const DEAD_LETTERS: &str = "run.dead_letters";
/// Attempts that were repeated; labels: saga, step, outcome (the verdict).
pub const RETRIES: &str = "step.retries";
/// Leases taken over from incarnations that died.
pub const LEASES_TAKEN_OVER: &str = "lease.taken_over";
/// Seconds one write of the store took; labels: store, operation.
pub const STORE_LATENCY: &str = "store.latency";
/// Runs written by one commit.
pub const STORE_BATCH: &str = "store.batch";

/// Every name, for the page that documents them and for recorders that want them described.
pub const ALL: [&str; 12] = [
    HTTP_REQUEST_LATENCY,
    OPERATION_LATENCY,
    API_ERROR_RATE,
    QUEUE_JOBS_WAITING,
    QUEUE_LATENCY,
    TOKEN_EXPIRING_SOON,
    RUNS_ENDED,
    DEAD_LETTERS,
    RETRIES,
    LEASES_TAKEN_OVER,
    STORE_LATENCY,
    STORE_BATCH,
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
    /// The kind of store.
    Store,
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
            Self::Store => "store",
        }
    }
}

/// How an attempt or a call ended, as one word of a closed list.
pub(crate) fn outcome(error: Option<&StepError>) -> &'static str {
    let Some(error) = error else { return "ok" };
    match error.verdict() {
        _ if error.effect() == Effect::Unknown => "unknown",
        Verdict::Retry { .. } => "retry",
        Verdict::Throttled { .. } => "throttled",
        Verdict::Permanent => "permanent",
        Verdict::Operator => "operator",
    }
}

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

    #[cfg(feature = "metrics")]
    mod recorded {
        use std::{
            collections::BTreeMap,
            sync::{Arc, Mutex},
            time::Duration,
        };

        use metrics::{
            Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata,
            Recorder, SharedString, Unit,
        };

        use super::super::{
            API_ERROR_RATE, Label, QUEUE_JOBS_WAITING, QUEUE_LATENCY, count, gauge, took,
        };

        #[derive(Clone, Default)]
        struct Sheet(Arc<Mutex<BTreeMap<String, f64>>>);

        struct Cell(Sheet, String);

        impl Cell {
            fn of(sheet: &Sheet, key: &Key) -> Arc<Self> {
                let labels = key.labels().map(|l| format!(" {}={}", l.key(), l.value()));
                Arc::new(Self(sheet.clone(), key.name().to_owned() + &labels.collect::<String>()))
            }

            fn change(&self, change: impl Fn(&mut f64)) {
                change(self.0.0.lock().unwrap().entry(self.1.clone()).or_default());
            }
        }

        impl CounterFn for Cell {
            fn increment(&self, by: u64) {
                self.change(|v| *v += f64::from(u32::try_from(by).unwrap()));
            }

            fn absolute(&self, to: u64) {
                self.change(|v| *v = f64::from(u32::try_from(to).unwrap()));
            }
        }

        impl GaugeFn for Cell {
            fn increment(&self, by: f64) {
                self.change(|v| *v += by);
            }

            fn decrement(&self, by: f64) {
                self.change(|v| *v -= by);
            }

            fn set(&self, to: f64) {
                self.change(|v| *v = to);
            }
        }

        impl HistogramFn for Cell {
            fn record(&self, value: f64) {
                self.change(|v| *v += value);
            }
        }

        impl Recorder for Sheet {
            fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
            fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
            fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

            fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
                Counter::from_arc(Cell::of(self, key))
            }

            fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
                Gauge::from_arc(Cell::of(self, key))
            }

            fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
                Histogram::from_arc(Cell::of(self, key))
            }
        }

        // covers: R4-30
        #[test]
        fn values_reach_the_hosts_recorder_with_their_labels() {
            let sheet = Sheet::default();
            metrics::with_local_recorder(&sheet, || {
                let of = [(Label::Provider, "github"), (Label::Outcome, "http_500")];
                count(API_ERROR_RATE, 2, &of);
                count(API_ERROR_RATE, 1, &of);
                gauge(QUEUE_JOBS_WAITING, 7, &[(Label::Queue, "default")]);
                took(QUEUE_LATENCY, Duration::from_millis(1_500), &[]);
            });
            let seen = sheet.0.lock().unwrap();
            let seen: Vec<_> = seen.iter().map(|(k, v)| (k.as_str(), *v)).collect();
            let expected = [
                ("api.error_rate provider=github outcome=http_500", 3.0),
                ("queue.jobs_waiting queue=default", 7.0),
                ("queue.latency", 1.5),
            ];
            assert_eq!(seen, expected);
        }
    }
}
