//! Leases that end by death: expiry, proof, take-over, retirement.

use std::time::Duration;

use provision_core::store::{Appended, LeaseRequest, Leased};

use super::{
    Fixture, append_of,
    given::{acquire_any, held_for},
    new_worker,
};

async fn prove_dead(f: &Fixture, by: provision_core::store::Incarnation, dead: &Leased) {
    let request = LeaseRequest { dead: vec![dead.fence.owner], ..held_for(by, f.ttl) };
    f.main.lease(&request).await;
}

/// A worker that renews in time keeps its runs for as long as it likes.
pub async fn a_renewed_lease_lasts(f: Fixture) {
    let (worker, other) = (new_worker(), new_worker());
    let leased = f.leased_run(worker).await;
    for _ in 0..4 {
        f.advance(f.ttl / 2).await;
        assert!(f.renew(worker).await.alive);
        assert!(f.take(other).await.is_empty());
    }
    f.main.applied(append_of(&leased, 1)).await;
}

/// A run whose owner stopped renewing is taken over after the lease, and not before.
// covers: L2, S20
pub async fn an_expired_owners_run_is_taken_over(f: Fixture) {
    let (worker, other) = (new_worker(), new_worker());
    let leased = f.leased_run(worker).await;
    assert!(f.take(other).await.is_empty());
    f.expire().await;
    let taken = f.take(other).await;
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].record.head.id, leased.record.head.id);
    assert_eq!((taken[0].fence.owner, taken[0].fence.epoch), (other, 2));
}

/// An incarnation whose lease ran out, but which nobody marked dead, may renew.
pub async fn a_late_renewal_that_comes_first_is_accepted(f: Fixture) {
    let (worker, other) = (new_worker(), new_worker());
    let leased = f.leased_run(worker).await;
    f.expire().await;
    let grant = f.renew(worker).await;
    assert!(grant.alive);
    assert_eq!(grant.held, [(leased.record.head.id, 1)]);
    assert!(f.take(other).await.is_empty());
    f.main.applied(append_of(&leased, 1)).await;
}

/// An incarnation marked dead is never renewed and gets nothing.
// covers: S5, S6
pub async fn a_dead_incarnation_is_never_renewed(f: Fixture) {
    let (worker, other) = (new_worker(), new_worker());
    f.leased_run(worker).await;
    f.expire().await;
    assert_eq!(f.take(other).await.len(), 1);
    f.main.started(super::run_head()).await;
    for _ in 0..2 {
        let grant = f.main.lease(&acquire_any(worker, f.ttl)).await;
        assert!(!grant.alive && grant.leased.is_empty() && grant.held.is_empty());
    }
    assert_eq!(f.take(other).await.len(), 1, "the new run is still there for others");
}

/// All runs of a dead incarnation move, not only those that were due.
// covers: L2
pub async fn all_runs_of_a_dead_incarnation_can_be_taken(f: Fixture) {
    let (worker, other) = (new_worker(), new_worker());
    for _ in 0..5 {
        f.leased_run(worker).await;
    }
    f.expire().await;
    assert_eq!(f.take(other).await.len(), 5);
}

/// A write that settles no attempt leaves the count of deaths as it is.
// covers: S21
pub async fn deaths_are_counted_until_an_attempt_is_settled(f: Fixture) {
    let survivor = new_worker();
    let mut leased = f.leased_run(new_worker()).await;
    let mut deaths = Vec::new();
    for _ in 0..4_u64 {
        let mut append = append_of(&leased, leased.record.head.seq + 1);
        (append.open, append.settled) = (true, false);
        f.main.applied(append).await;
        prove_dead(&f, survivor, &leased).await;
        leased = f.take(new_worker()).await.remove(0);
        deaths.push(leased.record.head.deaths);
    }
    assert_eq!(deaths, [1, 2, 3, 4]);
    let mut release = append_of(&leased, leased.record.head.seq + 1);
    release.settled = false;
    release.release = Some(super::given::until(provision_core::Timestamp::NEVER));
    f.main.applied(release).await;
    assert_eq!(f.main.head(leased.record.head.id).await.deaths, 4, "by a release, too");
}

/// Deaths count only with an attempt open, add up, and an append starts the count anew.
// covers: S21
pub async fn deaths_count_with_an_open_attempt_only(f: Fixture) {
    let survivor = new_worker();
    let mut leased = f.leased_run(new_worker()).await;
    let mut deaths = Vec::new();
    for round in 0..4_u64 {
        if round < 2 {
            let mut append = append_of(&leased, leased.record.head.seq + 1);
            append.open = round == 1;
            f.main.applied(append).await;
        }
        prove_dead(&f, survivor, &leased).await;
        leased = f.take(new_worker()).await.remove(0);
        deaths.push(leased.record.head.deaths);
    }
    // Idle at first; then open and appended once; then twice more without any append.
    assert_eq!(deaths, [0, 1, 2, 3]);
    f.main.applied(append_of(&leased, leased.record.head.seq + 1)).await;
    assert_eq!(f.main.head(leased.record.head.id).await.deaths, 0);
}

