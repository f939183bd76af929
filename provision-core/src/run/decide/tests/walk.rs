//! The test as the driver: it ends attempts as the choices say, interrupts, rebuilds and orders,
//! and checks the invariants after every decision.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    super::{AttemptEnd, Command, Decision, Event, Halt, Moment, Phase, State, Undo, decide},
    fixture::{Spec, digest, fresh, intent, plan},
    model::Model,
};
use crate::{
    error::{Effect, StepError, Verdict},
    id::{ExternalId, Payload, Timestamp},
    ledger::Origin,
    run::{
        RunStatus,
        journal::{Direction, Order, Record, RequestBody, WaitReason},
    },
    saga::Plan,
};

/// Decisions of a random case; used up, everything goes well.
#[derive(Debug)]
pub(super) struct Choices(std::vec::IntoIter<u16>);

impl Choices {
    pub(super) fn new(all: Vec<u16>) -> Self {
        Self(all.into_iter())
    }

    fn of(&mut self, count: usize) -> usize {
        self.0.next().map_or(0, |n| usize::from(n) % count)
    }
}

/// Events after which a run must be over.
const EVENTS_MAX: usize = 1_500;

#[derive(Debug)]
pub(super) struct Walk {
    plan: Arc<Plan>,
    pub(super) state: State,
    pub(super) journal: Vec<(Timestamp, Arc<str>)>,
    open: BTreeMap<usize, Direction>,
    now: Timestamp,
    choices: Choices,
    pub(super) model: Model,
    cancelled: bool,
    retries: u32,
    pub(super) events: usize,
}

pub(super) fn fold(plan: &Arc<Plan>, journal: &[(Timestamp, Arc<str>)]) -> State {
    let mut state = fresh(plan);
    for (at, body) in journal {
        state.at = *at;
        for record in Record::decode(body).unwrap() {
            state.apply(&record).unwrap();
        }
    }
    state
}

fn error(effect: Effect, verdict: Verdict) -> StepError {
    StepError::new(effect, verdict, "act")
}

fn retry(effect: Effect) -> AttemptEnd {
    AttemptEnd::Failed(error(effect, Verdict::Retry { after: None }))
}

fn permanent(effect: Effect) -> AttemptEnd {
    AttemptEnd::Failed(error(effect, Verdict::Permanent))
}

fn operator() -> AttemptEnd {
    AttemptEnd::Failed(error(Effect::None, Verdict::Operator))
}

fn throttled() -> AttemptEnd {
    let after = Duration::from_secs(3);
    AttemptEnd::Failed(error(Effect::None, Verdict::Throttled { bucket: "b".into(), after }))
}

fn not_yet(reason: WaitReason) -> AttemptEnd {
    AttemptEnd::NotYet { after: Duration::from_secs(5), reason }
}

impl Walk {
    pub(super) fn new(specs: &[Spec], choices: Vec<u16>) -> Self {
        let plan = plan(specs);
        Self {
            state: fresh(&plan),
            plan,
            journal: Vec::new(),
            open: BTreeMap::new(),
            now: Timestamp::from_millis(1_000),
            choices: Choices::new(choices),
            model: Model::new(specs),
            cancelled: false,
            retries: 0,
            events: 0,
        }
    }

    /// Drives the run to an end, and answers with it.
    pub(super) fn run(&mut self) -> RunStatus {
        self.take(Event::Claimed { died_at: None });
        self.run_on()
    }

    /// Goes on after an order.
    pub(super) fn run_on(&mut self) -> RunStatus {
        loop {
            assert!(self.events < EVENTS_MAX, "L1: no end after {EVENTS_MAX} events");
            if let Some(end) = self.state.ended {
                self.check_end(end);
                return end;
            }
            self.step();
        }
    }

