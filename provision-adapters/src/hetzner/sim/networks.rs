//! Networks and their subnets.

use serde_json::{Value, json};

use super::{HetznerSim, at, invalid, not_found, show, state::Network, strict_object, taken};
use crate::sim::{SimRequest, SimResponse};

const FIELDS: &[&str] =
    &["name", "ip_range", "subnets", "routes", "labels", "expose_routes_to_vswitch"];

impl HetznerSim {
    pub(super) fn network_routes(
        &mut self,
        request: &SimRequest,
        rest: &[&str],
        now: u64,
    ) -> SimResponse {
        let id = rest.first().and_then(|id| id.parse::<u64>().ok()).unwrap_or_default();
        let place = self.state.networks.iter().position(|n| n.base.id == id);
        match (request.method.as_str(), rest, place) {
            ("POST", [], _) => self.create_network(request, now),
            ("GET", [], _) => {
                let all = &self.state.networks;
                show::listed(request, now, ("networks", all), |n| self.show_network(n))
            }
            (_, [_, ..], None) => not_found("network"),
            ("GET", [_], Some(place)) => match self.state.networks.get(place) {
                Some(network) => {
                    SimResponse::json(200, &json!({ "network": self.show_network(network) }))
                }
                None => not_found("network"),
            },
            ("DELETE", [_], Some(place)) => {
                self.state.networks.remove(place);
                // Whatever is attached is detached.
                for server in &mut self.state.servers {
                    server.networks.retain(|(network, _)| *network != id);
                }
                SimResponse::empty(204)
            }
            _ => SimResponse::unhandled(request),
        }
    }

    fn create_network(&mut self, request: &SimRequest, now: u64) -> SimResponse {
        let body = match strict_object(request, FIELDS) {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        let text =
            |value: &Value, name: &str| at(value, name).as_str().unwrap_or_default().to_owned();
        let name = text(&body, "name");
        if name.is_empty() {
            return invalid("name");
        }
        let ip_range = text(&body, "ip_range");
        if !ip_range.contains('/') {
            return invalid("ip_range");
        }
        if self.state.networks.iter().any(|network| network.base.name == name) {
            return taken("name");
        }
        let subnets = at(&body, "subnets").as_array().into_iter().flatten();
        let subnets: Vec<(String, String)> =
            subnets.map(|s| (text(s, "ip_range"), text(s, "network_zone"))).collect();
        let base = match self.base(&body, now) {
            Ok(base) => base,
            Err(refusal) => return refusal,
        };
        let network = Network { base, ip_range, subnets };
        let shown = self.show_network(&network);
        self.state.networks.push(network);
        SimResponse::json(201, &json!({ "network": shown }))
    }
}
