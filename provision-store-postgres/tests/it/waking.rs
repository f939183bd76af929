//! Wake-ups between processes: by notification within milliseconds, by polling without it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use provision_core::{
    queue::{Claim, Queue as _},
    store::{Release, StateStore as _},
};
use provision_store_postgres::PostgresStore;
use provision_testkit::conformance::{Handle, acquire_any, append_of, new_worker, run_head};

use crate::given::{Schema, told};

/// How long a claim of one store waits for a run that another one starts; the best of a few.
async fn latency(claims: &PostgresStore, starts: &PostgresStore) -> Duration {
    let handle = Handle::of(Arc::new(starts.clone()));
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let claim = Claim {
            limit: 9,
            queues: Vec::new(),
            except: Vec::new(),
            wait: Duration::from_secs(40),
        };
        let waiting = tokio::spawn({
            let claims = claims.clone();
            async move { (claims.claim(&claim).await.unwrap(), Instant::now()) }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        let begun = Instant::now();
        let run = handle.started(run_head()).await;
        let (found, at) = waiting.await.unwrap();
        assert_eq!(found, [run]);
        best = best.min(at.saturating_duration_since(begun));
        // Out of the way of the next round.
        let worker = provision_testkit::conformance::new_worker();
        let all = provision_testkit::conformance::acquire_any(worker, Duration::from_secs(60));
        assert_eq!(handle.lease(&all).await.leased.len(), 1);
    }
    best
}

// covers: L2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_another_process_starts_is_heard_of_at_once() {
    let Some(schema) = Schema::new() else { return };
    let config = || schema.config().with_poll_interval(Duration::from_secs(25));
    let (claims, starts) = (config().open().await.unwrap(), config().open().await.unwrap());
    // The listener connects by itself, some time after the store is open.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let best = latency(&claims, &starts).await;
    println!("heard of after {best:?}");
    // Milliseconds where nothing else runs; polling alone would take 25 seconds.
    assert!(best < Duration::from_secs(2), "{best:?}");
}

// covers: L7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_notifications_polling_finds_it() {
    let Some(schema) = Schema::new() else { return };
    let config = || schema.config().with_notify(false);
    let (claims, starts) = (config().open().await.unwrap(), config().open().await.unwrap());
    let best = latency(&claims, &starts).await;
    assert!(best < Duration::from_secs(15), "{best:?}");
    assert_eq!(starts.counters().notifications, 0);
}

// covers: L4
#[tokio::test]
async fn a_run_that_is_due_soon_is_found_when_it_is() {
    let Some(schema) = Schema::new() else { return };
    let store = schema.config().with_poll_interval(Duration::from_secs(25)).open().await.unwrap();
    let handle = Handle::of(Arc::new(store.clone()));
    let run = handle.started(run_head()).await;
    let lease = acquire_any(new_worker(), Duration::from_secs(60));
    let leased = handle.lease(&lease).await.leased.remove(0);
    let claim = || {
        let claim = Claim {
            limit: 9,
            queues: Vec::new(),
            except: Vec::new(),
            wait: Duration::from_secs(40),
        };
        let store = store.clone();
        let waiting = tokio::spawn(async move { store.claim(&claim).await.unwrap() });
        async move { tokio::time::timeout(Duration::from_secs(15), waiting).await }
    };
    let soon = || async { store.now().await.unwrap().plus(Duration::from_millis(300)) };
    // A retry: the claim that waits does not know of it.
    let waiting = claim();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut retry = append_of(&leased, 1);
    retry.release = Some(Release { due: soon().await, polls: Default::default(), seen: 0 });
    handle.applied(retry).await;
    assert_eq!(waiting.await.expect("it sleeps on").unwrap(), [run]);
    assert_eq!(handle.lease(&lease).await.leased.len(), 1);
    // A start with a delay.
    let waiting = claim();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut head = run_head();
    head.due = soon().await;
    let run = handle.started(head).await;
    assert_eq!(waiting.await.expect("it sleeps on").unwrap(), [run]);
}

#[tokio::test]
async fn many_starts_are_told_by_few_notifications() {
    let Some(schema) = Schema::new() else { return };
    let store = schema.open().await;
    let handle = Handle::of(Arc::new(store.clone()));
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let handle = handle.clone();
        starts.spawn(async move { handle.started(run_head()).await });
    }
    starts.join_all().await;
    told(&store).await;
    let notifications = store.counters().notifications;
    assert!(notifications <= 60, "{notifications} notifications for 100 starts");
}
