//! Runs that the engine parks by itself, and workers that live on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use provision_core::{
    Engine, ExternalId, Found, Identity, Intent, Listing, NothingToUndo, Outcome, Readiness,
    Resource, RunId, RunStatus, Saga, SagaId, SignalId, Step, StepContext, StepError, Worker,
    WorkerConfig,
    clock::sleep,
    draw::{DrawError, Entropy, SystemEntropy},
    engine::By,
    store::{Append, RunHead, StateStore},
};

use crate::{
    counting::{Counting, Road},
    yard::Yard,
};

const SAGA: SagaId<String, String> = SagaId::new("parked", 1);
const GO: SignalId<String> = SignalId::new("go");

async fn engine(store: &Counting, saga: &Saga<String, String>) -> Engine {
    Engine::builder(store.clone()).register(saga.clone()).build().await.unwrap()
}

fn worker(engine: &Engine) -> Worker {
    engine.spawn_worker(WorkerConfig::default())
}

async fn still(engine: &Engine, run: &RunId, status: RunStatus) -> RunHead {
    for _ in 0..600 {
        let head = engine.run(run).await.unwrap();
        if head.status == status && head.owner.is_none() {
            return head;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("never {status:?}: {:?}", engine.run(run).await.unwrap());
}

fn code(head: &RunHead) -> String {
    head.summary.failure.as_ref().map(|failure| failure.code.to_string()).unwrap_or_default()
}

/// Hangs while it is told to.
#[derive(Debug, Clone, Default)]
struct Hangs {
    begun: Arc<AtomicU32>,
    well: Arc<AtomicBool>,
}

impl Step for Hangs {
    const KIND: &'static str = "test.hangs";
    type Input = String;
    type Output = String;

    async fn run(&self, _: &StepContext, input: String) -> Result<String, StepError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        if !self.well.load(Ordering::SeqCst) {
            sleep(Duration::from_secs(1_000)).await;
        }
        Ok(input)
    }
}

fn hanging(hangs: &Hangs) -> Saga<String, String> {
    let hangs = hangs.clone();
    Saga::define(SAGA, |s| s.step("hang", hangs, NothingToUndo).input((), |i, ()| i.clone()))
        .unwrap()
}

// covers: S21
#[tokio::test(start_paused = true)]
async fn a_run_that_kills_its_worker_three_times_is_parked_and_a_retry_counts_anew() {
    let (store, hangs) = (Counting::default(), Hangs::default());
    let saga = hanging(&hangs);
    let engine = engine(&store, &saga).await;
    let run = engine.start(&saga, &"x".to_owned()).await.unwrap();
    for round in 1..=3 {
        let worker = worker(&engine);
        while hangs.begun.load(Ordering::SeqCst) < round {
            sleep(Duration::from_millis(100)).await;
        }
        worker.kill();
    }
    let worker = worker(&engine);
    let parked = still(&engine, run.id(), RunStatus::Parked).await;
    assert_eq!((code(&parked).as_str(), hangs.begun.load(Ordering::SeqCst)), ("crash_loop", 3));
    hangs.well.store(true, Ordering::SeqCst);
    engine.retry(run.id(), By::default()).await.unwrap();
    assert_eq!(run.output().await.unwrap(), "x");
    assert_eq!(engine.run(run.id()).await.unwrap().deaths, 0);
    worker.stop().await;
}

/// A resource whose look at readiness hangs while it is told to.
#[derive(Debug, Clone)]
struct Unready {
    yard: Yard,
    hangs: Hangs,
}

impl Resource for Unready {
    const KIND: &'static str = "test.unready";
    type Spec = String;
    type Output = String;

    fn identity(&self, name: &String) -> Identity {
        self.yard.identity(name)
    }

    async fn find(&self, cx: &StepContext, name: &String) -> Result<Found, StepError> {
        self.yard.find(cx, name).await
    }

    async fn create(
        &self,
        cx: &StepContext,
        name: &String,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        self.yard.create(cx, name, intent).await
    }

    async fn ready(
        &self,
        cx: &StepContext,
        name: &String,
        id: &ExternalId,
    ) -> Result<Readiness<String>, StepError> {
        // The first look comes with the create and says "not yet".
        if self.hangs.begun.load(Ordering::SeqCst) == 0 {
            self.hangs.begun.fetch_add(1, Ordering::SeqCst);
            return Ok(Readiness::NotYet { again_in: Duration::from_secs(1) });
        }
        self.hangs.run(cx, name.clone()).await?;
        self.yard.ready(cx, name, id).await
    }

    async fn delete(
        &self,
        cx: &StepContext,
        name: &String,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        self.yard.delete(cx, name, id).await
    }

    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        self.yard.list_owned(cx).await
    }
}

