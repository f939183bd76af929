//! What a step costs: round trips, counted here and by the server.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use provision_core::{
    id::Timestamp,
    store::{Appended, Leased, Release, StateStore as _},
};
use provision_store_redis::{RedisConfig, RedisStore};
use provision_testkit::conformance::{
    Handle, acquire_any, append_of, ledger_row, new_worker, run_head,
};
use tokio::task::JoinSet;

use crate::{everything::everything, server::Server};

async fn quiet(server: &Server) -> RedisStore {
    RedisConfig::new(server.url()).with_polling_only().open().await.unwrap()
}

async fn leased(store: &RedisStore, count: usize) -> Vec<Leased> {
    let handle = Handle::of(Arc::new(store.clone()));
    for _ in 0..count {
        handle.started(run_head()).await;
    }
    handle.lease(&acquire_any(new_worker(), Duration::from_secs(600))).await.leased
}

/// Calls of a command that the server has seen.
pub(crate) fn calls(server: &Server, command: &str) -> u64 {
    let answer = server.ask("INFO commandstats").unwrap();
    let text: String = redis::from_redis_value(answer).unwrap();
    let prefix = format!("cmdstat_{command}:calls=");
    let line = text.lines().find_map(|line| line.strip_prefix(prefix.as_str()));
    line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn an_append_is_one_round_trip_whatever_hangs_on_it() {
    let Some(server) = Server::start("") else { return };
    let store = quiet(&server).await;
    everything(&store).await;
    let run = leased(&store, 1).await.remove(0);
    let (before, scripts) = (store.counters(), calls(&server, "evalsha"));
    for seq in 1..=20 {
        let answers = store.append(&[append_of(&run, seq)]).await.unwrap();
        assert!(matches!(answers[..], [Appended::Applied { lease_lost: false, .. }]));
    }
    let after = store.counters();
    assert_eq!(after.round_trips - before.round_trips, 20);
    assert_eq!(after.texts_sent, before.texts_sent);
    assert_eq!(calls(&server, "evalsha") - scripts, 20);
    // Names of keys, the row's fields and the frame: what a plain step sends.
    let bytes = (after.bytes_sent - before.bytes_sent) / 20;
    assert!(bytes < 1_000, "{bytes} bytes a step");
    let mut rich = append_of(&run, 21);
    rich.ledger = vec![ledger_row(rich.run, "vm", "one"), ledger_row(rich.run, "db", "two")];
    rich.wakes = vec![run_head().id];
    rich.release = Some(Release { due: Timestamp::NEVER, polls: BTreeMap::new(), seen: 0 });
    store.append(&[rich]).await.unwrap();
    assert_eq!(store.counters().round_trips - after.round_trips, 1);
}

#[tokio::test]
async fn a_batch_of_any_size_is_one_round_trip() {
    let Some(server) = Server::start("") else { return };
    let store = quiet(&server).await;
    let runs = leased(&store, 40).await;
    let batch: Vec<_> = runs.iter().map(|leased| append_of(leased, 1)).collect();
    let again: Vec<_> = runs.iter().map(|leased| append_of(leased, 2)).collect();
    let ids: Vec<_> = runs.iter().map(|leased| leased.record.head.id).collect();
    store.append(&batch).await.unwrap();
    store.load(&ids[..1]).await.unwrap();
    let before = store.counters().round_trips;
    let answers = store.append(&again).await.unwrap();
    assert!(answers.iter().all(|answer| matches!(answer, Appended::Applied { .. })));
    store.lease(&acquire_any(new_worker(), Duration::from_secs(60))).await.unwrap();
    store.load(&ids).await.unwrap();
    assert_eq!(store.counters().round_trips - before, 3);
}

// The server syncs once for all that it read together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_of_many_runs_share_their_syncs() {
    let Some(server) = Server::start("") else { return };
    let store = quiet(&server).await;
    let runs = leased(&store, 32).await;
    let loops = |server: &Server| {
        let answer = server.ask("INFO stats").unwrap();
        let text: String = redis::from_redis_value(answer).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("total_reads_processed:"));
        line.map(|count| count.parse::<u64>().unwrap())
    };
    let before = loops(&server);
    let mut tasks = JoinSet::new();
    for leased in runs {
        let store = store.clone();
        tasks.spawn(async move {
            for seq in 1..=50 {
                let answers = store.append(&[append_of(&leased, seq)]).await.unwrap();
                assert!(matches!(answers[..], [Appended::Applied { lease_lost: false, .. }]));
            }
        });
    }
    tasks.join_all().await;
    let (Some(before), Some(after)) = (before, loops(&server)) else { return };
    println!("{} reads of the socket for {} appends", after - before, 32 * 50);
    assert!((after - before) * 2 <= 32 * 50, "{} reads", after - before);
}
