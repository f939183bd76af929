//! What Ansible's callback `ansible.posix.json` writes: only what is used
//! (<https://docs.ansible.com/ansible/latest/collections/ansible/posix/json_callback.html>, read
//! 2026-11-22).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// The whole output of a playbook.
#[derive(Deserialize)]
pub(crate) struct Report {
    /// Always there: other JSON in the output has none.
    pub(crate) stats: BTreeMap<String, Stats>,
    /// Values that tasks have set with `set_stats`.
    #[serde(default)]
    pub(crate) global_custom_stats: BTreeMap<String, Value>,
    #[serde(default)]
    pub(crate) plays: Vec<Play>,
}

/// One play.
#[derive(Default, Deserialize)]
pub(crate) struct Play {
    #[serde(default)]
    pub(crate) tasks: Vec<Task>,
}

/// One task and how it went on every machine.
#[derive(Default, Deserialize)]
pub(crate) struct Task {
    #[serde(default)]
    pub(crate) task: TaskName,
    #[serde(default)]
    pub(crate) hosts: BTreeMap<String, TaskEnd>,
}

/// A task as its playbook calls it.
#[derive(Default, Deserialize)]
pub(crate) struct TaskName {
    #[serde(default)]
    pub(crate) name: String,
}

/// How a task went. What else it says may hold anything.
#[derive(Default, Deserialize)]
pub(crate) struct TaskEnd {
    #[serde(default)]
    pub(crate) failed: bool,
}

/// How often what happened on one machine.
#[derive(Default, Deserialize)]
pub(crate) struct Stats {
    #[serde(default)]
    pub(crate) ok: u64,
    #[serde(default)]
    pub(crate) changed: u64,
    #[serde(default)]
    pub(crate) failures: u64,
    #[serde(default)]
    pub(crate) unreachable: u64,
}
