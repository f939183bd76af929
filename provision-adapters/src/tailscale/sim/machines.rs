//! Machines of a test: they join with a key, which no call of the provider's API does.

use serde_json::{Map, Value, json};

use super::{
    TailscaleSim, message,
    state::{Device, From, Machine},
};
use crate::sim::{SimRequest, SimResponse};

impl TailscaleSim {
    /// Lets a machine join, as `tailscale up --auth-key=<key> --hostname=<hostname>` does; says
    /// the id of its device.
    ///
    /// # Errors
    /// The key is unknown, used, revoked or past its end at `now_ms`; says so.
    pub fn join(&mut self, hostname: &str, key: &str, now_ms: u64) -> Result<String, &'static str> {
        let label = self.state.free_label(hostname, None);
        let Some(at) = self.state.keys.iter().position(|known| known.secret == key) else {
            return Err("unknown key");
        };
        let Some(known) = self.state.keys.get_mut(at).filter(|key| key.is_live(now_ms)) else {
            return Err("the key was used, revoked, or is past its end");
        };
        known.used_by.push(hostname.to_owned());
        if !known.reusable {
            known.ended = Some(now_ms);
        }
        let known = known.clone();
        let id = self.add_device(hostname, label, From::Joined);
        let joined = self.state.devices.iter_mut().filter(|device| device.node_id == id);
        joined.for_each(|device| {
            *device = Device {
                tags: known.tags.clone(),
                authorized: known.preauthorized,
                ephemeral: known.ephemeral,
                created: now_ms,
                ..device.clone()
            }
        });
        Ok(id)
    }

    /// `POST /sim/machines` with `hostname` and `key` starts a machine, `DELETE
    /// /sim/machines/{hostname}` destroys it; both may be repeated.
    pub(super) fn machine_routes(
        &mut self,
        request: &SimRequest,
        rest: &[&str],
        now: u64,
    ) -> SimResponse {
        match (request.method.as_str(), rest) {
            ("POST", []) => self.start_machine(request, now),
            ("DELETE", [hostname]) => {
                self.state.machines.retain(|machine| machine.hostname != *hostname);
                SimResponse::empty(204)
            }
            _ => SimResponse::unhandled(request),
        }
    }

    fn start_machine(&mut self, request: &SimRequest, now: u64) -> SimResponse {
        let body: Map<String, Value> = match request.json() {
            Ok(body) => body,
            Err(_) => return message(400, "invalid body"),
        };
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
        let (hostname, key) = (text("hostname"), text("key"));
        let known = self.state.keys.iter().find(|known| known.secret == key);
        if known.is_some_and(|known| known.used_by.iter().any(|by| by == hostname)) {
            return SimResponse::json(200, &json!({ "hostname": hostname }));
        }
        match self.join(hostname, key, now) {
            Ok(id) => {
                let hidden = u64::try_from(request.hidden_for.as_millis()).unwrap_or(u64::MAX);
                let joined = self.state.devices.iter_mut().filter(|d| d.node_id == id);
                joined.for_each(|device| device.hidden_until = now.saturating_add(hidden));
                self.state.machines.push(Machine { hostname: hostname.to_owned() });
                SimResponse::json(200, &json!({ "hostname": hostname }))
            }
            Err(why) => message(409, why),
        }
    }
}
