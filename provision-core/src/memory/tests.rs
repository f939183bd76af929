use std::{collections::BTreeMap, sync::Arc, time::Duration};

use uuid::Uuid;

use super::MemoryStore;
use crate::{
    id::{Payload, RunId, Timestamp},
    queue::{Claim, Queue},
    run::{RunStatus, RunSummary},
    store::{
        Acquire, Append, Appended, Fence, Incarnation, LeaseRequest, NewRun, Release, RunFilter,
        RunHead, SagaRef, StateStore, Submission, Submitted,
    },
};

fn saga() -> SagaRef {
    SagaRef { name: "s".to_owned(), version: 1, fingerprint: "f".to_owned() }
}

fn head(n: u128) -> RunHead {
    RunHead {
        id: RunId::from_uuid(Uuid::from_u128(n)),
        saga: saga(),
        tenant: None,
        queue: "default".to_owned(),
        priority: 0,
        key: None,
        guard: None,
        input: Payload::null(),
        input_hash: "h".to_owned(),
        parent: None,
        context: BTreeMap::new(),
        status: RunStatus::Running,
        due: Timestamp::ZERO,
        polls: BTreeMap::new(),
        seq: 0,
        epoch: 0,
        owner: None,
        requests: 0,
        consumed: 0,
        open: false,
        deaths: 0,
        summary: RunSummary::default(),
        created_at: Timestamp::ZERO,
        updated_at: Timestamp::ZERO,
    }
}

fn request(worker: Incarnation) -> LeaseRequest {
    let acquire = Acquire {
        limit: 100,
        runs: None,
        queues: Vec::new(),
        code: vec![saga()],
        caps: crate::caps::Caps::default(),
    };
    LeaseRequest {
        worker,
        ttl: Duration::from_secs(15),
        acquire: Some(acquire),
        release: Vec::new(),
        strangers: Vec::new(),
        dead: Vec::new(),
        retire: false,
    }
}

fn append(run: RunId, fence: Fence, seq: u64) -> Append {
    Append {
        run,
        fence,
        seq,
        frame: Some(Arc::from("[1]")),
        at: Timestamp::ZERO,
        status: RunStatus::Running,
        summary: RunSummary::default(),
        open: true,
        settled: true,
        consumed: 0,
        release: None,
        free_guard: false,
        ledger: Vec::new(),
        sealed: Vec::new(),
        wakes: Vec::new(),
        starts: Vec::new(),
    }
}

fn submission(n: u128) -> Submission {
    Submission::Run(Box::new(NewRun { head: head(n), lease_to: None }))
}

// covers: S5, S20, L2
#[tokio::test(start_paused = true)]
async fn the_paused_clock_of_the_runtime_drives_expiry() {
    let store = MemoryStore::new();
    let (first, second) = (Incarnation(Uuid::from_u128(1)), Incarnation(Uuid::from_u128(2)));
    store.submit(&[submission(7)]).await.unwrap();
    let old = store.lease(&request(first)).await.unwrap().leased.remove(0);
    let run = old.record.head.id;
    let written = store.append(&[append(run, old.fence, 1)]).await.unwrap();
    assert_eq!(written, [Appended::Applied { requests: 0, lease_lost: false }]);
    tokio::time::advance(Duration::from_millis(14_999)).await;
    assert!(store.lease(&request(second)).await.unwrap().leased.is_empty());
    tokio::time::advance(Duration::from_millis(1)).await;
    let new = store.lease(&request(second)).await.unwrap().leased.remove(0);
    assert_eq!((new.fence.epoch, new.record.head.deaths), (2, 1));
    assert_eq!(store.append(&[append(run, old.fence, 2)]).await.unwrap(), [Appended::Stale]);
    assert!(!store.lease(&request(first)).await.unwrap().alive);
}

// covers: S24
#[tokio::test]
async fn a_clone_shares_everything_and_another_namespace_nothing() {
    let store = MemoryStore::new();
    let other = store.in_namespace("other");
    store.submit(&[submission(7)]).await.unwrap();
    assert_eq!(store.clone().list(&RunFilter::default()).await.unwrap().runs.len(), 1);
    assert!(other.list(&RunFilter::default()).await.unwrap().runs.is_empty());
    assert!(matches!(
        other.submit(&[submission(7)]).await.unwrap().as_slice(),
        [Submitted::Created(None)]
    ));
    assert_eq!(format!("{store:?}"), "MemoryStore { runs: 1, .. }");
}

// covers: L7
#[tokio::test(start_paused = true)]
async fn a_claim_waits_for_the_next_due_time_by_itself() {
    let store = MemoryStore::new();
    store.submit(&[submission(7)]).await.unwrap();
    let worker = Incarnation(Uuid::from_u128(1));
    let mut granted = store.lease(&request(worker)).await.unwrap();
    let leased = granted.leased.remove(0);
    let due = granted.now.plus(Duration::from_secs(40));
    let release = Release { due, polls: BTreeMap::new(), seen: 0 };
    let mut give_back = request(worker);
    give_back.acquire = None;
    give_back.release = vec![(leased.record.head.id, leased.fence, release)];
    store.lease(&give_back).await.unwrap();
    let claim =
        Claim { limit: 1, queues: Vec::new(), except: Vec::new(), wait: Duration::from_secs(60) };
    assert_eq!(store.claim(&claim).await.unwrap(), [leased.record.head.id]);
    assert_eq!(store.now().await.unwrap(), due);
}
