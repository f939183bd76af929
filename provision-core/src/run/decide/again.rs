//! What begins again: by a person's order, or because a hook has told another end.

use super::{
    Phase, State,
    state::{IllegalRecord, Region, illegal},
};
use crate::{run::journal::Order, saga::graph::Kind};

impl State {
    pub(super) fn ordered(&mut self, order: &Order) -> Result<(), IllegalRecord> {
        self.reordered = true;
        match order {
            Order::Pause => self.paused = true,
            Order::Resume => self.paused = false,
            Order::Acknowledge => self.acknowledged = true,
            // The unwinding that follows is what the person decided.
            Order::Cancel => {
                // A pause keeps a run from starting what it is to do; what is cancelled is undone.
                self.paused = false;
                if self.run_unwind().is_none() {
                    self.parked = None;
                }
            }
            Order::TearDown => {
                self.ended = None;
                self.reset_hooks();
            }
            Order::Retry => {
                self.parked = None;
                for number in 0..self.nodes.len() {
                    // What an unwinding has ended stays ended; only its undo is tried again.
                    let forward = !self.is_unwound(number);
                    if forward && self.node(number).phase == Phase::GaveUp {
                        self.retry_items(number);
                    }
                    super::table::retry(self.node_mut(number), forward);
                }
            }
            Order::Redrive => self.redrive(),
            Order::Skip { path }
            | Order::ResolveAs { path, .. }
            | Order::Found { path, .. }
            | Order::Abandon { path } => {
                let number = self.find(path).ok_or_else(|| illegal(path, "no such step"))?;
                self.parked = None;
                if matches!(order, Order::Abandon { .. }) {
                    self.left_behind = true;
                }
                if matches!(order, Order::ResolveAs { .. }) {
                    self.ends += 1;
                    let end = self.ends;
                    self.node_mut(number).end_order = end;
                }
                super::table::ordered(self.node_mut(number), order)
                    .map_err(|what| illegal(path, what))?;
            }
        }
        Ok(())
    }

    /// Items that failed and were undone by themselves go forward again with their fan-out.
    fn retry_items(&mut self, number: usize) {
        let Some(scopes) = self.node(number).items.clone() else { return };
        for scope in scopes {
            let region = Region::Item(scope);
            if !self.unwinds.iter().any(|u| u.done && u.region == region) {
                continue;
            }
            for inner in 0..self.nodes.len() {
                if self.covers(region, inner) {
                    super::table::redrive(self.node_mut(inner));
                }
            }
            self.unwinds.retain(|u| u.region != region);
        }
        super::table::reopen(self.node_mut(number));
        self.forget_values();
    }

    /// What was only computed is computed again when what it was computed from is made again.
    fn forget_values(&mut self) {
        self.redriven = true;
        self.forget_signals();
        for number in 0..self.nodes.len() {
            let node = self.node(number);
            let computed = matches!(node.def().kind, Kind::Value | Kind::Join { .. });
            if computed && node.phase == Phase::Succeeded && !self.is_ready(number) {
                let generation = node.generation;
                self.node_mut(number).renew(generation);
            }
        }
    }

    fn redrive(&mut self) {
        self.ended = None;
        self.parked = None;
        self.paused = false;
        self.cause = None;
        self.acknowledged = false;
        self.unwinds.clear();
        for node in &mut self.nodes {
            super::table::redrive(node);
        }
        self.forget_values();
        self.reset_hooks();
    }

    fn reset_hooks(&mut self) {
        let hooks: Vec<usize> = self.hooks().collect();
        for hook in hooks {
            let node = self.node_mut(hook);
            let generation = node.generation + u32::from(node.phase != Phase::Idle);
            node.renew(generation);
        }
    }

    /// A hook that was told another end, before the run began to unwind, is told once more.
    pub(super) fn tell_again(&mut self, number: usize) {
        let Some(begun) = self.run_unwind().map(|unwind| unwind.starts) else { return };
        let node = self.node(number);
        let told = (1..=begun).contains(&node.start_order) && node.phase != Phase::Running;
        if told && node.def().is_hook() {
            let generation = node.generation + 1;
            self.node_mut(number).renew(generation);
        }
    }
}
