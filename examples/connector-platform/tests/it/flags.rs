//! Flags as the database has them: cached for a minute, read anew, frozen in runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use connector_platform::{
    flags::{ADVANCED_ANALYTICS, BULK_PUBLISHING, Flags},
    platform::PlatformName,
    shared::Settings,
    sim::Pace,
};
use provision_core::{Outcome, Timestamp, clock::Clock};

use crate::place::{Place, job, until};

#[derive(Debug, Default)]
struct Hands(AtomicU64);

impl Clock for Hands {
    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Relaxed))
    }
}

// covers: R5-11, R5-50, R5-51
#[tokio::test]
async fn a_switched_flag_is_seen_after_a_minute_and_not_before() {
    let Some(place) = Place::new().await else { return };
    let hands = Arc::new(Hands(AtomicU64::new(1_000_000)));
    let pool = place.service.shared().db.pool().clone();
    let flags = Flags::new(pool).with_clock(Arc::clone(&hands) as Arc<dyn Clock>);
    let is_on = async || flags.freeze("acme").await.unwrap().has(BULK_PUBLISHING);
    assert!(!is_on().await);
    place
        .execute(
            "UPDATE connectors.feature_flags SET enabled = true, tenants = '{acme}' \
                  WHERE name = 'bulk_publishing'",
        )
        .await;
    hands.0.fetch_add(59_999, Relaxed);
    assert!(!is_on().await, "what was read is kept for a minute");
    hands.0.fetch_add(1, Relaxed);
    assert!(is_on().await, "and then read anew, while running");
    assert!(!flags.freeze("globex").await.unwrap().has(BULK_PUBLISHING), "for the named one alone");
}

// covers: R5-48
#[tokio::test(flavor = "multi_thread")]
async fn a_run_keeps_the_flags_it_was_started_with() {
    let pace = Pace { publishing: Duration::from_secs(2), ..Pace::default() };
    let Some(place) = Place::with(Settings::simulated(), pace).await else { return };
    let set = "UPDATE connectors.feature_flags SET rollout = 100 WHERE name = 'advanced_analytics'";
    place.execute(set).await;
    let worker = place.worker();
    let connection = place.connect("acme", PlatformName::TikTok).await;
    assert!(place.service.flags().freeze("acme").await.unwrap().has(ADVANCED_ANALYTICS));
    let started = place.service.publish("acme", &job(connection)).await.unwrap();
    until("the post is on its way", async || place.posts(PlatformName::TikTok) == 1).await;
    // Switched in the middle of the run, and seen by everybody who asks anew: another process.
    place.execute("UPDATE connectors.feature_flags SET enabled = false").await;
    worker.stop().await;
    let other = crate::place::open(&place.url, &place.sims, Settings::simulated()).await;
    assert!(!other.flags().freeze("acme").await.unwrap().has(ADVANCED_ANALYTICS));
    let worker = other.worker(Duration::from_secs(5));
    let outcome = place.outcome("acme", started).await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    let taken = place.number("SELECT count(*) FROM connectors.publish_job_analytics").await;
    assert_eq!(taken, 1, "the branch it began with");
    let refused = other.publish_many("acme", &[job(connection)]).await.unwrap_err();
    assert_eq!(refused.code(), "flag_off");
    let kept = "SELECT (flags ->> 'advanced_analytics') FROM connectors.publish_jobs";
    assert_eq!(place.text(kept).await, "true");
    worker.stop().await;
}

// covers: R5-48
#[tokio::test(flavor = "multi_thread")]
async fn what_is_off_at_the_start_is_off_for_the_run() {
    let Some(place) = Place::new().await else { return };
    let off =
        "UPDATE connectors.feature_flags SET enabled = false WHERE name = 'advanced_analytics'";
    place.execute(off).await;
    let worker = place.worker();
    let connection = place.connect("acme", PlatformName::Meta).await;
    let (_, outcome) = place.publish("acme", connection).await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    assert_eq!(place.number("SELECT count(*) FROM connectors.publish_job_analytics").await, 0);
    worker.stop().await;
}
