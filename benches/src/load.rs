//! A sustained load: runs that one engine starts and the workers of another claim, fifty, a hundred
//! and two hundred at a time, with the time from the start to the first step.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use provision_core::{
    Engine, Outcome, RunStatus, Saga, SagaId, Step, StepContext, StepError, WorkerConfig,
    engine::Backend, store::RunFilter,
};
use provision_store_postgres::PostgresConfig;
use provision_store_redis::RedisConfig;
use provision_store_sqlite::SqliteStore;

use crate::{
    measure::Watch,
    saga::{ADD, Subtract},
    servers::{POSTGRES, REDIS, server},
};

const LOAD: SagaId<u64, u64> = SagaId::new("load", 1);
/// Seven, as in the other workloads.
const STEPS: u64 = 7;
/// Runs under way at the same time.
const WORKERS: [usize; 3] = [50, 100, 200];

/// When each run's first step was begun, and when its start was answered.
#[derive(Debug)]
struct Book {
    began: Instant,
    started: Vec<OnceLock<Duration>>,
    first: Vec<OnceLock<Duration>>,
}

impl Book {
    fn new(runs: usize) -> Arc<Self> {
        let pages = || (0..runs).map(|_| OnceLock::new()).collect();
        Arc::new(Self { began: Instant::now(), started: pages(), first: pages() })
    }

    /// A second call changes nothing.
    fn note(&self, pages: &[OnceLock<Duration>], run: u64) {
        let _ = pages[run as usize].set(self.began.elapsed());
    }

    /// From each start to its first step. A step may be begun before the start's answer is read.
    fn waits(&self) -> Vec<Duration> {
        let pairs = self.started.iter().zip(&self.first);
        pairs
            .map(|(s, f)| f.get().expect("begun").saturating_sub(*s.get().expect("started")))
            .collect()
    }
}

/// The first step.
#[derive(Debug)]
struct Begin(Arc<Book>);

impl Step for Begin {
    const KIND: &'static str = "bench.begin";
    type Input = u64;
    type Output = u64;

    async fn run(&self, _: &StepContext, n: u64) -> Result<u64, StepError> {
        self.0.note(&self.0.first, n);
        Ok(n + 1)
    }
}

fn saga(book: &Arc<Book>) -> Saga<u64, u64> {
    Saga::define(LOAD, |s| {
        let mut last = s.step("s1", Begin(Arc::clone(book)), Subtract).input((), |n, ()| *n);
        for n in 2..=STEPS {
            last = s.step(format!("s{n}"), ADD, Subtract).input(last, |_, n| n);
        }
        last
    })
    .expect("a valid saga")
}

async fn engine(store: impl Backend, book: &Arc<Book>) -> Engine {
    Engine::builder(store).register(saga(book)).build().await.expect("an engine")
}

/// Runs all of them, and leaves nothing open.
async fn drive<B: Backend + Clone>(name: &str, store: B, runs: usize, workers: usize) {
    let book = Book::new(runs);
    // Whoever starts has no worker, as a web server beside its workers.
    let (host, workshop) = (engine(store.clone(), &book).await, engine(store, &book).await);
    let worker = workshop.spawn_worker(WorkerConfig::default().with_slots(workers));
    let watch = Watch::start();
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..workers {
        let (host, book) = (host.clone(), Arc::clone(&book));
        tasks.spawn(async move {
            for n in (lane..runs).step_by(workers) {
                let n = n as u64;
                let run = host.start(LOAD, &n).await.expect("a start");
                book.note(&book.started, n);
                match run.outcome().await.expect("an outcome") {
                    Outcome::Succeeded(out) => assert_eq!(out, n + STEPS),
                    other => panic!("{other:?}"),
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("all runs succeed");
    }
    let mut done = watch.stop(
        &format!("{name}, {runs} runs started elsewhere (ms from start to first step)"),
        workers,
        runs as u64 * STEPS,
        book.waits(),
    );
    println!(
        "| {name}: {:.0} runs/s, {:.0} s in all | {workers} | | | | | |",
        runs as f64 / done.elapsed.as_secs_f64(),
        done.elapsed.as_secs_f64()
    );
    done.print();
    worker.stop().await;
    let open = RunStatus::ALL.into_iter().filter(|status| !status.is_end()).collect();
    let open = RunFilter { status: open, ..RunFilter::default() };
    let left = host.runs(&open).await.expect("a listing");
    assert!(left.runs.is_empty(), "runs were left open");
}

pub(crate) async fn sustained(runs: usize) {
    let dir = tempfile::tempdir().expect("a folder");
    for workers in WORKERS {
        let path = dir.path().join(format!("load{workers}.db"));
        drive("sqlite", SqliteStore::open(&path).await.expect("a store"), runs, workers).await;
        if let Some(url) = server(POSTGRES, "postgres") {
            let schema = format!("load_{workers}_{}", std::process::id());
            let store = PostgresConfig::new(&url).with_schema(&schema).open().await;
            drive("postgres", store.expect("a store"), runs, workers).await;
        }
        if let Some(url) = server(REDIS, "redis") {
            let namespace = format!("load-{workers}-{}", std::process::id());
            let store = RedisConfig::new(&url).with_namespace(namespace).open().await;
            drive("redis", store.expect("a store"), runs, workers).await;
        }
    }
}
