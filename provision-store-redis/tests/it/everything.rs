//! Every operation there is, once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use provision_core::{
    id::{RunId, Timestamp},
    ledger::{LedgerOp, LedgerQuery, LedgerReply, Sighting},
    limit::{Ask, Observed, Profile, Turn},
    queue::{Claim, Offer},
    retention::{Prune, TombstoneQuery},
    run::RunStatus,
    secret::{Sealed, SecretKey},
    store::{
        Append, Guard, GuardUntil, LeaseRequest, Leased, NewRun, Parent, Release, RunFilter,
        RunHead, StateStore as _, Submission, Submitted,
    },
};
use provision_store_redis::RedisStore;
use provision_testkit::conformance::{
    Handle, acquire_any, append_of, held_for, ledger_row, new_worker, run_head,
};

const TTL: Duration = Duration::from_secs(60);

/// A plain start.
pub(crate) fn submission() -> Submission {
    Submission::Run(Box::new(NewRun { head: run_head(), lease_to: None }))
}

/// Uses every operation there is once.
pub(crate) async fn everything(store: &RedisStore) {
    let handle = Handle::of(Arc::new(store.clone()));
    let parent = handle.started(run_head()).await;
    let leased = born_leased(&handle, parent).await;
    let run = leased.record.head.id;
    let (secret, sealed) = sealed_value(run);
    handle.applied(rich_append(&leased, parent, (&secret, &sealed))).await;
    queue_and_leases(&handle, parent, &leased).await;
    let key = leased.record.head.key.clone();
    for key in [key, None] {
        let filter = RunFilter { key, ..RunFilter::default() };
        assert!(!store.list(&filter).await.unwrap().runs.is_empty());
    }
    ledger_too(&handle, run).await;
    secrets_too(&handle, &secret, &sealed).await;
    retention_too(&handle).await;
    limits_too(&handle).await;
}

async fn born_leased(handle: &Handle, parent: RunId) -> Leased {
    let mut head = run_head();
    head.key = Some(head.id.to_string());
    head.guard = Some(Guard { key: head.id.to_string(), until: GuardUntil::Gone });
    head.parent = Some(Parent { run: parent, path: "child".to_owned() });
    let run = head.id;
    let new = NewRun { head, lease_to: Some((new_worker(), TTL).into()) };
    let born = handle.submit(Submission::Run(Box::new(new))).await;
    let Submitted::Created(Some(leased)) = born else { panic!("{born:?}") };
    handle.request(run, "1").await;
    *leased
}

pub(crate) fn sealed_value(run: RunId) -> (SecretKey, Sealed) {
    let scope = run.to_string();
    let key = SecretKey { scope, generation: 1, name: "a".into(), path: "b".into() };
    (key, Sealed { format: 1, key_id: "k".into(), bytes: vec![0, 1, 255] })
}

fn rich_append(leased: &Leased, parent: RunId, (key, value): (&SecretKey, &Sealed)) -> Append {
    let run = leased.record.head.id;
    let mut append = append_of(leased, 1);
    append.ledger = vec![ledger_row(run, "vm", &run.to_string())];
    append.ledger[0].watch_at = Some(Timestamp::ZERO);
    append.sealed = vec![(key.clone(), value.clone())];
    append.wakes = vec![parent];
    append.starts = vec![NewRun { head: run_head(), lease_to: None }];
    append.consumed = 1;
    append.free_guard = true;
    append.release = Some(Release { due: Timestamp::ZERO, polls: BTreeMap::new(), seen: 0 });
    append
}

async fn queue_and_leases(handle: &Handle, parent: RunId, leased: &Leased) {
    let (run, worker) = (leased.record.head.id, leased.fence.owner);
    handle.queue.offer(&[offer(parent)]).await.unwrap();
    let claim = Claim {
        limit: 9,
        queues: vec!["default".into()],
        except: Vec::new(),
        wait: Duration::ZERO,
    };
    assert!(!handle.queue.claim(&claim).await.unwrap().is_empty());
    handle.queue.wake(&[run]).await.unwrap();
    let grant = handle.lease(&acquire_any(worker, TTL)).await;
    assert!(grant.leased.iter().any(|leased| leased.record.head.id == run));
    assert!(handle.queue.stats().await.unwrap().leased > 0);
    let retire = LeaseRequest { retire: true, ..held_for(worker, TTL) };
    assert!(!handle.lease(&retire).await.alive);
    assert_eq!(handle.record(run).await.frames.len(), 1);
}

async fn secrets_too(handle: &Handle, key: &SecretKey, value: &Sealed) {
    assert_eq!(handle.secrets.put(key, value).await.unwrap(), *value);
    assert!(handle.secrets.replace(key, value, value).await.unwrap());
    assert!(handle.secrets.keys(None).await.unwrap().contains(key));
    handle.secrets.erase(key).await.unwrap();
    assert_eq!(handle.secrets.get(key).await.unwrap(), None);
}

async fn retention_too(handle: &Handle) {
    let key = Some(run_head().id.to_string());
    let (status, due) = (RunStatus::TornDown, Timestamp::NEVER);
    let run = handle.started(RunHead { key, status, due, ..run_head() }).await;
    let later = handle.state.now().await.unwrap().plus(TTL);
    let pruned = handle.retention.prune(&Prune::before(later)).await.unwrap();
    assert_eq!(pruned.runs, [run]);
    let query = TombstoneQuery::Runs(vec![run]);
    assert_eq!(handle.retention.tombstones(&query).await.unwrap().len(), 1);
    assert_eq!(handle.retention.forget(Timestamp::ZERO, 1).await.unwrap(), 0);
}

async fn limits_too(handle: &Handle) {
    let worker = new_worker();
    let profile = Profile { bucket: "b".into(), rate: None, concurrency: Some(9_u32.into()) };
    let ask = Ask { profile, calls: 1, worker, slot: true, turn: Turn::Open };
    handle.limiter.admit(&ask).await.unwrap();
    let freed = Observed { slot_freed: true, ..Observed::default() };
    handle.limiter.observe("b", worker, &freed).await.unwrap();
}

async fn ledger_too(handle: &Handle, run: RunId) {
    let query = LedgerQuery { run: Some(run), ..LedgerQuery::default() };
    assert_eq!(handle.rows(query).await.len(), 1);
    let worker = new_worker();
    let watch = LedgerOp::ClaimWatch { worker, hold: Duration::from_secs(1), limit: 9 };
    let LedgerReply::Rows(rows) = handle.ledger(watch).await else { panic!("rows") };
    let row = rows.into_iter().find(|row| row.run == run).unwrap();
    assert!(handle.changes(LedgerOp::EndWatch { row: Box::new(row), next: None }).await);
    let rests = RunHead { status: RunStatus::Parked, due: Timestamp::NEVER, ..run_head() };
    let stray = ledger_row(handle.started(rests).await, "vm", "stray");
    assert!(handle.changes(LedgerOp::Enter(Box::new(stray))).await);
    let sighting = Sighting {
        run,
        path: "vm".into(),
        generation: 1,
        provider: "p".into(),
        kind: "k".into(),
        external_id: "1".into(),
        epoch: 1,
        at: Timestamp::ZERO,
    };
    assert!(handle.changes(LedgerOp::Sight(sighting)).await);
    let LedgerReply::Sightings(seen) = handle.ledger(LedgerOp::Sightings(Some(run))).await else {
        panic!("sightings")
    };
    assert_eq!(seen.len(), 1);
}

fn offer(run: RunId) -> Offer {
    let due = Timestamp::ZERO;
    Offer { run, queue: "default".into(), priority: 0, tenant: None, due }
}
