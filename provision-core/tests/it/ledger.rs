//! What the ledger answers: costs, refunds, and what a sweep finds beside it.

use std::time::Duration;

use provision_core::{
    By, Cost, CostPer, Engine, ExternalId, LedgerQuery, LedgerRow, MemoryStore, OwnerMark,
    ResourceState, RunId, Saga, SagaId, StepError, Timestamp, WorkerConfig,
    clock::sleep,
    engine::UsageLimits,
    ledger::LedgerOp,
    resource::Facts,
    store::{NewRun, RunHead, StateStore, Submission},
};
use uuid::Uuid;

use crate::cloud::{Cloud, Thing};

const RENT: SagaId<String, String> = SagaId::new("rent", 1);

/// One paid resource.
fn saga(cloud: &Cloud) -> Saga<String, String> {
    let cost = Cost { milli: 8_500, currency: "USD".to_owned(), per: CostPer::Month };
    let facts = Facts {
        region: Some("eu".to_owned()),
        template: Some("v3".to_owned()),
        cost: Some(cost),
        ..Facts::default()
    };
    let thing = Thing::new(cloud).with_facts(facts).in_account("main");
    Saga::define(RENT, |s| s.resource("b", thing).input((), |c: &String, ()| c.clone())).unwrap()
}

async fn engine(cloud: &Cloud) -> Engine {
    Engine::builder(MemoryStore::new()).register(saga(cloud)).build().await.unwrap()
}

// covers: R2-65
#[tokio::test(start_paused = true)]
async fn who_has_more_than_was_expected_is_told() {
    let cloud = Cloud::default();
    let engine = engine(&cloud).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    for (name, tenant) in [("one", "a"), ("two", "a"), ("three", "b")] {
        engine.start(RENT, &name.into()).tenant(tenant).await.unwrap().output().await.unwrap();
    }
    engine.start(RENT, &"four".into()).await.unwrap().output().await.unwrap();
    let all = engine.usage(None).await.unwrap();
    let counts: Vec<_> = all
        .iter()
        .map(|(t, u)| (t.as_deref(), u.resources["cloud.thing"], u.monthly["USD"]))
        .collect();
    assert_eq!(counts, [(None, 1, 8_500), (Some("a"), 2, 17_000), (Some("b"), 1, 8_500)]);
    assert_eq!(engine.usage(Some("b")).await.unwrap().len(), 1);

    let of = |name: &str, most| [(name.to_owned(), most)].into();
    let limits = UsageLimits { resources: of("cloud.thing", 1), monthly: of("USD", 8_500) };
    let above = engine.usage_above(&limits).await.unwrap();
    let told: Vec<_> =
        above.iter().map(|e| (e.tenant.as_deref(), &*e.of, e.is, e.at_most)).collect();
    let expected = [(Some("a"), "cloud.thing", 2, 1), (Some("a"), "USD", 17_000, 8_500)];
    assert_eq!(told, expected);
    let roomy = UsageLimits { resources: of("cloud.thing", 2), ..UsageLimits::default() };
    assert!(engine.usage_above(&roomy).await.unwrap().is_empty());
    worker.stop().await;
}

// covers: R1-21, R1-86, R2-32
#[tokio::test(start_paused = true)]
async fn costs_are_summed_by_tenant_and_what_was_undone_is_listed_for_refunds() {
    let cloud = Cloud::default();
    let engine = engine(&cloud).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let mut runs = Vec::new();
    for (name, tenant) in [("one", "a"), ("two", "a"), ("three", "b")] {
        let run = engine.start(RENT, &name.into()).tenant(tenant).await.unwrap();
        run.output().await.unwrap();
        runs.push(run);
    }
    let monthly = async |tenant| engine.monthly_cost(tenant).await.unwrap().remove("USD");
    assert_eq!(monthly(Some("a")).await, Some(17_000));
    assert_eq!(monthly(Some("b")).await, Some(8_500));
    assert_eq!(monthly(None).await, Some(25_500));
    sleep(Duration::from_secs(3600)).await;
    engine.tear_down(runs[0].id(), By::default()).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(monthly(Some("a")).await, Some(8_500));
    let gone = LedgerQuery { states: vec![ResourceState::Gone], ..LedgerQuery::default() };
    let refunds = engine.ledger(&gone).await.unwrap();
    let [row] = refunds.as_slice() else { panic!("{refunds:?}") };
    assert_eq!((row.run, row.tenant.as_deref()), (*runs[0].id(), Some("a")));
    assert_eq!((row.account.as_str(), row.name.as_deref()), ("main", Some("one")));
    assert_eq!((row.region.as_deref(), row.template.as_deref()), (Some("eu"), Some("v3")));
    assert_eq!(row.cost.as_ref().map(|cost| cost.milli), Some(8_500));
    let held = row.until.unwrap().since(row.since);
    assert!((3_600..3_670).contains(&held.as_secs()), "{held:?}");
    worker.stop().await;
}

