//! What is done when the end of a call, forward or undo, is not known.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use provision_core::{
    By, Compensator, Effect, Engine, ExternalId, Found, Identity, Intent, Listing, MemoryStore,
    NothingToUndo, Outcome, Policy, Readiness, Resource, Saga, SagaError, SagaId, Step,
    StepContext, StepError, Undo, WorkerConfig, clock::sleep,
};

use crate::cloud::{Cloud, Do, Fault, Thing, UndoIt};

const DOUBT: SagaId<String, String> = SagaId::new("doubt", 1);

async fn engine(saga: Result<Saga<String, String>, SagaError>) -> Engine {
    Engine::builder(MemoryStore::new()).register(saga.unwrap()).build().await.unwrap()
}

/// A resource, and a step after it that fails once.
fn made_then_failed(cloud: &Cloud) -> Result<Saga<String, String>, SagaError> {
    cloud.fault("do c", &[Fault::Refuse]);
    Saga::define(DOUBT, |s| {
        let made = s.resource("made", Thing::new(cloud)).input((), |c: &String, ()| c.clone());
        s.step("c", Do(cloud.clone()), UndoIt(cloud.clone()))
            .after(made)
            .input((), |_, ()| "c".into());
        made
    })
}

// covers: S7
#[tokio::test(start_paused = true)]
async fn a_name_waits_for_a_delete_without_an_answer_before_it_is_taken_again() {
    let cloud = Cloud::default();
    cloud.fault("delete x", &[Fault::After]);
    let engine = engine(made_then_failed(&cloud)).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(DOUBT, &"x".into()).await.unwrap();
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(Some(_))));
    assert_eq!(cloud.calls("delete x"), 2, "repeated, because the first had no answer");
    let began = tokio::time::Instant::now();
    engine.redrive(run.id(), By::default()).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(cloud.calls("create x"), 1, "the first delete may land yet");
    assert_eq!(run.output().await.unwrap(), "x@t-2");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_name_that_was_given_back_for_certain_is_taken_again_at_once() {
    let cloud = Cloud::default();
    let engine = engine(made_then_failed(&cloud)).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(DOUBT, &"x".into()).await.unwrap();
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(Some(_))));
    let began = tokio::time::Instant::now();
    engine.redrive(run.id(), By::default()).await.unwrap();
    assert_eq!(run.output().await.unwrap(), "x@t-2");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    worker.stop().await;
}

// covers: S7
#[tokio::test(start_paused = true)]
async fn a_redrive_looks_again_at_what_an_undo_may_have_taken() {
    for (faults, output) in
        [([Fault::After, Fault::Refuse], "x@t-2"), ([Fault::Panic, Fault::Refuse], "x@t-1")]
    {
        let cloud = Cloud::default();
        cloud.fault("delete x", &faults);
        let engine = engine(made_then_failed(&cloud)).await;
        let worker = engine.spawn_worker(WorkerConfig::default());
        let run = engine.start(DOUBT, &"x".into()).await.unwrap();
        let Outcome::Parked(failure, _) = run.outcome().await.unwrap() else { panic!() };
        assert_eq!((failure.path.as_str(), failure.code.as_str()), ("made", "no"));
        engine.redrive(run.id(), By::default()).await.unwrap();
        assert_eq!(run.output().await.unwrap(), output, "{faults:?}");
        assert_eq!(cloud.names(), ["x"], "{faults:?}");
        worker.stop().await;
    }
}

/// Ends unknown at first, then notes an id and is refused.
#[derive(Debug)]
struct Twice;

impl Step for Twice {
    const KIND: &'static str = "test.twice";
    type Input = String;
    type Output = String;

    async fn run(&self, cx: &StepContext, _: String) -> Result<String, StepError> {
        if cx.attempt() == 1 {
            return Err(StepError::unknown("act"));
        }
        cx.note(&ExternalId::new("second")).await?;
        Err(StepError::permanent("act"))
    }
}

/// Remembers what it was asked to undo.
#[derive(Debug, Clone, Default)]
struct Asked(Arc<Mutex<Vec<Undo<String>>>>);

impl Compensator<Twice> for Asked {
    async fn compensate(
        &self,
        _: &StepContext,
        _: String,
        undo: Undo<String>,
    ) -> Result<(), StepError> {
        self.0.lock().unwrap().push(undo);
        Ok(())
    }
}

// covers: S12
#[tokio::test(start_paused = true)]
async fn an_id_noted_later_does_not_hide_what_an_earlier_attempt_may_have_done() {
    let asked = Asked::default();
    let saga = Saga::define(DOUBT, |s| {
        s.step("twice", Twice, asked.clone()).input((), |c: &String, ()| c.clone())
    });
    let engine = engine(saga).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(DOUBT, &"x".into()).await.unwrap();
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(Some(_))));
    let undone = asked.0.lock().unwrap().clone();
    assert_eq!(undone, [Undo::Unknown(vec![ExternalId::new("second")])]);
    worker.stop().await;
}

