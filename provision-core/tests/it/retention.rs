//! Runs that are over go when the host says so, and what is left of them answers for them.

use std::time::Duration;

use provision_core::{
    By, Engine, ErrorKind, LedgerQuery, MemoryStore, Outcome, Resolution, RunHandle, RunStatus,
    Saga, SagaId, SignalId, WorkerConfig,
    clock::sleep,
    engine::Fleet,
    executor::{Executor, HostDriven},
    id::{ExternalId, Timestamp},
    ledger::{LedgerOp, Sighting},
    retention::{PruneReport, Retention},
    schedule::{Misfire, Schedule},
    store::{RunFilter, StateStore},
};
use provision_testkit::faulty::{Fault, Faults, Faulty, Op};

use crate::cloud::{Cloud, Thing};

const ORDER: SagaId<String, String> = SagaId::new("order", 1);
const OTHER: SagaId<String, String> = SagaId::new("other", 1);
const TICK: SagaId<u64, u64> = SagaId::new("tick", 1);
const GO: SignalId<bool> = SignalId::new("go");

const DAY: Duration = Duration::from_secs(24 * 3_600);

fn plain(id: SagaId<String, String>) -> Saga<String, String> {
    Saga::define(id, |s| s.value("v").input((), |name, ()| name.clone())).unwrap()
}

fn order(cloud: &Cloud) -> Saga<String, String> {
    Saga::define(ORDER, |s| s.resource("b", Thing::new(cloud)).input((), |name, ()| name.clone()))
        .unwrap()
}

async fn driven(engine: &Engine, name: &str) -> RunHandle<String> {
    let run = engine.start(ORDER, &name.to_owned()).key(name).await.unwrap();
    HostDriven.drive(engine, run.id()).await.unwrap();
    run
}

/// Days pass in few steps.
fn calm() -> WorkerConfig {
    let hour = Duration::from_secs(3_600);
    WorkerConfig::default().with_lease(24 * hour).with_poll(hour).with_maintenance(hour)
}

/// Removes what succeeded, too: these sagas leave nothing that would be undone.
fn all(keep: Duration) -> Retention {
    Retention::keeping(keep).with_succeeded(true)
}

fn by() -> By {
    By::new("ann", "test")
}

// covers: S1, S2
#[tokio::test(start_paused = true)]
async fn a_worker_removes_what_is_old_and_the_key_stays_known() {
    let builder = Engine::builder(MemoryStore::new()).register(plain(ORDER)).register(plain(OTHER));
    let engine = builder.retention(all(2 * DAY)).build().await.unwrap();
    let worker = engine.spawn_worker(calm());
    let name = "acme".to_owned();
    let run = engine.start(ORDER, &name).key("acme").await.unwrap();
    assert_eq!(run.output().await.unwrap(), "acme");
    sleep(DAY).await;
    assert_eq!(engine.run(run.id()).await.unwrap().status, RunStatus::Succeeded);
    sleep(2 * DAY).await;
    let gone = engine.run(run.id()).await.unwrap_err();
    assert_eq!((gone.kind(), gone.code()), (ErrorKind::NotFound, "pruned"));
    assert!(gone.context().unwrap().contains(&run.id().to_string()), "{gone}");
    assert!(gone.context().unwrap().contains("Succeeded"), "{gone}");
    assert!(engine.runs(&RunFilter::default()).await.unwrap().runs.is_empty());

    let again = engine.start(ORDER, &name).key("acme").await.unwrap();
    assert!(!again.is_new());
    assert_eq!(again.id(), run.id());
    let left = again.pruned().unwrap().clone();
    assert_eq!((left.status, left.key.as_deref()), (RunStatus::Succeeded, Some("acme")));
    assert!(left.pruned_at.since(left.ended_at) >= 2 * DAY);
    assert_eq!(engine.tombstone(run.id()).await.unwrap(), Some(left));
    assert_eq!(again.outcome().await.unwrap_err().code(), "pruned");
    // Nothing was started for it.
    sleep(DAY).await;
    assert!(engine.runs(&RunFilter::default()).await.unwrap().runs.is_empty());

    let other = engine.start(ORDER, &"else".to_owned()).key("acme").await.unwrap_err();
    assert_eq!(other.code(), "key_taken");
    let other = engine.start(OTHER, &name).key("acme").await.unwrap_err();
    assert_eq!(other.code(), "key_taken");
    worker.stop().await;
}

