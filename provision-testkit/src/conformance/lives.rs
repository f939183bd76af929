//! Slots by what only a limiter knows that is the store itself: which workers live.

use std::time::Duration;

use provision_core::{
    limit::{Admission, HeldBy},
    store::LeaseRequest,
};

use super::{
    Fixture,
    admission::{admit, held},
    given::held_for,
    new_worker,
    shared_limits::{is_held, slot},
};

/// The slots of a dead incarnation are free.
pub async fn slots_die_with_their_incarnation(f: Fixture) {
    let (dead, other) = (new_worker(), new_worker());
    f.renew(dead).await;
    f.renew(other).await;
    assert_eq!(f.main.limiter.admit(&slot(dead, 1)).await.unwrap(), Admission::Now { calls: 1 });
    assert!(is_held(f.main.limiter.admit(&slot(other, 1)).await.unwrap(), HeldBy::Concurrency));
    let request = LeaseRequest { dead: vec![dead], ..held_for(other, f.ttl) };
    f.main.lease(&request).await;
    assert_eq!(f.main.limiter.admit(&slot(other, 1)).await.unwrap(), Admission::Now { calls: 1 });
}

/// Slots of a worker that died or was never known are free when nobody remembers it any more;
/// those of one that is alive are not.
pub async fn slots_of_the_forgotten_are_free(f: Fixture) {
    let (dead, stranger, long) = (new_worker(), new_worker(), new_worker());
    let day = Duration::from_secs(24 * 3_600);
    f.main.lease(&held_for(long, day * 3)).await;
    f.renew(dead).await;
    for worker in [dead, stranger, long] {
        let answer = admit(&f, &slot(worker, 4)).await;
        assert_eq!(answer, Admission::Now { calls: 1 });
    }
    f.main.lease(&LeaseRequest { dead: vec![dead], ..held_for(long, day * 3) }).await;
    f.advance(day + Duration::from_secs(3_600)).await;
    let fresh = new_worker();
    for _ in 0..3 {
        f.renew(fresh).await;
    }
    // Not all slots are taken: nobody looks who is dead.
    assert_eq!(admit(&f, &slot(fresh, 4)).await, Admission::Now { calls: 1 });
    for _ in 0..2 {
        let answer = f.again.limiter.admit(&slot(fresh, 4)).await.unwrap();
        assert_eq!(answer, Admission::Now { calls: 1 }, "three are free, one is held");
    }
    held(admit(&f, &slot(fresh, 4)).await, HeldBy::Concurrency);
}
