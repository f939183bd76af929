//! What goes wrong is repeated as the saga says, in the background, and by nobody's hand.

use std::time::{Duration, Instant};

use example_command::stage::Stage;
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
    server::{TenantServer, options},
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
        server: TenantServer::of(NOWHERE).unwrap().server,
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
    Request {
        slug: slug.to_owned(),
        owner: "0190d2a4-3c5b-7000-8000-00000000a11c".to_owned(),
        organization: "0190d2a4-3c5b-7000-8000-0000000000c0".to_owned(),
        ..Request::default()
    }
}

/// How long a run waits after its first attempt.
async fn first_wait(retry: Retry) -> Duration {
    let engine = engine(retry).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let project = request("acme").project().unwrap();
    let run = *engine.start(PROVISION, &project).await.unwrap().id();
    let began = Instant::now();
    let wait = loop {
        assert!(began.elapsed() < WITHIN, "it never fails");
        let steps = engine.snapshot(&run).await.unwrap().steps;
        let reserve = steps.iter().find(|step| step.path == "reserve").unwrap();
        if let (Some(failure), Some(due)) = (&reserve.failure, reserve.due) {
            assert_eq!(&*failure.code, "host_tables");
            if reserve.attempts > 1 {
                // It was tried again before anybody has looked.
                break Duration::ZERO;
            }
            let failed = engine.failures(&run).await.unwrap()[0].at;
            break due.since(failed);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    worker.stop().await;
    wait
}

// covers: R4-06, R4-08
#[tokio::test]
async fn each_saga_says_how_it_repeats_and_either_preset_holds() {
    let fixed = first_wait(Retry::every_five_minutes()).await;
    let away = fixed.abs_diff(Duration::from_secs(300));
    // Spread would be minutes; between failing and being told to wait a busy machine takes its time.
    assert!(away < Duration::from_secs(20), "five minutes, and not spread: {fixed:?}");
    let exponential = first_wait(Retry::exponential()).await;
    assert!(exponential <= Duration::from_secs(30), "{exponential:?}");
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
    let worker = host.worker();
    // Whoever asked has an answer at once, and nothing is made yet.
    let run = host.start(&request(&place.slug).project().unwrap()).await.unwrap();
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