// covers: S21
#[tokio::test(start_paused = true)]
async fn a_poll_that_kills_its_worker_three_times_parks_its_run() {
    let (store, hangs) = (Counting::default(), Hangs::default());
    let unready = Unready { yard: Yard::new(), hangs: hangs.clone() };
    let saga =
        Saga::define(SAGA, |s| s.resource("r", unready).input((), |i: &String, ()| i.clone()));
    let saga = saga.unwrap();
    let engine = engine(&store, &saga).await;
    let run = engine.start(&saga, &"x".to_owned()).await.unwrap();
    for round in 2..=4 {
        let worker = worker(&engine);
        while hangs.begun.load(Ordering::SeqCst) < round {
            sleep(Duration::from_millis(100)).await;
        }
        worker.kill();
    }
    let worker = worker(&engine);
    let parked = still(&engine, run.id(), RunStatus::Parked).await;
    assert_eq!((code(&parked).as_str(), hangs.begun.load(Ordering::SeqCst)), ("crash_loop", 4));
    hangs.well.store(true, Ordering::SeqCst);
    engine.retry(run.id(), By::default()).await.unwrap();
    assert_eq!(run.output().await.unwrap(), "t1");
    assert_eq!(engine.run(run.id()).await.unwrap().deaths, 0);
    worker.stop().await;
}

/// Randomness that panics while it is told so.
#[derive(Debug, Clone, Default)]
struct Moody(Arc<AtomicBool>);

impl Entropy for Moody {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), DrawError> {
        assert!(!self.0.load(Ordering::SeqCst), "a mood");
        SystemEntropy.fill(bytes)
    }
}

// covers: S21, L1
#[tokio::test(start_paused = true)]
async fn a_panic_outside_of_an_attempt_parks_its_run_and_nothing_else() {
    let (store, moody) = (Counting::default(), Moody::default());
    let mood = Arc::clone(&moody.0);
    let saga = Saga::define(SAGA, |s| {
        let slept = s.sleep("sleep").input((), |_, ()| Duration::from_secs(10));
        s.value("echo").input(slept, |i: &String, ()| i.clone())
    })
    .unwrap();
    let builder = Engine::builder(store.clone()).register(saga.clone()).entropy(moody);
    let engine = builder.build().await.unwrap();
    let worker = worker(&engine);
    let run = engine.start(&saga, &"x".to_owned()).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    mood.store(true, Ordering::SeqCst);
    let parked = still(&engine, run.id(), RunStatus::Parked).await;
    assert_eq!(code(&parked), "driver_panicked");
    mood.store(false, Ordering::SeqCst);
    let other = engine.start(&saga, &"y".to_owned()).await.unwrap();
    assert_eq!(other.output().await.unwrap(), "y", "the worker lives");
    engine.retry(run.id(), By::default()).await.unwrap();
    assert_eq!(run.output().await.unwrap(), "x");
    worker.stop().await;
}

fn signalled(hangs: &Hangs) -> Saga<String, String> {
    let hangs = hangs.clone();
    Saga::define(SAGA, |s| {
        let said = s.signal(GO).input((), |_, ()| Duration::from_secs(10_000));
        s.step("hang", hangs, NothingToUndo).input(said, |_, said| said)
    })
    .unwrap()
}

