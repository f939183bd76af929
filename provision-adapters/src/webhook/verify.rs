//! Signatures over the raw body.

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use provision_core::{Secret, Timestamp};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::scheme::{Claim, Encoding, Headers, Scheme};

/// How far a sender's clock may be from ours, both ways, unless told otherwise.
pub const TOLERANCE: Duration = Duration::from_secs(300);
/// The most that it can be told: a window that is open for ever is none.
pub const TOLERANCE_MAX: Duration = Duration::from_secs(3_600);
/// Longest body, in bytes, unless told otherwise.
pub const BODY_MAX: usize = 1 << 20;
/// Longest name of a source, in bytes.
pub const SOURCE_MAX: usize = 40;
/// What a secret of Standard Webhooks begins with; the rest is Base64.
const STANDARD_PREFIX: &str = "whsec_";

/// Tells deliveries of one source from forgeries.
///
/// `source` names the endpoint in start keys, such as a tenant, an account or a hook: 1 to
/// [`SOURCE_MAX`] visible characters of ASCII without a colon. It is to stay as it is, or what was
/// delivered before begins anew.
///
/// Several secrets are live at a time, so that one can be replaced without a gap: add the new one,
/// change it at the sender, remove the old one.
#[derive(Clone)]
pub struct Verifier {
    scheme: Scheme,
    source: String,
    keys: Vec<Hmac<Sha256>>,
    tolerance: Duration,
    body_max: usize,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("scheme", &self.scheme)
            .field("source", &self.source)
            .field("secrets", &self.keys.len())
            .field("tolerance", &self.tolerance)
            .field("body_max", &self.body_max)
            .finish()
    }
}

/// Why a verifier cannot be made of what it was given: it would refuse every delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unusable {
    /// There is no secret.
    #[error("a webhook needs a secret")]
    NoSecret,
    /// A secret is empty, or not of the form that its sender gives out; counted from 0.
    #[error("secret {0} of the webhook is empty or not as its sender gives it out")]
    Secret(usize),
    /// The name of the source is empty, too long, or holds a colon or something invisible.
    #[error("the name of the webhook's source cannot stand in a key")]
    Source,
    /// The tolerance is above [`TOLERANCE_MAX`].
    #[error("the tolerance of the webhook is above an hour")]
    Tolerance,
}

/// A delivery whose body is what its sender signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    sender: &'static str,
    source: String,
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
    /// It is signed, and has no id that can be read: its repetitions could not be told.
    #[error("the event has no id")]
    Nameless,
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
            Self::Nameless => "webhook_nameless",
        }
    }
}

