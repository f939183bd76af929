//! Two worker processes drive hundreds of runs while the server's disk is full, and full again.

use std::{
    fs,
    path::Path,
    process::Child,
    time::{Duration, Instant},
};

use provision_store_postgres::{PostgresConfig, PostgresStore};
use provision_testkit::fleet::{self, Crew, Site};
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::{
    fleet::CHILD,
    kill::child_on,
    server::{Server, Small},
};

/// Runs at least.
const RUNS: usize = 300;
/// How long it may take until the room that is not there is missed, or the server is there again.
const LONG: Duration = Duration::from_secs(90);

struct OnLittleRoom {
    url: String,
}

impl Site for OnLittleRoom {
    type Store = PostgresStore;

    async fn store(&self) -> PostgresStore {
        PostgresConfig::new(&self.url).with_schema("full").open().await.unwrap()
    }

    fn spawn(&self, folder: &Path) -> Child {
        fs::write(folder.join("place"), "full\ntrue").unwrap();
        child_on("fleet::child_works", CHILD, folder, &self.url)
    }
}

async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// Tells the server to begin a new file of its log; it may be away, or say no.
async fn new_file(url: &str) {
    if let Ok(mut conn) = PgConnection::connect(url).await {
        drop(conn.execute("SELECT pg_switch_wal()").await);
        drop(conn.close().await);
    }
}

/// There is no room until the server has missed it and a while has passed.
async fn full(server: &Server, small: Small) {
    let before = server.out_of_room();
    server.fill();
    let begun = Instant::now();
    while server.out_of_room() == before {
        assert!(begun.elapsed() < LONG, "nobody misses the room");
        if small == Small::Log {
            new_file(&server.url()).await;
        }
        pause(20).await;
    }
    pause(2_000).await;
}

/// There is room again. A server that has given up is started, as its operator would.
async fn room_again(server: &mut Server) {
    server.make_room();
    let begun = Instant::now();
    while PgConnection::connect(&server.url()).await.is_err() {
        assert!(begun.elapsed() < LONG, "the server does not come back");
        if !server.lives() {
            server.restart();
        }
        pause(50).await;
    }
    pause(1_000).await;
}

async fn hundreds_of_runs_end_well(small: Small) {
    let Some(mut server) = Server::start_on_little_room(small) else { return };
    let site = OnLittleRoom { url: server.url() };
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let faults = async |crew: &mut Crew<'_, OnLittleRoom>| {
        pause(1_000).await;
        full(&server, small).await;
        room_again(&mut server).await;
        full(&server, small).await;
        crew.replace_one();
        pause(1_000).await;
        room_again(&mut server).await;
    };
    let ended = fleet::everything_ends_well(&site, folder.path(), RUNS, faults).await;
    println!("{small:?}: {ended:?}");
}

// covers: S1, S5, S18, S19, S25, L1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_end_well_although_tables_had_no_room() {
    hundreds_of_runs_end_well(Small::Tables).await;
}

// A server that cannot write down what it does ends all that is under way, and perhaps itself.
// covers: S1, S5, S18, S19, S25, L1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_end_well_although_the_servers_log_had_no_room() {
    hundreds_of_runs_end_well(Small::Log).await;
}
