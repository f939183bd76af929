//! How a simulated Hetzner shows what it has.

use provision_core::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    HetznerSim, catalogue, error,
    state::{Action, Base, Change, Firewall, Key, Kind, Network, Server, Volume},
};
use crate::{
    http::format_rfc3339,
    sim::{SimRequest, SimResponse},
};

pub(super) fn moment(ms: u64) -> String {
    format_rfc3339(Timestamp::from_millis(ms))
}

pub(super) fn action(action: &Action, now: u64) -> Value {
    let over = now >= action.ends;
    let status = match (over, &action.failure) {
        (false, _) => "running",
        (true, Some(_)) => "error",
        (true, None) => "success",
    };
    let failure = action.failure.as_ref().filter(|_| over);
    let error = failure.map(|code| json!({ "code": code, "message": "the action failed" }));
    let resources: Vec<Value> =
        action.on.iter().map(|(kind, id)| json!({ "id": id, "type": kind })).collect();
    json!({
        "id": action.id, "command": action.command, "status": status,
        "progress": if over { 100 } else { 0 }, "started": moment(action.started),
        "finished": over.then(|| moment(action.ends)), "resources": resources, "error": error,
    })
}

pub(super) fn with_base(base: &Base, rest: Value) -> Value {
    let mut shown = Map::new();
    shown.insert("id".to_owned(), json!(base.id));
    shown.insert("name".to_owned(), json!(base.name));
    shown.insert("labels".to_owned(), json!(base.labels));
    shown.insert("created".to_owned(), json!(moment(base.created)));
    if let Value::Object(rest) = rest {
        shown.extend(rest);
    }
    Value::Object(shown)
}

/// Whose network address ends in its number, as if there were no other customers.
fn address(id: u64) -> String {
    format!("203.0.113.{}", id % 250 + 1)
}

impl HetznerSim {
    pub(super) fn show_server(&self, server: &Server, now: u64) -> Value {
        let id = server.base.id;
        let running = |action: &&Action| now < action.ends && action.is_about("server", id);
        let locked = self
            .state
            .actions
            .iter()
            .filter(running)
            .any(|action| super::actions::LOCKING.contains(&action.command.as_str()));
        let mut firewalls: Vec<Value> =
            server.firewalls.iter().map(|id| json!({ "id": id, "status": "applied" })).collect();
        firewalls.extend(self.state.actions.iter().filter(running).filter_map(|action| {
            match action.change {
                Change::FirewallOn { firewall, .. } if !server.firewalls.contains(&firewall) => {
                    Some(json!({ "id": firewall, "status": "pending" }))
                }
                _ => None,
            }
        }));
        let private: Vec<Value> = server
            .networks
            .iter()
            .map(|(network, ip)| {
                json!({ "network": network, "ip": ip, "alias_ips": [],
                        "mac_address": "86:00:00:00:00:01" })
            })
            .collect();
        let volumes = self.state.volumes.iter().filter(|v| v.server == Some(id));
        let volumes: Vec<u64> = volumes.map(|volume| volume.base.id).collect();
        let ipv4 = server.ipv4.then(|| {
            json!({ "id": id + 1, "ip": address(id), "blocked": false,
                    "dns_ptr": format!("static.{}.example", id) })
        });
        let ipv6 = server.ipv6.then(|| {
            json!({ "id": id + 2, "ip": format!("2001:db8:{:x}::/64", id % 0xffff),
                    "blocked": false, "dns_ptr": [] })
        });
        with_base(
            &server.base,
            json!({
                "status": server.status, "locked": locked,
                "server_type": catalogue::server_type(&server.kind),
                "image": catalogue::image(&server.image),
                "location": catalogue::location(&server.location),
                "public_net": { "ipv4": ipv4, "ipv6": ipv6, "floating_ips": [],
                                "firewalls": firewalls },
                "private_net": private, "volumes": volumes, "load_balancers": [],
                "protection": { "delete": server.base.protected, "rebuild": server.base.protected },
                "backup_window": null, "iso": null, "rescue_enabled": false,
                "primary_disk_size": server.disk, "placement_group": null,
                "included_traffic": 20_000_000_000_000_u64, "ingoing_traffic": 0,
                "outgoing_traffic": 0,
            }),
        )
    }

