//! Opening a store: servers, roles and schemas that will not do, each with its own error and hint,
//! before anything is written.

use std::{sync::Arc, time::Duration};

use provision_core::{StoreError, error::StoreErrorKind, store::StateStore as _};
use provision_store_postgres::{PostgresConfig, PostgresStore};
use provision_testkit::conformance::Handle;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::given::Schema;

fn refused(opened: Result<PostgresStore, StoreError>, kind: StoreErrorKind, code: &str) {
    let error = opened.expect_err(code);
    assert_eq!((error.kind(), error.code()), (kind, code), "{error}");
    assert!(error.hint().is_some(), "{error} has no hint");
    assert!(!format!("{error} {error:?}").contains("s3cret"), "the password is in the error");
}

async fn tables(schema: &Schema) -> i64 {
    let count = format!("SELECT count(*) FROM pg_tables WHERE schemaname = '{}'", schema.name);
    schema.number(&count).await
}

/// The server's address with another user, password, host or database.
fn changed(url: &str, user: Option<(&str, &str)>, place: Option<&str>) -> String {
    let rest = url.split_once("://").unwrap().1;
    let (login, at) = rest.rsplit_once('@').unwrap();
    let login = user.map_or(login.to_owned(), |(user, password)| format!("{user}:{password}"));
    format!("postgres://{login}@{}", place.unwrap_or(at))
}

#[tokio::test]
async fn addresses_that_lead_nowhere_say_so() {
    use StoreErrorKind::{Unavailable, Unsuitable};
    let opened = PostgresStore::open("not an address, s3cret").await;
    refused(opened, Unsuitable, "postgres_wrong_url");
    let opened = PostgresStore::open("postgres://me:s3cret@127.0.0.1:1/x").await;
    refused(opened, Unavailable, "postgres_unreachable");
    let Some(schema) = Schema::new() else { return };
    let wrong = changed(&schema.url, Some(("postgres", "s3cret")), None);
    refused(PostgresStore::open(wrong).await, Unsuitable, "postgres_wrong_password");
    let at = schema.url.rsplit_once('@').unwrap().1.split_once('/').unwrap().0;
    let missing = changed(&schema.url, None, Some(&format!("{at}/no_such_database")));
    refused(PostgresStore::open(missing).await, Unsuitable, "postgres_no_database");
    let odd = schema.config().with_schema("No Schema").open().await;
    refused(odd, Unsuitable, "postgres_wrong_schema_name");
}

#[tokio::test]
async fn settings_that_lose_writes_are_refused_before_anything_is_written() {
    let Some(schema) = Schema::new() else { return };
    let url = format!("{}?options=-c%20synchronous_commit%3Doff", schema.url);
    let config = PostgresConfig::new(&url).with_schema(&schema.name);
    refused(config.open().await, StoreErrorKind::Unsuitable, "postgres_unsafe_settings");
    assert_eq!(tables(&schema).await, 0);
    let config = PostgresConfig::new(&url).with_schema(&schema.name).with_unsafe_settings(true);
    config.open().await.unwrap();
}

#[tokio::test]
async fn sessions_that_will_not_do_are_refused_before_anything_is_written() {
    let Some(schema) = Schema::new() else { return };
    let cases = [
        ("default_transaction_isolation%3Dserializable", "postgres_isolation"),
        ("default_transaction_read_only%3Don", "postgres_read_only"),
    ];
    for (setting, code) in cases {
        let config = PostgresConfig::new(format!("{}?options=-c%20{setting}", schema.url));
        let config = config.with_schema(&schema.name).with_unsafe_settings(true);
        refused(config.open().await, StoreErrorKind::Unsuitable, code);
    }
    assert_eq!(tables(&schema).await, 0);
}

// covers: R3-36
#[tokio::test]
async fn a_schema_of_another_version_is_refused() {
    let Some(schema) = Schema::new() else { return };
    drop(schema.open().await);
    schema.execute("INSERT INTO provision.migrations VALUES (99, 'later', 'x')").await;
    refused(schema.config().open().await, StoreErrorKind::Damaged, "schema_newer");
    schema.execute("DELETE FROM provision.migrations WHERE version = 99").await;
    drop(schema.open().await);
    schema.execute("UPDATE provision.migrations SET checksum = 'x' WHERE version = 1").await;
    refused(schema.config().open().await, StoreErrorKind::Damaged, "schema_changed");
}

// covers: R3-36
#[tokio::test]
async fn a_migration_that_fails_leaves_nothing_of_itself_and_is_tried_again() {
    let Some(schema) = Schema::new() else { return };
    // In the way of the first one, in the middle of it.
    schema
        .execute(&format!("CREATE SCHEMA {}; CREATE TABLE provision.heads ()", schema.name))
        .await;
    refused(schema.config().open().await, StoreErrorKind::Unsuitable, "postgres_unexpected");
    let applied = "SELECT count(*) FROM provision.migrations";
    assert_eq!(tables(&schema).await, 1, "neither the tables before it nor those after it");
    schema.execute("DROP TABLE provision.heads").await;
    let store = schema.open().await;
    let run = provision_testkit::conformance::run_head();
    Handle::of(Arc::new(store)).started(run.clone()).await;
    // In the way of the second one, with a run in the tables.
    schema.execute("DELETE FROM provision.migrations WHERE version = 2").await;
    refused(schema.config().open().await, StoreErrorKind::Unsuitable, "postgres_unexpected");
    assert_eq!(schema.number(applied).await, 3);
    schema.execute("DROP INDEX provision.heads_lane").await;
    let store = schema.open().await;
    assert_eq!(schema.number(applied).await, 4);
    assert!(store.load(&[run.id]).await.unwrap()[0].is_some(), "nothing is lost");
}