impl Verifier {
    fn new(
        scheme: Scheme,
        source: impl Into<String>,
        secrets: impl IntoIterator<Item = Secret>,
    ) -> Result<Self, Unusable> {
        let source = source.into();
        let visible = |byte: u8| byte.is_ascii_graphic() && byte != b':';
        if !(1..=SOURCE_MAX).contains(&source.len()) || !source.bytes().all(visible) {
            return Err(Unusable::Source);
        }
        let keyed =
            |(at, secret): (usize, Secret)| keyed(&scheme, &secret).ok_or(Unusable::Secret(at));
        let keys = secrets.into_iter().enumerate().map(keyed).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(Unusable::NoSecret);
        }
        Ok(Self { scheme, source, keys, tolerance: TOLERANCE, body_max: BODY_MAX })
    }

    /// Deliveries of Stripe; the secrets are those of the endpoint (`whsec_..`).
    ///
    /// # Errors
    /// No secret, an empty one, or a source that cannot stand in a key.
    pub fn stripe(
        source: impl Into<String>,
        secrets: impl IntoIterator<Item = Secret>,
    ) -> Result<Self, Unusable> {
        Self::new(Scheme::Stripe, source, secrets)
    }

    /// Deliveries of GitHub.
    ///
    /// Its id belongs to the event and is the same at all hooks that are told of it: give each hook
    /// a source of its own. GitHub signs the body alone, neither a time nor the id: a repetition of
    /// its own is told by that id, but who has once seen a delivery can send it again under another
    /// one, or use that id up. Where that matters, take the start key from the body.
    ///
    /// # Errors
    /// No secret, an empty one, or a source that cannot stand in a key.
    pub fn github(
        source: impl Into<String>,
        secrets: impl IntoIterator<Item = Secret>,
    ) -> Result<Self, Unusable> {
        Self::new(Scheme::GitHub, source, secrets)
    }

    /// Deliveries as Standard Webhooks has them (`whsec_` and Base64), such as those of Svix and
    /// Resend, whose headers are named `svix-..`.
    ///
    /// # Errors
    /// No secret, one that is empty or not Base64, or a source that cannot stand in a key.
    pub fn standard(
        source: impl Into<String>,
        secrets: impl IntoIterator<Item = Secret>,
    ) -> Result<Self, Unusable> {
        Self::new(Scheme::Standard, source, secrets)
    }

    /// Deliveries with an HMAC-SHA256 of the body in a header, after a prefix such as `sha256=`.
    /// They carry neither a time nor an id: take the start key from the body.
    ///
    /// # Errors
    /// No secret, an empty one, or a source that cannot stand in a key.
    pub fn body(
        source: impl Into<String>,
        (header, prefix): (impl Into<String>, impl Into<String>),
        encoding: Encoding,
        secrets: impl IntoIterator<Item = Secret>,
    ) -> Result<Self, Unusable> {
        let scheme = Scheme::Body { header: header.into(), prefix: prefix.into(), encoding };
        Self::new(scheme, source, secrets)
    }

    /// How far the sender's clock may be from ours, both ways; default [`TOLERANCE`]. Deliveries of
    /// GitHub, and those with a header of the sender's own, have no time, and so no window.
    ///
    /// # Errors
    /// X7: it cannot be switched off. Zero takes the very second alone, and more than
    /// [`TOLERANCE_MAX`] is refused.
    pub fn with_tolerance(mut self, tolerance: Duration) -> Result<Self, Unusable> {
        if tolerance > TOLERANCE_MAX {
            return Err(Unusable::Tolerance);
        }
        self.tolerance = tolerance;
        Ok(self)
    }

    /// Longest body that is taken, in bytes; default [`BODY_MAX`]. The host still has to stop
    /// reading there.
    #[must_use]
    pub fn with_body_max(mut self, bytes: usize) -> Self {
        self.body_max = bytes;
        self
    }

    /// Longest body that is taken, in bytes.
    #[must_use]
    pub fn body_max(&self) -> usize {
        self.body_max
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
        let id = match claim.id {
            Some(id) => Some(id),
            None => self.scheme.id_in(body)?,
        };
        let (sender, source) = (self.scheme.name(), self.source.clone());
        Ok(Verified { sender, source, id, at: claim.at, secret })
    }

    /// The live secret that has made one of the signatures.
    fn signer(&self, claim: &Claim, body: &[u8]) -> Option<usize> {
        self.keys.iter().position(|key| {
            let mut mac = key.clone();
            mac.update(&claim.before);
            mac.update(body);
            // In a time that does not depend on where they differ.
            claim.signatures.iter().any(|signature| mac.clone().verify_slice(signature).is_ok())
        })
    }
}

/// A secret as its sender uses it; `None` for one that nothing can be signed with.
fn keyed(scheme: &Scheme, secret: &Secret) -> Option<Hmac<Sha256>> {
    let text = secret.expose();
    let decoded;
    let key = match scheme {
        Scheme::Standard => {
            let text = text.strip_prefix(STANDARD_PREFIX).unwrap_or(text);
            decoded = Zeroizing::new(STANDARD.decode(text).ok()?);
            decoded.as_slice()
        }
        Scheme::Stripe | Scheme::GitHub | Scheme::Body { .. } => text.as_bytes(),
    };
    (!key.is_empty()).then(|| Hmac::new_from_slice(key).ok()).flatten()
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

    /// The start key of the event's run, as [`StartRun::key`] takes it: sender, source and id.
    /// `None` for senders of a header of their own alone, whose events are to be started under a
    /// key from the body: without one, each repetition is another run.
    ///
    /// [`StartRun::key`]: provision_core::engine::StartRun::key
    #[must_use]
    pub fn key(&self) -> Option<String> {
        self.id.as_ref().map(|id| format!("{}:{}:{id}", self.sender, self.source))
    }
}
