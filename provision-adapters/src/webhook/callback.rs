//! Callbacks: what an outside executor reports of itself while it works.
//!
//! It differs from a webhook in who it is: no account with a secret, but one execution that this
//! very run has started, such as a workflow of continuous integration. So what it can say is as
//! narrow as what it was started for: one signal, of one run, on behalf of one making of one step,
//! until a moment.

use std::{collections::BTreeMap, fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::BoxFuture;
use hmac::{Hmac, KeyInit, Mac};
use provision_core::{
    Data, Engine, Error, ErrorKind, RunId, Secret, SignalId, StepContext, Timestamp,
    run::journal::SignalSource,
};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::scheme::Headers;

/// Shortest key, in bytes: as long as what it makes.
pub const CALLBACK_KEY_MIN: usize = 32;
/// Longest body of a report, in bytes, unless told otherwise.
pub const CALLBACK_BODY_MAX: usize = 64 << 10;
/// Longest token that is read, in bytes.
const TOKEN_MAX: usize = 4_096;
/// What every token begins with: its form.
const FORM: &str = "pcb1";
/// What is signed before anything else, so that no other use of the key makes a token.
const DOMAIN: &[u8] = b"provision callback 1\0";

/// Gives out tokens for callbacks, and takes what is reported with them.
///
/// A token is an HMAC over run, step, generation, name and end; nothing of it is stored. Several
/// keys are live at a time: the first signs, all are believed, so that a key is replaced without a
/// gap by putting the new one first and removing the old one when its last token is over.
#[derive(Clone)]
pub struct Callbacks {
    keys: Vec<Hmac<Sha256>>,
    accepted: BTreeMap<&'static str, Deliver>,
    body_max: usize,
}

/// Sends the signal of a body, or says that the body is none.
type Deliver = Arc<dyn Fn(Told<'_>) -> Option<Sent> + Send + Sync>;
type Sent = BoxFuture<'static, Result<bool, Error>>;

/// A report whose token is proven.
struct Told<'t> {
    engine: &'t Engine,
    run: RunId,
    source: SignalSource,
    body: &'t [u8],
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks")
            .field("keys", &self.keys.len())
            .field("accepted", &self.accepted.keys())
            .field("body_max", &self.body_max)
            .finish()
    }
}

/// Why callbacks cannot be made of these keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnusableKey {
    /// There is none.
    #[error("callbacks need a key")]
    None,
    /// One is shorter than [`CALLBACK_KEY_MIN`]; counted from 0.
    #[error("key {0} of the callbacks is shorter than 32 bytes")]
    Short(usize),
}

/// One callback, as it came.
#[derive(Debug, Clone, Copy)]
pub struct Report<'r> {
    /// Name of the callback: the last segment of its address, decoded.
    pub name: &'r str,
    /// All headers, in names of any case; the token is in `Authorization: Bearer`.
    pub headers: &'r [(&'r str, &'r [u8])],
    /// Every byte of the body: the signal's value as JSON; an empty one counts as `null`.
    pub body: &'r [u8],
    /// The time by the host's clock.
    pub now: Timestamp,
}

/// What a callback is answered with: [`Self::status`] and, if a body is wanted, [`Self::code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// It is stored, now or when it came first: a repetition is answered as the first was, also
    /// when its token is over.
    Taken,
    /// It comes too late: `run_over`, `source_gone` (the step was undone or made anew), `expired`,
    /// or the run is not kept any more. The executor can stop.
    Late(&'static str),
    /// The token is missing, forged, or for something else. Which of these is not told.
    Refused,
    /// The token is good and the body is not what this callback carries.
    Unreadable,
    /// The body is longer than is taken.
    TooLarge,
    /// Too much waits to be taken by the run; worth repeating.
    Busy,
    /// The store cannot be reached; worth repeating.
    Away,
}

impl Answer {
    /// The HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Taken => 202,
            Self::Late(_) => 410,
            Self::Refused => 401,
            Self::Unreadable => 422,
            Self::TooLarge => 413,
            Self::Busy => 429,
            Self::Away => 503,
        }
    }

    /// Stable code for answers, logs and metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Late(code) => code,
            Self::Refused => "refused",
            Self::Unreadable => "unreadable",
            Self::TooLarge => "too_large",
            Self::Busy => "busy",
            Self::Away => "unavailable",
        }
    }
}

/// What a token says besides the name, which the address says. Believed only when it is proven.
#[derive(Serialize, Deserialize)]
struct Claims {
    run: RunId,
    #[serde(flatten)]
    source: SignalSource,
    until: Timestamp,
}

