//! What happens to the workers.

use std::{path::Path, time::Duration};

use provision_core::{Engine, RunHandle, RunStatus, clock::sleep};

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

async fn all_succeed(engine: &Engine, runs: &[RunHandle<String>]) {
    for run in runs {
        until("a run succeeds", LONG, async || {
            let status = engine.run(run.id()).await.unwrap().status;
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
    Times { lease, poll: ms(200), grace: ms(8_000) }.write(folder);
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

/// First of what has no call open, then of the call that ends in time.
async fn lets_go_of(engine: &Engine, idle: &[RunHandle<String>], open: &[RunHandle<String>; 2]) {
    let is_free = async || held(engine, idle).await == 0;
    let free = until("what has no call is free", LONG, is_free).await;
    assert!(free < RELEASE * 3, "{free:?}");
    until("what ends in time is free", LONG, async || held(engine, &open[..1]).await == 0).await;
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

/// S18, S19, L1: two workers drive so many runs, which are started one after the other, while
/// `faults` goes on. Whatever it does to the store and the workers: every run succeeds within
/// minutes of its end, each makes one thing, and no trouble of the store is counted as an attempt.
/// Answers how long the last run took after the last fault.
pub async fn everything_ends_well<S: Site>(
    site: &S,
    folder: &Path,
    runs: usize,
    faults: impl AsyncFnOnce(&mut Crew<'_, S>),
) -> Duration {
    Times { lease: ms(2_000), poll: ms(200), grace: ms(1_000) }.write(folder);
    let (depot, engine) = (Depot::at(folder), engine(site.store().await, folder).await);
    let workers = (0..2).map(|_| Process::start(site, folder)).collect();
    let mut crew = Crew { site, folder, workers };
    let starts = async {
        let mut started = Vec::new();
        for number in 0..runs {
            let order = Order::late(format!("order-{number}"), ms(30));
            until("a start is answered", LONG, async || {
                let start = engine.start(DELIVER, &order).key(&order.name);
                start.await.map(|run| started.push(run)).is_ok()
            })
            .await;
            sleep(ms(15)).await;
        }
        started
    };
    let (started, ()) = tokio::join!(starts, faults(&mut crew));
    let healed = now();
    all_succeed(&engine, &started).await;
    let took = now().since(healed);
    assert!(took < HEALED_MAX, "{took:?}");
    each_once(&depot, runs);
    for run in &started {
        no_trouble_of_the_store_is_counted(&engine, run).await;
    }
    took
}

async fn no_trouble_of_the_store_is_counted(engine: &Engine, run: &RunHandle<String>) {
    for attempt in engine.failures(run.id()).await.unwrap() {
        let code = attempt.failure.code.to_string();
        assert!(!code.starts_with("postgres_") && !code.starts_with("redis_"), "{attempt:?}");
    }
}
