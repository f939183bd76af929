//! Leases, fences and looking again, under every order of what two workers, the network between
//! them and their store, and a provider can do.
//!
//! The store is the real one: the memory store, forked at each step and set to the model's clock.
//! The worker is retold in a few lines, so that each of its precautions can be left out: without
//! any one of them the model has to find what goes wrong.
#![allow(clippy::indexing_slicing, reason = "two workers, and calls that are only added")]

mod scene;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use provision_core::{
    MemoryStore, RunStatus, Timestamp,
    store::{
        Append, Appended, LeaseGrant, LeaseRequest, Leased, NewRun, Release, StateStore, Submission,
    },
};
use provision_testkit::conformance::{acquire_any, append_of, held_for, run_head};
use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};

use self::scene::{Call, Scene, Seen, Stand, Worker, at, now_or_never};

/// How long a lease lasts.
const TTL: u64 = 3;
/// How long before the end of its lease a worker sends nothing more.
const MARGIN: u64 = 1;
/// A call lands so much later at most, or never.
const LATE: u64 = 2;
const INTENT: &str = "[\"intent\"]";
const DONE: &str = "[\"done\"]";
const UNDONE: &str = "[\"undone\"]";

/// A precaution that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weakness {
    /// A write carries the newest lease, whoever it is of.
    NoFence,
    /// A call is sent without a look at the end of the lease.
    NoMargin,
    /// "Absent" is believed at once.
    NoQuietTime,
    /// A new owner creates without looking.
    NoLook,
    /// A living worker is declared dead.
    EarlyBurial,
}

/// What may happen at most so often.
#[derive(Debug, Clone)]
struct Protocol {
    weak: Option<Weakness>,
    crashes: u8,
    /// Moments at which time passes although somebody could act.
    pauses: u8,
    /// Answers of the store that do not arrive.
    losses: u8,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Claim { worker: usize, heard: bool },
    Renew { worker: usize, heard: bool },
    Go { worker: usize, heard: bool },
    Answer(usize),
    Cut(usize),
    Crash(usize),
    Cancel,
    Land(usize),
    Pause,
    Tick,
}
fn ttl() -> Duration {
    Duration::from_secs(TTL)
}

impl Protocol {
    fn is(&self, weakness: Weakness) -> bool {
        self.weak == Some(weakness)
    }

    fn lease(&self, scene: &mut Scene, request: &LeaseRequest) -> LeaseGrant {
        let grant = now_or_never(scene.store.lease(request));
        if grant.alive {
            scene.ends.insert(request.worker, scene.now + TTL);
        }
        grant
    }

    fn claim(&self, scene: &mut Scene, worker: usize, heard: bool) {
        let mut request = acquire_any(scene.who(worker), ttl());
        if self.is(Weakness::EarlyBurial) {
            request.dead = vec![scene.who(1 - worker)];
            scene.buried[1 - worker] = true;
        }
        let mut grant = self.lease(scene, &request);
        let leased = grant.leased.pop();
        scene.newest = leased.as_ref().map(|leased| leased.fence).or(scene.newest);
        if !heard || !grant.alive {
            // What it may hold now is nothing it knows of: it goes on as another incarnation.
            scene.buried[worker] = false;
            return scene.workers[worker].life += 1;
        }
        if let Some(leased) = leased {
            self.take(scene, worker, &leased);
        }
    }

    fn take(&self, scene: &mut Scene, worker: usize, leased: &Leased) {
        let begun = leased.record.frames.iter().any(|frame| &*frame.body == INTENT);
        let died = leased.died_at.map_or(0, |at| at.as_millis() / 1_000 + LATE);
        let until = scene.now + TTL;
        let taker = &mut scene.workers[worker];
        taker.lease = Some((leased.fence, leased.record.head.seq));
        taker.until = until;
        taker.stand = match begun {
            true if self.is(Weakness::NoLook) => Stand::Intends,
            true if self.is(Weakness::NoQuietTime) => Stand::Looks(0),
            true => Stand::Looks(died),
            false => Stand::Intends,
        };
    }

    fn renew(&self, scene: &mut Scene, worker: usize, heard: bool) {
        let request = held_for(scene.who(worker), ttl());
        let grant = self.lease(scene, &request);
        if !heard {
            return;
        }
        let epoch = scene.workers[worker].lease.map(|(fence, _)| fence.epoch);
        if grant.held.iter().any(|(_, held)| Some(*held) == epoch) {
            scene.workers[worker].until = scene.now + TTL;
        } else {
            scene.let_go(worker);
        }
    }

