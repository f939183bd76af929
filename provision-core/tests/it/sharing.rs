//! Limits that workers share: concurrency, rates, pauses, breakers, and queues of their own.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use provision_core::{
    Call, Effect, Engine, MemoryStore, NothingToUndo, Outcome, Saga, SagaId, SignalId, Step,
    StepContext, StepError, Verdict, Worker, WorkerConfig,
    clock::sleep,
    limit::{Concurrency, Observed, Overrides, Profile, Rate},
};
use tokio::time::Instant;

const CALL: SagaId<String, ()> = SagaId::new("call", 1);

/// A provider that counts who calls it, and answers as it is told.
#[derive(Debug, Clone)]
struct Provider {
    profile: Option<Profile>,
    takes: Duration,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    open: u32,
    most: u32,
    at: Vec<Instant>,
    /// Calls that it bears at the same time; one more is told to slow down.
    bears: Option<u32>,
    /// Answers still to give; when there are none, calls succeed.
    answers: Vec<Answer>,
}

#[derive(Debug, Clone, Copy)]
enum Answer {
    SlowDown,
    Broken,
}

impl Provider {
    fn new(profile: Option<Profile>, takes: Duration) -> Self {
        Self { profile, takes, seen: Arc::default() }
    }

    fn most(&self) -> u32 {
        self.seen.lock().unwrap().most
    }

    /// Calls since `began`, each as the time since then.
    fn calls(&self, began: Instant) -> Vec<Duration> {
        let seen = self.seen.lock().unwrap();
        seen.at.iter().filter(|at| **at >= began).map(|at| at.duration_since(began)).collect()
    }

    async fn answer(&self) -> Option<Answer> {
        {
            let mut seen = self.seen.lock().unwrap();
            seen.open += 1;
            seen.most = seen.most.max(seen.open);
            seen.at.push(Instant::now());
            if seen.bears.is_some_and(|bears| seen.open > bears) {
                seen.answers.push(Answer::SlowDown);
            }
        }
        sleep(self.takes).await;
        let mut seen = self.seen.lock().unwrap();
        seen.open -= 1;
        seen.answers.pop()
    }
}

impl Step for Provider {
    const KIND: &'static str = "test.call";
    type Input = String;
    type Output = ();

    async fn run(&self, cx: &StepContext, _: String) -> Result<(), StepError> {
        let mut call = Call::mutate("call").with_timeout(Duration::from_secs(600));
        if let Some(profile) = &self.profile {
            call = call.with_limit(profile.clone());
        }
        let bucket = self.profile.as_ref().map_or("", |profile| &profile.bucket);
        let answer = cx.call(&call, async { Ok(self.answer().await) }).await?;
        let healthy = !matches!(answer, Some(Answer::Broken));
        cx.observe(bucket, Observed { healthy: Some(healthy), ..Observed::default() }).await;
        match answer {
            None => Ok(()),
            Some(Answer::Broken) => Err(StepError::retry("call")),
            Some(Answer::SlowDown) => {
                let (bucket, after) = (bucket.to_owned(), Duration::from_secs(90));
                Err(StepError::new(Effect::None, Verdict::Throttled { bucket, after }, "call"))
            }
        }
    }
}

fn saga(provider: &Provider) -> Saga<String, ()> {
    Saga::define(CALL, |s| {
        s.step("call", provider.clone(), NothingToUndo).input((), |c: &String, ()| c.clone())
    })
    .unwrap()
}

fn profile(bucket: &str) -> Profile {
    Profile { bucket: bucket.to_owned(), rate: None, concurrency: None }
}

async fn engine(store: &MemoryStore, provider: &Provider) -> Engine {
    Engine::builder(store.clone()).register(saga(provider)).build().await.unwrap()
}

