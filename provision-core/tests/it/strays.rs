//! What a provider with bad habits is left with: nothing of ours that nobody knows of, and all
//! that is not ours.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use provision_core::{
    AdoptPolicy, By, Engine, ExternalId, LedgerQuery, LedgerRow, MemoryStore, NothingToUndo,
    Outcome, OwnerMark, Policy, RunStatus, Saga, SagaId, Timestamp, WorkerConfig,
    clock::sleep,
    engine::{Resolution, RunHandle},
    ledger::{LedgerOp, Origin, ResourceState},
    saga::OnFailure,
    store::StateStore,
};

use tokio::task::JoinSet;

use crate::yard::{How, Pass, Plot, Yard};

const ONE: SagaId<String, String> = SagaId::new("one", 1);
const TWO: SagaId<String, String> = SagaId::new("two", 1);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The watch is asked by the tests themselves.
fn config() -> WorkerConfig {
    WorkerConfig::default().with_maintenance(secs(10_000_000))
}

/// One resource `r`, and a step after it that fails.
fn then_fails(yard: &Yard) -> Saga<String, String> {
    Saga::define(ONE, |s| {
        let plot = s.resource("r", yard.clone()).input((), |name: &String, ()| name.clone());
        s.step("f", Pass::failing(), NothingToUndo).input(plot, |_, plot| plot)
    })
    .unwrap()
}

/// One resource `r`.
fn alone(yard: &Yard, retry: Policy) -> Saga<String, String> {
    Saga::define(ONE, |s| {
        s.resource("r", yard.clone()).retry(retry).input((), |name: &String, ()| name.clone())
    })
    .unwrap()
}

async fn engine(saga: Saga<String, String>) -> (MemoryStore, Engine) {
    let store = MemoryStore::new();
    let engine = Engine::builder(store.clone()).register(saga).build().await.unwrap();
    (store, engine)
}

async fn start(engine: &Engine, saga: SagaId<String, String>) -> RunHandle<String> {
    engine.start(saga, &"x".to_owned()).await.unwrap()
}

// covers: S11
#[tokio::test(start_paused = true)]
async fn what_appears_after_a_refused_create_is_not_ours() {
    let yard = Yard::new().without_marks();
    yard.creates(&[How::Nothing]);
    let (store, engine) = engine(then_fails(&yard)).await;
    let worker = engine.spawn_worker(config());
    let run = start(&engine, ONE).await;
    sleep(secs(20)).await;
    // The create was refused for certain; before its repetition somebody else takes the name.
    let now = StateStore::now(&store).await.unwrap();
    yard.put(Plot::new("theirs", "x", None, now));
    let Outcome::RolledBack(Some(failure)) = run.outcome().await.unwrap() else { panic!() };
    assert_eq!((failure.path.as_str(), failure.code.as_str()), ("r", "foreign"));
    assert_eq!((yard.log(), yard.ids()), (vec!["create x".into()], vec!["theirs".to_owned()]));
    worker.stop().await;
}

// covers: S9
#[tokio::test(start_paused = true)]
async fn a_provider_whose_clock_is_behind_does_not_make_our_own_foreign() {
    let yard = Yard::new().without_marks();
    yard.creates(&[How::Lost]);
    yard.world().behind = secs(40);
    let (_, engine) = engine(alone(&yard, Policy::default())).await;
    let worker = engine.spawn_worker(config());
    let run = start(&engine, ONE).await;
    assert_eq!(run.output().await.unwrap(), "t1");
    assert_eq!(yard.log(), ["create x"]);
    worker.stop().await;
}

