//! The state of a run, folded from its journal. `apply` is the only way it changes, and refuses
//! what the transition table (S3) does not allow.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use super::{
    heard::Heard,
    node::{Node, Phase},
};
use crate::{
    error::Failure,
    id::{Payload, RunId, Timestamp},
    run::{
        Refused, RunStatus,
        journal::{Cause, Direction, ItemRecord, Record, SignalSource},
    },
    saga::{
        Plan,
        graph::{Graph, Kind, Ref, ValueOf, Values},
    },
};

/// One scope: the run itself, or one item of a fan-out.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    /// Path of the scope: `""` for the run, `path[key]` for an item.
    pub(crate) path: Arc<str>,
    /// Scope around it and the fan-out it is an item of.
    pub(crate) parent: Option<(usize, usize)>,
    pub(crate) graph: Arc<Graph>,
    /// Number of its first node.
    pub(crate) base: usize,
    /// Its input.
    pub(crate) input: Payload,
}

/// What an unwinding covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Region {
    Run,
    Item(usize),
    Node(usize),
}

/// An unwinding that has started.
#[derive(Debug, Clone)]
pub(crate) struct Unwind {
    pub(crate) region: Region,
    pub(crate) scope: Arc<str>,
    pub(crate) cause: Cause,
    pub(crate) order: Vec<usize>,
    pub(crate) done: bool,
    /// Steps that had been started when it began.
    pub(crate) starts: u32,
}

/// A record that the transition table does not allow: the journal is damaged, or there is a bug.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("illegal record for `{path}`: {what}")]
pub(crate) struct IllegalRecord {
    /// The step or scope.
    pub path: String,
    /// What was wrong.
    pub what: &'static str,
}

pub(super) fn illegal(path: &str, what: &'static str) -> IllegalRecord {
    IllegalRecord { path: path.to_owned(), what }
}

/// Everything the machine knows of a run.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts of a run, each folded alone")]
pub(crate) struct State {
    pub(crate) run: RunId,
    pub(crate) plan: Arc<Plan>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) scopes: Vec<Scope>,
    index: HashMap<Arc<str>, usize>,
    pub(crate) unwinds: Vec<Unwind>,
    pub(crate) paused: bool,
    /// The newest request that was not taken.
    pub(crate) refused: Option<Refused>,
    /// Until when its start is put off.
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) parked: Option<Failure>,
    pub(crate) ended: Option<RunStatus>,
    pub(crate) output: Option<Payload>,
    /// Whether a person has looked at the dead letter.
    pub(crate) acknowledged: bool,
    /// Whether a person gave something up.
    pub(crate) left_behind: bool,
    /// Signals that no step has taken yet.
    pub(crate) signals: HashMap<String, VecDeque<Heard>>,
    /// What was heard of whom, by name: each once.
    pub(crate) heard: HashSet<(String, SignalSource)>,
    /// Of whom the signal was that a step has taken.
    pub(crate) taken: HashMap<usize, SignalSource>,
    /// When the record being applied was written.
    pub(crate) at: Timestamp,
    starts: u32,
    pub(super) ends: u32,
    /// Finished steps may rest on some that are made again.
    pub(super) redriven: bool,
    /// An order has moved it.
    pub(super) reordered: bool,
    /// Phase of the newest started step.
    pub(crate) phase: Option<&'static str>,
    /// The failure that unwound or parked the run.
    pub(crate) cause: Option<Failure>,
}

impl State {
    pub(crate) fn new(run: RunId, plan: &Arc<Plan>, input: Payload) -> Self {
        let mut state = Self {
            run,
            plan: Arc::clone(plan),
            nodes: Vec::new(),
            scopes: Vec::new(),
            index: HashMap::new(),
            unwinds: Vec::new(),
            paused: false,
            refused: None,
            not_before: None,
            parked: None,
            ended: None,
            output: None,
            acknowledged: false,
            left_behind: false,
            signals: HashMap::new(),
            heard: HashSet::new(),
            taken: HashMap::new(),
            at: Timestamp::ZERO,
            starts: 0,
            ends: 0,
            redriven: false,
            reordered: false,
            phase: None,
            cause: None,
        };
        state.add_scope(Arc::from(""), None, Arc::clone(&plan.graph), input);
        state
    }

    fn add_scope(
        &mut self,
        path: Arc<str>,
        parent: Option<(usize, usize)>,
        graph: Arc<Graph>,
        input: Payload,
    ) -> usize {
        let id = self.scopes.len();
        let base = self.nodes.len();
        for (index, def) in graph.nodes.iter().enumerate() {
            let full: Arc<str> = if path.is_empty() {
                Arc::clone(&def.path)
            } else {
                Arc::from(format!("{path}/{}", def.path))
            };
            self.index.insert(Arc::clone(&full), base + index);
            self.nodes.push(Node::new(&graph, index, id, full));
        }
        self.scopes.push(Scope { path, parent, graph, base, input });
        id
    }

