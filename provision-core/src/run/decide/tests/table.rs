//! The transition table, exhaustively: every record against every state of a node.

use std::sync::Arc;

use uuid::Uuid;

use super::{
    super::{Node, Phase, State, Undo, state::Region, state::Unwind},
    fixture::{Spec, What, digest, fresh, intent, plan},
};
use crate::{
    error::{Effect, Failure, StepError, Verdict},
    id::{ExternalId, Payload, Timestamp},
    ledger::Origin,
    run::journal::{Cause, Direction, Finding, Record, WaitReason},
};

const PATH: &str = "n0";

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn reasons() -> Vec<WaitReason> {
    vec![
        WaitReason::Retry,
        WaitReason::Poll,
        WaitReason::Quiet,
        WaitReason::Throttled { bucket: "b".into() },
        WaitReason::Sleep,
        WaitReason::Signal { name: "go".into() },
        WaitReason::Child { run: crate::id::RunId::from_uuid(Uuid::nil()) },
    ]
}

fn phases() -> Vec<Phase> {
    let waiting = reasons().into_iter().map(|reason| Phase::Waiting { due: at(5), reason });
    let rest = [
        Phase::Idle,
        Phase::Running,
        Phase::Succeeded,
        Phase::Skipped,
        Phase::GaveUp,
        Phase::Closed,
    ];
    waiting.chain(rest).collect()
}

fn undos() -> Vec<Undo> {
    let waiting = reasons().into_iter().map(|reason| Undo::Waiting { due: at(5), reason });
    let rest = [Undo::None, Undo::Due, Undo::Running, Undo::Done, Undo::GaveUp, Undo::LeftBehind];
    waiting.chain(rest).collect()
}

fn failure(effect: Effect) -> Failure {
    Failure::of(PATH, 1, &StepError::new(effect, Verdict::Permanent, "x"))
}

fn records() -> Vec<Record> {
    use Direction::{Forward, Undo};
    let path = || Arc::<str>::from(PATH);
    let id = ExternalId::new("t-1");
    let mut all = vec![
        Record::Intent { path: path(), intent: intent(at(9)) },
        Record::Noted { path: path(), id: id.clone(), origin: Origin::Created },
        Record::Noted { path: path(), id: id.clone(), origin: Origin::Adopted },
        Record::Resolved { path: path(), finding: Finding::Ours(id) },
        Record::Resolved { path: path(), finding: Finding::Absent },
        Record::Skipped { path: path() },
        Record::Sealed { path: path(), name: "p".into() },
        Record::Renewed { path: path(), generation: 2, key: Uuid::nil() },
        Record::Renewed { path: path(), generation: 3, key: Uuid::nil() },
    ];
    for dir in [Forward, Undo] {
        let started = Record::Started { path: path(), dir, generation: 1, attempt: 1, input: None };
        all.push(started);
        all.push(Record::Started { path: path(), dir, generation: 2, attempt: 1, input: None });
        all.push(Record::Succeeded { path: path(), dir, output: None });
        all.push(Record::GaveUp { path: path(), dir, failure: failure(Effect::None) });
        for reason in reasons() {
            all.push(Record::Waiting { path: path(), dir, reason, due: at(9) });
        }
        for effect in [Effect::None, Effect::Applied, Effect::Unknown] {
            all.push(Record::Failed {
                path: path(),
                dir,
                failure: failure(effect),
                verdict: Verdict::Permanent,
                broken: false,
                interrupted: false,
                sent_until: None,
            });
        }
    }
    all
}

/// S3, written down a second time.
fn is_legal(node: &Node, unwinding: bool, record: &Record) -> bool {
    use Direction::{Forward, Undo as Back};
    let untouched = node.undo == Undo::None;
    let running = node.phase == Phase::Running;
    let waiting = matches!(node.phase, Phase::Waiting { .. });
    let before = node.phase == Phase::Idle || waiting;
    let undoing = unwinding && node.undo == Undo::Running;
    let undo_waits = matches!(node.undo, Undo::Waiting { .. });
    match record {
        Record::Started { dir: Forward, generation, .. } => {
            *generation == node.generation && before && untouched && !unwinding
        }
        Record::Waiting { dir: Forward, .. } => (before || running) && untouched && !unwinding,
        Record::Skipped { .. } => before && untouched && !unwinding,
        Record::Intent { .. } => running && untouched && !unwinding,
        Record::Noted { .. } | Record::Sealed { .. } => running || undoing,
        Record::Failed { dir: Forward, .. } | Record::Succeeded { dir: Forward, .. } => running,
        Record::Resolved { .. } => running || (waiting && untouched) || undoing,
        Record::GaveUp { dir: Forward, .. } => waiting && untouched && !unwinding,
        Record::Renewed { generation, .. } => {
            // Only a closed generation is followed by another one: undone, or surely without effect.
            let closed = node.standing() == Effect::None
                && (matches!(node.undo, Undo::Done | Undo::LeftBehind)
                    || (untouched && (running || waiting)));
            *generation == node.generation + 1 && closed && !unwinding
        }
        Record::Started { dir: Back, generation, .. } => {
            let due = node.undo == Undo::Due || undo_waits;
            *generation == node.generation && unwinding && due && !running
        }
        Record::Waiting { dir: Back, .. } => {
            unwinding && (node.undo == Undo::Due || undo_waits || undoing)
        }
        Record::Failed { dir: Back, .. } | Record::Succeeded { dir: Back, .. } => undoing,
        Record::GaveUp { dir: Back, .. } => unwinding && undo_waits,
        _ => false,
    }
}

