//! Requests from outside: signals and persons' orders, each checked against the state.

use std::collections::VecDeque;

use super::{Halt, Halted, Machine, Phase, Undo, state::Region};
use crate::{
    error::Effect,
    ledger::LedgerRow,
    run::{
        Refused, RunStatus,
        journal::{Cause, Finding, Order, Record, RequestBody, SignalSource},
    },
    saga::graph::Kind,
};

/// Most signals a run keeps that no step has taken yet (S25).
const SIGNALS_MAX: usize = 1_000;

/// Why an order was not taken. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub(crate) struct Refusal {
    /// Short stable word.
    pub code: &'static str,
    /// What stands against it.
    pub message: String,
    /// What can be ordered instead.
    pub hint: &'static str,
}

impl Refusal {
    /// Whether a bound was passed (S25), not a rule.
    pub(crate) fn is_limit(&self) -> bool {
        self.code == TOO_MANY_SIGNALS
    }

    /// Whether the same was taken when it came first.
    pub(crate) fn is_repetition(&self) -> bool {
        self.code == SIGNAL_REPEATED
    }
}

/// Why a request is not taken that names a resource of another run.
pub(crate) fn owned_elsewhere(row: &LedgerRow) -> Refusal {
    let (kind, id) = (row.full_kind(), &row.external_id);
    let named = id.as_ref().map_or("", |id| id.as_str());
    Refusal {
        code: "owned_elsewhere",
        message: format!("{kind} {named} is of run {}", row.run),
        hint: "name the resource that is of this run",
    }
}

const TOO_MANY_SIGNALS: &str = "too_many_signals";

/// Code of a signal that was heard of the same source before.
pub(crate) const SIGNAL_REPEATED: &str = "signal_repeated";

fn refuse(code: &'static str, message: impl Into<String>, hint: &'static str) -> Halted {
    Err(Halt::Refused(Refusal { code, message: message.into(), hint }))
}

