//! What becomes of partial results, what the status page is told, and values shown once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use provision_core::{
    By, Engine, ErrorKind, Facts, LedgerQuery, MemoryStore, NothingToUndo, Outcome, Policy,
    ResourceState, Saga, SagaId, Secret, SecretRef, Step, StepContext, StepError, StoreError,
    Timestamp, WorkerConfig,
    bucket::Bucket,
    clock::{Clock, sleep},
    engine::{HealthLimits, Trouble},
    ledger::{LedgerOp, LedgerReply},
    limit::{Admission, Ask, Limiter, Observed},
    queue::{Claim, Offer, Queue, QueueStats},
    retention::{Prune, PruneStep, RetentionStore, Tombstone, TombstoneQuery},
    saga::OnFailure,
    secret::{Sealed, SecretKey, SecretStore},
    store::{
        Append, Appended, Incarnation, LeaseGrant, LeaseRequest, RunFilter, RunPage, RunRecord,
        StateStore, Submission, Submitted,
    },
    vault::LocalKeys,
};

use crate::cloud::{Cloud, Do, Fault, Thing, UndoIt};

const PAIR: SagaId<String, String> = SagaId::new("pair", 1);

/// A thing, and a step that uses it and may fail.
async fn pair(cloud: &Cloud, rule: OnFailure) -> Engine {
    let saga = Saga::define(PAIR, |s| {
        s.on_failure(rule);
        let b = s.resource("b", Thing::new(cloud)).input((), |c: &String, ()| c.clone());
        let c = s.resource("c", Thing::new(cloud)).retry(Policy::attempts(2));
        let c = c.input(b, |name, _| format!("{name}-c"));
        s.step("d", Do(cloud.clone()), UndoIt(cloud.clone())).input(c, |_, c| c)
    });
    Engine::builder(MemoryStore::new()).register(saga.unwrap()).build().await.unwrap()
}

// covers: R1-41
#[tokio::test(start_paused = true)]
async fn what_a_failure_leaves_is_undone_kept_or_asked_about_as_the_saga_says() {
    for rule in [OnFailure::Compensate, OnFailure::Keep, OnFailure::Ask] {
        let cloud = Cloud::default();
        cloud.fault("do x-c@t-2", &[Fault::Refuse]);
        let engine = pair(&cloud, rule).await;
        let worker = engine.spawn_worker(WorkerConfig::default());
        let run = engine.start(PAIR, &"x".into()).await.unwrap();
        match (rule, run.outcome().await.unwrap()) {
            (OnFailure::Compensate, Outcome::RolledBack(Some(_))) => {
                assert!(cloud.names().is_empty());
            }
            (OnFailure::Keep, Outcome::RolledBackKeeping(Some(failure), kept)) => {
                assert_eq!((&*failure.path, kept.len()), ("d", 2));
                assert_eq!(cloud.names(), ["x", "x-c"]);
                engine.redrive(run.id(), By::default()).await.unwrap();
                sleep(Duration::from_secs(5)).await;
                assert_eq!(run.output().await.unwrap(), "x-c@t-2");
                assert_eq!(cloud.calls("create x"), 1, "finished steps do not run twice");
            }
            (OnFailure::Ask, Outcome::Parked(failure, kept)) => {
                assert_eq!((&*failure.path, kept.len()), ("d", 2));
                engine.cancel(run.id(), By::new("ann", "not worth it")).await.unwrap();
                sleep(Duration::from_secs(5)).await;
                assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(_)));
                assert!(cloud.names().is_empty());
            }
            (rule, outcome) => panic!("{rule:?}: {outcome:?}"),
        }
        worker.stop().await;
    }
}

