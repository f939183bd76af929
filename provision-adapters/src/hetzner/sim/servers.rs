//! Servers: made with all their parts, looked at, deleted, and what can be done to them.

use serde_json::{Value, json};

use super::{
    HetznerSim,
    actions::Begun,
    at, catalogue, error, invalid, not_found, show,
    state::{Change, Server},
    strict_object, taken,
};
use crate::{
    hetzner::USER_DATA_MAX,
    sim::{SimRequest, SimResponse},
};

const FIELDS: &[&str] = &[
    "automount",
    "firewalls",
    "image",
    "labels",
    "location",
    "name",
    "networks",
    "placement_group",
    "public_net",
    "server_type",
    "ssh_keys",
    "start_after_create",
    "user_data",
    "volumes",
];

impl HetznerSim {
    pub(super) fn server_routes(
        &mut self,
        request: &SimRequest,
        rest: &[&str],
        now: u64,
    ) -> SimResponse {
        let id = rest.first().and_then(|id| id.parse::<u64>().ok());
        match (request.method.as_str(), rest, id) {
            ("POST", [], _) => self.create_server(request, now),
            ("GET", [], _) => {
                let servers = &self.state.servers;
                show::listed(request, now, ("servers", servers), |s| self.show_server(s, now))
            }
            ("GET", [_], Some(id)) => match self.state.server(id) {
                Some(server) => {
                    SimResponse::json(200, &json!({ "server": self.show_server(server, now) }))
                }
                None => not_found("server"),
            },
            ("DELETE", [_], Some(id)) => self.delete_server(id, now),
            ("GET", [_, "actions"], Some(id)) => self.list_server_actions(request, id, now),
            ("POST", [_, "actions", command], Some(id)) => {
                self.act_on_server(request, command, id, now)
            }
            _ => SimResponse::unhandled(request),
        }
    }

    /// What is wrong with a wanted server, in the order in which the provider looks.
    fn refuse_server(&self, body: &Value) -> Option<SimResponse> {
        let text = |name: &str| at(body, name).as_str().unwrap_or_default();
        let host = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        if text("name").is_empty() || !text("name").chars().all(host) {
            return Some(invalid("name"));
        }
        if !catalogue::is_type(text("server_type")) {
            return Some(invalid("server_type"));
        }
        if !catalogue::is_image(text("image")) {
            return Some(invalid("image"));
        }
        if body.get("location").is_some() && catalogue::zone(text("location")).is_none() {
            return Some(invalid("location"));
        }
        if text("user_data").len() > USER_DATA_MAX {
            return Some(invalid("user_data"));
        }
        let known = |name: &str, all: Vec<u64>| numbers(body, name).all(|id| all.contains(&id));
        let keys = self.state.keys.iter().map(|key| key.base.id).collect();
        if !known("ssh_keys", keys) {
            return Some(not_found("SSH key"));
        }
        let firewalls: Vec<u64> = self.state.firewalls.iter().map(|f| f.base.id).collect();
        if !wanted_firewalls(body).all(|id| firewalls.contains(&id)) {
            return Some(not_found("firewall"));
        }
        if !known("networks", self.state.networks.iter().map(|n| n.base.id).collect()) {
            return Some(not_found("network"));
        }
        if self.state.servers.iter().any(|server| server.base.name == text("name")) {
            return Some(taken("name"));
        }
        if self.setup.servers_max.is_some_and(|most| self.state.servers.len() >= most) {
            return Some(error(403, "resource_limit_exceeded", "server limit exceeded"));
        }
        let full = self.setup.full.contains(text("location"));
        full.then(|| error(412, "resource_unavailable", "error during placement"))
    }

