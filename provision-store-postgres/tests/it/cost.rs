//! What the server pays for a step and a claim, as its own books show it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use provision_core::{
    id::Timestamp,
    queue::{Claim, Queue as _},
    run::RunStatus,
    store::{Appended, Leased, NewRun, Release, StateStore as _, Submission},
};
use provision_store_postgres::{PostgresConfig, PostgresStore};
use provision_testkit::conformance::{
    Handle, acquire_any, append_of, held_for, new_worker, run_head,
};
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};
use tokio::task::JoinSet;

use crate::server::Server;

const TTL: Duration = Duration::from_secs(600);
/// Finished runs in the tables.
const FINISHED: i64 = 50_000;

async fn open(server: &Server) -> PostgresStore {
    PostgresConfig::new(server.url())
        .with_unsafe_settings(true)
        .with_connections_max(2)
        .open()
        .await
        .unwrap()
}

async fn execute(server: &Server, sql: &'static str) {
    let mut conn = PgConnection::connect(&server.url()).await.unwrap();
    conn.execute(sqlx::raw_sql(sql)).await.unwrap();
    conn.close().await.unwrap();
}

async fn number(server: &Server, sql: &'static str) -> i64 {
    let mut conn = PgConnection::connect(&server.url()).await.unwrap();
    let found = sqlx::query_scalar(sql).fetch_one(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    found
}

/// Rows that were read since the server began, of each table: one after the other, and by index.
async fn read(server: &Server) -> BTreeMap<String, (i64, i64)> {
    let mut conn = PgConnection::connect(&server.url()).await.unwrap();
    let sql = "SELECT relname::text, seq_tup_read, coalesce(idx_tup_fetch, 0) \
               FROM pg_stat_user_tables WHERE schemaname = 'provision'";
    let rows = sqlx::query(sql).fetch_all(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect()
}

/// So many new runs.
fn many(count: usize) -> Vec<Submission> {
    let new = || NewRun { head: run_head(), lease_to: None };
    (0..count).map(|_| Submission::Run(Box::new(new()))).collect()
}

async fn leased(store: &PostgresStore, count: usize) -> Vec<Leased> {
    let handle = Handle::of(Arc::new(store.clone()));
    for _ in 0..count {
        handle.started(run_head()).await;
    }
    handle.lease(&acquire_any(new_worker(), TTL)).await.leased
}

/// Each run appends so many frames, all at the same time; with the last one it ends.
async fn drive(store: &PostgresStore, runs: &[Leased], frames: u64) {
    let mut tasks = JoinSet::new();
    for leased in runs {
        let (store, leased) = (store.clone(), leased.clone());
        tasks.spawn(async move {
            for seq in 1..=frames {
                let mut append = append_of(&leased, seq);
                if seq == frames {
                    append.status = RunStatus::Succeeded;
                    append.open = false;
                    let (due, polls) = (Timestamp::NEVER, BTreeMap::default());
                    append.release = Some(Release { due, polls, seen: 0 });
                }
                let answers = store.append(&[append]).await.unwrap();
                assert!(matches!(answers[..], [Appended::Applied { lease_lost: false, .. }]));
            }
        });
    }
    tasks.join_all().await;
}

/// What a worker asks the store for, in small: starts, claims, steps, heartbeats, a queue's
/// proposals; then the connections end, and with them the server's own delay in counting.
async fn work(server: &Server) {
    let store = open(server).await;
    for _ in 0..8 {
        let runs = leased(&store, 8).await;
        assert_eq!(runs.len(), 8);
        store.lease(&held_for(runs[0].fence.owner, TTL)).await.unwrap();
        let claim =
            Claim { limit: 100, queues: Vec::new(), except: Vec::new(), wait: Duration::ZERO };
        assert!(store.claim(&claim).await.unwrap().is_empty(), "nothing waits");
        drive(&store, &runs, 10).await;
    }
    closed(server, store).await;
}

/// Ends the store's connections; what they have counted is in the server's books then.
async fn closed(server: &Server, store: PostgresStore) {
    drop(store);
    let here = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'provision'";
    for _ in 0..600 {
        if number(server, here).await == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Many runs as the newest one, finished long ago.
const MANY: &str = "
    INSERT INTO provision.runs
    SELECT r.ns, md5(i::text)::uuid, r.tenant, NULL, r.input, r.input_hash, NULL, NULL, r.context,
        r.created_at
    FROM (SELECT * FROM provision.runs LIMIT 1) AS r, generate_series(1, 50000) AS i;
    INSERT INTO provision.heads
    SELECT h.ns, h.lane, md5(i::text)::uuid, h.priority, h.tenant_lane, NULL, NULL, NULL, NULL,
        NULL, NULL, h.epoch, 0, h.requests, h.consumed, h.due, 0, false, false, h.polls, h.seq,
        h.updated_at, 0, false, h.status, h.summary
    FROM (SELECT * FROM provision.heads WHERE status = 'Succeeded' LIMIT 1) AS h,
        generate_series(1, 50000) AS i;
    INSERT INTO provision.frames
    SELECT f.ns, md5(i::text)::uuid, f.seq, f.epoch, f.at, f.body
    FROM (SELECT * FROM provision.frames LIMIT 1) AS f, generate_series(1, 50000) AS i;
    VACUUM ANALYZE";

// covers: R2-14
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_finished_is_read_by_no_claim_and_no_step() {
    let Some(server) = Server::start() else { return };
    work(&server).await;
    for statement in MANY.split(';') {
        execute(&server, statement).await;
    }
    assert!(number(&server, "SELECT count(*) FROM provision.heads").await > FINISHED);
    let before = read(&server).await;
    work(&server).await;
    let after = read(&server).await;
    for (table, (walked, fetched)) in &after {
        let (walked_before, fetched_before) = before[table];
        let (walked, fetched) = (walked - walked_before, fetched - fetched_before);
        println!("{table}: {walked} rows walked, {fetched} by index");
        // 640 steps, 64 starts, 32 claims; nothing comes near the rows of what is finished.
        assert!(walked + fetched < 4_000, "{table}: {walked} walked, {fetched} by index");
    }
}

// covers: R2-14
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_reads_its_own_run_also_by_a_plan_that_was_made_while_the_tables_were_empty() {
    let Some(server) = Server::start() else { return };
    // Without statistics nothing makes the server plan anew.
    execute(&server, "ALTER SYSTEM SET autovacuum = off").await;
    execute(&server, "SELECT pg_reload_conf()").await;
    let store = open(&server).await;
    let runs = leased(&store, 2).await;
    drive(&store, &runs, 3).await;
    let [a, b] = [0, 1].map(|n: usize| [runs[n].record.head.id]);
    let load_both = || async {
        let (a, b) = tokio::join!(store.load(&a), store.load(&b));
        for found in [a, b] {
            assert_eq!(found.unwrap()[0].as_ref().unwrap().frames.len(), 3);
        }
    };
    load_both().await;
    for statement in MANY.split(';').filter(|statement| !statement.contains("VACUUM")) {
        execute(&server, statement).await;
    }
    assert!(number(&server, "SELECT count(*) FROM provision.heads").await > FINISHED);
    for _ in 0..10 {
        load_both().await;
    }
    closed(&server, store).await;
    for (table, (walked, fetched)) in &read(&server).await {
        println!("{table}: {walked} rows walked, {fetched} by index");
        // The count above walks the rows once.
        let counted = if table == "heads" { FINISHED + 2 } else { 0 };
        assert!(walked + fetched < counted + 2_000, "{table}: {walked} walked, {fetched} fetched");
    }
}

// covers: R2-14
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_reads_its_own_row_also_before_the_server_has_statistics() {
    const RUNS: usize = 300;
    let Some(server) = Server::start() else { return };
    execute(&server, "ALTER SYSTEM SET autovacuum = off").await;
    execute(&server, "SELECT pg_reload_conf()").await;
    let store = open(&server).await;
    let runs = leased(&store, RUNS).await;
    closed(&server, store).await;
    let before = read(&server).await["heads"];
    let store = open(&server).await;
    for leased in &runs {
        // One after the other: each is a statement of its own.
        let answers = store.append(&[append_of(leased, 1)]).await.unwrap();
        assert!(matches!(answers[..], [Appended::Applied { lease_lost: false, .. }]));
    }
    closed(&server, store).await;
    let after = read(&server).await["heads"];
    let (walked, fetched) = (after.0 - before.0, after.1 - before.1);
    println!("{walked} rows walked, {fetched} by index for {RUNS} steps");
    // Opening the store looks at few; all that are leased, at each step, would be 90,000.
    assert!(walked + fetched < 2_000, "{walked} walked, {fetched} by index");
}

// covers: R2-14
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_does_not_walk_what_is_ready_for_each_run_that_it_takes() {
    const READY: usize = 4_000;
    const CLAIMS: usize = 20;
    let Some(server) = Server::start() else { return };
    execute(&server, "ALTER SYSTEM SET autovacuum = off").await;
    execute(&server, "SELECT pg_reload_conf()").await;
    let store = open(&server).await;
    assert_eq!(store.submit(&many(READY)).await.unwrap().len(), READY);
    closed(&server, store).await;
    // Pages, since rows that an index passes over are not counted.
    let pages = "SELECT sum(idx_blks_hit + idx_blks_read)::bigint \
                 FROM pg_statio_user_indexes WHERE relname = 'heads'";
    let before = number(&server, pages).await;
    let store = open(&server).await;
    let mut request = acquire_any(new_worker(), TTL);
    request.acquire.as_mut().unwrap().limit = 10;
    for _ in 0..CLAIMS {
        assert_eq!(store.lease(&request).await.unwrap().leased.len(), 10);
    }
    closed(&server, store).await;
    let read = number(&server, pages).await - before;
    println!("{read} pages of indexes for {CLAIMS} claims of 10 of {READY} runs");
    // Walked for each run that is taken, the index of ready runs would be 10,000 pages more.
    assert!(read < 6_000, "{read} pages");
}

// covers: R2-14
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_step_writes_to_the_log_is_bounded() {
    const RUNS: usize = 32;
    const FRAMES: u64 = 100;
    let Some(server) = Server::start() else { return };
    // Images of whole pages depend on the time since a checkpoint and not on the store.
    execute(&server, "ALTER SYSTEM SET full_page_writes = off").await;
    execute(&server, "SELECT pg_reload_conf()").await;
    let store = open(&server).await;
    let runs = leased(&store, RUNS).await;
    let position = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";
    let before = (number(&server, position).await, store.counters());
    drive(&store, &runs, FRAMES).await;
    let (after, counters) = (number(&server, position).await, store.counters());
    let steps = i64::try_from(u64::try_from(RUNS).unwrap() * FRAMES).unwrap();
    let (bytes, commits) = ((after - before.0) / steps, counters.commits - before.1.commits);
    println!("{bytes} bytes of log and {commits} commits for {steps} steps");
    assert!(bytes < 600, "{bytes} bytes of log for a step");
    assert!(commits * 10 <= counters.appends - before.1.appends, "{commits} commits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_waits_costs_no_query_of_its_own() {
    let Some(server) = Server::start() else { return };
    let store = open(&server).await;
    let counted = store.clone();
    let calls = move || counted.counters().statements;
    let (without, with) = provision_testkit::idle::waiting_runs_cost_nothing(store, calls).await;
    println!("{without} statements without runs, {with} beside runs that wait");
}
