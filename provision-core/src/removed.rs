//! What the watch or a sweep removes, as a step sees it that might take it.

use std::time::Duration;

use crate::{
    context::StepContext, error::StepError, id::ExternalId, ledger::Origin, protocol::Flow,
    run::journal::WaitReason,
};

/// How soon a step looks again whether it is gone.
const POLL: Duration = Duration::from_secs(5);

/// A wait for a removal to end, where one is under way in a place (durable kind and account): of
/// what carries the mark of this step, or of what was noted.
///
/// S15: what is removed from a run that stood still is taken by nobody, and no other is made beside
/// it: providers may give both the same id. Something is noted before this is asked, and who
/// removes it has entered that before asking who lives with it: one of both sees the other.
pub(crate) async fn awaited(
    cx: &StepContext,
    (kind, account): (&str, &str),
    noted: Option<(&ExternalId, Origin)>,
) -> Result<Option<Flow>, StepError> {
    let adopted = noted.is_some_and(|(_, origin)| origin == Origin::Adopted);
    // What a run makes in one go, nobody has found meanwhile.
    let may_be = adopted || cx.memory().reordered || cx.generation() > 1;
    if may_be && cx.host().being_removed(kind, account, noted.map(|(id, _)| id)).await? {
        return Ok(Some(Flow::NotYet { after: POLL, reason: WaitReason::Quiet }));
    }
    Ok(None)
}
