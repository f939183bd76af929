//! Caps: how many runs of a queue are under lease at the same time.

use provision_core::{
    caps::{Cap, Capped, Caps},
    id::{RunId, Timestamp},
    store::{LeaseGrant, LeaseRequest, Leased, NewRun, Submission, Submitted},
};

use super::{
    Fixture, acquire_any, append_of,
    given::{held_for, until},
    new_worker, run_head,
};

pub(super) fn named(queue: &str, runs: u32) -> Cap {
    Cap { queues: Capped::Named(queue.to_owned()), runs }
}

/// Acquires up to `limit` runs of any queue under these caps.
pub(super) fn under(f: &Fixture, limit: usize, caps: &[Cap]) -> LeaseRequest {
    let mut request = acquire_any(new_worker(), f.ttl);
    if let Some(acquire) = &mut request.acquire {
        acquire.limit = limit;
        acquire.caps = Caps(caps.to_vec());
    }
    request
}

async fn start(f: &Fixture, queue: &str, count: usize) -> Vec<RunId> {
    let mut runs = Vec::new();
    for _ in 0..count {
        let mut head = run_head();
        head.queue = queue.to_owned();
        runs.push(f.main.started(head).await);
    }
    runs
}

fn of<'a>(grant: &'a LeaseGrant, queue: &str) -> Vec<&'a Leased> {
    grant.leased.iter().filter(|leased| leased.record.head.queue == queue).collect()
}

/// No more runs are under lease than the cap allows, whoever asks; a run that waits or has ended
/// leaves its place to another.
// covers: R5-29, R5-30
pub async fn a_capped_queue_is_leased_up_to_its_cap(f: Fixture) {
    start(&f, "publish", 9).await;
    start(&f, "default", 3).await;
    let caps = [named("publish", 5)];
    let first = under(&f, 3, &caps);
    let mut held = f.main.lease(&first).await.leased;
    let rest = f.again.lease(&under(&f, 100, &caps)).await;
    held.extend(rest.leased.iter().cloned());
    let publish = |all: &[Leased]| all.iter().filter(|l| l.record.head.queue == "publish").count();
    assert_eq!((publish(&held), held.len()), (5, 8));
    assert_eq!(rest.full, ["publish"]);
    let more = f.main.lease(&under(&f, 9, &caps)).await;
    assert_eq!((more.leased.len(), more.full), (0, vec!["publish".to_owned()]));
    held.retain(|leased| leased.record.head.queue == "publish");
    let mut waits = append_of(&held[0], 1);
    waits.release = Some(until(f.later(f.ttl * 50).await));
    let mut ends = append_of(&held[1], 1);
    ends.release = Some(until(Timestamp::NEVER));
    for append in [waits, ends] {
        f.main.applied(append).await;
        assert_eq!(f.again.lease(&under(&f, 9, &caps)).await.leased.len(), 1);
    }
    let without = f.main.lease(&under(&f, 9, &[])).await;
    assert_eq!((without.leased.len(), without.full.len()), (2, 0), "who names no cap has none");
}

/// What somebody leased who names no cap, or was given when it was started, takes a place like any
/// other; the caps of those who claim decide.
// covers: R5-29
pub async fn what_was_leased_without_a_cap_takes_a_place(f: Fixture) {
    start(&f, "publish", 3).await;
    let first = f.main.lease(&under(&f, 2, &[])).await;
    assert_eq!(of(&first, "publish").len(), 2);
    let mut head = run_head();
    head.queue = "publish".to_owned();
    let born = NewRun { head, lease_to: Some((new_worker(), f.ttl).into()) };
    let answer = f.main.submit(Submission::Run(Box::new(born))).await;
    assert!(matches!(answer, Submitted::Created(Some(_))), "{answer:?}");
    let grant = f.again.lease(&under(&f, 9, &[named("publish", 3)])).await;
    assert_eq!((grant.leased.len(), grant.full), (0, vec!["publish".to_owned()]));
    let mut ends = append_of(&first.leased[0], 1);
    ends.release = Some(until(Timestamp::NEVER));
    f.main.applied(ends).await;
    assert_eq!(f.again.lease(&under(&f, 9, &[named("publish", 3)])).await.leased.len(), 1);
}

/// A queue at its cap holds back no other, whatever its runs' priority and age.
// covers: L3, R5-31
pub async fn a_full_queue_holds_back_no_other(f: Fixture) {
    for _ in 0..20 {
        let mut head = run_head();
        head.queue = "publish".to_owned();
        head.priority = 9;
        f.main.started(head).await;
    }
    let other = start(&f, "token_refresh", 2).await;
    let caps = [named("publish", 1), named("token_refresh", 9)];
    let grant = f.main.lease(&under(&f, 2, &caps)).await;
    assert_eq!(of(&grant, "publish").len(), 1);
    assert_eq!(of(&grant, "token_refresh").len(), 1);
    let grant = f.main.lease(&under(&f, 2, &caps)).await;
    assert_eq!(grant.leased.len(), 1);
    assert!(other.contains(&grant.leased[0].record.head.id));
}

