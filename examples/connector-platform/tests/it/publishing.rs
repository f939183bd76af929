//! Publishing happens once, whatever the way loses, and is undone by deleting.

use std::time::Duration;

use connector_platform::{
    platform::{Account, PlatformName},
    shared::Settings,
    sim::Pace,
};
use provision_adapters::sim::{Fault, FaultRule, RetryAfterForm};
use provision_core::{Outcome, Policy};

use crate::place::{Place, job, until};

/// The path by which each platform is told to publish.
fn publishing(name: PlatformName) -> FaultRule {
    let path = match name {
        PlatformName::Meta => "/feed",
        PlatformName::LinkedIn => "/rest/posts",
        PlatformName::TikTok => "/video/init",
        PlatformName::Gbp => "/localPosts",
        PlatformName::Mailchimp => "/campaigns",
    };
    FaultRule::new(Fault::DropAfter).method("POST").path_contains(path)
}

fn is_out(outcome: &Outcome<serde_json::Value>) -> bool {
    matches!(outcome, Outcome::Succeeded(_) | Outcome::PartlySucceeded(..))
}

// covers: R5-04, R5-08, R5-52, R5-56, R5-57, R5-58, R5-62
#[tokio::test(flavor = "multi_thread")]
async fn every_platform_publishes_counts_and_deletes_or_says_that_it_cannot() {
    let Some(place) = Place::new().await else { return };
    place.execute("UPDATE connectors.feature_flags SET rollout = 100, enabled = true").await;
    let worker = place.worker();
    for name in PlatformName::ALL {
        let connection = place.connect("acme", name).await;
        let (job, outcome) = place.publish("acme", connection).await;
        assert!(matches!(outcome, Outcome::Succeeded(_)), "{name}: {outcome:?}");
        assert_eq!(place.posts(name), 1, "{name}");
        let figures = place.service.collect("acme", job).await.unwrap().output().await.unwrap();
        let reactions = if name == PlatformName::Gbp { 0 } else { 20 };
        let seen = (figures.impressions, figures.reactions, figures.clicks);
        assert_eq!(seen, (30, reactions, 10), "{name}");
        place.service.unpublish("acme", job).await.unwrap();
        let cannot = match name {
            PlatformName::TikTok => Some("delete it in the app"),
            PlatformName::Mailchimp => Some("nobody can take them back"),
            _ => None,
        };
        if let Some(why) = cannot {
            let Outcome::Parked(failure, _) = place.outcome("acme", job).await else { panic!() };
            assert_eq!(failure.code, "unsupported", "{name}");
            let hint = "SELECT string_agg(hint, ' ') FROM connectors.publish_job_errors
                WHERE code = 'unsupported'";
            assert!(place.text(hint).await.contains(why), "{name}");
            assert_eq!(place.posts(name), 1, "{name}: it says so, and does not pretend");
        } else {
            let outcome = place.outcome("acme", job).await;
            assert!(matches!(outcome, Outcome::TornDown), "{name}: {outcome:?}");
            assert_eq!(place.posts(name), 0, "{name}");
        }
    }
    // One reading by the run itself, and one that was asked for.
    assert_eq!(place.number("SELECT count(*) FROM connectors.publish_job_analytics").await, 10);
    let deleted = "SELECT count(*) FROM connectors.publish_jobs WHERE state = 'deleted'";
    assert_eq!(place.number(deleted).await, 3);
    let dead = "SELECT count(*) FROM connectors.publish_jobs_dlq";
    assert_eq!(place.number(dead).await, 2);
    worker.stop().await;
}

