//! Unwinding: in reverse, only after everything that depends on a step is undone, and monotonic.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use super::{Command, Halted, Machine, Phase, Undo, state::Region};
use crate::{
    error::{Effect, Failure, StepError},
    run::journal::{Cause, Direction, Record, WaitReason},
    saga::OnFailure,
};

impl Machine<'_> {
    /// S12, S13: freezes what is to be undone and in which order, in the write of its cause.
    pub(super) fn start_unwind(&mut self, region: Region, cause: Cause) -> Halted {
        self.withdraw(region)?;
        let tear_down = cause == Cause::TearDown;
        let keeps = region == Region::Run
            && matches!(cause, Cause::Failure(_))
            && self.state.plan.on_failure == OnFailure::Keep;
        let stays = |number: usize| keeps && self.state.node(number).phase == Phase::Succeeded;
        let mut order: Vec<usize> = (0..self.state.nodes.len())
            .filter(|number| self.state.covers(region, *number))
            .filter(|number| self.is_to_be_undone(*number) && !stays(*number))
            .collect();
        order.sort_by_key(|number| {
            let node = self.state.node(*number);
            let rank = node.def().tear_down_first.filter(|_| tear_down).unwrap_or(u32::MAX);
            (rank, std::cmp::Reverse(node.start_order))
        });
        let order = order.into_iter().map(|number| self.path(number)).collect();
        let scope = match region {
            Region::Run => Arc::from(""),
            Region::Item(scope) => Arc::clone(&self.state.scope(scope).path),
            Region::Node(number) => self.path(number),
        };
        self.emit_run(Record::UnwindStarted { scope, cause, order })
    }

    /// Calls that this very append would begin are not made: nothing of them has happened.
    fn withdraw(&mut self, region: Region) -> Halted {
        let covered = |command: &Command| {
            command.dir == Direction::Forward && self.state.covers(region, command.node)
        };
        let (never, goes): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.out.perform).into_iter().partition(covered);
        self.out.perform = goes;
        for Command { node, dir } in never {
            if std::mem::take(&mut self.state.node_mut(node).quiet_start) {
                continue;
            }
            let error = StepError::retry("begin").with_code("stopped");
            let attempt = self.state.node(node).forward.begun;
            let path = self.path(node);
            let record = Record::Failed {
                failure: Failure::of(path.to_string(), attempt, &error),
                path,
                dir,
                verdict: error.verdict().clone(),
                broken: false,
                interrupted: true,
                sent_until: None,
            };
            self.emit(node, record)?;
        }
        Ok(())
    }

    /// A broken resource is deleted by itself before its next generation.
    pub(super) fn start_unwind_for_renewal(&mut self, number: usize) -> Halted {
        self.start_unwind(Region::Node(number), Cause::Renew)
    }

    /// Whether something stands that an unwinding would undo.
    pub(super) fn keeps(&self) -> bool {
        (0..self.state.nodes.len()).any(|number| self.is_to_be_undone(number))
    }

    fn is_to_be_undone(&self, number: usize) -> bool {
        let node = self.state.node(number);
        let def = node.def();
        def.is_action()
            && !def.is_hook()
            && def.irreversible.is_none()
            && !matches!(node.undo, Undo::Done | Undo::LeftBehind)
            && (node.standing() != Effect::None || node.is_open())
    }

    /// Starts what can be undone now, and closes unwindings that are over.
    pub(super) fn step_unwinds(&mut self) -> Halted {
        if self.is_held() {
            return Ok(());
        }
        for index in 0..self.state.unwinds.len() {
            let Some(unwind) = self.state.unwinds.get(index) else { break };
            if unwind.done {
                continue;
            }
            let (region, order) = (unwind.region, unwind.order.clone());
            self.start_undos(&order)?;
            if self.is_unwound(region, &order) {
                self.close_unwind(index)?;
            }
        }
        Ok(())
    }

    /// One undo at a time, in the frozen order; a waiting or failed one holds back only what it
    /// depends on.
    fn start_undos(&mut self, order: &[usize]) -> Halted {
        for number in order {
            if order.iter().any(|n| self.state.node(*n).undo == Undo::Running) {
                return Ok(());
            }
            let node = self.state.node(*number);
            if node.undo != Undo::Due || node.is_open() || self.is_blocked(*number, order) {
                continue;
            }
            self.start_undo(*number)?;
        }
        Ok(())
    }

    pub(super) fn start_undo(&mut self, number: usize) -> Halted {
        let node = self.state.node(number);
        if let Undo::Waiting {
            reason: WaitReason::Poll | WaitReason::Quiet | WaitReason::Child { .. },
            ..
        } = node.undo
        {
            self.look_again(number, Direction::Undo);
            return Ok(());
        }
        let nothing = node.standing() == Effect::None;
        let record = Record::Started {
            path: self.path(number),
            dir: Direction::Undo,
            generation: node.generation,
            attempt: node.backward.begun + 1,
            input: None,
        };
        self.emit(number, record)?;
        if nothing {
            // Its open attempt has ended with a proven "nothing happened" since.
            let (path, dir) = (self.path(number), Direction::Undo);
            return self.emit(number, Record::Succeeded { path, dir, output: None });
        }
        self.perform(number, Direction::Undo);
        Ok(())
    }

    fn is_over(&self, number: usize) -> bool {
        matches!(self.state.node(number).undo, Undo::Done | Undo::LeftBehind)
    }

    fn is_unwound(&self, region: Region, order: &[usize]) -> bool {
        order.iter().all(|number| self.is_over(*number))
            && (0..self.state.nodes.len())
                .filter(|number| self.state.covers(region, *number))
                .all(|number| !self.state.node(number).is_open())
    }

    fn close_unwind(&mut self, index: usize) -> Halted {
        let Some(unwind) = self.state.unwinds.get(index) else { return Ok(()) };
        let (scope, region, cause) =
            (Arc::clone(&unwind.scope), unwind.region, unwind.cause.clone());
        self.emit_run(Record::Unwound { scope })?;
        if let (Region::Node(number), Cause::Renew) = (region, cause) {
            return self.renew(number, self.moment.now);
        }
        Ok(())
    }

    /// S13: whether something that depends on the step is still to be undone.
    fn is_blocked(&self, number: usize, order: &[usize]) -> bool {
        let open: HashSet<usize> =
            order.iter().copied().filter(|n| *n != number && !self.is_over(*n)).collect();
        !open.is_empty() && self.reaches(number, &open)
    }

    /// Follows edges to dependents. A fan-out has two ends: what it depends on reaches its items
    /// through its beginning, and its items reach its dependents through its end.
    fn reaches(&self, from: usize, wanted: &HashSet<usize>) -> bool {
        let mut seen = BTreeSet::new();
        let mut stack = vec![(from, true)];
        while let Some((number, at_end)) = stack.pop() {
            if !seen.insert((number, at_end)) {
                continue;
            }
            if number != from && wanted.contains(&number) {
                return true;
            }
            let node = self.state.node(number);
            match &node.items {
                Some(scopes) if !at_end => {
                    for scope in scopes {
                        stack.extend(self.state.members(*scope).map(|n| (n, self.ends_at_once(n))));
                    }
                    stack.push((number, true));
                }
                _ => {
                    let scope = self.state.scope(node.scope);
                    for dependent in node.graph.dependents.get(node.index).into_iter().flatten() {
                        let dependent = scope.base + dependent;
                        stack.push((dependent, self.ends_at_once(dependent)));
                    }
                    if let Some((_, each)) = scope.parent {
                        stack.push((each, true));
                    }
                }
            }
        }
        false
    }

    fn ends_at_once(&self, number: usize) -> bool {
        self.state.node(number).items.is_none()
    }
}
