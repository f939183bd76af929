//! Tags: unique, short, and put on workflows as a whole list.

use serde_json::Value;

use super::{N8nSim, message, show, state::Tag};
use crate::sim::{SimRequest, SimResponse};

const NAME_MAX: usize = 24;

impl N8nSim {
    pub(super) fn tag_routes(
        &mut self,
        request: &SimRequest,
        rest: &[&str],
        now: u64,
    ) -> SimResponse {
        match (request.method.as_str(), rest) {
            ("POST", []) => self.create_tag(request, now),
            ("GET", []) => {
                show::paged(request, &self.state.tags.iter().map(show::tag).collect::<Vec<_>>())
            }
            ("DELETE", [id]) => match self.state.tags.iter().position(|t| t.id == *id) {
                Some(at) => {
                    let gone = self.state.tags.remove(at);
                    self.state.workflows.iter_mut().for_each(|w| w.tags.retain(|t| *t != gone.id));
                    SimResponse::json(200, &show::tag(&gone))
                }
                None => message(404, "Not Found"),
            },
            _ => SimResponse::unhandled(request),
        }
    }

    fn create_tag(&mut self, request: &SimRequest, now: u64) -> SimResponse {
        let body: Value = request.json().unwrap_or_default();
        let Some(name) = body.get("name").and_then(Value::as_str) else {
            return message(400, "request/body must have required property 'name'");
        };
        let known = self.state.tags.iter().any(|t| t.name == name);
        // Release 2.8 words every failure so, also that of a name that is too long.
        if known || name.chars().count() > NAME_MAX {
            return message(409, "Tag already exists");
        }
        let tag = Tag { id: self.state.id(16), name: name.to_owned(), created: now };
        let shown = show::tag(&tag);
        self.state.tags.push(tag);
        SimResponse::json(201, &shown)
    }

    pub(super) fn workflow_tags(&mut self, request: &SimRequest, id: &str) -> SimResponse {
        let Some(at) = self.place(id) else { return message(404, "Not Found") };
        if request.method == "PUT" {
            let wanted: Vec<Value> = request.json().unwrap_or_default();
            let wanted: Vec<String> = wanted
                .iter()
                .filter_map(|tag| tag.get("id").and_then(Value::as_str).map(ToOwned::to_owned))
                .collect();
            if !wanted.iter().all(|id| self.state.tags.iter().any(|t| t.id == *id)) {
                return message(404, "Some tags not found");
            }
            if let Some(workflow) = self.state.workflows.get_mut(at) {
                workflow.tags = wanted;
            }
        }
        let on = self.state.workflows.get(at).map(|w| w.tags.clone()).unwrap_or_default();
        let shown: Vec<Value> =
            self.state.tags.iter().filter(|t| on.contains(&t.id)).map(show::tag).collect();
        SimResponse::json(200, &shown)
    }
}
