//! A server made anew from an image: same id, same addresses, nothing of its disk.

use std::time::Duration;

use provision_core::{
    ExternalId, Facts, Found, Identity, Intent, Owned, Readiness, Resource, StepContext, StepError,
    Timing,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{broken, not_yet, number, server_of, timing, vanished};
use crate::{
    hetzner::{
        Hetzner,
        error::failed_action,
        model::{Action, ActionStatus, ServerShown, ServerStatus},
    },
    http::parse_rfc3339,
};

const REBUILD: &str = "rebuild server";
const COMMAND: &str = "rebuild_server";
/// How much earlier than our intent an action of ours may claim to have begun. Little: taking an
/// earlier rebuild for ours would leave this one out, and a repeated one only takes time.
const CLOCK_SLACK: Duration = Duration::from_secs(5);

/// A server that is to be made anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RebuildSpec {
    /// The server.
    pub server: u64,
    /// Image by name, such as `debian-13`, or by id.
    pub image: String,
}

impl RebuildSpec {
    /// Wants a server made anew from an image.
    #[must_use]
    pub fn new(server: u64, image: impl Into<String>) -> Self {
        Self { server, image: image.into() }
    }
}

/// A server that was made anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Rebuilt {
    /// The server.
    pub server: u64,
}

/// Makes a server anew from an image. Nothing brings its disk back: undoing leaves it as it is.
///
/// A password that the provider draws meanwhile is not read.
#[derive(Debug, Clone)]
pub struct Rebuild {
    hetzner: Hetzner,
}

impl Rebuild {
    /// Works through `hetzner`.
    #[must_use]
    pub fn new(hetzner: &Hetzner) -> Self {
        Self { hetzner: hetzner.clone() }
    }
}

impl Resource for Rebuild {
    const KIND: &'static str = "hetzner.rebuild";
    type Spec = RebuildSpec;
    type Output = Rebuilt;

    fn identity(&self, _: &RebuildSpec) -> Identity {
        Identity::Label
    }

    async fn find(&self, cx: &StepContext, spec: &RebuildSpec) -> Result<Found, StepError> {
        // Before an intent nothing of this generation can be there.
        let Some(intent) = &cx.memory().intent else { return Ok(Found::Absent) };
        let actions = self.hetzner.server_actions(cx, spec.server).await?;
        let ours = |action: &&Action| {
            let started = action.started.as_deref().and_then(parse_rfc3339);
            action.command == COMMAND && started.is_some_and(|at| at.plus(CLOCK_SLACK) >= intent.at)
        };
        let found = actions.iter().find(ours);
        Ok(found.map_or(Found::Absent, |action| Found::Ours(id(spec.server, action.id))))
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &RebuildSpec,
        _: &Intent,
    ) -> Result<ExternalId, StepError> {
        let body = json!({ "image": spec.image });
        let act = (REBUILD, "rebuild");
        let taken = self.hetzner.act::<ServerShown>(cx, act, spec.server, Some(&body)).await?;
        let taken = taken.ok_or_else(|| StepError::permanent(REBUILD).with_code("not_found"))?;
        let action =
            taken.action.ok_or_else(|| StepError::unknown(REBUILD).with_code("garbage"))?;
        let id = id(spec.server, action.id);
        cx.note(&id).await?;
        Ok(id)
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &RebuildSpec,
        id: &ExternalId,
    ) -> Result<Readiness<Rebuilt>, StepError> {
        let Some(server) = self.hetzner.by_id::<ServerShown>(cx, spec.server).await? else {
            return Ok(vanished(cx));
        };
        let (_, action) = server_of(REBUILD, id)?;
        let action = number(REBUILD, action)?;
        let actions = self.hetzner.server_actions(cx, spec.server).await?;
        // One that is not among the latest any more has ended long ago.
        let own = actions.iter().find(|known| known.id == action);
        match own.map(|own| (own.status, own)) {
            Some((ActionStatus::Error, own)) => return Ok(broken(failed_action(own))),
            Some((ActionStatus::Running, _)) => return Ok(not_yet(cx)),
            Some((ActionStatus::Success, _)) | None => {}
        }
        let stands = matches!(server.status, ServerStatus::Running | ServerStatus::Off);
        Ok(match stands && !server.locked {
            true => Readiness::Ready(Rebuilt { server: spec.server }),
            false => not_yet(cx),
        })
    }

    /// Nothing: what was on the disk is gone, and the server belongs to whoever made it.
    async fn delete(
        &self,
        _: &StepContext,
        _: &RebuildSpec,
        _: &ExternalId,
    ) -> Result<(), StepError> {
        Ok(())
    }

    /// Always empty: a rebuild leaves nothing of its own.
    async fn list_owned(&self, _: &StepContext) -> Result<Vec<Owned>, StepError> {
        Ok(Vec::new())
    }

    fn timing(&self) -> Timing {
        timing()
    }

    fn account(&self) -> &str {
        self.hetzner.account()
    }

    fn facts(&self, spec: &RebuildSpec) -> Facts {
        Facts { template: Some(spec.image.clone()), ..Facts::default() }
    }
}

fn id(server: u64, action: u64) -> ExternalId {
    ExternalId::new(format!("{server}/{action}"))
}
