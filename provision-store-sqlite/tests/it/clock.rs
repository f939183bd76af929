//! The store's clock, when the machine's clocks misbehave.

use std::{sync::Arc, time::Duration};

use provision_core::store::StateStore as _;
use provision_store_sqlite::SqliteStore;
use provision_testkit::conformance::{
    Handle, acquire_any, append_of, held_for, new_worker, run_head,
};

use crate::given::{Moved, open};

const TTL: Duration = Duration::from_secs(15);

fn handle(store: &SqliteStore) -> Handle {
    Handle::of(Arc::new(store.clone()))
}

// covers: S20, R3-33
#[tokio::test]
async fn a_wall_clock_set_back_an_hour_neither_ends_nor_prolongs_a_lease() {
    let directory = tempfile::tempdir().unwrap();
    let machine = Arc::new(Moved::default());
    let store = open(&directory.path().join("p.db"), &machine).await;
    let (worker, other) = (new_worker(), new_worker());
    let main = handle(&store);
    main.started(run_head()).await;
    assert_eq!(main.lease(&acquire_any(worker, TTL)).await.leased.len(), 1);
    let before = store.now().await.unwrap();
    machine.set_wall_back(Duration::from_secs(3_600));
    assert!(main.lease(&acquire_any(other, TTL)).await.leased.is_empty(), "not ended");
    assert!(store.now().await.unwrap() >= before, "the store's clock never goes back");
    machine.pass(TTL + Duration::from_secs(1));
    let grant = main.lease(&acquire_any(other, TTL)).await;
    assert_eq!(grant.leased.len(), 1, "not prolonged");
    assert!(grant.now.since(before) >= TTL, "due times go on, too");
}

// covers: S6, S7, S20
#[tokio::test]
async fn an_hour_of_sleep_ends_no_lease_that_its_owner_still_believes_in() {
    let directory = tempfile::tempdir().unwrap();
    let machine = Arc::new(Moved::default());
    let store = open(&directory.path().join("p.db"), &machine).await;
    let (worker, other) = (new_worker(), new_worker());
    let main = handle(&store);
    main.started(run_head()).await;
    let held = main.lease(&acquire_any(worker, TTL)).await.leased.remove(0);
    let before = store.now().await.unwrap();
    machine.sleep(Duration::from_secs(3_600));
    // The worker counts by a clock that stood still: for it, nearly the whole lease is left.
    let early = main.lease(&acquire_any(other, TTL)).await;
    assert_eq!((early.leased.len(), early.peers), (0, vec![worker]), "not ended");
    assert!(early.now.since(before) >= Duration::from_secs(3_600), "due times count the sleep");
    main.applied(append_of(&held, 1)).await;
    machine.pass(TTL + Duration::from_secs(1));
    let grant = main.lease(&acquire_any(other, TTL)).await;
    let died_at = grant.leased[0].died_at.unwrap();
    assert!(died_at >= early.now, "what it was free to send after the sleep is not yet quiet");
    assert!(died_at <= grant.now);
}

// covers: S20
#[tokio::test]
async fn the_clock_goes_on_from_the_file_when_a_process_starts_with_a_wall_clock_set_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.db");
    let ahead = Arc::new(Moved::default());
    ahead.pass(Duration::from_secs(3_600));
    let store = open(&path, &ahead).await;
    handle(&store).lease(&held_for(new_worker(), TTL)).await;
    let before = store.now().await.unwrap();
    drop(store);
    let store = open(&path, &Arc::new(Moved::default())).await;
    let due = handle(&store).lease(&held_for(new_worker(), TTL)).await.now;
    assert!(due.plus(Duration::from_millis(50)) >= before, "{due:?} after {before:?}");
}

// covers: S20, L2
#[tokio::test]
async fn after_a_reboot_every_lease_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.db");
    let machine = Arc::new(Moved::default());
    let store = open(&path, &machine).await;
    let main = handle(&store);
    main.started(run_head()).await;
    let old = main.lease(&acquire_any(new_worker(), TTL * 1_000)).await.leased.remove(0);
    main.applied(append_of(&old, 1)).await;
    drop((main, store));
    machine.reboot();
    let store = open(&path, &machine).await;
    let main = handle(&store);
    let grant = main.lease(&acquire_any(new_worker(), TTL)).await;
    assert_eq!(grant.leased.len(), 1);
    assert_eq!(grant.leased[0].record.head.deaths, 1);
    let died_at = grant.leased[0].died_at.unwrap();
    assert!(died_at <= grant.now, "it cannot have died after now");
}

// covers: S6, S20
#[tokio::test]
async fn another_name_of_the_same_boot_ends_no_lease() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.db");
    let (machine, container) = (Arc::new(Moved::default()), Arc::new(Moved::default()));
    container.rename_boot();
    let (main, inside) = (open(&path, &machine).await, open(&path, &container).await);
    let (main, inside) = (handle(&main), handle(&inside));
    main.started(run_head()).await;
    let (worker, other) = (new_worker(), new_worker());
    let held = main.lease(&acquire_any(worker, TTL)).await.leased.remove(0);
    let grant = inside.lease(&acquire_any(other, TTL)).await;
    assert_eq!((grant.leased.len(), grant.peers), (0, vec![worker]), "not dead");
    assert_eq!(main.lease(&held_for(worker, TTL)).await.peers, [other], "nor the other way round");
    main.applied(append_of(&held, 1)).await;
}

// covers: S20, L2
#[tokio::test]
async fn leases_expire_by_the_real_clock_of_the_machine() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path().join("p.db")).await.unwrap();
    let main = handle(&store);
    main.started(run_head()).await;
    let ttl = Duration::from_millis(700);
    let start = std::time::Instant::now();
    assert_eq!(main.lease(&acquire_any(new_worker(), ttl)).await.leased.len(), 1);
    let other = new_worker();
    while main.lease(&acquire_any(other, ttl)).await.leased.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(30), "never taken over");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(start.elapsed() >= Duration::from_millis(500), "taken over too soon");
}
