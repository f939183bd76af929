//! What is made of an order, seen in the database, in the storage and by who holds its token.

use std::time::{Duration, Instant};

use provision_adapters::sim::{Fault, FaultRule};
use provision_core::{LedgerQuery, Outcome, ResourceState, RunId};
use song_orders::{
    checkout::Checkout,
    saga::{BUCKET, MAKE, Made, Order},
};
use uuid::Uuid;

use crate::world::{WITHIN, World};

/// Slows every call for music down.
fn slow(world: &World, by: Duration) {
    let rule = FaultRule::new(Fault::SlowHeaders(by)).path_contains("/v1/music");
    world.clouds.elevenlabs.faults().add(rule);
}

async fn run_of(world: &World, checkout: &str) -> RunId {
    let mut conn = world.conn().await;
    let run = sqlx::query_scalar("SELECT run FROM songs.orders WHERE checkout = $1");
    RunId::from_uuid(run.bind(checkout).fetch_one(&mut conn).await.unwrap())
}

async fn outcome(world: &World, run: RunId) -> Outcome<Made> {
    let run = world.shop.engine.handle::<Made>(run);
    tokio::time::timeout(WITHIN, run.outcome()).await.unwrap().unwrap()
}

/// Number and status of each variant of a checkout.
async fn variants(world: &World, checkout: &str) -> Vec<(i16, String)> {
    let mut conn = world.conn().await;
    let all = "SELECT v.variant_number, v.status FROM songs.variants v
        JOIN songs.orders o ON o.id = v.order_id WHERE o.checkout = $1 ORDER BY 1";
    sqlx::query_as(all).bind(checkout).fetch_all(&mut conn).await.unwrap()
}

fn statuses(told: [&str; 3]) -> Vec<(i16, String)> {
    (1..).zip(told.map(str::to_owned)).collect()
}

// covers: R3-01, R3-02, R3-03, R3-18, R3-21, R3-23, R3-31, R3-37, R3-47
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_variants_are_made_stored_and_shared_by_token() {
    let Some(world) = World::open().await else { return };
    slow(&world, Duration::from_secs(3));
    let worker = world.shop.worker();
    let began = Instant::now();
    assert_eq!(world.deliver(&Checkout::new("cs_1", "ada").event("evt_1")).await, 200);
    let ready = "SELECT count(*) FROM songs.variants WHERE status = 'ready'";
    assert_eq!(world.number(ready).await, 0, "it is answered before anything is made");
    let generating = "SELECT count(*) FROM songs.orders o WHERE progress = 'generating'
        AND payment = 'paid' AND (SELECT count(*) FROM songs.variants v
            WHERE v.order_id = o.id AND v.status = 'generating') = 3";
    while world.number(generating).await == 0 {
        assert!(began.elapsed() < WITHIN, "the step and the variants never say so");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.until(|standing| standing.completed == 1).await;
    assert!(began.elapsed() > Duration::from_secs(3), "the work outlives the request");

    assert_eq!(variants(&world, "cs_1").await, statuses(["ready"; 3]));
    let run = run_of(&world, "cs_1").await;
    let Outcome::Succeeded(made) = outcome(&world, run).await else { panic!("it succeeds") };
    let objects = [1, 2, 3].map(|number| format!("{}/variant-{number}.mp3", made.order));
    assert_eq!(
        made.songs.iter().map(|song| &song.object).collect::<Vec<_>>(),
        Vec::from_iter(&objects)
    );
    assert_eq!(world.clouds.paths(), objects);
    let kind = world.clouds.storage.with(|sim| sim.content_type(BUCKET, &objects[0]));
    assert_eq!(kind.as_deref(), Some("audio/mpeg"));
    assert_eq!(world.clouds.elevenlabs.with(|sim| sim.paid()), 3);
    let kept = "SELECT count(*) FROM songs.orders WHERE completed_at IS NOT NULL
        AND occasion_date = '2099-12-24' AND retained_until = occasion_date + 90";
    assert_eq!(world.number(kept).await, 1);

    // The token is sealed in the run; the database has what it is compared with.
    let token = world.shop.engine.reveal(&run, &made.token).await.unwrap();
    let mut conn = world.conn().await;
    let fits = "SELECT token_hash = sha256(convert_to($1, 'UTF8')) FROM songs.shares";
    let fits: bool =
        sqlx::query_scalar(fits).bind(token.expose()).fetch_one(&mut conn).await.unwrap();
    assert!(fits);
    let shared = reqwest::get(format!("{}/songs/{}", world.address, token.expose())).await.unwrap();
    assert_eq!(shared.status().as_u16(), 200);
    let shared: serde_json::Value = shared.json().await.unwrap();
    let songs = shared["songs"].as_array().unwrap();
    assert_eq!(songs.len(), 3);
    for (song, object) in songs.iter().zip(&objects) {
        let heard = reqwest::get(song["url"].as_str().unwrap()).await.unwrap();
        let content = world.clouds.storage.with(|sim| sim.content(BUCKET, object));
        assert_eq!(heard.bytes().await.unwrap().to_vec(), content.unwrap());
    }
    for guess in ["x", "00000000000000000000000000000000", "%27%20OR%20true"] {
        let answer = reqwest::get(format!("{}/songs/{guess}", world.address)).await.unwrap();
        assert_eq!(answer.status().as_u16(), 404, "{guess}");
    }
    worker.stop().await;
}

// covers: R3-02, R3-37, S12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_made_fails_alone_and_all_of_it_gives_the_money_back() {
    let Some(world) = World::open().await else { return };
    let worker = world.shop.worker();
    for (id, styles) in
        [("cs_some", "acoustic,beatles,ballad"), ("cs_none", "beatles,beatles,beatles")]
    {
        let checkout = Checkout { styles: styles.to_owned(), ..Checkout::new(id, "ada") };
        assert_eq!(world.deliver(&checkout.event(&format!("evt_{id}"))).await, 200);
    }
    world.until(|standing| standing.open == 0).await;
    assert_eq!(variants(&world, "cs_some").await, statuses(["ready", "failed", "ready"]));
    assert_eq!(variants(&world, "cs_none").await, statuses(["failed"; 3]));
    let some = outcome(&world, run_of(&world, "cs_some").await).await;
    assert!(matches!(some, Outcome::PartlySucceeded(made, _) if made.missing == 1));
    let none = outcome(&world, run_of(&world, "cs_none").await).await;
    assert!(matches!(none, Outcome::RolledBack(Some(_))), "{none:?}");
    let ends = "SELECT count(*) FROM songs.orders WHERE
        (checkout, progress, payment) IN (('cs_some', 'completed', 'paid'), ('cs_none', 'failed', 'refund_due'))";
    assert_eq!(world.number(ends).await, 2);
    assert_eq!(world.clouds.paths().len(), 2);
    worker.stop().await;
}

