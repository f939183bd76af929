//! What a step costs: round trips, counted here and by the server.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use provision_core::{
    id::Timestamp,
    store::{Appended, Leased, NewRun, Release, StateStore as _, Submission, Submitted},
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

/// So many leased runs append `frames` times each, at the same time.
async fn append_at_once(store: &RedisStore, runs: Vec<Leased>, frames: u64) {
    let mut tasks = JoinSet::new();
    for leased in runs {
        let store = store.clone();
        tasks.spawn(async move {
            for seq in 1..=frames {
                let answers = store.append(&[append_of(&leased, seq)]).await.unwrap();
                assert!(matches!(answers[..], [Appended::Applied { lease_lost: false, .. }]));
            }
        });
    }
    tasks.join_all().await;
}

/// Commands that the server has carried out, those inside scripts among them.
fn commands(server: &Server) -> u64 {
    let answer = server.ask("INFO commandstats").unwrap();
    let text: String = redis::from_redis_value(answer).unwrap();
    let calls = text.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let calls = rest.split(',').next()?.parse::<u64>().ok()?;
        // Those of this test.
        (!matches!(name, "info" | "config|get" | "client|setinfo")).then_some(calls)
    });
    calls.sum()
}

// What a plain append may cost cannot creep up: the script, the clock twice, the row, the frame and
// the row again; alone, and far less each where many runs write at the same time.
#[tokio::test]
async fn appends_of_many_runs_share_a_script_and_its_commands() {
    let Some(server) = Server::start("") else { return };
    let store = quiet(&server).await;
    let alone = leased(&store, 1).await;
    append_at_once(&store, leased(&store, 1).await, 1).await;
    let (before, round_trips) = (commands(&server), store.counters().round_trips);
    append_at_once(&store, alone, 50).await;
    // The clock is written down now and then.
    let cost = commands(&server) - before;
    assert!(cost <= 50 * 7, "{cost} commands for 50 appends of one run");
    assert_eq!(store.counters().round_trips - round_trips, 50);

    let runs = leased(&store, 64).await;
    let (before, round_trips) = (commands(&server), store.counters().round_trips);
    append_at_once(&store, runs, 20).await;
    let (cost, round_trips) =
        (commands(&server) - before, store.counters().round_trips - round_trips);
    println!("{cost} commands and {round_trips} round trips for {} appends", 64 * 20);
    assert!(cost * 2 <= 64 * 20, "{cost} commands");
    assert!(round_trips * 8 <= 64 * 20, "{round_trips} round trips");
}

#[tokio::test]
async fn starts_of_many_tasks_share_a_script_and_its_commands() {
    let Some(server) = Server::start("") else { return };
    let store = quiet(&server).await;
    let worker = new_worker();
    let born = |_| {
        let head = run_head();
        Submission::Run(Box::new(NewRun {
            head,
            lease_to: Some((worker, Duration::from_secs(60)).into()),
        }))
    };
    let first: Vec<_> = (0..100).map(born).collect();
    store.submit(&first).await.unwrap();
    let (before, round_trips) = (commands(&server), store.counters().round_trips);
    let (one, two) = (store.clone(), (0..64).map(born).collect::<Vec<_>>());
    let starts = two.iter().map(|start| one.submit(std::slice::from_ref(start)));
    for answer in join_all(starts).await {
        assert!(matches!(answer.unwrap()[..], [Submitted::Created(Some(_))]));
    }
    let (cost, round_trips) =
        (commands(&server) - before, store.counters().round_trips - round_trips);
    println!("{cost} commands and {round_trips} round trips for 64 starts");
    assert!(cost <= 64 * 4, "{cost} commands");
    assert!(round_trips <= 8, "{round_trips} round trips");
}

