//! Shops that are killed in the middle of their work.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use provision_adapters::sim::{Fault, FaultRule};
use provision_core::{LedgerQuery, ResourceState, Secret};
use song_orders::{
    checkout::{Checkout, deliver},
    commands::keys,
    saga::LOST_CALLS_MAX,
    secret::{DEMO_SECRET, WEBHOOK_SECRET},
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
        .args(["--serve", "--concurrency", "16", "--speed", "0.01"])
        .args(["--elevenlabs", &clouds.elevenlabs.url(), "--storage", &clouds.storage_url()])
        .arg("--data-dir")
        .arg(folder.path())
        .env("DATABASE_URL", url)
        .env(WEBHOOK_SECRET, DEMO_SECRET)
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

/// An order whose words are no other's, so that the calls for it can be counted.
fn order(number: usize) -> Checkout {
    let story = format!("story number {number}.");
    Checkout { story, ..Checkout::new(format!("cs_{number}"), "ada") }
}

/// Kills a shop in the middle: songs are being made, and enough of them are through.
async fn kill(child: &mut Child, url: &str, ready: i64) {
    const GENERATING: &str = "SELECT count(*) FROM songs.variants WHERE status = 'generating'";
    const READY: &str = "SELECT count(*) FROM songs.variants WHERE status = 'ready'";
    let began = Instant::now();
    while number(url, GENERATING).await == 0 || number(url, READY).await < ready {
        assert!(began.elapsed() < WITHIN, "it never gets there");
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    let open = "SELECT count(*) FROM songs.orders WHERE progress IN ('ordered', 'generating')";
    assert!(number(url, open).await > 0, "the kill came in the middle");
}

/// Delivers every event, and those without an answer again to the next shop, as a sender does.
async fn deliver_all(address: &str, left: Vec<usize>) -> Vec<usize> {
    let mut told = JoinSet::new();
    for number in left {
        let address = address.to_owned();
        told.spawn(async move {
            let event = order(number).event(&format!("evt_{number}"));
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
    let slow = FaultRule::new(Fault::Slow(Duration::from_millis(400)));
    clouds.elevenlabs.faults().add(slow.path_contains("/v1/music"));
    let mut left: Vec<usize> = (0..ORDERS).collect();
    for ready in [0, 10] {
        let (mut child, address) = shop(&url, &clouds, &folder);
        let delivering = tokio::spawn(async move { deliver_all(&address, left).await });
        kill(&mut child, &url, ready).await;
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
    // Each is paid once, and once more at most for each call whose answer was lost with its shop.
    let most = 1 + usize::try_from(LOST_CALLS_MAX).unwrap();
    for number in 0..ORDERS {
        let Checkout { story, styles, .. } = order(number);
        for style in styles.split(',') {
            let words = format!("{style}: {story}");
            let paid = clouds.elevenlabs.with(|sim| sim.paid_for(&words));
            assert!((1..=most).contains(&paid), "{words} was paid {paid} times");
        }
    }
    let paid = clouds.elevenlabs.with(|sim| sim.paid());
    assert!(paid <= 3 * ORDERS + 2 * 16, "so many calls were open at the two kills: {paid}");
    let open = Shop::open(&places(&url, &clouds, &folder), keys()).await.unwrap();
    let ledger = open.engine.ledger(&LedgerQuery::default()).await.unwrap();
    let live = ledger.into_iter().filter(|row| row.state == ResourceState::Alive);
    let mut named: Vec<String> = live.filter_map(|row| row.name).collect();
    named.sort();
    assert_eq!(named, paths, "and so does the ledger");
}