// covers: R3-36
#[tokio::test]
async fn without_migrations_a_missing_schema_is_refused_and_nothing_is_made() {
    let Some(schema) = Schema::new() else { return };
    let opened = schema.config().with_migrate(false).open().await;
    refused(opened, StoreErrorKind::Unsuitable, "schema_older");
    assert_eq!(tables(&schema).await, 0);
}

// covers: R3-11, R3-36
#[tokio::test]
async fn the_script_for_hands_makes_the_schema_that_the_store_expects() {
    let Some(schema) = Schema::new() else { return };
    let script = PostgresStore::migration_script(&schema.name).unwrap();
    let mut conn = schema.connect().await;
    conn.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(script))).await.unwrap();
    let store = schema.config().with_migrate(false).open().await.unwrap();
    assert!(store.now().await.is_ok());
    assert!(schema.config().open().await.is_ok(), "nothing is left to migrate");
    let extensions = "SELECT count(*) FROM pg_extension WHERE extname <> 'plpgsql'";
    assert_eq!(schema.number(extensions).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_stores_that_open_a_new_schema_at_once_make_one_schema() {
    let Some(schema) = Schema::new() else { return };
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let config = schema.config().with_connections_max(1).with_notify(false);
        tasks.spawn(async move { config.open().await.map(drop) });
    }
    for opened in tasks.join_all().await {
        opened.unwrap();
    }
    assert_eq!(schema.number("SELECT count(*) FROM provision.migrations").await, 4);
}

/// A role with a password of its own, dropped with this value's end.
async fn role(schema: &Schema, conn: &mut PgConnection) -> (String, String) {
    let name = format!("role_{}", schema.name);
    let sql = format!("CREATE ROLE {name} LOGIN PASSWORD 's3cret'");
    conn.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.unwrap();
    let url = changed(&schema.url, Some((&name, "s3cret")), None);
    (name, url)
}

async fn drop_role(conn: &mut PgConnection, name: &str) {
    let sql = format!("DROP OWNED BY {name}; DROP ROLE {name}");
    conn.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.unwrap();
}

#[tokio::test]
async fn a_role_without_rights_is_told_what_is_missing() {
    let Some(schema) = Schema::new() else { return };
    let mut conn = schema.connect().await;
    let (name, url) = role(&schema, &mut conn).await;
    let config = || {
        let config = PostgresConfig::new(&url).with_schema(&schema.name);
        config.with_unsafe_settings(true).with_connect_timeout(Duration::from_secs(5))
    };
    let no_permission = |opened| {
        refused(opened, StoreErrorKind::Unsuitable, "postgres_no_permission");
    };
    no_permission(config().open().await);
    assert_eq!(tables(&schema).await, 0);
    drop(schema.open().await);
    no_permission(config().open().await);
    no_permission(config().with_migrate(false).open().await);
    let grant = format!("GRANT USAGE ON SCHEMA {} TO {name}", schema.name);
    conn.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(grant))).await.unwrap();
    no_permission(config().with_migrate(false).open().await);
    drop_role(&mut conn, &name).await;
    conn.close().await.unwrap();
}

// covers: S18
#[tokio::test]
async fn a_password_that_is_changed_under_way_is_trouble_that_passes() {
    let Some(schema) = Schema::new() else { return };
    let mut conn = schema.connect().await;
    let (name, url) = role(&schema, &mut conn).await;
    let own = format!("ALTER ROLE {name} SUPERUSER");
    conn.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(own))).await.unwrap();
    let config = PostgresConfig::new(&url).with_schema(&schema.name).with_unsafe_settings(true);
    let config = config.with_notify(false).with_connect_timeout(Duration::from_secs(5));
    let store = config.open().await.unwrap();
    assert!(store.now().await.is_ok());
    let change = format!(
        "ALTER ROLE {name} PASSWORD 'another'; \
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{name}'"
    );
    conn.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(change))).await.unwrap();
    // The server ends connections in its own time.
    let begun = std::time::Instant::now();
    let error = loop {
        tokio::time::sleep(Duration::from_millis(400)).await;
        match store.now().await {
            Err(error) => break error,
            Ok(_) => assert!(begun.elapsed() < Duration::from_secs(30), "it goes on"),
        }
    };
    assert!(error.is_transient(), "{error}");
    let back = format!("ALTER ROLE {name} PASSWORD 's3cret'");
    conn.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(back))).await.unwrap();
    assert!(store.now().await.is_ok());
    drop(store);
    drop(schema);
    drop_role(&mut conn, &name).await;
}
