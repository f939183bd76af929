//! Damaged rows: told to whoever names them, never guessed at, and no neighbour's trouble.

use std::{sync::Arc, time::Duration};

use provision_core::{
    error::StoreErrorKind,
    id::RunId,
    store::{NewRun, RunFilter, StateStore as _, Submission, Submitted},
};
use provision_store_postgres::PostgresStore;
use provision_testkit::conformance::{
    Handle, acquire_any, append_of, ledger_row, new_worker, run_head,
};

use crate::given::Schema;

/// Overwrites a column of a run.
async fn damage(schema: &Schema, run: RunId, (table, column): (&str, &str), value: &str) {
    let damaged = format!("UPDATE provision.{table} SET {column} = {value} WHERE run = '{run}'");
    schema.execute(&damaged).await;
}

async fn opened(schema: &Schema) -> (PostgresStore, Handle) {
    let store = schema.open().await;
    (store.clone(), Handle::of(Arc::new(store)))
}

// covers: S3
#[tokio::test]
async fn a_value_this_version_cannot_read_is_damage() {
    let Some(schema) = Schema::new() else { return };
    let (store, handle) = opened(&schema).await;
    for (place, broken, value) in [
        (("heads", "summary"), "'{'", "'{}'"),
        (("heads", "polls"), "'{'", "'{}'"),
        (("runs", "context"), "'{'", "'{}'"),
        (("runs", "input"), "'{'", "'{}'"),
        (("heads", "seq"), "-1", "0"),
        (("heads", "epoch"), "-1", "0"),
        (("runs", "created_at"), "-1", "0"),
    ] {
        let run = handle.started(run_head()).await;
        damage(&schema, run, place, broken).await;
        let error = store.load(&[run]).await.err().unwrap();
        assert_eq!((error.kind(), error.code()), (StoreErrorKind::Damaged, "postgres_bad_row"));
        assert!(error.to_string().contains(place.1), "{error} names the column");
        damage(&schema, run, place, value).await;
        assert!(store.load(&[run]).await.is_ok());
    }
}

// covers: R3-05
#[tokio::test]
async fn the_schema_itself_refuses_a_status_that_does_not_exist() {
    let Some(schema) = Schema::new() else { return };
    let (_store, handle) = opened(&schema).await;
    handle.started(run_head()).await;
    let mut conn = schema.connect().await;
    let sql = format!("UPDATE {}.heads SET status = 'Doing'", schema.name);
    let refused = sqlx::Executor::execute(&mut conn, sqlx::AssertSqlSafe(sql)).await;
    assert!(refused.is_err());
}

// covers: S3, L3, L5
#[tokio::test]
async fn a_run_that_cannot_be_read_is_a_dead_letter_and_holds_up_no_other() {
    let Some(schema) = Schema::new() else { return };
    let (store, handle) = opened(&schema).await;
    let (damaged, sound) = (handle.started(run_head()).await, handle.started(run_head()).await);
    damage(&schema, damaged, ("heads", "polls"), "'{'").await;
    let claim = acquire_any(new_worker(), Duration::from_secs(60));
    let leased = handle.lease(&claim).await.leased;
    assert_eq!(leased.iter().map(|one| one.record.head.id).collect::<Vec<_>>(), [sound]);
    let parked = "SELECT count(*) FROM provision.dead_letters WHERE status = 'Parked'";
    assert_eq!(schema.number(parked).await, 1);
    let kept = "SELECT count(*) FROM provision.heads WHERE polls = '{' AND owner IS NULL";
    assert_eq!(schema.number(kept).await, 1, "nothing is guessed at");
    let page = store.list(&RunFilter { limit: 1, ..RunFilter::default() }).await.unwrap();
    let after = page.next.or(page.runs.first().map(|head| head.id));
    let rest = store.list(&RunFilter { limit: 1, after, ..RunFilter::default() }).await.unwrap();
    let listed: Vec<_> = page.runs.iter().chain(&rest.runs).map(|head| head.id).collect();
    assert_eq!(listed, [sound], "pages go on behind it");
    assert!(handle.lease(&claim).await.leased.is_empty(), "it is not tried again");
}

fn run(key: &str) -> Submission {
    let mut head = run_head();
    head.key = Some(key.to_owned());
    Submission::Run(Box::new(NewRun { head, lease_to: None }))
}

// covers: S3
#[tokio::test]
async fn a_start_that_meets_a_damaged_run_fails_alone() {
    let Some(schema) = Schema::new() else { return };
    let (store, handle) = opened(&schema).await;
    let mut head = run_head();
    head.key = Some("damaged".to_owned());
    let damaged = handle.started(head).await;
    damage(&schema, damaged, ("heads", "summary"), "'{'").await;
    // They wait for their answers together, and are written together.
    let known = [run("damaged")];
    let (new, other) = ([run("new")], [run("other")]);
    let (before, known, after) =
        tokio::join!(store.submit(&new), store.submit(&known), store.submit(&other));
    assert_eq!(known.err().unwrap().code(), "postgres_bad_row");
    for answer in [before, after] {
        assert!(matches!(answer.unwrap()[..], [Submitted::Created(None)]));
    }
}

// covers: S3
#[tokio::test]
async fn an_append_that_meets_a_damaged_row_fails_alone() {
    let Some(schema) = Schema::new() else { return };
    let (store, handle) = opened(&schema).await;
    for _ in 0..3 {
        handle.started(run_head()).await;
    }
    let leased = handle.lease(&acquire_any(new_worker(), Duration::from_secs(60))).await.leased;
    let intent = |at: usize, name: &str| {
        let mut append = append_of(&leased[at], 1);
        append.ledger = vec![ledger_row(append.run, "vm", name)];
        append
    };
    let holder = intent(0, "web-1");
    damage_ledger(&schema, &handle, holder).await;
    let batch = [intent(1, "web-1"), intent(2, "web-2")];
    let error = store.append(&batch).await.err().unwrap();
    assert_eq!(error.code(), "postgres_bad_row");
    let seq = async |at: usize| handle.head(leased[at].record.head.id).await.seq;
    assert_eq!((seq(1).await, seq(2).await), (0, 1), "its neighbour is written");
}

async fn damage_ledger(schema: &Schema, handle: &Handle, append: provision_core::store::Append) {
    let run = append.run;
    handle.applied(append).await;
    damage(schema, run, ("ledger", "cost"), "'{'").await;
}
