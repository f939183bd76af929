//! What logs and meters are told of a run, once it is committed: what was not written did not
//! happen.
//!
//! Every event carries all of its fields itself, so that it is whole also where a filter has
//! switched the attempt's span off. Causes (`source`) never go out: they may hold anything.

use std::time::Duration;

use tracing::Level;

use crate::{
    error::{Failure, Severity},
    id::Timestamp,
    metric::{self, Label},
    run::{
        RunStatus,
        decide::AttemptEnd,
        journal::{Direction, Record, WaitReason},
    },
    saga::graph::graph_path,
    store::{Leased, RunHead},
};

/// Tells of a run that was claimed.
pub(super) fn claimed(leased: &Leased, now: Timestamp) {
    let head = &leased.record.head;
    metric::took(metric::QUEUE_LATENCY, now.since(head.due), &[(Label::Queue, &head.queue)]);
    if leased.died_at.is_some() {
        metric::count(metric::LEASES_TAKEN_OVER, 1, &[]);
    }
}

/// Tells how long an attempt took, or a poll.
pub(super) fn attempted(saga: &str, path: &str, end: &AttemptEnd, took: Duration) {
    if !metric::ENABLED {
        return;
    }
    let outcome = match end {
        AttemptEnd::Done(_) | AttemptEnd::Kept => "ok",
        AttemptEnd::NotYet { .. } | AttemptEnd::Renew => "not_yet",
        AttemptEnd::Failed(error) => metric::outcome(Some(error)),
        AttemptEnd::Cut => "unknown",
    };
    let step = graph_path(path);
    let by = [(Label::Saga, saga), (Label::Step, &step), (Label::Outcome, outcome)];
    metric::took(metric::OPERATION_LATENCY, took, &by);
}

/// Tells of the records of one append, and whether a failure is why the run unwinds.
pub(super) fn committed(head: &RunHead, records: &[Record], unwound: bool) {
    for (at, record) in records.iter().enumerate() {
        match record {
            Record::Failed { path, dir, failure, verdict, .. } => {
                failed(head, path, *dir, failure);
                if metric::ENABLED && is_repeated(path, records.get(at + 1)) {
                    repeated(head, path, metric::outcome_of(failure.effect, verdict));
                }
            }
            Record::Parked { failure } => {
                parked(head, failure);
                ended(head, RunStatus::Parked, true);
            }
            Record::Ended { status, .. } => {
                tracing::info!(
                    run = %head.id, saga = %head.saga.name, status = status.as_str(),
                    context = %context(head), "a run is over"
                );
                let undone = matches!(status, RunStatus::RolledBack | RunStatus::RolledBackKeeping);
                ended(head, *status, undone && unwound);
            }
            _ => {}
        }
    }
}

/// A failure is repeated when the record after it waits for the next attempt.
fn is_repeated(failed: &str, next: Option<&Record>) -> bool {
    matches!(next, Some(Record::Waiting {
        path, reason: WaitReason::Retry | WaitReason::Throttled { .. }, ..
    }) if **path == *failed)
}

fn repeated(head: &RunHead, path: &str, outcome: &str) {
    let step = graph_path(path);
    let by = [(Label::Saga, &*head.saga.name), (Label::Step, &step), (Label::Outcome, outcome)];
    metric::count(metric::RETRIES, 1, &by);
}

fn ended(head: &RunHead, status: RunStatus, dead: bool) {
    let saga = (Label::Saga, &*head.saga.name);
    metric::count(metric::RUNS_ENDED, 1, &[saga, (Label::Outcome, status.as_str())]);
    if dead {
        metric::count(metric::DEAD_LETTERS, 1, &[saga]);
    }
}

#[allow(clippy::cognitive_complexity, reason = "what the macros of tracing expand to is counted")]
fn failed(head: &RunHead, path: &str, dir: Direction, failure: &Failure) {
    macro_rules! tell {
        ($level:expr) => {
            tracing::event!(
                $level, run = %head.id, saga = %head.saga.name, tenant = head.tenant.as_deref(),
                step = path, ?dir, attempt = failure.attempt, operation = failure.operation,
                code = failure.code, effect = ?failure.effect, severity = failure.severity.as_str(),
                reason = failure.message.as_deref(), context = %context(head), "an attempt failed"
            )
        };
    }
    match failure.severity {
        Severity::Info => tell!(Level::INFO),
        Severity::Warning => tell!(Level::WARN),
        Severity::Error | Severity::Critical => tell!(Level::ERROR),
    }
}

fn parked(head: &RunHead, failure: &Failure) {
    tracing::error!(
        run = %head.id, saga = %head.saga.name, tenant = head.tenant.as_deref(),
        step = failure.path, code = failure.code, severity = failure.severity.as_str(),
        reason = failure.message.as_deref(), hint = failure.hint.as_deref(),
        context = %context(head), "a run needs a person"
    );
}

/// The caller's fields as JSON: their names are not known when this is compiled.
fn context(head: &RunHead) -> String {
    serde_json::to_string(&head.context).unwrap_or_default()
}
