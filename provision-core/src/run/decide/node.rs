//! One node of a run: what is known of it, folded from the journal.

use std::sync::Arc;

use crate::{
    error::{Effect, Failure},
    id::{ExternalId, Payload, Timestamp},
    ledger::Origin,
    resource::IntentRecord,
    run::journal::{Direction, WaitReason},
    saga::graph::{Graph, NodeDef},
};

/// Where a node stands, forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not begun.
    Idle,
    /// Between attempts, or asleep.
    Waiting { due: Timestamp, reason: WaitReason },
    /// An attempt is open.
    Running,
    /// Done.
    Succeeded,
    /// Not wanted.
    Skipped,
    /// Its series is over without success.
    GaveUp,
    /// Ended by an unwinding before it was done; it may or may not have an effect.
    Closed,
}

/// Where a node stands in an unwinding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Undo {
    /// Not to be undone.
    None,
    /// To be undone.
    Due,
    /// Between attempts.
    Waiting { due: Timestamp, reason: WaitReason },
    /// An attempt is open.
    Running,
    /// Undone.
    Done,
    /// Its series is over: needs a person.
    GaveUp,
    /// Given up by a person.
    LeftBehind,
}

/// The series of attempts in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tries {
    /// Attempts begun, polls not counted.
    pub(crate) begun: u32,
    /// Attempts that count against the policy.
    pub(crate) counted: u32,
    /// When the series began.
    pub(crate) since: Option<Timestamp>,
    /// When throttling began, if the last attempts were throttled.
    pub(crate) throttled_since: Option<Timestamp>,
    /// Ends in a row that use up no attempt: held back by the shared limiter, cut, or trouble
    /// that is not the step's.
    pub(crate) held: u32,
}

impl Tries {
    /// A person has answered: what has passed meanwhile is no time of the series.
    pub(crate) fn begin_anew(&mut self) {
        *self = Self { begun: self.begun, ..Self::default() };
    }
}

/// One instance of a node.
#[derive(Debug, Clone)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts of one node, each folded alone"
)]
pub(crate) struct Node {
    pub(crate) graph: Arc<Graph>,
    /// Index in its graph.
    pub(crate) index: usize,
    /// Scope it lives in.
    pub(crate) scope: usize,
    pub(crate) path: Arc<str>,
    pub(crate) phase: Phase,
    pub(crate) undo: Undo,
    pub(crate) generation: u32,
    pub(crate) forward: Tries,
    pub(crate) backward: Tries,
    /// Worst over all ended attempts of this generation.
    pub(crate) effect: Effect,
    /// An intent is recorded and its call's end is not.
    pub(crate) intent_open: bool,
    pub(crate) input: Option<Payload>,
    pub(crate) intent: Option<IntentRecord>,
    pub(crate) noted: Vec<(ExternalId, Origin)>,
    pub(crate) output: Option<Payload>,
    pub(crate) failure: Option<Failure>,
    /// Calls of this generation whose end is unknown.
    pub(crate) unknown_calls: u32,
    /// Last moment at which a call of this generation could have been sent.
    pub(crate) sent_until: Option<Timestamp>,
    /// When an intent or an id was journaled last.
    pub(crate) called_at: Option<Timestamp>,
    /// When the first attempt of this generation was journaled.
    pub(crate) begun_at: Option<Timestamp>,
    /// Last moment at which an undo of this generation could have been sent that did not end well.
    pub(crate) undo_sent_until: Option<Timestamp>,
    /// The same of earlier generations that were called by a name, which this one bears again.
    pub(crate) name_busy: Option<Timestamp>,
    /// When polling for readiness began.
    pub(crate) polling_since: Option<Timestamp>,
    /// Its end was unknown once, or its run was taken over in the middle of it.
    pub(crate) suspect: bool,
    pub(crate) broken: bool,
    /// Position in the order of starts; 0 before.
    pub(crate) start_order: u32,
    /// Whether it has set the run's phase. A person who sends its step forward again lets it do so anew.
    pub(crate) set_phase: bool,
    /// Position in the order of ends; 0 before.
    pub(crate) end_order: u32,
    /// Items of a fan-out that has expanded.
    pub(crate) items: Option<Vec<usize>>,
    /// A fan-out that goes forward again: its list is asked for once more.
    pub(crate) reopened: bool,
    /// An attempt is open in memory whose `started` rides with its outcome (a poll).
    pub(crate) quiet_start: bool,
    /// Answers "not yet" since the last journaled wait, of this wait.
    pub(crate) polls: u32,
    /// When the intent was journaled, for the ledger.
    pub(crate) since: Option<Timestamp>,
}

