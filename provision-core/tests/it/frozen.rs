//! A limiter beside the store that never answers: what it costs calls and leases.

use std::{future::pending, time::Duration};

use async_trait::async_trait;
use provision_core::{
    Call, Engine, NothingToUndo, Saga, SagaId, Step, StepContext, StepError, StoreError,
    WorkerConfig,
    bucket::Bucket,
    clock::sleep,
    limit::{Admission, Ask, Concurrency, Limiter, Observed, Profile},
    store::Incarnation,
};
use tokio::time::Instant;

use crate::counting::Counting;

const WORK: SagaId<u32, u32> = SagaId::new("work", 1);

#[derive(Debug)]
struct Frozen;

#[async_trait]
impl Limiter for Frozen {
    async fn admit(&self, _: &Ask) -> Result<Admission, StoreError> {
        pending().await
    }

    async fn observe(&self, _: &str, _: Incarnation, _: &Observed) -> Result<(), StoreError> {
        pending().await
    }

    async fn look(&self, _: &str) -> Result<Bucket, StoreError> {
        pending().await
    }
}

/// One call in a bucket with slots, which takes so long.
#[derive(Debug, Clone)]
struct Calls(Duration);

impl Step for Calls {
    const KIND: &'static str = "test.calls";
    type Input = u32;
    type Output = u32;

    async fn run(&self, cx: &StepContext, input: u32) -> Result<u32, StepError> {
        let concurrency = Some(Concurrency::AtMost(4));
        let profile = Profile { bucket: "calls".to_owned(), rate: None, concurrency };
        let call = Call::mutate("call").with_limit(profile).with_timeout(Duration::from_secs(200));
        cx.call(&call, async {
            sleep(self.0).await;
            Ok(input)
        })
        .await
    }
}

async fn engine(store: &Counting, takes: Duration) -> Engine {
    let saga = Saga::define(WORK, |s| {
        s.step("calls", Calls(takes), NothingToUndo).input((), |input: &u32, ()| *input)
    });
    let builder = Engine::builder(store.clone()).limiter(Frozen).register(saga.unwrap());
    builder.build().await.unwrap()
}

// covers: L7, R3-56
#[tokio::test(start_paused = true)]
async fn calls_go_on_without_a_limiter_that_never_answers() {
    let engine = engine(&Counting::default(), Duration::from_millis(100)).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let began = Instant::now();
    let mut runs = Vec::new();
    for n in 0..20 {
        runs.push(engine.start(WORK, &n).await.unwrap());
    }
    for (n, run) in runs.iter().enumerate() {
        assert_eq!(run.output().await.unwrap(), u32::try_from(n).unwrap());
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    worker.stop().await;
}

// covers: L2, S6
#[tokio::test(start_paused = true)]
async fn leases_are_renewed_in_time_beside_a_limiter_that_never_answers() {
    let store = Counting::default();
    let engine = engine(&store, Duration::from_secs(60)).await;
    let lease = WorkerConfig::default().with_lease(Duration::from_secs(3));
    let worker = engine.spawn_worker(lease);
    let run = engine.start(WORK, &7).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    store.taken();
    sleep(Duration::from_secs(30)).await;
    let renewals = store.count("renew");
    assert!((28..=31).contains(&renewals), "{renewals} in 30 s, one each second");
    assert_eq!(run.output().await.unwrap(), 7);
    worker.stop().await;
}
