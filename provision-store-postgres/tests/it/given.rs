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
    faulty::{Faults, Faulty},
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use uuid::Uuid;

/// Where the tests look for a server.
const URL: &str = "PROVISION_TEST_POSTGRES_URL";

/// The server's address; `None`, said aloud, where there is none.
pub(crate) fn url() -> Option<String> {
    let url = std::env::var(URL).ok();
    if url.is_none() {
        let ci = std::env::var("CI").is_ok_and(|ci| !matches!(ci.as_str(), "" | "0" | "false"));
        assert!(!ci, "{URL} is not set: these tests are not skipped in CI");
        println!("SKIPPED: {URL} is not set");
    }
    url
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

fn leave() {
    let (count, freed) = &USING;
    *count.lock().unwrap() -= 1;
    freed.notify_one();
}

/// A schema that is dropped with this value.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) url: String,
    pub(crate) name: String,
    /// Dropped with this value, and not by another process.
    own: bool,
}

impl Schema {
    /// A name that no other test has; `None` where there is no server.
    pub(crate) fn new() -> Option<Self> {
        let (url, name) = (url()?, format!("test_{}", Uuid::new_v4().simple()));
        enter();
        Some(Self { url, name, own: true })
    }

    /// The schema of another process.
    pub(crate) fn of_parent(name: String) -> Option<Self> {
        Some(Self { url: url()?, name, own: false })
    }

    /// Options for a small store in this schema, on a server that is thrown away.
    pub(crate) fn config(&self) -> PostgresConfig {
        PostgresConfig::new(&self.url)
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
        if !self.own {
            return;
        }
        let (url, name) = (self.url.clone(), self.name.clone());
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
        leave();
    }
}

/// Two stores on one schema, with a pool each, as if in two processes.
async fn fixture_of(
    configure: fn(PostgresConfig) -> PostgresConfig,
    wrap: fn(PostgresStore) -> Handle,
) -> Option<Fixture> {
    let schema = Arc::new(Schema::new()?);
    let main = configure(schema.config()).open().await.unwrap();
    let again = configure(schema.config()).open().await.unwrap();
    let elsewhere = main.in_namespace("elsewhere").await.unwrap();
    let handles = [wrap(main), wrap(again), wrap(elsewhere)];
    let clock = Arc::clone(&schema);
    let advance = Arc::new(move |by: Duration| -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let clock = Arc::clone(&clock);
        Box::pin(async move { clock.pass(by).await })
    });
    Some(Fixture::new(handles, Duration::from_secs(15), advance, schema))
}

fn plain(store: PostgresStore) -> Handle {
    Handle::of(Arc::new(store))
}

/// A few connections, notifications on.
pub(crate) async fn fixture() -> Option<Fixture> {
    fixture_of(|config| config, plain).await
}

/// One connection, polling alone.
pub(crate) async fn pool_of_one() -> Option<Fixture> {
    fixture_of(|config| config.with_connections_max(1).with_notify(false), plain).await
}

/// As behind a pooler in transaction mode: nothing outlives a transaction.
pub(crate) async fn behind_a_pooler() -> Option<Fixture> {
    fixture_of(|config| config.with_transaction_pooler(true), plain).await
}

/// Through the wrapper of faults, without a fault.
pub(crate) async fn wrapped() -> Option<Fixture> {
    let wrap = |store| Handle::of(Arc::new(Faulty::new(store, &Faults::none())));
    fixture_of(|config| config.with_notify(false), wrap).await
}
