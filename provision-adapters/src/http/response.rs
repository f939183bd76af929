//! One answer, read completely and within limits.

use std::fmt;

use provision_core::{CallKind, Effect, StepError, Timestamp, Verdict};
use serde::de::DeserializeOwned;

/// Headers of an answer, names in lower case.
#[derive(Clone, Default)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first header of that name, in any case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

impl FromIterator<(String, String)> for Headers {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

/// Shows names only: values may hold cookies and keys.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// An answer of a provider. Its `Debug` form never shows the body.
#[derive(Clone)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: Headers,
    /// The body, complete.
    pub body: Vec<u8>,
    kind: CallKind,
    at: Timestamp,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl Response {
    pub(super) fn new(status: u16, headers: Headers, kind: CallKind, at: Timestamp) -> Self {
        Self { status, headers, body: Vec::new(), kind, at }
    }

    #[cfg(test)]
    pub(crate) fn test(status: u16, headers: Headers, body: &[u8], at: Timestamp) -> Self {
        Self { status, headers, body: body.to_vec(), kind: CallKind::Mutate, at }
    }

    /// Whether the status is 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// When it arrived, by the store's clock.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// Reads the body as JSON.
    ///
    /// # Errors
    /// The body is not what the operation answers: unknown after a mutating call, since it may
    /// have been carried out; worth repeating after a reading one. Never quotes the body.
    pub fn json<T: DeserializeOwned>(&self, operation: &'static str) -> Result<T, StepError> {
        serde_json::from_slice(&self.body).map_err(|error| self.garbage(operation, &error))
    }

    fn garbage(&self, operation: &'static str, error: &serde_json::Error) -> StepError {
        // The error itself would quote values of the body; its position is enough.
        let message = format!(
            "HTTP {} with an unusable body ({:?} error at line {} column {})",
            self.status,
            error.classify(),
            error.line(),
            error.column()
        );
        let effect = effect_if_sent(self.kind);
        StepError::new(effect, Verdict::Retry { after: None }, operation)
            .with_code("garbage")
            .with_message(message)
    }
}

/// What a call without a usable answer may have done.
pub(super) fn effect_if_sent(kind: CallKind) -> Effect {
    match kind {
        CallKind::Read => Effect::None,
        CallKind::Mutate => Effect::Unknown,
    }
}
