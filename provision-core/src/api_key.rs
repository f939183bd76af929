//! API keys that a host hands out: shown once, kept as a hash.
//!
//! A key is `<prefix>_<id>_<secret><checksum>`: the id finds the row, 64 random bytes are the
//! secret, the checksum lets a scanner or a typing mistake be told without any hashing. Hashes are
//! strings in the PHC format, so other software can verify them.

use std::fmt::{self, Debug};

use argon2::{Algorithm, Argon2, Params as Argon2Params, Version};
use scrypt::Params as ScryptParams;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{
    draw::{DrawError, Entropy},
    error::{Error, ErrorKind},
    secret::Secret,
};

/// Random bytes in a key.
pub const SECRET_BYTES: usize = 64;
const ID_BYTES: usize = 8;
const CHECKSUM_BYTES: usize = 4;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// Most memory a stored hash may ask for when it is verified, in KiB: 256 MiB.
const MOST_MEMORY: u32 = 256 * 1024;

/// A freshly drawn key. Its text is to be shown once and never stored.
#[derive(Debug, Clone)]
pub struct ApiKey {
    id: String,
    text: Secret,
}

impl ApiKey {
    /// Draws a key. The prefix names what it is for, such as `acme_live`.
    ///
    /// # Errors
    /// Kind `Invalid` for a prefix that is not 1 to 32 lower-case letters, digits and `_`, kind
    /// `Secret` if the generator gives nothing.
    pub fn draw(prefix: &str, entropy: &dyn Entropy) -> Result<Self, Error> {
        if !is_prefix(prefix) {
            return Err(Error::new(ErrorKind::Invalid, "key_prefix", "draw api key")
                .with_hint("1 to 32 lower-case letters, digits and underscores"));
        }
        let mut id = [0_u8; ID_BYTES];
        let mut random = Zeroizing::new([0_u8; SECRET_BYTES]);
        // X10: no timestamp, no counter: nothing in a key tells anything about another one.
        entropy.fill(&mut id).map_err(no_randomness)?;
        entropy.fill(random.as_mut_slice()).map_err(no_randomness)?;
        let id = hex(&id);
        let length = prefix.len() + id.len() + 2 + 2 * (SECRET_BYTES + CHECKSUM_BYTES);
        let mut text = Zeroizing::new(String::with_capacity(length));
        for part in [prefix, "_", &id, "_", &hex(random.as_slice())] {
            text.push_str(part);
        }
        let checksum = checksum(&text);
        text.push_str(&checksum);
        Ok(Self { id: id.to_string(), text: Secret::new(std::mem::take(&mut *text)) })
    }

    /// The public part that finds the stored hash.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The whole key, to be shown once.
    #[must_use]
    pub const fn text(&self) -> &Secret {
        &self.text
    }

    /// The id of a presented key, if it is one of this prefix and free of typing mistakes.
    ///
    /// Says nothing about whether it is valid: [`KeyHash::verify`] does.
    #[must_use]
    pub fn id_of<'a>(prefix: &str, presented: &'a str) -> Option<&'a str> {
        let (id, secret) = presented.strip_prefix(prefix)?.strip_prefix('_')?.split_once('_')?;
        let end = presented.len().checked_sub(2 * CHECKSUM_BYTES)?;
        let (body, sum) = presented.split_at_checked(end)?;
        let shape = id.len() == 2 * ID_BYTES
            && secret.len() == 2 * (SECRET_BYTES + CHECKSUM_BYTES)
            && [id, secret].iter().all(|s| s.bytes().all(|b| b.is_ascii_hexdigit()));
        (shape && *checksum(body) == sum).then_some(id)
    }
}

/// How a key is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Hasher {
    /// Argon2id, 19 MiB, 2 passes, 1 lane (OWASP, 2023). The default.
    #[default]
    Argon2id,
    /// scrypt, N = 2^15, r = 8, p = 1: 32 MiB.
    Scrypt,
    /// Argon2id with other costs.
    Argon2idWith {
        /// Memory in KiB.
        memory: u32,
        /// Passes.
        passes: u32,
    },
    /// scrypt with another cost; r = 8, p = 1.
    ScryptWith {
        /// Binary logarithm of N.
        log_n: u8,
    },
}

/// What is stored of a key: a PHC string. Serializes, and is still kept out of `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyHash(String);

impl KeyHash {
    /// Hashes a key with a fresh salt. Takes tens of milliseconds on the calling thread.
    ///
    /// # Errors
    /// Kind `Invalid` for costs out of range, kind `Secret` if the generator gives nothing.
    pub fn of(key: &Secret, hasher: Hasher, entropy: &dyn Entropy) -> Result<Self, Error> {
        let mut salt = [0_u8; SALT_BYTES];
        entropy.fill(&mut salt).map_err(no_randomness)?;
        let kind = match hasher {
            Hasher::Argon2id => Kind::Argon2id { memory: 19_456, passes: 2, lanes: 1 },
            Hasher::Scrypt => Kind::Scrypt { log_n: 15, r: 8, p: 1 },
            Hasher::Argon2idWith { memory, passes } => Kind::Argon2id { memory, passes, lanes: 1 },
            Hasher::ScryptWith { log_n } => Kind::Scrypt { log_n, r: 8, p: 1 },
        };
        let mut hash = [0_u8; HASH_BYTES];
        kind.compute(key.expose().as_bytes(), &salt, &mut hash)
            .ok_or_else(|| Error::new(ErrorKind::Invalid, "hash_costs", "hash api key"))?;
        Ok(Self(format!("{}${}${}", kind.head(), base64(&salt), base64(&hash))))
    }

