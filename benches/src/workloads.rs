//! W1 (seven steps), W4 (fail at the seventh, undo six), on memory and SQLite.

use std::time::{Duration, Instant};

use provision_core::{Engine, MemoryStore, Outcome, WorkerConfig, engine::Backend, saga::SagaId};
use provision_store_sqlite::SqliteStore;

use crate::{
    measure::{Goal, Measured, Watch, check_journals},
    raw,
    saga::{FAILING, SEVEN, seven},
};

pub(crate) async fn engine(store: impl Backend) -> Engine {
    Engine::builder(store)
        .register(seven(SEVEN, false))
        .register(seven(FAILING, true))
        .build()
        .await
        .expect("an engine")
}

/// Starts `runs` runs, `in_flight` at a time, and waits for all of them.
async fn drive(
    engine: &Engine,
    id: SagaId<u64, u64>,
    runs: usize,
    in_flight: usize,
) -> Vec<Duration> {
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..in_flight {
        let engine = engine.clone();
        tasks.spawn(async move {
            let mut times = Vec::new();
            for n in (lane..runs).step_by(in_flight) {
                let began = Instant::now();
                let run = engine.start(id, &(n as u64)).await.expect("a start");
                match run.outcome().await.expect("an outcome") {
                    Outcome::Succeeded(out) => assert_eq!(out, n as u64 + 7),
                    Outcome::RolledBack(_) => assert_eq!(id.name(), FAILING.name()),
                    other => panic!("{other:?}"),
                }
                times.push(began.elapsed());
            }
            times
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

/// Actions of `runs` runs, and of the tenth of them that goes before: all that journals must hold.
pub(crate) fn with_warm_up(runs: usize) -> usize {
    runs + runs / 10
}

/// Steps of a run of W1, and actions of one of W4: six steps, and six undone; the refused one is no
/// success.
const STEPS: usize = 7;
const DONE_AND_UNDONE: usize = 12;

async fn measured(
    name: &str,
    engine: &Engine,
    id: SagaId<u64, u64>,
    runs: usize,
    in_flight: usize,
) -> Measured {
    let worker = engine.spawn_worker(roomy(in_flight));
    drive(engine, id, runs / 10, in_flight).await;
    let watch = Watch::start();
    let times = drive(engine, id, runs, in_flight).await;
    let actions = if id.name() == SEVEN.name() { STEPS } else { DONE_AND_UNDONE + 1 };
    let mut done = watch.stop(name, in_flight, (runs * actions) as u64, times);
    worker.stop().await;
    done.print();
    done
}

pub(crate) async fn w1(name: &str, engine: &Engine, runs: usize, in_flight: usize) -> Measured {
    measured(&format!("{name} W1"), engine, SEVEN, runs, in_flight).await
}

pub(crate) async fn w4(name: &str, engine: &Engine, runs: usize, in_flight: usize) -> Measured {
    measured(&format!("{name} W4"), engine, FAILING, runs, in_flight).await
}

/// W1 so many times, and then W4, were all that this store has seen.
pub(crate) async fn check(store: &impl Backend, runs: usize, rounds: usize) {
    check_journals(store, with_warm_up(runs) * (rounds * STEPS + DONE_AND_UNDONE)).await;
}

/// What an undone run costs beside one that succeeds, action by action; `done` is the rate of W1.
pub(crate) fn compare(name: &str, in_flight: usize, done: f64, undone: &Measured) {
    let ratio = undone.per_second() / done;
    println!("| {name} W4 / W1 | {in_flight} | {ratio:.2} x | | | | |");
    Goal::AtLeast(0.85).judge(&format!("{name} W4 / W1, {in_flight} in flight"), ratio);
}

pub(crate) async fn memory(runs: usize) -> f64 {
    let mut at_32 = 0.0;
    for in_flight in [1, 32, 256] {
        let store = MemoryStore::new();
        let engine = engine(store.clone()).await;
        let done = w1("memory", &engine, runs, in_flight).await;
        let undone = w4("memory", &engine, runs, in_flight).await;
        compare("memory", in_flight, done.per_second(), &undone);
        check(&store, runs, 1).await;
        if in_flight == 32 {
            at_32 = done.per_second();
        }
    }
    at_32
}

/// The middle one of an odd number of ratios: rates of a shared machine change from minute to minute.
pub(crate) fn middle(mut ratios: Vec<f64>) -> f64 {
    ratios.sort_unstable_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

/// A rate beside those that were measured just before it and just after it.
pub(crate) fn beside(rate: f64, before: f64, after: f64) -> f64 {
    rate * f64::midpoint(before.recip(), after.recip())
}

/// How often W1 is measured between two raw limits.
pub(crate) const ROUNDS: usize = 5;

pub(crate) async fn sqlite(runs: usize) {
    let dir = tempfile::tempdir().expect("a folder");
    for (in_flight, runs) in [(1, runs / 4), (32, runs), (256, runs * 2)] {
        let path = dir.path().join(format!("w{in_flight}.db"));
        let store = SqliteStore::open(&path).await.expect("a store");
        let engine = engine(store.clone()).await;
        let raw = |round: usize| {
            let path = dir.path().join(format!("raw_{in_flight}_{round}.db"));
            let rate = raw::one_row_per_commit(&path);
            println!("| sqlite, one row per commit | 1 | {rate:.0} | | | | |");
            rate
        };
        let (mut before, mut ratios, mut rates) = (raw(0), Vec::new(), Vec::new());
        for round in 1..=ROUNDS {
            let rate = w1("sqlite", &engine, runs, in_flight).await.per_second();
            let after = raw(round);
            ratios.push(beside(rate, before, after));
            rates.push(rate);
            before = after;
        }
        let ratio = middle(ratios);
        println!(
            "| sqlite W1 / one per commit, middle of {ROUNDS} | {in_flight} | {ratio:.2} x | | | | |"
        );
        let goal = match in_flight {
            1 => Some(0.6),
            32 => Some(4.0),
            _ => None,
        };
        if let Some(floor) = goal {
            let what = format!("sqlite W1 / one per commit, {in_flight} in flight");
            Goal::AtLeast(floor).judge(&what, ratio);
        }
        let counted = store.counters();
        let steps = (ROUNDS * with_warm_up(runs) * STEPS) as f64;
        println!(
            "| sqlite W1: {:.2} commits, {:.1} statements, {:.2} appends per step | {in_flight} | | | | | |",
            counted.commits as f64 / steps,
            counted.statements as f64 / steps,
            counted.appends as f64 / steps,
        );
        let undone = w4("sqlite", &engine, runs, in_flight).await;
        compare("sqlite", in_flight, middle(rates), &undone);
        check(&store, runs, ROUNDS).await;
    }
}

/// A client hears of an end a moment before its slot is free: with room for more, the next start is
/// begun where it was made, and does not wait for a claim.
fn roomy(in_flight: usize) -> WorkerConfig {
    WorkerConfig::default().with_slots(in_flight.saturating_mul(2))
}
