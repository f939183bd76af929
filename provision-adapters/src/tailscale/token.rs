//! The access token of an OAuth client.
//!
//! Facts: `POST /api/v2/oauth/token` with a form answers a bearer token for 3,600 s; passing a
//! narrower `scope` can lose the client's tags, so none is passed (tailscale/tailscale#8299).

use std::time::Duration;

use provision_core::{Call, Secret, StepContext, StepError};
use tokio::time::Instant;

use super::{
    TOKEN_MARGIN,
    config::TailscaleConfig,
    error::{GET_TOKEN, opinion},
    model::AccessToken,
};
use crate::http::{Http, Minted, MintedTokens, Request, Response, classify};

/// Longest life of a token that is believed; the provider says an hour.
const LIFE_MAX: Duration = Duration::from_secs(24 * 3_600);

/// A token that is good for a while; never the one that was refused.
///
/// # Errors
/// The client secret cannot be opened or is refused, or the provider gives no token.
pub(crate) async fn token(
    tokens: &MintedTokens,
    (http, config): (&Http, &TailscaleConfig),
    cx: &StepContext,
    refused: Option<&Secret>,
) -> Result<Secret, StepError> {
    let secret = open(config, cx).await?;
    let minted = mint((http, config), cx, secret.clone());
    tokens.get(GET_TOKEN, (&secret, refused), minted).await
}

/// Opens the client secret. A file often ends with a line feed.
async fn open(config: &TailscaleConfig, cx: &StepContext) -> Result<Secret, StepError> {
    Ok(Secret::new(cx.reveal(&config.client_secret).await?.expose().trim()))
}

/// Mints a token; a secret that was replaced meanwhile is tried once.
async fn mint(
    (http, config): (&Http, &TailscaleConfig),
    cx: &StepContext,
    secret: Secret,
) -> Result<Minted, StepError> {
    let asked = Instant::now();
    let answer = ask(http, config, cx, &secret).await?;
    if !matches!(answer.status, 400 | 401 | 403) {
        return read(http, &answer, secret, asked);
    }
    let fresh = open(config, cx).await?;
    if fresh.expose() == secret.expose() {
        return read(http, &answer, secret, asked);
    }
    let asked = Instant::now();
    let answer = ask(http, config, cx, &fresh).await?;
    read(http, &answer, fresh, asked)
}

// A token that nobody uses changes nothing and ends by itself: the call only reads.
fn call() -> Call {
    Call::read(GET_TOKEN)
}

async fn ask(
    http: &Http,
    config: &TailscaleConfig,
    cx: &StepContext,
    secret: &Secret,
) -> Result<Response, StepError> {
    let request = Request::post(&["api", "v2", "oauth", "token"]).form(&[
        ("grant_type", "client_credentials"),
        ("client_id", &config.client_id),
        ("client_secret", secret.expose()),
    ]);
    http.send(cx, call(), request).await
}

fn read(http: &Http, answer: &Response, with: Secret, asked: Instant) -> Result<Minted, StepError> {
    if !answer.is_success() {
        let table = |status, body: &[u8]| opinion(GET_TOKEN, status, body);
        return Err(classify(&call(), answer, http.bucket(), table));
    }
    let token: AccessToken = answer.json(GET_TOKEN)?;
    let life = Duration::from_secs(token.expires_in).min(LIFE_MAX);
    // Counted from before it was asked for.
    Ok(Minted::new(token.access_token, with, (asked, life), TOKEN_MARGIN))
}
