//! What the resource protocol cannot do by itself, as a person is told of it.

use crate::{
    error::{Effect, StepError, Verdict},
    id::{ExternalId, RunId},
    resource::Foreign,
};

pub(crate) fn refused(kind: &'static str, foreign: &Foreign) -> StepError {
    let whose = match &foreign.owner {
        Some(owner) => format!("it belongs to run {}", owner.run()),
        None => "it carries no mark of this run".to_owned(),
    };
    StepError::permanent(format!("create {kind}"))
        .with_code("foreign")
        .with_message(format!("{} exists already and {whose}", foreign.id))
        .with_hint("choose another name, or say `.adopt(AdoptPolicy::Use)` to use it as it is")
}

pub(crate) fn unresolvable(kind: &'static str) -> StepError {
    StepError::new(Effect::None, Verdict::Operator, format!("look up {kind}"))
        .with_code("unresolvable")
        .with_message("a call ended without an answer and its effect cannot be looked up")
        .with_hint("say whether it exists (resolve with its id, or as absent), or abandon it")
}

pub(crate) fn adopted(kind: &'static str, id: &ExternalId, adopter: &RunId) -> StepError {
    StepError::new(Effect::None, Verdict::Operator, format!("delete {kind}"))
        .with_code("adopted")
        .with_message(format!("{id} is used by run {adopter}"))
        .with_hint("tear that run down first, then retry")
}
