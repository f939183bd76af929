//! What a start, and a start over again, may take: start keys, business keys, shapes of sagas.

use std::time::Duration;

use provision_core::{
    By, Engine, ErrorKind, MemoryStore, Outcome, Saga, SagaId, WorkerConfig, clock::sleep,
};

use crate::cloud::{Cloud, Do, Fault, UndoIt};

const ONE: SagaId<String, String> = SagaId::new("one", 1);
const OTHER: SagaId<String, String> = SagaId::new("other", 1);

fn saga(id: SagaId<String, String>, cloud: &Cloud) -> Saga<String, String> {
    let saga = Saga::define(id, |s| {
        s.step("c", Do(cloud.clone()), UndoIt(cloud.clone())).input((), |c: &String, ()| c.clone())
    });
    saga.unwrap()
}

async fn engine(cloud: &Cloud) -> Engine {
    let builder = Engine::builder(MemoryStore::new()).register(saga(ONE, cloud));
    builder.register(saga(OTHER, cloud)).build().await.unwrap()
}

// covers: S2
#[tokio::test(start_paused = true)]
async fn a_start_key_of_another_saga_is_refused() {
    let engine = engine(&Cloud::default()).await;
    let first = engine.start(ONE, &"x".into()).key("order:1").await.unwrap();
    let error = engine.start(OTHER, &"x".into()).key("order:1").await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, "key_taken"));
    let again = engine.start(ONE, &"x".into()).key("order:1").await.unwrap();
    assert_eq!(again.id(), first.id());
}

#[tokio::test(start_paused = true)]
async fn a_redrive_takes_the_business_key_again_or_is_refused() {
    let cloud = Cloud::default();
    let engine = engine(&cloud).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let unique =
        async |input: &str| engine.start(ONE, &input.to_owned()).unique("acme").await.unwrap();
    cloud.fault("do a", &[Fault::Refuse, Fault::Refuse]);
    let first = unique("a").await;
    assert!(matches!(first.outcome().await.unwrap(), Outcome::RolledBack(Some(_))));
    let second = unique("b").await;
    assert_eq!(second.output().await.unwrap(), "b");
    let error = engine.redrive(first.id(), By::default()).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, "guarded"));
    assert!(error.to_string().contains(&second.id().to_string()), "{error}");
    assert!(matches!(first.outcome().await.unwrap(), Outcome::RolledBack(Some(_))));

    engine.tear_down(second.id(), By::default()).await.unwrap();
    assert_eq!(second.outcome().await.unwrap(), Outcome::TornDown);
    for _ in 0..2 {
        engine.redrive(first.id(), By::default()).await.unwrap();
        assert_eq!(unique("c").await.id(), first.id(), "it holds the key while it is driven");
        sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(first.output().await.unwrap(), "a");
    assert_eq!(unique("c").await.id(), first.id(), "and when it has succeeded");
    worker.stop().await;
}

// covers: S22
#[tokio::test(start_paused = true)]
async fn a_changed_shape_is_refused_however_many_runs_came_after() {
    let (store, cloud) = (MemoryStore::new(), Cloud::default());
    let second = SagaId::new("one", 2);
    let build = async |sagas: Vec<Saga<String, String>>| {
        let builder = Engine::builder(store.clone());
        sagas.into_iter().fold(builder, provision_core::EngineBuilder::register).build().await
    };
    let engine = build(vec![saga(ONE, &cloud), saga(second, &cloud)]).await.unwrap();
    engine.start(ONE, &"old".into()).await.unwrap();
    for n in 0..150 {
        engine.start(second, &format!("new {n}")).await.unwrap();
    }
    let changed = Saga::define(ONE, |s| {
        let step = s.step("renamed", Do(cloud.clone()), UndoIt(cloud.clone()));
        step.input((), |c: &String, ()| c.clone())
    });
    let error = build(vec![changed.unwrap()]).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, "fingerprint"));
}
