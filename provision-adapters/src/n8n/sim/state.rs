//! What a simulated n8n remembers. Times are milliseconds since 1970.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) made: u64,
    pub(super) workflows: Vec<Workflow>,
    pub(super) credentials: Vec<Credential>,
    pub(super) tags: Vec<Tag>,
    pub(super) executions: Vec<Execution>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Workflow {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) nodes: Value,
    pub(super) connections: Value,
    pub(super) settings: Value,
    pub(super) active: bool,
    /// Whether its webhooks are there; not the same as active in some releases.
    pub(super) registered: bool,
    pub(super) version: u64,
    pub(super) created: u64,
    pub(super) updated: u64,
    pub(super) hidden_until: u64,
    pub(super) tags: Vec<String>,
    pub(super) fixture: bool,
}

impl Workflow {
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Map<String, Value>> {
        self.nodes.as_array().into_iter().flatten().filter_map(Value::as_object)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Credential {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) data: BTreeMap<String, String>,
    pub(super) created: u64,
    pub(super) hidden_until: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Tag {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) created: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Execution {
    pub(super) id: u64,
    pub(super) workflow: String,
    pub(super) started: u64,
}

impl State {
    /// A fresh id of letters and digits: the same ones in the same order after every start.
    pub(super) fn id(&mut self, length: usize) -> String {
        self.made += 1;
        let seed = self.made.to_string();
        let hex = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, seed.as_bytes()).simple();
        hex.to_string().chars().take(length).collect()
    }
}