    #[allow(
        clippy::indexing_slicing,
        reason = "node numbers come from this state and never shrink"
    )]
    pub(crate) fn node(&self, number: usize) -> &Node {
        &self.nodes[number]
    }

    #[allow(
        clippy::indexing_slicing,
        reason = "node numbers come from this state and never shrink"
    )]
    pub(crate) fn node_mut(&mut self, number: usize) -> &mut Node {
        &mut self.nodes[number]
    }

    #[allow(clippy::indexing_slicing, reason = "scope numbers come from this state, never shrink")]
    pub(crate) fn scope(&self, number: usize) -> &Scope {
        &self.scopes[number]
    }

    pub(crate) fn find(&self, path: &str) -> Option<usize> {
        self.index.get(path).copied()
    }

    fn find_scope(&self, path: &str) -> Option<Region> {
        if path.is_empty() {
            return Some(Region::Run);
        }
        let item = self.scopes.iter().position(|scope| &*scope.path == path).map(Region::Item);
        item.or_else(|| self.find(path).map(Region::Node))
    }

    /// Nodes of a scope that end it (hooks do not).
    pub(crate) fn members(&self, scope: usize) -> impl Iterator<Item = usize> + '_ {
        let scope = self.scope(scope);
        (scope.base..scope.base + scope.graph.nodes.len())
            .filter(|n| !self.node(*n).def().is_hook())
    }

    pub(crate) fn hooks(&self) -> impl Iterator<Item = usize> + '_ {
        let root = self.scope(0);
        (root.base..root.base + root.graph.nodes.len()).filter(|n| self.node(*n).def().is_hook())
    }

    /// Whether a node lies in a region.
    pub(crate) fn covers(&self, region: Region, node: usize) -> bool {
        if self.node(node).def().is_hook() {
            return false;
        }
        match region {
            Region::Run => true,
            Region::Node(n) if n == node => true,
            Region::Node(_) | Region::Item(_) => {
                let mut scope = self.node(node).scope;
                loop {
                    if region == Region::Item(scope) {
                        return true;
                    }
                    match self.scope(scope).parent {
                        Some((_, each)) if region == Region::Node(each) => return true,
                        Some((outer, _)) => scope = outer,
                        None => return false,
                    }
                }
            }
        }
    }

    /// The unwinding that covers a node and is under way.
    pub(crate) fn unwinding(&self, node: usize) -> Option<usize> {
        self.unwinds.iter().position(|u| !u.done && self.covers(u.region, node))
    }

    /// Whether a node was ended by an unwinding of something around it, under way or done.
    pub(crate) fn is_unwound(&self, node: usize) -> bool {
        self.unwinds.iter().any(|u| u.cause != Cause::Renew && self.covers(u.region, node))
    }

    /// Whether everything a node depends on is settled. After a redrive this holds back what kept
    /// its effect, too, until what it was made from is there again.
    pub(crate) fn is_ready(&self, number: usize) -> bool {
        let node = self.node(number);
        let settled = |dep: &Ref| {
            self.resolve(node.scope, *dep).is_some_and(|dep| self.node(dep).is_settled())
        };
        self.is_active(number)
            && node.def().deps.iter().all(settled)
            && (!self.redriven || self.rests_on_settled(number))
    }

    /// Whether everything a node depends on is settled, directly or not. Without a redrive the
    /// direct ones tell: none of them starts before its own.
    fn rests_on_settled(&self, number: usize) -> bool {
        let mut seen = BTreeSet::new();
        let mut stack = vec![number];
        while let Some(number) = stack.pop() {
            let node = self.node(number);
            for dep in &node.def().deps {
                match self.resolve(node.scope, *dep) {
                    Some(dep) if !self.node(dep).is_settled() => return false,
                    Some(dep) if seen.insert(dep) => stack.push(dep),
                    _ => {}
                }
            }
        }
        true
    }

    /// Whether the fan-outs around a node are open: items of one that begins again wait for it.
    fn is_active(&self, node: usize) -> bool {
        let mut scope = self.scope(self.node(node).scope);
        while let Some((outer, each)) = scope.parent {
            if self.node(each).phase != Phase::Running || self.node(each).reopened {
                return false;
            }
            scope = self.scope(outer);
        }
        true
    }

    /// The unwinding of the whole run, if there is one.
    pub(crate) fn run_unwind(&self) -> Option<&Unwind> {
        self.unwinds.iter().find(|u| u.region == Region::Run)
    }

    pub(crate) fn has_open(&self) -> bool {
        self.nodes.iter().any(Node::is_open)
    }

    /// The node another node's wiring refers to.
    pub(crate) fn resolve(&self, from_scope: usize, of: Ref) -> Option<usize> {
        let mut scope = self.scope(from_scope);
        while scope.graph.depth > of.depth {
            scope = self.scope(scope.parent?.0);
        }
        Some(scope.base + of.index as usize)
    }

    pub(crate) fn values(&self, scope: usize) -> ScopeValues<'_> {
        ScopeValues { state: self, scope }
    }

    /// The status that lists show.
    pub(crate) fn status(&self) -> RunStatus {
        if let Some(end) = self.ended {
            return end;
        }
        if self.parked.is_some() {
            return RunStatus::Parked;
        }
        if self.paused && !self.has_open() {
            return RunStatus::Paused;
        }
        if self.run_unwind().is_some() {
            return RunStatus::Unwinding;
        }
        let waiting = self.nodes.iter().any(|n| matches!(n.phase, Phase::Waiting { .. }));
        if waiting && !self.has_open() { RunStatus::Waiting } else { RunStatus::Running }
    }

    /// Applies one record, or refuses it unchanged.
    pub(crate) fn apply(&mut self, record: &Record) -> Result<(), IllegalRecord> {
        if self.ended.is_some() && !matches!(record, Record::Ordered { .. }) {
            return Err(illegal("", "the run is over"));
        }
        match record {
            Record::UnwindStarted { scope, cause, order } => {
                self.unwind_started(scope, cause, order)
            }
            Record::Unwound { scope } => self.unwound(scope),
            Record::Expanded { path, items } => self.expanded(path, items),
            Record::Signal { name, value, source } => {
                let heard = Heard { value: value.clone(), source: source.clone() };
                self.signals.entry(name.clone()).or_default().push_back(heard);
                self.heard.extend(source.clone().map(|source| (name.clone(), source)));
                Ok(())
            }
            Record::Ordered { order, .. } => self.ordered(order),
            // Nothing came of it; it stands there to be seen.
            Record::Refused { request, code, message } => {
                let (request, code, message) = (request.clone(), code.clone(), message.clone());
                self.refused = Some(Refused { request, code, message });
                Ok(())
            }
            Record::Parked { failure } => {
                self.parked = Some(failure.clone());
                self.cause.get_or_insert_with(|| failure.clone());
                Ok(())
            }
            Record::Ended { status, output } => {
                self.ended = Some(*status);
                self.output.clone_from(output);
                Ok(())
            }
            Record::Waiting { path, .. }
            | Record::Started { path, .. }
            | Record::Intent { path, .. }
            | Record::Noted { path, .. }
            | Record::Failed { path, .. }
            | Record::Resolved { path, .. }
            | Record::Succeeded { path, .. }
            | Record::Skipped { path }
            | Record::Kept { path }
            | Record::GaveUp { path, .. }
            | Record::Sealed { path, .. }
            | Record::Renewed { path, .. } => {
                let number = self.find(path).ok_or_else(|| illegal(path, "no such step"))?;
                self.step_record(number, record)
            }
        }
    }

    fn step_record(&mut self, number: usize, record: &Record) -> Result<(), IllegalRecord> {
        let unwinding = self.unwinding(number).is_some();
        let path = Arc::clone(&self.node(number).path);
        super::legal::check(self.node(number), record, unwinding)
            .map_err(|what| illegal(&path, what))?;
        match record {
            Record::Started { dir: Direction::Forward, .. } => {
                self.starts += 1;
                let order = self.starts;
                let node = self.node_mut(number);
                if node.start_order == 0 {
                    node.start_order = order;
                }
                // A phase goes by what begins: a poll, a repetition or a renewal of something
                // earlier, beside what has begun since, takes nobody back.
                if !node.set_phase {
                    node.set_phase = true;
                    self.phase = self.node(number).def().phase.or(self.phase);
                }
            }
            Record::Kept { .. } => self.left_behind = true,
            Record::Succeeded { dir: Direction::Forward, .. } => {
                self.ends += 1;
                let order = self.ends;
                self.node_mut(number).end_order = order;
                // A signal is handed to one wait only.
                if let Kind::Signal { name } = self.node(number).def().kind {
                    self.hand_over(name, number);
                }
            }
            _ => {}
        }
        let at = self.at;
        let what = super::table::apply(self.node_mut(number), record, unwinding);
        super::table::stamp(self.node_mut(number), record, at);
        self.tell_again(number);
        what.map_err(|what| illegal(&path, what))
    }

    fn expanded(&mut self, path: &str, items: &[ItemRecord]) -> Result<(), IllegalRecord> {
        let number = self.find(path).ok_or_else(|| illegal(path, "no such step"))?;
        let node = self.node(number);
        let (outer, Kind::Each { body, .. }) = (node.scope, &node.def().kind) else {
            return Err(illegal(path, "not a fan-out"));
        };
        if node.phase != Phase::Running || (node.items.is_some() && !node.reopened) {
            return Err(illegal(path, "expanded twice or before its start"));
        }
        let body = Arc::clone(body);
        let mut scopes = Vec::with_capacity(items.len());
        for item in items {
            let scope: Arc<str> = Arc::from(format!("{path}[{}]", item.key));
            let parent = Some((outer, number));
            let known = self.scopes.iter().position(|s| s.path == scope);
            let known = known.filter(|known| self.scope(*known).parent == parent);
            scopes.push(match known {
                Some(known) if scopes.contains(&known) => {
                    return Err(illegal(path, "two items have the same key"));
                }
                Some(known) => {
                    self.scopes
                        .get_mut(known)
                        .into_iter()
                        .for_each(|s| s.input = item.value.clone());
                    known
                }
                None => self.add_scope(scope, parent, Arc::clone(&body), item.value.clone()),
            });
        }
        let node = self.node_mut(number);
        node.items = Some(scopes);
        node.reopened = false;
        Ok(())
    }

    fn unwind_started(
        &mut self,
        scope: &Arc<str>,
        cause: &Cause,
        order: &[Arc<str>],
    ) -> Result<(), IllegalRecord> {
        let region = self.find_scope(scope).ok_or_else(|| illegal(scope, "no such scope"))?;
        if self.unwinds.iter().any(|u| !u.done && u.region == region) {
            return Err(illegal(scope, "it is unwinding already"));
        }
        let mut numbers = Vec::with_capacity(order.len());
        for path in order {
            numbers.push(self.find(path).ok_or_else(|| illegal(path, "no such step"))?);
        }
        for number in 0..self.nodes.len() {
            let wanted = numbers.contains(&number);
            if wanted || (self.covers(region, number) && *cause != Cause::Renew) {
                super::table::close(self.node_mut(number), wanted);
            }
        }
        // What was unwinding inside goes on as a part of the larger unwinding.
        for unwind in 0..self.unwinds.len() {
            let inner = self.unwinds.get(unwind).map(|u| (u.done, u.region));
            if let Some((false, Region::Node(n))) = inner
                && self.covers(region, n)
                && let Some(u) = self.unwinds.get_mut(unwind)
            {
                u.done = true;
            }
            if let Some((false, Region::Item(s))) = inner
                && let Some((_, each)) = self.scope(s).parent
                && self.covers(region, each)
                && let Some(u) = self.unwinds.get_mut(unwind)
            {
                u.done = true;
            }
        }
        if region == Region::Run
            && let Cause::Failure(failure) = cause
        {
            self.cause = Some(failure.clone());
        }
        self.unwinds.retain(|u| u.region != region);
        self.unwinds.push(Unwind {
            region,
            scope: Arc::clone(scope),
            cause: cause.clone(),
            order: numbers,
            done: false,
            starts: self.starts,
        });
        let hooks: Vec<usize> = self.hooks().collect();
        hooks.into_iter().for_each(|hook| self.tell_again(hook));
        Ok(())
    }

    fn unwound(&mut self, scope: &str) -> Result<(), IllegalRecord> {
        match self.unwinds.iter_mut().find(|u| !u.done && &*u.scope == scope) {
            Some(unwind) => {
                unwind.done = true;
                Ok(())
            }
            None => Err(illegal(scope, "it is not unwinding")),
        }
    }

    /// When "absent" may be believed of a node: no call of its generation can land any more.
    pub(crate) fn quiet_until(&self, number: usize) -> Option<Timestamp> {
        let node = self.node(number);
        node.quiet_after(node.sent_until)
    }
}

/// Outputs as the wiring of one scope sees them.
#[derive(Debug)]
pub(crate) struct ScopeValues<'a> {
    state: &'a State,
    scope: usize,
}

impl Values for ScopeValues<'_> {
    fn value(&self, of: Ref) -> ValueOf<'_> {
        let Some(number) = self.state.resolve(self.scope, of) else { return ValueOf::Open };
        let Some(node) = self.state.nodes.get(number) else { return ValueOf::Open };
        match (&node.phase, &node.output, &node.failure) {
            (Phase::Succeeded, Some(output), _) => ValueOf::Output(output),
            (Phase::Skipped, _, _) => ValueOf::Skipped,
            (Phase::GaveUp, _, Some(failure)) => ValueOf::Failed(failure),
            _ => ValueOf::Open,
        }
    }
}
