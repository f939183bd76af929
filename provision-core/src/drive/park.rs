//! Runs that the engine itself parks, because a person has to look: their workers die, their
//! driver panics, or what they would write can never be written.

use std::time::Duration;

use super::{Driven, Left, Shared, Stop, Unusable, fold, patience::patiently, report};
use crate::{
    error::{Effect, Failure, StepError, Verdict},
    id::{RunId, Timestamp},
    offers::Told,
    run::{RunStatus, decide::Halt, journal::Record},
    store::{Append, Appended, Fence, Release, RunHead},
};

/// Leases that may end by death with an attempt open before the run is parked (S21).
pub(super) const DEATHS_MAX: u32 = 3;

fn for_a_person(operation: &'static str, code: &'static str) -> StepError {
    StepError::new(Effect::None, Verdict::Operator, operation).with_code(code)
}

/// Its workers died again and again with an attempt open.
pub(super) fn crash_loop() -> StepError {
    for_a_person("run the step", "crash_loop")
        .with_message("workers died with an attempt of this run open, three times in a row")
        .with_hint("mend the step, then retry the run")
}

/// Its journal is not what the machine can have written.
pub(super) fn damaged(damage: impl Into<String>) -> StepError {
    for_a_person("read the journal", "damaged_journal")
        .with_message(damage.into())
        .with_hint("restore the store from a backup; nothing of the run is guessed at")
}

/// Something outside the attempts panicked.
pub(super) fn panicked() -> StepError {
    for_a_person("drive the run", "driver_panicked")
        .with_message("code that decides about the run panicked, outside of any attempt")
        .with_hint("look for the panic in the worker's output, mend it, then retry the run")
}

/// The store will never take what the run has to write.
pub(super) fn refused(error: &impl ToString) -> StepError {
    for_a_person("write the journal", "append_refused")
        .with_message(error.to_string())
        .with_hint("mend what the store refuses, then retry the run")
}

/// The machine refused: nothing of the event is written.
pub(super) fn halted(halt: &Halt) -> Driven<bool> {
    match halt {
        Halt::Stopped | Halt::Refused(_) => Ok(false),
        Halt::Illegal(illegal) => Err(Stop::Park(Box::new(damaged(illegal.to_string())))),
    }
}

/// S21: a record after which deaths are counted anew: an attempt came to an end of its own, or a
/// person gave an order.
pub(super) fn settles(record: &Record) -> bool {
    match record {
        Record::Failed { interrupted, .. } => !interrupted,
        Record::Waiting { reason, .. } => !reason.is_for_an_attempt(),
        Record::Succeeded { .. } | Record::Ordered { .. } => true,
        _ => false,
    }
}

/// How long a run that only a newer release can read is left to its workers.
const LEFT_TO_NEWER: Duration = Duration::from_secs(60);

/// Gives back a leased run that only a newer release can read (S22): nothing of it changes.
pub(super) async fn leave(shared: &Shared, run: RunId, fence: Fence, why: &Unusable) -> Left {
    tracing::warn!(%run, %why, "a run is left to a worker of a newer release");
    let asked = [run];
    let loaded = patiently(|| shared.store.load(&asked)).await;
    let Some(record) = loaded.ok().and_then(|mut records| records.pop().flatten()) else {
        return Left::Lost;
    };
    let head = &record.head;
    let due = shared.lease.now().plus(LEFT_TO_NEWER);
    let release = Some(Release { due, polls: head.polls.clone(), seen: head.requests });
    let as_it_is = Append { release, wakes: Vec::new(), ..row_of(shared, head, fence) };
    let queue = shared.told(head, &as_it_is);
    match shared.append(as_it_is).await {
        Ok(Appended::Applied { requests, .. }) => {
            shared.tell_queue(queue, requests).await;
            Left::Released
        }
        _ => Left::Lost,
    }
}

