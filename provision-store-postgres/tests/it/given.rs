//! A schema of its own for each test, on the server of the environment.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use provision_store_postgres::{PostgresConfig, PostgresStore};
use provision_testkit::{
    conformance::{Fixture, Handle},
    faulty::Faulty,
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use uuid::Uuid;

/// Where the tests look for a server.
pub(crate) const URL: &str = "PROVISION_TEST_POSTGRES_URL";

/// The server's address; `None`, said aloud, where there is none.
pub(crate) fn url() -> Option<String> {
    let url = std::env::var(URL).ok();
    if url.is_none() {
        provision_testkit::skips::refused_in_ci(&format!("{URL} is not set"));
        println!("SKIPPED: {URL} is not set");
    }
    url
}

/// Waits until runs that were started are told of, and the store has nothing left to say.
pub(crate) async fn told(store: &PostgresStore) {
    let mut before = store.counters();
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = store.counters();
        if now == before && now.notifications > 0 {
            return;
        }
        before = now;
    }
    panic!("nothing was told within a minute: {before:?}");
}

/// Tests that use the server at the same time, at most: it has a hundred connections, and a test
/// takes up to ten of them, however many cores run tests.
const AT_ONCE: usize = 8;

/// How many do.
static USING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// Waits until the server has room for one more test.
fn enter() {
    let (count, freed) = &USING;
    let mut using = count.lock().unwrap();
    while *using >= AT_ONCE {
        using = freed.wait(using).unwrap();
    }
    *using += 1;
}

/// Whether it was the last one.
fn leave() -> bool {
    let (count, freed) = &USING;
    let mut using = count.lock().unwrap();
    *using -= 1;
    freed.notify_one();
    *using == 0
}

/// Schemas that wait for the next test that makes do with namespaces of its own: to make one, and
/// to drop it, costs more than such a test.
static RESTING: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// What becomes of a schema in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Dropped,
    /// The next test has it, alone; the last one drops it.
    Passed,
    /// Another process drops it.
    Left,
}

/// A schema that one test uses at a time.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) url: String,
    pub(crate) name: String,
    end: End,
}

impl Schema {
    /// A name that no other test has; `None` where there is no server.
    pub(crate) fn new() -> Option<Self> {
        let (url, name) = (url()?, format!("test_{}", Uuid::new_v4().simple()));
        enter();
        Some(Self { url, name, end: End::Dropped })
    }

    /// A schema that other tests have used before: what is in it has other namespaces, and its
    /// clock may be ahead. `None` where there is no server.
    pub(crate) fn passed_on() -> Option<Self> {
        let mut schema = Self::new()?;
        if let Some(rested) = RESTING.lock().unwrap().pop() {
            schema.name = rested;
        }
        schema.end = End::Passed;
        Some(schema)
    }

    /// The schema of another process.
    pub(crate) fn of_parent(name: String) -> Option<Self> {
        Some(Self { url: url()?, name, end: End::Left })
    }

    /// Options for a small store in this schema, on a server that is thrown away.
    pub(crate) fn config(&self) -> PostgresConfig {
        self.config_at(&self.url)
    }

    /// The same, on the way to the server that this address names.
    fn config_at(&self, url: &str) -> PostgresConfig {
        PostgresConfig::new(url)
            .with_schema(&self.name)
            .with_connections_max(4)
            .with_unsafe_settings(true)
            .with_poll_interval(Duration::from_millis(50))
    }

    pub(crate) async fn open(&self) -> PostgresStore {
        self.config().open().await.unwrap()
    }

    pub(crate) async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    /// Runs statements in which `provision.` stands for this schema.
    pub(crate) async fn execute(&self, sql: &str) {
        let sql = sql.replace("provision.", &format!("{}.", self.name));
        let mut conn = self.connect().await;
        conn.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
        conn.close().await.unwrap();
    }

    /// One number from a statement in which `provision.` stands for this schema.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let sql = sql.replace("provision.", &format!("{}.", self.name));
        let mut conn = self.connect().await;
        let found = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut conn).await.unwrap();
        conn.close().await.unwrap();
        found
    }

    /// Moves the store's clock on.
    pub(crate) async fn pass(&self, by: Duration) {
        let ms = by.as_millis();
        self.execute(&format!("UPDATE provision.clock SET shift_ms = shift_ms + {ms}")).await;
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        match self.end {
            End::Left => {}
            End::Dropped => {
                drop_schema(self.url.clone(), self.name.clone());
                drop_resting(&self.url);
            }
            End::Passed => {
                RESTING.lock().unwrap().push(self.name.clone());
                drop_resting(&self.url);
            }
        }
    }
}

