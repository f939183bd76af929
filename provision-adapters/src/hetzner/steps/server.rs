//! A server, with everything that is put on it when it is made.

use std::collections::BTreeMap;

use provision_core::{
    Cost, ExternalId, Facts, Found, Identity, Intent, Listing, Readiness, Resource, StepContext,
    StepError, Timing,
};
use serde::{Deserialize, Serialize};

use super::{
    broken, check_labels, failure, find, going, id_of, invalid, is_host_name, labels, list_owned,
    may_lag, not_yet, number, timing, to_delete, user_data::UserData, vanished,
};
use crate::{
    adopted::adopted_incomplete,
    hetzner::{
        Hetzner,
        model::{
            ActionStatus, NewFirewallUse, NewPublicNet, NewServer, ServerShown, ServerStatus, Thing,
        },
    },
};

/// Commands of the actions that a create begins.
const MAKING: [&str; 5] =
    ["create_server", "start_server", "attach_to_network", "apply_firewall", "attach_volume"];

/// A wanted server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServerSpec {
    /// Name: unique per project, a host name (RFC 1123).
    pub name: String,
    /// Type by name, such as `cx23`.
    pub server_type: String,
    /// Image by name, such as `debian-13`, or by id.
    pub image: String,
    /// Location by name, such as `fsn1`. Datacenters (`fsn1-dc14`) are no longer known to the provider.
    pub location: String,
    /// Ids of the SSH keys that `root` accepts. Without any the provider draws a password of
    /// `root`: it is not read, and nobody has it.
    pub ssh_keys: Vec<u64>,
    /// Ids of the firewalls that are on it from its first moment.
    pub firewalls: Vec<u64>,
    /// Ids of the networks it is attached to.
    pub networks: Vec<u64>,
    /// What it is told at its first boot.
    pub user_data: Option<UserData>,
    /// Labels besides the owner mark.
    pub labels: BTreeMap<String, String>,
    /// Whether it gets a public IPv4 address, which costs extra. Default yes.
    pub ipv4: bool,
    /// Whether it gets a public IPv6 network. Default yes.
    pub ipv6: bool,
    /// Whether it is started. Default yes.
    pub started: bool,
    /// What it costs while it exists, whether it runs or not, for the ledger.
    pub price: Option<Cost>,
}

