//! Pauses: what a paused run shows, and what lets it go on.

use std::time::Duration;

use provision_core::{
    By, Compensator, Effect, Engine, MemoryStore, NothingToUndo, RunHandle, RunId, RunStatus, Saga,
    SagaId, Step, StepContext, StepError, Undo, Verdict, WorkerConfig,
    clock::sleep,
    executor::{Executor, HostDriven},
    store::RunFilter,
};

use crate::counting::{Counting, Road};

const SAGA: SagaId<u32, u32> = SagaId::new("pausing", 1);
const PARENT: SagaId<u32, u32> = SagaId::new("parent", 1);

/// Undone with its second attempt, a minute after the first.
struct Held;

impl Step for Held {
    const KIND: &'static str = "test.held";
    type Input = u32;
    type Output = u32;

    async fn run(&self, _: &StepContext, n: u32) -> Result<u32, StepError> {
        Ok(n)
    }
}

impl Compensator<Self> for Held {
    async fn compensate(&self, cx: &StepContext, _: u32, _: Undo<u32>) -> Result<(), StepError> {
        match cx.attempt() {
            1 => {
                let minute = Verdict::Retry { after: Some(Duration::from_secs(60)) };
                Err(StepError::new(Effect::None, minute, "undo"))
            }
            _ => Ok(()),
        }
    }
}

/// A step, and then a night.
fn saga() -> Saga<u32, u32> {
    let saga = Saga::define(SAGA, |s| {
        let held = s.step("held", Held, Held).input((), |n, ()| *n);
        s.sleep("night").after(held).input((), |_, ()| Duration::from_secs(3600));
        held
    });
    saga.unwrap()
}

async fn asleep() -> (Engine, RunHandle<u32>) {
    let parent = Saga::define(PARENT, |s| s.saga("child", &saga()).input((), |n, ()| *n));
    let engine = Engine::builder(MemoryStore::new()).register(saga()).register(parent.unwrap());
    let engine = engine.build().await.unwrap();
    let run = engine.start(SAGA, &1).await.unwrap();
    all_due(&engine).await;
    (engine, run)
}

/// Drives whatever is due now.
async fn all_due(engine: &Engine) {
    while engine.run_one().await.unwrap().is_some() {}
}

async fn status(engine: &Engine, run: &RunId) -> RunStatus {
    engine.run(run).await.unwrap().status
}

fn by() -> By {
    By::new("ann", "maintenance")
}

// covers: S16
#[tokio::test(start_paused = true)]
async fn a_cancelled_run_does_not_stay_paused() {
    let (engine, run) = asleep().await;
    engine.pause(run.id(), by()).await.unwrap();
    all_due(&engine).await;
    assert_eq!(status(&engine, run.id()).await, RunStatus::Paused);
    engine.cancel(run.id(), by()).await.unwrap();
    let head = HostDriven.drive(&engine, run.id()).await.unwrap();
    assert_eq!(head.status, RunStatus::RolledBack);
}

// covers: S16
#[tokio::test(start_paused = true)]
async fn a_pause_on_the_way_back_is_shown_and_a_resume_goes_on() {
    let (engine, run) = asleep().await;
    engine.cancel(run.id(), by()).await.unwrap();
    all_due(&engine).await;
    assert_eq!(status(&engine, run.id()).await, RunStatus::Unwinding);
    engine.pause(run.id(), by()).await.unwrap();
    let head = HostDriven.drive(&engine, run.id()).await.unwrap();
    assert_eq!(head.status, RunStatus::Paused);
    engine.resume(run.id(), by()).await.unwrap();
    let head = HostDriven.drive(&engine, run.id()).await.unwrap();
    assert_eq!(head.status, RunStatus::RolledBack);
}

// covers: L1, S16
#[tokio::test(start_paused = true)]
async fn a_parent_undoes_a_paused_child_and_leaves_alone_what_was_paused_on_its_way_back() {
    let (engine, _) = asleep().await;
    let run = engine.start(PARENT, &1).await.unwrap();
    all_due(&engine).await;
    let runs = engine.runs(&RunFilter::default()).await.unwrap().runs;
    let child = runs.iter().find(|head| head.parent.is_some()).unwrap().id;
    engine.pause(&child, by()).await.unwrap();
    all_due(&engine).await;
    assert_eq!(status(&engine, &child).await, RunStatus::Paused);

    engine.cancel(run.id(), by()).await.unwrap();
    all_due(&engine).await;
    assert_eq!(status(&engine, &child).await, RunStatus::Unwinding);
    engine.pause(&child, by()).await.unwrap();
    all_due(&engine).await;
    let before = engine.run(&child).await.unwrap();
    assert_eq!(before.status, RunStatus::Paused);

    // The parent asks every minute, and orders nothing.
    for _ in 0..5 {
        sleep(Duration::from_secs(61)).await;
        all_due(&engine).await;
    }
    let after = engine.run(&child).await.unwrap();
    assert_eq!((after.status, after.seq), (RunStatus::Paused, before.seq));
    assert_eq!(status(&engine, run.id()).await, RunStatus::Unwinding);

    engine.resume(&child, by()).await.unwrap();
    let head = HostDriven.drive(&engine, run.id()).await.unwrap();
    assert_eq!(head.status, RunStatus::RolledBack);
    assert_eq!(status(&engine, &child).await, RunStatus::RolledBack);
}

/// Takes so many seconds.
struct Slow(u64);

impl Step for Slow {
    const KIND: &'static str = "test.slow";
    type Input = u32;
    type Output = u32;

    async fn run(&self, _: &StepContext, n: u32) -> Result<u32, StepError> {
        sleep(Duration::from_secs(self.0)).await;
        Ok(n)
    }
}

// covers: S18, S20
#[tokio::test(start_paused = true)]
async fn an_order_is_looked_for_until_the_store_answers() {
    let saga = Saga::define(SAGA, |s| {
        let first = s.step("first", Slow(10), NothingToUndo).input((), |n, ()| *n);
        s.step("second", Slow(120), NothingToUndo).input(first, |_, n| n)
    });
    let store = Counting::default();
    let engine = Engine::builder(store.clone()).register(saga.unwrap()).build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(SAGA, &4).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    engine.pause(run.id(), By::default()).await.unwrap();
    store.set("load", Road::Down);
    sleep(Duration::from_secs(30)).await;
    store.set("load", Road::Open);
    let head = engine.run(run.id()).await.unwrap();
    assert_eq!((head.open, head.consumed), (true, 0), "the second step has begun");
    sleep(Duration::from_secs(10)).await;
    let head = engine.run(run.id()).await.unwrap();
    assert_eq!((head.open, head.consumed), (true, 1), "taken while the second step runs");
    worker.stop().await;
}
