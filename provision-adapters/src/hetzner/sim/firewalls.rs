//! Firewalls: their rules, and the servers they are on.

use serde_json::{Value, json};

use super::{
    HetznerSim,
    actions::Begun,
    at, error, invalid, not_found, show,
    state::{Change, Firewall},
    strict_object, taken,
};
use crate::sim::{SimRequest, SimResponse};

impl HetznerSim {
    pub(super) fn firewall_routes(
        &mut self,
        request: &SimRequest,
        rest: &[&str],
        now: u64,
    ) -> SimResponse {
        let id = rest.first().and_then(|id| id.parse::<u64>().ok()).unwrap_or_default();
        let place = self.state.firewalls.iter().position(|f| f.base.id == id);
        match (request.method.as_str(), rest, place) {
            ("POST", [], _) => self.create_firewall(request, now),
            ("GET", [], _) => {
                let all = &self.state.firewalls;
                show::listed(request, now, ("firewalls", all), |f| self.show_firewall(f))
            }
            (_, [_, ..], None) => not_found("firewall"),
            ("GET", [_], Some(place)) => match self.state.firewalls.get(place) {
                Some(firewall) => {
                    SimResponse::json(200, &json!({ "firewall": self.show_firewall(firewall) }))
                }
                None => not_found("firewall"),
            },
            ("DELETE", [_], Some(place)) => {
                if self.state.servers.iter().any(|server| server.firewalls.contains(&id)) {
                    return error(422, "resource_in_use", "firewall is in use");
                }
                self.state.firewalls.remove(place);
                SimResponse::empty(204)
            }
            ("POST", [_, "actions", command], Some(_)) => {
                self.act_on_firewall(request, command, id, now)
            }
            _ => SimResponse::unhandled(request),
        }
    }

    fn create_firewall(&mut self, request: &SimRequest, now: u64) -> SimResponse {
        let body = match strict_object(request, &["name", "rules", "labels", "apply_to"]) {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        let name = at(&body, "name").as_str().unwrap_or_default();
        if name.is_empty() {
            return invalid("name");
        }
        if self.state.firewalls.iter().any(|firewall| firewall.base.name == name) {
            return taken("name");
        }
        let Some(rules) = rules(&body) else { return invalid("rules") };
        let base = match self.base(&body, now) {
            Ok(base) => base,
            Err(refusal) => return refusal,
        };
        let id = base.id;
        // There without its rules at first: they come by an action.
        let firewall = Firewall { base, rules: Vec::new() };
        let shown = self.show_firewall(&firewall);
        self.state.firewalls.push(firewall);
        let begun =
            Begun::new("set_firewall_rules", vec![("firewall", id)], Change::Rules(id, rules));
        let (action, _) = self.begin(begun, now);
        SimResponse::json(201, &json!({ "firewall": shown, "actions": [action] }))
    }

    fn act_on_firewall(
        &mut self,
        request: &SimRequest,
        command: &str,
        id: u64,
        now: u64,
    ) -> SimResponse {
        let (field, attach) = match command {
            "set_rules" => return self.set_firewall_rules(request, id, now),
            "apply_to_resources" => ("apply_to", true),
            "remove_from_resources" => ("remove_from", false),
            _ => return SimResponse::unhandled(request),
        };
        let body = match strict_object(request, &[field]) {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        let server = |one: &Value| at(at(one, "server"), "id").as_u64().unwrap_or_default();
        let wanted: Vec<u64> =
            at(&body, field).as_array().into_iter().flatten().map(server).collect();
        for id in &wanted {
            if self.state.server(*id).is_none() {
                return error(404, "firewall_resource_not_found", "server not found");
            }
        }
        let on = |s: &u64| self.state.server(*s).is_some_and(|s| s.firewalls.contains(&id));
        if attach && wanted.iter().any(on) {
            return error(422, "firewall_already_applied", "firewall is already applied");
        }
        if !attach && !wanted.iter().all(on) {
            return error(404, "firewall_resource_not_found", "firewall is not applied");
        }
        let mut begun = Vec::new();
        for server in wanted {
            let both = vec![("server", server), ("firewall", id)];
            let (command, change) = match attach {
                true => ("apply_firewall", Change::FirewallOn { firewall: id, server }),
                false => ("remove_firewall", Change::FirewallOff { firewall: id, server }),
            };
            begun.push(self.begin(Begun::new(command, both, change), now).0);
        }
        SimResponse::json(201, &json!({ "actions": begun }))
    }

    fn set_firewall_rules(&mut self, request: &SimRequest, id: u64, now: u64) -> SimResponse {
        let body = match strict_object(request, &["rules"]) {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        let Some(rules) = rules(&body) else { return invalid("rules") };
        let change = Change::Rules(id, rules);
        let (action, _) =
            self.begin(Begun::new("set_firewall_rules", vec![("firewall", id)], change), now);
        SimResponse::json(201, &json!({ "actions": [action] }))
    }
}

/// Rules as they are shown; `None` where one cannot be.
fn rules(body: &Value) -> Option<Vec<Value>> {
    let shown = |rule: &Value| {
        let protocol = at(rule, "protocol").as_str()?;
        let port = at(rule, "port").as_str();
        let sources = at(rule, "source_ips").as_array().cloned().unwrap_or_default();
        let needs_port = matches!(protocol, "tcp" | "udp");
        if needs_port != port.is_some() || sources.is_empty() {
            return None;
        }
        Some(json!({
            "direction": at(rule, "direction"), "protocol": protocol, "port": port,
            "source_ips": sources, "destination_ips": [], "description": null,
        }))
    };
    at(body, "rules").as_array().into_iter().flatten().map(shown).collect()
}
