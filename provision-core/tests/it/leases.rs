//! Leases at work: long steps keep theirs, lost ones cut the call, stopping gives them back, and
//! only the store's clock counts.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use provision_core::{
    Call, Engine, MemoryStore, NothingToUndo, RunId, Saga, SagaId, Step, StepContext, StepError,
    Timestamp, WorkerConfig,
    clock::{Clock, SystemClock, sleep},
    store::{Incarnation, LeaseRequest, StateStore},
};
use tokio::time::Instant;
use uuid::Uuid;

const LONG: SagaId<u64, u32> = SagaId::new("long", 1);

/// One call that takes as many seconds as its input says; remembers begins, ends and cuts.
#[derive(Debug, Clone, Default)]
struct Long(Arc<Mutex<Marks>>);

impl Long {
    fn marks(&self) -> Marks {
        self.0.lock().unwrap().clone()
    }
}

#[derive(Debug, Clone, Default)]
struct Marks {
    begun: Vec<Instant>,
    done: Vec<Instant>,
    cut: Vec<Instant>,
}

/// Notes that a call was dropped before it ended.
struct Open {
    long: Long,
    done: bool,
}

impl Drop for Open {
    fn drop(&mut self) {
        let (mut marks, now) = (self.long.0.lock().unwrap(), Instant::now());
        if self.done { marks.done.push(now) } else { marks.cut.push(now) }
    }
}

impl Step for Long {
    const KIND: &'static str = "test.long";
    type Input = u64;
    type Output = u32;

    async fn run(&self, cx: &StepContext, seconds: u64) -> Result<u32, StepError> {
        let call = Call::mutate("take long").with_timeout(Duration::from_secs(3600));
        // Only the first attempt takes its time.
        let seconds = if cx.attempt() == 1 { seconds } else { 1 };
        cx.call(&call, async {
            self.0.lock().unwrap().begun.push(Instant::now());
            let mut open = Open { long: self.clone(), done: false };
            sleep(Duration::from_secs(seconds)).await;
            open.done = true;
            Ok(cx.attempt())
        })
        .await
    }
}

fn saga(long: &Long) -> Saga<u64, u32> {
    Saga::define(LONG, |s| s.step("long", long.clone(), NothingToUndo).input((), |n, ()| *n))
        .unwrap()
}

async fn engine(store: &MemoryStore, long: &Long) -> Engine {
    Engine::builder(store.clone()).register(saga(long)).build().await.unwrap()
}

// covers: R2-39
#[tokio::test(start_paused = true)]
async fn a_step_of_ten_minutes_keeps_a_lease_of_thirty_seconds() {
    let (store, long) = (MemoryStore::new(), Long::default());
    let config = || WorkerConfig::default().with_lease(Duration::from_secs(30));
    let engine = engine(&store, &long).await;
    let workers = [engine.spawn_worker(config()), engine.spawn_worker(config())];
    let run = engine.start(LONG, &600).await.unwrap();
    assert_eq!(run.output().await.unwrap(), 1, "the first attempt, and no other");
    let marks = long.marks();
    assert_eq!((marks.begun.len(), marks.done.len(), marks.cut.len()), (1, 1, 0));
    for worker in workers {
        worker.stop().await;
    }
}

/// What a worker that cannot reach its store is to the others: declared dead.
pub(crate) async fn declare_dead(store: &MemoryStore, run: &RunId) -> u64 {
    let head = store.load(&[*run]).await.unwrap().pop().flatten().unwrap().head;
    let request = LeaseRequest {
        worker: Incarnation(Uuid::from_u128(7)),
        ttl: Duration::from_secs(15),
        acquire: None,
        release: Vec::new(),
        strangers: Vec::new(),
        dead: vec![head.owner.unwrap()],
        retire: true,
    };
    store.lease(&request).await.unwrap();
    head.epoch
}

// covers: R2-39
#[tokio::test(start_paused = true)]
async fn a_lost_lease_cuts_the_call_and_fences_what_it_would_have_written() {
    let (store, long) = (MemoryStore::new(), Long::default());
    let engine = engine(&store, &long).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(LONG, &600).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    let lost = Instant::now();
    let epoch = declare_dead(&store, run.id()).await;
    assert_eq!(run.output().await.unwrap(), 2, "the outcome is the second attempt's");
    let marks = long.marks();
    assert_eq!((marks.begun.len(), marks.done.len(), marks.cut.len()), (2, 1, 1));
    let until_cut = marks.cut[0].duration_since(lost);
    assert!(until_cut <= Duration::from_secs(6), "cut {until_cut:?} after the lease was lost");
    assert!(marks.begun[1] >= marks.cut[0], "never two calls at once");
    assert!(engine.run(run.id()).await.unwrap().epoch > epoch);
    worker.stop().await;
}

// covers: R4-32
#[tokio::test(start_paused = true)]
async fn a_stopping_worker_gives_its_runs_back_at_once() {
    let (store, long) = (MemoryStore::new(), Long::default());
    let lease = Duration::from_secs(600);
    let config = || WorkerConfig::default().with_lease(lease).with_grace(Duration::from_secs(5));
    let first = engine(&store, &long).await;
    let stopping = first.spawn_worker(config());
    let run = first.start(LONG, &300).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    let second = engine(&store, &long).await.spawn_worker(config());
    sleep(Duration::from_secs(10)).await;
    let told = Instant::now();
    stopping.stop().await;
    assert!(told.elapsed() <= Duration::from_secs(6), "the deadline was 5 s: {:?}", told.elapsed());
    let stopped = Instant::now();
    run.output().await.unwrap();
    let marks = long.marks();
    assert_eq!((marks.begun.len(), marks.cut.len()), (2, 1));
    let head_start = marks.begun[1].duration_since(marks.cut[0]);
    // The wait before the next attempt is part of it; the lease of ten minutes is not.
    assert!(head_start < Duration::from_secs(1), "{head_start:?}");
    assert!(stopped.elapsed() < Duration::from_secs(3), "{:?}", stopped.elapsed());
    second.stop().await;
}

/// A wall clock that is wrong by so many seconds.
#[derive(Debug)]
struct Wrong(i64);

impl Clock for Wrong {
    fn wall(&self) -> Timestamp {
        let now = SystemClock.wall().as_millis();
        Timestamp::from_millis(now.saturating_add_signed(self.0 * 1_000))
    }
}

// covers: R3-33
#[tokio::test(start_paused = true)]
async fn workers_with_wrong_clocks_start_nothing_early_and_nothing_twice() {
    let (store, long) = (MemoryStore::new(), Long::default());
    let mut workers = Vec::new();
    let mut engines = Vec::new();
    for minutes in [-5, 5] {
        let engine = Engine::builder(store.clone())
            .register(saga(&long))
            .clock(Wrong(minutes * 60))
            .build()
            .await
            .unwrap();
        workers.push(engine.spawn_worker(WorkerConfig::default()));
        engines.push(engine);
    }
    let began = Instant::now();
    let mut runs = Vec::new();
    for engine in &engines {
        for _ in 0..20 {
            let start = engine.start(LONG, &20).delay(Duration::from_secs(120));
            runs.push(start.await.unwrap());
        }
    }
    for run in &runs {
        assert_eq!(run.output().await.unwrap(), 1);
    }
    let marks = long.marks();
    assert_eq!((marks.begun.len(), marks.cut.len()), (40, 0), "each once");
    for begun in &marks.begun {
        let after = begun.duration_since(began).as_secs();
        assert!((120..130).contains(&after), "{after} s");
    }
    for worker in workers {
        worker.stop().await;
    }
}