    fn step(&mut self) {
        self.now = self.now.plus(Duration::from_millis(7));
        if !self.open.is_empty() {
            match self.choices.of(14) {
                8 | 9 => self.interrupt(),
                10 if !self.cancelled => self.order(Order::Cancel),
                11 => self.signal(),
                12 => self.order(Order::Pause),
                13 => {
                    self.now = self.now.plus(Duration::from_secs(61));
                    self.take(Event::Due);
                }
                _ => self.progress(),
            }
        } else if self.state.parked.is_some() {
            self.check_parked();
            self.retries += 1;
            assert!(self.retries < 60, "L1: it parks for ever");
            // A person mends the world: from here on everything goes well.
            self.choices = Choices::new(Vec::new());
            match self.hopeless() {
                Some(path) if self.retries > 1 => {
                    let output = Payload::from_json("[]").unwrap();
                    self.order(Order::ResolveAs { path, output });
                }
                _ => self.order(Order::Retry),
            }
        } else if self.state.paused {
            self.order(Order::Resume);
        } else if let Some(due) = self.state.next_due() {
            self.now = self.now.max(due);
            match self.choices.of(8) {
                6 if !self.cancelled => self.order(Order::Cancel),
                7 => self.signal(),
                5 => self.interrupt(),
                _ => {
                    self.take(Event::Due);
                }
            }
        } else {
            panic!("L1: it stands still: {:#?}", self.state.nodes);
        }
    }

    /// A join or fan-out that asks for more than there is: only an answer of a person helps.
    fn hopeless(&self) -> Option<String> {
        let failed = self.state.nodes.iter().find(|n| {
            n.phase == Phase::GaveUp
                && n.undo == Undo::None
                && !n.def().is_action()
                && !n.def().optional
        });
        failed.map(|node| node.path.to_string())
    }

    fn signal(&mut self) {
        let value = Payload::null();
        self.take(Event::Request(RequestBody::Signal { name: "go".into(), value, source: None }));
    }

    pub(super) fn order(&mut self, order: Order) {
        self.cancelled |= order == Order::Cancel;
        if order == Order::Redrive {
            self.model.redriven("");
        }
        if order == Order::Retry {
            let gave_up = self.state.nodes.iter().filter(|n| n.phase == Phase::GaveUp);
            for fan_out in gave_up.filter(|node| node.items.is_some()) {
                self.model.redriven(&format!("{}[", fan_out.path));
            }
        }
        let (who, why) = ("ann".to_owned(), "because".to_owned());
        self.take(Event::Request(RequestBody::Order { order, who, why }));
    }

    /// The worker dies; another one rebuilds the state from the journal and takes over.
    fn interrupt(&mut self) {
        self.state = fold(&self.plan, &self.journal);
        self.open.clear();
        self.model.interrupt();
        self.take(Event::Claimed { died_at: Some(self.now) });
    }

    fn take(&mut self, event: Event) -> bool {
        self.events += 1;
        let folded = digest(&fold(&self.plan, &self.journal));
        assert_eq!(digest(&self.state), folded, "the journal gives another state");
        let text = format!("{event:?}");
        let draw = self.events as u64 * 77;
        let (now, latest) = (self.now, self.now);
        let moment = Moment { now, latest, draw, hold: false };
        match decide(&mut self.state, event, moment) {
            Ok(decision) => {
                self.taken(&decision);
                true
            }
            Err(Halt::Stopped | Halt::Refused(_)) => {
                assert_eq!(digest(&self.state), folded, "a refusal changed something: {text}");
                false
            }
            Err(Halt::Illegal(illegal)) => panic!("S3: {text}: {illegal}"),
        }
    }

    fn taken(&mut self, decision: &Decision) {
        if !decision.append.is_empty() {
            self.journal.push((self.now, Record::encode(&decision.append).unwrap()));
        }
        for record in &decision.append {
            self.model.follow(record);
        }
        for Command { node, dir } in &decision.perform {
            self.check_call(*node, *dir);
            assert!(self.open.insert(*node, *dir).is_none(), "two calls of one step");
        }
    }

