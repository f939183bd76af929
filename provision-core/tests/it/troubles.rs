//! Trouble that is not the step's: of the store, of the key service, of one schedule among others.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use provision_core::{
    By, Call, Effect, Engine, ErrorKind, ExternalId, NothingToUndo, Outcome, Policy, Resource,
    RunId, RunStatus, Saga, SagaId, Secret, SecretRef, Severity, SignalId, Step, StepContext,
    StepError, WorkerConfig,
    clock::sleep,
    engine::Change,
    irreversible,
    resource::{Found, Identity, Intent, Listing, Readiness},
    schedule::{Misfire, Schedule},
    store::{Incarnation, RunFilter},
    vault::{DataKey, KeyError, KeyProvider, LocalKeys},
};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::counting::{Counting, Road};

const SAGA: SagaId<String, String> = SagaId::new("troubled", 1);
const GO: SignalId<String> = SignalId::new("go");

/// Local keys behind a service that can be away.
#[derive(Debug, Clone)]
struct Service(LocalKeys, Arc<AtomicBool>);

impl Service {
    fn here(&self) -> Result<(), KeyError> {
        if self.1.load(Ordering::SeqCst) { Err(KeyError::Unavailable) } else { Ok(()) }
    }
}

#[async_trait]
impl KeyProvider for Service {
    async fn current(&self) -> Result<String, KeyError> {
        self.here()?;
        self.0.current().await
    }

    async fn wrap_key(&self, id: &str, key: &DataKey, cx: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.here()?;
        self.0.wrap_key(id, key, cx).await
    }

    async fn unwrap_key(&self, id: &str, wrapped: &[u8], cx: &[u8]) -> Result<DataKey, KeyError> {
        self.here()?;
        self.0.unwrap_key(id, wrapped, cx).await
    }
}

/// Seals a value.
#[derive(Debug)]
struct Seals;

impl Step for Seals {
    const KIND: &'static str = "test.seals";
    type Input = String;
    type Output = String;

    async fn run(&self, cx: &StepContext, input: String) -> Result<String, StepError> {
        let sealed = cx.seal("value", || Secret::new("canary")).await?;
        cx.reveal(&sealed).await?;
        Ok(input)
    }
}

// covers: L4, S18, S25
#[tokio::test(start_paused = true)]
async fn a_key_service_that_is_away_parks_nothing_and_uses_up_no_attempt() {
    let away = Arc::new(AtomicBool::new(true));
    let keys = Service(LocalKeys::new("test", [7; 32]).unwrap(), Arc::clone(&away));
    let policy = Policy::once().with_total(Duration::from_secs(60));
    let saga = Saga::define(SAGA, |s| {
        s.step("seal", Seals, NothingToUndo).retry(policy).input((), |i, ()| i.clone())
    })
    .unwrap();
    let store = Counting::default();
    let builder = Engine::builder(store).register(saga.clone()).keys(keys);
    let engine = builder.build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(&saga, &"x".to_owned()).await.unwrap();
    sleep(Duration::from_secs(1_800)).await;
    let head = engine.run(run.id()).await.unwrap();
    assert_eq!(head.status, RunStatus::Waiting, "{:?}", head.summary.failure);
    assert!(head.seq <= 100, "it is asked less and less often: {} frames", head.seq);
    // S25: what lasts for a day writes a few hundred frames and not thousands.
    sleep(Duration::from_secs(24 * 3_600)).await;
    let head = engine.run(run.id()).await.unwrap();
    assert_eq!(head.status, RunStatus::Waiting, "{:?}", head.summary.failure);
    assert!(head.seq <= 520, "{} frames", head.seq);
    away.store(false, Ordering::SeqCst);
    let began = Instant::now();
    assert_eq!(run.output().await.unwrap(), "x");
    assert!(began.elapsed() <= Duration::from_secs(660), "{:?}", began.elapsed());
    worker.stop().await;
}

/// A resource whose look-up needs a sealed value of an earlier step.
#[derive(Debug)]
struct Locked;

impl Resource for Locked {
    const KIND: &'static str = "test.locked";
    type Spec = SecretRef;
    type Output = SecretRef;

    fn identity(&self, _: &SecretRef) -> Identity {
        Identity::Named("locked".to_owned())
    }

