//! S21: code that hosts and adapters wrote is called behind one guard. A panic in it ends that call
//! alone, and it is told: logged as an error and counted.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use crate::{
    error::{Effect, StepError},
    metric::{self, Label},
};

/// What every panic that was caught is reported under.
pub(crate) const CODE: &str = "panic";

/// Counts a panic; `operation` is a constant of the code.
pub(crate) fn count(operation: &'static str) {
    metric::count(metric::PANICS, 1, &[(Label::Operation, operation)]);
}

/// Runs the code of others for `of`; `None` when it panicked.
///
/// What the panic said is not told: it may hold anything.
pub(crate) async fn caught<T>(
    operation: &'static str,
    of: &str,
    work: impl Future<Output = T>,
) -> Option<T> {
    let end = AssertUnwindSafe(work).catch_unwind().await.ok();
    if end.is_none() {
        count(operation);
        tracing::error!(code = CODE, operation, of, "code of the host or of an adapter panicked");
    }
    end
}

/// Runs the code of others outside of any attempt; a panic is an error that leaves `effect`.
pub(crate) async fn guarded<T>(
    operation: &'static str,
    of: &str,
    effect: Effect,
    work: impl Future<Output = Result<T, StepError>>,
) -> Result<T, StepError> {
    let end = caught(operation, of, work).await;
    end.unwrap_or_else(|| Err(error(operation).with_effect(effect)))
}

/// The error of a call that panicked, and of which nothing else is known.
pub(crate) fn error(operation: &'static str) -> StepError {
    StepError::unknown(operation).with_code(CODE).with_message("it panicked")
}
