//! W1 and W4 on stores that are servers, beside the raw limits of the same servers.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use provision_store_postgres::PostgresConfig;
use provision_store_redis::RedisConfig;
use redis::Script;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::workloads::{engine, w1, w4};

/// How long a raw limit is taken.
const RAW_SECONDS: u64 = 3;

/// A step record as one statement, as `pgbench` sends it.
const RAW_STEP: &str = "\\set run random(1, 1000)
with step as (
    insert into raw_steps (run, body)
    values (:run, '[{\"succeeded\":{\"path\":\"s1\",\"dir\":\"forward\"}}]') returning run
)
update raw_runs set seq = seq + 1, status = 'Running' from step where raw_runs.id = step.run;
";
const RAW_TABLES: &str = "drop table if exists raw_steps, raw_runs;
create table raw_runs (id integer primary key, seq bigint, status text) with (fillfactor = 60);
create table raw_steps (id bigint generated always as identity primary key, run integer, body text);
insert into raw_runs select n, 0, 'Running' from generate_series(1, 1000) as n;";

/// As much as an append writes, under a token that is compared.
const RAW_SCRIPT: &str = "
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
redis.call('RPUSH', KEYS[2], ARGV[2])
redis.call('HINCRBY', KEYS[1], 'seq', 1)
redis.call('ZADD', KEYS[3], ARGV[3], KEYS[1])
return 1";

fn server(variable: &str, name: &str) -> Option<String> {
    let url = std::env::var(variable).ok();
    if url.is_none() {
        println!("| {name}: SKIPPED, {variable} is not set | | | | | | |");
    }
    url
}

/// Sizes of a workload: in flight, and runs.
fn sizes(runs: usize) -> [(usize, usize); 3] {
    [(1, runs / 4), (32, runs), (256, runs * 2)]
}

/// Transactions per second of `pgbench` with so many clients.
fn pgbench(url: &str, clients: u32) -> Option<f64> {
    let dir = tempfile::tempdir().expect("a folder");
    let script = dir.path().join("step.sql");
    std::fs::write(&script, RAW_STEP).expect("a script");
    let output = Command::new("pgbench")
        .args(["-n", "-M", "prepared", "-j", "2", "-f"])
        .arg(&script)
        .args(["-c", &clients.to_string(), "-T", &RAW_SECONDS.to_string(), url])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let tps = text.lines().find_map(|line| line.strip_prefix("tps = "))?;
    tps.split_whitespace().next()?.parse().ok()
}

/// Bytes the server has logged so far.
async fn written(conn: &mut PgConnection) -> i64 {
    let lsn = "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint";
    sqlx::query_scalar(lsn).fetch_one(&mut *conn).await.expect("a position")
}

pub(crate) async fn postgres(runs: usize) {
    let Some(url) = server("PROVISION_TEST_POSTGRES_URL", "postgres") else { return };
    let mut conn = PgConnection::connect(&url).await.expect("a connection");
    conn.execute(sqlx::raw_sql(RAW_TABLES)).await.expect("tables");
    let mut limit = 0.0;
    for clients in [1, 8, 32] {
        match pgbench(&url, clients) {
            Some(tps) => {
                println!(
                    "| postgres, one statement per step, pgbench | {clients} | {tps:.0} | | | | |"
                );
                limit = tps;
            }
            None => println!("| postgres: pgbench is not there | {clients} | | | | | |"),
        }
    }
    for (in_flight, runs) in sizes(runs) {
        let schema = format!("bench_{in_flight}_{}", std::process::id());
        let store = PostgresConfig::new(&url).with_schema(&schema).open().await.expect("a store");
        let engine = engine(store.clone()).await;
        let before = written(&mut conn).await;
        let rate = w1("postgres", &engine, runs, in_flight).await;
        let wal = written(&mut conn).await - before;
        let done = store.counters();
        let steps = (runs + runs / 10) as f64 * 7.0;
        println!(
            "| postgres W1 / pgbench with 32 clients | {in_flight} | {:.2} x | | | | |",
            rate / limit
        );
        println!(
            "| postgres W1: {:.2} commits, {:.1} statements, {:.2} appends, {:.0} B of WAL per step | {in_flight} | | | | | |",
            done.commits as f64 / steps,
            done.statements as f64 / steps,
            done.appends as f64 / steps,
            wal as f64 / steps,
        );
        let undone = w4("postgres", &engine, runs, in_flight).await;
        println!("| postgres W4 / W1 | {in_flight} | {:.2} x | | | | |", undone / rate);
    }
}

/// Scripts per second of so many clients, each with a connection and a run of its own.
async fn evalsha(url: &str, clients: usize) -> f64 {
    let mut tasks = tokio::task::JoinSet::new();
    let began = Instant::now();
    for client in 0..clients {
        let redis = redis::Client::open(url).expect("a client");
        tasks.spawn(async move {
            let mut conn = redis.get_multiplexed_async_connection().await.expect("a connection");
            let keys = ["run", "journal", "due"].map(|key| format!("{{raw}}:{key}:{client}"));
            let mut set = redis::cmd("HSET");
            set.arg(&keys[0]).arg("token").arg("t");
            let _: i64 = set.query_async(&mut conn).await.expect("a run");
            let script = Script::new(RAW_SCRIPT);
            let mut done = 0_u32;
            while began.elapsed() < Duration::from_secs(RAW_SECONDS) {
                let mut call = script.key(&keys[0]);
                let call = call.key(&keys[1]).key(&keys[2]).arg("t");
                let call = call.arg("[{\"succeeded\":{\"path\":\"s1\"}}]").arg(done);
                let kept: i64 = call.invoke_async(&mut conn).await.expect("a step");
                assert_eq!(kept, 1);
                done += 1;
            }
            done
        });
    }
    let done: u32 = tasks.join_all().await.into_iter().sum();
    f64::from(done) / began.elapsed().as_secs_f64()
}

pub(crate) async fn redis(runs: usize) {
    let Some(url) = server("PROVISION_TEST_REDIS_URL", "redis") else { return };
    let mut limit = 0.0;
    for clients in [1, 32] {
        limit = evalsha(&url, clients).await;
        println!("| redis, one script per step | {clients} | {limit:.0} | | | | |");
    }
    for (in_flight, runs) in sizes(runs) {
        let namespace = format!("bench-{in_flight}-{}", std::process::id());
        let store = RedisConfig::new(&url).with_namespace(namespace).open().await.expect("a store");
        let engine = engine(store.clone()).await;
        let rate = w1("redis", &engine, runs, in_flight).await;
        let steps = (runs + runs / 10) as f64 * 7.0;
        println!(
            "| redis W1 / one script per step, 32 clients | {in_flight} | {:.2} x | | | | |",
            rate / limit
        );
        println!(
            "| redis W1: {:.2} round trips per step | {in_flight} | | | | | |",
            store.counters().round_trips as f64 / steps,
        );
        let undone = w4("redis", &engine, runs, in_flight).await;
        println!("| redis W4 / W1 | {in_flight} | {:.2} x | | | | |", undone / rate);
    }
}