    async fn find(&self, cx: &StepContext, key: &SecretRef) -> Result<Found, StepError> {
        cx.reveal(key).await?;
        Ok(Found::Ours("l1".into()))
    }

    async fn create(
        &self,
        _: &StepContext,
        _: &SecretRef,
        _: &Intent,
    ) -> Result<ExternalId, StepError> {
        Ok("l1".into())
    }

    async fn ready(
        &self,
        _: &StepContext,
        key: &SecretRef,
        _: &ExternalId,
    ) -> Result<Readiness<SecretRef>, StepError> {
        Ok(Readiness::Ready(key.clone()))
    }

    async fn delete(
        &self,
        _: &StepContext,
        _: &SecretRef,
        _: &ExternalId,
    ) -> Result<(), StepError> {
        Ok(())
    }

    async fn list_owned(&self, _: &StepContext) -> Result<Listing, StepError> {
        Ok(Listing::Unmarked)
    }
}

/// Gives its sealed value on.
#[derive(Debug)]
struct Draws;

impl Step for Draws {
    const KIND: &'static str = "test.draws";
    type Input = String;
    type Output = SecretRef;

    async fn run(&self, cx: &StepContext, _: String) -> Result<SecretRef, StepError> {
        cx.seal("value", || Secret::new("canary")).await
    }
}

// covers: S18
#[tokio::test(start_paused = true)]
async fn a_key_service_that_is_away_is_told_as_trouble_that_passes() {
    const LOCK: SagaId<String, SecretRef> = SagaId::new("lock", 1);
    let away = Arc::new(AtomicBool::new(false));
    let keys = Service(LocalKeys::new("test", [7; 32]).unwrap(), Arc::clone(&away));
    let saga = Saga::define(LOCK, |s| {
        let key = s.step("draw", Draws, NothingToUndo).input((), |i: &String, ()| i.clone());
        s.resource("lock", Locked).input(key, |_, key| key)
    });
    let builder = Engine::builder(Counting::default()).register(saga.unwrap()).keys(keys);
    let engine = builder.build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(LOCK, &"x".to_owned()).await.unwrap();
    let key = run.output().await.unwrap();
    let look = async || engine.plan_run(run.id()).await.unwrap().steps[1].change.clone();
    assert!(matches!(look().await, Change::Unchanged { .. }));
    away.store(true, Ordering::SeqCst);
    // What the vault has opened lately needs no key service.
    sleep(Duration::from_secs(24 * 3_600)).await;
    let Change::Unclear { failure } = look().await else { panic!("{:?}", look().await) };
    assert_eq!((failure.code.as_str(), failure.severity), ("key_service", Severity::Warning));
    let refused = engine.reveal(run.id(), &key).await.unwrap_err();
    assert_eq!((refused.kind(), refused.code()), (ErrorKind::Provider, "keys_unavailable"));
    assert!(refused.retry_after().is_some());
    away.store(false, Ordering::SeqCst);
    assert!(matches!(look().await, Change::Unchanged { .. }));
    assert_eq!(engine.reveal(run.id(), &key).await.unwrap().expose(), "canary");
    worker.stop().await;
}

/// Calls that hang beside a step that is soon done.
#[derive(Debug, Clone, Default)]
struct Hanging(Arc<Mutex<Option<Duration>>>);

struct Cut(Arc<Mutex<Option<Duration>>>, Instant);

impl Drop for Cut {
    fn drop(&mut self) {
        self.0.lock().unwrap().get_or_insert(self.1.elapsed());
    }
}

impl Step for Hanging {
    const KIND: &'static str = "test.hanging";
    type Input = String;
    type Output = String;

    async fn run(&self, cx: &StepContext, input: String) -> Result<String, StepError> {
        if input == "soon" {
            sleep(Duration::from_secs(2)).await;
            return Ok(input);
        }
        if cx.attempt() > 1 {
            return Ok(input);
        }
        let call = Call::mutate("hang").with_timeout(Duration::from_secs(5));
        cx.call(&call, async {
            let _cut = Cut(Arc::clone(&self.0), Instant::now());
            sleep(Duration::from_secs(3_600)).await;
            Ok(input)
        })
        .await
    }
}