    fn create_server(&mut self, request: &SimRequest, now: u64) -> SimResponse {
        let body = match strict_object(request, FIELDS) {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        if let Some(refusal) = self.refuse_server(&body) {
            return refusal;
        }
        let base = match self.base(&body, now) {
            Ok(base) => base,
            Err(refusal) => return refusal,
        };
        let text = |name: &str| at(&body, name).as_str().unwrap_or_default().to_owned();
        let public = |name: &str| at(at(&body, "public_net"), name).as_bool().unwrap_or(true);
        let keyed = numbers(&body, "ssh_keys").next().is_some();
        let location = at(&body, "location").as_str().unwrap_or("fsn1").to_owned();
        let (id, name) = (base.id, base.name.clone());
        self.state.servers.push(Server {
            base,
            kind: text("server_type"),
            image: text("image"),
            location,
            status: "initializing".to_owned(),
            disk: catalogue::disk(&text("server_type")),
            ipv4: public("enable_ipv4"),
            ipv6: public("enable_ipv6"),
            keyed,
            firewalls: Vec::new(),
            networks: Vec::new(),
            user_data: at(&body, "user_data").as_str().map(ToOwned::to_owned),
        });
        let started = at(&body, "start_after_create").as_bool().unwrap_or(true);
        let (action, next) = self.begin_server(&body, id, started, now);
        let server = self.state.server(id).map(|server| self.show_server(server, now));
        let answer = json!({
            "server": server, "action": action, "next_actions": next,
            "root_password": (!keyed).then(|| self.password(&name)),
        });
        SimResponse::json(201, &answer)
    }

    /// Begins all that a create sets off: its own action, and one for each part.
    fn begin_server(
        &mut self,
        body: &Value,
        id: u64,
        started: bool,
        now: u64,
    ) -> (Value, Vec<Value>) {
        let to = |status: &str| Change::Status(id, status.to_owned());
        let on = vec![("server", id)];
        let status = if started { "starting" } else { "off" };
        let (made, end) = self.begin(Begun::new("create_server", on.clone(), to(status)), now);
        let mut next = Vec::new();
        for firewall in wanted_firewalls(body).collect::<Vec<_>>() {
            let both = vec![("server", id), ("firewall", firewall)];
            let change = Change::FirewallOn { firewall, server: id };
            next.push(self.begin(Begun::new("apply_firewall", both, change).after(end), now).0);
        }
        for network in numbers(body, "networks").collect::<Vec<_>>() {
            let both = vec![("server", id), ("network", network)];
            let change = Change::NetworkOn { network, server: id };
            next.push(self.begin(Begun::new("attach_to_network", both, change).after(end), now).0);
        }
        if started {
            let begun = Begun::new("start_server", on, to("running")).after(end);
            next.push(self.begin(begun, now).0);
        }
        (made, next)
    }

    fn delete_server(&mut self, id: u64, now: u64) -> SimResponse {
        let locked = self.is_locked(id, now);
        let Some(server) = self.state.server_mut(id) else { return not_found("server") };
        if server.base.protected {
            return error(423, "protected", "server deletion is protected");
        }
        if locked {
            return error(423, "locked", "server is locked");
        }
        "deleting".clone_into(&mut server.status);
        let begun = Begun::new("delete_server", vec![("server", id)], Change::Gone(id));
        let (action, _) = self.begin(begun, now);
        SimResponse::json(200, &json!({ "action": action }))
    }

    /// What the provider draws where nobody gave a key: shown once.
    fn password(&self, name: &str) -> String {
        let seed = format!("{name}{}{}", self.setup.seed, self.state.made);
        let hash = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, seed.as_bytes()).simple();
        format!("root-{hash}")
    }

    fn act_on_server(
        &mut self,
        request: &SimRequest,
        command: &str,
        id: u64,
        now: u64,
    ) -> SimResponse {
        if self.state.server(id).is_none() {
            return not_found("server");
        }
        if self.is_locked(id, now) {
            return error(423, "locked", "server is locked");
        }
        let to = |status: &str| Change::Status(id, status.to_owned());
        match command {
            // What is so already stays so: the action succeeds.
            "poweron" => self.server_action("start_server", id, to("running"), now),
            "poweroff" => self.server_action("stop_server", id, to("off"), now),
            "shutdown" => {
                let name = self.state.server(id).map(|server| server.base.name.clone());
                let deaf = name.is_some_and(|name| self.setup.deaf.contains(&name));
                let change = if deaf { Change::Nothing } else { to("off") };
                self.server_action("shutdown_server", id, change, now)
            }
            "rebuild" => self.rebuild(request, id, now),
            "change_type" => self.change_type(request, id, now),
            "attach_to_network" => self.attach_network(request, id, now),
            "detach_from_network" => self.detach_network(request, id, now),
            _ => SimResponse::unhandled(request),
        }
    }

