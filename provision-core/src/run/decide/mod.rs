//! The pure machine: a state and an event make one append and the calls that follow it.
//!
//! No I/O, no clock, no randomness: the moment and a random number come in with the event. The
//! driver writes `append` before it performs anything, and drops the state when the write fails.

mod again;
mod forward;
mod heard;
mod legal;
mod node;
mod orders;
mod state;
mod table;
mod unwind;
mod view;
mod waits;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

pub(crate) use node::{Node, Phase, Undo};
pub(crate) use orders::{Refusal, SIGNAL_REPEATED, owned_elsewhere};
use state::IllegalRecord;
pub(crate) use state::State;

use waits::{after_trouble, held_for};

use crate::{
    error::{Effect, Failure, StepError, Verdict, is_held},
    id::{ExternalId, Payload, Timestamp},
    ledger::{LedgerRow, Origin, ResourceState},
    resource::IntentRecord,
    retry::{Next, Series},
    run::journal::{Direction, Record, RequestBody, WaitReason},
    saga::OnUnknown,
};

/// Something that happened to a run.
#[derive(Debug)]
pub(crate) enum Event {
    /// A worker has taken the run; `died_at` tells when the previous owner could last send. What
    /// is due follows as an event of its own, after the requests that are stored (S20).
    Claimed { died_at: Option<Timestamp> },
    /// Time has passed.
    Due,
    /// An attempt ended.
    Ended { node: usize, dir: Direction, end: AttemptEnd },
    /// An attempt is about to make a mutating call.
    Intent { node: usize, intent: IntentRecord },
    /// An attempt has learned an id.
    Noted { node: usize, id: ExternalId, origin: Origin },
    /// An attempt has drawn a value.
    Sealed { node: usize, name: String },
    /// An attempt is about to remove something.
    Removes { node: usize },
    /// A request from outside.
    Request(RequestBody),
    /// A request that was not taken, to be shown.
    Refused(RequestBody, Refusal),
}

impl Event {
    /// Of a claim: what it tells of the previous owner's death.
    pub(crate) fn died_at(&self) -> Option<Option<Timestamp>> {
        match self {
            Self::Claimed { died_at } => Some(*died_at),
            _ => None,
        }
    }
}

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum AttemptEnd {
    Done(Payload),
    NotYet {
        after: Duration,
        reason: WaitReason,
    },
    Renew,
    /// An undo is over, and something of it stays.
    Kept,
    Failed(StepError),
    /// Cut from outside: the lease ended or the worker stops.
    Cut,
}

impl AttemptEnd {
    /// What is known of the attempt's effect.
    pub(crate) fn effect(&self) -> Effect {
        match self {
            Self::Done(_) | Self::Kept => Effect::Applied,
            Self::Failed(error) => error.effect(),
            Self::Cut => Effect::Unknown,
            Self::NotYet { .. } | Self::Renew => Effect::None,
        }
    }
}

/// A call the driver makes once the append is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) node: usize,
    pub(crate) dir: Direction,
}

/// The moment of an event, and randomness for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// The store's clock, not ahead of it.
    pub(crate) now: Timestamp,
    /// The store's clock, not behind it: what was sent was sent by then.
    pub(crate) latest: Timestamp,
    pub(crate) draw: u64,
    /// The worker stops: nothing new starts here; the next owner goes on.
    pub(crate) hold: bool,
}

/// What an event leads to.
#[derive(Debug, Default)]
pub(crate) struct Decision {
    /// Records of one append.
    pub(crate) append: Vec<Record>,
    /// Calls to make after it is committed.
    pub(crate) perform: Vec<Command>,
    /// Nodes whose ledger row may have changed.
    pub(crate) touched: Vec<usize>,
    /// Generations that this append closes, with what remains of them: nothing.
    pub(crate) closed: Vec<LedgerRow>,
}

impl Decision {
    /// Joins what another event of the same append leads to.
    pub(crate) fn merge(&mut self, other: Self) {
        self.append.extend(other.append);
        self.perform.extend(other.perform);
        self.touched.extend(other.touched);
        self.closed.extend(other.closed);
    }
}

