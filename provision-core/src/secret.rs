//! Secrets: a type that cannot be printed, references that can be stored, and the seam that keeps
//! sealed values.

use std::{fmt, fmt::Debug};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::error::StoreError;

/// A value that prints as `***`, cannot be serialized, and is wiped when dropped.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Names a secret without holding it; specs, outputs and the journal hold these.
///
/// Either a sealed value of a run (`sealed:<run>/<generation>/<name>/<path>`) or a name that the
/// host's resolver knows (`env:NAME`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretRef(String);

impl SecretRef {
    /// Names a value the host's resolver knows, such as an environment variable.
    #[must_use]
    pub fn named(name: impl AsRef<str>) -> Self {
        Self(format!("env:{}", name.as_ref()))
    }

    /// Names a sealed value.
    #[must_use]
    pub fn sealed(key: &SecretKey) -> Self {
        Self(format!("sealed:{key}"))
    }

    /// The reference as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name the host's resolver knows, if this is such a reference.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.strip_prefix("env:")
    }

    /// The key of the sealed value, if this is such a reference.
    #[must_use]
    pub fn key(&self) -> Option<SecretKey> {
        self.0.strip_prefix("sealed:").and_then(SecretKey::parse)
    }
}

/// Where a sealed value is kept: its scope (a run and generation, or a vault entry), name and path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SecretKey {
    /// `<run>` for a run's own values, `vault/<tenant>` for the host's.
    pub scope: String,
    /// Generation of the step's effect; 0 for the host's.
    pub generation: u32,
    /// Name of the value within the step.
    pub name: String,
    /// Path of the step, or of the host's entry.
    pub path: String,
}

impl SecretKey {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, '|');
        let scope = parts.next()?.to_owned();
        let generation = parts.next()?.parse().ok()?;
        let name = parts.next()?.to_owned();
        let path = parts.next()?.to_owned();
        Some(Self { scope, generation, name, path })
    }
}

impl fmt::Display for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}|{}|{}|{}", self.scope, self.generation, self.name, self.path)
    }
}

/// Ciphertext with the id of the key that opens it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Format version.
    pub format: u8,
    /// Id of the envelope key.
    pub key_id: String,
    /// Nonce, wrapped data key and ciphertext.
    pub bytes: Vec<u8>,
}

impl Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed(v{}, {}, {} bytes)", self.format, self.key_id, self.bytes.len())
    }
}

/// How to draw a generated secret: with the operating system's generator, once per generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSpec {
    /// Name of the value within the step.
    pub name: &'static str,
    /// Number of characters; default 40.
    pub length: usize,
    /// Characters to draw from; default letters and digits.
    pub alphabet: &'static str,
}

impl SecretSpec {
    /// Letters and digits.
    pub const ALPHANUMERIC: &'static str =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

    /// A password of 40 letters and digits (238 bits).
    #[must_use]
    pub const fn password(name: &'static str) -> Self {
        Self { name, length: 40, alphabet: Self::ALPHANUMERIC }
    }
}

/// Keeps sealed values. Never sees a value in clear.
#[async_trait]
pub trait SecretStore: Debug + Send + Sync + 'static {
    /// Puts a value if the key is absent; answers what the store then holds.
    ///
    /// # Errors
    /// The store cannot be reached.
    async fn put(&self, key: &SecretKey, sealed: &Sealed) -> Result<Sealed, StoreError>;

    /// Replaces a value if it still is `old` (re-sealing under a new key).
    ///
    /// # Errors
    /// The store cannot be reached.
    async fn replace(
        &self,
        key: &SecretKey,
        old: &Sealed,
        new: &Sealed,
    ) -> Result<bool, StoreError>;

    /// Reads a value.
    ///
    /// # Errors
    /// The store cannot be reached.
    async fn get(&self, key: &SecretKey) -> Result<Option<Sealed>, StoreError>;

    /// Lists up to 1,000 keys after `after`, in their order.
    ///
    /// # Errors
    /// The store cannot be reached.
    async fn keys(&self, after: Option<&SecretKey>) -> Result<Vec<SecretKey>, StoreError>;

    /// Erases a value; an absent one is erased already.
    ///
    /// # Errors
    /// The store cannot be reached.
    async fn erase(&self, key: &SecretKey) -> Result<(), StoreError>;
}
