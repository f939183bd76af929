//! The host's own rows: with the end of a run, and with its start.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use provision_core::{
    error::StoreErrorKind,
    id::{Payload, Timestamp},
    run::RunStatus,
    store::{
        Append, Appended, Leased, NewRun, Release, RunFilter, StateStore as _, Submission,
        Submitted,
    },
};
use provision_store_postgres::PostgresStore;
use provision_testkit::conformance::{
    Handle, acquire_any, append_of, ledger_row, new_worker, run_head,
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use crate::given::Schema;

/// A store in a schema that has a table of the host, too.
async fn store(schema: &Schema) -> PostgresStore {
    // Longer than any test holds a lock, on a busy machine too.
    let store = schema.config().with_busy_timeout(Duration::from_secs(120)).open().await.unwrap();
    schema.execute("CREATE TABLE provision.clients (id serial, run text UNIQUE)").await;
    store
}

async fn leased(store: &PostgresStore) -> Leased {
    let handle = Handle::of(Arc::new(store.clone()));
    handle.started(run_head()).await;
    handle.lease(&acquire_any(new_worker(), Duration::from_secs(600))).await.leased.remove(0)
}

fn end(leased: &Leased, seq: u64) -> Append {
    let mut append = append_of(leased, seq);
    append.status = RunStatus::Succeeded;
    append.release = Some(Release { due: Timestamp::NEVER, polls: Default::default(), seen: 0 });
    append
}

async fn clients(schema: &Schema) -> Vec<String> {
    let sql = format!("SELECT run FROM {}.clients ORDER BY id", schema.name);
    let mut conn = schema.connect().await;
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut conn).await.unwrap()
}

fn insert_into(schema: &Schema) -> String {
    format!("INSERT INTO {}.clients (run) VALUES ($1)", schema.name)
}

fn insert(store: &PostgresStore, schema: &Schema) {
    let sql = insert_into(schema);
    store.on_end(move |tx, append| {
        let sql = sql.clone();
        Box::pin(async move {
            let insert = sqlx::query(AssertSqlSafe(sql)).bind(append.run.to_string());
            insert.execute(tx).await.map(drop)
        })
    });
}

// covers: R1-80
#[tokio::test]
async fn the_hosts_row_is_written_with_the_end_and_only_then() {
    let Some(schema) = Schema::new() else { return };
    let store = store(&schema).await;
    insert(&store, &schema);
    let leased = leased(&store).await;
    store.append(&[append_of(&leased, 1)]).await.unwrap();
    assert!(clients(&schema).await.is_empty());
    let mut stale = end(&leased, 2);
    stale.fence.epoch += 1;
    assert_eq!(store.append(&[stale]).await.unwrap(), [Appended::Stale]);
    assert!(clients(&schema).await.is_empty());
    for lost in [false, true] {
        let answers = store.append(&[end(&leased, 2)]).await.unwrap();
        assert_eq!(answers, [Appended::Applied { requests: 0, lease_lost: lost }]);
        assert_eq!(clients(&schema).await, [leased.record.head.id.to_string()], "once");
    }
}

