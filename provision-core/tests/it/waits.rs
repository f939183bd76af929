//! Waiting: what it costs, what a restart leaves of it, and when it is over.

use std::time::Duration;

use provision_core::{
    Engine, MemoryStore, NothingToUndo, Outcome, Policy, RunStatus, Saga, SagaId, SignalId, Step,
    StepContext, StepError, WorkerConfig, clock::sleep, store::RunFilter,
};
use tokio::time::Instant;

use crate::{
    cloud::{Cloud, Fault, Thing},
    counting::Counting,
};

const SLOW: SagaId<String, String> = SagaId::new("slow", 1);

/// One resource that answers "not yet" so many times, ten seconds apart.
fn slow(cloud: &Cloud, polls: u32) -> Saga<String, String> {
    let thing = Thing::new(cloud).slow(polls);
    Saga::define(SLOW, |s| s.resource("b", thing).input((), |c: &String, ()| c.clone())).unwrap()
}

async fn engine(saga: Saga<String, String>) -> Engine {
    Engine::builder(MemoryStore::new()).register(saga).build().await.unwrap()
}

// covers: R1-69
#[tokio::test(start_paused = true)]
async fn what_is_ready_after_two_minutes_takes_thirteen_looks() {
    let cloud = Cloud::default();
    let engine = engine(slow(&cloud, 12)).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let began = Instant::now();
    let run = engine.start(SLOW, &"x".into()).await.unwrap();
    assert_eq!(run.output().await.unwrap(), "x@t-1");
    assert_eq!(cloud.0.lock().unwrap().polls["t-1"], 13);
    let waited = began.elapsed().as_secs();
    assert!((120..=125).contains(&waited), "{waited} s");
    worker.stop().await;
}

// covers: R1-69, R1-71
#[tokio::test(start_paused = true)]
async fn what_never_gets_ready_fails_by_its_name_and_the_time_waited() {
    let cloud = Cloud::default();
    let engine = engine(slow(&cloud, u32::MAX)).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let began = Instant::now();
    let run = engine.start(SLOW, &"x".into()).await.unwrap();
    let Outcome::RolledBack(Some(failure)) = run.outcome().await.unwrap() else { panic!() };
    assert_eq!((failure.path.as_str(), failure.code.as_str()), ("b", "not_ready"));
    let message = failure.message.unwrap();
    assert!(message.starts_with("cloud.thing t-1 was not ready after 6"), "{message}");
    assert!(began.elapsed() >= Duration::from_secs(600));
    assert!(began.elapsed() <= Duration::from_secs(660), "{:?}", began.elapsed());
    assert!(cloud.names().is_empty(), "what was waited for is undone");
    worker.stop().await;
}

// covers: R1-68
#[tokio::test(start_paused = true)]
async fn a_restart_leaves_the_deadline_where_it_was() {
    let cloud = Cloud::default();
    let engine = engine(slow(&cloud, u32::MAX)).await;
    let began = Instant::now();
    let run = engine.start(SLOW, &"x".into()).await.unwrap();
    for _ in 0..4 {
        let worker = engine.spawn_worker(WorkerConfig::default());
        sleep(Duration::from_secs(120)).await;
        worker.kill();
    }
    let worker = engine.spawn_worker(WorkerConfig::default());
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(Some(_))));
    assert!(began.elapsed() <= Duration::from_secs(690), "{:?}", began.elapsed());
    assert_eq!(cloud.calls("create x"), 1);
    worker.stop().await;
}

// covers: R1-68
#[tokio::test(start_paused = true)]
async fn a_thousand_waiting_runs_hold_no_slot_and_cost_a_bounded_number_of_calls() {
    const RUNS: usize = 1_000;
    let cloud = Cloud::default();
    let store = Counting::default();
    let engine = Engine::builder(store.clone()).register(slow(&cloud, 6)).build().await.unwrap();
    let mut runs = Vec::new();
    for n in 0..RUNS {
        runs.push(engine.start(SLOW, &format!("x{n}")).await.unwrap());
    }
    let worker = engine.spawn_worker(WorkerConfig::default().with_slots(4));
    let began = Instant::now();
    // Between two looks all of them wait, and nobody holds any of them.
    sleep(Duration::from_secs(5)).await;
    let waiting = RunFilter { status: vec![RunStatus::Waiting], limit: RUNS, ..Default::default() };
    let rows = engine.runs(&waiting).await.unwrap().runs;
    assert_eq!(rows.len(), RUNS);
    assert!(rows.iter().all(|row| row.owner.is_none()));
    store.taken();
    sleep(Duration::from_secs(30)).await;
    let polled = store.taken();
    assert!(polled <= RUNS * 3 * 4, "{polled} calls for three looks at each of {RUNS} runs");
    for run in &runs {
        assert!(matches!(run.outcome().await.unwrap(), Outcome::Succeeded(_)));
    }
    assert!(began.elapsed() < Duration::from_secs(90), "{:?}", began.elapsed());
    worker.stop().await;
}

