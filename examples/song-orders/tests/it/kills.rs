//! Shops that are killed in the middle of their work.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use provision_adapters::sim::{Fault, FaultRule};
use provision_core::{LedgerQuery, ResourceState, Secret};
use song_orders::{
    DEMO_SECRET,
    checkout::{Checkout, deliver},
    keys,
    shop::Shop,
};
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::world::{Clouds, WITHIN, database, number, places};

const ORDERS: usize = 20;

/// A shop of its own process, and where it is reached.
fn shop(url: &str, clouds: &Clouds, folder: &TempDir) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_song-orders"))
        .args(["--serve", "--orders", "0", "--concurrency", "16", "--speed", "0.01"])
        .args(["--elevenlabs", &clouds.elevenlabs.url(), "--storage", &clouds.storage_url()])
        .arg("--data-dir")
        .arg(folder.path())
        .env("DATABASE_URL", url)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let opened = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("open for orders at ").map(str::to_owned));
    (child, opened.expect("it never opens"))
}

/// Delivers every event, and those without an answer again to the next shop, as a sender does.
async fn deliver_all(address: &str, left: Vec<usize>) -> Vec<usize> {
    let mut told = JoinSet::new();
    for number in left {
        let address = address.to_owned();
        told.spawn(async move {
            let event =
                Checkout::new(format!("cs_{number}"), "ada").event(&format!("evt_{number}"));
            let told = deliver(&address, &Secret::new(DEMO_SECRET), &event).await;
            (number, told.is_ok_and(|answer| answer.status == 200))
        });
    }
    told.join_all()
        .await
        .into_iter()
        .filter(|(_, taken)| !taken)
        .map(|(number, _)| number)
        .collect()
}

// covers: S1, S2, S8, S9, L1, L2, R3-15, R3-22, R3-23
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_orders_survive_kills_and_inventory_ledger_and_database_agree() {
    let Some(url) = database().await else { return };
    let (clouds, folder) = (Clouds::start(), tempfile::tempdir().unwrap());
    let slow = FaultRule::new(Fault::Slow(Duration::from_millis(80)));
    clouds.elevenlabs.faults().add(slow.path_contains("/v1/music"));
    let mut left: Vec<usize> = (0..ORDERS).collect();
    for kill in 0..2_u64 {
        let (mut child, address) = shop(&url, &clouds, &folder);
        let delivering = tokio::spawn(async move { deliver_all(&address, left).await });
        tokio::time::sleep(Duration::from_millis(400 + 300 * kill)).await;
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
        left = delivering.await.unwrap();
    }
    let (mut child, address) = shop(&url, &clouds, &folder);
    let began = Instant::now();
    while !left.is_empty() {
        assert!(began.elapsed() < WITHIN, "never taken: {left:?}");
        left = deliver_all(&address, left).await;
    }
    let over = "SELECT count(*) FROM songs.orders WHERE progress = 'completed'";
    let all = i64::try_from(ORDERS).unwrap();
    while number(&url, over).await < all {
        assert!(began.elapsed() < WITHIN, "{} are completed", number(&url, over).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();

    assert_eq!(number(&url, "SELECT count(*) FROM songs.orders").await, all);
    assert_eq!(number(&url, "SELECT count(*) FROM provision.runs").await, all);
    assert_eq!(number(&url, "SELECT count(*) FROM songs.deliveries").await, all);
    assert_eq!(number(&url, "SELECT count(*) FROM songs.shares").await, all);
    let paths = clouds.paths();
    assert_eq!(paths.len(), 3 * ORDERS, "one object for each variant");
    let mut conn = PgConnection::connect(&url).await.unwrap();
    let rows = "SELECT object FROM songs.variants WHERE status = 'ready'";
    let mut rows: Vec<String> = sqlx::query_scalar(rows).fetch_all(&mut conn).await.unwrap();
    rows.sort();
    assert_eq!(rows, paths, "the database says what the storage has");
    let open = Shop::open(&places(&url, &clouds, &folder), keys()).await.unwrap();
    let ledger = open.engine.ledger(&LedgerQuery::default()).await.unwrap();
    let live = ledger.into_iter().filter(|row| row.state == ResourceState::Alive);
    let mut named: Vec<String> = live.filter_map(|row| row.name).collect();
    named.sort();
    assert_eq!(named, paths, "and so does the ledger");
}