// covers: R3-17
#[tokio::test]
async fn an_order_without_a_row_fails_for_good_after_one_attempt() {
    let Some(world) = World::open().await else { return };
    let worker = world.shop.worker();
    let order = Order { id: Uuid::from_u128(7), styles: vec!["pop".to_owned()], length_ms: 3_000 };
    let run = *world.shop.engine.start(MAKE, &order).await.unwrap().id();
    let ended = outcome(&world, run).await;
    let Outcome::RolledBack(Some(failure)) = ended else { panic!("{ended:?}") };
    assert_eq!(failure.code, "no_such_order");
    assert_eq!(world.shop.engine.failures(&run).await.unwrap().len(), 1);
    assert_eq!(world.clouds.elevenlabs.with(|sim| sim.paid()), 0);
    worker.stop().await;
}

// covers: L5, R3-49
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_a_person_is_a_dead_letter_with_notes_and_goes_on_when_it_may() {
    let Some(world) = World::open().await else { return };
    world.clouds.elevenlabs.with(|sim| sim.set_credits(0));
    let worker = world.shop.worker();
    assert_eq!(world.deliver(&Checkout::new("cs_1", "ada").event("evt_1")).await, 200);
    let began = Instant::now();
    while world.shop.dead_letters().await.unwrap().is_empty() {
        assert!(began.elapsed() < WITHIN, "it never stops");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.until(|standing| standing.failed == 1).await;
    let due = "SELECT count(*) FROM songs.orders WHERE payment = 'refund_due'";
    assert_eq!(world.number(due).await, 1);
    let run = world.shop.dead_letters().await.unwrap()[0].id.to_string();
    for note in ["the credits are used up", "asked for more"] {
        world.shop.note(&run, note).await.unwrap();
    }
    let notes = world.shop.notes(&run).await.unwrap();
    assert_eq!(notes, ["the credits are used up", "asked for more"]);
    assert_eq!(world.shop.note(&run, "").await.unwrap_err().code(), "song_database");
    world.clouds.elevenlabs.with(|sim| sim.set_credits(100_000));
    world.shop.try_again().await.unwrap();
    world.until(|standing| standing.completed == 1).await;
    assert_eq!((world.number(due).await, world.shop.dead_letters().await.unwrap().len()), (0, 0));
    assert_eq!(world.clouds.paths().len(), 3);
    worker.stop().await;
}

// covers: S13, S14, R3-47
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tear_down_leaves_nothing_and_no_repeated_event_begins_anew() {
    let Some(world) = World::open().await else { return };
    let worker = world.shop.worker();
    for id in ["cs_1", "cs_2"] {
        let event = Checkout::new(id, "ada").event(&format!("evt_{id}"));
        assert_eq!(world.deliver(&event).await, 200);
    }
    world.until(|standing| standing.completed == 2).await;
    assert_eq!(world.clouds.paths().len(), 6);
    let torn_down = tokio::time::timeout(WITHIN, world.shop.tear_down()).await;
    assert_eq!(torn_down.unwrap().unwrap().removed, 2);
    assert_eq!(world.clouds.storage.inventory(), []);
    let left = "SELECT (SELECT count(*) FROM songs.variants) + (SELECT count(*) FROM songs.shares)
        + (SELECT count(*) FROM songs.deliveries)
        + (SELECT count(*) FROM songs.orders WHERE recipient IS NOT NULL)";
    assert_eq!(world.number(left).await, 0);
    let live = world.shop.engine.ledger(&LedgerQuery::default()).await.unwrap();
    assert!(live.iter().all(|row| row.state == ResourceState::Gone), "{live:?}");
    assert_eq!(world.deliver(&Checkout::new("cs_1", "ada").event("evt_cs_1")).await, 200);
    let standing = world.shop.settled().await.unwrap();
    assert_eq!((standing.removed, standing.open, standing.completed), (2, 0, 0));
    assert_eq!(world.number(left).await, 0, "nor is the repeated delivery kept");
    assert_eq!(world.clouds.storage.inventory(), []);
    worker.stop().await;
}

// covers: S9, S12, R3-02, R3-12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_an_answer_that_is_refused_then_costs_its_variant_and_no_other() {
    let Some(world) = World::open().await else { return };
    // Whatever becomes of the first calls, nobody hears of it; nobody makes the second variant.
    let lost = FaultRule::new(Fault::DropAfter).path_contains("/v1/music").times(3);
    world.clouds.elevenlabs.faults().add(lost);
    let worker = world.shop.worker();
    let checkout =
        Checkout { styles: "acoustic,beatles".to_owned(), ..Checkout::new("cs_1", "ada") };
    assert_eq!(world.deliver(&checkout.event("evt_1")).await, 200);
    let parked = "SELECT count(*) FROM provision.dead_letters WHERE status = 'Parked'";
    world.counts(parked, 1).await;
    let standing = tokio::time::timeout(WITHIN, world.shop.settled()).await.unwrap().unwrap();
    assert_eq!(standing.open, 1, "a person has to say that the lost call counts as paid");
    let paid = world.clouds.elevenlabs.with(|sim| sim.paid());
    world.shop.try_again().await.unwrap();
    world.until(|standing| standing.completed == 1).await;
    assert_eq!(variants(&world, "cs_1").await, [(1, "ready".to_owned()), (2, "failed".to_owned())]);
    let made = outcome(&world, run_of(&world, "cs_1").await).await;
    assert!(matches!(&made, Outcome::PartlySucceeded(made, _) if made.missing == 1), "{made:?}");
    assert!(world.clouds.elevenlabs.with(|sim| sim.paid()) <= paid + 1, "nothing is made anew");
    assert_eq!(world.shop.dead_letters().await.unwrap().len(), 0);
    worker.stop().await;
}

