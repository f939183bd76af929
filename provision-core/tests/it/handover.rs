//! Runs on their way to a worker: answers that are lost or overtaken stop nobody.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use provision_core::{
    Engine, NothingToUndo, Saga, SagaId, Step, StepContext, StepError, Worker, WorkerConfig,
    clock::{sleep, within},
    store::Incarnation,
};
use tokio::{task::JoinSet, time::Instant};
use uuid::Uuid;

use crate::counting::{Counting, Road};

const TAKES: SagaId<u64, u32> = SagaId::new("takes", 1);

/// Takes as many seconds as its input says.
#[derive(Debug, Clone, Default)]
struct Takes(Arc<AtomicU32>);

impl Step for Takes {
    const KIND: &'static str = "test.takes";
    type Input = u64;
    type Output = u32;

    async fn run(&self, _: &StepContext, seconds: u64) -> Result<u32, StepError> {
        let begun = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        sleep(Duration::from_secs(seconds)).await;
        Ok(begun)
    }
}

async fn place() -> (Counting, Engine, Worker) {
    let (store, takes) = (Counting::default(), Takes::default());
    let saga = Saga::define(TAKES, |s| s.step("take", takes, NothingToUndo).input((), |n, ()| *n));
    let engine = Engine::builder(store.clone()).register(saga.unwrap()).build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    (store, engine, worker)
}

// covers: L2, L3
#[tokio::test(start_paused = true)]
async fn a_start_that_is_dropped_while_it_is_answered_stops_no_worker() {
    let (store, engine, worker) = place().await;
    let long = engine.start(TAKES, &800).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    store.set("submit", Road::Slow(Duration::from_millis(50)));
    let start = engine.start(TAKES, &1).key("dropped").into_future();
    assert!(within(Duration::from_millis(20), start).await.is_none(), "its caller is gone");
    store.set("submit", Road::Open);
    let dropped = Instant::now();
    for _ in 0..15 {
        sleep(Duration::from_secs(1)).await;
        let began = Instant::now();
        engine.start(TAKES, &1).await.unwrap().output().await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(2), "starts go on: {:?}", began.elapsed());
    }
    // It is the same run, and the worker found it by itself.
    let run = engine.start(TAKES, &1).key("dropped").await.unwrap();
    assert!(!run.is_new());
    run.output().await.unwrap();
    assert!(dropped.elapsed() < Duration::from_secs(35), "{:?}", dropped.elapsed());
    assert_eq!(engine.run(run.id()).await.unwrap().deaths, 0);
    let began = engine.run(long.id()).await.unwrap();
    assert_eq!((began.epoch, began.deaths), (1, 0), "the long call was not disturbed");
    worker.stop().await;
}

// covers: S5, S6
#[tokio::test(start_paused = true)]
async fn a_start_that_is_answered_when_others_have_had_its_run_begins_nothing() {
    for late in [2, 4, 6, 11, 16, 20, 31] {
        let (store, takes) = (Counting::default(), Takes::default());
        let step = takes.clone();
        let saga =
            Saga::define(TAKES, |s| s.step("take", step, NothingToUndo).input((), |n, ()| *n));
        let builder = Engine::builder(store.clone()).register(saga.unwrap());
        let engine = builder.build().await.unwrap();
        let worker = engine.spawn_worker(WorkerConfig::default());
        sleep(Duration::from_secs(2)).await;
        store.set("submit", Road::Slow(Duration::from_secs(late)));
        let run = engine.start(TAKES, &1).await.unwrap();
        assert_eq!(run.output().await.unwrap(), 1, "answered after {late} s");
        sleep(Duration::from_secs(60)).await;
        assert_eq!(takes.0.load(Ordering::SeqCst), 1, "called once, answered after {late} s");
        worker.stop().await;
    }
}

// covers: S6, L1
#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_a_claim_overtakes_tells_nobody_that_a_lease_is_lost() {
    let (store, engine, worker) = place().await;
    // The heartbeat goes out at 5 s; what is leased before its answer is not in it.
    store.set("renew", Road::Slow(Duration::from_millis(50)));
    sleep(Duration::from_millis(5_020)).await;
    let run = engine.start(TAKES, &3).await.unwrap();
    assert_eq!(run.output().await.unwrap(), 1, "the call was not cut");
    assert!(engine.failures(run.id()).await.unwrap().is_empty());
    worker.stop().await;
}