    fn check_call(&mut self, node: usize, dir: Direction) {
        let path = self.state.node(node).path.to_string();
        assert!(!self.state.paused && self.state.ended.is_none(), "{path} called while at rest");
        let truth = self.model.nodes[&path].clone();
        match dir {
            Direction::Forward => {
                assert!(!self.model.run_unwinds, "{path} called forward while unwinding");
                assert!(!truth.succeeded, "S8: {path} is done and called again");
                for dep in &truth.deps {
                    let dep_truth = &self.model.nodes[dep];
                    let left = dep_truth.standing() != Effect::None && !dep_truth.succeeded;
                    let kept = left && dep_truth.irreversible;
                    assert!(
                        !left || kept || dep.contains('['),
                        "S13: {path} before {dep} is clean"
                    );
                }
                self.model.truth(&path).open = true;
            }
            Direction::Undo => {
                assert!(!truth.irreversible, "{path} is irreversible and undone");
                assert_ne!(truth.standing(), Effect::None, "S12: {path} has nothing to undo");
                for other in self.model.dependents(&path) {
                    let other_truth = &self.model.nodes[&other];
                    let left = other_truth.standing() != Effect::None && !other_truth.irreversible;
                    assert!(!left, "S13: {path} is undone before {other}");
                }
            }
        }
    }

    fn progress(&mut self) {
        let pick = self.choices.of(self.open.len());
        let (node, dir) = self.open.iter().nth(pick).map(|(n, d)| (*n, *d)).unwrap();
        let path = self.state.node(node).path.to_string();
        let truth = self.model.nodes[&path].clone();
        if dir == Direction::Undo {
            self.progress_undo(node, &path, truth.child);
        } else if truth.resource {
            self.progress_resource(node, &path);
        } else {
            self.progress_plain(node, &path, truth.child);
        }
    }

    fn end(&mut self, node: usize, path: &str, dir: Direction, end: AttemptEnd) {
        self.open.remove(&node);
        let unwinds = self.model.run_unwinds;
        let truth = self.model.truth(path);
        match (&end, dir) {
            (AttemptEnd::Done(_), Direction::Forward) if !truth.noted || truth.created => {
                truth.worst = truth.worst.max(Effect::Applied);
            }
            (AttemptEnd::Done(_), Direction::Forward) => {}
            (AttemptEnd::Done(_), Direction::Undo) => truth.undone = true,
            (AttemptEnd::Failed(error), Direction::Forward) => {
                truth.worst = truth.worst.max(error.effect());
            }
            (AttemptEnd::NotYet { .. }, Direction::Forward) if truth.child => {
                // The child exists from here on.
                truth.worst = Effect::Applied;
            }
            // Nothing is renewed while the run unwinds: what may exist is undone.
            (AttemptEnd::Renew, _) if !unwinds => truth.worst = Effect::None,
            _ => {}
        }
        if dir == Direction::Forward {
            (truth.open, truth.intent) = (false, false);
        }
        self.take(Event::Ended { node, dir, end });
    }

    fn progress_plain(&mut self, node: usize, path: &str, child: bool) {
        let run = self.state.run;
        let end = match self.choices.of(12) {
            1 => retry(Effect::None),
            2 if !child => retry(Effect::Unknown),
            3 => permanent(Effect::None),
            4 => permanent(Effect::Applied),
            5 if !child => return self.note(node, path, Origin::Created),
            6 if !child => permanent(Effect::Unknown),
            7 => operator(),
            8 => throttled(),
            2 | 5 if child => not_yet(WaitReason::Child { run }),
            _ => AttemptEnd::Done(Payload::null()),
        };
        self.end(node, path, Direction::Forward, end);
    }

    fn progress_undo(&mut self, node: usize, path: &str, child: bool) {
        let wait =
            if child { WaitReason::Child { run: self.state.run } } else { WaitReason::Quiet };
        let end = match self.choices.of(10) {
            1 => retry(Effect::None),
            2 => retry(Effect::Unknown),
            3 => permanent(Effect::None),
            4 => not_yet(wait),
            5 => operator(),
            6 if !child => not_yet(WaitReason::Poll),
            _ => AttemptEnd::Done(Payload::null()),
        };
        self.end(node, path, Direction::Undo, end);
    }