// covers: S3, S19
#[tokio::test]
async fn what_fails_of_a_script_that_many_share_fails_nobody_else() {
    let Some(server) = Server::start("") else { return };
    let store = quiet(&server).await;
    let runs = leased(&store, 4).await;
    let mut damaged = append_of(&runs[0], 1);
    let row = ledger_row(damaged.run, "vm", "one");
    damaged.ledger = vec![row.clone()];
    store.append(&[damaged]).await.unwrap();
    let answer = server.ask("HKEYS {default}:ledger").unwrap();
    let keys: Vec<String> = redis::from_redis_value(answer).unwrap();
    for key in keys {
        server.ask(&format!("HSET {{default}}:ledger {key} damaged")).unwrap();
    }
    let mut poison = append_of(&runs[0], 2);
    poison.ledger = vec![row];
    let mut stale = append_of(&runs[2], 1);
    stale.fence.nonce += 1;
    // The third is the first, repeated before its answer has come.
    let (good, last) = (append_of(&runs[1], 1), append_of(&runs[3], 1));
    let all = [good.clone(), poison, good, stale, last];
    let before = store.counters().round_trips;
    let all = all.iter().map(|append| store.append(std::slice::from_ref(append)));
    let answers: [_; 5] = join_all(all).await.try_into().unwrap();
    let [good, poison, same, stale, last] = answers;
    assert_eq!(store.counters().round_trips - before, 1, "all of them share a script");
    for applied in [good, same, last] {
        assert!(matches!(applied.unwrap()[..], [Appended::Applied { lease_lost: false, .. }]));
    }
    assert_eq!(stale.unwrap(), [Appended::Stale]);
    assert_eq!(poison.unwrap_err().code(), "redis_refused");
    let ids: Vec<_> = runs.iter().map(|leased| leased.record.head.id).collect();
    let seqs = store.load(&ids).await.unwrap().into_iter().map(|record| record.unwrap().head.seq);
    assert_eq!(
        seqs.collect::<Vec<_>>(),
        [1, 1, 0, 1],
        "what failed has written nothing of its run"
    );
}

// covers: S25
#[tokio::test]
async fn starts_that_are_too_many_for_the_lanes_together_are_made_one_by_one() {
    let Some(server) = Server::start("") else { return };
    let store = quiet(&server).await;
    // Room for as many lanes as one start has arguments, and not for twice as many.
    let fill = "for n = 1, 1999936, 2000 do local f = {} for i = n, math.min(n + 1999, 1999936) do \
                f[#f + 1] = i f[#f + 1] = '' end redis.call('HSET', KEYS[1], unpack(f)) end";
    let fill = redis::Script::new(fill);
    let _: () =
        fill.key("{default}:lanes").invoke(&mut server.client().get_connection().unwrap()).unwrap();
    let start = |n| Submission::Run(Box::new(queued(n, Timestamp::ZERO)));
    let (first, second, third) = (start(1), start(2), start(3));
    let (first, second, third) = tokio::join!(
        store.submit(std::slice::from_ref(&first)),
        store.submit(std::slice::from_ref(&second)),
        store.submit(std::slice::from_ref(&third)),
    );
    for started in [first, second, third] {
        assert!(matches!(started.unwrap()[..], [Submitted::Created(None)]));
    }
    let many: Vec<_> = (10..40).map(start).collect();
    let error = store.submit(&many).await.unwrap_err();
    assert_eq!(error.code(), "redis_too_many_lanes");
}

// Its task belongs to the runtime in which it was first used.
#[test]
fn a_store_goes_on_in_another_runtime() {
    let Some(server) = Server::start("") else { return };
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (store, run) = runtime().block_on(async {
        let store = quiet(&server).await;
        let run = leased(&store, 1).await.remove(0);
        store.append(&[append_of(&run, 1)]).await.unwrap();
        (store, run)
    });
    let again = runtime();
    let mut tries = 0..10;
    let applied = tries.any(|_| again.block_on(store.append(&[append_of(&run, 2)])).is_ok());
    assert!(applied, "the connection is made anew, and so is the task");
}
