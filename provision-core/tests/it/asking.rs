//! Requests of which nothing comes, and requests to a run whose time has not come.

use std::time::Duration;

use provision_core::{
    By, Engine, ExternalId, MemoryStore, Outcome, Policy, Resolution, RunId, RunStatus, Saga,
    SagaId, SignalId, WorkerConfig,
    clock::sleep,
    engine::What,
    id::Payload,
    run::journal::RequestBody,
    saga::OnFailure,
    store::{StateStore, Submission},
};

use crate::cloud::{Cloud, Do, Fault, Thing, UndoIt};

const ASKED: SagaId<String, String> = SagaId::new("asked", 1);
const GO: SignalId<String> = SignalId::new("go");

/// What was refused, with its reason.
async fn refusals(engine: &Engine, run: &RunId) -> Vec<(RequestBody, String)> {
    let (mut events, mut refused) = (engine.watch(run, 0), Vec::new());
    while let Ok(Ok(Some(event))) =
        tokio::time::timeout(Duration::from_millis(1), events.next()).await
    {
        if let What::Refused { request, code, .. } = event.what {
            refused.push((request, code));
        }
    }
    refused
}

async fn waits_for_go(store: &MemoryStore, cloud: &Cloud) -> Engine {
    let saga = Saga::define(ASKED, |s| {
        let said = s.signal(GO).input((), |_, ()| Duration::from_secs(10_000));
        s.step("c", Do(cloud.clone()), UndoIt(cloud.clone())).input(said, |_, said| said)
    });
    Engine::builder(store.clone()).register(saga.unwrap()).build().await.unwrap()
}

// covers: S3
#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_read_is_refused_with_a_record() {
    let (store, cloud) = (MemoryStore::new(), Cloud::default());
    let engine = waits_for_go(&store, &cloud).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(ASKED, &"x".into()).await.unwrap();
    let body = Payload::encode(&serde_json::json!({"order_of_a_later_release": 7})).unwrap();
    store.submit(&[Submission::Request { run: *run.id(), body }]).await.unwrap();
    sleep(Duration::from_secs(30)).await;
    let refused = refusals(&engine, run.id()).await;
    let unreadable = RequestBody::Unreadable { number: 1 };
    assert_eq!(refused, [(unreadable, "unreadable".to_owned())]);
    engine.signal(run.id(), GO, &"yes".into()).await.unwrap();
    assert_eq!(run.output().await.unwrap(), "yes", "the next one is taken");
    worker.stop().await;
}

async fn asks_when_it_fails(cloud: &Cloud) -> Engine {
    let saga = Saga::define(ASKED, |s| {
        s.on_failure(OnFailure::Ask);
        let made = s.resource("made", Thing::new(cloud)).retry(Policy::attempts(1));
        made.input((), |c: &String, ()| c.clone())
    });
    Engine::builder(MemoryStore::new()).register(saga.unwrap()).build().await.unwrap()
}

// covers: S11
#[tokio::test(start_paused = true)]
async fn an_answer_that_names_the_resource_of_another_run_is_refused() {
    let cloud = Cloud::default();
    cloud.fault("create y", &[Fault::After]);
    let engine = asks_when_it_fails(&cloud).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let first = engine.start(ASKED, &"x".into()).await.unwrap();
    first.output().await.unwrap();
    let rows = engine.ledger(&Default::default()).await.unwrap();
    let (id, path) = (rows[0].external_id.clone().unwrap(), "made".to_owned());
    let run = engine.start(ASKED, &"y".into()).await.unwrap();
    assert!(matches!(run.outcome().await.unwrap(), Outcome::Parked(..)));
    let answer = Resolution::Exists { path, id };
    let refused = engine.resolve(run.id(), answer, By::new("ann", "a mistake")).await.unwrap_err();
    assert_eq!(refused.code(), "owned_elsewhere");
    worker.stop().await;
}

// covers: S3, S11
#[tokio::test(start_paused = true)]
async fn an_answer_that_takes_the_name_of_another_run_is_refused_with_a_record() {
    let cloud = Cloud::default();
    cloud.fault("create x", &[Fault::Refuse]);
    let engine = asks_when_it_fails(&cloud).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(ASKED, &"x".into()).await.unwrap();
    assert!(matches!(run.outcome().await.unwrap(), Outcome::Parked(..)));
    engine.start(ASKED, &"x".into()).await.unwrap().output().await.unwrap();
    let answer = Resolution::succeeded("made", &"x").unwrap();
    engine.resolve(run.id(), answer, By::new("ann", "a mistake")).await.unwrap();
    sleep(Duration::from_secs(30)).await;
    let refused = refusals(&engine, run.id()).await;
    let [(RequestBody::Order { who, .. }, code)] = &refused[..] else { panic!("{refused:?}") };
    assert_eq!((&**who, &**code), ("ann", "owned_elsewhere"));
    let head = engine.run(run.id()).await.unwrap();
    assert_eq!(head.status, RunStatus::Parked);
    assert_eq!(head.summary.refused.unwrap().code, "owned_elsewhere");
    worker.stop().await;
}

