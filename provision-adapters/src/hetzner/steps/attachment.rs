//! What is put on a server that is there: a firewall, a network, a volume.

use provision_core::{
    ExternalId, Facts, Foreign, Found, Identity, Intent, Listing, Readiness, Resource, StepContext,
    StepError, Timing,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{broken, failure, may_lag, not_yet, number, since_intent, timing};
use crate::{
    adopted::adopted_incomplete,
    hetzner::{
        GOING_POLL, Hetzner,
        error::under_way,
        model::{ActionStatus, FirewallShown, ServerShown, VolumeShown},
    },
};

const ATTACH: &str = "attach to server";
const DETACH: &str = "detach from server";
const LOOK: &str = "look at attachment";

/// What is put on a server, by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attached {
    /// A firewall.
    Firewall(u64),
    /// A private network.
    Network(u64),
    /// A volume, which is on one server at a time.
    Volume(u64),
}

impl Attached {
    const fn parts(self) -> (&'static str, u64, &'static str) {
        match self {
            Self::Firewall(id) => ("firewall", id, "apply_firewall"),
            Self::Network(id) => ("network", id, "attach_to_network"),
            Self::Volume(id) => ("volume", id, "attach_volume"),
        }
    }

    /// The id of the attachment: what it is, and where.
    fn on(self, server: u64) -> ExternalId {
        let (kind, id, _) = self.parts();
        ExternalId::new(format!("{kind}/{id}/{server}"))
    }
}

/// A wanted attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AttachmentSpec {
    /// What is put on the server.
    pub what: Attached,
    /// The server.
    pub server: u64,
}

impl AttachmentSpec {
    /// Wants this on a server.
    #[must_use]
    pub fn new(what: Attached, server: u64) -> Self {
        Self { what, server }
    }
}

/// Something that is on a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AttachmentMade {
    /// The server.
    pub server: u64,
    /// The server's address in the network, where it is one.
    pub private_ip: Option<String>,
}

/// Where an attachment is.
enum Stands {
    Off,
    Coming,
    On(AttachmentMade),
}

/// Puts a firewall, a network or a volume on a server that is there; undoing takes it off.
///
/// There is no place for a mark on "attached": what was so before is somebody else's doing. What
/// a server has from its first moment is better said in its [`crate::hetzner::ServerSpec`].
#[derive(Debug, Clone)]
pub struct Attachment {
    hetzner: Hetzner,
}

impl Attachment {
    /// Works through `hetzner`.
    #[must_use]
    pub fn new(hetzner: &Hetzner) -> Self {
        Self { hetzner: hetzner.clone() }
    }

    async fn look(
        &self,
        cx: &StepContext,
        what: Attached,
        server: u64,
    ) -> Result<Stands, StepError> {
        let made = AttachmentMade { server, private_ip: None };
        if let Attached::Volume(id) = what {
            let volume = self.hetzner.by_id::<VolumeShown>(cx, id).await?;
            let on = volume.is_some_and(|volume| volume.server == Some(server));
            return Ok(if on { Stands::On(made) } else { Stands::Off });
        }
        let Some(shown) = self.hetzner.by_id::<ServerShown>(cx, server).await? else {
            return Ok(Stands::Off);
        };
        if let Attached::Network(id) = what {
            let on = shown.private_net.into_iter().find(|net| net.network == Some(id));
            let on = on.map(|net| Stands::On(AttachmentMade { private_ip: net.ip, ..made }));
            return Ok(on.unwrap_or(Stands::Off));
        }
        let (_, id, _) = what.parts();
        let on = shown.public_net.firewalls.iter().find(|firewall| firewall.id == Some(id));
        Ok(match on.map(|firewall| firewall.status.as_deref()) {
            None => Stands::Off,
            Some(Some("applied")) => Stands::On(made),
            Some(_) => Stands::Coming,
        })
    }

    /// As [`Self::look`], and what is on its way counts as coming: a volume or a network does not
    /// show it, only the server's actions do.
    ///
    /// The actions are looked at first: one that ends between the two looks then shows its effect.
    async fn look_ahead(
        &self,
        cx: &StepContext,
        what: Attached,
        server: u64,
    ) -> Result<Stands, StepError> {
        let (kind, thing, command) = what.parts();
        let actions = self.hetzner.server_actions(cx, server).await?;
        let coming = actions.iter().any(|action| {
            action.status == ActionStatus::Running
                && action.command == command
                && action.is_about(kind, thing)
        });
        if coming { Ok(Stands::Coming) } else { self.look(cx, what, server).await }
    }