// covers: S12, S14, R5-57
#[tokio::test(flavor = "multi_thread")]
async fn a_video_that_came_to_nothing_needs_nobody_to_undo_it() {
    let Some(place) = Place::new().await else { return };
    let worker = place.worker();
    let name = PlatformName::TikTok;
    let connection = place.connect("acme", name).await;
    place.sim(name).with(|sim| sim.world().fails = true);
    let (_, outcome) = place.publish("acme", connection).await;
    let Outcome::RolledBack(Some(failure)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(failure.code, "publish_failed");
    let failed = "SELECT count(*) FROM connectors.publish_jobs WHERE state = 'failed'";
    assert_eq!(place.number(failed).await, 1);
    assert_eq!(place.number("SELECT count(*) FROM connectors.publish_jobs_dlq").await, 1);
    worker.stop().await;
}

// covers: S9, R5-38, R5-56, R5-77
#[tokio::test(flavor = "multi_thread")]
async fn a_post_whose_answer_is_lost_is_found_and_not_published_again() {
    let Some(place) = Place::new().await else { return };
    let worker = place.worker();
    for name in PlatformName::ALL {
        let connection = place.connect("acme", name).await;
        place.sim(name).faults().add(publishing(name).once());
        let (_, outcome) = place.publish("acme", connection).await;
        assert!(is_out(&outcome), "{name}: {outcome:?}");
        assert_eq!(place.sim(name).faults().fired(), ["drop_after"], "{name}");
        assert_eq!(place.posts(name), 1, "{name}");
    }
    worker.stop().await;
}

// covers: R5-10, R5-36, R5-77
#[tokio::test(flavor = "multi_thread")]
async fn limits_are_waited_for_errors_repeated_and_both_are_told_apart() {
    let Some(place) = Place::new().await else { return };
    let worker = place.worker();
    for name in PlatformName::ALL {
        let connection = place.connect("acme", name).await;
        let faults = place.sim(name).faults();
        let limited = Fault::RateLimited { retry_after: RetryAfterForm::Seconds(1) };
        faults.add(FaultRule::new(limited).once());
        faults.add(FaultRule::new(Fault::Status(503)).once());
        let begun = std::time::Instant::now();
        let (_, outcome) = place.publish("acme", connection).await;
        assert!(is_out(&outcome), "{name}: {outcome:?}");
        assert!(begun.elapsed() >= Duration::from_secs(1), "{name}: the wait was shortened");
        assert_eq!(place.posts(name), 1, "{name}");
    }
    // A limit costs no attempt and is no error; an error is, with its attempt.
    let errors = "SELECT count(*) FROM connectors.publish_job_errors";
    assert_eq!(place.number(errors).await, 5);
    let codes = "SELECT string_agg(DISTINCT code, ',') FROM connectors.publish_job_errors";
    assert_eq!(place.text(codes).await, "server_error");
    worker.stop().await;
}

// covers: R5-16
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_tried_again_later_says_when_and_why() {
    let slow =
        Policy::attempts(4).exponential(Duration::from_secs(600), 3, Duration::from_secs(600));
    let settings = Settings { policy: slow, ..Settings::simulated() };
    let Some(place) = Place::with(settings, Pace::default()).await else { return };
    let worker = place.worker();
    let connection = place.connect("acme", PlatformName::Meta).await;
    place.sim(PlatformName::Meta).faults().add(FaultRule::new(Fault::Status(500)));
    let job = place.service.publish("acme", &job(connection)).await.unwrap();
    let sql = "SELECT count(*) FROM connectors.publish_jobs_pending_retry
        WHERE code = 'server_error' AND next_attempt_at > now() + interval '1 minute'";
    until("it waits", async || place.number(sql).await == 1).await;
    let mut tx = place.service.shared().db.as_tenant("acme").await.unwrap();
    let sql = "SELECT id FROM connectors.publish_jobs_pending_retry";
    let seen: Vec<uuid::Uuid> = sqlx::query_scalar(sql).fetch_all(&mut *tx).await.unwrap();
    assert_eq!(seen, [job]);
    drop(tx);
    worker.stop().await;
}

// covers: R5-04
#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_is_the_same_job_and_another_tenants_connection_is_none() {
    let Some(place) = Place::new().await else { return };
    let worker = place.worker();
    let connection = place.connect("acme", PlatformName::Meta).await;
    let new = job(connection);
    let first = place.service.publish("acme", &new).await.unwrap();
    assert_eq!(place.service.publish("acme", &new).await.unwrap(), first);
    assert!(is_out(&place.outcome("acme", first).await));
    assert_eq!(place.service.publish("acme", &new).await.unwrap(), first);
    assert_eq!(place.posts(PlatformName::Meta), 1);
    let other = connector_platform::service::NewJob { body: "Else".to_owned(), ..new.clone() };
    let refused = place.service.publish("acme", &other).await.unwrap_err();
    assert_eq!(refused.code(), "request_key_used", "the key of one job is not another's");
    let refused = place.service.publish("globex", &new).await.unwrap_err();
    assert_eq!(refused.code(), "no_such_connection");
    worker.stop().await;
}

// covers: R5-06, R5-59
#[tokio::test(flavor = "multi_thread")]
async fn connections_are_checked_when_they_are_due_and_what_is_found_is_logged() {
    let Some(place) = Place::new().await else { return };
    let worker = place.worker();
    for name in PlatformName::ALL {
        place.connect("acme", name).await;
    }
    assert_eq!(place.service.tend().await.unwrap().checks, 5);
    let healthy = "SELECT count(*) FROM connectors.connection_health_log WHERE healthy";
    until("checked", async || place.number(healthy).await == 5).await;
    assert_eq!(place.service.tend().await.unwrap().checks, 0, "not before they are due again");
    // The user may not publish by the account any more, and the token is taken back elsewhere.
    place.sim(PlatformName::Meta).with(|sim| sim.world().accounts.clear());
    place.sim(PlatformName::Mailchimp).with(|sim| sim.world().tokens.clear());
    place.execute("UPDATE connectors.connections SET checked_at = NULL").await;
    assert_eq!(place.service.tend().await.unwrap().checks, 5);
    let ill = "SELECT count(*) FROM connectors.connection_health_log WHERE NOT healthy";
    until("found", async || place.number(ill).await == 2).await;
    let sql = "SELECT string_agg(platform || ' ' || reason, ',' ORDER BY platform)
        FROM connectors.connections_requiring_attention";
    assert_eq!(place.text(sql).await, "mailchimp token_refused,meta account_gone");
    let stood = "SELECT count(DISTINCT queue) FROM connectors.queue_jobs_monitoring";
    assert_eq!(place.number(stood).await, 4, "those of the service, and the default one");
    worker.stop().await;
}

