//! A credential that nodes of workflows use, such as the header a webhook demands.

use std::{collections::BTreeMap, time::Duration};

use provision_core::{
    ExternalId, Found, Identity, Intent, Listing, Owned, Readiness, Resource, Secret, SecretRef,
    SecretSpec, StepContext, StepError, Timing,
};
use serde::{Deserialize, Serialize};

use super::{any_name_token, found, may_lag, moment, name_token};
use crate::n8n::{LISTING_LAG, N8n, NAME_MAX, model::NewCredential};

/// Name of the drawn value within the step.
const GENERATED: &str = "value";

/// One field of a credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialValue {
    /// Not a secret: it is journaled.
    Plain(String),
    /// Opened at the call, never journaled.
    Secret(SecretRef),
    /// Drawn and sealed with the intent; the output has its reference. At most one field.
    Generated,
}

/// A wanted credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CredentialSpec {
    /// Name for people; a token is appended.
    pub name: String,
    /// Type, such as `httpHeaderAuth`.
    pub kind: String,
    /// Fields as the type's schema wants them.
    pub data: BTreeMap<String, CredentialValue>,
}

impl CredentialSpec {
    /// Wants a credential of a type, without fields so far.
    #[must_use]
    pub fn new(name: impl Into<String>, kind: impl Into<String>) -> Self {
        Self { name: name.into(), kind: kind.into(), data: BTreeMap::new() }
    }

    /// Wants a header and its value, as webhooks demand it.
    #[must_use]
    pub fn header(
        name: impl Into<String>,
        header: impl Into<String>,
        value: CredentialValue,
    ) -> Self {
        Self::new(name, "httpHeaderAuth")
            .with("name", CredentialValue::Plain(header.into()))
            .with("value", value)
    }

    /// Sets a field.
    #[must_use]
    pub fn with(mut self, field: impl Into<String>, value: CredentialValue) -> Self {
        self.data.insert(field.into(), value);
        self
    }
}

/// A credential that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CredentialMade {
    /// The instance's id.
    pub id: String,
    /// Its whole name.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// Where the drawn value is kept, if one was drawn.
    pub generated: Option<SecretRef>,
}

/// Makes a credential. Its data can never be read back; its name carries this run's token.
#[derive(Debug, Clone)]
pub struct Credential {
    n8n: N8n,
}

impl Credential {
    /// Works through `n8n`.
    #[must_use]
    pub fn new(n8n: &N8n) -> Self {
        Self { n8n: n8n.clone() }
    }
}

impl Resource for Credential {
    const KIND: &'static str = "n8n.credential";
    type Spec = CredentialSpec;
    type Output = CredentialMade;

    fn identity(&self, _: &CredentialSpec) -> Identity {
        Identity::Label
    }

    async fn find(&self, cx: &StepContext, _: &CredentialSpec) -> Result<Found, StepError> {
        let token = name_token(&cx.mark());
        let all = self.n8n.credentials(cx).await?;
        let ours = all.into_iter().filter(|c| c.name.ends_with(&token));
        Ok(found(ours.map(|c| (c.id, moment(c.created_at.as_deref()))).collect()))
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &CredentialSpec,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        let name = format!("{} {}", spec.name, name_token(intent.mark()));
        if name.chars().count() > NAME_MAX {
            return Err(StepError::permanent("create credential")
                .with_code("invalid_spec")
                .with_message(format!("name and token have more than {NAME_MAX} characters")));
        }
        let mut opened: BTreeMap<&str, Secret> = BTreeMap::new();
        for (field, value) in &spec.data {
            let value = match value {
                CredentialValue::Plain(text) => Secret::new(text.as_str()),
                CredentialValue::Secret(reference) => cx.reveal(reference).await?,
                CredentialValue::Generated => {
                    intent.secret(GENERATED).cloned().ok_or_else(|| {
                        StepError::permanent("create credential").with_code("no_drawn_value")
                    })?
                }
            };
            opened.insert(field, value);
        }
        let data = opened.iter().map(|(field, value)| (*field, value.expose())).collect();
        let wanted = NewCredential { name: &name, kind: &spec.kind, data };
        let id = ExternalId::new(self.n8n.create_credential(cx, &wanted).await?.id);
        cx.note(&id).await?;
        Ok(id)
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &CredentialSpec,
        id: &ExternalId,
    ) -> Result<Readiness<CredentialMade>, StepError> {
        // One credential cannot be asked for on older releases, so it is looked up in the listing.
        let all = self.n8n.credentials(cx).await?;
        let Some(shown) = all.into_iter().find(|c| c.id == id.as_str()) else {
            return Ok(if may_lag(cx) {
                Readiness::NotYet { again_in: Duration::from_secs(1) }
            } else {
                Readiness::Broken { code: "vanished".to_owned() }
            });
        };
        let drawn = spec.data.values().any(|value| *value == CredentialValue::Generated);
        Ok(Readiness::Ready(CredentialMade {
            id: shown.id,
            name: shown.name,
            kind: shown.kind,
            generated: drawn.then(|| cx.sealed(GENERATED)),
        }))
    }

    async fn delete(
        &self,
        cx: &StepContext,
        _: &CredentialSpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        self.n8n.delete_credential(cx, id.as_str()).await
    }

    /// Lists by name; there is no place for the whole mark. Its token says whether the mark is
    /// that of the step that asks, and nothing of others.
    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        let (mark, token) = (cx.mark(), name_token(&cx.mark()));
        let all = self.n8n.credentials(cx).await?;
        let ours = all.into_iter().filter(|c| c.name.contains(any_name_token()));
        let owned = ours.map(|c| {
            let created = moment(c.created_at.as_deref());
            let own = c.name.ends_with(&token).then(|| mark.clone());
            Owned::new(c.id).with_name(c.name).with_mark(own).with_created_at(created)
        });
        Ok(owned.collect())
    }

    fn secrets(&self, spec: &CredentialSpec) -> Vec<SecretSpec> {
        let drawn = spec.data.values().any(|value| *value == CredentialValue::Generated);
        if drawn { vec![SecretSpec::password(GENERATED)] } else { Vec::new() }
    }

    fn timing(&self) -> Timing {
        Timing {
            listing_lag: LISTING_LAG,
            ready_within: Duration::from_secs(60),
            ..Timing::default()
        }
    }

    fn account(&self) -> &str {
        self.n8n.account()
    }
}
