//! What others see of a state: the driver's due times, an attempt's memory, the ledger's rows, the
//! summary of lists.

use std::{collections::BTreeMap, time::Duration};

use super::{Node, Phase, State, Undo};
use crate::{
    context::Memory,
    error::{Effect, Failure, StepError},
    id::{ExternalId, Timestamp},
    ledger::{LedgerRow, Origin, ResourceState, halves},
    resource::DEFAULT_ACCOUNT,
    run::{RunStatus, RunSummary, journal::WaitReason},
    saga::OnUnknown,
    store::{Poll, RunHead},
};

/// How long after the quiet time the watch looks once more.
const WATCH_AFTER: Duration = Duration::from_secs(3600);

impl State {
    /// When something of the run is due next, if it waits for a time at all.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        if self.ended.is_some() || self.parked.is_some() || self.paused {
            return None;
        }
        let forward = (0..self.nodes.len()).filter_map(|number| match &self.node(number).phase {
            // What is open already waits for its own end, not for its time.
            Phase::Waiting { due, .. }
                if self.unwinding(number).is_none()
                    && !self.node(number).quiet_start
                    && self.is_ready(number) =>
            {
                Some(*due)
            }
            _ => None,
        });
        let undo = self.nodes.iter().filter_map(|node| match &node.undo {
            Undo::Waiting { due, .. } if !node.quiet_start => Some(*due),
            _ => None,
        });
        let begins = self.not_before.filter(|_| self.run_unwind().is_none());
        forward.chain(undo).chain(begins).min()
    }

    /// Whether the point of no return has been passed.
    pub(crate) fn pivot_passed(&self) -> bool {
        self.nodes.iter().any(|node| node.def().pivot && node.phase == Phase::Succeeded)
    }

    /// Whether the start of the run is put off to a later time than `now`; undoing is not.
    pub(super) fn is_early(&self, now: Timestamp) -> bool {
        self.run_unwind().is_none() && self.not_before.is_some_and(|begins| begins > now)
    }

    /// Whether a wait for a signal is over by `now`.
    pub(crate) fn signal_is_late(&self, now: Timestamp) -> bool {
        self.nodes.iter().any(|node| match &node.phase {
            Phase::Waiting { due, reason: WaitReason::Signal { .. } } => *due <= now,
            _ => false,
        })
    }

    /// Whether something is looked at again later, which begins without a record.
    pub(crate) fn looks_again(&self) -> bool {
        let looks = |reason: &WaitReason| matches!(reason, WaitReason::Poll | WaitReason::Quiet);
        self.nodes.iter().any(|node| match (&node.undo, &node.phase) {
            (Undo::Waiting { reason, .. }, _) | (Undo::None, Phase::Waiting { reason, .. }) => {
                looks(reason)
            }
            _ => false,
        })
    }

    /// Repeated polls that the journal does not know of.
    pub(crate) fn polls(&self) -> BTreeMap<String, Poll> {
        let moved = self.nodes.iter().filter(|node| node.polls > 0);
        let due = moved.filter_map(|node| match (&node.phase, &node.undo) {
            (_, Undo::Waiting { due, .. }) | (Phase::Waiting { due, .. }, _) => {
                Some((node.path.to_string(), Poll { due: *due, count: node.polls }))
            }
            _ => None,
        });
        due.collect()
    }

    /// Lays what the run's row knows of repeated polls over the journal's waits.
    pub(crate) fn overlay_polls(&mut self, polls: &BTreeMap<String, Poll>) {
        for (path, poll) in polls {
            let Some(number) = self.find(path) else { continue };
            let node = self.node_mut(number);
            let (due, reason) = match (&mut node.phase, &mut node.undo) {
                (_, Undo::Waiting { due, reason }) | (Phase::Waiting { due, reason }, _) => {
                    (due, &*reason)
                }
                _ => continue,
            };
            // L4: the row may be older than the journal, and what waits by now may be no poll.
            let polls =
                matches!(reason, WaitReason::Poll | WaitReason::Quiet | WaitReason::Child { .. });
            if polls && *due < poll.due {
                *due = poll.due;
                node.polls = poll.count;
            }
        }
    }

    /// Lays over the journal what only the run's row could be told: that the run is parked. It stays
    /// parked until a person asks, whatever else is asked of it and whether its journal is well again.
    pub(crate) fn overlay_parked(&mut self, head: &RunHead) {
        if head.status != RunStatus::Parked || self.ended.is_some() || self.parked.is_some() {
            return;
        }
        let unsaid = || {
            let error = StepError::permanent("find out why").with_code("unknown_failure");
            Failure::of("", 0, &error)
        };
        self.parked = Some(head.summary.failure.clone().unwrap_or_else(unsaid));
    }

    /// What an attempt is told of earlier ones of its generation.
    pub(crate) fn memory(&self, number: usize) -> Memory {
        let node = self.node(number);
        let def = node.def();
        let unknown = if node.noted.is_empty() {
            node.is_in_doubt(node.effect)
        } else {
            node.effect == Effect::Unknown && !node.is_resource()
        };
        Memory {
            intent: node.intent.clone(),
            noted: node.noted.clone(),
            unknown,
            may_exist: node.standing() != Effect::None,
            quiet_until: self.quiet_until(number),
            called_at: node.called_at,
            begun_at: node.begun_at,
            polling_since: node.polling_since,
            adopt: def.adopt,
            run_again: match def.on_unknown {
                OnUnknown::RunAgain { at_most } => Some(at_most),
                OnUnknown::Protocol | OnUnknown::Park => None,
            },
            unknown_calls: node.unknown_calls,
            undo_unknown: node.undo_sent_until.is_some(),
            reordered: self.reordered,
        }
    }

    /// What lists show.
    pub(crate) fn summary(&self) -> RunSummary {
        let steps = self.nodes.iter().filter(|node| !node.def().is_hook());
        let total = steps.clone().count();
        let done = match self.run_unwind() {
            Some(unwind) => total.saturating_sub(unwind.order.len()) + self.undone(&unwind.order),
            None => steps.filter(|n| matches!(n.phase, Phase::Succeeded | Phase::Skipped)).count(),
        };
        let failure = match (self.ended, &self.parked) {
            (_, Some(failure)) => Some(failure.clone()),
            (Some(RunStatus::Succeeded), None) => None,
            _ => self.cause.clone(),
        };
        RunSummary {
            phase: self.phase.map(str::to_owned),
            done: u32::try_from(done).unwrap_or(u32::MAX),
            total: u32::try_from(total).unwrap_or(u32::MAX),
            waiting: self.waiting_for(),
            failure,
            resolved: self.acknowledged,
            refused: self.refused.clone(),
            not_before: self.not_before,
        }
    }

    fn undone(&self, order: &[usize]) -> usize {
        order
            .iter()
            .filter(|n| matches!(self.node(**n).undo, Undo::Done | Undo::LeftBehind))
            .count()
    }

    fn waiting_for(&self) -> Option<String> {
        if self.not_before.is_some() && self.run_unwind().is_none() {
            return Some("the time of its start".to_owned());
        }
        let waits = self.nodes.iter().filter_map(|node| match (&node.undo, &node.phase) {
            (Undo::Waiting { due, reason }, _) | (Undo::None, Phase::Waiting { due, reason }) => {
                Some((*due, node, reason))
            }
            _ => None,
        });
        let (_, node, reason) = waits.min_by_key(|(due, _, _)| *due)?;
        let what = match reason {
            WaitReason::Retry => "the next attempt of".to_owned(),
            WaitReason::Poll => "the readiness of".to_owned(),
            WaitReason::Quiet => "the quiet time of".to_owned(),
            WaitReason::Throttled { bucket } => format!("the limit `{bucket}` before"),
            WaitReason::Sleep => "the time of".to_owned(),
            WaitReason::Signal { .. } => "the signal of".to_owned(),
            WaitReason::Child { run } => format!("run {run}, the child of"),
        };
        Some(format!("{what} `{}`", node.path))
    }

    /// Ledger rows of a node's generation, as they are now.
    pub(crate) fn ledger_rows(&self, number: usize, tenant: Option<&str>) -> Vec<LedgerRow> {
        let node = self.node(number);
        if node.intent.is_none() && node.noted.is_empty() {
            return Vec::new();
        }
        let watch_at = self.quiet_until(number).filter(|_| node.suspect);
        let row = |index: u32, id: Option<ExternalId>, origin: Origin| {
            let facts = Facts::of(node);
            let (provider, kind) = halves(node.def().kind_name());
            let state = resource_state(node, id.is_some());
            LedgerRow {
                run: self.run,
                path: node.path.to_string(),
                generation: node.generation,
                index,
                tenant: tenant.map(str::to_owned),
                provider: provider.to_owned(),
                account: facts.account,
                kind: kind.to_owned(),
                name: facts.name,
                external_id: id,
                origin,
                state,
                region: facts.region,
                template: facts.template,
                cost: facts.cost,
                suspect: node.suspect,
                watch_at: watch_at.map(|at| at.plus(WATCH_AFTER)),
                since: node.since.unwrap_or(self.at),
                until: (state == ResourceState::Gone).then_some(self.at),
            }
        };
        if node.is_resource() || node.noted.is_empty() {
            // What was adopted outlives what the undo found beside it.
            let adopted = node.noted.iter().find(|(_, origin)| *origin == Origin::Adopted);
            let shown = adopted.or(node.noted.last());
            let origin = shown.map_or(Origin::Created, |(_, origin)| *origin);
            return vec![row(0, shown.map(|(id, _)| id.clone()), origin)];
        }
        let noted = node.noted.iter().zip(0_u32..);
        noted.map(|((id, origin), index)| row(index, Some(id.clone()), *origin)).collect()
    }
}

