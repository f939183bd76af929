//! The views: what another program reads from the file while it is in use.

use std::{sync::Arc, time::Duration};

use provision_core::{
    error::{Failure, StepError},
    id::Timestamp,
    run::RunStatus,
    store::{Release, StateStore as _},
};
use provision_store_sqlite::SqliteStore;
use provision_testkit::conformance::{
    Handle, acquire_any, append_of, ledger_row, new_worker, run_head,
};
use rusqlite::{Connection, OpenFlags};

#[tokio::test]
async fn a_file_in_use_can_be_read_from_outside() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let handle = Handle::of(Arc::new(store.clone()));
    let mut head = run_head();
    head.tenant = Some("acme".to_owned());
    head.context.insert("client".to_owned(), "7".to_owned());
    let run = handle.started(head).await;
    let worker = new_worker();
    let leased = handle.lease(&acquire_any(worker, Duration::from_secs(60))).await.leased.remove(0);
    let mut append = append_of(&leased, 1);
    append.frame = Some(Arc::from(r#"[{"started":"vm"},{"noted":"42"}]"#));
    append.ledger = vec![ledger_row(run, "vm", "web-1")];
    handle.applied(append).await;
    let mut park = append_of(&leased, 2);
    park.status = RunStatus::Parked;
    let error = StepError::permanent("create server").with_code("no_more_servers");
    park.summary.failure = Some(Failure::of("vm", 1, &error));
    park.release = Some(Release { due: Timestamp::NEVER, polls: Default::default(), seen: 0 });
    handle.applied(park).await;

    let conn = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let row = |sql: &str| {
        conn.query_row(sql, (), |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
        })
        .unwrap()
    };
    let letter = row("SELECT run, status, failed_code FROM dead_letters WHERE due IS NULL");
    assert_eq!(letter, (run.to_string(), "Parked".to_owned(), "no_more_servers".to_owned()));
    let listed = row("SELECT namespace, tenant, json_extract(context, '$.client') FROM runs_view");
    assert_eq!(listed, ("default".to_owned(), "acme".to_owned(), "7".to_owned()));
    let noted = row("SELECT run, record ->> 'noted', at FROM journal_view WHERE position = 1");
    assert_eq!(noted, (run.to_string(), "42".to_owned(), "1970-01-01T00:00:00.001Z".to_owned()));
    let count: i64 =
        conn.query_row("SELECT count(*) FROM journal_view", (), |row| row.get(0)).unwrap();
    assert_eq!(count, 3);
    let thing = row("SELECT run, name, cost || ' ' || currency FROM ledger_view");
    assert_eq!(thing, (run.to_string(), "web-1".to_owned(), "4.49 EUR".to_owned()));
    assert!(store.now().await.is_ok());
}
