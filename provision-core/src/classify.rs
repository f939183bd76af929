//! How errors of other people's code become [`StepError`]s: by a trait of the error's own type, or
//! on the spot.

use std::error::Error as StdError;

use crate::error::{Effect, StepError, Verdict};

/// An error that knows its own effect and verdict, so that `?` turns it into a [`StepError`].
///
/// ```
/// use provision_core::{Classify, Effect, StepError, Verdict};
///
/// #[derive(Debug, thiserror::Error)]
/// enum BankError {
///     #[error("the card is refused")]
///     Refused,
///     #[error("no answer came")]
///     NoAnswer,
/// }
///
/// impl Classify for BankError {
///     fn effect(&self) -> Effect {
///         match self {
///             Self::Refused => Effect::None,
///             Self::NoAnswer => Effect::Unknown,
///         }
///     }
///
///     fn verdict(&self) -> Verdict {
///         match self {
///             Self::Refused => Verdict::Permanent,
///             Self::NoAnswer => Verdict::Retry { after: None },
///         }
///     }
///
///     fn operation(&self) -> &'static str {
///         "charge a card"
///     }
/// }
///
/// fn charge(cents: u64) -> Result<u64, StepError> {
///     let limit = if cents > 1_000 { Err(BankError::Refused) } else { Ok(cents) };
///     Ok(limit?)
/// }
///
/// assert_eq!(charge(900).unwrap(), 900);
/// let refused = charge(2_000).unwrap_err();
/// assert_eq!((refused.effect(), refused.verdict()), (Effect::None, &Verdict::Permanent));
/// assert_eq!(StepError::from(BankError::NoAnswer).effect(), Effect::Unknown);
/// ```
#[diagnostic::on_unimplemented(
    message = "`?` couldn't convert the error: `{Self}` is not classified",
    label = "decide here: `.or_unknown(\"what\")?`, `.or_retry(..)?` or `.or_permanent(..)?`",
    note = "or implement `Classify` for `{Self}`"
)]
pub trait Classify: StdError + Send + Sync + 'static {
    /// What may have happened at the provider.
    fn effect(&self) -> Effect;
    /// What to do next.
    fn verdict(&self) -> Verdict;
    /// The operation that failed, as a short constant.
    fn operation(&self) -> &'static str;
}

impl<E: Classify> From<E> for StepError {
    fn from(error: E) -> Self {
        Self::new(error.effect(), error.verdict(), error.operation()).with_source(error)
    }
}

/// Classifies any other error on the spot.
///
/// ```
/// use provision_core::{Effect, OrFail, StepError, Verdict};
///
/// fn seats(text: &str) -> Result<u32, StepError> {
///     text.parse::<u32>().or_permanent("read the number of seats")
/// }
///
/// assert_eq!(seats("4").unwrap(), 4);
/// let error = seats("four").unwrap_err();
/// assert_eq!((error.effect(), error.verdict()), (Effect::None, &Verdict::Permanent));
///
/// // Where a call was sent and its end is not known, say so: a look-up comes first.
/// let lost = Err::<(), _>(std::io::Error::other("reset")).or_unknown("order seats");
/// assert_eq!(lost.unwrap_err().effect(), Effect::Unknown);
/// ```
pub trait OrFail<T> {
    /// The call was sent and its end is not known; worth repeating after a look-up.
    ///
    /// # Errors
    /// The error itself, as `Unknown` and `Retry`.
    fn or_unknown(self, operation: &'static str) -> Result<T, StepError>;
    /// Surely nothing happened; worth repeating.
    ///
    /// # Errors
    /// The error itself, as `None` and `Retry`.
    fn or_retry(self, operation: &'static str) -> Result<T, StepError>;
    /// Surely nothing happened; repeating cannot help.
    ///
    /// # Errors
    /// The error itself, as `None` and `Permanent`.
    fn or_permanent(self, operation: &'static str) -> Result<T, StepError>;
}

impl<T, E: StdError + Send + Sync + 'static> OrFail<T> for Result<T, E> {
    fn or_unknown(self, operation: &'static str) -> Result<T, StepError> {
        self.map_err(|e| StepError::unknown(operation).with_source(e))
    }

    fn or_retry(self, operation: &'static str) -> Result<T, StepError> {
        self.map_err(|e| StepError::retry(operation).with_source(e))
    }

    fn or_permanent(self, operation: &'static str) -> Result<T, StepError> {
        self.map_err(|e| StepError::permanent(operation).with_source(e))
    }
}
