//! Signatures over the raw body.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use provision_core::{Secret, Timestamp};
use sha2::Sha256;

use super::scheme::{Claim, Encoding, Headers, Scheme};

/// How far a sender's clock may be from ours, both ways, unless told otherwise.
pub const TOLERANCE: Duration = Duration::from_secs(300);
/// The most that it can be told: a window that is open for ever is none.
pub const TOLERANCE_MAX: Duration = Duration::from_secs(3_600);
/// Longest body, in bytes, unless told otherwise.
pub const BODY_MAX: usize = 1 << 20;
/// What a secret of Standard Webhooks begins with; the rest is Base64.
const STANDARD_PREFIX: &str = "whsec_";

/// Tells deliveries of one sender from forgeries. Cheap to clone.
///
/// Several secrets are live at a time, so that one can be replaced without a gap: add the new one,
/// change it at the sender, remove the old one.
#[derive(Debug, Clone)]
pub struct Verifier {
    scheme: Scheme,
    secrets: Vec<Secret>,
    tolerance: Duration,
    body_max: usize,
}

/// A delivery whose body is what its sender signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    sender: &'static str,
    id: Option<String>,
    at: Option<Timestamp>,
    secret: usize,
}

/// Why a delivery is not believed; answer 400, and start nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// A header of the sender's scheme is missing.
    #[error("the delivery is not signed")]
    Unsigned,
    /// A header cannot be read.
    #[error("the signature's header cannot be read")]
    Malformed,
    /// The body is longer than is taken.
    #[error("the body is too long")]
    TooLarge,
    /// It was signed too long ago, or so far ahead: replayed, or one of the clocks is wrong.
    #[error("the delivery was signed {0:?} from now")]
    Stale(Duration),
    /// No live secret has signed this body.
    #[error("no live secret has signed this body")]
    Forged,
}

impl Refused {
    /// Stable code for logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unsigned => "webhook_unsigned",
            Self::Malformed => "webhook_malformed",
            Self::TooLarge => "webhook_too_large",
            Self::Stale(_) => "webhook_stale",
            Self::Forged => "webhook_forged",
        }
    }
}

impl Verifier {
    fn new(scheme: Scheme, secrets: impl IntoIterator<Item = Secret>) -> Self {
        let secrets = secrets.into_iter().collect();
        Self { scheme, secrets, tolerance: TOLERANCE, body_max: BODY_MAX }
    }

    /// Deliveries of Stripe; the secrets are those of the endpoint (`whsec_..`).
    pub fn stripe(secrets: impl IntoIterator<Item = Secret>) -> Self {
        Self::new(Scheme::Stripe, secrets)
    }

    /// Deliveries of GitHub.
    ///
    /// It signs the body alone, neither a time nor the delivery's id: a repetition of its own is
    /// told by that id, but who has once seen a delivery can send it again under another one. Where
    /// that matters, take the start key from the body.
    pub fn github(secrets: impl IntoIterator<Item = Secret>) -> Self {
        Self::new(Scheme::GitHub, secrets)
    }

    /// Deliveries as Standard Webhooks has them (`whsec_` and Base64), such as those of Resend.
    pub fn standard(secrets: impl IntoIterator<Item = Secret>) -> Self {
        Self::new(Scheme::Standard, secrets)
    }

    /// Deliveries with an HMAC-SHA256 of the body in a header, after a prefix such as `sha256=`.
    /// They carry neither a time nor an id: take the start key from the body.
    pub fn body(
        header: impl Into<String>,
        prefix: impl Into<String>,
        encoding: Encoding,
        secrets: impl IntoIterator<Item = Secret>,
    ) -> Self {
        let scheme = Scheme::Body { header: header.into(), prefix: prefix.into(), encoding };
        Self::new(scheme, secrets)
    }

    /// How far the sender's clock may be from ours, both ways; default [`TOLERANCE`].
    ///
    /// X7: it cannot be switched off: zero takes the very second alone, and more than
    /// [`TOLERANCE_MAX`] is that.
    #[must_use]
    pub fn with_tolerance(mut self, tolerance: Duration) -> Self {
        self.tolerance = tolerance.min(TOLERANCE_MAX);
        self
    }

    /// Longest body that is taken, in bytes; default [`BODY_MAX`]. The host still has to stop
    /// reading there.
    #[must_use]
    pub fn with_body_max(mut self, bytes: usize) -> Self {
        self.body_max = bytes;
        self
    }

    /// Verifies a delivery. `headers` are all of them, in names of any case; `body` is every byte
    /// as it came, before anything has parsed it.
    ///
    /// # Errors
    /// Why it is not believed. None of the reasons holds a secret, a signature or a part of the
    /// body.
    pub fn verify<'h>(
        &self,
        headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Verified, Refused> {
        if body.len() > self.body_max {
            return Err(Refused::TooLarge);
        }
        let claim = self.scheme.claim(&Headers::of(headers))?;
        let secret = self.signer(&claim, body).ok_or(Refused::Forged)?;
        // After the signature: what a forger says of the time is not worth an answer of its own.
        if let Some(at) = claim.at {
            let apart = now.since(at).max(at.since(now));
            if apart > self.tolerance {
                return Err(Refused::Stale(apart));
            }
        }
        let id = claim.id.or_else(|| self.scheme.id_in(body));
        Ok(Verified { sender: self.scheme.name(), id, at: claim.at, secret })
    }

    /// The live secret that has made one of the signatures.
    fn signer(&self, claim: &Claim, body: &[u8]) -> Option<usize> {
        self.secrets.iter().position(|secret| {
            let Some(key) = self.key(secret).filter(|key| !key.is_empty()) else { return false };
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key) else { return false };
            mac.update(&claim.before);
            mac.update(body);
            // In a time that does not depend on where they differ.
            claim.signatures.iter().any(|signature| mac.clone().verify_slice(signature).is_ok())
        })
    }

    fn key(&self, secret: &Secret) -> Option<Vec<u8>> {
        let text = secret.expose();
        match self.scheme {
            Scheme::Standard => {
                STANDARD.decode(text.strip_prefix(STANDARD_PREFIX).unwrap_or(text)).ok()
            }
            _ => Some(text.as_bytes().to_vec()),
        }
    }
}

impl Verified {
    /// The sender's id of the event, where it has one: the same for every delivery of it.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// When it was signed, where the sender says so.
    #[must_use]
    pub fn at(&self) -> Option<Timestamp> {
        self.at
    }

    /// Which of the live secrets has signed it: when it is never the old one, that one can go.
    #[must_use]
    pub fn secret(&self) -> usize {
        self.secret
    }

    /// The start key of the event's run, as [`StartRun::key`] takes it; `None` where the event has
    /// no id.
    ///
    /// [`StartRun::key`]: provision_core::engine::StartRun::key
    #[must_use]
    pub fn key(&self) -> Option<String> {
        self.id.as_ref().map(|id| format!("{}:{id}", self.sender))
    }
}
