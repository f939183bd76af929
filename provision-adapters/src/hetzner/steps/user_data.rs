//! What a server is told at its first boot.

use std::{collections::BTreeMap, time::Duration};

use provision_core::{Secret, SecretRef, StepContext, StepError, Timestamp};
use serde::{Deserialize, Serialize};

use crate::hetzner::USER_DATA_MAX;

const FILL: &str = "fill in user data";

/// How much longer than now a secret has to be of use: a machine is made, started and booted
/// before it uses what it was told.
const BOOT_MARGIN: Duration = Duration::from_secs(5 * 60);

/// The user data of a server, such as a `#cloud-config`, with places for secrets.
///
/// The provider keeps user data, and everybody on the machine who may read its metadata can have
/// it: what stands in it should be short-lived or for one use, such as a key that joins a network
/// once. Secrets are opened at the call and never journaled.
///
/// ```
/// use provision_adapters::hetzner::UserData;
/// use provision_core::SecretRef;
///
/// let data = UserData::new("#cloud-config\nruncmd:\n  - tailscale up --auth-key=<<join>>\n")
///     .with_secret("join", SecretRef::named("TAILSCALE_JOIN_KEY"));
/// assert!(data.check().is_ok());
/// assert!(UserData::new("#cloud-config").with_secret("join", SecretRef::named("X")).check().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UserData {
    /// The text; `<<name>>` is where the secret of that name goes.
    pub text: String,
    /// The secrets, by name.
    pub secrets: BTreeMap<String, SecretRef>,
    /// When those of them that end can be used no more, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ends: BTreeMap<String, Timestamp>,
}

impl UserData {
    /// Wants this text, without secrets so far. Not a secret itself: it is journaled.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), secrets: BTreeMap::new(), ends: BTreeMap::new() }
    }

    /// Puts a secret where `<<name>>` stands. It is put there as it is: a value with quotes or
    /// line feeds has to fit its place. It replaces what had the name, and the end of that.
    #[must_use]
    pub fn with_secret(mut self, name: impl Into<String>, secret: SecretRef) -> Self {
        let name = name.into();
        self.ends.remove(&name);
        self.secrets.insert(name, secret);
        self
    }

    /// As [`Self::with_secret`], for one that can be used until `end` only, such as a key that
    /// joins a network: in the last five minutes before it, and past it, no server is made with
    /// it, because the first boot would come too late.
    #[must_use]
    pub fn with_secret_until(
        self,
        name: impl Into<String>,
        secret: SecretRef,
        end: Timestamp,
    ) -> Self {
        let name = name.into();
        let mut told = self.with_secret(name.clone(), secret);
        told.ends.insert(name, end);
        told
    }

    /// Refuses a text that is too long before it is filled in, and a secret without a place.
    ///
    /// # Errors
    /// Says which of the two.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.text.len() > USER_DATA_MAX {
            return Err("user data has at most 32 KiB");
        }
        let has_place = |name: &String| !name.is_empty() && self.text.contains(&place(name));
        if self.secrets.keys().all(has_place) {
            Ok(())
        } else {
            Err("a secret has no place in the user data")
        }
    }

    /// Fills the secrets in, right before it is sent. What a secret holds is never filled in again.
    pub(super) async fn filled(&self, cx: &StepContext) -> Result<Secret, StepError> {
        let booted = cx.now().plus(BOOT_MARGIN);
        if self.ends.values().any(|end| *end < booted) {
            return Err(StepError::permanent(FILL)
                .with_code("secret_expired")
                .with_message("a secret ends before the first boot is over")
                .with_hint("redrive the run once it is rolled back: it makes another one"));
        }
        let mut opened = BTreeMap::new();
        for (name, reference) in &self.secrets {
            opened.insert(place(name), cx.reveal(reference).await?);
        }
        let (mut out, mut rest) = (String::with_capacity(self.text.len()), self.text.as_str());
        while let Some(at) = rest.find("<<") {
            let (before, from) = rest.split_at(at);
            out.push_str(before);
            match opened.iter().find(|(place, _)| from.starts_with(place.as_str())) {
                Some((place, secret)) => {
                    out.push_str(secret.expose());
                    rest = from.strip_prefix(place.as_str()).unwrap_or_default();
                }
                // One character: the place may begin with the next one.
                None => {
                    out.push('<');
                    rest = from.strip_prefix('<').unwrap_or_default();
                }
            }
        }
        out.push_str(rest);
        if out.len() > USER_DATA_MAX {
            return Err(StepError::permanent(FILL)
                .with_code("invalid_spec")
                .with_message("filled in, user data has at most 32 KiB"));
        }
        Ok(Secret::new(out))
    }
}

fn place(name: &str) -> String {
    format!("<<{name}>>")
}
