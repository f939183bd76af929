//! The transition table of one node (S3): which record may follow which state, and what it makes.

use super::node::{Node, Phase, Tries, Undo};
use crate::{
    error::{Effect, Failure, Verdict, is_held},
    id::Timestamp,
    ledger::Origin,
    run::journal::{Direction, Finding, Order, Record, WaitReason},
};

type Step = Result<(), &'static str>;

/// Applies a record to its node.
pub(super) fn apply(node: &mut Node, record: &Record, unwinding: bool) -> Step {
    match record {
        Record::Started { dir: Direction::Forward, attempt, input, .. } => {
            started(node, *attempt, input.as_ref())
        }
        Record::Started { dir: Direction::Undo, attempt, .. } => undo_started(node, *attempt),
        Record::Waiting { dir, reason, due, .. } => waiting(node, *dir, reason, *due),
        Record::Intent { intent, .. } => {
            running(node)?;
            node.intent.get_or_insert_with(|| intent.clone());
            node.polling_since = None;
            node.since.get_or_insert(intent.at);
            node.intent_open = true;
            Ok(())
        }
        Record::Noted { id, origin, .. } => noted(node, id, *origin),
        Record::Failed { dir: Direction::Forward, .. } => failed(node, record, unwinding),
        Record::Failed { dir: Direction::Undo, .. } => undo_failed(node, record),
        Record::Resolved { finding, .. } => resolved(node, finding),
        Record::Succeeded { dir: Direction::Forward, output, .. } => {
            running(node)?;
            node.output = Some(output.clone().unwrap_or_else(crate::id::Payload::null));
            node.phase = Phase::Succeeded;
            node.intent_open = false;
            node.effect = node.effect.max(effect_of_success(node));
            Ok(())
        }
        Record::Succeeded { dir: Direction::Undo, .. } => {
            undo_running(node)?;
            node.undo = Undo::Done;
            Ok(())
        }
        Record::Kept { .. } => {
            undo_running(node)?;
            node.undo = Undo::LeftBehind;
            Ok(())
        }
        Record::Skipped { .. } => match node.phase {
            Phase::Idle | Phase::Waiting { .. } => {
                node.phase = Phase::Skipped;
                Ok(())
            }
            _ => Err("skipped after its start"),
        },
        Record::GaveUp { dir, failure, .. } => gave_up(node, *dir, failure),
        Record::Renewed { generation, .. } => {
            if *generation != node.generation + 1 {
                return Err("generations grow by one");
            }
            let (tries, set_phase) = (node.forward, node.set_phase);
            node.renew(*generation);
            (node.forward, node.set_phase) = (tries, set_phase);
            Ok(())
        }
        Record::Sealed { .. } => Ok(()),
        Record::Expanded { .. }
        | Record::UnwindStarted { .. }
        | Record::Unwound { .. }
        | Record::Signal { .. }
        | Record::Ordered { .. }
        | Record::Refused { .. }
        | Record::Parked { .. }
        | Record::Ended { .. } => Err("not a record of a step"),
    }
}

/// Remembers when a series, throttling or polling began, and when something was called last, by
/// the time of the record's frame.
pub(super) fn stamp(node: &mut Node, record: &Record, at: Timestamp) {
    let held = match record {
        Record::Failed { failure, .. } => is_held(&failure.code),
        _ => node.failure.as_ref().is_some_and(|failure| is_held(&failure.code)),
    };
    let throttled = !held
        && matches!(
            record,
            Record::Failed { verdict: Verdict::Throttled { .. }, .. }
                | Record::Waiting { reason: WaitReason::Throttled { .. }, .. }
        );
    if let Record::Started { dir: Direction::Forward, .. } = record {
        node.begun_at.get_or_insert(at);
    }
    match record {
        Record::Started { dir, .. } | Record::Failed { dir, .. } | Record::Waiting { dir, .. } => {
            let poll = matches!(record, Record::Waiting { reason: WaitReason::Poll, .. });
            if poll && *dir == Direction::Forward {
                // Its own bound begins; trouble of later polls is a series of its own.
                (node.forward.since, node.forward.throttled_since) = (None, None);
                node.polling_since.get_or_insert(at);
                return;
            }
            let tries = match dir {
                Direction::Forward => &mut node.forward,
                Direction::Undo => &mut node.backward,
            };
            tries.since.get_or_insert(at);
            if throttled {
                tries.throttled_since.get_or_insert(at);
            }
            let again = WaitReason::is_for_an_attempt;
            if let Record::Waiting { reason, due, .. } = record
                && tries.held > 0
                && again(reason)
            {
                // L4: what our own limiter or a service of ours takes is no time of the series.
                tries.since = tries.since.map(|since| since.plus(due.since(at)));
            }
        }
        Record::Intent { .. } | Record::Noted { .. } => node.called_at = Some(at),
        _ => {}
    }
}