/// Whether a run can ever stand there: the table may say anything about the rest.
fn is_reachable(phase: &Phase, undo: &Undo, unwinding: bool) -> bool {
    let ended = matches!(phase, Phase::Succeeded | Phase::GaveUp | Phase::Closed);
    match undo {
        Undo::None => !unwinding || ended || matches!(phase, Phase::Running | Phase::Skipped),
        // What is told to stop is undone once its open attempt has ended.
        Undo::Due => unwinding && (ended || *phase == Phase::Running),
        Undo::Waiting { .. } | Undo::Running | Undo::GaveUp => unwinding && ended,
        Undo::Done | Undo::LeftBehind => ended,
    }
}

fn stand(what: What, phase: &Phase, undo: &Undo, unwinding: bool) -> State {
    let mut state = fresh(&plan(&[Spec { what, ..Spec::default() }]));
    let node = state.node_mut(0);
    node.phase = phase.clone();
    node.undo = undo.clone();
    if unwinding {
        state.unwinds.push(Unwind {
            region: Region::Run,
            scope: Arc::from(""),
            cause: Cause::Cancelled,
            order: vec![0],
            done: false,
            starts: 0,
        });
    }
    state
}

// covers: S3
#[test]
fn every_record_against_every_state_is_applied_or_refused_unchanged() {
    let (mut applied, mut refused, mut wrong) = (0, 0, Vec::new());
    for what in [What::Step, What::Resource] {
        for phase in phases() {
            for undo in undos() {
                for unwinding in [false, true] {
                    if !is_reachable(&phase, &undo, unwinding) {
                        continue;
                    }
                    for record in records() {
                        let mut state = stand(what.clone(), &phase, &undo, unwinding);
                        let before = digest(&state);
                        let legal = is_legal(state.node(0), unwinding, &record);
                        let taken = state.apply(&record).is_ok();
                        let changed = digest(&state) != before;
                        if taken != legal || (!taken && changed) {
                            wrong.push(format!(
                                "{phase:?} {undo:?} unwinding={unwinding}: {record:?} taken={taken} legal={legal} changed={changed}"
                            ));
                        }
                        applied += u32::from(taken);
                        refused += u32::from(!taken);
                    }
                }
            }
        }
    }
    let count = wrong.len();
    wrong.truncate(40);
    assert!(wrong.is_empty(), "{count} wrong:\n{}", wrong.join("\n"));
    assert!(applied > 300 && refused > 2_000, "{applied} applied, {refused} refused");
}

// covers: S3, S17
#[test]
fn nothing_but_an_order_follows_the_end() {
    let mut state = stand(What::Step, &Phase::Running, &Undo::None, false);
    let end = Record::Ended { status: crate::run::RunStatus::Succeeded, output: None };
    state.apply(&end).unwrap();
    let before = digest(&state);
    let scope = Arc::<str>::from("");
    let mut all = records();
    all.push(end);
    all.push(Record::UnwindStarted {
        scope: Arc::clone(&scope),
        cause: Cause::Cancelled,
        order: Vec::new(),
    });
    all.push(Record::Unwound { scope });
    all.push(Record::Signal { name: "go".into(), value: Payload::null(), source: None });
    all.push(Record::Parked { failure: failure(Effect::None) });
    for record in all {
        assert!(state.apply(&record).is_err(), "{record:?}");
    }
    assert_eq!(digest(&state), before);
}

// covers: S3
#[test]
fn records_of_unknown_steps_and_scopes_are_refused() {
    let mut state = fresh(&plan(&[Spec::default()]));
    let before = digest(&state);
    let path = || Arc::<str>::from("elsewhere");
    let all = [
        Record::Started {
            path: path(),
            dir: Direction::Forward,
            generation: 1,
            attempt: 1,
            input: None,
        },
        Record::Skipped { path: path() },
        Record::Expanded { path: Arc::from(PATH), items: Vec::new() },
        Record::Unwound { scope: Arc::from("") },
        Record::UnwindStarted { scope: path(), cause: Cause::Cancelled, order: Vec::new() },
        Record::UnwindStarted {
            scope: Arc::from(""),
            cause: Cause::Cancelled,
            order: vec![path()],
        },
    ];
    for record in all {
        assert!(state.apply(&record).is_err(), "{record:?}");
    }
    assert_eq!(digest(&state), before);
}
