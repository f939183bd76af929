//! Another version of a template for a workflow that is there: the workflow keeps its id, its
//! webhooks keep their addresses, and an active one stays active.

use std::time::Duration;

use provision_core::{
    Effect, ExternalId, Facts, Found, Identity, Intent, Listing, Owned, OwnerMark, Readiness,
    Resource, StepContext, StepError, Timing, Verdict,
};
use serde::{Deserialize, Serialize};

use super::{
    any_name_token,
    history::History,
    may_lag,
    workflow::{WorkflowMade, WorkflowSpec, invalid, made_of},
};
use crate::n8n::{LISTING_LAG, N8n, model::WorkflowShown};

const OPERATION: &str = "upgrade workflow";

/// A workflow that is to have another version of its template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UpgradeSpec {
    /// The instance's id of the workflow.
    pub workflow_id: String,
    /// What it is made from now; undoing puts this back.
    pub from: WorkflowSpec,
    /// What it is to be made from. The workflow keeps the name that it has.
    pub to: WorkflowSpec,
}

impl UpgradeSpec {
    /// Wants the workflow that was made from `from` to be as `to` says.
    #[must_use]
    pub fn new(workflow_id: impl Into<String>, from: WorkflowSpec, to: WorkflowSpec) -> Self {
        Self { workflow_id: workflow_id.into(), from, to }
    }
}

/// Upgrades a workflow in place; undoing puts the earlier version back.
///
/// The new version carries the mark of the upgrade beside that of the maker, so that a lost answer
/// is found again, and only what this upgrade has written is put back. Nodes of the same name keep
/// their ids. Something that another step has upgraded since is put back by nobody but that step:
/// until then an undo needs a person.
#[derive(Debug, Clone)]
pub struct WorkflowUpgrade {
    n8n: N8n,
}

impl WorkflowUpgrade {
    /// Works through `n8n`.
    #[must_use]
    pub fn new(n8n: &N8n) -> Self {
        Self { n8n: n8n.clone() }
    }

    /// The workflow and its history; `None` when it is gone.
    async fn look(
        &self,
        cx: &StepContext,
        id: &str,
    ) -> Result<Option<(WorkflowShown, Option<History>)>, StepError> {
        let shown = self.n8n.workflow(cx, id).await?;
        Ok(shown.map(|shown| {
            let history = History::of(&shown);
            (shown, history)
        }))
    }

    /// Replaces the whole content.
    async fn write(
        &self,
        cx: &StepContext,
        (shown, history): (WorkflowShown, &History),
        spec: &WorkflowSpec,
    ) -> Result<ExternalId, StepError> {
        let wanted =
            spec.filled(shown.name, history).map_err(|e| invalid(OPERATION, e.to_string()))?;
        let replaced = self.n8n.replace_workflow(cx, &shown.id, &wanted).await?;
        Ok(ExternalId::new(replaced.id))
    }
}

impl Resource for WorkflowUpgrade {
    const KIND: &'static str = "n8n.upgrade";
    type Spec = UpgradeSpec;
    type Output = WorkflowMade;

    fn identity(&self, _: &UpgradeSpec) -> Identity {
        Identity::Label
    }

    async fn find(&self, cx: &StepContext, spec: &UpgradeSpec) -> Result<Found, StepError> {
        let found = self.look(cx, &spec.workflow_id).await?;
        let ours = |history: &History| history.upgrades().any(|mark| *mark == cx.mark());
        Ok(match found {
            Some((shown, Some(history))) if ours(&history) => Found::Ours(shown.id.into()),
            Some(_) | None => Found::Absent,
        })
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &UpgradeSpec,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        spec.from.template.check().map_err(|e| invalid(OPERATION, e.to_string()))?;
        let Some((shown, history)) = self.look(cx, &spec.workflow_id).await? else {
            return Err(refused("vanished", "the workflow is not there".to_owned()));
        };
        let Some(history) = history else {
            return Err(refused("not_ours", "the workflow carries no owner mark".to_owned()));
        };
        let from = spec.from.template.label();
        if history.label() != from {
            // S11: somebody else's change is not written over.
            let what = format!("the workflow is `{}`, and not `{from}`", history.label());
            return Err(refused("other_version", what));
        }
        let history = history.upgraded(intent.mark(), spec.to.template.label());
        let id = self.write(cx, (shown, &history), &spec.to).await?;
        cx.note(&id).await?;
        Ok(id)
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &UpgradeSpec,
        id: &ExternalId,
    ) -> Result<Readiness<WorkflowMade>, StepError> {
        let again = |code: &str| match may_lag(cx) {
            true => Readiness::NotYet { again_in: Duration::from_secs(1) },
            false => Readiness::Broken { code: code.to_owned() },
        };
        let Some((shown, history)) = self.look(cx, id.as_str()).await? else {
            return Ok(again("vanished"));
        };
        if last(history.as_ref()) != Some(&cx.mark()) {
            return Ok(again("other_version"));
        }
        let active = shown.active;
        let made = match made_of(&self.n8n, shown, &spec.to) {
            Readiness::Ready(made) => made,
            other => return Ok(other),
        };
        // An active one is published with its new content at once.
        if active && self.n8n.missing(cx, &made.webhooks).await?.is_some() {
            return Ok(again("webhook_not_registered"));
        }
        Ok(Readiness::Ready(made))
    }

    async fn delete(
        &self,
        cx: &StepContext,
        spec: &UpgradeSpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        let Some((shown, Some(history))) = self.look(cx, id.as_str()).await? else { return Ok(()) };
        if last(Some(&history)) == Some(&cx.mark()) {
            let history = history.put_back();
            return self.write(cx, (shown, &history), &spec.from).await.map(drop);
        }
        if history.upgrades().any(|mark| *mark == cx.mark()) {
            return Err(StepError::new(Effect::None, Verdict::Operator, OPERATION)
                .with_code("upgraded_since")
                .with_message(format!("the workflow is `{}` by now", history.label()))
                .with_hint("undo the later upgrade first"));
        }
        Ok(())
    }

    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        let listed = self.n8n.workflows(cx, any_name_token()).await?;
        let owned = listed.iter().flat_map(|shown| {
            let history = History::of(shown);
            let upgrades: Vec<OwnerMark> =
                history.iter().flat_map(History::upgrades).cloned().collect();
            upgrades.into_iter().map(|mark| {
                Owned::new(shown.id.as_str()).with_name(shown.name.as_str()).with_mark(Some(mark))
            })
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

    fn facts(&self, spec: &UpgradeSpec) -> Facts {
        Facts { template: Some(spec.to.template.label()), ..Facts::default() }
    }
}

/// Who has written what the workflow is now.
fn last(history: Option<&History>) -> Option<&OwnerMark> {
    history.and_then(|history| history.upgrades().next_back())
}

fn refused(code: &'static str, what: String) -> StepError {
    StepError::permanent(OPERATION).with_code(code).with_message(what)
}
