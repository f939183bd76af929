//! A role that runs sagas and can change neither the schema nor the journal.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use provision_core::{
    Timestamp,
    retention::{Prune, RetentionStore as _},
    run::RunStatus,
    store::{Guard, GuardUntil, NewRun, Release, StateStore as _, Submission, Submitted},
};
use provision_store_postgres::{PostgresConfig, PostgresStore};
use provision_testkit::conformance::{
    Handle, acquire_any, append_of, ledger_row, new_worker, run_head,
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::given::Schema;

async fn run(conn: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    conn.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.map(drop)
}

async fn works(store: PostgresStore) {
    let handle = Handle::of(Arc::new(store.clone()));
    let (worker, other) = (new_worker(), new_worker());
    handle.started(run_head()).await;
    let lease = acquire_any(worker, Duration::from_secs(60));
    let leased = handle.lease(&lease).await.leased.remove(0);
    let mut intent = append_of(&leased, 1);
    intent.ledger = vec![ledger_row(intent.run, "vm", "web-1")];
    handle.applied(intent).await;
    handle.request(leased.record.head.id, "1").await;
    let mut taken = acquire_any(other, Duration::from_secs(60));
    taken.dead = vec![worker];
    let again = handle.lease(&taken).await.leased.remove(0);
    assert_eq!((again.record.frames.len(), again.record.requests.len()), (1, 1));
    let mut append = append_of(&again, 2);
    append.consumed = 1;
    handle.applied(append).await;
    assert!(store.now().await.is_ok());
}

/// Makes a role with the rights that a store needs; the address under which it logs in.
async fn made(schema: &Schema, owner: &mut PgConnection, role: &str) -> String {
    run(owner, format!("CREATE ROLE {role} LOGIN PASSWORD 's3cret'")).await.unwrap();
    let rights = PostgresStore::rights_script(&schema.name, role, false).unwrap();
    run(owner, rights).await.unwrap();
    let at = schema.url.rsplit_once('@').unwrap().1;
    format!("postgres://{role}:s3cret@{at}")
}

/// Removes a run that is over by the one call that may, and neither one that is not nor one that has
/// something left.
async fn removes(store: &PostgresStore) {
    let handle = Handle::of(Arc::new(store.clone()));
    let lease = acquire_any(new_worker(), Duration::from_secs(60));
    let mut runs = Vec::new();
    for (alive, status) in
        [(false, RunStatus::TornDown), (true, RunStatus::TornDown), (false, RunStatus::Parked)]
    {
        runs.push(handle.started(run_head()).await);
        let leased = handle.lease(&lease).await.leased.remove(0);
        let release = Release { due: Timestamp::NEVER, polls: BTreeMap::new(), seen: 0 };
        let mut end = append_of(&leased, 1);
        (end.status, end.release) = (status, Some(release));
        end.ledger.extend(alive.then(|| ledger_row(end.run, "vm", "web-2")));
        handle.applied(end).await;
    }
    let later = store.now().await.unwrap().plus(Duration::from_secs(60));
    let pruned = store.prune(&Prune::before(later)).await.unwrap();
    assert_eq!(pruned.runs, runs[..1]);
    for run in &runs[1..] {
        assert_eq!(handle.record(*run).await.frames.len(), 1);
    }
    // To forget is a right of its own.
    assert_eq!(store.forget(later, 10).await.unwrap_err().code(), "postgres_no_permission");
}

// covers: R5-07, X12
#[tokio::test]
async fn a_role_without_rights_to_schema_and_journal_runs_everything() {
    let Some(schema) = Schema::new() else { return };
    drop(schema.open().await);
    let mut owner = schema.connect().await;
    let role = format!("run_{}", schema.name);
    let url = made(&schema, &mut owner, &role).await;
    let config = PostgresConfig::new(&url).with_schema(&schema.name).with_migrate(false);
    let store = config.with_unsafe_settings(true).with_connections_max(2).open().await.unwrap();
    let retention = PostgresStore::retention_rights_script(&schema.name, &role, false).unwrap();
    run(&mut owner, retention).await.unwrap();
    works(store.in_namespace("another").await.unwrap()).await;
    removes(&store).await;
    works(store).await;
    let mut conn = PgConnection::connect(&url).await.unwrap();
    let frames = format!("{}.frames", schema.name);
    for forbidden in [
        format!("UPDATE {}.runs SET input = '{{}}'", schema.name),
        format!("DELETE FROM {}.heads", schema.name),
        format!("DELETE FROM {}.runs", schema.name),
        format!("DELETE FROM {}.ledger", schema.name),
        format!("UPDATE {}.runs SET ended_at = 1", schema.name),
        format!("DELETE FROM {}.sightings", schema.name),
        format!("SELECT {}.forget(1, 1, 1)", schema.name),
        format!("SELECT {}.prune_entomb(1, gen_random_uuid())", schema.name),
        format!("UPDATE {frames} SET body = '[]'"),
        format!("DELETE FROM {frames}"),
        format!("TRUNCATE {frames}"),
        format!("ALTER TABLE {frames} ADD COLUMN x integer"),
        format!("CREATE TABLE {}.x (x integer)", schema.name),
        format!("DROP SCHEMA {} CASCADE", schema.name),
    ] {
        let error = run(&mut conn, forbidden.clone()).await.expect_err(&forbidden);
        let code = error.as_database_error().unwrap().code();
        assert_eq!(code.as_deref(), Some("42501"), "{forbidden}");
    }
    conn.close().await.unwrap();
    run(&mut owner, format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
}

// covers: X12, R3-14
#[tokio::test]
async fn who_may_start_runs_starts_them_and_does_nothing_else() {
    let Some(schema) = Schema::new() else { return };
    let store = schema.open().await;
    let mut owner = schema.connect().await;
    let role = format!("starts_{}", schema.name);
    // It could do everything once.
    let url = made(&schema, &mut owner, &role).await;
    let rights = PostgresStore::start_rights_script(&schema.name, &role).unwrap();
    run(&mut owner, rights).await.unwrap();
    let mut conn = PgConnection::connect(&url).await.unwrap();
    let mut head = run_head();
    head.key = Some("order:1".to_owned());
    head.guard = Some(Guard { key: "client:1".to_owned(), until: GuardUntil::Gone });
    let start = |lease_to| Submission::Run(Box::new(NewRun { head: head.clone(), lease_to }));
    let mut tx = conn.begin().await.unwrap();
    let told = store.start_in(&mut tx, &[start(None), start(None)]).await.unwrap();
    assert!(matches!(told[..], [Submitted::Created(_), Submitted::Known(_)]), "{told:?}");
    tx.commit().await.unwrap();
    let mut tx = conn.begin().await.unwrap();
    let lease = start(Some((new_worker(), Duration::from_secs(60)).into()));
    let _ = store.start_in(&mut tx, &[lease]).await.expect_err("it leases nothing");
    tx.rollback().await.unwrap();
    let handle = Handle::of(Arc::new(store.clone()));
    assert_eq!(handle.record(head.id).await.head.key.as_deref(), Some("order:1"));
    for forbidden in [
        format!("SELECT body FROM {}.frames", schema.name),
        format!("SELECT * FROM {}.secrets", schema.name),
        format!("SELECT * FROM {}.requests", schema.name),
        format!("UPDATE {}.heads SET due = 0", schema.name),
        format!("DELETE FROM {}.heads", schema.name),
        format!("UPDATE {}.runs SET input = '{{}}'", schema.name),
        format!("INSERT INTO {}.frames DEFAULT VALUES", schema.name),
        // Whose worker is told dead loses its runs in the middle of their calls.
        format!("UPDATE {}.incarnations SET dead_at = 1", schema.name),
        format!("UPDATE {}.incarnations SET expires = 0", schema.name),
    ] {
        let error = run(&mut conn, forbidden.clone()).await.expect_err(&forbidden);
        let code = error.as_database_error().unwrap().code();
        assert_eq!(code.as_deref(), Some("42501"), "{forbidden}");
    }
    conn.close().await.unwrap();
    run(&mut owner, format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
}

// covers: X12
#[tokio::test]
async fn who_was_not_granted_the_call_removes_nothing() {
    let Some(schema) = Schema::new() else { return };
    drop(schema.open().await);
    let mut owner = schema.connect().await;
    let role = format!("looks_{}", schema.name);
    let url = made(&schema, &mut owner, &role).await;
    let config = PostgresConfig::new(&url).with_schema(&schema.name).with_migrate(false);
    let store = config.with_unsafe_settings(true).with_notify(false).open().await.unwrap();
    let now = store.now().await.unwrap();
    let refused = [
        store.prune(&Prune::before(now)).await.unwrap_err(),
        store.forget(now, 10).await.unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.code(), "postgres_no_permission");
    }
    let grant = |forget| PostgresStore::retention_rights_script(&schema.name, &role, forget);
    run(&mut owner, grant(true).unwrap()).await.unwrap();
    assert!(store.prune(&Prune::before(now)).await.is_ok());
    assert_eq!(store.forget(now, 10).await.unwrap(), 0);
    // And is taken back.
    run(&mut owner, grant(false).unwrap()).await.unwrap();
    assert!(store.prune(&Prune::before(now)).await.is_ok());
    assert_eq!(store.forget(now, 10).await.unwrap_err().code(), "postgres_no_permission");
    drop(store);
    run(&mut owner, format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
}

// Each of them is needed, and its lack is told before anything is written.
#[tokio::test]
async fn a_right_that_is_missing_is_named_when_the_store_is_opened() {
    let Some(schema) = Schema::new() else { return };
    drop(schema.open().await);
    let mut owner = schema.connect().await;
    let role = format!("lacks_{}", schema.name);
    let url = made(&schema, &mut owner, &role).await;
    let open = || {
        let config = PostgresConfig::new(&url).with_schema(&schema.name).with_migrate(false);
        config.with_unsafe_settings(true).with_notify(false).with_namespace("its own").open()
    };
    for (right, table) in [("UPDATE", "heads"), ("INSERT", "ledger"), ("SELECT", "run_rows")] {
        let place = format!("{right} ON {}.{table}", schema.name);
        run(&mut owner, format!("REVOKE {place} FROM {role}")).await.unwrap();
        let error = open().await.err().unwrap();
        assert_eq!(error.code(), "postgres_no_permission");
        let said = error.context().unwrap_or_default();
        assert!(said.ends_with(&format!("lacks {right} on {table}")), "{said}");
        run(&mut owner, format!("GRANT {place} TO {role}")).await.unwrap();
    }
    let own = "SELECT count(*) FROM provision.namespaces WHERE name = 'its own'";
    assert_eq!(schema.number(own).await, 0, "nothing was written");
    open().await.unwrap();
    run(&mut owner, format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
}