/// A resource that cannot be looked up by anything, or is on its way out for ever.
#[derive(Debug, Clone, Copy)]
enum Odd {
    LookWithoutAnswer,
    ForeverGoing,
}

impl Resource for Odd {
    const KIND: &'static str = "test.odd";
    type Spec = String;
    type Output = String;

    fn identity(&self, _: &String) -> Identity {
        match self {
            Self::LookWithoutAnswer => Identity::None,
            Self::ForeverGoing => Identity::Label,
        }
    }

    async fn find(&self, cx: &StepContext, _: &String) -> Result<Found, StepError> {
        match self {
            Self::LookWithoutAnswer => Err(StepError::unknown("find")),
            Self::ForeverGoing if cx.memory().intent.is_none() => Ok(Found::Absent),
            Self::ForeverGoing => Ok(Found::Going { again_in: Duration::from_secs(10) }),
        }
    }

    async fn create(
        &self,
        _: &StepContext,
        _: &String,
        _: &Intent,
    ) -> Result<ExternalId, StepError> {
        Err(StepError::unknown("create"))
    }

    async fn ready(
        &self,
        _: &StepContext,
        _: &String,
        id: &ExternalId,
    ) -> Result<Readiness<String>, StepError> {
        Ok(Readiness::Ready(id.to_string()))
    }

    async fn delete(&self, _: &StepContext, _: &String, _: &ExternalId) -> Result<(), StepError> {
        Ok(())
    }

    async fn list_owned(&self, _: &StepContext) -> Result<Listing, StepError> {
        Ok(Listing::Unmarked)
    }
}

fn odd(odd: Odd) -> Result<Saga<String, String>, SagaError> {
    Saga::define(DOUBT, |s| {
        let undo = Policy::attempts(3).with_total(Duration::from_secs(600));
        let node = s.resource("odd", odd).retry(Policy::once()).retry_undo(undo);
        node.input((), |c: &String, ()| c.clone())
    })
}

// covers: S12
#[tokio::test(start_paused = true)]
async fn a_look_without_an_answer_before_the_intent_leaves_nothing_to_undo() {
    let engine = engine(odd(Odd::LookWithoutAnswer)).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(DOUBT, &"x".into()).await.unwrap();
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(Some(_))));
    let failures = engine.failures(run.id()).await.unwrap();
    assert!(failures.iter().all(|view| view.failure.effect == Effect::None));
    worker.stop().await;
}

// covers: L1
#[tokio::test(start_paused = true)]
async fn an_undo_that_only_waits_ends_with_its_policy_and_needs_a_person() {
    let engine = engine(odd(Odd::ForeverGoing)).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(DOUBT, &"x".into()).await.unwrap();
    let began = tokio::time::Instant::now();
    let ended = provision_core::clock::within(Duration::from_secs(3_600), run.outcome()).await;
    let Some(Ok(Outcome::Parked(failure, _))) = ended else { panic!("{ended:?}") };
    assert_eq!((failure.path.as_str(), failure.code.as_str()), ("odd", "still_going"));
    assert!(began.elapsed() >= Duration::from_secs(600), "{:?}", began.elapsed());
    worker.stop().await;
}

// covers: S25
#[test]
fn a_policy_without_attempts_is_refused_where_the_saga_is_defined() {
    let cloud = Cloud::default();
    for undo in [false, true] {
        let saga = Saga::define(DOUBT, |s| {
            let node = s.step("c", Do(cloud.clone()), NothingToUndo);
            let none = Policy::attempts(0);
            let node = if undo { node.retry_undo(none) } else { node.retry(none) };
            node.input((), |c: &String, ()| c.clone())
        });
        assert!(matches!(saga, Err(SagaError::BadPolicy { path, .. }) if path == "c"));
    }
}

#[test]
fn an_attempt_without_a_usable_end_is_refused() {
    for longest in [Duration::ZERO, Duration::from_hours(24 * 31), Duration::MAX] {
        let saga = Saga::define(DOUBT, |s| {
            let node = s.resource("c", Thing::new(&Cloud::default())).attempt_timeout(longest);
            node.input((), |c: &String, ()| c.clone())
        });
        assert!(matches!(saga, Err(SagaError::BadTiming { path, .. }) if path == "c"));
    }
}

