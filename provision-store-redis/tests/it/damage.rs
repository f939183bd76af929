//! Rows that somebody has damaged: told, and nobody else's trouble.

use std::{sync::Arc, time::Duration};

use provision_core::{
    StoreError,
    error::StoreErrorKind,
    id::{RunId, Timestamp},
    ledger::{LedgerOp, LedgerRow, ResourceState},
    limit::{Admission, Ask, Profile, Turn},
    queue::{Claim, Queue as _},
    retention::{Prune, RetentionStore as _, TombstoneQuery},
    run::RunStatus,
    store::{LeaseRequest, RunFilter, RunHead, StateStore as _},
};
use provision_store_redis::{RedisConfig, RedisStore};
use provision_testkit::conformance::{
    Handle, acquire_any, append_of, held_for, ledger_row, new_worker, run_head,
};

use crate::{everything::submission, server::Server};

const TTL: Duration = Duration::from_secs(60);

async fn opened() -> Option<(Server, RedisStore, Handle)> {
    let server = Server::start("")?;
    let store = RedisStore::open(server.url()).await.unwrap();
    let handle = Handle::of(Arc::new(store.clone()));
    Some((server, store, handle))
}

/// Changes one stored value.
fn put(server: &Server, kind: &str, run: RunId, value: &str) {
    let mut connection = server.client().get_connection().unwrap();
    let mut command = redis::cmd("HSET");
    command.arg(format!("{{default}}:{kind}")).arg(run.to_string()).arg(value);
    command.exec(&mut connection).unwrap();
}

fn told(error: &StoreError) -> (StoreErrorKind, &str) {
    (error.kind(), error.code())
}

