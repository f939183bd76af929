//! Webhooks: what becomes of a delivery, and what of one that cannot be taken.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use provision_adapters::webhook::ANSWER_WITHIN;
use provision_core::Secret;
use song_orders::{
    checkout::{Answer, Checkout, deliver_once},
    secret::DEMO_SECRET,
};
use sqlx::{Connection as _, Executor as _};
use tokio::task::JoinSet;

use crate::world::{WITHIN, World};

const ORDERS: &str = "SELECT count(*) FROM songs.orders";
const RUNS: &str = "SELECT count(*) FROM provision.runs";
/// The router answers within its own time; a busy machine takes a while to hear it.
const HEARD_WITHIN: Duration = Duration::from_secs(2 * ANSWER_WITHIN.as_secs());

/// Delivers once, and sees that the answer comes in time.
async fn delivered(address: &str, event: &str) -> Answer {
    let began = Instant::now();
    let answer = deliver_once(address, &Secret::new(DEMO_SECRET), event).await.unwrap();
    assert!(began.elapsed() < HEARD_WITHIN, "{:?}: {answer:?}", began.elapsed());
    answer
}

/// Delivers until it is taken, as a sender does: only what is to come again comes again.
async fn taken(address: &str, event: &str) -> String {
    let began = Instant::now();
    loop {
        let answer = delivered(address, event).await;
        if answer.status == 200 {
            return answer.text;
        }
        assert!(answer.status == 503 && began.elapsed() < WITHIN, "{answer:?}");
        tokio::time::sleep(answer.again.expect("a moment to come again")).await;
    }
}

// covers: X7, S1, S2, R2-18, R3-13, R3-15
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paid_checkout_is_delivery_order_and_run_or_nothing() {
    let Some(world) = World::open().await else { return };
    let checkout = Checkout::new("cs_1", "ada");
    let event = checkout.event("evt_1");
    let guess = Secret::new("whsec_guess");
    let forged = deliver_once(&world.address, &guess, &event).await.unwrap();
    assert_eq!(forged.status, 400);
    assert_eq!((world.number(ORDERS).await, world.number(RUNS).await), (0, 0), "no row");

    // Twenty deliveries at once of two events of one checkout; on a slow machine some are told to
    // come again, and do.
    let mut told = JoinSet::new();
    for delivery in 0..20 {
        let name = if delivery % 2 == 0 { "evt_1" } else { "evt_2" };
        let (address, event) = (world.address.clone(), checkout.event(name));
        told.spawn(async move { taken(&address, &event).await });
    }
    let answers: BTreeSet<String> = told.join_all().await.into_iter().collect();
    assert_eq!(answers.len(), 1, "all are answered alike: {answers:?}");
    assert_eq!((world.number(ORDERS).await, world.number(RUNS).await), (1, 1));
    let kept = "SELECT count(*) FROM songs.deliveries d JOIN songs.orders o ON o.id = d.order_id
        JOIN provision.runs r ON r.run = o.run
        WHERE o.checkout = 'cs_1' AND d.event IN ('evt_1', 'evt_2')";
    assert_eq!(world.number(kept).await, 2);
    let mut conn = world.conn().await;
    let body = "SELECT body FROM songs.deliveries WHERE event = 'evt_1'";
    let body: Vec<u8> = sqlx::query_scalar(body).fetch_one(&mut conn).await.unwrap();
    assert_eq!(body, event.into_bytes(), "as it was signed");
}

// covers: S1, R3-13
#[tokio::test]
async fn what_is_not_paid_or_not_understood_leaves_nothing() {
    let Some(world) = World::open().await else { return };
    let good = Checkout::new("cs_1", "ada");
    let unpaid = Checkout { payment_status: "unpaid".to_owned(), ..good.clone() };
    let free = Checkout { payment_status: "no_payment_required".to_owned(), ..good.clone() };
    let sooner = Checkout { occasion_date: "soon".to_owned(), ..free };
    let odd = Checkout { payment_status: "who knows".to_owned(), ..good.clone() };
    let empty = r#"{"id":"evt_4","type":"checkout.session.completed","data":{"object":{}}}"#;
    for (event, status) in [
        (unpaid.event("evt_1"), 200),
        (good.event_of("evt_2", "invoice.paid"), 200),
        (good.event_of("evt_3", "checkout.session.async_payment_failed"), 200),
        // Those of other shops, as far as one can see.
        (empty.to_owned(), 200),
        (odd.event("evt_5"), 422),
        // Nobody has to be paid back.
        (sooner.event("evt_6"), 200),
    ] {
        assert_eq!(world.deliver(&event).await, status, "{event}");
    }
    assert_eq!((world.number(ORDERS).await, world.number(RUNS).await), (0, 0));
    for rows in
        ["SELECT count(*) FROM songs.deliveries", "SELECT count(*) FROM songs.unusable_payments"]
    {
        assert_eq!(world.number(rows).await, 0, "{rows}");
    }
}

// covers: X7, S1, R3-13
#[tokio::test]
async fn a_database_that_hangs_is_answered_in_time_and_the_repetition_is_taken() {
    let Some(world) = World::open().await else { return };
    let event = Checkout::new("cs_1", "ada").event("evt_1");
    let mut conn = world.conn().await;
    let mut tx = conn.begin().await.unwrap();
    tx.execute("LOCK TABLE songs.orders IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let answer = delivered(&world.address, &event).await;
    assert!(answer.status == 503 && answer.again.is_some(), "{answer:?}");
    tx.rollback().await.unwrap();
    taken(&world.address, &event).await;
    assert_eq!((world.number(ORDERS).await, world.number(RUNS).await), (1, 1));
}