// covers: R1-80
#[tokio::test]
async fn a_host_that_refuses_rolls_back_that_end_and_nothing_else() {
    let Some(schema) = Schema::new() else { return };
    let store = store(&schema).await;
    let (bad, good) = (leased(&store).await, leased(&store).await);
    let refused = bad.record.head.id;
    let sql = insert_into(&schema);
    store.on_end(move |tx, append| {
        let sql = sql.clone();
        Box::pin(async move {
            let insert = sqlx::query(AssertSqlSafe(sql)).bind(append.run.to_string());
            insert.execute(&mut *tx).await?;
            assert!(append.seq < 9, "the host panics");
            if append.run == refused {
                tx.execute("SELECT 1 FROM no_such_table").await?;
            }
            Ok(())
        })
    });
    let handle = Handle::of(Arc::new(store.clone()));
    let batch = [end(&bad, 1), end(&good, 1)];
    let error = store.append(&batch).await.err().unwrap();
    assert_eq!((error.kind(), error.code()), (StoreErrorKind::Invalid, "host_write_failed"));
    let said = error.context().unwrap_or_default();
    assert!(said.contains("42P01"), "{said:?} is what the host's statement met");
    assert_eq!(handle.head(refused).await.status, RunStatus::Running);
    assert_eq!(handle.record(refused).await.frames.len(), 0);
    assert_eq!(clients(&schema).await, [good.record.head.id.to_string()], "the other one stands");
    let again = store.append(&batch[1..]).await.unwrap();
    assert!(matches!(again[..], [Appended::Applied { .. }]), "and its repeat finds it");
    handle.applied(append_of(&bad, 1)).await;
    for seq in 2..9 {
        handle.applied(append_of(&bad, seq)).await;
    }
    let error = store.append(&[end(&bad, 9)]).await.err().unwrap();
    assert_eq!(error.code(), "host_write_failed", "a panic");
    assert_eq!(clients(&schema).await.len(), 1);
    handle.applied(append_of(&bad, 9)).await;
}

// covers: S18
#[tokio::test]
async fn trouble_of_the_server_in_a_handler_is_no_refusal_of_the_host() {
    let Some(schema) = Schema::new() else { return };
    let store = store(&schema).await;
    let leased = leased(&store).await;
    let (sql, troubled) = (insert_into(&schema), Arc::new(AtomicBool::new(true)));
    store.on_end(move |tx, append| {
        let (sql, trouble) = (sql.clone(), troubled.swap(false, SeqCst));
        Box::pin(async move {
            if trouble {
                tx.execute("SELECT pg_terminate_backend(pg_backend_pid())").await?;
            }
            let insert = sqlx::query(AssertSqlSafe(sql)).bind(append.run.to_string());
            insert.execute(tx).await.map(drop)
        })
    });
    let append = [end(&leased, 1)];
    let error = store.append(&append).await.err().unwrap();
    assert!(error.is_transient(), "{error}");
    let again = store.append(&append).await.unwrap();
    assert_eq!(again, [Appended::Applied { requests: 0, lease_lost: false }]);
    assert_eq!(clients(&schema).await.len(), 1);
}

// covers: L1
#[tokio::test]
async fn a_handler_that_hangs_fails_its_own_end_and_holds_up_others_for_seconds() {
    let Some(schema) = Schema::new() else { return };
    let store = store(&schema).await;
    let (hangs, waits, other) = (leased(&store).await, leased(&store).await, leased(&store).await);
    let waiting = waits.record.head.id;
    store.on_end(move |tx, append| {
        let in_sql = append.run == waiting;
        Box::pin(async move {
            match in_sql {
                true => tx.execute("SELECT pg_sleep(60)").await.map(drop),
                false => std::future::pending().await,
            }
        })
    });
    for one in [hangs, waits] {
        let (end, step) = ([end(&one, 1)], [append_of(&other, 1)]);
        let both = async { tokio::join!(store.append(&end), store.append(&step)) };
        let (ended, stepped) = tokio::time::timeout(Duration::from_secs(30), both).await.unwrap();
        let error = ended.err().unwrap();
        assert_eq!((error.kind(), error.code()), (StoreErrorKind::Invalid, "host_write_failed"));
        assert!(error.context().unwrap_or_default().contains("5 s"), "{error}");
        assert!(matches!(stepped.unwrap()[..], [Appended::Applied { .. }]));
        let handle = Handle::of(Arc::new(store.clone()));
        assert_eq!(handle.head(one.record.head.id).await.seq, 0);
    }
}

