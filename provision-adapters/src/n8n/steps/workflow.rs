//! A workflow made from a template. It comes into the world inactive.

use std::{collections::BTreeMap, time::Duration};

use provision_core::{
    ExternalId, Facts, Found, Identity, Intent, Listing, Owned, OwnerMark, Readiness, Resource,
    StepContext, StepError, Timing,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    any_name_token, credential::CredentialMade, found, history::History, may_lag, moment,
    name_token, template::WEBHOOK,
};
use crate::n8n::{
    LISTING_LAG, N8n, NAME_MAX, Node, Template, TemplateError,
    model::{CredentialUse, NewNode, NewWorkflow, NodeShown, WorkflowShown},
};

const CREATE: &str = "create workflow";

/// A wanted workflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkflowSpec {
    /// Name for people; a token is appended.
    pub name: String,
    /// What it is made from.
    pub template: Template,
    /// Values for the template's `<<key>>`. Not secrets: they are journaled.
    pub values: BTreeMap<String, String>,
    /// Credentials for the nodes that need one, one per type.
    pub credentials: Vec<CredentialMade>,
}

impl WorkflowSpec {
    /// Wants a workflow of this name.
    #[must_use]
    pub fn new(name: impl Into<String>, template: Template) -> Self {
        Self { name: name.into(), template, values: BTreeMap::new(), credentials: Vec::new() }
    }

    /// The same wish from another template, or another version of it.
    #[must_use]
    pub fn with_template(mut self, template: Template) -> Self {
        self.template = template;
        self
    }

    /// Gives a value for `<<key>>`.
    #[must_use]
    pub fn with_value(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.values.insert(key.into(), value.into());
        self
    }

    /// Gives a credential to the nodes that need one of its type.
    #[must_use]
    pub fn with_credential(mut self, credential: CredentialMade) -> Self {
        self.credentials.push(credential);
        self
    }

    /// The workflow as it is sent: filled in, with credentials, webhook ids and its history.
    pub(super) fn filled(
        &self,
        name: String,
        history: &History,
    ) -> Result<NewWorkflow<'_>, TemplateError> {
        let Template { connections, settings, .. } = &self.template;
        Ok(NewWorkflow { name, nodes: self.nodes(history)?, connections, settings })
    }

    fn nodes(&self, history: &History) -> Result<Vec<NewNode>, TemplateError> {
        self.template.check()?;
        let nodes = self.template.filled(&self.values)?;
        let place = nodes.iter().position(|node| node.kind == WEBHOOK).unwrap_or(0);
        let (mark, note) = (history.maker(), history.to_string());
        let sent = |(at, node): (usize, Node)| {
            if node.kind == WEBHOOK && !has_plain_path(&node) {
                return Err(TemplateError::Path(node.name));
            }
            let credentials = self.credentials_of(&node)?;
            Ok(NewNode {
                id: node_id(mark, "node", &node.name),
                webhook_id: (node.kind == WEBHOOK).then(|| node_id(mark, "webhook", &node.name)),
                notes: (at == place).then(|| note.clone()),
                name: node.name,
                kind: node.kind,
                type_version: node.type_version,
                position: node.position,
                parameters: node.parameters,
                credentials,
            })
        };
        nodes.into_iter().enumerate().map(sent).collect()
    }

    fn credentials_of(
        &self,
        node: &Node,
    ) -> Result<BTreeMap<String, CredentialUse>, TemplateError> {
        let mut uses = BTreeMap::new();
        for kind in &node.needs {
            let given = self.credentials.iter().find(|credential| credential.kind == *kind);
            let given = given.ok_or_else(|| TemplateError::Credential(kind.clone()))?;
            let (id, name) = (given.id.clone(), given.name.clone());
            uses.insert(kind.clone(), CredentialUse { id, name });
        }
        Ok(uses)
    }
}

/// One webhook of a workflow. It answers while the workflow is active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Webhook {
    /// Name of its node.
    pub node: String,
    /// Method it answers to.
    pub method: String,
    /// Path below `/webhook`, as it is called; parameters are written `:name`.
    pub path: String,
    /// Where it is called.
    pub url: String,
}

/// A workflow that exists, as its template says, and is not active yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkflowMade {
    /// The instance's id.
    pub id: String,
    /// Its whole name.
    pub name: String,
    /// Template and version it was made from.
    pub template: String,
    /// Where its first webhook is called, if it has one.
    pub webhook_url: Option<String>,
    /// All its webhooks.
    pub webhooks: Vec<Webhook>,
}

/// Makes a workflow from a template. Activating it is [`crate::n8n::WorkflowActivation`]'s.
#[derive(Debug, Clone)]
pub struct Workflow {
    n8n: N8n,
}

impl Workflow {
    /// Works through `n8n`.
    #[must_use]
    pub fn new(n8n: &N8n) -> Self {
        Self { n8n: n8n.clone() }
    }
}

impl Resource for Workflow {
    const KIND: &'static str = "n8n.workflow";
    type Spec = WorkflowSpec;
    type Output = WorkflowMade;