// covers: R2-49
#[tokio::test(start_paused = true)]
async fn a_sweep_reports_first_deletes_on_order_and_never_touches_what_is_not_ours() {
    let cloud = Cloud::default();
    let engine = engine(&cloud).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(RENT, &"kept".into()).await.unwrap();
    run.output().await.unwrap();
    cloud.put_foreign("theirs");
    // A second one under the mark of our run, of which the ledger knows nothing; and one of a run
    // that this store does not know.
    let put = |id: &str, name: &str, mark: OwnerMark| {
        let mut world = cloud.0.lock().unwrap();
        world.things.insert(id.to_owned(), (name.to_owned(), Some(mark)));
    };
    put("z-1", "double", OwnerMark::new(*run.id(), "b"));
    put("z-2", "stranger", OwnerMark::new(RunId::from_uuid(Uuid::from_u128(9)), "b"));

    let report = engine.sweep(false).await.unwrap();
    assert_eq!(report.wanted, 1);
    let strays: Vec<_> = report.strays.iter().map(|s| (s.id.as_str(), s.deleted)).collect();
    assert_eq!(strays, [("z-1", false), ("z-2", false)]);
    assert_eq!(cloud.names().len(), 4, "a report changes nothing");

    let report = engine.sweep(true).await.unwrap();
    let strays: Vec<_> = report.strays.iter().map(|s| (s.id.as_str(), s.deleted)).collect();
    assert_eq!(strays, [("z-1", true), ("z-2", false)], "only what a run of this store made");
    let mut names = cloud.names();
    names.sort();
    assert_eq!(names, ["kept", "stranger", "theirs"]);

    cloud.0.lock().unwrap().things.retain(|_, (name, _)| name != "kept");
    let report = engine.sweep(true).await.unwrap();
    assert_eq!(report.missing.iter().map(|row| row.run).collect::<Vec<_>>(), [*run.id()]);
    worker.stop().await;
}

// covers: R5-66
#[tokio::test(start_paused = true)]
async fn a_preflight_names_the_provider_that_cannot_be_asked_before_anything_is_made() {
    let cloud = Cloud::default();
    let ready = engine(&cloud).await;
    assert!(ready.preflight(RENT).await.unwrap().is_ok());
    cloud.0.lock().unwrap().unlisted = Some(|| {
        StepError::permanent("list things").with_code("unauthorized").with_hint("check the token")
    });
    let report = ready.preflight(RENT).await.unwrap();
    assert!(!report.is_ok());
    let (kind, failure) = &report.checks[0];
    let failure = failure.as_ref().unwrap();
    assert_eq!((kind.as_str(), failure.code.as_str()), ("cloud.thing", "unauthorized"));
    assert_eq!(failure.hint.as_deref(), Some("check the token"));
    assert!(cloud.asked().is_empty(), "nothing was looked up or made");
}

/// Enters copies of a row under other places, with ids of their own.
async fn crowd(
    store: &MemoryStore,
    row: &LedgerRow,
    places: impl Iterator<Item = (RunId, String)>,
) {
    let copies = places.enumerate().map(|(n, (run, path))| {
        let (name, id) = (Some(format!("n{n}")), Some(ExternalId::new(format!("o{n}"))));
        let row = LedgerRow { run, path, name, external_id: id, watch_at: None, ..row.clone() };
        LedgerOp::Enter(Box::new(row))
    });
    StateStore::ledger(store, &copies.collect::<Vec<_>>()).await.unwrap();
}