    /// Writes one frame, or only gives the lease back; true when it stands and the lease does, too.
    fn write(&self, scene: &mut Scene, worker: usize, append: &mut Append) -> bool {
        let owned = scene.owns(worker);
        if self.is(Weakness::NoFence)
            && let Some(newest) = scene.newest
        {
            append.fence = newest;
            append.seq = scene.record().head.seq + u64::from(append.frame.is_some());
        }
        let before = scene.record().head.seq;
        let answer = now_or_never(scene.store.append(std::slice::from_ref(append))).remove(0);
        let written = scene.record().head.seq > before;
        if written && !owned {
            scene.seen.insert(Seen::FoulWrite);
        }
        match answer {
            Appended::Applied { lease_lost, .. } => {
                if !written && append.frame.is_some() {
                    scene.seen.insert(Seen::Recognised);
                }
                !lease_lost
            }
            _ => {
                scene.seen.insert(Seen::Refused);
                false
            }
        }
    }

    fn append(scene: &Scene, worker: usize, frame: Option<&str>) -> Append {
        let (fence, seq) = scene.workers[worker].lease.unwrap();
        let leased = Leased { record: scene.record(), fence, died_at: None };
        let number = seq + u64::from(frame.is_some());
        Append { frame: frame.map(Arc::from), ..append_of(&leased, number) }
    }

    fn go(&self, scene: &mut Scene, worker: usize, heard: bool) {
        let cancelled = scene.seen.contains(&Seen::Cancelled);
        match scene.workers[worker].stand {
            Stand::Intends if cancelled => {
                scene.workers[worker].stand = Stand::Records(UNDONE);
            }
            Stand::Intends => {
                let mut append = Self::append(scene, worker, Some(INTENT));
                let stands = self.write(scene, worker, &mut append);
                if heard && stands {
                    let next = &mut scene.workers[worker];
                    next.stand = Stand::Sends;
                    next.lease = next.lease.map(|(fence, _)| (fence, append.seq));
                } else if heard {
                    scene.let_go(worker);
                }
            }
            Stand::Sends => {
                if !scene.is_safe(worker) {
                    scene.seen.insert(Seen::FoulCall);
                }
                scene.workers[worker].stand = Stand::Waits(scene.calls.len());
                scene.calls.push(Call { sent: scene.now, landed: false });
            }
            Stand::Looks(_) if scene.made > 0 => self.found(scene, worker),
            Stand::Looks(quiet) if scene.now >= quiet => {
                scene.workers[worker].stand = Stand::Intends;
            }
            Stand::Looks(quiet) => {
                // A durable wait, without a lease.
                let mut append = Self::append(scene, worker, None);
                append.release = Some(Release { due: at(quiet), polls: BTreeMap::new(), seen: 0 });
                self.write(scene, worker, &mut append);
                scene.let_go(worker);
            }
            Stand::Undoes => {
                scene.made = scene.made.saturating_sub(1);
                scene.workers[worker].stand = Stand::Records(UNDONE);
            }
            Stand::Records(outcome) => {
                let mut append = Self::append(scene, worker, Some(outcome));
                let done = outcome == DONE;
                append.status = if done { RunStatus::Succeeded } else { RunStatus::RolledBack };
                append.release =
                    Some(Release { due: Timestamp::NEVER, polls: BTreeMap::new(), seen: 0 });
                self.write(scene, worker, &mut append);
                if heard {
                    scene.let_go(worker);
                }
            }
            Stand::Idle | Stand::Waits(_) => {}
        }
    }

    /// It exists: that is the end, or it has to go.
    fn found(&self, scene: &mut Scene, worker: usize) {
        let cancelled = scene.seen.contains(&Seen::Cancelled);
        let next = if cancelled { Stand::Undoes } else { Stand::Records(DONE) };
        scene.workers[worker].stand = next;
    }

    /// What a worker that holds the run, or believes so, can do next.
    fn acts_of(&self, scene: &Scene, number: usize, acts: &mut Vec<Act>) {
        let worker = &scene.workers[number];
        let may_send = scene.now + MARGIN < worker.until;
        match worker.stand {
            Stand::Idle => {}
            Stand::Sends | Stand::Undoes if may_send || self.is(Weakness::NoMargin) => {
                acts.push(Act::Go { worker: number, heard: true });
            }
            Stand::Sends | Stand::Undoes => {}
            Stand::Waits(call) => {
                let call = scene.calls[call];
                if call.landed {
                    acts.push(Act::Answer(number));
                }
                let gone = !may_send || scene.now >= call.sent + LATE || scene.losses > 0;
                if gone {
                    acts.push(Act::Cut(number));
                }
            }
            Stand::Intends | Stand::Looks(_) | Stand::Records(_) => {
                acts.push(Act::Go { worker: number, heard: true });
            }
        }
        if worker.stand != Stand::Idle && !may_send {
            acts.push(Act::Renew { worker: number, heard: true });
        }
    }
}

