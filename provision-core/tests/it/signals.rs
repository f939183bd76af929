//! Signals: who gets them, when they win over a limit, and how many are kept.

use std::time::Duration;

use provision_core::{
    By, Engine, ErrorKind, ExternalId, MemoryStore, NothingToUndo, Outcome, Resolution, RunHandle,
    RunStatus, Saga, SagaId, SignalId, Step, StepContext, StepError, WorkerConfig,
    clock::sleep,
    id::Payload,
    run::journal::{RequestBody, SignalSource},
    saga::OnFailure,
    store::{StateStore as _, Submission},
};

use crate::cloud::{Cloud, Do, Fault, Thing, UndoIt};

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

const FIRST: SignalId<u32> = SignalId::new("first");
const LAST: SignalId<u32> = SignalId::new("last");

/// A thing, two signals about it in their order, and a step that may be refused.
fn about_a_thing(cloud: &Cloud) -> Saga<String, u32> {
    let limit = |_: &String, ()| Duration::from_secs(1_000);
    let saga = Saga::define(ONE, |s| {
        let thing = s.resource("thing", Thing::new(cloud)).input((), |_, ()| "thing".into());
        let first = s.signal(FIRST).after(thing).input((), limit);
        let last = s.signal(LAST).after(first).input((), limit);
        let made = s.step("c", Do(cloud.clone()), UndoIt(cloud.clone())).after(last);
        let made = made.input((), |_, ()| "c".into());
        s.value("sum").after(made).input((first, last), |_, (first, last)| first * 10 + last)
    });
    saga.unwrap()
}

fn source(generation: u32) -> SignalSource {
    SignalSource { path: "thing".to_owned(), generation }
}

// covers: R2-04, S17
#[tokio::test(start_paused = true)]
async fn of_one_source_each_name_is_heard_once_in_whatever_order_it_comes() {
    let engine = engine(about_a_thing(&Cloud::default())).await;
    let run = engine.start(ONE, &"x".into()).await.unwrap();
    // Twice before any worker has taken it, and out of order.
    assert!(engine.signal_once(run.id(), LAST, &source(1), &2).await.unwrap());
    assert!(!engine.signal_once(run.id(), LAST, &source(1), &9).await.unwrap());
    let worker = engine.spawn_worker(WorkerConfig::default());
    waits(&engine, &run).await;
    assert!(!engine.signal_once(run.id(), LAST, &source(1), &9).await.unwrap());
    assert!(engine.signal_once(run.id(), FIRST, &source(1), &1).await.unwrap());
    assert_eq!(run.output().await.unwrap(), 12);
    // Over: a repetition is answered as before, and anything else is told so.
    assert!(!engine.signal_once(run.id(), FIRST, &source(1), &1).await.unwrap());
    let late = engine.signal_once(run.id(), GO, &source(1), &1).await.unwrap_err();
    assert_eq!((late.kind(), late.code()), (ErrorKind::Conflict, "run_over"));
    worker.stop().await;
}

// covers: R2-04
#[tokio::test(start_paused = true)]
async fn of_two_that_were_sent_at_once_one_is_taken_and_nothing_is_told_as_refused() {
    let store = MemoryStore::new();
    let builder = Engine::builder(store.clone()).register(about_a_thing(&Cloud::default()));
    let engine = builder.build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(ONE, &"x".into()).await.unwrap();
    waits(&engine, &run).await;
    // Both have looked before either of them was stored.
    let told = |value: u32| {
        let (name, value) = (FIRST.name().to_owned(), Payload::encode(&value).unwrap());
        let body = RequestBody::Signal { name, value, source: Some(source(1)) };
        Submission::Request { run: *run.id(), body: Payload::encode(&body).unwrap() }
    };
    store.submit(&[told(1), told(9)]).await.unwrap();
    assert!(!engine.signal_once(run.id(), FIRST, &source(1), &9).await.unwrap());
    assert!(engine.has_signal(run.id(), FIRST.name(), &source(1)).await.unwrap());
    assert!(!engine.has_signal(run.id(), LAST.name(), &source(1)).await.unwrap());
    assert!(!engine.has_signal(run.id(), FIRST.name(), &source(2)).await.unwrap());
    waits(&engine, &run).await;
    store.submit(&[told(8)]).await.unwrap();
    waits(&engine, &run).await;
    assert!(engine.signal_once(run.id(), LAST, &source(1), &2).await.unwrap());
    assert_eq!(run.output().await.unwrap(), 12);
    let record = store.load(&[*run.id()]).await.unwrap().remove(0).unwrap();
    assert_eq!(record.head.summary.refused, None);
    assert!(record.frames.iter().all(|frame| !frame.body.to_string().contains("refused")));
    worker.stop().await;
}