// covers: R3-03, R3-07
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_token_replaces_the_one_that_an_earlier_try_has_left() {
    let Some(world) = World::open().await else { return };
    assert_eq!(world.deliver(&Checkout::new("cs_1", "ada").event("evt_1")).await, 200);
    let mut conn = world.conn().await;
    let left = "INSERT INTO songs.shares SELECT id, sha256('left') FROM songs.orders";
    sqlx::query(left).execute(&mut conn).await.unwrap();
    let worker = world.shop.worker();
    world.until(|standing| standing.completed == 1).await;
    let run = run_of(&world, "cs_1").await;
    let Outcome::Succeeded(made) = outcome(&world, run).await else { panic!("it succeeds") };
    let token = world.shop.engine.reveal(&run, &made.token).await.unwrap();
    let shared = reqwest::get(format!("{}/songs/{}", world.address, token.expose())).await.unwrap();
    assert_eq!(shared.status().as_u16(), 200);
    let old = reqwest::get(format!("{}/songs/left", world.address)).await.unwrap();
    assert_eq!(old.status().as_u16(), 404);
    worker.stop().await;
}

// covers: R3-47, S14
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tear_down_removes_what_failed_orders_say_of_anybody_and_not_what_is_due() {
    let Some(world) = World::open().await else { return };
    let worker = world.shop.worker();
    let event = |styles: &str| {
        let (story, styles) = ("a secret of hers".to_owned(), styles.to_owned());
        let id = format!("cs_{styles}");
        Checkout { styles, story, ..Checkout::new(id, "ada") }
    };
    for styles in ["beatles", "pop"] {
        let event = event(styles).event(&format!("evt_{styles}"));
        assert_eq!(world.deliver(&event).await, 200);
    }
    world.until(|standing| (standing.failed, standing.completed) == (1, 1)).await;
    // Only the order's row and the delivery know it.
    let told = "SELECT (SELECT count(*) FROM provision.runs WHERE input LIKE '%secret of%')
        + (SELECT count(*) FROM provision.frames WHERE body LIKE '%secret of%')
        + (SELECT count(*) FROM provision.ledger AS l WHERE l::text LIKE '%secret of%')";
    assert_eq!(world.number(told).await, 0);
    let torn_down = tokio::time::timeout(WITHIN, world.shop.tear_down()).await;
    assert_eq!(torn_down.unwrap().unwrap().removed, 2);
    let left = "SELECT (SELECT count(*) FROM songs.deliveries)
        + (SELECT count(*) FROM songs.variants) + (SELECT count(*) FROM songs.shares)
        + (SELECT count(*) FROM songs.orders WHERE customer IS NOT NULL OR story IS NOT NULL
            OR recipient IS NOT NULL)";
    assert_eq!(world.number(left).await, 0);
    let due = world.shop.refunds_due().await.unwrap();
    assert_eq!(due.iter().map(|due| &*due.checkout).collect::<Vec<_>>(), ["cs_beatles"]);
    // Nobody can make it any more, and nobody is asked to.
    world.counts("SELECT count(*) FROM provision.dead_letters", 0).await;
    assert_eq!(world.deliver(&event("beatles").event("evt_again")).await, 200);
    world.shop.try_again().await.unwrap();
    let standing = world.shop.settled().await.unwrap();
    assert_eq!((standing.removed, standing.orders()), (2, 2));
    assert_eq!(world.number(left).await, 0);
    worker.stop().await;
}