// covers: S11
#[tokio::test(start_paused = true)]
async fn what_is_older_than_the_tolerated_skew_is_not_ours() {
    let yard = Yard::new().without_marks();
    yard.creates(&[How::Late]);
    let (store, engine) = engine(alone(&yard, Policy::attempts(3).fixed(secs(30)))).await;
    let worker = engine.spawn_worker(config());
    let now = StateStore::now(&store).await.unwrap().as_millis();
    let run = start(&engine, ONE).await;
    sleep(secs(1)).await;
    // A look-up that lagged: it was there all the time.
    let old = Timestamp::from_millis(now - 600_000);
    yard.put(Plot::new("theirs", "x", None, old));
    let Outcome::RolledBack(Some(failure)) = run.outcome().await.unwrap() else { panic!() };
    assert_eq!(failure.code, "foreign");
    assert_eq!((yard.log(), yard.ids()), (vec!["create x".into()], vec!["theirs".to_owned()]));
    worker.stop().await;
}

/// A run that ended clean after a create without an answer, which lands afterwards.
async fn landed_late(yard: &Yard, engine: &Engine) -> RunHandle<String> {
    yard.creates(&[How::Late]);
    let run = start(engine, ONE).await;
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(_)));
    yard.land("late", run.id());
    sleep(secs(4_000)).await;
    run
}

// covers: S15
#[tokio::test(start_paused = true)]
async fn a_delete_that_fails_keeps_the_watch_and_what_was_found_is_in_the_ledger() {
    let yard = Yard::new();
    let (_, engine) = engine(alone(&yard, Policy::once())).await;
    let worker = engine.spawn_worker(config());
    let run = landed_late(&yard, &engine).await;
    yard.world().deletes.push_back(How::Nothing);
    let found = async || {
        let all = LedgerQuery { run: Some(*run.id()), ..LedgerQuery::default() };
        let rows = engine.ledger(&all).await.unwrap();
        let found = rows.into_iter().find(|row| row.index > 0);
        found.map(|row| (row.external_id.unwrap().to_string(), row.state, row.until.is_some()))
    };
    assert_eq!(engine.watch_ledger(20).await.unwrap(), 1);
    assert_eq!(yard.ids(), ["late"]);
    assert_eq!(found().await, Some(("late".to_owned(), ResourceState::Alive, false)));
    sleep(secs(4_000)).await;
    let again = engine.watch_ledger(20).await.unwrap();
    assert_eq!(again, 2, "for the row in doubt, and for what is being removed");
    assert!(yard.ids().is_empty());
    assert_eq!(found().await, Some(("late".to_owned(), ResourceState::Gone, true)));
    sleep(secs(4_000)).await;
    assert_eq!(engine.watch_ledger(20).await.unwrap(), 0, "and then no more");
    assert_eq!(engine.run(run.id()).await.unwrap().status, RunStatus::RolledBack);
    worker.stop().await;
}

// covers: S15
#[tokio::test(start_paused = true)]
async fn the_watch_leaves_alone_what_its_run_is_creating() {
    let yard = Yard::new();
    yard.creates(&[How::Late, How::Slow(20)]);
    let retry = Policy::attempts(3).fixed(secs(3_700)).with_total(secs(100_000));
    let (_, engine) = engine(alone(&yard, retry)).await;
    let worker = engine.spawn_worker(config());
    let run = start(&engine, ONE).await;
    sleep(secs(3_705)).await;
    // The second create is open: the provider has it, the run does not know its id yet.
    yard.land("early", run.id());
    assert_eq!(engine.watch_ledger(20).await.unwrap(), 1);
    assert_eq!(yard.ids(), ["early"]);
    yard.world().plots.clear();
    assert_eq!(run.output().await.unwrap(), "t1");
    // Beside the live one nothing of the step is wanted.
    yard.land("double", run.id());
    sleep(secs(4_000)).await;
    assert_eq!(engine.watch_ledger(20).await.unwrap(), 1, "it looks again later");
    assert_eq!(yard.ids(), ["t1"]);
    worker.stop().await;
}

