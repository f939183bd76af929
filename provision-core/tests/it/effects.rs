//! What is sent, when, and how often: looks before creates, keys, adopted things, and nothing
//! that is not stored first.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use provision_core::{
    AdoptPolicy, By, Engine, LedgerQuery, MemoryStore, NothingToUndo, Origin, Outcome,
    ResourceState, Saga, SagaId, Step, StepContext, StepError, WorkerConfig,
    clock::sleep,
    store::{RunFilter, StateStore},
};
use tokio::time::Instant;

use crate::cloud::{Cloud, Do, Fault, Thing, UndoIt};

const MAKE: SagaId<String, String> = SagaId::new("make", 1);

/// A resource, and a step after it.
fn make(cloud: &Cloud, adopt: AdoptPolicy) -> Saga<String, String> {
    Saga::define(MAKE, |s| {
        let b =
            s.resource("b", Thing::new(cloud)).adopt(adopt).input((), |c: &String, ()| c.clone());
        s.step("c", Do(cloud.clone()), UndoIt(cloud.clone())).input(b, |_, _| "c".into())
    })
    .unwrap()
}

async fn engine(saga: Saga<String, String>) -> Engine {
    Engine::builder(MemoryStore::new()).register(saga).build().await.unwrap()
}

// covers: R1-10, R1-56
#[tokio::test(start_paused = true)]
async fn a_look_comes_first_and_what_is_there_is_not_made_again() {
    let cloud = Cloud::default();
    cloud.fault("create x", &[Fault::Before, Fault::After]);
    let engine = engine(make(&cloud, AdoptPolicy::Refuse)).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    engine.start(MAKE, &"x".into()).key("k").await.unwrap().output().await.unwrap();
    let asked = cloud.asked();
    assert_eq!(asked, ["find x", "create x", "find x", "create x", "find x", "do c"]);
    let again = engine.start(MAKE, &"x".into()).key("k").await.unwrap();
    again.output().await.unwrap();
    assert_eq!(cloud.asked(), asked, "a second start of the same run sends nothing");
    let plan = engine.plan_run(again.id()).await.unwrap();
    assert!(!plan.has_changes(), "{plan:?}");
    assert_eq!(cloud.calls("create x"), 1);
    worker.stop().await;
}

// covers: R1-37, R1-38, R1-43
#[tokio::test(start_paused = true)]
async fn what_was_adopted_is_told_from_what_was_made_and_outlives_the_undo() {
    let cloud = Cloud::default();
    cloud.put_foreign("x");
    cloud.fault("do c", &[Fault::Refuse]);
    let engine = engine(make(&cloud, AdoptPolicy::Use)).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(MAKE, &"x".into()).await.unwrap();
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(Some(_))));
    assert_eq!(cloud.names(), ["x"]);
    assert!(!cloud.asked().iter().any(|call| call.starts_with("delete")), "{:?}", cloud.asked());
    let other = engine.start(MAKE, &"y".into()).await.unwrap();
    other.output().await.unwrap();
    let rows = engine.ledger(&LedgerQuery::default()).await.unwrap();
    assert_eq!(rows.len(), 2);
    for row in &rows {
        let expected = if row.run == *run.id() { Origin::Adopted } else { Origin::Created };
        assert_eq!(row.origin, expected);
    }
    assert!(rows.iter().all(|row| row.state == ResourceState::Alive), "{rows:?}");
    worker.stop().await;
}

/// Remembers the key of every attempt; hangs once when told to.
#[derive(Debug, Clone, Default)]
struct Keyed {
    seen: Arc<Mutex<Vec<(u32, u32, String)>>>,
}

impl Step for Keyed {
    const KIND: &'static str = "test.keyed";
    type Input = String;
    type Output = String;

    async fn run(&self, cx: &StepContext, input: String) -> Result<String, StepError> {
        let seen = (cx.attempt(), cx.generation(), cx.idempotency_key().to_owned());
        self.seen.lock().unwrap().push(seen);
        match (cx.generation(), cx.attempt()) {
            (1, 1) => Err(StepError::retry("send")),
            (1, 2) => {
                sleep(Duration::from_secs(3600)).await;
                Err(StepError::retry("send"))
            }
            _ => Ok(input),
        }
    }
}

