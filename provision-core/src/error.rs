//! What went wrong, in two axes: the [`Effect`] says what may have happened out there, the
//! [`Verdict`] says what to do next.
//!
//! [`StepError`] is what authors of steps and adapters construct; [`Error`] is what hosts of the
//! engine receive. Neither ever holds a provider's body, a URL or a secret.

use std::{borrow::Cow, error::Error as StdError, fmt, time::Duration};

use serde::{Deserialize, Serialize};

pub use crate::{
    classify::{Classify, OrFail},
    severity::Severity,
};

/// What may have happened at the provider because of one call.
///
/// The order is the order of worry: `None < Applied < Unknown`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Surely nothing happened.
    #[default]
    None,
    /// It surely happened.
    Applied,
    /// It was sent and nobody knows: a look-up comes before anything else.
    Unknown,
}

/// What to do next after a failed call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// Worth repeating; costs an attempt. `after` is the provider's own wish and is never shortened.
    Retry {
        /// Shortest wait before the next attempt, when the provider named one.
        after: Option<Duration>,
    },
    /// Told to wait: pauses the shared bucket, costs no attempt.
    Throttled {
        /// The bucket to pause (provider, account and token class).
        bucket: String,
        /// How long to leave it alone.
        after: Duration,
    },
    /// Repeating cannot help: the step has failed.
    Permanent,
    /// Only a person can tell: the run parks.
    Operator,
}

/// The failure of one attempt, as an author of a step or adapter reports it.
///
/// `Display` prints operation, code, effect and verdict on one line and never the source.
#[derive(Debug)]
pub struct StepError {
    inner: Box<StepErrorInner>,
}

#[derive(Debug)]
struct StepErrorInner {
    effect: Effect,
    verdict: Verdict,
    operation: Cow<'static, str>,
    code: Cow<'static, str>,
    message: Option<Cow<'static, str>>,
    hint: Option<Cow<'static, str>>,
    broken: bool,
    uncounted: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Whether our own limiter held a call back before its first byte: nothing of the policy is used
/// up by that, however long it lasts.
pub(crate) fn is_held(code: &str) -> bool {
    code.starts_with("held_by_")
}

impl StepError {
    /// Creates an error for `operation`, a short constant such as `"create project"`.
    #[must_use]
    pub fn new(effect: Effect, verdict: Verdict, operation: impl Into<Cow<'static, str>>) -> Self {
        let code = match verdict {
            Verdict::Retry { .. } => "retry",
            Verdict::Throttled { .. } => "throttled",
            Verdict::Permanent => "permanent",
            Verdict::Operator => "operator",
        };
        let inner = StepErrorInner {
            effect,
            verdict,
            operation: operation.into(),
            code: Cow::Borrowed(code),
            message: None,
            hint: None,
            broken: false,
            uncounted: false,
            source: None,
        };
        Self { inner: Box::new(inner) }
    }

    /// Creates an error of effect `None` that is worth repeating.
    #[must_use]
    pub fn retry(operation: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Effect::None, Verdict::Retry { after: None }, operation)
    }

    /// Creates an error of effect `None` that repeating cannot mend.
    #[must_use]
    pub fn permanent(operation: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Effect::None, Verdict::Permanent, operation)
    }

    /// Creates an error for a call that was sent and whose answer never came.
    #[must_use]
    pub fn unknown(operation: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Effect::Unknown, Verdict::Retry { after: None }, operation)
    }

    /// Keeps the cause for `source()`; it is never printed nor journaled.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.inner.source = Some(Box::new(source));
        self
    }

    /// Names the class of the failure with a short stable word, such as `name_taken`.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.inner.code = code.into();
        self
    }

    /// Adds one line for people; must hold no secret, provider body or full URL.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.inner.message = Some(message.into());
        self
    }

    /// Adds what a person can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.inner.hint = Some(hint.into());
        self
    }

    /// S18: trouble of the store or of the key service is no failure of the step, and uses up
    /// none of its attempts.
    pub(crate) fn uncounted(mut self) -> Self {
        self.inner.uncounted = true;
        self
    }

    /// Whether it uses up no attempt.
    pub(crate) fn is_uncounted(&self) -> bool {
        self.inner.uncounted
    }

    /// Replaces the effect, for a caller that knows better than the callee.
    #[must_use]
    pub fn with_effect(mut self, effect: Effect) -> Self {
        self.inner.effect = effect;
        self
    }

    /// Says that the resource exists but can never become ready: a retry undoes it first.
    #[must_use]
    pub fn broken(mut self) -> Self {
        self.inner.broken = true;
        self.inner.effect = self.inner.effect.max(Effect::Applied);
        self
    }

    /// What may have happened.
    #[must_use]
    pub fn effect(&self) -> Effect {
        self.inner.effect
    }

    /// What to do next.
    #[must_use]
    pub fn verdict(&self) -> &Verdict {
        &self.inner.verdict
    }

    /// The operation that failed.
    #[must_use]
    pub fn operation(&self) -> &str {
        &self.inner.operation
    }

    /// The short stable word for the class of the failure.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.inner.code
    }

    /// The line for people, if there is one.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.inner.message.as_deref()
    }

    /// What a person can do about it, if known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }

    /// Whether the resource must be undone before the next attempt.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.inner.broken
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.inner.operation, self.inner.code)?;
        if let Some(message) = &self.inner.message {
            write!(f, ": {message}")?;
        }
        let effect = match self.inner.effect {
            Effect::None => "nothing happened",
            Effect::Applied => "it was applied",
            Effect::Unknown => "whether it happened is unknown",
        };
        write!(f, " ({effect})")
    }
}

