//! The play of one seed: workers come and go, faults strike, everything heals, and what is left is
//! looked at.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use provision_core::{
    By, Call, Engine, MemoryStore, RunId, RunStatus, Worker, WorkerConfig,
    clock::{self, Clock},
    context::Seam,
    draw::SeededEntropy,
    probe::Probe,
    run::journal::Record,
    store::StateStore,
};
use tokio::{runtime::Builder, task::JoinSet};

use crate::rng::Rng;

use super::{
    Plant, Report,
    gate::Gate,
    planted::Planted,
    shape::{Order, SAGA, What, wire},
    state::{Life, Sim, Weather},
    steps::name_of,
    store::SimStore,
    world::Desk,
};

/// How long a lease lasts here.
const LEASE: Duration = Duration::from_secs(6);
/// How long an open call is awaited by a stop.
const GRACE: Duration = Duration::from_secs(4);
/// L1: everything has ended so long after the last fault.
const ENDS_WITHIN: Duration = Duration::from_secs(600);
/// Later than any look of the watch.
const WATCHED: Duration = Duration::from_hours(2);

/// Runs one seed.
pub(super) fn run(seed: u64, plant: Option<Plant>) -> Report {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without I/O").block_on(async move {
        let mut stage = Stage::new(seed, plant).await;
        stage.play().await;
        stage.report(seed)
    })
}

/// Passes the engine's seams through the gate.
#[derive(Debug)]
struct GateProbe(Arc<Gate>);

#[async_trait]
impl Probe for GateProbe {
    async fn appending(&self, _: &RunId, _: &[Record]) {
        self.0.seam().await;
    }

    async fn appended(&self, _: &RunId, _: &[Record]) {
        self.0.seam().await;
    }

    async fn call(&self, _: &RunId, _: &str, _: &Call, _: Seam) {
        self.0.seam().await;
    }
}

/// S20: a wall clock that is an hour off, one way or the other, and decides nothing.
#[derive(Debug)]
struct WrongClock(Arc<Sim>, bool);

impl Clock for WrongClock {
    fn wall(&self) -> provision_core::Timestamp {
        let now = self.0.now();
        let hour = Duration::from_hours(1);
        let jumped = (self.0.elapsed().as_secs() / 7).is_multiple_of(2);
        if jumped == self.1 {
            return now.plus(hour);
        }
        let back = now.as_millis().saturating_sub(3_600_000);
        provision_core::Timestamp::from_millis(back)
    }
}

/// A worker process that lives.
struct Alive {
    engine: Engine,
    worker: Worker,
    gate: Arc<Gate>,
    life: usize,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Boot(usize),
    Freeze(usize, Duration),
    Part(usize, Duration, bool),
    Kill(usize),
    DieAtSeam(usize, u64),
    Stop(usize),
    Start(usize),
    Cancel(usize),
    Tick,
}

pub(super) struct Stage {
    pub(super) sim: Arc<Sim>,
    pub(super) memory: MemoryStore,
    store: Arc<dyn StateStore>,
    rng: Rng,
    client: Engine,
    slots: Vec<Option<Alive>>,
    orders: Vec<(String, Order)>,
    /// Host-side work under way: starts, orders, stops.
    tasks: JoinSet<()>,
    events: BTreeMap<(Duration, u64), Fault>,
    numbered: u64,
}

async fn engine(
    sim: &Arc<Sim>,
    memory: &MemoryStore,
    store: &Arc<dyn StateStore>,
    seed: u64,
) -> (Engine, Arc<Gate>, usize) {
    let life = sim.with(|state, _| {
        state.lives.push(Life::default());
        state.lives.len() - 1
    });
    let gate = Arc::new(Gate::default());
    let desk = Desk { sim: Arc::clone(sim), gate: Arc::clone(&gate), life };
    loop {
        let backend = SimStore {
            sim: Arc::clone(sim),
            gate: Arc::clone(&gate),
            life,
            under: Arc::clone(store),
            memory: memory.clone(),
        };
        let saga = wire(&sim.shape, &desk).expect("a drawn saga is well formed");
        let built = Engine::builder(backend)
            .register(saga)
            .entropy(SeededEntropy::new(seed))
            .clock(WrongClock(Arc::clone(sim), life.is_multiple_of(2)))
            .probe(GateProbe(Arc::clone(&gate)))
            .build()
            .await;
        match built {
            Ok(engine) => return (engine, gate, life),
            Err(_) => clock::sleep(Duration::from_millis(200)).await,
        }
    }
}

