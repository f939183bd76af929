//! W2: runs of one step that does nothing, put in and then worked off; and how soon a lone start
//! reaches its first step in a worker of another engine.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use provision_core::{
    Engine, NothingToUndo, Saga, SagaId, Step, StepContext, StepError, WorkerConfig, clock::sleep,
    engine::Backend,
};
use provision_store_postgres::PostgresConfig;
use provision_store_redis::RedisConfig;
use provision_store_sqlite::SqliteStore;
use tokio::sync::mpsc;

use crate::{
    measure::{Goal, check_journals},
    servers::{POSTGRES, REDIS, server},
};

const JOB: SagaId<u64, u64> = SagaId::new("job", 1);
/// Jobs of one measurement of W2.
const JOBS: usize = 20_000;
/// Who puts jobs in at the same time.
const HANDS: usize = 64;
/// Jobs under way at the same time.
const SLOTS: usize = 512;
/// Lone starts, and how far apart they are.
const LONE: usize = 400;
const APART: Duration = Duration::from_millis(15);

/// Says when it was begun.
#[derive(Debug)]
struct Job {
    done: Arc<AtomicUsize>,
    began: mpsc::UnboundedSender<Instant>,
}

impl Step for Job {
    const KIND: &'static str = "bench.job";
    type Input = u64;
    type Output = u64;

    async fn run(&self, _: &StepContext, n: u64) -> Result<u64, StepError> {
        let _ = self.began.send(Instant::now());
        self.done.fetch_add(1, Ordering::Relaxed);
        Ok(n)
    }
}

struct Place {
    /// Starts, and has no worker, as a web server beside its workers.
    host: Engine,
    workshop: Engine,
    done: Arc<AtomicUsize>,
    began: mpsc::UnboundedReceiver<Instant>,
}

impl Place {
    async fn of<B: Backend + Clone>(store: B) -> Self {
        let (sender, began) = mpsc::unbounded_channel();
        let done = Arc::new(AtomicUsize::new(0));
        let saga = || {
            let job = Job { done: Arc::clone(&done), began: sender.clone() };
            let saga: Result<Saga<u64, u64>, _> =
                Saga::define(JOB, |s| s.step("job", job, NothingToUndo).input((), |n, ()| *n));
            saga.expect("a valid saga")
        };
        let (host, workshop) = (engine(store.clone(), saga()).await, engine(store, saga()).await);
        Self { host, workshop, done, began }
    }

    async fn put_in(&self, jobs: usize) {
        let mut tasks = tokio::task::JoinSet::new();
        for lane in 0..HANDS {
            let host = self.host.clone();
            tasks.spawn(async move {
                for n in (lane..jobs).step_by(HANDS) {
                    drop(host.start(JOB, &(n as u64)).await.expect("a start"));
                }
            });
        }
        tasks.join_all().await;
    }

    /// Puts jobs in and works them off; how long each of the two took.
    async fn work_off(&self, jobs: usize) -> (Duration, Duration) {
        let (began, before) = (Instant::now(), self.done.load(Ordering::Relaxed));
        self.put_in(jobs).await;
        let put_in = began.elapsed();
        let worker = self.workshop.spawn_worker(WorkerConfig::default().with_slots(SLOTS));
        while self.done.load(Ordering::Relaxed) < before + jobs {
            sleep(Duration::from_millis(2)).await;
            assert!(began.elapsed() < Duration::from_secs(300), "jobs are left");
        }
        let worked = began.elapsed() - put_in;
        worker.stop().await;
        (put_in, worked)
    }

    /// From the answer to a start to its first step, sorted.
    async fn lone(&mut self) -> Vec<Duration> {
        let worker = self.workshop.spawn_worker(WorkerConfig::default().with_slots(SLOTS));
        while self.began.try_recv().is_ok() {}
        let mut waits = Vec::new();
        for n in 0..LONE {
            drop(self.host.start(JOB, &(n as u64)).await.expect("a start"));
            let started = Instant::now();
            let began = self.began.recv().await.expect("a step");
            waits.push(began.saturating_duration_since(started));
            sleep(APART).await;
        }
        worker.stop().await;
        waits.sort_unstable();
        waits
    }
}

async fn engine(store: impl Backend, saga: Saga<u64, u64>) -> Engine {
    Engine::builder(store).register(saga).build().await.expect("an engine")
}

/// Jobs per second of a worker that finds so many in its queue.
pub(crate) async fn worked_off<B: Backend + Clone>(store: B, jobs: usize) -> f64 {
    let (_, worked) = Place::of(store).await.work_off(jobs).await;
    jobs as f64 / worked.as_secs_f64()
}

async fn measure<B: Backend + Clone>(name: &str, store: B) {
    let mut place = Place::of(store.clone()).await;
    let (put_in, worked) = place.work_off(JOBS).await;
    println!(
        "| {name} W2: {JOBS} jobs put in at {:.0}/s, worked off at {:.0}/s, {:.0}/s in all | {SLOTS} | | | | | |",
        JOBS as f64 / put_in.as_secs_f64(),
        JOBS as f64 / worked.as_secs_f64(),
        JOBS as f64 / (put_in + worked).as_secs_f64(),
    );
    let waits = place.lone().await;
    let at = |part: usize| waits[(LONE * part / 100).min(LONE - 1)].as_secs_f64() * 1e3;
    println!(
        "| {name}, {LONE} lone starts to their first step elsewhere | 1 | | {:.2} | {:.2} | | |",
        at(50),
        at(99)
    );
    // A file has no way to wake another worker.
    if name != "sqlite" {
        let rate = JOBS as f64 / worked.as_secs_f64();
        Goal::AtLeast(20_000.0).judge(&format!("{name}, jobs that do nothing per second"), rate);
        let what = format!("{name}, ms from a lone start to its first step, p99");
        Goal::AtMost(10.0).judge(&what, at(99));
    }
    check_journals(&store, JOBS + LONE).await;
}

pub(crate) async fn all() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(dir.path().join("jobs.db")).await.expect("a store");
    measure("sqlite", store).await;
    if let Some(url) = server(POSTGRES, "postgres") {
        let schema = format!("jobs_{}", std::process::id());
        let store = PostgresConfig::new(&url).with_schema(&schema).open().await;
        measure("postgres", store.expect("a store")).await;
    }
    if let Some(url) = server(REDIS, "redis") {
        let namespace = format!("jobs-{}", std::process::id());
        let store = RedisConfig::new(&url).with_namespace(namespace).open().await;
        measure("redis", store.expect("a store")).await;
    }
}
