//! What goes wrong is repeated as the saga says, in the background, and by nobody's hand.

use std::time::{Duration, Instant};

use example_command::{stage::Stage, tables::options};
use provision_adapters::{
    http::BaseUrl,
    sim::{Fault, FaultRule},
};
use provision_core::{
    Engine, MemoryStore, Outcome, RunStatus, WorkerConfig, engine::StepStatus, vault::LocalKeys,
};
use sqlx::postgres::PgPoolOptions;
use tenant_projects::{
    input::Request,
    keys::Hashing,
    retry::Retry,
    saga::{PROVISION, Registry, STEPS, Tools},
    server::TenantServer,
    services::{Registration, Service},
};

use crate::place::{Place, WITHIN, quick};

const NOWHERE: &str = "postgres://nobody@127.0.0.1:1/nothing";

/// What the sagas work with where nothing can be reached.
fn nowhere(retry: Retry) -> Tools {
    fn away<S: Service>() -> Registration<S> {
        Registration::at(BaseUrl::parse("http://127.0.0.1:1").unwrap()).unwrap()
    }
    let pool = PgPoolOptions::new().acquire_timeout(Duration::from_millis(100));
    Tools {
        pool: pool.connect_lazy_with(options(NOWHERE).unwrap()),
        server: TenantServer::of(NOWHERE, None).unwrap().server,
        auth: away(),
        realtime: away(),
        storage: away(),
        hashing: Hashing::Argon2id,
        retry,
        stage: Stage::live(),
        real: Stage::live(),
    }
}

async fn engine(retry: Retry) -> Engine {
    let registry = Registry::of(&nowhere(retry)).unwrap();
    let builder = registry.register(Engine::builder(MemoryStore::new()));
    builder.keys(LocalKeys::new("test", [7; 32]).unwrap()).build().await.unwrap()
}

fn request(slug: &str) -> Request {
    Request { slug: slug.to_owned(), ..Request::default() }
}

/// How long so many runs wait after their first attempts, by the store's clock.
async fn first_waits(retry: Retry, runs: usize) -> Vec<Duration> {
    let engine = engine(retry).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let mut waits = Vec::new();
    for number in 0..runs {
        let project = request(&format!("acme-{number}")).project().unwrap();
        let run = *engine.start(PROVISION, &project).await.unwrap().id();
        let began = Instant::now();
        waits.push(loop {
            assert!(began.elapsed() < WITHIN, "it never fails");
            let steps = engine.snapshot(&run).await.unwrap().steps;
            let reserve = steps.iter().find(|step| step.path == "reserve").unwrap();
            if let (Some(failure), Some(due), 1) = (&reserve.failure, reserve.due, reserve.attempts)
            {
                assert_eq!(&*failure.code, "host_tables");
                let failed = engine.failures(&run).await.unwrap()[0].at;
                break due.since(failed);
            }
            // Its wait was so short that the second attempt is over.
            if reserve.attempts > 1 {
                break Duration::ZERO;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        });
    }
    worker.stop().await;
    waits
}

// covers: R4-06, R4-08
#[tokio::test]
async fn each_saga_says_how_it_repeats_and_either_preset_holds() {
    for fixed in first_waits(Retry::every_five_minutes(), 3).await {
        let away = fixed.abs_diff(Duration::from_secs(300));
        assert!(away < Duration::from_secs(20), "five minutes, and not spread: {fixed:?}");
    }
    let spread = first_waits(Retry::exponential(), 12).await;
    assert!(spread.iter().all(|wait| *wait <= Duration::from_secs(30)), "{spread:?}");
    // Of twelve waits drawn between nothing and a second, one is longer than a tenth of it, but
    // for one in a million million times.
    assert!(spread.iter().any(|wait| *wait > Duration::from_millis(100)), "{spread:?}");
    assert!(spread.iter().any(|wait| *wait != spread[0]), "spread: {spread:?}");
}

// covers: R4-07, R4-01
#[tokio::test]
async fn the_third_failure_is_the_last_and_a_dead_letter() {
    let engine = engine(quick(3)).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(PROVISION, &request("acme").project().unwrap()).await.unwrap();
    let outcome = tokio::time::timeout(WITHIN, run.outcome()).await.unwrap().unwrap();
    let Outcome::RolledBack(Some(failure)) = outcome else { panic!("{outcome:?}") };
    assert_eq!((&*failure.path, failure.attempt), ("reserve", 3));
    let failures = engine.failures(run.id()).await.unwrap();
    let times: Vec<_> = failures.iter().map(|attempt| attempt.at).collect();
    assert_eq!(times.len(), 3, "{failures:?}");
    for pair in times.windows(2) {
        assert!(pair[1].since(pair[0]) >= Duration::from_millis(200), "{times:?}");
    }
    let letters = engine.dead_letters().await.unwrap().runs;
    assert!(letters.iter().any(|letter| letter.id == *run.id()));
    worker.stop().await;
}

// covers: R4-10
#[tokio::test]
async fn the_registry_lists_what_this_host_can_do() {
    let handlers = Registry::of(&nowhere(Retry::every_five_minutes())).unwrap().handlers();
    let names: Vec<&str> = handlers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["provision-project", "replace-key"]);
    assert_eq!(handlers[0].1, [&STEPS[..], &["ready"]].concat());
    assert_eq!(handlers[1].1, ["keys"]);
}

// covers: R4-01, R4-04
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_away_is_tried_again_while_the_others_go_on() {
    let Some(place) = Place::new().await else { return };
    let host = place.host().await;
    let away = host.cloud.auth.faults();
    let rule = away.add(FaultRule::new(Fault::Status(503)).path_contains("/v1/registrations"));
    // Whoever asked has an answer at once, and nothing is made yet.
    let run = host.start(&request(&place.slug).project().unwrap()).await.unwrap();
    assert!(place.catalog().await.is_empty(), "{:?}", place.catalog().await);
    assert_eq!(place.number("SELECT count(*) FROM tenants.projects").await, 0);
    let worker = host.worker();
    let began = Instant::now();
    loop {
        let steps = host.engine.snapshot(run.id()).await.unwrap().steps;
        let of = |path: &str| steps.iter().find(|step| step.path == path).unwrap();
        let others = ["realtime", "storage"].map(|path| of(path).status);
        if others == [StepStatus::Succeeded; 2] && of("auth").attempts >= 2 {
            assert_ne!(of("auth").status, StepStatus::Succeeded);
            break;
        }
        assert!(began.elapsed() < WITHIN, "{steps:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    away.remove(rule);
    let ready = tokio::time::timeout(WITHIN, run.output()).await.unwrap().unwrap();
    assert_eq!(ready.database.to_string(), format!("project_{}", place.slug));
    let snapshot = host.engine.snapshot(run.id()).await.unwrap();
    let attempts = snapshot.steps.iter().find(|step| step.path == "auth").unwrap().attempts;
    assert!(snapshot.head.status == RunStatus::Succeeded && attempts >= 2, "{snapshot:?}");
    // What is handed out has no password in it.
    let text = serde_json::to_string(&ready).unwrap();
    let password = host.engine.reveal(run.id(), ready.password.as_ref().unwrap()).await.unwrap();
    assert!(!text.contains(password.expose()), "{text}");
    worker.stop().await;
    drop((run, host));
    assert_eq!(place.run(&["--tear-down"]).await.code, Some(0));
    assert!(place.catalog().await.is_empty());
}
