//! Signals: who gets them, when they win over a limit, and how many are kept.

use std::time::Duration;

use provision_core::{
    Engine, ErrorKind, MemoryStore, NothingToUndo, Outcome, RunHandle, RunStatus, Saga, SagaId,
    SignalId, Step, StepContext, StepError, WorkerConfig, clock::sleep,
};

const GO: SignalId<u32> = SignalId::new("go");
const ONE: SagaId<String, u32> = SagaId::new("one", 1);

/// A call that takes a minute.
#[derive(Debug)]
struct Minute;

impl Step for Minute {
    const KIND: &'static str = "test.minute";
    type Input = ();
    type Output = ();

    async fn run(&self, _: &StepContext, (): ()) -> Result<(), StepError> {
        sleep(Duration::from_secs(60)).await;
        Ok(())
    }
}

async fn engine<I, O>(saga: Saga<I, O>) -> Engine
where
    I: provision_core::Data,
    O: provision_core::Data,
{
    Engine::builder(MemoryStore::new()).register(saga).build().await.unwrap()
}

async fn waits<O: provision_core::Data>(engine: &Engine, run: &RunHandle<O>) {
    sleep(Duration::from_secs(1)).await;
    assert_eq!(engine.run(run.id()).await.unwrap().status, RunStatus::Waiting);
}

// covers: S20
#[tokio::test(start_paused = true)]
async fn a_signal_stored_before_its_limit_wins_although_nobody_looked_in_time() {
    let saga = Saga::define(ONE, |s| s.signal(GO).input((), |_, ()| Duration::from_secs(10)));
    let engine = engine(saga.unwrap()).await;
    let first = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(ONE, &"x".into()).await.unwrap();
    waits(&engine, &run).await;
    first.stop().await;
    engine.signal(run.id(), GO, &7).await.unwrap();
    sleep(Duration::from_secs(20)).await;
    let second = engine.spawn_worker(WorkerConfig::default());
    assert_eq!(run.outcome().await.unwrap(), Outcome::Succeeded(7));
    second.stop().await;
}

/// A wait of ten seconds while a call of another branch is open.
fn beside_a_long_call() -> Saga<String, u32> {
    let saga = Saga::define(ONE, |s| {
        s.step("long", Minute, NothingToUndo).input((), |_, ()| ());
        s.signal(GO).input((), |_, ()| Duration::from_secs(10))
    });
    saga.unwrap()
}

// covers: S20
#[tokio::test(start_paused = true)]
async fn a_signal_stored_before_its_limit_wins_beside_an_open_call() {
    let engine = engine(beside_a_long_call()).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(ONE, &"x".into()).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    engine.signal(run.id(), GO, &7).await.unwrap();
    assert_eq!(run.outcome().await.unwrap(), Outcome::Succeeded(7));
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_never_comes_still_times_out_beside_an_open_call() {
    let engine = engine(beside_a_long_call()).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(ONE, &"x".into()).await.unwrap();
    let Outcome::RolledBack(Some(failure)) = run.outcome().await.unwrap() else { panic!() };
    assert_eq!(failure.code, "signal_timeout");
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn two_steps_that_wait_for_one_name_get_a_signal_each() {
    const TWO: SagaId<String, Vec<u32>> = SagaId::new("two", 1);
    let saga = Saga::define(TWO, |s| {
        let list = s.each("each", (), |_, ()| vec![0_u32, 1]);
        list.body(|item| item.signal(GO).input((), |_, ()| Duration::from_secs(100)))
    });
    let engine = engine(saga.unwrap()).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(TWO, &"x".into()).await.unwrap();
    waits(&engine, &run).await;
    engine.signal(run.id(), GO, &1).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    engine.signal(run.id(), GO, &2).await.unwrap();
    assert_eq!(run.output().await.unwrap(), [1, 2]);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_was_taken_is_not_taken_again_after_a_take_over() {
    const AGAIN: SagaId<String, Vec<u32>> = SagaId::new("again", 1);
    let saga = Saga::define(AGAIN, |s| {
        let first = s.signal(GO).input((), |_, ()| Duration::from_secs(100));
        let night = s.sleep("night").after(first).input((), |_, ()| Duration::from_secs(60));
        let list = s.each("each", night, |_, ()| vec![0_u32]);
        list.body(|item| item.signal(GO).input((), |_, ()| Duration::from_secs(100)))
    });
    let engine = engine(saga.unwrap()).await;
    let first = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(AGAIN, &"x".into()).await.unwrap();
    waits(&engine, &run).await;
    engine.signal(run.id(), GO, &1).await.unwrap();
    sleep(Duration::from_secs(30)).await;
    first.kill();
    let second = engine.spawn_worker(WorkerConfig::default());
    sleep(Duration::from_secs(50)).await;
    waits(&engine, &run).await;
    engine.signal(run.id(), GO, &2).await.unwrap();
    assert_eq!(run.output().await.unwrap(), [2]);
    second.stop().await;
}

// covers: S25
#[tokio::test(start_paused = true)]
async fn kept_signals_and_waiting_requests_are_bounded() {
    let saga = Saga::define(ONE, |s| s.signal(GO).input((), |_, ()| Duration::from_secs(9_999)));
    let engine = engine(saga.unwrap()).await;
    let run = engine.start(ONE, &"x".into()).await.unwrap();
    let refused = async |n: u32| {
        for n in 0..n {
            engine.signal(run.id(), SignalId::<u32>::new("other"), &n).await?;
        }
        engine.signal(run.id(), SignalId::<u32>::new("other"), &n).await
    };
    let error = refused(1_000).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Limit, "too_many_requests"));
    let worker = engine.spawn_worker(WorkerConfig::default());
    sleep(Duration::from_secs(5)).await;
    let error = refused(0).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Limit, "too_many_signals"));
    let large = SignalId::<String>::new("large");
    let error = engine.signal(run.id(), large, &"x".repeat(2 << 20)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    worker.stop().await;
}
