//! Actions: what a change does in its own time, and how it is looked at.

use serde_json::{Value, json};

use super::{
    HetznerSim, at, error, not_found, show,
    state::{Action, Change},
};
use crate::sim::{SimRequest, SimResponse};

/// Commands that lock their server while they are under way.
pub(super) const LOCKING: &[&str] = &[
    "create_server",
    "start_server",
    "stop_server",
    "shutdown_server",
    "reboot_server",
    "delete_server",
    "rebuild_server",
    "change_server_type",
    "attach_to_network",
    "detach_from_network",
];

/// What is to be done, to what, and what is different afterwards.
pub(super) struct Begun<'a> {
    pub(super) command: &'a str,
    pub(super) on: Vec<(&'a str, u64)>,
    pub(super) change: Change,
    /// Begins when another one ends.
    pub(super) after: u64,
}

impl<'a> Begun<'a> {
    pub(super) fn new(command: &'a str, on: Vec<(&'a str, u64)>, change: Change) -> Self {
        Self { command, on, change, after: 0 }
    }

    pub(super) fn after(mut self, moment: u64) -> Self {
        self.after = moment;
        self
    }
}

impl HetznerSim {
    /// Begins an action, and shows it.
    pub(super) fn begin(&mut self, begun: Begun<'_>, now: u64) -> (Value, u64) {
        let at = self.setup.failing.iter().position(|(command, _)| command == begun.command);
        let failure = at.map(|at| self.setup.failing.remove(at).1);
        let action = Action {
            id: self.state.id(),
            command: begun.command.to_owned(),
            on: begun.on.into_iter().map(|(kind, id)| (kind.to_owned(), id)).collect(),
            started: now,
            ends: begun.after.max(now).saturating_add(self.takes(begun.command)),
            failure,
            applied: false,
            hidden_until: self.hidden_until(now),
            change: begun.change,
        };
        let shown = (show::action(&action, now), action.ends);
        self.state.actions.push(action);
        shown
    }

    /// Whether an action holds a server; others are then refused.
    pub(super) fn is_locked(&self, server: u64, now: u64) -> bool {
        self.state.actions.iter().any(|action| {
            now < action.ends
                && action.is_about("server", server)
                && LOCKING.contains(&action.command.as_str())
        })
    }

    pub(super) fn action_routes(
        &self,
        request: &SimRequest,
        rest: &[&str],
        now: u64,
    ) -> SimResponse {
        match (request.method.as_str(), rest) {
            ("GET", []) => {
                let ids = request.q_all("id");
                if ids.is_empty() {
                    return error(410, "deprecated_api_endpoint", "the endpoint was removed");
                }
                let wanted = |a: &&Action| ids.contains(&a.id.to_string().as_str());
                let found = self.state.actions.iter().filter(wanted);
                let found: Vec<Value> = found.map(|a| show::action(a, now)).collect();
                SimResponse::json(200, &json!({ "actions": found }))
            }
            ("GET", [id]) => match self.state.actions.iter().find(|a| a.id.to_string() == *id) {
                Some(action) => {
                    SimResponse::json(200, &json!({ "action": show::action(action, now) }))
                }
                None => not_found("action"),
            },
            _ => SimResponse::unhandled(request),
        }
    }

    pub(super) fn list_server_actions(
        &self,
        request: &SimRequest,
        id: u64,
        now: u64,
    ) -> SimResponse {
        if self.state.server(id).is_none() {
            return not_found("server");
        }
        let status = request.q("status");
        let mut shown: Vec<Value> = self
            .state
            .actions
            .iter()
            .filter(|action| action.is_about("server", id) && action.hidden_until <= now)
            .map(|action| show::action(action, now))
            .filter(|shown| status.is_none_or(|status| *at(shown, "status") == status))
            .collect();
        if request.q("sort") == Some("id:desc") {
            shown.reverse();
        }
        show::paged(request, "actions", &shown)
    }
}
