//! W1 and W4 on stores that are servers, beside the raw limits of the same servers.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use provision_store_postgres::{Counters, PostgresConfig, PostgresStore};
use provision_store_redis::{RedisConfig, RedisStore};
use redis::Script;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::{
    measure::{Goal, Measured},
    workloads::{ROUNDS, beside, check, compare, engine, middle, w1, w4, with_warm_up},
};

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

/// Where the addresses of the servers stand.
pub(crate) const POSTGRES: &str = "PROVISION_TEST_POSTGRES_URL";
pub(crate) const REDIS: &str = "PROVISION_TEST_REDIS_URL";

pub(crate) fn server(variable: &str, name: &str) -> Option<String> {
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

/// Processor time that the server's processes have used, where they run on this machine: the living
/// ones and those that have ended.
async fn server_cpu(conn: &mut PgConnection) -> Option<Duration> {
    let backend: i32 =
        sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *conn).await.ok()?;
    let stat = |pid: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, fields) = text.rsplit_once(')')?;
        let fields: Vec<u64> =
            fields.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        name.ends_with("(postgres").then_some(fields)
    };
    let server = *stat(&backend.to_string())?.get(1)?;
    // Its own time and that of its children that have ended.
    let mut ticks: u64 = stat(&server.to_string())?.get(11..15)?.iter().sum();
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(fields) = stat(&process.file_name().to_string_lossy()) else { continue };
        if fields[1] == server {
            ticks += fields[11] + fields[12];
        }
    }
    Some(Duration::from_millis(ticks * 10))
}

/// What the server has done so far.
struct Books {
    wal: i64,
    cpu: Option<Duration>,
    counters: Counters,
}

impl Books {
    async fn read(conn: &mut PgConnection, store: &PostgresStore) -> Self {
        Self { wal: written(conn).await, cpu: server_cpu(conn).await, counters: store.counters() }
    }

    /// What it paid for each of so many steps since then.
    fn print_since(&self, before: &Self, name: &str, in_flight: usize, steps: f64) -> Paid {
        let (now, then) = (&self.counters, &before.counters);
        let cpu = self.cpu.zip(before.cpu).map(|(now, then)| now.saturating_sub(then));
        let paid = Paid {
            commits: (now.commits - then.commits) as f64 / steps,
            wal: (self.wal - before.wal) as f64 / steps,
            cpu: cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / steps),
        };
        println!(
            "| postgres {name}: {:.3} commits, {:.3} statements, {:.2} appends, {:.0} B of WAL, {} us of the server's CPU per step | {in_flight} | | | | | |",
            paid.commits,
            (now.statements - then.statements) as f64 / steps,
            (now.appends - then.appends) as f64 / steps,
            paid.wal,
            paid.cpu.map_or("unknown".to_owned(), |cpu| format!("{cpu:.1}")),
        );
        paid
    }
}

/// What a step cost the server.
struct Paid {
    commits: f64,
    wal: f64,
    /// In microseconds, where the server's processes can be seen.
    cpu: Option<f64>,
}

/// The goals of PostgreSQL at one size. `alone` is what `pgbench` does with one client.
fn judge(in_flight: usize, ratio: f64, alone: f64, done: &mut Measured, paid: &Paid) {
    let what = |figure: &str| format!("postgres {figure}, {in_flight} in flight");
    let (speed, commits) = match in_flight {
        1 => {
            // Eight commits and a quarter more.
            let most = 8.0 * 1.25 * 1e3 / alone;
            Goal::AtMost(most).judge(&what("ms per run of seven steps, p50"), done.median());
            // One for each step, and one for the start of its run.
            (None, 1.16)
        }
        32 => (Some(1.2), 0.1),
        _ => (Some(3.0), 0.03),
    };
    if let Some(floor) = speed {
        Goal::AtLeast(floor).judge(&what("W1 / pgbench with 32 clients"), ratio);
    }
    Goal::AtMost(commits).judge(&what("write transactions per step"), paid.commits);
    if in_flight == 32 {
        Goal::AtMost(500.0).judge(&what("bytes of log per step"), paid.wal);
        if let Some(server) = paid.cpu {
            let sum = server + done.cpu_per_step();
            Goal::AtMost(60.0).judge(&what("us of processor per step, engine and server"), sum);
        }
    }
}

/// Prints and answers what `pgbench` does.
fn raw_steps(url: &str, clients: u32) -> f64 {
    let Some(rate) = pgbench(url, clients) else {
        println!("| postgres: pgbench is not there | {clients} | | | | | |");
        return 0.0;
    };
    println!("| postgres, one statement per step, pgbench | {clients} | {rate:.0} | | | | |");
    rate
}