// covers: S12, S15
#[tokio::test(start_paused = true)]
async fn a_skip_does_not_forget_what_exists() {
    let yard = Yard::new();
    yard.stuck.store(true, SeqCst);
    let saga = Saga::define(ONE, |s| {
        s.resource("r", yard.clone()).input((), |name: &String, ()| name.clone());
        s.value("v").input((), |name: &String, ()| name.clone())
    });
    let (_, engine) = engine(saga.unwrap()).await;
    let worker = engine.spawn_worker(config());
    let run = start(&engine, ONE).await;
    assert!(matches!(run.outcome().await.unwrap(), Outcome::Parked(..)));
    let skip = Resolution::Skip { path: "r".into() };
    let refused = engine.resolve(run.id(), skip, By::default()).await.unwrap_err();
    assert_eq!(refused.code(), "may_exist");
    engine.cancel(run.id(), By::default()).await.unwrap();
    sleep(secs(60)).await;
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(_)));
    assert!(yard.ids().is_empty());
    worker.stop().await;
}

// covers: S14
#[tokio::test(start_paused = true)]
async fn a_lag_counts_from_the_last_create_not_from_the_first_intent() {
    let yard = Yard::new();
    yard.creates(&[How::Nothing, How::Hidden(4)]);
    let (_, engine) = engine(then_fails(&yard)).await;
    let worker = engine.spawn_worker(config());
    let run = start(&engine, ONE).await;
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(_)));
    assert_eq!(yard.ids(), [""; 0]);
    worker.stop().await;
}

// covers: S15
#[tokio::test(start_paused = true)]
async fn a_duplicate_that_could_not_be_deleted_is_not_forgotten() {
    let yard = Yard::new().labelled();
    yard.creates(&[How::Late]);
    let (_, engine) = engine(alone(&yard, Policy::attempts(3).fixed(secs(30)))).await;
    let worker = engine.spawn_worker(config());
    let run = start(&engine, ONE).await;
    sleep(secs(10)).await;
    yard.land("a", run.id());
    yard.land("b", run.id());
    yard.world().deletes.push_back(How::Nothing);
    assert_eq!(run.output().await.unwrap(), "a");
    assert_eq!(yard.ids(), ["a"], "{:?}", yard.log());
    worker.stop().await;
}

// covers: S7, S15
#[tokio::test(start_paused = true)]
async fn an_undo_waits_for_what_is_going() {
    let yard = Yard::new();
    yard.creates(&[How::Late]);
    let (_, engine) = engine(then_fails(&yard)).await;
    let worker = engine.spawn_worker(config());
    let run = start(&engine, ONE).await;
    sleep(secs(40)).await;
    assert_eq!(yard.log(), ["create x", "create x", "delete t1"]);
    // The first create landed after all, and is on its way out when the undo looks for it.
    let mark = OwnerMark::new(*run.id(), "r");
    let late = Plot::new("late", "x", Some(mark), Timestamp::ZERO);
    yard.put(Plot { going: true, ..late });
    sleep(secs(300)).await;
    assert!(!engine.run(run.id()).await.unwrap().status.is_end(), "{:?}", yard.log());
    yard.world().plots.clear();
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(_)));
    worker.stop().await;
}

// covers: S15
#[tokio::test(start_paused = true)]
async fn what_lands_beside_an_adopted_one_is_undone_and_the_adopted_one_stays() {
    let yard = Yard::new().labelled();
    yard.creates(&[How::Late]);
    let saga = Saga::define(ONE, |s| {
        let node = s.resource("r", yard.clone()).adopt(AdoptPolicy::Use);
        let plot = node.input((), |name: &String, ()| name.clone());
        s.step("f", Pass::failing(), NothingToUndo).input(plot, |_, plot| plot)
    });
    let (_, engine) = engine(saga.unwrap()).await;
    let worker = engine.spawn_worker(config());
    let run = start(&engine, ONE).await;
    sleep(secs(1)).await;
    yard.put(Plot::new("theirs", "x", None, Timestamp::ZERO));
    sleep(secs(30)).await;
    yard.land("late", run.id());
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(_)));
    assert_eq!(yard.ids(), ["theirs"]);
    worker.stop().await;
}