// covers: R1-41, L5
#[tokio::test(start_paused = true)]
async fn what_a_failure_has_kept_can_be_torn_down() {
    let cloud = Cloud::default();
    cloud.fault("do x-c@t-2", &[Fault::Refuse]);
    let engine = pair(&cloud, OnFailure::Keep).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(PAIR, &"x".into()).await.unwrap();
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBackKeeping(Some(_), _)));
    assert_eq!(cloud.names(), ["x", "x-c"]);
    engine.tear_down(run.id(), By::new("ann", "not worth it")).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(run.outcome().await.unwrap(), Outcome::TornDown);
    assert!(cloud.names().is_empty());
    let rows = engine.ledger(&LedgerQuery::default()).await.unwrap();
    assert!(rows.iter().all(|row| row.state == ResourceState::Gone), "{rows:#?}");
    let again = engine.tear_down(run.id(), By::default()).await.unwrap_err();
    assert_eq!(again.code(), "nothing_kept");
    worker.stop().await;
}

// covers: R1-41, S15
#[tokio::test(start_paused = true)]
async fn keeping_never_keeps_what_failed_in_the_middle() {
    let cloud = Cloud::default();
    // It is made without an answer, found again, and never comes up.
    cloud.fault("create x-c", &[Fault::After]);
    let engine = pair(&cloud, OnFailure::Keep).await;
    cloud.refuse_ready("x-c");
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(PAIR, &"x".into()).await.unwrap();
    let outcome = run.outcome().await.unwrap();
    let Outcome::RolledBackKeeping(Some(failure), kept) = outcome else { panic!("{outcome:?}") };
    assert_eq!((&*failure.path, kept.len()), ("c", 1));
    assert_eq!(cloud.names(), ["x"]);
    let alive = LedgerQuery { states: vec![ResourceState::Alive], ..LedgerQuery::default() };
    assert_eq!(engine.ledger(&alive).await.unwrap().len(), 1);
    engine.cancel(run.id(), By::default()).await.unwrap_err();
    worker.stop().await;
}

// covers: R2-66, R1-83
#[tokio::test(start_paused = true)]
async fn past_runs_tell_average_times_and_failure_rates_by_kind_and_region() {
    let cloud = Cloud::default();
    let place = |region: &str| Facts { region: Some(region.to_owned()), ..Facts::default() };
    let saga = Saga::define(PAIR, |s| {
        let quick = Thing::new(&cloud).slow(1).with_facts(place("fra"));
        let slow = Thing::new(&cloud).slow(4).with_facts(place("iad"));
        let a = s.resource("a", quick).retry(Policy::attempts(2).immediate());
        let a = a.input((), |c: &String, ()| format!("{c}-a"));
        s.resource("b", slow).input(a, |c, _| format!("{c}-b"))
    });
    let engine = Engine::builder(MemoryStore::new()).register(saga.unwrap()).build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    for name in ["v", "w", "x", "y"] {
        if name == "x" {
            cloud.fault("create x-a", &[Fault::Before]);
        }
        if name == "y" {
            cloud.fault("create y-a", &[Fault::Before, Fault::Before]);
        }
        engine.start(PAIR, &name.to_owned()).await.unwrap().outcome().await.unwrap();
    }
    let stats = engine.step_stats(&RunFilter::default()).await.unwrap();
    let [fra, iad] = &stats[..] else { panic!("{stats:#?}") };
    assert_eq!((&*fra.kind, fra.region.as_deref()), ("cloud.thing", Some("fra")));
    assert_eq!((fra.succeeded, fra.failed, fra.failed_attempts), (3, 1, 3));
    assert!((fra.failure_rate() - 0.25).abs() < 1e-9);
    assert_eq!((iad.region.as_deref(), iad.succeeded, iad.failed), (Some("iad"), 3, 0));
    for (of, seconds) in [(fra, 10), (iad, 40)] {
        let (least, most) = (Duration::from_secs(seconds), Duration::from_secs(seconds + 2));
        for time in [of.average, of.median, of.longest] {
            assert!(time.is_some_and(|time| least <= time && time < most), "{of:?}");
        }
    }
    let newest = RunFilter { limit: 1, ..RunFilter::default() };
    let only = engine.step_stats(&newest).await.unwrap();
    assert!((only[0].failure_rate() - 1.0).abs() < 1e-9 && only[0].average.is_none());
    worker.stop().await;
}

