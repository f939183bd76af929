//! What all parts of one simulation share: time, the weather, the trace, and what was found wrong.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use provision_core::{StoreError, Timestamp};
use tokio::time::Instant;

use crate::rng::Rng;

use super::{Plant, Violation, shape::Shape, witness::Witness, world::World};

/// Where the clock of every simulated store begins.
const BASE: Timestamp = Timestamp::from_millis(1_750_000_000_000);
/// Lines of a trace that are kept.
const TRACE_MAX: usize = 4_000;

/// How likely what goes wrong is, in percent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weather {
    /// The provider cannot be reached.
    pub(super) before: u64,
    /// It answers 500, before or after its effect.
    pub(super) failing: u64,
    /// The connection is cut, and the effect may land later.
    pub(super) cut: u64,
    /// It never answers, and the effect may land later.
    pub(super) silent: u64,
    pub(super) throttled: u64,
    pub(super) panics: u64,
    /// Look-ups that fail.
    pub(super) blind: u64,
    /// What was made becomes visible later.
    pub(super) lagging: bool,
    /// Effects that land after everything the provider promised.
    pub(super) very_late: u64,
    /// The store's errors, before and after the write.
    pub(super) store: u64,
    /// The store's longest latency, in milliseconds.
    pub(super) latency: u64,
    /// The queue's lost, doubled and invented proposals.
    pub(super) queue: u64,
}

impl Weather {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let some = |rng: &mut Rng, most: u64| {
            if rng.chance(55) { rng.between(1, most) } else { 0 }
        };
        Self {
            before: some(rng, 12),
            failing: some(rng, 20),
            cut: some(rng, 15),
            silent: some(rng, 10),
            throttled: some(rng, 12),
            panics: some(rng, 4),
            blind: if rng.chance(15) { rng.between(40, 80) } else { some(rng, 15) },
            lagging: rng.chance(60),
            very_late: if rng.chance(6) { 15 } else { 0 },
            store: some(rng, 8),
            latency: if rng.chance(70) { rng.between(1, 60) } else { 0 },
            queue: some(rng, 50),
        }
    }
}

/// Lines of what happened, and their hash: the same seed gives the same.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) lines: Vec<String>,
    hasher: DefaultHasher,
}

impl Trace {
    pub(super) fn hash(&self) -> u64 {
        self.hasher.finish()
    }
}

/// One life of one worker process, as the others know it.
#[derive(Debug, Clone, Default)]
pub(super) struct Life {
    /// Until when the store cannot be reached from here, and whether writes are applied anyway.
    pub(super) partition: Option<(Instant, bool)>,
}

/// Everything that changes.
#[derive(Debug)]
pub(super) struct State {
    pub(super) shape: Arc<Shape>,
    pub(super) rng: Rng,
    pub(super) weather: Weather,
    pub(super) trace: Trace,
    pub(super) violations: Vec<Violation>,
    pub(super) lives: Vec<Life>,
    pub(super) world: World,
    pub(super) witness: Witness,
    /// Whether anything of this seed may land later than its provider promises.
    pub(super) breaks_promises: bool,
}

/// One simulation. A std mutex is enough: there is one thread, and nothing is awaited under it.
#[derive(Debug)]
pub(super) struct Sim {
    pub(super) plant: Option<Plant>,
    pub(super) shape: Arc<Shape>,
    start: Instant,
    state: Mutex<State>,
}

impl Sim {
    pub(super) fn new(seed: u64, plant: Option<Plant>) -> Arc<Self> {
        let mut rng = Rng::new(seed);
        let shape = Arc::new(Shape::draw(&mut rng));
        let weather = Weather::draw(&mut rng);
        let state = State {
            shape: Arc::clone(&shape),
            world: World::new(rng.fork()),
            witness: Witness::default(),
            breaks_promises: weather.very_late > 0,
            weather,
            rng,
            trace: Trace::default(),
            violations: Vec::new(),
            lives: Vec::new(),
        };
        Arc::new(Self { plant, shape, start: Instant::now(), state: Mutex::new(state) })
    }

    /// The time that has passed since the beginning.
    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The moment so long after the beginning.
    pub(super) fn at(&self, after: Duration) -> Instant {
        self.start + after
    }

    /// The true time: what the store's clock shows.
    pub(super) fn now(&self) -> Timestamp {
        BASE.plus(self.elapsed())
    }

    /// A store's clock, as planted.
    pub(super) fn store_clock(&self) -> Arc<dyn Fn() -> Timestamp + Send + Sync> {
        let start = self.start;
        if self.plant == Some(Plant::StoreClockJumps) {
            // Runs at five times its speed: leases and quiet times end early.
            return Arc::new(move || BASE.plus(start.elapsed() * 5));
        }
        Arc::new(move || BASE.plus(start.elapsed()))
    }

    /// Looks at, or changes, what all share.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut State, Timestamp) -> T) -> T {
        let now = self.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut state, now)
    }

    /// Writes a line of the trace.
    pub(super) fn say(&self, line: impl FnOnce() -> String) {
        self.with(|state, now| state.say(now, line));
    }

    pub(super) fn is_planted(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    pub(super) fn is_broken(&self) -> bool {
        self.with(|state, _| !state.violations.is_empty())
    }

    /// What the store's network does to one call: latency before and after, and the error, which
    /// comes after the write was applied when the flag says so.
    pub(super) fn store_weather(&self, life: usize) -> (Duration, Duration, Option<bool>) {
        self.with(|state, _| {
            let Weather { latency, store, .. } = state.weather;
            let before = state.rng.millis(0, latency);
            let after = state.rng.millis(0, latency);
            let cut = state.lives.get(life).and_then(|life| life.partition);
            let cut = cut.filter(|(until, _)| *until > Instant::now());
            let error = match cut {
                Some((_, applied)) => Some(applied),
                None if state.rng.chance(store) => Some(state.rng.chance(50)),
                None => None,
            };
            (before, after, error)
        })
    }
}

/// What a store that cannot be reached says.
pub(super) fn unreachable_store(operation: &'static str) -> StoreError {
    StoreError::unavailable(operation)
}

impl State {
    pub(super) fn say(&mut self, now: Timestamp, line: impl FnOnce() -> String) {
        let line = format!("{:>7} {}", now.since(BASE).as_millis(), line());
        line.hash(&mut self.trace.hasher);
        if self.trace.lines.len() < TRACE_MAX {
            self.trace.lines.push(line);
        }
    }

    pub(super) fn violated(&mut self, now: Timestamp, id: &'static str, what: String) {
        self.say(now, || format!("VIOLATION {id}: {what}"));
        if self.violations.len() < 20 {
            self.violations.push(Violation { id, what, at: now.since(BASE) });
        }
    }
}
