//! Who holds the keys that wrap data keys.
//!
//! [`KeyProvider`] is the seam for a key service; [`LocalKeys`] holds 32-byte keys in this
//! process, several at a time, so that a new one can take over while old values still open.

use std::{
    collections::BTreeMap,
    fmt::{self, Debug},
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use async_trait::async_trait;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{
    VaultError,
    envelope::{decrypt, encrypt, nonce},
    keyfile,
};
use crate::{
    draw::{DrawError, Entropy, SystemEntropy},
    error::{Error, ErrorKind},
};

/// A 256-bit key for one value. Prints as `***` and is wiped when dropped.
#[derive(Clone)]
pub struct DataKey(Zeroizing<[u8; 32]>);

impl DataKey {
    /// Takes over a key that a provider has unwrapped.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The key, for the provider that wraps it.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(super) fn draw(entropy: &dyn Entropy) -> Result<Self, DrawError> {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        entropy.fill(bytes.as_mut_slice())?;
        Ok(Self(bytes))
    }
}

impl Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a key provider did not answer with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyError {
    /// The key service does not answer; the same call may work later.
    Unavailable,
    /// It is no key of ours, or what was given was not wrapped by it for this place.
    Refused,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "ask for a key: the key service does not answer",
            Self::Refused => "ask for a key: refused",
        })
    }
}

impl std::error::Error for KeyError {}

/// Wraps data keys under long-lived keys that never leave it.
///
/// Maps one to one on the key services of the clouds: `context` is their encryption context or
/// additional authenticated data, and what was wrapped for one context must not unwrap for another.
///
/// A call that takes longer than 30 s counts as [`KeyError::Unavailable`].
#[async_trait]
pub trait KeyProvider: Debug + Send + Sync + 'static {
    /// Id of the key that new values use; at most 200 bytes, stored in clear beside every value.
    ///
    /// # Errors
    /// The key service does not answer.
    async fn current(&self) -> Result<String, KeyError>;

    /// Wraps a data key; at most 4 KiB.
    ///
    /// # Errors
    /// The key service does not answer, or does not have that key.
    async fn wrap_key(
        &self,
        key_id: &str,
        data_key: &DataKey,
        context: &[u8],
    ) -> Result<Vec<u8>, KeyError>;

    /// Unwraps a data key, under any key that is still kept.
    ///
    /// # Errors
    /// The key service does not answer, does not have that key, or the bytes do not fit.
    async fn unwrap_key(
        &self,
        key_id: &str,
        wrapped: &[u8],
        context: &[u8],
    ) -> Result<DataKey, KeyError>;
}

/// Keys by id, the first of which is the current one.
pub(super) struct Ring {
    pub(super) current: String,
    pub(super) keys: BTreeMap<String, Zeroizing<[u8; 32]>>,
}

/// Keys held in this process.
///
/// Rotation with overlap: [`add`](Self::add) the new key everywhere, then
/// [`promote`](Self::promote) it, then re-seal, then [`retire`](Self::retire) the old one.
#[derive(Clone)]
pub struct LocalKeys {
    // A lock of the standard library: it is never held across an await.
    ring: Arc<RwLock<Ring>>,
    file: Option<PathBuf>,
    entropy: Arc<dyn Entropy>,
}

impl LocalKeys {
    /// Holds one key.
    ///
    /// # Errors
    /// Kind `Invalid`: the id is empty, longer than 200 bytes, or has other than visible ASCII.
    pub fn new(id: impl Into<String>, key: [u8; 32]) -> Result<Self, Error> {
        let current = id.into();
        check_id(&current)?;
        let keys = BTreeMap::from([(current.clone(), Zeroizing::new(key))]);
        Ok(Self::of(Ring { current, keys }, None))
    }

    /// Reads keys from a file, or draws one and creates the file with permission 0600.
    ///
    /// One key per line, id and 64 hexadecimal digits; the first one is the current key. When a
    /// value names a key that is not known, the file is read again, so that other processes follow
    /// a rotation by themselves. Two processes that create the file at the same time end up with
    /// the same key. Reads and writes the file on the calling thread.
    ///
    /// # Errors
    /// Kind `Secret`: the file cannot be read or created, others than its owner may read it, or a
    /// line is not a key.
    pub fn file(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let ring = keyfile::load_or_create(&path, &SystemEntropy)?;
        Ok(Self::of(ring, Some(path)))
    }

    pub(super) fn of(ring: Ring, file: Option<PathBuf>) -> Self {
        Self { ring: Arc::new(RwLock::new(ring)), file, entropy: Arc::new(SystemEntropy) }
    }

    /// Replaces the source of randomness; for simulations only.
    #[must_use]
    pub fn with_entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// Keeps one more key, which opens values but does not seal yet.
    ///
    /// # Errors
    /// Kind `Invalid` for an unusable id, `Conflict` for an id that holds another key already.
    pub fn add(&self, id: impl Into<String>, key: [u8; 32]) -> Result<(), Error> {
        let id = id.into();
        check_id(&id)?;
        let key = Zeroizing::new(key);
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        match ring.keys.get(&id) {
            Some(known) if *known != key => Err(refused(ErrorKind::Conflict, "key_id_taken", id)),
            _ => {
                ring.keys.insert(id, key);
                Ok(())
            }
        }
    }

