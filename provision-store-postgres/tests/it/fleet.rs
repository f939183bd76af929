//! Workers in processes of their own: stopped, frozen and killed.

use std::{fs, path::Path, process::Child, sync::Arc, time::Duration};

use provision_store_postgres::PostgresStore;
use provision_testkit::fleet::{self, Finding, Site};

use crate::{given::Schema, kill::child};

/// Set in children; its value is the folder they work in.
pub(crate) const CHILD: &str = "PROVISION_POSTGRES_TEST_FLEET";

struct OnServer {
    schema: Arc<Schema>,
    notify: bool,
}

impl OnServer {
    fn new(notify: bool) -> Option<Self> {
        Some(Self { schema: Arc::new(Schema::new()?), notify })
    }
}

impl Site for OnServer {
    type Store = PostgresStore;

    async fn store(&self) -> PostgresStore {
        self.schema.config().with_notify(self.notify).open().await.unwrap()
    }

    fn spawn(&self, folder: &Path) -> Child {
        let place = format!("{}\n{}", self.schema.name, self.notify);
        fs::write(folder.join("place"), place).unwrap();
        child("fleet::child_works", CHILD, folder)
    }
}

// Only does something in a child: works until it is told to stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_works() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let folder = Path::new(&folder);
    let place = fs::read_to_string(folder.join("place")).unwrap();
    let (name, notify) = place.split_once('\n').unwrap();
    let schema = Schema::of_parent(name.to_owned()).unwrap();
    let config = schema.config().with_notify(notify == "true");
    // A host waits for a server that is away.
    let mut opened = config.clone().open().await;
    while opened.as_ref().is_err_and(|error| error.is_transient()) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        opened = config.clone().open().await;
    }
    fleet::work(opened.unwrap(), folder).await;
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

// covers: L6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_gets_sigterm_hands_over() {
    let Some(site) = OnServer::new(true) else { return };
    let stopped = fleet::a_stopping_worker_hands_over(&site, folder().path()).await;
    println!("after SIGTERM: {stopped:?}");
}

// covers: S5, S6, S11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stands_still_past_its_lease_makes_nothing_twice() {
    let Some(site) = OnServer::new(true) else { return };
    fleet::a_frozen_worker_makes_nothing_twice(&site, folder().path()).await;
}

// covers: L2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn woken_by_notifications_a_worker_takes_over_within_lease_and_half_a_second() {
    let Some(site) = OnServer::new(true) else { return };
    let times = (Duration::from_secs(2), Finding::WakeUp);
    let taken = fleet::check_takeovers(&site, folder().path(), times).await;
    println!("{taken}");
}

// covers: L2, L7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_polling_alone_a_worker_takes_over_within_lease_poll_and_half_a_second() {
    let Some(site) = OnServer::new(false) else { return };
    let times = (Duration::from_secs(2), Finding::Polling(Duration::from_millis(300)));
    let taken = fleet::check_takeovers(&site, folder().path(), times).await;
    println!("{taken}");
}