/// A second saga that adopts what the first has made.
fn adopts(yard: &Yard) -> Saga<String, String> {
    Saga::define(TWO, |s| {
        let node = s.resource("r", yard.clone()).adopt(AdoptPolicy::Use);
        node.input((), |name: &String, ()| name.clone())
    })
    .unwrap()
}

// covers: S11
#[tokio::test(start_paused = true)]
async fn what_a_run_has_adopted_and_kept_is_spared_until_that_run_is_torn_down() {
    let yard = Yard::new();
    let keeps = Saga::define(TWO, |s| {
        s.on_failure(OnFailure::Keep);
        let own = s.resource("own", yard.clone());
        let own = own.input((), |name: &String, ()| format!("{name}-own"));
        let node = s.resource("r", yard.clone()).adopt(AdoptPolicy::Use).after(own);
        let plot = node.input((), |name: &String, ()| name.clone());
        s.step("f", Pass::failing(), NothingToUndo).input(plot, |_, plot| plot)
    });
    let builder = Engine::builder(MemoryStore::new()).register(keeps.unwrap());
    let engine = builder.register(alone(&yard, Policy::default())).build().await.unwrap();
    let worker = engine.spawn_worker(config());
    let maker = start(&engine, ONE).await;
    assert_eq!(maker.output().await.unwrap(), "t1");
    let user = start(&engine, TWO).await;
    let kept = user.outcome().await.unwrap();
    assert!(matches!(kept, Outcome::RolledBackKeeping(..)), "{kept:?}");
    engine.tear_down(maker.id(), By::default()).await.unwrap();
    sleep(secs(60)).await;
    let Outcome::Parked(failure, _) = maker.outcome().await.unwrap() else { panic!() };
    assert_eq!(
        (failure.code.as_str(), yard.ids()),
        ("adopted", vec!["t1".to_owned(), "t2".to_owned()])
    );
    engine.tear_down(user.id(), By::default()).await.unwrap();
    sleep(secs(60)).await;
    assert_eq!((user.outcome().await.unwrap(), yard.ids()), (Outcome::TornDown, vec!["t1".into()]));
    engine.retry(maker.id(), By::default()).await.unwrap();
    sleep(secs(60)).await;
    assert_eq!((maker.outcome().await.unwrap(), yard.ids()), (Outcome::TornDown, vec![]));
    worker.stop().await;
}

// covers: L5
#[tokio::test(start_paused = true)]
async fn only_a_live_adopter_of_the_same_kind_keeps_a_resource() {
    let yard = Yard::new();
    let store = MemoryStore::new();
    let builder = Engine::builder(store.clone()).register(alone(&yard, Policy::default()));
    let engine = builder.register(adopts(&yard)).build().await.unwrap();
    let worker = engine.spawn_worker(config());
    let maker = start(&engine, ONE).await;
    assert_eq!(maker.output().await.unwrap(), "t1");
    let user = start(&engine, TWO).await;
    assert_eq!(user.output().await.unwrap(), "t1");
    engine.tear_down(maker.id(), By::default()).await.unwrap();
    sleep(secs(60)).await;
    let Outcome::Parked(failure, _) = maker.outcome().await.unwrap() else { panic!() };
    assert_eq!((failure.code.as_str(), yard.ids()), ("adopted", vec!["t1".to_owned()]));

    engine.tear_down(user.id(), By::default()).await.unwrap();
    sleep(secs(60)).await;
    assert_eq!(user.outcome().await.unwrap(), Outcome::TornDown);
    // A live run has adopted something of another provider, which happens to have the same id.
    let other = engine.start(TWO, &"y".to_owned()).await.unwrap();
    assert_eq!(other.output().await.unwrap(), "t2");
    let all = LedgerQuery { run: Some(*other.id()), ..LedgerQuery::default() };
    let row = engine.ledger(&all).await.unwrap().remove(0);
    let (path, provider, id) = ("s".to_owned(), "elsewhere".to_owned(), ExternalId::new("t1"));
    let (origin, external_id) = (Origin::Adopted, Some(id));
    let row = LedgerRow { path, provider, origin, external_id, ..row };
    StateStore::ledger(&store, &[LedgerOp::Enter(Box::new(row))]).await.unwrap();
    engine.retry(maker.id(), By::default()).await.unwrap();
    sleep(secs(60)).await;
    assert_eq!(maker.outcome().await.unwrap(), Outcome::TornDown);
    assert_eq!(yard.ids(), ["t2"]);
    worker.stop().await;
}

