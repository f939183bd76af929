//! A simulated n8n: workflows and their activation, credentials, tags, executions, and the
//! webhooks that answer while their workflow is active. Behaves as measured on n8n 2.8.4.

mod activation;
mod credentials;
mod executions;
mod hooks;
mod show;
mod state;
mod tags;
mod workflows;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use self::state::State;
use crate::sim::{InventoryItem, Provider, SimRequest, SimResponse, SimTime};

/// Key the simulator accepts.
pub const KEY: &str = "n8n-sim-key";

/// Which release the simulator behaves as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// 2.8: `activate` only; `publish` answers 405.
    V2_8,
    /// 2.41: knows `publish` as well, and takes more fields.
    V2_41,
    /// A later one that has dropped `activate`.
    PublishOnly,
}

/// A simulated n8n. What a test may decide is a method named for it.
#[derive(Debug)]
pub struct N8nSim {
    state: State,
    setup: Setup,
}

#[derive(Debug)]
struct Setup {
    keys: BTreeSet<String>,
    release: Release,
    starting: bool,
    unregistered: u32,
    mute: bool,
}

impl Default for N8nSim {
    fn default() -> Self {
        Self::new()
    }
}

impl N8nSim {
    /// An empty instance of release 2.8.
    #[must_use]
    pub fn new() -> Self {
        let keys = BTreeSet::from([KEY.to_owned()]);
        let setup =
            Setup { keys, release: Release::V2_8, starting: false, unregistered: 0, mute: false };
        Self { state: State::default(), setup }
    }

    /// Accepts this key as well.
    pub fn accept_key(&mut self, key: &str) {
        self.setup.keys.insert(key.to_owned());
    }

    /// Accepts this key no more.
    pub fn revoke_key(&mut self, key: &str) {
        self.setup.keys.remove(key);
    }

    /// Behaves as another release.
    pub fn set_release(&mut self, release: Release) {
        self.setup.release = release;
    }

    /// Answers every path with a page, as while n8n starts.
    pub fn set_starting(&mut self, starting: bool) {
        self.setup.starting = starting;
    }

    /// Lets the next `times` activations answer 200 without registering any webhook.
    pub fn forget_webhooks(&mut self, times: u32) {
        self.setup.unregistered = times;
    }

    /// Lets activations answer 200 and do nothing at all.
    pub fn set_mute(&mut self, mute: bool) {
        self.setup.mute = mute;
    }

    /// Adds a workflow of somebody else's, and says its id.
    pub fn seed_workflow(&mut self, name: &str, method: &str, path: &str, active: bool) -> String {
        let node = json!({
            "id": "seed", "name": "Webhook", "type": "n8n-nodes-base.webhook", "typeVersion": 2,
            "position": [0, 0], "webhookId": "00000000-0000-4000-8000-000000000000",
            "parameters": { "httpMethod": method, "path": path },
        });
        let id = self.state.id(16);
        self.state.workflows.push(state::Workflow {
            id: id.clone(),
            name: name.to_owned(),
            nodes: json!([node]),
            connections: json!({}),
            settings: json!({}),
            active,
            registered: active,
            version: 1,
            created: 1_600_000_000_000,
            updated: 1_600_000_000_000,
            hidden_until: 0,
            tags: Vec::new(),
            fixture: true,
        });
        id
    }

    /// Ids of the active workflows, seeded ones included.
    #[must_use]
    pub fn active(&self) -> Vec<String> {
        self.state.workflows.iter().filter(|w| w.active).map(|w| w.id.clone()).collect()
    }

    /// How often a workflow was run.
    #[must_use]
    pub fn executions_of(&self, workflow: &str) -> usize {
        self.state.executions.iter().filter(|e| e.workflow == workflow).count()
    }

    fn is_old(&self) -> bool {
        self.setup.release == Release::V2_8
    }

