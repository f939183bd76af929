//! Whole runs: forward, waiting, unwinding, parked and mended, torn down.

use std::time::Duration;

use provision_core::{
    By, Engine, LedgerQuery, MemoryStore, Outcome, Policy, Resolution, ResourceState, RunStatus,
    Saga, SagaId, SignalId, WorkerConfig, engine::StepStatus, irreversible,
};

use crate::cloud::{Cloud, Do, Fault, Thing, UndoIt};

const LINE: SagaId<String, String> = SagaId::new("line", 1);

fn line(cloud: &Cloud) -> Saga<String, String> {
    Saga::define(LINE, |s| {
        let a = s.step("a", Do(cloud.clone()), UndoIt(cloud.clone())).input((), |_, ()| "a".into());
        let b = s.resource("b", Thing::new(cloud)).input(a, |c, a| format!("{c}-{a}"));
        s.step("c", Do(cloud.clone()), UndoIt(cloud.clone())).input(b, |_, b| format!("c {b}"))
    })
    .unwrap()
}

async fn engine(saga: Saga<String, String>) -> Engine {
    Engine::builder(MemoryStore::new()).register(saga).build().await.unwrap()
}

// covers: R3-41
#[tokio::test(start_paused = true)]
async fn a_run_succeeds_and_its_start_is_answered_again() {
    let cloud = Cloud::default();
    let engine = engine(line(&cloud)).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(LINE, &"x".into()).key("k").await.unwrap();
    assert_eq!(run.output().await.unwrap(), "c x-a@t-1");
    let again = engine.start(LINE, &"x".into()).key("k").await.unwrap();
    assert!(!again.is_new() && again.id() == run.id());
    let other = engine.start(LINE, &"y".into()).key("k").await.unwrap_err();
    assert_eq!(other.code(), "key_taken");
    assert_eq!(cloud.log(), ["do a", "create x-a", "do c x-a@t-1"]);
    worker.stop().await;
}

// covers: R1-40, R1-43
#[tokio::test(start_paused = true)]
async fn a_failed_run_is_undone_in_reverse() {
    let cloud = Cloud::default();
    cloud.fault("do c x-a@t-1", &[Fault::Refuse]);
    let engine = engine(line(&cloud)).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(LINE, &"x".into()).await.unwrap();
    let Outcome::RolledBack(Some(failure)) = run.outcome().await.unwrap() else { panic!() };
    assert_eq!((failure.path.as_str(), failure.code.as_str()), ("c", "no"));
    assert_eq!(cloud.log(), ["do a", "create x-a", "delete x-a", "undo a"]);
    assert!(cloud.names().is_empty());
    let rows = engine.ledger(&LedgerQuery::default()).await.unwrap();
    assert!(rows.iter().all(|row| row.state == ResourceState::Gone), "{rows:?}");
    worker.stop().await;
}

// covers: R2-23, R5-38
#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_recovered_and_never_repeated() {
    for labelled in [false, true] {
        let cloud = Cloud::default();
        cloud.fault("create x", &[Fault::After]);
        let thing = if labelled { Thing::new(&cloud).labelled() } else { Thing::new(&cloud) };
        let saga =
            Saga::define(LINE, |s| s.resource("b", thing).input((), |c: &String, ()| c.clone()))
                .unwrap();
        let engine = engine(saga).await;
        let worker = engine.spawn_worker(WorkerConfig::default());
        let run = engine.start(LINE, &"x".into()).await.unwrap();
        assert_eq!(run.output().await.unwrap(), "x@t-1");
        assert_eq!(cloud.calls("create x"), 1);
        worker.stop().await;
    }
}

