//! Publishing at every point at which something can go wrong: each step refused, each answer lost,
//! everything twice, a crash before and after each write and each call; and what the platform shows
//! compared with ledger and journal each time.

use std::{
    sync::{Arc, Mutex},
    thread,
};

use connector_platform::{
    database::Database,
    flags::{ADVANCED_ANALYTICS, Flag, Frozen},
    platform::{NewPost, PlatformName},
    saga::publish::{Job, Published, publishing},
    shared::{Settings, Shared, Who},
    vault::TokenKeeper,
};
use provision_core::{Owned, RunStatus, Saga, vault::DevKeys};
use provision_testkit::harness::{Harness, Leaping, Outside, Report, Subject};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::place::{Place, platforms};

const TENANT: &str = "acme";
/// Its posts are listed as soon as they are taken.
const PLATFORM: PlatformName = PlatformName::Meta;
/// Tests that share the crashes.
const SIDE_BY_SIDE: usize = 2;

/// What the platform shows of one job.
#[derive(Debug, Clone)]
struct Feed {
    place: Arc<Place>,
    job: Uuid,
}

impl Outside for Feed {
    fn resources(&self) -> Vec<Owned> {
        let reference = self.job.simple().to_string();
        let posts = self.place.sim(PLATFORM).with(|sim| sim.world().posts_of(&reference));
        posts.into_iter().map(Owned::new).collect()
    }
}

struct Publishing {
    place: Arc<Place>,
    shared: Arc<Shared>,
    connection: Uuid,
    /// The job of the world that was made last.
    job: Mutex<Uuid>,
}

impl Subject for Publishing {
    type Input = Job;
    type Output = Published;
    type World = Feed;

    fn world(&self) -> Feed {
        let job = Uuid::new_v4();
        *self.job.lock().unwrap() = job;
        let (url, connection) = (self.place.url.clone(), self.connection);
        // On a thread of its own: who asks for a world is inside a runtime already.
        let written = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let mut conn = PgConnection::connect(&url).await.unwrap();
                let insert = "INSERT INTO connectors.publish_jobs
                    (id, tenant_id, connection_id, request_key, body, link, flags, run_id)
                    VALUES ($1, $2, $3, $1::text, 'News', 'https://acme.example/', '{}', $1)";
                let insert = sqlx::query(insert).bind(job).bind(TENANT).bind(connection);
                insert.execute(&mut conn).await.unwrap();
            });
        });
        written.join().unwrap();
        Feed { place: Arc::clone(&self.place), job }
    }

    fn saga(&self, _: &Feed) -> Saga<Job, Published> {
        publishing(&self.shared).unwrap()
    }

    fn input(&self) -> Job {
        let id = *self.job.lock().unwrap();
        let post = NewPost {
            body: "News".to_owned(),
            link: "https://acme.example/".to_owned(),
            reference: id.simple().to_string(),
        };
        let who =
            Who { tenant: TENANT.to_owned(), connection: self.connection, platform: PLATFORM };
        let on = Flag {
            name: ADVANCED_ANALYTICS.to_owned(),
            enabled: true,
            rollout: 100,
            tenants: Vec::new(),
        };
        Job { id, who, post, flags: Frozen::judge(&[on], TENANT) }
    }
}

async fn played(part: usize) -> Option<Report> {
    let place = Arc::new(Place::new().await?);
    let worker = place.worker();
    let connection = place.connect(TENANT, PLATFORM).await;
    worker.stop().await;
    let db = Database::new(&place.url).unwrap();
    let keys = Arc::new(DevKeys::for_environment("dev").unwrap());
    let tokens = TokenKeeper::new(db.pool(), keys).acting_for("worker");
    let shared = Shared::new(db, tokens, platforms(&place.sims), Settings::simulated());
    let job = Mutex::default();
    let subject =
        Publishing { place: Arc::clone(&place), shared: Arc::clone(&shared), connection, job };
    let places = || std::future::ready(Leaping::new());
    let harness = Harness::new(subject, places).calls_in_turn();
    let report = harness.part(part, SIDE_BY_SIDE).run().await;
    println!("connector-platform, part {part} of {SIDE_BY_SIDE}: {report}");
    shared.db.pool().close().await;
    report.assert_flawless();
    assert!(report.ended(RunStatus::RolledBack) > 0 && report.ended(RunStatus::TornDown) > 0);
    assert!(report.ended(RunStatus::PartlySucceeded) > 0, "figures alone were refused");
    Some(report)
}

// covers: S4, S8, S9, S14, S15
#[tokio::test]
async fn a_post_survives_even_crashes() {
    let Some(report) = played(0).await else { return };
    assert!(report.scenarios > 40, "{report}");
}

// covers: S4, S8, S9, S14, S15
#[tokio::test]
async fn a_post_survives_odd_crashes() {
    let Some(report) = played(1).await else { return };
    assert!(report.scenarios > 40, "{report}");
}