impl Stage {
    async fn new(seed: u64, plant: Option<Plant>) -> Self {
        let sim = Sim::new(seed, plant);
        let mut rng = sim.with(|state, _| state.rng.fork());
        let memory = MemoryStore::with_clock(sim.store_clock());
        let store: Arc<dyn StateStore> = Planted::new(&memory, plant, rng.fork());
        let (client, _, _) = engine(&sim, &memory, &store, rng.next()).await;
        let workers = rng.between(1, 3);
        let mut stage = Self {
            slots: (0..workers).map(|_| None).collect(),
            orders: Vec::new(),
            tasks: JoinSet::new(),
            events: BTreeMap::new(),
            numbered: 0,
            sim,
            memory,
            store,
            rng,
            client,
        };
        stage.draw_runs();
        stage.draw_faults();
        stage
    }

    fn later(&mut self, at: Duration, fault: Fault) {
        self.numbered += 1;
        self.events.insert((at, self.numbered), fault);
    }

    fn draw_runs(&mut self) {
        for number in 0..self.rng.between(1, 3) {
            let client =
                if self.rng.chance(20) { "shared".to_owned() } else { format!("c{number}") };
            let items = (0..self.rng.below(4)).map(|n| u32::try_from(n).unwrap_or(0)).collect();
            let order = Order { client, wants: self.rng.chance(50), items };
            self.put_foreign(&order);
            let index = self.orders.len();
            self.orders.push((format!("k{number}"), order));
            let at = self.rng.millis(0, 8_000);
            self.later(at, Fault::Start(index));
            if self.rng.chance(40) {
                let again = at + self.rng.millis(0, 20_000);
                self.later(again, Fault::Start(index));
            }
            if self.rng.chance(25) {
                let cancel = at + self.rng.millis(0, 25_000);
                self.later(cancel, Fault::Cancel(index));
            }
        }
    }

    fn put_foreign(&self, order: &Order) {
        for node in &self.sim.shape.nodes {
            let What::Work(unit) = &node.what else { continue };
            if unit.foreign {
                let name = name_of(&order.client, &node.path);
                self.sim.with(|state, now| state.world.put_foreign(&name, unit.naming, now));
            }
        }
    }

    fn draw_faults(&mut self) {
        // Sometimes longer than a quiet time lasts.
        let seconds = if self.rng.chance(25) { 75 } else { 35 };
        let last = seconds * 1_000 - 3_000;
        for slot in 0..self.slots.len() {
            let at = if slot == 0 { Duration::ZERO } else { self.rng.millis(0, 10_000) };
            self.later(at, Fault::Boot(slot));
            for _ in 0..self.rng.below(6) {
                let at = self.rng.millis(200, last);
                let fault = match self.rng.below(100) {
                    0..30 => Fault::Freeze(slot, self.rng.millis(100, 20_000)),
                    30..55 => Fault::Part(slot, self.rng.millis(100, 15_000), self.rng.chance(50)),
                    55..68 => Fault::Kill(slot),
                    68..88 => Fault::DieAtSeam(slot, self.rng.between(1, 40)),
                    _ => Fault::Stop(slot),
                };
                self.later(at, fault);
            }
        }
        for tick in 1..seconds * 2 {
            self.later(Duration::from_millis(500 * tick), Fault::Tick);
        }
    }

    async fn play(&mut self) {
        while let Some(((at, _), fault)) = self.events.pop_first() {
            tokio::time::sleep_until(self.sim.at(at)).await;
            self.bury();
            self.strike(fault).await;
            if self.sim.is_broken() {
                return;
            }
        }
        self.heal().await;
        if !self.wait_until_still().await {
            return;
        }
        self.second_act().await;
        if !self.wait_until_still().await {
            return;
        }
        for slot in 0..self.slots.len() {
            self.stop(slot);
        }
        while self.tasks.join_next().await.is_some() {}
        self.look_at_the_end().await;
    }

