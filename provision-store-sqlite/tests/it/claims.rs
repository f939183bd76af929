//! What a claim costs, whatever the file holds beside what is due.

use std::{path::Path, sync::Arc, time::Duration};

use provision_core::{
    id::Timestamp,
    run::RunStatus,
    store::{NewRun, Release, StateStore as _, Submission},
};
use provision_store_sqlite::SqliteStore;
use provision_testkit::conformance::{
    Handle, acquire_any, append_of, held_for, new_worker, run_head,
};
use rusqlite::Connection;

use crate::given::{Moved, open};

const TTL: Duration = Duration::from_secs(600);

async fn statements_of(store: &SqliteStore, call: impl AsyncFnOnce(Handle)) -> u64 {
    let before = store.counters().statements;
    call(Handle::of(Arc::new(store.clone()))).await;
    store.counters().statements - before
}

// covers: R3-48
#[tokio::test]
async fn a_claim_costs_the_same_however_many_queues_there_ever_were() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path().join("p.db")).await.unwrap();
    let handle = Handle::of(Arc::new(store.clone()));
    let heads: Vec<_> = (0..300)
        .map(|n| {
            let mut head = run_head();
            head.queue = format!("client/{n}");
            Submission::Run(Box::new(NewRun { head, lease_to: None }))
        })
        .collect();
    store.submit(&heads).await.unwrap();
    let worker = new_worker();
    let mut ends = Vec::new();
    loop {
        let leased = handle.lease(&acquire_any(worker, TTL)).await.leased;
        if leased.is_empty() {
            break;
        }
        for leased in &leased {
            let mut end = append_of(leased, 1);
            end.status = RunStatus::Succeeded;
            let (due, polls) = (Timestamp::NEVER, Default::default());
            end.release = Some(Release { due, polls, seen: 0 });
            ends.push(end);
        }
    }
    assert_eq!(ends.len(), 300);
    store.append(&ends).await.unwrap();
    let claim = acquire_any(worker, TTL);
    let claim = statements_of(&store, async |handle| drop(handle.lease(&claim).await)).await;
    let held = held_for(worker, TTL);
    let held = statements_of(&store, async |handle| drop(handle.lease(&held).await)).await;
    assert!(claim <= 12 && held <= 12, "{claim} statements for a claim, {held} for a heartbeat");
}

fn ready(path: &Path) -> u32 {
    let count = "SELECT count(*) FROM provision_heads WHERE place = 2";
    Connection::open(path).unwrap().query_row(count, (), |row| row.get(0)).unwrap()
}

// covers: S25, L3
#[tokio::test]
async fn many_runs_that_are_due_at_once_are_made_ready_in_more_than_one_turn() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.db");
    let machine = Arc::new(Moved::default());
    let store = open(&path, &machine).await;
    let due = store.now().await.unwrap().plus(TTL);
    let heads: Vec<_> = (0..2_500)
        .map(|_| {
            let mut head = run_head();
            head.due = due;
            Submission::Run(Box::new(NewRun { head, lease_to: None }))
        })
        .collect();
    store.submit(&heads).await.unwrap();
    machine.pass(TTL * 2);
    let handle = Handle::of(Arc::new(store));
    let mut claim = acquire_any(new_worker(), TTL);
    claim.acquire.as_mut().unwrap().limit = 1;
    let grant = handle.lease(&claim).await;
    assert_eq!((grant.leased.len(), ready(&path)), (1, 1_999));
    assert_eq!(grant.next_due, Some(due), "there is more");
    assert_eq!(handle.lease(&claim).await.leased.len(), 1);
    assert_eq!(ready(&path), 2_498);
}

// covers: S25
#[tokio::test]
async fn a_claim_reads_so_many_bytes_of_journals_and_the_rest_stays_due() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path().join("p.db")).await.unwrap();
    let handle = Handle::of(Arc::new(store.clone()));
    for _ in 0..3 {
        handle.started(run_head()).await;
    }
    let worker = new_worker();
    for leased in handle.lease(&acquire_any(worker, TTL)).await.leased {
        let mut append = append_of(&leased, 1);
        append.frame = Some(Arc::from(format!("[\"{}\"]", "x".repeat(3 << 20))));
        let due = store.now().await.unwrap();
        append.release = Some(Release { due, polls: Default::default(), seen: 0 });
        handle.applied(append).await;
    }
    assert_eq!(handle.lease(&acquire_any(worker, TTL)).await.leased.len(), 2);
    assert_eq!(handle.lease(&acquire_any(worker, TTL)).await.leased.len(), 1);
}
