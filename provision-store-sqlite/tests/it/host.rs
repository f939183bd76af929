//! The host's own rows: with the end of a run, with its start, on their own.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use provision_core::{
    error::StoreErrorKind,
    id::{Payload, Timestamp},
    run::RunStatus,
    store::{Append, Appended, Leased, NewRun, Release, StateStore as _, Submission, Submitted},
};
use provision_store_sqlite::{SqliteConfig, SqliteStore};
use provision_testkit::conformance::{Handle, acquire_any, append_of, new_worker, run_head};

const CLIENTS: &str = "CREATE TABLE IF NOT EXISTS clients (run TEXT UNIQUE)";

async fn store(path: &Path) -> SqliteStore {
    let store = SqliteStore::open(path).await.unwrap();
    store.execute_host(|tx| tx.execute_batch(CLIENTS)).await.unwrap();
    store
}

async fn leased(store: &SqliteStore) -> Leased {
    let handle = Handle::of(Arc::new(store.clone()));
    handle.started(run_head()).await;
    handle.lease(&acquire_any(new_worker(), Duration::from_secs(60))).await.leased.remove(0)
}

fn end(leased: &Leased, seq: u64) -> Append {
    let mut append = append_of(leased, seq);
    append.status = RunStatus::Succeeded;
    append.release = Some(Release { due: Timestamp::NEVER, polls: Default::default(), seen: 0 });
    append
}

async fn clients(store: &SqliteStore) -> Vec<String> {
    let found = store.query_host(|conn| {
        let mut statement = conn.prepare("SELECT run FROM clients ORDER BY rowid")?;
        statement.query_map((), |row| row.get(0))?.collect()
    });
    found.await.unwrap()
}

fn insert(store: &SqliteStore) {
    store.on_end(|tx, append| {
        tx.execute("INSERT INTO clients VALUES (?1)", [append.run.to_string()]).map(drop)
    });
}

// covers: R1-80
#[tokio::test]
async fn the_hosts_row_is_written_with_the_end_and_only_then() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory.path().join("p.db")).await;
    insert(&store);
    let leased = leased(&store).await;
    store.append(&[append_of(&leased, 1)]).await.unwrap();
    assert!(clients(&store).await.is_empty());
    let mut stale = end(&leased, 2);
    stale.fence.epoch += 1;
    assert_eq!(store.append(&[stale]).await.unwrap(), [Appended::Stale]);
    assert!(clients(&store).await.is_empty());
    for lost in [false, true] {
        let answers = store.append(&[end(&leased, 2)]).await.unwrap();
        assert_eq!(answers, [Appended::Applied { requests: 0, lease_lost: lost }]);
        assert_eq!(clients(&store).await, [leased.record.head.id.to_string()], "once");
    }
}

// covers: R1-80
#[tokio::test]
async fn a_host_that_refuses_rolls_back_that_end_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory.path().join("p.db")).await;
    let (bad, good) = (leased(&store).await, leased(&store).await);
    let refused = bad.record.head.id;
    store.on_end(move |tx, append| {
        assert!(append.seq < 9, "the host panics");
        let name = (append.run != refused).then(|| append.run.to_string());
        tx.execute("INSERT INTO clients VALUES (?1)", [&name])?;
        // Fails for the refused run after its first statement has been run.
        tx.execute("INSERT INTO clients SELECT 'x' FROM no_such_table WHERE ?1", [name.is_none()])
            .map(drop)
            .or_else(|error| if name.is_none() { Err(error) } else { Ok(()) })
    });
    let batch = [end(&bad, 1), end(&good, 1)];
    let error = store.append(&batch).await.err().unwrap();
    assert_eq!((error.kind(), error.code()), (StoreErrorKind::Invalid, "host_write_failed"));
    let handle = Handle::of(Arc::new(store.clone()));
    assert_eq!(handle.head(refused).await.status, RunStatus::Running);
    assert_eq!(handle.record(refused).await.frames.len(), 0);
    assert_eq!(clients(&store).await, [good.record.head.id.to_string()], "the other one stands");
    let again = store.append(&batch[1..]).await.unwrap();
    assert!(matches!(again[..], [Appended::Applied { .. }]), "and its repeat finds it");
    assert!(matches!(
        store.append(&[append_of(&bad, 1)]).await.unwrap()[..],
        [Appended::Applied { lease_lost: false, .. }]
    ));
}

