//! A key with which one machine joins the tailnet, minted for this run.

use std::time::Duration;

use provision_core::{
    Candidate, ExternalId, Facts, Found, Identity, Intent, Listing, Owned, Readiness, Resource,
    Secret, SecretRef, StepContext, StepError, Timestamp, Timing,
};
use serde::{Deserialize, Serialize};

use super::{describes, description, hostname, is_description, objection};
use crate::{
    http::parse_rfc3339,
    tailscale::{
        KEY_LIFE, KEY_LIFE_MAX, KEY_LIFE_MIN, LATE_WINDOW, LISTING_LAG, Tailscale,
        error::CREATE_KEY,
        model::{Capabilities, CreateDevice, DeviceCapabilities, ListedKey, NewKey},
    },
};

/// Name of the sealed key within the step.
const KEY: &str = "key";

/// A wanted key: one machine may join with it, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KeySpec {
    /// Name of the machine: at most 49 lower-case letters, digits and inner hyphens.
    pub name: String,
    /// Tags of the device, each beginning with `tag:`; at least one.
    pub tags: Vec<String>,
    /// Whether the device is removed by the provider some time after it goes offline. Default
    /// false: a long-lived machine would lose its address with every outage.
    pub ephemeral: bool,
    /// Whether the device is approved as it joins. Default true.
    pub preauthorized: bool,
    /// How long a machine may join with it, in seconds. Default 3,600; 60 to 7,776,000.
    pub life_seconds: u64,
}

impl KeySpec {
    /// Wants a key for the machine of that name.
    #[must_use]
    pub fn new(name: impl Into<String>, tags: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            name: name.into(),
            tags: tags.into_iter().map(Into::into).collect(),
            ephemeral: false,
            preauthorized: true,
            life_seconds: KEY_LIFE.as_secs(),
        }
    }

    /// Lets the provider remove the device some time after it goes offline.
    #[must_use]
    pub fn ephemeral(mut self) -> Self {
        self.ephemeral = true;
        self
    }

    /// Lets the device wait for a person's approval, where the tailnet asks for it.
    #[must_use]
    pub fn needing_approval(mut self) -> Self {
        self.preauthorized = false;
        self
    }

    /// Sets how long a machine may join with it.
    #[must_use]
    pub fn living_for(mut self, life: Duration) -> Self {
        self.life_seconds = life.as_secs();
        self
    }

    fn objection(&self) -> Option<&'static str> {
        let life = KEY_LIFE_MIN.as_secs()..=KEY_LIFE_MAX.as_secs();
        if self.tags.is_empty() {
            return Some("a key of an OAuth client needs a tag");
        }
        if !self.tags.iter().all(|tag| tag.len() > 4 && tag.starts_with("tag:")) {
            return Some("a tag does not begin with `tag:`");
        }
        if !life.contains(&self.life_seconds) {
            return Some("the key lives shorter than a minute or longer than 90 days");
        }
        objection(&self.name)
    }
}

/// A key that was minted, and that no machine has used so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KeyMade {
    /// The provider's id of the key.
    pub id: String,
    /// Where the key is kept, sealed. [`KeyMade::open`] looks at its end before it opens it.
    pub key: SecretRef,
    /// The host name that the machine has to join under (`tailscale up --hostname=..`): its name
    /// and a token of this run, by which the device is known as ours.
    pub hostname: String,
    /// The name it was ordered under.
    pub name: String,
    /// Tags that the device gets.
    pub tags: Vec<String>,
    /// When it can be used no more.
    pub expires_at: Timestamp,
}

impl KeyMade {
    /// Opens the key, for the call that hands it to the machine.
    ///
    /// # Errors
    /// It is past its end (permanent, `enrolment_key_expired`: a new one needs a new generation of
    /// its step, as a redrive of the rolled-back run makes), or cannot be opened.
    pub async fn open(&self, cx: &StepContext) -> Result<Secret, StepError> {
        if cx.now() >= self.expires_at {
            return Err(expired("open auth key"));
        }
        cx.reveal(&self.key).await
    }
}

/// What is told where a key came too late to be used.
pub(crate) fn expired(operation: &'static str) -> StepError {
    StepError::permanent(operation)
        .with_code("enrolment_key_expired")
        .with_message("the key ended before a machine joined with it")
        .with_hint("redrive the run once it is rolled back: it mints another key")
}

/// Mints keys. A key whose value was lost is revoked and replaced; its undo revokes the key and
/// removes what joined with it.
#[derive(Debug, Clone)]
pub struct TailscaleKey {
    tailscale: Tailscale,
}

impl TailscaleKey {
    /// Works through `tailscale`.
    #[must_use]
    pub fn new(tailscale: &Tailscale) -> Self {
        Self { tailscale: tailscale.clone() }
    }

    /// The keys with this step's mark with which a machine may still join.
    async fn ours(&self, cx: &StepContext) -> Result<Vec<ListedKey>, StepError> {
        let mark = cx.mark();
        let mut keys = self.tailscale.keys(cx).await?;
        keys.retain(|key| {
            let described = key.description.as_deref().is_some_and(|text| describes(&mark, text));
            described && key.is_live_auth_key()
        });
        Ok(keys)
    }
}

impl Resource for TailscaleKey {
    const KIND: &'static str = "tailscale.auth_key";
    type Spec = KeySpec;
    type Output = KeyMade;

