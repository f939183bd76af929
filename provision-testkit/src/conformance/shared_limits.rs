//! Limits that all workers share: through every handle, and by incarnation.

use std::time::Duration;

use provision_core::{
    clock::sleep,
    limit::{Admission, Ask, Concurrency, HeldBy, Observed, Profile, Rate, Turn},
    store::Incarnation,
};
use tokio::task::JoinSet;

use super::{Fixture, new_worker};

pub(super) fn slot(worker: Incarnation, concurrency: u32) -> Ask {
    let concurrency = Some(concurrency.into());
    let profile = Profile { bucket: "b".to_owned(), rate: None, concurrency };
    Ask { profile, calls: 1, worker, slot: true, turn: Turn::Open }
}

pub(super) fn is_held(answer: Admission, why: HeldBy) -> bool {
    matches!(answer, Admission::At { reason, .. } if reason == why)
}

/// What one handle uses up is used up for all.
// covers: R5-13
pub async fn a_rate_is_shared_by_all_handles(f: Fixture) {
    let rate = Some(Rate { calls: 1, per: f.ttl * 4, burst: 2 });
    let profile = Profile { bucket: "b".to_owned(), rate, concurrency: None };
    let ask = Ask { profile, calls: 1, worker: new_worker(), slot: false, turn: Turn::Open };
    for handle in [&f.main, &f.again] {
        let mut answer = handle.limiter.admit(&ask).await.unwrap();
        if is_held(answer, HeldBy::Rate) {
            // Two handles may read a clock a millisecond apart.
            sleep(Duration::from_millis(5)).await;
            answer = handle.limiter.admit(&ask).await.unwrap();
        }
        assert_eq!(answer, Admission::Now { calls: 1 });
    }
    for handle in [&f.main, &f.again] {
        assert!(is_held(handle.limiter.admit(&ask).await.unwrap(), HeldBy::Rate));
    }
}

/// A pause seen by one is kept by all at once.
pub async fn a_pause_is_shared_at_once(f: Fixture) {
    let worker = new_worker();
    let pause = Observed { pause: Some(f.ttl * 9), ..Observed::default() };
    f.main.limiter.observe("b", worker, &pause).await.unwrap();
    let profile = Profile { bucket: "b".to_owned(), rate: None, concurrency: None };
    let ask = Ask { profile, calls: 1, worker, slot: false, turn: Turn::Open };
    assert!(is_held(f.again.limiter.admit(&ask).await.unwrap(), HeldBy::Pause));
}

/// Slots are counted over all workers, and a freed one can be taken again.
// covers: R3-56
pub async fn slots_are_counted_over_all_workers(f: Fixture) {
    let (a, b) = (new_worker(), new_worker());
    f.renew(a).await;
    f.renew(b).await;
    for worker in [a, b] {
        let answer = f.main.limiter.admit(&slot(worker, 2)).await.unwrap();
        assert_eq!(answer, Admission::Now { calls: 1 });
    }
    let full = f.again.limiter.admit(&slot(a, 2)).await.unwrap();
    assert!(is_held(full, HeldBy::Concurrency), "found {full:?}");
    let unslotted = Ask { slot: false, ..slot(a, 2) };
    assert_eq!(f.main.limiter.admit(&unslotted).await.unwrap(), Admission::Now { calls: 1 });
    let freed = Observed { slot_freed: true, ..Observed::default() };
    f.main.limiter.observe("b", b, &freed).await.unwrap();
    assert_eq!(f.again.limiter.admit(&slot(a, 2)).await.unwrap(), Admission::Now { calls: 1 });
    assert!(is_held(f.main.limiter.admit(&slot(b, 2)).await.unwrap(), HeldBy::Concurrency));
}

/// Freeing what was never taken gives nobody a slot too many.
pub async fn a_slot_freed_twice_counts_once(f: Fixture) {
    let (a, b) = (new_worker(), new_worker());
    let freed = Observed { slot_freed: true, ..Observed::default() };
    f.main.limiter.observe("b", a, &freed).await.unwrap();
    assert_eq!(f.main.limiter.admit(&slot(a, 1)).await.unwrap(), Admission::Now { calls: 1 });
    f.main.limiter.observe("b", b, &freed).await.unwrap();
    assert!(is_held(f.main.limiter.admit(&slot(b, 1)).await.unwrap(), HeldBy::Concurrency));
}

/// However many ask at the same time, no more is granted than the burst.
pub async fn concurrent_asks_are_never_over_issued(f: Fixture) {
    let rate = Some(Rate { calls: 1, per: f.ttl * 100, burst: 25 });
    let profile = Profile { bucket: "b".to_owned(), rate, concurrency: None };
    let mut tasks = JoinSet::new();
    for n in 0..8_u32 {
        let limiter = if n % 2 == 0 { &f.main.limiter } else { &f.again.limiter };
        let limiter = std::sync::Arc::clone(limiter);
        let ask = Ask {
            profile: profile.clone(),
            calls: 1 + n % 3,
            worker: new_worker(),
            slot: false,
            turn: Turn::Open,
        };
        tasks.spawn(async move {
            let mut granted = 0;
            for _ in 0..10 {
                if let Admission::Now { calls } = limiter.admit(&ask).await.unwrap() {
                    granted += calls;
                }
            }
            granted
        });
    }
    assert_eq!(tasks.join_all().await.into_iter().sum::<u32>(), 25);
}

/// A width that nobody knows is found out by all together, and can be looked at.
// covers: R1-82
pub async fn what_a_provider_bears_is_found_out_by_all_handles(f: Fixture) {
    let worker = new_worker();
    f.renew(worker).await;
    let mut ask = slot(worker, 1);
    ask.profile.concurrency = Some(Concurrency::Adaptive(10));
    let good = Observed { slot_freed: true, healthy: Some(true), ..Observed::default() };
    for expected in 1..=4 {
        let mut open = 0;
        while f.main.limiter.admit(&ask).await.unwrap() == (Admission::Now { calls: 1 }) {
            open += 1;
        }
        assert_eq!(open, expected, "one more for each round of good answers");
        for _ in 0..open {
            f.again.limiter.observe("b", worker, &good).await.unwrap();
        }
    }
    assert_eq!(f.main.limiter.look("b").await.unwrap().width(), Some(5));
    let pause = Observed { pause: Some(f.ttl * 9), ..Observed::default() };
    f.main.limiter.observe("b", worker, &pause).await.unwrap();
    let seen = f.again.limiter.look("b").await.unwrap();
    assert_eq!((seen.width(), seen.slots_taken()), (Some(2), 0));
    assert_eq!(f.main.limiter.look("another").await.unwrap().width(), None);
}