impl ServerSpec {
    /// Wants a server of a type, made from an image, at a location.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        server_type: impl Into<String>,
        image: impl Into<String>,
        location: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            server_type: server_type.into(),
            image: image.into(),
            location: location.into(),
            ssh_keys: Vec::new(),
            firewalls: Vec::new(),
            networks: Vec::new(),
            user_data: None,
            labels: BTreeMap::new(),
            ipv4: true,
            ipv6: true,
            started: true,
            price: None,
        }
    }

    /// Lets `root` log in with this key.
    #[must_use]
    pub fn with_ssh_key(mut self, id: u64) -> Self {
        self.ssh_keys.push(id);
        self
    }

    /// Puts it behind a firewall from its first moment.
    #[must_use]
    pub fn with_firewall(mut self, id: u64) -> Self {
        self.firewalls.push(id);
        self
    }

    /// Attaches it to a network.
    #[must_use]
    pub fn with_network(mut self, id: u64) -> Self {
        self.networks.push(id);
        self
    }

    /// Sets what it is told at its first boot.
    #[must_use]
    pub fn with_user_data(mut self, data: UserData) -> Self {
        self.user_data = Some(data);
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn with_label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Sets which public addresses it gets.
    #[must_use]
    pub fn with_public(mut self, ipv4: bool, ipv6: bool) -> Self {
        (self.ipv4, self.ipv6) = (ipv4, ipv6);
        self
    }

    /// Leaves it off after it is made.
    #[must_use]
    pub fn stopped(mut self) -> Self {
        self.started = false;
        self
    }

    /// Says what it costs; `None` leaves that open.
    #[must_use]
    pub fn with_price(mut self, price: Option<Cost>) -> Self {
        self.price = price;
        self
    }

    fn check(&self) -> Result<(), &'static str> {
        if !is_host_name(&self.name) {
            return Err("a server's name is a host name");
        }
        if [&self.server_type, &self.image, &self.location].iter().any(|text| text.is_empty()) {
            return Err("type, image and location are needed");
        }
        if !self.ipv4 && !self.ipv6 && self.networks.is_empty() {
            return Err("a server without a public address needs a network");
        }
        if !self.ipv4 && !self.ipv6 && !self.firewalls.is_empty() {
            return Err("a server without a public address takes no firewall");
        }
        check_labels(&self.labels)?;
        self.user_data.as_ref().map_or(Ok(()), UserData::check)
    }

    /// In what a server that is there is not the one that was ordered. An image that the provider
    /// has removed since is not shown, and may be any.
    fn differs(&self, server: &ServerShown) -> Option<&'static str> {
        if server.server_type.name != self.server_type {
            return Some("it is of another type");
        }
        if server.location.name != self.location {
            return Some("it is at another location");
        }
        if server.image.as_ref().is_some_and(|image| !image.is(&self.image)) {
            return Some("it is made from another image");
        }
        let public = &server.public_net;
        let same = public.ipv4.is_some() == self.ipv4 && public.ipv6.is_some() == self.ipv6;
        (!same).then_some("it has other public addresses")
    }

    /// What the server lacks of what it was made with.
    fn missing(&self, server: &ServerShown) -> Option<&'static str> {
        let behind = |id: &u64| {
            let on = |u: &crate::hetzner::model::FirewallUse| {
                u.id == Some(*id) && u.status.as_deref() == Some("applied")
            };
            server.public_net.firewalls.iter().any(on)
        };
        let attached = |id: &u64| server.private_net.iter().any(|net| net.network == Some(*id));
        if !self.firewalls.iter().all(behind) {
            return Some("firewall_missing");
        }
        (!self.networks.iter().all(attached)).then_some("network_missing")
    }
}

/// A server that is there, with everything it was made with. Its first boot may still go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServerMade {
    /// The provider's id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its type.
    pub server_type: String,
    /// Where it is.
    pub location: String,
    /// Public IPv4 address.
    pub ipv4: Option<String>,
    /// Public IPv6 network, a /64.
    pub ipv6: Option<String>,
    /// Addresses in its networks.
    pub private_ips: Vec<String>,
}

impl From<ServerShown> for ServerMade {
    fn from(server: ServerShown) -> Self {
        Self {
            id: server.head.id,
            name: server.head.name,
            server_type: server.server_type.name,
            location: server.location.name,
            ipv4: server.public_net.ipv4.map(|address| address.ip),
            ipv6: server.public_net.ipv6.map(|address| address.ip),
            private_ips: server.private_net.into_iter().filter_map(|net| net.ip).collect(),
        }
    }
}

/// Makes a server; deleting it waits until it is gone. Volumes stay.
///
/// "There" means powered on and unlocked: whether its first boot is over only the machine knows.
#[derive(Debug, Clone)]
pub struct Server {
    hetzner: Hetzner,
}

impl Server {
    /// Works through `hetzner`.
    #[must_use]
    pub fn new(hetzner: &Hetzner) -> Self {
        Self { hetzner: hetzner.clone() }
    }

    /// How a server of ours comes along: its own actions say what its state does not.
    async fn made(
        &self,
        cx: &StepContext,
        spec: &ServerSpec,
        number: u64,
    ) -> Result<Readiness<ServerMade>, StepError> {
        // First the actions, then what they have done: of one that ends between the two looks the
        // effect is seen.
        let actions = self.hetzner.server_actions(cx, number).await?;
        let Some(server) = self.hetzner.by_id::<ServerShown>(cx, number).await? else {
            return Ok(vanished(cx));
        };
        if server.is_going() {
            return Ok(broken("deleting"));
        }
        if let Some(code) = MAKING.iter().find_map(|command| failure(&actions, &[command])) {
            return Ok(broken(code));
        }
        let busy = actions.iter().any(|action| action.status == ActionStatus::Running);
        if busy || !stands(spec, &server) {
            return Ok(not_yet(cx));
        }
        Ok(match spec.missing(&server) {
            // A create that succeeded in part: without its firewall a server is open.
            Some(code) if !may_lag(cx) => broken(code),
            Some(_) => not_yet(cx),
            None => Readiness::Ready(server.into()),
        })
    }
}