impl Model for Protocol {
    type State = Scene;
    type Action = Act;

    fn init_states(&self) -> Vec<Scene> {
        let store = MemoryStore::with_clock(Arc::new(|| at(0)));
        let mut head = run_head();
        head.due = at(0);
        let run = head.id;
        let new = Submission::Run(Box::new(NewRun { head, lease_to: None }));
        now_or_never(store.submit(&[new]));
        let worker = Worker { life: 0, stand: Stand::Idle, lease: None, until: 0 };
        let scene = Scene {
            store,
            run,
            now: 0,
            workers: [worker.clone(), worker],
            calls: Vec::new(),
            made: 0,
            ends: BTreeMap::new(),
            newest: None,
            buried: [false; 2],
            seen: BTreeSet::new(),
            crashes: self.crashes,
            pauses: self.pauses,
            losses: self.losses,
            key: Vec::new(),
        };
        vec![scene.sealed()]
    }

    fn actions(&self, scene: &Scene, acts: &mut Vec<Act>) {
        let idle = |worker: &usize| scene.workers[*worker].stand == Stand::Idle;
        let buries = self.is(Weakness::EarlyBurial) && !scene.is_done();
        for worker in [0, 1] {
            if idle(&worker) && (scene.is_free() || buries) {
                acts.push(Act::Claim { worker, heard: true });
            }
            self.acts_of(scene, worker, acts);
        }
        let busy = !acts.is_empty();
        for worker in [0, 1] {
            if scene.losses > 0 {
                if idle(&worker) && scene.is_free() {
                    acts.push(Act::Claim { worker, heard: false });
                }
                if matches!(scene.workers[worker].stand, Stand::Intends | Stand::Records(_)) {
                    acts.push(Act::Go { worker, heard: false });
                }
            }
            let end = scene.ends.get(&scene.who(worker)).copied().unwrap_or(0);
            if !idle(&worker) && end < scene.now + TTL {
                acts.push(Act::Renew { worker, heard: true });
                if scene.losses > 0 {
                    acts.push(Act::Renew { worker, heard: false });
                }
            }
            if !idle(&worker) && scene.crashes > 0 {
                acts.push(Act::Crash(worker));
            }
        }
        let flying = scene.calls.iter().enumerate();
        let flying = flying.filter(|(_, call)| scene.may_land(call));
        acts.extend(flying.map(|(call, _)| Act::Land(call)));
        if !scene.is_done() && !scene.seen.contains(&Seen::Cancelled) {
            acts.push(Act::Cancel);
        }
        match busy {
            true if scene.pauses > 0 => acts.push(Act::Pause),
            true => {}
            false => acts.push(Act::Tick),
        }
    }

