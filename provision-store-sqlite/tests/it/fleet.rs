//! Workers in processes of their own: stopped, frozen and killed.

use std::{
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use provision_store_sqlite::SqliteStore;
use provision_testkit::fleet::{self, Finding, Site};

use crate::processes::child;

/// Set in children; its value is the folder they work in.
const CHILD: &str = "PROVISION_SQLITE_TEST_FLEET";

struct InFile(PathBuf);

impl InFile {
    fn of(folder: &Path) -> Self {
        Self(folder.join("runs.db"))
    }
}

impl Site for InFile {
    type Store = SqliteStore;

    async fn store(&self) -> SqliteStore {
        SqliteStore::open(&self.0).await.unwrap()
    }

    fn spawn(&self, folder: &Path) -> Child {
        child("fleet::child_works", CHILD, folder)
    }
}

// Only does something in a child: works until it is told to stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_works() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let folder = Path::new(&folder);
    fleet::work(InFile::of(folder).store().await, folder).await;
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

// covers: L6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_gets_sigterm_hands_over() {
    let folder = folder();
    let stopped =
        fleet::a_stopping_worker_hands_over(&InFile::of(folder.path()), folder.path()).await;
    println!("after SIGTERM: {stopped:?}");
}

// covers: S5, S6, S11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stands_still_past_its_lease_makes_nothing_twice() {
    let folder = folder();
    fleet::a_frozen_worker_makes_nothing_twice(&InFile::of(folder.path()), folder.path()).await;
}

// Another process's commits are seen by looking at the file every few milliseconds.
// covers: L2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_runs_of_a_killed_worker_are_taken_over_within_lease_and_half_a_second() {
    let folder = folder();
    let times = (Duration::from_secs(2), Finding::WakeUp);
    let taken = fleet::check_takeovers(&InFile::of(folder.path()), folder.path(), times).await;
    println!("{taken}");
}