// covers: R2-04
#[tokio::test(start_paused = true)]
async fn what_is_said_of_an_undone_generation_is_never_taken_for_the_next() {
    let cloud = Cloud::default();
    cloud.fault("do c", &[Fault::Refuse]);
    let engine = engine(about_a_thing(&cloud)).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(ONE, &"x".into()).await.unwrap();
    waits(&engine, &run).await;
    // One more than is waited for: it is kept when the run is undone.
    for signal in [GO, FIRST, LAST] {
        assert!(engine.signal_once(run.id(), signal, &source(1), &7).await.unwrap());
    }
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(Some(_))));
    engine.redrive(run.id(), By::new("ann", "again")).await.unwrap();
    waits(&engine, &run).await;
    let gone = engine.signal_once(run.id(), SignalId::<u32>::new("other"), &source(1), &7).await;
    assert_eq!(gone.unwrap_err().code(), "source_gone");
    assert!(!engine.signal_once(run.id(), FIRST, &source(1), &7).await.unwrap());
    waits(&engine, &run).await;
    let unknown = SignalSource { path: "nothing".to_owned(), generation: 1 };
    let unknown = engine.signal_once(run.id(), FIRST, &unknown, &7).await.unwrap_err();
    assert_eq!(unknown.code(), "source_gone");
    for (signal, value) in [(LAST, 4), (FIRST, 3)] {
        assert!(engine.signal_once(run.id(), signal, &source(2), &value).await.unwrap());
    }
    assert_eq!(run.output().await.unwrap(), 34);
    worker.stop().await;
}

// covers: R2-04
#[tokio::test(start_paused = true)]
async fn a_signal_that_was_kept_and_not_taken_is_gone_with_its_source() {
    let cloud = Cloud::default();
    let engine = engine(about_a_thing(&cloud)).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(ONE, &"x".into()).await.unwrap();
    waits(&engine, &run).await;
    // The last comes first, and is kept; the run is undone before the first has come.
    assert!(engine.signal_once(run.id(), LAST, &source(1), &9).await.unwrap());
    sleep(Duration::from_secs(1)).await;
    engine.cancel(run.id(), By::default()).await.unwrap();
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(None)));
    engine.redrive(run.id(), By::new("ann", "again")).await.unwrap();
    waits(&engine, &run).await;
    assert!(engine.signal_once(run.id(), FIRST, &source(2), &1).await.unwrap());
    waits(&engine, &run).await;
    assert!(engine.signal_once(run.id(), LAST, &source(2), &2).await.unwrap());
    assert_eq!(run.output().await.unwrap(), 12);
    worker.stop().await;
}

// covers: S20
#[tokio::test(start_paused = true)]
async fn a_wait_that_timed_out_waits_anew_when_it_is_retried() {
    let saga = Saga::define(ONE, |s| {
        s.on_failure(OnFailure::Ask);
        s.signal(GO).input((), |_, ()| Duration::from_secs(10))
    });
    let engine = engine(saga.unwrap()).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    for early in [false, true] {
        let run = engine.start(ONE, &"x".into()).await.unwrap();
        let Outcome::Parked(failure, _) = run.outcome().await.unwrap() else { panic!() };
        assert_eq!(failure.code, "signal_timeout");
        let nothing = Resolution::Exists { path: "go".to_owned(), id: ExternalId::new("go") };
        let refused = engine.resolve(run.id(), nothing, By::default()).await.unwrap_err();
        assert_eq!(refused.code(), "nothing_to_find");
        if early {
            engine.signal(run.id(), GO, &7).await.unwrap();
        }
        engine.retry(run.id(), By::default()).await.unwrap();
        if !early {
            waits(&engine, &run).await;
            engine.signal(run.id(), GO, &7).await.unwrap();
        }
        assert_eq!(run.output().await.unwrap(), 7, "sent before the answer: {early}");
    }
    worker.stop().await;
}