impl Node {
    pub(crate) fn new(graph: &Arc<Graph>, index: usize, scope: usize, path: Arc<str>) -> Self {
        Self {
            graph: Arc::clone(graph),
            index,
            scope,
            path,
            phase: Phase::Idle,
            undo: Undo::None,
            generation: 1,
            forward: Tries::default(),
            backward: Tries::default(),
            effect: Effect::None,
            intent_open: false,
            input: None,
            intent: None,
            noted: Vec::new(),
            output: None,
            failure: None,
            unknown_calls: 0,
            sent_until: None,
            called_at: None,
            begun_at: None,
            undo_sent_until: None,
            name_busy: None,
            polling_since: None,
            suspect: false,
            broken: false,
            start_order: 0,
            set_phase: false,
            end_order: 0,
            items: None,
            reopened: false,
            quiet_start: false,
            polls: 0,
            since: None,
        }
    }

    #[allow(clippy::indexing_slicing, reason = "a node is built from its own graph's index")]
    pub(crate) fn def(&self) -> &NodeDef {
        &self.graph.nodes[self.index]
    }

    /// Whether it is a resource: nothing of it can exist before its intent.
    pub(crate) fn is_resource(&self) -> bool {
        self.def().action().is_some_and(|action| action.timing().is_some())
    }

    /// S12: what may exist out there because of this generation.
    pub(crate) fn standing(&self) -> Effect {
        if !self.def().is_action() || matches!(self.undo, Undo::Done | Undo::LeftBehind) {
            return Effect::None;
        }
        let open = match self.phase {
            Phase::Running if self.is_resource() && self.intent_open => Effect::Unknown,
            Phase::Running if !self.is_resource() => Effect::Unknown,
            _ => Effect::None,
        };
        open.max(self.effect)
    }

    /// Whether an attempt with this end leaves it open what of it exists. Something that was made
    /// and bears no id yet is found by a look-up alone, which may be behind.
    pub(crate) fn is_in_doubt(&self, effect: Effect) -> bool {
        let made = self.is_resource() && self.noted.is_empty();
        effect == Effect::Unknown || (effect == Effect::Applied && made)
    }

    /// Whether it is a resource of whose generation no call can have been made yet.
    pub(crate) fn is_unborn(&self) -> bool {
        self.is_resource() && self.intent.is_none() && self.noted.is_empty()
    }

    /// Whether an attempt is open in either direction.
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Running && self.items.is_none()
            || self.undo == Undo::Running
            || self.quiet_start
    }

    /// Whether the run lives with what it has made, and nothing of it is under way.
    pub(crate) fn stands_for_good(&self) -> bool {
        self.phase == Phase::Succeeded && self.undo == Undo::None && !self.is_open()
    }

    /// Whether dependents may go on: it succeeded, is not wanted, or failed in a tolerated way
    /// with nothing left behind it.
    pub(crate) fn is_settled(&self) -> bool {
        match self.phase {
            Phase::Succeeded => self.undo == Undo::None,
            Phase::Skipped => true,
            Phase::GaveUp => {
                self.def().optional
                    && matches!(self.undo, Undo::None | Undo::Done | Undo::LeftBehind)
                    && (self.standing() == Effect::None || self.def().irreversible.is_some())
            }
            Phase::Idle | Phase::Waiting { .. } | Phase::Running | Phase::Closed => false,
        }
    }

    /// Whether a poll of its undo is open whose `started` is not journaled.
    pub(crate) fn undo_is_open(&self) -> bool {
        self.quiet_start && matches!(self.undo, Undo::Waiting { .. })
    }

    /// Moves an open poll to its next time, when nothing but the time changes. Such a move is
    /// kept in the run's row and not journaled.
    pub(crate) fn move_poll(&mut self, dir: Direction, reason: &WaitReason, at: Timestamp) -> bool {
        if !self.quiet_start {
            return false;
        }
        let moved = match (dir, &mut self.phase, &mut self.undo) {
            (Direction::Forward, Phase::Waiting { due, reason: old }, _) if old == reason => {
                *due = at;
                true
            }
            (Direction::Undo, _, Undo::Waiting { due, reason: old }) if old == reason => {
                *due = at;
                true
            }
            _ => false,
        };
        if moved {
            self.quiet_start = false;
            self.polls += 1;
        }
        moved
    }

    /// Begins the next generation: nothing of the last one is left.
    pub(crate) fn renew(&mut self, generation: u32) {
        let fresh = Self::new(&self.graph, self.index, self.scope, Arc::clone(&self.path));
        let (begun, suspect) = (self.forward.begun, self.suspect);
        let named = self.intent.as_ref().is_some_and(|intent| intent.name.is_some());
        let name_busy = self.name_busy.max(self.undo_sent_until.filter(|_| named));
        *self = fresh;
        self.generation = generation;
        self.forward.begun = begun;
        self.suspect = suspect;
        self.name_busy = name_busy;
    }

    /// When a call that could last be sent at `sent` can no longer land, for a resource.
    pub(crate) fn quiet_after(&self, sent: Option<Timestamp>) -> Option<Timestamp> {
        let timing = self.def().action()?.timing()?;
        sent.map(|at| at.plus(timing.quiet()))
    }
}