// covers: S9, S14, S15, R3-12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn songs_that_the_storage_does_not_delete_stay_known_until_it_does() {
    let Some(world) = World::open().await else { return };
    let worker = world.shop.worker();
    assert_eq!(world.deliver(&Checkout::new("cs_1", "ada").event("evt_1")).await, 200);
    world.until(|standing| standing.completed == 1).await;
    let refused = FaultRule::new(Fault::Status(403)).method("DELETE");
    world.clouds.storage.faults().add(refused);
    let standing = tokio::time::timeout(WITHIN, world.shop.tear_down()).await.unwrap().unwrap();
    assert_eq!((standing.completed, world.clouds.paths().len()), (1, 3), "it needs a person");
    // Nobody has deleted them: they are no lost calls.
    world.shop.try_again().await.unwrap();
    world.counts("SELECT count(*) FROM provision.dead_letters WHERE status = 'Parked'", 1).await;
    assert_eq!(world.clouds.paths().len(), 3);
    world.clouds.storage.faults().clear();
    world.shop.try_again().await.unwrap();
    world.until(|standing| standing.removed == 1).await;
    assert_eq!(world.clouds.storage.inventory(), []);
    worker.stop().await;
}

// covers: S14, R3-47
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tear_down_waits_for_what_is_being_made() {
    let Some(world) = World::open().await else { return };
    slow(&world, Duration::from_secs(2));
    let worker = world.shop.worker();
    assert_eq!(world.deliver(&Checkout::new("cs_1", "ada").event("evt_1")).await, 200);
    let torn_down = tokio::time::timeout(WITHIN, world.shop.tear_down()).await;
    let standing = torn_down.expect("it never ends").unwrap();
    assert_eq!((standing.removed, standing.orders()), (1, 1));
    assert_eq!(world.clouds.storage.inventory(), []);
    worker.stop().await;
}
