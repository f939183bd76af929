//! Caps of queues on a real server: many queues that are due, and a claimer that stands still.

use std::{collections::BTreeSet, time::Duration};

use provision_core::{
    caps::{Cap, Capped, Caps},
    store::{LeaseRequest, NewRun, StateStore as _, Submission},
};
use provision_store_postgres::PostgresStore;
use provision_testkit::conformance::{acquire_any, new_worker, run_head};
use sqlx::{AssertSqlSafe, Connection as _};
use tokio::time::{Instant, timeout};

use crate::given::Schema;

const TTL: Duration = Duration::from_secs(600);
/// Far more than a claim needs, far less than a wait for a lock.
const PROMPT: Duration = Duration::from_secs(30);

/// A claim with one run at a time of each tenant.
fn request(limit: usize) -> LeaseRequest {
    let mut request = acquire_any(new_worker(), TTL);
    if let Some(acquire) = &mut request.acquire {
        acquire.limit = limit;
        acquire.caps = Caps(vec![Cap { queues: Capped::Each("tenant/".to_owned()), runs: 1 }]);
    }
    request
}

fn due_run(tenant: usize) -> Submission {
    let mut head = run_head();
    head.queue = format!("tenant/{tenant}");
    Submission::Run(Box::new(NewRun { head, lease_to: None }))
}

async fn started(store: &PostgresStore, tenants: usize) {
    let runs: Vec<_> = (0..tenants).flat_map(|tenant| [due_run(tenant), due_run(tenant)]).collect();
    for batch in runs.chunks(100) {
        store.submit(batch).await.unwrap();
    }
}

// covers: L3, S25
#[tokio::test]
async fn many_queues_at_once_are_leased_from_in_turn_with_few_locks() {
    const TENANTS: usize = 700;
    let Some(schema) = Schema::new() else { return };
    let store = schema.open().await;
    started(&store, TENANTS).await;
    let mut served = BTreeSet::new();
    for _ in 0..(TENANTS / 10 + 5) {
        let grant = timeout(PROMPT, store.lease(&request(10))).await.unwrap().unwrap();
        assert!(grant.leased.len() == 10 || served.len() + grant.leased.len() == TENANTS);
        for leased in grant.leased {
            assert!(served.insert(leased.record.head.queue), "one of each at a time");
        }
        if served.len() == TENANTS {
            break;
        }
    }
    assert_eq!(served.len(), TENANTS);
    let last = store.lease(&request(10)).await.unwrap();
    assert_eq!((last.leased.len(), last.full.len()), (0, TENANTS));
}

// covers: L2, L3
#[tokio::test]
async fn a_claimer_that_stands_still_holds_back_its_own_queue_alone() {
    let Some(schema) = Schema::new() else { return };
    let store = schema.open().await;
    started(&store, 20).await;
    let ns = schema.number("SELECT min(ns)::bigint FROM provision.namespaces").await;
    // A claim under way, as its process was frozen in the middle of it.
    let mut frozen = schema.connect().await;
    let mut tx = frozen.begin().await.unwrap();
    let lock = format!("SELECT pg_advisory_xact_lock(hashtextextended('tenant/7', {ns}))");
    sqlx::query(AssertSqlSafe(lock)).execute(&mut *tx).await.unwrap();
    let began = Instant::now();
    let grant = timeout(PROMPT, store.lease(&request(100))).await.unwrap().unwrap();
    assert!(began.elapsed() < PROMPT);
    let queues: BTreeSet<_> =
        grant.leased.iter().map(|leased| leased.record.head.queue.clone()).collect();
    assert_eq!(queues.len(), 19);
    assert!(!queues.contains("tenant/7") && !grant.full.contains(&"tenant/7".to_owned()));
    tx.rollback().await.unwrap();
    let rest = store.lease(&request(100)).await.unwrap();
    assert_eq!(rest.leased.len(), 1);
    assert_eq!(rest.leased[0].record.head.queue, "tenant/7");
}
