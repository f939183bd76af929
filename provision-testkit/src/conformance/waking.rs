//! One run's append makes another run due.

use provision_core::{
    id::{RunId, Timestamp},
    run::RunStatus,
    store::NewRun,
};

use super::{Fixture, append_of, given::until, new_worker, run_head};

async fn child_ends(f: &Fixture, wakes: Vec<RunId>) {
    let child = f.leased_run(new_worker()).await;
    let mut end = append_of(&child, 1);
    end.status = RunStatus::Succeeded;
    end.release = Some(until(Timestamp::NEVER));
    end.wakes = wakes;
    f.main.applied(end).await;
}

/// A waiting parent is due as soon as its child's append is written.
// covers: L7
pub async fn a_waiting_run_is_woken(f: Fixture) {
    let mut parent = run_head();
    parent.status = RunStatus::Waiting;
    parent.due = Timestamp::NEVER;
    let parent = f.main.started(parent).await;
    assert!(f.take(new_worker()).await.is_empty());
    child_ends(&f, vec![parent]).await;
    assert_eq!(f.take(new_worker()).await[0].record.head.id, parent);
}

/// A parent that is leased when its child ends is due at its release.
// covers: L7
pub async fn a_leased_run_is_due_at_its_release(f: Fixture) {
    let worker = new_worker();
    let parent = f.leased_run(worker).await;
    child_ends(&f, vec![parent.record.head.id]).await;
    let mut wait = append_of(&parent, 1);
    wait.status = RunStatus::Waiting;
    wait.release = Some(until(Timestamp::NEVER));
    f.main.applied(wait).await;
    let again = f.take(worker).await.remove(0);
    // It was told once; the next release is not changed any more.
    let mut wait = append_of(&again, 2);
    wait.status = RunStatus::Waiting;
    wait.release = Some(until(Timestamp::NEVER));
    f.main.applied(wait).await;
    assert!(f.take(worker).await.is_empty());
}

/// What only a person may move is not woken by a child, and unknown runs are no trouble.
// covers: S17
pub async fn parked_and_ended_runs_are_not_woken(f: Fixture) {
    let mut asleep = vec![run_head().id];
    for status in [RunStatus::Parked, RunStatus::Paused, RunStatus::Succeeded] {
        let leased = f.leased_run(new_worker()).await;
        let mut append = append_of(&leased, 1);
        append.status = status;
        append.release = Some(until(Timestamp::NEVER));
        f.main.applied(append).await;
        asleep.push(leased.record.head.id);
    }
    child_ends(&f, asleep).await;
    assert!(f.take(new_worker()).await.is_empty());
}

/// Runs begin with the append of another run, once, and are due at once.
// covers: S6
pub async fn an_append_starts_runs_once(f: Fixture) {
    let leased = f.leased_run(new_worker()).await;
    let mut child = run_head();
    child.key = Some("child:1".to_owned());
    let mut append = append_of(&leased, 1);
    append.starts = vec![NewRun { head: child.clone(), lease_to: None }];
    f.main.applied(append.clone()).await;
    f.again.applied(append.clone()).await;
    let stored = f.again.record(child.id).await;
    assert_eq!((stored.head.key, stored.head.seq), (child.key.clone(), 0));
    let taken = f.take(new_worker()).await;
    assert_eq!(taken.iter().map(|one| one.record.head.id).collect::<Vec<_>>(), [child.id]);
    let mut later = append_of(&leased, 2);
    later.starts = append.starts;
    f.main.applied(later).await;
    assert_eq!(f.main.head(child.id).await.owner, Some(taken[0].fence.owner), "it stays as it is");
}

/// A refused append starts nothing.
// covers: S5, S6
pub async fn a_stale_append_starts_nothing(f: Fixture) {
    let leased = f.leased_run(new_worker()).await;
    let child = run_head();
    let mut append = append_of(&leased, 1);
    append.fence.epoch += 1;
    append.starts = vec![NewRun { head: child.clone(), lease_to: None }];
    f.main.append(append).await;
    assert!(f.main.state.load(&[child.id]).await.unwrap()[0].is_none());
}
