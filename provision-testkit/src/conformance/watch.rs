//! The watch: rows that are looked at once more, each by one worker at a time.

use provision_core::{
    id::Timestamp,
    ledger::{LedgerOp, LedgerQuery, LedgerReply, LedgerRow, ResourceState},
};

use super::{Fixture, append_of, given::resting, ledger_row, new_worker};

async fn watched(f: &Fixture, moments: &[Timestamp]) -> Vec<LedgerRow> {
    let leased = f.leased_run(new_worker()).await;
    let rows: Vec<_> = (0..)
        .zip(moments)
        .map(|(n, at)| LedgerRow {
            watch_at: Some(*at),
            ..ledger_row(leased.record.head.id, &format!("vm{n}"), &format!("web-{n}"))
        })
        .collect();
    let mut append = append_of(&leased, 1);
    append.ledger.clone_from(&rows);
    f.main.applied(append).await;
    rows
}

async fn claim(f: &Fixture, limit: usize) -> Vec<LedgerRow> {
    let op = LedgerOp::ClaimWatch { worker: new_worker(), hold: f.ttl, limit };
    match f.main.ledger(op).await {
        LedgerReply::Rows(rows) => rows,
        other => panic!("expected rows, found {other:?}"),
    }
}

/// A row is claimed when its moment has come, by one worker, until the claim runs out.
// covers: S15
pub async fn a_row_is_claimed_by_one_worker_at_a_time(f: Fixture) {
    let rows = watched(&f, &[Timestamp::ZERO, f.later(f.ttl * 100).await]).await;
    let claimed = claim(&f, 10).await;
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].path, rows[0].path);
    assert!(claimed[0].watch_at > rows[0].watch_at, "the claim is in the row");
    assert!(claim(&f, 10).await.is_empty());
    f.advance(f.ttl + f.ttl / 4).await;
    assert_eq!(claim(&f, 10).await.len(), 1, "a claim whose worker died comes again");
}

/// No more rows are claimed than asked for.
pub async fn a_claim_keeps_its_limit(f: Fixture) {
    watched(&f, &[Timestamp::ZERO; 5]).await;
    let counts = [claim(&f, 2).await.len(), claim(&f, 2).await.len(), claim(&f, 2).await.len()];
    assert_eq!(counts, [2, 2, 1]);
}

/// The watch is ended by who holds the claim, and by nobody else.
// covers: S15
pub async fn a_watch_is_ended_by_its_claim_only(f: Fixture) {
    let rows = watched(&f, &[Timestamp::ZERO]).await;
    let claimed = claim(&f, 1).await.remove(0);
    let end = |row: &LedgerRow, next| LedgerOp::EndWatch { row: Box::new(row.clone()), next };
    assert!(!f.main.changes(end(&rows[0], None)).await, "not with what was there before");
    let next = f.later(f.ttl * 9).await;
    assert!(f.main.changes(end(&claimed, Some(next))).await);
    assert!(!f.main.changes(end(&claimed, None)).await, "not twice");
    let stored = f.main.rows(LedgerQuery::default()).await.remove(0);
    assert_eq!(stored, LedgerRow { watch_at: Some(next), ..claimed });
    assert!(f.main.changes(end(&stored, None)).await);
    f.advance(f.ttl * 10).await;
    assert!(claim(&f, 1).await.is_empty());
}

/// One at a time removes: who enters the same thing later is refused, and it is told gone under the
/// newest claim alone.
// covers: S15
pub async fn a_removal_belongs_to_who_holds_it(f: Fixture) {
    let run = f.main.started(resting()).await;
    let first = f.later(f.ttl).await;
    let mine = LedgerRow { index: 7, watch_at: Some(first), ..ledger_row(run, "vm", "late") };
    let enter = |row: &LedgerRow| LedgerOp::Enter(Box::new(row.clone()));
    assert!(f.main.changes(enter(&mine)).await);
    let later = LedgerRow { watch_at: Some(f.later(f.ttl * 2).await), ..mine.clone() };
    assert!(!f.main.changes(enter(&later)).await, "it is removed already");
    f.advance(f.ttl + f.ttl / 2).await;
    let claimed = claim(&f, 1).await.remove(0);
    assert_eq!(LedgerRow { watch_at: mine.watch_at, ..claimed.clone() }, mine);
    let gone = |row: &LedgerRow| LedgerRow { state: ResourceState::Gone, ..row.clone() };
    assert!(!f.main.changes(enter(&gone(&mine))).await, "somebody else holds it now");
    assert!(f.main.changes(enter(&gone(&claimed))).await);
    assert!(f.main.changes(enter(&mine)).await, "it came once more");
}
