//! A server made anew from an image: same id, same addresses, nothing of its disk.

use provision_core::{
    ExternalId, Facts, Found, Identity, Intent, Listing, Readiness, Resource, StepContext,
    StepError, Timing,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{broken, may_lag, not_yet, number, server_of, since_intent, timing, vanished};
use crate::hetzner::{
    Hetzner,
    error::failed_action,
    model::{ActionStatus, ServerShown, ServerStatus},
};

const REBUILD: &str = "rebuild server";
const COMMAND: &str = "rebuild_server";

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
        if cx.memory().intent.is_none() {
            return Ok(Found::Absent);
        }
        // Taking an earlier rebuild for ours would leave this one out; a repeated one only takes
        // time.
        let actions = since_intent(cx, self.hetzner.server_actions(cx, spec.server).await?);
        let found = actions.iter().find(|action| action.command == COMMAND);
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
        let (_, action) = server_of(REBUILD, id)?;
        // First the action, by its id, then what it has done: a listing may be behind it.
        let own = self.hetzner.action(cx, number(REBUILD, action)?).await?;
        match &own {
            Some(own) if own.status == ActionStatus::Error => {
                return Ok(broken(failed_action(own)));
            }
            Some(own) if own.status == ActionStatus::Running => return Ok(not_yet(cx)),
            None if may_lag(cx) => return Ok(not_yet(cx)),
            // One that is not known any more has ended long ago.
            Some(_) | None => {}
        }
        let Some(server) = self.hetzner.by_id::<ServerShown>(cx, spec.server).await? else {
            return Ok(vanished(cx));
        };
        let stands = matches!(server.status, ServerStatus::Running | ServerStatus::Off);
        if !stands || server.locked {
            return Ok(not_yet(cx));
        }
        let other = server.image.is_some_and(|image| !image.is(&spec.image));
        Ok(match other {
            // By somebody else's rebuild, or a look that is behind.
            true if may_lag(cx) => not_yet(cx),
            true => broken("other_image"),
            false => Readiness::Ready(Rebuilt { server: spec.server }),
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

    /// Nothing lists rebuilds. What the watch finds may be a later one of somebody else's: deleting
    /// it takes nothing away.
    async fn list_owned(&self, _: &StepContext) -> Result<Listing, StepError> {
        Ok(Listing::Unlisted)
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
