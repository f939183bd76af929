//! The ledger: rows put by appends, one live created row per name, queries.

use provision_core::{
    id::{ExternalId, Payload, RunId, Timestamp},
    ledger::{LedgerOp, LedgerQuery, LedgerReply, LedgerRow, Origin, ResourceState, Sighting},
    run::RunStatus,
    store::{Appended, Leased, Submission},
};

use super::{Fixture, acquire_any, append_of, given::until, ledger_row, new_worker, run_head};

async fn put(f: &Fixture, leased: &Leased, seq: u64, rows: Vec<LedgerRow>) -> Appended {
    let mut append = append_of(leased, seq);
    append.ledger = rows;
    f.main.append(append).await
}

fn of_run(run: RunId) -> LedgerQuery {
    LedgerQuery { run: Some(run), ..LedgerQuery::default() }
}

fn was_applied(answer: &Appended) -> bool {
    matches!(answer, Appended::Applied { .. })
}

/// A row comes back with every field, and a later put of the same row replaces it.
pub async fn rows_are_put_whole_and_replaced_whole(f: Fixture) {
    let leased = f.leased_run(new_worker()).await;
    let run = leased.record.head.id;
    let mut row = ledger_row(run, "vm", "web-1");
    row.state = ResourceState::Unknown;
    row.external_id = None;
    row.watch_at = Some(Timestamp::from_millis(9));
    row.suspect = true;
    assert!(was_applied(&put(&f, &leased, 1, vec![row.clone()]).await));
    assert_eq!(f.again.rows(of_run(run)).await, [row.clone()]);
    row = LedgerRow {
        external_id: Some(ExternalId::new("42")),
        state: ResourceState::Gone,
        until: Some(Timestamp::from_millis(99)),
        cost: None,
        name: None,
        region: None,
        template: None,
        tenant: None,
        watch_at: None,
        suspect: false,
        ..row
    };
    assert!(was_applied(&put(&f, &leased, 2, vec![row.clone()]).await));
    assert_eq!(f.main.rows(of_run(run)).await, [row]);
}

/// An intent that meets another run's live created row is refused, and nothing is written.
pub async fn two_runs_cannot_hold_the_same_live_name(f: Fixture) {
    let worker = new_worker();
    let (a, b) = (f.leased_run(worker).await, f.leased_run(worker).await);
    let held = ledger_row(a.record.head.id, "vm", "web-1");
    assert!(was_applied(&put(&f, &a, 1, vec![held.clone()]).await));
    for state in [ResourceState::Unknown, ResourceState::Alive] {
        let wanted = LedgerRow { state, ..ledger_row(b.record.head.id, "other", "web-1") };
        let fine = ledger_row(b.record.head.id, "fine", "web-2");
        match put(&f, &b, 1, vec![fine, wanted]).await {
            Appended::Conflict(row) => assert_eq!(*row, held),
            other => panic!("expected a conflict, found {other:?}"),
        }
    }
    let record = f.main.record(b.record.head.id).await;
    assert_eq!((record.head.seq, record.frames.len()), (0, 0));
    assert!(f.main.rows(of_run(b.record.head.id)).await.is_empty());
}

/// Two appends of one batch are compared with each other, too.
pub async fn a_conflict_inside_one_batch_is_found(f: Fixture) {
    let worker = new_worker();
    let (a, b) = (f.leased_run(worker).await, f.leased_run(worker).await);
    let mut batch = [append_of(&a, 1), append_of(&b, 1)];
    for append in &mut batch {
        append.ledger = vec![ledger_row(append.run, "vm", "web-1")];
    }
    let answers = f.main.state.append(&batch).await.unwrap();
    let applied = answers.iter().filter(|a| was_applied(a)).count();
    let refused = answers.iter().filter(|a| matches!(a, Appended::Conflict(_))).count();
    assert_eq!((applied, refused), (1, 1), "found {answers:?}");
}

/// What is gone or left behind holds its name no longer.
pub async fn a_name_is_free_when_its_resource_is_gone(f: Fixture) {
    let worker = new_worker();
    for state in [ResourceState::Gone, ResourceState::LeftBehind] {
        let (a, b) = (f.leased_run(worker).await, f.leased_run(worker).await);
        let name = format!("{state:?}");
        let row = ledger_row(a.record.head.id, "vm", &name);
        assert!(was_applied(&put(&f, &a, 1, vec![row.clone()]).await));
        assert!(was_applied(&put(&f, &a, 2, vec![LedgerRow { state, ..row }]).await));
        let next = ledger_row(b.record.head.id, "vm", &name);
        assert!(was_applied(&put(&f, &b, 1, vec![next]).await));
    }
}

