//! One sealed value: a random data key of its own, wrapped by the key provider.
//!
//! Layout of `Sealed::bytes`, format 1, all lengths big-endian 16 bits:
//! `length, label | length, wrapped data key | 12 bytes nonce | ciphertext and 16 bytes tag`.
//! The label is clear text for housekeeping (an expiry), as authenticated as everything else.

use std::{sync::Arc, time::Duration};

use aes_gcm::{
    Aes256Gcm, KeyInit,
    aead::{Aead, Payload},
};
use zeroize::Zeroizing;

use super::{
    VaultError,
    keys::{DataKey, KeyError, KeyProvider},
};
use crate::{
    clock,
    draw::{DrawError, Entropy, SystemEntropy},
    secret::{Sealed, Secret, SecretKey},
};

/// Largest value that can be sealed, in bytes: 64 KiB.
pub const LONGEST_SECRET: usize = 64 * 1024;

/// Format written by this version.
const FORMAT: u8 = 1;
const NONCE: usize = 12;

/// How long a key service may take for an answer; then it counts as one that does not answer.
const KEYS_ANSWER: Duration = Duration::from_secs(30);

/// The place a value is sealed for; at any other place it does not open.
///
/// The vault adds the format and the id of the key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Binding {
    namespace: String,
    tenant: Option<String>,
    key: SecretKey,
}

impl Binding {
    /// Binds to a namespace, a tenant, and a key: scope (the run), generation, name, path.
    #[must_use]
    pub fn new(namespace: impl Into<String>, tenant: Option<&str>, key: &SecretKey) -> Self {
        Self { namespace: namespace.into(), tenant: tenant.map(Into::into), key: key.clone() }
    }

    /// The key within the namespace.
    #[must_use]
    pub fn key(&self) -> &SecretKey {
        &self.key
    }

    /// X9: the data that is authenticated. Every part carries its length, so that no two places
    /// give the same bytes.
    fn associated_data(&self, format: u8, key_id: &str, label: &[u8]) -> Vec<u8> {
        let mut out = vec![format];
        let mut part = |bytes: &[u8]| {
            out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
            out.extend_from_slice(bytes);
        };
        part(self.namespace.as_bytes());
        // "No tenant" and "a tenant without a name" differ in the number of this byte.
        part(&[u8::from(self.tenant.is_some())]);
        part(self.tenant.as_deref().unwrap_or_default().as_bytes());
        part(self.key.scope.as_bytes());
        part(self.key.path.as_bytes());
        part(&self.key.generation.to_be_bytes());
        part(self.key.name.as_bytes());
        part(key_id.as_bytes());
        part(label);
        out
    }
}

/// Seals and opens values. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Vault {
    keys: Arc<dyn KeyProvider>,
    entropy: Arc<dyn Entropy>,
}

impl Vault {
    /// Creates a vault over a key provider, with the operating system's generator.
    #[must_use]
    pub fn new(keys: Arc<dyn KeyProvider>) -> Self {
        Self { keys, entropy: Arc::new(SystemEntropy) }
    }

    /// Replaces the source of randomness; for simulations only.
    #[must_use]
    pub fn with_entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// Id of the key that new values are sealed under.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] while the key service does not answer.
    pub async fn current_key(&self) -> Result<String, VaultError> {
        answered(self.keys.current()).await.map_err(while_sealing)
    }

    /// Seals a value for one place, under the provider's current key.
    ///
    /// # Errors
    /// The value is too large, or the keys or the generator are not reachable. Never echoes the
    /// value.
    pub async fn seal(&self, binding: &Binding, value: &Secret) -> Result<Sealed, VaultError> {
        self.seal_labelled(binding, value, &[]).await
    }