/// After the last test that uses the server nobody waits for the schemas that rest.
fn drop_resting(url: &str) {
    if leave() {
        let resting = std::mem::take(&mut *RESTING.lock().unwrap());
        for name in resting {
            drop_schema(url.to_owned(), name);
        }
    }
}

fn drop_schema(url: String, name: String) {
    // A thread of its own: the test's runtime may be the one that runs this.
    let dropped = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let Ok(mut conn) = PgConnection::connect(&url).await else { return };
            let sql = format!(
                "SET lock_timeout = '2s'; SET client_min_messages = warning; \
                 DROP SCHEMA IF EXISTS {name} CASCADE"
            );
            // What stays behind on a server of one's own is a schema named `test_`.
            drop(conn.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await);
        });
    });
    drop(dropped.join());
}

/// Two stores on two namespaces of a schema, with a pool each, as if in two processes.
async fn fixture_of(configure: fn(PostgresConfig) -> PostgresConfig) -> Option<Fixture> {
    let url = url()?;
    fixture_at(&url, configure, |store| Handle::of(Arc::new(store))).await
}

/// The same, on the way to the server that `url` names, seen through `handle`.
async fn fixture_at(
    url: &str,
    configure: fn(PostgresConfig) -> PostgresConfig,
    handle: fn(PostgresStore) -> Handle,
) -> Option<Fixture> {
    Some(fixture_in(Schema::passed_on()?, url, configure, handle).await)
}

async fn fixture_in(
    schema: Schema,
    url: &str,
    configure: fn(PostgresConfig) -> PostgresConfig,
    handle: fn(PostgresStore) -> Handle,
) -> Fixture {
    let schema = Arc::new(schema);
    let namespace = || Uuid::new_v4().simple().to_string();
    let own = namespace();
    let config = || configure(schema.config_at(url)).with_namespace(&own);
    let (main, again) = (config().open().await.unwrap(), config().open().await.unwrap());
    let elsewhere = main.in_namespace(namespace()).await.unwrap();
    let handles = [main, again, elsewhere].map(handle);
    let clock = Arc::clone(&schema);
    let advance = Arc::new(move |by: Duration| -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let clock = Arc::clone(&clock);
        Box::pin(async move { clock.pass(by).await })
    });
    Fixture::new(handles, Duration::from_secs(15), advance, schema)
}

/// A few connections, notifications on.
pub(crate) async fn fixture() -> Option<Fixture> {
    fixture_of(|config| config).await
}

/// Through the wrapper for faults, with none planned.
pub(crate) async fn wrapped() -> Option<Fixture> {
    let url = url()?;
    fixture_at(&url, |config| config, |store| Handle::of(Arc::new(Faulty::transparent(store))))
        .await
}

/// A role that may log in nowhere, and that the tests become.
const ROLE: &str = "provision_test_runs";

/// As a role with the rights that the store documents, under forced row-level security.
pub(crate) async fn least_privilege() -> Option<Fixture> {
    let schema = Schema::passed_on()?;
    drop(schema.open().await);
    let make = format!(
        "DO $$ BEGIN CREATE ROLE {ROLE} NOLOGIN; \
         EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    );
    schema.execute(&make).await;
    schema.execute(&PostgresStore::rights_script(&schema.name, ROLE, true).unwrap()).await;
    let retention = PostgresStore::retention_rights_script(&schema.name, ROLE, true).unwrap();
    schema.execute(&retention).await;
    let mark = if schema.url.contains('?') { '&' } else { '?' };
    let url = format!("{}{mark}options=-c%20role%3D{ROLE}", schema.url);
    let configure = |config: PostgresConfig| config.with_migrate(false);
    Some(fixture_in(schema, &url, configure, |store| Handle::of(Arc::new(store))).await)
}

/// One connection, polling alone.
pub(crate) async fn pool_of_one() -> Option<Fixture> {
    fixture_of(|config| config.with_connections_max(1).with_notify(false)).await
}

/// Where the tests look for a `PgBouncer` in transaction mode before that server.
const PGBOUNCER_URL: &str = "PROVISION_TEST_PGBOUNCER_URL";

/// The pooler's address; `None`, said aloud, where there is none.
pub(crate) fn pgbouncer_url() -> Option<String> {
    let url = std::env::var(PGBOUNCER_URL).ok();
    if url.is_none() {
        provision_testkit::skips::refused_in_ci(&format!("{PGBOUNCER_URL} is not set"));
        println!("SKIPPED: {PGBOUNCER_URL} is not set");
    }
    url
}

/// Through a real pooler in transaction mode: nothing outlives a transaction.
pub(crate) async fn through_pgbouncer() -> Option<Fixture> {
    let url = pgbouncer_url()?;
    let configure = |config: PostgresConfig| config.with_transaction_pooler(true);
    fixture_at(&url, configure, |store| Handle::of(Arc::new(store))).await
}
