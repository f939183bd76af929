//! Appending: order, completeness, repeats.

use std::sync::Arc;

use provision_core::{
    error::{Effect, Failure, StepError},
    id::Timestamp,
    ledger::LedgerQuery,
    run::RunStatus,
    secret::{Sealed, SecretKey},
    store::Appended,
};

use super::{Fixture, append_of, given::until, ledger_row, new_worker, run_head};

/// Frames come back in order, with their epochs, moments and exact text.
// covers: S3
pub async fn frames_come_back_in_order(f: Fixture) {
    let leased = f.leased_run(new_worker()).await;
    for seq in 1..=5 {
        f.main.applied(append_of(&leased, seq)).await;
    }
    let record = f.again.record(leased.record.head.id).await;
    assert_eq!(record.head.seq, 5);
    let frames: Vec<_> = record.frames.iter().map(|f| (f.seq, f.epoch, f.at, &*f.body)).collect();
    let body: Vec<String> = (1..=5).map(|n| format!("[{{\"n\":{n}}}]")).collect();
    let expected: Vec<_> = (1..=5_u64)
        .zip(&body)
        .map(|(n, body)| (n, 1, Timestamp::from_millis(n), body.as_str()))
        .collect();
    assert_eq!(frames, expected);
}

/// A sequence number that leaves a gap is refused.
// covers: S3, S5
pub async fn a_gap_is_refused(f: Fixture) {
    let leased = f.leased_run(new_worker()).await;
    for seq in [0, 2, 3, u64::from(u32::MAX)] {
        assert_eq!(f.main.append(append_of(&leased, seq)).await, Appended::Stale, "{seq}");
    }
    assert_eq!(f.main.head(leased.record.head.id).await.seq, 0);
}

/// A number that is taken by other content is refused.
// covers: S3, S19
pub async fn a_taken_number_with_other_content_is_refused(f: Fixture) {
    let leased = f.leased_run(new_worker()).await;
    f.main.applied(append_of(&leased, 1)).await;
    let mut other = append_of(&leased, 1);
    other.frame = Some(Arc::from("[\"other\"]"));
    assert_eq!(f.main.append(other).await, Appended::Stale);
    let record = f.main.record(leased.record.head.id).await;
    assert_eq!((record.frames.len(), &*record.frames[0].body), (1, "[{\"n\":1}]"));
}

/// The very same append twice is written once, and both are told so.
// covers: S19
pub async fn an_exact_repeat_is_applied_once(f: Fixture) {
    let leased = f.leased_run(new_worker()).await;
    f.main.applied(append_of(&leased, 1)).await;
    f.main.applied(append_of(&leased, 2)).await;
    for seq in [2, 1] {
        let answer = f.again.append(append_of(&leased, seq)).await;
        assert_eq!(answer, Appended::Applied { requests: 0, lease_lost: false });
    }
    assert_eq!(f.main.record(leased.record.head.id).await.frames.len(), 2);
}

/// A repeat whose record stands, but whose lease was taken over, hears both.
// covers: S19, S6
pub async fn an_exact_repeat_after_a_take_over_says_that_the_lease_is_lost(f: Fixture) {
    let (first, second) = (new_worker(), new_worker());
    let leased = f.leased_run(first).await;
    f.main.applied(append_of(&leased, 1)).await;
    f.expire().await;
    let taken = f.take(second).await.remove(0);
    let answer = f.main.append(append_of(&leased, 1)).await;
    assert_eq!(answer, Appended::Applied { requests: 0, lease_lost: true });
    f.main.applied(append_of(&taken, 2)).await;
    let answer = f.main.append(append_of(&leased, 2)).await;
    assert_eq!(answer, Appended::Stale, "the same text under another epoch is not its own");
}

/// An append without a frame changes the row and leaves the journal as it is.
pub async fn an_append_without_a_frame_changes_the_row_only(f: Fixture) {
    let leased = f.leased_run(new_worker()).await;
    f.main.applied(append_of(&leased, 1)).await;
    let mut bare = append_of(&leased, 1);
    bare.frame = None;
    bare.status = RunStatus::Waiting;
    bare.open = false;
    f.main.applied(bare.clone()).await;
    f.main.applied(bare.clone()).await;
    let record = f.main.record(leased.record.head.id).await;
    assert_eq!((record.head.seq, record.frames.len()), (1, 1));
    assert_eq!((record.head.status, record.head.open), (RunStatus::Waiting, false));
    bare.seq = 2;
    assert_eq!(f.main.append(bare).await, Appended::Stale);
}

