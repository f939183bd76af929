//! From a stored journal to the state of its run.

use super::Plans;
use crate::{
    error::{Error, ErrorKind},
    run::{
        decide::State,
        journal::{Record, Unreadable},
    },
    store::{Frame, RunHead},
};

/// Why a journal is of no use here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("its saga is not registered")]
    Unregistered,
    #[error("frame {seq}: {why}")]
    Newer { seq: u64, why: Unreadable },
    #[error("{0}")]
    Damaged(String),
}

impl From<Unusable> for Error {
    fn from(unusable: Unusable) -> Self {
        let what = unusable.to_string();
        match unusable {
            Unusable::Newer { .. } => Self::new(ErrorKind::Damaged, "newer_journal", "read a run")
                .with_context(what)
                .with_hint("use the release that wrote it, or a later one"),
            Unusable::Unregistered | Unusable::Damaged(_) => crate::engine::damaged(what),
        }
    }
}

/// The records of one frame.
pub(crate) fn records(frame: &Frame) -> Result<Vec<Record>, Unusable> {
    let seq = frame.seq;
    Record::decode(&frame.body).map_err(|why| match why {
        Unreadable::Newer { .. } => Unusable::Newer { seq, why },
        Unreadable::Damaged(_) => Unusable::Damaged(format!("frame {seq}: {why}")),
    })
}

/// Folds a journal into a state.
///
/// # Errors
/// What makes the journal unusable.
pub(crate) fn fold(head: &RunHead, frames: &[Frame], plans: &Plans) -> Result<State, Unusable> {
    let plan = plans.get(&head.saga).ok_or(Unusable::Unregistered)?;
    let mut state = State::new(head.id, plan, head.input.clone());
    state.not_before = head.summary.not_before;
    for (frame, seq) in frames.iter().zip(1_u64..) {
        if frame.seq != seq {
            return Err(Unusable::Damaged(format!("frame {seq} is missing")));
        }
        state.at = frame.at;
        for record in &records(frame)? {
            let applied = state.apply(record);
            applied.map_err(|e| Unusable::Damaged(format!("frame {seq}: {e}")))?;
        }
    }
    state.overlay_polls(&head.polls);
    state.overlay_parked(head);
    Ok(state)
}
