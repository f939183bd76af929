//! Damaged files: reported as what they are, never a panic, never an invented value.

use std::{
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use provision_core::{
    StoreError,
    error::StoreErrorKind,
    id::Timestamp,
    ledger::{LedgerOp, LedgerQuery, LedgerReply},
    limit::{Admission, Ask, Limiter as _, Profile, Turn},
    store::{RunFilter, StateStore as _},
};
use provision_store_sqlite::SqliteStore;
use provision_testkit::conformance::{
    Handle, acquire_any, append_of, ledger_row, new_worker, run_head,
};
use rusqlite::Connection;

async fn filled(path: &Path) {
    let store = SqliteStore::open(path).await.unwrap();
    let handle = Handle::of(Arc::new(store));
    for n in 0..30 {
        let mut head = run_head();
        head.key = Some(format!("order:{n}"));
        handle.started(head).await;
    }
    let ttl = std::time::Duration::from_secs(15);
    for leased in handle.lease(&acquire_any(new_worker(), ttl)).await.leased {
        for seq in 1..=10 {
            let mut append = append_of(&leased, seq);
            append.ledger = vec![ledger_row(append.run, "vm", &append.run.to_string())];
            handle.applied(append).await;
        }
    }
}

/// Opens and uses everything; the first error, if any.
async fn use_it(path: &Path) -> Result<usize, StoreError> {
    let store = SqliteStore::open(path).await?;
    let page = store.list(&RunFilter::default()).await?;
    let ids: Vec<_> = page.runs.iter().map(|head| head.id).collect();
    let frames = store.load(&ids).await?.iter().flatten().map(|r| r.frames.len()).sum();
    store.ledger(&[LedgerOp::Query(LedgerQuery::default())]).await?;
    let ttl = std::time::Duration::from_secs(15);
    store.lease(&acquire_any(new_worker(), ttl)).await?;
    Ok(frames)
}

// covers: S3
#[tokio::test]
async fn random_damage_is_reported_and_never_panics() {
    let directory = tempfile::tempdir().unwrap();
    let whole = directory.path().join("whole.db");
    filled(&whole).await;
    assert_eq!(use_it(&whole).await.unwrap(), 300);
    let (mut reported, mut dice) = (0, 0x5eed_u64);
    let mut roll = |below: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 20) % below
    };
    for round in 0..40 {
        let path = directory.path().join(format!("damaged{round}.db"));
        std::fs::copy(&whole, &path).unwrap();
        let mut file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        let bytes = file.metadata().unwrap().len();
        for _ in 0..40 {
            let at = 100 + roll(bytes - 164);
            let mut found = [0_u8; 64];
            file.seek(SeekFrom::Start(at)).unwrap();
            file.read_exact(&mut found).unwrap();
            for byte in &mut found {
                *byte ^= u8::try_from(roll(256)).unwrap();
            }
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(&found).unwrap();
        }
        drop(file);
        if let Err(error) = use_it(&path).await {
            assert_eq!(error.kind(), StoreErrorKind::Damaged, "round {round}: {error:?}");
            reported += 1;
        }
    }
    assert!(reported >= 30, "only {reported} of 40 damaged files were noticed");
}

// covers: S3
#[tokio::test]
async fn a_value_this_version_cannot_read_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let run = Handle::of(Arc::new(store.clone())).started(run_head()).await;
    for (table, column) in
        [("heads", "summary"), ("heads", "polls"), ("runs", "context"), ("runs", "input")]
    {
        let conn = Connection::open(&path).unwrap();
        let broken = format!("UPDATE provision_{table} SET {column} = '{{'");
        conn.execute(&broken, ()).unwrap();
        let error = store.load(&[run]).await.err().unwrap();
        assert_eq!((error.kind(), error.code()), (StoreErrorKind::Damaged, "sqlite_bad_row"));
        assert!(error.to_string().contains(column), "{error} names the column");
        conn.execute(&format!("UPDATE provision_{table} SET {column} = '{{}}'"), ()).unwrap();
    }
    assert!(store.load(&[run]).await.is_ok());
}

// covers: R3-05
#[tokio::test]
async fn the_file_itself_refuses_a_status_that_does_not_exist() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.db");
    let store = SqliteStore::open(&path).await.unwrap();
    Handle::of(Arc::new(store)).started(run_head()).await;
    let conn = Connection::open(&path).unwrap();
    assert!(conn.execute("UPDATE provision_heads SET status = 'Doing'", ()).is_err());
}

#[tokio::test]
async fn damaged_limits_are_made_anew_and_the_runs_are_untouched() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.db");
    filled(&path).await;
    let limits = directory.path().join("p.db-limits");
    assert!(limits.exists());
    for bytes in [
        &b"no database at all, but longer than a header would be ........"[..],
        b"SQLite format 3\0cut",
    ] {
        std::fs::write(&limits, bytes).unwrap();
        let store = SqliteStore::open(&path).await.unwrap();
        let profile =
            Profile { bucket: "p/a".to_owned(), rate: None, concurrency: Some(1_u32.into()) };
        let ask = Ask { profile, calls: 1, worker: new_worker(), slot: true, turn: Turn::Open };
        assert_eq!(store.admit(&ask).await.unwrap(), Admission::Now { calls: 1 });
        drop(store);
        assert_eq!(use_it(&path).await.unwrap(), 300);
    }
}

