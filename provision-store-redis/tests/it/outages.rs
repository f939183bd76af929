//! Servers that die, forget their scripts, are full, or become something else.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use provision_core::{
    StoreError,
    error::StoreErrorKind,
    id::RunId,
    store::{Appended, Leased, NewRun, RunFilter, RunRecord, StateStore, Submission, Submitted},
};
use provision_store_redis::{Durability, RedisConfig, RedisStore};
use provision_testkit::conformance::{Handle, acquire_any, append_of, new_worker, run_head};
use tokio::task::JoinSet;

use crate::{
    everything::{everything, submission},
    server::Server,
    steps::calls,
};

/// How long a store may need to find its server again.
const BACK_MAX: Duration = Duration::from_secs(60);

async fn leased(store: &RedisStore) -> Leased {
    let new = NewRun { head: run_head(), lease_to: Some((new_worker(), BACK_MAX * 30).into()) };
    let answers = store.submit(&[Submission::Run(Box::new(new))]).await.unwrap();
    let Some(Submitted::Created(Some(leased))) = answers.into_iter().next() else { panic!() };
    *leased
}

/// Repeats an append until its answer is definite, as the engine does (S18, S19).
async fn insist(store: &RedisStore, leased: &Leased, seq: u64) {
    let begun = Instant::now();
    loop {
        match store.append(&[append_of(leased, seq)]).await.as_deref() {
            Ok([Appended::Applied { lease_lost: false, .. }]) => return,
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                assert!(error.is_transient(), "{error} ({error:?})");
                assert!(begun.elapsed() < BACK_MAX, "{error}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

type Known = Arc<Mutex<BTreeMap<RunId, u64>>>;

/// Writers that go on through anything; what was answered is noted.
fn writers(store: &RedisStore, count: usize, frames: u64) -> (JoinSet<()>, Known) {
    let (mut tasks, known) = (JoinSet::new(), Known::default());
    for _ in 0..count {
        let (store, known) = (store.clone(), Arc::clone(&known));
        tasks.spawn(async move {
            let leased = leased(&store).await;
            for seq in 1..=frames {
                insist(&store, &leased, seq).await;
                known.lock().unwrap().insert(leased.record.head.id, seq);
            }
        });
    }
    (tasks, known)
}

/// Repeats a load while the server cannot be reached: the connection of before may be the first to
/// tell that it is gone.
async fn loaded(store: &dyn StateStore, run: RunId) -> RunRecord {
    let begun = Instant::now();
    loop {
        match store.load(&[run]).await {
            Ok(mut records) => return records.remove(0).expect("the run is there"),
            Err(error) => {
                assert!(error.is_transient(), "{error} ({error:?})");
                assert!(begun.elapsed() < BACK_MAX, "{error}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

async fn whole(store: &dyn StateStore, known: &Known) {
    let known = known.lock().unwrap().clone();
    assert!(!known.is_empty());
    for (run, seq) in known {
        let record = loaded(store, run).await;
        assert!(record.head.seq >= seq, "{} of {seq}", record.head.seq);
        assert_eq!(record.frames.len() as u64, record.head.seq, "no half append, none twice");
    }
}

// covers: S1, S18, S19, R1-09
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_started_again_loses_nothing_that_was_answered() {
    let Some(mut server) = Server::start("") else { return };
    let store = RedisStore::open(server.url()).await.unwrap();
    let (mut tasks, known) = writers(&store, 8, 400);
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        server.kill();
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.again();
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    whole(&store, &known).await;
    assert!(known.lock().unwrap().values().all(|seq| *seq == 400));
}

// covers: S19
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_are_flushed_between_any_two_commands_stop_nobody() {
    let Some(server) = Server::start("") else { return };
    let store = RedisStore::open(server.url()).await.unwrap();
    let flushed = server.client();
    let mut flusher = JoinSet::new();
    flusher.spawn(async move {
        let mut connection = flushed.get_multiplexed_async_connection().await.unwrap();
        loop {
            let _: redis::Value =
                redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut connection).await.unwrap();
        }
    });
    for _ in 0..5 {
        everything(&store).await;
    }
    let (tasks, known) = writers(&store, 4, 50);
    tasks.join_all().await;
    whole(&store, &known).await;
    assert!(store.counters().texts_sent > 20, "{:?}", store.counters());
}

// covers: S25
#[tokio::test]
async fn a_full_server_writes_nothing_and_goes_on_when_there_is_room() {
    let Some(server) = Server::start("") else { return };
    let store = RedisStore::open(server.url()).await.unwrap();
    let leased = leased(&store).await;
    server.ask("CONFIG SET maxmemory 1").unwrap();
    let error = store.submit(&[submission()]).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (StoreErrorKind::Full, "redis_full"));
    assert!(error.hint().is_some());
    let error = store.append(&[append_of(&leased, 1)]).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (StoreErrorKind::Full, "redis_full"));
    assert!(store.load(&[leased.record.head.id]).await.is_ok(), "a full server is read");
    server.ask("CONFIG SET maxmemory 0").unwrap();
    assert_eq!(store.list(&RunFilter::default()).await.unwrap().runs.len(), 1);
    insist(&store, &leased, 1).await;
}

// covers: S18
#[tokio::test]
async fn a_server_that_becomes_a_replica_is_waited_for() {
    let (Some(server), Some(other)) = (Server::start(""), Server::start("")) else { return };
    let store = RedisStore::open(server.url()).await.unwrap();
    let leased = leased(&store).await;
    server.ask("CONFIG SET replica-serve-stale-data yes").unwrap();
    drop(other);
    server.ask("REPLICAOF 127.0.0.1 1").unwrap();
    let error = store.append(&[append_of(&leased, 1)]).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (StoreErrorKind::Unavailable, "redis_read_only"));
    assert!(error.is_transient());
    server.ask("REPLICAOF NO ONE").unwrap();
    insist(&store, &leased, 1).await;
}

/// Why it cannot be read, once it is asked on a connection that stands.
async fn refused(store: &RedisStore) -> StoreError {
    loop {
        let error = store.list(&RunFilter::default()).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        if !["redis_unreachable", "redis_unavailable"].contains(&error.code()) {
            return error;
        }
    }
}

async fn is_back(store: &RedisStore) {
    let begun = Instant::now();
    while let Err(error) = store.now().await {
        assert!(error.is_transient() && begun.elapsed() < BACK_MAX, "{error}");
    }
}

// Run state is never read from a replica: what it has may be old.
// covers: S18
#[tokio::test]
async fn a_server_that_became_a_replica_is_not_read() {
    let Some(server) = Server::start("") else { return };
    let config = RedisConfig::new(server.url()).with_polling_only();
    let store = config.open().await.unwrap();
    let run = leased(&store).await.record.head.id;
    server.ask("REPLICAOF 127.0.0.1 1").unwrap();
    let error = store.load(&[run]).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (StoreErrorKind::Unavailable, "redis_read_only"));
    // Its connection was given up; the next one leads to the same server.
    let error = refused(&store).await;
    assert_eq!((error.kind(), error.code()), (StoreErrorKind::Unavailable, "redis_is_replica"));
    server.ask("REPLICAOF NO ONE").unwrap();
    is_back(&store).await;
    assert!(store.load(&[run]).await.unwrap()[0].is_some());
}

// The declared level holds on every connection.
// covers: S18
#[tokio::test]
async fn a_server_that_comes_back_with_weaker_settings_is_waited_for() {
    let Some(server) = Server::start("") else { return };
    let config = RedisConfig::new(server.url()).with_polling_only();
    let store = config.open().await.unwrap();
    for (weak, good, code) in [
        ("appendfsync everysec", "appendfsync always", "redis_not_synced"),
        ("maxmemory-policy allkeys-lru", "maxmemory-policy noeviction", "redis_evicts"),
    ] {
        server.ask(&format!("CONFIG SET {weak}")).unwrap();
        server.ask("CLIENT KILL TYPE normal").unwrap();
        let error = refused(&store).await;
        assert_eq!((error.kind(), error.code()), (StoreErrorKind::Unavailable, code));
        server.ask(&format!("CONFIG SET {good}")).unwrap();
        is_back(&store).await;
    }
}

// A server that has just started is met by all processes at once.
// covers: S18
#[tokio::test]
async fn a_log_in_that_is_refused_by_a_server_that_was_good_is_waited_for() {
    let Some(server) = Server::start("requirepass hunter3") else { return };
    let url = format!("redis://:hunter3@127.0.0.1:{}", server.port());
    let store = RedisConfig::new(&url).with_polling_only().open().await.unwrap();
    let leased = leased(&store).await;
    let mut other = redis::Client::open(url).unwrap().get_connection().unwrap();
    let mut ask = |words: &str| {
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        for word in words {
            command.arg(word);
        }
        command.exec(&mut other).unwrap();
    };
    ask("CONFIG SET maxclients 1");
    ask("CLIENT KILL TYPE normal");
    let begun = Instant::now();
    let mut refused = 0;
    while refused < 3 {
        assert!(begun.elapsed() < BACK_MAX);
        let error = store.append(&[append_of(&leased, 1)]).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        refused += 1;
    }
    ask("CONFIG SET maxclients 100");
    insist(&store, &leased, 1).await;
}

// covers: S18
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_of_somebody_else_that_never_ends_is_waited_for() {
    let Some(server) = Server::start("lua-time-limit 20") else { return };
    let store = RedisStore::open(server.url()).await.unwrap();
    let leased = leased(&store).await;
    let client = server.client();
    let endless = std::thread::spawn(move || {
        let mut connection = client.get_connection().unwrap();
        let endless = redis::cmd("EVAL").arg("while true do end").arg(0).clone();
        endless.query::<redis::Value>(&mut connection)
    });
    let begun = Instant::now();
    let error = loop {
        // Before the limit has passed, calls are answered late, but answered.
        match store.append(&[append_of(&leased, 1)]).await {
            Err(error) => break error,
            Ok(_) => assert!(begun.elapsed() < BACK_MAX),
        }
    };
    assert_eq!((error.kind(), error.code()), (StoreErrorKind::Unavailable, "redis_busy"));
    server.ask("SCRIPT KILL").unwrap();
    assert!(endless.join().unwrap().is_err());
    insist(&store, &leased, 1).await;
}

/// A server with a replica that follows it.
pub(crate) fn pair() -> Option<(Server, Server)> {
    let server = Server::start("repl-diskless-sync-delay 0")?;
    let more = format!("repl-diskless-sync-delay 0\nreplicaof 127.0.0.1 {}", server.port());
    let replica = Server::start(&more)?;
    follows(&replica);
    Some((server, replica))
}

/// Waits until a replica has read all that its server held, and hears of what is written since.
pub(crate) fn follows(replica: &Server) {
    let begun = Instant::now();
    while begun.elapsed() < BACK_MAX {
        let answer = replica.ask("INFO replication").unwrap();
        let text: String = redis::from_redis_value(answer).unwrap();
        if text.contains("master_link_status:up") {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the replica does not follow");
}

// covers: S1, S19
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_loses_nothing_that_replicas_were_waited_for() {
    let Some((mut server, replica)) = pair() else { return };
    let level = Durability::Replicated(1);
    let config = RedisConfig::new(server.url()).with_durability(level);
    let store = config.with_response_timeout(Duration::from_secs(6)).open().await.unwrap();
    let (known, mut tasks) = (Known::default(), JoinSet::new());
    for _ in 0..8 {
        let (store, known) = (store.clone(), Arc::clone(&known));
        tasks.spawn(async move {
            let leased = leased(&store).await;
            for seq in 1.. {
                if store.append(&[append_of(&leased, seq)]).await.is_err() {
                    return;
                }
                known.lock().unwrap().insert(leased.record.head.id, seq);
            }
        });
    }
    let begun = Instant::now();
    while known.lock().unwrap().len() < 8 {
        assert!(begun.elapsed() < BACK_MAX, "not all of them write");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(400)).await;
    server.kill();
    tasks.join_all().await;
    replica.ask("REPLICAOF NO ONE").unwrap();
    let after = RedisStore::open(replica.url()).await.unwrap();
    assert_eq!(known.lock().unwrap().len(), 8);
    whole(&after, &known).await;
}

// covers: S18, S19
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_no_replica_has_is_not_known_and_repeated_until_one_has_it() {
    let Some((server, replica)) = pair() else { return };
    let config = RedisConfig::new(server.url()).with_durability(Durability::Replicated(1));
    let store = config.with_response_timeout(Duration::from_secs(3)).open().await.unwrap();
    let leased = leased(&store).await;
    insist(&store, &leased, 1).await;
    replica.stop();
    let error = store.append(&[append_of(&leased, 2)]).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (StoreErrorKind::Unavailable, "redis_not_replicated"));
    // The record stands; saying so without a replica would be a promise that nobody keeps.
    let error = store.append(&[append_of(&leased, 2)]).await.unwrap_err();
    assert_eq!(error.code(), "redis_not_replicated");
    replica.go_on();
    insist(&store, &leased, 2).await;
    let handle = Handle::of(Arc::new(store));
    assert_eq!(handle.record(leased.record.head.id).await.frames.len(), 2);
}

// From 7.2 on `WAIT` waits for what its own connection has replicated: nothing, if a call wrote
// nothing, however much of the record that it found is still on its way.
// covers: S19
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_finds_its_record_replicates_something_to_wait_for() {
    let Some((server, _replica)) = pair() else { return };
    let config = RedisConfig::new(server.url()).with_durability(Durability::Replicated(1));
    let store = config.with_polling_only().open().await.unwrap();
    let leased = leased(&store).await;
    insist(&store, &leased, 1).await;
    let start = submission();
    store.submit(std::slice::from_ref(&start)).await.unwrap();
    let handle = Handle::of(Arc::new(store.clone()));
    let (secret, sealed) = crate::everything::sealed_value(leased.record.head.id);
    handle.secrets.put(&secret, &sealed).await.unwrap();
    for _ in 0..20 {
        let before = calls(&server, "hset");
        insist(&store, &leased, 1).await;
        let appended = calls(&server, "hset");
        let known = store.submit(std::slice::from_ref(&start)).await.unwrap();
        assert!(matches!(known[..], [Submitted::Known(_)]));
        let submitted = calls(&server, "hset");
        handle.secrets.put(&secret, &sealed).await.unwrap();
        let put = calls(&server, "hset");
        assert!(before < appended && appended < submitted && submitted < put);
    }
}

// A failover that loses what was acknowledged: the same worker holds the same run at the same epoch
// again, and only the nonce tells its two leases apart.
// covers: S5, S19
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_from_before_a_loss_cannot_write_into_what_came_after() {
    let Some((mut server, replica)) = pair() else { return };
    let open = |url| RedisConfig::new(url).with_polling_only().open();
    let store = open(server.url()).await.unwrap();
    let handle = Handle::of(Arc::new(store.clone()));
    let run = handle.started(run_head()).await;
    let begun = Instant::now();
    let has_it = || replica.ask(&format!("HEXISTS {{default}}:rows {run}")).unwrap();
    while has_it() != redis::Value::Int(1) {
        assert!(begun.elapsed() < BACK_MAX, "the replica has not got the run");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // From here on everything is lost.
    replica.ask("REPLICAOF NO ONE").unwrap();
    let claim = acquire_any(new_worker(), BACK_MAX * 30);
    let before = handle.lease(&claim).await.leased.remove(0);
    insist(&store, &before, 1).await;
    server.kill();
    let after = open(replica.url()).await.unwrap();
    let again = Handle::of(Arc::new(after.clone())).lease(&claim).await.leased.remove(0);
    assert_eq!((again.fence.owner, again.fence.epoch), (before.fence.owner, before.fence.epoch));
    for seq in [1, 2] {
        let answers = after.append(&[append_of(&before, seq)]).await.unwrap();
        assert_eq!(answers, [Appended::Stale], "{seq}");
    }
    insist(&after, &again, 1).await;
    assert_eq!(after.append(&[append_of(&before, 2)]).await.unwrap(), [Appended::Stale]);
    let record = after.load(&[run]).await.unwrap().remove(0).unwrap();
    assert_eq!(record.frames.len(), 1);
}
