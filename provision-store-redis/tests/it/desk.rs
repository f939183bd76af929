//! Calls that share a script: what one of them meets, or a server that does not answer, is nobody
//! else's trouble.

use std::{
    sync::Arc,
    task::{Context, Waker},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use provision_core::{
    error::StoreErrorKind,
    run::RunStatus,
    store::{
        Guard, GuardUntil, Incarnation, NewRun, Release, RunFilter, RunHead, StateStore as _,
        Submission, Submitted,
    },
};
use provision_store_redis::{RedisConfig, RedisStore};
use provision_testkit::conformance::{Handle, append_of, ledger_row, new_worker, run_head};

use crate::server::Server;

const TTL: Duration = Duration::from_secs(600);

async fn quiet(server: &Server) -> RedisStore {
    RedisConfig::new(server.url()).with_polling_only().open().await.unwrap()
}

fn born(head: RunHead, worker: Incarnation) -> Submission {
    Submission::Run(Box::new(NewRun { head, lease_to: Some((worker, TTL).into()) }))
}

// covers: L3, S25
#[tokio::test]
async fn thousands_of_leases_that_are_over_stop_nobody_who_takes_thousands_more() {
    const RUNS: usize = 3_000;
    let Some(server) = Server::start("") else { return };
    let store = quiet(&server).await;
    for round in 0..4 {
        let worker = new_worker();
        let batch: Vec<_> = (0..RUNS).map(|_| born(run_head(), worker)).collect();
        let answers = store.submit(&batch).await.unwrap();
        let ends = answers.into_iter().map(|answer| {
            let Submitted::Created(Some(leased)) = answer else {
                panic!("round {round}: {answer:?}")
            };
            let mut end = append_of(&leased, 1);
            (end.status, end.open) = (RunStatus::Succeeded, false);
            end.release = Some(Release {
                due: provision_core::id::Timestamp::NEVER,
                polls: std::collections::BTreeMap::new(),
                seen: 0,
            });
            end
        });
        store.append(&ends.collect::<Vec<_>>()).await.unwrap();
        let counted = server.ask("ZCARD {default}:capped").unwrap();
        let counted: usize = redis::from_redis_value(counted).unwrap();
        assert!(counted <= 3 * RUNS, "round {round}: {counted} leases are counted");
    }
}

// covers: L1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_server_that_stands_still_nobody_waits_for_the_silence_of_others() {
    let Some(server) = Server::start("") else { return };
    let patience = Duration::from_secs(1);
    let config = RedisConfig::new(server.url()).with_polling_only();
    let config = config.with_response_timeout(patience).with_connection_timeout(patience);
    let store = config.open().await.unwrap();
    let worker = new_worker();
    store.submit(&[born(run_head(), worker)]).await.unwrap();
    server.stop();
    let began = Instant::now();
    // Twenty scripts' worth of starts.
    let starts = (0..320).map(|_| {
        let store = store.clone();
        async move { store.submit(&[born(run_head(), worker)]).await }
    });
    let answers = join_all(starts).await;
    let took = began.elapsed();
    server.go_on();
    for answer in answers {
        assert_eq!(answer.unwrap_err().kind(), StoreErrorKind::Unavailable);
    }
    // A silence for what was sent, and one more for who came as that was given up.
    assert!(took < patience * 8, "{took:?}");
}

// covers: S2
#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_sent() {
    let Some(server) = Server::start("") else { return };
    let store = quiet(&server).await;
    let (worker, first, kept) = (new_worker(), run_head(), run_head());
    let gone: Vec<_> = (0..50).map(|_| run_head()).collect();
    {
        let dropped = gone.iter().map(|head| {
            let (store, submission) = (store.clone(), born(head.clone(), worker));
            async move { store.submit(&[submission]).await }
        });
        let mut dropped = Box::pin(join_all(dropped));
        // All of them are handed over, and their callers go away before any was sent.
        let mut context = Context::from_waker(Waker::noop());
        assert!(dropped.as_mut().poll(&mut context).is_pending());
    }
    store.submit(&[born(first.clone(), worker)]).await.unwrap();
    store.submit(&[born(kept.clone(), worker)]).await.unwrap();
    let found = store.list(&RunFilter { limit: 100, ..RunFilter::default() }).await.unwrap();
    let mut ids: Vec<_> = found.runs.into_iter().map(|head| head.id).collect();
    ids.sort_unstable();
    let mut wanted = vec![first.id, kept.id];
    wanted.sort_unstable();
    assert_eq!(ids, wanted, "nothing of what was given up was started");
}

// covers: S2
#[tokio::test]
async fn a_key_that_another_call_of_the_same_script_has_taken_is_told_with_its_run() {
    let Some(server) = Server::start("") else { return };
    let store = quiet(&server).await;
    let guard = Guard { key: "domain/acme.example".to_owned(), until: GuardUntil::Ended };
    let old = RunHead { guard: Some(guard.clone()), ..run_head() };
    let answers = store.submit(&[born(old.clone(), new_worker())]).await.unwrap();
    let [Submitted::Created(Some(leased))] = &answers[..] else { panic!("{answers:?}") };
    let mut end = append_of(leased, 1);
    (end.status, end.open, end.free_guard) = (RunStatus::Succeeded, false, true);
    store.append(&[end]).await.unwrap();
    let new = RunHead { guard: Some(guard), ..run_head() };
    let body = provision_core::id::Payload::null();
    let (start, reopen) =
        ([born(new.clone(), new_worker())], [Submission::Reopen { run: old.id, body }]);
    let before = store.counters().round_trips;
    let (started, reopened) = tokio::join!(store.submit(&start), store.submit(&reopen));
    assert_eq!(store.counters().round_trips - before, 1, "they share a script");
    assert!(matches!(&started.unwrap()[..], [Submitted::Created(Some(_))]));
    let reopened = reopened.unwrap();
    assert!(
        matches!(&reopened[..], [Submitted::Guarded(head)] if head.id == new.id),
        "{reopened:?}"
    );
}

// covers: S3
#[tokio::test]
async fn an_append_that_meets_a_damaged_row_of_the_ledger_writes_nothing_at_all() {
    let Some(server) = Server::start("") else { return };
    let store = quiet(&server).await;
    let handle = Handle::of(Arc::new(store.clone()));
    let answer = handle.submit(born(run_head(), new_worker())).await;
    let Submitted::Created(Some(leased)) = answer else { panic!("{answer:?}") };
    let rows = ["one", "two"].map(|path| ledger_row(leased.record.head.id, "vm", path));
    let mut first = append_of(&leased, 1);
    first.ledger = vec![rows[1].clone()];
    store.append(&[first]).await.unwrap();
    let answer = server.ask("HKEYS {default}:ledger").unwrap();
    let keys: Vec<String> = redis::from_redis_value(answer).unwrap();
    let [damaged] = &keys[..] else { panic!("{keys:?}") };
    server.ask(&format!("HSET {{default}}:ledger {damaged} damaged")).unwrap();
    let mut second = append_of(&leased, 2);
    second.ledger = rows.to_vec();
    assert_eq!(store.append(&[second]).await.unwrap_err().code(), "redis_refused");
    let answer = server.ask("HKEYS {default}:ledger").unwrap();
    let left: Vec<String> = redis::from_redis_value(answer).unwrap();
    assert_eq!(left, keys, "the row beside it was not written either");
    let record = handle.record(leased.record.head.id).await;
    assert_eq!(record.frames.len(), 1);
}
