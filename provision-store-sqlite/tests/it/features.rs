//! The small sagas on real files, in the test's own time: what waits, waits no longer than it does in
//! memory.

use std::{path::PathBuf, sync::Arc, time::Duration};

use provision_core::{clock::sleep, id::Timestamp};
use provision_store_sqlite::{Boot, Machine, SqliteConfig, SqliteStore};
use provision_testkit::{
    faulty::{Faults, Faulty, time_held},
    features::Trial,
    features_suite,
    harness::Place,
    skips::is_long,
};
use tokio::{runtime::Handle, time::Instant};

use crate::crash_matrix::directory;

/// Of so many points one is played, the first being number [`SEED`] of them.
const PARTS: usize = 48;
const SEED: usize = 29;

/// A machine whose clocks are that of a runtime, paused or not.
#[derive(Debug)]
struct OwnTime {
    runtime: Handle,
    began: Instant,
}

impl OwnTime {
    fn new() -> Self {
        Self { runtime: Handle::current(), began: Instant::now() }
    }

    fn passed(&self) -> Duration {
        // The store asks on threads of its own, too.
        let _inside = self.runtime.enter();
        self.began.elapsed()
    }
}

impl Machine for OwnTime {
    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000).plus(self.passed())
    }

    fn boot(&self) -> Option<Boot> {
        let passed = self.passed();
        Some(Boot { id: "the test".to_owned(), elapsed: passed, awake: passed })
    }
}

/// A file of its own, opened anew after each crash.
struct InOwnTime {
    path: PathBuf,
    machine: Arc<OwnTime>,
    _directory: tempfile::TempDir,
}

impl InOwnTime {
    fn new() -> Self {
        let directory = directory();
        let (path, machine) = (directory.path().join("provision.db"), Arc::new(OwnTime::new()));
        Self { path, machine, _directory: directory }
    }
}

impl Place for InOwnTime {
    type Store = Faulty<SqliteStore>;

    async fn open(&self) -> Self::Store {
        let machine = Arc::<OwnTime>::clone(&self.machine);
        let opening = SqliteConfig::new(&self.path).with_machine(machine).open();
        Faulty::new(time_held(opening).await.unwrap(), &Faults::none()).holding_time()
    }

    async fn pass(&self, by: Duration) {
        sleep(by).await;
    }

    /// X1: the file and its log as they lie there.
    fn bytes(&self) -> Vec<u8> {
        crate::crash_matrix::bytes(&self.path)
    }
}

/// A part of each saga's crashes; all of them where there is time.
fn trial() -> Trial<InOwnTime> {
    let trial = Trial::new(|| async { InOwnTime::new() });
    let all = is_long();
    if all { trial } else { trial.part(SEED, PARTS) }
}

features_suite!(
    #[tokio::test(start_paused = true)]
    on_files,
    trial()
);