// covers: S11, S15, R2-49
#[tokio::test(start_paused = true)]
async fn what_lies_beyond_a_page_of_the_ledger_is_wanted_too() {
    let cloud = Cloud::default();
    let store = MemoryStore::new();
    let builder = Engine::builder(store.clone()).register(saga(&cloud));
    let engine = builder.build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(RENT, &"kept".into()).await.unwrap();
    run.output().await.unwrap();
    worker.stop().await;
    let row = engine.ledger(&LedgerQuery::default()).await.unwrap().remove(0);

    // More steps of the same run than a page holds, before the one that is watched.
    let fan = (0..1_000).map(|n| (row.run, format!("a{n:04}")));
    crowd(&store, &row, fan).await;
    let watched = LedgerRow { suspect: true, watch_at: Some(Timestamp::ZERO), ..row.clone() };
    StateStore::ledger(&store, &[LedgerOp::Enter(Box::new(watched))]).await.unwrap();
    assert_eq!(engine.watch_ledger(10).await.unwrap(), 1);
    assert_eq!(cloud.names(), ["kept"], "the watch knows its id");
    assert_eq!(engine.monthly_cost(None).await.unwrap()["USD"], 1_001 * 8_500);

    // More runs than the largest page holds, before the one that made it.
    let runs = (1..=10_000).map(|n| (RunId::from_uuid(Uuid::from_u128(n)), "b".to_owned()));
    let head = StateStore::load(&store, &[row.run]).await.unwrap().remove(0).unwrap().head;
    let starts = runs.clone().map(|(id, _)| RunHead { id, ..head.clone() });
    let starts = starts.map(|head| Submission::Run(Box::new(NewRun { head, lease_to: None })));
    StateStore::submit(&store, &starts.collect::<Vec<_>>()).await.unwrap();
    crowd(&store, &row, runs).await;
    let report = engine.sweep(true).await.unwrap();
    assert_eq!((report.wanted, report.strays), (1, Vec::new()));
    assert_eq!(cloud.names(), ["kept"]);
    assert_eq!(report.missing.len(), 11_000, "all that the provider does not list");
}

const TWICE: SagaId<String, Vec<String>> = SagaId::new("twice", 1);

// covers: R2-49, S11
#[tokio::test(start_paused = true)]
async fn a_sweep_looks_in_every_account_and_deletes_where_it_has_found() {
    let (left, right) = (Cloud::default(), Cloud::default());
    let saga = Saga::define(TWICE, |s| {
        let one = Thing::new(&left).in_account("left");
        let other = Thing::new(&right).in_account("right");
        let one = s.resource("one", one).input((), |name: &String, ()| name.clone());
        let other = s.resource("other", other).input((), |name: &String, ()| name.clone());
        s.value("both").input((one, other), |_, (one, other)| vec![one, other])
    });
    let builder = Engine::builder(MemoryStore::new()).register(saga.unwrap());
    let engine = builder.build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(TWICE, &"x".to_owned()).await.unwrap();
    run.output().await.unwrap();
    // Both providers count alike: the ids are equal, and it is not the same thing.
    let wanted = engine.sweep(true).await.unwrap();
    assert_eq!((wanted.wanted, wanted.strays.len(), wanted.missing.len()), (2, 0, 0));
    for (cloud, path) in [(&left, "one"), (&right, "other")] {
        let mark = Some(OwnerMark::new(*run.id(), path));
        cloud.0.lock().unwrap().things.insert("stray".to_owned(), ("stray".to_owned(), mark));
    }
    let report = engine.sweep(true).await.unwrap();
    assert_eq!(report.strays.iter().filter(|stray| stray.deleted).count(), 2);
    for cloud in [&left, &right] {
        let kept: Vec<_> = cloud.0.lock().unwrap().things.keys().cloned().collect();
        assert_eq!(kept, ["t-1"]);
    }
    right.0.lock().unwrap().things.clear();
    let missing = engine.sweep(false).await.unwrap().missing;
    let missing: Vec<_> = missing.iter().map(|row| (&*row.path, &*row.account)).collect();
    assert_eq!(missing, [("other", "right")]);
    worker.stop().await;
}