    /// Takes a stored hash; it is looked at when a key is verified.
    #[must_use]
    pub fn from_stored(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The hash as text, to be stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a presented key is the one that was hashed.
    ///
    /// Compares in constant time; a stored text that is no hash, or asks for more than 256 MiB,
    /// verifies nothing. Takes tens of milliseconds on the calling thread.
    #[must_use]
    pub fn verify(&self, presented: &str) -> bool {
        self.check(presented).unwrap_or(false)
    }

    fn check(&self, presented: &str) -> Option<bool> {
        let mut parts = self.0.strip_prefix('$')?.rsplitn(3, '$');
        let (hash, salt) = (unbase64(parts.next()?)?, unbase64(parts.next()?)?);
        let kind = Kind::read(parts.next()?)?;
        if !(16..=64).contains(&hash.len()) || !(8..=64).contains(&salt.len()) {
            return None;
        }
        let mut computed = Zeroizing::new(vec![0_u8; hash.len()]);
        kind.compute(presented.as_bytes(), &salt, &mut computed)?;
        // X10: no early end at the first difference.
        Some(computed.as_slice().ct_eq(&hash).into())
    }
}

impl Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(***)")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Argon2id { memory: u32, passes: u32, lanes: u32 },
    Scrypt { log_n: u8, r: u32, p: u32 },
}

impl Kind {
    fn head(self) -> String {
        match self {
            Self::Argon2id { memory, passes, lanes } => {
                format!("$argon2id$v=19$m={memory},t={passes},p={lanes}")
            }
            Self::Scrypt { log_n, r, p } => format!("$scrypt$ln={log_n},r={r},p={p}"),
        }
    }

    fn read(head: &str) -> Option<Self> {
        let numbers = |text: &str, names: [&str; 3]| -> Option<[u32; 3]> {
            let mut parts = text.split(',');
            let mut next = |name: &str| parts.next()?.strip_prefix(name)?.parse::<u32>().ok();
            let [a, b, c] = names;
            let found = [next(a)?, next(b)?, next(c)?];
            parts.next().is_none().then_some(found)
        };
        if let Some(costs) = head.strip_prefix("argon2id$v=19$") {
            let [memory, passes, lanes] = numbers(costs, ["m=", "t=", "p="])?;
            return Some(Self::Argon2id { memory, passes, lanes });
        }
        let [log_n, r, p] = numbers(head.strip_prefix("scrypt$")?, ["ln=", "r=", "p="])?;
        Some(Self::Scrypt { log_n: u8::try_from(log_n).ok()?, r, p })
    }

    /// Whether verifying stays within bounds, whoever wrote the stored text.
    fn is_affordable(self) -> bool {
        match self {
            Self::Argon2id { memory, passes, lanes } => {
                memory <= MOST_MEMORY && passes <= 16 && lanes <= 16
            }
            Self::Scrypt { log_n, r, p } => {
                // 128 * N * r bytes.
                let kib = 1_u64.checked_shl(log_n.into()).unwrap_or(u64::MAX);
                log_n < 32
                    && kib.saturating_mul(r.into()) / 8 <= MOST_MEMORY.into()
                    && (1..=64).contains(&r)
                    && p <= 16
            }
        }
    }

    fn compute(self, key: &[u8], salt: &[u8], out: &mut [u8]) -> Option<()> {
        if !self.is_affordable() {
            return None;
        }
        match self {
            Self::Argon2id { memory, passes, lanes } => {
                let params = Argon2Params::new(memory, passes, lanes, Some(out.len())).ok()?;
                let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
                hasher.hash_password_into(key, salt, out).ok()
            }
            Self::Scrypt { log_n, r, p } => {
                let params = ScryptParams::new(log_n, r, p).ok()?;
                scrypt::scrypt(key, salt, &params, out).ok()
            }
        }
    }
}

fn is_prefix(prefix: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    (1..=32).contains(&prefix.len()) && prefix.bytes().all(allowed)
}

fn checksum(text: &str) -> Zeroizing<String> {
    let digest = Sha256::digest(text.as_bytes());
    hex(digest.get(..CHECKSUM_BYTES).unwrap_or_default())
}

fn no_randomness(error: DrawError) -> Error {
    Error::new(ErrorKind::Secret, "no_randomness", "draw api key").with_source(error)
}

fn hex(bytes: &[u8]) -> Zeroizing<String> {
    let digit = |n: u8| char::from_digit(u32::from(n), 16).unwrap_or('0');
    let mut out = Zeroizing::new(String::with_capacity(bytes.len() * 2));
    for byte in bytes {
        out.push(digit(byte >> 4));
        out.push(digit(byte & 15));
    }
    out
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Standard alphabet without padding, as the PHC format wants it.
fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |all, b| all << 8 | u32::from(*b));
        let group = group << (8 * (3 - chunk.len()));
        for i in 0..=chunk.len() {
            let index = usize::try_from(group >> (18 - 6 * i) & 63).unwrap_or(0);
            out.push(BASE64.get(index).map_or('A', |b| char::from(*b)));
        }
    }
    out
}

fn unbase64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for chunk in text.as_bytes().chunks(4) {
        let mut group = 0_u32;
        for byte in chunk {
            let index = BASE64.iter().position(|b| b == byte)?;
            group = group << 6 | u32::try_from(index).ok()?;
        }
        let group = group << (6 * (4 - chunk.len()));
        let [_, bytes @ ..] = group.to_be_bytes();
        let used = bytes.get(..chunk.len().checked_sub(1).filter(|n| *n > 0)?)?;
        // Bits that belong to no byte must be zero: one hash has one text.
        if bytes.get(used.len()..)?.iter().any(|b| *b != 0) {
            return None;
        }
        out.extend_from_slice(used);
    }
    Some(out)
}

#[cfg(test)]
#[path = "api_key_tests.rs"]
mod tests;
