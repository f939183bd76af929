//! What happens to the workers.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use provision_core::{
    Engine, Error, RunHandle, RunId, RunStatus, clock::sleep, error::ErrorKind, store::RunHead,
};

use super::{DELIVER, Depot, Order, Process, Site, Times, engine, now, until};

/// How long anything may take that is not measured.
const LONG: Duration = Duration::from_secs(180);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

async fn start(engine: &Engine, order: Order) -> RunHandle<String> {
    engine.start(DELIVER, &order).await.unwrap()
}

/// How many of these runs somebody holds.
async fn held(engine: &Engine, runs: &[RunHandle<String>]) -> usize {
    let mut held = 0;
    for run in runs {
        held += usize::from(engine.run(run.id()).await.unwrap().owner.is_some());
    }
    held
}

/// Asks the store until it answers: a connection from before a fault may be the first to tell of it.
async fn answered<T>(mut ask: impl AsyncFnMut() -> Result<T, Error>) -> Result<T, Error> {
    let mut answer = None;
    until("the store answers", LONG, async || {
        let told = ask().await;
        let is_told = !told.as_ref().is_err_and(|error| error.kind() == ErrorKind::Store);
        answer = Some(told);
        is_told
    })
    .await;
    answer.unwrap()
}

async fn all_succeed(engine: &Engine, runs: &[RunHandle<String>]) {
    for run in runs {
        until("a run succeeds", LONG, async || {
            let status = answered(async || engine.run(run.id()).await).await.unwrap().status;
            assert!(status.is_moving() || status == RunStatus::Succeeded, "{status:?}");
            status == RunStatus::Succeeded
        })
        .await;
    }
}

fn each_once(depot: &Depot, orders: usize) {
    let boxes = depot.boxes();
    assert_eq!(boxes.len(), orders, "{boxes:?}");
    assert!(boxes.values().all(|count| *count == 1), "{boxes:?}");
}

/// L6: a worker that gets SIGTERM lets go of what has no call open within a second, of a call that
/// ends in time when it has ended, of the rest at the hard deadline; and others go on without
/// waiting for its leases.
pub async fn a_stopping_worker_hands_over<S: Site>(site: &S, folder: &Path) {
    let lease = Duration::from_secs(240);
    Times { lease, poll: ms(200), grace: GRACE }.write(folder);
    let (depot, engine) = (Depot::at(folder), engine(site.store().await, folder).await);
    let mut worker = Process::start(site, folder);
    let (runs, idle) = busy(&engine, &depot).await;
    worker.signal("TERM");
    lets_go_of(&engine, &idle, &runs).await;
    assert!(worker.ended(LONG).await.success());
    assert!(depot.boxes().contains_key("brief"), "its call was not cut");
    assert_eq!(held(&engine, &runs).await, 0, "no lease is left behind");
    let cut = engine.failures(runs[1].id()).await.unwrap();
    assert_eq!(cut.len(), 1, "the open call was cut at the deadline: {cut:?}");
    let taken = now();
    let next = Process::start(site, folder);
    all_succeed(&engine, &runs).await;
    all_succeed(&engine, &idle).await;
    assert!(now().since(taken) < lease / 2, "nobody waited for a lease");
    each_once(&depot, 10);
    drop(next);
}

/// A run whose call ends soon, one whose call does not, and some that are just begun.
async fn busy(engine: &Engine, depot: &Depot) -> ([RunHandle<String>; 2], Vec<RunHandle<String>>) {
    let brief = start(engine, Order::unanswered("brief", ms(4_000))).await;
    let long = start(engine, Order::late("long", ms(25_000))).await;
    until("both calls are open", LONG, async || depot.is_held("brief") && depot.is_held("long"))
        .await;
    let mut idle = Vec::new();
    for number in 0..8 {
        idle.push(start(engine, Order::prompt(format!("idle-{number}"))).await);
    }
    ([brief, long], idle)
}