/// Parks a leased run, by a record where its journal can still be written, else by its row alone.
/// Requests that wait are kept for the time after a person's order.
#[allow(clippy::cognitive_complexity, reason = "what the macros of tracing expand to is counted")]
pub(super) async fn park(shared: &Shared, run: RunId, fence: Fence, error: &StepError) -> Left {
    let asked = [run];
    let loaded = patiently(|| shared.store.load(&asked)).await;
    let Some(record) = loaded.ok().and_then(|mut records| records.pop().flatten()) else {
        return Left::Lost;
    };
    let head = &record.head;
    if head.owner != Some(fence.owner) || head.epoch != fence.epoch {
        return Left::Lost;
    }
    let failure = Failure::of("", 0, error);
    let bare = by_row(shared, head, fence, failure.clone());
    let parked = Record::Parked { failure };
    if let Ok(mut state) = fold(head, &record.frames, &shared.plans) {
        if state.ended.is_some() {
            // The run is over whatever became of this write; only the lease is given back.
            tracing::error!(%run, %error, "a run that is over was not written to");
            let (status, summary) = (head.status, head.summary.clone());
            let released = Append { status, summary, ..bare };
            let queue = shared.told(head, &released);
            return match shared.append(released).await {
                Ok(Appended::Applied { requests, .. }) => {
                    shared.tell_queue(queue, requests).await;
                    Left::Released
                }
                _ => Left::Lost,
            };
        }
        state.at = shared.lease.now();
        let frame = Record::encode(std::slice::from_ref(&parked));
        if let (Ok(()), Ok(frame)) = (state.apply(&parked), frame) {
            let append = Append {
                seq: head.seq.saturating_add(1),
                frame: Some(frame),
                status: state.status(),
                summary: state.summary(),
                ..bare.clone()
            };
            let queue = shared.told(head, &append);
            match shared.append(append).await {
                Ok(answer) => return told(shared, (head, &parked), queue, &answer).await,
                Err(error) => tracing::error!(%run, %error, "the run is parked by its row alone"),
            }
        }
    }
    let queue = shared.told(head, &bare);
    match shared.append(bare).await {
        Ok(answer) => told(shared, (head, &parked), queue, &answer).await,
        Err(_) => Left::Lost,
    }
}

async fn told(
    shared: &Shared,
    (head, parked): (&RunHead, &Record),
    queue: Option<Box<Told>>,
    answer: &Appended,
) -> Left {
    match answer {
        Appended::Applied { requests, .. } => {
            report::committed(head, std::slice::from_ref(parked), false);
            shared.changes.changed(&head.id);
            shared.tell_queue(queue, *requests).await;
            Left::Released
        }
        Appended::Stale | Appended::Conflict(_) => Left::Lost,
    }
}

/// The journal is kept as it is; only the row says that the run waits for a person.
fn by_row(shared: &Shared, head: &RunHead, fence: Fence, failure: Failure) -> Append {
    let mut summary = head.summary.clone();
    summary.failure = Some(failure);
    Append { status: RunStatus::Parked, summary, open: false, ..row_of(shared, head, fence) }
}

/// A write that leaves everything of a run as it is, but gives it back, due for nobody.
fn row_of(shared: &Shared, head: &RunHead, fence: Fence) -> Append {
    Append {
        run: head.id,
        fence,
        seq: head.seq,
        frame: None,
        at: shared.lease.now(),
        status: head.status,
        summary: head.summary.clone(),
        open: head.open,
        settled: false,
        consumed: head.consumed,
        release: Some(Release {
            due: Timestamp::NEVER,
            polls: head.polls.clone(),
            // What is asked for later wakes the run; what waits already cannot be answered.
            seen: head.requests,
        }),
        free_guard: false,
        ledger: Vec::new(),
        sealed: Vec::new(),
        wakes: head.parent.as_ref().map(|parent| parent.run).into_iter().collect(),
        starts: Vec::new(),
    }
}
