//! Executions: one for each call of a webhook.

use serde_json::{Value, json};

use super::{N8nSim, message, show};
use crate::sim::{SimRequest, SimResponse};

impl N8nSim {
    pub(super) fn execution_routes(&mut self, request: &SimRequest, rest: &[&str]) -> SimResponse {
        match (request.method.as_str(), rest) {
            ("GET", []) => {
                let wanted = request.q("workflowId");
                let seen = self.state.executions.iter().rev();
                let seen = seen.filter(|e| wanted.is_none_or(|id| e.workflow == id));
                // Ids are text in lists, a number elsewhere.
                let shown: Vec<Value> =
                    seen.map(|e| show::execution(e, &json!(e.id.to_string()))).collect();
                show::paged(request, &shown)
            }
            ("DELETE", [id]) => {
                let place = self.state.executions.iter().position(|e| e.id.to_string() == *id);
                match place {
                    Some(at) => {
                        let gone = self.state.executions.remove(at);
                        SimResponse::json(200, &show::execution(&gone, &json!(gone.id)))
                    }
                    None => message(404, "Not Found"),
                }
            }
            _ => SimResponse::unhandled(request),
        }
    }
}