/// Makes a key that its owner is shown once.
struct Issue;

impl Step for Issue {
    const KIND: &'static str = "test.issue";
    type Input = String;
    type Output = SecretRef;

    async fn run(&self, cx: &StepContext, name: String) -> Result<SecretRef, StepError> {
        Ok(cx.keep("key", Secret::new(format!("CANARY-{name}"))))
    }
}

const KEY: SagaId<String, SecretRef> = SagaId::new("key", 1);

async fn issued(store: &MemoryStore) -> Engine {
    let saga = Saga::define(KEY, |s| {
        s.step("issue", Issue, NothingToUndo).input((), |name: &String, ()| name.clone())
    });
    let keys = LocalKeys::new("test", [7; 32]).unwrap();
    Engine::builder(store.clone()).keys(keys).register(saga.unwrap()).build().await.unwrap()
}

// covers: R4-21
#[tokio::test(start_paused = true)]
async fn a_key_is_shown_to_one_caller_once_and_is_gone_then() {
    let store = MemoryStore::new();
    let engine = issued(&store).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(KEY, &"ada".to_owned()).tenant("acme").await.unwrap();
    let key = run.output().await.unwrap();
    for _ in 0..2 {
        assert_eq!(engine.reveal(run.id(), &key).await.unwrap().expose(), "CANARY-ada");
    }
    let other = engine.start(KEY, &"bob".to_owned()).await.unwrap();
    other.output().await.unwrap();
    let foreign = engine.reveal(other.id(), &key).await.unwrap_err();
    assert_eq!((foreign.kind(), foreign.code()), (ErrorKind::Invalid, "not_of_this_run"));
    let named = engine.reveal_once(run.id(), &SecretRef::named("HOME")).await.unwrap_err();
    assert_eq!(named.code(), "not_of_this_run");

    let both = futures_util::future::join_all(
        (0..8).map(|_| engine.reveal_once(run.id(), &key)).collect::<Vec<_>>(),
    );
    let shown = both.await;
    let got: Vec<_> = shown.iter().filter_map(|one| one.as_ref().ok()).collect();
    assert_eq!(got.len(), 1, "one caller gets it");
    assert_eq!(got[0].expose(), "CANARY-ada");
    let late: Vec<_> = shown.iter().filter_map(|one| one.as_ref().err()).collect();
    assert!(late.iter().all(|late| late.code() == "secret_gone"), "{late:?}");
    let gone = engine.reveal(run.id(), &key).await.unwrap_err();
    assert_eq!((gone.kind(), gone.code()), (ErrorKind::Secret, "secret_gone"));
    assert!(gone.hint().unwrap().contains("rotate"));
    assert_eq!(store.keys(None).await.unwrap().len(), 1, "the other run's key alone is kept");
    worker.stop().await;
}

// covers: R4-21
#[tokio::test(start_paused = true)]
async fn a_key_is_not_taken_from_a_run_that_may_still_need_it() {
    let store = MemoryStore::new();
    let engine = issued(&store).await;
    let run = engine.start(KEY, &"ada".to_owned()).await.unwrap();
    let key = SecretRef::sealed(&SecretKey {
        scope: run.id().to_string(),
        generation: 1,
        name: "key".to_owned(),
        path: "issue".to_owned(),
    });
    let open = engine.reveal_once(run.id(), &key).await.unwrap_err();
    assert_eq!((open.kind(), open.code()), (ErrorKind::Conflict, "run_open"));
    let keyless = Engine::builder(store.clone()).build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    run.output().await.unwrap();
    assert_eq!(keyless.reveal_once(run.id(), &key).await.unwrap_err().code(), "no_vault");
    // A process died between the mark and the erasure: the value is not shown again.
    let sealed = store.get(&key.key().unwrap()).await.unwrap().unwrap();
    let mark = Sealed { format: 0, key_id: String::new(), bytes: Vec::new() };
    assert!(store.replace(&key.key().unwrap(), &sealed, &mark).await.unwrap());
    assert_eq!(engine.reveal(run.id(), &key).await.unwrap_err().code(), "secret_gone");
    worker.stop().await;
}

