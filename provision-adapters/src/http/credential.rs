//! What a request is signed with.

use provision_core::{Secret, SecretRef, StepContext, StepError};

use super::request::Request;

/// A token, how it is sent, and which statuses refuse it.
#[derive(Debug, Clone, Copy)]
pub struct Credential<'c> {
    token: &'c SecretRef,
    /// A header of its own; none for `Authorization: Bearer`.
    header: Option<&'static str>,
    /// A header that has it as well.
    second: Option<&'static str>,
    pub(super) refusals: &'static [u16],
}

impl<'c> Credential<'c> {
    /// Sends the token as `Authorization: Bearer`; 401 refuses it.
    #[must_use]
    pub fn bearer(token: &'c SecretRef) -> Self {
        Self { token, header: None, second: None, refusals: &[401] }
    }

    /// Sends the token in a header of its own; 401 refuses it.
    #[must_use]
    pub fn header(name: &'static str, token: &'c SecretRef) -> Self {
        Self { token, header: Some(name), second: None, refusals: &[401] }
    }

    /// Sends the token in this header as well, for a gateway before the provider.
    #[must_use]
    pub fn and_as(mut self, name: &'static str) -> Self {
        self.second = Some(name);
        self
    }

    /// Sets the statuses that refuse a token.
    #[must_use]
    pub fn refused_by(mut self, statuses: &'static [u16]) -> Self {
        self.refusals = statuses;
        self
    }

    /// Opens the token. A file often ends with a line feed, which no header may hold.
    pub(super) async fn open(&self, cx: &StepContext) -> Result<Secret, StepError> {
        Ok(Secret::new(cx.reveal(self.token).await?.expose().trim()))
    }

    pub(super) fn sign(&self, request: Request, token: &Secret) -> Request {
        let request = match self.second {
            Some(name) => request.secret_header(name, token),
            None => request,
        };
        match self.header {
            Some(name) => request.secret_header(name, token),
            None => request.bearer(token),
        }
    }
}
