//! Workflows: made, listed, replaced, deleted.

use serde_json::{Map, Value};

use super::{N8nSim, message, show, state::Workflow};
use crate::sim::{SimRequest, SimResponse};

const REQUIRED: &[&str] = &["name", "nodes", "connections", "settings"];
const OPTIONAL: &[&str] = &["staticData"];
const OPTIONAL_LATER: &[&str] = &["pinData", "projectId", "nodeGroups", "parentFolderId"];
const READ_ONLY: &[&str] = &[
    "id",
    "active",
    "createdAt",
    "updatedAt",
    "isArchived",
    "versionId",
    "triggerCount",
    "tags",
    "meta",
    "shared",
    "activeVersion",
];
const SETTINGS: &[&str] = &[
    "availableInMCP",
    "callerIds",
    "callerPolicy",
    "errorWorkflow",
    "executionOrder",
    "executionTimeout",
    "saveDataErrorExecution",
    "saveDataSuccessExecution",
    "saveExecutionProgress",
    "saveManualExecutions",
    "timeSavedPerExecution",
    "timezone",
];
const NODE: &[&str] = &[
    "alwaysOutputData",
    "continueOnFail",
    "credentials",
    "disabled",
    "executeOnce",
    "id",
    "maxTries",
    "name",
    "notes",
    "notesInFlow",
    "onError",
    "parameters",
    "position",
    "retryOnFail",
    "type",
    "typeVersion",
    "waitBetweenTries",
    "webhookId",
];

impl N8nSim {
    pub(super) fn workflow_routes(
        &mut self,
        request: &SimRequest,
        rest: &[&str],
        now: u64,
    ) -> SimResponse {
        match (request.method.as_str(), rest) {
            ("POST", []) => self.create_workflow(request, now),
            ("GET", []) => self.list_workflows(request, now),
            ("GET", [id]) => self.show_workflow(id),
            ("PUT", [id]) => self.replace_workflow(request, id, now),
            ("DELETE", [id]) => self.delete_workflow(id),
            ("POST", [id, "activate"]) => self.activate(id),
            ("POST", [id, "deactivate"]) => self.deactivate(id),
            ("POST", [id, "publish"]) => self.publish(id),
            ("GET" | "PUT", [id, "tags"]) => self.workflow_tags(request, id),
            _ => SimResponse::unhandled(request),
        }
    }

    fn check(&self, request: &SimRequest) -> Result<Map<String, Value>, SimResponse> {
        let Ok(Value::Object(body)) = request.json() else {
            return Err(message(400, "request/body must be object"));
        };
        if let Some(name) = READ_ONLY.iter().find(|name| body.contains_key(**name)) {
            return Err(message(400, &format!("request/body/{name} is read-only")));
        }
        let later = |name: &&str| !self.is_old() && OPTIONAL_LATER.contains(name);
        let known =
            |name: &str| REQUIRED.contains(&name) || OPTIONAL.contains(&name) || later(&name);
        if body.keys().any(|name| !known(name)) {
            return Err(message(400, "request/body must NOT have additional properties"));
        }
        if let Some(name) = REQUIRED.iter().find(|name| !body.contains_key(**name)) {
            let text = format!("request/body must have required property '{name}'");
            return Err(message(400, &text));
        }
        let settings = body.get("settings").and_then(Value::as_object);
        if settings.is_none_or(|s| s.keys().any(|key| !SETTINGS.contains(&key.as_str()))) {
            return Err(message(400, "request/body/settings must NOT have additional properties"));
        }
        let nodes = body.get("nodes").and_then(Value::as_array);
        let nodes = nodes.ok_or_else(|| message(400, "request/body/nodes must be array"))?;
        for (at, node) in nodes.iter().enumerate() {
            let sound =
                node.as_object().is_some_and(|n| n.keys().all(|k| NODE.contains(&k.as_str())));
            if !sound {
                let text = format!("request/body/nodes/{at} must NOT have additional properties");
                return Err(message(400, &text));
            }
        }
        Ok(body)
    }

    /// Names are not unique: the same call twice makes two. Unknown nodes are taken.
    fn create_workflow(&mut self, request: &SimRequest, now: u64) -> SimResponse {
        let body = match self.check(request) {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        let part = |name: &str| body.get(name).cloned().unwrap_or_default();
        let hidden = u64::try_from(request.hidden_for.as_millis()).unwrap_or(u64::MAX);
        let workflow = Workflow {
            id: self.state.id(16),
            name: part("name").as_str().unwrap_or_default().to_owned(),
            nodes: part("nodes"),
            connections: part("connections"),
            settings: part("settings"),
            active: false,
            registered: false,
            version: 1,
            created: now,
            updated: now,
            hidden_until: now.saturating_add(hidden),
            tags: Vec::new(),
            fixture: false,
        };
        let shown = show::workflow(&workflow, &self.state);
        self.state.workflows.push(workflow);
        // 200, not 201.
        SimResponse::json(200, &shown)
    }

    fn list_workflows(&self, request: &SimRequest, now: u64) -> SimResponse {
        let part = request.q("name").unwrap_or_default();
        let tags: Vec<&str> = request.q("tags").map(|t| t.split(',').collect()).unwrap_or_default();
        let tagged = |workflow: &Workflow| {
            tags.iter().all(|wanted| {
                let tag = self.state.tags.iter().find(|t| t.name == *wanted);
                tag.is_some_and(|t| workflow.tags.contains(&t.id))
            })
        };
        let active = request.q("active").map(|a| a == "true");
        let seen = self.state.workflows.iter().filter(|w| {
            w.hidden_until <= now
                && w.name.contains(part)
                && tagged(w)
                && active.is_none_or(|active| w.active == active)
        });
        let shown: Vec<Value> = seen.map(|w| show::workflow(w, &self.state)).collect();
        show::paged(request, &shown)
    }

    pub(super) fn place(&self, id: &str) -> Option<usize> {
        self.state.workflows.iter().position(|w| w.id == id)
    }

    pub(super) fn show_workflow(&self, id: &str) -> SimResponse {
        match self.place(id).and_then(|at| self.state.workflows.get(at)) {
            Some(workflow) => SimResponse::json(200, &show::workflow(workflow, &self.state)),
            None => message(404, "Not Found"),
        }
    }

    /// The whole content; an active workflow is live with the new one at once.
    fn replace_workflow(&mut self, request: &SimRequest, id: &str, now: u64) -> SimResponse {
        let Some(at) = self.place(id) else { return message(404, "Not Found") };
        let body = match self.check(request) {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        if let Some(workflow) = self.state.workflows.get_mut(at) {
            let part = |name: &str| body.get(name).cloned().unwrap_or_default();
            workflow.name = part("name").as_str().unwrap_or_default().to_owned();
            (workflow.nodes, workflow.connections) = (part("nodes"), part("connections"));
            workflow.settings = part("settings");
            (workflow.version, workflow.updated) = (workflow.version + 1, now);
        }
        self.show_workflow(id)
    }

    fn delete_workflow(&mut self, id: &str) -> SimResponse {
        let Some(at) = self.place(id) else { return message(404, "Not Found") };
        let gone = self.state.workflows.remove(at);
        self.state.executions.retain(|e| e.workflow != gone.id);
        SimResponse::json(200, &show::workflow(&gone, &self.state))
    }
}
