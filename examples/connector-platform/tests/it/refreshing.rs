//! Tokens that grow old: one refresh however many ask, nothing lost on the way, and a person asked
//! where nothing else helps.

use connector_platform::{platform::PlatformName, shared::Settings, sim::Pace};
use provision_adapters::sim::{Fault, FaultRule};
use provision_core::{By, Outcome};

use crate::place::{Place, job, until};

// covers: R5-54
#[tokio::test(flavor = "multi_thread")]
async fn fifty_users_of_an_old_token_are_one_refresh() {
    // The tokens are old from the beginning: they live shorter than the margin.
    let pace = Pace { token_lifetime: std::time::Duration::from_secs(20), ..Pace::default() };
    let settings =
        Settings { refresh_margin: std::time::Duration::from_secs(25), ..Settings::simulated() };
    let Some(place) = Place::with(settings, pace).await else { return };
    place.execute("UPDATE connectors.connector_platforms SET calls = 100000, burst = 1000").await;
    let worker = place.worker();
    let name = PlatformName::LinkedIn;
    let connection = place.connect("acme", name).await;
    worker.stop().await;
    let mut jobs = Vec::new();
    for _ in 0..50 {
        jobs.push(place.service.publish("acme", &job(connection)).await.unwrap());
    }
    // From here on new tokens live for an hour.
    place
        .sim(name)
        .with(|sim| sim.world().set_token_lifetime(std::time::Duration::from_secs(3_600)));
    let worker = place.worker();
    for job in jobs {
        let outcome = place.outcome("acme", job).await;
        assert!(!matches!(outcome, Outcome::RolledBack(_) | Outcome::Parked(..)), "{outcome:?}");
    }
    assert_eq!(place.sim(name).with(|sim| sim.world().refreshes), 1);
    assert_eq!(place.posts(name), 50);
    worker.stop().await;
}

// covers: R5-54, R5-77
#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_whose_answer_is_lost_is_asked_for_again_and_nothing_is_used_unstored() {
    let Some(place) = Place::new().await else { return };
    let worker = place.worker();
    for (name, path) in [
        (PlatformName::LinkedIn, "accessToken"),
        (PlatformName::TikTok, "/v2/oauth/token"),
        (PlatformName::Gbp, "/token"),
        (PlatformName::Meta, "access_token"),
    ] {
        let connection = place.connect("acme", name).await;
        place.age(name).await;
        let lost = FaultRule::new(Fault::DropAfter).path_contains(path);
        let lost = place.sim(name).faults().add(lost.times(2));
        let (_, outcome) = place.publish("acme", connection).await;
        assert!(!matches!(outcome, Outcome::RolledBack(_) | Outcome::Parked(..)), "{outcome:?}");
        place.sim(name).faults().remove(lost);
        assert_eq!(place.sim(name).with(|sim| sim.world().refreshes), 3, "{name}: two were lost");
        assert_eq!(place.posts(name), 1, "{name}");
    }
    worker.stop().await;
}

// covers: R5-15, R5-17, R5-35, R5-77
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_refresh_asks_for_a_person_and_the_job_waits_for_it() {
    let Some(place) = Place::new().await else { return };
    let worker = place.worker();
    let name = PlatformName::LinkedIn;
    let connection = place.connect("acme", name).await;
    place.age(name).await;
    place.sim(name).with(|sim| sim.world().tokens.clear());
    let (job, outcome) = place.publish("acme", connection).await;
    let Outcome::Parked(failure, _) = outcome else { panic!("{outcome:?}") };
    assert!(failure.to_string().contains("connection_needs_attention"), "{failure}");
    let mut tx = place.service.shared().db.as_tenant("acme").await.unwrap();
    let sql = "SELECT reason FROM connectors.connections_requiring_attention";
    let reason: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut *tx).await.unwrap();
    assert_eq!(reason, ["refresh_refused"]);
    let sql = "SELECT id FROM connectors.publish_jobs_dlq WHERE failed_code IS NOT NULL";
    let dead: Vec<uuid::Uuid> = sqlx::query_scalar(sql).fetch_all(&mut *tx).await.unwrap();
    assert_eq!(dead, [job]);
    drop(tx);
    let mut tx = place.service.shared().db.as_tenant("globex").await.unwrap();
    let dead: Vec<uuid::Uuid> = sqlx::query_scalar(sql).fetch_all(&mut *tx).await.unwrap();
    assert!(dead.is_empty(), "dead letters are their tenant's");
    drop(tx);
    // A person gives up: the job is undone, and nothing was published.
    let run = place.service.run_of("acme", job).await.unwrap();
    place.service.engine().cancel(&run, By::new("test", "given up")).await.unwrap();
    until("undone", async || {
        place.number("SELECT count(*) FROM connectors.publish_jobs WHERE state = 'failed'").await
            == 1
    })
    .await;
    assert_eq!(place.posts(name), 0);
    worker.stop().await;
}

