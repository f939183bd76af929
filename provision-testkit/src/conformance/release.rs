//! Giving leases back: when the run is due next, and what stays in the row.

use std::collections::BTreeMap;

use provision_core::{
    id::Timestamp,
    run::RunStatus,
    store::{Appended, LeaseRequest, Poll, Release},
};

use super::{
    Fixture, append_of,
    given::{acquire_any, held_for, until},
    new_worker,
};

/// A run released until a moment is claimed then, and not before.
// covers: R1-11
pub async fn a_released_run_waits_for_its_moment(f: Fixture) {
    let worker = new_worker();
    let leased = f.leased_run(worker).await;
    let due = f.later(f.ttl * 2).await;
    let mut append = append_of(&leased, 1);
    append.status = RunStatus::Waiting;
    append.release = Some(until(due));
    f.main.applied(append).await;
    let head = f.main.head(leased.record.head.id).await;
    assert_eq!((head.owner, head.due, head.status), (None, due, RunStatus::Waiting));
    let early = f.main.lease(&acquire_any(worker, f.ttl * 9)).await;
    assert_eq!((early.leased.len(), early.held.len(), early.next_due), (0, 0, Some(due)));
    f.advance(f.ttl * 2).await;
    assert_eq!(f.take(worker).await.len(), 1);
}

/// A run that is never due is not claimed by anyone.
pub async fn a_run_that_is_never_due_is_not_claimed(f: Fixture) {
    let worker = new_worker();
    let leased = f.leased_run(worker).await;
    let mut append = append_of(&leased, 1);
    append.status = RunStatus::Parked;
    append.release = Some(until(Timestamp::NEVER));
    f.main.applied(append).await;
    f.advance(f.ttl * 3).await;
    let grant = f.main.lease(&acquire_any(worker, f.ttl)).await;
    assert_eq!((grant.leased.len(), grant.next_due), (0, None));
}

/// A release by `lease` counts like one inside an append.
// covers: L6
pub async fn a_release_by_lease_counts_alike(f: Fixture) {
    let (worker, other) = (new_worker(), new_worker());
    let leased = f.leased_run(worker).await;
    let release = vec![(leased.record.head.id, leased.fence, until(Timestamp::ZERO))];
    let request = LeaseRequest { release, ..held_for(worker, f.ttl) };
    assert!(f.main.lease(&request).await.held.is_empty());
    let taken = f.take(other).await.remove(0);
    assert_eq!((taken.fence.epoch, taken.died_at, taken.record.head.deaths), (2, None, 0));
}

/// A lease whose answer was lost is given back by owner and epoch: no death, due at once.
// covers: L2
pub async fn a_lease_that_nobody_heard_of_is_given_back(f: Fixture) {
    let (worker, other) = (new_worker(), new_worker());
    let leased = f.leased_run(worker).await;
    f.main.applied(append_of(&leased, 1)).await;
    let run = leased.record.head.id;
    let with = |by, epoch| LeaseRequest { strangers: vec![(run, epoch)], ..held_for(by, f.ttl) };
    f.main.lease(&with(other, 1)).await;
    assert_eq!(
        f.main.lease(&with(worker, 2)).await.held,
        [(run, 1)],
        "another's, or another epoch"
    );
    assert!(f.main.lease(&with(worker, 1)).await.held.is_empty());
    let taken = f.take(other).await.remove(0);
    assert_eq!((taken.fence.epoch, taken.died_at, taken.record.head.deaths), (2, None, 0));
    let answer = f.main.append(append_of(&leased, 2)).await;
    assert_eq!(answer, Appended::Stale, "who gave it back writes no more");
}

/// Requests that a run cannot take are kept, and only a newer one makes it due.
// covers: S1
pub async fn requests_that_cannot_be_taken_are_kept(f: Fixture) {
    let (worker, never) = (new_worker(), Timestamp::NEVER);
    for by_append in [true, false] {
        let leased = f.leased_run(worker).await;
        let run = leased.record.head.id;
        let seen = f.main.request(run, "1").await;
        let release = Release { seen, ..until(never) };
        if by_append {
            let mut append = append_of(&leased, 1);
            append.release = Some(release);
            f.main.applied(append).await;
        } else {
            let release = vec![(run, leased.fence, release)];
            f.main.lease(&LeaseRequest { release, ..held_for(worker, f.ttl) }).await;
        }
        assert_eq!(f.main.head(run).await.due, never);
        assert!(f.take(worker).await.is_empty());
        f.main.request(run, "2").await;
        let taken = f.take(worker).await.remove(0);
        assert_eq!(taken.record.requests.len(), 2, "none is lost");
    }
}

/// A stale release is passed over.
// covers: S5
pub async fn a_stale_release_is_passed_over(f: Fixture) {
    let (worker, other) = (new_worker(), new_worker());
    let old = f.leased_run(worker).await;
    f.expire().await;
    let new = f.take(other).await.remove(0);
    let mut wrong = new.fence;
    wrong.nonce ^= 1;
    let run = old.record.head.id;
    let release =
        vec![(run, old.fence, until(Timestamp::ZERO)), (run, wrong, until(Timestamp::ZERO))];
    let third = new_worker();
    f.main.lease(&LeaseRequest { release, ..acquire_any(third, f.ttl) }).await;
    f.main.applied(append_of(&new, 1)).await;
    assert_eq!(f.main.head(run).await.owner, Some(other));
}

/// Polls of the release are kept in the row until the next release.
pub async fn polls_are_kept_in_the_row(f: Fixture) {
    let worker = new_worker();
    let leased = f.leased_run(worker).await;
    let run = leased.record.head.id;
    let poll = Poll { due: Timestamp::from_millis(77), count: 12 };
    let polls = BTreeMap::from([("a/b[c]".to_owned(), poll)]);
    let mut bare = append_of(&leased, 0);
    bare.frame = None;
    bare.release = Some(Release { due: Timestamp::ZERO, polls: polls.clone(), seen: 0 });
    f.main.applied(bare).await;
    let record = f.again.record(run).await;
    assert_eq!((record.frames.len(), &record.head.polls), (0, &polls));
    let again = f.take(worker).await.remove(0);
    assert_eq!(again.record.head.polls, polls);
    let mut append = append_of(&again, 1);
    append.release = Some(until(Timestamp::NEVER));
    f.main.applied(append).await;
    assert!(f.main.head(run).await.polls.is_empty());
}