// covers: R1-55
#[tokio::test(start_paused = true)]
async fn a_key_outlives_retries_and_restarts_and_a_new_generation_has_its_own() {
    let (cloud, keyed) = (Cloud::default(), Keyed::default());
    cloud.fault("do c", &[Fault::Refuse]);
    let saga = Saga::define(MAKE, |s| {
        let a = s.step("a", keyed.clone(), NothingToUndo).input((), |c: &String, ()| c.clone());
        s.step("c", Do(cloud.clone()), UndoIt(cloud.clone())).input(a, |_, _| "c".into())
    });
    let engine = engine(saga.unwrap()).await;
    let first = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(MAKE, &"x".into()).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    first.kill();
    let second = engine.spawn_worker(WorkerConfig::default());
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(Some(_))));
    engine.redrive(run.id(), By::default()).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    run.output().await.unwrap();
    let seen = keyed.seen.lock().unwrap().clone();
    let old: Vec<_> = seen.iter().filter(|(_, generation, _)| *generation == 1).collect();
    assert_eq!(old.len(), 3, "failed, killed, succeeded: {seen:?}");
    assert!(old.iter().all(|(_, _, key)| *key == old[0].2), "{seen:?}");
    let new: Vec<_> = seen.iter().filter(|(_, generation, _)| *generation == 2).collect();
    assert_eq!(new.len(), 1, "{seen:?}");
    assert_ne!(new[0].2, old[0].2);
    second.stop().await;
}

// covers: R1-59, R2-02
#[tokio::test(start_paused = true)]
async fn a_start_stores_the_run_and_calls_nobody() {
    let cloud = Cloud::default();
    let engine = engine(make(&cloud, AdoptPolicy::Refuse)).await;
    let began = Instant::now();
    for n in 0..50 {
        engine.start(MAKE, &format!("x{n}")).await.unwrap();
    }
    assert_eq!(began.elapsed(), Duration::ZERO, "no start waited for anything");
    assert!(cloud.asked().is_empty());
    assert_eq!(engine.runs(&RunFilter::default()).await.unwrap().runs.len(), 50);
    let worker = engine.spawn_worker(WorkerConfig::default());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(cloud.asked().len(), 150);
    worker.stop().await;
}

// covers: R3-10
#[tokio::test(start_paused = true)]
async fn work_begins_at_once_and_not_at_the_next_poll() {
    let cloud = Cloud::default();
    let store = MemoryStore::new();
    let saga = make(&cloud, AdoptPolicy::Refuse);
    let working = Engine::builder(store.clone()).register(saga.clone()).build().await.unwrap();
    let starting = Engine::builder(store).register(saga).build().await.unwrap();
    let config = WorkerConfig::default().with_poll(Duration::from_secs(3600));
    let worker = working.spawn_worker(config);
    sleep(Duration::from_secs(10)).await;
    // From the process of the worker, and from one that only shares the store.
    for (name, engine) in [("x", &working), ("y", &starting)] {
        let began = Instant::now();
        engine.start(MAKE, &name.into()).await.unwrap();
        sleep(Duration::from_millis(10)).await;
        assert_eq!(cloud.calls(&format!("create {name}")), 1, "{name}");
        assert!(began.elapsed() < Duration::from_millis(20));
    }
    worker.stop().await;
}

/// Looks into the store for itself.
#[derive(Debug, Clone)]
struct Mirror(MemoryStore);

impl Step for Mirror {
    const KIND: &'static str = "test.mirror";
    type Input = String;
    type Output = bool;

    async fn run(&self, cx: &StepContext, input: String) -> Result<bool, StepError> {
        let record = self.0.load(&[*cx.run_id()]).await.unwrap().pop().flatten().unwrap();
        let journal: String = record.frames.iter().map(|frame| &*frame.body).collect();
        let started = format!("{{\"started\":{{\"path\":\"{}\"", cx.path());
        Ok(record.head.input.as_str().contains(&input) && journal.contains(&started))
    }
}

// covers: R3-28
#[tokio::test(start_paused = true)]
async fn nothing_runs_that_is_not_stored_and_what_is_not_awaited_is_not_started() {
    const MIRROR: SagaId<String, bool> = SagaId::new("mirror", 1);
    let store = MemoryStore::new();
    let saga = Saga::define(MIRROR, |s| {
        let a =
            s.step("a", Mirror(store.clone()), NothingToUndo).input((), |c: &String, ()| c.clone());
        let b =
            s.step("b", Mirror(store.clone()), NothingToUndo).input(a, |c: &String, _| c.clone());
        s.value("both").input((a, b), |_, (a, b)| a && b)
    });
    let engine = Engine::builder(store).register(saga.unwrap()).build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    drop(engine.start(MIRROR, &"forgotten".into()));
    sleep(Duration::from_secs(60)).await;
    assert!(engine.runs(&RunFilter::default()).await.unwrap().runs.is_empty());
    let run = engine.start(MIRROR, &"kept".into()).await.unwrap();
    assert!(run.output().await.unwrap(), "a step saw itself started in the store");
    worker.stop().await;
}
