//! Worker processes drive runs while everything around their server goes wrong.

use std::{
    fs,
    path::Path,
    process::Child,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use provision_store_redis::{Durability, RedisConfig, RedisStore};
use provision_testkit::fleet::{self, Crew, Site};
use redis::aio::MultiplexedConnection;

use crate::{
    outages::{follows, pair},
    processes::child,
    server::Server,
    way::Way,
};

/// Runs at least.
const RUNS: usize = 300;
/// Set in children; its value is the folder they work in.
const CHILD: &str = "PROVISION_REDIS_TEST_CHAOS";
/// How long a worker that starts may wait for a good server.
const OPEN_MAX: Duration = Duration::from_secs(120);

/// A server that is reached by a way of which nobody knows where it leads.
struct Chaotic {
    way: Way,
    replicas: u32,
}

/// Waits no longer for answers than a test may last.
fn config(url: &str, replicas: u32) -> RedisConfig {
    let config = RedisConfig::new(url).with_response_timeout(Duration::from_secs(2));
    match replicas {
        0 => config,
        wanted => config.with_durability(Durability::Replicated(wanted)),
    }
}

impl Site for Chaotic {
    type Store = RedisStore;

    async fn store(&self) -> RedisStore {
        opened(config(&self.way.url, self.replicas)).await
    }

    fn spawn(&self, folder: &Path) -> Child {
        fs::write(folder.join("place"), format!("{}\n{}", self.way.url, self.replicas)).unwrap();
        child("chaos::child_works", CHILD, folder.to_str().unwrap())
    }
}

// Only does something in a child: works until it is told to stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_works() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let folder = Path::new(&folder);
    let place = fs::read_to_string(folder.join("place")).unwrap();
    let (url, replicas) = place.split_once('\n').unwrap();
    let store = opened(config(url, replicas.parse().unwrap())).await;
    fleet::work(store, folder).await;
}

/// Whoever looks after a host starts it until it stays.
async fn opened(config: RedisConfig) -> RedisStore {
    let begun = Instant::now();
    loop {
        match config.clone().open().await {
            Ok(store) => return store,
            Err(error) => assert!(begun.elapsed() < OPEN_MAX, "{error}"),
        }
        pause(100).await;
    }
}

async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Answers are lost together with their connections, again and again.
async fn answers_are_lost(way: &Way) {
    for _ in 0..20 {
        way.deaf.store(true, Relaxed);
        pause(20).await;
        way.deaf.store(false, Relaxed);
        pause(60).await;
    }
}

/// The server forgets its scripts between any two commands.
async fn scripts_are_forgotten(server: &Server) {
    let client = server.client();
    let mut connection: MultiplexedConnection =
        client.get_multiplexed_async_connection().await.unwrap();
    let flush = async {
        loop {
            let mut flush = redis::cmd("SCRIPT");
            flush.arg("FLUSH").exec_async(&mut connection).await.unwrap();
        }
    };
    tokio::select! {
        () = flush => {}
        () = pause(2_000) => {}
    }
}

async fn killed_and_started_again(server: &mut Server) {
    for _ in 0..2 {
        server.kill();
        pause(300).await;
        server.again();
        pause(700).await;
    }
}

/// It is full, it misses replicas, it is a replica itself: in all three it takes no writes.
async fn writes_are_refused(server: &Server) {
    for (bad, good) in [
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
        ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
    ] {
        server.ask(bad).unwrap();
        pause(1_500).await;
        server.ask(good).unwrap();
        pause(700).await;
    }
}

/// Longer than the leases of all workers.
async fn stands_still(server: &Server) {
    server.stop();
    pause(3_000).await;
    server.go_on();
    pause(700).await;
}

/// It is started again, and needs seconds to read what it has written; whether it said so.
async fn reads_for_long(server: &mut Server) -> bool {
    let mut many = redis::pipe();
    for _ in 0..10_000 {
        many.cmd("INCR").arg("of somebody else").ignore();
    }
    many.exec(&mut server.client().get_connection().unwrap()).unwrap();
    server.kill();
    server.set("key-load-delay 150");
    let has_read = server.again();
    pause(700).await;
    has_read
}

// covers: S1, S5, S18, S19, S25, L1, L2, R1-09
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_runs_end_well_whatever_happens_to_server_and_workers() {
    let Some(mut server) = Server::start("") else { return };
    let site = Chaotic { way: Way::to(server.port()).await, replicas: 0 };
    let faults = async |crew: &mut Crew<'_, Chaotic>| {
        pause(700).await;
        answers_are_lost(&site.way).await;
        scripts_are_forgotten(&server).await;
        crew.replace_one();
        killed_and_started_again(&mut server).await;
        writes_are_refused(&server).await;
        stands_still(&server).await;
        crew.freeze_one(Duration::from_secs(3)).await;
        assert!(reads_for_long(&mut server).await, "it read its file too fast");
        crew.replace_one();
    };
    let ended = fleet::everything_ends_well(&site, folder().path(), RUNS, faults).await;
    println!("{ended:?}");
}

/// It comes back as a replica of the other one.
fn comes_back_behind(server: &mut Server, other: &Server) {
    server.set(&format!("replicaof 127.0.0.1 {}", other.port()));
    server.again();
    follows(server);
}

// covers: S1, S5, S18, S19, L1, L2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failovers_lose_and_double_nothing_where_replicas_were_waited_for() {
    let Some((mut first, mut second)) = pair() else { return };
    let site = Chaotic { way: Way::to(first.port()).await, replicas: 1 };
    let faults = async |crew: &mut Crew<'_, Chaotic>| {
        pause(1_000).await;
        // Nobody has what is written now: it is waited for.
        stands_still(&second).await;
        crew.replace_one();
        pause(700).await;
        first.kill();
        second.ask("REPLICAOF NO ONE").unwrap();
        site.way.lead_to(second.port());
        // One that is left alone answers nothing, since it could promise nothing.
        pause(2_000).await;
        comes_back_behind(&mut first, &second);
        pause(1_500).await;
        second.kill();
        // The address leads to a replica for a while.
        site.way.lead_to(first.port());
        pause(1_500).await;
        first.ask("REPLICAOF NO ONE").unwrap();
        comes_back_behind(&mut second, &first);
        pause(700).await;
        crew.replace_one();
    };
    let ended = fleet::everything_ends_well(&site, folder().path(), RUNS, faults).await;
    println!("{ended:?}");
}

// covers: S5, S11, S18, L1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_that_loses_what_was_answered_mixes_nothing_up() {
    let Some((mut server, replica)) = pair() else { return };
    let site = Chaotic { way: Way::to(server.port()).await, replicas: 0 };
    let faults = async |crew: &mut Crew<'_, Chaotic>| {
        pause(1_500).await;
        // From here on everything is lost.
        replica.ask("REPLICAOF NO ONE").unwrap();
        pause(700).await;
        crew.replace_one();
        pause(1_500).await;
        server.kill();
        // What was under way at the provider is over when somebody takes over: with writes that are
        // lost, nothing says that it was.
        pause(2_000).await;
        site.way.lead_to(replica.port());
        pause(700).await;
        crew.replace_one();
    };
    let folder = folder();
    let scene = fleet::what_is_forgotten_is_told_and_mixed_up_with_nothing;
    let forgotten = scene(&site, folder.path(), RUNS, faults).await;
    assert!(forgotten.runs > 0 && forgotten.boxes > 0, "nothing was lost: {forgotten:?}");
    println!("{forgotten:?}");
}