fn effect_of_success(node: &Node) -> Effect {
    let adopted = node.noted.iter().all(|(_, origin)| *origin == Origin::Adopted);
    if !node.def().is_action() || (!node.noted.is_empty() && adopted) {
        return Effect::None;
    }
    Effect::Applied
}

fn running(node: &Node) -> Step {
    if node.phase == Phase::Running || node.undo == Undo::Running {
        Ok(())
    } else {
        Err("no attempt is open")
    }
}

fn undo_running(node: &Node) -> Step {
    if node.undo == Undo::Running { Ok(()) } else { Err("no undo is open") }
}

fn started(node: &mut Node, attempt: u32, input: Option<&crate::id::Payload>) -> Step {
    if !matches!(node.phase, Phase::Idle | Phase::Waiting { .. }) {
        return Err("started twice");
    }
    node.phase = Phase::Running;
    node.forward.begun = node.forward.begun.max(attempt);
    if let Some(input) = input {
        node.input = Some(input.clone());
    }
    Ok(())
}

fn undo_started(node: &mut Node, attempt: u32) -> Step {
    if !matches!(node.undo, Undo::Due | Undo::Waiting { .. }) {
        return Err("undo started twice, or for a step that is not to be undone");
    }
    node.undo = Undo::Running;
    node.backward.begun = node.backward.begun.max(attempt);
    Ok(())
}

fn waiting(node: &mut Node, dir: Direction, reason: &WaitReason, due: Timestamp) -> Step {
    let reason = reason.clone();
    node.polls = 0;
    if matches!(reason, WaitReason::Poll | WaitReason::Quiet | WaitReason::Child { .. }) {
        // It was answered: the ends before it that used up nothing were the last in a row.
        match dir {
            Direction::Forward => node.forward.held = 0,
            Direction::Undo => node.backward.held = 0,
        }
    }
    match dir {
        Direction::Forward => {
            let open = matches!(node.phase, Phase::Idle | Phase::Waiting { .. } | Phase::Running);
            if !open {
                return Err("waits after its end");
            }
            if reason == WaitReason::Poll {
                node.forward.counted = 0;
            }
            if matches!(reason, WaitReason::Child { .. }) {
                // S12: the child is a run of its own; from here on it has to be undone.
                node.effect = Effect::Applied;
            }
            node.phase = Phase::Waiting { due, reason };
        }
        Direction::Undo => {
            if !matches!(node.undo, Undo::Due | Undo::Waiting { .. } | Undo::Running) {
                return Err("an undo waits that was not to be");
            }
            node.undo = Undo::Waiting { due, reason };
        }
    }
    Ok(())
}

fn noted(node: &mut Node, id: &crate::id::ExternalId, origin: Origin) -> Step {
    running(node)?;
    if node.noted.iter().any(|(known, _)| known == id) {
        return Ok(());
    }
    node.noted.push((id.clone(), origin));
    node.intent_open = false;
    node.polling_since = None;
    if origin == Origin::Created {
        // A resource is known to exist now: no longer unknown, whatever was said before. What an
        // earlier attempt of a plain step has done stays unknown beside it (S12).
        let one = node.is_resource();
        node.effect = if one { Effect::Applied } else { node.effect.max(Effect::Applied) };
    }
    Ok(())
}