// covers: R1-80
#[tokio::test]
async fn what_is_written_to_a_run_that_is_over_is_no_second_end() {
    let Some(schema) = Schema::new() else { return };
    let store = store(&schema).await;
    insert(&store, &schema);
    let first = leased(&store).await;
    let run = first.record.head.id;
    store.append(&[end(&first, 1)]).await.unwrap();
    let late = Submission::Request { run, body: Payload::encode(&"late").unwrap() };
    store.submit(&[late]).await.unwrap();
    let handle = Handle::of(Arc::new(store.clone()));
    let lease = acquire_any(new_worker(), Duration::from_secs(60));
    let again = handle.lease(&lease).await.leased.remove(0);
    let mut back = end(&again, 1);
    (back.frame, back.consumed) = (None, 1);
    handle.applied(back).await;
    assert_eq!(clients(&schema).await.len(), 1, "one row for one end");
}

// covers: S24
#[tokio::test]
async fn a_handler_belongs_to_its_namespace() {
    let Some(schema) = Schema::new() else { return };
    let store = store(&schema).await;
    insert(&store.in_namespace("other").await.unwrap(), &schema);
    let leased = leased(&store).await;
    store.append(&[end(&leased, 1)]).await.unwrap();
    assert!(clients(&schema).await.is_empty());
}

fn run(key: &str) -> Submission {
    let mut head = run_head();
    head.key = Some(key.to_owned());
    Submission::Run(Box::new(NewRun { head, lease_to: None }))
}

// covers: R3-14
#[tokio::test]
async fn a_start_and_the_hosts_row_are_one_transaction() {
    let Some(schema) = Schema::new() else { return };
    let store = store(&schema).await;
    let mut conn = schema.connect().await;
    for (key, commits) in [("paid", true), ("refused", false), ("paid", true)] {
        let mut tx = conn.begin().await.unwrap();
        let answers = store.start_in(&mut tx, &[run(key)]).await.unwrap();
        if matches!(answers[..], [Submitted::Created(_)]) {
            let insert = sqlx::query(AssertSqlSafe(insert_into(&schema))).bind(key);
            insert.execute(&mut *tx).await.unwrap();
        }
        match commits {
            true => tx.commit().await.unwrap(),
            false => tx.rollback().await.unwrap(),
        }
    }
    assert_eq!(clients(&schema).await, ["paid"]);
    let runs = store.list(&RunFilter::default()).await.unwrap().runs;
    assert_eq!(runs.len(), 1, "neither the refused row nor its run");
    assert_eq!(runs[0].key.as_deref(), Some("paid"));
}

// covers: R3-14, S2
#[tokio::test]
async fn a_host_that_holds_a_key_stalls_no_other_start_and_no_step() {
    let Some(schema) = Schema::new() else { return };
    let store = store(&schema).await;
    let leased = leased(&store).await;
    let mut conn = schema.connect().await;
    let mut tx = conn.begin().await.unwrap();
    let started = store.start_in(&mut tx, &[run("order:1")]).await.unwrap();
    assert!(matches!(started[..], [Submitted::Created(None)]));
    let same = tokio::spawn({
        let store = store.clone();
        async move { store.submit(&[run("order:1")]).await }
    });
    let others = async {
        for number in 2..20 {
            store.submit(&[run(&format!("order:{number}"))]).await.unwrap();
            store.append(&[append_of(&leased, number - 1)]).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), others).await.expect("nobody waits");
    assert!(!same.is_finished(), "whether the key is taken is not known yet");
    tx.commit().await.unwrap();
    let answer = same.await.unwrap().unwrap();
    assert!(matches!(answer[..], [Submitted::Known(_)]), "{answer:?}");
}