/// How soon a worker that stops lets go of what has no call open. Three times as long is allowed to
/// a machine that is busy with other tests; the grace of its calls is longer.
const RELEASE: Duration = Duration::from_secs(1);
/// How long its open calls are waited for.
const GRACE: Duration = Duration::from_secs(8);

/// First of what has no call open, then of the call that ends in time, and of the one that would go
/// on for long at the hard deadline.
async fn lets_go_of(engine: &Engine, idle: &[RunHandle<String>], open: &[RunHandle<String>; 2]) {
    let told = now();
    let is_free = async || held(engine, idle).await == 0;
    let free = until("what has no call is free", LONG, is_free).await;
    assert!(free < RELEASE * 3, "{free:?}");
    until("what ends in time is free", LONG, async || held(engine, &open[..1]).await == 0).await;
    until("what is cut is free", LONG, async || held(engine, open).await == 0).await;
    let cut = now().since(told);
    assert!(cut < GRACE * 2, "{cut:?}");
}

/// S6, S11: a worker that stands still past its lease inside of two creates, one of which the
/// provider has carried out, makes nothing twice when it goes on.
pub async fn a_frozen_worker_makes_nothing_twice<S: Site>(site: &S, folder: &Path) {
    Times { lease: ms(3_000), poll: ms(100), grace: ms(1_000) }.write(folder);
    let (depot, engine) = (Depot::at(folder), engine(site.store().await, folder).await);
    let mut frozen = Process::start(site, folder);
    let made = start(&engine, Order::unanswered("made", ms(6_000))).await;
    let unmade = start(&engine, Order::late("unmade", ms(6_000))).await;
    let open = async || depot.boxes().contains_key("made") && depot.is_held("unmade");
    until("both calls are open", LONG, open).await;
    frozen.signal("STOP");
    let mut other = Process::start(site, folder);
    let runs = [made, unmade];
    all_succeed(&engine, &runs).await;
    each_once(&depot, 2);
    let epochs = async || {
        let mut epochs = Vec::new();
        for run in &runs {
            let head = engine.run(run.id()).await.unwrap();
            epochs.push((head.epoch, head.seq));
        }
        epochs
    };
    let before = epochs().await;
    frozen.signal("CONT");
    // Longer than its calls would have taken.
    sleep(ms(7_000)).await;
    each_once(&depot, 2);
    assert_eq!(epochs().await, before, "its late writes were refused");
    let log = depot.log();
    let creates = log.iter().filter(|(word, ..)| word == "create").count();
    assert_eq!(creates, 2, "it has sent nothing since: {log:?}");
    for process in [&mut frozen, &mut other] {
        process.signal("TERM");
        assert!(process.ended(LONG).await.success());
    }
}

/// L2: the runs of a worker that gets SIGKILL are taken over by another one. Answers how long each
/// of them took, from the kill to its next call, sorted.
pub async fn a_killed_workers_runs_are_taken_over<S: Site>(
    site: &S,
    folder: &Path,
    (lease, poll): (Duration, Duration),
    kills: usize,
) -> Vec<Duration> {
    const RUNS: usize = 8;
    let times = Times { lease, poll, grace: ms(1_000) };
    times.write(folder);
    let (depot, engine) = (Depot::at(folder), engine(site.store().await, folder).await);
    let mut taken = Vec::new();
    for kill in 0..kills {
        let mut dying = Process::start(site, folder);
        let names: Vec<_> = (0..RUNS).map(|run| format!("{kill}-{run}")).collect();
        let mut runs = Vec::new();
        for name in &names {
            runs.push(start(&engine, Order::late(name, ms(25_000))).await);
        }
        let open = async || names.iter().all(|name| depot.is_held(name));
        until("all calls are open", LONG, open).await;
        let survivor = engine.spawn_worker(times.config());
        // At any time of its lease's life.
        let seed = u32::try_from(kill).unwrap() * 7 % 5;
        sleep(ms(200) + lease * seed / 10).await;
        let killed = now();
        dying.0.kill().unwrap();
        dying.0.wait().unwrap();
        all_succeed(&engine, &runs).await;
        survivor.stop().await;
        let log = depot.log();
        // One that was taken over before, from a worker that stood still, is no case of this.
        taken.extend(names.iter().filter_map(|name| {
            let mut looks = log.iter().filter(|(word, of, _)| word == "find" && of == name);
            looks.find(|(.., at)| *at >= killed).map(|(.., at)| at.since(killed))
        }));
    }
    assert!(taken.len() * 2 > kills * RUNS, "{} were taken over", taken.len());
    each_once(&depot, kills * RUNS);
    taken.sort_unstable();
    taken
}

