//! Business keys: one run at a time.

use provision_core::store::{Guard, GuardUntil, RunHead, Submitted};

use super::{Fixture, append_of, new_worker, run_head};

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
