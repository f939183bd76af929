//! What the test itself knows of a run: what may exist out there, and what depends on what. It is
//! told how attempts end and never looks into the machine.

use std::collections::{BTreeMap, BTreeSet};

use super::fixture::{Spec, What};
use crate::{
    error::Effect,
    run::journal::{Direction, Finding, Record},
};

/// One instance of a node.
#[derive(Debug, Clone, Default)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts of one step")]
pub(super) struct Truth {
    /// Instances it depends on.
    pub(super) deps: BTreeSet<String>,
    pub(super) action: bool,
    pub(super) resource: bool,
    pub(super) child: bool,
    /// Put together from others, without an effect of its own: a fan-out, a join, a value.
    pub(super) computed: bool,
    pub(super) optional: bool,
    pub(super) irreversible: bool,
    pub(super) worst: Effect,
    pub(super) open: bool,
    pub(super) intent: bool,
    pub(super) noted: bool,
    pub(super) created: bool,
    pub(super) succeeded: bool,
    pub(super) settled: bool,
    pub(super) undone: bool,
    pub(super) undo_failed: bool,
}

impl Truth {
    /// S12, as the test understands it.
    pub(super) fn standing(&self) -> Effect {
        if !self.action || self.undone {
            return Effect::None;
        }
        let open = match (self.open, self.resource) {
            (true, false) => Effect::Unknown,
            (true, true) if self.intent => Effect::Unknown,
            _ => Effect::None,
        };
        open.max(self.worst)
    }

    fn renewed(&mut self) {
        (self.worst, self.intent, self.noted, self.created) = (Effect::None, false, false, false);
        (self.succeeded, self.settled, self.undone) = (false, false, false);
        self.open = false;
    }
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) nodes: BTreeMap<String, Truth>,
    pub(super) run_unwinds: bool,
}

/// Adds the instances of one scope; answers the last instances of each node, for dependents.
fn add(
    nodes: &mut BTreeMap<String, Truth>,
    specs: &[Spec],
    prefix: &str,
    around: &[BTreeSet<String>],
    entry: &BTreeSet<String>,
) -> Vec<BTreeSet<String>> {
    let mut ends: Vec<BTreeSet<String>> = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        let path = format!("{prefix}n{index}");
        let mut deps = entry.clone();
        let bits = |bits: u16, of: &[BTreeSet<String>]| {
            let wanted = of.iter().take(16).enumerate().filter(move |(n, _)| bits >> n & 1 == 1);
            wanted.flat_map(|(_, set)| set.clone()).collect::<BTreeSet<_>>()
        };
        deps.extend(bits(spec.deps, &ends));
        deps.extend(bits(spec.outer, around));
        let mut end = BTreeSet::from([path.clone()]);
        if let What::Each { items, body, .. } = &spec.what {
            let used = body.iter().fold(0, |bits, inner| bits | inner.outer);
            deps.extend(bits(used, &ends));
            for item in 0..*items {
                let inner = add(nodes, body, &format!("{path}[{item}]/"), &ends, &deps);
                end.extend(inner.into_iter().flatten());
            }
        }
        let resource = matches!(spec.what, What::Resource);
        let child = matches!(spec.what, What::Child);
        let truth = Truth {
            deps,
            action: resource || child || matches!(spec.what, What::Step),
            resource,
            child,
            computed: matches!(spec.what, What::Each { .. } | What::Join(_) | What::Value),
            optional: spec.optional,
            irreversible: spec.irreversible,
            ..Truth::default()
        };
        nodes.insert(path, truth);
        ends.push(end);
    }
    ends
}

impl Model {
    pub(super) fn new(specs: &[Spec]) -> Self {
        let mut nodes = BTreeMap::new();
        add(&mut nodes, specs, "", &[], &BTreeSet::new());
        Self { nodes, run_unwinds: false }
    }

    pub(super) fn truth(&mut self, path: &str) -> &mut Truth {
        self.nodes.get_mut(path).unwrap()
    }

    /// Everything that depends on a node, directly or not.
    pub(super) fn dependents(&self, path: &str) -> BTreeSet<String> {
        let mut all = BTreeSet::from([path.to_owned()]);
        loop {
            let more: Vec<String> = self
                .nodes
                .iter()
                .filter(|(name, truth)| !all.contains(*name) && !truth.deps.is_disjoint(&all))
                .map(|(name, _)| name.clone())
                .collect();
            if more.is_empty() {
                all.remove(path);
                return all;
            }
            all.extend(more);
        }
    }

    /// What may exist and is not irreversible.
    pub(super) fn standing(&self) -> Vec<&String> {
        let open = self.nodes.iter().filter(|(_, t)| t.standing() != Effect::None);
        open.filter(|(_, t)| !t.irreversible).map(|(path, _)| path).collect()
    }

    /// The worker died: every open call ended unknown.
    pub(super) fn interrupt(&mut self) {
        for truth in self.nodes.values_mut().filter(|truth| truth.open) {
            truth.worst = truth.standing();
            truth.open = false;
        }
    }

    /// Follows the records that say where a node stands.
    pub(super) fn follow(&mut self, record: &Record) {
        match record {
            Record::Succeeded { path, dir: Direction::Forward, .. } => {
                let truth = self.truth(path);
                assert!(!truth.succeeded, "S8: {path} succeeded twice");
                truth.settled = true;
                truth.succeeded = true;
            }
            Record::Succeeded { path, dir: Direction::Undo, .. } => self.truth(path).undone = true,
            Record::Skipped { path } => self.truth(path).settled = true,
            Record::GaveUp { path, dir: Direction::Forward, .. } => {
                let truth = self.truth(path);
                truth.settled = truth.optional;
            }
            Record::GaveUp { path, dir: Direction::Undo, .. } => {
                self.truth(path).undo_failed = true;
            }
            Record::Started { path, dir, .. } => {
                let unwinding = self.run_unwinds;
                let truth = self.truth(path);
                match dir {
                    Direction::Forward => {
                        assert!(!unwinding, "S3: {path} started forward while unwinding");
                        assert!(!truth.succeeded, "S8: {path} is done and starts again");
                    }
                    Direction::Undo => truth.undo_failed = false,
                }
            }
            Record::Resolved { path, finding: Finding::Absent } => {
                self.truth(path).worst = Effect::None;
            }
            Record::Renewed { path, .. } => {
                let truth = self.truth(path);
                assert_eq!(truth.standing(), Effect::None, "S10: {path} is renewed too early");
                truth.renewed();
            }
            Record::UnwindStarted { scope, .. } if scope.is_empty() => self.run_unwinds = true,
            _ => {}
        }
    }

    /// A person drives the run, or the items of one fan-out, forward again.
    pub(super) fn redriven(&mut self, prefix: &str) {
        self.run_unwinds = false;
        for truth in self.nodes.iter_mut().filter(|(p, _)| p.starts_with(prefix)).map(|(_, t)| t) {
            let done = truth.succeeded && !truth.undone && !truth.computed;
            if !done {
                truth.renewed();
            }
        }
    }
}