    async fn strike(&mut self, fault: Fault) {
        self.sim.say(|| format!("{fault:?}"));
        match fault {
            Fault::Boot(slot) => self.boot(slot).await,
            Fault::Freeze(slot, time) => {
                let until = self.sim.at(self.sim.elapsed() + time);
                self.slots[slot].iter().for_each(|alive| alive.gate.freeze(until));
            }
            Fault::Part(slot, time, applied) => {
                let until = self.sim.at(self.sim.elapsed() + time);
                let Some(life) = self.slots[slot].as_ref().map(|alive| alive.life) else { return };
                self.sim.with(|state, _| state.lives[life].partition = Some((until, applied)));
            }
            Fault::Kill(slot) => {
                self.slots[slot].iter().for_each(|alive| alive.gate.kill());
                self.bury();
            }
            Fault::DieAtSeam(slot, seams) => {
                self.slots[slot].iter().for_each(|alive| alive.gate.die_in(seams));
            }
            Fault::Stop(slot) => {
                self.stop(slot);
                self.boot_later(slot);
            }
            Fault::Start(index) => self.start(index),
            Fault::Cancel(index) => self.cancel(index),
            Fault::Tick => self.audit().await,
        }
    }

    async fn boot(&mut self, slot: usize) {
        if self.slots[slot].is_some() {
            return;
        }
        let seed = self.rng.next();
        let (engine, gate, life) = engine(&self.sim, &self.memory, &self.store, seed).await;
        let config = WorkerConfig::default()
            .with_slots(4)
            .with_lease(LEASE)
            .with_poll(Duration::from_secs(2))
            .with_grace(GRACE);
        let worker = engine.spawn_worker(config);
        self.sim.say(|| format!("worker {slot} lives as {life}"));
        self.slots[slot] = Some(Alive { engine, worker, gate, life });
    }

    fn boot_later(&mut self, slot: usize) {
        let at = self.sim.elapsed() + self.rng.millis(50, 9_000);
        self.later(at, Fault::Boot(slot));
    }

    /// Takes away what died at a seam.
    fn bury(&mut self) {
        for slot in 0..self.slots.len() {
            if self.slots[slot].as_ref().is_some_and(|alive| alive.gate.is_dead()) {
                if let Some(alive) = self.slots[slot].take() {
                    self.sim.say(|| format!("life {} is over", alive.life));
                    alive.worker.kill();
                }
                self.boot_later(slot);
            }
        }
    }

    fn stop(&mut self, slot: usize) {
        if let Some(Alive { engine, worker, gate, life }) = self.slots[slot].take() {
            let sim = Arc::clone(&self.sim);
            self.tasks.spawn(async move {
                worker.stop().await;
                sim.say(|| format!("life {life} has stopped"));
                drop((engine, gate));
            });
        }
    }

    fn start(&mut self, index: usize) {
        let (key, order) = self.orders[index].clone();
        let near = self.slots.iter().flatten().map(|alive| alive.engine.clone()).next();
        let first = near.filter(|_| self.rng.chance(60)).unwrap_or_else(|| self.client.clone());
        let (client, sim) = (self.client.clone(), Arc::clone(&self.sim));
        self.tasks.spawn(async move {
            let mut engine = first;
            loop {
                let start = engine.start(SAGA, &order).key(key.clone());
                match clock::within(Duration::from_secs(3), start.into_future()).await {
                    Some(Ok(handle)) => {
                        return sim.with(|state, now| state.acknowledged(now, &key, *handle.id()));
                    }
                    Some(Err(error)) if error.code() == "key_taken" => {
                        return sim.with(|state, now| {
                            state.violated(now, "S2", format!("{key} is taken by itself"));
                        });
                    }
                    Some(Err(_)) | None => {}
                }
                engine = client.clone();
                clock::sleep(Duration::from_millis(300)).await;
            }
        });
    }

    fn cancel(&mut self, index: usize) {
        let key = self.orders[index].0.clone();
        let Some(run) = self.sim.with(|state, _| state.witness.keys.get(&key).copied()) else {
            return;
        };
        let client = self.client.clone();
        self.tasks.spawn(async move {
            for _ in 0..5 {
                let cancel = client.cancel(&run, By::default());
                let ended = clock::within(Duration::from_secs(3), cancel).await;
                if matches!(ended, Some(Ok(()))) {
                    return;
                }
                clock::sleep(Duration::from_millis(300)).await;
            }
        });
    }

