//! A worker that is told to end hands its runs over.

use std::{
    process::{Child, Command},
    time::{Duration, Instant},
};

use provision_store_sqlite::SqliteStore;

use crate::{
    place::{Place, Ran},
    servers::{Cloud, START_MAX, postgres, redis},
};

const FLEET: u32 = 4;
/// A second is promised to runs without an open call. A lease is fifteen: what is free by then was
/// handed over, also on a busy machine.
const FREE_WITHIN: Duration = Duration::from_secs(8);

fn terminate(worker: &Child) {
    let order = format!("kill -TERM {}", worker.id());
    assert!(Command::new("sh").args(["-c", &order]).status().unwrap().success());
}

/// A fleet whose worker is told to end in the middle. `moment` waits for the moment, `free` until no
/// run is under lease any more.
fn handed_over(place: &Place, store: &str, moment: impl FnOnce(), free: impl FnOnce()) {
    let size = FLEET.to_string();
    let submitted = place.run(&["submit", "--fleet", &size, "--store", store]);
    assert_eq!(submitted.code, Some(0), "{submitted:?}");
    let worker = place.spawn(&["worker", "--store", store]);
    moment();
    terminate(&worker);
    let told = Instant::now();
    free();
    let ran = Ran::from(worker.wait_with_output().unwrap());
    let took = told.elapsed();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(took < FREE_WITHIN, "{took:?}: {ran:?}");
    let standing = ran.json()["runs"].clone();
    assert_ne!(standing, serde_json::json!({ "Succeeded": FLEET }), "it ended in the middle");
    let next = place.run(&["worker", "--until-idle", "--store", store]);
    assert_eq!(next.json()["runs"], serde_json::json!({ "Succeeded": FLEET }), "{next:?}");
    let things = place.things();
    let mut once = things.clone();
    once.dedup();
    assert_eq!(things, once, "nothing twice");
}

/// Waits until something was made and not all of it.
fn in_the_middle(place: &Place) {
    let begun = Instant::now();
    while place.things().is_empty() {
        assert!(begun.elapsed() < START_MAX, "the worker makes nothing");
        std::thread::sleep(Duration::from_millis(2));
    }
}

// covers: L6
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_a_file_frees_its_runs_when_it_is_told_to_end() {
    let place = Place::new();
    let _cloud = Cloud::serve_with(&place, &["--speed", "0.02"]);
    let handle = tokio::runtime::Handle::current();
    let file = place.path().join("provision.db");
    let count = |what: &'static str| -> i64 {
        handle.block_on(async {
            let store = SqliteStore::open(&file).await.unwrap();
            let count = store.query_host(move |conn| conn.query_row(what, (), |row| row.get(0)));
            count.await.unwrap()
        })
    };
    let owned = || count("select count(*) from provision_heads where owner is not null");
    tokio::task::block_in_place(|| {
        let moment = || {
            in_the_middle(&place);
            let begun = Instant::now();
            while owned() == 0 {
                assert!(begun.elapsed() < START_MAX, "no run is under lease");
            }
        };
        let free = || {
            let begun = Instant::now();
            while owned() > 0 {
                assert!(begun.elapsed() < FREE_WITHIN, "runs are still under lease");
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        handed_over(&place, "sqlite:", moment, free);
    });
    let deaths = tokio::task::block_in_place(|| {
        count("select count(*) from provision_heads where deaths > 0")
    });
    assert_eq!(deaths, 0, "nobody has died");
}

// covers: L6
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_a_server_ends_soon_when_it_is_told_to() {
    for store in [postgres().await, redis()].into_iter().flatten() {
        let place = Place::new();
        let _cloud = Cloud::serve_with(&place, &["--speed", "0.02"]);
        tokio::task::block_in_place(|| {
            handed_over(&place, &store, || in_the_middle(&place), || {});
        });
    }
}
