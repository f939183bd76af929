//! Redis as queue and limiter beside a journal in SQLite: what it does, and what its loss costs.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use provision_core::{
    Call, Engine, MemoryStore, NothingToUndo, RunHandle, RunId, Saga, SagaId, Step, StepContext,
    StepError, StoreError, Timestamp, Worker, WorkerConfig,
    error::StoreErrorKind,
    limit::{Admission, Ask, Concurrency, HeldBy, Limiter, Observed, Profile, Turn},
    queue::{Claim, Offer, Queue, QueueStats},
    store::Incarnation,
};
use provision_store_redis::{RedisConfig, RedisSidecar, RedisStore};
use provision_store_sqlite::SqliteStore;
use provision_testkit::conformance::{Fixture, Handle, new_worker};
use tokio::time::{Instant, timeout};

use crate::{
    given::{self, namespace, pass, url},
    outages::pair,
    server::Server,
    way::Way,
};

/// Longer than any test may take.
const PATIENCE: Duration = Duration::from_secs(120);

async fn sidecar(url: &str, namespace: &str) -> RedisSidecar {
    let config = RedisConfig::new(url).with_namespace(namespace);
    config.with_poll_interval(Duration::from_millis(50)).open_sidecar().await.unwrap()
}

/// A journal in memory with two sidecars beside it; the clocks of both pass together.
async fn fixture() -> Option<Fixture> {
    let url = given::url()?;
    let ahead = Arc::new(AtomicU64::new(0));
    let clock = Arc::clone(&ahead);
    let store = MemoryStore::with_clock(Arc::new(move || {
        let wall = Timestamp::from_system(std::time::SystemTime::now());
        wall.plus(Duration::from_millis(clock.load(Ordering::SeqCst)))
    }));
    let (here, there) = (namespace(), namespace());
    let main = sidecar(url, &here).await;
    let again = sidecar(url, &here).await;
    let other = main.in_namespace(there.as_str()).await.unwrap();
    let handle = |store: MemoryStore, beside: RedisSidecar| {
        let beside = Arc::new(beside);
        let queue = Arc::<RedisSidecar>::clone(&beside);
        Handle { queue, limiter: beside, ..Handle::of(Arc::new(store)) }
    };
    let elsewhere = store.in_namespace("elsewhere");
    let handles = [handle(store.clone(), main), handle(store, again), handle(elsewhere, other)];
    let client = redis::Client::open(url).unwrap();
    let advance = Arc::new(move |by: Duration| -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (client, ahead) = (client.clone(), Arc::clone(&ahead));
        let (here, there) = (here.clone(), there.clone());
        Box::pin(async move {
            ahead.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
            pass(&client, &here, by).await;
            pass(&client, &there, by).await;
        })
    });
    Some(Fixture::new(handles, Duration::from_secs(15), advance, ()))
}

mod queue {
    use super::fixture;
    provision_testkit::queue_beside_suite!(fixture);
}

mod limiter {
    use super::fixture;
    provision_testkit::limiter_beside_suite!(fixture);
}

const WORK: SagaId<u32, u32> = SagaId::new("work", 1);
const STEPS: u32 = 3;

/// How often each step of each run was called, and how many calls were open at once.
#[derive(Debug, Clone, Default)]
struct Seen {
    calls: Arc<Mutex<BTreeMap<(u32, u32), u32>>>,
    open: Arc<Mutex<(u32, u32)>>,
}

impl Seen {
    fn enter(&self, call: (u32, u32)) {
        *self.calls.lock().unwrap().entry(call).or_default() += 1;
        let mut open = self.open.lock().unwrap();
        open.0 += 1;
        open.1 = open.1.max(open.0);
    }

    fn leave(&self) {
        self.open.lock().unwrap().0 -= 1;
    }

    fn each_step_was_called_once(&self, runs: u32) {
        let calls = self.calls.lock().unwrap();
        assert_eq!(calls.len(), usize::try_from(runs * STEPS).unwrap());
        let twice: Vec<_> = calls.iter().filter(|(_, count)| **count != 1).collect();
        assert!(twice.is_empty(), "{twice:?}");
    }
}

#[derive(Debug, Clone)]
struct Add {
    seen: Seen,
    takes: Duration,
    /// Calls at the same time, over all workers.
    together: u32,
}

impl Step for Add {
    const KIND: &'static str = "test.add";
    type Input = (u32, u32);
    type Output = (u32, u32);

    async fn run(&self, cx: &StepContext, input: (u32, u32)) -> Result<(u32, u32), StepError> {
        let concurrency = Some(self.together);
        let concurrency = concurrency.map(Concurrency::AtMost);
        let profile = Profile { bucket: "add".to_owned(), rate: None, concurrency };
        let call = Call::mutate("add").with_limit(profile).with_timeout(PATIENCE);
        cx.call(&call, async {
            self.seen.enter(input);
            tokio::time::sleep(self.takes).await;
            self.seen.leave();
            Ok((input.0, input.1 + 1))
        })
        .await
    }
}