/// The next owner learns the last moment at which the dead one could have sent a call.
// covers: S7
pub async fn the_next_owner_learns_when_the_lease_ended(f: Fixture) {
    let (worker, other) = (new_worker(), new_worker());
    let before = f.main.state.now().await.unwrap();
    f.leased_run(worker).await;
    let after = f.main.state.now().await.unwrap();
    f.advance(f.ttl * 3).await;
    let died_at = f.take(other).await.remove(0).died_at.expect("it died");
    let slack = Duration::from_millis(50);
    assert!(died_at.plus(slack) >= before.plus(f.ttl), "not before its expiry");
    assert!(died_at <= after.plus(f.ttl + slack), "not long after it: {died_at:?}");
}

/// A proven death counts at once, without waiting for the expiry.
// covers: L2
pub async fn a_proven_death_frees_the_runs_at_once(f: Fixture) {
    let (worker, other) = (new_worker(), new_worker());
    let leased = f.leased_run(worker).await;
    f.main.applied(append_of(&leased, 1)).await;
    let request = LeaseRequest { dead: vec![worker], ..acquire_any(other, f.ttl) };
    let grant = f.main.lease(&request).await;
    assert_eq!(grant.leased.len(), 1);
    assert_eq!((grant.leased[0].record.head.deaths, grant.peers.len()), (1, 0));
    let died_at = grant.leased[0].died_at.expect("it died");
    assert!(died_at <= grant.now);
    assert!(!f.renew(worker).await.alive);
}

/// Nobody declares itself dead, and unknown incarnations are no trouble.
pub async fn a_worker_is_no_proof_of_its_own_death(f: Fixture) {
    let worker = new_worker();
    f.leased_run(worker).await;
    let request = LeaseRequest { dead: vec![worker, new_worker()], ..held_for(worker, f.ttl) };
    let grant = f.main.lease(&request).await;
    assert!(grant.alive);
    assert_eq!(grant.held.len(), 1);
}

/// Who retires gives its runs back at once; that is no death.
// covers: L6, R4-32
pub async fn retiring_gives_back_without_a_death(f: Fixture) {
    let (worker, other) = (new_worker(), new_worker());
    let leased = f.leased_run(worker).await;
    f.main.applied(append_of(&leased, 1)).await;
    let request = LeaseRequest { retire: true, ..held_for(worker, f.ttl) };
    let grant = f.main.lease(&request).await;
    assert!(grant.held.is_empty());
    let taken = f.take(other).await.remove(0);
    assert_eq!((taken.record.head.deaths, taken.died_at), (0, None));
    assert!(!f.renew(worker).await.alive, "a retired incarnation stays retired");
}

/// A lease that was released and taken again has no death to tell.
pub async fn a_death_is_told_once(f: Fixture) {
    let (worker, other) = (new_worker(), new_worker());
    f.leased_run(worker).await;
    f.expire().await;
    let taken = f.take(other).await.remove(0);
    assert!(taken.died_at.is_some());
    let due = provision_core::Timestamp::ZERO;
    let release = vec![(taken.record.head.id, taken.fence, super::given::until(due))];
    let request = LeaseRequest { release, ..acquire_any(other, f.ttl) };
    assert_eq!(f.main.lease(&request).await.leased.remove(0).died_at, None);
}

/// A dead incarnation is forgotten when it has been dead for a day, and what it held stays another's.
///
/// A worker that was frozen for so long lives again, and is told that it holds nothing.
// covers: S5, S20
pub async fn a_dead_incarnation_is_forgotten_after_a_day(f: Fixture) {
    let (worker, other) = (new_worker(), new_worker());
    let leased = f.leased_run(worker).await;
    f.expire().await;
    assert_eq!(f.take(other).await.len(), 1);
    f.advance(Duration::from_secs(23 * 3_600)).await;
    assert!(f.renew(other).await.alive);
    assert!(!f.renew(worker).await.alive, "it is remembered for a day");
    f.advance(Duration::from_secs(3_600)).await;
    assert!(f.renew(other).await.alive);
    let grant = f.renew(worker).await;
    assert!(grant.alive && grant.held.is_empty(), "{grant:?}");
    assert_eq!(f.main.append(append_of(&leased, 1)).await, Appended::Stale);
    assert_eq!(f.main.head(leased.record.head.id).await.owner, Some(other));
}
