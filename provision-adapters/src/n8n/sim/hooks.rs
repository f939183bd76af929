//! Webhooks: which are there, and what they answer.

use serde_json::{Map, Value, json};

use super::{
    N8nSim,
    state::{Execution, Workflow},
};
use crate::sim::{SimRequest, SimResponse};

/// One webhook as the instance registers it.
pub(super) struct Hook {
    pub(super) method: String,
    /// Where it is called below `/webhook`; parts that begin with `:` stand for anything.
    pub(super) path: String,
    credential: Option<String>,
}

impl Hook {
    fn is_at(&self, called: &[&str]) -> bool {
        let own: Vec<&str> = self.path.split('/').collect();
        own.len() == called.len()
            && own.iter().zip(called).all(|(own, got)| own.starts_with(':') || own == got)
    }
}

impl Workflow {
    /// A node without a `webhookId` has no address, although it may be activated.
    pub(super) fn hooks(&self) -> Vec<Hook> {
        self.nodes().filter_map(hook).collect()
    }
}

fn hook(node: &Map<String, Value>) -> Option<Hook> {
    if node.get("type")?.as_str()? != "n8n-nodes-base.webhook" {
        return None;
    }
    let id = node.get("webhookId")?.as_str()?;
    let parameters = node.get("parameters")?.as_object()?;
    let path = parameters.get("path")?.as_str()?.trim_matches('/');
    let method = parameters.get("httpMethod").and_then(Value::as_str).unwrap_or("GET");
    let dynamic = path.split('/').any(|part| part.starts_with(':'));
    let secured = parameters.get("authentication").and_then(Value::as_str) == Some("headerAuth");
    let used = node.get("credentials").and_then(|c| c.get("httpHeaderAuth")?.get("id")?.as_str());
    Some(Hook {
        method: method.to_owned(),
        path: if dynamic { format!("{id}/{path}") } else { path.to_owned() },
        credential: used.filter(|_| secured).map(ToOwned::to_owned),
    })
}

pub(super) fn not_registered(method: &str, path: &str) -> SimResponse {
    let body = json!({
        "code": 404,
        "message": format!("The requested webhook \"{method} {path}\" is not registered."),
        "hint": "The workflow must be active for a production URL to run successfully.",
    });
    SimResponse::json(404, &body)
}

impl N8nSim {
    pub(super) fn serve_webhook(
        &mut self,
        request: &SimRequest,
        called: &[&str],
        now: u64,
    ) -> SimResponse {
        let live = self.state.workflows.iter().filter(|w| w.active && w.registered);
        let hooks: Vec<(String, Hook)> = live
            .flat_map(|w| w.hooks().into_iter().map(|hook| (w.id.clone(), hook)))
            .filter(|(_, hook)| hook.is_at(called))
            .collect();
        let Some((workflow, hook)) = hooks.iter().find(|(_, h)| h.method == request.method) else {
            return match hooks.first() {
                Some((_, other)) => wrong_method(&request.method, &other.method),
                None => not_registered(&request.method, &called.join("/")),
            };
        };
        if !self.may_call(hook, request) {
            let body = json!({ "code": 403, "message": "Authorization data is wrong!" });
            return SimResponse::json(403, &body);
        }
        self.state.made += 1;
        let execution = Execution { id: self.state.made, workflow: workflow.clone(), started: now };
        self.state.executions.push(execution);
        SimResponse::json(200, &json!({ "message": "Workflow was started" }))
    }

    fn may_call(&self, hook: &Hook, request: &SimRequest) -> bool {
        let Some(id) = &hook.credential else { return true };
        let credential = self.state.credentials.iter().find(|c| c.id == *id);
        let pair = credential.and_then(|c| Some((c.data.get("name")?, c.data.get("value")?)));
        pair.is_some_and(|(name, value)| {
            request.header(&name.to_ascii_lowercase()) == Some(value.as_str())
        })
    }
}

/// The real one sends its stack along.
fn wrong_method(got: &str, own: &str) -> SimResponse {
    let body = json!({
        "code": 404,
        "message": format!(
            "This webhook is not registered for {got} requests. Did you mean to make a {own} request?"
        ),
        "hint": "",
        "stacktrace": "ResponseError: canary-stack\n    at LiveWebhooks.findWebhook (/usr/lib)",
    });
    SimResponse::json(404, &body)
}
