//! Hearing of new work: told by the server, found by polling, and by the store's clock.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use provision_core::{
    queue::{Claim, Queue as _},
    store::StateStore as _,
};
use provision_store_redis::{RedisConfig, RedisStore};
use provision_testkit::conformance::{Handle, run_head};

use crate::{
    given::{namespace, url},
    server::Server,
};

/// How long one handle needs to hear of a run that another one has started.
async fn heard(here: &RedisStore, there: &RedisStore) -> Duration {
    let wait =
        Claim { limit: 1, queues: Vec::new(), except: Vec::new(), wait: Duration::from_secs(40) };
    let there = Handle::of(Arc::new(there.clone()));
    let (found, (run, told)) =
        tokio::join!(async { (here.claim(&wait).await.unwrap(), Instant::now()) }, async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            (there.started(run_head()).await, Instant::now())
        });
    assert_eq!(found.0, [run]);
    found.1.saturating_duration_since(told)
}

// covers: L2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_told_of_work_that_another_process_has_stored() {
    let Some(url) = url() else { return };
    let namespace = namespace();
    let slow = || {
        let config = RedisConfig::new(url).with_namespace(&namespace);
        config.with_poll_interval(Duration::from_secs(25)).open()
    };
    let took = heard(&slow().await.unwrap(), &slow().await.unwrap()).await;
    assert!(took < Duration::from_secs(15), "{took:?}");
}

// covers: L7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_subscription_work_is_found_by_polling() {
    let Some(url) = url() else { return };
    let namespace = namespace();
    let deaf = || {
        let config = RedisConfig::new(url).with_namespace(&namespace).with_polling_only();
        config.with_poll_interval(Duration::from_millis(100)).open()
    };
    let took = heard(&deaf().await.unwrap(), &deaf().await.unwrap()).await;
    assert!(took < Duration::from_secs(15), "{took:?}");
}

// covers: L7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_subscribe_polls() {
    let Some(server) = Server::start("") else { return };
    server.ask("ACL SETUSER mute on >p ~* resetchannels +@all -subscribe").unwrap();
    let url = format!("redis://mute:p@127.0.0.1:{}", server.port());
    let open = || RedisConfig::new(&url).with_poll_interval(Duration::from_millis(100)).open();
    let took = heard(&open().await.unwrap(), &open().await.unwrap()).await;
    assert!(took < Duration::from_secs(15), "{took:?}");
}

// covers: S20
#[tokio::test]
async fn a_server_whose_clock_is_set_back_does_not_set_back_the_stores() {
    let Some(server) = Server::start("") else { return };
    let store = RedisStore::open(server.url()).await.unwrap();
    let handle = Handle::of(Arc::new(store.clone()));
    handle.started(run_head()).await;
    let hour = Duration::from_secs(3_600);
    let before = store.now().await.unwrap();
    // What a server finds whose clock went back by an hour after it had written this down.
    let written = before.plus(hour).as_millis();
    server.ask(&format!("HSET {{default}}:meta last {written}")).unwrap();
    let seen = store.now().await.unwrap();
    assert!(seen > before.plus(hour), "{seen:?}");
    handle.started(run_head()).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let later = store.now().await.unwrap();
    assert!(later.since(seen) >= Duration::from_millis(40), "it goes on at the server's pace");
    assert!(later.since(seen) < Duration::from_secs(60));
}