// covers: S6
#[tokio::test(start_paused = true)]
async fn a_call_is_cut_in_time_while_the_drive_waits_for_its_store() {
    let (store, hanging) = (Counting::default(), Hanging::default());
    let (slow, soon) = (hanging.clone(), hanging.clone());
    let saga = Saga::define(SAGA, |s| {
        s.step("soon", soon, NothingToUndo).input((), |_, ()| "soon".to_owned());
        s.step("slow", slow, NothingToUndo).input((), |_, ()| "slow".to_owned());
        s.signal(GO).input((), |_, ()| Duration::from_secs(100_000))
    })
    .unwrap();
    let builder = Engine::builder(store.clone()).register(saga.clone());
    let engine = builder.build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(&saga, &"x".to_owned()).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    engine.signal(run.id(), GO, &"go".to_owned()).await.unwrap();
    // The end of the short step tells of the signal; what it is takes long to read.
    store.set("load", Road::Slow(Duration::from_secs(60)));
    sleep(Duration::from_secs(30)).await;
    store.set("load", Road::Open);
    let cut = hanging.0.lock().unwrap().expect("it is cut long before the store answers");
    assert!(cut <= Duration::from_secs(6), "{cut:?}");
    assert_eq!(run.output().await.unwrap(), "go");
    worker.stop().await;
}

fn echo() -> Saga<String, String> {
    Saga::define(SAGA, |s| s.value("echo").input((), |i: &String, ()| i.clone())).unwrap()
}

async fn fired(engine: &Engine, name: &str) -> usize {
    let key_prefix = Some(format!("schedule:{name}:"));
    let mut filter = RunFilter { key_prefix, ..RunFilter::default() };
    let mut count = 0;
    loop {
        let page = engine.runs(&filter).await.unwrap();
        count += page.runs.len();
        filter.after = page.next;
        if filter.after.is_none() {
            return count;
        }
    }
}

// covers: L1, L3
#[tokio::test(start_paused = true)]
async fn a_schedule_that_cannot_start_holds_back_no_other() {
    let store = Counting::default();
    let daily = Schedule::every("daily", Duration::from_secs(86_400)).unwrap();
    let gone = Schedule::every("gone", Duration::from_secs(60)).unwrap();
    let minute = Schedule::every("minute", Duration::from_secs(60)).unwrap();
    let before = Engine::builder(store.clone())
        .register(echo())
        .schedule(daily.clone(), SAGA, |_| "old".to_owned())
        .build()
        .await
        .unwrap();
    before.fire_schedules(None).await.unwrap();
    let engine = Engine::builder(store)
        .register(echo())
        // Its input has changed with a deploy; the next one's saga is not there.
        .schedule(daily, SAGA, |_| "new".to_owned())
        .schedule(gone, SagaId::<String, String>::new("gone", 1), |_| "x".to_owned())
        .schedule(minute, SAGA, |_| "tick".to_owned())
        .build()
        .await
        .unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    sleep(Duration::from_secs(1_800)).await;
    let minutes = fired(&engine, "minute").await;
    assert!((30..=31).contains(&minutes), "{minutes} of 30");
    worker.stop().await;
}

/// How many firings are caught up that fell into the time between two workers.
async fn caught_up(gap: Duration) -> usize {
    let store = Counting::default();
    let minute = Schedule::every("minute", Duration::from_secs(60)).unwrap();
    let all = minute.with_misfire(Misfire::All);
    let engine = Engine::builder(store)
        .register(echo())
        .schedule(all, SAGA, |at| at.as_millis().to_string())
        .build()
        .await
        .unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    sleep(Duration::from_secs(90)).await;
    worker.stop().await;
    let before = fired(&engine, "minute").await;
    sleep(gap).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    sleep(Duration::from_secs(5)).await;
    worker.stop().await;
    fired(&engine, "minute").await - before
}

// covers: R2-64
#[tokio::test(start_paused = true)]
async fn a_schedule_that_misses_nothing_catches_up_after_a_restart() {
    let fired = caught_up(Duration::from_secs(600)).await;
    // One more may fall into the time in which the second worker lives.
    assert!((10..=11).contains(&fired), "all ten that were missed: {fired}");
}

// covers: R2-64
#[tokio::test(start_paused = true)]
async fn a_schedule_catches_up_on_more_than_it_starts_at_once() {
    let fired = caught_up(Duration::from_secs(1_100 * 60)).await;
    assert!((1_100..=1_101).contains(&fired), "all that were missed: {fired}");
}

