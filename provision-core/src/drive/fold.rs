//! From a stored journal to the state of its run.

use super::Plans;
use crate::{
    run::{decide::State, journal::Record},
    store::{Frame, RunHead},
};

/// Folds a journal into a state.
///
/// # Errors
/// What makes the journal unusable, in words.
pub(crate) fn fold(head: &RunHead, frames: &[Frame], plans: &Plans) -> Result<State, String> {
    let plan = plans.get(&head.saga).ok_or("its saga is not registered")?;
    let mut state = State::new(head.id, plan, head.input.clone());
    for (frame, seq) in frames.iter().zip(1_u64..) {
        if frame.seq != seq {
            return Err(format!("frame {seq} is missing"));
        }
        let records =
            Record::decode(&frame.body).map_err(|e| format!("frame {seq} is damaged: {e}"))?;
        state.at = frame.at;
        for record in &records {
            state.apply(record).map_err(|e| format!("frame {seq}: {e}"))?;
        }
    }
    state.overlay_polls(&head.polls);
    Ok(state)
}
