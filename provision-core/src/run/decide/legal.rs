//! Which record may follow which state of a node (S3). Asked before anything changes, at write and
//! at load, so that a refused record leaves the state as it was.

use super::node::{Node, Phase, Undo};
use crate::{
    error::Effect,
    run::journal::{Direction, Record},
};

/// Says what stands against a record, if anything does.
pub(super) fn check(node: &Node, record: &Record, unwinding: bool) -> Result<(), &'static str> {
    match record {
        Record::Started { dir: Direction::Undo, .. }
        | Record::Waiting { dir: Direction::Undo, .. }
        | Record::Failed { dir: Direction::Undo, .. }
        | Record::Succeeded { dir: Direction::Undo, .. }
        | Record::GaveUp { dir: Direction::Undo, .. }
        | Record::Kept { .. } => backward(node, record, unwinding),
        Record::Noted { .. } | Record::Sealed { .. } => {
            or(is_running(node) || is_undoing(node, unwinding), "no attempt is open")
        }
        Record::Resolved { .. } => or(
            is_running(node) || is_waiting(node) || is_undoing(node, unwinding),
            "nothing of it is to be resolved",
        ),
        // What was open when the unwinding began may still end.
        Record::Failed { .. } | Record::Succeeded { .. } => {
            or(is_running(node), "no attempt is open")
        }
        Record::Renewed { generation, .. } => {
            let closed = match node.undo {
                Undo::Done | Undo::LeftBehind => true,
                Undo::None => is_running(node) || is_waiting(node),
                _ => false,
            };
            or(*generation == node.generation + 1, "generations grow by one")?;
            or(closed && node.standing() == Effect::None, "its generation is not closed")?;
            or(!unwinding, "renewed while unwinding")
        }
        _ => forward(node, record, unwinding),
    }
}

/// Records that begin something forward: never once an unwinding has started.
fn forward(node: &Node, record: &Record, unwinding: bool) -> Result<(), &'static str> {
    or(node.undo == Undo::None && !unwinding, "goes forward although it is being undone")?;
    let before = node.phase == Phase::Idle || is_waiting(node);
    match record {
        Record::Started { generation, .. } => {
            or(*generation == node.generation, "started in another generation")?;
            or(before, "started twice")
        }
        Record::Waiting { .. } => or(before || is_running(node), "waits after its end"),
        Record::Skipped { .. } => or(before, "skipped after its start"),
        Record::Intent { .. } => or(is_running(node), "no attempt is open"),
        Record::GaveUp { .. } => or(is_waiting(node), "gave up without a failure"),
        _ => Err("not a record of a step"),
    }
}

fn backward(node: &Node, record: &Record, unwinding: bool) -> Result<(), &'static str> {
    or(unwinding, "undone without an unwinding")?;
    let waits = matches!(node.undo, Undo::Waiting { .. });
    match record {
        Record::Started { generation, .. } => {
            or(*generation == node.generation, "undone in another generation")?;
            or(node.undo == Undo::Due || waits, "undo started twice, or not to be undone")?;
            or(!is_running(node), "undone with an attempt open")
        }
        Record::Waiting { .. } => or(
            node.undo == Undo::Due || waits || node.undo == Undo::Running,
            "an undo waits that was not to be",
        ),
        Record::GaveUp { .. } => or(waits, "an undo gave up without a failure"),
        _ => or(node.undo == Undo::Running, "no undo is open"),
    }
}

fn is_running(node: &Node) -> bool {
    node.phase == Phase::Running
}

fn is_waiting(node: &Node) -> bool {
    matches!(node.phase, Phase::Waiting { .. }) && node.undo == Undo::None
}

fn is_undoing(node: &Node, unwinding: bool) -> bool {
    unwinding && node.undo == Undo::Running
}

fn or(holds: bool, what: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(what) }
}
