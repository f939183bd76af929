//! Tokens of an installation of a GitHub App.
//!
//! Facts (docs.github.com/en/apps, "Generating a JSON Web Token" and "Generating an installation
//! access token", read 2026-11-22): a JWT is signed with RS256, names the app's client id, says that
//! it was made 60 s ago, since clocks differ, and ends at most 10 min from now. It buys a token of
//! one hour, which is all that the other calls are made with.

use std::time::Duration;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use provision_core::{Call, Secret, SecretRef, StepContext, StepError, Timestamp};
use serde_json::json;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{
    API_VERSION,
    error::{is_own_404, opinion},
    model::{Installation, InstallationToken},
};
use crate::http::{
    Http, Minted, MintedTokens, Request, Response, classify, not_the_provider, parse_rfc3339,
    server_time,
};

const GET_TOKEN: &str = "get an installation token";
const LOOK: &str = "look at the installation";
/// How far back a JWT says it was made.
const MADE_BEFORE: Duration = Duration::from_secs(60);
/// How long a JWT is good from now: with what it is dated back it is GitHub's 10 min.
const GOOD_FOR: Duration = Duration::from_secs(540);
/// A token is replaced so long before its end.
const TOKEN_MARGIN: Duration = Duration::from_secs(300);
/// Longest life of a token that is believed; GitHub says an hour.
const LIFE_MAX: Duration = Duration::from_secs(3_600);

/// Where GitHub is asked, and how long for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) http: &'a Http,
    pub(super) timeout: Duration,
}

/// One installation of a GitHub App, and the key the app signs with.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AppInstallation {
    /// Client id of the app, such as `Iv23liA1b2c3`; its numeric id works too.
    pub client_id: String,
    /// Id of its installation in the account.
    pub installation: u64,
    /// Names the app's private key, in PEM as GitHub gives it out. Opened when a token is needed,
    /// about once an hour; never stored.
    pub key: SecretRef,
}

impl AppInstallation {
    /// Describes an installation.
    #[must_use]
    pub fn new(client_id: impl Into<String>, installation: u64, key: SecretRef) -> Self {
        Self { client_id: client_id.into(), installation, key }
    }

    /// A token that is good for a while; never the one that was refused.
    pub(super) async fn token(
        &self,
        (from, tokens): (Asked<'_>, &MintedTokens),
        cx: &StepContext,
        refused: Option<&Secret>,
    ) -> Result<Secret, StepError> {
        let key = cx.reveal(&self.key).await?;
        let minted = self.mint(from, cx, key.clone());
        tokens.get(GET_TOKEN, (&key, refused), minted).await
    }

    /// Mints a token; a key that was replaced meanwhile is tried once.
    async fn mint(
        &self,
        from: Asked<'_>,
        cx: &StepContext,
        key: Secret,
    ) -> Result<Minted, StepError> {
        let asked = Instant::now();
        let answer = self.ask(from, cx, &key).await?;
        if answer.status != 401 {
            return read(from, &answer, key, asked);
        }
        let fresh = cx.reveal(&self.key).await?;
        if fresh.expose() == key.expose() {
            return read(from, &answer, key, asked);
        }
        let asked = Instant::now();
        let answer = self.ask(from, cx, &fresh).await?;
        read(from, &answer, fresh, asked)
    }

    /// Where it is installed, and on what. GET `/app/installations/{id}`
    /// (apps#get-an-installation-for-the-authenticated-app).
    pub(super) async fn installation(
        &self,
        from: Asked<'_>,
        cx: &StepContext,
    ) -> Result<Installation, StepError> {
        let key = cx.reveal(&self.key).await?;
        let token = jwt(&self.client_id, &key, cx.now())?;
        let installation = self.installation.to_string();
        let request = Request::get(&["app", "installations", &installation])
            .header("accept", "application/vnd.github+json")
            .header("x-github-api-version", API_VERSION)
            .bearer(&token);
        let call = Call::read(LOOK).with_timeout(from.timeout);
        let answer = from.http.send(cx, call.clone(), request).await?;
        match answer.status {
            200 => answer.json(LOOK),
            404 if !is_own_404(&answer) => Err(not_the_provider(&call)),
            _ => Err(classify(&call, &answer, from.http.bucket(), |_, _| opinion(&answer))),
        }
    }

    /// POST `/app/installations/{id}/access_tokens`
    /// (apps#create-an-installation-access-token-for-an-app).
    async fn ask(
        &self,
        from: Asked<'_>,
        cx: &StepContext,
        key: &Secret,
    ) -> Result<Response, StepError> {
        let token = jwt(&self.client_id, key, cx.now())?;
        let installation = self.installation.to_string();
        let request = Request::post(&["app", "installations", &installation, "access_tokens"])
            .header("accept", "application/vnd.github+json")
            .header("x-github-api-version", API_VERSION)
            .bearer(&token);
        from.http.send(cx, call(from), request).await
    }
}

// A token that nobody uses changes nothing and ends by itself: the call only reads.
fn call(from: Asked<'_>) -> Call {
    Call::read(GET_TOKEN).with_timeout(from.timeout)
}

fn read(
    from: Asked<'_>,
    answer: &Response,
    with: Secret,
    asked: Instant,
) -> Result<Minted, StepError> {
    if answer.status != 201 {
        let bucket = from.http.bucket();
        let error = classify(&call(from), answer, bucket, |_, _| opinion(answer));
        return Err(match answer.status {
            401 => error.with_hint("check the app's client id and key, and the host's clock"),
            404 => error.with_hint("check the id of the installation: it may have been removed"),
            _ => error,
        });
    }
    let token: InstallationToken = answer.json(GET_TOKEN)?;
    // By the clock that has set the end, so that ours may be wrong.
    let given = server_time(&answer.headers, answer.at());
    let ends = parse_rfc3339(&token.expires_at).unwrap_or(given);
    let life = ends.since(given).min(LIFE_MAX);
    Ok(Minted::new(token.token, with, (asked, life), TOKEN_MARGIN))
}

/// What the app proves itself with, signed by its key.
fn jwt(client_id: &str, key: &Secret, now: Timestamp) -> Result<Secret, StepError> {
    let refuse = || {
        StepError::permanent(GET_TOKEN)
            .with_code("bad_app_key")
            .with_message("the app's key is no RSA key in PEM")
            .with_hint("give the file that GitHub gave out for the app, as it is")
    };
    let pair = key_pair(key.expose()).ok_or_else(refuse)?;
    let seconds = now.as_millis() / 1_000;
    let claims = json!({
        "iat": seconds.saturating_sub(MADE_BEFORE.as_secs()),
        "exp": seconds.saturating_add(GOOD_FOR.as_secs()),
        "iss": client_id,
    });
    let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({ "alg": "RS256", "typ": "JWT" })), part(&claims));
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
        .map_err(|_| refuse())?;
    Ok(Secret::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
}

/// Reads PKCS#1, as GitHub gives it out, or PKCS#8.
fn key_pair(pem: &str) -> Option<RsaKeyPair> {
    let inside = |label: &str| {
        let (_, rest) = pem.split_once(&format!("-----BEGIN {label}-----"))?;
        let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
        let text: Zeroizing<String> =
            Zeroizing::new(body.chars().filter(|c| !c.is_ascii_whitespace()).collect());
        STANDARD.decode(text.as_bytes()).ok().map(Zeroizing::new)
    };
    match inside("RSA PRIVATE KEY") {
        Some(der) => RsaKeyPair::from_der(&der).ok(),
        None => RsaKeyPair::from_pkcs8(&inside("PRIVATE KEY")?).ok(),
    }
}
