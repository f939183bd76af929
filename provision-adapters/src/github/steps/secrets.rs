//! Secrets of a repository, sealed for its public key before they leave.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use crypto_box::{PublicKey as BoxKey, aead::OsRng};
use provision_core::{
    ExternalId, Facts, Found, Identity, Intent, Listing, Readiness, Resource, Secret, SecretRef,
    StepContext, StepError, Timing,
};
use serde::{Deserialize, Serialize};

use super::values::{
    Values, absent_without, check_names, check_value, found, id_of, is_gone, listing_not_visible,
    name_of, name_to_write, none_left,
};
use crate::{
    adopted::adopted_incomplete,
    github::{
        CONTENT_WITHIN, LATE_WINDOW, LISTING_LAG, PAGES_MAX, SECRETS_MAX,
        client::GitHub,
        model::{PublicKey, SealedValue},
    },
};

const SEAL: &str = "seal the secret";

/// The secrets that are wanted in a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SecretsSpec {
    /// The repository's id, which survives renames.
    pub repository_id: u64,
    /// The repository, as `owner/name` when the set was wanted.
    pub repository: String,
    /// Names and where their values come from; at least one, at most 100.
    pub secrets: BTreeMap<String, SecretRef>,
}

impl SecretsSpec {
    /// Wants secrets in the repository that has this id and, as `owner/name`, this name.
    #[must_use]
    pub fn new(repository_id: u64, repository: impl Into<String>) -> Self {
        Self { repository_id, repository: repository.into(), secrets: BTreeMap::new() }
    }

    /// Adds a secret.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: SecretRef) -> Self {
        self.secrets.insert(name.into(), value);
        self
    }
}

/// A set of Actions secrets, as one resource.
///
/// Names that were there before are not overwritten: the set is then foreign.
#[derive(Debug, Clone)]
pub struct RepoSecrets {
    github: GitHub,
}

impl RepoSecrets {
    /// Sets secrets with the token of `github`.
    #[must_use]
    pub fn new(github: &GitHub) -> Self {
        Self { github: github.clone() }
    }

    async fn names(
        &self,
        cx: &StepContext,
        repository: &str,
    ) -> Result<Option<Vec<String>>, StepError> {
        let mut names = Vec::new();
        for page in 1..=PAGES_MAX {
            let Some((listed, more)) = self.github.secrets_page(cx, repository, page).await? else {
                return Ok(None);
            };
            names.extend(listed);
            if !more {
                return Ok(Some(names));
            }
        }
        Err(StepError::permanent("list the secrets").with_code("listing_too_long"))
    }

    async fn put(
        &self,
        cx: &StepContext,
        repository: &str,
        key: &PublicKey,
        (name, reference): (&str, &SecretRef),
    ) -> Result<(), StepError> {
        let value = cx.reveal(reference).await?;
        check_value(value.expose())?;
        let sealed = seal(key, &value)?;
        let body = SealedValue { encrypted_value: &sealed, key_id: &key.key_id };
        self.github.put_secret(cx, repository, name, &body).await
    }
}

impl Resource for RepoSecrets {
    const KIND: &'static str = "github.repo_secrets";
    type Spec = SecretsSpec;
    type Output = Values;

    fn identity(&self, spec: &SecretsSpec) -> Identity {
        // A name within a repository exists once, and a repeated PUT replaces.
        Identity::Named(id_of(&spec.repository, spec.secrets.keys()).as_str().to_owned())
    }

    async fn find(&self, cx: &StepContext, spec: &SecretsSpec) -> Result<Found, StepError> {
        check_names(spec.secrets.keys(), SECRETS_MAX)?;
        let id = id_of(&spec.repository, spec.secrets.keys());
        let Some(repository) = name_of(&self.github, cx, spec.repository_id).await? else {
            let repository = (spec.repository_id, spec.repository.as_str());
            return absent_without(&self.github, cx, repository).await;
        };
        let there = self.names(cx, &repository).await?.ok_or_else(listing_not_visible)?;
        let wanted: BTreeSet<&String> = spec.secrets.keys().collect();
        Ok(found(id, &wanted, &there))
    }

