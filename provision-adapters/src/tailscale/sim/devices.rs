//! Devices: listed with exact filters, named, approved, tagged, deleted.

use serde_json::{Map, Value, json};

use super::{
    SUFFIX, TailscaleSim, message, moment,
    state::{Device, From},
};
use crate::sim::{SimRequest, SimResponse};

impl TailscaleSim {
    pub(super) fn list_devices(&self, request: &SimRequest, now: u64) -> SimResponse {
        let (hostname, tags) = (request.q("hostname"), request.q_all("tags"));
        let seen = self.state.devices.iter().filter(|device| {
            device.hidden_until <= now
                && hostname.is_none_or(|wanted| device.hostname == wanted)
                && tags.iter().all(|tag| device.tags.iter().any(|has| has == tag))
        });
        let devices: Vec<Value> = seen.map(shown).collect();
        SimResponse::json(200, &json!({ "devices": devices }))
    }

    pub(super) fn device_routes(
        &mut self,
        request: &SimRequest,
        id: &str,
        rest: &[&str],
    ) -> SimResponse {
        let found = self.state.devices.iter().position(|d| d.node_id == id || d.id == id);
        let Some(at) = found else { return message(404, "no device with that id") };
        match (request.method.as_str(), rest) {
            ("GET", []) => match self.state.devices.get(at) {
                Some(device) => SimResponse::json(200, &shown(device)),
                None => message(404, "no device with that id"),
            },
            ("DELETE", []) => {
                if self.state.devices.get(at).is_some_and(|device| device.from == From::Shared) {
                    return message(501, "cannot delete a device of another tailnet");
                }
                self.state.devices.remove(at);
                SimResponse::empty(200)
            }
            ("POST", ["authorized" | "tags" | "name"]) => self.change_device(request, at, rest),
            _ => SimResponse::unhandled(request),
        }
    }

    fn change_device(&mut self, request: &SimRequest, at: usize, rest: &[&str]) -> SimResponse {
        let body: Map<String, Value> = match request.json() {
            Ok(body) => body,
            Err(_) => return message(400, "invalid body"),
        };
        let refused = self.setup.rename_refused;
        let name = body.get("name").and_then(Value::as_str);
        let own = self.state.devices.get(at).map(|device| device.node_id.clone());
        let free = name.map(|name| self.state.free_label(name, own.as_deref()));
        let Some(device) = self.state.devices.get_mut(at) else {
            return message(404, "no device with that id");
        };
        match rest {
            ["name"] => match (name, free) {
                (Some(name), Some(free)) if refused && free != name => {
                    return message(409, "name already in use");
                }
                (Some(""), _) => device.label.clone_from(&device.hostname),
                (Some(_), Some(free)) => device.label = free,
                _ => return message(400, "name is missing"),
            },
            ["authorized"] => match body.get("authorized").and_then(Value::as_bool) {
                Some(authorized) => device.authorized = authorized,
                None => return message(400, "authorized is missing"),
            },
            _ => {
                let tags = body.get("tags").and_then(Value::as_array).cloned().unwrap_or_default();
                let tags = tags.iter().filter_map(|tag| tag.as_str().map(ToOwned::to_owned));
                device.tags = tags.collect();
            }
        }
        SimResponse::empty(200)
    }
}

fn shown(device: &Device) -> Value {
    let (high, low) = (device.address / 250 % 60 + 64, device.address % 250 + 1);
    let four = format!("100.{high}.0.{low}");
    let six = format!("fd7a:115c:a1e0::{:x}", device.address);
    json!({
        "id": device.id, "nodeId": device.node_id, "hostname": device.hostname,
        "name": format!("{}.{SUFFIX}", device.label), "addresses": [four, six],
        "tags": device.tags, "authorized": device.authorized, "isEphemeral": device.ephemeral,
        "isExternal": device.from == From::Shared, "keyExpiryDisabled": true, "os": "linux",
        // Dates of devices of other tailnets are empty.
        "created": if device.from == From::Shared { String::new() } else { moment(device.created) },
    })
}
