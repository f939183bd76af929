//! What a page shows of a run: a snapshot, events that can be resumed, phases, remaining time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use provision_core::{
    Engine, ExternalId, Found, Identity, Intent, Listing, MemoryStore, Outcome, Policy, Readiness,
    Resource, RunStatus, Saga, SagaId, StepContext, StepError, WorkerConfig,
    clock::sleep,
    engine::{LOG_LINES_MAX, Progress, What},
    store::RunFilter,
};

use crate::cloud::{Cloud, Do, Fault, Thing, UndoIt};

const SHOW: SagaId<String, String> = SagaId::new("show", 1);
const PHASES: [&str; 5] = ["queued", "machine", "configuring", "joining", "running"];

/// A step in each phase, with a pause before each.
fn phased(cloud: &Cloud) -> Saga<String, String> {
    Saga::define(SHOW, |s| {
        s.phase(PHASES[0]);
        let step = s.step(PHASES[0], Do(cloud.clone()), UndoIt(cloud.clone()));
        let mut last = step.input((), |_, ()| PHASES[0].to_owned());
        for phase in &PHASES[1..] {
            let pause = s.sleep(format!("before-{phase}"));
            let pause = pause.after(last).input((), |_, ()| Duration::from_secs(10));
            s.phase(phase);
            let step = s.step(*phase, Do(cloud.clone()), UndoIt(cloud.clone()));
            last = step.after(pause).input((), |_, ()| (*phase).to_owned());
        }
        last
    })
    .unwrap()
}

async fn engine(saga: Saga<String, String>) -> Engine {
    Engine::builder(MemoryStore::new()).register(saga).build().await.unwrap()
}

async fn all(engine: &Engine, run: &provision_core::RunId, after: u64) -> Vec<Progress> {
    let mut stream = engine.watch(run, after);
    let mut seen = Vec::new();
    while let Some(progress) = stream.next().await.unwrap() {
        seen.push(progress);
    }
    seen
}

fn told(events: &[Progress]) -> Vec<(u64, String, What)> {
    events.iter().map(|p| (p.seq, p.path.clone(), p.what.clone())).collect()
}

// covers: R2-07, R1-11
#[tokio::test(start_paused = true)]
async fn a_listener_that_comes_back_with_its_cursor_misses_nothing() {
    let cloud = Cloud::default();
    cloud.fault("do machine", &[Fault::Before]);
    let engine = engine(phased(&cloud)).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(SHOW, &"x".into()).await.unwrap();
    let live = all(&engine, run.id(), 0).await;
    let after = all(&engine, run.id(), 0).await;
    assert_eq!(told(&live), told(&after), "watching live and reading later tell the same");
    assert!(live.is_sorted_by_key(|progress| progress.seq));
    let of = |wanted: fn(&What) -> bool| live.iter().filter(|p| wanted(&p.what)).count();
    assert_eq!(of(|what| matches!(what, What::Failed { .. })), 1);
    assert_eq!(of(|what| matches!(what, What::Done { .. })), 9);
    let last = live.last().unwrap();
    assert_eq!(last.what, What::Ended { status: RunStatus::Succeeded });
    assert_eq!((last.summary.done, last.summary.total), (9, 9));
    for progress in &live {
        let rest = all(&engine, run.id(), progress.seq).await;
        let expected: Vec<_> = live.iter().filter(|p| p.seq > progress.seq).cloned().collect();
        assert_eq!(told(&rest), told(&expected));
    }
    worker.stop().await;
}

// covers: R2-19
#[tokio::test(start_paused = true)]
async fn phases_follow_their_order_and_go_back_only_to_unwind() {
    for fails in [false, true] {
        let cloud = Cloud::default();
        if fails {
            cloud.fault("do joining", &[Fault::Refuse]);
        }
        let engine = engine(phased(&cloud)).await;
        let worker = engine.spawn_worker(WorkerConfig::default());
        let run = engine.start(SHOW, &"x".into()).await.unwrap();
        let mut seen: Vec<String> = Vec::new();
        let mut stream = engine.watch(run.id(), 0);
        while let Some(progress) = stream.next().await.unwrap() {
            if engine.run(run.id()).await.unwrap().status == RunStatus::Unwinding {
                break;
            }
            let phase = progress.summary.phase.unwrap();
            if !matches!(progress.what, What::Ended { .. }) && seen.last() != Some(&phase) {
                seen.push(phase);
            }
        }
        let expected = if fails { &PHASES[..4] } else { &PHASES[..] };
        assert_eq!(seen, expected, "fails: {fails}");
        let steps = engine.snapshot(run.id()).await.unwrap().steps;
        assert!(steps.iter().all(|step| step.phase.is_some()));
        worker.stop().await;
    }
}

