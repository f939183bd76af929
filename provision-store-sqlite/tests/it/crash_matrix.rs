//! The crash matrix on real files: engine and store are dropped at every point and opened anew.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use provision_store_sqlite::SqliteStore;
use provision_testkit::harness::{Harness, Place, Report, TenSteps};

use crate::given::{Moved, open};

/// Crashes are shared by so many tests, which run side by side.
const PARTS: usize = 2;

/// A namespace of a file, opened anew after each crash.
#[derive(Debug)]
pub(crate) struct OnDisk {
    path: PathBuf,
    namespace: String,
    machine: Arc<Moved>,
    /// Where the file is the place's own, and goes with it.
    _directory: Option<tempfile::TempDir>,
}

impl OnDisk {
    pub(crate) fn new(path: &Path, namespace: &str, machine: &Arc<Moved>) -> Self {
        let (path, namespace) = (path.to_owned(), namespace.to_owned());
        Self { path, namespace, machine: Arc::clone(machine), _directory: None }
    }

    /// A fresh file, so that all that a scenario has written can be searched, and nothing else.
    pub(crate) fn alone() -> Self {
        let directory = directory();
        let place = Self::new(&directory.path().join("provision.db"), "alone", &Arc::default());
        Self { _directory: Some(directory), ..place }
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

    /// X1: the file and its log as they lie there.
    fn bytes(&self) -> Vec<u8> {
        bytes(&self.path)
    }
}

/// A file and its log, as they lie there.
pub(crate) fn bytes(path: &Path) -> Vec<u8> {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    [std::fs::read(path), std::fs::read(wal)].map(Result::unwrap_or_default).concat()
}

/// A directory in memory where there is one: what is tested is the death of a process.
pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

async fn part(number: usize) -> Report {
    let places = || std::future::ready(OnDisk::alone());
    let report = Harness::new(TenSteps::default(), places).part(number, PARTS).run().await;
    println!("crash matrix on SQLite, part {number} of {PARTS}: {report}");
    report.assert_flawless();
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
