//! Workers in processes of their own: stopped, frozen and killed.

use std::{fs, path::Path, process::Child, time::Duration};

use provision_store_redis::RedisStore;
use provision_testkit::fleet::{self, Site};

use crate::{
    given::{namespace, open, url},
    processes::child,
};

/// Set in children; its value is the folder they work in.
const CHILD: &str = "PROVISION_REDIS_TEST_FLEET";

struct OnServer {
    namespace: String,
}

impl OnServer {
    fn new() -> Option<Self> {
        url().map(|_url| Self { namespace: namespace() })
    }
}

impl Site for OnServer {
    type Store = RedisStore;

    async fn store(&self) -> RedisStore {
        open(url().unwrap(), &self.namespace).await
    }

    fn spawn(&self, folder: &Path) -> Child {
        fs::write(folder.join("namespace"), &self.namespace).unwrap();
        child("fleet::child_works", CHILD, folder.to_str().unwrap())
    }
}

// Only does something in a child: works until it is told to stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_works() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let folder = Path::new(&folder);
    let site = OnServer { namespace: fs::read_to_string(folder.join("namespace")).unwrap() };
    fleet::work(site.store().await, folder).await;
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

// covers: L6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_gets_sigterm_hands_over() {
    let Some(site) = OnServer::new() else { return };
    fleet::a_stopping_worker_hands_over(&site, folder().path()).await;
}

// covers: S5, S6, S11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stands_still_past_its_lease_makes_nothing_twice() {
    let Some(site) = OnServer::new() else { return };
    fleet::a_frozen_worker_makes_nothing_twice(&site, folder().path()).await;
}

// covers: L2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_runs_of_a_killed_worker_are_taken_over_in_time() {
    let Some(site) = OnServer::new() else { return };
    let times = (Duration::from_secs(2), Duration::from_millis(300));
    let (median, longest) = fleet::check_takeovers(&site, folder().path(), times).await;
    println!("taken over: p50 {median:?}, longest {longest:?}, lease and poll {times:?}");
}