// covers: S17
#[tokio::test(start_paused = true)]
async fn orders_to_a_removed_run_say_that_it_was_removed() {
    let engine = Engine::builder(MemoryStore::new()).register(plain(ORDER)).build().await.unwrap();
    let run = *driven(&engine, "acme").await.id();
    sleep(2 * DAY).await;
    let report = engine.prune(&all(DAY)).await.unwrap();
    assert_eq!(report, PruneReport { removed: 1, forgotten: 0 });
    let refusals = [
        engine.cancel(&run, by()).await,
        engine.pause(&run, by()).await,
        engine.resume(&run, by()).await,
        engine.retry(&run, by()).await,
        engine.redrive(&run, by()).await,
        engine.tear_down(&run, by()).await,
        engine.resolve(&run, Resolution::Acknowledge, by()).await,
        engine.signal(&run, GO, &true).await,
        engine.snapshot(&run).await.map(drop),
        engine.failures(&run).await.map(drop),
        engine.watch(&run, 0).next().await.map(drop),
    ];
    for refused in refusals {
        assert_eq!(refused.unwrap_err().code(), "pruned");
    }
    let never = provision_core::RunId::from_uuid(uuid::Uuid::now_v7());
    assert_eq!(engine.cancel(&never, by()).await.unwrap_err().code(), "no_such_run");
    assert_eq!(engine.tombstone(&never).await.unwrap(), None);
}

// covers: S1, S15
#[tokio::test(start_paused = true)]
async fn what_a_run_made_keeps_it_until_it_is_torn_down() {
    let cloud = Cloud::default();
    let engine = Engine::builder(MemoryStore::new()).register(order(&cloud)).build().await.unwrap();
    let run = driven(&engine, "acme").await;
    sleep(30 * DAY).await;
    let retention = Retention::keeping(DAY);
    assert_eq!(engine.prune(&retention).await.unwrap(), PruneReport::default());
    engine.tear_down(run.id(), by()).await.unwrap();
    HostDriven.drive(&engine, run.id()).await.unwrap();
    assert_eq!(run.outcome().await.unwrap(), Outcome::TornDown);
    // It has ended anew.
    assert_eq!(engine.prune(&retention).await.unwrap().removed, 0);
    sleep(2 * DAY).await;
    engine.watch_ledger(100).await.unwrap();
    assert_eq!(engine.prunable(&retention).await.unwrap(), 1);
    assert_eq!(engine.ledger(&LedgerQuery::default()).await.unwrap().len(), 1, "a dry run");
    assert_eq!(engine.prune(&retention).await.unwrap().removed, 1);
    assert!(engine.ledger(&LedgerQuery::default()).await.unwrap().is_empty());
}

// covers: S1
#[tokio::test(start_paused = true)]
async fn nothing_is_removed_unless_the_host_says_so() {
    let engine = Engine::builder(MemoryStore::new()).register(plain(ORDER)).build().await.unwrap();
    let worker = engine.spawn_worker(calm());
    let run = engine.start(ORDER, &"acme".to_owned()).await.unwrap();
    run.output().await.unwrap();
    sleep(30 * DAY).await;
    worker.stop().await;
    assert_eq!(run.output().await.unwrap(), "acme");
    let refused = Engine::builder(MemoryStore::new()).retention(Retention::keeping(Duration::ZERO));
    assert_eq!(refused.build().await.unwrap_err().code(), "retention_range");
}

