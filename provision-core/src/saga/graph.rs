//! The compiled graph of a saga: data for the pure machine, with the code beside each node.
//!
//! Nodes stand in the order in which they were added, so every dependency has a smaller index.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use sha2::{Digest, Sha256};

use crate::{
    error::{Failure, StepError},
    id::Payload,
    protocol::Action,
    resource::AdoptPolicy,
    retry::Policy,
    store::SagaRef,
};

/// A node as another node's wiring refers to it: `depth` scopes from the root, then its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ref {
    pub(crate) depth: u16,
    pub(crate) index: u32,
}

/// What a dependency has become.
#[derive(Debug, Clone, Copy)]
pub enum ValueOf<'a> {
    /// It succeeded with this output.
    Output(&'a Payload),
    /// It was not wanted.
    Skipped,
    /// It failed, and that is tolerated.
    Failed(&'a Failure),
    /// It has not ended; wiring never asks for it.
    Open,
}

/// Reads the outputs of dependencies.
pub trait Values {
    /// What the node has become.
    fn value(&self, of: Ref) -> ValueOf<'_>;
}

/// Computes a node's input (or a value, a duration, a list) from the scope's input and outputs.
pub(crate) type MapFn =
    Arc<dyn Fn(&Payload, &dyn Values) -> Result<Payload, StepError> + Send + Sync>;
/// Decides whether a node is wanted.
pub(crate) type WhenFn = Arc<dyn Fn(&Payload) -> Result<bool, StepError> + Send + Sync>;
/// Computes the keys of a fan-out's items.
pub(crate) type ItemsFn =
    Arc<dyn Fn(&Payload, &dyn Values) -> Result<Vec<(String, Payload)>, StepError> + Send + Sync>;
/// Computes a hook's input from the run's input and its end.
pub(crate) type HookFn =
    Arc<dyn Fn(&Payload, &super::End) -> Result<Payload, StepError> + Send + Sync>;
/// Computes the output of a scope.
pub(crate) type OutputFn = Arc<dyn Fn(&dyn Values) -> Result<Payload, StepError> + Send + Sync>;

/// How many members of a join or fan-out must succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinRule {
    /// At least so many; their outputs in order.
    AtLeast(usize),
    /// The first in journal order.
    Any,
}

/// Path of a step in the graph: item keys of fan-outs are left out, `each[a]/one` is `each[]/one`.
pub(crate) fn graph_path(path: &str) -> String {
    let mut inside = false;
    path.chars()
        .filter(|c| {
            let kept = !inside || *c == ']';
            inside = (inside || *c == '[') && *c != ']';
            kept
        })
        .collect()
}