/// How many workers are killed.
const KILLS: usize = 6;
/// What is allowed beyond lease and poll: half a second is promised of a machine that is not busy
/// with other tests, which let it stall for seconds.
const SLACK: Duration = Duration::from_secs(5);

/// The same, with a bound: lease, poll and a while. Answers the median and the longest.
pub async fn check_takeovers<S: Site>(
    site: &S,
    folder: &Path,
    times: (Duration, Duration),
) -> (Duration, Duration) {
    let taken = a_killed_workers_runs_are_taken_over(site, folder, times, KILLS).await;
    let longest = taken[taken.len() - 1];
    assert!(longest < times.0 + times.1 + SLACK, "{taken:?}");
    (taken[taken.len() / 2], longest)
}

/// The workers of a scene, while faults go on around them.
#[derive(Debug)]
pub struct Crew<'a, S: Site> {
    site: &'a S,
    folder: &'a Path,
    workers: Vec<Process>,
}

impl<S: Site> Crew<'_, S> {
    /// One worker gets SIGKILL, and another one starts in its place.
    pub fn replace_one(&mut self) {
        drop(self.workers.remove(0));
        self.workers.push(Process::start(self.site, self.folder));
    }

    /// One worker stands still for so long.
    pub async fn freeze_one(&mut self, time: Duration) {
        self.workers[0].signal("STOP");
        sleep(time).await;
        self.workers[0].signal("CONT");
    }
}

/// How long the last run may take after the last fault: a minute, and three where other tests run.
const HEALED_MAX: Duration = Duration::from_secs(180);

