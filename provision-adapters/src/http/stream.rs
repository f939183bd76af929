//! Answers that are too large for memory: their body goes on piece by piece, as it comes.

use std::future::Future;

use provision_core::StepError;

use super::response::Response;

/// Takes the body of a success piece by piece; the answer it belongs to then has none.
///
/// Only a body that came completely ends a call well: after an error, and when the call is cut,
/// what was taken is to be thrown away.
pub trait AnswerSink: Send {
    /// Looks at status and headers of a success, before its body; the most bytes it takes.
    ///
    /// # Errors
    /// It does not want this answer. A mutating call may have been carried out: say `Unknown`.
    fn begin(&mut self, head: &Response) -> impl Future<Output = Result<u64, StepError>> + Send;

    /// Takes the next piece.
    ///
    /// # Errors
    /// It cannot. A mutating call may have been carried out: say `Unknown`.
    fn piece(&mut self, bytes: &[u8]) -> impl Future<Output = Result<(), StepError>> + Send;
}