// covers: S11
#[tokio::test(start_paused = true)]
async fn an_undo_that_looks_first_spares_what_another_run_has_adopted() {
    let yard = Yard::new();
    yard.creates(&[How::Lost]);
    let store = MemoryStore::new();
    let retry = Policy::attempts(2).fixed(secs(600));
    let builder = Engine::builder(store.clone()).register(alone(&yard, retry));
    let engine = builder.register(adopts(&yard)).build().await.unwrap();
    let worker = engine.spawn_worker(config());
    let maker = start(&engine, ONE).await;
    sleep(secs(5)).await;
    let user = start(&engine, TWO).await;
    assert_eq!(user.output().await.unwrap(), "t1");
    engine.cancel(maker.id(), By::default()).await.unwrap();
    sleep(secs(60)).await;
    let Outcome::Parked(failure, _) = maker.outcome().await.unwrap() else { panic!() };
    assert_eq!(failure.code, "adopted");
    assert_eq!(yard.ids(), ["t1"]);
    worker.stop().await;
}

// covers: S15, S17
#[tokio::test(start_paused = true)]
async fn what_a_person_resolved_as_made_is_neither_gone_nor_a_stray() {
    let yard = Yard::new();
    yard.creates(&[How::Lost]);
    let saga = Saga::define(ONE, |s| {
        s.on_failure(OnFailure::Ask);
        s.resource("r", yard.clone()).retry(Policy::once()).input((), |n: &String, ()| n.clone())
    });
    let (_, engine) = engine(saga.unwrap()).await;
    let worker = engine.spawn_worker(config());
    let run = start(&engine, ONE).await;
    assert!(matches!(run.outcome().await.unwrap(), Outcome::Parked(..)));
    let there = Resolution::succeeded("r", &"t1".to_owned()).unwrap();
    engine.resolve(run.id(), there, By::default()).await.unwrap();
    sleep(secs(60)).await;
    assert_eq!(run.output().await.unwrap(), "t1");
    let rows = engine.ledger(&LedgerQuery::default()).await.unwrap();
    assert_eq!(rows[0].state, ResourceState::Unknown, "no id says that it is there, or gone");
    for _ in 0..3 {
        sleep(secs(4_000)).await;
        engine.watch_ledger(20).await.unwrap();
        assert_eq!(engine.sweep(true).await.unwrap().strays, []);
    }
    assert_eq!(yard.ids(), ["t1"], "nobody asked for its removal");
    engine.tear_down(run.id(), By::default()).await.unwrap();
    sleep(secs(600)).await;
    assert_eq!(engine.run(run.id()).await.unwrap().status, RunStatus::TornDown);
    assert_eq!(yard.ids(), [""; 0]);
    worker.stop().await;
}

// covers: S15
#[tokio::test(start_paused = true)]
async fn a_run_that_is_driven_again_takes_nothing_that_is_being_removed() {
    let yard = Yard::new();
    let (_, engine) = engine(alone(&yard, Policy::once())).await;
    let worker = engine.spawn_worker(config());
    let run = landed_late(&yard, &engine).await;
    yard.world().deletes.push_back(How::Slow(20));
    let mut watch = JoinSet::new();
    watch.spawn({
        let engine = engine.clone();
        async move { engine.watch_ledger(20).await.unwrap() }
    });
    sleep(secs(2)).await;
    engine.redrive(run.id(), By::default()).await.unwrap();
    sleep(secs(10)).await;
    assert_eq!((yard.ids(), yard.log()), (vec!["late".to_owned()], vec!["create x".to_owned()]));
    assert_eq!(run.output().await.unwrap(), "t1");
    assert_eq!(watch.join_all().await, [1]);
    assert_eq!(yard.ids(), ["t1"]);
    assert_eq!(yard.log(), ["create x", "delete late", "create x"]);
    worker.stop().await;
}

