//! A public SSH key, which servers take in when they are made.

use std::collections::BTreeMap;

use provision_core::{
    ExternalId, Facts, Found, Identity, Intent, Listing, Readiness, Resource, StepContext,
    StepError, Timing,
};
use serde::{Deserialize, Serialize};

use super::{
    broken, check_labels, check_name, delete, find, invalid, judge, labels, list_owned, number,
    timing, vanished,
};
use crate::{
    adopted::adopted_incomplete,
    hetzner::{
        Hetzner,
        model::{NewSshKey, SshKeyShown, Thing},
    },
};

/// What the types of public keys begin with; `sk-` are those of hardware tokens.
const KINDS: [&str; 4] = ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"];

/// A wanted SSH key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SshKeySpec {
    /// Name: unique per project.
    pub name: String,
    /// The public key, as `ssh-ed25519 AAAA.. comment`.
    pub public_key: String,
    /// Labels besides the owner mark.
    pub labels: BTreeMap<String, String>,
}

impl SshKeySpec {
    /// Wants this public key under a name.
    #[must_use]
    pub fn new(name: impl Into<String>, public_key: impl Into<String>) -> Self {
        Self { name: name.into(), public_key: public_key.into(), labels: BTreeMap::new() }
    }

    /// Adds a label.
    #[must_use]
    pub fn with_label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    fn check(&self) -> Result<(), &'static str> {
        check_name(&self.name)?;
        check_labels(&self.labels)?;
        match material(&self.public_key) {
            // A private key is one of the things that are pasted by mistake.
            Some((kind, _)) if KINDS.iter().any(|start| kind.starts_with(start)) => Ok(()),
            _ => Err("a public key is written `type base64 comment`"),
        }
    }
}

/// A key that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SshKeyMade {
    /// The provider's id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its fingerprint, in MD5 form.
    pub fingerprint: String,
}

/// Makes an SSH key known to the project.
///
/// The provider takes the same public key once only, under whatever name: one that is there under
/// another name is somebody else's, and can be used by `.adopt(AdoptPolicy::Use)`.
#[derive(Debug, Clone)]
pub struct SshKey {
    hetzner: Hetzner,
}

impl SshKey {
    /// Works through `hetzner`.
    #[must_use]
    pub fn new(hetzner: &Hetzner) -> Self {
        Self { hetzner: hetzner.clone() }
    }
}

impl Resource for SshKey {
    const KIND: &'static str = "hetzner.ssh_key";
    type Spec = SshKeySpec;
    type Output = SshKeyMade;

    fn identity(&self, spec: &SshKeySpec) -> Identity {
        Identity::Named(spec.name.clone())
    }

    async fn find(&self, cx: &StepContext, spec: &SshKeySpec) -> Result<Found, StepError> {
        let found = find::<SshKeyShown>(&self.hetzner, cx, &spec.name).await?;
        if found != Found::Absent {
            return Ok(found);
        }
        let all: Vec<SshKeyShown> = self.hetzner.list(cx, SshKeyShown::FIND, None).await?;
        let wanted = material(&spec.public_key);
        let same = all.iter().find(|key| wanted.is_some() && material(&key.public_key) == wanted);
        Ok(same.map_or(Found::Absent, |key| judge(cx, key)))
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &SshKeySpec,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        spec.check().map_err(invalid(SshKeyShown::CREATE))?;
        let wanted = NewSshKey {
            name: &spec.name,
            public_key: spec.public_key.trim(),
            labels: labels(&spec.labels, intent.mark()),
        };
        let made: SshKeyShown = self.hetzner.create(cx, &wanted).await?;
        let id = super::id_of(&made);
        cx.note(&id).await?;
        Ok(id)
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &SshKeySpec,
        id: &ExternalId,
    ) -> Result<Readiness<SshKeyMade>, StepError> {
        let number = number(SshKeyShown::FIND, id.as_str())?;
        let Some(key) = self.hetzner.by_id::<SshKeyShown>(cx, number).await? else {
            return Ok(vanished(cx));
        };
        // Whoever has the other key would get into every machine that is made with it.
        if material(&key.public_key) != material(&spec.public_key) {
            return match cx.is_adopted(id) {
                true => Err(adopted_incomplete(SshKeyShown::FIND, "it is another public key")),
                false => Ok(broken("other_key")),
            };
        }
        Ok(Readiness::Ready(SshKeyMade {
            id: key.head.id,
            name: key.head.name,
            fingerprint: key.fingerprint,
        }))
    }

    async fn delete(
        &self,
        cx: &StepContext,
        _: &SshKeySpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        delete::<SshKeyShown>(&self.hetzner, cx, id).await
    }

    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        list_owned::<SshKeyShown>(&self.hetzner, cx).await
    }

    fn timing(&self) -> Timing {
        timing()
    }

    fn account(&self) -> &str {
        self.hetzner.account()
    }

    fn facts(&self, spec: &SshKeySpec) -> Facts {
        Facts { name: Some(spec.name.clone()), ..Facts::default() }
    }
}

/// The key itself: type and base64, without its comment.
fn material(public_key: &str) -> Option<(&str, &str)> {
    let mut words = public_key.split_whitespace();
    let pair = (words.next()?, words.next()?);
    let base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    (pair.1.bytes().all(base64) && !public_key.trim().contains('\n')).then_some(pair)
}

#[cfg(test)]
mod tests {
    use super::{SshKeySpec, material};

    #[test]
    fn keys_are_compared_without_their_comments() {
        assert_eq!(material("ssh-ed25519 AAAA me@here"), material(" ssh-ed25519  AAAA\n"));
        assert_ne!(material("ssh-ed25519 AAAA"), material("ssh-ed25519 AAAB"));
        let private = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END";
        let token = "sk-ssh-ed25519@openssh.com AAAA x";
        let keys = [("ssh-ed25519 AAAA x", true), (token, true), (private, false), ("AAAA", false)];
        for (key, good) in keys {
            assert_eq!(SshKeySpec::new("k", key).check().is_ok(), good, "{key}");
        }
    }
}
