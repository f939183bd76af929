//! Kinds that nothing lists: what is left of them is looked for, or told as not proven gone; and
//! what is only begun.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use provision_core::{
    By, Call, Effect, Engine, ExternalId, Found, Identity, Intent, Listing, MemoryStore,
    NothingToUndo, Outcome, Policy, Readiness, Resource, Saga, SagaId, StepContext, StepError,
    WorkerConfig,
    clock::sleep,
    engine::{Change, RunHandle, SweepReport, Unlisted},
    ledger::LedgerRow,
};

use tokio::task::JoinSet;

use crate::yard::{How, Pass, Plot, Yard};

const ONE: SagaId<String, String> = SagaId::new("one", 1);
const DAY: Duration = Duration::from_secs(24 * 3_600);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The watch is asked by the tests themselves.
fn config() -> WorkerConfig {
    WorkerConfig::default().with_maintenance(secs(10_000_000))
}

fn saga<R: Resource<Spec = String, Output = String>>(
    resource: R,
    policy: Policy,
) -> Saga<String, String> {
    Saga::define(ONE, |s| {
        s.resource("r", resource).retry(policy).input((), |name: &String, ()| name.clone())
    })
    .unwrap()
}

async fn engine(saga: Saga<String, String>) -> Engine {
    Engine::builder(MemoryStore::new()).register(saga).build().await.unwrap()
}

async fn start(engine: &Engine, name: &str) -> RunHandle<String> {
    engine.start(ONE, &name.to_owned()).await.unwrap()
}

/// A run that was undone after a create without an answer; an hour and more have passed.
async fn undone_in_doubt(yard: &Yard, engine: &Engine) -> RunHandle<String> {
    yard.creates(&[How::Late]);
    let run = start(engine, "x").await;
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(_)));
    sleep(secs(4_000)).await;
    run
}

fn paths(rows: &[LedgerRow]) -> Vec<&str> {
    rows.iter().map(|row| row.path.as_str()).collect()
}

/// What a sweep says of kinds that nothing lists; that is all it says.
async fn swept(engine: &Engine) -> SweepReport {
    let report = engine.sweep(true).await.unwrap();
    assert_eq!((report.wanted, &*report.strays, &*report.missing), (0, &[][..], &[][..]));
    assert!(report.failures.is_empty(), "{report:?}");
    report
}

// covers: S15, S11
#[tokio::test(start_paused = true)]
async fn what_lands_late_and_is_listed_by_nothing_is_looked_for_and_removed() {
    let yard = Yard::new().unlisted();
    let engine = engine(saga(yard.clone(), Policy::once())).await;
    let worker = engine.spawn_worker(config());
    let run = undone_in_doubt(&yard, &engine).await;
    yard.land("late", run.id());
    assert_eq!(paths(&swept(&engine).await.unverified), ["r"]);
    assert_eq!(yard.ids(), ["late"], "a sweep cannot see it");
    assert_eq!(engine.watch_ledger(20).await.unwrap(), 1);
    assert!(yard.ids().is_empty());
    sleep(2 * DAY).await;
    assert_eq!(engine.watch_ledger(20).await.unwrap(), 0, "the look was the last one");
    assert!(swept(&engine).await.unverified.is_empty());
    worker.stop().await;
}

// covers: S15
#[tokio::test(start_paused = true)]
async fn a_definite_absence_ends_the_watch_over_what_nothing_lists() {
    for yard in [Yard::new().unlisted(), Yard::new().unlisted().without_marks()] {
        let engine = engine(saga(yard.clone(), Policy::once())).await;
        let worker = engine.spawn_worker(config());
        undone_in_doubt(&yard, &engine).await;
        assert_eq!(engine.watch_ledger(20).await.unwrap(), 1);
        sleep(2 * DAY).await;
        assert_eq!(engine.watch_ledger(20).await.unwrap(), 0);
        worker.stop().await;
    }
}

// covers: S11, S15
#[tokio::test(start_paused = true)]
async fn what_may_be_anybodys_is_told_until_a_person_has_looked_and_never_removed() {
    let yard = Yard::new().unlisted().without_marks();
    let engine = engine(saga(yard.clone(), Policy::once())).await;
    let worker = engine.spawn_worker(config());
    undone_in_doubt(&yard, &engine).await;
    let created = engine.ledger(&Default::default()).await.unwrap()[0].since;
    yard.put(Plot::new("somebodys", "x", None, created.plus(secs(30))));
    for day in 0..3 {
        assert_eq!(engine.watch_ledger(20).await.unwrap(), 1, "on day {day}");
        assert_eq!(yard.ids(), ["somebodys"]);
        assert_eq!(engine.watch_ledger(20).await.unwrap(), 0, "not twice on day {day}");
        sleep(DAY).await;
    }
    let report = swept(&engine).await;
    assert_eq!(paths(&report.unverified), ["r"]);
    let place = Unlisted { kind: "yard.plot".into(), account: "default".into(), alive: 0 };
    assert_eq!(report.unlisted, [place]);
    assert!(engine.end_watch(&report.unverified[0]).await.unwrap());
    assert!(!engine.end_watch(&report.unverified[0]).await.unwrap(), "it has changed since");
    sleep(2 * DAY).await;
    assert_eq!(engine.watch_ledger(20).await.unwrap(), 0);
    assert!(swept(&engine).await.unverified.is_empty());
    worker.stop().await;
}