    /// Asks for a change; false when one of the two is gone.
    async fn change(
        &self,
        cx: &StepContext,
        (what, server): (Attached, u64),
        attach: bool,
    ) -> Result<bool, StepError> {
        let operation = if attach { ATTACH } else { DETACH };
        let (hetzner, resource) = (&self.hetzner, json!([server_resource(server)]));
        let taken = match (what, attach) {
            (Attached::Firewall(id), true) => {
                let (act, body) =
                    ((operation, "apply_to_resources"), json!({ "apply_to": resource }));
                hetzner.act::<FirewallShown>(cx, act, id, Some(&body)).await?
            }
            (Attached::Firewall(id), false) => {
                let (act, body) =
                    ((operation, "remove_from_resources"), json!({ "remove_from": resource }));
                hetzner.act::<FirewallShown>(cx, act, id, Some(&body)).await?
            }
            (Attached::Network(id), _) => {
                let command = if attach { "attach_to_network" } else { "detach_from_network" };
                let body = json!({ "network": id });
                let act = (operation, command);
                hetzner.act::<ServerShown>(cx, act, server, Some(&body)).await?
            }
            (Attached::Volume(id), true) => {
                let body = json!({ "server": server, "automount": false });
                hetzner.act::<VolumeShown>(cx, (operation, "attach"), id, Some(&body)).await?
            }
            (Attached::Volume(id), false) => {
                hetzner.act::<VolumeShown>(cx, (operation, "detach"), id, None).await?
            }
        };
        Ok(taken.is_some())
    }
}

fn server_resource(server: u64) -> Value {
    json!({ "type": "server", "server": { "id": server } })
}

impl Resource for Attachment {
    const KIND: &'static str = "hetzner.attachment";
    type Spec = AttachmentSpec;
    type Output = AttachmentMade;

    fn identity(&self, spec: &AttachmentSpec) -> Identity {
        // Attaching twice is one attachment.
        Identity::Named(spec.what.on(spec.server).as_str().to_owned())
    }

    async fn find(&self, cx: &StepContext, spec: &AttachmentSpec) -> Result<Found, StepError> {
        Ok(match self.look_ahead(cx, spec.what, spec.server).await? {
            Stands::Off => Found::Absent,
            Stands::Coming | Stands::On(_) => {
                Found::Foreign(Foreign::unmarkable(spec.what.on(spec.server)))
            }
        })
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &AttachmentSpec,
        _: &Intent,
    ) -> Result<ExternalId, StepError> {
        if !self.change(cx, (spec.what, spec.server), true).await? {
            return Err(StepError::permanent(ATTACH).with_code("not_found"));
        }
        let id = spec.what.on(spec.server);
        cx.note(&id).await?;
        Ok(id)
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &AttachmentSpec,
        id: &ExternalId,
    ) -> Result<Readiness<AttachmentMade>, StepError> {
        let (kind, thing, command) = spec.what.parts();
        // First the actions, then what they have done.
        let mut actions = self.hetzner.server_actions(cx, spec.server).await?;
        actions.retain(|action| action.is_about(kind, thing));
        match self.look(cx, spec.what, spec.server).await? {
            Stands::On(made) => return Ok(Readiness::Ready(made)),
            Stands::Coming => return Ok(not_yet(cx)),
            Stands::Off if cx.is_adopted(id) => {
                return Err(adopted_incomplete(LOOK, "it is not attached any more"));
            }
            Stands::Off => {}
        }
        let busy = actions.iter().any(|action| action.status == ActionStatus::Running);
        if let Some(code) = failure(&since_intent(cx, actions), &[command]) {
            return Ok(broken(code));
        }
        Ok(if busy || may_lag(cx) { not_yet(cx) } else { broken("not_attached") })
    }

    async fn delete(
        &self,
        cx: &StepContext,
        _: &AttachmentSpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        // The id alone says what to take off where.
        let (what, server) = parse(id)?;
        match self.look_ahead(cx, what, server).await? {
            Stands::Off => return Ok(()),
            // Taken off now, it would be on again in a moment (S12).
            Stands::Coming => return Err(under_way(DETACH, "attaching", GOING_POLL)),
            Stands::On(_) => {}
        }
        match self.change(cx, (what, server), false).await? {
            true => Err(under_way(DETACH, "detaching", GOING_POLL)),
            false => Ok(()),
        }
    }

    /// An attachment has no place for a mark. It goes with what is attached.
    async fn list_owned(&self, _: &StepContext) -> Result<Listing, StepError> {
        Ok(Listing::Unmarked)
    }

    fn timing(&self) -> Timing {
        timing()
    }

    fn account(&self) -> &str {
        self.hetzner.account()
    }

    fn facts(&self, spec: &AttachmentSpec) -> Facts {
        let name = spec.what.on(spec.server).as_str().to_owned();
        Facts { name: Some(name), ..Facts::default() }
    }
}

fn parse(id: &ExternalId) -> Result<(Attached, u64), StepError> {
    let mut parts = id.as_str().split('/');
    let (kind, thing, server) = (parts.next(), parts.next(), parts.next());
    let thing = number(DETACH, thing.unwrap_or_default())?;
    let server = number(DETACH, server.unwrap_or_default())?;
    let what = match kind {
        Some("firewall") => Attached::Firewall(thing),
        Some("network") => Attached::Network(thing),
        Some("volume") => Attached::Volume(thing),
        _ => return Err(StepError::permanent(DETACH).with_code("bad_id")),
    };
    Ok((what, server))
}
