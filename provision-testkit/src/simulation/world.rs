//! The providers of a simulation: an inventory with its own truth, and calls whose effect and
//! answer part ways.
//!
//! An effect lands when its time has come, whatever has become of the worker that asked for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use provision_core::{OwnerMark, RunId, Timestamp};

use crate::rng::Rng;

use super::{
    gate::Gate,
    shape::{Doom, Naming, Unit},
    state::{Sim, State, Weather},
};

/// Longest time a create may need to land after it was sent.
pub(super) const LATE: Duration = Duration::from_secs(20);
/// How far look-ups lag behind.
pub(super) const LAG: Duration = Duration::from_secs(3);
/// How long keys are remembered.
pub(super) const KEY_LIFETIME: Duration = Duration::from_secs(90);

/// What the steps of one life of one worker hold of the simulation.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    pub(super) sim: Arc<Sim>,
    pub(super) gate: Arc<Gate>,
    pub(super) life: usize,
}

/// Who sends a call.
#[derive(Debug, Clone)]
pub(super) struct Who {
    pub(super) life: usize,
    pub(super) run: RunId,
    pub(super) path: String,
    pub(super) generation: u32,
    /// Zero for the ledger's watch.
    pub(super) attempt: u32,
}

/// What a mutating call asks for.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    Act,
    UndoAct,
    Create { name: String, key: String, mark: OwnerMark, naming: Naming, polls: u32, broken: bool },
    Delete { id: String },
}

/// A mutating call.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) who: Who,
    pub(super) ask: Ask,
    /// What is sent, compared between attempts.
    pub(super) body: String,
}

/// How a call ends for who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Good,
    /// A 4xx: surely nothing happened.
    Refused,
    /// No byte left the machine.
    Unreachable,
    /// A 500, before or after the effect.
    Failing,
    /// A reset in the middle of it.
    Cut,
    /// Never.
    Silent,
    Throttled,
    Panics,
}

/// A call under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) ticket: u64,
    pub(super) fate: Fate,
    pub(super) answer_in: Duration,
}

/// Something that exists.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) name: String,
    /// Whose it truly is: run, path, generation. `None`: it was there before.
    pub(super) made_by: Option<(RunId, String, u32)>,
    /// The mark it carries, where its kind has room for one.
    pub(super) mark: Option<OwnerMark>,
    pub(super) naming: Naming,
    pub(super) born: Timestamp,
    visible: Timestamp,
    polls: u32,
    broken: bool,
}

/// What became of an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Landed {
    Done(String),
    NameTaken,
}

/// All providers.
#[derive(Debug)]
pub(super) struct World {
    pub(super) items: BTreeMap<String, Item>,
    /// Effects of plain steps that stand: run, path, generation.
    pub(super) acts: BTreeSet<(RunId, String, u32)>,
    pending: BTreeMap<(Timestamp, u64), Request>,
    landed: BTreeMap<u64, Landed>,
    keys: BTreeMap<String, (Timestamp, String)>,
    /// Steps of which the first resource was made: only that one may be broken.
    broken: BTreeSet<(RunId, String)>,
    /// Calls by run, path and kind, for dooms.
    calls: BTreeMap<(RunId, String, bool), u32>,
    tickets: u64,
    next: u64,
    rng: Rng,
    /// Mutating calls that were sent.
    pub(super) sent: u64,
    /// Resources that were there from the beginning.
    pub(super) foreign: usize,
}

impl World {
    pub(super) fn new(rng: Rng) -> Self {
        Self {
            items: BTreeMap::new(),
            acts: BTreeSet::new(),
            pending: BTreeMap::new(),
            landed: BTreeMap::new(),
            keys: BTreeMap::new(),
            broken: BTreeSet::new(),
            calls: BTreeMap::new(),
            tickets: 0,
            next: 0,
            rng,
            sent: 0,
            foreign: 0,
        }
    }

    /// Something that was there before anybody asked for it.
    pub(super) fn put_foreign(&mut self, name: &str, naming: Naming, born: Timestamp) {
        if self.items.values().any(|item| item.name == name) {
            return;
        }
        self.next += 1;
        self.foreign += 1;
        let item = Item {
            name: name.to_owned(),
            made_by: None,
            mark: None,
            naming,
            born,
            visible: born,
            polls: 0,
            broken: false,
        };
        self.items.insert(format!("f-{}", self.next), item);
    }

