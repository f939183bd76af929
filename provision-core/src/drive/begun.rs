//! A run that is begun by the write that creates it: what its owner decides first is known before
//! that, so it needs no write of its own.

use std::sync::Arc;

use super::{Shared, child};
use crate::{
    clock::{self, Moment},
    run::{
        RunStatus,
        decide::{Command, Decision, Event, State, decide},
        journal::Record,
    },
    saga::{Plan, graph::OnUnknown},
    store::{FirstFrame, RunHead},
};

/// Longest first frame that a start carries, in bytes; a longer one is an append of its own, which
/// parks its run where the store refuses it.
const FRAME_MAX: usize = 64 * 1024;

/// What is decided of a run before it is stored, to be performed once it is.
pub(crate) struct Begun {
    state: State,
    decision: Decision,
    /// When the start was about to be sent.
    sent: Moment,
}

impl Begun {
    /// Decides what a worker would decide first, and what its frame is. `None` where more hangs on
    /// that than a frame, where nothing is called at once, or where an attempt that was cut is not
    /// simply made again: when the answer to the start is lost nobody makes the attempt that it
    /// writes, and such a step would park, or be counted, for a call that nobody has sent.
    pub(crate) fn of(
        shared: &Shared,
        plan: &Arc<Plan>,
        head: &RunHead,
    ) -> Option<(Self, FirstFrame)> {
        // S6: who holds no lease begins nothing, and who stops takes nothing on.
        if shared.lease.left().is_zero() || shared.is_stopping() {
            return None;
        }
        let moment = shared.moment();
        let mut state = State::new(head.id, plan, head.input.clone());
        let mut decision = Decision::default();
        for event in [Event::Claimed { died_at: None }, Event::Due] {
            decision.merge(decide(&mut state, event, moment).ok()?);
        }
        let is_repeated =
            |command: &Command| state.node(command.node).def().on_unknown == OnUnknown::Protocol;
        let begins = !decision.append.is_empty()
            && !decision.perform.is_empty()
            && decision.perform.iter().all(is_repeated)
            && decision.closed.is_empty()
            && state.status() == RunStatus::Running;
        let hangs = decision.touched.iter().any(|node| !state.ledger_rows(*node, None).is_empty());
        if !begins || hangs || !child::begun(shared, &state, head, &decision).is_empty() {
            return None;
        }
        let body = Record::encode(&decision.append).ok().filter(|body| body.len() <= FRAME_MAX)?;
        let first = FirstFrame { body, at: state.at, summary: state.summary() };
        Some((Self { state, decision, sent: clock::moment() }, first))
    }

    /// What is to be performed, if nobody else can have had the run since the start was sent.
    ///
    /// S6: nothing was asked of the store in between. A heartbeat that comes upon a run that nobody
    /// drives gives it back when it comes upon it again, so not before two thirds of a lease are
    /// over: who hears of its start within one third has it still. Everybody else begins with a
    /// write that compares the lease.
    pub(super) fn in_time(self, shared: &Shared) -> Option<(State, Decision)> {
        let waited = self.sent.elapsed();
        let held = waited < shared.lease.ttl() / 3 && !shared.lease.left().is_zero();
        (held && !shared.is_stopping()).then_some((self.state, self.decision))
    }
}
