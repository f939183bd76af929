//! Keys: shown once, listed without their value, used up by the first machine.

use serde_json::{Map, Value, json};

use super::{TailscaleSim, message, moment, state::Key};
use crate::{
    sim::{SimRequest, SimResponse},
    tailscale::{DESCRIPTION_MAX, KEY_LIFE_MAX},
};

impl TailscaleSim {
    pub(super) fn key_routes(
        &mut self,
        request: &SimRequest,
        rest: &[&str],
        now: u64,
    ) -> SimResponse {
        match (request.method.as_str(), rest) {
            ("POST", []) => self.create_key(request, now),
            ("GET", []) => self.list_keys(request, now),
            ("GET", [id]) => match self.state.keys.iter().find(|key| key.id == *id) {
                Some(key) if key.ended.is_none() || self.setup.deleted_are_shown => {
                    SimResponse::json(200, &shown(key, now))
                }
                _ => message(404, "key not found"),
            },
            ("DELETE", [id]) => {
                let live = self.state.keys.iter_mut().find(|k| k.id == *id && k.ended.is_none());
                match live {
                    Some(key) => {
                        key.ended = Some(now);
                        SimResponse::empty(200)
                    }
                    None => message(404, "key not found"),
                }
            }
            _ => SimResponse::unhandled(request),
        }
    }

    /// An OAuth client sees auth keys only where it asks for all.
    fn list_keys(&self, request: &SimRequest, now: u64) -> SimResponse {
        let all = request.q("all") == Some("true");
        let seen = self.state.keys.iter().filter(|key| {
            let there = key.ended.is_none() || self.setup.deleted_are_shown;
            all && there && key.hidden_until <= now
        });
        let client = json!({ "id": super::CLIENT_ID, "keyType": "client", "description": "sim" });
        let keys: Vec<Value> = seen.map(|key| shown(key, now)).chain([client]).collect();
        SimResponse::json(200, &json!({ "keys": keys }))
    }

    fn create_key(&mut self, request: &SimRequest, now: u64) -> SimResponse {
        let wanted = match self.wanted(request) {
            Ok(wanted) => wanted,
            Err(text) => return message(400, &text),
        };
        let hidden = u64::try_from(request.hidden_for.as_millis()).unwrap_or(u64::MAX);
        let id = format!("k{}CNTRL", self.state.word(12));
        let key = Key {
            secret: format!("tskey-auth-{id}-{}", self.state.word(32)),
            id,
            created: now,
            expires: now.saturating_add(wanted.seconds.saturating_mul(1_000)),
            hidden_until: now.saturating_add(hidden),
            ended: None,
            used_by: Vec::new(),
            reusable: wanted.flag("reusable"),
            ephemeral: wanted.flag("ephemeral"),
            preauthorized: wanted.flag("preauthorized"),
            description: wanted.description,
            tags: wanted.tags,
        };
        let mut answer = shown(&key, now);
        if let Some(fields) = answer.as_object_mut() {
            fields.insert("key".to_owned(), json!(key.secret));
        }
        self.state.keys.push(key);
        SimResponse::json(200, &answer)
    }

    fn wanted(&self, request: &SimRequest) -> Result<Wanted, String> {
        let body: Map<String, Value> = request.json().map_err(|_| "invalid body".to_owned())?;
        let fields = ["keyType", "description", "expirySeconds", "capabilities"];
        if let Some(name) = body.keys().find(|name| !fields.contains(&name.as_str())) {
            return Err(format!("unknown field {name}"));
        }
        let devices = body.get("capabilities").and_then(|c| c.get("devices"));
        let devices = devices.ok_or_else(|| "capabilities are missing".to_owned())?;
        let create = devices.get("create").and_then(Value::as_object).cloned().unwrap_or_default();
        let description = body.get("description").and_then(Value::as_str).unwrap_or_default();
        let sound = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == ' ';
        if description.len() > DESCRIPTION_MAX || !description.chars().all(sound) {
            return Err("invalid key description".to_owned());
        }
        let tags = create.get("tags").and_then(Value::as_array).cloned().unwrap_or_default();
        let tags: Vec<String> =
            tags.iter().filter_map(|tag| tag.as_str().map(ToOwned::to_owned)).collect();
        // Keys of an OAuth client belong to the tailnet, not to a person, and must have tags.
        if tags.is_empty() || !tags.iter().all(|tag| self.setup.tags.contains(tag)) {
            return Err(format!("requested tags {tags:?} are invalid or not permitted"));
        }
        let longest = KEY_LIFE_MAX.as_secs();
        let seconds = body.get("expirySeconds").and_then(Value::as_u64).unwrap_or(longest);
        if seconds > longest {
            return Err("expirySeconds is too large".to_owned());
        }
        let seconds = self.setup.key_seconds.map_or(seconds, |most| seconds.min(most));
        Ok(Wanted { description: description.to_owned(), tags, seconds, create })
    }
}

struct Wanted {
    description: String,
    tags: Vec<String>,
    seconds: u64,
    create: Map<String, Value>,
}

impl Wanted {
    fn flag(&self, name: &str) -> bool {
        self.create.get(name).and_then(Value::as_bool).unwrap_or_default()
    }
}

/// Never its value.
fn shown(key: &Key, now: u64) -> Value {
    let create = json!({
        "reusable": key.reusable, "ephemeral": key.ephemeral,
        "preauthorized": key.preauthorized, "tags": key.tags,
    });
    let mut shown = json!({
        "id": key.id, "keyType": "auth", "description": key.description,
        "expirySeconds": (key.expires - key.created) / 1_000, "created": moment(key.created),
        "expires": moment(key.expires), "capabilities": { "devices": { "create": create } },
        "tags": key.tags, "invalid": !key.is_live(now),
    });
    if let (Some(fields), Some(at)) = (shown.as_object_mut(), key.ended) {
        fields.insert("revoked".to_owned(), json!(moment(at)));
    }
    shown
}