fn saga(add: &Add) -> Saga<u32, u32> {
    Saga::define(WORK, |s| {
        let first = s.step("s0", add.clone(), NothingToUndo).input((), |run, ()| (*run, 0));
        let second = s.step("s1", add.clone(), NothingToUndo).input(first, |_, before| before);
        let third = s.step("s2", add.clone(), NothingToUndo).input(second, |_, before| before);
        s.value("steps").input(third, |_, (_, steps)| steps)
    })
    .unwrap()
}

/// A journal file, opened anew by each engine as by a process of its own.
struct Journal {
    folder: tempfile::TempDir,
}

impl Journal {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    async fn engine(&self, queue: impl Queue, limiter: RedisSidecar, add: &Add) -> Engine {
        let store = SqliteStore::open(self.folder.path().join("journal.db")).await.unwrap();
        let builder = Engine::builder(store).queue(queue).limiter(limiter);
        builder.register(saga(add)).build().await.unwrap()
    }
}

fn worker(engine: &Engine) -> Worker {
    engine.spawn_worker(WorkerConfig::default().with_slots(16).with_lease(Duration::from_secs(15)))
}

async fn started(engine: &Engine, numbers: Range<u32>) -> Vec<RunHandle<u32>> {
    let mut runs = Vec::new();
    for n in numbers {
        runs.push(engine.start(WORK, &n).await.unwrap());
    }
    runs
}

async fn all_end(runs: &[RunHandle<u32>]) {
    // Beside each other: who waits for another engine's run looks only now and then.
    let ended = futures_util::future::join_all(runs.iter().map(RunHandle::output));
    for ended in timeout(PATIENCE, ended).await.expect("every run ends") {
        assert_eq!(ended.unwrap(), STEPS);
    }
}

// covers: S23, S1, S8, L1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flushed_queue_loses_and_doubles_nothing() {
    let Some(server) = Server::start("") else { return };
    let (journal, seen) = (Journal::new(), Seen::default());
    let add = Add { seen: seen.clone(), takes: Duration::from_millis(20), together: 64 };
    let mut engines = Vec::new();
    for _ in 0..3 {
        let beside = sidecar(&server.url(), "work").await;
        engines.push(journal.engine(beside.clone(), beside, &add).await);
    }
    let workers: Vec<_> = engines[1..].iter().map(worker).collect();
    let runs = started(&engines[0], 0..200).await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        server.ask("FLUSHALL").unwrap();
        server.ask("SCRIPT FLUSH").unwrap();
    }
    all_end(&runs).await;
    seen.each_step_was_called_once(200);
    for worker in workers {
        worker.stop().await;
    }
}

// covers: S23, L7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_go_on_while_the_queue_is_dead_and_after_it_came_back() {
    let Some(mut server) = Server::start("") else { return };
    let (journal, seen) = (Journal::new(), Seen::default());
    let add = Add { seen: seen.clone(), takes: Duration::from_millis(20), together: 64 };
    let mut engines = Vec::new();
    for _ in 0..3 {
        let beside = sidecar(&server.url(), "work").await;
        engines.push(journal.engine(beside.clone(), beside, &add).await);
    }
    let workers: Vec<_> = engines[1..].iter().map(worker).collect();
    let mut runs = started(&engines[0], 0..60).await;
    server.kill();
    runs.extend(started(&engines[0], 60..90).await);
    all_end(&runs).await;
    server.again();
    runs.extend(started(&engines[0], 90..120).await);
    all_end(&runs).await;
    seen.each_step_was_called_once(120);
    for worker in workers {
        worker.stop().await;
    }
}

// What takes over knows runs that have ended, and not those that were begun since.
// covers: S23, S1, S8, L1, L7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_becomes_what_it_was_before_loses_and_doubles_nothing() {
    let Some((mut server, replica)) = pair() else { return };
    let way = Way::to(server.port()).await;
    let (journal, seen) = (Journal::new(), Seen::default());
    let add = Add { seen: seen.clone(), takes: Duration::from_millis(20), together: 64 };
    let mut engines = Vec::new();
    for _ in 0..3 {
        let beside = sidecar(&way.url, "work").await;
        engines.push(journal.engine(beside.clone(), beside, &add).await);
    }
    let workers: Vec<_> = engines[1..].iter().map(worker).collect();
    let mut runs = started(&engines[0], 0..80).await;
    let begun = Instant::now();
    while replica.ask("DBSIZE").unwrap() == redis::Value::Int(0) {
        assert!(begun.elapsed() < PATIENCE, "the replica has no queue at all");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // From here on it hears of nothing, and takes no writes.
    replica.ask("REPLICAOF 127.0.0.1 1").unwrap();
    runs.extend(started(&engines[0], 80..160).await);
    server.kill();
    way.lead_to(replica.port());
    runs.extend(started(&engines[0], 160..180).await);
    tokio::time::sleep(Duration::from_millis(500)).await;
    replica.ask("REPLICAOF NO ONE").unwrap();
    runs.extend(started(&engines[0], 180..240).await);
    all_end(&runs).await;
    seen.each_step_was_called_once(240);
    for worker in workers {
        worker.stop().await;
    }
}

