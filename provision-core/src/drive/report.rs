//! What logs are told of a run, once it is committed: what was not written did not happen.
//!
//! Every event carries all of its fields itself, so that it is whole also where a filter has
//! switched the attempt's span off. Causes (`source`) never go out: they may hold anything.

use tracing::Level;

use crate::{
    error::{Failure, Severity},
    run::journal::{Direction, Record},
    store::RunHead,
};

/// Tells of the records of one append.
pub(super) fn committed(head: &RunHead, records: &[Record]) {
    for record in records {
        match record {
            Record::Failed { path, dir, failure, .. } => failed(head, path, *dir, failure),
            Record::Parked { failure } => parked(head, failure),
            Record::Ended { status, .. } => {
                tracing::info!(
                    run = %head.id, saga = %head.saga.name, status = status.as_str(),
                    context = %context(head), "a run is over"
                );
            }
            _ => {}
        }
    }
}

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
