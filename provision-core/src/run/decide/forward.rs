//! Going forward: what starts when its dependencies are settled, and what a failure leads to.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use super::{Command, Halt, Halted, Machine, Phase, Undo, state::Region};
use crate::{
    error::{Effect, Failure, Severity, StepError, Verdict},
    id::{Payload, Timestamp},
    run::{
        RunStatus,
        journal::{Cause, Direction, ItemRecord, Record, WaitReason},
    },
    saga::{End, JoinRule, OnFailure, check_size, graph::Kind},
};

/// Largest number of items of one fan-out.
const ITEMS_MAX: usize = 10_000;

/// Why a series of attempts is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Over<'a> {
    pub(super) why: &'static str,
    pub(super) verdict: &'a Verdict,
}

/// Runs an author's pure closure; a panic in it is the node's failure, not the worker's (S21).
fn guarded<T>(call: impl FnOnce() -> Result<T, StepError>) -> Result<T, StepError> {
    std::panic::catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err(StepError::permanent("compute the input").with_code("panic")))
}

impl Machine<'_> {
    pub(super) fn start_ready(&mut self) -> Halted {
        let early = self.state.is_early(self.moment.now);
        if early || self.is_held() || self.state.run_unwind().is_some() || self.has_stuck() {
            return Ok(());
        }
        let mut number = 0;
        while number < self.state.nodes.len() {
            let node = self.state.node(number);
            if node.phase == Phase::Idle && !node.def().is_hook() && self.state.is_ready(number) {
                self.start(number)?;
                if self.state.run_unwind().is_some() || self.has_stuck() {
                    return Ok(());
                }
            }
            number += 1;
        }
        Ok(())
    }

    /// A failure that nothing tolerates: no new step starts until a person has answered.
    pub(super) fn has_stuck(&self) -> bool {
        (0..self.state.nodes.len()).any(|number| self.is_stuck(number))
    }

    pub(super) fn is_stuck(&self, number: usize) -> bool {
        let node = self.state.node(number);
        let def = node.def();
        node.undo == Undo::GaveUp
            || (node.phase == Phase::GaveUp
                && node.undo == Undo::None
                && !def.optional
                && !def.is_hook()
                && !self.state.is_unwound(number))
    }

    fn start(&mut self, number: usize) -> Halted {
        let node = self.state.node(number);
        let scope = self.state.scope(node.scope);
        if let Some(when) = &node.def().when {
            match guarded(|| when(&scope.input)) {
                Ok(true) => {}
                Ok(false) => {
                    let path = self.path(number);
                    return self.emit(number, Record::Skipped { path });
                }
                Err(error) => return self.fail_at_start(number, &error),
            }
        }
        if let Some(due) = self.name_busy(number) {
            return self.wait(number, WaitReason::Quiet, due);
        }
        match &node.def().kind {
            Kind::Each { .. } => self.expand(number),
            Kind::Join { rule } => {
                let rule = *rule;
                self.join(number, rule)
            }
            _ => match self.input_of(number) {
                Ok(input) => self.start_with(number, input),
                Err(error) => self.fail_at_start(number, &error),
            },
        }
    }

    fn input_of(&self, number: usize) -> Result<Payload, StepError> {
        let node = self.state.node(number);
        let scope = self.state.scope(node.scope);
        let values = self.state.values(node.scope);
        guarded(|| (node.def().map)(&scope.input, &values))
    }

    fn start_with(&mut self, number: usize, input: Payload) -> Halted {
        let kind = self.state.node(number).def().kind.clone();
        match kind {
            Kind::Value => {
                self.started(number, None)?;
                self.succeed(number, input)
            }
            Kind::Sleep | Kind::Signal { .. } => {
                let wait: Result<Duration, _> = input.decode();
                self.started(number, Some(input))?;
                let Ok(wait) = wait else {
                    let error = StepError::permanent("read a duration").with_code("bad_duration");
                    return self.failed(number, Direction::Forward, &error, None);
                };
                let due = self.moment.now.plus(wait);
                let reason = match kind {
                    Kind::Signal { name } => WaitReason::Signal { name: name.to_owned() },
                    _ => WaitReason::Sleep,
                };
                self.wait(number, reason, due)?;
                self.take_signal(number)
            }
            _ => {
                self.started(number, Some(input))?;
                self.perform(number, Direction::Forward);
                Ok(())
            }
        }
    }

    pub(super) fn perform(&mut self, node: usize, dir: Direction) {
        self.out.perform.push(Command { node, dir });
    }

    fn started(&mut self, number: usize, input: Option<Payload>) -> Halted {
        let node = self.state.node(number);
        let record = Record::Started {
            path: self.path(number),
            dir: Direction::Forward,
            generation: node.generation,
            attempt: node.forward.begun + 1,
            input,
        };
        self.emit(number, record)
    }

    fn wait(&mut self, number: usize, reason: WaitReason, due: Timestamp) -> Halted {
        let (path, dir) = (self.path(number), Direction::Forward);
        self.emit(number, Record::Waiting { path, dir, reason, due })
    }

    fn succeed(&mut self, number: usize, output: Payload) -> Halted {
        let (path, dir) = (self.path(number), Direction::Forward);
        self.emit(number, Record::Succeeded { path, dir, output: Some(output) })
    }

    /// A node whose wiring failed has started and failed without any effect.
    fn fail_at_start(&mut self, number: usize, error: &StepError) -> Halted {
        self.started(number, None)?;
        self.failed(number, Direction::Forward, error, None)
    }

    /// Hands an early or fresh signal to the node that waits for it.
    pub(super) fn take_signal(&mut self, number: usize) -> Halted {
        let Kind::Signal { name } = self.state.node(number).def().kind else { return Ok(()) };
        if !matches!(self.state.node(number).phase, Phase::Waiting { .. }) {
            return Ok(());
        }
        let Some(value) = self.state.kept_signal(name).map(|(_, value)| value.clone()) else {
            return Ok(());
        };
        self.started_again(number)?;
        self.succeed(number, value)
    }

    fn started_again(&mut self, number: usize) -> Halted {
        let node = self.state.node(number);
        let record = Record::Started {
            path: self.path(number),
            dir: Direction::Forward,
            generation: node.generation,
            attempt: node.forward.begun,
            input: None,
        };
        self.emit(number, record)
    }

    /// Starts what was waiting for a time that has come.
    pub(super) fn due(&mut self) -> Halted {
        if self.is_held() || self.state.ended.is_some() {
            return Ok(());
        }
        for number in 0..self.state.nodes.len() {
            let node = self.state.node(number);
            if node.is_open() {
                continue;
            }
            if let Undo::Waiting { due, .. } = node.undo
                && due <= self.moment.now
            {
                self.start_undo(number)?;
            } else if let Phase::Waiting { due, reason } = &node.phase
                && *due <= self.moment.now
                && self.state.unwinding(number).is_none()
                && self.state.is_ready(number)
            {
                let reason = reason.clone();
                self.start_due(number, reason)?;
            }
        }
        Ok(())
    }

    /// A claim may be the wake of a child that has ended: parents ask at every claim.
    pub(super) fn ask_children(&mut self) {
        let now = self.moment.now;
        for node in &mut self.state.nodes {
            if let Phase::Waiting { due, reason: WaitReason::Child { .. } } = &mut node.phase {
                *due = now;
            }
            if let Undo::Waiting { due, reason: WaitReason::Child { .. } } = &mut node.undo {
                *due = now;
            }
        }
    }

    pub(super) fn start_due(&mut self, number: usize, reason: WaitReason) -> Halted {
        match reason {
            WaitReason::Sleep => {
                self.started_again(number)?;
                self.succeed(number, Payload::null())
            }
            WaitReason::Signal { name } => {
                let error = StepError::permanent("wait for a signal")
                    .with_code("signal_timeout")
                    .with_message(format!("`{name}` did not arrive in time"));
                self.started_again(number)?;
                self.failed(number, Direction::Forward, &error, None)
            }
            // Its name was not free yet: nothing of this generation has begun.
            WaitReason::Quiet if self.state.node(number).input.is_none() => self.try_again(number),
            WaitReason::Poll | WaitReason::Quiet | WaitReason::Child { .. } => {
                self.look_again(number, Direction::Forward);
                Ok(())
            }
            WaitReason::Retry | WaitReason::Throttled { .. } => self.try_again(number),
        }
    }

    fn try_again(&mut self, number: usize) -> Halted {
        let node = self.state.node(number);
        if let Some(input) = node.input.clone().filter(|_| node.def().is_wait()) {
            // Nothing is called: it waits anew, for as long as it did.
            return self.start_with(number, input);
        }
        if node.input.is_some() {
            self.started(number, None)?;
            self.perform(number, Direction::Forward);
            return Ok(());
        }
        match &self.state.node(number).def().kind {
            Kind::Hook { .. } => {
                self.started(number, None)?;
                self.perform(number, Direction::Forward);
                Ok(())
            }
            _ => self.start(number),
        }
    }

    fn expand(&mut self, number: usize) -> Halted {
        let node = self.state.node(number);
        let Kind::Each { items, .. } = &node.def().kind else { return Ok(()) };
        let input = &self.state.scope(node.scope).input;
        let values = self.state.values(node.scope);
        let list = guarded(|| items(input, &values));
        let list = match list.and_then(|list| check_items(&list).map(|()| list)) {
            Ok(list) => list,
            Err(error) => return self.fail_at_start(number, &error),
        };
        self.started(number, None)?;
        let items = list.into_iter().map(|(key, value)| ItemRecord { key, value }).collect();
        let path = self.path(number);
        self.emit(number, Record::Expanded { path, items })
    }

    /// Ends fan-outs whose items have all ended.
    pub(super) fn close_fan_outs(&mut self) -> Halted {
        for number in (0..self.state.nodes.len()).rev() {
            let node = self.state.node(number);
            let (Some(scopes), Phase::Running) = (&node.items, &node.phase) else { continue };
            if self.state.unwinding(number).is_some() {
                continue;
            }
            let scopes = scopes.clone();
            if scopes.iter().all(|scope| self.item_ended(*scope)) {
                self.close_fan_out(number, &scopes)?;
            }
        }
        Ok(())
    }

    fn item_ended(&self, scope: usize) -> bool {
        self.item_failure(scope).is_some()
            || self.state.members(scope).all(|member| self.state.node(member).is_settled())
    }

    /// The failure of an item that was undone by itself.
    fn item_failure(&self, scope: usize) -> Option<Failure> {
        let unwind = self.state.unwinds.iter().find(|u| u.region == Region::Item(scope))?;
        match &unwind.cause {
            Cause::Failure(failure) if unwind.done => Some(failure.clone()),
            _ => None,
        }
    }

    fn close_fan_out(&mut self, number: usize, scopes: &[usize]) -> Halted {
        let Kind::Each { at_least, .. } = self.state.node(number).def().kind else { return Ok(()) };
        let mut outputs = Vec::with_capacity(scopes.len());
        let mut succeeded = 0;
        let mut last_failure = None;
        for scope in scopes {
            if let Some(failure) = self.item_failure(*scope) {
                let text = Payload::encode(&failure)
                    .map_or_else(|_| "null".into(), |p| p.as_str().to_owned());
                outputs.push(format!("{{\"Err\":{text}}}"));
                last_failure = Some(failure);
                continue;
            }
            let output = &self.state.scope(*scope).graph.output;
            let values = self.state.values(*scope);
            match guarded(|| output(&values)) {
                Ok(value) if at_least.is_some() => {
                    outputs.push(format!("{{\"Ok\":{}}}", value.as_str()))
                }
                Ok(value) => outputs.push(value.as_str().to_owned()),
                Err(error) => return self.failed(number, Direction::Forward, &error, None),
            }
            succeeded += 1;
        }
        if succeeded < at_least.unwrap_or(0) {
            let message = format!("{succeeded} of {} items succeeded", scopes.len());
            let mut error =
                StepError::permanent("join the items").with_code("too_few").with_message(message);
            if let Some(failure) = last_failure {
                error = error.with_source(failure);
            }
            return self.failed(number, Direction::Forward, &error, None);
        }
        let text = format!("[{}]", outputs.join(","));
        if let Err(error) = check_size(text.len()) {
            return self.failed(number, Direction::Forward, &error, None);
        }
        let output = Payload::from_json(text).unwrap_or_else(|_| Payload::null());
        self.succeed(number, output)
    }

    fn join(&mut self, number: usize, rule: JoinRule) -> Halted {
        let node = self.state.node(number);
        let mut members: Vec<usize> =
            node.def().deps.iter().filter_map(|dep| self.state.resolve(node.scope, *dep)).collect();
        if rule == JoinRule::Any {
            members.sort_by_key(|member| self.state.node(*member).end_order);
        }
        let outputs: Vec<Payload> = members
            .iter()
            .map(|member| self.state.node(*member))
            .filter(|member| member.phase == Phase::Succeeded)
            .filter_map(|member| member.output.clone())
            .collect();
        let wanted = match rule {
            JoinRule::AtLeast(k) => k,
            JoinRule::Any => 1,
        };
        if outputs.len() < wanted {
            let message =
                format!("{} of {} succeeded, {wanted} wanted", outputs.len(), members.len());
            let error = StepError::permanent("join").with_code("too_few").with_message(message);
            return self.fail_at_start(number, &error);
        }
        let output = match (rule, outputs.first()) {
            (JoinRule::Any, Some(first)) => first.clone(),
            _ => {
                let texts: Vec<&str> = outputs.iter().map(Payload::as_str).collect();
                let text = format!("[{}]", texts.join(","));
                if let Err(error) = check_size(text.len()) {
                    return self.fail_at_start(number, &error);
                }
                Payload::from_json(text).unwrap_or_else(|_| Payload::null())
            }
        };
        self.started(number, None)?;
        self.succeed(number, output)
    }

    /// A series is over: unwind the innermost scope that tolerates it, or park.
    pub(super) fn gave_up(
        &mut self,
        number: usize,
        dir: Direction,
        mut failure: Failure,
        over: Over<'_>,
    ) -> Halted {
        let Over { why, verdict } = over;
        if why != "final" && failure.hint.is_none() {
            failure.hint = Some(format!("no further attempt: {why}"));
        }
        failure.severity = failure.severity.max(Severity::Error);
        let path = self.path(number);
        self.emit(number, Record::GaveUp { path, dir, failure: failure.clone() })?;
        let node = self.state.node(number);
        if dir == Direction::Undo || node.def().is_hook() {
            return Ok(());
        }
        if node.def().optional {
            return if node.standing() == Effect::None {
                Ok(())
            } else {
                self.start_unwind(Region::Node(number), Cause::Failure(failure))
            };
        }
        let needs_person = matches!(verdict, Verdict::Operator) || why == "unknown";
        match self.tolerating(number) {
            Some(region) => self.start_unwind(region, Cause::Failure(failure)),
            None if needs_person || self.state.pivot_passed() => Ok(()),
            None if self.state.plan.on_failure == OnFailure::Ask => Ok(()),
            None => self.start_unwind(Region::Run, Cause::Failure(failure)),
        }
    }

    /// The innermost scope around a node whose failure is tolerated.
    fn tolerating(&self, number: usize) -> Option<Region> {
        let mut scope = self.state.node(number).scope;
        loop {
            let (outer, each) = self.state.scope(scope).parent?;
            let def = self.state.node(each).def();
            if let Kind::Each { at_least: Some(_), .. } = def.kind {
                return Some(Region::Item(scope));
            }
            if def.optional {
                return Some(Region::Node(each));
            }
            scope = outer;
        }
    }

    /// Ends or parks the run when nothing else can happen.
    pub(super) fn conclude(&mut self) -> Halted {
        if self.state.ended.is_some() || self.state.parked.is_some() || self.has_open() {
            return Ok(());
        }
        let undoing = self.state.nodes.iter().any(|n| matches!(n.undo, Undo::Waiting { .. }));
        if undoing || self.state.paused || self.state.is_early(self.moment.now) {
            return Ok(());
        }
        if let Some(stuck) = (0..self.state.nodes.len()).find(|n| self.is_stuck(*n)) {
            let failure = self.state.node(stuck).failure.clone();
            let mut failure = failure.unwrap_or_else(|| {
                let lost = StepError::permanent("find out why").with_code("unknown_failure");
                Failure::of(self.path(stuck).to_string(), 0, &lost)
            });
            failure.severity = Severity::Critical;
            return self.emit_run(Record::Parked { failure });
        }
        // What is to be undone and may not begin yet holds the end up.
        if self.state.unwinds.iter().any(|unwind| !unwind.done) {
            return Ok(());
        }
        match self.end() {
            Some((status, output)) => self.end_with(status, output),
            None => Ok(()),
        }
    }

    fn has_open(&self) -> bool {
        self.state.has_open() || !self.out.perform.is_empty()
    }

    fn end(&self) -> Option<(RunStatus, Option<Result<Payload, StepError>>)> {
        if let Some(unwind) = self.state.run_unwind() {
            if !unwind.done {
                return None;
            }
            let keeps = self.state.left_behind
                || self
                    .state
                    .nodes
                    .iter()
                    .any(|n| !n.def().is_hook() && n.standing() != Effect::None);
            return Some(match unwind.cause {
                Cause::TearDown if !self.state.left_behind => (RunStatus::TornDown, None),
                Cause::TearDown => (RunStatus::RolledBackKeeping, None),
                _ if keeps => (RunStatus::RolledBackKeeping, None),
                _ => (RunStatus::RolledBack, None),
            });
        }
        if !self.state.members(0).all(|member| self.state.node(member).is_settled()) {
            return None;
        }
        let values = self.state.values(0);
        let output = guarded(|| (self.state.plan.graph.output)(&values));
        let tolerated =
            self.state.nodes.iter().any(|n| n.phase == Phase::GaveUp && !n.def().is_hook());
        let status = if tolerated { RunStatus::PartlySucceeded } else { RunStatus::Succeeded };
        Some((status, Some(output)))
    }

    fn end_with(
        &mut self,
        status: RunStatus,
        output: Option<Result<Payload, StepError>>,
    ) -> Halted {
        let output = match output.transpose() {
            Ok(output) => output,
            Err(error) => {
                let failure = Failure::of("", 0, &error);
                return self.emit_run(Record::Parked { failure });
            }
        };
        if !self.run_hooks(status)? {
            return Ok(());
        }
        self.emit_run(Record::Ended { status, output })
    }

    /// Terminal hooks are steps before the final record; true when all of them are over.
    fn run_hooks(&mut self, status: RunStatus) -> Result<bool, Halt> {
        let hooks: Vec<usize> = self.state.hooks().collect();
        let mut over = true;
        for hook in hooks {
            let node = self.state.node(hook);
            over &= matches!(node.phase, Phase::Succeeded | Phase::GaveUp);
            // L6: a worker that stops begins nothing; the next owner does.
            if node.phase != Phase::Idle || self.is_held() {
                continue;
            }
            let Kind::Hook { input, .. } = &node.def().kind else { continue };
            let input = Arc::clone(input);
            let end = End { status, failure: self.state.cause.clone() };
            let scope_input = &self.state.scope(0).input;
            match guarded(|| input(scope_input, &end)) {
                Ok(input) => {
                    self.started(hook, Some(input))?;
                    self.perform(hook, Direction::Forward);
                }
                Err(error) => self.fail_at_start(hook, &error)?,
            }
        }
        Ok(over)
    }
}

fn check_items(items: &[(String, Payload)]) -> Result<(), StepError> {
    let usable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let refuse = |code: &'static str, message: String| {
        Err(StepError::permanent("expand the list").with_code(code).with_message(message))
    };
    if items.len() > ITEMS_MAX {
        return refuse("too_many_items", format!("{} items, at most {ITEMS_MAX}", items.len()));
    }
    let mut keys = std::collections::BTreeSet::new();
    for (key, _) in items {
        if key.is_empty() || key.len() > 60 || !key.chars().all(usable) {
            return refuse("bad_item_key", "use letters, digits, `-`, `_` and `.`".to_owned());
        }
        if !keys.insert(key) {
            return refuse("duplicate_item_key", format!("the key `{key}` comes twice"));
        }
    }
    check_size(items.iter().map(|(_, item)| item.as_str().len()).sum())
}