struct Failed<'a> {
    failure: &'a Failure,
    verdict: &'a Verdict,
    broken: bool,
    interrupted: bool,
    sent_until: Option<Timestamp>,
}

fn parts(record: &Record) -> Option<Failed<'_>> {
    match record {
        Record::Failed { failure, verdict, broken, interrupted, sent_until, .. } => Some(Failed {
            failure,
            verdict,
            broken: *broken,
            interrupted: *interrupted,
            sent_until: *sent_until,
        }),
        _ => None,
    }
}

fn count(tries: &mut Tries, failed: &Failed<'_>) {
    let held = is_held(&failed.failure.code);
    let free = held || failed.interrupted;
    tries.held = if free { tries.held.saturating_add(1) } else { 0 };
    let throttled = matches!(failed.verdict, Verdict::Throttled { .. });
    if !throttled {
        tries.throttled_since = None;
        if !failed.interrupted {
            tries.counted += 1;
        }
    }
}

fn failed(node: &mut Node, record: &Record, unwinding: bool) -> Step {
    if node.phase != Phase::Running {
        return Err("failed without an open attempt");
    }
    let Some(failed) = parts(record) else { return Err("not a failure") };
    let effect = failed.failure.effect;
    let in_doubt = node.is_in_doubt(effect);
    if node.intent_open || in_doubt {
        node.sent_until = node.sent_until.max(failed.sent_until);
    }
    if in_doubt {
        node.unknown_calls += 1;
        node.suspect = true;
    }
    node.effect = node.effect.max(effect);
    node.intent_open = false;
    node.broken = failed.broken;
    count(&mut node.forward, &failed);
    node.failure = Some(failed.failure.clone());
    // Between this record and the next of the same append the node has no attempt open.
    node.phase = if unwinding {
        Phase::Closed
    } else {
        Phase::Waiting { due: Timestamp::ZERO, reason: WaitReason::Retry }
    };
    Ok(())
}

fn undo_failed(node: &mut Node, record: &Record) -> Step {
    undo_running(node)?;
    let Some(failed) = parts(record) else { return Err("not a failure") };
    if failed.failure.effect != Effect::None {
        node.undo_sent_until = node.undo_sent_until.max(failed.sent_until);
    }
    count(&mut node.backward, &failed);
    node.failure = Some(failed.failure.clone());
    node.undo = Undo::Waiting { due: Timestamp::ZERO, reason: WaitReason::Retry };
    Ok(())
}

fn resolved(node: &mut Node, finding: &Finding) -> Step {
    match finding {
        Finding::Ours(id) => {
            if !node.noted.iter().any(|(known, _)| known == id) {
                node.noted.push((id.clone(), Origin::Created));
            }
            node.effect = Effect::Applied;
        }
        Finding::Absent => {
            node.effect = Effect::None;
            node.unknown_calls = 0;
        }
    }
    node.intent_open = false;
    Ok(())
}

fn gave_up(node: &mut Node, dir: Direction, failure: &Failure) -> Step {
    match dir {
        Direction::Forward => {
            if !matches!(node.phase, Phase::Waiting { .. } | Phase::Running | Phase::Idle) {
                return Err("gave up after its end");
            }
            node.phase = Phase::GaveUp;
        }
        Direction::Undo => {
            if !matches!(node.undo, Undo::Waiting { .. } | Undo::Running) {
                return Err("an undo gave up that was not under way");
            }
            node.undo = Undo::GaveUp;
        }
    }
    node.failure = Some(failure.clone());
    Ok(())
}

/// An unwinding begins around the node.
pub(super) fn close(node: &mut Node, wanted: bool) {
    if matches!(node.phase, Phase::Idle | Phase::Waiting { .. }) {
        node.phase = Phase::Closed;
    }
    if node.items.is_some() && node.phase == Phase::Running {
        node.phase = Phase::Closed;
    }
    if wanted && matches!(node.undo, Undo::None) {
        node.undo = Undo::Due;
        node.backward = Tries::default();
    }
}

