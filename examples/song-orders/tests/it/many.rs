//! More orders than one page of a listing has.

use std::time::{Duration, Instant};

use provision_core::Secret;
use song_orders::{
    checkout::{Checkout, deliver},
    secret::DEMO_SECRET,
};
use tokio::task::JoinSet;

use crate::world::World;

/// One more than a listing answers with by itself.
const MANY: u32 = 101;
/// How long so many may take on a busy machine.
const WITHIN: Duration = Duration::from_secs(170);

async fn until(world: &World, what: &'static str, wanted: i64) {
    let began = Instant::now();
    while world.number(what).await != wanted {
        assert!(began.elapsed() < WITHIN, "{what}: {} of {wanted}", world.number(what).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

// covers: S12, S14, L5, R3-12, R3-49
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_and_one_fail_are_tried_again_and_are_torn_down() {
    const FAILED: &str = "SELECT count(*) FROM songs.orders WHERE progress = 'failed'";
    const COMPLETED: &str = "SELECT count(*) FROM songs.orders WHERE progress = 'completed'";
    const LEFT: &str = "SELECT (SELECT count(*) FROM songs.variants)
        + (SELECT count(*) FROM songs.deliveries) + (SELECT count(*) FROM songs.shares)
        + (SELECT count(*) FROM songs.orders WHERE progress <> 'removed')";
    let Some(world) = World::open().await else { return };
    world.clouds.elevenlabs.with(|sim| sim.set_credits(0));
    let worker = world.shop.worker();
    let mut told = JoinSet::new();
    for number in 0..MANY {
        let address = world.address.clone();
        told.spawn(async move {
            let checkout = Checkout::new(format!("cs_{number}"), "ada");
            let checkout = Checkout { styles: "pop".to_owned(), ..checkout };
            let event = checkout.event(&format!("evt_{number}"));
            deliver(&address, &Secret::new(DEMO_SECRET), &event).await.unwrap().status
        });
    }
    assert!(told.join_all().await.into_iter().all(|status| status == 200));
    let many = i64::from(MANY);
    until(&world, FAILED, many).await;
    assert_eq!(world.shop.dead_letters().await.unwrap().len(), 101);
    assert_eq!(world.shop.refunds_due().await.unwrap().len(), 101);
    world.clouds.elevenlabs.with(|sim| sim.set_credits(10_000_000));
    world.shop.try_again().await.unwrap();
    until(&world, COMPLETED, many).await;
    assert_eq!(world.clouds.paths().len(), 101);
    assert!(world.shop.dead_letters().await.unwrap().is_empty());
    let torn_down = tokio::time::timeout(WITHIN, world.shop.tear_down()).await;
    let standing = torn_down.expect("it never ends").unwrap();
    assert_eq!((standing.removed, standing.orders()), (many, many));
    assert_eq!(world.number(LEFT).await, 0);
    assert_eq!(world.clouds.storage.inventory(), []);
    worker.stop().await;
}