/// Why an event was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Halt {
    /// The machine would have written an illegal record: a bug, or a damaged journal.
    #[error(transparent)]
    Illegal(#[from] IllegalRecord),
    /// The attempt was told to stop: nothing new begins in it.
    #[error("the attempt was told to stop")]
    Stopped,
    /// The order is not legal in this state.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Decides, changing the state in place; on an error the state is not to be used again unless the
/// error says that nothing was taken (`Stopped`, `Refused`).
pub(crate) fn decide(state: &mut State, event: Event, moment: Moment) -> Result<Decision, Halt> {
    state.at = moment.now;
    state.not_before = state.not_before.filter(|begins| *begins > moment.now);
    let mut machine = Machine { state, moment, draws: 0, out: Decision::default() };
    machine.take(event)?;
    machine.advance()?;
    Ok(machine.out)
}

pub(super) struct Machine<'a> {
    state: &'a mut State,
    moment: Moment,
    draws: u64,
    out: Decision,
}

type Halted = Result<(), Halt>;

impl Machine<'_> {
    fn take(&mut self, event: Event) -> Halted {
        match event {
            Event::Claimed { died_at } => {
                self.interrupted(died_at)?;
                self.ask_children();
                Ok(())
            }
            Event::Due => self.due(),
            Event::Ended { node, dir, end } => self.ended(node, dir, end),
            Event::Intent { node, intent } => {
                self.must_be_wanted(node)?;
                self.ensure_started(node)?;
                let path = self.path(node);
                self.emit(node, Record::Intent { path, intent })
            }
            Event::Noted { node, id, origin } => {
                let n = self.state.node(node);
                // A poll that an unwinding has overtaken: what it found is looked up again by
                // the undo.
                let told = n.quiet_start && n.phase == Phase::Closed && !n.undo_is_open();
                if !n.is_open() || told {
                    return Err(Halt::Stopped);
                }
                self.ensure_started(node)?;
                let path = self.path(node);
                self.emit(node, Record::Noted { path, id, origin })
            }
            Event::Sealed { node, name } => {
                self.must_be_wanted(node)?;
                self.ensure_started(node)?;
                let path = self.path(node);
                self.emit(node, Record::Sealed { path, name })
            }
            // S4: what looks again begins without a record; what sends has begun for all to see.
            Event::Removes { node } => {
                self.must_be_wanted(node)?;
                self.ensure_started(node)
            }
            Event::Request(body) => self.request(body),
            Event::Refused(request, refusal) => self.refused(request, refusal),
        }
    }

    /// Everything that follows from the event, until nothing more does.
    fn advance(&mut self) -> Halted {
        while self.state.ended.is_none() {
            let before = self.out.append.len();
            self.step_unwinds()?;
            self.start_ready()?;
            self.close_fan_outs()?;
            // What has just been closed may have begun an unwinding: its undos come first.
            if self.out.append.len() > before {
                continue;
            }
            self.conclude()?;
            if self.out.append.len() == before {
                break;
            }
        }
        Ok(())
    }

    fn emit(&mut self, node: usize, record: Record) -> Halted {
        if matches!(record, Record::Renewed { .. }) {
            self.close_rows(node);
        }
        self.state.apply(&record)?;
        self.out.append.push(record);
        if self.out.touched.last() != Some(&node) {
            self.out.touched.push(node);
        }
        Ok(())
    }

    /// The ledger's rows of a generation that is about to be followed by another.
    fn close_rows(&mut self, node: usize) {
        for mut row in self.state.ledger_rows(node, None) {
            // What a person gave up stays on the books.
            if row.state == ResourceState::LeftBehind {
                continue;
            }
            row.state = ResourceState::Gone;
            row.until = Some(self.moment.now);
            self.out.closed.push(row);
        }
    }

    fn emit_run(&mut self, record: Record) -> Halted {
        self.state.apply(&record)?;
        self.out.append.push(record);
        Ok(())
    }

    fn path(&self, node: usize) -> Arc<str> {
        Arc::clone(&self.state.node(node).path)
    }

    fn draw(&mut self) -> u64 {
        // SplitMix64 over the event's own number: several draws of one event differ.
        self.draws += 1;
        let mut z = self.moment.draw.wrapping_add(self.draws.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An attempt that an unwinding has told to stop begins nothing new.
    fn must_be_wanted(&self, node: usize) -> Halted {
        let n = self.state.node(node);
        let forward = n.undo == Undo::None && self.state.unwinding(node).is_none();
        if n.is_open() && (forward || n.undo == Undo::Running || n.undo_is_open()) {
            Ok(())
        } else {
            Err(Halt::Stopped)
        }
    }

    /// Looks again, without a record.
    fn look_again(&mut self, node: usize, dir: Direction) {
        self.state.node_mut(node).quiet_start = true;
        self.perform(node, dir);
    }

    /// A poll's `started` is written only when something else of it has to be.
    fn ensure_started(&mut self, node: usize) -> Halted {
        if !self.state.node(node).quiet_start {
            return Ok(());
        }
        let undo = self.state.node(node).undo_is_open();
        self.state.node_mut(node).quiet_start = false;
        let n = self.state.node(node);
        let dir = if undo { Direction::Undo } else { Direction::Forward };
        let attempt = match dir {
            Direction::Forward => n.forward.begun,
            Direction::Undo => n.backward.begun,
        };
        let record = Record::Started {
            path: self.path(node),
            dir,
            generation: n.generation,
            attempt,
            input: None,
        };
        self.emit(node, record)
    }

    fn ended(&mut self, node: usize, dir: Direction, end: AttemptEnd) -> Halted {
        let told = self.state.node(node).phase == Phase::Closed && dir == Direction::Forward;
        if told && self.state.node(node).quiet_start {
            // A poll that an unwinding has overtaken: what it polled for is undone anyway.
            self.state.node_mut(node).quiet_start = false;
            return Ok(());
        }
        match end {
            AttemptEnd::NotYet { after, reason } => self.not_yet(node, dir, after, reason),
            AttemptEnd::Done(output) => {
                self.ensure_started(node)?;
                let output = (dir == Direction::Forward).then_some(output);
                let path = self.path(node);
                self.emit(node, Record::Succeeded { path, dir, output })
            }
            AttemptEnd::Kept => {
                self.ensure_started(node)?;
                let path = self.path(node);
                self.emit(node, Record::Kept { path })
            }
            AttemptEnd::Renew => {
                self.ensure_started(node)?;
                let path = self.path(node);
                let finding = crate::run::journal::Finding::Absent;
                self.emit(node, Record::Resolved { path, finding })?;
                if self.state.unwinding(node).is_some() {
                    let gone = StepError::retry("look again").with_code("absent");
                    return self.failed(node, dir, &gone, None);
                }
                self.renew(node, self.moment.now)
            }
            AttemptEnd::Failed(error) => self.failed(node, dir, &error, None),
            AttemptEnd::Cut => {
                let cut = interrupted_error(self.state.node(node));
                self.failed(node, dir, &cut, Some(self.moment.latest))
            }
        }
    }

    /// The next generation begins at `due`; the previous one is closed.
    fn renew(&mut self, node: usize, due: Timestamp) -> Halted {
        let n = self.state.node(node);
        let generation = n.generation + 1;
        let key = crate::context::idempotency_key(&self.state.run, &n.path, generation, "create");
        let path = self.path(node);
        self.emit(node, Record::Renewed { path: Arc::clone(&path), generation, key })?;
        // S7: a delete that is still under way may take what bears the same name.
        let busy = self.name_busy(node);
        let reason = if busy.is_some() { WaitReason::Quiet } else { WaitReason::Retry };
        let (dir, due) = (Direction::Forward, due.max(busy.unwrap_or(due)));
        self.emit(node, Record::Waiting { path, dir, reason, due })?;
        if due > self.moment.now || self.is_held() {
            return Ok(());
        }
        self.start_due(node, WaitReason::Retry)
    }

    fn not_yet(
        &mut self,
        node: usize,
        dir: Direction,
        after: Duration,
        reason: WaitReason,
    ) -> Halted {
        let n = self.state.node(node);
        if dir == Direction::Forward
            && reason == WaitReason::Poll
            && let (Some(since), Some(action)) = (n.polling_since, n.def().action())
            && let Some(timing) = action.timing()
            && self.moment.now > since.plus(timing.ready_within)
        {
            let late = too_late(n, self.moment.now.since(since));
            return self.failed(node, dir, &late, None);
        }
        let undoing_since = self.state.node(node).backward.since;
        if dir == Direction::Undo
            && reason == WaitReason::Poll
            && let Some(since) = undoing_since
            && self.moment.now > since.plus(self.state.node(node).def().undo_policy.total())
        {
            let late = StepError::new(Effect::None, Verdict::Operator, "wait until it is gone")
                .with_code("still_going")
                .with_message("it is being deleted for longer than its undo may take");
            return self.failed(node, dir, &late, None);
        }
        let due = self.moment.now.plus(after);
        let unwound = dir == Direction::Forward && self.state.unwinding(node).is_some();
        if self.state.node_mut(node).move_poll(dir, &reason, due) {
            return Ok(());
        }
        self.ensure_started(node)?;
        if unwound {
            // S12: a child that was started is undone like any other effect.
            let child = matches!(reason, WaitReason::Child { .. });
            let effect = if child { Effect::Applied } else { Effect::None };
            let told = StepError::retry("wait").with_code("stopped").with_effect(effect);
            return self.failed(node, dir, &told, None);
        }
        let path = self.path(node);
        self.emit(node, Record::Waiting { path, dir, reason, due })
    }

    /// Attempts that were open when the previous owner's lease ended.
    fn interrupted(&mut self, died_at: Option<Timestamp>) -> Halted {
        for node in 0..self.state.nodes.len() {
            let n = self.state.node(node);
            if !n.is_open() {
                continue;
            }
            let dir = if n.undo == Undo::Running { Direction::Undo } else { Direction::Forward };
            let error = interrupted_error(n);
            let sent_until = died_at.unwrap_or(self.moment.latest);
            self.failed(node, dir, &error, Some(sent_until))?;
        }
        Ok(())
    }

    /// Records a failed attempt and decides what comes of it. `cut` is the last moment at which
    /// an attempt that was cut from outside could have sent its call.
    fn failed(
        &mut self,
        node: usize,
        dir: Direction,
        error: &StepError,
        cut: Option<Timestamp>,
    ) -> Halted {
        self.ensure_started(node)?;
        let n = self.state.node(node);
        let attempt = match dir {
            Direction::Forward => n.forward.begun,
            Direction::Undo => n.backward.begun,
        };
        let mut failure = Failure::of(n.path.to_string(), attempt, error);
        // S12: nothing of a resource can exist before its intent, however the attempt ended.
        if dir == Direction::Forward && n.is_unborn() {
            failure.effect = Effect::None;
        }
        let sent = failure.effect != Effect::None;
        let record = Record::Failed {
            path: self.path(node),
            dir,
            failure: failure.clone(),
            verdict: error.verdict().clone(),
            broken: error.is_broken(),
            interrupted: cut.is_some() || error.is_uncounted(),
            sent_until: cut.or_else(|| sent.then_some(self.moment.latest)),
        };
        self.emit(node, record)?;
        let after = &self.state.node(node).phase;
        if dir == Direction::Forward && matches!(after, Phase::Closed | Phase::Idle) {
            return Ok(());
        }
        match self.next_attempt(node, dir, error, cut.is_some()) {
            Ok((due, reason)) => self.wait_for_retry(node, dir, due, reason),
            Err(why) => {
                let over = forward::Over { why, verdict: error.verdict() };
                self.gave_up(node, dir, failure, over)
            }
        }
    }

    fn wait_for_retry(
        &mut self,
        node: usize,
        dir: Direction,
        due: Timestamp,
        reason: WaitReason,
    ) -> Halted {
        let broken = self.state.node(node).broken && dir == Direction::Forward;
        if broken {
            return self.start_unwind_for_renewal(node);
        }
        let path = self.path(node);
        self.emit(node, Record::Waiting { path, dir, reason: reason.clone(), due })?;
        if due <= self.moment.now && !self.is_held() {
            return match dir {
                Direction::Forward => self.start_due(node, reason),
                Direction::Undo => self.start_undo(node),
            };
        }
        Ok(())
    }

    /// When the next attempt is, or why there is none.
    fn next_attempt(
        &mut self,
        node: usize,
        dir: Direction,
        error: &StepError,
        cut: bool,
    ) -> Result<(Timestamp, WaitReason), &'static str> {
        let draw = self.draw();
        let now = self.moment.now;
        let n = self.state.node(node);
        let parks_on_unknown = n.def().on_unknown == OnUnknown::Park && dir == Direction::Forward;
        let effect = n.failure.as_ref().map(|failure| failure.effect);
        if parks_on_unknown && effect.is_some_and(|effect| n.is_in_doubt(effect)) {
            return Err("unknown");
        }
        if cut {
            return Ok((now, WaitReason::Retry));
        }
        let plan = &self.state.plan;
        let (policy, tries) = match dir {
            Direction::Forward => {
                let own = &n.def().policy;
                (plan.overrides.policy(&plan.saga.name, &n.path, error.code(), own), &n.forward)
            }
            Direction::Undo => (n.def().undo_policy.clone(), &n.backward),
        };
        if error.is_uncounted() {
            return Ok((now.plus(after_trouble(tries.held)), WaitReason::Retry));
        }
        if let (true, Verdict::Throttled { bucket, after }) =
            (is_held(error.code()), error.verdict())
        {
            let reason = WaitReason::Throttled { bucket: bucket.clone() };
            return Ok((now.plus(held_for(error.code(), *after, tries.held)), reason));
        }
        let series = Series::new(tries.counted, tries.since.unwrap_or(now), now, draw);
        let (series, reason) = match error.verdict() {
            Verdict::Retry { after } => (series.with_asked(*after), WaitReason::Retry),
            Verdict::Throttled { bucket, after } => (
                series.with_asked(Some(*after)).with_throttled_since(tries.throttled_since),
                WaitReason::Throttled { bucket: bucket.clone() },
            ),
            Verdict::Permanent | Verdict::Operator => return Err("final"),
        };
        match policy.next(&series) {
            Next::After(wait) => Ok((now.plus(wait), reason)),
            Next::Exhausted(why) => Err(why.code()),
        }
    }

    /// Until when a delete of an earlier generation may take what bears the same name.
    fn name_busy(&self, node: usize) -> Option<Timestamp> {
        let n = self.state.node(node);
        n.quiet_after(n.name_busy).filter(|until| *until > self.moment.now)
    }

    /// Nothing starts while the run is paused, parked, or waits for a person.
    fn is_held(&self) -> bool {
        self.moment.hold || self.state.paused || self.state.parked.is_some()
    }
}

/// S12: a plain step is unknown from `started` on, a resource from its intent on.
fn interrupted_error(node: &Node) -> StepError {
    let undoing = node.undo == Undo::Running || node.undo_is_open();
    let sent = !node.is_resource() || node.intent_open || undoing;
    let effect = if sent { Effect::Unknown } else { Effect::None };
    StepError::new(effect, Verdict::Retry { after: None }, "run the attempt")
        .with_code("interrupted")
        .with_message("the worker stopped in the middle of it")
}

fn too_late(node: &Node, waited: Duration) -> StepError {
    StepError::new(Effect::Applied, Verdict::Permanent, "wait until ready")
        .with_code("not_ready")
        .with_message(format!(
            "{} {} was not ready after {} s",
            node.def().kind_name(),
            node.noted.last().map_or("", |(id, _)| id.as_str()),
            waited.as_secs()
        ))
}