    /// Sets the first one; `ready` sets the rest, so that each call's end says one thing.
    async fn create(
        &self,
        cx: &StepContext,
        spec: &SecretsSpec,
        _: &Intent,
    ) -> Result<ExternalId, StepError> {
        check_names(spec.secrets.keys(), SECRETS_MAX)?;
        if let Some((first, reference)) = spec.secrets.iter().next() {
            let repository = name_to_write(&self.github, cx, spec.repository_id).await?;
            let key = self.github.public_key(cx, &repository).await?;
            self.put(cx, &repository, &key, (first, reference)).await?;
        }
        Ok(id_of(&spec.repository, spec.secrets.keys()))
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &SecretsSpec,
        id: &ExternalId,
    ) -> Result<Readiness<Values>, StepError> {
        let repository = name_to_write(&self.github, cx, spec.repository_id).await?;
        let there = self.names(cx, &repository).await?.ok_or_else(listing_not_visible)?;
        let missing: Vec<_> =
            spec.secrets.iter().filter(|(name, _)| !there.contains(name)).collect();
        if let Some((name, _)) = missing.first() {
            if cx.is_adopted(id) {
                return Err(adopted_incomplete(
                    "check the secrets",
                    format!("`{name}` is not there as wanted"),
                ));
            }
            let key = self.github.public_key(cx, &repository).await?;
            for (name, reference) in missing {
                self.put(cx, &repository, &key, (name, reference)).await?;
            }
        }
        let names = spec.secrets.keys().cloned().collect();
        Ok(Readiness::Ready(Values { repository: spec.repository.clone(), names }))
    }

    async fn delete(
        &self,
        cx: &StepContext,
        spec: &SecretsSpec,
        _: &ExternalId,
    ) -> Result<(), StepError> {
        let Some(repository) = name_of(&self.github, cx, spec.repository_id).await? else {
            return is_gone(&self.github, cx, (spec.repository_id, &spec.repository)).await;
        };
        let mut all = true;
        for name in spec.secrets.keys() {
            all &= self.github.delete_secret(cx, &repository, name).await?;
        }
        if all {
            return Ok(());
        }
        // A 404 is no proof: it also means "not for you".
        let there = self.names(cx, &repository).await?.ok_or_else(listing_not_visible)?;
        none_left(spec.secrets.keys(), &there)
    }

    /// Secrets carry no mark, and go with their repository, which does.
    async fn list_owned(&self, _: &StepContext) -> Result<Listing, StepError> {
        Ok(Listing::Unmarked)
    }

    fn timing(&self) -> Timing {
        let (late_window, listing_lag) = (LATE_WINDOW, LISTING_LAG);
        Timing { late_window, listing_lag, ready_within: CONTENT_WITHIN, ..Timing::default() }
    }

    fn account(&self) -> &str {
        self.github.account().login()
    }

    fn facts(&self, spec: &SecretsSpec) -> Facts {
        let name = id_of(&spec.repository, spec.secrets.keys()).as_str().to_owned();
        Facts { name: Some(name), ..Facts::default() }
    }
}

/// Seals a value for a repository's key: libsodium's `crypto_box_seal`, then base64.
fn seal(key: &PublicKey, value: &Secret) -> Result<String, StepError> {
    let unusable = || StepError::retry(SEAL).with_code("bad_public_key");
    let bytes = STANDARD.decode(key.key.as_bytes()).map_err(|_| unusable())?;
    let bytes: [u8; 32] = bytes.try_into().map_err(|_| unusable())?;
    let sealed = BoxKey::from(bytes)
        .seal(&mut OsRng, value.expose().as_bytes())
        .map_err(|_| StepError::permanent(SEAL).with_code("seal_failed"))?;
    Ok(STANDARD.encode(sealed))
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use crypto_box::SecretKey;
    use provision_core::Secret;

    use super::{PublicKey, seal};

    #[test]
    fn a_sealed_value_opens_with_the_repositorys_key_alone() {
        let key = SecretKey::from([7; 32]);
        let public =
            PublicKey { key_id: "1".to_owned(), key: STANDARD.encode(key.public_key().as_bytes()) };
        let value = Secret::new("s3cret ü");
        let sealed = seal(&public, &value).unwrap();
        assert_ne!(sealed, seal(&public, &value).unwrap(), "each box has its own key");
        let bytes = STANDARD.decode(sealed).unwrap();
        assert_eq!(key.unseal(&bytes).unwrap(), "s3cret ü".as_bytes());
        assert!(SecretKey::from([8; 32]).unseal(&bytes).is_err());
    }

    #[test]
    fn a_key_that_is_none_is_worth_another_look() {
        for key in ["", "????", "c2hvcnQ="] {
            let public = PublicKey { key_id: "1".to_owned(), key: key.to_owned() };
            assert_eq!(seal(&public, &Secret::new("x")).unwrap_err().code(), "bad_public_key");
        }
    }
}