/// Something without a name of its own, of which looks are behind, and nothing else.
fn unnamed(cloud: &Cloud, policy: Policy) -> Result<Saga<String, String>, SagaError> {
    let thing = Thing::new(cloud).labelled().lagging(Duration::from_secs(5));
    Saga::define(DOUBT, |s| {
        s.resource("made", thing).retry(policy).input((), |c: &String, ()| c.clone())
    })
}

// covers: S7, S9
#[tokio::test(start_paused = true)]
async fn what_was_made_and_bears_no_id_is_made_once_although_looks_are_behind() {
    let cloud = Cloud::default();
    cloud.fault("create x", &[Fault::Told]);
    cloud.hide("x", 2);
    let engine = engine(unnamed(&cloud, Policy::attempts(5))).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(DOUBT, &"x".into()).await.unwrap();
    assert_eq!(run.output().await.unwrap(), "x@t-1");
    assert_eq!((cloud.calls("create x"), cloud.names().len()), (1, 1));
    worker.stop().await;
}

// covers: S12, S15
#[tokio::test(start_paused = true)]
async fn what_was_made_and_bears_no_id_is_undone_although_looks_are_behind() {
    let cloud = Cloud::default();
    cloud.fault("create x", &[Fault::Told]);
    let engine = engine(unnamed(&cloud, Policy::once())).await;
    let run = engine.start(DOUBT, &"x".into()).await.unwrap();
    cloud.hide("x", 2);
    let worker = engine.spawn_worker(WorkerConfig::default());
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(Some(_))));
    assert!(cloud.names().is_empty(), "{:?}", cloud.log());
    worker.stop().await;
}

// covers: S7, S14
#[tokio::test(start_paused = true)]
async fn a_delete_that_a_stop_has_cut_is_known_as_sent() {
    let cloud = Cloud::default();
    cloud.fault("delete x", &[Fault::Hang, Fault::Refuse]);
    cloud.fault("do c", &[Fault::Refuse]);
    let thing = Thing::new(&cloud).lagging(Duration::from_secs(5));
    let engine = engine(Saga::define(DOUBT, |s| {
        let made = s.resource("made", thing).input((), |c: &String, ()| c.clone());
        s.step("c", Do(cloud.clone()), UndoIt(cloud.clone()))
            .after(made)
            .input((), |_, ()| "c".into());
        made
    }))
    .await;
    let first = engine.spawn_worker(WorkerConfig::default().with_grace(Duration::from_secs(1)));
    let run = engine.start(DOUBT, &"x".into()).await.unwrap();
    sleep(Duration::from_secs(8)).await;
    assert!(cloud.asked().contains(&"delete x".to_owned()), "{:?}", cloud.asked());
    first.stop().await;
    let cut = engine.failures(run.id()).await.unwrap();
    let cut = cut.iter().find(|failure| failure.failure.code == "interrupted").unwrap();
    assert_eq!(cut.failure.effect, Effect::Unknown);

    let second = engine.spawn_worker(WorkerConfig::default());
    assert!(matches!(run.outcome().await.unwrap(), Outcome::Parked(..)));
    let looks = |cloud: &Cloud| cloud.asked().iter().filter(|call| *call == "find x").count();
    let before = looks(&cloud);
    engine.redrive(run.id(), By::default()).await.unwrap();
    assert_eq!(run.output().await.unwrap(), "x@t-1");
    assert!(looks(&cloud) > before, "the first delete may have taken it: {:?}", cloud.asked());
    second.stop().await;
}

// covers: S4, S7, S14
#[tokio::test(start_paused = true)]
async fn a_delete_that_is_repeated_after_a_quiet_time_is_known_as_sent() {
    let cloud = Cloud::default();
    cloud.fault("create x", &[Fault::After]);
    let engine = engine(made_then_failed(&cloud)).await;
    let first = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(DOUBT, &"x".into()).await.unwrap();
    let deletes = || cloud.asked().iter().filter(|call| *call == "delete x").count();
    let deleted = async |times: usize| {
        for _ in 0..6_000 {
            if deletes() == times {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("{times} deletes wanted: {:?}", cloud.asked());
    };
    deleted(1).await;
    // The create without an answer may land yet, so it is deleted once more when it cannot.
    cloud.fault("delete x", &[Fault::Hang]);
    deleted(2).await;
    first.kill();
    let second = engine.spawn_worker(WorkerConfig::default());
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(Some(_))));
    let cut = engine.failures(run.id()).await.unwrap();
    let cut = cut.iter().find(|failure| failure.failure.code == "interrupted").unwrap();
    assert_eq!((cut.failure.path.as_str(), cut.failure.effect), ("made", Effect::Unknown));
    engine.redrive(run.id(), By::default()).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(cloud.calls("create x"), 1, "the delete that was cut may land yet");
    assert_eq!(run.output().await.unwrap(), "x@t-2");
    second.stop().await;
}