/// Adopted rows, rows without a name, and other accounts, kinds and providers never collide.
pub async fn only_created_rows_of_one_account_and_kind_collide(f: Fixture) {
    let worker = new_worker();
    let (a, b) = (f.leased_run(worker).await, f.leased_run(worker).await);
    let row = ledger_row(a.record.head.id, "vm", "web-1");
    let unnamed = LedgerRow { name: None, path: "x".to_owned(), ..row.clone() };
    assert!(was_applied(&put(&f, &a, 1, vec![row, unnamed]).await));
    let row = ledger_row(b.record.head.id, "vm", "web-1");
    let other = |path: &str| LedgerRow { path: path.to_owned(), ..row.clone() };
    let rows = vec![
        LedgerRow { origin: Origin::Adopted, ..other("adopted") },
        LedgerRow { name: None, ..other("unnamed") },
        LedgerRow { account: "second".to_owned(), ..other("account") },
        LedgerRow { kind: "volume".to_owned(), ..other("kind") },
        LedgerRow { provider: "github".to_owned(), ..other("provider") },
        LedgerRow { state: ResourceState::Gone, ..other("gone") },
    ];
    assert!(was_applied(&put(&f, &b, 1, rows).await));
    assert_eq!(f.main.rows(of_run(b.record.head.id)).await.len(), 6);
}

/// A run may use its own names again: the next generation, another index, a repeated put.
// covers: S10
pub async fn a_run_does_not_collide_with_itself(f: Fixture) {
    let leased = f.leased_run(new_worker()).await;
    let row = ledger_row(leased.record.head.id, "vm", "web-1");
    let rows = vec![
        row.clone(),
        LedgerRow { generation: 2, ..row.clone() },
        LedgerRow { index: 1, ..row.clone() },
    ];
    assert!(was_applied(&put(&f, &leased, 1, rows.clone()).await));
    assert!(was_applied(&put(&f, &leased, 2, rows).await));
    let found = f.main.rows(of_run(leased.record.head.id)).await;
    let keys: Vec<_> = found.iter().map(|r| (r.generation, r.index)).collect();
    assert_eq!(keys, [(1, 0), (1, 1), (2, 0)]);
}

/// Each filter of a query selects by its own field.
pub async fn each_query_filter_selects_by_its_own_field(f: Fixture) {
    let worker = new_worker();
    let (a, b) = (f.leased_run(worker).await, f.leased_run(worker).await);
    let base = ledger_row(a.record.head.id, "base", "base");
    let odd = LedgerRow {
        run: b.record.head.id,
        tenant: Some("umbrella".to_owned()),
        provider: "github".to_owned(),
        kind: "repo".to_owned(),
        external_id: Some(ExternalId::new("odd")),
        state: ResourceState::Gone,
        ..ledger_row(b.record.head.id, "odd", "odd")
    };
    assert!(was_applied(&put(&f, &a, 1, vec![base]).await));
    assert!(was_applied(&put(&f, &b, 1, vec![odd.clone()]).await));
    let all = LedgerQuery::default;
    let queries = [
        of_run(odd.run),
        LedgerQuery { path: Some("odd".to_owned()), ..all() },
        LedgerQuery { path: Some("odd".to_owned()), ..of_run(odd.run) },
        LedgerQuery { tenant: odd.tenant.clone(), ..all() },
        LedgerQuery { provider: Some(odd.provider.clone()), ..all() },
        LedgerQuery { kind: Some(odd.kind.clone()), ..all() },
        LedgerQuery { external_id: odd.external_id.clone(), ..all() },
        LedgerQuery { states: vec![ResourceState::Gone, ResourceState::LeftBehind], ..all() },
    ];
    for query in queries {
        assert_eq!(f.main.rows(query.clone()).await, std::slice::from_ref(&odd), "{query:?}");
    }
    assert_eq!(f.main.rows(all()).await.len(), 2);
}

/// Pages follow each other without gaps, ordered by run, path, generation and index.
pub async fn query_pages_are_ordered_and_complete(f: Fixture) {
    let worker = new_worker();
    let mut expected = Vec::new();
    for _ in 0..3 {
        let leased = f.leased_run(worker).await;
        let run = leased.record.head.id;
        let row = |path: &str, generation, index| {
            let name = format!("{run}-{path}-{generation}-{index}");
            LedgerRow { generation, index, ..ledger_row(run, path, &name) }
        };
        let rows = [row("a", 1, 0), row("a", 1, 1), row("a", 2, 0), row("a/b", 1, 0)];
        expected.extend(rows.iter().cloned());
        let shuffled = vec![rows[3].clone(), rows[0].clone(), rows[2].clone(), rows[1].clone()];
        assert!(was_applied(&put(&f, &leased, 1, shuffled).await));
    }
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = f.main.rows(LedgerQuery { after, limit: 5, ..LedgerQuery::default() }).await;
        assert!(page.len() <= 5);
        let Some(last) = page.last() else { break };
        after = Some((last.run, last.path.clone(), last.generation, last.index));
        found.extend(page);
    }
    assert_eq!(found, expected);
}

