//! Growth: W1 and claims on PostgreSQL beside a million runs that are over, and without them.

use provision_store_postgres::{PostgresConfig, PostgresStore};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::{
    jobs,
    measure::Goal,
    servers::{POSTGRES, server},
    workloads::{beside, engine, w1},
};

const FINISHED: u32 = 1_000_000;
const IN_FLIGHT: usize = 32;
/// Jobs in the queue when claims are measured.
const JOBS: usize = 10_000;

/// Copies of a run that is over.
fn finished(schema: &str) -> [String; 4] {
    [
        format!(
            "INSERT INTO {schema}.runs (ns, run, tenant, key, input, input_hash, context, created_at)
            SELECT r.ns, md5(i::text)::uuid, r.tenant, NULL, r.input, r.input_hash, r.context, r.created_at
            FROM (SELECT * FROM {schema}.runs LIMIT 1) AS r, generate_series(1, {FINISHED}) AS i"
        ),
        format!(
            "INSERT INTO {schema}.heads (ns, lane, run, priority, tenant_lane, owner, epoch, nonce,
                requests, consumed, due, place, poked, dead_letter, polls, seq, updated_at, deaths,
                open, status, summary)
            SELECT h.ns, h.lane, md5(i::text)::uuid, h.priority, h.tenant_lane, NULL, h.epoch, 0,
                h.requests, h.consumed, h.due, 0, false, false, h.polls, h.seq, h.updated_at, 0,
                false, h.status, h.summary
            FROM (SELECT * FROM {schema}.heads WHERE status = 'Succeeded' LIMIT 1) AS h,
                generate_series(1, {FINISHED}) AS i"
        ),
        format!(
            "INSERT INTO {schema}.frames (ns, run, seq, epoch, at, body)
            SELECT f.ns, md5(i::text)::uuid, f.seq, f.epoch, f.at, f.body
            FROM (SELECT * FROM {schema}.frames LIMIT 1) AS f, generate_series(1, {FINISHED}) AS i"
        ),
        "VACUUM ANALYZE".to_owned(),
    ]
}

struct Rates {
    steps: f64,
    claims: f64,
}

async fn measure(name: &str, store: &PostgresStore, runs: usize) -> Rates {
    let engine = engine(store.clone()).await;
    let steps = w1(name, &engine, runs, IN_FLIGHT).await.per_second();
    let claims = jobs::worked_off(store.clone(), JOBS).await;
    println!("| {name}: {claims:.0} jobs of one step worked off per second | 32 | | | | | |");
    Rates { steps, claims }
}

pub(crate) async fn on_postgres(runs: usize) {
    let Some(url) = server(POSTGRES, "postgres") else { return };
    let open = async |name: &str| {
        let schema = format!("growth_{name}_{}", std::process::id());
        let store = PostgresConfig::new(&url).with_schema(&schema).open().await.expect("a store");
        (schema, store)
    };
    let (schema, full) = open("full").await;
    let (_, empty) = open("empty").await;
    let before = measure("postgres, no run is over", &empty, runs).await;
    // One run to copy, and all of the connections warm.
    let _ = measure("postgres, warming up", &full, runs / 10).await;
    let mut conn = PgConnection::connect(&url).await.expect("a connection");
    for statement in finished(&schema) {
        conn.execute(AssertSqlSafe(statement)).await.expect("a million runs");
    }
    let full = measure("postgres, a million runs are over", &full, runs).await;
    let after = measure("postgres, few runs are over", &empty, runs).await;
    let steps = beside(full.steps, before.steps, after.steps);
    let claims = beside(full.claims, before.claims, after.claims);
    println!(
        "| postgres, a million runs that are over / none: W1 {steps:.2} x, claims {claims:.2} x | {IN_FLIGHT} | | | | | |",
    );
    Goal::AtLeast(0.95).judge("postgres W1 beside a million runs that are over", steps);
    Goal::AtLeast(0.95).judge("postgres claims beside a million runs that are over", claims);
}