// covers: S1, S19
#[tokio::test(start_paused = true)]
async fn a_removal_whose_answer_is_lost_is_repeated_and_removes_nothing_twice() {
    let faults = Faults::none();
    let store = Faulty::new(MemoryStore::new(), &faults);
    let engine = Engine::builder(store.clone()).register(plain(ORDER)).build().await.unwrap();
    let mut runs = Vec::new();
    for n in 0..250 {
        runs.push(*driven(&engine, &format!("client-{n}")).await.id());
    }
    sleep(2 * DAY).await;
    let retention = all(DAY);
    // Nothing was written; then everything was, and nobody heard of it.
    for (skip, fault, left) in [(1, Fault::Before, 150), (0, Fault::After, 50)] {
        faults.fail(Op::Prune, skip, fault);
        engine.prune(&retention).await.unwrap_err();
        let filter = RunFilter { limit: 1_000, ..RunFilter::default() };
        assert_eq!(engine.runs(&filter).await.unwrap().runs.len(), left);
    }
    assert_eq!(engine.prune(&retention).await.unwrap().removed, 50);
    for run in runs {
        assert_eq!(engine.tombstone(&run).await.unwrap().unwrap().run, run);
    }
}

// covers: S1, S25
#[tokio::test(start_paused = true)]
async fn a_forgotten_key_starts_a_new_run() {
    let engine = Engine::builder(MemoryStore::new()).register(plain(ORDER)).build().await.unwrap();
    let run = *driven(&engine, "acme").await.id();
    let retention = all(DAY).with_forget_after(10 * DAY);
    sleep(5 * DAY).await;
    let report = engine.prune(&retention).await.unwrap();
    assert_eq!(report, PruneReport { removed: 1, forgotten: 0 });
    sleep(6 * DAY).await;
    assert_eq!(engine.prunable(&retention).await.unwrap(), 0);
    let report = engine.prune(&retention).await.unwrap();
    assert_eq!(report, PruneReport { removed: 0, forgotten: 1 });
    assert_eq!(engine.run(&run).await.unwrap_err().code(), "no_such_run");
    let again = engine.start(ORDER, &"acme".to_owned()).key("acme").await.unwrap();
    assert!(again.is_new());
}

// covers: R2-64
#[tokio::test(start_paused = true)]
async fn firings_that_were_removed_are_not_fired_again() {
    let saga = || Saga::define(TICK, |s| s.value("at").input((), |at, ()| *at)).unwrap();
    let store = MemoryStore::new();
    let engine = || {
        let weekly = Schedule::every("tick", 7 * DAY).unwrap().with_misfire(Misfire::All);
        let builder = Engine::builder(store.clone()).register(saga());
        builder.schedule(weekly, TICK, |at| at.as_millis()).build()
    };
    let first = engine().await.unwrap();
    let worker = first.spawn_worker(calm());
    sleep(15 * DAY).await;
    worker.stop().await;
    let fired = first.runs(&RunFilter::default()).await.unwrap().runs.len();
    assert!(fired >= 2, "{fired}");
    sleep(30 * DAY).await;
    let removed = first.prune(&all(DAY)).await.unwrap().removed;
    assert_eq!(removed, fired as u64);
    // Another process: it goes on after the last firing, and misses none.
    let worker = engine().await.unwrap().spawn_worker(calm());
    sleep(DAY / 2).await;
    worker.stop().await;
    let caught_up = first.runs(&RunFilter::default()).await.unwrap().runs;
    assert!((4..=5).contains(&caught_up.len()), "{}", caught_up.len());
}

