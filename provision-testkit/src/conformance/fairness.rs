//! Order of claims: priority, age, tenants in turn.

use provision_core::{id::RunId, store::Incarnation};

use super::{Fixture, acquire_any, new_worker, run_head};

async fn take(f: &Fixture, worker: Incarnation, limit: usize) -> Vec<RunId> {
    let mut request = acquire_any(worker, f.ttl);
    request.acquire.as_mut().unwrap().limit = limit;
    let leased = f.main.lease(&request).await.leased;
    leased.into_iter().map(|leased| leased.record.head.id).collect()
}

async fn start(f: &Fixture, tenant: &str, priority: i32, due_ms: u64) -> RunId {
    let mut head = run_head();
    head.tenant = Some(tenant.to_owned());
    head.priority = priority;
    head.due = provision_core::Timestamp::from_millis(due_ms);
    f.main.started(head).await
}

/// Higher priorities are claimed first, however late they came.
// covers: R1-11
pub async fn higher_priority_comes_first(f: Fixture) {
    let worker = new_worker();
    let mut ids = Vec::new();
    for (priority, due) in [(0, 1), (5, 4), (-5, 2), (5, 3), (0, 5)] {
        ids.push(start(&f, "acme", priority, due).await);
    }
    let mut order = Vec::new();
    for _ in 0..5 {
        order.extend(take(&f, worker, 1).await);
    }
    assert_eq!(order, [ids[3], ids[1], ids[0], ids[4], ids[2]]);
}

/// Within one tenant the oldest due time goes first.
// covers: L3, R1-11
pub async fn the_oldest_due_run_comes_first(f: Fixture) {
    let worker = new_worker();
    let mut ids = Vec::new();
    for due in [30, 10, 20] {
        ids.push(start(&f, "acme", 0, due).await);
    }
    let mut order = take(&f, worker, 2).await;
    order.extend(take(&f, worker, 2).await);
    assert_eq!(order, [ids[1], ids[2], ids[0]]);
}

/// A tenant with a long queue does not hold back one with a short queue, in one claim or in many.
// covers: L3, R5-19, R5-78
pub async fn tenants_take_turns(f: Fixture) {
    let worker = new_worker();
    for n in 0..40 {
        start(&f, "crowd", 0, n).await;
    }
    let late = [start(&f, "small", 0, 500).await, start(&f, "small", 0, 501).await];
    let first = take(&f, worker, 4).await;
    assert!(first.iter().filter(|id| late.contains(id)).count() >= 1, "within one claim");
    let mut claims = first;
    for _ in 0..4 {
        claims.extend(take(&f, worker, 1).await);
    }
    assert!(late.iter().all(|id| claims.contains(id)), "within a few claims");
    assert!(claims.iter().any(|id| !late.contains(id)), "the crowd is not held back either");
}

/// The oldest run is claimed although newer ones keep arriving.
// covers: L3
pub async fn newer_runs_do_not_starve_the_oldest(f: Fixture) {
    let worker = new_worker();
    let old = start(&f, "patient", 0, 10).await;
    let mut polls = 0;
    loop {
        for n in 0..3 {
            start(&f, &format!("t{n}"), 0, 20).await;
        }
        polls += 1;
        assert!(polls < 20, "not claimed within 20 polls");
        if take(&f, worker, 2).await.contains(&old) {
            break;
        }
    }
}