// covers: S11, S15
#[tokio::test(start_paused = true)]
async fn what_another_run_lives_with_or_was_there_before_leaves_nothing_in_doubt() {
    let yard = Yard::new().unlisted().without_marks();
    let engine = engine(saga(yard.clone(), Policy::once())).await;
    let worker = engine.spawn_worker(config());
    undone_in_doubt(&yard, &engine).await;
    // Another run of the same name has made its own since.
    let other = start(&engine, "x").await;
    assert_eq!(other.output().await.unwrap(), "t1");
    assert_eq!(engine.watch_ledger(20).await.unwrap(), 1);
    assert_eq!(yard.ids(), ["t1"]);
    assert!(swept(&engine).await.unverified.is_empty());

    let old = Yard::new().unlisted().without_marks();
    let engine = self::engine(saga(old.clone(), Policy::once())).await;
    let other = engine.spawn_worker(config());
    undone_in_doubt(&old, &engine).await;
    let since = engine.ledger(&Default::default()).await.unwrap()[0].since;
    let before = provision_core::Timestamp::from_millis(since.as_millis() - 600_000);
    old.put(Plot::new("theirs", "x", None, before));
    assert_eq!(engine.watch_ledger(20).await.unwrap(), 1);
    assert!(swept(&engine).await.unverified.is_empty(), "it is older than the call");
    assert_eq!(old.ids(), ["theirs"]);
    other.stop().await;
    worker.stop().await;
}

// covers: R2-49
#[tokio::test(start_paused = true)]
async fn a_sweep_calls_nothing_missing_that_nothing_lists() {
    let yard = Yard::new().unlisted();
    let engine = engine(saga(yard.clone(), Policy::once())).await;
    let worker = engine.spawn_worker(config());
    start(&engine, "x").await.output().await.unwrap();
    let report = swept(&engine).await;
    assert_eq!(report.unlisted.iter().map(|of| of.alive).collect::<Vec<_>>(), [1]);
    assert!(report.unverified.is_empty(), "its end was never in doubt");
    let preflight = engine.preflight(ONE).await.unwrap();
    assert_eq!((&*preflight.checks, &*preflight.unasked), (&[][..], &["yard.plot".to_owned()][..]));
    worker.stop().await;
}

/// Finds by a call that changes something, which no look may do.
#[derive(Debug, Clone, Default)]
struct Meddler(Arc<Mutex<u32>>);

impl Meddler {
    fn calls(&self) -> u32 {
        *self.0.lock().unwrap()
    }

    async fn meddle(&self, cx: &StepContext) -> Result<(), StepError> {
        cx.call(&Call::mutate("tidy up"), async {
            *self.0.lock().unwrap() += 1;
            Ok(())
        })
        .await
    }
}

impl Resource for Meddler {
    const KIND: &'static str = "test.meddler";
    type Spec = String;
    type Output = String;

    fn identity(&self, name: &String) -> Identity {
        Identity::Named(name.clone())
    }

    async fn find(&self, cx: &StepContext, _: &String) -> Result<Found, StepError> {
        self.meddle(cx).await.map(|()| Found::Absent)
    }

    async fn create(
        &self,
        _: &StepContext,
        name: &String,
        _: &Intent,
    ) -> Result<ExternalId, StepError> {
        Ok(ExternalId::new(name.as_str()))
    }

    async fn ready(
        &self,
        _: &StepContext,
        name: &String,
        _: &ExternalId,
    ) -> Result<Readiness<String>, StepError> {
        Ok(Readiness::Ready(name.clone()))
    }

    async fn delete(&self, _: &StepContext, _: &String, _: &ExternalId) -> Result<(), StepError> {
        Ok(())
    }

    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        self.meddle(cx).await.map(|()| Listing::Unmarked)
    }
}

// covers: R5-66
#[tokio::test(start_paused = true)]
async fn nothing_that_only_looks_makes_a_changing_call() {
    let meddler = Meddler::default();
    let engine = engine(saga(meddler.clone(), Policy::once())).await;
    let plan = engine.plan(ONE, &"x".to_owned()).await.unwrap();
    let Change::Unclear { failure } = &plan.steps[0].change else { panic!("{plan:?}") };
    assert_eq!((failure.code.as_str(), failure.effect), ("look_only", Effect::None));
    let report = engine.sweep(false).await.unwrap();
    assert_eq!(report.failures[0].code, "look_only");
    assert!(!engine.preflight(ONE).await.unwrap().is_ok());
    let outside = engine.outside(None).await.unwrap();
    assert_eq!(meddler.meddle(&outside).await.unwrap_err().code(), "look_only");
    assert_eq!(meddler.calls(), 0, "not one was sent");
    let preparing = engine.preparing(None).await.unwrap();
    meddler.meddle(&preparing).await.unwrap();
    assert_eq!(meddler.calls(), 1);
}

