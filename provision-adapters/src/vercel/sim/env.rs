//! Variables of a project.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{VercelSim, error, not_found, show, state::Variable};
use crate::sim::{SimRequest, SimResponse};

const KINDS: &[&str] = &["system", "encrypted", "plain", "sensitive"];
const TARGETS: &[&str] = &["production", "preview", "development"];

impl VercelSim {
    /// Reads one wanted variable, strictly.
    pub(super) fn new_variable(
        &mut self,
        wanted: &Value,
        now: u64,
    ) -> Result<Variable, SimResponse> {
        let text = |name: &str| wanted.get(name).and_then(Value::as_str);
        let bad = |message: &str| error(400, "bad_request", message);
        let (Some(key), Some(value)) = (text("key"), text("value")) else {
            return Err(bad("Invalid request: missing required property `key` or `value`."));
        };
        // The creating call of a project may leave the type out; it is encrypted then.
        let kind = text("type").unwrap_or("encrypted");
        let targets: BTreeSet<String> = match wanted.get("target") {
            Some(Value::String(one)) => BTreeSet::from([one.clone()]),
            Some(Value::Array(list)) => {
                list.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
            }
            _ => BTreeSet::new(),
        };
        if !KINDS.contains(&kind) {
            return Err(bad(
                "Invalid request: `type` should be equal to one of the allowed values.",
            ));
        }
        if targets.is_empty() || targets.iter().any(|t| !TARGETS.contains(&t.as_str())) {
            return Err(bad("Invalid request: `target` should have allowed values."));
        }
        let comment = text("comment").map(ToOwned::to_owned);
        if comment.as_ref().is_some_and(|c| c.len() > 500) {
            return Err(bad(
                "Invalid request: `comment` should NOT be longer than 500 characters.",
            ));
        }
        if kind == "sensitive" && targets.contains("development") {
            let message = "A sensitive variable cannot be used in development.";
            return Err(error(400, "BAD_REQUEST", message));
        }
        if self.setup.sensitive_only && kind != "sensitive" && !targets.contains("development") {
            let message = "The team requires sensitive variables for production and preview.";
            return Err(error(400, "BAD_REQUEST", message));
        }
        Ok(Variable {
            id: self.state.id("", 16),
            key: key.to_owned(),
            value: value.to_owned(),
            kind: kind.to_owned(),
            targets,
            branch: text("gitBranch").map(ToOwned::to_owned),
            comment,
            created: now,
        })
    }

    pub(super) fn list_env(&self, request: &SimRequest, scope: &str, id: &str) -> SimResponse {
        let found = self.position(scope, id).and_then(|at| self.state.projects.get(at));
        let Some(project) = found else { return not_found("Project") };
        let decrypt = request.q("decrypt") == Some("true");
        let envs: Vec<Value> = project.env.iter().map(|v| show::variable(v, decrypt)).collect();
        SimResponse::json(200, &json!({ "envs": envs }))
    }

    pub(super) fn set_env(
        &mut self,
        request: &SimRequest,
        scope: &str,
        id: &str,
        now: u64,
    ) -> SimResponse {
        let Some(at) = self.position(scope, id) else { return not_found("Project") };
        if self.setup.env_busy > 0 {
            self.setup.env_busy -= 1;
            let message = "There is an ongoing update env update for this project, try again.";
            return error(400, "bad_request", message);
        }
        let body: Value = match request.json() {
            Ok(body) => body,
            Err(_) => return error(400, "bad_request", "Invalid JSON"),
        };
        let (wanted, many) = match body {
            Value::Array(list) if !list.is_empty() => (list, true),
            Value::Object(_) => (vec![body], false),
            _ => return error(400, "bad_request", "Invalid request: should be object or array."),
        };
        let mut variables = Vec::new();
        for entry in &wanted {
            if entry.get("type").is_none() {
                return error(400, "bad_request", "Invalid request: missing property `type`.");
            }
            match self.new_variable(entry, now) {
                Ok(variable) => variables.push(variable),
                Err(refusal) => return refusal,
            }
        }
        self.store_env(at, variables, request.q("upsert") == Some("true"), many)
    }

    /// Sets one after the other; what fails does not undo what was set.
    fn store_env(
        &mut self,
        at: usize,
        variables: Vec<Variable>,
        upsert: bool,
        many: bool,
    ) -> SimResponse {
        let (mut created, mut failed) = (Vec::new(), Vec::new());
        for variable in variables {
            if let Some(left) = self.setup.refused.get_mut(&variable.key).filter(|left| **left > 0)
            {
                *left -= 1;
                failed.push(json!({ "error": {
                    "code": "ENV_WRITE_FAILED", "message": "could not be written",
                    "key": variable.key, "envVarKey": variable.key,
                }}));
                continue;
            }
            let Some(project) = self.state.projects.get_mut(at) else { break };
            let clash = project.env.iter().position(|old| {
                old.key == variable.key
                    && old.branch == variable.branch
                    && !old.targets.is_disjoint(&variable.targets)
            });
            match clash {
                Some(_) if !upsert => failed.push(json!({ "error": {
                    "code": "ENV_CONFLICT", "message": "another variable has this name",
                    "envVarKey": variable.key, "target": variable.targets,
                }})),
                clash => {
                    created.push(show::variable(&variable, false));
                    if !self.setup.dropped.contains(&variable.key) {
                        match clash.and_then(|place| project.env.get_mut(place)) {
                            Some(old) => *old = Variable { id: old.id.clone(), ..variable },
                            None => project.env.push(variable),
                        }
                    }
                }
            }
        }
        if !many && let Some(refusal) = failed.first() {
            return SimResponse::json(400, refusal);
        }
        let created = match (many, created.pop()) {
            (false, Some(one)) => one,
            (_, last) => {
                created.extend(last);
                Value::Array(created)
            }
        };
        SimResponse::json(201, &json!({ "created": created, "failed": failed }))
    }

    pub(super) fn delete_env(&mut self, scope: &str, id: &str, env: &str) -> SimResponse {
        let Some(at) = self.position(scope, id) else { return not_found("Project") };
        let Some(project) = self.state.projects.get_mut(at) else { return not_found("Project") };
        match project.env.iter().position(|v| v.id == env) {
            Some(place) => {
                let gone = project.env.remove(place);
                SimResponse::json(200, &show::variable(&gone, false))
            }
            None => not_found("Environment variable"),
        }
    }
}
