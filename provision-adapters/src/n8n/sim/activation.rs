//! Activation: what must be right before a workflow may run by itself.

use serde_json::{Map, Value};

use super::{N8nSim, Release, message, show, state::Workflow};
use crate::sim::SimResponse;

/// Which credential an authentication of a webhook needs.
const NEEDS: &[(&str, &str)] =
    &[("headerAuth", "httpHeaderAuth"), ("basicAuth", "httpBasicAuth"), ("jwtAuth", "jwtAuth")];

impl N8nSim {
    pub(super) fn activate(&mut self, id: &str) -> SimResponse {
        if self.setup.release == Release::PublishOnly {
            return message(405, "POST method not allowed");
        }
        self.go_live(id)
    }

    pub(super) fn publish(&mut self, id: &str) -> SimResponse {
        if self.is_old() {
            return message(405, "POST method not allowed");
        }
        self.go_live(id)
    }

    fn go_live(&mut self, id: &str) -> SimResponse {
        let Some(at) = self.place(id) else { return message(404, "Not Found") };
        let refusal = self.state.workflows.get(at).and_then(|workflow| self.obstacle(workflow));
        if let Some(text) = refusal {
            return message(400, &text);
        }
        let forgets = self.setup.unregistered > 0;
        if forgets {
            self.setup.unregistered -= 1;
        }
        let mute = self.setup.mute;
        if let Some(workflow) = self.state.workflows.get_mut(at).filter(|_| !mute) {
            // Activating an active one changes nothing, not even webhooks that were forgotten.
            workflow.registered = if workflow.active { workflow.registered } else { !forgets };
            workflow.active = true;
        }
        self.show_workflow(id)
    }

    pub(super) fn deactivate(&mut self, id: &str) -> SimResponse {
        let Some(at) = self.place(id) else {
            return message(404, &format!("Workflow with ID \"{id}\" not found."));
        };
        if let Some(workflow) = self.state.workflows.get_mut(at) {
            (workflow.active, workflow.registered) = (false, false);
        }
        self.show_workflow(id)
    }

    fn obstacle(&self, workflow: &Workflow) -> Option<String> {
        let kind =
            |n: &Map<String, Value>| n.get("type").and_then(Value::as_str).map(str::to_owned);
        let known = |kind: &str| {
            kind.starts_with("n8n-nodes-base.") || kind.starts_with("@n8n/n8n-nodes-langchain.")
        };
        let unknown = workflow.nodes().filter_map(kind).find(|kind| !known(kind));
        if let Some(kind) = unknown {
            return Some(format!("Unrecognized node type: {kind}"));
        }
        if !workflow.nodes().any(show::is_trigger) {
            return Some(
                "Workflow cannot be activated because it has no trigger node. At least one \
                 trigger, webhook, or polling node is required."
                    .to_owned(),
            );
        }
        if let Some(missing) = workflow.nodes().find_map(|node| self.missing_credential(node)) {
            return Some(format!(
                "Cannot publish workflow: 1 node have configuration issues: \"Webhook\": Missing \
                 required credential: {missing}"
            ));
        }
        let ours = workflow.hooks();
        let others = self.state.workflows.iter().filter(|w| w.active && w.id != workflow.id);
        let clash = others
            .flat_map(Workflow::hooks)
            .any(|hook| ours.iter().any(|own| own.method == hook.method && own.path == hook.path));
        clash.then(|| "There is a conflict with one of the webhooks.".to_owned())
    }

    fn missing_credential(&self, node: &Map<String, Value>) -> Option<&'static str> {
        let wanted = node.get("parameters")?.get("authentication")?.as_str()?;
        let (_, kind) = NEEDS.iter().find(|(name, _)| *name == wanted)?;
        let used = node.get("credentials").and_then(|c| c.get(*kind)?.get("id")?.as_str());
        let there = used
            .is_some_and(|id| self.state.credentials.iter().any(|c| c.id == id && c.kind == *kind));
        (!there).then_some(*kind)
    }
}
