//! W3: SIGKILL with 500 runs in flight; how long until the next process works on them, and until
//! all of them are done. What waits: how much memory a waiting run keeps.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use provision_core::{
    Engine, NothingToUndo, RunStatus, Saga, SagaId, Step, StepContext, StepError, WorkerConfig,
    clock::sleep,
    engine::Backend,
    saga::Handle,
    store::{RunFilter, StateStore as _},
};
use provision_store_postgres::{PostgresConfig, PostgresStore};
use provision_store_redis::{RedisConfig, RedisStore};
use provision_store_sqlite::SqliteStore;
use stats_alloc::Region;

use crate::{
    measure::{Goal, check_journals},
    servers::{POSTGRES, REDIS, server},
};

const SLOW: SagaId<u64, u64> = SagaId::new("slow", 1);
const WAITING: SagaId<u64, ()> = SagaId::new("waiting", 1);
const RUNS: usize = 500;
/// How long each step takes.
const PAUSE: Duration = Duration::from_millis(100);
/// The program of the child that is killed.
pub(crate) const CHILD: &str = "until-killed";

/// Waits a little, so that every run is in flight when the kill comes.
#[derive(Debug)]
struct Pause;

impl Step for Pause {
    const KIND: &'static str = "bench.pause";
    type Input = u64;
    type Output = u64;

    async fn run(&self, _: &StepContext, n: u64) -> Result<u64, StepError> {
        sleep(PAUSE).await;
        Ok(n + 1)
    }
}

fn slow() -> Saga<u64, u64> {
    Saga::define(SLOW, |s| {
        let mut last: Option<Handle<'_, u64>> = None;
        for n in 1..=7 {
            let node = s.step(format!("s{n}"), Pause, NothingToUndo);
            last = Some(match last {
                None => node.input((), |n, ()| *n),
                Some(before) => node.input(before, |_, n| n),
            });
        }
        last.expect("seven steps")
    })
    .expect("a valid saga")
}

/// The lock files lie where the child has put its own: then its death is known at once.
fn config(locks: &Path) -> WorkerConfig {
    WorkerConfig::default().with_slots(RUNS).with_lock_dir(locks)
}

async fn engine(store: impl Backend) -> Engine {
    Engine::builder(store).register(slow()).build().await.expect("an engine")
}

/// What a child was told about its store: the file of SQLite, the schema of PostgreSQL or the
/// namespace of Redis, behind the store's name.
fn place(told: &str) -> (&str, &str) {
    told.split_once(':').expect("a store and a place")
}

async fn sqlite(path: &str) -> SqliteStore {
    SqliteStore::open(path).await.expect("a store")
}

async fn postgres(url: &str, schema: &str) -> PostgresStore {
    PostgresConfig::new(url).with_schema(schema).open().await.expect("a store")
}

async fn redis(url: &str, namespace: &str) -> RedisStore {
    RedisConfig::new(url).with_namespace(namespace).open().await.expect("a store")
}

/// Starts all runs, says so, and works until it is killed.
pub(crate) async fn until_killed(told: &str, locks: &Path) {
    let url = |variable: &str| std::env::var(variable).expect("the address of a server");
    match place(told) {
        ("sqlite", path) => work(sqlite(path).await, locks).await,
        ("postgres", schema) => work(postgres(&url(POSTGRES), schema).await, locks).await,
        ("redis", namespace) => work(redis(&url(REDIS), namespace).await, locks).await,
        (other, _) => panic!("no store is named {other}"),
    }
}

async fn work(store: impl Backend, locks: &Path) {
    let engine = engine(store).await;
    let worker = engine.spawn_worker(config(locks));
    let starts = (0..RUNS as u64).map(|n| {
        let engine = engine.clone();
        tokio::spawn(async move { engine.start(SLOW, &n).await.expect("a start") })
    });
    let starts: Vec<_> = starts.collect();
    for start in starts {
        start.await.expect("a start");
    }
    println!("started");
    sleep(Duration::from_secs(60)).await;
    worker.stop().await;
}

/// Runs that have not ended.
async fn open(store: &impl Backend) -> usize {
    let open = [RunStatus::Running, RunStatus::Waiting, RunStatus::Unwinding];
    let filter = RunFilter { status: open.to_vec(), limit: RUNS, ..RunFilter::default() };
    store.list(&filter).await.expect("a list").runs.len()
}

