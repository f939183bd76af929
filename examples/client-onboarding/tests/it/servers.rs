//! The main job on stores that are servers, and its workers in processes of their own.

use std::{
    process::Child,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::place::{Place, Ran};

const POSTGRES: &str = "PROVISION_TEST_POSTGRES_URL";
const REDIS: &str = "PROVISION_TEST_REDIS_URL";

/// The server's address; `None`, said aloud, where there is none.
fn server(variable: &str) -> Option<String> {
    let url = std::env::var(variable).ok();
    if url.is_none() {
        provision_testkit::skips::refused_in_ci(&format!("{variable} is not set"));
        println!("SKIPPED: {variable} is not set");
    }
    url
}

/// A database of its own on the PostgreSQL server.
pub(crate) async fn postgres() -> Option<String> {
    let url = server(POSTGRES)?;
    let name = format!("onboarding_{}", uuid::Uuid::new_v4().simple());
    let mut conn = PgConnection::connect(&url).await.unwrap();
    conn.execute(AssertSqlSafe(format!("create database {name}"))).await.unwrap();
    conn.close().await.unwrap();
    let (server, _) = url.rsplit_once('/').unwrap();
    Some(format!("{server}/{name}"))
}

/// A database of its own on the Redis server: it has sixteen, and others use the first.
pub(crate) fn redis() -> Option<String> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let url = server(REDIS)?;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(number < 16, "more tests than databases");
    Some(format!("{}/{number}", url.trim_end_matches('/')))
}

fn code(ran: &Ran) -> Option<i32> {
    if ran.code != Some(0) {
        println!("{}", ran.stderr);
    }
    ran.code
}

/// The main job: made, found again, killed and gone on with, refused other options, removed.
fn main_job(store: &str) {
    main_job_with(&Place::new(), store, &[]);
}