// covers: R5-46
#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_refreshed_before_they_grow_old() {
    let Some(place) = Place::new().await else { return };
    let worker = place.worker();
    let name = PlatformName::TikTok;
    place.connect("acme", name).await;
    assert_eq!(place.service.tend().await.unwrap().refreshes, 0, "it is good for an hour");
    // Nobody else is to use the token, and so to refresh it.
    worker.stop().await;
    place.age(name).await;
    assert_eq!(place.service.tend().await.unwrap().refreshes, 1);
    let worker = place.worker();
    until("refreshed", async || place.sim(name).with(|sim| sim.world().refreshes) == 1).await;
    worker.stop().await;
}

// covers: R5-54
#[tokio::test(flavor = "multi_thread")]
async fn who_connects_again_mends_the_connection_and_the_job_goes_on() {
    let Some(place) = Place::new().await else { return };
    let worker = place.worker();
    let name = PlatformName::LinkedIn;
    let connection = place.connect("acme", name).await;
    place.age(name).await;
    place.sim(name).with(|sim| sim.world().tokens.clear());
    let (job, outcome) = place.publish("acme", connection).await;
    assert!(matches!(outcome, Outcome::Parked(..)), "{outcome:?}");
    let (_, connected) = place.consent("acme", name).await;
    assert_eq!(connected, connection);
    let state = "SELECT state || coalesce(trouble, '') FROM connectors.connections";
    assert_eq!(place.text(state).await, "connected");
    let run = place.service.run_of("acme", job).await.unwrap();
    place.service.engine().retry(&run, By::new("test", "connected again")).await.unwrap();
    let out = "SELECT count(*) FROM connectors.publish_jobs WHERE state = 'published'";
    until("published", async || place.number(out).await == 1).await;
    assert_eq!(place.posts(name), 1);
    worker.stop().await;
}

// covers: R5-54
#[tokio::test(flavor = "multi_thread")]
async fn new_tokens_are_stored_although_somebody_marks_the_old_ones_meanwhile() {
    let Some(place) = Place::new().await else { return };
    let worker = place.worker();
    let connection = place.connect("acme", PlatformName::LinkedIn).await;
    worker.stop().await;
    let (tokens, at) = (&place.service.shared().tokens, ("acme", connection));
    let held = tokens.read(at.0, at.1).await.unwrap().unwrap();
    // Another run was told 401 while the platform answered the refresh.
    let now = provision_core::Timestamp::from_millis(1);
    tokens.expire(at, &held, now).await.unwrap();
    let fresh = connector_platform::platform::Tokens {
        access: provision_core::Secret::new("fresh"),
        ..held.tokens.clone()
    };
    assert!(tokens.rotate(at, &held, &fresh, now).await.unwrap(), "the pair was the same");
    let stored = tokens.read(at.0, at.1).await.unwrap().unwrap();
    assert_eq!(stored.tokens.access.expose(), "fresh");
    assert!(!tokens.rotate(at, &held, &fresh, now).await.unwrap(), "and now it is another");
}
