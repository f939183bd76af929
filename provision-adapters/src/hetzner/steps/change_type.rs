//! The type of a server that is there: more or less of everything, while it is off.

use provision_core::{
    ExternalId, Found, Identity, Intent, Listing, Readiness, Resource, StepContext, StepError,
    Timing,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    KEPT, broken, failure, goes_on, may_lag, not_yet, server_of, since_intent, taken_over, timing,
    vanished,
};
use crate::hetzner::{
    GOING_POLL, Hetzner,
    error::under_way,
    model::{ActionStatus, ServerShown},
};

const CHANGE: &str = "change server type";
const UNDO: &str = "change server type back";
const COMMAND: &str = "change_server_type";

/// A server that is to be of another type. It has to be off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChangeTypeSpec {
    /// The server.
    pub server: u64,
    /// The type it has, to which it goes back.
    pub from: String,
    /// The type it is to have.
    pub to: String,
    /// Whether its disk grows with it. It then fits no smaller type ever again, and the change
    /// cannot be undone. Default no.
    pub upgrade_disk: bool,
}

impl ChangeTypeSpec {
    /// Wants a server to be of another type, with the disk that it has.
    #[must_use]
    pub fn new(server: u64, from: impl Into<String>, to: impl Into<String>) -> Self {
        Self { server, from: from.into(), to: to.into(), upgrade_disk: false }
    }

    /// Lets its disk grow.
    #[must_use]
    pub fn with_disk(mut self) -> Self {
        self.upgrade_disk = true;
        self
    }

    fn id(&self) -> String {
        format!("{}/{}>{}", self.server, self.from, self.to)
    }
}

/// A server of the wanted type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TypeChanged {
    /// The server.
    pub server: u64,
    /// Its type.
    pub server_type: String,
}

/// Changes the type of a server that is off. The cost that its own row of the ledger shows stays
/// that of its first type.
#[derive(Debug, Clone)]
pub struct ServerType {
    hetzner: Hetzner,
}

impl ServerType {
    /// Works through `hetzner`.
    #[must_use]
    pub fn new(hetzner: &Hetzner) -> Self {
        Self { hetzner: hetzner.clone() }
    }

    async fn send(
        &self,
        cx: &StepContext,
        (operation, server): (&'static str, u64),
        (to, upgrade_disk): (&str, bool),
    ) -> Result<bool, StepError> {
        let body = json!({ "server_type": to, "upgrade_disk": upgrade_disk });
        let act = (operation, "change_type");
        Ok(self.hetzner.act::<ServerShown>(cx, act, server, Some(&body)).await?.is_some())
    }
}

impl Resource for ServerType {
    const KIND: &'static str = "hetzner.server_type";
    type Spec = ChangeTypeSpec;
    type Output = TypeChanged;

    fn identity(&self, _: &ChangeTypeSpec) -> Identity {
        Identity::Label
    }

    async fn find(&self, cx: &StepContext, spec: &ChangeTypeSpec) -> Result<Found, StepError> {
        // First the actions, then what they have done.
        let actions = self.hetzner.server_actions(cx, spec.server).await?;
        let Some(server) = self.hetzner.by_id::<ServerShown>(cx, spec.server).await? else {
            return Ok(Found::Absent);
        };
        // S7: a change may go on longer than any call; while it does, nothing is absent.
        if server.locked || goes_on(&actions, COMMAND) {
            return Ok(Found::Going { again_in: GOING_POLL });
        }
        let same = server.server_type.name == spec.to;
        Ok(if same { taken_over(cx, spec.id()) } else { Found::Absent })
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &ChangeTypeSpec,
        _: &Intent,
    ) -> Result<ExternalId, StepError> {
        let to = (spec.to.as_str(), spec.upgrade_disk);
        if !self.send(cx, (CHANGE, spec.server), to).await? {
            return Err(StepError::permanent(CHANGE).with_code("not_found"));
        }
        let id = ExternalId::new(spec.id());
        cx.note(&id).await?;
        Ok(id)
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &ChangeTypeSpec,
        _: &ExternalId,
    ) -> Result<Readiness<TypeChanged>, StepError> {
        // First the actions, then what they have done: of one that ends between the two looks the
        // effect is seen.
        let actions = self.hetzner.server_actions(cx, spec.server).await?;
        let Some(server) = self.hetzner.by_id::<ServerShown>(cx, spec.server).await? else {
            return Ok(vanished(cx));
        };
        if server.locked {
            return Ok(not_yet(cx));
        }
        if server.server_type.name == spec.to {
            let (server, server_type) = (spec.server, server.server_type.name);
            return Ok(Readiness::Ready(TypeChanged { server, server_type }));
        }
        let busy = actions.iter().any(|action| action.status == ActionStatus::Running);
        if let Some(code) = failure(&since_intent(cx, actions), &[COMMAND]) {
            return Ok(broken(code));
        }
        Ok(if busy || may_lag(cx) { not_yet(cx) } else { broken("not_changed") })
    }

    async fn delete(
        &self,
        cx: &StepContext,
        _: &ChangeTypeSpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        if id.as_str().ends_with(KEPT) {
            return Ok(());
        }
        let (number, change) = server_of(UNDO, id)?;
        let bad = || StepError::permanent(UNDO).with_code("bad_id");
        let (from, to) = change.split_once('>').ok_or_else(bad)?;
        let Some(server) = self.hetzner.by_id::<ServerShown>(cx, number).await? else {
            return Ok(());
        };
        if server.locked {
            return Err(under_way(UNDO, "changing", GOING_POLL));
        }
        // Of a third type it is by somebody else's hand.
        if server.server_type.name != to {
            return Ok(());
        }
        match self.send(cx, (UNDO, number), (from, false)).await? {
            true => Err(under_way(UNDO, "changing", GOING_POLL)),
            false => Ok(()),
        }
    }

    /// A type has no place for a mark.
    async fn list_owned(&self, _: &StepContext) -> Result<Listing, StepError> {
        Ok(Listing::Unmarked)
    }

    fn timing(&self) -> Timing {
        timing()
    }

    fn account(&self) -> &str {
        self.hetzner.account()
    }
}
