//! What the watch or a sweep removes, as a step sees it that might take it.
//!
//! S15: what is removed is taken by nobody, and no other is made beside it: providers may give both
//! the same id. Something is noted before it is asked for once more, and who removes it has entered
//! that before asking who lives with it: one of both sees the other.

use std::time::Duration;

use crate::{
    context::StepContext,
    error::StepError,
    id::ExternalId,
    ledger::Origin,
    protocol::{Flow, Next},
    run::journal::WaitReason,
};

/// How soon a step looks again whether it is gone.
const POLL: Duration = Duration::from_secs(5);

/// A durable kind and an account.
type Place<'p> = (&'p str, &'p str);

/// A wait until nothing is removed that carries the mark of this step; `None` when nothing is.
pub(crate) async fn own(
    cx: &StepContext,
    (kind, account): Place<'_>,
) -> Result<Option<Flow>, StepError> {
    let removed = was_moved(cx) && cx.host().being_removed(kind, account, None).await?;
    Ok(removed.then_some(WAIT))
}

/// A wait until what was found is removed, before it is noted; the next attempt looks again.
pub(crate) async fn found(
    cx: &StepContext,
    place: Place<'_>,
    found: (&ExternalId, Origin),
) -> Result<Option<Flow>, StepError> {
    Ok(is_removed(cx, place, found).await?.then_some(WAIT))
}

/// A new look, where what is noted is being removed: the note came too late for who removes it.
/// Once it was asked for after its note, nobody can begin any more, and polls ask no more.
pub(crate) async fn noted(
    cx: &StepContext,
    place: Place<'_>,
    noted: (&ExternalId, Origin),
) -> Result<Option<Flow>, StepError> {
    let asked = cx.memory().polling_since.is_some();
    Ok((!asked && is_removed(cx, place, noted).await?).then_some(Flow::Renew))
}

/// A wait until what stands where this run wants to make its own is removed: whoever made it, it
/// makes room soon.
pub(crate) async fn foreign(
    cx: &StepContext,
    (kind, account): Place<'_>,
    id: &ExternalId,
) -> Result<Option<Next>, StepError> {
    let removed = cx.host().being_removed(kind, account, Some(id)).await?;
    Ok(removed.then_some(Next::Wait { after: POLL, reason: WaitReason::Quiet }))
}

const WAIT: Flow = Flow::NotYet { after: POLL, reason: WaitReason::Quiet };

async fn is_removed(
    cx: &StepContext,
    (kind, account): Place<'_>,
    (id, origin): (&ExternalId, Origin),
) -> Result<bool, StepError> {
    let may_be = origin == Origin::Adopted || was_moved(cx);
    Ok(may_be && cx.host().being_removed(kind, account, Some(id)).await?)
}

/// What a run makes in one go, nobody has found meanwhile.
fn was_moved(cx: &StepContext) -> bool {
    cx.memory().reordered || cx.generation() > 1
}