fn main_job_with(place: &Place, store: &str, more: &[&str]) {
    let run = |arguments: &[&str]| place.run(&[&["--store", store], more, arguments].concat());
    let crashed = run(&["--crash-at", "deployment"]);
    assert_eq!(crashed.code, None, "{crashed:?}");
    let ran = run(&[]);
    assert_eq!(code(&ran), Some(0));
    assert_eq!(ran.json()["status"], "Succeeded");
    place.is_as_told(&[ran.json()]);
    let rows = ran.json()["resources"].as_array().unwrap().clone();
    assert!(rows.iter().any(|row| row["provider"] == "internal" && row["state"] == "alive"));
    let (things, id) = (place.things(), ran.json()["run"].clone());

    let again = run(&[]);
    assert_eq!((code(&again), &again.json()["run"]), (Some(0), &id));
    assert_eq!(place.things(), things);
    run(&["--tier", "starter"]).refused(64, "other_options");

    let removed = run(&["--tear-down"]);
    assert_eq!(code(&removed), Some(0));
    assert_eq!((&removed.json()["status"], &removed.json()["run"]), (&"TornDown".into(), &id));
    assert!(place.inventory().is_empty(), "{:?}", place.inventory());
    place.is_as_told(&[removed.json()]);

    let failed = run(&["--fail-at", "workflow"]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert_ne!(failed.json()["run"], id);
    assert!(place.inventory().is_empty(), "{:?}", place.inventory());
}

// covers: R1-52, R1-53
#[tokio::test]
async fn the_main_job_on_postgres() {
    let Some(store) = postgres().await else { return };
    tokio::task::spawn_blocking(move || main_job(&store)).await.unwrap();
}

// covers: R1-52, R1-53
#[test]
fn the_main_job_on_redis() {
    let Some(store) = redis() else { return };
    main_job(&store);
}

/// Names of databases that the state of the simulated cloud knows.
fn databases(place: &Place) -> Vec<String> {
    let state = std::fs::read_to_string(place.path().join("cloud/supabase.json")).unwrap();
    let state: Value = serde_json::from_str(&state).unwrap();
    let projects = state["state"]["projects"].as_object().unwrap().values();
    let name = |project: &Value| project["database"]["on_server"].as_str().unwrap().to_owned();
    projects.map(name).collect()
}

#[tokio::test]
async fn the_main_job_over_projects_of_a_real_server() {
    let Some(url) = server(POSTGRES) else { return };
    let there = async |name: &str| {
        let mut conn = PgConnection::connect(&url).await.unwrap();
        let found = "select (select count(*) from pg_database where datname = $1)
            + (select count(*) from pg_roles where rolname = $1)";
        sqlx::query_scalar::<_, i64>(found).bind(name).fetch_one(&mut conn).await.unwrap()
    };
    let place = Place::new();
    let sql = ["--simulated-sql", &url];
    // The database outlives the process, and is asked for where it is needed.
    let crashed = place.run(&[&sql[..], &["--crash-at", "env"]].concat());
    assert_eq!(crashed.code, None, "{crashed:?}");
    let [name] = &databases(&place)[..] else { panic!("one project: {:?}", databases(&place)) };
    assert_eq!(there(name).await, 2, "a database and its owner");
    place.run(&[]).refused(64, "simulated_sql");
    main_job_with(&place, "sqlite:", &sql);
    let names = databases(&place);
    assert!(names.contains(name) && names.len() > 1, "{names:?}");
    for name in names {
        assert_eq!(there(&name).await, 0, "{name} is left");
    }
    place.run(&["--simulated-sql", "postgres://127.0.0.1:1/x"]).refused(69, "simulated_sql");
    for wrong in [&["--simulated-sql", "mysql://x"][..], &["--live", "--simulated-sql", &url]] {
        place.run(wrong).refused(64, "usage");
    }
}

/// The cloud of a place, served by a process of its own.
pub(crate) struct Cloud(Child);

impl Cloud {
    fn serve(place: &Place) -> Self {
        Self::serve_with(place, &[])
    }

    pub(crate) fn serve_with(place: &Place, more: &[&str]) -> Self {
        let mut cloud = Self(place.spawn(&[&["cloud"], more].concat()));
        let announced = place.path().join("cloud/addresses.json");
        let begun = Instant::now();
        while !announced.exists() {
            assert!(begun.elapsed() < START_MAX, "the cloud does not start");
            assert_eq!(cloud.0.try_wait().unwrap(), None, "the cloud has ended");
            std::thread::sleep(Duration::from_millis(5));
        }
        cloud
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const FLEET: u32 = 6;
/// How long a process may need until it does something.
pub(crate) const START_MAX: Duration = Duration::from_secs(60);

/// A fleet is submitted and driven by two workers, one of which is killed; the other takes its runs
/// over, and each thing is made once.
fn fleet(store: &str) {
    let place = Place::new();
    let _cloud = Cloud::serve(&place);
    let size = FLEET.to_string();
    let submit = ["submit", "--fleet", &size, "--client", "acme", "--store", store];
    let submitted = place.run(&submit);
    assert_eq!(code(&submitted), Some(0));
    let runs = submitted.json()["runs"].as_array().unwrap().clone();
    assert_eq!(runs.len(), FLEET as usize);
    let again = place.run(&submit);
    let ids = |runs: &[Value]| runs.iter().map(|run| run["run"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(again.json()["runs"].as_array().unwrap()), ids(&runs), "the same runs");

    let worker = ["worker", "--until-idle", "--store", store];
    let mut killed = place.spawn(&worker);
    // It dies in the middle: it has made something, and not all.
    let begun = Instant::now();
    while place.things().is_empty() {
        assert!(begun.elapsed() < START_MAX, "the worker makes nothing");
        std::thread::sleep(Duration::from_millis(2));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    let at_death = place.things().len();
    let workers = [place.spawn(&worker), place.spawn(&worker)];
    for worker in workers {
        let ran = Ran::from(worker.wait_with_output().unwrap());
        assert_eq!(code(&ran), Some(0));
        assert_eq!(ran.json()["runs"], serde_json::json!({ "Succeeded": FLEET }), "{ran:?}");
    }
    let things = place.things();
    let mut once = things.clone();
    once.dedup();
    assert_eq!(things, once, "nothing twice");
    assert!(at_death < things.len(), "{at_death} of {} things were made", things.len());
    let repositories = things.iter().filter(|thing| thing.starts_with("github repo ")).count();
    assert_eq!(repositories, FLEET as usize, "{things:?}");
    place
        .run(&["--store", store, "--client", "acme-1", "--fail-at", "repo"])
        .refused(64, "fail_at_elsewhere");
}

// covers: R1-84
#[tokio::test]
async fn a_fleet_on_postgres_survives_the_death_of_a_worker() {
    let Some(store) = postgres().await else { return };
    tokio::task::spawn_blocking(move || fleet(&store)).await.unwrap();
}

// covers: R1-84
#[test]
fn a_fleet_on_redis_survives_the_death_of_a_worker() {
    let Some(store) = redis() else { return };
    fleet(&store);
}

// covers: R1-84
#[test]
fn a_fleet_in_a_file_survives_the_death_of_a_worker() {
    fleet("sqlite:");
}

#[test]
fn to_submit_needs_no_cloud() {
    let place = Place::new();
    let cloud = place.path().join("cloud");
    std::fs::create_dir_all(&cloud).unwrap();
    let held = std::fs::File::create(cloud.join("in-use")).unwrap();
    held.lock().unwrap();
    let submitted = place.run(&["submit", "--store", "sqlite:"]);
    assert_eq!(code(&submitted), Some(0));
    assert_eq!(submitted.json()["runs"].as_array().unwrap().len(), 1);
}

#[test]
fn a_redis_url_with_tls_is_told_what_is_missing() {
    let ran = Place::new().run(&["--store", "rediss://127.0.0.1:1"]);
    ran.refused(64, "unknown_store");
    assert!(ran.stderr.contains("TLS"), "{ran:?}");
}

#[test]
fn a_store_of_one_process_takes_no_workers() {
    let place = Place::new();
    for command in ["worker", "submit"] {
        place.run(&[command, "--store", "memory:"]).refused(64, "usage");
    }
}

#[test]
fn a_server_that_is_not_there_is_told_with_a_hint() {
    let place = Place::new();
    for store in ["postgres://nobody@127.0.0.1:1/none", "redis://127.0.0.1:1"] {
        let ran = place.run(&["--store", store]);
        assert_eq!(ran.code, Some(69), "{ran:?}");
        let hint = ran.stderr.lines().last().unwrap();
        assert!(hint.starts_with("hint: ") && hint.len() > 8, "{ran:?}");
    }
}