    fn identity(&self, _: &WorkflowSpec) -> Identity {
        Identity::Label
    }

    async fn find(&self, cx: &StepContext, _: &WorkflowSpec) -> Result<Found, StepError> {
        let token = name_token(&cx.mark());
        // The filter matches any part of a name; only its end counts.
        let listed = self.n8n.workflows(cx, &token).await?;
        let ours = listed.into_iter().filter(|w| w.name.ends_with(&token));
        Ok(found(ours.map(|w| (w.id, moment(w.created_at.as_deref()))).collect()))
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &WorkflowSpec,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        let name = format!("{} {}", spec.name, name_token(intent.mark()));
        if name.chars().count() > NAME_MAX {
            let why = format!("name and token have more than {NAME_MAX} characters");
            return Err(invalid(CREATE, why));
        }
        let history = History::begun(intent.mark(), spec.template.label());
        let wanted = spec.filled(name, &history).map_err(|e| invalid(CREATE, e.to_string()))?;
        let id = ExternalId::new(self.n8n.create_workflow(cx, &wanted).await?.id);
        cx.note(&id).await?;
        Ok(id)
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &WorkflowSpec,
        id: &ExternalId,
    ) -> Result<Readiness<WorkflowMade>, StepError> {
        let Some(shown) = self.n8n.workflow(cx, id.as_str()).await? else {
            return Ok(if may_lag(cx) {
                Readiness::NotYet { again_in: Duration::from_secs(1) }
            } else {
                Readiness::Broken { code: "vanished".to_owned() }
            });
        };
        Ok(made_of(&self.n8n, shown, spec))
    }

    async fn delete(
        &self,
        cx: &StepContext,
        _: &WorkflowSpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        self.n8n.delete_workflow(cx, id.as_str()).await
    }

    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        let listed = self.n8n.workflows(cx, any_name_token()).await?;
        let ours = listed.into_iter().filter(|w| w.name.contains(any_name_token()));
        let owned = ours.map(|w| {
            let mark = History::of(&w).map(|history| history.maker().clone());
            let created = moment(w.created_at.as_deref());
            Owned::new(w.id).with_name(w.name).with_mark(mark).with_created_at(created)
        });
        Ok(owned.collect())
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

    fn facts(&self, spec: &WorkflowSpec) -> Facts {
        Facts { template: Some(spec.template.label()), ..Facts::default() }
    }
}

/// What the instance shows, if it is what the spec wants.
pub(super) fn made_of(
    n8n: &N8n,
    shown: WorkflowShown,
    spec: &WorkflowSpec,
) -> Readiness<WorkflowMade> {
    if shown.nodes.len() != spec.template.nodes.len() {
        return Readiness::Broken { code: "nodes_differ".to_owned() };
    }
    let hooks = shown.nodes.iter().filter(|node| node.kind == WEBHOOK);
    let hooks: Option<Vec<Webhook>> =
        hooks.map(|node| webhook(&n8n.webhook_root(), node)).collect();
    // Without its id a webhook activates with 200 and is never reachable (n8n 2.8.4).
    let Some(webhooks) = hooks else {
        return Readiness::Broken { code: "webhook_id_missing".to_owned() };
    };
    Readiness::Ready(WorkflowMade {
        id: shown.id,
        name: shown.name,
        template: spec.template.label(),
        webhook_url: webhooks.first().map(|hook| hook.url.clone()),
        webhooks,
    })
}

pub(super) fn invalid(operation: &'static str, why: String) -> StepError {
    StepError::permanent(operation).with_code("invalid_spec").with_message(why)
}

/// The same id on every attempt. The API draws none, and without one a webhook has no address.
fn node_id(mark: &OwnerMark, what: &str, node: &str) -> String {
    let name = format!("{}\u{0}{what}\u{0}{node}", mark.step());
    Uuid::new_v5(mark.run().as_uuid(), name.as_bytes()).to_string()
}

/// Whether the path needs no encoding and names no other place.
fn has_plain_path(node: &Node) -> bool {
    let path = node.parameters.get("path").and_then(|p| p.as_str()).unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    path.len() <= 200
        && path
            .split('/')
            .all(|part| !part.is_empty() && !matches!(part, "." | "..") && part.chars().all(plain))
}

/// Reads where a webhook is called; a path with parameters is called below the webhook's id.
fn webhook(root: &str, node: &NodeShown) -> Option<Webhook> {
    let text = |name: &str| node.parameters.get(name).and_then(|value| value.as_str());
    let id = node.webhook_id.as_deref().filter(|id| !id.is_empty())?;
    let path = text("path")?;
    let path = if path.split('/').any(|part| part.starts_with(':')) {
        format!("{id}/{path}")
    } else {
        path.to_owned()
    };
    Some(Webhook {
        node: node.name.clone(),
        method: text("httpMethod").unwrap_or("GET").to_owned(),
        url: format!("{root}/{path}"),
        path,
    })
}