    /// Visible items that `pick` takes, oldest first.
    pub(super) fn seen(&self, now: Timestamp, pick: impl Fn(&Item) -> bool) -> Vec<(String, Item)> {
        let all = self.items.iter().filter(|(_, item)| item.visible <= now && pick(item));
        let mut all: Vec<_> = all.map(|(id, item)| (id.clone(), item.clone())).collect();
        all.sort_by_key(|(_, item)| item.born);
        all
    }

    /// One poll for readiness: `None` when it is not there, `Some(None)` when not yet.
    pub(super) fn poll(&mut self, id: &str) -> Option<Option<bool>> {
        let item = self.items.get_mut(id)?;
        if item.polls > 0 {
            item.polls -= 1;
            return Some(None);
        }
        Some(Some(!item.broken))
    }

    pub(super) fn landed(&self, ticket: u64) -> Option<Landed> {
        self.landed.get(&ticket).cloned()
    }
}

impl State {
    /// The first byte of a mutating call.
    pub(super) fn send(&mut self, now: Timestamp, request: Request, unit: &Unit) -> Sent {
        self.settle(now);
        self.world.sent += 1;
        self.say(now, || format!("send {:?} by {:?}", request.ask, request.who));
        for (id, what) in self.witness.judge_call(&request, now) {
            self.violated(now, id, what);
        }
        self.judge_delete(now, &request);
        let fate = self.fate(&request, unit);
        let mut rng = self.world.rng.fork();
        let answer_in = match fate {
            Fate::Silent => Duration::from_hours(1),
            _ => rng.millis(5, 400),
        };
        self.world.tickets += 1;
        let ticket = self.world.tickets;
        if let Some(wait) = landing(&mut rng, &self.weather, fate, &request.ask, answer_in) {
            // The watch finds marks; where there is none, nobody can promise anything.
            let marked = matches!(unit.naming, Naming::Named | Naming::Key | Naming::Label);
            let wait = if marked { wait } else { wait.min(LATE) };
            self.world.pending.insert((now.plus(wait), ticket), request);
        }
        self.settle(now);
        self.say(now, || format!("ticket {ticket}: {fate:?}"));
        Sent { ticket, fate, answer_in }
    }

    /// S11: only what this step made is ever deleted for it.
    fn judge_delete(&mut self, now: Timestamp, request: &Request) {
        let Ask::Delete { id } = &request.ask else { return };
        let Some(item) = self.world.items.get(id) else { return };
        let who = &request.who;
        let ours =
            matches!(&item.made_by, Some((run, path, _)) if (run, path) == (&who.run, &who.path));
        if !ours {
            self.violated(now, "S11", format!("{} deletes {id}, which is not its own", who.path));
        }
    }

    fn fate(&mut self, request: &Request, unit: &Unit) -> Fate {
        let who = &request.who;
        let undo = matches!(request.ask, Ask::UndoAct | Ask::Delete { .. });
        let calls = self.world.calls.entry((who.run, who.path.clone(), undo)).or_default();
        *calls += 1;
        let fails = match unit.doom {
            _ if undo => unit.undo_fails,
            Doom::FailsFirst(times) => times,
            Doom::Refused => return Fate::Refused,
            Doom::Fine => 0,
        };
        // The watch is not hindered: it looks long after everything else.
        if *calls <= fails && who.attempt > 0 {
            return match (undo, fails) {
                (true, u32::MAX) => Fate::Refused,
                (true, _) => Fate::Unreachable,
                (false, _) => Fate::Failing,
            };
        }
        let Weather { before, failing, cut, silent, throttled, panics, .. } = self.weather;
        let mut left = self.world.rng.below(100);
        for (percent, fate) in [
            (before, Fate::Unreachable),
            (failing, Fate::Failing),
            (cut, Fate::Cut),
            (silent, Fate::Silent),
            (throttled, Fate::Throttled),
            (panics, Fate::Panics),
        ] {
            if left < percent {
                return fate;
            }
            left -= percent;
        }
        Fate::Good
    }

