//! Connections: the host's own pool, one connection for everything, two schemas side by side.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use provision_core::{
    limit::{Ask, Limiter as _, Profile, Turn},
    queue::{Claim, Queue as _},
    store::{Incarnation, Leased, NewRun, RunFilter, StateStore as _, Submission, Submitted},
};
use provision_store_postgres::{PostgresConfig, PostgresStore};
use provision_testkit::conformance::{
    Handle, acquire_any, append_of, held_for, ledger_row, new_worker, run_head,
};
use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinSet;

use crate::given::Schema;

/// A run that is leased to the worker.
async fn one_leased(handle: &Handle, worker: Incarnation) -> Leased {
    handle.started(run_head()).await;
    let mut request = acquire_any(worker, Duration::from_secs(600));
    request.acquire.as_mut().unwrap().limit = 1;
    handle.lease(&request).await.leased.remove(0)
}

/// A run from its start to its second frame, through everything a store does.
async fn journey(store: PostgresStore) {
    let handle = Handle::of(Arc::new(store.clone()));
    let worker = new_worker();
    let leased = one_leased(&handle, worker).await;
    let mut intent = append_of(&leased, 1);
    intent.ledger = vec![ledger_row(intent.run, "vm", &intent.run.to_string())];
    handle.applied(intent).await;
    let profile =
        Profile { bucket: "b".to_owned(), rate: None, concurrency: Some(1_000_u32.into()) };
    let ask = Ask { profile, calls: 1, worker, slot: true, turn: Turn::Open };
    store.admit(&ask).await.unwrap();
    handle.request(leased.record.head.id, "1").await;
    handle.applied(append_of(&leased, 2)).await;
    let claim =
        Claim { limit: 1, queues: Vec::new(), except: Vec::new(), wait: Duration::from_millis(20) };
    store.claim(&claim).await.unwrap();
    assert_eq!(handle.record(leased.record.head.id).await.requests.len(), 1);
}

// covers: R2-76, R4-23, R3-59, R2-06
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_of_the_hosts_own_pool_is_enough_for_everything() {
    let Some(schema) = Schema::new() else { return };
    let options = PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(60));
    let pool = options.connect(&schema.url).await.unwrap();
    let config = PostgresConfig::with_pool(pool.clone()).with_schema(&schema.name);
    let store = config.with_unsafe_settings(true).with_notify(false).open().await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..12 {
        tasks.spawn(journey(store.clone()));
    }
    tasks.join_all().await;
    assert_eq!(store.list(&RunFilter::default()).await.unwrap().runs.len(), 12);
    assert_eq!(pool.size(), 1);
    let one: i32 = sqlx::query_scalar("SELECT 1").fetch_one(&pool).await.unwrap();
    assert_eq!(one, 1, "the host can still use it");
}

// covers: R2-50, R2-76
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_connections_both_writing_tasks_leave_one_to_the_others() {
    let Some(schema) = Schema::new() else { return };
    let config = schema.config().with_connections_max(2).with_notify(false);
    let store = config.with_connect_timeout(Duration::from_secs(10)).open().await.unwrap();
    let handle = Handle::of(Arc::new(store.clone()));
    let worker = new_worker();
    let leased = one_leased(&handle, worker).await;
    let steps = tokio::spawn(async move {
        for seq in 1.. {
            handle.applied(append_of(&leased, seq)).await;
            handle.started(run_head()).await;
        }
    });
    for _ in 0..20 {
        store.lease(&held_for(worker, Duration::from_secs(600))).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!steps.is_finished(), "they went on meanwhile");
    steps.abort();
}

// covers: R2-76
#[tokio::test]
async fn connections_that_died_while_they_rested_cost_no_call() {
    let Some(schema) = Schema::new() else { return };
    let store = schema.config().with_notify(false).open().await.unwrap();
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(store.pool().acquire().await.unwrap());
    }
    let mut pids = Vec::new();
    for conn in &mut held {
        let pid: i32 =
            sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut **conn).await.unwrap();
        pids.push(pid);
    }
    drop(held);
    tokio::time::sleep(Duration::from_millis(100)).await;
    for pid in pids {
        schema.number(&format!("SELECT count(pg_terminate_backend({pid}, 30000))")).await;
    }
    tokio::time::sleep(Duration::from_millis(400)).await;
    let lease = acquire_any(new_worker(), Duration::from_secs(60));
    assert!(store.lease(&lease).await.unwrap().alive);
}

// covers: R4-25
#[tokio::test]
async fn two_schemas_of_one_database_do_not_meet() {
    let (Some(here), Some(there)) = (Schema::new(), Schema::new()) else { return };
    let (here_store, there_store) = (here.open().await, there.open().await);
    let mut head = run_head();
    head.key = Some("order:1".to_owned());
    // What a transaction of one is about to take stands in no way of the other.
    let mut conn = here.connect().await;
    let mut tx = sqlx::Connection::begin(&mut conn).await.unwrap();
    let new = || Submission::Run(Box::new(NewRun { head: head.clone(), lease_to: None }));
    here_store.start_in(&mut tx, &[new()]).await.unwrap();
    let there_handle = Handle::of(Arc::new(there_store.clone()));
    let started = there_handle.start(head.clone());
    let started = tokio::time::timeout(Duration::from_secs(30), started).await.unwrap();
    assert!(matches!(started, Submitted::Created(None)));
    tx.commit().await.unwrap();
    let handle = Handle::of(Arc::new(here_store.clone()));
    let lease = acquire_any(new_worker(), Duration::from_secs(60));
    assert_eq!(handle.lease(&lease).await.leased.len(), 1);
    let there_runs = there_store.list(&RunFilter::default()).await.unwrap().runs;
    assert_eq!((there_runs.len(), there_runs[0].owner), (1, None));
}

// What is pending when the last handle goes is written.
#[tokio::test]
async fn what_was_handed_over_is_written_although_nobody_waits() {
    let Some(schema) = Schema::new() else { return };
    let store = schema.open().await;
    let handle = Handle::of(Arc::new(store.clone()));
    handle.started(run_head()).await;
    let lease = acquire_any(new_worker(), Duration::from_secs(600));
    let leased = handle.lease(&lease).await.leased.remove(0);
    drop(handle);
    let mut append = Box::pin(async move { store.append(&[append_of(&leased, 1)]).await });
    // Once polled it is handed over; then it is given up, and the store with it.
    let pending = poll_fn(|cx| Poll::Ready(append.as_mut().poll(cx).is_pending())).await;
    assert!(pending, "it was not answered yet");
    drop(append);
    for _ in 0..1_500 {
        if schema.number("SELECT count(*) FROM provision.frames").await == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("what was handed over is lost");
}