    fn identity(&self, _: &KeySpec) -> Identity {
        Identity::Label
    }

    async fn find(&self, cx: &StepContext, _: &KeySpec) -> Result<Found, StepError> {
        let mut ours = self.ours(cx).await?;
        Ok(match (ours.pop(), ours.is_empty()) {
            (None, _) => Found::Absent,
            (Some(key), true) => Found::Ours(key.id.into()),
            (Some(last), false) => {
                ours.push(last);
                let candidate = |key: ListedKey| Candidate {
                    created_at: key.created.as_deref().and_then(parse_rfc3339),
                    id: ExternalId::new(key.id),
                    marked: true,
                };
                Found::Many(ours.into_iter().map(candidate).collect())
            }
        })
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &KeySpec,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        if let Some(why) = spec.objection() {
            return Err(StepError::permanent(CREATE_KEY)
                .with_code("invalid_spec")
                .with_message(why));
        }
        let create = CreateDevice {
            reusable: false,
            ephemeral: spec.ephemeral,
            preauthorized: spec.preauthorized,
            tags: &spec.tags,
        };
        let wanted = NewKey {
            key_type: "auth",
            description: &description(intent.mark(), &spec.name),
            expiry_seconds: spec.life_seconds,
            capabilities: Capabilities { devices: DeviceCapabilities { create } },
        };
        let made = self.tailscale.create_key(cx, &wanted).await?;
        let (id, key) = (ExternalId::new(made.id), Secret::new(made.key));
        // The id first: what is sealed then belongs to what is noted, and to no other key.
        cx.note(&id).await?;
        cx.seal(KEY, || key).await?;
        Ok(id)
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &KeySpec,
        id: &ExternalId,
    ) -> Result<Readiness<KeyMade>, StepError> {
        let key = cx.sealed(KEY);
        match cx.reveal(&key).await {
            Ok(_) => {}
            // Shown once, to an attempt that could not keep it: a retry revokes it first.
            Err(error) if error.code() == "secret_missing" => {
                return Ok(Readiness::Broken { code: "key_lost".to_owned() });
            }
            Err(error) => return Err(error),
        }
        let (mine, others): (Vec<_>, Vec<_>) =
            self.ours(cx).await?.into_iter().partition(|key| key.id == id.as_str());
        for other in others {
            // Made by a repeated request; nobody knows its value.
            self.tailscale.delete_key(cx, &other.id).await?;
        }
        let Some(shown) = mine.into_iter().next() else {
            return Ok(if may_lag(cx) {
                Readiness::NotYet { again_in: Duration::from_secs(1) }
            } else {
                Readiness::Broken { code: "vanished".to_owned() }
            });
        };
        let expires_at = shown.expires.as_deref().and_then(parse_rfc3339);
        let expires_at = expires_at.unwrap_or_else(|| {
            let asked = cx.memory().called_at.unwrap_or_else(|| cx.now());
            asked.plus(Duration::from_secs(spec.life_seconds))
        });
        if expires_at <= cx.now() {
            return Ok(Readiness::Broken { code: "expired".to_owned() });
        }
        Ok(Readiness::Ready(KeyMade {
            id: shown.id,
            key,
            hostname: hostname(&cx.mark(), &spec.name),
            name: spec.name.clone(),
            tags: spec.tags.clone(),
            expires_at,
        }))
    }

    /// Revokes the key, then removes what joined with it: a machine may have joined although no
    /// later step came to know of it.
    async fn delete(
        &self,
        cx: &StepContext,
        spec: &KeySpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        self.tailscale.delete_key(cx, id.as_str()).await?;
        // S11: only for the key that was handed out. Another one, such as a late duplicate that
        // the watch finds, says nothing about the device that lives.
        if cx.noted().contains(id) {
            let joined =
                self.tailscale.devices(cx, Some(&hostname(&cx.mark(), &spec.name))).await?;
            for device in joined {
                self.tailscale.delete_device(cx, &device.node_id).await?;
            }
        }
        Ok(())
    }

    /// Lists by description; there is no place for the whole mark. Its token says whether the mark
    /// is that of the step that asks, and nothing of others.
    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        let (keys, mark) = (self.tailscale.keys(cx).await?, cx.mark());
        let owned = keys.into_iter().filter(ListedKey::is_live_auth_key).filter_map(|key| {
            let text = key.description.filter(|text| is_description(text))?;
            let created = key.created.as_deref().and_then(parse_rfc3339);
            let ours = describes(&mark, &text).then(|| mark.clone());
            Some(Owned::new(key.id).with_name(text).with_mark(ours).with_created_at(created))
        });
        Ok(owned.collect())
    }

    fn timing(&self) -> Timing {
        Timing {
            late_window: LATE_WINDOW,
            listing_lag: LISTING_LAG,
            ready_within: Duration::from_secs(60),
            ..Timing::default()
        }
    }

    fn account(&self) -> &str {
        self.tailscale.account()
    }

    fn facts(&self, spec: &KeySpec) -> Facts {
        Facts { name: Some(spec.name.clone()), ..Facts::default() }
    }
}

/// Whether polling began so recently that a look may still be behind the create.
fn may_lag(cx: &StepContext) -> bool {
    cx.memory().polling_since.is_none_or(|since| cx.now().since(since) < LISTING_LAG)
}