// covers: R2-19
#[tokio::test(start_paused = true)]
async fn a_phase_does_not_go_back_when_something_earlier_is_tried_again_beside_it() {
    let cloud = Cloud::default();
    // Tried again when the other step is done, and succeeds then.
    cloud.fault("do slow", &[Fault::Before, Fault::Before]);
    let saga = Saga::define(SHOW, |s| {
        s.phase(PHASES[0]);
        let slow = s.step("slow", Do(cloud.clone()), UndoIt(cloud.clone()));
        let again = Policy::attempts(5).fixed(Duration::from_secs(10));
        let slow = slow.retry(again).input((), |_, ()| "slow".to_owned());
        let pause = s.sleep("pause").input((), |_, ()| Duration::from_secs(5));
        s.phase(PHASES[1]);
        let quick = s.step("quick", Do(cloud.clone()), UndoIt(cloud.clone()));
        let quick = quick.after(pause).input((), |_, ()| "quick".to_owned());
        let end = s.sleep("end").after(quick).after(slow).input((), |_, ()| Duration::from_secs(5));
        s.value("all").after(end).input(quick, |_, quick| quick)
    });
    let engine = engine(saga.unwrap()).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(SHOW, &"x".into()).await.unwrap();
    let mut seen: Vec<_> =
        all(&engine, run.id(), 0).await.into_iter().filter_map(|p| p.summary.phase).collect();
    assert_eq!(engine.snapshot(run.id()).await.unwrap().steps[0].attempts, 3, "it was tried again");
    seen.dedup();
    assert_eq!(seen, PHASES[..2]);
    worker.stop().await;
}

/// Takes ten seconds, and the first one made breaks then.
#[derive(Debug, Clone, Default)]
struct Brittle(Arc<AtomicU32>);

impl Resource for Brittle {
    const KIND: &'static str = "test.brittle";
    type Spec = String;
    type Output = String;

    fn identity(&self, _: &String) -> Identity {
        Identity::None
    }

    async fn find(&self, _: &StepContext, _: &String) -> Result<Found, StepError> {
        Ok(Found::Absent)
    }

    async fn create(
        &self,
        _: &StepContext,
        _: &String,
        _: &Intent,
    ) -> Result<ExternalId, StepError> {
        let made = self.0.fetch_add(1, Ordering::Relaxed);
        Ok(ExternalId::new(format!("brittle-{made}")))
    }

    async fn ready(
        &self,
        cx: &StepContext,
        _: &String,
        id: &ExternalId,
    ) -> Result<Readiness<String>, StepError> {
        if cx.memory().polling_since.is_none() {
            return Ok(Readiness::NotYet { again_in: Duration::from_secs(10) });
        }
        match id.as_str() {
            "brittle-0" => Err(StepError::retry("look at it").with_code("broke").broken()),
            made => Ok(Readiness::Ready(made.to_owned())),
        }
    }

    async fn delete(&self, _: &StepContext, _: &String, _: &ExternalId) -> Result<(), StepError> {
        Ok(())
    }

    async fn list_owned(&self, _: &StepContext) -> Result<Listing, StepError> {
        Ok(Listing::Unmarked)
    }
}

// covers: R2-19
#[tokio::test(start_paused = true)]
async fn a_phase_does_not_go_back_when_something_earlier_is_made_anew_beside_it() {
    let (cloud, brittle) = (Cloud::default(), Brittle::default());
    let saga = Saga::define(SHOW, |s| {
        s.phase(PHASES[0]);
        let slow = s.resource("slow", brittle.clone()).input((), |_, ()| "slow".to_owned());
        let pause = s.sleep("pause").input((), |_, ()| Duration::from_secs(5));
        s.phase(PHASES[1]);
        let quick = s.step("quick", Do(cloud.clone()), UndoIt(cloud.clone()));
        let quick = quick.after(pause).input((), |_, ()| "quick".to_owned());
        s.value("all").after(slow).input(quick, |_, quick| quick)
    });
    let engine = engine(saga.unwrap()).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(SHOW, &"x".into()).await.unwrap();
    let mut seen: Vec<_> =
        all(&engine, run.id(), 0).await.into_iter().filter_map(|p| p.summary.phase).collect();
    assert_eq!(brittle.0.load(Ordering::Relaxed), 2, "it was made anew");
    seen.dedup();
    assert_eq!(seen, PHASES[..2]);
    worker.stop().await;
}

// covers: R2-67
#[tokio::test(start_paused = true)]
async fn the_remaining_time_is_unknown_at_first_and_then_shrinks_to_nothing() {
    let engine = engine(phased(&Cloud::default())).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let eta = async |run| engine.snapshot(run).await.unwrap().eta;
    let first = engine.start(SHOW, &"x".into()).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(eta(first.id()).await, None, "nobody knows yet");
    first.output().await.unwrap();
    let second = engine.start(SHOW, &"y".into()).await.unwrap();
    let mut before = Duration::from_secs(41);
    for _ in 0..8 {
        let left = eta(second.id()).await.unwrap();
        assert!(left < before, "{left:?} after {before:?}");
        before = left;
        sleep(Duration::from_secs(5)).await;
    }
    assert!(before <= Duration::from_secs(6), "{before:?}");
    second.output().await.unwrap();
    assert_eq!(eta(second.id()).await, None, "it is over");
    worker.stop().await;
}

