//! Sealing: secrets at rest are ciphertext, bound to the place they are kept at.
//!
//! Three layers, from the inside out. [`Vault`] seals one value for one [`Binding`] with
//! AES-256-GCM under a data key of its own, which a [`KeyProvider`] wraps: local keys, a derived
//! master secret, or a key service. [`TokenVault`] keeps values of a host's tenants in a
//! [`SecretStore`](crate::secret::SecretStore), with expiry and an audit trail. [`Reseal`] moves
//! everything to a new key while readers go on.

mod audit;
mod derive;
mod envelope;
mod keyfile;
mod keys;
mod rotate;
mod tokens;

#[cfg(test)]
mod testing;

use std::{fmt, time::Duration};

pub use audit::{
    AuditError, AuditRecord, AuditSink, MemoryAudit, Operation, Outcome, TracingAudit,
};
pub use derive::{DevKeys, MasterSecret, pbkdf2_hmac_sha256};
pub use envelope::{Binding, LONGEST_SECRET, Vault};
pub use keys::{DataKey, KeyError, KeyProvider, LocalKeys};
pub use rotate::{Bindings, Reseal, Resealed};
pub use tokens::{Expiring, Token, TokenName, TokenVault};

use crate::error::{Error, ErrorKind};

/// Why a value was not sealed or opened.
///
/// A value that does not open always gives [`VaultError::Unopenable`], whatever the reason: a
/// flipped bit, another place, another tenant, an unknown key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum VaultError {
    /// The sealed value cannot be opened here, now or later. Whoever waits for it parks.
    Unopenable,
    /// The key service or the source of randomness does not answer; the same call may work later.
    Unavailable,
    /// The value is larger than [`LONGEST_SECRET`].
    TooLarge,
    /// The key provider refuses to wrap under its own current key: its configuration is wrong.
    Misconfigured,
}

impl VaultError {
    /// Whether the same call may work later.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::Unavailable)
    }

    /// A short stable word.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unopenable => "secret_unopenable",
            Self::Unavailable => "keys_unavailable",
            Self::TooLarge => "secret_too_large",
            Self::Misconfigured => "keys_misconfigured",
        }
    }
}

impl fmt::Display for VaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unopenable => "open sealed value: it cannot be opened",
            Self::Unavailable => "ask for a key: the keys are not reachable now",
            Self::TooLarge => "seal value: it is larger than 64 KiB",
            Self::Misconfigured => "seal value: the key provider refuses its own current key",
        })
    }
}

impl std::error::Error for VaultError {}

/// When to ask again a key service that did not answer.
const ASK_AGAIN: Duration = Duration::from_secs(5);

impl From<VaultError> for Error {
    fn from(error: VaultError) -> Self {
        let kind = match error {
            VaultError::TooLarge => ErrorKind::Limit,
            VaultError::Unavailable => ErrorKind::Provider,
            VaultError::Unopenable | VaultError::Misconfigured => ErrorKind::Secret,
        };
        let told = Self::new(kind, error.code(), "use vault").with_source(error);
        if error.is_transient() {
            let hint = "the key service does not answer: ask again, nothing has to be mended here";
            return told.with_retry_after(ASK_AGAIN).with_hint(hint);
        }
        told
    }
}
