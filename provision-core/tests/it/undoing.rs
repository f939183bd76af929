//! Unwinding: what is undone, in which order, what is left when an undo fails, and what is never
//! done again.

use std::time::Duration;

use provision_core::{
    By, Engine, MemoryStore, Outcome, Policy, RunStatus, Saga, SagaId, WorkerConfig, clock::sleep,
    engine::StepStatus, irreversible,
};

use crate::cloud::{Cloud, Do, Fault, Thing, UndoIt};

const UNDO: SagaId<String, String> = SagaId::new("undo", 1);

async fn engine(saga: Saga<String, String>) -> Engine {
    Engine::builder(MemoryStore::new()).register(saga).build().await.unwrap()
}

fn thing(cloud: &Cloud) -> Thing {
    Thing::new(cloud)
}

// covers: R1-44
#[tokio::test(start_paused = true)]
async fn an_undo_that_never_works_is_repeated_then_parked_and_keeps_no_other_back() {
    let cloud = Cloud::default();
    cloud.fault("do last", &[Fault::Refuse]);
    cloud.fault("delete two", &[Fault::Before; 50]);
    let saga = Saga::define(UNDO, |s| {
        let parts = ["one", "two", "three"].map(|name| {
            let policy = Policy::attempts(4).fixed(Duration::from_secs(30));
            let node = s.resource(name, thing(&cloud)).retry_undo(policy);
            node.input((), move |_, ()| name.to_owned())
        });
        s.step("last", Do(cloud.clone()), UndoIt(cloud.clone())).input(parts, |_, _| "last".into())
    });
    let engine = engine(saga.unwrap()).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(UNDO, &"x".into()).await.unwrap();
    let Outcome::Parked(failure, left) = run.outcome().await.unwrap() else { panic!() };
    assert_eq!(failure.path, "two");
    assert_eq!(cloud.names(), ["two"], "the others are undone");
    assert_eq!(cloud.asked().iter().filter(|call| *call == "delete two").count(), 4);
    let letters = engine.dead_letters().await.unwrap().runs;
    assert_eq!(letters.iter().map(|row| row.id).collect::<Vec<_>>(), [*run.id()]);
    let kept = cloud.0.lock().unwrap().things.keys().next().cloned().unwrap();
    assert_eq!(left.iter().map(|id| id.as_str()).collect::<Vec<_>>(), [kept]);
    worker.stop().await;
}

// covers: R1-18
#[tokio::test(start_paused = true)]
async fn a_skipped_step_is_recorded_stays_skipped_and_is_never_undone() {
    let cloud = Cloud::default();
    cloud.fault("do last", &[Fault::Refuse]);
    let saga = Saga::define(UNDO, |s| {
        let extra = s
            .step("extra", Do(cloud.clone()), UndoIt(cloud.clone()))
            .when(|c: &String| c == "large")
            .input((), |_, ()| "extra".into());
        let list = s.each("list", extra, |c: &String, extra| {
            (0..if extra.is_some() { 1 } else { 3 }).map(|n| format!("{c}{n}")).collect()
        });
        let list = list.body(|item| {
            item.step("one", Do(cloud.clone()), UndoIt(cloud.clone())).input((), |n, ()| n.clone())
        });
        let night = s.sleep("night").after(list).input((), |_, ()| Duration::from_secs(60));
        s.step("last", Do(cloud.clone()), UndoIt(cloud.clone())).input(night, |_, ()| "last".into())
    });
    let engine = engine(saga.unwrap()).await;
    let first = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(UNDO, &"x".into()).await.unwrap();
    sleep(Duration::from_secs(30)).await;
    let status = |snapshot: &provision_core::engine::Snapshot, path: &str| {
        snapshot.steps.iter().find(|step| step.path == path).unwrap().status
    };
    let before = engine.snapshot(run.id()).await.unwrap();
    assert_eq!(status(&before, "extra"), StepStatus::Skipped);
    first.kill();
    let second = engine.spawn_worker(WorkerConfig::default());
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(Some(_))));
    let after = engine.snapshot(run.id()).await.unwrap();
    assert_eq!(status(&after, "extra"), StepStatus::Skipped);
    assert_eq!(cloud.log(), ["do x0", "do x1", "do x2", "undo x2", "undo x1", "undo x0"]);
    second.stop().await;
}

