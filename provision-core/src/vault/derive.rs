//! Keys from a master secret, for hosts without a key service.

use std::fmt::{self, Debug};

use async_trait::async_trait;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::keys::{DataKey, KeyError, KeyProvider, LocalKeys};
use crate::{
    error::{Error, ErrorKind},
    secret::Secret,
};

/// Derives a key with PBKDF2-HMAC-SHA-256 (RFC 8018, section 5.2), filling all of `out`.
///
/// Runs on the calling thread; 600,000 iterations take a good part of a second. Zero iterations
/// count as one.
pub fn pbkdf2_hmac_sha256(password: &[u8], salt: &[u8], iterations: u32, out: &mut [u8]) {
    // A key of any length is accepted by HMAC, so this arm is never taken.
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(password) else {
        return;
    };
    for (block, number) in out.chunks_mut(32).zip(1_u32..) {
        let mut first = mac.clone();
        first.update(salt);
        first.update(&number.to_be_bytes());
        let mut last: Zeroizing<[u8; 32]> = Zeroizing::new(first.finalize().into_bytes().into());
        let mut sum = last.clone();
        for _ in 1..iterations {
            let mut next = mac.clone();
            next.update(last.as_slice());
            *last = next.finalize().into_bytes().into();
            sum.iter_mut().zip(last.iter()).for_each(|(to, from)| *to ^= from);
        }
        block.iter_mut().zip(sum.iter()).for_each(|(to, from)| *to = *from);
    }
}

/// A secret of the deployment that envelope keys are derived from.
#[derive(Clone)]
pub struct MasterSecret {
    secret: Secret,
    salt: Vec<u8>,
    iterations: u32,
}

impl MasterSecret {
    /// Iterations unless told otherwise: 600,000 (OWASP's figure for HMAC-SHA-256, 2023).
    pub const ITERATIONS: u32 = 600_000;
    /// Fewest iterations that are accepted.
    pub const FEWEST_ITERATIONS: u32 = 1_000;

    /// Takes the secret and a salt that is different for each deployment; the salt is no secret.
    #[must_use]
    pub fn new(secret: Secret, salt: impl Into<Vec<u8>>) -> Self {
        Self { secret, salt: salt.into(), iterations: Self::ITERATIONS }
    }

    /// Changes the number of iterations. Other numbers give other keys.
    #[must_use]
    pub const fn with_iterations(mut self, iterations: u32) -> Self {
        self.iterations = iterations;
        self
    }

    /// Derives the key named `id`; another id gives an unrelated key.
    ///
    /// Add the key of the next secret with [`LocalKeys::add`] or of the next id with
    /// [`MasterSecret::add_to`] to rotate. Runs on the calling thread for a good part of a second.
    ///
    /// # Errors
    /// Kind `Invalid`: a secret under 16 bytes, a salt under 8, too few iterations, or an
    /// unusable id.
    pub fn keys(&self, id: &str) -> Result<LocalKeys, Error> {
        LocalKeys::new(id, *self.derive(id)?)
    }

    /// Derives the key named `id` and adds it to keys that exist.
    ///
    /// # Errors
    /// As [`MasterSecret::keys`] and [`LocalKeys::add`].
    pub fn add_to(&self, keys: &LocalKeys, id: &str) -> Result<(), Error> {
        keys.add(id, *self.derive(id)?)
    }

    fn derive(&self, id: &str) -> Result<Zeroizing<[u8; 32]>, Error> {
        let refuse = |what: &str| {
            Err(Error::new(ErrorKind::Invalid, "master_secret", "derive key").with_context(what))
        };
        if self.secret.expose().len() < 16 {
            return refuse("the master secret needs at least 16 bytes");
        }
        if self.salt.len() < 8 {
            return refuse("the salt needs at least 8 bytes");
        }
        if self.iterations < Self::FEWEST_ITERATIONS {
            return refuse("at least 1,000 iterations");
        }
        // The salt carries its length, so that salt and id cannot be shifted into each other.
        let length = self.salt.len() as u64;
        let salt = [&length.to_be_bytes(), self.salt.as_slice(), id.as_bytes()].concat();
        let mut key = Zeroizing::new([0_u8; 32]);
        let secret = self.secret.expose().as_bytes();
        pbkdf2_hmac_sha256(secret, &salt, self.iterations, key.as_mut_slice());
        Ok(key)
    }
}

impl Debug for MasterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterSecret").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

/// Keys for a developer's machine, derived from a secret that everybody can read in this source.
///
/// Explicit opt-in: there is no way from production configuration to this type. Values sealed
/// under it are as good as clear text.
#[derive(Debug, Clone)]
pub struct DevKeys(LocalKeys);

impl DevKeys {
    /// Id of the only key.
    pub const ID: &str = "dev-only";

    /// Creates the keys where `environment` is `dev`, `development`, `test` or `local`.
    ///
    /// # Errors
    /// Kind `Secret`, code `dev_keys_refused`, for every other environment: an unknown word may
    /// well mean production.
    pub fn for_environment(environment: &str) -> Result<Self, Error> {
        let word = environment.trim().to_ascii_lowercase();
        if !matches!(word.as_str(), "dev" | "development" | "test" | "local") {
            return Err(Error::new(ErrorKind::Secret, "dev_keys_refused", "use development keys")
                .with_hint("configure `LocalKeys`, a `MasterSecret` or a key service"));
        }
        MasterSecret::new(Secret::new("provision development secret"), *b"provision development")
            .with_iterations(MasterSecret::FEWEST_ITERATIONS)
            .keys(Self::ID)
            .map(Self)
    }
}