#[derive(Default)]
struct Facts {
    account: String,
    name: Option<String>,
    region: Option<String>,
    template: Option<String>,
    cost: Option<crate::ledger::Cost>,
}

impl Facts {
    fn of(node: &Node) -> Self {
        let Some(intent) = &node.intent else {
            // What was adopted is known by no intent: it is where the step's client looks.
            let account = node.def().action().map_or(DEFAULT_ACCOUNT, |action| action.account());
            return Self { account: account.to_owned(), ..Self::default() };
        };
        Self {
            account: intent.account.clone(),
            name: intent.name.clone(),
            region: intent.region.clone(),
            template: intent.template.clone(),
            cost: intent.cost.clone(),
        }
    }
}

fn resource_state(node: &Node, known: bool) -> ResourceState {
    let adopted = node.noted.iter().any(|(_, origin)| *origin == Origin::Adopted);
    match node.undo {
        Undo::LeftBehind => ResourceState::LeftBehind,
        // What was adopted is left alone: it is still there.
        Undo::Done if !adopted => ResourceState::Gone,
        _ if known => ResourceState::Alive,
        // S15: without an id nobody can say that it is gone while something of it may stand.
        _ if node.intent_open || node.standing() != Effect::None => ResourceState::Unknown,
        _ => ResourceState::Gone,
    }
}