// covers: S15
#[tokio::test(start_paused = true)]
async fn a_parked_run_keeps_no_stray_of_what_it_has_undone() {
    let yard = Yard::new();
    let saga = Saga::define(ONE, |s| {
        let first = s.resource("k", yard.clone()).retry_undo(Policy::once());
        let first = first.input((), |name: &String, ()| format!("{name}-k"));
        let node = s.resource("r", yard.clone()).retry(Policy::once()).after(first);
        node.input((), |name: &String, ()| name.clone())
    });
    let (_, engine) = engine(saga.unwrap()).await;
    let worker = engine.spawn_worker(config());
    yard.creates(&[How::Slow(0), How::Late]);
    yard.world().deletes.push_back(How::Nothing);
    let run = start(&engine, ONE).await;
    assert!(matches!(run.outcome().await.unwrap(), Outcome::Parked(..)), "its undo has failed");
    yard.land("late", run.id());
    yard.world().deletes.push_back(How::Slow(20));
    sleep(secs(4_000)).await;
    let mut watch = JoinSet::new();
    watch.spawn({
        let engine = engine.clone();
        async move { engine.watch_ledger(20).await.unwrap() }
    });
    sleep(secs(2)).await;
    let rows = engine.ledger(&LedgerQuery::default()).await.unwrap();
    let known = |row: &LedgerRow| row.index > 0 && row.state == ResourceState::Alive;
    assert_eq!(rows.iter().filter(|row| known(row)).count(), 1, "{rows:?}");
    engine.retry(run.id(), By::default()).await.unwrap();
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(_)));
    assert_eq!(watch.join_all().await, [1]);
    assert_eq!(yard.ids(), [""; 0]);
    assert_eq!(yard.log().iter().filter(|line| *line == "delete late").count(), 1);
    worker.stop().await;
}

// covers: S11, S15
#[tokio::test(start_paused = true)]
async fn nobody_adopts_what_is_being_removed() {
    let yard = Yard::new();
    let builder = Engine::builder(MemoryStore::new()).register(alone(&yard, Policy::once()));
    let engine = builder.register(adopts(&yard)).build().await.unwrap();
    let worker = engine.spawn_worker(config());
    landed_late(&yard, &engine).await;
    yard.world().deletes.push_back(How::Slow(20));
    let mut watch = JoinSet::new();
    watch.spawn({
        let engine = engine.clone();
        async move { engine.watch_ledger(20).await.unwrap() }
    });
    sleep(secs(2)).await;
    let user = start(&engine, TWO).await;
    sleep(secs(10)).await;
    assert_eq!(yard.ids(), ["late"]);
    assert_eq!(engine.run(user.id()).await.unwrap().status, RunStatus::Waiting);
    assert_eq!(watch.join_all().await, [1]);
    assert_eq!(yard.ids(), [""; 0]);
    assert_eq!(user.output().await.unwrap(), "t1", "it lives with one of its own");
    assert_eq!(yard.ids(), ["t1"]);
    worker.stop().await;
}

/// Whether the provider shows it until the end, or not any more while only its row is there.
// covers: S11, S15
#[tokio::test(start_paused = true)]
async fn a_fresh_run_waits_for_a_name_that_is_being_removed() {
    for shown in [true, false] {
        let yard = Yard::new();
        let (_, engine) = engine(alone(&yard, Policy::once())).await;
        let worker = engine.spawn_worker(config());
        landed_late(&yard, &engine).await;
        yard.world().deletes.push_back(How::Slow(20));
        let mut watch = JoinSet::new();
        watch.spawn({
            let engine = engine.clone();
            async move { engine.watch_ledger(20).await.unwrap() }
        });
        sleep(secs(2)).await;
        let hidden = if shown { Vec::new() } else { std::mem::take(&mut yard.world().plots) };
        let fresh = start(&engine, ONE).await;
        sleep(secs(10)).await;
        assert_eq!(engine.run(fresh.id()).await.unwrap().status, RunStatus::Waiting);
        yard.world().plots.extend(hidden);
        assert_eq!(watch.join_all().await, [1]);
        assert_eq!(fresh.output().await.unwrap(), "t1", "shown: {shown}");
        assert_eq!(yard.ids(), ["t1"]);
        worker.stop().await;
    }
}

