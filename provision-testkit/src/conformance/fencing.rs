//! One writer: owner, epoch and nonce are compared in the write.

use provision_core::{
    id::Timestamp,
    store::{Appended, LeaseRequest},
};

use super::{
    Fixture, append_of,
    given::{acquire_any, until},
    new_worker,
};

/// Each part of the fence alone is enough to be refused.
// covers: S5
pub async fn each_part_of_the_fence_is_compared(f: Fixture) {
    let leased = f.leased_run(new_worker()).await;
    let good = append_of(&leased, 1);
    let mut wrong = vec![good.clone(), good.clone(), good.clone(), good.clone()];
    wrong[0].fence.owner = new_worker();
    wrong[1].fence.epoch += 1;
    wrong[2].fence.epoch -= 1;
    wrong[3].fence.nonce ^= 1;
    for append in wrong {
        assert_eq!(f.main.append(append).await, Appended::Stale);
    }
    f.main.applied(good).await;
}

/// The owner whose run was taken over writes nothing any more.
// covers: S5, S6, R2-40
pub async fn a_stale_owner_cannot_append_after_a_take_over(f: Fixture) {
    let (first, second) = (new_worker(), new_worker());
    let old = f.leased_run(first).await;
    f.main.applied(append_of(&old, 1)).await;
    f.expire().await;
    let new = f.take(second).await.remove(0);
    assert_eq!(f.main.append(append_of(&old, 2)).await, Appended::Stale);
    assert_eq!(new.fence.epoch, 2);
    f.main.applied(append_of(&new, 2)).await;
    let record = f.main.record(old.record.head.id).await;
    assert_eq!(record.frames.iter().map(|f| f.epoch).collect::<Vec<_>>(), [1, 2]);
}

/// After its release a lease is worth nothing.
// covers: S5
pub async fn a_released_lease_cannot_append(f: Fixture) {
    let worker = new_worker();
    let leased = f.leased_run(worker).await;
    let mut release = append_of(&leased, 1);
    release.release = Some(until(Timestamp::NEVER));
    f.main.applied(release).await;
    assert_eq!(f.main.append(append_of(&leased, 2)).await, Appended::Stale);
    let mut bare = append_of(&leased, 1);
    bare.frame = None;
    assert_eq!(f.main.append(bare).await, Appended::Stale);
}

/// Epochs grow by one with every lease, and nonces are never the same twice in a row.
// covers: S5
pub async fn epochs_grow_and_nonces_change(f: Fixture) {
    let worker = new_worker();
    let mut leased = f.leased_run(worker).await;
    for epoch in 1..=8 {
        assert_eq!((leased.fence.epoch, leased.record.head.epoch), (epoch, epoch));
        assert!(leased.fence.nonce <= 1 << 53, "every store keeps it exactly");
        let run = leased.record.head.id;
        let release = vec![(run, leased.fence, until(Timestamp::ZERO))];
        let request = LeaseRequest { release, ..acquire_any(worker, f.ttl) };
        let next = f.main.lease(&request).await.leased.remove(0);
        assert_ne!(next.fence.nonce, leased.fence.nonce);
        leased = next;
    }
}

/// The fence of one lease opens no other lease of the same worker.
// covers: S5
pub async fn a_fence_opens_its_own_run_only(f: Fixture) {
    let worker = new_worker();
    let (a, b) = (f.leased_run(worker).await, f.leased_run(worker).await);
    let mut crossed = append_of(&a, 1);
    crossed.fence = b.fence;
    if a.fence.nonce != b.fence.nonce {
        assert_eq!(f.main.append(crossed).await, Appended::Stale);
    }
}
