//! Workers in processes of their own: stopped, frozen and killed.

use std::{fs, path::Path, process::Child, time::Duration};

use provision_store_redis::{RedisConfig, RedisStore};
use provision_testkit::fleet::{self, Finding, Site};

use crate::{
    given::{namespace, url},
    processes::child,
};

/// Set in children; its value is the folder they work in.
const CHILD: &str = "PROVISION_REDIS_TEST_FLEET";

struct OnServer {
    namespace: String,
    hears: bool,
}

impl OnServer {
    fn new(hears: bool) -> Option<Self> {
        url().map(|_url| Self { namespace: namespace(), hears })
    }
}

impl Site for OnServer {
    type Store = RedisStore;

    async fn store(&self) -> RedisStore {
        let config = RedisConfig::new(url().unwrap()).with_namespace(&self.namespace);
        let config = if self.hears { config } else { config.with_polling_only() };
        config.open().await.unwrap()
    }

    fn spawn(&self, folder: &Path) -> Child {
        let place = format!("{}\n{}", self.namespace, self.hears);
        fs::write(folder.join("place"), place).unwrap();
        child("fleet::child_works", CHILD, folder.to_str().unwrap())
    }
}

// Only does something in a child: works until it is told to stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_works() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let folder = Path::new(&folder);
    let place = fs::read_to_string(folder.join("place")).unwrap();
    let (namespace, hears) = place.split_once('\n').unwrap();
    let site = OnServer { namespace: namespace.to_owned(), hears: hears == "true" };
    fleet::work(site.store().await, folder).await;
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
async fn woken_by_messages_a_worker_takes_over_within_lease_and_half_a_second() {
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