/// Delivers every message three times.
#[derive(Debug)]
struct Thrice {
    queue: RedisSidecar,
    again: Mutex<VecDeque<RunId>>,
}

#[async_trait]
impl Queue for Thrice {
    async fn offer(&self, offers: &[Offer]) -> Result<(), StoreError> {
        self.queue.offer(offers).await
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<RunId>, StoreError> {
        let mut found: Vec<RunId> = {
            let mut again = self.again.lock().unwrap();
            let count = again.len().min(claim.limit);
            again.drain(..count).collect()
        };
        if found.is_empty() {
            found = self.queue.claim(claim).await?;
            self.again.lock().unwrap().extend(found.iter().chain(&found));
        }
        Ok(found)
    }

    async fn ack(&self, runs: &[RunId]) -> Result<(), StoreError> {
        self.queue.ack(runs).await
    }

    async fn wake(&self, runs: &[RunId]) -> Result<(), StoreError> {
        self.queue.wake(runs).await
    }

    async fn stats(&self) -> Result<QueueStats, StoreError> {
        self.queue.stats().await
    }
}

// covers: S23, S8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_come_three_times_double_nothing() {
    let Some(url) = url() else { return };
    let (journal, seen, namespace) = (Journal::new(), Seen::default(), namespace());
    let add = Add { seen: seen.clone(), takes: Duration::from_millis(5), together: 64 };
    let mut engines = Vec::new();
    for _ in 0..3 {
        let beside = sidecar(url, &namespace).await;
        let thrice = Thrice { queue: beside.clone(), again: Mutex::default() };
        engines.push(journal.engine(thrice, beside, &add).await);
    }
    let workers: Vec<_> = engines[1..].iter().map(worker).collect();
    let runs = started(&engines[0], 0..100).await;
    all_end(&runs).await;
    seen.each_step_was_called_once(100);
    for worker in workers {
        worker.stop().await;
    }
    let left = sidecar(url, &namespace).await.stats().await.unwrap();
    assert_eq!(left, QueueStats::default(), "what has ended was acked");
}

// The store's scan comes so seldom here that only the queue can have told of the runs.
// covers: S23
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_of_another_process_hears_of_a_run_from_the_queue() {
    let Some(url) = url() else { return };
    let (journal, seen, namespace) = (Journal::new(), Seen::default(), namespace());
    let add = Add { seen: seen.clone(), takes: Duration::ZERO, together: 64 };
    let (one, two) = (sidecar(url, &namespace).await, sidecar(url, &namespace).await);
    let starter = journal.engine(one.clone(), one, &add).await;
    let driver = journal.engine(two.clone(), two, &add).await;
    let worker = driver.spawn_worker(WorkerConfig::default().with_poll(PATIENCE * 10));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    let runs = started(&starter, 0..20).await;
    let later = starter.start(WORK, &20).delay(Duration::from_millis(800)).await.unwrap();
    all_end(&runs).await;
    all_end(&[later]).await;
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    seen.each_step_was_called_once(21);
    worker.stop().await;
}

// covers: R3-56
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_are_kept_by_calls_that_last_longer_than_the_silence() {
    let Some(url) = url() else { return };
    let (journal, seen, namespace) = (Journal::new(), Seen::default(), namespace());
    let add = Add { seen: seen.clone(), takes: Duration::from_millis(4_500), together: 1 };
    let config = RedisConfig::new(url).with_namespace(namespace);
    let config = config.with_silence(Duration::from_secs(3));
    let mut workers = Vec::new();
    let mut engines = Vec::new();
    for _ in 0..2 {
        let beside = config.clone().open_sidecar().await.unwrap();
        let engine = journal.engine(beside.clone(), beside, &add).await;
        let lease = WorkerConfig::default().with_lease(Duration::from_millis(2_700)).with_slots(1);
        workers.push(engine.spawn_worker(lease));
        engines.push(engine);
    }
    let runs =
        [engines[0].start(WORK, &0).await.unwrap(), engines[1].start(WORK, &1).await.unwrap()];
    all_end(&runs).await;
    assert_eq!(seen.open.lock().unwrap().1, 1, "never two calls at once");
    for worker in workers {
        worker.stop().await;
    }
}

