//! Business keys: one run at a time.

use provision_core::{
    id::{Payload, RunId},
    store::{Guard, GuardUntil, RunHead, Submission, Submitted},
};

use super::{Fixture, append_of, given::until, new_worker, run_head};

fn guarded() -> RunHead {
    let mut head = run_head();
    head.guard = Some(Guard { key: "client:7".to_owned(), until: GuardUntil::Ended });
    head
}

/// A held business key answers with the run that holds it, and nothing is stored.
pub async fn a_held_guard_answers_with_its_holder(f: Fixture) {
    let holder = f.main.started(guarded()).await;
    let second = guarded();
    let id = second.id;
    match f.again.start(second).await {
        Submitted::Guarded(head) => {
            assert_eq!(head.id, holder);
            assert_eq!(head.guard.map(|guard| guard.until), Some(GuardUntil::Ended));
        }
        other => panic!("expected the holder, found {other:?}"),
    }
    assert!(f.main.state.load(&[id]).await.unwrap()[0].is_none());
}

/// Once freed, the business key can be taken by another run.
// covers: R2-51
pub async fn a_freed_guard_can_be_taken_again(f: Fixture) {
    let leased = f.leased(new_worker(), guarded()).await;
    let mut append = append_of(&leased, 1);
    append.free_guard = true;
    f.main.applied(append).await;
    assert_eq!(f.main.head(leased.record.head.id).await.guard, None);
    f.main.started(guarded()).await;
}

/// An append that does not say so leaves the business key where it is.
pub async fn a_guard_is_freed_only_by_an_append_that_says_so(f: Fixture) {
    let leased = f.leased(new_worker(), guarded()).await;
    f.main.applied(append_of(&leased, 1)).await;
    assert!(matches!(f.main.start(guarded()).await, Submitted::Guarded(_)));
}

/// A refused append frees nothing.
// covers: S5
pub async fn a_stale_append_frees_no_guard(f: Fixture) {
    let leased = f.leased(new_worker(), guarded()).await;
    let mut append = append_of(&leased, 1);
    append.free_guard = true;
    append.fence.epoch += 1;
    f.main.append(append).await;
    assert!(matches!(f.main.start(guarded()).await, Submitted::Guarded(_)));
}

/// A known start key is answered before the business key is looked at.
// covers: S2
pub async fn a_known_key_comes_before_the_guard(f: Fixture) {
    let mut head = guarded();
    head.key = Some("order:1".to_owned());
    let id = f.main.started(head.clone()).await;
    head.id = run_head().id;
    match f.main.start(head).await {
        Submitted::Known(known) => assert_eq!(known.id, id),
        other => panic!("expected the known run, found {other:?}"),
    }
}

/// The first holder's late append does not free what another run holds by now.
pub async fn an_old_holder_frees_nothing_twice(f: Fixture) {
    let leased = f.leased(new_worker(), guarded()).await;
    let mut append = append_of(&leased, 1);
    append.free_guard = true;
    f.main.applied(append).await;
    let second = f.main.started(guarded()).await;
    let mut append = append_of(&leased, 2);
    append.free_guard = true;
    f.main.applied(append).await;
    match f.main.start(guarded()).await {
        Submitted::Guarded(head) => assert_eq!(head.id, second),
        other => panic!("expected the second holder, found {other:?}"),
    }
}

/// A run that has ended and freed its business key.
async fn freed(f: &Fixture) -> RunId {
    let leased = f.leased(new_worker(), guarded()).await;
    let mut append = append_of(&leased, 1);
    append.free_guard = true;
    append.release = Some(until(provision_core::Timestamp::NEVER));
    f.main.applied(append).await;
    leased.record.head.id
}

/// A run that is opened again holds its business key again, from that very moment.
pub async fn a_run_that_is_opened_again_takes_its_guard_again(f: Fixture) {
    let run = freed(&f).await;
    let again = Submission::Reopen { run, body: Payload::null() };
    let answer = f.main.submit(again.clone()).await;
    assert!(matches!(answer, Submitted::Requested(1)), "found {answer:?}");
    assert_eq!(f.again.head(run).await.guard, guarded().guard);
    match f.again.start(guarded()).await {
        Submitted::Guarded(holder) => assert_eq!(holder.id, run),
        other => panic!("expected the holder, found {other:?}"),
    }
    let answer = f.again.submit(again).await;
    assert!(
        matches!(answer, Submitted::Requested(2)),
        "its own key is in nobody's way: {answer:?}"
    );
}

/// A run whose business key another run holds is not opened, and nothing is stored.
pub async fn a_guard_that_another_run_holds_keeps_a_run_closed(f: Fixture) {
    let run = freed(&f).await;
    let holder = f.main.started(guarded()).await;
    let again = Submission::Reopen { run, body: Payload::null() };
    match f.again.submit(again).await {
        Submitted::Guarded(head) => assert_eq!(head.id, holder),
        other => panic!("expected the holder, found {other:?}"),
    }
    let stored = f.main.record(run).await;
    assert!(stored.requests.is_empty() && stored.head.guard.is_none());
    let unguarded = f.main.started(run_head()).await;
    let again = Submission::Reopen { run: unguarded, body: Payload::null() };
    assert!(matches!(f.main.submit(again).await, Submitted::Requested(1)));
    let unknown = Submission::Reopen { run: run_head().id, body: Payload::null() };
    assert!(matches!(f.main.submit(unknown).await, Submitted::NoSuchRun));
}