// covers: S15
#[tokio::test(start_paused = true)]
async fn a_removal_whose_worker_died_is_ended_by_another_while_the_run_waits_for_it() {
    let yard = Yard::new();
    let (_, engine) = engine(alone(&yard, Policy::once())).await;
    let worker = engine.spawn_worker(config());
    let run = landed_late(&yard, &engine).await;
    yard.world().deletes.push_back(How::Panic);
    assert_eq!(engine.watch_ledger(20).await.unwrap(), 1);
    engine.redrive(run.id(), By::default()).await.unwrap();
    sleep(secs(290)).await;
    assert_eq!(engine.watch_ledger(20).await.unwrap(), 0, "it is left to who began it");
    assert_eq!(yard.ids(), ["late"]);
    sleep(secs(20)).await;
    assert!(engine.watch_ledger(20).await.unwrap() > 0);
    assert_eq!(run.output().await.unwrap(), "t1");
    assert_eq!(yard.ids(), ["t1"]);
    let rows = engine.ledger(&LedgerQuery::default()).await.unwrap();
    let ended = |row: &LedgerRow| row.index > 0 && row.state == ResourceState::Gone;
    assert_eq!(rows.iter().filter(|row| ended(row)).count(), 1, "{rows:?}");
    worker.stop().await;
}

// covers: S11, S15
#[tokio::test(start_paused = true)]
async fn a_sweep_that_comes_late_leaves_what_a_run_lives_with_again() {
    let yard = Yard::new();
    let (_, engine) = engine(alone(&yard, Policy::once())).await;
    let worker = engine.spawn_worker(config());
    let run = landed_late(&yard, &engine).await;
    // What the sweep has listed is recovered before it deletes.
    yard.world().listed_for = secs(60);
    let mut sweep = JoinSet::new();
    sweep.spawn({
        let engine = engine.clone();
        async move { engine.sweep(true).await.unwrap().strays }
    });
    sleep(secs(2)).await;
    engine.redrive(run.id(), By::default()).await.unwrap();
    assert_eq!(run.output().await.unwrap(), "late");
    assert_eq!(sweep.join_all().await, [vec![]]);
    assert_eq!(yard.ids(), ["late"]);
    worker.stop().await;
}

// covers: S15
#[tokio::test(start_paused = true)]
async fn nothing_is_removed_under_a_step_that_is_about_to_begin_again() {
    let yard = Yard::new();
    let saga = Saga::define(ONE, |s| {
        let waited = s.sleep("w").input((), |_, ()| secs(60));
        let plot = s.resource("r", yard.clone()).retry(Policy::once()).after(waited);
        plot.input((), |name: &String, ()| name.clone())
    });
    let (_, engine) = engine(saga.unwrap()).await;
    let worker = engine.spawn_worker(config());
    let run = landed_late(&yard, &engine).await;
    yard.world().listed_for = secs(30);
    let mut watch = JoinSet::new();
    watch.spawn({
        let engine = engine.clone();
        async move { engine.watch_ledger(20).await.unwrap() }
    });
    sleep(secs(2)).await;
    // The watch decides while the step waits for its turn.
    engine.redrive(run.id(), By::default()).await.unwrap();
    assert_eq!(watch.join_all().await, [1]);
    assert_eq!(run.output().await.unwrap(), "late");
    assert_eq!((yard.ids(), yard.log()), (vec!["late".to_owned()], vec!["create x".to_owned()]));
    worker.stop().await;
}
