//! Opening a file: settings, schema, places that will not do.

use std::{path::Path, sync::Arc, time::Duration};

use provision_core::{StoreError, error::StoreErrorKind, store::StateStore as _};
use provision_store_sqlite::{SqliteConfig, SqliteStore};
use provision_testkit::conformance::{Handle, run_head};
use rusqlite::Connection;

async fn refused(path: impl AsRef<Path>) -> StoreError {
    let error = SqliteStore::open(path).await.expect_err("the file is refused");
    assert!(error.hint().is_some(), "{error} has no hint");
    error
}

#[tokio::test]
async fn the_file_is_a_synced_write_ahead_log() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path().join("p.db")).await.unwrap();
    let settings = store
        .execute_host(|tx| {
            let text = |name| tx.pragma_query_value(None, name, |row| row.get::<_, String>(0));
            let number = |name| tx.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
            Ok((text("journal_mode")?, number("synchronous")?, number("foreign_keys")?))
        })
        .await
        .unwrap();
    assert_eq!(settings, ("wal".to_owned(), 2, 0));
}

#[tokio::test]
async fn a_database_without_a_disk_is_refused() {
    for path in [":memory:", ""] {
        let error = refused(path).await;
        assert_eq!(
            (error.kind(), error.code()),
            (StoreErrorKind::Unsuitable, "sqlite_unsafe_settings")
        );
    }
}

// covers: R3-36
#[tokio::test]
async fn a_newer_schema_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.db");
    drop(SqliteStore::open(&path).await.unwrap());
    let conn = Connection::open(&path).unwrap();
    conn.execute("INSERT INTO provision_migrations VALUES (99, 'later', 'x')", ()).unwrap();
    drop(conn);
    let error = refused(&path).await;
    assert_eq!((error.kind(), error.code()), (StoreErrorKind::Damaged, "schema_newer"));
    assert!(error.hint().unwrap().contains("upgrade"));
}

// covers: R3-36
#[tokio::test]
async fn who_has_the_file_open_writes_no_more_once_its_schema_is_newer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.db");
    let store = SqliteStore::open(&path).await.unwrap();
    store.submit(&[submission()]).await.unwrap();
    let conn = Connection::open(&path).unwrap();
    conn.execute("INSERT INTO provision_migrations VALUES (99, 'later', 'x')", ()).unwrap();
    let error = store.submit(&[submission()]).await.err().unwrap();
    assert_eq!((error.kind(), error.code()), (StoreErrorKind::Damaged, "schema_newer"));
    assert!(error.hint().unwrap().contains("upgrade"));
    let runs: u32 =
        conn.query_row("SELECT count(*) FROM provision_runs", (), |row| row.get(0)).unwrap();
    assert_eq!(runs, 1, "nothing more was written");
}

// covers: R3-36
#[tokio::test]
async fn a_schema_that_somebody_changed_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.db");
    drop(SqliteStore::open(&path).await.unwrap());
    let conn = Connection::open(&path).unwrap();
    conn.execute("UPDATE provision_migrations SET checksum = 'x'", ()).unwrap();
    drop(conn);
    assert_eq!(refused(&path).await.code(), "schema_changed");
}

#[tokio::test]
async fn eight_handles_that_open_a_new_file_at_once_make_one_schema() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.db");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let path = path.clone();
        tasks.spawn(async move { SqliteStore::open(path).await.map(drop) });
    }
    for opened in tasks.join_all().await {
        opened.unwrap();
    }
}

#[tokio::test]
async fn places_that_cannot_be_opened_say_so() {
    let directory = tempfile::tempdir().unwrap();
    let missing = refused(directory.path().join("no/such/p.db")).await;
    assert_eq!(
        (missing.kind(), missing.code()),
        (StoreErrorKind::Unsuitable, "sqlite_cannot_open")
    );
    let inside = directory.path().join("folder");
    std::fs::create_dir(&inside).unwrap();
    assert_eq!(refused(&inside).await.code(), "sqlite_cannot_open");
    let text = directory.path().join("notes.txt");
    std::fs::write(&text, "not a database, but long enough to look like one\n".repeat(200))
        .unwrap();
    let error = refused(&text).await;
    assert_eq!((error.kind(), error.code()), (StoreErrorKind::Damaged, "sqlite_not_a_database"));
}

