//! What all platforms share: one way to send, and OAuth 2.0 as RFC 6749 has it.

use std::time::Duration;

use provision_adapters::http::{
    ConfigError, Http, HttpConfig, Opinion, Request, Response, classify,
};
use provision_core::{Call, Secret, StepContext, StepError, limit::Profile};
use serde::{Deserialize, de::DeserializeOwned};

use super::{App, Grant, PlatformName, Tokens};

type Table = fn(u16, &[u8]) -> Option<Opinion>;

/// The way to one platform. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Link {
    http: Http,
    app: App,
    table: Table,
}

/// The answer of a token endpoint; platforms that add to it are read all the same.
#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    #[serde(default)]
    refresh_token: Option<String>,
    /// Seconds; 0 or absent where the token does not grow old.
    #[serde(default)]
    expires_in: u64,
}

#[derive(Deserialize)]
struct OAuthError {
    error: String,
}

impl Link {
    pub(super) fn new(name: PlatformName, app: App, table: Table) -> Result<Self, ConfigError> {
        // Each token has a bucket of its own; this one is for calls that name none.
        let bucket = Profile { bucket: format!("{name}/app"), rate: None, concurrency: None };
        let config = HttpConfig::new(name.as_str(), app.base.clone(), bucket);
        Ok(Self { http: Http::new(config)?, app, table })
    }

    pub(super) fn app(&self) -> &App {
        &self.app
    }

    /// Where a user is sent, with the parameters of an authorization request.
    pub(super) fn authorize_url(
        &self,
        path: &str,
        scope: &str,
        (state, redirect_uri): (&str, &str),
    ) -> String {
        let mut url = format!("{}/{path}?response_type=code", self.app.base.as_str());
        let fields = [
            ("client_id", &*self.app.client_id),
            ("redirect_uri", redirect_uri),
            ("scope", scope),
            ("state", state),
        ];
        for (name, value) in fields {
            url.push('&');
            url.push_str(name);
            url.push('=');
            for byte in value.bytes() {
                match byte {
                    b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                        url.push(char::from(byte));
                    }
                    _ => url.push_str(&format!("%{byte:02X}")),
                }
            }
        }
        url
    }

    /// Sends and reads the answer; anything but a success with the right JSON is an error.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        cx: &StepContext,
        call: Call,
        request: Request,
    ) -> Result<T, StepError> {
        self.done(cx, &call, request).await?.json(call.operation)
    }

    /// Sends; anything but a success is an error.
    pub(super) async fn done(
        &self,
        cx: &StepContext,
        call: &Call,
        request: Request,
    ) -> Result<Response, StepError> {
        let response = self.http.send(cx, call.clone(), request).await?;
        if response.is_success() { Ok(response) } else { Err(self.refused(call, &response)) }
    }

    /// As [`Self::done`], for what may be gone: a 404 is `None`.
    pub(super) async fn look(
        &self,
        cx: &StepContext,
        call: &Call,
        request: Request,
    ) -> Result<Option<Response>, StepError> {
        let response = self.http.send(cx, call.clone(), request).await?;
        match response.status {
            404 => Ok(None),
            _ if response.is_success() => Ok(Some(response)),
            _ => Err(self.refused(call, &response)),
        }
    }

    fn refused(&self, call: &Call, response: &Response) -> StepError {
        let bucket = call.limit.as_ref().map_or(self.http.bucket(), |limit| &limit.bucket);
        classify(call, response, bucket, self.table)
    }

    /// Asks a token endpoint, as the app.
    pub(super) async fn tokens(
        &self,
        cx: &StepContext,
        limit: &Profile,
        path: &[&str],
        fields: &[(&str, &str)],
    ) -> Result<Tokens, StepError> {
        let call = Call::mutate("ask for tokens").with_limit(limit.clone());
        let request = Request::post(path).form(&self.as_app(fields));
        let answer: TokenAnswer = self.ask(cx, call, request).await?;
        Ok(Tokens {
            access: Secret::new(answer.access_token),
            refresh: answer.refresh_token.map(Secret::new),
            lifetime: (answer.expires_in > 0).then(|| Duration::from_secs(answer.expires_in)),
        })
    }

    /// Exchanges the code of a grant (RFC 6749, 4.1.3).
    pub(super) async fn tokens_for_code(
        &self,
        cx: &StepContext,
        limit: &Profile,
        path: &[&str],
        grant: &Grant,
    ) -> Result<Tokens, StepError> {
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", grant.code.expose()),
            ("redirect_uri", &grant.redirect_uri),
        ];
        self.tokens(cx, limit, path, &fields).await
    }

    /// Exchanges the token that is for it (RFC 6749, 6).
    pub(super) async fn refreshed(
        &self,
        cx: &StepContext,
        limit: &Profile,
        path: &[&str],
        old: &Tokens,
    ) -> Result<Tokens, StepError> {
        let fields = [("grant_type", "refresh_token"), ("refresh_token", refresh_of(old)?)];
        self.tokens(cx, limit, path, &fields).await
    }

    /// Makes a token worthless (RFC 7009): one that is unknown is answered as done.
    pub(super) async fn revoke(
        &self,
        cx: &StepContext,
        limit: &Profile,
        path: &[&str],
        tokens: &Tokens,
    ) -> Result<(), StepError> {
        let call = Call::mutate("revoke tokens").with_limit(limit.clone());
        let token = tokens.refresh.as_ref().unwrap_or(&tokens.access).expose();
        let request = Request::post(path).form(&self.as_app(&[("token", token)]));
        match self.look(cx, &call, request).await {
            // Some platforms word it so, where the RFC has a success.
            Err(error) if error.code() == "invalid_token" => Ok(()),
            end => end.map(drop),
        }
    }

    fn as_app<'a>(&'a self, fields: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let app = &self.app;
        let own = [("client_id", &*app.client_id), ("client_secret", app.client_secret.expose())];
        own.into_iter().chain(fields.iter().copied()).collect()
    }
}

/// The refresh token, for platforms that give one.
fn refresh_of(old: &Tokens) -> Result<&str, StepError> {
    old.refresh.as_ref().map(Secret::expose).ok_or_else(|| {
        StepError::permanent("refresh tokens")
            .with_code("no_refresh_token")
            .with_hint("the platform gave none with the consent: connect again")
    })
}

/// What every platform means by an answer of its token endpoint; silence leaves it to the general
/// table.
pub(super) fn opinion(status: u16, body: &[u8]) -> Option<Opinion> {
    let error = serde_json::from_slice::<OAuthError>(body).ok().map(|body| body.error)?;
    match (status, &*error) {
        (400 | 401, "invalid_grant") => Some(
            Opinion::permanent("invalid_grant")
                .with_hint("the consent or the refresh token is used up: the user connects again"),
        ),
        (400, "invalid_token") => Some(Opinion::permanent("invalid_token")),
        (400 | 401, "invalid_client") => Some(
            Opinion::operator("invalid_client")
                .with_hint("check id and secret of the service's app at this platform"),
        ),
        _ => None,
    }
}