// covers: R2-23
#[tokio::test(start_paused = true)]
async fn readiness_is_polled_without_a_slot_and_transient_faults_are_retried() {
    let cloud = Cloud::default();
    cloud.fault("create x", &[Fault::Before, Fault::Throttle, Fault::Before]);
    let saga = Saga::define(LINE, |s| {
        s.resource("b", Thing::new(&cloud).slow(5)).input((), |c: &String, ()| c.clone())
    })
    .unwrap();
    let engine = engine(saga).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(LINE, &"x".into()).await.unwrap();
    assert_eq!(run.output().await.unwrap(), "x@t-1");
    let snapshot = engine.snapshot(run.id()).await.unwrap();
    assert_eq!(snapshot.steps[0].status, StepStatus::Succeeded);
    assert_eq!(snapshot.steps[0].attempts, 4);
    worker.stop().await;
}

// covers: R1-38
#[tokio::test(start_paused = true)]
async fn a_foreign_resource_is_refused_and_left_alone() {
    let cloud = Cloud::default();
    cloud.put_foreign("x-a");
    let engine = engine(line(&cloud)).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(LINE, &"x".into()).await.unwrap();
    let Outcome::RolledBack(Some(failure)) = run.outcome().await.unwrap() else { panic!() };
    assert_eq!(failure.code, "foreign");
    assert_eq!(cloud.names(), ["x-a"]);
    worker.stop().await;
}