#[tokio::test]
async fn a_host_that_panics_hurts_its_own_call_only() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory.path().join("p.db")).await;
    let leased = leased(&store).await;
    store.on_end(|_, _| panic!("as planned"));
    assert_eq!(store.append(&[end(&leased, 1)]).await.err().unwrap().code(), "host_write_failed");
    let failed = store.execute_host(|_| -> rusqlite::Result<()> { panic!("as planned") }).await;
    assert_eq!(failed.err().unwrap().code(), "sqlite_call_panicked");
    insert(&store);
    store.append(&[end(&leased, 1)]).await.unwrap();
    assert_eq!(clients(&store).await.len(), 1);
}

// covers: R3-14
#[tokio::test]
async fn a_start_and_the_hosts_row_are_one_write() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory.path().join("p.db")).await;
    let run = || Submission::Run(Box::new(NewRun { head: run_head(), lease_to: None }));
    let kept = store.submit_with_host(vec![run()], |tx, answers| {
        assert!(matches!(answers, [Submitted::Created(_)]));
        tx.execute("INSERT INTO clients VALUES ('paid')", ())
    });
    assert_eq!(kept.await.unwrap().1, 1);
    let twice = store.submit_with_host(vec![run()], |tx, _| {
        tx.execute("INSERT INTO clients VALUES ('paid')", ())
    });
    assert_eq!(twice.await.err().unwrap().code(), "host_write_failed");
    assert_eq!(clients(&store).await, ["paid"]);
    let runs = store.list(&provision_core::store::RunFilter::default()).await.unwrap().runs;
    assert_eq!(runs.len(), 1, "neither the row nor the run");
}

// covers: S24
#[tokio::test]
async fn a_handler_belongs_to_its_namespace() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory.path().join("p.db")).await;
    let other = store.in_namespace("other").await.unwrap();
    insert(&other);
    let leased = leased(&store).await;
    store.append(&[end(&leased, 1)]).await.unwrap();
    assert!(clients(&store).await.is_empty());
}

#[tokio::test]
async fn queries_of_the_host_cannot_write() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory.path().join("p.db")).await;
    let error = store.query_host(|conn| conn.execute("DELETE FROM clients", ())).await.err();
    assert_eq!(error.unwrap().code(), "sqlite_read_only");
    let error = store.execute_host(|tx| tx.execute("NONSENSE", ())).await.err().unwrap();
    assert_eq!(error.code(), "host_write_failed");
}

// covers: R1-80
#[tokio::test]
async fn what_is_written_to_a_run_that_is_over_is_no_second_end() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory.path().join("p.db")).await;
    insert(&store);
    let first = leased(&store).await;
    let run = first.record.head.id;
    store.append(&[end(&first, 1)]).await.unwrap();
    let handle = Handle::of(Arc::new(store.clone()));
    let late = Submission::Request { run, body: Payload::encode(&"late").unwrap() };
    store.submit(&[late]).await.unwrap();
    let again =
        handle.lease(&acquire_any(new_worker(), Duration::from_secs(60))).await.leased.remove(0);
    let mut back = end(&again, 1);
    (back.frame, back.consumed) = (None, 1);
    let answer = store.append(&[back]).await.unwrap();
    assert!(matches!(answer[..], [Appended::Applied { .. }]), "{answer:?}");
    assert_eq!(clients(&store).await.len(), 1, "one row for one end");
}