    /// Seals a value with a label that stays readable without any key.
    pub(super) async fn seal_labelled(
        &self,
        binding: &Binding,
        value: &Secret,
        label: &[u8],
    ) -> Result<Sealed, VaultError> {
        if value.expose().len() > LONGEST_SECRET {
            return Err(VaultError::TooLarge);
        }
        let key_id = self.current_key().await?;
        let context = binding.associated_data(FORMAT, &key_id, label);
        // X9: the data key is fresh, too, so no key ever sees a second message.
        let data_key = DataKey::draw(self.entropy.as_ref())?;
        let wrapping = self.keys.wrap_key(&key_id, &data_key, &context);
        let wrapped = answered(wrapping).await.map_err(while_sealing)?;
        let nonce = nonce(self.entropy.as_ref())?;
        let text = encrypt(data_key.bytes(), nonce, value.expose().as_bytes(), &context)?;
        let mut bytes = Vec::with_capacity(4 + label.len() + wrapped.len() + NONCE + text.len());
        push(&mut bytes, label)?;
        push(&mut bytes, &wrapped)?;
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&text);
        Ok(Sealed { format: FORMAT, key_id, bytes })
    }

    /// Opens a value at the place it was sealed for.
    ///
    /// # Errors
    /// [`VaultError::Unopenable`] for every value that does not open, [`VaultError::Unavailable`]
    /// while the key service does not answer.
    pub async fn open(&self, binding: &Binding, sealed: &Sealed) -> Result<Secret, VaultError> {
        let parts = Parts::of(sealed).ok_or(VaultError::Unopenable)?;
        let context = binding.associated_data(FORMAT, &sealed.key_id, parts.label);
        let unwrapping = self.keys.unwrap_key(&sealed.key_id, parts.wrapped, &context);
        let data_key = answered(unwrapping).await.map_err(while_opening)?;
        let mut clear = decrypt(data_key.bytes(), parts.nonce, parts.text, &context)?;
        match String::from_utf8(std::mem::take(&mut *clear)) {
            Ok(value) => Ok(Secret::new(value)),
            Err(error) => {
                drop(Zeroizing::new(error.into_bytes()));
                Err(VaultError::Unopenable)
            }
        }
    }

    /// The label of a sealed value. It is proved only by opening the value.
    pub(super) fn label(sealed: &Sealed) -> Option<&[u8]> {
        Parts::of(sealed).map(|parts| parts.label)
    }
}

struct Parts<'a> {
    label: &'a [u8],
    wrapped: &'a [u8],
    nonce: [u8; NONCE],
    text: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(sealed: &'a Sealed) -> Option<Self> {
        if sealed.format != FORMAT {
            return None;
        }
        let (label, rest) = pull(&sealed.bytes)?;
        let (wrapped, rest) = pull(rest)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE>()?;
        Some(Self { label, wrapped, nonce: *nonce, text })
    }
}

fn push(out: &mut Vec<u8>, part: &[u8]) -> Result<(), VaultError> {
    let length = u16::try_from(part.len()).map_err(|_| VaultError::TooLarge)?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(part);
    Ok(())
}

fn pull(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// X9: a fresh random nonce for every message.
pub(super) fn nonce(entropy: &dyn Entropy) -> Result<[u8; NONCE], VaultError> {
    let mut nonce = [0_u8; NONCE];
    entropy.fill(&mut nonce)?;
    Ok(nonce)
}

pub(super) fn encrypt(
    key: &[u8; 32],
    nonce: [u8; NONCE],
    clear: &[u8],
    context: &[u8],
) -> Result<Vec<u8>, VaultError> {
    let cipher = Aes256Gcm::new(key.into());
    cipher
        .encrypt(&nonce.into(), Payload { msg: clear, aad: context })
        .map_err(|_| VaultError::TooLarge)
}

pub(super) fn decrypt(
    key: &[u8; 32],
    nonce: [u8; NONCE],
    text: &[u8],
    context: &[u8],
) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let cipher = Aes256Gcm::new(key.into());
    cipher
        .decrypt(&nonce.into(), Payload { msg: text, aad: context })
        .map(Zeroizing::new)
        .map_err(|_| VaultError::Unopenable)
}

fn while_sealing(error: KeyError) -> VaultError {
    match error {
        KeyError::Unavailable => VaultError::Unavailable,
        KeyError::Refused => VaultError::Misconfigured,
    }
}

/// Waits for a key service no longer than a call of it may take.
async fn answered<T>(call: impl Future<Output = Result<T, KeyError>>) -> Result<T, KeyError> {
    clock::within(KEYS_ANSWER, call).await.unwrap_or(Err(KeyError::Unavailable))
}

fn while_opening(error: KeyError) -> VaultError {
    match error {
        KeyError::Unavailable => VaultError::Unavailable,
        KeyError::Refused => VaultError::Unopenable,
    }
}

impl From<DrawError> for VaultError {
    fn from(_: DrawError) -> Self {
        Self::Unavailable
    }
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
