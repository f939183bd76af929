//! Shared limits at work: callers wait their turn instead of running in a herd, and slots come
//! back however their calls end.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use provision_core::{
    Call, Engine, MemoryStore, NothingToUndo, Policy, RunStatus, Saga, SagaId, Step, StepContext,
    StepError, StoreError, Timestamp, WorkerConfig,
    bucket::Bucket,
    clock::{sleep, within},
    limit::{Admission, Ask, Concurrency, Limiter, Observed, Profile, Rate, Turn},
    store::{Incarnation, StateStore},
};
use tokio::time::Instant;
use uuid::Uuid;

use crate::counting::Counting;

const CALLS: SagaId<u32, u32> = SagaId::new("calls", 1);

/// One call against a bucket, so many milliseconds long; remembers who was admitted when.
#[derive(Debug, Clone)]
struct Calls {
    profile: Profile,
    takes: Duration,
    /// The author gives the first call up after so long.
    patience: Option<Duration>,
    asked: Arc<Mutex<Vec<u32>>>,
    sent: Arc<Mutex<Vec<(u32, Instant)>>>,
}

impl Calls {
    fn new(rate: Option<Rate>, concurrency: Option<u32>) -> Self {
        let concurrency = concurrency.map(Concurrency::AtMost);
        let profile = Profile { bucket: "p/a".to_owned(), rate, concurrency };
        let (asked, sent) = (Arc::default(), Arc::default());
        Self { profile, takes: Duration::ZERO, patience: None, asked, sent }
    }

    fn sent(&self) -> Vec<(u32, Instant)> {
        self.sent.lock().unwrap().clone()
    }
}

impl Step for Calls {
    const KIND: &'static str = "test.calls";
    type Input = u32;
    type Output = u32;

    async fn run(&self, cx: &StepContext, number: u32) -> Result<u32, StepError> {
        let call = Call::mutate("call")
            .with_timeout(Duration::from_secs(3_600))
            .with_limit(self.profile.clone());
        self.asked.lock().unwrap().push(number);
        let send = cx.call(&call, async {
            self.sent.lock().unwrap().push((number, Instant::now()));
            sleep(self.takes).await;
            Ok(number)
        });
        match self.patience.filter(|_| number == 0) {
            Some(patience) => Ok(within(patience, send).await.transpose()?.unwrap_or(number)),
            None => send.await,
        }
    }
}

async fn engine(store: &Counting, calls: &Calls, policy: Policy) -> Engine {
    let calls = calls.clone();
    let saga = Saga::define(CALLS, |s| {
        s.step("call", calls, NothingToUndo).retry(policy).input((), |n, ()| *n)
    });
    Engine::builder(store.clone()).register(saga.unwrap()).build().await.unwrap()
}

const TEN: Rate = Rate { calls: 10, per: Duration::from_secs(1), burst: 1 };

// covers: L3, R1-60
#[tokio::test(start_paused = true)]
async fn fifty_runs_at_one_rate_ask_about_twice_each_and_go_in_turn() {
    let (store, calls) = (Counting::default(), Calls::new(Some(TEN), None));
    let engine = engine(&store, &calls, Policy::default()).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let began = Instant::now();
    let mut runs = Vec::new();
    for number in 0..50 {
        runs.push(engine.start(CALLS, &number).await.unwrap());
    }
    let mut frames = 0;
    for run in &runs {
        run.output().await.unwrap();
        frames += engine.run(run.id()).await.unwrap().seq;
    }
    assert!(began.elapsed() <= Duration::from_millis(5_500), "{:?}", began.elapsed());
    assert!(store.count("admit") <= 110, "{} asks", store.count("admit"));
    assert!(frames <= 120, "{frames} frames");
    let sent = calls.sent();
    assert_eq!(sent.len(), 50, "each called once");
    let asked = calls.asked.lock().unwrap().clone();
    for (place, (number, _)) in sent.iter().enumerate() {
        let came = asked.iter().position(|asked| asked == number).unwrap();
        assert!(place.abs_diff(came) <= 5, "who asked as number {came} was number {place}");
    }
    for pair in sent.windows(2) {
        let apart = pair[1].1 - pair[0].1;
        assert!(apart >= Duration::from_millis(90), "faster than the rate: {apart:?}");
    }
    worker.stop().await;
}

// covers: L3, L4, R1-60
#[tokio::test(start_paused = true)]
async fn a_long_line_is_journaled_uses_up_no_attempt_and_stays_linear() {
    let (store, calls) = (Counting::default(), Calls::new(Some(TEN), None));
    // One attempt and two seconds in all: waiting for the limiter is no part of either.
    let policy = Policy::once().with_total(Duration::from_secs(2));
    let engine = engine(&store, &calls, policy).await;
    let worker = engine.spawn_worker(WorkerConfig::default().with_slots(1_000));
    let began = Instant::now();
    let mut runs = Vec::new();
    for number in 0..300 {
        runs.push(engine.start(CALLS, &number).await.unwrap());
    }
    let mut frames = 0;
    for run in &runs {
        run.output().await.unwrap();
        frames += engine.run(run.id()).await.unwrap().seq;
    }
    assert!(began.elapsed() <= Duration::from_secs(45), "{:?}", began.elapsed());
    assert!(store.count("admit") <= 300 * 6, "{} asks", store.count("admit"));
    assert!(frames <= 300 * 8, "{frames} frames");
    worker.stop().await;
}