/// What a node does.
#[derive(Clone)]
pub(crate) enum Kind {
    /// Calls an author's code.
    Action { kind: &'static str, revision: u32, action: Arc<dyn Action> },
    /// Computes a value once.
    Value,
    /// Lets time pass.
    Sleep,
    /// Waits for a signal.
    Signal { name: &'static str },
    /// Runs another saga as a run of its own.
    Saga { child: SagaRef },
    /// Runs its body once for each item of a list.
    Each { items: ItemsFn, at_least: Option<usize>, body: Arc<Graph> },
    /// Waits for all members and judges how many succeeded.
    Join { rule: JoinRule },
    /// Runs after everything else, whatever the end.
    Hook { kind: &'static str, revision: u32, action: Arc<dyn Action>, input: HookFn },
}

/// What to do with a plain step whose attempt ended unknown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnUnknown {
    /// Steps run again (they promise to be repeatable); resources are looked up, and those without
    /// identity park.
    #[default]
    Protocol,
    /// Park: only a person can tell.
    Park,
    /// Run again although a second effect may come of it, at most so often; counted and shown.
    RunAgain {
        /// Largest number of repeated calls.
        at_most: u32,
    },
}

/// One node.
#[derive(Clone)]
pub(crate) struct NodeDef {
    pub(crate) path: Arc<str>,
    pub(crate) kind: Kind,
    pub(crate) deps: Vec<Ref>,
    pub(crate) when: Option<WhenFn>,
    pub(crate) map: MapFn,
    pub(crate) optional: bool,
    pub(crate) pivot: bool,
    pub(crate) irreversible: Option<&'static str>,
    pub(crate) phase: Option<&'static str>,
    pub(crate) policy: Policy,
    pub(crate) undo_policy: Policy,
    pub(crate) on_unknown: OnUnknown,
    pub(crate) adopt: AdoptPolicy,
    pub(crate) attempt_timeout: Duration,
    /// Position among the nodes that are undone first when a succeeded run is torn down.
    pub(crate) tear_down_first: Option<u32>,
}

impl NodeDef {
    /// Whether the node can have an effect outside the run.
    pub(crate) fn is_action(&self) -> bool {
        matches!(self.kind, Kind::Action { .. } | Kind::Saga { .. } | Kind::Hook { .. })
    }

    /// Whether it lets time pass, or waits for a signal.
    pub(crate) fn is_wait(&self) -> bool {
        matches!(self.kind, Kind::Sleep | Kind::Signal { .. })
    }

    pub(crate) fn is_hook(&self) -> bool {
        matches!(self.kind, Kind::Hook { .. })
    }

    pub(crate) fn action(&self) -> Option<&Arc<dyn Action>> {
        match &self.kind {
            Kind::Action { action, .. } | Kind::Hook { action, .. } => Some(action),
            _ => None,
        }
    }

    /// The durable kind name, for lists and the ledger.
    pub(crate) fn kind_name(&self) -> &str {
        match &self.kind {
            Kind::Action { kind, .. } | Kind::Hook { kind, .. } => kind,
            Kind::Value => "value",
            Kind::Sleep => "sleep",
            Kind::Signal { .. } => "signal",
            Kind::Saga { .. } => "saga",
            Kind::Each { .. } => "each",
            Kind::Join { .. } => "join",
        }
    }

    /// The first part of an action's kind, as metrics name whom its step talks to.
    pub(crate) fn provider(&self) -> &'static str {
        match self.kind {
            Kind::Action { kind, .. } | Kind::Hook { kind, .. } => {
                kind.split_once('.').map_or(kind, |(provider, _)| provider)
            }
            _ => "none",
        }
    }

    fn describe(&self, out: &mut Sha256) {
        let mut put = |text: &str| {
            out.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            out.update(text.as_bytes());
        };
        put(&self.path);
        put(self.kind_name());
        for dep in &self.deps {
            put(&format!("{}.{}", dep.depth, dep.index));
        }
        put(if self.when.is_some() { "when" } else { "always" });
        put(if self.optional { "optional" } else { "required" });
        put(if self.pivot { "pivot" } else { "" });
        put(if self.irreversible.is_some() { "irreversible" } else { "" });
        match &self.kind {
            Kind::Action { revision, .. } | Kind::Hook { revision, .. } => {
                put(&revision.to_string());
            }
            Kind::Signal { name } => put(name),
            Kind::Saga { child } => put(&format!("{} {}", child.name, child.version)),
            Kind::Each { at_least, .. } => put(&format!("{at_least:?}")),
            Kind::Join { rule } => put(&format!("{rule:?}")),
            Kind::Value | Kind::Sleep => {}
        }
        if let Kind::Each { body, .. } = &self.kind {
            body.describe(out);
        }
    }
}

impl fmt::Debug for NodeDef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeDef").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The nodes of one scope.
#[derive(Clone)]
pub(crate) struct Graph {
    pub(crate) depth: u16,
    pub(crate) nodes: Vec<NodeDef>,
    /// For every node, the nodes of the same scope that depend on it.
    pub(crate) dependents: Vec<Vec<usize>>,
    pub(crate) output: OutputFn,
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.nodes).finish()
    }
}

impl Graph {
    pub(crate) fn new(depth: u16, nodes: Vec<NodeDef>, output: OutputFn) -> Self {
        let mut dependents = vec![Vec::new(); nodes.len()];
        for (index, node) in nodes.iter().enumerate() {
            for dep in node.deps.iter().filter(|dep| dep.depth == depth) {
                if let Some(list) = dependents.get_mut(dep.index as usize) {
                    list.push(index);
                }
            }
        }
        Self { depth, nodes, dependents, output }
    }

    fn describe(&self, out: &mut Sha256) {
        for node in &self.nodes {
            node.describe(out);
        }
    }

    /// Hash over paths, kinds, edges and marks.
    pub(crate) fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        self.describe(&mut hash);
        let digest = hash.finalize();
        digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The kind of every action by its path in the graph.
    pub(crate) fn kinds(&self) -> BTreeMap<String, &str> {
        fn walk<'a>(graph: &'a Graph, prefix: &str, out: &mut BTreeMap<String, &'a str>) {
            for node in &graph.nodes {
                if node.is_action() {
                    out.insert(format!("{prefix}{}", node.path), node.kind_name());
                }
                if let Kind::Each { body, .. } = &node.kind {
                    walk(body, &format!("{prefix}{}[]/", node.path), out);
                }
            }
        }
        let mut out = BTreeMap::new();
        walk(self, "", &mut out);
        out
    }

    /// Every action of the graph and its bodies, with its step path.
    pub(crate) fn actions(&self) -> Vec<(&NodeDef, &Arc<dyn Action>)> {
        let mut out = Vec::new();
        for node in &self.nodes {
            if let Some(action) = node.action() {
                out.push((node, action));
            }
            if let Kind::Each { body, .. } = &node.kind {
                out.extend(body.actions());
            }
        }
        out
    }
}