// covers: R3-14, S2
#[tokio::test]
async fn a_new_kind_of_saga_in_an_open_transaction_stalls_no_other() {
    let Some(schema) = Schema::new() else { return };
    let store = store(&schema).await;
    let (leased, parent) = (leased(&store).await, leased(&store).await);
    let fresh = || {
        let mut head = run_head();
        head.saga.version += 1;
        NewRun { head, lease_to: None }
    };
    let mut conn = schema.connect().await;
    let mut tx = conn.begin().await.unwrap();
    store.start_in(&mut tx, &[Submission::Run(Box::new(fresh()))]).await.unwrap();
    let same = tokio::spawn({
        let (store, new) = (store.clone(), fresh());
        async move { store.submit(&[Submission::Run(Box::new(new))]).await }
    });
    let mut begins = append_of(&parent, 1);
    begins.starts = vec![fresh()];
    let begins = tokio::spawn({
        let store = store.clone();
        async move { store.append(&[begins]).await }
    });
    let others = async {
        for number in 1..20 {
            store.submit(&[run(&format!("order:{number}"))]).await.unwrap();
            let mut append = append_of(&leased, number);
            append.ledger = vec![ledger_row(append.run, "vm", &number.to_string())];
            store.append(&[append]).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), others).await.expect("nobody waits");
    assert!(!same.is_finished() && !begins.is_finished(), "only these need it");
    tx.commit().await.unwrap();
    let answer = same.await.unwrap().unwrap();
    assert!(matches!(answer[..], [Submitted::Created(None)]), "{answer:?}");
    assert!(matches!(begins.await.unwrap().unwrap()[..], [Appended::Applied { .. }]));
}

// covers: S2
#[tokio::test]
async fn an_append_that_waits_for_others_holds_nothing_meanwhile() {
    let Some(schema) = Schema::new() else { return };
    let store = store(&schema).await;
    let parent = leased(&store).await;
    let child = || {
        let mut head = run_head();
        head.key = Some("order:1".to_owned());
        NewRun { head, lease_to: None }
    };
    let mut conn = schema.connect().await;
    let mut tx = conn.begin().await.unwrap();
    store.start_in(&mut tx, &[Submission::Run(Box::new(child()))]).await.unwrap();
    let mut begins = append_of(&parent, 1);
    begins.starts = vec![child()];
    let begins = tokio::spawn({
        let store = store.clone();
        async move { store.append(&[begins]).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let run = *parent.record.head.id.as_uuid();
    let lock = format!("SELECT 1 FROM {}.heads WHERE run = $1 FOR UPDATE SKIP LOCKED", schema.name);
    let mut other = schema.connect().await;
    let mut free = 0;
    for _ in 0..20 {
        let look = sqlx::query(AssertSqlSafe(lock.clone())).bind(run).fetch_optional(&mut other);
        free += u32::from(look.await.unwrap().is_some());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(free >= 5, "the parent's row was free {free} times of 20");
    tx.commit().await.unwrap();
    assert!(matches!(begins.await.unwrap().unwrap()[..], [Appended::Applied { .. }]));
}

// covers: R2-51
#[tokio::test]
async fn guards_requests_and_reopened_runs_are_written_in_the_hosts_transaction() {
    let Some(schema) = Schema::new() else { return };
    let store = store(&schema).await;
    let leased = leased(&store).await;
    let asked = leased.record.head.id;
    let mut conn = schema.connect().await;
    let mut tx = conn.begin().await.unwrap();
    let mut guarded = run_head();
    let until = provision_core::store::GuardUntil::Gone;
    guarded.guard = Some(provision_core::store::Guard { key: "client:7".to_owned(), until });
    let batch = [
        Submission::Run(Box::new(NewRun { head: guarded.clone(), lease_to: None })),
        Submission::Request { run: asked, body: Payload::null() },
        Submission::Reopen { run: asked, body: Payload::null() },
        Submission::Request { run: run_head().id, body: Payload::null() },
    ];
    let answers = store.start_in(&mut tx, &batch).await.unwrap();
    let [Submitted::Created(_), Submitted::Requested(1), Submitted::Requested(2), last] =
        &answers[..]
    else {
        panic!("{answers:?}");
    };
    assert!(matches!(last, Submitted::NoSuchRun));
    tx.commit().await.unwrap();
    guarded.id = run_head().id;
    let again = Submission::Run(Box::new(NewRun { head: guarded, lease_to: None }));
    let answers = store.submit(&[again]).await.unwrap();
    assert!(matches!(answers[..], [Submitted::Guarded(_)]), "{answers:?}");
}