impl Callbacks {
    /// Callbacks under these keys, which so far accept nothing.
    ///
    /// # Errors
    /// There is no key, or one is shorter than [`CALLBACK_KEY_MIN`].
    pub fn new(keys: impl IntoIterator<Item = Secret>) -> Result<Self, UnusableKey> {
        let keyed = |(at, key): (usize, Secret)| {
            let bytes = key.expose().as_bytes();
            let long = bytes.len() >= CALLBACK_KEY_MIN;
            let key = long.then(|| Hmac::new_from_slice(bytes).ok()).flatten();
            key.ok_or(UnusableKey::Short(at))
        };
        let keys = keys.into_iter().enumerate().map(keyed).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(UnusableKey::None);
        }
        Ok(Self { keys, accepted: BTreeMap::new(), body_max: CALLBACK_BODY_MAX })
    }

    /// Accepts reports under the name of this signal; their bodies are its values.
    #[must_use]
    pub fn accept<T: Data>(mut self, signal: SignalId<T>) -> Self {
        let deliver = move |told: Told<'_>| {
            let body = if told.body.is_empty() { b"null" } else { told.body };
            let value: T = serde_json::from_slice(body).ok()?;
            let Told { engine, run, source, .. } = told;
            let engine = engine.clone();
            let sent = async move { engine.signal_once(&run, signal, &source, &value).await };
            Some(Box::pin(sent) as Sent)
        };
        self.accepted.insert(signal.name(), Arc::new(deliver));
        self
    }

    /// Longest body that is taken, in bytes; default [`CALLBACK_BODY_MAX`]. The host still has to
    /// stop reading there.
    #[must_use]
    pub fn with_body_max(mut self, bytes: usize) -> Self {
        self.body_max = bytes;
        self
    }

    /// The token with which one signal can be sent to the run of `cx`, on behalf of its step and
    /// this generation of it, until a moment by the clock of whoever receives it.
    ///
    /// It is a secret: hand it to the executor in the call that starts it, and journal it nowhere.
    /// The next attempt may make another one; both are good, and only the first that is used counts.
    #[must_use]
    pub fn token<T>(&self, cx: &StepContext, signal: SignalId<T>, until: Timestamp) -> Secret {
        let claims = Claims { run: *cx.run_id(), source: cx.signal_source(), until };
        // Strings and numbers can always be written.
        let claims = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims).unwrap_or_default());
        let signed = self.keys.first().map(|key| {
            URL_SAFE_NO_PAD.encode(mac(key, &claims, signal.name()).finalize().into_bytes())
        });
        Secret::new(format!("{FORM}.{claims}.{}", signed.unwrap_or_default()))
    }

    /// Takes a report: proves its token, reads its body, and sends its signal to its run, once.
    ///
    /// Safe to be cut at any point: the sender repeats it and is answered as if for the first time.
    pub async fn receive(&self, engine: &Engine, report: Report<'_>) -> Answer {
        let answer = self.answer(engine, report).await;
        tracing::debug!(code = answer.code(), "a callback was answered");
        answer
    }

    async fn answer(&self, engine: &Engine, report: Report<'_>) -> Answer {
        if report.body.len() > self.body_max {
            return Answer::TooLarge;
        }
        let Some(claims) = self.prove(&report) else { return Answer::Refused };
        let Some(deliver) = self.accepted.get(report.name) else { return Answer::Refused };
        let Claims { run, source, until } = claims;
        if report.now >= until {
            return late(engine, (&run, report.name), &source).await;
        }
        let Some(sent) = deliver(Told { engine, run, source, body: report.body }) else {
            return Answer::Unreadable;
        };
        match sent.await {
            Ok(_) => Answer::Taken,
            Err(error) => match (error.kind(), error.code()) {
                (ErrorKind::Conflict, code @ ("run_over" | "source_gone")) => Answer::Late(code),
                (ErrorKind::NotFound, _) => Answer::Late("run_over"),
                (ErrorKind::Limit, _) => Answer::Busy,
                _ => Answer::Away,
            },
        }
    }

    /// What a token says, if a live key has made it for this name.
    fn prove(&self, report: &Report<'_>) -> Option<Claims> {
        let headers = Headers::of(report.headers.iter().copied());
        let token = headers.needed("authorization").ok()?.strip_prefix("Bearer ")?;
        let mut parts = token.split('.');
        let (form, claims, signed) = (parts.next()?, parts.next()?, parts.next()?);
        if token.len() > TOKEN_MAX || form != FORM || parts.next().is_some() {
            return None;
        }
        let signed = URL_SAFE_NO_PAD.decode(signed).ok()?;
        // In a time that does not depend on where they differ.
        let proven = |key| mac(key, claims, report.name).verify_slice(&signed).is_ok();
        if !self.keys.iter().any(proven) {
            return None;
        }
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
    }
}

/// What a token says that is over: what was taken in time is answered as it was then, since the
/// answer may have been lost on its way.
async fn late(engine: &Engine, (run, name): (&RunId, &str), source: &SignalSource) -> Answer {
    match engine.has_signal(run, name, source).await {
        Ok(true) => Answer::Taken,
        Ok(false) => Answer::Late("expired"),
        Err(error) if error.kind() == ErrorKind::NotFound => Answer::Late("expired"),
        Err(_) => Answer::Away,
    }
}

/// Over the form, the claims as they are written, and the name. Claims hold no zero byte.
fn mac(key: &Hmac<Sha256>, claims: &str, name: &str) -> Hmac<Sha256> {
    let mut mac = key.clone();
    for part in [DOMAIN, claims.as_bytes(), b"\0", name.as_bytes()] {
        mac.update(part);
    }
    mac
}