// covers: R1-82
#[tokio::test(start_paused = true)]
async fn a_limit_that_nobody_has_told_is_found_out_from_below() {
    let adaptive = Some(Concurrency::Adaptive(50));
    let profile = Profile { concurrency: adaptive, ..profile("account") };
    let provider = Provider::new(Some(profile), Duration::from_secs(2));
    provider.seen.lock().unwrap().bears = Some(3);
    let store = MemoryStore::new();
    let engine = engine(&store, &provider).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let mut runs = Vec::new();
    for n in 0..60 {
        runs.push(engine.start(CALL, &n.to_string()).await.unwrap());
    }
    let mut width_most = 0;
    for run in runs {
        run.output().await.unwrap();
        let found = engine.limit("account").await.unwrap();
        width_most = width_most.max(found.width().unwrap());
    }
    assert_eq!(provider.most(), 4, "found out by one call too many");
    assert!((3..=4).contains(&width_most), "what was found out can be seen: {width_most}");
    let calls = provider.seen.lock().unwrap().at.len();
    assert!((61..=75).contains(&calls), "{calls} calls for 60 runs: few were refused");
    worker.stop().await;
}

// covers: R3-56
#[tokio::test(start_paused = true)]
async fn open_calls_of_an_account_are_capped_over_all_engines() {
    let capped = Profile { concurrency: Some(3_u32.into()), ..profile("account") };
    let provider = Provider::new(Some(capped), Duration::from_secs(1));
    let store = MemoryStore::new();
    let mut workers = Vec::new();
    let first = engine(&store, &provider).await;
    for _ in 0..2 {
        workers.push(engine(&store, &provider).await.spawn_worker(WorkerConfig::default()));
    }
    workers.push(first.spawn_worker(WorkerConfig::default()));
    let mut runs = Vec::new();
    for n in 0..15 {
        runs.push(first.start(CALL, &n.to_string()).await.unwrap());
    }
    for run in runs {
        run.output().await.unwrap();
    }
    assert_eq!(provider.most(), 3, "never above, and the room is used");
    for worker in workers {
        worker.stop().await;
    }
}

/// Starts so many pairs of steps at each engine in turn, and answers with the moments of their calls.
async fn calls_of_pairs(engines: &[Engine], provider: &Provider, count: usize) -> Vec<Duration> {
    let began = Instant::now();
    let mut runs = Vec::new();
    for (n, engine) in engines.iter().cycle().take(count).enumerate() {
        runs.push(engine.start(PAIR, &format!("{n} of {count}")).await.unwrap());
    }
    for run in runs {
        run.output().await.unwrap();
    }
    provider.calls(began)
}

const PAIR: SagaId<String, ()> = SagaId::new("pair", 1);