    fn next_state(&self, last: &Scene, act: Act) -> Option<Scene> {
        let mut scene = last.clone();
        if matches!(act, Act::Pause | Act::Tick) {
            scene.now += 1;
        }
        let now = at(scene.now);
        scene.store = last.store.fork(Arc::new(move || now));
        match act {
            Act::Claim { worker, heard } => {
                scene.losses -= u8::from(!heard);
                self.claim(&mut scene, worker, heard);
            }
            Act::Renew { worker, heard } => {
                scene.losses -= u8::from(!heard);
                self.renew(&mut scene, worker, heard);
            }
            Act::Go { worker, heard } => {
                scene.losses -= u8::from(!heard);
                self.go(&mut scene, worker, heard);
            }
            Act::Answer(worker) => self.found(&mut scene, worker),
            Act::Cancel => {
                scene.seen.insert(Seen::Cancelled);
            }
            Act::Cut(worker) => {
                let quiet = if self.is(Weakness::NoQuietTime) { 0 } else { scene.now + LATE };
                scene.workers[worker].stand = Stand::Looks(quiet);
            }
            Act::Crash(worker) => {
                scene.crashes -= 1;
                scene.let_go(worker);
                scene.workers[worker].life += 1;
                scene.buried[worker] = false;
            }
            Act::Land(call) => {
                scene.calls[call].landed = true;
                scene.made += 1;
            }
            Act::Pause => scene.pauses -= 1,
            Act::Tick => {}
        }
        Some(scene.sealed())
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one owner", |_, scene: &Scene| {
                let believes = |w: &&Worker| w.stand != Stand::Idle && scene.now < w.until;
                scene.workers.iter().filter(believes).count() <= 1
            }),
            Property::always("only the owner calls", |_, scene: &Scene| {
                !scene.seen.contains(&Seen::FoulCall)
            }),
            Property::always("only the owner writes", |_, scene: &Scene| {
                !scene.seen.contains(&Seen::FoulWrite)
            }),
            Property::always("one thing", |_, scene: &Scene| scene.made <= 1),
            Property::always("nothing is left", |_, scene: &Scene| {
                scene.made == 0 || scene.record().head.status != RunStatus::RolledBack
            }),
            Property::always("a sound journal", |_, scene: &Scene| is_sound(scene)),
            Property::always("never stuck", |protocol: &Self, scene: &Scene| {
                let mut acts = Vec::new();
                protocol.actions(scene, &mut acts);
                let waits = |act: &Act| {
                    let next = protocol.next_state(scene, *act);
                    next.is_none_or(|next| next == *scene)
                };
                scene.is_done() || !acts.iter().all(waits)
            }),
            Property::sometimes("a rollback", |_, scene: &Scene| {
                scene.record().head.status == RunStatus::RolledBack && !scene.calls.is_empty()
            }),
            Property::sometimes("a take-over", |_, scene: &Scene| {
                scene.is_done() && scene.record().frames.iter().any(|frame| frame.epoch > 1)
            }),
            Property::sometimes("a stale owner is refused", |_, scene: &Scene| {
                scene.seen.contains(&Seen::Refused)
            }),
            Property::sometimes("a repeat is recognised", |_, scene: &Scene| {
                scene.seen.contains(&Seen::Recognised)
            }),
        ]
    }
}

/// Numbers without gaps, leases that never go back, one outcome at the end, and it is true.
fn is_sound(scene: &Scene) -> bool {
    let frames = scene.record().frames;
    let numbered = frames.iter().zip(1_u64..).all(|(frame, seq)| frame.seq == seq);
    let ordered = frames.windows(2).all(|pair| pair[0].epoch <= pair[1].epoch);
    let end = frames.iter().position(|frame| &*frame.body != INTENT);
    let last = end.is_none_or(|end| end + 1 == frames.len());
    let kept = frames.last().is_none_or(|frame| &*frame.body != DONE || scene.made > 0);
    numbered && ordered && last && kept
}

/// What does not hold.
fn broken(checker: &impl Checker<Protocol>) -> Vec<&'static str> {
    let held = |property: &Property<Protocol>| {
        let found = checker.discovery(property.name).is_some();
        found == matches!(property.expectation, Expectation::Sometimes)
    };
    let properties = checker.model().properties().into_iter();
    properties.filter(|property| !held(property)).map(|property| property.name).collect()
}

// covers: S5, S6, S7, S9, S19, L1, L2
#[test]
fn nothing_goes_wrong_whatever_the_order() {
    let protocol = Protocol { weak: None, crashes: 2, pauses: 3, losses: 2 };
    let checker = protocol.checker().threads(2).spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    assert_eq!(broken(&checker), Vec::<&str>::new());
    assert!(checker.unique_state_count() > 1_000, "too few to mean anything");
}

// covers: S5, S6, S7
#[test]
fn each_precaution_that_is_left_out_is_missed() {
    for (weak, missed) in [
        (Weakness::NoFence, "only the owner writes"),
        (Weakness::NoMargin, "only the owner calls"),
        (Weakness::NoMargin, "one thing"),
        (Weakness::NoMargin, "nothing is left"),
        (Weakness::NoQuietTime, "one thing"),
        (Weakness::NoQuietTime, "nothing is left"),
        (Weakness::NoLook, "one thing"),
        (Weakness::NoLook, "nothing is left"),
        (Weakness::EarlyBurial, "one owner"),
    ] {
        let protocol = Protocol { weak: Some(weak), crashes: 1, pauses: 3, losses: 0 };
        let until = HasDiscoveries::AllOf([missed].into());
        let checker = protocol.checker().finish_when(until).threads(2).spawn_bfs().join();
        println!("{weak:?}: {missed}: {} states", checker.unique_state_count());
        assert!(checker.discovery(missed).is_some(), "{weak:?} does not break: {missed}");
    }
}