impl Machine<'_> {
    pub(super) fn request(&mut self, body: RequestBody) -> Halted {
        match body {
            RequestBody::Signal { name, value, source } => self.signal(name, value, source),
            RequestBody::Unreadable { .. } => refuse(
                "unreadable",
                "this version cannot read what is asked",
                "run the newest version on all workers, and ask again",
            ),
            RequestBody::Order { order, who, why } => {
                self.check(&order)?;
                let follow = order.clone();
                self.touch(&order);
                self.emit_run(Record::Ordered { order, who, why })?;
                self.follow(&follow)
            }
        }
    }

    /// Shows what was not taken, in the journal and in the run's row. S17: the journal of a run that
    /// is over is final; there the row alone tells.
    pub(super) fn refused(&mut self, mut request: RequestBody, refusal: Refusal) -> Halted {
        if let RequestBody::Signal { value, .. } = &mut request {
            *value = crate::id::Payload::null();
        }
        let Refusal { code, message, .. } = refusal;
        let code = code.to_owned();
        if self.state.ended.is_some() {
            self.state.refused = Some(Refused { request, code, message });
            return Ok(());
        }
        self.emit_run(Record::Refused { request, code, message })
    }

    /// Rows of the ledger that the order changes.
    fn touch(&mut self, order: &Order) {
        match order {
            Order::Found { path, finding } => {
                let Some(number) = self.state.find(path) else { return };
                let renews = self.state.node(number).undo == Undo::None;
                if renews && *finding == Finding::Absent {
                    self.close_rows(number);
                }
                self.out.touched.push(number);
            }
            Order::Abandon { path } | Order::Skip { path } | Order::ResolveAs { path, .. } => {
                self.out.touched.extend(self.state.find(path));
            }
            _ => {}
        }
    }

    fn signal(
        &mut self,
        name: String,
        value: crate::id::Payload,
        source: Option<SignalSource>,
    ) -> Halted {
        if let Some(source) = &source
            && self.state.has_heard(&name, source)
        {
            return refuse(
                SIGNAL_REPEATED,
                format!("`{name}` was heard of `{}`", source.path),
                "nothing is to be done",
            );
        }
        if self.state.ended.is_some() {
            return refuse("run_over", "the run is over", "start a new run");
        }
        if source.as_ref().is_some_and(|source| !self.state.is_current(source)) {
            return refuse(
                "source_gone",
                "what the signal is about was undone, or made anew",
                "what runs on behalf of an earlier attempt is to be stopped",
            );
        }
        if self.state.signals.values().map(VecDeque::len).sum::<usize>() >= SIGNALS_MAX {
            return refuse(
                TOO_MANY_SIGNALS,
                format!("{SIGNALS_MAX} signals are kept and no step has waited for them"),
                "send a signal once for each step that waits for it",
            );
        }
        let waiting = (0..self.state.nodes.len()).find(|number| {
            let node = self.state.node(*number);
            matches!(node.phase, Phase::Waiting { .. })
                && matches!(&node.def().kind, Kind::Signal { name: n } if *n == name)
        });
        self.emit_run(Record::Signal { name, value, source })?;
        match waiting {
            Some(number) if self.state.unwinding(number).is_none() => self.take_signal(number),
            _ => Ok(()),
        }
    }

    fn check(&self, order: &Order) -> Halted {
        let ended = self.state.ended;
        let unwinding = self.state.run_unwind().is_some();
        match order {
            Order::Acknowledge => Ok(()),
            Order::TearDown => match ended {
                Some(RunStatus::Succeeded | RunStatus::PartlySucceeded) => Ok(()),
                Some(RunStatus::RolledBackKeeping) if self.keeps() => Ok(()),
                Some(_) => refuse(
                    "nothing_kept",
                    "nothing stands that a tear-down could remove",
                    "redrive it, or leave it",
                ),
                None => refuse("run_open", "the run is not over", "cancel it, or wait for its end"),
            },
            Order::Redrive => match (ended, unwinding) {
                (Some(RunStatus::RolledBack | RunStatus::RolledBackKeeping), _) => Ok(()),
                (None, true) if self.state.parked.is_some() => Ok(()),
                (None, false) if self.state.parked.is_some() => {
                    refuse("not_unwound", "the run is parked on its way forward", "retry it")
                }
                _ => refuse(
                    "not_rolled_back",
                    "only a rolled back run can be driven again",
                    "retry or resume it",
                ),
            },
            _ if ended.is_some() => refuse(
                "run_over",
                "the run is over",
                "tear it down, redrive it, or start a new one",
            ),
            Order::Cancel if self.state.pivot_passed() => refuse(
                "pivot_passed",
                "the point of no return has been passed: nothing unwinds",
                "retry what is parked until the run succeeds",
            ),
            Order::Cancel | Order::Pause | Order::Resume => Ok(()),
            Order::Retry if self.has_stuck() || self.state.parked.is_some() => Ok(()),
            Order::Retry => {
                refuse("nothing_stuck", "nothing has given up", "wait, or cancel the run")
            }
            Order::Skip { path }
            | Order::ResolveAs { path, .. }
            | Order::Found { path, .. }
            | Order::Abandon { path } => self.check_step(order, path),
        }
    }

    fn check_step(&self, order: &Order, path: &str) -> Halted {
        let Some(number) = self.state.find(path) else {
            return refuse(
                "no_such_step",
                format!("there is no step `{path}`"),
                "look at the run's steps",
            );
        };
        let node = self.state.node(number);
        if node.is_open() {
            return refuse("step_open", "an attempt of it is open", "wait until it has ended");
        }
        let def = node.def();
        let tolerant = def.optional || def.when.is_some() || !self.has_dependents(number);
        match order {
            Order::Found { .. } if !def.is_action() => refuse(
                "nothing_to_find",
                "it makes nothing that could exist",
                "retry it, or resolve it as succeeded with an output",
            ),
            // S12: what may exist is undone or kept, never forgotten.
            Order::Skip { .. } if node.is_resource() && node.standing() != Effect::None => refuse(
                "may_exist",
                "it exists, or may: skipped, nobody would remove it any more",
                "resolve it as succeeded with an output, or cancel the run",
            ),
            Order::Skip { .. } if !tolerant => refuse(
                "needs_output",
                "later steps need its output",
                "resolve it as succeeded with an output instead",
            ),
            Order::Abandon { .. } if node.undo == Undo::None && node.phase != Phase::GaveUp => {
                refuse("nothing_stuck", "it has not given up", "wait, or cancel the run")
            }
            Order::Abandon { .. } if node.undo == Undo::None => refuse(
                "not_unwinding",
                "it is not being undone",
                "skip it, or cancel the run first",
            ),
            _ => {
                // The table has the last word; it is asked on a copy.
                let mut copy = node.clone();
                match super::table::ordered(&mut copy, order) {
                    Ok(()) => Ok(()),
                    Err(what) => refuse("not_possible", what, "look at the step's state"),
                }
            }
        }
    }

    fn has_dependents(&self, number: usize) -> bool {
        let node = self.state.node(number);
        node.graph.dependents.get(node.index).is_some_and(|list| !list.is_empty())
    }

    /// What an accepted order leads to beyond its own record.
    fn follow(&mut self, order: &Order) -> Halted {
        match order {
            Order::Cancel if self.state.run_unwind().is_none() => {
                self.start_unwind(Region::Run, Cause::Cancelled)
            }
            Order::TearDown => self.start_unwind(Region::Run, Cause::TearDown),
            Order::Found { path, .. } => {
                self.undo_what_was_found(path)?;
                self.due()
            }
            Order::Cancel
            | Order::Retry
            | Order::Redrive
            | Order::Resume
            | Order::Skip { .. }
            | Order::ResolveAs { .. } => self.due(),
            _ => Ok(()),
        }
    }

    /// What was found of a step after its own unwinding was over: one more begins.
    fn undo_what_was_found(&mut self, path: &str) -> Halted {
        let Some(number) = self.state.find(path) else { return Ok(()) };
        let node = self.state.node(number);
        if node.undo != Undo::Due || self.state.unwinding(number).is_some() {
            return Ok(());
        }
        let cause = node.failure.clone().map_or(Cause::Cancelled, Cause::Failure);
        self.start_unwind(Region::Node(number), cause)
    }
}