    /// Lets everything land whose time has come.
    pub(super) fn settle(&mut self, now: Timestamp) {
        while let Some(((at, ticket), _)) = self.world.pending.first_key_value()
            && *at <= now
        {
            let (at, ticket) = (*at, *ticket);
            if let Some(request) = self.world.pending.remove(&(at, ticket)) {
                self.land(at, ticket, &request);
            }
        }
    }

    fn land(&mut self, at: Timestamp, ticket: u64, request: &Request) {
        let who = &request.who;
        let place = (who.run, who.path.clone(), who.generation);
        let landed = match &request.ask {
            Ask::Act => {
                self.world.acts.insert(place);
                Landed::Done(String::new())
            }
            Ask::UndoAct => {
                self.world.acts.remove(&place);
                Landed::Done(String::new())
            }
            Ask::Delete { id } => {
                self.world.items.remove(id);
                Landed::Done(String::new())
            }
            Ask::Create { .. } => self.make(at, place, &request.ask),
        };
        self.say(at, || format!("landed {ticket}: {landed:?}"));
        self.world.landed.insert(ticket, landed);
    }

    fn make(&mut self, at: Timestamp, place: (RunId, String, u32), ask: &Ask) -> Landed {
        let Ask::Create { name, key, mark, naming, polls, broken } = ask else {
            return Landed::NameTaken;
        };
        let unique = matches!(naming, Naming::Named | Naming::Bare);
        if unique && self.world.items.values().any(|item| item.name == *name) {
            return Landed::NameTaken;
        }
        if *naming == Naming::Key
            && let Some((until, id)) = self.world.keys.get(key)
            && at <= *until
        {
            return Landed::Done(id.clone());
        }
        let twins = self.world.items.values().filter(|item| {
            item.made_by.as_ref().is_some_and(|(run, path, _)| (run, path) == (&place.0, &place.1))
        });
        // S9: a second one exists only where a provider broke its promise.
        if twins.count() > 0 && !self.breaks_promises {
            self.violated(at, "S9", format!("a second resource of {} of {}", place.1, place.0));
        }
        self.world.next += 1;
        let id = format!("r-{}", self.world.next);
        let lag =
            if self.weather.lagging { self.world.rng.millis(0, 3_000) } else { Duration::ZERO };
        let first = self.world.broken.insert((place.0, place.1.clone()));
        let item = Item {
            name: name.clone(),
            made_by: Some(place),
            mark: (!matches!(naming, Naming::Bare | Naming::Lost)).then(|| mark.clone()),
            naming: *naming,
            born: at,
            visible: at.plus(lag),
            polls: *polls,
            broken: *broken && first,
        };
        self.world.keys.insert(key.clone(), (at.plus(KEY_LIFETIME), id.clone()));
        self.world.items.insert(id.clone(), item);
        Landed::Done(id)
    }
}

/// When an effect lands after it was sent, if it does.
fn landing(
    rng: &mut Rng,
    weather: &Weather,
    fate: Fate,
    ask: &Ask,
    answer_in: Duration,
) -> Option<Duration> {
    let late = matches!(ask, Ask::Create { .. } | Ask::Delete { .. });
    let upto =
        |rng: &mut Rng, most: Duration| rng.millis(0, u64::try_from(most.as_millis()).unwrap_or(0));
    match fate {
        Fate::Refused | Fate::Unreachable | Fate::Throttled => None,
        Fate::Good if late => Some(upto(rng, answer_in)),
        Fate::Good => Some(Duration::ZERO),
        Fate::Failing | Fate::Panics => rng.chance(50).then_some(Duration::ZERO),
        Fate::Cut | Fate::Silent if !late => rng.chance(60).then_some(Duration::ZERO),
        Fate::Cut | Fate::Silent => {
            if matches!(ask, Ask::Create { .. }) && rng.chance(weather.very_late) {
                return Some(LATE + LAG + rng.millis(60_000, 1_200_000));
            }
            rng.chance(70).then(|| upto(rng, LATE))
        }
    }
}
