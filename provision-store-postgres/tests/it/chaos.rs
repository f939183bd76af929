//! Two worker processes drive a thousand runs while everything around them goes wrong.

use std::{fs, path::Path, process::Child, sync::atomic::Ordering::SeqCst, time::Duration};

use provision_store_postgres::{PostgresConfig, PostgresStore};
use provision_testkit::fleet::{self, Crew, Site};
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::{fleet::CHILD, kill::child_on, lost_reply::Proxy, server::Server};

const RUNS: usize = 1_000;

/// A private server; the workers reach it through a proxy, who starts runs does not.
struct Chaotic {
    url: String,
    proxy: Proxy,
}

impl Site for Chaotic {
    type Store = PostgresStore;

    async fn store(&self) -> PostgresStore {
        PostgresConfig::new(&self.url).with_schema("chaos").open().await.unwrap()
    }

    fn spawn(&self, folder: &Path) -> Child {
        fs::write(folder.join("place"), "chaos\ntrue").unwrap();
        child_on("fleet::child_works", CHILD, folder, &self.proxy.url)
    }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

async fn told(url: &str, sql: &'static str) {
    let mut conn = PgConnection::connect(url).await.unwrap();
    conn.execute(sql).await.unwrap();
    drop(conn.close().await);
}

const END_SOME: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
     WHERE application_name = 'provision' AND random() < 0.5";
const END_OTHERS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
     WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";

async fn pause(millis: u64) {
    tokio::time::sleep(ms(millis)).await;
}

/// Backends are ended, and answers of commits are lost.
async fn cut(url: &str, site: &Chaotic) {
    for _ in 0..3 {
        told(url, END_SOME).await;
        pause(300).await;
    }
    for _ in 0..20 {
        site.proxy.cut.store(true, SeqCst);
        pause(50).await;
    }
}

/// The server stands still, and then it refuses to write.
async fn still_and_read_only(server: &Server, url: &str) {
    server.signal("STOP");
    pause(3_000).await;
    server.signal("CONT");
    pause(700).await;
    told(url, "ALTER SYSTEM SET default_transaction_read_only = on").await;
    told(url, "SELECT pg_reload_conf()").await;
    pause(2_000).await;
    told(url, "ALTER SYSTEM RESET default_transaction_read_only").await;
    told(url, "SELECT pg_reload_conf()").await;
    pause(700).await;
}

/// Every connection that the server allows is taken, and the workers have lost theirs.
async fn exhausted(url: &str) {
    let mut conn = PgConnection::connect(url).await.unwrap();
    let mut taken = Vec::new();
    for _ in 0..120 {
        drop(conn.execute(END_OTHERS).await);
        taken.clear();
        while let Ok(one) = PgConnection::connect(url).await {
            taken.push(one);
        }
        if taken.len() > 80 {
            break;
        }
    }
    assert!(taken.len() > 80, "only {} connections were to be had", taken.len());
    pause(2_000).await;
}

/// How many versions of rows that nobody needs any more a vacuum has to leave in the table that
/// every step writes.
async fn left_by_vacuum(url: &str) -> i64 {
    let mut conn = PgConnection::connect(url).await.unwrap();
    conn.execute("VACUUM chaos.heads").await.unwrap();
    // Told by another process up to 14.
    pause(700).await;
    let dead = "SELECT n_dead_tup FROM pg_stat_all_tables \
         WHERE schemaname = 'chaos' AND relname = 'heads'";
    sqlx::query_scalar(dead).fetch_one(&mut conn).await.unwrap()
}

/// Each fault once, in seconds that follow each other. Answers what vacuum had to leave because of a
/// transaction that was idle for most of them.
async fn faults(server: &mut Server, site: &Chaotic, crew: &mut Crew<'_, Chaotic>) -> i64 {
    let url = server.url();
    pause(700).await;
    // Holds back vacuum, and sees the past, until its backend is ended.
    let mut idle = PgConnection::connect(&url).await.unwrap();
    idle.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")
        .await
        .unwrap();
    cut(&url, site).await;
    crew.replace_one();
    pause(700).await;
    still_and_read_only(server, &url).await;
    crew.freeze_one(ms(3_000)).await;
    let held_back = left_by_vacuum(&url).await;
    exhausted(&url).await;
    server.restart();
    pause(700).await;
    crew.replace_one();
    held_back
}

// covers: S5, S18, S19, L1, L2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_runs_end_well_whatever_happens_to_server_and_workers() {
    let Some(mut server) = Server::start() else { return };
    let site = Chaotic { url: server.url(), proxy: Proxy::before(&server.url()).await };
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let mut held_back = 0;
    let chaos = async |crew: &mut Crew<'_, Chaotic>| {
        held_back = faults(&mut server, &site, crew).await;
    };
    let ended = fleet::everything_ends_well(&site, folder.path(), RUNS, chaos).await;
    println!("{ended:?}");
    assert!(ended.cut > 0, "nothing was under way at any fault: {ended:?}");
    // Every run is written several times, so there is something to be held back.
    let left = left_by_vacuum(&site.url).await;
    println!("vacuum had to leave {held_back} dead rows, and {left} when all was over");
    assert!(held_back >= 500, "the idle transaction held back {held_back} dead rows");
    assert!(left < held_back / 10, "{left} dead rows are left of {held_back}");
}