/// Is shown two values once; the key service goes away meanwhile.
#[derive(Debug, Clone)]
struct Shown {
    times: Arc<AtomicU32>,
    away: Arc<AtomicBool>,
}

impl Step for Shown {
    const KIND: &'static str = "test.shown";
    type Input = String;
    type Output = (SecretRef, SecretRef);

    async fn run(&self, cx: &StepContext, _: String) -> Result<Self::Output, StepError> {
        let time = self.times.fetch_add(1, Ordering::SeqCst);
        self.away.store(true, Ordering::SeqCst);
        let value = |name: &str| Secret::new(format!("canary {name} {time}"));
        Ok((cx.keep("a", value("a")), cx.keep("b", value("b"))))
    }
}

// covers: L4, S12
#[tokio::test(start_paused = true)]
async fn what_is_shown_once_is_held_until_it_can_be_sealed() {
    let away = Arc::new(AtomicBool::new(false));
    let shown = Shown { times: Arc::default(), away: Arc::clone(&away) };
    let keys = Service(LocalKeys::new("test", [7; 32]).unwrap(), Arc::clone(&away));
    let saga = Saga::define(SagaId::<String, (SecretRef, SecretRef)>::new("shown", 1), |s| {
        s.step("show", shown.clone(), NothingToUndo).input((), |i: &String, ()| i.clone())
    })
    .unwrap();
    let builder = Engine::builder(Counting::default()).register(saga.clone()).keys(keys);
    let engine = builder.build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(&saga, &"x".to_owned()).await.unwrap();
    sleep(Duration::from_secs(600)).await;
    away.store(false, Ordering::SeqCst);
    let (a, b) = run.output().await.unwrap();
    assert_eq!(shown.times.load(Ordering::SeqCst), 1, "what is done is not done again");
    assert_eq!(engine.reveal(run.id(), &a).await.unwrap().expose(), "canary a 0");
    assert_eq!(engine.reveal(run.id(), &b).await.unwrap().expose(), "canary b 0");
    worker.stop().await;
}

/// Counts how often it charges.
#[derive(Debug, Clone, Default)]
struct Charge(Arc<AtomicU32>);

impl Step for Charge {
    const KIND: &'static str = "test.charge";
    type Input = String;
    type Output = String;

    async fn run(&self, _: &StepContext, input: String) -> Result<String, StepError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(input)
    }
}

// covers: L6, S20
#[tokio::test(start_paused = true)]
async fn a_run_that_is_cancelled_before_its_claim_starts_nothing() {
    let charge = Charge::default();
    let saga = Saga::define(SAGA, |s| {
        s.step("charge", charge.clone(), NothingToUndo).input((), |i, ()| i.clone())
    })
    .unwrap();
    let engine = Engine::builder(Counting::default()).register(saga.clone()).build().await.unwrap();
    let run = engine.start(&saga, &"x".to_owned()).await.unwrap();
    engine.cancel(run.id(), By::default()).await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(None)));
    assert_eq!(charge.0.load(Ordering::SeqCst), 0);
    worker.stop().await;
}

/// A run that is asked for things before any worker has seen it; how often it charged.
async fn charges_after(ask: impl AsyncFn(&Engine, &RunId), end: RunStatus) -> u32 {
    let charge = Charge::default();
    let saga = Saga::define(SAGA, |s| {
        let go = s.signal(GO).input((), |_, ()| Duration::from_secs(3_600));
        s.step("charge", charge.clone(), irreversible("the money is gone")).input(go, |_, go| go)
    })
    .unwrap();
    let engine = Engine::builder(Counting::default()).register(saga.clone()).build().await.unwrap();
    let run = engine.start(&saga, &"x".to_owned()).await.unwrap();
    engine.signal(run.id(), GO, &"go".to_owned()).await.unwrap();
    ask(&engine, run.id()).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    sleep(Duration::from_secs(30)).await;
    assert_eq!(engine.run(run.id()).await.unwrap().status, end);
    worker.stop().await;
    charge.0.load(Ordering::SeqCst)
}