    async fn heal(&mut self) {
        self.sim.say(|| "everything heals".to_owned());
        self.sim.with(|state, _| {
            state.weather = Weather::default();
            state.lives.iter_mut().for_each(|life| life.partition = None);
        });
        self.bury();
        for alive in self.slots.iter().flatten() {
            alive.gate.spare();
            alive.gate.thaw();
        }
        self.events.clear();
        for slot in 0..self.slots.len() {
            self.boot(slot).await;
        }
    }

    /// L1: waits until every run has ended or is parked; false when something is wrong.
    async fn wait_until_still(&mut self) -> bool {
        let until = self.sim.elapsed() + ENDS_WITHIN;
        loop {
            while self.tasks.try_join_next().is_some() {}
            self.audit().await;
            if self.sim.is_broken() {
                return false;
            }
            if self.tasks.is_empty() && self.sim.with(|state, _| state.witness.is_still()) {
                return true;
            }
            if self.sim.elapsed() > until {
                self.sim.with(|state, now| {
                    let open = state.witness.runs.values().map(|run| (run.number, run.status));
                    let what = format!("still open: {:?}", open.collect::<Vec<_>>());
                    state.violated(now, "L1", what);
                });
                return false;
            }
            clock::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Orders to what has ended: tear-downs, redrives, retries; sometimes in bad weather again.
    async fn second_act(&mut self) {
        let runs: Vec<(RunId, RunStatus)> = self.sim.with(|state, _| {
            state.witness.runs.iter().map(|(id, run)| (*id, run.status)).collect()
        });
        let rough = self.rng.chance(30);
        if rough {
            let weather = Weather { very_late: 0, ..Weather::draw(&mut self.rng) };
            self.sim.with(|state, _| state.weather = weather);
        }
        let mut ordered = false;
        for (run, status) in runs {
            if !self.rng.chance(50) {
                continue;
            }
            let client = self.client.clone();
            self.sim.say(|| format!("an order to {status:?}"));
            ordered = true;
            self.tasks.spawn(async move {
                for _ in 0..5 {
                    let by = By::default();
                    let done = match status {
                        RunStatus::Succeeded | RunStatus::PartlySucceeded => {
                            client.tear_down(&run, by).await
                        }
                        RunStatus::Parked => client.retry(&run, by).await,
                        _ => client.redrive(&run, by).await,
                    };
                    if done.is_ok() {
                        return;
                    }
                    clock::sleep(Duration::from_millis(300)).await;
                }
            });
        }
        if rough && ordered {
            clock::sleep(Duration::from_secs(20)).await;
        }
        self.sim.with(|state, _| state.weather = Weather::default());
    }

    /// Looks when all workers have stopped, and again when the watch has looked.
    async fn look_at_the_end(&mut self) {
        self.sim.with(|state, now| {
            let held: Vec<_> =
                state.witness.runs.values().filter(|run| run.lease.is_some()).collect();
            if let Some(run) = held.first() {
                let what = format!("run {} is leased after every worker has stopped", run.number);
                state.violated(now, "L6", what);
            }
        });
        clock::sleep(super::world::LATE).await;
        let strict = !self.sim.with(|state, _| state.breaks_promises);
        if strict {
            self.check_end().await;
        }
        clock::sleep(WATCHED).await;
        for _ in 0..5 {
            match self.client.watch_ledger(100).await {
                Ok(0) => break,
                Ok(_) | Err(_) => clock::sleep(Duration::from_secs(400)).await,
            }
        }
        self.check_end().await;
    }

    fn report(self, seed: u64) -> Report {
        let lasted = self.sim.elapsed();
        self.sim.with(|state, _| Report {
            seed,
            hash: state.trace.hash(),
            violations: state.violations.clone(),
            trace: std::mem::take(&mut state.trace.lines),
            ends: state.witness.runs.values().map(|r| r.status.as_str().to_owned()).collect(),
            calls: state.world.sent,
            lasted,
        })
    }
}
