//! What a step costs: commits and statements, counted.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use provision_core::{
    id::Timestamp,
    store::{Appended, Leased, Release, StateStore as _},
};
use provision_store_sqlite::SqliteStore;
use provision_testkit::conformance::{Handle, acquire_any, append_of, new_worker, run_head};
use tokio::task::JoinSet;

async fn leased(store: &SqliteStore, count: usize) -> Vec<Leased> {
    let handle = Handle::of(Arc::new(store.clone()));
    for _ in 0..count {
        handle.started(run_head()).await;
    }
    let ttl = Duration::from_secs(600);
    handle.lease(&acquire_any(new_worker(), ttl)).await.leased
}

/// Each run appends its frames one after the other, all runs at the same time.
async fn drive(store: &SqliteStore, runs: &[Leased], from: u64, frames: u64) {
    let mut tasks = JoinSet::new();
    for leased in runs {
        let (store, leased) = (store.clone(), leased.clone());
        tasks.spawn(async move {
            for seq in from..from + frames {
                let answers = store.append(&[append_of(&leased, seq)]).await.unwrap();
                assert!(matches!(answers[..], [Appended::Applied { lease_lost: false, .. }]));
            }
        });
    }
    tasks.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_appends_share_their_commits() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path().join("p.db")).await.unwrap();
    let runs = leased(&store, 32).await;
    let before = store.counters();
    drive(&store, &runs, 1, 50).await;
    let after = store.counters();
    let appends = after.appends - before.appends;
    let commits = after.commits - before.commits;
    assert_eq!(appends, 32 * 50);
    assert!(commits * 4 <= appends, "{commits} commits for {appends} appends");
}

#[tokio::test]
async fn a_lone_append_costs_one_commit_and_two_statements() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path().join("p.db")).await.unwrap();
    let runs = leased(&store, 1).await;
    let before = store.counters();
    drive(&store, &runs, 1, 20).await;
    let after = store.counters();
    assert_eq!((after.commits - before.commits, after.statements - before.statements), (20, 40));
    let mut last = append_of(&runs[0], 21);
    last.release = Some(Release { due: Timestamp::NEVER, polls: Default::default(), seen: 0 });
    store.append(&[last]).await.unwrap();
    assert_eq!(store.counters().commits - after.commits, 1, "a release costs nothing more");
}

#[tokio::test]
async fn a_batch_of_appends_is_one_commit() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path().join("p.db")).await.unwrap();
    let runs = leased(&store, 40).await;
    let batch: Vec<_> = runs.iter().map(|leased| append_of(leased, 1)).collect();
    let before = store.counters();
    let answers = store.append(&batch).await.unwrap();
    assert!(answers.iter().all(|answer| matches!(answer, Appended::Applied { .. })));
    assert_eq!(store.counters().commits - before.commits, 1);
}

// A ratio inside one run, with a wide margin, and the best of a few: the machine may be busy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_in_flight_are_faster_than_one_by_one() {
    let mut best: f64 = 0.0;
    for _ in 0..8 {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path().join("p.db")).await.unwrap();
        let runs = leased(&store, 32).await;
        let start = Instant::now();
        drive(&store, &runs[..1], 1, 300).await;
        let alone = 300.0 / start.elapsed().as_secs_f64();
        let start = Instant::now();
        drive(&store, &runs[1..], 1, 150).await;
        let together = 31.0 * 150.0 / start.elapsed().as_secs_f64();
        println!("{alone:.0} appends/s alone, {together:.0} with 31 in flight");
        best = best.max(together / alone);
        if best > 1.3 {
            return;
        }
    }
    panic!("31 in flight were {best:.2} times as fast as one");
}