// covers: S16
#[tokio::test(start_paused = true)]
async fn what_is_asked_behind_a_signal_counts_before_anything_begins() {
    let by = By::default;
    let cancel = async |engine: &Engine, run: &RunId| engine.cancel(run, by()).await.unwrap();
    assert_eq!(charges_after(cancel, RunStatus::RolledBack).await, 0);
    let pause = async |engine: &Engine, run: &RunId| engine.pause(run, by()).await.unwrap();
    assert_eq!(charges_after(pause, RunStatus::Paused).await, 0);
    let both = async |engine: &Engine, run: &RunId| {
        engine.pause(run, by()).await.unwrap();
        engine.resume(run, by()).await.unwrap();
    };
    assert_eq!(charges_after(both, RunStatus::Succeeded).await, 1);
}

/// Its first attempt calls for long, or calls late; the others do neither.
#[derive(Debug)]
struct Slow;

impl Step for Slow {
    const KIND: &'static str = "test.slow";
    type Input = String;
    type Output = String;

    async fn run(&self, cx: &StepContext, input: String) -> Result<String, StepError> {
        let (first, long) = (cx.attempt() == 1, input == "long");
        let pause = Duration::from_secs(20);
        if first && !long {
            sleep(pause).await;
        }
        let call = Call::mutate("call").with_timeout(Duration::from_secs(60));
        cx.call(&call, async {
            if first && long {
                sleep(pause).await;
            }
            Ok(input)
        })
        .await
    }
}

// covers: S18
#[tokio::test(start_paused = true)]
async fn a_call_that_its_lease_cuts_uses_up_no_attempt() {
    let saga = Saga::define(SAGA, |s| {
        s.step("slow", Slow, NothingToUndo).retry(Policy::once()).input((), |i, ()| i.clone())
    })
    .unwrap();
    let store = Counting::default();
    let engine = Engine::builder(store.clone()).register(saga.clone()).build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    for (name, effect) in [("long", Effect::Unknown), ("late", Effect::None)] {
        let run = engine.start(&saga, &name.to_owned()).await.unwrap();
        sleep(Duration::from_millis(100)).await;
        let roads = ["submit", "append frame", "append row", "load", "list", "ledger"];
        let roads = [&roads[..], &["lease", "renew", "now", "claim"]].concat();
        roads.iter().for_each(|kind| store.set(kind, Road::Down));
        sleep(Duration::from_secs(30)).await;
        roads.iter().for_each(|kind| store.set(kind, Road::Open));
        assert_eq!(run.output().await.unwrap(), name);
        let failures = engine.failures(run.id()).await.unwrap();
        let seen: Vec<_> =
            failures.iter().map(|f| (f.failure.code.as_str(), f.failure.effect)).collect();
        assert_eq!(seen.first(), Some(&("lease_over", effect)), "{name}");
        assert!(seen.iter().all(|(code, _)| *code == "lease_over"), "{seen:?}");
    }
    worker.stop().await;
}

// covers: L3, S6
#[tokio::test(start_paused = true)]
async fn a_drive_that_waits_for_a_key_holds_no_worker_whose_lease_is_gone() {
    const SHOWN: SagaId<String, (SecretRef, SecretRef)> = SagaId::new("shown", 1);
    let away = Arc::new(AtomicBool::new(false));
    let shown = Shown { times: Arc::default(), away: Arc::clone(&away) };
    let keys = Service(LocalKeys::new("test", [7; 32]).unwrap(), Arc::clone(&away));
    let saga = Saga::define(SHOWN, |s| {
        s.step("show", shown.clone(), NothingToUndo).input((), |i: &String, ()| i.clone())
    });
    let store = Counting::default();
    let builder = Engine::builder(store.clone()).register(saga.unwrap()).register(echo());
    let engine = builder.keys(keys).build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(SHOWN, &"x".to_owned()).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    // Its lease lapses, and somebody says so.
    ["lease", "renew"].iter().for_each(|kind| store.set(kind, Road::Down));
    sleep(Duration::from_secs(30)).await;
    store.retire_by_hand(Incarnation(Uuid::from_u128(9))).await;
    ["lease", "renew"].iter().for_each(|kind| store.set(kind, Road::Open));
    sleep(Duration::from_secs(10)).await;
    let other = engine.start(SAGA, &"other".to_owned()).await.unwrap();
    let ended = timeout(Duration::from_secs(60), other.output()).await;
    assert_eq!(ended.expect("the worker goes on").unwrap(), "other");
    away.store(false, Ordering::SeqCst);
    run.output().await.unwrap();
    worker.stop().await;
}