/// A sighting is kept once, needs no lease and changes no run.
// covers: S5
pub async fn a_sighting_is_kept_once_and_changes_no_run(f: Fixture) {
    let run = f.main.started(run_head()).await;
    let before = f.main.head(run).await;
    let sighting = Sighting {
        run,
        path: "vm".to_owned(),
        generation: 2,
        provider: "hetzner".to_owned(),
        kind: "server".to_owned(),
        external_id: ExternalId::new("42"),
        epoch: 3,
        at: Timestamp::from_millis(8),
    };
    let other = Sighting { run: run_head().id, ..sighting.clone() };
    assert!(f.main.changes(LedgerOp::Sight(sighting.clone())).await);
    assert!(!f.again.changes(LedgerOp::Sight(sighting.clone())).await);
    assert!(f.main.changes(LedgerOp::Sight(other)).await);
    match f.main.ledger(LedgerOp::Sightings(Some(run))).await {
        LedgerReply::Sightings(found) => assert_eq!(found, [sighting]),
        reply => panic!("expected sightings, found {reply:?}"),
    }
    match f.main.ledger(LedgerOp::Sightings(None)).await {
        LedgerReply::Sightings(found) => assert_eq!(found.len(), 2),
        reply => panic!("expected sightings, found {reply:?}"),
    }
    assert_eq!(f.main.head(run).await, before);
}

/// What was entered before its run is driven again may be told gone, and nothing else of it.
// covers: S15, S17
pub async fn what_is_being_removed_may_be_told_gone_while_its_run_is_under_way(f: Fixture) {
    let leased = f.leased_run(new_worker()).await;
    let run = leased.record.head.id;
    let mut end = append_of(&leased, 1);
    end.status = RunStatus::RolledBack;
    end.release = Some(until(Timestamp::NEVER));
    f.main.applied(end).await;
    let found = LedgerRow { index: 1, ..ledger_row(run, "vm", "late") };
    let first = LedgerRow { index: 0, ..ledger_row(run, "vm", "first") };
    for row in [&found, &first] {
        assert!(f.main.changes(LedgerOp::Enter(Box::new(row.clone()))).await);
    }
    f.main.submit(Submission::Reopen { run, body: Payload::null() }).await;
    let grant = f.main.lease(&acquire_any(new_worker(), f.ttl)).await;
    f.main.applied(append_of(&grant.leased[0], 2)).await;
    let gone = |row: &LedgerRow| LedgerRow { state: ResourceState::Gone, ..row.clone() };
    let refused = [
        gone(&first),
        LedgerRow { name: Some("other".to_owned()), ..found.clone() },
        LedgerRow { external_id: Some(ExternalId::new("another")), ..gone(&found) },
        LedgerRow { index: 2, ..gone(&found) },
    ];
    for row in refused {
        assert!(!f.main.changes(LedgerOp::Enter(Box::new(row.clone()))).await, "{row:?}");
    }
    assert!(f.main.changes(LedgerOp::Enter(Box::new(gone(&found)))).await);
    assert!(!f.main.changes(LedgerOp::Enter(Box::new(gone(&found)))).await, "once");
    assert_eq!(f.main.rows(of_run(run)).await, [first, gone(&found)]);
}

/// What a sweep found is entered, except into the rows of a run under way.
// covers: S17
pub async fn rows_are_entered_but_not_into_a_run_under_way(f: Fixture) {
    let leased = f.leased_run(new_worker()).await;
    let run = leased.record.head.id;
    let found = ledger_row(run, "vm", "late");
    assert!(!f.main.changes(LedgerOp::Enter(Box::new(found.clone()))).await);
    assert!(f.main.rows(of_run(run)).await.is_empty());
    let mut end = append_of(&leased, 1);
    end.status = RunStatus::RolledBack;
    end.release = Some(until(Timestamp::NEVER));
    f.main.applied(end).await;
    assert!(f.main.changes(LedgerOp::Enter(Box::new(found.clone()))).await);
    let gone = LedgerRow { state: ResourceState::Gone, ..found };
    assert!(f.main.changes(LedgerOp::Enter(Box::new(gone.clone()))).await);
    assert_eq!(f.main.rows(of_run(run)).await, [gone]);
    let orphan = ledger_row(run_head().id, "vm", "orphan");
    assert!(!f.main.changes(LedgerOp::Enter(Box::new(orphan))).await, "there is no such run");
}

/// A run that moves by a person's order alone is no run under way.
// covers: S15, S17
pub async fn rows_are_entered_into_runs_that_stand_still(f: Fixture) {
    for (status, entered) in
        [(RunStatus::Parked, true), (RunStatus::Paused, true), (RunStatus::Waiting, false)]
    {
        let leased = f.leased_run(new_worker()).await;
        let run = leased.record.head.id;
        let mut rest = append_of(&leased, 1);
        rest.status = status;
        rest.release = Some(until(Timestamp::NEVER));
        f.main.applied(rest).await;
        let found = LedgerRow { index: 1, ..ledger_row(run, "vm", "late") };
        let enter = LedgerOp::Enter(Box::new(found));
        assert_eq!(f.main.changes(enter).await, entered, "{status:?}");
    }
}
