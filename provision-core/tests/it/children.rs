//! Sub-sagas: what a parent says of what its child keeps.

use std::time::Duration;

use provision_core::{
    By, Engine, MemoryStore, Outcome, RunStatus, Saga, SagaId, WorkerConfig, clock::sleep,
    engine::EngineBuilder, irreversible, store::RunFilter,
};

use crate::{
    cloud::{Cloud, Do, Fault, UndoIt},
    counting::Counting,
};

const PARENT: SagaId<String, String> = SagaId::new("parent", 1);
const CHILD: SagaId<String, String> = SagaId::new("child", 1);

/// A child that pays, then ships; a parent that writes about it.
fn with_sagas(builder: EngineBuilder, cloud: &Cloud) -> EngineBuilder {
    let child = Saga::define(CHILD, |s| {
        let night = s.sleep("night").input((), |_, ()| Duration::from_secs(60));
        let paid = s.step("pay", Do(cloud.clone()), irreversible("the money is gone"));
        let paid = paid.after(night).input((), |_, ()| "pay".to_owned());
        s.step("ship", Do(cloud.clone()), UndoIt(cloud.clone())).input(paid, |_, _| "ship".into())
    });
    let child = child.unwrap();
    let parent = Saga::define(PARENT, |s| {
        let child = s.saga("child", &child).input((), |c: &String, ()| c.clone());
        s.step("write", Do(cloud.clone()), UndoIt(cloud.clone()))
            .input(child, |_, _| "write".into())
    });
    builder.register(parent.unwrap()).register(child)
}

async fn engine(cloud: &Cloud) -> Engine {
    with_sagas(Engine::builder(MemoryStore::new()), cloud).build().await.unwrap()
}

// covers: S15
#[tokio::test(start_paused = true)]
async fn a_parent_keeps_what_its_child_keeps() {
    let cloud = Cloud::default();
    cloud.fault("do ship", &[Fault::Refuse]);
    let engine = engine(&cloud).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(PARENT, &"x".into()).await.unwrap();
    let outcome = run.outcome().await.unwrap();
    assert!(matches!(outcome, Outcome::RolledBackKeeping(Some(_), _)), "{outcome:?}");
    // The journal says it, not only the memory of the worker.
    worker.stop().await;
    let row = engine.run(run.id()).await.unwrap();
    assert_eq!(row.status, RunStatus::RolledBackKeeping);
    assert!(engine.snapshot(run.id()).await.is_ok());
}

// covers: S15
#[tokio::test(start_paused = true)]
async fn a_child_that_succeeded_is_torn_down_with_its_parent() {
    let cloud = Cloud::default();
    let engine = engine(&cloud).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(PARENT, &"x".into()).await.unwrap();
    assert_eq!(run.output().await.unwrap(), "write");
    engine.tear_down(run.id(), By::default()).await.unwrap();
    assert_eq!(run.outcome().await.unwrap(), Outcome::TornDown);
    assert_eq!(cloud.calls("undo ship"), 1);
    worker.stop().await;
}

// covers: S6, S15
#[tokio::test(start_paused = true)]
async fn a_start_that_lands_after_the_parent_was_undone_begins_nothing() {
    let cloud = Cloud::default();
    let store = Counting::default();
    let engine = with_sagas(Engine::builder(store.clone()), &cloud).build().await.unwrap();
    let run = engine.start(PARENT, &"x".into()).await.unwrap();
    // From here on the store is slow to take new runs: what is sent lands half a minute later.
    store.hold_back(Duration::from_secs(30));
    let first = engine.spawn_worker(WorkerConfig::default());
    sleep(Duration::from_millis(500)).await;
    first.kill();
    engine.cancel(run.id(), By::default()).await.unwrap();
    let second = engine.spawn_worker(WorkerConfig::default());
    sleep(Duration::from_secs(300)).await;
    let rows = engine.runs(&RunFilter::default()).await.unwrap().runs;
    let ends: Vec<_> = rows.iter().map(|row| (&*row.saga.name, row.status)).collect();
    let undone = |status| matches!(status, RunStatus::RolledBack | RunStatus::RolledBackKeeping);
    assert!(ends.iter().all(|(_, status)| undone(*status)), "{ends:?}");
    assert_eq!(cloud.calls("do write"), 0);
    second.stop().await;
}

// covers: S25
#[tokio::test(start_paused = true)]
async fn a_child_past_its_point_of_no_return_is_waited_for_and_not_asked_again_and_again() {
    let cloud = Cloud::default();
    let child = Saga::define(CHILD, |s| {
        let paid = s.step("pay", Do(cloud.clone()), irreversible("the money is gone")).pivot();
        let paid = paid.input((), |_, ()| "pay".to_owned());
        s.sleep("night").after(paid).input((), |_, ()| Duration::from_secs(3_600));
        paid
    });
    let child = child.unwrap();
    let parent =
        Saga::define(PARENT, |s| s.saga("child", &child).input((), |c: &String, ()| c.clone()));
    let builder = Engine::builder(MemoryStore::new()).register(parent.unwrap()).register(child);
    let engine = builder.build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(PARENT, &"x".into()).await.unwrap();
    sleep(Duration::from_secs(30)).await;
    engine.cancel(run.id(), By::default()).await.unwrap();
    assert_eq!(run.outcome().await.unwrap(), Outcome::RolledBack(None));
    let filter = RunFilter { parent: Some(*run.id()), ..RunFilter::default() };
    let row = engine.runs(&filter).await.unwrap().runs.remove(0);
    assert_eq!(row.status, RunStatus::TornDown);
    assert_eq!(row.requests, 1, "it was asked once, when it was over");
    assert!(row.seq <= 8, "{row:?}");
    worker.stop().await;
}
