//! One method per endpoint. Pages of the REST reference (docs.github.com/en/rest, API version
//! 2022-11-28) were read in 2026-09.

mod actions;
mod repos;
mod sight;

use std::time::Duration;

use provision_core::{Call, StepContext, StepError, limit::Profile};

use super::{
    API_VERSION, LISTING_LAG,
    config::{Access, Account, GitHubConfig},
    error::{is_own_404, opinion},
};
use crate::http::{ConfigError, Credential, Http, Request, Response, classify, not_the_provider};

pub(super) use repos::Look;
pub(super) use sight::still_there;

/// A connection to GitHub as one account. Cheap to clone; build resources and steps from it.
#[derive(Debug, Clone)]
pub struct GitHub {
    http: Http,
    account: Account,
    access: Access,
    #[cfg(feature = "github-app")]
    tokens: std::sync::Arc<crate::http::MintedTokens>,
    creates: Profile,
    timeout: Duration,
}

impl GitHub {
    /// Builds the adapter from its options; nothing is sent.
    ///
    /// # Errors
    /// The base URL or another option cannot be used.
    pub fn new(config: GitHubConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            http: Http::new(config.http()?)?,
            creates: config.creates(),
            account: config.account,
            access: config.access,
            #[cfg(feature = "github-app")]
            tokens: std::sync::Arc::default(),
            timeout: config.call_timeout,
        })
    }

    /// Whose repositories are made.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
    }

    pub(super) fn login(&self) -> &str {
        self.account.login()
    }

    #[cfg(feature = "github-app")]
    fn asked(&self) -> super::app::Asked<'_> {
        super::app::Asked { http: &self.http, timeout: self.timeout }
    }

    fn read(&self, operation: &'static str) -> Call {
        Call::read(operation).with_timeout(self.timeout)
    }

    fn mutate(&self, operation: &'static str) -> Call {
        Call::mutate(operation).with_timeout(self.timeout)
    }

    /// Sends as whoever we are; what is refused for its token is tried once with a newer one.
    async fn authorized(
        &self,
        cx: &StepContext,
        call: &Call,
        request: Request,
    ) -> Result<Response, StepError> {
        match &self.access {
            Access::Token(token) => {
                let credential = Credential::bearer(token);
                self.http.send_as(cx, call.clone(), request, credential).await
            }
            #[cfg(feature = "github-app")]
            Access::App(app) => {
                let from = (self.asked(), &*self.tokens);
                let token = app.token(from, cx, None).await?;
                let signed = request.clone().bearer(&token);
                let answer = self.http.send(cx, call.clone(), signed).await?;
                if answer.status != 401 {
                    return Ok(answer);
                }
                let fresh = app.token(from, cx, Some(&token)).await?;
                self.http.send(cx, call.clone(), request.bearer(&fresh)).await
            }
        }
    }

    /// Sends one request; statuses not in `expected` are errors by GitHub's table.
    async fn call(
        &self,
        cx: &StepContext,
        call: Call,
        request: Request,
        expected: &[u16],
    ) -> Result<Response, StepError> {
        let request = request
            .header("accept", "application/vnd.github+json")
            .header("x-github-api-version", API_VERSION);
        let response = self.authorized(cx, &call, request).await?;
        // S14: the page of something in between says nothing of what is there.
        if response.status == 404 && !is_own_404(&response) {
            return Err(not_the_provider(&call));
        }
        if expected.contains(&response.status) {
            return Ok(response);
        }
        let bucket = call.limit.as_ref().map_or_else(|| self.http.bucket(), |l| &l.bucket);
        Err(classify(&call, &response, bucket, |_, _| opinion(&response)))
    }
}

/// A repository may be unknown to some endpoints for a moment after it was made, so "not found"
/// counts only once the step's intent is older than [`LISTING_LAG`].
pub(super) fn not_visible_yet(cx: &StepContext, error: StepError) -> StepError {
    let intent = cx.memory().intent.as_ref();
    let fresh = intent.is_none_or(|intent| cx.now() < intent.at.plus(LISTING_LAG));
    match error.code() {
        "not_found" if fresh => {
            StepError::retry("reach the repository").with_code("not_visible_yet").with_source(error)
        }
        _ => error,
    }
}

/// Splits `owner/name`; the parts are checked when they become path segments.
pub(super) fn split(full_name: &str) -> (&str, &str) {
    full_name.split_once('/').unwrap_or((full_name, ""))
}

/// Whether a listing goes on, by its `Link` header: the documented way, rather than counting.
fn has_next(response: &Response) -> bool {
    response.headers.get("link").is_some_and(|link| link.contains("rel=\"next\""))
}