/// Every status and the whole summary come back.
pub async fn every_status_and_summary_is_kept(f: Fixture) {
    let leased = f.leased_run(new_worker()).await;
    let error = StepError::permanent("create server").with_message("no more servers");
    for (seq, status) in (1..).zip(RunStatus::ALL) {
        let mut append = append_of(&leased, seq);
        append.status = status;
        append.summary.phase = Some("servers".to_owned());
        append.summary.done = 3;
        append.summary.total = 9;
        append.summary.waiting = Some("for the provider".to_owned());
        append.summary.failure = Some(Failure::of("vm", 2, &error));
        append.summary.resolved = seq % 2 == 0;
        f.main.applied(append.clone()).await;
        let head = f.again.head(leased.record.head.id).await;
        assert_eq!((head.status, head.summary), (status, append.summary));
    }
    let failure = f.main.head(leased.record.head.id).await.summary.failure.unwrap();
    assert_eq!((failure.effect, failure.attempt), (Effect::None, 2));
}

/// A refused append changes nothing at all: no frame, ledger row, sealed value or woken run.
// covers: S5
pub async fn a_refused_append_changes_nothing(f: Fixture) {
    let leased = f.leased_run(new_worker()).await;
    let mut sleeper = run_head();
    sleeper.due = Timestamp::NEVER;
    let sleeper = f.main.started(sleeper).await;
    let before = f.main.head(leased.record.head.id).await;
    let run = before.id;
    let key = SecretKey {
        scope: run.to_string(),
        generation: 1,
        name: "password".to_owned(),
        path: "db".to_owned(),
    };
    let mut append = append_of(&leased, 1);
    append.fence.nonce ^= 1;
    append.status = RunStatus::Succeeded;
    append.consumed = 9;
    append.release = Some(until(Timestamp::ZERO));
    append.ledger = vec![ledger_row(run, "vm", "web-1")];
    append.sealed =
        vec![(key.clone(), Sealed { format: 1, key_id: "k".to_owned(), bytes: vec![1] })];
    append.wakes = vec![sleeper];
    assert_eq!(f.main.append(append).await, Appended::Stale);
    let record = f.main.record(run).await;
    assert_eq!((record.head, record.frames.len()), (before, 0));
    assert!(f.main.rows(LedgerQuery::default()).await.is_empty());
    assert_eq!(f.main.secrets.get(&key).await.unwrap(), None);
    assert_eq!(f.main.head(sleeper).await.due, Timestamp::NEVER);
}

/// Each append of a batch has its own answer, in order; a refused one stops no other.
// covers: S5
pub async fn a_batch_answers_each_append_on_its_own(f: Fixture) {
    let worker = new_worker();
    let (a, b, c) =
        (f.leased_run(worker).await, f.leased_run(worker).await, f.leased_run(worker).await);
    let mut stale = append_of(&b, 1);
    stale.fence.epoch += 1;
    let batch = [append_of(&a, 1), stale, append_of(&c, 1)];
    let answers = f.main.state.append(&batch).await.unwrap();
    let applied = Appended::Applied { requests: 0, lease_lost: false };
    assert_eq!(answers, [applied.clone(), Appended::Stale, applied]);
    for (leased, seq) in [(a, 1), (b, 0), (c, 1)] {
        assert_eq!(f.main.head(leased.record.head.id).await.seq, seq);
    }
}

/// An append to a run that does not exist is refused.
pub async fn an_append_to_an_unknown_run_is_refused(f: Fixture) {
    let leased = f.leased_run(new_worker()).await;
    let mut append = append_of(&leased, 1);
    append.run = run_head().id;
    assert_eq!(f.main.append(append).await, Appended::Stale);
}

/// Empty batches are answered with nothing.
pub async fn empty_batches_are_answered_with_nothing(f: Fixture) {
    assert!(f.main.state.submit(&[]).await.unwrap().is_empty());
    assert!(f.main.state.append(&[]).await.unwrap().is_empty());
    assert!(f.main.state.load(&[]).await.unwrap().is_empty());
    assert!(f.main.state.ledger(&[]).await.unwrap().is_empty());
}
