//! SSH keys: unique by name and by the key itself.

use serde_json::json;

use super::{HetznerSim, at, invalid, not_found, show, state::Key, strict_object, taken};
use crate::sim::{SimRequest, SimResponse};

impl HetznerSim {
    pub(super) fn key_routes(
        &mut self,
        request: &SimRequest,
        rest: &[&str],
        now: u64,
    ) -> SimResponse {
        match (request.method.as_str(), rest) {
            ("POST", []) => self.create_key(request, now),
            ("GET", []) => {
                let wanted = request.q("fingerprint");
                let of = |key: &&Key| {
                    wanted.is_none_or(|wanted| show::fingerprint(&key.public_key) == wanted)
                };
                let keys: Vec<Key> = self.state.keys.iter().filter(of).cloned().collect();
                show::listed(request, now, ("ssh_keys", &keys), show::key)
            }
            ("GET", [id]) => match self.state.keys.iter().find(|k| k.base.id.to_string() == *id) {
                Some(key) => SimResponse::json(200, &json!({ "ssh_key": show::key(key) })),
                None => not_found("SSH key"),
            },
            ("DELETE", [id]) => {
                match self.state.keys.iter().position(|k| k.base.id.to_string() == *id) {
                    Some(at) => {
                        self.state.keys.remove(at);
                        SimResponse::empty(204)
                    }
                    None => not_found("SSH key"),
                }
            }
            _ => SimResponse::unhandled(request),
        }
    }

    fn create_key(&mut self, request: &SimRequest, now: u64) -> SimResponse {
        let body = match strict_object(request, &["name", "public_key", "labels"]) {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        let text = |name: &str| at(&body, name).as_str().unwrap_or_default();
        if text("name").is_empty() {
            return invalid("name");
        }
        if text("public_key").split_whitespace().count() < 2 {
            return invalid("public_key");
        }
        if self.state.keys.iter().any(|key| key.base.name == text("name")) {
            return taken("name");
        }
        let print = show::fingerprint(text("public_key"));
        if self.state.keys.iter().any(|key| show::fingerprint(&key.public_key) == print) {
            return taken("public_key");
        }
        let base = match self.base(&body, now) {
            Ok(base) => base,
            Err(refusal) => return refusal,
        };
        let key = Key { base, public_key: text("public_key").to_owned() };
        let shown = show::key(&key);
        self.state.keys.push(key);
        SimResponse::json(201, &json!({ "ssh_key": shown }))
    }
}