// covers: R2-61
#[tokio::test(start_paused = true)]
async fn a_tear_down_may_have_an_order_of_its_own() {
    let cloud = Cloud::default();
    let saga = Saga::define(UNDO, |s| {
        let device = s.resource("device", thing(&cloud)).tear_down_first(1);
        let device = device.input((), |_, ()| "device".into());
        let machine = s.resource("machine", thing(&cloud));
        let machine = machine.input((), |_, ()| "machine".into());
        s.value("both").input((device, machine), |_, (d, m)| format!("{d} {m}"))
    });
    let engine = engine(saga.unwrap()).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(UNDO, &"x".into()).await.unwrap();
    run.output().await.unwrap();
    engine.tear_down(run.id(), By::default()).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(engine.run(run.id()).await.unwrap().status, RunStatus::TornDown);
    let deleted: Vec<_> = cloud.log().into_iter().filter(|c| c.starts_with("delete")).collect();
    assert_eq!(deleted, ["delete device", "delete machine"], "started first, and undone first");
    worker.stop().await;
}

// covers: R2-21, R1-45
#[tokio::test(start_paused = true)]
async fn a_retry_after_a_failure_keeps_what_was_paid() {
    let cloud = Cloud::default();
    cloud.fault("do ship", &[Fault::Refuse]);
    let saga = Saga::define(UNDO, |s| {
        let paid = s
            .step("pay", Do(cloud.clone()), irreversible("the money is gone"))
            .pivot()
            .input((), |_, ()| "pay".into());
        s.step("ship", Do(cloud.clone()), UndoIt(cloud.clone())).input(paid, |_, _| "ship".into())
    });
    let engine = engine(saga.unwrap()).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(UNDO, &"x".into()).await.unwrap();
    let Outcome::Parked(failure, _) = run.outcome().await.unwrap() else { panic!() };
    assert_eq!(failure.path, "ship");
    engine.retry(run.id(), By::new("ann", "the carrier is back")).await.unwrap();
    assert_eq!(run.output().await.unwrap(), "ship");
    assert_eq!((cloud.calls("do pay"), cloud.calls("do ship")), (1, 1));
    worker.stop().await;
}

// covers: R3-19, R3-06
#[tokio::test(start_paused = true)]
async fn of_many_items_only_the_failed_one_is_made_again() {
    const MANY: SagaId<Vec<String>, Vec<String>> = SagaId::new("many", 1);
    let cloud = Cloud::default();
    cloud.fault("do two", &[Fault::Before]);
    let saga = Saga::define(MANY, |s| {
        s.each("variants", (), |list: &Vec<String>, ()| list.clone()).body(|item| {
            item.step("make", Do(cloud.clone()), UndoIt(cloud.clone())).input((), |n, ()| n.clone())
        })
    });
    let saga = saga.unwrap();
    let engine = Engine::builder(MemoryStore::new()).register(saga).build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let input = ["one", "two", "three"].map(str::to_owned).to_vec();
    let run = engine.start(MANY, &input).await.unwrap();
    assert_eq!(run.output().await.unwrap(), input);
    let asked = cloud.asked();
    let times = |call: &str| asked.iter().filter(|one| *one == call).count();
    assert_eq!([times("do one"), times("do two"), times("do three")], [1, 2, 1]);
    let steps = engine.snapshot(run.id()).await.unwrap().steps;
    let attempts: Vec<_> = steps.iter().map(|step| (step.path.as_str(), step.attempts)).collect();
    assert!(attempts.contains(&("variants[1]/make", 2)), "{attempts:?}");
    worker.stop().await;
}

// covers: R3-29
#[tokio::test(start_paused = true)]
async fn a_join_says_how_many_must_succeed_and_failures_stay_visible() {
    const JOIN: SagaId<usize, Vec<String>> = SagaId::new("join", 1);
    for (failing, succeeds) in [(0, true), (1, true), (2, false)] {
        let cloud = Cloud::default();
        for name in ["one", "two"].iter().take(failing) {
            cloud.fault(&format!("do {name}"), &[Fault::Refuse]);
        }
        let saga = Saga::define(JOIN, |s| {
            let members = ["one", "two", "three"].map(|name| {
                let node = s.step(name, Do(cloud.clone()), UndoIt(cloud.clone())).optional();
                node.input((), move |_, ()| name.to_owned())
            });
            s.at_least("enough", 2, members.to_vec())
        });
        let saga = saga.unwrap();
        let engine = Engine::builder(MemoryStore::new()).register(saga).build().await.unwrap();
        let worker = engine.spawn_worker(WorkerConfig::default());
        let run = engine.start(JOIN, &failing).await.unwrap();
        match run.outcome().await.unwrap() {
            Outcome::Succeeded(made) => assert!(failing == 0 && made.len() == 3),
            Outcome::PartlySucceeded(made, failures) => {
                assert!(succeeds && failing == 1);
                assert_eq!((made, failures.len()), (vec!["two".into(), "three".into()], 1));
            }
            Outcome::RolledBack(_) => assert!(!succeeds),
            other => panic!("{failing}: {other:?}"),
        }
        worker.stop().await;
    }
}
