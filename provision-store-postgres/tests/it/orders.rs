//! A host that takes orders and dies at any moment: an order's row and its run are there together,
//! or neither is.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use provision_core::store::{NewRun, RunFilter, StateStore as _, Submission};
use provision_store_postgres::PostgresStore;
use provision_testkit::conformance::run_head;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

use crate::{given::Schema, kill::child};

/// Set in children; its value is the folder that names their schema.
const CHILD: &str = "PROVISION_POSTGRES_TEST_ORDERS";
/// What a child prints when it begins to take orders.
const OPEN: &str = "takes orders";
/// Hosts at the same time, and how often each of them is killed.
const HOSTS: u32 = 4;
const KILLS: u32 = 50;

async fn take_one(conn: &mut PgConnection, store: &PostgresStore, insert: &str) {
    let key = Uuid::new_v4().to_string();
    let mut head = run_head();
    head.key = Some(key.clone());
    let start = Submission::Run(Box::new(NewRun { head, lease_to: None }));
    let mut tx = conn.begin().await.unwrap();
    let insert = sqlx::query(AssertSqlSafe(insert)).bind(key);
    insert.execute(&mut *tx).await.unwrap();
    store.start_in(&mut tx, &[start]).await.unwrap();
    tx.commit().await.unwrap();
}

fn insert_into(schema: &Schema) -> String {
    format!("INSERT INTO {}.orders (key) VALUES ($1)", schema.name)
}

// Only does something in a child: takes orders until it is killed.
#[tokio::test]
async fn child_takes_orders_until_it_is_killed() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let name = fs::read_to_string(Path::new(&folder).join("schema")).unwrap();
    let schema = Schema::of_parent(name).unwrap();
    let store = schema.config().with_connections_max(1).with_notify(false).open().await.unwrap();
    let (mut conn, insert) = (schema.connect().await, insert_into(&schema));
    let mut out = std::io::stdout();
    out.write_all(format!("\n{OPEN}\n").as_bytes()).unwrap();
    out.flush().unwrap();
    loop {
        take_one(&mut conn, &store, &insert).await;
    }
}

/// Kills one host after the other, each a little later in its work than the one before.
fn kill_hosts(folder: &Path, lane: u32) {
    for kill in 0..KILLS {
        let test = "orders::child_takes_orders_until_it_is_killed";
        let mut host = child(test, CHILD, folder);
        let lines = BufReader::new(host.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line == OPEN), "the host takes no orders");
        // An order takes milliseconds, or tens of them on a busy machine: its insert, its start and
        // its commit are all met.
        std::thread::sleep(Duration::from_micros(u64::from(kill * HOSTS + lane) * 1_973 % 80_000));
        host.kill().unwrap();
        assert!(!host.wait().unwrap().success());
    }
}

// covers: R3-14, S1, S2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_kills_lose_no_order_and_start_none_twice() {
    let Some(schema) = Schema::new() else { return };
    let schema = Arc::new(schema);
    let store = schema.open().await;
    schema.execute("CREATE TABLE provision.orders (key text PRIMARY KEY)").await;
    let folder = Arc::new(tempfile::tempdir().unwrap());
    fs::write(folder.path().join("schema"), &schema.name).unwrap();
    let lanes = (0..HOSTS).map(|lane| {
        let folder = Arc::clone(&folder);
        tokio::task::spawn_blocking(move || kill_hosts(folder.path(), lane))
    });
    for lane in lanes.collect::<Vec<_>>() {
        lane.await.unwrap();
    }
    // What a dead host had sent without an answer may commit yet: a new order comes after it.
    let mut conn = schema.connect().await;
    take_one(&mut conn, &store, &insert_into(&schema)).await;
    let sql = format!("SELECT key FROM {}.orders", schema.name);
    let begun = std::time::Instant::now();
    let (mut orders, mut keys) = (Vec::<String>::new(), Vec::new());
    // One that commits between the two looks is in both at the next.
    while orders.is_empty() || (orders != keys && begun.elapsed() < Duration::from_secs(30)) {
        orders = sqlx::query_scalar(AssertSqlSafe(sql.clone())).fetch_all(&mut conn).await.unwrap();
        orders.sort_unstable();
        keys = all_keys(&store).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(orders.len() > (KILLS / 2) as usize, "only {} orders", orders.len());
    assert_eq!(orders, keys, "an order has its run, and one alone");
}

/// Keys of all runs, sorted.
async fn all_keys(store: &PostgresStore) -> Vec<String> {
    let (mut filter, mut keys) = (RunFilter { limit: 500, ..RunFilter::default() }, Vec::new());
    loop {
        let page = store.list(&filter).await.unwrap();
        keys.extend(page.runs.into_iter().filter_map(|head| head.key));
        match page.next {
            Some(next) => filter.after = Some(next),
            None => break,
        }
    }
    keys.sort_unstable();
    keys
}