// covers: R1-87
#[tokio::test(start_paused = true)]
async fn steps_and_engines_share_what_a_bucket_allows_and_it_is_replaced_while_they_work() {
    let slow = Rate { calls: 1, per: Duration::from_secs(2), burst: 1 };
    let own = Profile { rate: Some(slow), ..profile("api/account") };
    let provider = Provider::new(Some(own), Duration::from_millis(50));
    let saga = Saga::define(PAIR, |s| {
        let left = s.step("left", provider.clone(), NothingToUndo);
        let left = left.input((), |c: &String, ()| c.clone());
        let right = s.step("right", provider.clone(), NothingToUndo);
        let right = right.input((), |c: &String, ()| c.clone());
        s.value("both").input((left, right), |_, _| ())
    });
    let (store, saga) = (MemoryStore::new(), saga.unwrap());
    let mut engines = Vec::new();
    for _ in 0..2 {
        let engine = Engine::builder(store.clone()).register(saga.clone()).build().await;
        engines.push(engine.unwrap());
    }
    let workers: Vec<_> =
        engines.iter().map(|engine| engine.spawn_worker(WorkerConfig::default())).collect();

    let calls = calls_of_pairs(&engines, &provider, 4).await;
    assert_eq!(calls.len(), 8, "each once");
    assert!(calls.last() > Some(&Duration::from_millis(13_500)), "two seconds apart: {calls:?}");

    // The provider allows ten times as much.
    let set = |overrides: &Overrides| {
        for engine in &engines {
            engine.set_limit_overrides(overrides.clone()).unwrap();
        }
    };
    let fast = Overrides::new().with_rate("api/", Rate { calls: 10, ..slow });
    set(&fast);
    sleep(Duration::from_secs(2)).await;
    let calls = calls_of_pairs(&engines, &provider, 10).await;
    assert_eq!(calls.len(), 20);
    let took = calls.last().unwrap().as_millis();
    assert!((3_500..15_000).contains(&took), "a fifth of a second apart: {calls:?}");

    // It bears one call at a time alone, however often it may be called.
    let often = Rate { calls: 1_000, burst: 100, ..slow };
    set(&Overrides::new().with_rate("api/", often));
    provider.seen.lock().unwrap().most = 0;
    calls_of_pairs(&engines, &provider, 4).await;
    assert!(provider.most() > 1, "all at once");
    set(&Overrides::new().with_rate("api/", often).with_concurrency("api/account", 1));
    provider.seen.lock().unwrap().most = 0;
    assert_eq!(calls_of_pairs(&engines, &provider, 4).await.len(), 8);
    assert_eq!(provider.most(), 1);

    // What would stop everything is refused, and what holds stays; without overrides the own hold.
    set(&fast);
    for engine in &engines {
        let none = Overrides::new().with_rate("api/", Rate { calls: 0, ..slow });
        assert_eq!(engine.set_limit_overrides(none).unwrap_err().code(), "limit_rate");
    }
    assert!(calls_of_pairs(&engines, &provider, 4).await.last() < Some(&Duration::from_secs(8)));
    set(&Overrides::new());
    sleep(Duration::from_secs(2)).await;
    let calls = calls_of_pairs(&engines, &provider, 4).await;
    assert!(calls.last() > Some(&Duration::from_millis(13_500)), "two seconds apart: {calls:?}");
    for worker in workers {
        worker.stop().await;
    }
    let refused = Overrides::new().with_concurrency("", 0);
    let builder = Engine::builder(store).limit_overrides(refused);
    assert_eq!(builder.build().await.unwrap_err().code(), "limit_concurrency");
}

