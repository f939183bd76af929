//! Acquiring leases: who gets which run.

use std::sync::Arc;

use provision_core::{
    id::Timestamp,
    store::{Acquire, LeaseRequest, SagaRef},
};

use super::{
    Fixture, append_of,
    given::{acquire_any, held_for, until},
    new_worker, run_head, suite_saga,
};

/// A due run is leased to one worker and to no other.
// covers: S5, R1-11, R2-06
pub async fn a_due_run_is_leased_once(f: Fixture) {
    let (first, second) = (new_worker(), new_worker());
    let id = f.main.started(run_head()).await;
    let leased = f.take(first).await;
    assert_eq!(leased.len(), 1);
    assert_eq!((leased[0].record.head.id, leased[0].fence.owner), (id, first));
    assert!(f.take(second).await.is_empty());
    assert!(f.take(first).await.is_empty(), "a worker is not leased what it holds");
}

/// A lease brings journal, requests and row along.
pub async fn a_lease_carries_everything_stored(f: Fixture) {
    let worker = new_worker();
    let leased = f.leased_run(worker).await;
    let run = leased.record.head.id;
    for seq in 1..=3 {
        f.main.applied(append_of(&leased, seq)).await;
    }
    f.main.request(run, r#"{"signal":"go"}"#).await;
    let mut release = append_of(&leased, 4);
    release.release = Some(until(Timestamp::ZERO));
    f.main.applied(release).await;
    let again = f.take(worker).await.remove(0);
    let stored = f.main.record(run).await;
    assert_eq!((again.record.head.seq, again.record.frames.len()), (4, 4));
    assert_eq!(again.record.frames, stored.frames);
    assert_eq!(again.record.requests, stored.requests);
    assert_eq!(again.record.head, stored.head);
    assert_eq!(again.record.requests[0].body.as_str(), r#"{"signal":"go"}"#);
}

/// No more runs than asked for.
pub async fn the_limit_is_kept(f: Fixture) {
    for _ in 0..5 {
        f.main.started(run_head()).await;
    }
    let worker = new_worker();
    let mut request = acquire_any(worker, f.ttl);
    request.acquire.as_mut().unwrap().limit = 2;
    assert_eq!(f.main.lease(&request).await.leased.len(), 2);
    assert_eq!(f.main.lease(&request).await.leased.len(), 2);
    assert_eq!(f.main.lease(&request).await.leased.len(), 1);
    request.acquire.as_mut().unwrap().limit = 0;
    f.main.started(run_head()).await;
    assert!(f.main.lease(&request).await.leased.is_empty());
}

/// Only runs whose name, version and fingerprint the worker has registered.
// covers: S22, R3-52
pub async fn only_registered_sagas_are_leased(f: Fixture) {
    let other = |change: fn(&mut SagaRef)| {
        let mut head = run_head();
        change(&mut head.saga);
        head
    };
    f.main.started(other(|saga| saga.name = "unknown".to_owned())).await;
    f.main.started(other(|saga| saga.version = 2)).await;
    f.main.started(other(|saga| saga.fingerprint = "beef".to_owned())).await;
    let ours = f.main.started(run_head()).await;
    let worker = new_worker();
    let leased = f.take(worker).await;
    assert_eq!(leased.iter().map(|l| l.record.head.id).collect::<Vec<_>>(), [ours]);
    let mut request = acquire_any(worker, f.ttl);
    let version_2 = SagaRef { version: 2, ..suite_saga() };
    request.acquire.as_mut().unwrap().code = vec![suite_saga(), version_2];
    assert_eq!(f.main.lease(&request).await.leased.len(), 1);
    request.acquire.as_mut().unwrap().code.clear();
    assert!(f.main.lease(&request).await.leased.is_empty(), "a worker without code gets nothing");
}

/// Only from the named queues; no name means all.
// covers: R1-24
pub async fn only_named_queues_are_leased(f: Fixture) {
    let mut ids = Vec::new();
    for queue in ["default", "bulk", "mail"] {
        let mut head = run_head();
        head.queue = queue.to_owned();
        ids.push(f.main.started(head).await);
    }
    let worker = new_worker();
    let mut request = acquire_any(worker, f.ttl);
    request.acquire.as_mut().unwrap().queues = vec!["bulk".to_owned(), "none".to_owned()];
    let leased = f.main.lease(&request).await.leased;
    assert_eq!(leased.iter().map(|l| l.record.head.id).collect::<Vec<_>>(), [ids[1]]);
    assert_eq!(f.take(worker).await.len(), 2);
}

/// Proposed runs are leased only if they are due, unowned and runnable.
// covers: S23
pub async fn proposed_runs_are_judged_like_all_others(f: Fixture) {
    let worker = new_worker();
    let due = f.main.started(run_head()).await;
    let mut later = run_head();
    later.due = f.later(f.ttl * 10).await;
    let later = f.main.started(later).await;
    let mut foreign = run_head();
    foreign.saga.version = 9;
    let foreign = f.main.started(foreign).await;
    let taken = f.leased_run(new_worker()).await.record.head.id;
    let unproposed = f.main.started(run_head()).await;
    let runs = vec![due, later, foreign, taken, run_head().id, due];
    let acquire = Acquire {
        limit: 10,
        runs: Some(runs),
        queues: Vec::new(),
        code: vec![suite_saga()],
        caps: provision_core::caps::Caps::default(),
    };
    let request = LeaseRequest { acquire: Some(acquire), ..held_for(worker, f.ttl) };
    let leased = f.main.lease(&request).await.leased;
    assert_eq!(leased.iter().map(|l| l.record.head.id).collect::<Vec<_>>(), [due]);
    assert_eq!(f.take(worker).await[0].record.head.id, unproposed);
}

/// `held` names every run of the worker with its epoch, and only those.
pub async fn held_names_every_run_of_the_worker(f: Fixture) {
    let (worker, other) = (new_worker(), new_worker());
    let mut expected = Vec::new();
    for _ in 0..3 {
        expected.push((f.leased_run(worker).await.record.head.id, 1));
    }
    f.leased_run(other).await;
    let mut held = f.renew(worker).await.held;
    held.sort_unstable();
    assert_eq!(held, expected);
}

/// `peers` names the other incarnations that are not marked dead.
pub async fn peers_are_the_other_live_incarnations(f: Fixture) {
    let (a, b, c) = (new_worker(), new_worker(), new_worker());
    assert!(f.renew(a).await.peers.is_empty());
    f.renew(b).await;
    f.renew(c).await;
    let mut peers = f.renew(a).await.peers;
    peers.sort_unstable();
    assert_eq!(peers, [b, c]);
    let request = LeaseRequest { dead: vec![b], ..held_for(a, f.ttl) };
    assert_eq!(f.main.lease(&request).await.peers, [c]);
}

/// `next_due` is the earliest due time of what this worker could claim.
pub async fn next_due_is_the_earliest_claimable_moment(f: Fixture) {
    let worker = new_worker();
    assert_eq!(f.main.lease(&acquire_any(worker, f.ttl)).await.next_due, None);
    let soon = f.later(f.ttl * 10).await;
    for factor in [3, 1, 2] {
        let mut head = run_head();
        head.due = soon.plus(f.ttl * factor);
        f.main.started(head).await;
    }
    let mut never = run_head();
    never.due = Timestamp::NEVER;
    f.main.started(never).await;
    let mut foreign = run_head();
    foreign.saga.version = 9;
    foreign.due = soon;
    f.main.started(foreign).await;
    let grant = f.main.lease(&acquire_any(worker, f.ttl)).await;
    assert_eq!((grant.leased.len(), grant.next_due), (0, Some(soon.plus(f.ttl))));
}

/// Giving back and taking on are one call; what is given back due at once may come back.
pub async fn release_and_acquire_are_one_call(f: Fixture) {
    let worker = new_worker();
    let old = f.leased_run(worker).await;
    let fresh = f.main.started(run_head()).await;
    let release = vec![(old.record.head.id, old.fence, until(Timestamp::NEVER))];
    let request = LeaseRequest { release, ..acquire_any(worker, f.ttl) };
    let grant = f.main.lease(&request).await;
    assert_eq!(grant.leased.len(), 1);
    assert_eq!(grant.leased[0].record.head.id, fresh);
    assert_eq!(grant.held, [(fresh, 1)]);
}

/// An append keeps the lease of its run: nothing about it needs a renewal in between.
pub async fn a_lease_is_seen_through_every_handle(f: Fixture) {
    let worker = new_worker();
    let leased = f.leased_run(worker).await;
    let mut append = append_of(&leased, 1);
    append.frame = Some(Arc::from("[\"from the other handle\"]"));
    f.again.applied(append).await;
    assert_eq!(f.again.lease(&held_for(worker, f.ttl)).await.held.len(), 1);
    assert!(f.again.lease(&acquire_any(new_worker(), f.ttl)).await.leased.is_empty());
}

/// The store's clock is read by `now` and by every lease alike, and never goes back.
// covers: S20
pub async fn the_clock_never_goes_back(f: Fixture) {
    let worker = new_worker();
    let mut last = Timestamp::ZERO;
    for _ in 0..5 {
        for now in [f.main.state.now().await.unwrap(), f.renew(worker).await.now] {
            assert!(now >= last, "{now:?} after {last:?}");
            last = now;
        }
        f.advance(f.ttl / 20).await;
    }
}
