//! The access token of an OAuth client: minted by one caller at a time, kept in memory alone,
//! replaced before its end and once when it is refused.
//!
//! Facts: `POST /api/v2/oauth/token` with a form answers a bearer token for 3,600 s; passing a
//! narrower `scope` can lose the client's tags, so none is passed (tailscale/tailscale#8299).

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use provision_core::{Call, Secret, StepContext, StepError, Verdict};
use tokio::{sync::Mutex, time::Instant};

use super::{
    TOKEN_MARGIN,
    config::TailscaleConfig,
    error::{GET_TOKEN, opinion},
    model::AccessToken,
};
use crate::http::{Http, Request, Response, classify};

/// Longest life of a token that is believed; the provider says an hour.
const LIFE_MAX: Duration = Duration::from_secs(24 * 3_600);

/// The token of one client, shared by all its callers. Lost with the process.
#[derive(Default)]
pub(crate) struct Tokens {
    // Tokio's, since it is held while a token is minted: who waits for it finds the new one.
    current: Mutex<Option<Minted>>,
    /// How often minting failed in a way that passes.
    failures: AtomicU64,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

struct Minted {
    token: Secret,
    /// The client secret it was minted with: another one gets another token.
    with: Secret,
    until: Instant,
}

impl Minted {
    fn serves(&self, secret: &Secret, refused: Option<&Secret>) -> bool {
        self.with.expose() == secret.expose()
            && refused.is_none_or(|refused| refused.expose() != self.token.expose())
            && Instant::now() < self.until
    }
}

impl Tokens {
    /// A token that is good for a while; never the one that was refused.
    ///
    /// # Errors
    /// The client secret cannot be opened or is refused, or the provider gives no token.
    pub(crate) async fn get(
        &self,
        (http, config): (&Http, &TailscaleConfig),
        cx: &StepContext,
        refused: Option<&Secret>,
    ) -> Result<Secret, StepError> {
        let secret = open(config, cx).await?;
        let failures = self.failures.load(Ordering::Acquire);
        let mut current = self.current.lock().await;
        if let Some(minted) = current.as_ref().filter(|minted| minted.serves(&secret, refused)) {
            return Ok(minted.token.clone());
        }
        // One failed attempt is the answer for all who waited for it, instead of one after another.
        if self.failures.load(Ordering::Acquire) != failures {
            return Err(StepError::retry(GET_TOKEN)
                .with_code("token_unavailable")
                .with_message("another caller got no token meanwhile"));
        }
        match mint((http, config), cx, secret).await {
            Ok(minted) => {
                let token = minted.token.clone();
                *current = Some(minted);
                Ok(token)
            }
            Err(error) => {
                let passes = matches!(error.verdict(), Verdict::Retry { .. });
                // The end of this caller's lease says nothing about the provider.
                if passes && error.code() != "lease_over" {
                    self.failures.fetch_add(1, Ordering::AcqRel);
                }
                Err(error)
            }
        }
    }
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
    // Counted from before it was asked for; a short one is used for half of its life.
    let until = asked + life.saturating_sub(TOKEN_MARGIN.min(life / 2));
    Ok(Minted { token: Secret::new(token.access_token), with, until })
}
