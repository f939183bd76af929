//! The crash matrix on a real server: engine and store are dropped at every point and opened anew.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use provision_store_postgres::{PostgresConfig, PostgresStore};
use provision_testkit::{
    harness::{Harness, Place, TenSteps},
    skips::is_long,
};
use sqlx::{AssertSqlSafe, PgPool, postgres::PgPoolOptions};

use crate::given::Schema;

/// Crashes are played in so many parts, two of them side by side; the embedded stores, where a
/// scenario costs no way to a server, play all of them each time.
const PARTS: usize = 4;

/// A namespace of a schema: fresh for each scenario, and opened anew after each crash.
#[derive(Debug)]
pub(crate) struct OnServer {
    /// Outlives the crashes, as a pooler would: a connection costs more than a scenario.
    pool: PgPool,
    schema: Arc<Schema>,
    namespace: String,
}

impl OnServer {
    pub(crate) fn new(pool: &PgPool, schema: &Arc<Schema>, namespace: &str) -> Self {
        let (pool, schema) = (pool.clone(), Arc::clone(schema));
        Self { pool, schema, namespace: namespace.to_owned() }
    }
}

/// A pool as a host would bring it; belongs to the runtime it is made in.
pub(crate) fn pool(schema: &Schema) -> PgPool {
    let options = PgPoolOptions::new().max_connections(3).test_before_acquire(false);
    options.connect_lazy(&schema.url).unwrap()
}

impl Place for OnServer {
    type Store = PostgresStore;

    async fn open(&self) -> PostgresStore {
        let config = PostgresConfig::with_pool(self.pool.clone())
            .with_schema(&self.schema.name)
            .with_namespace(&self.namespace)
            .with_unsafe_settings(true)
            .with_notify(false)
            .with_poll_interval(Duration::from_millis(20));
        config.open().await.unwrap()
    }

    async fn pass(&self, by: Duration) {
        let sql = format!(
            "UPDATE {}.clock SET shift_ms = shift_ms + {}",
            self.schema.name,
            by.as_millis()
        );
        sqlx::query(AssertSqlSafe(sql)).execute(&self.pool).await.unwrap();
    }
}

/// Plays every fourth crash; in the long lane every second one.
async fn half(number: usize) -> Option<()> {
    let schema = Arc::new(Schema::new()?);
    let (pool, places) = (pool(&schema), AtomicU64::new(0));
    let place = || {
        let namespace = format!("scenario-{}", places.fetch_add(1, Relaxed));
        std::future::ready(OnServer::new(&pool, &schema, &namespace))
    };
    let parts = if is_long() { PARTS / 2 } else { PARTS };
    let report = Harness::new(TenSteps::default(), place).part(number, parts).run().await;
    println!("crash matrix on PostgreSQL, part {number} of {parts}: {report}");
    report.assert_flawless();
    let least = if is_long() { 380 } else { 200 };
    assert!(report.scenarios >= least, "only {} scenarios", report.scenarios);
    Some(())
}

// covers: S1, S4, S5, S7, S8, S9, S12, S13, S14, S15, L1
#[tokio::test]
async fn ten_steps_survive_even_crashes() {
    half(0).await;
}

// covers: S1, S4, S5, S7, S8, S9, S12, S13, S14, S15, L1
#[tokio::test]
async fn ten_steps_survive_odd_crashes() {
    half(1).await;
}
