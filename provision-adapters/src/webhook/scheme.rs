//! What senders sign, and where they put it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use provision_core::Timestamp;

use super::verify::Refused;

/// How a signature is written in a header of a sender's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Hexadecimal digits.
    Hex,
    /// Base64 with padding.
    Base64,
}

impl Encoding {
    fn decode(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Hex => from_hex(text),
            Self::Base64 => STANDARD.decode(text).ok(),
        }
    }
}

/// The headers of a delivery, as they came.
pub(super) struct Headers<'h>(Vec<(&'h str, &'h [u8])>);

impl<'h> Headers<'h> {
    pub(super) fn of(all: impl IntoIterator<Item = (&'h str, &'h [u8])>) -> Self {
        Self(all.into_iter().collect())
    }

    /// A header that may be missing. One that is told twice is not read: what is between us and
    /// the sender may have believed the other one.
    fn find(&self, name: &str) -> Result<Option<&'h str>, Refused> {
        let mut told = self.0.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let Some((_, value)) = told.next() else { return Ok(None) };
        if told.next().is_some() || value.len() > HEADER_MAX {
            return Err(Refused::Malformed);
        }
        std::str::from_utf8(value).map(Some).map_err(|_| Refused::Malformed)
    }

    pub(super) fn needed(&self, name: &str) -> Result<&'h str, Refused> {
        self.find(name)?.ok_or(Refused::Unsigned)
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// The three headers of Standard Webhooks, under one of their two sets of names.
    fn three(&self) -> Result<[&'h str; 3], Refused> {
        const NAMES: [[&str; 3]; 2] = [
            ["webhook-id", "webhook-timestamp", "webhook-signature"],
            ["svix-id", "svix-timestamp", "svix-signature"],
        ];
        let [told, others] = NAMES.map(|names| names.iter().any(|name| self.has(name)));
        // Of two sets, what is between us and the sender may have believed the other one.
        if told && others {
            return Err(Refused::Malformed);
        }
        let [own, svix] = NAMES;
        let [id, at, signature] = if others { svix } else { own };
        Ok([self.needed(id)?, self.needed(at)?, self.needed(signature)?])
    }
}

/// One sender's way.
#[derive(Debug, Clone)]
pub(super) enum Scheme {
    /// `Stripe-Signature: t=<seconds>,v1=<hex>[,v1=<hex>]` over `<t>.<body>`
    /// (<https://docs.stripe.com/webhooks/signature>).
    Stripe,
    /// `X-Hub-Signature-256: sha256=<hex>` over the body
    /// (<https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>).
    GitHub,
    /// `webhook-id`, `webhook-timestamp`, `webhook-signature: v1,<base64> v1,<base64>` over
    /// `<id>.<timestamp>.<body>` (<https://www.standardwebhooks.com>); the same three as `svix-..`
    /// (<https://docs.svix.com/receiving/verifying-payloads/how-manual>).
    Standard,
    /// A header of the sender's own, over the body.
    Body { header: String, prefix: String, encoding: Encoding },
}

/// What a delivery says of itself, before anything of it is believed.
#[derive(Debug)]
pub(super) struct Claim {
    /// What was signed besides the body, before it.
    pub(super) before: Vec<u8>,
    pub(super) signatures: Vec<Vec<u8>>,
    pub(super) at: Option<Timestamp>,
    pub(super) id: Option<String>,
}

/// Signatures of one delivery, at most: a sender that changes its secret sends two.
const SIGNATURES_MAX: usize = 8;
/// The longest header and id that are read.
const HEADER_MAX: usize = 4_096;
const ID_MAX: usize = 200;

impl Scheme {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Stripe => "stripe",
            Self::GitHub => "github",
            Self::Standard => "standard",
            Self::Body { .. } => "webhook",
        }
    }

    /// Reads the headers; nothing in them is proven yet.
    pub(super) fn claim(&self, headers: &Headers<'_>) -> Result<Claim, Refused> {
        let needed = |name: &str| headers.needed(name);
        let claim = match self {
            Self::Stripe => stripe(needed("stripe-signature")?),
            Self::GitHub => {
                let signed = needed("x-hub-signature-256")?.strip_prefix("sha256=");
                let id = needed("x-github-delivery")?.to_owned();
                signed.and_then(from_hex).map(|signature| Claim::of_body(signature, Some(id)))
            }
            Self::Standard => {
                let [id, at, signature] = headers.three()?;
                standard(id, at, signature)
            }
            Self::Body { header, prefix, encoding } => {
                let signed = needed(header)?.trim().strip_prefix(prefix.as_str());
                let signature = signed.and_then(|text| encoding.decode(text));
                signature.map(|signature| Claim::of_body(signature, None))
            }
        };
        let fits = |claim: &Claim| {
            claim.id.as_deref().is_none_or(is_id)
                && !claim.signatures.is_empty()
                && claim.signatures.len() <= SIGNATURES_MAX
        };
        claim.filter(fits).ok_or(Refused::Malformed)
    }

    /// The event's id, where the body names it. Read only when the body is proven.
    pub(super) fn id_in(&self, body: &[u8]) -> Result<Option<String>, Refused> {
        match self {
            Self::Stripe => {
                let named = serde_json::from_slice::<Named>(body).ok();
                let id = named.map(|named| named.id).filter(|id| is_id(id));
                id.map(Some).ok_or(Refused::Nameless)
            }
            Self::GitHub | Self::Standard | Self::Body { .. } => Ok(None),
        }
    }
}

impl Claim {
    fn of_body(signature: Vec<u8>, id: Option<String>) -> Self {
        Self { before: Vec::new(), signatures: vec![signature], at: None, id }
    }
}

fn stripe(header: &str) -> Option<Claim> {
    let (mut at, mut signatures) = (None, Vec::new());
    for part in header.split(',') {
        match part.trim().split_once('=')? {
            // Told twice, it could be signed as one and judged as the other.
            ("t", _) if at.is_some() => return None,
            ("t", seconds) => at = Some(seconds),
            ("v1", hex) => signatures.push(from_hex(hex)?),
            // Other schemes, such as the `v0` of test events.
            _ => {}
        }
    }
    let at = at?;
    let before = format!("{at}.").into_bytes();
    Some(Claim { before, signatures, at: Some(seconds(at)?), id: None })
}

/// The part of an event that names it.
#[derive(serde::Deserialize)]
struct Named {
    id: String,
}

/// Ids become start keys, and stand in logs.
fn is_id(id: &str) -> bool {
    (1..=ID_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

fn standard(id: &str, at: &str, header: &str) -> Option<Claim> {
    // The point joins what is signed: with one in it, an id could be read in two ways.
    if id.contains('.') {
        return None;
    }
    let signed = header.split(' ').filter_map(|part| part.strip_prefix("v1,"));
    let signatures = signed.map(|text| STANDARD.decode(text).ok()).collect::<Option<Vec<_>>>()?;
    let before = format!("{id}.{at}.").into_bytes();
    Some(Claim { before, signatures, at: Some(seconds(at)?), id: Some(id.to_owned()) })
}

fn seconds(text: &str) -> Option<Timestamp> {
    // Digits alone: what `parse` takes besides would be signed as another text.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds: u64 = text.parse().ok().filter(|_| digits)?;
    seconds.checked_mul(1_000).map(Timestamp::from_millis)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect()
}