/// A memory store that can be made to fail, to hang and to count wrongly.
#[derive(Debug, Clone, Default)]
struct Frail {
    store: MemoryStore,
    deaf: Arc<AtomicBool>,
    slow: Arc<AtomicBool>,
    uncounted: Arc<AtomicBool>,
}

impl Frail {
    fn down(call: &'static str) -> StoreError {
        StoreError::unavailable(call)
    }
}

#[async_trait]
impl StateStore for Frail {
    async fn submit(&self, batch: &[Submission]) -> Result<Vec<Submitted>, StoreError> {
        self.store.submit(batch).await
    }
    async fn append(&self, batch: &[Append]) -> Result<Vec<Appended>, StoreError> {
        self.store.append(batch).await
    }
    async fn load(
        &self,
        runs: &[provision_core::RunId],
    ) -> Result<Vec<Option<RunRecord>>, StoreError> {
        self.store.load(runs).await
    }
    async fn list(&self, filter: &RunFilter) -> Result<RunPage, StoreError> {
        self.store.list(filter).await
    }
    async fn ledger(&self, ops: &[LedgerOp]) -> Result<Vec<LedgerReply>, StoreError> {
        self.store.ledger(ops).await
    }
    async fn lease(&self, request: &LeaseRequest) -> Result<LeaseGrant, StoreError> {
        self.store.lease(request).await
    }
    async fn now(&self) -> Result<Timestamp, StoreError> {
        if self.slow.load(Ordering::SeqCst) {
            sleep(Duration::from_secs(60)).await;
        }
        if self.deaf.load(Ordering::SeqCst) {
            return Err(Self::down("now"));
        }
        self.store.now().await
    }
}

#[async_trait]
impl Queue for Frail {
    async fn offer(&self, offers: &[Offer]) -> Result<(), StoreError> {
        self.store.offer(offers).await
    }
    async fn claim(&self, claim: &Claim) -> Result<Vec<provision_core::RunId>, StoreError> {
        self.store.claim(claim).await
    }
    async fn ack(&self, runs: &[provision_core::RunId]) -> Result<(), StoreError> {
        self.store.ack(runs).await
    }
    async fn wake(&self, runs: &[provision_core::RunId]) -> Result<(), StoreError> {
        self.store.wake(runs).await
    }
    async fn stats(&self) -> Result<QueueStats, StoreError> {
        if self.uncounted.load(Ordering::SeqCst) {
            return Err(Self::down("stats"));
        }
        self.store.stats().await
    }
}

#[async_trait]
impl Limiter for Frail {
    async fn admit(&self, ask: &Ask) -> Result<Admission, StoreError> {
        self.store.admit(ask).await
    }
    async fn observe(
        &self,
        bucket: &str,
        worker: Incarnation,
        seen: &Observed,
    ) -> Result<(), StoreError> {
        self.store.observe(bucket, worker, seen).await
    }
    async fn look(&self, bucket: &str) -> Result<Bucket, StoreError> {
        self.store.look(bucket).await
    }
}

#[async_trait]
impl SecretStore for Frail {
    async fn put(&self, key: &SecretKey, sealed: &Sealed) -> Result<Sealed, StoreError> {
        self.store.put(key, sealed).await
    }
    async fn replace(
        &self,
        key: &SecretKey,
        old: &Sealed,
        new: &Sealed,
    ) -> Result<bool, StoreError> {
        self.store.replace(key, old, new).await
    }
    async fn get(&self, key: &SecretKey) -> Result<Option<Sealed>, StoreError> {
        self.store.get(key).await
    }
    async fn keys(&self, after: Option<&SecretKey>) -> Result<Vec<SecretKey>, StoreError> {
        self.store.keys(after).await
    }
    async fn erase(&self, key: &SecretKey) -> Result<(), StoreError> {
        self.store.erase(key).await
    }
}