/// Who died takes its places until its lease is over, and then others have them.
// covers: L2
pub async fn the_runs_of_the_dead_hold_their_places_until_their_lease_is_over(f: Fixture) {
    start(&f, "publish", 4).await;
    let caps = [named("publish", 2)];
    assert_eq!(f.main.lease(&under(&f, 9, &caps)).await.leased.len(), 2);
    assert!(f.main.lease(&under(&f, 9, &caps)).await.leased.is_empty());
    f.expire().await;
    let mut taken = 0;
    for _ in 0..3 {
        taken += f.main.lease(&under(&f, 9, &caps)).await.leased.len();
    }
    assert_eq!(taken, 2);
    let dead = f.main.lease(&held_for(new_worker(), f.ttl)).await.peers;
    let request = LeaseRequest { dead, ..under(&f, 9, &caps) };
    let mut taken = f.main.lease(&request).await.leased.len();
    taken += f.main.lease(&under(&f, 9, &caps)).await.leased.len();
    assert_eq!(taken, 2, "a proven death frees them at once");
}

/// A cap for all queues whose name begins alike is one for each of them; where several fit, the
/// smallest holds.
// covers: L3
pub async fn each_queue_of_a_kind_has_a_cap_of_its_own(f: Fixture) {
    for queue in ["tenant/1", "tenant/\"2\"", "tenant", "Tenant/1", "tenant/3"] {
        start(&f, queue, 3).await;
    }
    let each = Cap { queues: Capped::Each("tenant/".to_owned()), runs: 2 };
    let request = under(&f, 100, &[each, named("tenant/3", 1), named("tenant/1", 7)]);
    let grant = f.main.lease(&request).await;
    let counts = ["tenant/1", "tenant/\"2\"", "tenant", "Tenant/1", "tenant/3"]
        .map(|queue| of(&grant, queue).len());
    assert_eq!(counts, [2, 2, 3, 3, 1]);
    let mut full = grant.full;
    full.sort();
    assert_eq!(full, ["tenant/\"2\"", "tenant/1", "tenant/3"]);
}

/// What a queue proposes is leased up to the cap, too.
// covers: S23
pub async fn proposed_runs_keep_to_the_cap(f: Fixture) {
    let mut runs = start(&f, "publish", 4).await;
    runs.extend(start(&f, "default", 2).await);
    let mut request = under(&f, 100, &[named("publish", 3)]);
    request.acquire.as_mut().unwrap().runs = Some(runs.clone());
    let grant = f.main.lease(&request).await;
    assert_eq!((of(&grant, "publish").len(), of(&grant, "default").len()), (3, 2));
    assert_eq!(grant.full, ["publish"]);
    let mut request = under(&f, 100, &[named("publish", 3)]);
    request.acquire.as_mut().unwrap().runs = Some(runs);
    assert!(f.again.lease(&request).await.leased.is_empty());
}

/// Under a cap, too, higher priorities come first, and tenants take turns.
// covers: L3, R1-11
pub async fn order_and_turns_hold_under_a_cap(f: Fixture) {
    let mut ids = Vec::new();
    for (tenant, priority, due) in
        [("crowd", 0, 1), ("crowd", 0, 2), ("crowd", 0, 3), ("small", 0, 9), ("crowd", 5, 8)]
    {
        let mut head = run_head();
        head.queue = "publish".to_owned();
        head.tenant = Some(tenant.to_owned());
        head.priority = priority;
        head.due = Timestamp::from_millis(due);
        ids.push(f.main.started(head).await);
    }
    let grant = f.main.lease(&under(&f, 100, &[named("publish", 3)])).await;
    let mut found: Vec<_> = grant.leased.iter().map(|leased| leased.record.head.id).collect();
    found.sort();
    let mut expected = vec![ids[0], ids[3], ids[4]];
    expected.sort();
    assert_eq!(found, expected);
}

/// What is under lease in another namespace takes no place in this one.
// covers: S24
pub async fn a_cap_counts_its_own_namespace(f: Fixture) {
    start(&f, "publish", 1).await;
    let mut head = run_head();
    head.queue = "publish".to_owned();
    f.elsewhere.started(head).await;
    let caps = [named("publish", 1)];
    assert_eq!(f.main.lease(&under(&f, 9, &caps)).await.leased.len(), 1);
    assert_eq!(f.elsewhere.lease(&under(&f, 9, &caps)).await.leased.len(), 1);
}