// covers: R3-54
#[tokio::test(start_paused = true)]
async fn an_idle_engine_asks_its_store_rarely() {
    let store = Counting::default();
    let engine =
        Engine::builder(store.clone()).register(slow(&Cloud::default(), 1)).build().await.unwrap();
    sleep(Duration::from_secs(600)).await;
    store.taken();
    sleep(Duration::from_secs(600)).await;
    assert_eq!(store.taken(), 0, "without a worker nothing is asked");
    let worker = engine.spawn_worker(WorkerConfig::default().with_poll(Duration::from_secs(30)));
    sleep(Duration::from_secs(60)).await;
    store.taken();
    sleep(Duration::from_secs(600)).await;
    let calls = store.taken();
    // A renewal every five seconds, two calls for each poll, one look at the ledger a minute.
    assert!(calls <= 120 + 40 + 20 + 5, "{calls} calls in ten minutes");
    worker.stop().await;
}

// covers: R1-70
#[tokio::test(start_paused = true)]
async fn trouble_of_a_look_after_a_long_wait_begins_a_series_of_its_own() {
    let cloud = Cloud::default();
    let thing = Thing::new(&cloud).slow(120).ready_within(Duration::from_secs(7_200));
    let saga = Saga::define(SLOW, |s| s.resource("b", thing).input((), |c: &String, ()| c.clone()));
    let engine = engine(saga.unwrap()).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(SLOW, &"x".into()).await.unwrap();
    // Longer than all attempts of the policy may take together.
    sleep(Duration::from_secs(17 * 60)).await;
    cloud.fault("ready x", &[Fault::Before, Fault::Before]);
    assert_eq!(run.output().await.unwrap(), "x@t-1");
    worker.stop().await;
}

// covers: R1-69
#[tokio::test(start_paused = true)]
async fn the_wait_for_a_name_is_no_wait_for_readiness() {
    let cloud = Cloud::default();
    cloud.leave("x", 3);
    let engine = engine(slow(&cloud, 12)).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let began = Instant::now();
    let run = engine.start(SLOW, &"x".into()).await.unwrap();
    assert_eq!(run.output().await.unwrap(), "x@t-1");
    let waited = began.elapsed().as_secs();
    assert!((1_020..=1_060).contains(&waited), "three looks at the name, and twelve: {waited} s");
    worker.stop().await;
}

const GO: SignalId<()> = SignalId::new("go");

/// A call that takes ten minutes.
#[derive(Debug)]
struct Long;

impl Step for Long {
    const KIND: &'static str = "test.long";
    type Input = ();
    type Output = ();

    async fn run(&self, _: &StepContext, (): ()) -> Result<(), StepError> {
        sleep(Duration::from_secs(600)).await;
        Ok(())
    }
}

// covers: L4
#[tokio::test(start_paused = true)]
async fn a_wait_that_was_asked_for_is_not_shortened_by_what_the_row_knows_of_polls() {
    let cloud = Cloud::default();
    let thing = Thing::new(&cloud).slow(20);
    let saga = Saga::define(SLOW, |s| {
        let hour = |_: &String, ()| Duration::from_secs(3_600);
        let go = s.signal(GO).input((), hour);
        s.step("long", Long, NothingToUndo).after(go).input((), |_, ()| ());
        let asked = Policy::attempts(9).fixed(Duration::from_secs(300));
        s.resource("b", thing).retry(asked).input((), |c: &String, ()| c.clone())
    });
    let engine = engine(saga.unwrap()).await;
    let first = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(SLOW, &"x".into()).await.unwrap();
    // Its second look was given back with the run; then a long call keeps the run here.
    sleep(Duration::from_secs(15)).await;
    engine.signal(run.id(), GO, &()).await.unwrap();
    cloud.fault("ready x", &[Fault::Before]);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(engine.failures(run.id()).await.unwrap().len(), 1, "it waits for five minutes");
    first.kill();
    let second = engine.spawn_worker(WorkerConfig::default());
    let looks = || cloud.0.lock().unwrap().polls["t-1"];
    let before = looks();
    sleep(Duration::from_secs(200)).await;
    assert_eq!(looks(), before);
    sleep(Duration::from_secs(110)).await;
    assert!(looks() > before);
    second.stop().await;
}
