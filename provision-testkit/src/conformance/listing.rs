//! Listings and loads.

use provision_core::{
    error::{Failure, StepError},
    id::Timestamp,
    run::RunStatus,
    store::{Guard, GuardUntil, Parent, RunFilter, RunHead},
};

use super::{Fixture, append_of, given::until, new_worker, run_head};

async fn list(f: &Fixture, filter: RunFilter) -> Vec<RunHead> {
    f.main.state.list(&filter).await.expect("list answers").runs
}

async fn leave(f: &Fixture, status: RunStatus, failed: bool, resolved: bool) -> RunHead {
    let leased = f.leased_run(new_worker()).await;
    let mut append = append_of(&leased, 1);
    append.status = status;
    append.summary.resolved = resolved;
    let error = StepError::permanent("create server");
    append.summary.failure = failed.then(|| Failure::of("vm", 1, &error));
    append.release = Some(until(Timestamp::NEVER));
    f.main.applied(append).await;
    f.main.head(leased.record.head.id).await
}

/// The newest run comes first, and the default page holds 100.
pub async fn the_newest_run_comes_first(f: Fixture) {
    let mut expected = Vec::new();
    for _ in 0..5 {
        expected.push(f.main.started(run_head()).await);
    }
    expected.reverse();
    let found: Vec<_> = list(&f, RunFilter::default()).await.iter().map(|head| head.id).collect();
    assert_eq!(found, expected);
}

/// Pages follow each other without gaps or repeats; the last one says so.
pub async fn pages_are_complete(f: Fixture) {
    let mut expected = Vec::new();
    for _ in 0..7 {
        expected.push(f.main.started(run_head()).await);
    }
    expected.reverse();
    let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let filter = RunFilter { after, limit: 3, ..RunFilter::default() };
        let page = f.again.state.list(&filter).await.unwrap();
        found.extend(page.runs.iter().map(|head| head.id));
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((found, pages), (expected, 3));
    let exact = RunFilter { limit: 7, ..RunFilter::default() };
    assert_eq!(f.main.state.list(&exact).await.unwrap().next, None, "a full last page is the last");
}

/// Each filter selects by its own field.
pub async fn each_filter_selects_by_its_own_field(f: Fixture) {
    f.main.started(run_head()).await;
    let mut odd = run_head();
    odd.saga.name = "other".to_owned();
    odd.saga.version = 7;
    odd.tenant = Some("acme".to_owned());
    odd.key = Some("order:1".to_owned());
    odd.guard = Some(Guard { key: "client:7".to_owned(), until: GuardUntil::Gone });
    odd.parent = Some(Parent { run: run_head().id, path: "site".to_owned() });
    odd.status = RunStatus::Waiting;
    let mut near = run_head();
    near.key = Some("ordes".to_owned());
    f.main.started(near).await;
    let id = f.main.started(odd.clone()).await;
    let all = RunFilter::default;
    let filters = [
        RunFilter { saga: Some("other".to_owned()), ..all() },
        RunFilter { version: Some(7), ..all() },
        RunFilter { saga: Some("other".to_owned()), version: Some(7), ..all() },
        RunFilter { tenant: odd.tenant.clone(), ..all() },
        RunFilter { key: odd.key.clone(), ..all() },
        RunFilter { key_prefix: Some("order".to_owned()), ..all() },
        RunFilter { guard: Some("client:7".to_owned()), ..all() },
        RunFilter { parent: odd.parent.as_ref().map(|parent| parent.run), ..all() },
        RunFilter { status: vec![RunStatus::Waiting, RunStatus::Parked], ..all() },
    ];
    for filter in filters {
        let found: Vec<_> = list(&f, filter.clone()).await.iter().map(|head| head.id).collect();
        assert_eq!(found, [id], "{filter:?}");
    }
    let never = RunFilter { saga: Some("other".to_owned()), version: Some(8), ..all() };
    assert!(list(&f, never).await.is_empty(), "a version that never ran");
    let both = RunFilter { key: odd.key, tenant: Some("umbrella".to_owned()), ..all() };
    assert!(list(&f, both).await.is_empty(), "filters add up");
    let wild = RunFilter { key_prefix: Some("o_d%".to_owned()), ..all() };
    assert!(list(&f, wild).await.is_empty(), "a prefix is text, not a pattern");
}