/// A person says: try again what gave up.
pub(super) fn retry(node: &mut Node, forward: bool) {
    if node.undo == Undo::GaveUp {
        node.undo = Undo::Due;
        node.backward.begin_anew();
    } else if forward
        && node.phase == Phase::GaveUp
        && node.undo == Undo::None
        && !node.def().optional
    {
        go_on(node, Timestamp::ZERO);
    }
}

/// The step goes on at `due`, in a series of its own.
fn go_on(node: &mut Node, due: Timestamp) {
    node.phase = Phase::Waiting { due, reason: WaitReason::Retry };
    node.forward.begin_anew();
    node.polling_since = None;
}

/// A fan-out begins again, with the items it had until it knows better.
pub(super) fn reopen(node: &mut Node) {
    node.phase = Phase::Idle;
    node.reopened = true;
    node.output = None;
    node.failure = None;
    node.forward.begin_anew();
}

/// A person says: forward again. Finished steps stay, undone ones get the next generation.
pub(super) fn redrive(node: &mut Node) {
    if node.items.is_some() {
        // Its list may depend on what is made anew; items that come again keep their steps.
        reopen(node);
        return;
    }
    match (&node.undo, &node.phase) {
        (Undo::Done | Undo::LeftBehind, _) => node.renew(node.generation + 1),
        (_, Phase::Succeeded) if node.undo_sent_until.is_none() => node.undo = Undo::None,
        _ if node.standing() == Effect::None => {
            // S10: what it depends on may be made anew, and another body needs another key.
            let sent = node.start_order > 0 && node.def().action().is_some();
            node.renew(node.generation + u32::from(sent));
        }
        _ => {
            // S7: an undo whose end is unknown may have taken it away, or may do so yet.
            let due = node.quiet_after(node.undo_sent_until).unwrap_or(Timestamp::ZERO);
            node.undo = Undo::None;
            node.output = None;
            node.set_phase = false;
            go_on(node, due);
        }
    }
}

/// A person decides about one step.
pub(super) fn ordered(node: &mut Node, order: &Order) -> Step {
    let undoing = node.undo != Undo::None;
    match order {
        Order::Skip { .. } if !undoing => {
            if matches!(node.phase, Phase::Succeeded | Phase::Running) {
                return Err("it has an attempt open, or has succeeded");
            }
            if node.is_resource() && node.standing() != Effect::None {
                return Err("it may exist");
            }
            node.phase = Phase::Skipped;
            node.effect = Effect::None;
        }
        Order::ResolveAs { output, .. } if !undoing => {
            if matches!(node.phase, Phase::Succeeded | Phase::Running) {
                return Err("it has an attempt open, or has succeeded");
            }
            node.output = Some(output.clone());
            node.phase = Phase::Succeeded;
            node.effect = Effect::Applied;
        }
        Order::Found { finding, .. } => found(node, finding, undoing)?,
        Order::Abandon { .. } if undoing => {
            if !matches!(node.undo, Undo::GaveUp | Undo::Waiting { .. } | Undo::Due) {
                return Err("its undo is open, or over");
            }
            node.undo = Undo::LeftBehind;
        }
        Order::Abandon { .. } => {
            if node.phase != Phase::GaveUp {
                return Err("nothing of it is given up by anybody");
            }
            node.undo = Undo::LeftBehind;
        }
        _ => return Err("the step is being undone"),
    }
    Ok(())
}

fn found(node: &mut Node, finding: &Finding, undoing: bool) -> Step {
    if node.is_open() || matches!(node.phase, Phase::Succeeded | Phase::Skipped) && !undoing {
        return Err("its end is known, or an attempt is open");
    }
    resolved(node, finding)?;
    match (undoing, finding) {
        (true, Finding::Ours(_)) => {
            node.undo = Undo::Due;
            node.backward.begin_anew();
        }
        (true, Finding::Absent) => node.undo = Undo::Done,
        (false, Finding::Ours(_)) => go_on(node, Timestamp::ZERO),
        (false, Finding::Absent) => {
            let generation = node.generation + 1;
            let input = node.input.clone();
            node.renew(generation);
            node.input = input;
            node.phase = Phase::Waiting { due: Timestamp::ZERO, reason: WaitReason::Retry };
        }
    }
    Ok(())
}