impl Resource for Server {
    const KIND: &'static str = "hetzner.server";
    type Spec = ServerSpec;
    type Output = ServerMade;

    fn identity(&self, spec: &ServerSpec) -> Identity {
        Identity::Named(spec.name.clone())
    }

    async fn find(&self, cx: &StepContext, spec: &ServerSpec) -> Result<Found, StepError> {
        find::<ServerShown>(&self.hetzner, cx, &spec.name).await
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &ServerSpec,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        spec.check().map_err(invalid(ServerShown::CREATE))?;
        let user_data = match &spec.user_data {
            Some(data) => Some(data.filled(cx).await?),
            None => None,
        };
        let wanted = NewServer {
            name: &spec.name,
            server_type: &spec.server_type,
            image: &spec.image,
            location: &spec.location,
            labels: labels(&spec.labels, intent.mark()),
            start_after_create: spec.started,
            public_net: NewPublicNet { enable_ipv4: spec.ipv4, enable_ipv6: spec.ipv6 },
            ssh_keys: &spec.ssh_keys,
            firewalls: spec.firewalls.iter().map(|id| NewFirewallUse { firewall: *id }).collect(),
            networks: &spec.networks,
            user_data: user_data.as_ref().map(|data| data.expose()),
        };
        let made: ServerShown = self.hetzner.create(cx, &wanted).await?;
        let id = id_of(&made);
        cx.note(&id).await?;
        Ok(id)
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &ServerSpec,
        id: &ExternalId,
    ) -> Result<Readiness<ServerMade>, StepError> {
        let number = number(ServerShown::FIND, id.as_str())?;
        if !cx.is_adopted(id) {
            return self.made(cx, spec, number).await;
        }
        let Some(server) = self.hetzner.by_id::<ServerShown>(cx, number).await? else {
            return Ok(vanished(cx));
        };
        let lacks = |what: &str| Err(adopted_incomplete(ServerShown::FIND, what));
        match (server.status, spec.differs(&server), spec.missing(&server)) {
            (ServerStatus::Deleting, ..) => lacks("it is being deleted"),
            (_, Some(what), _) => lacks(what),
            (ServerStatus::Off, ..) if spec.started => lacks("it is off"),
            _ if !stands(spec, &server) => Ok(not_yet(cx)),
            (.., Some(_)) => lacks("it lacks a firewall or a network"),
            (.., None) => Ok(Readiness::Ready(server.into())),
        }
    }

    async fn delete(
        &self,
        cx: &StepContext,
        _: &ServerSpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        let Some(server) = to_delete::<ServerShown>(&self.hetzner, cx, id).await? else {
            return Ok(());
        };
        match self.hetzner.delete::<ServerShown>(cx, server.head.id).await? {
            // Taken, and done when a look says so: the action may fail.
            true => Err(going::<ServerShown>()),
            false => Ok(()),
        }
    }

    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        list_owned::<ServerShown>(&self.hetzner, cx).await
    }

    fn timing(&self) -> Timing {
        timing()
    }

    fn account(&self) -> &str {
        self.hetzner.account()
    }

    fn facts(&self, spec: &ServerSpec) -> Facts {
        Facts {
            name: Some(spec.name.clone()),
            region: Some(spec.location.clone()),
            template: Some(spec.image.clone()),
            // R2-25: billed until it is deleted, on or off (docs.hetzner.com/cloud/billing/faq,
            // read 2026-10), so the row keeps its cost as long as it lives.
            cost: spec.price.clone(),
        }
    }
}

/// Whether it has got to where it was to go.
fn stands(spec: &ServerSpec, server: &ServerShown) -> bool {
    let wanted = if spec.started { ServerStatus::Running } else { ServerStatus::Off };
    server.status == wanted && !server.locked
}