// covers: S1
#[tokio::test(start_paused = true)]
async fn a_repeated_fleet_tells_its_removed_members_apart() {
    let engine = Engine::builder(MemoryStore::new()).register(plain(ORDER)).build().await.unwrap();
    let worker = engine.spawn_worker(calm());
    let items = |names: &[&str]| {
        names.iter().map(|item| ((*item).to_owned(), (*item).to_owned())).collect::<Vec<_>>()
    };
    let fleet = Fleet::new("all").with_failures_max(1);
    let report = engine.fleet(&fleet, ORDER, items(&["a", "b"])).await.unwrap();
    assert!(report.removed.is_empty());
    let undone = engine.handle::<String>(report.runs["a"].0);
    engine.tear_down(undone.id(), by()).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(undone.outcome().await.unwrap(), Outcome::TornDown);
    sleep(2 * DAY).await;
    assert_eq!(engine.prune(&all(DAY)).await.unwrap().removed, 2);
    let again = engine.fleet(&fleet, ORDER, items(&["a", "b", "c"])).await.unwrap();
    assert_eq!(again.runs.keys().collect::<Vec<_>>(), ["c"]);
    let removed: Vec<_> =
        again.removed.iter().map(|(item, left)| (item.as_str(), left.status)).collect();
    assert_eq!(removed, [("a", RunStatus::TornDown), ("b", RunStatus::Succeeded)]);
    assert_eq!((again.failed().count(), again.not_started.len()), (0, 0));
    let twice = engine.fleet(&fleet, ORDER, items(&["a", "a"])).await.unwrap_err();
    assert_eq!(twice.code(), "duplicate_item");
    worker.stop().await;
}

// covers: S1
#[tokio::test(start_paused = true)]
async fn what_succeeded_stays_unless_the_host_says_otherwise() {
    let engine = Engine::builder(MemoryStore::new()).register(plain(ORDER)).build().await.unwrap();
    let (kept, undone) = (driven(&engine, "kept").await, driven(&engine, "undone").await);
    engine.tear_down(undone.id(), by()).await.unwrap();
    HostDriven.drive(&engine, undone.id()).await.unwrap();
    sleep(2 * DAY).await;
    let retention = Retention::keeping(DAY);
    assert_eq!(engine.prunable(&retention).await.unwrap(), 1);
    assert_eq!(engine.prune(&retention).await.unwrap().removed, 1);
    assert_eq!(engine.tombstone(undone.id()).await.unwrap().unwrap().status, RunStatus::TornDown);
    // What it did can still be undone.
    engine.tear_down(kept.id(), by()).await.unwrap();
    HostDriven.drive(&engine, kept.id()).await.unwrap();
    assert_eq!(kept.outcome().await.unwrap(), Outcome::TornDown);
    assert_eq!(engine.prunable(&all(DAY)).await.unwrap(), 0, "it has ended anew");
}

// covers: S1, S15
#[tokio::test(start_paused = true)]
async fn a_sweep_tells_whose_run_was_removed() {
    let (cloud, store) = (Cloud::default(), MemoryStore::new());
    let engine = Engine::builder(store.clone()).register(order(&cloud)).build().await.unwrap();
    let run = driven(&engine, "acme").await;
    engine.tear_down(run.id(), by()).await.unwrap();
    HostDriven.drive(&engine, run.id()).await.unwrap();
    sleep(2 * DAY).await;
    engine.watch_ledger(100).await.unwrap();
    sleep(2 * DAY).await;
    assert_eq!(engine.prune(&Retention::keeping(DAY)).await.unwrap().removed, 1);
    let seen = Sighting {
        run: *run.id(),
        path: "b".to_owned(),
        generation: 1,
        provider: "cloud".to_owned(),
        kind: "thing".to_owned(),
        external_id: ExternalId::new("late"),
        epoch: 1,
        at: Timestamp::ZERO,
    };
    StateStore::ledger(&store, &[LedgerOp::Sight(seen)]).await.unwrap();
    let strays = engine.sweep(true).await.unwrap().strays;
    assert_eq!(strays.len(), 1, "{strays:?}");
    let stray = &strays[0];
    assert_eq!((stray.id.as_str(), stray.run, stray.deleted), ("late", Some(*run.id()), false));
    let left = engine.tombstone(run.id()).await.unwrap();
    assert!(left.is_some());
    assert_eq!(stray.tombstone, left);
}