pub(crate) async fn postgres(runs: usize, only: Option<usize>) {
    let Some(url) = server(POSTGRES, "postgres") else { return };
    let mut conn = PgConnection::connect(&url).await.expect("a connection");
    conn.execute(sqlx::raw_sql(RAW_TABLES)).await.expect("tables");
    let alone = raw_steps(&url, 1);
    raw_steps(&url, 8);
    let wanted = |(in_flight, _): &(usize, usize)| only.is_none_or(|only| only == *in_flight);
    for (in_flight, runs) in sizes(runs).into_iter().filter(wanted) {
        let schema = format!("bench_{in_flight}_{}", std::process::id());
        let store = PostgresConfig::new(&url).with_schema(&schema).open().await.expect("a store");
        let engine = engine(store.clone()).await;
        // What a shared machine does changes from minute to minute.
        let (mut before, mut ratios, mut rates) = (raw_steps(&url, 32), Vec::new(), Vec::new());
        let all = with_warm_up(runs) as f64;
        let rounds = if in_flight == 1 { 1 } else { ROUNDS };
        let mut last = None;
        for _ in 0..rounds {
            let books = Books::read(&mut conn, &store).await;
            let done = w1("postgres", &engine, runs, in_flight).await;
            let paid = Books::read(&mut conn, &store).await;
            let paid = paid.print_since(&books, "W1", in_flight, all * 7.0);
            let after = raw_steps(&url, 32);
            ratios.push(beside(done.per_second(), before, after));
            rates.push(done.per_second());
            before = after;
            last = Some((done, paid));
        }
        let (mut done, paid) = last.expect("one round at least");
        let ratio = middle(ratios);
        println!(
            "| postgres W1 / pgbench with 32 clients, middle of {rounds} | {in_flight} | {ratio:.2} x | | | | |"
        );
        judge(in_flight, ratio, alone, &mut done, &paid);
        let books = Books::read(&mut conn, &store).await;
        let undone = w4("postgres", &engine, runs, in_flight).await;
        let _ =
            Books::read(&mut conn, &store).await.print_since(&books, "W4", in_flight, all * 13.0);
        compare("postgres", in_flight, middle(rates), &undone);
        check(&store, runs, rounds).await;
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

/// What a Redis server has done so far.
#[derive(Clone, Copy)]
struct Work {
    /// Processor time of the thread that runs the commands, where the server tells it.
    cpu: f64,
    /// Time in scripts.
    scripts: f64,
    commands: f64,
    round_trips: u64,
}

impl Work {
    async fn read(url: &str, store: &RedisStore) -> Self {
        let redis = redis::Client::open(url).expect("a client");
        let mut conn = redis.get_multiplexed_async_connection().await.expect("a connection");
        let mut info = redis::cmd("INFO");
        let info: String = info.arg("all").query_async(&mut conn).await.expect("figures");
        let figure = |name: &str| -> f64 {
            let line = info.lines().find_map(|line| line.strip_prefix(name));
            let end = |rest: &str| rest.split([',', '\r']).next().unwrap_or_default().parse().ok();
            line.and_then(end).unwrap_or(0.0)
        };
        let usec = info.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
        let usec =
            usec.and_then(|rest| rest.split_once(",usec=")?.1.split(',').next()?.parse().ok());
        Self {
            cpu: figure("used_cpu_user_main_thread:") + figure("used_cpu_sys_main_thread:"),
            scripts: usec.unwrap_or(0.0) / 1e6,
            commands: figure("total_commands_processed:"),
            round_trips: store.counters().round_trips,
        }
    }

    /// What the server paid for each of so many steps since then.
    fn print_since(&self, before: &Self, name: &str, in_flight: usize, steps: f64) {
        println!(
            "| redis {name}: {:.2} round trips, {:.1} commands, {:.1} us of the server's CPU, {:.1} us of it in scripts per step | {in_flight} | | | | | |",
            (self.round_trips - before.round_trips) as f64 / steps,
            (self.commands - before.commands) / steps,
            (self.cpu - before.cpu) * 1e6 / steps,
            (self.scripts - before.scripts) * 1e6 / steps,
        );
    }
}

async fn raw_scripts(url: &str, clients: usize) -> f64 {
    let rate = evalsha(url, clients).await;
    println!("| redis, one script per step | {clients} | {rate:.0} | | | | |");
    rate
}

pub(crate) async fn redis(runs: usize, only: Option<usize>) {
    let Some(url) = server(REDIS, "redis") else { return };
    raw_scripts(&url, 1).await;
    let wanted = |(in_flight, _): &(usize, usize)| only.is_none_or(|only| only == *in_flight);
    for (in_flight, runs) in sizes(runs).into_iter().filter(wanted) {
        redis_at(&url, runs, in_flight).await;
    }
}

async fn redis_at(url: &str, runs: usize, in_flight: usize) {
    let namespace = format!("bench-{in_flight}-{}", std::process::id());
    let store = RedisConfig::new(url).with_namespace(namespace).open().await.expect("a store");
    let engine = engine(store.clone()).await;
    let rounds = if in_flight == 1 { 1 } else { ROUNDS };
    let all = with_warm_up(runs) as f64;
    let (mut ratios, mut rates) = (Vec::new(), Vec::new());
    let mut before = raw_scripts(url, 32).await;
    for _ in 0..rounds {
        let work = Work::read(url, &store).await;
        let rate = w1("redis", &engine, runs, in_flight).await.per_second();
        Work::read(url, &store).await.print_since(&work, "W1", in_flight, all * 7.0);
        let after = raw_scripts(url, 32).await;
        ratios.push(beside(rate, before, after));
        rates.push(rate);
        before = after;
    }
    let ratio = middle(ratios);
    println!(
        "| redis W1 / one script per step, 32 clients, middle of {rounds} | {in_flight} | {ratio:.2} x | | | | |"
    );
    if in_flight == 32 {
        Goal::AtLeast(0.5).judge("redis W1 / one script per step, 32 in flight", ratio);
    }
    let work = Work::read(url, &store).await;
    let undone = w4("redis", &engine, runs, in_flight).await;
    Work::read(url, &store).await.print_since(&work, "W4", in_flight, all * 13.0);
    compare("redis", in_flight, middle(rates), &undone);
    check(&store, runs, rounds).await;
}