// covers: R1-57
#[tokio::test(start_paused = true)]
async fn ten_runs_keep_to_thirty_calls_a_minute_without_being_told() {
    const CLIENT: SagaId<String, ()> = SagaId::new("client", 1);
    let rate = Rate { calls: 25, per: Duration::from_secs(60), burst: 5 };
    let provider =
        Provider::new(Some(Profile { rate: Some(rate), ..profile("account") }), Duration::ZERO);
    let saga = Saga::define(CLIENT, |s| {
        let parts: Vec<_> = (0..6)
            .map(|n| {
                let step = s.step(format!("call-{n}"), provider.clone(), NothingToUndo);
                step.input((), |c: &String, ()| c.clone())
            })
            .collect();
        s.value("all").input(parts, |_, _| ())
    });
    let saga = saga.unwrap();
    let engine = Engine::builder(MemoryStore::new()).register(saga).build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let began = Instant::now();
    let mut runs = Vec::new();
    for n in 0..10 {
        runs.push(engine.start(CLIENT, &n.to_string()).await.unwrap());
    }
    for run in runs {
        run.output().await.unwrap();
    }
    let calls = provider.calls(began);
    assert_eq!(calls.len(), 60);
    for from in &calls {
        let minute =
            calls.iter().filter(|at| **at >= *from && **at - *from < Duration::from_secs(60));
        assert!(minute.count() <= 30, "more than 30 calls in the minute after {from:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(180), "{:?}", began.elapsed());
    worker.stop().await;
}

// covers: R1-58
#[tokio::test(start_paused = true)]
async fn a_told_wait_holds_the_whole_bucket_and_no_other() {
    const OTHER: SagaId<String, ()> = SagaId::new("other", 1);
    let provider = Provider::new(Some(profile("one")), Duration::ZERO);
    provider.seen.lock().unwrap().answers.push(Answer::SlowDown);
    let second = Provider::new(Some(profile("two")), Duration::ZERO);
    let other = Saga::define(OTHER, |s| {
        s.step("call", second.clone(), NothingToUndo).input((), |c: &String, ()| c.clone())
    });
    let engine = Engine::builder(MemoryStore::new())
        .register(saga(&provider))
        .register(other.unwrap())
        .build()
        .await
        .unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let began = Instant::now();
    let told = engine.start(CALL, &"a".into()).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let held = engine.start(CALL, &"b".into()).await.unwrap();
    let free = engine.start(OTHER, &"c".into()).await.unwrap();
    sleep(Duration::from_secs(80)).await;
    assert_eq!(provider.calls(began).len(), 1, "nobody asks again before the wait is over");
    assert_eq!(second.calls(began).len(), 1, "another bucket is not held");
    free.output().await.unwrap();
    for run in [told, held] {
        run.output().await.unwrap();
    }
    assert!(provider.calls(began)[1] >= Duration::from_secs(90));
    worker.stop().await;
}

// covers: R4-28
#[tokio::test(start_paused = true)]
async fn an_open_breaker_makes_runs_wait_and_costs_them_no_attempt() {
    let provider = Provider::new(Some(profile("sick")), Duration::ZERO);
    provider.seen.lock().unwrap().answers = vec![Answer::Broken; 5];
    let engine = engine(&MemoryStore::new(), &provider).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let mut broken = Vec::new();
    for n in 0..5 {
        broken.push(engine.start(CALL, &n.to_string()).await.unwrap());
    }
    sleep(Duration::from_millis(500)).await;
    let began = Instant::now();
    let held = engine.start(CALL, &"held".into()).await.unwrap();
    sleep(Duration::from_secs(20)).await;
    assert!(provider.calls(began).is_empty(), "nothing is sent while it is open");
    let head = engine.run(held.id()).await.unwrap();
    assert_eq!(head.summary.waiting.as_deref(), Some("the limit `sick` before `call`"));
    held.output().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    let failures = engine.failures(held.id()).await.unwrap();
    assert!(failures.iter().all(|view| view.failure.attempt <= 1), "{failures:?}");
    for run in broken {
        run.output().await.unwrap();
    }
    worker.stop().await;
}

// covers: R5-29, R5-30, R5-31, R1-24
#[tokio::test(start_paused = true)]
async fn each_queue_has_its_own_workers_and_a_full_one_starves_no_other() {
    let queues = BTreeMap::from([("publish_jobs", 5), ("health_checks", 10), ("token_refresh", 5)]);
    let store = MemoryStore::new();
    let (mut workers, mut providers, mut runs) = (Vec::new(), BTreeMap::new(), Vec::new());
    for (queue, slots) in &queues {
        // Each engine has a step of its own, so that it is known which worker took a run.
        let provider = Provider::new(None, Duration::from_secs(10));
        let engine = engine(&store, &provider).await;
        workers.push(
            engine.spawn_worker(WorkerConfig::default().with_queues([*queue]).with_slots(*slots)),
        );
        providers.insert(*queue, provider);
        if *queue != "token_refresh" {
            for n in 0..60 {
                let start = engine.start(CALL, &n.to_string()).queue(*queue);
                runs.push(start.await.unwrap());
            }
        }
    }
    sleep(Duration::from_secs(15)).await;
    let began = Instant::now();
    let starter = engine(&store, &providers["token_refresh"]).await;
    let refresh = starter.start(CALL, &"r".into()).queue("token_refresh").await.unwrap();
    refresh.output().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    for run in runs {
        run.output().await.unwrap();
    }
    for (queue, slots) in queues {
        let most = providers[queue].most();
        let expected = if queue == "token_refresh" { 1 } else { u32::try_from(slots).unwrap() };
        assert_eq!(most, expected, "{queue}");
    }
    for worker in workers {
        worker.stop().await;
    }
}

// covers: R5-78
#[tokio::test(start_paused = true)]
async fn a_tenant_with_a_thousand_runs_does_not_hold_back_one_with_a_single_run() {
    let provider = Provider::new(None, Duration::from_secs(1));
    let engine = engine(&MemoryStore::new(), &provider).await;
    for n in 0..1_000 {
        engine.start(CALL, &n.to_string()).tenant("crowd").await.unwrap();
    }
    let worker = engine.spawn_worker(WorkerConfig::default().with_slots(4));
    sleep(Duration::from_secs(20)).await;
    let began = Instant::now();
    let one = engine.start(CALL, &"one".into()).tenant("small").delay(Duration::from_millis(1));
    one.await.unwrap().output().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    assert!(provider.calls(began).len() < 200, "the crowd is still waiting");
    worker.stop().await;
}

/// Workers of `count` engines with this cap, each with room for all.
async fn capped(store: &MemoryStore, provider: &Provider, count: usize) -> Vec<Worker> {
    let mut workers = Vec::new();
    for _ in 0..count {
        let builder = Engine::builder(store.clone()).register(saga(provider));
        let builder = builder.queue_limit("publish_jobs", 5).queue_limit_each("tenant/", 1);
        let engine = builder.build().await.unwrap();
        workers.push(engine.spawn_worker(WorkerConfig::default().with_slots(64)));
    }
    workers
}

// covers: R5-29, R5-31, L3
#[tokio::test(start_paused = true)]
async fn a_capped_queue_is_never_passed_by_three_workers_and_holds_back_no_other() {
    let store = MemoryStore::new();
    let provider = Provider::new(None, Duration::from_secs(10));
    let starter = engine(&store, &provider).await;
    let mut runs = Vec::new();
    for n in 0..60 {
        runs.push(starter.start(CALL, &n.to_string()).queue("publish_jobs").await.unwrap());
    }
    let began = Instant::now();
    let workers = capped(&store, &provider, 3).await;
    sleep(Duration::from_secs(15)).await;
    assert_eq!(provider.most(), 5);
    let other = Instant::now();
    let refresh = starter.start(CALL, &"r".into()).queue("token_refresh").priority(-9);
    refresh.await.unwrap().output().await.unwrap();
    assert!(other.elapsed() < Duration::from_millis(10_500), "{:?}", other.elapsed());
    assert_eq!(provider.most(), 6, "five of them, and the other");
    for run in runs {
        run.output().await.unwrap();
    }
    // Twelve rounds of five, each begun as soon as one of the round before has ended.
    let last = provider.calls(began).last().copied();
    assert_eq!(last.map(|last| last.as_secs()), Some(110), "{:?}", provider.calls(began));
    for worker in workers {
        worker.stop().await;
    }
}

// covers: R5-29
#[tokio::test(start_paused = true)]
async fn runs_of_one_key_come_one_after_the_other_beside_those_of_other_keys() {
    let store = MemoryStore::new();
    let provider = Provider::new(None, Duration::from_secs(10));
    let workers = capped(&store, &provider, 2).await;
    let capped = Engine::builder(store.clone()).register(saga(&provider));
    // A start that is handed to a worker of its own process keeps to the cap, too.
    let starter = capped.queue_limit_each("tenant/", 1).build().await.unwrap();
    let own = starter.spawn_worker(WorkerConfig::default());
    let began = Instant::now();
    let mut runs = Vec::new();
    for n in 0..12 {
        let queue = format!("tenant/{}", n % 4);
        runs.push(starter.start(CALL, &n.to_string()).queue(queue).await.unwrap());
    }
    for run in runs {
        run.output().await.unwrap();
    }
    assert_eq!(provider.most(), 4, "one of each key");
    let took = began.elapsed();
    assert!((30..35).contains(&took.as_secs()), "{took:?}");
    for worker in workers.into_iter().chain([own]) {
        worker.stop().await;
    }
}

// covers: R5-29
#[tokio::test(start_paused = true)]
async fn a_run_that_waits_takes_no_place_of_a_capped_queue() {
    let store = MemoryStore::new();
    let go = SignalId::<()>::new("go");
    let saga = Saga::define(CALL, |s| s.signal(go).input((), |_, ()| Duration::from_secs(600)));
    let builder = Engine::builder(store).register(saga.unwrap()).queue_limit("slow", 1);
    let engine = builder.build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let began = Instant::now();
    let mut runs = Vec::new();
    for n in 0..10 {
        runs.push(engine.start(CALL, &n.to_string()).queue("slow").await.unwrap());
    }
    for run in runs {
        assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(_)));
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(620), "they wait beside each other: {took:?}");
    worker.stop().await;
}
