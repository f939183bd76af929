//! What a provider with bad habits is left with: nothing of ours that nobody knows of, and all
//! that is not ours.

use std::time::Duration;

use provision_core::{
    Engine, MemoryStore, NothingToUndo, Outcome, Policy, Saga, SagaId, WorkerConfig, clock::sleep,
    engine::RunHandle, store::StateStore,
};

use crate::yard::{How, Pass, Plot, Yard};

const ONE: SagaId<String, String> = SagaId::new("one", 1);
const TWO: SagaId<String, String> = SagaId::new("two", 1);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The watch is asked by the tests themselves.
fn config() -> WorkerConfig {
    WorkerConfig::default().with_maintenance(secs(10_000_000))
}

/// One resource `r`, and a step after it that fails.
fn then_fails(yard: &Yard) -> Saga<String, String> {
    Saga::define(ONE, |s| {
        let plot = s.resource("r", yard.clone()).input((), |name: &String, ()| name.clone());
        s.step("f", Pass::failing(), NothingToUndo).input(plot, |_, plot| plot)
    })
    .unwrap()
}

/// One resource `r`.
fn alone(yard: &Yard, retry: Policy) -> Saga<String, String> {
    Saga::define(ONE, |s| {
        s.resource("r", yard.clone()).retry(retry).input((), |name: &String, ()| name.clone())
    })
    .unwrap()
}

async fn engine(saga: Saga<String, String>) -> (MemoryStore, Engine) {
    let store = MemoryStore::new();
    let engine = Engine::builder(store.clone()).register(saga).build().await.unwrap();
    (store, engine)
}

async fn start(engine: &Engine, saga: SagaId<String, String>) -> RunHandle<String> {
    engine.start(saga, &"x".to_owned()).await.unwrap()
}

// covers: S11
#[tokio::test(start_paused = true)]
async fn what_appears_after_a_refused_create_is_not_ours() {
    let yard = Yard::new().without_marks();
    yard.creates(&[How::Nothing]);
    let (store, engine) = engine(then_fails(&yard)).await;
    let worker = engine.spawn_worker(config());
    let run = start(&engine, ONE).await;
    sleep(secs(20)).await;
    // The create was refused for certain; before its repetition somebody else takes the name.
    let now = StateStore::now(&store).await.unwrap();
    yard.put(Plot::new("theirs", "x", None, now));
    let Outcome::RolledBack(Some(failure)) = run.outcome().await.unwrap() else { panic!() };
    assert_eq!((failure.path.as_str(), failure.code.as_str()), ("r", "foreign"));
    assert_eq!((yard.log(), yard.ids()), (vec!["create x".into()], vec!["theirs".to_owned()]));
    worker.stop().await;
}

// covers: S9
#[tokio::test(start_paused = true)]
async fn a_provider_whose_clock_is_behind_does_not_make_our_own_foreign() {
    let yard = Yard::new().without_marks();
    yard.creates(&[How::Lost]);
    yard.world().behind = secs(40);
    let (_, engine) = engine(alone(&yard, Policy::default())).await;
    let worker = engine.spawn_worker(config());
    let run = start(&engine, ONE).await;
    assert_eq!(run.output().await.unwrap(), "t1");
    assert_eq!(yard.log(), ["create x"]);
    worker.stop().await;
}

// covers: S11
#[tokio::test(start_paused = true)]
async fn what_is_older_than_the_tolerated_skew_is_not_ours() {
    let yard = Yard::new().without_marks();
    yard.creates(&[How::Late]);
    let (store, engine) = engine(alone(&yard, Policy::default())).await;
    let worker = engine.spawn_worker(config());
    let now = StateStore::now(&store).await.unwrap().as_millis();
    let run = start(&engine, ONE).await;
    // A look-up that lagged: it was there all the time.
    let old = provision_core::Timestamp::from_millis(now - 600_000);
    yard.put(Plot::new("theirs", "x", None, old));
    let Outcome::RolledBack(Some(failure)) = run.outcome().await.unwrap() else { panic!() };
    assert_eq!(failure.code, "foreign");
    assert_eq!(yard.ids(), ["theirs"]);
    worker.stop().await;
}