// covers: R5-06
#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_found_behind_all_others_that_the_user_may_publish_by() {
    let Some(place) = Place::new().await else { return };
    place.execute("UPDATE connectors.connector_platforms SET calls = 100000, burst = 1000").await;
    let worker = place.worker();
    for name in PlatformName::ALL {
        place.connect("acme", name).await;
        // A token of TikTok is of one user.
        let others = match name {
            PlatformName::TikTok => 0,
            PlatformName::Mailchimp => 2_250,
            _ => 250,
        };
        let account =
            |n| Account { id: format!("other-{n}"), name: format!("Another account {n}") };
        place.sim(name).with(|sim| {
            drop(sim.world().accounts.splice(0..0, (0..others).map(account)));
        });
    }
    assert_eq!(place.service.tend().await.unwrap().checks, 5);
    let checked = "SELECT count(*) FROM connectors.connection_health_log";
    until("checked", async || place.number(checked).await == 5).await;
    let healthy = "SELECT count(*) FROM connectors.connection_health_log WHERE healthy";
    assert_eq!(place.number(healthy).await, 5);
    // The first that a page shows is still the one that is connected.
    place.connect("globex", PlatformName::Meta).await;
    let first = "SELECT account_id FROM connectors.connections WHERE tenant_id = 'globex'";
    assert_eq!(place.text(first).await, "other-0");
    worker.stop().await;
}

// covers: S9, R5-38
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_post_is_found_behind_all_that_others_have_posted_since() {
    // The first look comes late enough that the others have posted.
    let later = Policy::attempts(4).exponential(Duration::from_secs(3), 1, Duration::from_secs(3));
    let settings = Settings { policy: later, ..Settings::simulated() };
    let Some(place) = Place::with(settings, Pace::default()).await else { return };
    place.execute("UPDATE connectors.connector_platforms SET calls = 100000, burst = 1000").await;
    let worker = place.worker();
    // More than a page has, and a page of campaigns has a thousand.
    let others = |name| if name == PlatformName::Mailchimp { 1_250 } else { 250 };
    let mut jobs = Vec::new();
    for name in PlatformName::ALL {
        let connection = place.connect("acme", name).await;
        place.sim(name).faults().add(publishing(name).once());
        jobs.push(place.service.publish("acme", &job(connection)).await.unwrap());
        until("sent", async || place.posts(name) == 1).await;
        place.sim(name).with(|sim| sim.world().flood(others(name), crate::place::now()));
    }
    for (name, job) in PlatformName::ALL.into_iter().zip(jobs) {
        let outcome = place.outcome("acme", job).await;
        assert!(is_out(&outcome), "{name}: {outcome:?}");
        let posts = usize::try_from(others(name)).unwrap() + 1;
        assert_eq!(place.posts(name), posts, "{name}: it was sent once");
    }
    worker.stop().await;
}

// covers: S9, R5-56
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_video_that_is_processed_for_long_is_not_sent_again() {
    let name = PlatformName::TikTok;
    for (takes, waits) in [(4, 30), (600, 2)] {
        let pace = Pace { publishing: Duration::from_secs(takes), ..Pace::default() };
        let waits = Duration::from_secs(waits);
        let settings = Settings { unfinished_within: waits, ..Settings::simulated() };
        assert!(settings.late_window + settings.listing_lag < Duration::from_secs(takes));
        let Some(place) = Place::with(settings, pace).await else { return };
        let worker = place.worker();
        let connection = place.connect("acme", name).await;
        place.sim(name).faults().add(publishing(name).once());
        let (_, outcome) = place.publish("acme", connection).await;
        match outcome {
            Outcome::Parked(failure, _) => {
                assert_eq!(takes, 600, "{failure}");
                assert!(failure.to_string().contains("post_unseen"), "{failure}");
            }
            outcome => assert!(takes == 4 && is_out(&outcome), "{outcome:?}"),
        }
        assert_eq!(place.posts(name), 1);
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_does_not_answer_is_checked_again_when_it_is_due() {
    let Some(place) = Place::new().await else { return };
    let worker = place.worker();
    place.connect("acme", PlatformName::Meta).await;
    place.sim(PlatformName::Meta).faults().add(FaultRule::new(Fault::Status(503)));
    assert_eq!(place.service.tend().await.unwrap().checks, 1);
    let tried = "SELECT count(*) FROM connectors.connections WHERE checked_at IS NOT NULL";
    until("tried", async || place.number(tried).await == 1).await;
    let over = "SELECT count(*) FROM provision.runs_view
        WHERE saga = 'check-connection' AND status = 'RolledBack'";
    until("given up", async || place.number(over).await == 1).await;
    assert_eq!(place.service.tend().await.unwrap().checks, 0);
    worker.stop().await;
}