pub(crate) async fn all() {
    let dir = tempfile::tempdir().expect("a folder");
    for same_machine in [true, false] {
        let name = format!("w3-{same_machine}-{}", std::process::id());
        let locks = dir.path().join(format!("{name}-workers"));
        let path = dir.path().join(format!("{name}.db")).display().to_string();
        let told = format!("sqlite:{path}");
        killed(&told, sqlite(&path).await, &locks, same_machine).await;
        if let Some(url) = server(POSTGRES, "postgres") {
            let schema = name.replace('-', "_");
            let told = format!("postgres:{schema}");
            killed(&told, postgres(&url, &schema).await, &locks, same_machine).await;
        }
        if let Some(url) = server(REDIS, "redis") {
            let told = format!("redis:{name}");
            killed(&told, redis(&url, &name).await, &locks, same_machine).await;
        }
    }
}

async fn killed<B: Backend + Clone>(told: &str, store: B, locks: &Path, same_machine: bool) {
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program)
        .args([CHILD, told])
        .arg(locks)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    lines.next().expect("a line").expect("a line");
    child.kill().expect("SIGKILL");
    child.wait().expect("its end");

    let began = Instant::now();
    let left = open(&store).await;
    let engine = engine(store.clone()).await;
    let by_lease = WorkerConfig::default().with_slots(RUNS);
    let lease = Duration::from_secs(15);
    let worker =
        engine.spawn_worker(if same_machine { config(locks) } else { by_lease.with_lease(lease) });
    let mut first = None;
    let mut now = left;
    while now > 0 {
        sleep(Duration::from_millis(5)).await;
        now = open(&store).await;
        first = first.or_else(|| (now < left).then(|| began.elapsed()));
        assert!(began.elapsed() < Duration::from_secs(120), "{now} runs are still open");
    }
    let all = began.elapsed();
    worker.stop().await;
    let (name, _) = place(told);
    let how = if same_machine { "same machine" } else { "by lease" };
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "| {name} W3, {how}: {left} open at SIGKILL; the first ended after {:.0} ms, all after {:.0} ms | {RUNS} | | | | | |",
        milliseconds(first.unwrap_or_default()),
        milliseconds(all),
    );
    // What was left to do takes the time of seven steps at most.
    let ideal = 7 * PAUSE + if same_machine { Duration::ZERO } else { lease };
    Goal::AtMost(500.0).judge(
        &format!("{name} W3, {how}, ms until all are done, beyond lease and work left"),
        milliseconds(all) - milliseconds(ideal),
    );
    check_journals(&store, RUNS * 7).await;
}

/// Bytes that stay allocated per run that waits for a day.
pub(crate) async fn waiting(runs: usize) {
    let dir = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(dir.path().join("waiting.db")).await.expect("a store");
    let day = Duration::from_secs(86_400);
    let saga = Saga::define(WAITING, |s| s.sleep("a-day").input((), move |_, ()| day));
    let saga = saga.expect("a valid saga");
    let engine = Engine::builder(store.clone()).register(saga).build().await.expect("an engine");
    let worker = engine.spawn_worker(WorkerConfig::default());
    let start = async |count: usize| {
        for n in 0..count {
            drop(engine.start(WAITING, &(n as u64)).await.expect("a start"));
        }
        // Let go of the leases, and let caches fill.
        sleep(Duration::from_secs(2)).await;
    };
    start(500).await;
    let region = Region::new(crate::ALLOCATOR);
    start(runs).await;
    let change = region.change();
    let kept = change.bytes_allocated as f64 - change.bytes_deallocated as f64;
    let filter = RunFilter { status: vec![RunStatus::Waiting], limit: 1, ..RunFilter::default() };
    assert_eq!(store.list(&filter).await.expect("a list").runs.len(), 1);
    println!(
        "| sqlite, {runs} runs that wait: {:.1} bytes resident per run | {runs} | | | | | |",
        kept / runs as f64
    );
    Goal::AtMost(64.0).judge("bytes resident per run that waits", kept / runs as f64);
    worker.stop().await;
}