/// A business key is listed with its holder only while it is held.
pub async fn a_freed_guard_lists_nobody(f: Fixture) {
    let mut head = run_head();
    head.guard = Some(Guard { key: "client:7".to_owned(), until: GuardUntil::Gone });
    let leased = f.leased(new_worker(), head).await;
    let mut append = append_of(&leased, 1);
    append.free_guard = true;
    f.main.applied(append).await;
    let filter = RunFilter { guard: Some("client:7".to_owned()), ..RunFilter::default() };
    assert!(list(&f, filter).await.is_empty());
}

/// Dead letters are the parked runs and the failed roll-backs that nobody has resolved.
// covers: L5, R5-17
pub async fn dead_letters_are_what_needs_a_person(f: Fixture) {
    let expected = [
        leave(&f, RunStatus::Parked, false, false).await.id,
        leave(&f, RunStatus::RolledBack, true, false).await.id,
        leave(&f, RunStatus::RolledBackKeeping, true, false).await.id,
    ];
    leave(&f, RunStatus::RolledBack, false, false).await;
    leave(&f, RunStatus::RolledBack, true, true).await;
    leave(&f, RunStatus::Parked, true, true).await;
    leave(&f, RunStatus::Succeeded, true, false).await;
    leave(&f, RunStatus::Running, true, false).await;
    let filter = RunFilter { dead_letters: true, ..RunFilter::default() };
    let mut found: Vec<_> = list(&f, filter).await.iter().map(|head| head.id).collect();
    found.reverse();
    assert_eq!(found, expected);
}

/// Runs are found by when they are due, and by what they wait for.
// covers: R5-16
pub async fn runs_are_found_by_their_due_time(f: Fixture) {
    let (soon, late) = (f.later(f.ttl).await, f.later(f.ttl * 9).await);
    let mut heads = Vec::new();
    for (due, status) in
        [(soon, RunStatus::Waiting), (late, RunStatus::Waiting), (soon, RunStatus::Running)]
    {
        let mut head = run_head();
        (head.due, head.status) = (due, status);
        heads.push(f.main.started(head).await);
    }
    leave(&f, RunStatus::Parked, true, false).await;
    let retried = |by| RunFilter {
        due_by: Some(by),
        status: vec![RunStatus::Waiting],
        ..RunFilter::default()
    };
    let of = async |filter| -> Vec<_> {
        list(&f, filter).await.into_iter().map(|head| head.id).collect()
    };
    assert_eq!(of(retried(soon)).await, [heads[0]]);
    assert_eq!(of(retried(late)).await, [heads[1], heads[0]]);
    let any = RunFilter { due_by: Some(late), ..RunFilter::default() };
    assert_eq!(of(any).await, [heads[2], heads[1], heads[0]], "what is parked is never due");
    let dead = RunFilter { due_by: Some(late), dead_letters: true, ..RunFilter::default() };
    assert!(of(dead).await.is_empty());
}

/// Loads answer in the order asked, with nothing for unknown runs.
pub async fn loads_answer_in_order(f: Fixture) {
    let (a, b) = (f.main.started(run_head()).await, f.main.started(run_head()).await);
    let found = f.main.state.load(&[b, run_head().id, a, b]).await.unwrap();
    let ids: Vec<_> = found.iter().map(|r| r.as_ref().map(|r| r.head.id)).collect();
    assert_eq!(ids, [Some(b), None, Some(a), Some(b)]);
}

/// A listed row equals the loaded one.
pub async fn a_listed_row_equals_the_loaded_one(f: Fixture) {
    let left = leave(&f, RunStatus::Parked, true, false).await;
    assert_eq!(list(&f, RunFilter::default()).await, [left]);
}