// covers: S3
#[tokio::test]
async fn a_row_that_is_cut_holds_up_nobody_who_claims_renews_or_takes_over() {
    for cut in ["", "Running\n", "Running\n5\n0\n1\n"] {
        let Some((server, store, handle)) = opened().await else { return };
        let worker = new_worker();
        let held = handle.started(run_head()).await;
        assert_eq!(handle.lease(&acquire_any(worker, TTL)).await.leased.len(), 1);
        let ready = handle.started(run_head()).await;
        let mut later = run_head();
        later.due = store.now().await.unwrap().plus(Duration::from_millis(20));
        let later = handle.started(later).await;
        let whole = handle.started(run_head()).await;
        for run in [held, ready, later] {
            put(&server, "rows", run, cut);
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
        // Its owner dies, the others come due.
        let request = LeaseRequest { dead: vec![worker], ..acquire_any(new_worker(), TTL) };
        let grant = handle.lease(&request).await;
        let leased: Vec<_> = grant.leased.iter().map(|leased| leased.record.head.id).collect();
        assert_eq!(leased, [whole], "{cut:?}");
        handle.applied(append_of(&grant.leased[0], 1)).await;
        handle.lease(&LeaseRequest { retire: true, ..held_for(request.worker, TTL) }).await;
        assert!(store.submit(&[submission()]).await.is_ok());
        let error = store.load(&[ready]).await.unwrap_err();
        assert_eq!(told(&error), (StoreErrorKind::Damaged, "redis_bad_row"), "{cut:?}");
    }
}

/// A stored value.
fn get(server: &Server, kind: &str, space: &str, run: RunId) -> Vec<u8> {
    let mut connection = server.client().get_connection().unwrap();
    let mut command = redis::cmd("HGET");
    command.arg(format!("{{{space}}}:{kind}")).arg(run.to_string());
    command.query(&mut connection).unwrap()
}

fn put_in(server: &Server, space: &str, run: RunId, value: &[u8]) {
    let mut connection = server.client().get_connection().unwrap();
    let mut command = redis::cmd("HSET");
    command.arg(format!("{{{space}}}:rows")).arg(run.to_string()).arg(value);
    command.exec(&mut connection).unwrap();
}

// Three rows at a time: of a run whose owner dies, one that is ready, one that comes due.
// covers: S3, L1
#[tokio::test]
async fn a_wrong_byte_in_a_row_holds_up_nobody_who_claims_renews_or_takes_over() {
    let Some((server, store, _)) = opened().await else { return };
    let mut longest = 0;
    for at in 0.. {
        for wrong in [0x01_u8, 0x40] {
            let space = format!("{at}-{wrong}");
            let one = RedisConfig::new(server.url()).with_namespace(&space).with_polling_only();
            let one = one.open().await.unwrap();
            let handle = Handle::of(Arc::new(one.clone()));
            let worker = new_worker();
            let (held, beside) =
                (handle.started(run_head()).await, handle.started(run_head()).await);
            assert_eq!(handle.lease(&acquire_any(worker, TTL)).await.leased.len(), 2);
            let ready = handle.started(run_head()).await;
            let mut later = run_head();
            later.due = store.now().await.unwrap().plus(Duration::from_millis(3));
            let later = handle.started(later).await;
            let whole = handle.started(run_head()).await;
            for run in [held, ready, later] {
                let mut row = get(&server, "rows", &space, run);
                longest = longest.max(row.len());
                if let Some(byte) = row.get_mut(at) {
                    *byte ^= wrong;
                }
                put_in(&server, &space, run, &row);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            let other = new_worker();
            let mut found = Vec::new();
            for _ in 0..3 {
                let request = LeaseRequest { dead: vec![worker], ..acquire_any(other, TTL) };
                let grant = handle.lease(&request).await;
                found.extend(grant.leased.iter().map(|leased| leased.record.head.id));
                let claim = Claim {
                    limit: 9,
                    queues: Vec::new(),
                    except: Vec::new(),
                    wait: Duration::ZERO,
                };
                one.claim(&claim).await.unwrap();
            }
            for run in [beside, whole] {
                assert!(found.contains(&run), "byte {at} ^ {wrong}");
            }
            assert!(one.list(&RunFilter::default()).await.unwrap().runs.len() >= 2);
        }
        if at > longest {
            break;
        }
    }
}

// covers: S3
#[tokio::test]
async fn a_run_that_cannot_be_read_is_parked_and_the_others_go_on() {
    let Some((server, store, handle)) = opened().await else { return };
    let (bad, good) = (handle.started(run_head()).await, handle.started(run_head()).await);
    put(&server, "fixed", bad, "{\"saga\":");
    let worker = new_worker();
    let grant = handle.lease(&acquire_any(worker, TTL)).await;
    assert_eq!(grant.leased.len(), 1);
    assert_eq!(grant.leased[0].record.head.id, good);
    assert_eq!(grant.held.len(), 1, "the other one is not held");
    assert!(handle.lease(&acquire_any(worker, TTL)).await.leased.is_empty());
    let error = store.load(&[bad]).await.unwrap_err();
    assert_eq!(told(&error), (StoreErrorKind::Damaged, "redis_bad_row"));
    assert!(error.hint().is_some());
    let listed = store.list(&RunFilter::default()).await.unwrap().runs;
    assert_eq!(listed.iter().map(|head| head.id).collect::<Vec<_>>(), [good]);
    // It is parked, and among the dead letters: a person who mends it finds it there.
    let row = get(&server, "rows", "default", bad);
    assert!(row.starts_with(b"Parked\n"), "{}", String::from_utf8_lossy(&row));
    let fixed = get(&server, "fixed", "default", good);
    put(&server, "fixed", bad, std::str::from_utf8(&fixed).unwrap());
    let letters = RunFilter { dead_letters: true, ..RunFilter::default() };
    let letters = store.list(&letters).await.unwrap().runs;
    assert_eq!(
        letters.iter().map(|head| (head.id, head.status)).collect::<Vec<_>>(),
        [(bad, RunStatus::Parked)]
    );
}

// covers: S3
#[tokio::test]
async fn a_limit_that_cannot_be_read_is_worth_a_burst() {
    let Some((server, _, handle)) = opened().await else { return };
    for damaged in ["{", "7", "{\"slots\":null}", "{\"slots\":{\"x\":1}}", "{\"slots\":[1]}"] {
        server.ask(&format!("HSET {{default}}:buckets b {damaged}")).unwrap();
        let profile = Profile { bucket: "b".into(), rate: None, concurrency: Some(1_u32.into()) };
        let ask = Ask { profile, calls: 1, worker: new_worker(), slot: true, turn: Turn::Open };
        let answer = handle.limiter.admit(&ask).await.unwrap();
        assert_eq!(answer, Admission::Now { calls: 1 }, "{damaged}");
    }
}

/// Whatever is damaged about one run, it stays, and the others go.
// covers: S1, S3
#[tokio::test]
async fn damage_to_one_run_does_not_stop_retention() {
    let Some((server, store, handle)) = opened().await else { return };
    let (status, due) = (RunStatus::TornDown, Timestamp::NEVER);
    let over = || RunHead { status, due, ..run_head() };
    let mut damaged = Vec::new();
    for kind in ["rows", "fixed", "row", "sighting"] {
        let run = handle.started(over()).await;
        match kind {
            "row" => {
                let row = LedgerRow { state: ResourceState::Gone, ..ledger_row(run, "vm", "x") };
                assert!(handle.changes(LedgerOp::Enter(Box::new(row))).await);
                let keys = server.ask("HKEYS {default}:ledger").unwrap();
                let keys: Vec<String> = redis::from_redis_value(keys).unwrap();
                let mut connection = server.client().get_connection().unwrap();
                let mut command = redis::cmd("HSET");
                command.arg("{default}:ledger").arg(&keys[0]).arg("no row");
                command.exec(&mut connection).unwrap();
            }
            "sighting" => {
                let mut connection = server.client().get_connection().unwrap();
                let mut command = redis::cmd("ZADD");
                command.arg("{default}:sights").arg(0).arg(format!("{run} vm\n{{"));
                command.exec(&mut connection).unwrap();
            }
            kind => put(&server, kind, run, "{}"),
        }
        damaged.push(run);
    }
    let whole = handle.started(over()).await;
    let later = store.now().await.unwrap().plus(TTL);
    assert_eq!(store.prune(&Prune::before(later)).await.unwrap().runs, [whole]);
    let left = store.tombstones(&TombstoneQuery::Runs(damaged)).await.unwrap();
    assert!(left.is_empty(), "found {left:?}");
    // A tombstone that cannot be read is forgotten like any other.
    put(&server, "tombstones", whole, "{");
    assert_eq!(store.forget(later, 10).await.unwrap(), 1);
}

/// A program that does not look for tombstones would start a second run under a removed key.
// covers: S2
#[tokio::test]
async fn the_first_removal_raises_the_format() {
    let Some((server, store, handle)) = opened().await else { return };
    let format = || {
        let found = server.ask("HGET {default}:meta format").unwrap();
        redis::from_redis_value::<String>(found).unwrap()
    };
    let (status, due) = (RunStatus::TornDown, Timestamp::NEVER);
    let run = handle.started(RunHead { status, due, ..run_head() }).await;
    let later = store.now().await.unwrap().plus(TTL);
    let dry = Prune { dry_run: true, ..Prune::before(later) };
    assert_eq!(store.prune(&dry).await.unwrap().runs, [run]);
    assert_eq!(format(), "1");
    assert_eq!(store.prune(&Prune::before(later)).await.unwrap().runs, [run]);
    assert_eq!(format(), "2");
    let again = RedisStore::open(server.url()).await.unwrap();
    assert!(again.submit(&[submission()]).await.is_ok());
}