// covers: S3, S15
#[tokio::test]
async fn a_row_of_the_ledger_that_cannot_be_read_holds_up_no_other_watch() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let handle = Handle::of(Arc::new(store.clone()));
    handle.started(run_head()).await;
    let hour = Duration::from_secs(3_600);
    let leased = handle.lease(&acquire_any(new_worker(), hour)).await.leased.remove(0);
    let run = leased.record.head.id;
    let mut append = append_of(&leased, 1);
    // In this order they are due.
    for (path, ms) in [("cost", 1), ("name", 2), ("sound", 3)] {
        let mut row = ledger_row(run, path, path);
        row.watch_at = Some(Timestamp::from_millis(ms));
        append.ledger.push(row);
    }
    handle.applied(append).await;
    let conn = Connection::open(&path).unwrap();
    let damage = "UPDATE provision_ledger SET cost = '{', path = CAST(x'ff' AS TEXT) \
                  WHERE path = 'cost'";
    conn.execute(damage, ()).unwrap();
    let damage = "UPDATE provision_ledger SET name = CAST(x'ff' AS TEXT) WHERE path = 'name'";
    conn.execute(damage, ()).unwrap();
    let claim = [LedgerOp::ClaimWatch { worker: new_worker(), hold: hour, limit: 1 }];
    let LedgerReply::Rows(rows) = store.ledger(&claim).await.unwrap().remove(0) else { panic!() };
    assert_eq!(rows.iter().map(|row| &*row.path).collect::<Vec<_>>(), ["sound"]);
    let waiting = "SELECT count(*) FROM provision_ledger WHERE watch_at > 1000";
    let waiting: u32 = conn.query_row(waiting, (), |row| row.get(0)).unwrap();
    assert_eq!(waiting, 3, "those that cannot be read are looked at again later");
    // A page without them could be taken for the whole.
    let query = [LedgerOp::Query(LedgerQuery::default())];
    let error = store.ledger(&query).await.err().unwrap();
    assert_eq!((error.kind(), error.code()), (StoreErrorKind::Damaged, "sqlite_bad_row"));
    let simple = run.to_string().replace('-', "");
    assert!(error.to_string().contains(&simple), "{error} names the row");
}

// covers: S3, L3
#[tokio::test]
async fn a_run_that_cannot_be_read_is_parked_and_holds_up_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let handle = Handle::of(Arc::new(store.clone()));
    let (damaged, sound) = (handle.started(run_head()).await, handle.started(run_head()).await);
    let conn = Connection::open(&path).unwrap();
    let broken = "UPDATE provision_heads SET polls = '{' WHERE run = ?1";
    conn.execute(broken, [damaged.as_uuid().as_bytes()]).unwrap();
    let claim = acquire_any(new_worker(), Duration::from_secs(60));
    let leased = handle.lease(&claim).await.leased;
    assert_eq!(leased.iter().map(|one| one.record.head.id).collect::<Vec<_>>(), [sound]);
    let read = "SELECT status, polls, dead_letter FROM provision_heads WHERE run = ?1";
    let row: (String, String, bool) = conn
        .query_row(read, [damaged.as_uuid().as_bytes()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    assert_eq!(row, ("Parked".to_owned(), "{".to_owned(), true), "nothing is guessed at");
    let (mut listed, mut filter) = (Vec::new(), RunFilter { limit: 1, ..RunFilter::default() });
    loop {
        let page = store.list(&filter).await.unwrap();
        listed.extend(page.runs.into_iter().map(|head| head.id));
        filter.after = page.next;
        if filter.after.is_none() {
            break;
        }
    }
    assert_eq!(listed, [sound], "the pages go on without it");
    assert!(store.load(&[damaged]).await.is_err(), "and who asks for it is told");
}

// covers: S3, L3
#[tokio::test]
async fn a_run_of_which_a_part_is_missing_is_parked_and_holds_up_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let handle = Handle::of(Arc::new(store.clone()));
    let (cut, sound) = (handle.started(run_head()).await, handle.started(run_head()).await);
    let conn = Connection::open(&path).unwrap();
    conn.execute("DELETE FROM provision_runs WHERE run = ?1", [cut.as_uuid().as_bytes()]).unwrap();
    // As a host does that drives runs one by one.
    let mut claim = acquire_any(new_worker(), Duration::from_secs(60));
    claim.acquire.as_mut().unwrap().limit = 1;
    let mut leased = handle.lease(&claim).await.leased;
    leased.extend(handle.lease(&claim).await.leased);
    assert_eq!(leased.iter().map(|one| one.record.head.id).collect::<Vec<_>>(), [sound]);
}