fn slot(worker: Incarnation) -> Ask {
    let concurrency = Some(Concurrency::AtMost(1));
    let profile = Profile { bucket: "b".to_owned(), rate: None, concurrency };
    Ask { profile, calls: 1, worker, slot: true, turn: Turn::Open }
}

#[tokio::test]
async fn slots_of_the_silent_are_free() {
    let Some(url) = url() else { return };
    let namespace = namespace();
    let beside = sidecar(url, &namespace).await;
    let client = redis::Client::open(url).unwrap();
    let (dead, other) = (new_worker(), new_worker());
    let now = Admission::Now { calls: 1 };
    let is_held = |answer| matches!(answer, Admission::At { reason: HeldBy::Concurrency, .. });
    assert_eq!(beside.admit(&slot(dead)).await.unwrap(), now);
    for _ in 0..3 {
        pass(&client, &namespace, Duration::from_secs(40)).await;
        beside.observe("b", dead, &Observed::default()).await.unwrap();
        assert!(is_held(beside.admit(&slot(other)).await.unwrap()), "it was heard of");
    }
    pass(&client, &namespace, Duration::from_secs(61)).await;
    assert_eq!(beside.admit(&slot(other)).await.unwrap(), now);
}

// covers: S23
#[tokio::test]
async fn what_was_proposed_is_hidden_for_its_time_and_comes_again() {
    let Some(url) = url() else { return };
    let namespace = namespace();
    let beside = sidecar(url, &namespace).await;
    let client = redis::Client::open(url).unwrap();
    let run = RunId::from_uuid(uuid::Uuid::now_v7());
    let due = Timestamp::ZERO;
    let offer = Offer { run, queue: "a\n\"b".to_owned(), priority: 0, tenant: None, due };
    beside.offer(&[offer]).await.unwrap();
    let claim = Claim { limit: 9, queues: Vec::new(), except: Vec::new(), wait: Duration::ZERO };
    assert_eq!(beside.claim(&claim).await.unwrap(), [run]);
    assert!(beside.claim(&claim).await.unwrap().is_empty());
    let stats = beside.stats().await.unwrap();
    assert_eq!((stats.ready, stats.delayed), (0, 1));
    pass(&client, &namespace, Duration::from_secs(31)).await;
    assert_eq!(beside.claim(&claim).await.unwrap(), [run]);
    beside.ack(&[run]).await.unwrap();
    pass(&client, &namespace, Duration::from_secs(31)).await;
    assert!(beside.claim(&claim).await.unwrap().is_empty());
    assert_eq!(beside.stats().await.unwrap(), QueueStats::default());
}

// covers: S23, L7
#[tokio::test]
async fn a_full_server_proposes_and_forgets_what_it_holds() {
    let Some(server) = Server::start("") else { return };
    let beside = RedisSidecar::connect(server.url(), "work").await.unwrap();
    let offer = || Offer {
        run: RunId::from_uuid(uuid::Uuid::now_v7()),
        queue: "default".to_owned(),
        priority: 0,
        tenant: None,
        due: Timestamp::ZERO,
    };
    let (one, two) = (offer(), offer());
    beside.offer(&[one.clone(), two.clone()]).await.unwrap();
    server.ask("CONFIG SET maxmemory 1").unwrap();
    assert!(beside.offer(&[offer()]).await.is_err(), "there is no room for more");
    let claim = Claim { limit: 9, queues: Vec::new(), except: Vec::new(), wait: Duration::ZERO };
    let mut found = beside.claim(&claim).await.unwrap();
    found.sort();
    assert_eq!(found, [one.run, two.run]);
    beside.ack(&found).await.unwrap();
    assert_eq!(beside.stats().await.unwrap(), QueueStats::default());
    server.ask("CONFIG SET maxmemory 0").unwrap();
}

#[tokio::test]
async fn a_server_that_keeps_nothing_serves_a_sidecar_and_no_store() {
    let Some(server) = Server::start("appendonly no\nmaxmemory-policy allkeys-lru") else { return };
    let refused = RedisStore::open(server.url()).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Unsuitable);
    let beside = RedisSidecar::connect(server.url(), "work").await.unwrap();
    assert_eq!(beside.stats().await.unwrap(), QueueStats::default());
}

// covers: S24
#[tokio::test]
async fn a_namespace_is_a_stores_or_a_sidecars() {
    let Some(url) = url() else { return };
    let (kept, beside) = (namespace(), namespace());
    given::open(url, &kept).await;
    sidecar(url, &beside).await;
    let refused = RedisSidecar::connect(url, &kept).await.unwrap_err();
    assert_eq!((refused.kind(), refused.code()), (StoreErrorKind::Damaged, "schema_newer"));
    let refused = RedisConfig::new(url).with_namespace(&beside).open().await.unwrap_err();
    assert_eq!((refused.kind(), refused.code()), (StoreErrorKind::Damaged, "schema_newer"));
}