// covers: S3, S1
#[tokio::test(start_paused = true)]
async fn what_the_store_refuses_parks_the_run_and_keeps_its_requests() {
    let (store, hangs) = (Counting::default(), Hangs::default());
    let saga = signalled(&hangs);
    let engine = engine(&store, &saga).await;
    let worker = worker(&engine);
    let run = engine.start(&saga, &"x".to_owned()).await.unwrap();
    still(&engine, run.id(), RunStatus::Waiting).await;
    store.set("append frame", Road::Down);
    engine.signal(run.id(), GO, &"early".to_owned()).await.unwrap();
    sleep(Duration::from_secs(30)).await;
    let waits = engine.run(run.id()).await.unwrap().status;
    assert_eq!(waits, RunStatus::Waiting, "trouble is waited out");
    store.set("append frame", Road::Refused);
    let parked = still(&engine, run.id(), RunStatus::Parked).await;
    assert_eq!(code(&parked), "append_refused");
    let before = store.count("append frame");
    sleep(Duration::from_secs(60)).await;
    assert!(store.count("append frame") <= before + 1, "it is left alone");
    store.set("append frame", Road::Open);
    hangs.well.store(true, Ordering::SeqCst);
    engine.signal(run.id(), GO, &"late".to_owned()).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    let stays = still(&engine, run.id(), RunStatus::Parked).await;
    assert_eq!((code(&stays).as_str(), stays.consumed), ("append_refused", 2), "nobody has asked");
    assert_eq!(hangs.begun.load(Ordering::SeqCst), 0);
    engine.retry(run.id(), By::default()).await.unwrap();
    assert_eq!(run.output().await.unwrap(), "early", "the signal is still there");
    worker.stop().await;
}

/// Leases the one run by hand, writes a frame that no worker of this version writes, and retires.
async fn write_by_hand(store: &Counting, saga: &Saga<String, String>, frame: &str) {
    let leased = store.lease_by_hand(saga).await;
    let head = leased.record.head.clone();
    let foreign = Append {
        run: head.id,
        fence: leased.fence,
        seq: head.seq + 1,
        frame: Some(Arc::from(frame)),
        at: head.due,
        status: head.status,
        summary: head.summary.clone(),
        open: false,
        settled: true,
        consumed: 0,
        release: None,
        free_guard: false,
        ledger: Vec::new(),
        sealed: Vec::new(),
        wakes: Vec::new(),
        starts: Vec::new(),
    };
    store.append(&[foreign]).await.unwrap();
    store.retire_by_hand(leased.fence.owner).await;
}

// covers: S3
#[tokio::test(start_paused = true)]
async fn damage_found_at_a_claim_parks_by_the_row_and_keeps_signals() {
    let (store, hangs) = (Counting::default(), Hangs::default());
    let saga = signalled(&hangs);
    let engine = engine(&store, &saga).await;
    let begun = worker(&engine);
    let run = engine.start(&saga, &"x".to_owned()).await.unwrap();
    still(&engine, run.id(), RunStatus::Waiting).await;
    begun.stop().await;
    write_by_hand(&store, &saga, "[{\"no\":\"record\"}]").await;
    engine.signal(run.id(), GO, &"kept".to_owned()).await.unwrap();
    let worker = worker(&engine);
    let parked = still(&engine, run.id(), RunStatus::Parked).await;
    assert_eq!(code(&parked), "damaged_journal");
    let epoch = parked.epoch;
    sleep(Duration::from_secs(60)).await;
    let record = store.load(&[*run.id()]).await.unwrap().remove(0).unwrap();
    assert_eq!((record.head.epoch, record.requests.len()), (epoch, 1), "left alone, and kept");
    assert!(matches!(run.outcome().await, Ok(Outcome::Parked(..)) | Err(_)));
    worker.stop().await;
}

// covers: S22
#[tokio::test(start_paused = true)]
async fn a_journal_of_a_newer_release_is_left_to_its_workers() {
    let (store, hangs) = (Counting::default(), Hangs::default());
    let saga = signalled(&hangs);
    let engine = engine(&store, &saga).await;
    let begun = worker(&engine);
    let run = engine.start(&saga, &"x".to_owned()).await.unwrap();
    still(&engine, run.id(), RunStatus::Waiting).await;
    begun.stop().await;
    write_by_hand(&store, &saga, "[{\"format\":2},{\"of\":\"tomorrow\"}]").await;
    let before = store.load(&[*run.id()]).await.unwrap().remove(0).unwrap().head;
    engine.signal(run.id(), GO, &"kept".to_owned()).await.unwrap();
    let worker = worker(&engine);
    sleep(Duration::from_secs(600)).await;
    let record = store.load(&[*run.id()]).await.unwrap().remove(0).unwrap();
    let head = &record.head;
    assert_eq!((head.status, &head.summary), (before.status, &before.summary), "nothing is said");
    assert_eq!((head.seq, record.requests.len(), head.owner), (before.seq, 1, None));
    assert!((5..=11).contains(&(head.epoch - before.epoch)), "asked once a minute: {head:?}");
    let error = engine.snapshot(run.id()).await.unwrap_err();
    assert_eq!(error.code(), "newer_journal");
    worker.stop().await;
}