#[derive(Debug, Default)]
struct Oven {
    /// What is baked although nobody waits for it.
    under_way: JoinSet<()>,
    /// What is paid and begun.
    begun: bool,
    baked: bool,
    paid: u32,
    /// Calls that will finish it and get no answer: how many seconds later they land.
    lost: Vec<u64>,
}

/// Something that is paid at once and finished by a second call; nothing finds a lost payment.
#[derive(Debug, Clone, Default)]
struct Bread(Arc<Mutex<Oven>>);

impl Bread {
    fn oven(&self) -> MutexGuard<'_, Oven> {
        self.0.lock().unwrap()
    }
}

impl Resource for Bread {
    const KIND: &'static str = "test.bread";
    type Spec = String;
    type Output = String;

    fn identity(&self, _: &String) -> Identity {
        Identity::None
    }

    async fn find(&self, _: &StepContext, _: &String) -> Result<Found, StepError> {
        let oven = self.oven();
        Ok(match (oven.baked, oven.begun) {
            (true, _) => Found::Ours("bread".into()),
            (false, true) => Found::Begun("bread".into()),
            (false, false) => Found::Absent,
        })
    }

    async fn create(
        &self,
        _: &StepContext,
        _: &String,
        _: &Intent,
    ) -> Result<ExternalId, StepError> {
        let lost = {
            let mut oven = self.oven();
            if !oven.begun {
                oven.paid += 1;
                oven.begun = true;
            }
            oven.lost.pop()
        };
        let Some(after) = lost else {
            self.oven().baked = true;
            return Ok("bread".into());
        };
        let later = self.clone();
        self.oven().under_way.spawn(async move {
            sleep(secs(after)).await;
            later.oven().baked = true;
        });
        Err(StepError::unknown("bake"))
    }

    async fn ready(
        &self,
        _: &StepContext,
        name: &String,
        _: &ExternalId,
    ) -> Result<Readiness<String>, StepError> {
        Ok(Readiness::Ready(name.clone()))
    }

    async fn delete(&self, _: &StepContext, _: &String, _: &ExternalId) -> Result<(), StepError> {
        let mut oven = self.oven();
        (oven.begun, oven.baked) = (false, false);
        Ok(())
    }

    async fn list_owned(&self, _: &StepContext) -> Result<Listing, StepError> {
        Ok(Listing::Unlisted)
    }
}

// covers: S9
#[tokio::test(start_paused = true)]
async fn what_is_begun_is_gone_on_with_and_not_paid_again() {
    let bread = Bread::default();
    bread.oven().lost = vec![7_000, 7_000];
    let engine = engine(saga(bread.clone(), Policy::attempts(5).fixed(secs(5)))).await;
    let worker = engine.spawn_worker(config());
    let run = start(&engine, "x").await;
    assert_eq!(run.output().await.unwrap(), "x");
    assert_eq!(engine.failures(run.id()).await.unwrap().len(), 2);
    assert_eq!(bread.oven().paid, 1);
    worker.stop().await;
}

// covers: S7, S12, S15
#[tokio::test(start_paused = true)]
async fn an_undo_of_what_is_begun_waits_until_nothing_can_finish_it() {
    let bread = Bread::default();
    bread.oven().lost = vec![50];
    let engine = engine(saga(bread.clone(), Policy::once())).await;
    let worker = engine.spawn_worker(config());
    let run = start(&engine, "x").await;
    sleep(secs(20)).await;
    assert!(!bread.oven().begun, "what is begun is removed at once");
    assert!(!engine.run(run.id()).await.unwrap().status.is_end(), "and its last call may land");
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(_)));
    assert!(!bread.oven().baked, "it has landed, and is removed");
    assert_eq!(bread.oven().paid, 1);
    worker.stop().await;
}

// covers: S7, S12
#[tokio::test(start_paused = true)]
async fn a_finished_one_is_removed_once_more_when_an_earlier_call_may_land_after_its_undo() {
    let bread = Bread::default();
    // The second call finishes it; the first one lands half a minute after that.
    bread.oven().lost = vec![40];
    let saga = Saga::define(ONE, |s| {
        let policy = Policy::attempts(5).fixed(secs(5));
        let bread = s.resource("r", bread.clone()).retry(policy);
        let bread = bread.input((), |name: &String, ()| name.clone());
        s.step("f", Pass::failing(), NothingToUndo).input(bread, |_, bread| bread)
    });
    let engine = engine(saga.unwrap()).await;
    let worker = engine.spawn_worker(config());
    let run = start(&engine, "x").await;
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(_)));
    assert!(!bread.oven().baked);
    sleep(secs(600)).await;
    assert!(!bread.oven().baked, "nothing comes after the end");
    engine.cancel(run.id(), By::default()).await.unwrap_err();
    worker.stop().await;
}