// covers: R1-44, R3-12
#[tokio::test(start_paused = true)]
async fn an_undo_that_fails_parks_and_goes_on_after_an_order() {
    let cloud = Cloud::default();
    cloud.fault("do c x-a@t-1", &[Fault::Refuse]);
    cloud.fault("delete x-a", &[Fault::Refuse]);
    let engine = engine(line(&cloud)).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(LINE, &"x".into()).await.unwrap();
    let outcome = run.outcome().await.unwrap();
    let Outcome::Parked(failure, left) = outcome else { panic!("{outcome:?}") };
    assert_eq!((failure.path.as_str(), left.len()), ("b", 1));
    assert_eq!(engine.dead_letters().await.unwrap().runs.len(), 1);
    engine.retry(run.id(), By::new("ann", "the provider is back")).await.unwrap();
    provision_core::clock::sleep(Duration::from_secs(5)).await;
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(_)));
    assert!(cloud.names().is_empty());
    engine.redrive(run.id(), By::default()).await.unwrap();
    provision_core::clock::sleep(Duration::from_secs(5)).await;
    assert_eq!(run.output().await.unwrap(), "c x-a@t-2");
    engine.tear_down(run.id(), By::default()).await.unwrap();
    provision_core::clock::sleep(Duration::from_secs(5)).await;
    assert_eq!(run.outcome().await.unwrap(), Outcome::TornDown);
    assert!(cloud.names().is_empty());
    let late = engine.cancel(run.id(), By::default()).await.unwrap_err();
    assert_eq!(late.code(), "run_over");
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn abandoned_leftovers_are_named() {
    let cloud = Cloud::default();
    cloud.fault("do c x-a@t-1", &[Fault::Refuse]);
    cloud.fault("delete x-a", &[Fault::Refuse]);
    let engine = engine(line(&cloud)).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(LINE, &"x".into()).await.unwrap();
    run.outcome().await.unwrap();
    let answer = Resolution::Abandon { path: "b".into() };
    engine.resolve(run.id(), answer, By::new("ann", "written off")).await.unwrap();
    provision_core::clock::sleep(Duration::from_secs(5)).await;
    let Outcome::RolledBackKeeping(_, left) = run.outcome().await.unwrap() else { panic!() };
    assert_eq!(left.len(), 1);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn panics_hurt_only_their_attempt() {
    let cloud = Cloud::default();
    cloud.fault("do a", &[Fault::Panic]);
    let engine = engine(line(&cloud)).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(LINE, &"x".into()).await.unwrap();
    assert!(run.output().await.is_ok());
    worker.stop().await;
}

// covers: R1-25, R3-06, R3-34
#[tokio::test(start_paused = true)]
async fn a_killed_worker_is_taken_over_after_its_lease() {
    let cloud = Cloud::default();
    let saga = Saga::define(LINE, |s| {
        let a = s.step("a", Do(cloud.clone()), UndoIt(cloud.clone())).input((), |_, ()| "a".into());
        let z = s.sleep("z").after(a).input((), |_, ()| Duration::from_secs(1));
        s.resource("b", Thing::new(&cloud)).after(z).input(a, |c: &String, _| c.clone())
    })
    .unwrap();
    let engine = engine(saga).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(LINE, &"x".into()).await.unwrap();
    provision_core::clock::sleep(Duration::from_millis(500)).await;
    worker.kill();
    let second = engine.spawn_worker(WorkerConfig::default());
    assert_eq!(run.output().await.unwrap(), "x@t-1");
    assert_eq!(cloud.calls("do a"), 1);
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_output_of_nothing_is_an_output() {
    const NOTHING: SagaId<(), ()> = SagaId::new("nothing", 1);
    let saga =
        Saga::define(NOTHING, |s| s.sleep("z").input((), |(), ()| Duration::from_secs(1))).unwrap();
    let engine = Engine::builder(MemoryStore::new()).register(saga).build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(NOTHING, &()).await.unwrap();
    assert_eq!(run.outcome().await.unwrap(), Outcome::Succeeded(()));
    worker.stop().await;
}

const FAN: SagaId<Vec<String>, Vec<String>> = SagaId::new("fan", 1);

// covers: R3-29, R3-53
#[tokio::test(start_paused = true)]
async fn a_fan_out_tolerates_a_failed_item_and_undoes_it_alone() {
    let cloud = Cloud::default();
    cloud.fault("do second", &[Fault::Refuse]);
    let saga = Saga::define(FAN, |s| {
        let all =
            s.each("items", (), |list: &Vec<String>, ()| list.clone()).at_least(2).body(|item| {
                let thing = item
                    .resource("thing", Thing::new(&cloud))
                    .input((), |n: &String, ()| n.clone());
                item.step("use", Do(cloud.clone()), UndoIt(cloud.clone()))
                    .input(thing, |n, _| n.clone())
            });
        s.value("done").input(all, |_, all| all.into_iter().flatten().collect())
    })
    .unwrap();
    let engine = Engine::builder(MemoryStore::new()).register(saga).build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let input = vec!["first".to_owned(), "second".into(), "third".into()];
    let run = engine.start(FAN, &input).await.unwrap();
    let Outcome::PartlySucceeded(output, failures) = run.outcome().await.unwrap() else { panic!() };
    assert_eq!(output, ["first", "third"]);
    assert_eq!(failures.len(), 1);
    let mut names = cloud.names();
    names.sort();
    assert_eq!(names, ["first", "third"]);
    worker.stop().await;
}

const PARENT: SagaId<String, String> = SagaId::new("parent", 1);
const GO: SignalId<u32> = SignalId::new("go");

#[tokio::test(start_paused = true)]
async fn signals_sleeps_conditions_and_children() {
    let cloud = Cloud::default();
    let child = line(&cloud);
    let parent = Saga::define(PARENT, |s| {
        let go = s.signal(GO).input((), |_, ()| Duration::from_secs(3600));
        let never = s
            .step("never", Do(cloud.clone()), UndoIt(cloud.clone()))
            .when(|c: &String| c == "nothing")
            .input(go, |_, go| go.to_string());
        let line =
            s.saga("line", &child).input(never, |c, never| format!("{c}{}", never.is_none()));
        s.step("mail", Do(cloud.clone()), irreversible("sent"))
            .retry(Policy::once())
            .input(line, |_, l| l)
    })
    .unwrap();
    let engine =
        Engine::builder(MemoryStore::new()).register(parent).register(child).build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(PARENT, &"x".into()).await.unwrap();
    engine.signal(run.id(), GO, &7).await.unwrap();
    assert_eq!(run.output().await.unwrap(), "c xtrue-a@t-1");
    engine.tear_down(run.id(), By::default()).await.unwrap();
    provision_core::clock::sleep(Duration::from_secs(600)).await;
    let head = engine.run(run.id()).await.unwrap();
    assert_eq!(head.status, RunStatus::TornDown, "{:?}", head.summary);
    assert!(cloud.names().is_empty(), "{:?}", cloud.log());
    worker.stop().await;
}
