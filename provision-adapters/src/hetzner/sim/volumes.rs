//! Volumes: made, attached to one server at a time, deleted when they are attached to none.

use serde_json::json;

use super::{
    HetznerSim,
    actions::Begun,
    at, catalogue, error, invalid, not_found, show,
    state::{Change, Volume},
    strict_object, taken,
};
use crate::sim::{SimRequest, SimResponse};

const FIELDS: &[&str] = &["name", "size", "location", "server", "format", "automount", "labels"];

impl HetznerSim {
    pub(super) fn volume_routes(
        &mut self,
        request: &SimRequest,
        rest: &[&str],
        now: u64,
    ) -> SimResponse {
        let id = rest.first().and_then(|id| id.parse::<u64>().ok()).unwrap_or_default();
        let place = self.state.volumes.iter().position(|v| v.base.id == id);
        let known = place.and_then(|place| self.state.volumes.get(place)).cloned();
        match (request.method.as_str(), rest, place.zip(known)) {
            ("POST", [], _) => self.create_volume(request, now),
            ("GET", [], _) => {
                show::listed(request, now, ("volumes", &self.state.volumes), show::volume)
            }
            (_, [_, ..], None) => not_found("volume"),
            ("GET", [_], Some((_, volume))) => {
                SimResponse::json(200, &json!({ "volume": show::volume(&volume) }))
            }
            ("DELETE", [_], Some((place, volume))) => {
                if volume.base.protected {
                    return error(423, "protected", "volume deletion is protected");
                }
                if volume.server.is_some() {
                    return error(422, "resource_in_use", "volume is attached");
                }
                self.state.volumes.remove(place);
                SimResponse::empty(204)
            }
            ("POST", [_, "actions", "attach"], Some((_, volume))) => {
                self.attach_volume(request, &volume, now)
            }
            ("POST", [_, "actions", "detach"], Some((_, volume))) => {
                let Some(server) = volume.server else {
                    return error(422, "invalid_input", "volume is not attached");
                };
                let both = vec![("server", server), ("volume", id)];
                let begun = Begun::new("detach_volume", both, Change::VolumeOff(id));
                let (action, _) = self.begin(begun, now);
                SimResponse::json(201, &json!({ "action": action }))
            }
            _ => SimResponse::unhandled(request),
        }
    }

    fn create_volume(&mut self, request: &SimRequest, now: u64) -> SimResponse {
        let body = match strict_object(request, FIELDS) {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        let text = |name: &str| at(&body, name).as_str().unwrap_or_default().to_owned();
        let size = at(&body, "size").as_u64().unwrap_or_default();
        if text("name").is_empty() {
            return invalid("name");
        }
        if !(10..=10_240).contains(&size) {
            return invalid("size");
        }
        if catalogue::zone(&text("location")).is_none() {
            return invalid("location");
        }
        if self.state.volumes.iter().any(|volume| volume.base.name == text("name")) {
            return taken("name");
        }
        let base = match self.base(&body, now) {
            Ok(base) => base,
            Err(refusal) => return refusal,
        };
        let id = base.id;
        let (location, format) = (text("location"), at(&body, "format").as_str());
        let format = format.map(ToOwned::to_owned);
        let volume = Volume { base, size, location, format, server: None, creating: true };
        let shown = show::volume(&volume);
        self.state.volumes.push(volume);
        let begun = Begun::new("create_volume", vec![("volume", id)], Change::VolumeMade(id));
        let (action, _) = self.begin(begun, now);
        let answer = json!({ "volume": shown, "action": action, "next_actions": [] });
        SimResponse::json(201, &answer)
    }

    fn attach_volume(&mut self, request: &SimRequest, volume: &Volume, now: u64) -> SimResponse {
        let body = match strict_object(request, &["server", "automount"]) {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        let server = at(&body, "server").as_u64().unwrap_or_default();
        let outrun = std::mem::take(&mut self.setup.outrun);
        if outrun {
            self.put_volume(volume.base.id, server);
        }
        let Some(known) = self.state.server(server) else { return not_found("server") };
        if outrun || volume.server.is_some() {
            return error(422, "volume_already_attached", "volume is already attached");
        }
        if known.location != volume.location {
            return invalid("server");
        }
        let id = volume.base.id;
        let both = vec![("server", server), ("volume", id)];
        let begun = Begun::new("attach_volume", both, Change::VolumeOn { volume: id, server });
        let (action, _) = self.begin(begun, now);
        SimResponse::json(201, &json!({ "action": action }))
    }
}
