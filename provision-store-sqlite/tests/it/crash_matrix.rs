//! The crash matrix on real files: engine and store are dropped at every point and opened anew.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use provision_store_sqlite::SqliteStore;
use provision_testkit::harness::{Harness, Place, Report, TenSteps};

use crate::given::{Moved, open};

/// Crashes are shared by so many tests, which run side by side.
const PARTS: usize = 2;

/// A namespace of a file: fresh for each scenario, and opened anew after each crash.
#[derive(Debug)]
pub(crate) struct OnDisk {
    path: PathBuf,
    namespace: String,
    machine: Arc<Moved>,
}

impl OnDisk {
    pub(crate) fn new(path: &Path, namespace: &str, machine: &Arc<Moved>) -> Self {
        let machine = Arc::clone(machine);
        Self { path: path.to_owned(), namespace: namespace.to_owned(), machine }
    }
}

impl Place for OnDisk {
    type Store = SqliteStore;

    async fn open(&self) -> SqliteStore {
        open(&self.path, &self.machine).await.in_namespace(self.namespace.as_str()).await.unwrap()
    }

    async fn pass(&self, by: Duration) {
        self.machine.pass(by);
    }

    /// X1: the file as it lies there. One that many scenarios share is searched while it is small.
    fn bytes(&self) -> Vec<u8> {
        let mut wal = self.path.clone().into_os_string();
        wal.push("-wal");
        let files = [std::fs::read(&self.path), std::fs::read(wal)].map(Result::unwrap_or_default);
        let all = files.concat();
        if all.len() <= SEARCHED_MAX { all } else { Vec::new() }
    }
}

/// A larger file is not searched: each scenario would search what all before it have written.
const SEARCHED_MAX: usize = 2 << 20;

/// A directory in memory where there is one: what is tested is the death of a process.
pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

async fn part(number: usize) -> Report {
    let directory = directory();
    let path = directory.path().join("provision.db");
    let (machine, places) = (Arc::new(Moved::default()), AtomicU64::new(0));
    let place = || {
        let namespace = format!("scenario-{}", places.fetch_add(1, Relaxed));
        std::future::ready(OnDisk::new(&path, &namespace, &machine))
    };
    let report = Harness::new(TenSteps::default(), place).part(number, PARTS).run().await;
    println!("crash matrix on SQLite, part {number} of {PARTS}: {report}");
    // Which records go out together is a matter of time on a machine that is busy with other work.
    report.assert_flawless_but_for(1);
    assert!(report.scenarios >= 380, "only {} scenarios", report.scenarios);
    report
}

// covers: S1, S4, S5, S7, S8, S9, S12, S13, S14, S15, L1
#[tokio::test]
async fn ten_steps_survive_every_even_crash() {
    part(0).await;
}

// covers: S1, S4, S5, S7, S8, S9, S12, S13, S14, S15, L1
#[tokio::test]
async fn ten_steps_survive_every_odd_crash() {
    part(1).await;
}
