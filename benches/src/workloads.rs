//! W1 (seven steps), W4 (fail at the seventh, undo six), on memory and SQLite.

use std::time::{Duration, Instant};

use provision_core::{Engine, MemoryStore, Outcome, WorkerConfig, engine::Backend, saga::SagaId};
use provision_store_sqlite::SqliteStore;

use crate::{
    measure::Watch,
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

pub(crate) async fn w1(name: &str, engine: &Engine, runs: usize, in_flight: usize) -> f64 {
    let worker = engine.spawn_worker(roomy(in_flight));
    drive(engine, SEVEN, runs / 10, in_flight).await;
    let watch = Watch::start();
    let times = drive(engine, SEVEN, runs, in_flight).await;
    let rate = watch.stop(&format!("{name} W1"), in_flight, runs as u64 * 7, times).print();
    worker.stop().await;
    rate
}

pub(crate) async fn w4(name: &str, engine: &Engine, runs: usize, in_flight: usize) -> f64 {
    let worker = engine.spawn_worker(roomy(in_flight));
    drive(engine, FAILING, runs / 10, in_flight).await;
    let watch = Watch::start();
    let times = drive(engine, FAILING, runs, in_flight).await;
    let rate = watch.stop(&format!("{name} W4"), in_flight, runs as u64 * 13, times).print();
    worker.stop().await;
    rate
}

pub(crate) async fn memory(runs: usize) {
    for in_flight in [1, 32, 256] {
        let engine = engine(MemoryStore::new()).await;
        w1("memory", &engine, runs, in_flight).await;
        w4("memory", &engine, runs, in_flight).await;
    }
}

pub(crate) async fn sqlite(runs: usize) {
    let dir = tempfile::tempdir().expect("a folder");
    for (in_flight, runs) in [(1, runs / 4), (32, runs), (256, runs * 2)] {
        let path = dir.path().join(format!("w{in_flight}.db"));
        let store = SqliteStore::open(&path).await.expect("a store");
        let engine = engine(store.clone()).await;
        let raw = |when| {
            let path = dir.path().join(format!("raw_{when}_{in_flight}.db"));
            let rate = raw::one_row_per_commit(&path);
            println!("| sqlite, one row per commit, {when} | 1 | {rate:.0} | | | | |");
            rate
        };
        // A disk that is shared is not the same from minute to minute.
        let before = raw("just before");
        let rate = w1("sqlite", &engine, runs, in_flight).await;
        let limit = 2.0 / (before.recip() + raw("just after").recip());
        println!("| sqlite W1 / one per commit | {in_flight} | {:.2} x | | | | |", rate / limit);
        let done = store.counters();
        let steps = (runs + runs / 10) as f64 * 7.0;
        println!(
            "| sqlite W1: {:.2} commits, {:.1} statements, {:.2} appends per step | {in_flight} | | | | | |",
            done.commits as f64 / steps,
            done.statements as f64 / steps,
            done.appends as f64 / steps,
        );
        let undone = w4("sqlite", &engine, runs, in_flight).await;
        println!("| sqlite W4 / W1 | {in_flight} | {:.2} x | | | | |", undone / rate);
    }
}

/// A client hears of an end a moment before its slot is free: with room for more, the next start is
/// begun where it was made, and does not wait for a claim.
fn roomy(in_flight: usize) -> WorkerConfig {
    WorkerConfig::default().with_slots(in_flight.saturating_mul(2))
}