#[tokio::test]
async fn a_program_that_holds_the_write_lock_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.db");
    let config = SqliteConfig::new(&path).with_busy_timeout(Duration::from_millis(50));
    let store = config.open().await.unwrap();
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.submit(&[submission()]).await.err().unwrap();
    assert_eq!((error.kind(), error.code()), (StoreErrorKind::Unavailable, "sqlite_busy"));
    assert!(error.is_transient() && error.hint().is_some());
    assert!(store.load(&[run_head().id]).await.is_ok(), "reading goes on");
    conn.execute_batch("ROLLBACK").unwrap();
    assert!(store.submit(&[submission()]).await.is_ok());
}

// covers: S18, L3
#[tokio::test]
async fn a_turn_that_nobody_gives_back_is_reported_and_what_waited_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.db");
    let config = SqliteConfig::new(&path).with_busy_timeout(Duration::from_millis(100));
    let store = config.clone().open().await.unwrap();
    // As a process does that is stopped while it writes.
    let frozen = std::fs::File::open(directory.path().join("p.db-turn")).unwrap();
    frozen.lock().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let store = store.clone();
        tasks.spawn(async move { store.submit(&[submission()]).await });
    }
    for answer in tasks.join_all().await {
        let error = answer.err().unwrap();
        assert_eq!((error.kind(), error.code()), (StoreErrorKind::Unavailable, "sqlite_busy"));
        assert!(error.is_transient() && error.hint().is_some());
    }
    assert_eq!(config.clone().open().await.err().unwrap().code(), "sqlite_busy");
    let other = {
        frozen.unlock().unwrap();
        let other = config.open().await.unwrap();
        frozen.lock().unwrap();
        other
    };
    assert!(other.submit(&[submission()]).await.is_err());
    // Bounded too, although its thread still waits.
    tokio::task::spawn_blocking(move || drop(other)).await.unwrap();
    frozen.unlock().unwrap();
    store.submit(&[submission()]).await.unwrap();
    let runs = store.list(&provision_core::store::RunFilter::default()).await.unwrap().runs;
    assert_eq!(runs.len(), 1, "what was refused was not written later");
}

// covers: S25
#[tokio::test]
async fn a_full_store_writes_nothing_and_goes_on_when_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.db");
    let store = SqliteConfig::new(&path).with_bytes_max(1 << 20).open().await.unwrap();
    let handle = Handle::of(Arc::new(store.clone()));
    let small = handle.started(run_head()).await;
    let mut big = run_head();
    big.input = provision_core::Payload::encode(&"x".repeat(2 << 20)).unwrap();
    let id = big.id;
    let batch = [provision_core::store::Submission::Run(Box::new(provision_core::store::NewRun {
        head: big,
        lease_to: None,
    }))];
    let error = store.submit(&batch).await.err().unwrap();
    assert_eq!((error.kind(), error.code()), (StoreErrorKind::Full, "sqlite_full"));
    assert!(error.hint().is_some());
    assert!(store.load(&[id]).await.unwrap()[0].is_none());
    handle.request(small, "1").await;
}

// One call that does not fit fails no other, although they were written in one batch.
#[tokio::test]
async fn a_call_that_fails_does_not_fail_its_neighbours() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.db");
    let store = SqliteConfig::new(&path).with_bytes_max(1 << 20).open().await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..40 {
        let store = store.clone();
        tasks.spawn(async move {
            let mut head = run_head();
            let too_big = n % 10 == 0;
            if too_big {
                head.input = provision_core::Payload::encode(&"x".repeat(2 << 20)).unwrap();
            }
            let new = provision_core::store::NewRun { head, lease_to: None };
            let batch = [provision_core::store::Submission::Run(Box::new(new))];
            (too_big, store.submit(&batch).await.is_ok())
        });
    }
    for (too_big, stored) in tasks.join_all().await {
        assert_eq!(stored, !too_big);
    }
}

fn submission() -> provision_core::store::Submission {
    let new = provision_core::store::NewRun { head: run_head(), lease_to: None };
    provision_core::store::Submission::Run(Box::new(new))
}
