//! The activation of a workflow: a resource of its own, so that a crash between creating and
//! activating finds one workflow, and activates that one.

use std::time::Duration;

use provision_core::{
    ExternalId, Facts, Foreign, Found, Identity, Intent, Listing, Readiness, Resource, StepContext,
    StepError, Timing,
};
use serde::{Deserialize, Serialize};

use super::{
    may_lag,
    workflow::{Webhook, WorkflowMade},
};
use crate::{
    adopted::adopted_incomplete,
    n8n::{LISTING_LAG, N8n, error::Registered},
};

/// A workflow that is to be active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ActivationSpec {
    /// The workflow.
    pub workflow: WorkflowMade,
}

impl ActivationSpec {
    /// Wants this workflow to be active.
    #[must_use]
    pub fn new(workflow: WorkflowMade) -> Self {
        Self { workflow }
    }
}

/// A workflow that is active and whose webhooks are registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Activated {
    /// The workflow.
    pub workflow_id: String,
    /// Where its first webhook is called, if it has one.
    pub webhook_url: Option<String>,
}

/// Activates a workflow and proves that its webhooks are there; undoing deactivates it.
#[derive(Debug, Clone)]
pub struct WorkflowActivation {
    n8n: N8n,
}

impl WorkflowActivation {
    /// Works through `n8n`.
    #[must_use]
    pub fn new(n8n: &N8n) -> Self {
        Self { n8n: n8n.clone() }
    }
}

impl N8n {
    /// The first of a workflow's webhooks that is not there.
    pub(super) async fn missing<'a>(
        &self,
        cx: &StepContext,
        hooks: &'a [Webhook],
    ) -> Result<Option<&'a Webhook>, StepError> {
        for hook in hooks {
            let segments: Vec<&str> = hook
                .path
                .split('/')
                .map(|part| if part.starts_with(':') { "probe" } else { part })
                .collect();
            match self.probe(cx, &hook.method, &segments).await? {
                Registered::Yes => {}
                Registered::No => return Ok(Some(hook)),
                Registered::Unclear => {
                    return Err(StepError::retry("probe webhook")
                        .with_code("probe_unclear")
                        .with_message("the answer does not say whether the webhook is there"));
                }
            }
        }
        Ok(None)
    }
}

impl Resource for WorkflowActivation {
    const KIND: &'static str = "n8n.activation";
    type Spec = ActivationSpec;
    type Output = Activated;

    fn identity(&self, spec: &ActivationSpec) -> Identity {
        // Activating twice is one activation.
        Identity::Named(spec.workflow.id.clone())
    }

    async fn find(&self, cx: &StepContext, spec: &ActivationSpec) -> Result<Found, StepError> {
        Ok(match self.n8n.workflow(cx, &spec.workflow.id).await? {
            // There is no place for a mark on "active".
            Some(workflow) if workflow.active => Found::Foreign(Foreign::unmarkable(workflow.id)),
            Some(_) | None => Found::Absent,
        })
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &ActivationSpec,
        _: &Intent,
    ) -> Result<ExternalId, StepError> {
        let id = ExternalId::new(self.n8n.activate(cx, &spec.workflow.id).await?.id);
        cx.note(&id).await?;
        Ok(id)
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &ActivationSpec,
        id: &ExternalId,
    ) -> Result<Readiness<Activated>, StepError> {
        let active = self.n8n.workflow(cx, id.as_str()).await?.is_some_and(|w| w.active);
        if !active {
            return match may_lag(cx) {
                true => Ok(Readiness::NotYet { again_in: Duration::from_secs(1) }),
                false if cx.is_adopted(id) => {
                    Err(adopted_incomplete("look at the workflow", "it is not active"))
                }
                false => Ok(Readiness::Broken { code: "not_active".to_owned() }),
            };
        }
        let hooks = &spec.workflow.webhooks;
        if let Some(hook) = self.n8n.missing(cx, hooks).await? {
            if cx.is_adopted(id) {
                let what = format!("the webhook `{}` is not there", hook.node);
                return Err(adopted_incomplete("probe webhook", what));
            }
            // Releases 2.29 to 2.31 answer 200 and register nothing until it is done again
            // (n8n issues 34038, 34163 and 35664).
            self.n8n.deactivate(cx, id.as_str()).await?;
            self.n8n.activate(cx, id.as_str()).await?;
            if let Some(hook) = self.n8n.missing(cx, hooks).await? {
                return Err(StepError::permanent("probe webhook")
                    .with_code("webhook_not_registered")
                    .with_message(format!("activated twice, and `{}` is not there", hook.node))
                    .broken());
            }
        }
        Ok(Readiness::Ready(Activated {
            workflow_id: id.as_str().to_owned(),
            webhook_url: spec.workflow.webhook_url.clone(),
        }))
    }

    async fn delete(
        &self,
        cx: &StepContext,
        _: &ActivationSpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        self.n8n.deactivate(cx, id.as_str()).await.map(drop)
    }

    /// An activation has no place for a mark. It goes with its workflow, which has.
    async fn list_owned(&self, _: &StepContext) -> Result<Listing, StepError> {
        Ok(Listing::Unmarked)
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

    fn facts(&self, spec: &ActivationSpec) -> Facts {
        Facts { name: Some(spec.workflow.id.clone()), ..Facts::default() }
    }
}