// covers: S18, S25
#[tokio::test]
async fn a_full_store_inside_the_hosts_function_is_trouble_of_the_store() {
    for hidden in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p.db");
        let store = SqliteConfig::new(&path).with_bytes_max(1 << 20).open().await.unwrap();
        store.execute_host(|tx| tx.execute_batch(CLIENTS)).await.unwrap();
        let leased = leased(&store).await;
        let room = Arc::new(AtomicBool::new(false));
        let has_room = Arc::clone(&room);
        store.on_end(move |tx, append| {
            let bytes = if has_room.load(Ordering::Relaxed) { 1 } else { 4 << 20 };
            let text = append.run.to_string().repeat(bytes / 36 + 1);
            let wrote = tx.execute("INSERT INTO clients VALUES (?1)", [text]).map(drop);
            if hidden { Ok(()) } else { wrote }
        });
        let error = store.append(&[end(&leased, 1)]).await.err().unwrap();
        assert!(error.is_transient(), "{hidden}: {error:?}");
        let handle = Handle::of(Arc::new(store.clone()));
        assert_eq!(handle.head(leased.record.head.id).await.status, RunStatus::Running);
        room.store(true, Ordering::Relaxed);
        let answers = store.append(&[end(&leased, 1)]).await.unwrap();
        assert_eq!(answers, [Appended::Applied { requests: 0, lease_lost: false }]);
        assert_eq!(clients(&store).await, [leased.record.head.id.to_string()]);
    }
}

// covers: S18, S25
#[tokio::test]
async fn a_full_store_refuses_the_hosts_own_rows_as_full() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.db");
    let store = SqliteConfig::new(&path).with_bytes_max(1 << 20).open().await.unwrap();
    store.execute_host(|tx| tx.execute_batch(CLIENTS)).await.unwrap();
    let big = || "x".repeat(4 << 20);
    let alone =
        store.execute_host(move |tx| tx.execute("INSERT INTO clients VALUES (?1)", [big()]));
    assert_eq!(alone.await.err().unwrap().code(), "sqlite_full");
    let run = Submission::Run(Box::new(NewRun { head: run_head(), lease_to: None }));
    let both = store.submit_with_host(vec![run], move |tx, _| {
        tx.execute("INSERT INTO clients VALUES (?1)", [big()])
    });
    assert_eq!(both.await.err().unwrap().code(), "sqlite_full");
    assert!(clients(&store).await.is_empty());
}

// covers: S1, S17
#[tokio::test]
async fn a_lane_that_went_with_a_refused_end_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory.path().join("p.db")).await;
    let leased = leased(&store).await;
    store.on_end(|tx, _| tx.execute("NONSENSE", ()).map(drop));
    let mut child = run_head();
    child.queue = "of its own".to_owned();
    let mut refused = end(&leased, 1);
    refused.starts = vec![NewRun { head: child.clone(), lease_to: None }];
    assert_eq!(store.append(&[refused]).await.err().unwrap().code(), "host_write_failed");
    let handle = Handle::of(Arc::new(store.clone()));
    handle.started(child.clone()).await;
    assert_eq!(handle.head(child.id).await.queue, "of its own");
    let claim = acquire_any(new_worker(), Duration::from_secs(60));
    assert_eq!(handle.lease(&claim).await.leased[0].record.head.id, child.id);
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("as planned");
        }
    }
}

// covers: S21
#[tokio::test]
async fn what_a_call_of_the_host_holds_may_panic_where_it_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory.path().join("p.db")).await;
    let (began, has_begun) = std::sync::mpsc::channel();
    let (go, may_go) = std::sync::mpsc::channel::<()>();
    let other = store.clone();
    let left = tokio::spawn(async move {
        let waits = other.execute_host(move |_| {
            began.send(()).unwrap();
            may_go.recv().unwrap();
            Ok(PanicsWhenDropped)
        });
        waits.await.map(drop)
    });
    tokio::task::spawn_blocking(move || has_begun.recv().unwrap()).await.unwrap();
    left.abort();
    assert!(left.await.is_err());
    go.send(()).unwrap();
    insert(&store);
    let leased = leased(&store).await;
    store.append(&[end(&leased, 1)]).await.unwrap();
    assert_eq!(clients(&store).await.len(), 1, "the thread goes on");
}
