//! Workers are killed while twenty jobs run: each is published once, and everything agrees.

use std::time::Duration;

use connector_platform::platform::PlatformName;
use provision_core::By;

use crate::place::{Place, job, until};

const JOBS: usize = 20;
const KILLS: u64 = 8;
const WORKS: [&str; 5] = ["workers", "--lease-ms", "1000", "--tend-ms", "500"];

// covers: S1, S8, S9, L2, R5-04, R5-54, R5-56
#[tokio::test(flavor = "multi_thread")]
async fn twenty_jobs_are_published_once_each_however_often_workers_are_killed() {
    let Some(place) = Place::new().await else { return };
    place.execute("UPDATE connectors.connector_platforms SET calls = 100000, burst = 1000").await;
    let worker = place.worker();
    let mut connections = Vec::new();
    for name in PlatformName::ALL {
        connections.push(place.connect("acme", name).await);
        // The first to use them has to refresh them, and may be killed while it does.
        if name != PlatformName::Mailchimp {
            place.age(name).await;
        }
    }
    worker.stop().await;
    let mut jobs = Vec::new();
    for n in 0..JOBS {
        let new = job(connections[n % connections.len()]);
        jobs.push(place.service.publish("acme", &new).await.unwrap());
    }
    for kill in 0..KILLS {
        let child = place.spawn(&WORKS);
        tokio::time::sleep(Duration::from_millis(40 + kill * 173 % 700)).await;
        drop(child);
    }
    let child = place.spawn(&WORKS);
    // Who is killed three times in a row over the same run leaves it to a person: here, to us.
    let engine = place.service.engine();
    let through = "SELECT count(*) FROM connectors.publish_jobs WHERE state = 'published'";
    until("all are through", async || {
        for run in engine.dead_letters().await.unwrap().runs {
            let by = By::new("test", "killed too often");
            engine.retry(&run.id, by).await.unwrap();
        }
        place.number(through).await == 20
    })
    .await;
    drop(child);
    for name in PlatformName::ALL {
        assert_eq!(place.posts(name), JOBS / 5, "{name}: each was published once");
    }
    let known = "SELECT count(DISTINCT (connection_id, post_id)) FROM connectors.publish_jobs";
    assert_eq!(place.number(known).await, 20, "each job knows its own post");
    let ends = "SELECT count(*) FROM provision.runs_view
        WHERE saga = 'publish-post' AND status IN ('Succeeded', 'PartlySucceeded')";
    assert_eq!(place.number(ends).await, 20, "runs and rows agree");
    let well = "SELECT count(*) FROM connectors.connections WHERE state = 'connected'";
    assert_eq!(place.number(well).await, 5, "no refresh was lost");
}