impl StdError for StepError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}

/// The recorded failure of a step: what the journal, dead letters and tolerant dependents see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// Path of the step.
    pub path: String,
    /// What was tried.
    pub operation: String,
    /// Short stable word for the class of the failure.
    pub code: String,
    /// One line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What a person can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What may have happened.
    pub effect: Effect,
    /// Number of the attempt, counted from 1.
    pub attempt: u32,
    /// How much it matters.
    #[serde(default, skip_serializing_if = "Severity::is_default")]
    pub severity: Severity,
}

impl Failure {
    /// Records `error` as the failure of `attempt` of the step at `path`.
    #[must_use]
    pub fn of(path: impl Into<String>, attempt: u32, error: &StepError) -> Self {
        Self {
            path: path.into(),
            operation: error.operation().into(),
            code: error.code().into(),
            message: error.message().map(Into::into),
            hint: error.hint().map(Into::into),
            effect: error.effect(),
            attempt,
            severity: error.severity(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What befalls a run as a whole has no path.
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}: {}", self.operation, self.code)?;
        match &self.message {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}

impl StdError for Failure {}

/// Kinds of [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The store cannot be reached or answered something unusable.
    Store,
    /// The named run, saga or resource is not there.
    NotFound,
    /// The request contradicts what is recorded: same key with other input, an order that is not
    /// legal in this state, a version that exists with another shape.
    Conflict,
    /// The caller's value cannot be used.
    Invalid,
    /// The run did not succeed; the error says how it ended.
    Unsuccessful,
    /// A stored record is damaged or from a newer version.
    Damaged,
    /// A secret is missing or cannot be opened.
    Secret,
    /// A configured limit was passed.
    Limit,
    /// A provider could not be asked.
    Provider,
    /// A bug of this library.
    Internal,
}

/// What the engine reports to its host.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    code: &'static str,
    operation: Cow<'static, str>,
    context: Option<Box<str>>,
    hint: Option<Cow<'static, str>>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Creates an error of `kind`, with a stable `code`, for `operation`.
    #[must_use]
    pub fn new(
        kind: ErrorKind,
        code: &'static str,
        operation: impl Into<Cow<'static, str>>,
    ) -> Self {
        let operation = operation.into();
        Self { kind, code, operation, context: None, hint: None, retry_after: None, source: None }
    }

    /// Adds one line of context; must hold no secret.
    #[must_use]
    pub fn with_context(mut self, context: impl Into<String>) -> Self {
        self.context = Some(context.into().into());
        self
    }

    /// Adds what a person can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says when the same may be asked again.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Keeps the cause for `source()`.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// What happened.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Stable word for the exact case.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// What was tried.
    #[must_use]
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// The line of context, if there is one.
    #[must_use]
    pub fn context(&self) -> Option<&str> {
        self.context.as_deref()
    }

    /// What a person can do about it, if known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// How long to wait before the same is asked again, where that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.code)?;
        match &self.context {
            Some(context) => write!(f, ": {context}"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}

/// Kinds of [`StoreError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// Not reachable now; the same call may work later. Whether a write landed is not known.
    Unavailable,
    /// The disk, memory or quota is full. Nothing was written.
    Full,
    /// The stored data is damaged, or was written by a newer version.
    Damaged,
    /// The store's configuration gives weaker guarantees than asked for, or is wrong.
    Unsuitable,
    /// The request itself is wrong: too large, another namespace, an unknown table.
    Invalid,
}

/// What a store reports when it could not do what was asked.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    code: &'static str,
    operation: &'static str,
    context: Option<String>,
    hint: Option<Cow<'static, str>>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl StoreError {
    /// Creates an error of `kind`, with a stable `code`, for `operation`.
    #[must_use]
    pub fn new(kind: StoreErrorKind, code: &'static str, operation: &'static str) -> Self {
        Self { kind, code, operation, context: None, hint: None, source: None }
    }

    /// Creates an error for a store that could not be reached; whether a write landed is unknown.
    #[must_use]
    pub fn unavailable(operation: &'static str) -> Self {
        Self::new(StoreErrorKind::Unavailable, "store_unavailable", operation)
    }

    /// Adds one line of context; must hold no secret.
    #[must_use]
    pub fn with_context(mut self, context: impl Into<String>) -> Self {
        self.context = Some(context.into());
        self
    }

    /// Adds what a person can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Keeps the cause for `source()`.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// Details of the failure, without values.
    #[must_use]
    pub fn context(&self) -> Option<&str> {
        self.context.as_deref()
    }

    /// What happened.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Stable word for the exact case.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// What a person can do about it, if known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether the same call may work later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Unavailable | StoreErrorKind::Full)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.code)?;
        self.context.iter().try_for_each(|context| write!(f, ": {context}"))
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let kind = match error.kind {
            StoreErrorKind::Damaged => ErrorKind::Damaged,
            StoreErrorKind::Invalid => ErrorKind::Invalid,
            StoreErrorKind::Unavailable | StoreErrorKind::Full | StoreErrorKind::Unsuitable => {
                ErrorKind::Store
            }
        };
        let mut out = Self::new(kind, error.code, error.operation);
        out.context = error.context.as_deref().map(Into::into);
        out.hint.clone_from(&error.hint);
        out.with_source(error)
    }
}
