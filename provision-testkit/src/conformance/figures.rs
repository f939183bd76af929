//! What only a queue can count that is the store itself: leases.

use super::{Fixture, new_worker, proposing::offered, run_head};

/// The figures tell leased runs whose lease is over, until somebody takes them.
// covers: R5-43
pub async fn figures_tell_runs_whose_lease_is_over(f: Fixture) {
    offered(&f, run_head()).await;
    offered(&f, run_head()).await;
    f.take(new_worker()).await;
    let stats = f.again.queue.stats().await.unwrap();
    assert_eq!((stats.leased, stats.expired), (2, 0));
    f.expire().await;
    let stats = f.again.queue.stats().await.unwrap();
    assert_eq!((stats.leased, stats.expired), (2, 2));
    f.take(new_worker()).await;
    let stats = f.again.queue.stats().await.unwrap();
    assert_eq!((stats.leased, stats.expired), (2, 0));
}
