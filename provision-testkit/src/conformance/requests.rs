//! Requests from outside: numbered, kept until consumed, never slept through.

use provision_core::{
    id::{Payload, Timestamp},
    run::RunStatus,
    store::{Appended, LeaseRequest, Submission, Submitted},
};

use super::{
    Fixture, append_of,
    given::{acquire_any, held_for, until},
    new_worker, run_head,
};

/// Requests are numbered from 1 without gaps and come back in order, as they were written.
pub async fn requests_are_numbered_and_kept_in_order(f: Fixture) {
    let run = f.main.started(run_head()).await;
    for number in 1..=4 {
        assert_eq!(f.main.request(run, &format!("{{\"b\" : {number}}}")).await, number);
    }
    let record = f.again.record(run).await;
    assert_eq!((record.head.requests, record.head.consumed), (4, 0));
    let found: Vec<_> =
        record.requests.iter().map(|r| (r.number, r.body.as_str().to_owned())).collect();
    let expected: Vec<_> = (1..=4).map(|n| (n, format!("{{\"b\" : {n}}}"))).collect();
    assert_eq!(found, expected);
}

/// A request makes a waiting run due at once.
// covers: L7
pub async fn a_request_makes_a_waiting_run_due(f: Fixture) {
    let worker = new_worker();
    let mut head = run_head();
    head.due = f.later(f.ttl * 100).await;
    head.status = RunStatus::Waiting;
    let run = f.main.started(head).await;
    assert!(f.take(worker).await.is_empty());
    f.again.request(run, "1").await;
    let leased = f.take(worker).await.remove(0);
    assert_eq!((leased.record.head.id, leased.record.requests.len()), (run, 1));
}

/// A request is what moves parked and ended runs.
// covers: S17, L5
pub async fn a_request_moves_parked_and_ended_runs(f: Fixture) {
    let worker = new_worker();
    for status in [RunStatus::Parked, RunStatus::Paused, RunStatus::Succeeded] {
        let leased = f.leased_run(worker).await;
        let mut append = append_of(&leased, 1);
        append.status = status;
        append.release = Some(until(Timestamp::NEVER));
        f.main.applied(append).await;
        assert!(f.take(worker).await.is_empty());
        f.main.request(leased.record.head.id, "\"redrive\"").await;
        let again = f.take(worker).await.remove(0);
        assert_eq!(again.record.head.status, status);
        let mut done = append_of(&again, 2);
        done.consumed = 1;
        done.release = Some(until(Timestamp::NEVER));
        f.main.applied(done).await;
    }
}

/// A request that arrives during the lease turns the release into "due now".
// covers: L7
pub async fn a_request_during_the_lease_is_not_slept_through(f: Fixture) {
    let worker = new_worker();
    let leased = f.leased_run(worker).await;
    let run = leased.record.head.id;
    f.main.request(run, "1").await;
    assert_eq!(f.main.head(run).await.owner, Some(worker), "the lease is not touched");
    let mut append = append_of(&leased, 1);
    append.release = Some(until(Timestamp::NEVER));
    let answer = f.main.append(append).await;
    assert_eq!(answer, Appended::Applied { requests: 1, lease_lost: false });
    let again = f.take(worker).await.remove(0);
    // The same by a plain release.
    let release = vec![(run, again.fence, until(Timestamp::NEVER))];
    f.main.lease(&LeaseRequest { release, ..held_for(worker, f.ttl) }).await;
    assert_eq!(f.take(worker).await.len(), 1);
}

/// Consumed requests are gone, their count stays, and they wake nobody.
pub async fn consumed_requests_are_forgotten(f: Fixture) {
    let worker = new_worker();
    let leased = f.leased_run(worker).await;
    let run = leased.record.head.id;
    for body in ["1", "2", "3"] {
        f.main.request(run, body).await;
    }
    let mut append = append_of(&leased, 1);
    append.consumed = 2;
    f.main.applied(append).await;
    let record = f.main.record(run).await;
    assert_eq!((record.head.requests, record.head.consumed), (3, 2));
    assert_eq!(record.requests.iter().map(|r| r.number).collect::<Vec<_>>(), [3]);
    let mut append = append_of(&leased, 2);
    append.consumed = 3;
    append.release = Some(until(Timestamp::NEVER));
    f.main.applied(append).await;
    assert!(f.main.record(run).await.requests.is_empty());
    let grant = f.main.lease(&acquire_any(worker, f.ttl)).await;
    assert_eq!((grant.leased.len(), grant.next_due), (0, None));
    assert_eq!(f.main.request(run, "4").await, 4, "numbers are never used twice");
}

/// Every append tells how many requests there are.
pub async fn an_append_tells_of_new_requests(f: Fixture) {
    let leased = f.leased_run(new_worker()).await;
    for seq in 1..=3 {
        f.main.request(leased.record.head.id, "0").await;
        let answer = f.main.append(append_of(&leased, seq)).await;
        assert_eq!(answer, Appended::Applied { requests: seq, lease_lost: false });
    }
}

/// A request to nobody is told so.
pub async fn a_request_to_an_unknown_run_is_refused(f: Fixture) {
    let run = run_head().id;
    let answer = f.main.submit(Submission::Request { run, body: Payload::null() }).await;
    assert!(matches!(answer, Submitted::NoSuchRun), "found {answer:?}");
}

/// A request to a run whose owner died is found by the next owner.
pub async fn a_request_survives_a_take_over(f: Fixture) {
    let leased = f.leased_run(new_worker()).await;
    f.main.request(leased.record.head.id, "\"cancel\"").await;
    f.expire().await;
    let taken = f.take(new_worker()).await.remove(0);
    assert_eq!(taken.record.requests.len(), 1);
    assert_eq!(taken.record.requests[0].body.as_str(), "\"cancel\"");
}