#[async_trait]
impl RetentionStore for Frail {
    async fn prune(&self, prune: &Prune) -> Result<PruneStep, StoreError> {
        self.store.prune(prune).await
    }

    async fn tombstones(&self, query: &TombstoneQuery) -> Result<Vec<Tombstone>, StoreError> {
        self.store.tombstones(query).await
    }

    async fn forget(&self, ended_before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.store.forget(ended_before, limit).await
    }
}

/// A wall clock that is off by so many milliseconds against the store's.
#[derive(Debug, Clone)]
struct Off(Arc<AtomicI64>, tokio::time::Instant, Timestamp);

impl Clock for Off {
    fn wall(&self) -> Timestamp {
        let right = self.2.plus(self.1.elapsed()).as_millis();
        Timestamp::from_millis(right.saturating_add_signed(self.0.load(Ordering::SeqCst)))
    }
}

// covers: R5-43
#[tokio::test(start_paused = true)]
async fn each_failure_flips_readiness_and_says_which_it_is() {
    let (cloud, store) = (Cloud::default(), Frail::default());
    let off = Arc::new(AtomicI64::new(0));
    let clock =
        Off(Arc::clone(&off), tokio::time::Instant::now(), store.store.now().await.unwrap());
    let saga = Saga::define(PAIR, |s| {
        s.resource("b", Thing::new(&cloud)).input((), |c: &String, ()| c.clone())
    });
    let builder = Engine::builder(store.clone()).clock(clock).register(saga.unwrap());
    let engine = builder.build().await.unwrap();
    let healthy = engine.health().await;
    assert!(healthy.is_ready(), "{healthy:?}");
    assert!(healthy.store_ms == Some(0) && healthy.skew_ms.unwrap().abs() <= 1, "{healthy:?}");

    for (switch, trouble) in [
        (&store.deaf, Trouble::Store),
        (&store.slow, Trouble::Store),
        (&store.uncounted, Trouble::Queue),
    ] {
        switch.store(true, Ordering::SeqCst);
        let health = engine.health().await;
        assert_eq!((health.is_ready(), &health.troubles[..]), (false, &[trouble][..]));
        switch.store(false, Ordering::SeqCst);
        assert!(engine.health().await.is_ready());
    }
    for ahead in [61_000, -61_000] {
        off.store(ahead, Ordering::SeqCst);
        let health = engine.health().await;
        assert_eq!(health.troubles, [Trouble::Skew]);
        assert!((health.skew_ms.unwrap() - ahead).abs() <= 1, "{health:?}");
    }
    off.store(0, Ordering::SeqCst);

    cloud.fault("create x", &[Fault::Hang]);
    let worker = engine.spawn_worker(WorkerConfig::default());
    engine.start(PAIR, &"x".to_owned()).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    assert!(engine.health().await.is_ready());
    worker.kill();
    sleep(Duration::from_secs(20)).await;
    let health = engine.health().await;
    assert_eq!(health.troubles, [Trouble::Leases], "{health:?}");
    engine.start(PAIR, &"y".to_owned()).await.unwrap();
    sleep(Duration::from_secs(301)).await;
    let health = engine.health().await;
    assert_eq!(health.troubles, [Trouble::Lag, Trouble::Leases], "{health:?}");
    let mut patient = HealthLimits::default();
    (patient.oldest, patient.expired) = (Duration::from_secs(900), 1);
    assert!(engine.health_within(patient).await.is_ready());
    let worker = engine.spawn_worker(WorkerConfig::default());
    sleep(Duration::from_secs(30)).await;
    assert!(engine.health().await.is_ready());
    worker.stop().await;
}
