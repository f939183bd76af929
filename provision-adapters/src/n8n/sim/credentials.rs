//! Credentials: their data goes in and never comes out.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{N8nSim, message, show, state::Credential};
use crate::sim::{SimRequest, SimResponse};

/// The types it knows, with their fields.
const TYPES: &[(&str, &[&str])] = &[
    ("httpHeaderAuth", &["name", "value"]),
    ("httpBasicAuth", &["user", "password"]),
    ("httpQueryAuth", &["name", "value"]),
    ("supabaseApi", &["host", "serviceRole"]),
];

fn fields(kind: &str) -> Option<&'static [&'static str]> {
    TYPES.iter().find(|(name, _)| *name == kind).map(|(_, fields)| *fields)
}

impl N8nSim {
    pub(super) fn credential_routes(
        &mut self,
        request: &SimRequest,
        rest: &[&str],
        now: u64,
    ) -> SimResponse {
        match (request.method.as_str(), rest) {
            ("POST", []) => self.create_credential(request, now),
            ("GET", []) => {
                let seen = self.state.credentials.iter().filter(|c| c.hidden_until <= now);
                show::paged(request, &seen.map(show::credential).collect::<Vec<_>>())
            }
            ("GET", ["schema", kind]) => schema(kind),
            ("DELETE", [id]) => match self.state.credentials.iter().position(|c| c.id == *id) {
                Some(at) => {
                    let gone = self.state.credentials.remove(at);
                    SimResponse::json(200, &show::credential(&gone))
                }
                None => message(404, "Not Found"),
            },
            _ => SimResponse::unhandled(request),
        }
    }

    /// The same name twice makes two.
    fn create_credential(&mut self, request: &SimRequest, now: u64) -> SimResponse {
        let body: Map<String, Value> = match request.json() {
            Ok(body) => body,
            Err(_) => return message(400, "request/body must be object"),
        };
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let missing = ["name", "type", "data"].into_iter().find(|n| !body.contains_key(*n));
        if let Some(name) = missing {
            return message(400, &format!("request/body must have required property '{name}'"));
        }
        let (name, kind) = (text("name").unwrap_or_default(), text("type").unwrap_or_default());
        let Some(known) = fields(kind) else {
            return message(400, "req.body.type is not a known type");
        };
        let given = body.get("data").and_then(Value::as_object).cloned().unwrap_or_default();
        if let Some(extra) = given.keys().find(|field| !known.contains(&field.as_str())) {
            let text = format!(
                "request.body.data is not allowed to have the additional property \"{extra}\""
            );
            return message(400, &text);
        }
        let data: BTreeMap<String, String> = given
            .into_iter()
            .map(|(field, value)| (field, value.as_str().unwrap_or_default().to_owned()))
            .collect();
        let hidden = u64::try_from(request.hidden_for.as_millis()).unwrap_or(u64::MAX);
        let credential = Credential {
            id: self.state.id(16),
            name: name.to_owned(),
            kind: kind.to_owned(),
            data,
            created: now,
            hidden_until: now.saturating_add(hidden),
        };
        let shown = show::credential(&credential);
        self.state.credentials.push(credential);
        SimResponse::json(200, &shown)
    }
}

fn schema(kind: &str) -> SimResponse {
    let Some(known) = fields(kind) else { return message(404, "Not Found") };
    let properties: Map<String, Value> =
        known.iter().map(|field| ((*field).to_owned(), json!({ "type": "string" }))).collect();
    let body = json!({
        "additionalProperties": false, "type": "object", "properties": properties, "required": [],
    });
    SimResponse::json(200, &body)
}
