//! Ways to pay, and money that is to go back.

use provision_adapters::sim::{Fault, FaultRule};
use provision_core::By;
use song_orders::checkout::Checkout;

use crate::world::World;

const ORDERS: &str = "SELECT count(*) FROM songs.orders";
const RUNS: &str = "SELECT count(*) FROM provision.runs";
const LATER: &str = "checkout.session.async_payment_succeeded";

// covers: X7, S2, R3-13, R3-15
#[tokio::test]
async fn a_payment_that_is_confirmed_later_is_an_order_and_only_one() {
    let Some(world) = World::open().await else { return };
    let paid = Checkout::new("cs_1", "ada");
    let unpaid = Checkout { payment_status: "unpaid".to_owned(), ..paid.clone() };
    assert_eq!(world.deliver(&unpaid.event("evt_1")).await, 200);
    assert_eq!(world.number(ORDERS).await, 0, "nobody has paid yet");
    for event in [
        paid.event_of("evt_2", LATER),
        paid.event_of("evt_2", LATER),
        // Whichever of its events comes, and however late.
        paid.event("evt_3"),
    ] {
        assert_eq!(world.deliver(&event).await, 200);
    }
    assert_eq!((world.number(ORDERS).await, world.number(RUNS).await), (1, 1));
    assert_eq!(world.number("SELECT count(*) FROM songs.deliveries").await, 2);
}

// covers: R3-13, R3-37
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_costs_nothing_is_made_and_nothing_of_it_is_paid_back() {
    let Some(world) = World::open().await else { return };
    let worker = world.shop.worker();
    let free = |id: &str, styles: &str| Checkout {
        payment_status: "no_payment_required".to_owned(),
        styles: styles.to_owned(),
        ..Checkout::new(id, "ada")
    };
    assert_eq!(world.deliver(&free("cs_1", "pop").event("evt_1")).await, 200);
    assert_eq!(world.deliver(&free("cs_2", "beatles").event("evt_2")).await, 200);
    world.until(|standing| (standing.completed, standing.failed) == (1, 1)).await;
    assert!(world.shop.refunds_due().await.unwrap().is_empty());
    let free = "SELECT count(*) FROM songs.orders WHERE payment = 'free'";
    assert_eq!(world.number(free).await, 2);
    worker.stop().await;
}

// covers: S1, R3-08, R3-13
#[tokio::test]
async fn what_was_paid_and_cannot_be_used_is_kept_until_the_money_went_back() {
    let Some(world) = World::open().await else { return };
    let good = |id: &str| Checkout::new(id, "ada");
    let text = str::to_owned;
    let cases = [
        (Checkout { occasion_date: text("soon"), ..good("cs_a") }, "checkout_date"),
        (Checkout { occasion_date: text("infinity"), ..good("cs_b") }, "checkout_date"),
        // It has the form of a day, and the database knows that there is none.
        (Checkout { occasion_date: text("2099-02-30"), ..good("cs_c") }, "checkout_value"),
        (Checkout { styles: text("a,b,c,d,e,f"), ..good("cs_d") }, "checkout_styles"),
        (Checkout { styles: text("a,,b"), ..good("cs_e") }, "checkout_styles"),
        (Checkout { customer: text(""), ..good("cs_f") }, "checkout_customer"),
        (Checkout { story: text(""), ..good("cs_g") }, "checkout_story"),
        (Checkout { story: "x".repeat(4_001), ..good("cs_h") }, "checkout_story"),
        (Checkout { story: text("a\0b"), ..good("cs_i") }, "checkout_value"),
        (Checkout { length_ms: 1, ..good("cs_j") }, "checkout_length"),
        // Over before anything could be shared.
        (Checkout { occasion_date: text("2020-01-01"), ..good("cs_k") }, "checkout_date"),
        (good(&format!("cs_l{}", "x".repeat(200))), "checkout_id"),
    ];
    for (checkout, _) in &cases {
        let event = format!("evt_{}", checkout.id.get(..4).unwrap());
        for _ in 0..2 {
            assert_eq!(world.deliver(&checkout.event(&event)).await, 200, "{event}");
        }
        // Another event of the same checkout: it was paid once.
        assert_eq!(world.deliver(&checkout.event_of(&format!("{event}_2"), LATER)).await, 200);
    }
    let bare = r#"{"id":"evt_z","type":"checkout.session.completed",
        "data":{"object":{"payment_status":"paid","metadata":{"shop":"songs"}}}}"#;
    assert_eq!(world.deliver(bare).await, 200);
    assert_eq!((world.number(ORDERS).await, world.number(RUNS).await), (0, 0));

    let due = world.shop.refunds_due().await.unwrap();
    let due: Vec<_> = due.iter().map(|due| (&*due.checkout, &*due.why)).collect();
    let wanted = cases.iter().map(|(checkout, why)| (&*checkout.id, *why));
    let wanted: Vec<_> = wanted.chain([("evt_z", "checkout_unreadable")]).collect();
    assert_eq!(due, wanted);
    let signed = "SELECT count(*) FROM songs.unusable_payments WHERE body IS NOT NULL";
    assert_eq!(world.number(signed).await, 13, "as it was signed");
    for checkout in ["cs_a", "evt_z", "cs_a"] {
        world.shop.refunded(checkout).await.unwrap();
    }
    assert_eq!(world.shop.refunds_due().await.unwrap().len(), 11);
    assert_eq!(world.number(signed).await, 11, "what was said with it is forgotten");
    assert_eq!(world.shop.refunded("cs_zzz").await.unwrap_err().code(), "no_refund_due");
    // What came in wrong and was paid back is not made because somebody sends it again, right.
    assert_eq!(world.deliver(&good("cs_a").event("evt_right")).await, 200);
    assert_eq!((world.number(ORDERS).await, world.number(RUNS).await), (0, 0));
}