// covers: L2
#[tokio::test(start_paused = true)]
async fn a_host_that_drives_runs_one_at_a_time_is_one_worker() {
    let (store, engine, worker) = place().await;
    worker.stop().await;
    let before = store.workers();
    for _ in 0..5 {
        let run = engine.start(TAKES, &20).await.unwrap();
        assert_eq!(engine.run_one().await.unwrap(), Some(*run.id()));
        assert_eq!(engine.run_one().await.unwrap(), None);
    }
    assert_eq!(store.workers(), before + 1);
    // Its lease lapses, and somebody says so.
    sleep(Duration::from_secs(100)).await;
    store.retire_by_hand(Incarnation(Uuid::from_u128(9))).await;
    let run = engine.start(TAKES, &1).await.unwrap();
    assert_eq!(engine.run_one().await.unwrap(), Some(*run.id()));
    assert_eq!(store.workers(), before + 2);
    // A call that is dropped is a crash: it keeps no lease alive, whatever else is driven.
    let run = engine.start(TAKES, &60).await.unwrap();
    assert!(within(Duration::from_secs(1), Box::pin(engine.run_one())).await.is_none());
    let dropped = Instant::now();
    while engine.run_one().await.unwrap() != Some(*run.id()) {
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(engine.run(run.id()).await.unwrap().deaths, 0, "settled since");
    let taken = dropped.elapsed() - Duration::from_secs(60);
    assert!(taken < Duration::from_secs(20), "{taken:?}");
}

// covers: L2
#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_keeps_no_run_from_others_while_another_call_goes_on() {
    let (_store, engine, worker) = place().await;
    worker.stop().await;
    let long = engine.start(TAKES, &600).await.unwrap();
    let (other, mut driving) = (engine.clone(), JoinSet::new());
    driving.spawn(async move { other.run_one().await.unwrap() });
    sleep(Duration::from_secs(1)).await;
    let run = engine.start(TAKES, &60).await.unwrap();
    assert!(within(Duration::from_secs(1), Box::pin(engine.run_one())).await.is_none());
    let dropped = Instant::now();
    while engine.run_one().await.unwrap() != Some(*run.id()) {
        sleep(Duration::from_secs(1)).await;
    }
    let taken = dropped.elapsed() - Duration::from_secs(60);
    assert!(taken < Duration::from_secs(35), "{taken:?}");
    assert_eq!(driving.join_next().await.unwrap().unwrap(), Some(*long.id()));
    let long = engine.run(long.id()).await.unwrap();
    assert_eq!((long.epoch, long.deaths), (1, 0), "the other call was not disturbed");
}

// covers: L2
#[tokio::test(start_paused = true)]
async fn a_proven_death_frees_its_runs_at_once_and_its_file_goes() {
    let dir = std::env::temp_dir().join(format!("provision-handover-{}", Uuid::now_v7()));
    std::fs::create_dir_all(&dir).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let (store, takes) = (Counting::default(), Takes::default());
    let saga = Saga::define(TAKES, |s| s.step("take", takes, NothingToUndo).input((), |n, ()| *n));
    let saga = saga.unwrap();
    let engine = Engine::builder(store.clone()).register(saga.clone()).build().await.unwrap();
    let run = engine.start(TAKES, &1).await.unwrap();
    let dead = store.lease_by_hand(&saga).await.fence.owner;
    let (unknown, elsewhere) = (Uuid::from_u128(11), Uuid::from_u128(12));
    for (name, boot) in [(dead.0, boot.trim()), (unknown, boot.trim()), (elsewhere, "another boot")]
    {
        std::fs::write(dir.join(format!("{name}.alive")), boot).unwrap();
    }
    let worker = engine.spawn_worker(WorkerConfig::default().with_lock_dir(&dir));
    let began = Instant::now();
    run.output().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let left = || std::fs::read_dir(&dir).unwrap().count();
    assert_eq!(left(), 1, "the worker's own file");
    worker.stop().await;
    assert_eq!(left(), 0);
    std::fs::remove_dir_all(&dir).unwrap();
}
