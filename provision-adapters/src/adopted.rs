//! Somebody else's resource that a run uses, and that is not as the run needs it.

use provision_core::StepError;

/// Ends a step that would have to write to what it only uses (S11).
///
/// Nothing would undo such a change: what was adopted is left as it is.
pub(crate) fn adopted_incomplete(operation: &'static str, what: impl Into<String>) -> StepError {
    StepError::permanent(operation)
        .with_code("adopted_incomplete")
        .with_message(what.into())
        .with_hint("it belongs to somebody else: complete it there, or remove it and try again")
}