    fn server_action(&mut self, command: &str, id: u64, change: Change, now: u64) -> SimResponse {
        let (action, _) = self.begin(Begun::new(command, vec![("server", id)], change), now);
        SimResponse::json(201, &json!({ "action": action }))
    }

    fn rebuild(&mut self, request: &SimRequest, id: u64, now: u64) -> SimResponse {
        let body = match strict_object(request, &["image", "user_data"]) {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        let image = at(&body, "image").as_str().unwrap_or_default().to_owned();
        if !catalogue::is_image(&image) {
            return invalid("image");
        }
        let Some(server) = self.state.server_mut(id) else { return not_found("server") };
        if server.base.protected {
            return error(423, "protected", "server rebuild is protected");
        }
        let status = std::mem::replace(&mut server.status, "rebuilding".to_owned());
        let (keyed, name) = (server.keyed, server.base.name.clone());
        let change = Change::Image { server: id, image, status };
        let (action, _) =
            self.begin(Begun::new("rebuild_server", vec![("server", id)], change), now);
        let password = (!keyed).then(|| self.password(&name));
        SimResponse::json(201, &json!({ "action": action, "root_password": password }))
    }

    fn change_type(&mut self, request: &SimRequest, id: u64, now: u64) -> SimResponse {
        let body = match strict_object(request, &["server_type", "upgrade_disk"]) {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        let kind = at(&body, "server_type").as_str().unwrap_or_default().to_owned();
        let Some(server) = self.state.server(id) else { return not_found("server") };
        if server.status != "off" {
            return error(422, "server_not_stopped", "server must be stopped");
        }
        let fits = catalogue::is_type(&kind) && catalogue::disk(&kind) >= server.disk;
        if !fits || kind == server.kind {
            return error(422, "invalid_server_type", "the server type does not fit");
        }
        let grows = at(&body, "upgrade_disk").as_bool().unwrap_or_default();
        let disk = if grows { catalogue::disk(&kind) } else { server.disk };
        let change = Change::Type { server: id, kind, disk };
        self.server_action("change_server_type", id, change, now)
    }

    fn attach_network(&mut self, request: &SimRequest, id: u64, now: u64) -> SimResponse {
        let body = match strict_object(request, &["network", "ip", "ip_range", "alias_ips"]) {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        let network = at(&body, "network").as_u64().unwrap_or_default();
        let Some(known) = self.state.networks.iter().find(|n| n.base.id == network) else {
            return not_found("network");
        };
        if known.subnets.is_empty() {
            return error(422, "no_subnet_available", "no free subnet");
        }
        let Some(server) = self.state.server(id) else { return not_found("server") };
        if server.networks.iter().any(|(on, _)| *on == network) {
            return error(422, "server_already_attached", "server is already attached");
        }
        let both = vec![("server", id), ("network", network)];
        let change = Change::NetworkOn { network, server: id };
        let (action, _) = self.begin(Begun::new("attach_to_network", both, change), now);
        SimResponse::json(201, &json!({ "action": action }))
    }

    fn detach_network(&mut self, request: &SimRequest, id: u64, now: u64) -> SimResponse {
        let body = match strict_object(request, &["network"]) {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        let network = at(&body, "network").as_u64().unwrap_or_default();
        let on =
            self.state.server(id).is_some_and(|s| s.networks.iter().any(|(n, _)| *n == network));
        if !on {
            return not_found("network");
        }
        let both = vec![("server", id), ("network", network)];
        let change = Change::NetworkOff { network, server: id };
        let (action, _) = self.begin(Begun::new("detach_from_network", both, change), now);
        SimResponse::json(201, &json!({ "action": action }))
    }
}

/// Ids, which may be written as numbers or as text.
fn numbers<'a>(body: &'a Value, name: &str) -> impl Iterator<Item = u64> + 'a {
    let number = |v: &Value| v.as_u64().or_else(|| v.as_str()?.parse().ok()).unwrap_or_default();
    at(body, name).as_array().into_iter().flatten().map(number)
}

fn wanted_firewalls(body: &Value) -> impl Iterator<Item = u64> + '_ {
    let all = at(body, "firewalls").as_array().into_iter().flatten();
    all.map(|one| at(one, "firewall").as_u64().unwrap_or_default())
}