// covers: R3-55, R5-10
#[tokio::test(start_paused = true)]
async fn every_failed_attempt_is_an_event_and_a_record_of_its_own() {
    let cloud = Cloud::default();
    cloud.fault("do a", &[Fault::Before; 20]);
    let saga = Saga::define(SHOW, |s| {
        s.step("a", Do(cloud.clone()), UndoIt(cloud.clone()))
            .retry(Policy::attempts(7).fixed(Duration::from_secs(60)))
            .input((), |_, ()| "a".into())
    });
    let engine = engine(saga.unwrap()).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(SHOW, &"x".into()).await.unwrap();
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(Some(_))));
    let history = engine.failures(run.id()).await.unwrap();
    let attempts: Vec<_> = history.iter().map(|view| view.failure.attempt).collect();
    assert_eq!(attempts, [1, 2, 3, 4, 5, 6, 7], "one for each, and no more than the policy allows");
    assert!(history.is_sorted_by_key(|view| view.at));
    let events = all(&engine, run.id(), 0).await;
    let failed = events.iter().filter(|p| matches!(p.what, What::Failed { .. })).count();
    let over = events.iter().filter(|p| matches!(p.what, What::GaveUp { .. })).count();
    assert_eq!((failed, over), (7, 1));
    worker.stop().await;
}

// covers: R5-16
#[tokio::test(start_paused = true)]
async fn what_waits_for_a_retry_is_listed_with_its_moment_and_its_reason() {
    let cloud = Cloud::default();
    cloud.fault("do a", &[Fault::Before]);
    let saga = Saga::define(SHOW, |s| {
        let a = s
            .step("a", Do(cloud.clone()), UndoIt(cloud.clone()))
            .retry(Policy::attempts(2).fixed(Duration::from_secs(300)))
            .input((), |_, ()| "a".into());
        s.resource("b", Thing::new(&cloud).slow(100)).input(a, |_, a| a)
    });
    let engine = engine(saga.unwrap()).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    engine.start(SHOW, &"x".into()).await.unwrap();
    let waiting = RunFilter { status: vec![RunStatus::Waiting], ..RunFilter::default() };
    sleep(Duration::from_secs(100)).await;
    let row = engine.runs(&waiting).await.unwrap().runs.remove(0);
    assert_eq!(row.summary.waiting.as_deref(), Some("the next attempt of `a`"));
    let in_all = row.due.since(row.created_at).as_secs();
    assert!((300..=301).contains(&in_all), "{in_all} s");
    sleep(Duration::from_secs(210)).await;
    let row = engine.runs(&waiting).await.unwrap().runs.remove(0);
    assert_eq!(row.summary.waiting.as_deref(), Some("the readiness of `b`"));
    worker.stop().await;
}

// covers: R2-37
#[tokio::test(start_paused = true)]
async fn the_log_of_a_run_is_read_from_its_end_in_bounded_pages() {
    let cloud = Cloud::default();
    cloud.fault("do a", &[Fault::Before; 500]);
    let saga = Saga::define(SHOW, |s| {
        s.step("a", Do(cloud.clone()), UndoIt(cloud.clone()))
            .retry(Policy::attempts(501).fixed(Duration::from_secs(1)))
            .input((), |_, ()| "a".into())
    });
    let engine = engine(saga.unwrap()).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(SHOW, &"x".into()).await.unwrap();
    run.output().await.unwrap();
    let events = all(&engine, run.id(), 0).await;
    let newest = engine.log(run.id(), None, usize::MAX).await.unwrap();
    assert_eq!((newest.lines.len(), newest.after), (LOG_LINES_MAX, 0));
    let whole = u64::try_from(events.len()).unwrap();
    assert_eq!(newest.before + 1_000, whole, "the oldest are left out");
    assert_eq!(newest.lines.last().unwrap().text, "ends: Succeeded");
    let older = engine.log(run.id(), Some(newest.lines[0].number), 1_000).await.unwrap();
    assert_eq!((older.before, older.after), (0, 1_000));
    let lines: Vec<_> = older.lines.iter().chain(&newest.lines).collect();
    assert_eq!(lines.len(), events.len());
    for ((line, event), number) in lines.iter().zip(&events).zip(1..) {
        assert_eq!((line.number, line.at, &line.path), (number, event.at, &event.path));
    }
    assert_eq!(engine.log(run.id(), None, 0).await.unwrap().after, whole);
    worker.stop().await;
}
