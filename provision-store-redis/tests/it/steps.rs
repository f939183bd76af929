//! What a step costs: round trips, counted here and by the server.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use provision_core::{
    id::Timestamp,
    store::{Appended, Leased, NewRun, Release, StateStore as _, Submission},
};
use provision_store_redis::{RedisConfig, RedisStore};
use provision_testkit::conformance::{
    Handle, acquire_any, append_of, held_for, ledger_row, new_worker, run_head,
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

// The server syncs once for all that it read together; it does not count syncs, but reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_of_many_runs_share_their_syncs() {
    let Some(server) = Server::start("") else { return };
    let store = quiet(&server).await;
    let runs = leased(&store, 32).await;
    let loops = |server: &Server| {
        let answer = server.ask("INFO stats").unwrap();
        let text: String = redis::from_redis_value(answer).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("total_reads_processed:"));
        line.expect("the server counts its reads").parse::<u64>().unwrap()
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
    let after = loops(&server);
    println!("{} reads of the socket for {} appends", after - before, 32 * 50);
    assert!((after - before) * 2 <= 32 * 50, "{} reads", after - before);
}

/// A run that waits in a queue of its own.
fn queued(name: usize, due: Timestamp) -> NewRun {
    let mut head = run_head();
    (head.queue, head.due) = (format!("q{name}"), due);
    NewRun { head, lease_to: None }
}

// covers: L2
#[tokio::test]
async fn queues_in_which_nothing_waits_cost_a_claim_nothing() {
    let Some(server) = Server::start("") else { return };
    let store = quiet(&server).await;
    let seeks = |server: &Server| calls(server, "zrangebylex") + calls(server, "hmget");
    let worker = new_worker();
    let mut claimed = acquire_any(worker, Duration::from_secs(600));
    claimed.acquire.as_mut().unwrap().limit = 1_000;
    let mut costs = Vec::new();
    for round in 0..4 {
        let batch =
            (0..100).map(|n| Submission::Run(Box::new(queued(round * 100 + n, Timestamp::NEVER))));
        store.submit(&batch.collect::<Vec<_>>()).await.unwrap();
        let due = Submission::Run(Box::new(queued(round, Timestamp::ZERO)));
        store.submit(&[due]).await.unwrap();
        let before = seeks(&server);
        let grant = store.lease(&claimed).await.unwrap();
        assert_eq!(grant.leased.len(), 1);
        store.lease(&held_for(worker, Duration::from_secs(600))).await.unwrap();
        costs.push(seeks(&server) - before);
    }
    assert!(costs.iter().all(|cost| *cost == costs[0] && *cost < 40), "{costs:?}");
}

// Who waits knows when the first of them comes due, and looks for the next one then.
// covers: L7
#[tokio::test]
async fn a_wait_that_is_not_the_next_to_end_wakes_nobody() {
    let Some(server) = Server::start("") else { return };
    let store = quiet(&server).await;
    let handle = Handle::of(Arc::new(store.clone()));
    let due = store.now().await.unwrap().plus(Duration::from_secs(60));
    handle.submit(Submission::Run(Box::new(queued(1, due)))).await;
    let told = calls(&server, "publish");
    assert!(told > 0, "the first one is told");
    for later in 1..50 {
        let due = due.plus(Duration::from_secs(later));
        handle.submit(Submission::Run(Box::new(queued(1, due)))).await;
    }
    assert_eq!(calls(&server, "publish"), told);
    handle.submit(Submission::Run(Box::new(queued(1, Timestamp::ZERO)))).await;
    assert_eq!(calls(&server, "publish"), told + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_waits_costs_no_round_trip_of_its_own() {
    let Some(server) = Server::start("") else { return };
    let store = quiet(&server).await;
    let counted = store.clone();
    let calls = move || counted.counters().round_trips;
    let (without, with) = provision_testkit::idle::waiting_runs_cost_nothing(store, calls).await;
    println!("{without} round trips without runs, {with} beside runs that wait");
}