    fn api(&mut self, request: &SimRequest, now: u64) -> SimResponse {
        match request.header("x-n8n-api-key") {
            None => return message(401, "'X-N8N-API-KEY' header required"),
            Some(key) if !self.setup.keys.contains(key) => return message(401, "unauthorized"),
            Some(_) => {}
        }
        let has_body = matches!(request.method.as_str(), "POST" | "PUT" | "PATCH");
        if has_body && !request.body.is_empty() && request.json::<Value>().is_err() {
            return page(500, "SyntaxError: Unexpected token in JSON");
        }
        let path = request.segments();
        match path.get(2..).unwrap_or_default() {
            ["workflows", rest @ ..] => self.workflow_routes(request, rest, now),
            ["tags", rest @ ..] => self.tag_routes(request, rest, now),
            ["credentials", rest @ ..] => self.credential_routes(request, rest, now),
            ["executions", rest @ ..] => self.execution_routes(request, rest),
            ["variables", ..] => message(403, &licence("feat:variables")),
            ["projects", ..] => message(403, &licence("feat:projectRole:admin")),
            ["users"] if request.method == "GET" => {
                let user = json!({ "id": "u1", "email": "owner@example.com", "isPending": false });
                SimResponse::json(200, &json!({ "data": [user], "nextCursor": null }))
            }
            ["audit"] if request.method == "POST" => SimResponse::json(200, &json!({})),
            _ => SimResponse::unhandled(request),
        }
    }
}

impl Provider for N8nSim {
    fn name(&self) -> &'static str {
        "n8n"
    }

    fn changing_routes(&self) -> &'static [&'static str] {
        &[
            "POST /api/v1/workflows",
            "PUT /api/v1/workflows/*",
            "DELETE /api/v1/workflows/*",
            "POST /api/v1/workflows/*/activate",
            "POST /api/v1/workflows/*/deactivate",
            "POST /api/v1/workflows/*/publish",
            "PUT /api/v1/workflows/*/tags",
            "POST /api/v1/credentials",
            "DELETE /api/v1/credentials/*",
            "POST /api/v1/tags",
            "DELETE /api/v1/tags/*",
            "DELETE /api/v1/executions/*",
            "POST /api/v1/audit",
            "* /api/v1/variables/**",
            "* /api/v1/projects/**",
            "* /webhook/**",
            "* /webhook-test/**",
        ]
    }

    fn handle(&mut self, request: &SimRequest, now: SimTime) -> SimResponse {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let path = request.segments();
        if path.first() == Some(&"healthz") {
            return SimResponse::json(200, &json!({ "status": "ok" }));
        }
        if self.setup.starting {
            let status = if request.method == "GET" { 200 } else { 404 };
            return page(status, "n8n is starting up. Please wait");
        }
        match path.as_slice() {
            ["webhook", rest @ ..] => self.serve_webhook(request, rest, now),
            ["webhook-test", rest @ ..] => hooks::not_registered(&request.method, &rest.join("/")),
            ["api", "v1", ..] => self.api(request, now),
            _ => SimResponse::unhandled(request),
        }
    }

    fn inventory(&self) -> Vec<InventoryItem> {
        let item = |kind: &str, id: &str, name: &str, labels| InventoryItem {
            provider: "n8n".to_owned(),
            kind: kind.to_owned(),
            id: id.to_owned(),
            name: name.to_owned(),
            labels,
        };
        let mut items = Vec::new();
        for workflow in self.state.workflows.iter().filter(|w| !w.fixture) {
            let mut labels = BTreeMap::new();
            labels.insert("active".to_owned(), workflow.active.to_string());
            let notes = workflow.nodes().filter_map(|n| n.get("notes").and_then(Value::as_str));
            if let Some(notes) = notes.into_iter().next() {
                labels.insert("notes".to_owned(), notes.to_owned());
            }
            items.push(item("workflow", &workflow.id, &workflow.name, labels));
        }
        for credential in &self.state.credentials {
            items.push(item("credential", &credential.id, &credential.name, BTreeMap::new()));
        }
        for tag in &self.state.tags {
            items.push(item("tag", &tag.id, &tag.name, BTreeMap::new()));
        }
        items
    }

    fn snapshot(&self) -> Value {
        serde_json::to_value(&self.state).unwrap_or_default()
    }

    fn restore(&mut self, state: Value) -> Result<(), String> {
        self.state = serde_json::from_value(state).map_err(|e| e.to_string())?;
        Ok(())
    }

    fn refuse(&self, status: u16) -> SimResponse {
        match status {
            401 => message(401, "unauthorized"),
            404 => message(404, "Not Found"),
            500 => message(500, "Internal server error"),
            _ => message(status, "refused"),
        }
    }
}

/// The instance's way to refuse.
fn message(status: u16, text: &str) -> SimResponse {
    SimResponse::json(status, &json!({ "message": text }))
}

/// A page for people, where a program hoped for JSON.
fn page(status: u16, text: &str) -> SimResponse {
    let body = format!("<!DOCTYPE html><html><body><pre>{text}</pre></body></html>");
    SimResponse::text(status, "text/html; charset=utf-8", body)
}

fn licence(feature: &str) -> String {
    format!("Your license does not allow for {feature}. To enable {feature}, please upgrade.")
}