    fn note(&mut self, node: usize, path: &str, origin: Origin) {
        let id = ExternalId::new(format!("id-{}", self.events));
        if self.take(Event::Noted { node, id, origin }) {
            let truth = self.model.truth(path);
            (truth.noted, truth.intent) = (true, false);
            if origin == Origin::Created {
                truth.created = true;
                if truth.resource {
                    truth.worst = Effect::Applied;
                } else {
                    truth.worst = truth.worst.max(Effect::Applied);
                }
            }
        } else {
            self.end(node, path, Direction::Forward, retry(Effect::None));
        }
    }

    fn intend(&mut self, node: usize, path: &str) {
        let at = self.now;
        if self.take(Event::Intent { node, intent: intent(at) }) {
            self.model.truth(path).intent = true;
        } else {
            self.end(node, path, Direction::Forward, retry(Effect::None));
        }
    }

    fn progress_resource(&mut self, node: usize, path: &str) {
        let memory = self.state.memory(node);
        let truth = self.model.nodes[path].clone();
        let forward = Direction::Forward;
        let choice = self.choices.of(9);
        let end = if truth.noted {
            match choice {
                1 => not_yet(WaitReason::Poll),
                2 => retry(Effect::Applied),
                3 => retry(Effect::None),
                4 => permanent(Effect::None),
                5 if truth.created => AttemptEnd::Failed(
                    error(Effect::Applied, Verdict::Retry { after: None }).broken(),
                ),
                _ => AttemptEnd::Done(Payload::null()),
            }
        } else if truth.intent {
            match choice {
                1 => retry(Effect::Unknown),
                2 => permanent(Effect::None),
                3 => permanent(Effect::Unknown),
                4 => retry(Effect::None),
                5 => throttled(),
                _ => return self.note(node, path, Origin::Created),
            }
        } else if truth.worst == Effect::Unknown {
            assert!(memory.unknown, "S7: {path} is not told that a call may have landed");
            match choice {
                1 => not_yet(WaitReason::Quiet),
                2 => AttemptEnd::Renew,
                3 => return self.intend(node, path),
                4 => retry(Effect::None),
                5 => operator(),
                6 => permanent(Effect::None),
                _ => return self.note(node, path, Origin::Created),
            }
        } else {
            match choice {
                1 => retry(Effect::None),
                2 => permanent(Effect::None),
                3 => return self.note(node, path, Origin::Adopted),
                4 => not_yet(WaitReason::Poll),
                _ => return self.intend(node, path),
            }
        };
        self.end(node, path, forward, end);
    }

    /// A failed undo holds back only what it depends on.
    fn check_parked(&self) {
        assert!(self.open.is_empty(), "parked with an open call");
        if !self.model.run_unwinds {
            return;
        }
        for path in self.model.standing() {
            let failed = self.model.nodes[path].undo_failed;
            let held = self.model.dependents(path).iter().any(|d| self.model.nodes[d].undo_failed);
            assert!(failed || held, "{path} is independent of the failed undo and not undone");
        }
    }

    fn check_end(&self, end: RunStatus) {
        assert!(self.open.is_empty(), "S15: an end with an open call");
        let undone = matches!(end, RunStatus::RolledBack | RunStatus::TornDown)
            || end == RunStatus::RolledBackKeeping;
        if undone {
            assert_eq!(self.model.standing(), Vec::<&String>::new(), "S12: {end:?}");
        } else {
            for path in self.model.standing() {
                assert!(
                    self.model.nodes[path].succeeded,
                    "S15: {path} failed and is left: {end:?}"
                );
            }
        }
        if end == RunStatus::RolledBack {
            let kept = self.model.nodes.iter().find(|(_, t)| t.standing() != Effect::None);
            assert!(kept.is_none(), "it keeps {kept:?} and says nothing of it");
        }
    }
}