/// Two workers drive runs that are started one after the other: so many at least, and until `faults`
/// is over. Answers what was ordered, with the runs: every start is repeated until it is answered.
async fn driven<S: Site>(
    (site, folder, engine): (&S, &Path, &Engine),
    runs: usize,
    faults: impl AsyncFnOnce(&mut Crew<'_, S>),
) -> (Vec<(Order, RunHandle<String>)>, Vec<Process>) {
    let workers = (0..2).map(|_| Process::start(site, folder)).collect();
    let mut crew = Crew { site, folder, workers };
    let is_over = AtomicBool::new(false);
    let starts = async {
        let mut started = Vec::new();
        while started.len() < runs || !is_over.load(Relaxed) {
            let order = Order::late(format!("order-{}", started.len()), ms(30));
            let run = keyed(engine, &order).await;
            started.push((order, run));
            sleep(ms(15)).await;
        }
        started
    };
    let faults = async {
        faults(&mut crew).await;
        is_over.store(true, Relaxed);
    };
    let (started, ()) = tokio::join!(starts, faults);
    (started, crew.workers)
}

/// Starts a run by the name of its order, until the store has answered.
async fn keyed(engine: &Engine, order: &Order) -> RunHandle<String> {
    let start = answered(async || engine.start(DELIVER, order).key(&order.name).await);
    start.await.unwrap()
}

/// The times of workers around which faults go on.
fn write_short_times(folder: &Path) {
    Times { lease: ms(2_000), poll: ms(200), grace: ms(1_000) }.write(folder);
}

/// S18, S19, L1: two workers drive runs, so many at least, which are started one after the other
/// while `faults` goes on. Whatever it does to the store and the workers: every run succeeds within
/// minutes of its end, each makes one thing, and no trouble of the store is counted as an attempt.
/// Answers how many runs there were, and how long the last one took after the last fault.
pub async fn everything_ends_well<S: Site>(
    site: &S,
    folder: &Path,
    runs: usize,
    faults: impl AsyncFnOnce(&mut Crew<'_, S>),
) -> (usize, Duration) {
    write_short_times(folder);
    let (depot, engine) = (Depot::at(folder), engine(site.store().await, folder).await);
    let (started, workers) = driven((site, folder, &engine), runs, faults).await;
    let healed = now();
    let started: Vec<_> = started.into_iter().map(|(_, run)| run).collect();
    all_succeed(&engine, &started).await;
    let took = now().since(healed);
    assert!(took < HEALED_MAX, "{took:?}");
    each_once(&depot, started.len());
    for run in &started {
        no_trouble_of_the_store_is_counted(&engine, run).await;
    }
    drop(workers);
    (started.len(), took)
}

async fn no_trouble_of_the_store_is_counted(engine: &Engine, run: &RunHandle<String>) {
    for attempt in engine.failures(run.id()).await.unwrap() {
        let code = attempt.failure.code.to_string();
        assert!(!code.starts_with("postgres_") && !code.starts_with("redis_"), "{attempt:?}");
    }
}

/// What a store has lost of what it had answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forgotten {
    /// Runs that were ordered.
    pub of: usize,
    /// Runs that it does not know any more.
    pub runs: usize,
    /// Things that were made for them.
    pub boxes: usize,
}

/// S5, S11, L1: as [`everything_ends_well`], on a store that loses in `faults` what it had answered.
/// Every run that it still knows succeeds and has made one thing; one that it has forgotten is
/// started anew by its host, as another run. What was made for the forgotten ones is taken for
/// nothing else, and a sweep tells of all of it.
pub async fn what_is_forgotten_is_told_and_mixed_up_with_nothing<S: Site>(
    site: &S,
    folder: &Path,
    runs: usize,
    faults: impl AsyncFnOnce(&mut Crew<'_, S>),
) -> Forgotten {
    write_short_times(folder);
    let (depot, engine) = (Depot::at(folder), engine(site.store().await, folder).await);
    let (started, workers) = driven((site, folder, &engine), runs, faults).await;
    let (mut known, mut lost) = (Vec::new(), 0);
    for (order, run) in started {
        if is_known(&engine, run.id()).await {
            known.push(run);
            continue;
        }
        let again = keyed(&engine, &order).await;
        assert_ne!(again.id(), run.id());
        known.push(again);
        lost += 1;
    }
    all_succeed(&engine, &known).await;
    let mut made = depot.by_run();
    for run in &known {
        assert_eq!(made.remove(run.id()), Some(1), "run {} has made one thing", run.id());
    }
    let strays = strays(&engine, known.len()).await;
    assert!(made.keys().eq(&strays), "the sweep tells of all of {made:?}: {strays:?}");
    drop(workers);
    Forgotten { of: known.len(), runs: lost, boxes: made.into_values().sum() }
}

async fn is_known(engine: &Engine, run: &RunId) -> bool {
    match answered(async || engine.run(run).await).await {
        Ok(RunHead { id, .. }) => id == *run,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            false
        }
    }
}

/// The runs of what a sweep finds that nothing wants, beside so many things that are wanted.
async fn strays(engine: &Engine, wanted: usize) -> BTreeSet<RunId> {
    let report = engine.sweep(false).await.unwrap();
    assert_eq!((report.wanted, report.missing.len()), (wanted, 0), "{report:?}");
    assert!(report.failures.is_empty(), "{report:?}");
    report.strays.iter().map(|stray| stray.run.unwrap()).collect()
}
