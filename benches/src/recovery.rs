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
    engine::EngineBuilder,
    saga::Handle,
    store::{RunFilter, StateStore as _},
};
use provision_store_sqlite::SqliteStore;
use stats_alloc::Region;

const SLOW: SagaId<u64, u64> = SagaId::new("slow", 1);
const WAITING: SagaId<u64, ()> = SagaId::new("waiting", 1);
const RUNS: usize = 500;
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
        sleep(Duration::from_millis(100)).await;
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
fn config(path: &Path) -> WorkerConfig {
    let locks = path.with_extension("workers");
    WorkerConfig::default().with_slots(RUNS).with_lock_dir(locks)
}

fn builder(store: SqliteStore) -> EngineBuilder {
    Engine::builder(store).register(slow())
}

/// Starts all runs, says so, and works until it is killed.
pub(crate) async fn until_killed(path: &Path) {
    let store = SqliteStore::open(path).await.expect("a store");
    let engine = builder(store).build().await.expect("an engine");
    let worker = engine.spawn_worker(config(path));
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
async fn open(store: &SqliteStore) -> usize {
    let open = [RunStatus::Running, RunStatus::Waiting, RunStatus::Unwinding];
    let filter = RunFilter { status: open.to_vec(), limit: RUNS, ..RunFilter::default() };
    store.list(&filter).await.expect("a list").runs.len()
}

pub(crate) async fn killed(same_machine: bool) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("w3.db");
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program)
        .args([CHILD, &path.display().to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    lines.next().expect("a line").expect("a line");
    child.kill().expect("SIGKILL");
    child.wait().expect("its end");

    let began = Instant::now();
    let store = SqliteStore::open(&path).await.expect("a store");
    let left = open(&store).await;
    let engine = builder(store.clone()).build().await.expect("an engine");
    let by_lease = WorkerConfig::default().with_slots(RUNS);
    let worker = engine.spawn_worker(if same_machine { config(&path) } else { by_lease });
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
    println!(
        "| sqlite W3, {}: {left} open at SIGKILL; the first ended after {:.0} ms, all after {:.0} ms | {RUNS} | | | | | |",
        if same_machine { "same machine" } else { "by lease" },
        first.unwrap_or_default().as_secs_f64() * 1e3,
        all.as_secs_f64() * 1e3,
    );
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
    worker.stop().await;
}