// covers: L4
#[tokio::test(start_paused = true)]
async fn a_long_pause_is_waited_for_without_a_lease_and_without_the_budget() {
    let (store, calls) = (Counting::default(), Calls::new(None, None));
    let policy = Policy::once().with_total(Duration::from_secs(60));
    let engine = engine(&store, &calls, policy).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let pause = Observed { pause: Some(Duration::from_secs(7_200)), ..Observed::default() };
    store.observe("p/a", Incarnation(Uuid::nil()), &pause).await.unwrap();
    let run = engine.start(CALLS, &1).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    let head = engine.run(run.id()).await.unwrap();
    assert_eq!((head.status, head.owner), (RunStatus::Waiting, None));
    run.output().await.unwrap();
    let frames = engine.run(run.id()).await.unwrap().seq;
    assert!(frames <= 6, "{frames} frames");
    worker.stop().await;
}

// covers: L3, R3-56
#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_gives_its_slot_back() {
    let mut calls = Calls::new(None, Some(1));
    (calls.takes, calls.patience) = (Duration::from_secs(20), Some(Duration::from_secs(1)));
    let store = Counting::default();
    let engine = engine(&store, &calls, Policy::default()).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    engine.start(CALLS, &0).await.unwrap().output().await.unwrap();
    let began = Instant::now();
    engine.start(CALLS, &1).await.unwrap().output().await.unwrap();
    assert!(began.elapsed() <= Duration::from_secs(22), "{:?}", began.elapsed());
    worker.stop().await;
}

// covers: L3, L4
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_slot_asks_less_and_less_often() {
    let mut calls = Calls::new(None, Some(1));
    calls.takes = Duration::from_secs(600);
    let store = Counting::default();
    let policy = Policy::once().with_total(Duration::from_secs(60));
    let engine = engine(&store, &calls, policy).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let first = engine.start(CALLS, &0).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let second = engine.start(CALLS, &1).await.unwrap();
    first.output().await.unwrap();
    let freed = Instant::now();
    sleep(Duration::from_millis(1)).await;
    while calls.sent().len() < 2 {
        sleep(Duration::from_secs(1)).await;
    }
    assert!(freed.elapsed() <= Duration::from_secs(80), "{:?}", freed.elapsed());
    second.output().await.unwrap();
    let frames = engine.run(second.id()).await.unwrap().seq;
    assert!(frames <= 40, "{frames} frames");
    assert!(store.count("admit") <= 120, "{} asks", store.count("admit"));
    worker.stop().await;
}

// covers: L6
#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_turn() {
    let (store, calls) = (Counting::default(), Calls::new(Some(TEN), None));
    let engine = engine(&store, &calls, Policy::default()).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    for number in 0..50 {
        engine.start(CALLS, &number).await.unwrap();
    }
    sleep(Duration::from_millis(500)).await;
    let told = Instant::now();
    worker.stop().await;
    assert!(told.elapsed() <= Duration::from_secs(1), "{:?}", told.elapsed());
    assert!(store.now().await.unwrap() > Timestamp::ZERO);
}

/// A limiter beside the store, by a clock of its own: so many milliseconds ahead of it, or behind.
#[derive(Debug, Clone)]
struct Apart {
    limiter: MemoryStore,
    ahead: i64,
    asks: Arc<AtomicU32>,
}

impl Apart {
    fn shifted(at: Timestamp, by: i64) -> Timestamp {
        Timestamp::from_millis(at.as_millis().saturating_add_signed(by))
    }
}

#[async_trait]
impl Limiter for Apart {
    async fn admit(&self, ask: &Ask) -> Result<Admission, StoreError> {
        self.asks.fetch_add(1, SeqCst);
        let mut ask = ask.clone();
        if let Turn::Came(at) = &mut ask.turn {
            *at = Self::shifted(*at, -self.ahead);
        }
        let mut answer = self.limiter.admit(&ask).await?;
        if let Admission::At { at, .. } = &mut answer {
            *at = Self::shifted(*at, self.ahead);
        }
        // A round trip.
        sleep(Duration::from_millis(1)).await;
        Ok(answer)
    }

    async fn observe(
        &self,
        bucket: &str,
        worker: Incarnation,
        seen: &Observed,
    ) -> Result<(), StoreError> {
        self.limiter.observe(bucket, worker, seen).await
    }

    async fn look(&self, bucket: &str) -> Result<Bucket, StoreError> {
        self.limiter.look(bucket).await
    }
}

// covers: L3, S20
#[tokio::test(start_paused = true)]
async fn a_limiter_by_another_clock_holds_calls_back_for_as_long_as_it_means() {
    const ONE: Rate = Rate { calls: 1, per: Duration::from_secs(1), burst: 1 };
    for ahead in [-10_000, 0, 10_000] {
        let calls = Calls::new(Some(ONE), None);
        let apart = Apart { limiter: MemoryStore::new(), ahead, asks: Arc::default() };
        let step = calls.clone();
        let saga =
            Saga::define(CALLS, |s| s.step("call", step, NothingToUndo).input((), |n, ()| *n));
        let builder = Engine::builder(MemoryStore::new()).limiter(apart.clone());
        let builder = builder.register(saga.unwrap()).start_limit(ONE);
        let engine = builder.build().await.unwrap();
        let worker = engine.spawn_worker(WorkerConfig::default());
        let first = engine.start(CALLS, &0).await.unwrap();
        let refused = engine.start(CALLS, &1).await.unwrap_err();
        let wait = refused.retry_after().unwrap();
        assert!(wait <= Duration::from_secs(1), "{ahead}: a start waits {wait:?}");
        let second = engine.start(CALLS, &1).tenant("other").await.unwrap();
        first.output().await.unwrap();
        second.output().await.unwrap();
        let asks = apart.asks.load(SeqCst);
        assert!(asks <= 3 + 4, "{ahead}: {asks} asks, three of them by starts");
        let sent = calls.sent();
        let apart = sent[1].1 - sent[0].1;
        assert!((900..=1_200).contains(&apart.as_millis()), "{ahead}: {apart:?}");
        worker.stop().await;
    }
}
