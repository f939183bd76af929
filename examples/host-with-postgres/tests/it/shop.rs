//! Orders that are taken, fulfilled, refused, and lost by nobody, however often the host is killed.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

const URL: &str = "PROVISION_TEST_POSTGRES_URL";
/// Hosts at the same time, and how often each of them is killed.
const HOSTS: u32 = 4;
const KILLS: u32 = 50;
/// How long a command may take that ends by itself: leases of the dead have to run out.
const WITHIN: Duration = Duration::from_secs(120);

/// A database of its own on the server; `None`, said aloud, where there is none.
async fn database() -> Option<String> {
    let Ok(url) = std::env::var(URL) else {
        provision_testkit::skips::refused_in_ci(&format!("{URL} is not set"));
        println!("SKIPPED: {URL} is not set");
        return None;
    };
    let name = format!("shop_{}", uuid::Uuid::new_v4().simple());
    let mut conn = PgConnection::connect(&url).await.unwrap();
    conn.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    conn.close().await.unwrap();
    let (server, _) = url.rsplit_once('/').unwrap();
    Some(format!("{server}/{name}"))
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_host-with-postgres"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn typed(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = command(arguments);
    let ended = tokio::task::spawn_blocking(move || {
        let (mut child, begun) = (command.spawn().unwrap(), Instant::now());
        while child.try_wait().unwrap().is_none() && begun.elapsed() < WITHIN {
            std::thread::sleep(Duration::from_millis(10));
        }
        // Nothing comes of it where it has ended.
        let _ = child.kill();
        child.wait_with_output().unwrap()
    });
    let output = ended.await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

async fn number(url: &str, sql: &'static str) -> i64 {
    let mut conn = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar(sql).fetch_one(&mut conn).await.unwrap()
}

// covers: R1-80, R3-14
#[tokio::test]
async fn orders_are_shipped_or_refused_with_the_end_of_their_runs() {
    let Some(url) = database().await else { return };
    let (code, said, _) = typed(&[&url]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.ends_with("3 orders shipped, 0 refused, 0 open\n"), "{said}");
    let (code, said, _) = typed(&[&url, "--orders", "2", "--item", "nothing"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.ends_with("3 orders shipped, 2 refused, 0 open\n"), "{said}");
    assert_eq!(number(&url, "SELECT count(*) FROM shop.taken").await, 3);
}

#[tokio::test]
async fn what_cannot_be_used_is_told_with_a_hint() {
    for (arguments, expected, word) in [
        (&[] as &[&str], 64, "URL"),
        (&["postgres://127.0.0.1/x", "--orders", "many"], 64, "--orders"),
        (&["mysql://127.0.0.1/x"], 64, "error[postgres_wrong_url]"),
        (&["postgres://me:hunter2@127.0.0.1:1/x"], 69, "error[postgres_"),
    ] {
        let (code, said, error) = typed(arguments).await;
        assert_eq!(code, Some(expected), "{said} {error}");
        assert!(error.contains(word), "{word}: {error}");
        assert!(expected == 64 || error.contains("\nhint: "), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    let (code, said, _) = typed(&["--help"]).await;
    assert!(code == Some(0) && said.contains("--retry-parked"), "{said}");
}

/// A host that takes orders until it is killed.
fn endless(url: &str) -> Child {
    let mut host = command(&[url, "--orders", "1000000"]).stderr(Stdio::inherit()).spawn().unwrap();
    let lines = BufReader::new(host.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "open for orders"), "it never opens");
    host
}

/// Kills one host after the other, each a little later in its work than the one before.
fn kill_hosts(url: &str, lane: u32) {
    for kill in 0..KILLS {
        let mut host = endless(url);
        let moment = u64::from(kill * HOSTS + lane) * 1_973 % 300_000;
        std::thread::sleep(Duration::from_micros(moment));
        host.kill().unwrap();
        assert!(!host.wait().unwrap().success());
    }
}

// covers: S1, S2, S8, S9, L1, L2, R1-80, R3-14
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_kills_lose_no_order_and_fulfil_none_twice() {
    let Some(url) = database().await else { return };
    let lanes = (0..HOSTS).map(|lane| {
        let url = url.clone();
        tokio::task::spawn_blocking(move || kill_hosts(&url, lane))
    });
    for lane in lanes.collect::<Vec<_>>() {
        lane.await.unwrap();
    }
    let orders = number(&url, "SELECT count(*) FROM shop.orders").await;
    assert!(orders > i64::from(KILLS / 2), "only {orders} orders");
    // Who is killed three times in a row over the same run leaves it to a person: here, to us.
    let (code, said, error) = typed(&[&url, "--orders", "1", "--retry-parked"]).await;
    assert_eq!(code, Some(0), "{said} {error}");
    let count = |sql| number(&url, sql);
    let orders = count("SELECT count(*) FROM shop.orders").await;
    assert_eq!(count("SELECT count(*) FROM shop.orders WHERE state = 'shipped'").await, orders);
    assert_eq!(count("SELECT count(*) FROM provision.runs").await, orders, "no run without a row");
    assert_eq!(count("SELECT count(*) FROM shop.taken").await, orders, "nothing was taken twice");
    let both = "SELECT count(*) FROM shop.orders o JOIN shop.taken t ON t.order_number = o.number";
    assert_eq!(count(both).await, orders, "each order has what was taken for it");
}