// covers: R3-13
#[tokio::test]
async fn what_is_paid_for_other_things_is_nobodys_business() {
    let Some(world) = World::open().await else { return };
    let mut other: serde_json::Value =
        serde_json::from_str(&Checkout::new("cs_1", "ada").event("evt_1")).unwrap();
    other["data"]["object"]["metadata"]["shop"] = "shirts".into();
    assert_eq!(world.deliver(&other.to_string()).await, 200);
    other["data"]["object"]["payment_status"] = "no_payment_required".into();
    assert_eq!(world.deliver(&other.to_string()).await, 200);
    let kept = "SELECT (SELECT count(*) FROM songs.orders)
        + (SELECT count(*) FROM songs.unusable_payments)";
    assert_eq!(world.number(kept).await, 0);
}

// covers: S12, S14, R3-12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_order_is_not_paid_back_before_it_is_cancelled() {
    let Some(world) = World::open().await else { return };
    // Whatever becomes of the calls, nobody hears of it: the order waits for a person.
    let lost = FaultRule::new(Fault::DropAfter).path_contains("/v1/music");
    world.clouds.elevenlabs.faults().add(lost.times(4));
    let worker = world.shop.worker();
    let one = Checkout { styles: "acoustic".to_owned(), ..Checkout::new("cs_1", "ada") };
    assert_eq!(world.deliver(&one.event("evt_1")).await, 200);
    world.counts("SELECT count(*) FROM provision.dead_letters WHERE status = 'Parked'", 1).await;
    assert_eq!(world.shop.refunded("cs_1").await.unwrap_err().code(), "order_open");
    assert_eq!(world.shop.cancel("cs_2").await.unwrap_err().code(), "no_open_order");
    world.shop.cancel("cs_1").await.unwrap();
    // Cancelled or not, somebody has to say that the lost calls count as paid.
    world.shop.try_again().await.unwrap();
    world.until(|standing| standing.failed == 1).await;
    assert_eq!(world.clouds.paths(), Vec::<String>::new());
    let due = world.shop.refunds_due().await.unwrap();
    assert_eq!(due.iter().map(|due| &*due.checkout).collect::<Vec<_>>(), ["cs_1"]);
    // Made after all, it is due no more, and made no more once it went back.
    world.shop.try_again().await.unwrap();
    world.until(|standing| standing.completed == 1).await;
    assert!(world.shop.refunds_due().await.unwrap().is_empty());
    assert_eq!(world.shop.cancel("cs_1").await.unwrap_err().code(), "no_open_order");
    worker.stop().await;
}

// covers: S17, R3-12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_paid_back_is_never_made_again() {
    let Some(world) = World::open().await else { return };
    world.clouds.elevenlabs.with(|sim| sim.set_credits(0));
    let worker = world.shop.worker();
    for id in ["cs_1", "cs_2"] {
        let event = Checkout::new(id, "ada").event(&format!("evt_{id}"));
        assert_eq!(world.deliver(&event).await, 200);
    }
    world.until(|standing| standing.failed == 2).await;
    assert_eq!(world.shop.refunded("cs_3").await.unwrap_err().code(), "no_refund_due");
    world.shop.refunded("cs_1").await.unwrap();
    world.clouds.elevenlabs.with(|sim| sim.set_credits(100_000));
    world.shop.try_again().await.unwrap();
    world.until(|standing| (standing.completed, standing.failed) == (1, 1)).await;
    let stands = "SELECT count(*) FROM songs.orders WHERE (checkout, payment, progress)
        IN (('cs_1', 'refunded', 'failed'), ('cs_2', 'paid', 'completed'))";
    assert_eq!(world.number(stands).await, 2);
    assert_eq!(world.shop.refunded("cs_2").await.unwrap_err().code(), "no_refund_due");

    // Nobody has to look at it any more, and who drives it all the same makes nothing.
    let letters = "SELECT count(*) FROM provision.dead_letters";
    world.counts(letters, 0).await;
    let mut conn = world.conn().await;
    let run = "SELECT run FROM songs.orders WHERE checkout = 'cs_1'";
    let run: uuid::Uuid = sqlx::query_scalar(run).fetch_one(&mut conn).await.unwrap();
    let run = provision_core::RunId::from_uuid(run);
    world.shop.engine.redrive(&run, By::new("ann", "a mistake")).await.unwrap();
    world.counts(letters, 1).await;
    let failure = world.shop.dead_letters().await.unwrap().remove(0).summary.failure.unwrap();
    assert_eq!(failure.code, "order_refunded");
    assert_eq!(world.number(stands).await, 2);
    assert_eq!(world.clouds.elevenlabs.with(|sim| sim.paid()), 3, "for the other one alone");
    worker.stop().await;
}
