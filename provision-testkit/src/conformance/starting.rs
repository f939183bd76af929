//! Starting runs: keys, repeats, leases in the same write.

use provision_core::{
    id::{Payload, Timestamp},
    run::{RunStatus, RunSummary},
    store::{FirstFrame, NewLease, NewRun, Parent, Submission, Submitted},
};

use super::{
    Fixture, append_of,
    given::{acquire_any, held_for, until},
    new_worker, run_head,
};

/// Everything given at the start is there when the run is read.
// covers: S1
pub async fn a_started_run_is_stored_whole(f: Fixture) {
    let mut head = run_head();
    head.tenant = Some("acme".to_owned());
    head.queue = "bulk".to_owned();
    head.priority = -3;
    head.key = Some("order:1".to_owned());
    head.input = Payload::from_json(r#"{"b":1, "a":[1.50]}"#).unwrap();
    head.parent = Some(Parent { run: run_head().id, path: "site".to_owned() });
    head.context.insert("client".to_owned(), "7".to_owned());
    head.summary.total = 4;
    let id = f.main.started(head.clone()).await;
    let mut stored = f.again.record(id).await;
    assert!(stored.frames.is_empty() && stored.requests.is_empty());
    stored.head.updated_at = head.updated_at;
    assert_eq!(stored.head, head);
}

/// The same key with the same input is the same run.
// covers: S2, R3-41, R2-06
pub async fn the_same_key_and_input_answer_with_the_same_run(f: Fixture) {
    let mut head = run_head();
    head.key = Some("order:1".to_owned());
    let id = f.main.started(head.clone()).await;
    head.id = run_head().id;
    match f.again.start(head.clone()).await {
        Submitted::Known(known) => assert_eq!(known.id, id),
        other => panic!("expected the known run, found {other:?}"),
    }
    assert!(f.main.state.load(&[head.id]).await.unwrap()[0].is_none(), "nothing was added");
}

/// The same key with another input is refused and changes nothing.
// covers: S2, R3-41
pub async fn the_same_key_with_other_input_changes_nothing(f: Fixture) {
    let mut head = run_head();
    head.key = Some("order:1".to_owned());
    let id = f.main.started(head.clone()).await;
    head.id = run_head().id;
    head.input_hash = "input-2".to_owned();
    match f.main.start(head.clone()).await {
        Submitted::KeyTaken(holder) => assert_eq!(holder.id, id),
        other => panic!("expected the key to be taken, found {other:?}"),
    }
    assert!(f.main.state.load(&[head.id]).await.unwrap()[0].is_none());
    assert_eq!(f.main.head(id).await.input_hash, "input-1");
}

/// The same key and input for another saga is refused: its run would never begin.
// covers: S2
pub async fn the_same_key_for_another_saga_changes_nothing(f: Fixture) {
    let mut head = run_head();
    head.key = Some("order:1".to_owned());
    let id = f.main.started(head.clone()).await;
    head.id = run_head().id;
    head.saga.version += 1;
    match f.again.start(head.clone()).await {
        Submitted::Known(known) => assert_eq!(known.id, id, "a later version is the same start"),
        other => panic!("expected the known run, found {other:?}"),
    }
    head.saga.name = "another".to_owned();
    match f.again.start(head.clone()).await {
        Submitted::KeyTaken(holder) => assert_eq!(holder.id, id),
        other => panic!("expected the key to be taken, found {other:?}"),
    }
    assert!(f.main.state.load(&[head.id]).await.unwrap()[0].is_none());
}

/// A start whose answer was lost is repeated and finds itself, even without a key.
// covers: S1, S2
pub async fn a_repeated_start_finds_its_own_run(f: Fixture) {
    let head = run_head();
    let id = f.main.started(head.clone()).await;
    match f.main.start(head).await {
        Submitted::Known(known) => assert_eq!(known.id, id),
        other => panic!("expected the known run, found {other:?}"),
    }
}

/// Runs without a key have nothing to do with each other.
pub async fn runs_without_a_key_are_all_new(f: Fixture) {
    let first = f.main.started(run_head()).await;
    let second = f.main.started(run_head()).await;
    assert_ne!(first, second);
}

/// A run that is over is still found by its key.
// covers: S1, S2
pub async fn the_key_of_an_ended_run_stays_known(f: Fixture) {
    let mut head = run_head();
    head.key = Some("order:1".to_owned());
    let leased = f.leased(new_worker(), head.clone()).await;
    let mut end = append_of(&leased, 1);
    end.status = RunStatus::Succeeded;
    end.release = Some(until(provision_core::Timestamp::NEVER));
    f.main.applied(end).await;
    head.id = run_head().id;
    match f.main.start(head).await {
        Submitted::Known(known) => {
            assert_eq!((known.id, known.status), (leased.record.head.id, RunStatus::Succeeded));
        }
        other => panic!("expected the known run, found {other:?}"),
    }
}

/// Start and first lease are one write; nobody else gets the run.
pub async fn a_start_can_be_leased_in_the_same_write(f: Fixture) {
    let worker = new_worker();
    let leased = f.leased_run(worker).await;
    assert_eq!((leased.fence.owner, leased.fence.epoch), (worker, 1));
    assert_eq!((leased.record.head.owner, leased.died_at), (Some(worker), None));
    assert!(f.take(new_worker()).await.is_empty());
    f.main.applied(append_of(&leased, 1)).await;
    assert_eq!(f.renew(worker).await.held, [(leased.record.head.id, 1)]);
}

/// A first frame.
fn first_frame() -> FirstFrame {
    let summary = RunSummary { done: 0, total: 7, ..RunSummary::default() };
    FirstFrame { body: r#"[{"paused":{}}]"#.into(), at: Timestamp::from_millis(17), summary }
}

/// A run that is leased as it is created has its first frame from the same write; the second one
/// comes after it, and a repeated start answers with the run as it is.
pub async fn a_start_can_bring_its_first_frame(f: Fixture) {
    let worker = new_worker();
    let first = first_frame();
    let lease = NewLease { first: Some(Box::new(first.clone())), ..(worker, f.ttl).into() };
    let new = NewRun { head: run_head(), lease_to: Some(lease) };
    let id = new.head.id;
    let answer = f.main.submit(Submission::Run(Box::new(new.clone()))).await;
    let Submitted::Created(Some(leased)) = answer else { panic!("found {answer:?}") };
    let stored = f.again.record(id).await;
    for record in [&leased.record, &stored] {
        let head = &record.head;
        assert_eq!((head.seq, head.open, head.status), (1, true, RunStatus::Running));
        assert_eq!((&head.summary, head.epoch, head.owner), (&first.summary, 1, Some(worker)));
        let [frame] = &record.frames[..] else { panic!("found {:?}", record.frames) };
        assert_eq!((frame.seq, frame.epoch, frame.at), (1, 1, first.at));
        assert_eq!(frame.body, first.body);
    }
    let again = f.main.submit(Submission::Run(Box::new(new))).await;
    assert!(matches!(again, Submitted::Known(head) if head.seq == 1 && head.open));
    f.main.applied(append_of(&leased, 2)).await;
    assert_eq!(f.again.record(id).await.frames.len(), 2);
}

/// Without the lease nobody has begun anything: the first frame is not written.
pub async fn a_first_frame_is_not_written_without_its_lease(f: Fixture) {
    let (dead, other) = (new_worker(), new_worker());
    f.renew(dead).await;
    let mut proof = held_for(other, f.ttl);
    proof.dead = vec![dead];
    f.main.lease(&proof).await;
    let lease = NewLease { first: Some(Box::new(first_frame())), ..(dead, f.ttl).into() };
    let new = NewRun { head: run_head(), lease_to: Some(lease) };
    let (id, summary) = (new.head.id, new.head.summary.clone());
    let answer = f.main.submit(Submission::Run(Box::new(new))).await;
    assert!(matches!(answer, Submitted::Created(None)), "found {answer:?}");
    let record = f.again.record(id).await;
    assert_eq!((record.head.seq, record.head.open, record.frames.len()), (0, false, 0));
    assert_eq!(record.head.summary, summary);
    let leased = f.take(other).await.remove(0);
    f.main.applied(append_of(&leased, 1)).await;
}

/// An incarnation marked dead gets no lease with a start; the run waits for another.
pub async fn a_start_for_a_dead_incarnation_is_stored_unleased(f: Fixture) {
    let (dead, other) = (new_worker(), new_worker());
    f.renew(dead).await;
    let mut proof = held_for(other, f.ttl);
    proof.dead = vec![dead];
    f.main.lease(&proof).await;
    let new = NewRun { head: run_head(), lease_to: Some((dead, f.ttl).into()) };
    let id = new.head.id;
    let answer = f.main.submit(Submission::Run(Box::new(new))).await;
    assert!(matches!(answer, Submitted::Created(None)), "found {answer:?}");
    assert_eq!(f.take(other).await[0].record.head.id, id);
}

/// Every submission of a batch has its own answer, in order.
pub async fn a_batch_answers_each_submission_on_its_own(f: Fixture) {
    let mut keyed = run_head();
    keyed.key = Some("order:1".to_owned());
    let mut again = run_head();
    again.key.clone_from(&keyed.key);
    let run = |head| Submission::Run(Box::new(NewRun { head, lease_to: None }));
    let missing = Submission::Request { run: run_head().id, body: Payload::null() };
    let asked = Submission::Request { run: keyed.id, body: Payload::null() };
    let batch = [run(keyed), missing, run(again), asked, run(run_head())];
    let answers = f.main.state.submit(&batch).await.unwrap();
    assert!(
        matches!(
            answers.as_slice(),
            [
                Submitted::Created(None),
                Submitted::NoSuchRun,
                Submitted::Known(_),
                Submitted::Requested(1),
                Submitted::Created(None),
            ]
        ),
        "found {answers:?}"
    );
}

/// A run started for later is not claimed before.
// covers: R1-11
pub async fn a_run_started_for_later_is_not_claimed_before(f: Fixture) {
    let worker = new_worker();
    let mut head = run_head();
    head.due = f.later(f.ttl).await;
    let id = f.main.started(head.clone()).await;
    let early = f.main.lease(&acquire_any(worker, f.ttl * 4)).await;
    assert!(early.leased.is_empty());
    assert_eq!(early.next_due, Some(head.due));
    f.advance(f.ttl).await;
    assert_eq!(f.take(worker).await[0].record.head.id, id);
}