// covers: S16
#[tokio::test(start_paused = true)]
async fn what_is_asked_beside_a_refused_answer_begins_nothing_before_a_later_cancel() {
    let cloud = Cloud::default();
    cloud.fault("create x", &[Fault::Refuse]);
    let engine = asks_when_it_fails(&cloud).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(ASKED, &"x".into()).await.unwrap();
    assert!(matches!(run.outcome().await.unwrap(), Outcome::Parked(..)));
    engine.start(ASKED, &"x".into()).await.unwrap().output().await.unwrap();
    worker.stop().await;
    let (seen, by) = (cloud.asked(), || By::new("ann", "a mistake"));
    engine.retry(run.id(), by()).await.unwrap();
    let answer = Resolution::succeeded("made", &"x").unwrap();
    engine.resolve(run.id(), answer, by()).await.unwrap();
    engine.cancel(run.id(), by()).await.unwrap();

    let worker = engine.spawn_worker(WorkerConfig::default());
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(_)));
    let refused = refusals(&engine, run.id()).await;
    let [(RequestBody::Order { .. }, code)] = &refused[..] else { panic!("{refused:?}") };
    assert_eq!(code, "owned_elsewhere");
    assert_eq!(cloud.asked(), seen, "the retry begins nothing that the cancel would undo");
    let head = engine.run(run.id()).await.unwrap();
    assert_eq!((head.consumed, head.requests), (3, 3));
    worker.stop().await;
}

// covers: S20
#[tokio::test(start_paused = true)]
async fn nothing_but_a_cancel_goes_before_the_time_of_a_delayed_start() {
    let (store, cloud) = (MemoryStore::new(), Cloud::default());
    let engine = waits_for_go(&store, &cloud).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let hour = Duration::from_secs(3_600);
    let begin = || async { engine.start(ASKED, &"x".into()).delay(hour).await.unwrap() };
    let (run, other) = (begin().await, begin().await);
    engine.signal(run.id(), GO, &"early".into()).await.unwrap();
    engine.pause(run.id(), By::default()).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    engine.resume(run.id(), By::default()).await.unwrap();
    sleep(Duration::from_secs(3_400)).await;
    let head = engine.run(run.id()).await.unwrap();
    assert_eq!((head.consumed, head.requests), (3, 3), "what is asked is taken meanwhile");
    assert_eq!(head.summary.waiting.as_deref(), Some("the time of its start"));
    assert!(cloud.log().is_empty(), "{:?}", cloud.log());
    assert_eq!(run.output().await.unwrap(), "early");
    let took = engine.run(run.id()).await.unwrap();
    assert!(took.updated_at >= took.created_at.plus(hour));
    assert_eq!(took.summary.not_before, None);

    let last = begin().await;
    for (cancelled, of) in [(&last, 1), (&other, 2)] {
        engine.cancel(cancelled.id(), By::default()).await.unwrap();
        assert_eq!(cancelled.outcome().await.unwrap(), Outcome::RolledBack(None), "{of}");
    }
    assert_eq!(cloud.calls("do early"), 1);
    worker.stop().await;
}

// covers: S20
#[tokio::test(start_paused = true)]
async fn after_an_answer_the_time_before_it_counts_no_more() {
    let cloud = Cloud::default();
    cloud.fault("create x", &[Fault::After]);
    let saga = Saga::define(ASKED, |s| {
        s.on_failure(OnFailure::Ask);
        let made = s.resource("made", Thing::new(&cloud)).retry(Policy::attempts(1));
        made.input((), |c: &String, ()| c.clone())
    });
    let engine = Engine::builder(MemoryStore::new()).register(saga.unwrap()).build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(ASKED, &"x".into()).await.unwrap();
    assert!(matches!(run.outcome().await.unwrap(), Outcome::Parked(..)));
    sleep(Duration::from_secs(86_400)).await;
    let there = Resolution::Exists { path: "made".to_owned(), id: ExternalId::new("t-1") };
    engine.resolve(run.id(), there, By::new("ann", "it is there")).await.unwrap();
    assert_eq!(run.output().await.unwrap(), "x@t-1");
    worker.stop().await;
}

// covers: S15, L1
#[tokio::test(start_paused = true)]
async fn what_is_found_of_an_optional_step_that_was_undone_is_undone_again() {
    let cloud = Cloud::default();
    cloud.fault("create x", &[Fault::After]);
    let saga = Saga::define(ASKED, |s| {
        let made = s.resource("made", Thing::new(&cloud).labelled()).optional();
        let made = made.retry(Policy::once());
        made.input((), |c: &String, ()| c.clone());
        s.signal(GO).input((), |_, ()| Duration::from_secs(10_000))
    });
    let engine = Engine::builder(MemoryStore::new()).register(saga.unwrap()).build().await.unwrap();
    // What lands late is not found by the look after the delete.
    let worker = engine.spawn_worker(WorkerConfig::default());
    cloud.hide("x", 9);
    let run = engine.start(ASKED, &"x".into()).await.unwrap();
    sleep(Duration::from_secs(600)).await;
    assert_eq!(engine.run(run.id()).await.unwrap().status, RunStatus::Waiting);
    assert_eq!(cloud.names(), ["x"]);
    let there = Resolution::Exists { path: "made".to_owned(), id: ExternalId::new("t-1") };
    engine.resolve(run.id(), there, By::new("ann", "it came late")).await.unwrap();
    engine.signal(run.id(), GO, &"yes".into()).await.unwrap();
    assert!(matches!(run.outcome().await.unwrap(), Outcome::PartlySucceeded(..)));
    assert!(cloud.names().is_empty(), "{:?}", cloud.log());
    worker.stop().await;
}