    /// Makes a key the one that new values use.
    ///
    /// # Errors
    /// Kind `NotFound`: there is no such key.
    pub fn promote(&self, id: &str) -> Result<(), Error> {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        if !ring.keys.contains_key(id) {
            return Err(refused(ErrorKind::NotFound, "key_unknown", id));
        }
        id.clone_into(&mut ring.current);
        Ok(())
    }

    /// Forgets a key. Values that are still sealed under it can no longer be opened.
    ///
    /// # Errors
    /// Kind `Conflict`: it is the current key.
    pub fn retire(&self, id: &str) -> Result<(), Error> {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        if ring.current == id {
            return Err(refused(ErrorKind::Conflict, "key_is_current", id));
        }
        ring.keys.remove(id);
        Ok(())
    }

    /// Draws a new key, makes it the current one, and writes it to the file if there is one.
    ///
    /// Other processes find it in the file as soon as they meet a value sealed under it.
    ///
    /// # Errors
    /// Kind `Secret`: the file cannot be written, or the generator gives nothing. The keys are
    /// unchanged then.
    pub fn rotate(&self) -> Result<String, Error> {
        let (id, key) = keyfile::draw_key(self.entropy.as_ref())?;
        if let Some(path) = &self.file {
            let ring = keyfile::prepend(path, &id, &key)?;
            *self.ring.write().unwrap_or_else(PoisonError::into_inner) = ring;
        } else {
            let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
            ring.keys.insert(id.clone(), key);
            ring.current.clone_from(&id);
        }
        Ok(id)
    }

    /// Ids of all keys, in their order.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        ring.keys.keys().cloned().collect()
    }

    fn find(&self, id: &str) -> Option<Zeroizing<[u8; 32]>> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        ring.keys.get(id).cloned()
    }

    fn find_or_reload(&self, id: &str) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        if let Some(key) = self.find(id) {
            return Ok(key);
        }
        if let Some(path) = &self.file {
            let ring = keyfile::load(path).map_err(|_| KeyError::Unavailable)?;
            *self.ring.write().unwrap_or_else(PoisonError::into_inner) = ring;
        }
        self.find(id).ok_or(KeyError::Refused)
    }
}

impl Debug for LocalKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKeys").field("ids", &self.ids()).finish_non_exhaustive()
    }
}

#[async_trait]
impl KeyProvider for LocalKeys {
    async fn current(&self) -> Result<String, KeyError> {
        Ok(self.ring.read().unwrap_or_else(PoisonError::into_inner).current.clone())
    }

    async fn wrap_key(
        &self,
        key_id: &str,
        data_key: &DataKey,
        context: &[u8],
    ) -> Result<Vec<u8>, KeyError> {
        let key = self.find(key_id).ok_or(KeyError::Refused)?;
        wrap(&key, data_key, context, self.entropy.as_ref()).map_err(|error| match error {
            VaultError::Unavailable => KeyError::Unavailable,
            _ => KeyError::Refused,
        })
    }

    async fn unwrap_key(
        &self,
        key_id: &str,
        wrapped: &[u8],
        context: &[u8],
    ) -> Result<DataKey, KeyError> {
        let key = self.find_or_reload(key_id)?;
        unwrap(&key, wrapped, context).ok_or(KeyError::Refused)
    }
}

/// Salt, nonce, and the data key encrypted under a key derived from the salt.
fn wrap(
    key: &[u8; 32],
    data_key: &DataKey,
    context: &[u8],
    entropy: &dyn Entropy,
) -> Result<Vec<u8>, VaultError> {
    let mut salt = [0_u8; 32];
    entropy.fill(&mut salt)?;
    let nonce = nonce(entropy)?;
    let derived = derived(key, &salt).ok_or(VaultError::Misconfigured)?;
    let text = encrypt(&derived, nonce, data_key.bytes(), context)?;
    Ok([salt.as_slice(), nonce.as_slice(), text.as_slice()].concat())
}

fn unwrap(key: &[u8; 32], wrapped: &[u8], context: &[u8]) -> Option<DataKey> {
    let (salt, rest) = wrapped.split_first_chunk::<32>()?;
    let (nonce, text) = rest.split_first_chunk::<12>()?;
    let clear = decrypt(&*derived(key, salt)?, *nonce, text, context).ok()?;
    let bytes: &[u8; 32] = clear.as_slice().try_into().ok()?;
    Some(DataKey::from_bytes(*bytes))
}

/// X9: a long-lived key never encrypts; a key derived from 256 random bits does, once. So the
/// limit of 2^32 messages per key holds without anybody counting.
fn derived(key: &[u8; 32], salt: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(b"provision key wrap 1");
    mac.update(salt);
    Some(Zeroizing::new(mac.finalize().into_bytes().into()))
}

pub(super) fn check_id(id: &str) -> Result<(), Error> {
    let fits = !id.is_empty() && id.len() <= 200 && id.bytes().all(|b| b.is_ascii_graphic());
    if fits && !id.starts_with('#') {
        return Ok(());
    }
    Err(refused(ErrorKind::Invalid, "key_id_invalid", "1 to 200 visible ASCII characters"))
}

fn refused(kind: ErrorKind, code: &'static str, what: impl Into<String>) -> Error {
    Error::new(kind, code, "keep key").with_context(what)
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
