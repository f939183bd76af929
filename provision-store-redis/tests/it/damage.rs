//! Rows that somebody has damaged: told, and nobody else's trouble.

use std::{sync::Arc, time::Duration};

use provision_core::{
    StoreError,
    error::StoreErrorKind,
    id::RunId,
    store::{LeaseRequest, StateStore as _},
};
use provision_store_redis::RedisStore;
use provision_testkit::conformance::{
    Handle, acquire_any, append_of, held_for, new_worker, run_head,
};

use crate::{everything::submission, server::Server};

const TTL: Duration = Duration::from_secs(60);

async fn opened() -> Option<(Server, RedisStore, Handle)> {
    let server = Server::start("")?;
    let store = RedisStore::open(server.url()).await.unwrap();
    let handle = Handle::of(Arc::new(store.clone()));
    Some((server, store, handle))
}

/// Changes one stored value.
fn put(server: &Server, kind: &str, run: RunId, value: &str) {
    let mut connection = server.client().get_connection().unwrap();
    let mut command = redis::cmd("HSET");
    command.arg(format!("{{default}}:{kind}")).arg(run.to_string()).arg(value);
    command.exec(&mut connection).unwrap();
}

fn told(error: &StoreError) -> (StoreErrorKind, &str) {
    (error.kind(), error.code())
}

// covers: S3
#[tokio::test]
async fn a_row_that_is_cut_holds_up_nobody_who_claims_renews_or_takes_over() {
    for cut in ["", "Running\n", "Running\n5\n0\n1\n"] {
        let Some((server, store, handle)) = opened().await else { return };
        let worker = new_worker();
        let held = handle.started(run_head()).await;
        assert_eq!(handle.lease(&acquire_any(worker, TTL)).await.leased.len(), 1);
        let ready = handle.started(run_head()).await;
        let mut later = run_head();
        later.due = store.now().await.unwrap().plus(Duration::from_millis(20));
        let later = handle.started(later).await;
        let whole = handle.started(run_head()).await;
        for run in [held, ready, later] {
            put(&server, "rows", run, cut);
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
        // Its owner dies, the others come due.
        let request = LeaseRequest { dead: vec![worker], ..acquire_any(new_worker(), TTL) };
        let grant = handle.lease(&request).await;
        let leased: Vec<_> = grant.leased.iter().map(|leased| leased.record.head.id).collect();
        assert_eq!(leased, [whole], "{cut:?}");
        handle.applied(append_of(&grant.leased[0], 1)).await;
        handle.lease(&LeaseRequest { retire: true, ..held_for(request.worker, TTL) }).await;
        assert!(store.submit(&[submission()]).await.is_ok());
        let error = store.load(&[ready]).await.unwrap_err();
        assert_eq!(told(&error), (StoreErrorKind::Damaged, "redis_bad_row"), "{cut:?}");
    }
}

// covers: S3
#[tokio::test]
async fn a_run_that_cannot_be_read_is_parked_and_the_others_go_on() {
    let Some((server, store, handle)) = opened().await else { return };
    let (bad, good) = (handle.started(run_head()).await, handle.started(run_head()).await);
    put(&server, "fixed", bad, "{\"saga\":");
    let worker = new_worker();
    let grant = handle.lease(&acquire_any(worker, TTL)).await;
    assert_eq!(grant.leased.len(), 1);
    assert_eq!(grant.leased[0].record.head.id, good);
    assert_eq!(grant.held.len(), 1, "the other one is not held");
    assert!(handle.lease(&acquire_any(worker, TTL)).await.leased.is_empty());
    let error = store.load(&[bad]).await.unwrap_err();
    assert_eq!(told(&error), (StoreErrorKind::Damaged, "redis_bad_row"));
    assert!(error.hint().is_some());
}
