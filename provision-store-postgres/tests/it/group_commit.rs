//! What a step costs: statements and transactions, counted, so that the cost cannot creep back.

use std::{sync::Arc, time::Duration};

use provision_core::{
    id::Timestamp,
    store::{Appended, Leased, Release, StateStore as _},
};
use provision_store_postgres::{Counters, PostgresStore};
use provision_testkit::conformance::{
    Handle, acquire_any, append_of, held_for, ledger_row, new_worker, run_head,
};
use tokio::task::JoinSet;

use crate::given::{Schema, told};

async fn leased(store: &PostgresStore, count: usize) -> Vec<Leased> {
    let handle = Handle::of(Arc::new(store.clone()));
    for _ in 0..count {
        handle.started(run_head()).await;
    }
    let ttl = Duration::from_secs(600);
    let leased = handle.lease(&acquire_any(new_worker(), ttl)).await.leased;
    // What the starts have left to say, their notification, is not counted as the test's.
    told(store).await;
    leased
}

/// Each run appends its frames one after the other, all runs at the same time.
async fn drive(store: &PostgresStore, runs: &[Leased], from: u64, frames: u64) {
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

/// Statements, transactions, appends and notifications since then.
fn since(store: &PostgresStore, before: &Counters) -> (u64, u64, u64, u64) {
    let now = store.counters();
    let notifications = now.notifications - before.notifications;
    let (statements, commits) = (now.statements - before.statements, now.commits - before.commits);
    (statements, commits, now.appends - before.appends, notifications)
}

#[tokio::test]
async fn a_plain_step_alone_is_one_statement_one_commit_and_no_notification() {
    let Some(schema) = Schema::new() else { return };
    let store = schema.open().await;
    let runs = leased(&store, 1).await;
    let before = store.counters();
    drive(&store, &runs, 1, 20).await;
    assert_eq!(since(&store, &before), (20, 20, 20, 0));
    let frames = schema.number("SELECT count(*) FROM provision.frames").await;
    assert_eq!(frames, 20);
    let before = store.counters();
    let mut last = append_of(&runs[0], 21);
    last.release = Some(Release { due: Timestamp::NEVER, polls: Default::default(), seen: 0 });
    store.append(&[last]).await.unwrap();
    assert_eq!(since(&store, &before), (1, 1, 1, 0), "a release costs nothing more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_appends_share_their_commits() {
    let Some(schema) = Schema::new() else { return };
    let store = schema.open().await;
    let runs = leased(&store, 32).await;
    let before = store.counters();
    drive(&store, &runs, 1, 50).await;
    let (statements, commits, appends, _) = since(&store, &before);
    println!("{statements} statements and {commits} commits for {appends} appends");
    assert_eq!(appends, 32 * 50);
    assert!(commits * 8 <= appends, "{commits} commits for {appends} appends");
    assert!(statements <= commits + 1, "{statements} statements in {commits} commits");
}

#[tokio::test]
async fn a_batch_of_appends_is_one_statement_and_a_stale_row_fails_no_neighbour() {
    let Some(schema) = Schema::new() else { return };
    let store = schema.open().await;
    let runs = leased(&store, 40).await;
    let mut batch: Vec<_> = runs.iter().map(|leased| append_of(leased, 1)).collect();
    let before = store.counters();
    let answers = store.append(&batch).await.unwrap();
    assert!(answers.iter().all(|answer| matches!(answer, Appended::Applied { .. })));
    let (statements, commits, ..) = since(&store, &before);
    assert_eq!((statements, commits), (1, 1));
    for (append, number) in batch.iter_mut().zip(0_u64..) {
        append.seq = 2;
        append.fence.nonce += u64::from(number.is_multiple_of(10));
    }
    let answers = store.append(&batch).await.unwrap();
    let stale = answers.iter().filter(|answer| **answer == Appended::Stale).count();
    assert_eq!((stale, answers.len()), (4, 40));
}

#[tokio::test]
async fn a_value_that_the_server_refuses_fails_its_own_call_only() {
    let Some(schema) = Schema::new() else { return };
    let store = schema.open().await;
    let runs = leased(&store, 20).await;
    let mut tasks = JoinSet::new();
    for (leased, number) in runs.iter().zip(0_u64..) {
        let (store, mut append) = (store.clone(), append_of(leased, 1));
        let bad = number.is_multiple_of(7);
        if bad {
            append.frame = Some(Arc::from("[\"\u{0}\"]"));
        }
        tasks.spawn(async move { (bad, store.append(&[append]).await) });
    }
    for (bad, answer) in tasks.join_all().await {
        assert_eq!(answer.is_err(), bad, "{answer:?}");
        if let Err(error) = answer {
            assert_eq!(error.code(), "postgres_refused");
        }
    }
}

#[tokio::test]
async fn a_row_that_somebody_holds_stalls_no_neighbour() {
    let Some(schema) = Schema::new() else { return };
    let store = schema.config().with_busy_timeout(Duration::from_secs(300)).open().await.unwrap();
    let runs = leased(&store, 10).await;
    let mut conn = schema.connect().await;
    let mut tx = sqlx::Connection::begin(&mut conn).await.unwrap();
    let lock = format!("SELECT 1 FROM {}.heads WHERE run = $1 FOR UPDATE", schema.name);
    let held = runs[3].record.head.id;
    sqlx::query(sqlx::AssertSqlSafe(lock)).bind(*held.as_uuid()).execute(&mut *tx).await.unwrap();
    let others: Vec<_> =
        runs.iter().filter(|leased| leased.record.head.id != held).cloned().collect();
    let waiting = store.clone();
    let append = append_of(&runs[3], 1);
    let waiting = tokio::spawn(async move { waiting.append(&[append]).await });
    tokio::time::timeout(Duration::from_secs(60), drive(&store, &others, 1, 10)).await.unwrap();
    assert!(!waiting.is_finished(), "it waits for its row");
    tx.rollback().await.unwrap();
    let answer = waiting.await.unwrap().unwrap();
    assert_eq!(answer, [Appended::Applied { requests: 0, lease_lost: false }]);
}

#[tokio::test]
async fn an_intent_is_one_transaction_and_a_heartbeat_two_statements() {
    let Some(schema) = Schema::new() else { return };
    let store = schema.open().await;
    let runs = leased(&store, 1).await;
    let mut intent = append_of(&runs[0], 1);
    intent.ledger = vec![ledger_row(intent.run, "vm", "web-1")];
    let before = store.counters();
    store.append(&[intent]).await.unwrap();
    let (statements, commits, ..) = since(&store, &before);
    assert_eq!(commits, 1);
    assert!(statements <= 5, "{statements} statements");
    let worker = runs[0].fence.owner;
    // The clock is kept now and then; right after, it is not.
    store.lease(&held_for(worker, Duration::from_secs(600))).await.unwrap();
    let before = store.counters();
    store.lease(&held_for(worker, Duration::from_secs(600))).await.unwrap();
    assert_eq!(since(&store, &before).0, 2);
}
