//! Take-overs on a real server: two that race, and a renewal that comes while one is under way.

use std::{sync::Arc, time::Duration};

use provision_core::store::{Appended, StateStore as _};
use provision_testkit::conformance::{
    Handle, acquire_any, append_of, held_for, new_worker, run_head,
};
use sqlx::AssertSqlSafe;
use tokio::task::JoinSet;

use crate::given::Schema;

const TTL: Duration = Duration::from_secs(15);
/// Within this time answers come that wait for nobody: what is held is held for ever.
const PROMPT: Duration = Duration::from_secs(30);

// covers: S5, L2, R2-14
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_racing_take_overs_each_run_goes_to_one() {
    let Some(schema) = Schema::new() else { return };
    let stores = [schema.open().await, schema.open().await];
    let handle = Handle::of(Arc::new(stores[0].clone()));
    for _ in 0..12 {
        for _ in 0..6 {
            handle.started(run_head()).await;
        }
        let dead = handle.lease(&acquire_any(new_worker(), TTL)).await.leased;
        assert_eq!(dead.len(), 6);
        schema.pass(TTL * 2).await;
        let mut tasks = JoinSet::new();
        for n in 0..4 {
            let store = stores[n % 2].clone();
            tasks.spawn(async move {
                let worker = new_worker();
                let mut mine = Vec::new();
                for _ in 0..3 {
                    let grant = store.lease(&acquire_any(worker, TTL * 100)).await.unwrap();
                    mine.extend(grant.leased);
                }
                mine
            });
        }
        let taken: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
        assert_eq!(taken.len(), 6, "each once");
        assert!(taken.iter().all(|leased| leased.died_at.is_some() && leased.fence.epoch == 2));
        for (old, new) in dead.iter().zip(&taken) {
            assert_eq!(handle.append(append_of(old, 1)).await, Appended::Stale);
            handle.applied(append_of(new, 1)).await;
            let mut end = append_of(new, 2);
            end.release = Some(provision_core::store::Release {
                due: provision_core::Timestamp::NEVER,
                polls: Default::default(),
                seen: 0,
            });
            handle.applied(end).await;
        }
    }
}

// A take-over that waits on a row would apply from its old snapshot after a late renewal.
// covers: S5
#[tokio::test]
async fn a_renewal_under_way_is_not_taken_over() {
    let Some(schema) = Schema::new() else { return };
    let store = schema.open().await;
    let handle = Handle::of(Arc::new(store.clone()));
    handle.started(run_head()).await;
    let (worker, other) = (new_worker(), new_worker());
    let leased = handle.lease(&acquire_any(worker, TTL)).await.leased.remove(0);
    schema.pass(TTL * 2).await;
    let mut conn = schema.connect().await;
    let mut tx = sqlx::Connection::begin(&mut conn).await.unwrap();
    let renew = format!(
        "UPDATE {}.incarnations SET expires = expires + 3600000 WHERE id = $1",
        schema.name
    );
    sqlx::query(AssertSqlSafe(renew)).bind(worker.0).execute(&mut *tx).await.unwrap();
    let grant = handle.lease(&acquire_any(other, TTL)).await;
    assert!(grant.alive && grant.leased.is_empty(), "it does not wait, and takes nothing");
    tx.commit().await.unwrap();
    assert!(handle.lease(&acquire_any(other, TTL)).await.leased.is_empty());
    assert!(handle.lease(&held_for(worker, TTL)).await.alive);
    handle.applied(append_of(&leased, 1)).await;
}

// covers: S20
#[tokio::test]
async fn a_server_whose_clock_is_set_back_goes_on_from_the_last_reading() {
    let Some(schema) = Schema::new() else { return };
    let store = schema.open().await;
    let worker = new_worker();
    let before = store.lease(&held_for(worker, TTL)).await.unwrap().now;
    schema.execute("UPDATE provision.clock SET shift_ms = shift_ms - 3600000").await;
    let after = store.now().await.unwrap();
    assert!(after >= before, "{after:?} after {before:?}");
    // It goes on at its own pace, also where nobody else keeps a reading.
    let mut now = before;
    let begun = std::time::Instant::now();
    while now <= before.plus(Duration::from_millis(200)) {
        assert!(begun.elapsed() < Duration::from_secs(30), "the clock stands still at {now:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        now = store.lease(&held_for(worker, TTL)).await.unwrap().now;
    }
    let other = schema.open().await.now().await.unwrap();
    assert!(other >= before, "{other:?} is before {before:?} for another process");
}

// covers: L2
#[tokio::test]
async fn a_run_that_somebody_holds_keeps_no_other_from_its_take_over() {
    let Some(schema) = Schema::new() else { return };
    let store = schema.open().await;
    let handle = Handle::of(Arc::new(store.clone()));
    for _ in 0..3 {
        handle.started(run_head()).await;
    }
    let (dead, other) = (new_worker(), new_worker());
    let lost = handle.lease(&acquire_any(dead, TTL)).await.leased;
    let mut conn = schema.connect().await;
    let mut tx = sqlx::Connection::begin(&mut conn).await.unwrap();
    let lock = format!("SELECT 1 FROM {}.heads WHERE run = $1 FOR UPDATE", schema.name);
    let held = lost[1].record.head.id;
    sqlx::query(AssertSqlSafe(lock)).bind(*held.as_uuid()).execute(&mut *tx).await.unwrap();
    let ready = handle.started(run_head()).await;
    schema.pass(TTL * 2).await;
    let claim = acquire_any(other, TTL * 100);
    let grant = tokio::time::timeout(PROMPT, store.lease(&claim)).await;
    let leased = grant.expect("nobody waits").unwrap().leased;
    assert_eq!(leased.len(), 3, "all but the one that is held");
    assert!(leased.iter().any(|one| one.record.head.id == ready));
    assert!(leased.iter().all(|one| one.record.head.id != held));
    tx.rollback().await.unwrap();
    let rest = handle.lease(&claim).await.leased;
    assert_eq!(rest.iter().map(|one| one.record.head.id).collect::<Vec<_>>(), [held]);
    assert!(rest[0].died_at.is_some(), "it comes with the moment of that death");
    assert!(!handle.lease(&held_for(dead, TTL)).await.alive, "S5: dead for good");
}