#[async_trait]
impl KeyProvider for DevKeys {
    async fn current(&self) -> Result<String, KeyError> {
        self.0.current().await
    }

    async fn wrap_key(
        &self,
        key_id: &str,
        data_key: &DataKey,
        context: &[u8],
    ) -> Result<Vec<u8>, KeyError> {
        self.0.wrap_key(key_id, data_key, context).await
    }

    async fn unwrap_key(
        &self,
        key_id: &str,
        wrapped: &[u8],
        context: &[u8],
    ) -> Result<DataKey, KeyError> {
        self.0.unwrap_key(key_id, wrapped, context).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{DevKeys, MasterSecret, Secret, pbkdf2_hmac_sha256};
    use crate::{
        secret::SecretKey,
        vault::{Binding, Vault, VaultError},
    };

    fn check(password: &str, salt: &str, iterations: u32, expected: &str) {
        let mut out = vec![0_u8; expected.len() / 2];
        pbkdf2_hmac_sha256(password.as_bytes(), salt.as_bytes(), iterations, &mut out);
        let hex: String = out.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, expected, "{password} {salt} {iterations}");
    }

    // covers: R5-22
    #[test]
    fn key_derivation_gives_the_published_vectors() {
        // RFC 7914, section 11.
        check(
            "passwd",
            "salt",
            1,
            "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc\
             49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783",
        );
        // RFC 6070's inputs, with SHA-256.
        for (iterations, expected) in [
            (1, "120fb6cffcf8b32c43e7225256c4f837a86548c92ccc35480805987cb70be17b"),
            (2, "ae4d0c95af6b46d32d0adff928f06dd02a303f8ef3c251dfd6e2d85a95474c43"),
            (4_096, "c5e478d59288c841aa530db6845c4c8d962893a001ce4e11a4963873aa98134a"),
        ] {
            check("password", "salt", iterations, expected);
        }
        check(
            "passwordPASSWORDpassword",
            "saltSALTsaltSALTsaltSALTsaltSALTsalt",
            4_096,
            "348c89dbcbd32b2f32d814b8116e84cf2b17347ebc1800181c4e2a1fb8dd53e1c635518c7dac47e9",
        );
        check("pass\0word", "sa\0lt", 4_096, "89b69d0516f829893c696226650a8687");
    }

    fn binding() -> Binding {
        let key = SecretKey {
            scope: "vault/t".to_owned(),
            generation: 0,
            name: "n".to_owned(),
            path: "p".to_owned(),
        };
        Binding::new("main", Some("t"), &key)
    }

    // covers: R5-22, R5-24
    #[tokio::test]
    async fn a_master_secret_gives_the_same_keys_again_and_others_for_other_ids() {
        let master = |secret: &str, salt: &str| {
            MasterSecret::new(Secret::new(secret), salt).with_iterations(1_000)
        };
        let ours = master("a long master secret", "this deployment");
        let keys = ours.keys("m1").unwrap();
        let vault = Vault::new(Arc::new(keys.clone()));
        let sealed = vault.seal(&binding(), &Secret::new("v")).await.unwrap();
        let opens = async |keys| Vault::new(Arc::new(keys)).open(&binding(), &sealed).await;
        assert_eq!(opens(ours.keys("m1").unwrap()).await.unwrap().expose(), "v");
        for other in [
            ours.keys("m2").unwrap(),
            ours.clone().with_iterations(1_001).keys("m1").unwrap(),
            master("a long master secret", "that deployment").keys("m1").unwrap(),
            master("another master secret", "this deployment").keys("m1").unwrap(),
        ] {
            assert_eq!(opens(other).await.unwrap_err(), VaultError::Unopenable);
        }
        ours.add_to(&keys, "m2").unwrap();
        keys.promote("m2").unwrap();
        assert_eq!(vault.seal(&binding(), &Secret::new("w")).await.unwrap().key_id, "m2");
        assert_eq!(vault.open(&binding(), &sealed).await.unwrap().expose(), "v");
    }

    #[test]
    fn weak_master_secrets_are_refused() {
        let master = |secret: &str, salt: &str| MasterSecret::new(Secret::new(secret), salt);
        assert!(master("short", "long enough").keys("m").is_err());
        assert!(master("a long master secret", "salt").keys("m").is_err());
        let hasty = master("a long master secret", "long enough").with_iterations(999);
        assert!(hasty.keys("m").is_err());
        let shown = format!("{:?}", master("a long master secret", "long enough"));
        assert!(!shown.contains("master secret") && shown.contains("600000"));
    }

    // covers: R5-26, R5-27
    #[tokio::test]
    async fn development_keys_are_refused_outside_of_development() {
        for environment in ["production", "prod", "staging", "", "PRODUCTION", "developer"] {
            let error = DevKeys::for_environment(environment).unwrap_err();
            assert_eq!(error.code(), "dev_keys_refused", "{environment}");
        }
        let vault = Vault::new(Arc::new(DevKeys::for_environment(" Development ").unwrap()));
        let sealed = vault.seal(&binding(), &Secret::new("v")).await.unwrap();
        assert_eq!(sealed.key_id, DevKeys::ID);
        assert_eq!(vault.open(&binding(), &sealed).await.unwrap().expose(), "v");
    }
}