    pub(super) fn show_firewall(&self, firewall: &Firewall) -> Value {
        let id = firewall.base.id;
        let on = self.state.servers.iter().filter(|server| server.firewalls.contains(&id));
        let on: Vec<Value> =
            on.map(|s| json!({ "type": "server", "server": { "id": s.base.id } })).collect();
        with_base(&firewall.base, json!({ "rules": firewall.rules, "applied_to": on }))
    }

    pub(super) fn show_network(&self, network: &Network) -> Value {
        let id = network.base.id;
        let on = self.state.servers.iter().filter(|s| s.networks.iter().any(|(n, _)| *n == id));
        let on: Vec<u64> = on.map(|server| server.base.id).collect();
        let subnets: Vec<Value> = network
            .subnets
            .iter()
            .map(|(range, zone)| {
                json!({ "type": "cloud", "ip_range": range, "network_zone": zone,
                        "gateway": "10.0.0.1", "vswitch_id": null })
            })
            .collect();
        with_base(
            &network.base,
            json!({
                "ip_range": network.ip_range, "subnets": subnets, "routes": [], "servers": on,
                "load_balancers": [], "expose_routes_to_vswitch": false,
                "protection": { "delete": network.base.protected },
            }),
        )
    }
}

pub(super) fn volume(volume: &Volume) -> Value {
    with_base(
        &volume.base,
        json!({
            "size": volume.size, "location": catalogue::location(&volume.location),
            "format": volume.format, "server": volume.server,
            "status": if volume.creating { "creating" } else { "available" },
            "linux_device": format!("/dev/disk/by-id/scsi-0HC_Volume_{}", volume.base.id),
            "protection": { "delete": volume.base.protected },
        }),
    )
}

pub(super) fn key(key: &Key) -> Value {
    let print = fingerprint(&key.public_key);
    with_base(&key.base, json!({ "fingerprint": print, "public_key": key.public_key }))
}

/// Not the MD5 of the key, but as long, and the same for the same key.
pub(super) fn fingerprint(public_key: &str) -> String {
    let material = public_key.split_whitespace().nth(1).unwrap_or_default();
    let hash = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, material.as_bytes());
    let pairs: Vec<String> = hash.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.join(":")
}

/// Filters by name and labels, leaves out what is not to be seen yet, and cuts a page out.
pub(super) fn listed<T: Kind>(
    request: &SimRequest,
    now: u64,
    (plural, all): (&str, &[T]),
    show: impl Fn(&T) -> Value,
) -> SimResponse {
    let name = request.q("name");
    let selector = request.q("label_selector").unwrap_or_default();
    let seen = all.iter().filter(|thing| {
        let base = thing.base();
        base.hidden_until <= now
            && name.is_none_or(|name| base.name == name)
            && selects(selector, base)
    });
    paged(request, plural, &seen.map(show).collect::<Vec<_>>())
}

/// `k`, `!k`, `k=v`, `k!=v`, joined by commas.
fn selects(selector: &str, base: &Base) -> bool {
    selector.split(',').filter(|term| !term.is_empty()).all(|term| {
        if let Some((key, value)) = term.split_once("!=") {
            return base.labels.get(key).is_none_or(|own| own != value);
        }
        if let Some((key, value)) = term.split_once('=') {
            return base.labels.get(key).is_some_and(|own| own == value);
        }
        match term.strip_prefix('!') {
            Some(key) => !base.labels.contains_key(key),
            None => base.labels.contains_key(term),
        }
    })
}

pub(super) fn paged(request: &SimRequest, plural: &str, items: &[Value]) -> SimResponse {
    let number = |name: &str, default: usize| {
        request.q(name).map_or(Some(default), |text| text.parse::<usize>().ok())
    };
    let (Some(page), Some(per_page)) = (number("page", 1), number("per_page", 25)) else {
        return error(422, "invalid_input", "invalid pagination");
    };
    if page == 0 || per_page == 0 || per_page > 50 {
        return error(422, "invalid_input", "invalid pagination");
    }
    let last = items.len().div_ceil(per_page).max(1);
    let shown: Vec<&Value> = items.iter().skip((page - 1) * per_page).take(per_page).collect();
    let mut body = Map::new();
    body.insert(plural.to_owned(), json!(shown));
    body.insert(
        "meta".to_owned(),
        json!({ "pagination": {
            "page": page, "per_page": per_page, "last_page": last, "total_entries": items.len(),
            "previous_page": (page > 1).then(|| page - 1),
            "next_page": (page < last).then(|| page + 1),
        }}),
    );
    SimResponse::json(200, &body)
}
