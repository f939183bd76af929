//! A machine whose clocks a test can move, and fixtures on files in their own directory.

use std::{
    future::Future,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use provision_core::id::Timestamp;
use provision_store_sqlite::{Boot, Machine, SqliteConfig, SqliteStore, ThisMachine};
use provision_testkit::{
    conformance::{Fixture, Handle},
    faulty::Faulty,
};

/// This machine, with its clocks moved on or aside.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    machine: ThisMachine,
    on_ms: AtomicU64,
    slept_ms: AtomicU64,
    wall_back_ms: AtomicU64,
    boots: AtomicU64,
    booted_ms: AtomicU64,
}

impl Moved {
    /// Lets time pass.
    pub(crate) fn pass(&self, by: Duration) {
        self.on_ms.fetch_add(u64::try_from(by.as_millis()).unwrap(), Relaxed);
    }

    /// Lets time pass while the machine sleeps.
    pub(crate) fn sleep(&self, by: Duration) {
        self.slept_ms.fetch_add(u64::try_from(by.as_millis()).unwrap(), Relaxed);
    }

    /// Sets the wall clock back, and nothing else.
    pub(crate) fn set_wall_back(&self, by: Duration) {
        self.wall_back_ms.store(u64::try_from(by.as_millis()).unwrap(), Relaxed);
    }

    /// Starts the machine anew: its clocks since the boot begin again.
    pub(crate) fn reboot(&self) {
        let elapsed = self.boot().unwrap().elapsed.as_millis();
        self.booted_ms.fetch_add(u64::try_from(elapsed).unwrap(), Relaxed);
        self.rename_boot();
    }

    /// Shows another name of the same boot, as a container of its own may do.
    pub(crate) fn rename_boot(&self) {
        self.boots.fetch_add(1, Relaxed);
    }
}

impl Machine for Moved {
    fn wall(&self) -> Timestamp {
        let passed = self.on_ms.load(Relaxed) + self.slept_ms.load(Relaxed);
        let wall = self.machine.wall().as_millis() + passed;
        Timestamp::from_millis(wall - self.wall_back_ms.load(Relaxed))
    }

    fn boot(&self) -> Option<Boot> {
        let boot = self.machine.boot()?;
        let id = format!("{}-{}", boot.id, self.boots.load(Relaxed));
        let on = Duration::from_millis(self.on_ms.load(Relaxed));
        let slept = Duration::from_millis(self.slept_ms.load(Relaxed));
        let booted = Duration::from_millis(self.booted_ms.load(Relaxed));
        let elapsed = (boot.elapsed + on + slept).saturating_sub(booted);
        Some(Boot { id, elapsed, awake: (boot.awake + on).saturating_sub(booted) })
    }
}

/// Opens a file with these clocks.
pub(crate) async fn open(path: &Path, machine: &Arc<Moved>) -> SqliteStore {
    let machine = Arc::<Moved>::clone(machine);
    SqliteConfig::new(path).with_machine(machine).open().await.unwrap()
}

/// A fresh file seen by two handles with a writer each, as if by two processes.
pub(crate) async fn fixture() -> Fixture {
    fixture_of(|store| Handle::of(Arc::new(store))).await
}

/// The same through the wrapper for faults, with none planned.
pub(crate) async fn wrapped() -> Fixture {
    fixture_of(|store| Handle::of(Arc::new(Faulty::transparent(store)))).await
}

async fn fixture_of(handle: fn(SqliteStore) -> Handle) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("provision.db");
    let machine = Arc::new(Moved::default());
    let main = open(&path, &machine).await;
    let again = open(&path, &machine).await;
    let elsewhere = main.in_namespace("elsewhere").await.unwrap();
    let handles = [main, again, elsewhere].map(handle);
    let advance = Arc::new(move |by: Duration| -> Pin<Box<dyn Future<Output = ()> + Send>> {
        machine.pass(by);
        Box::pin(tokio::task::yield_now())
    });
    Fixture::new(handles, Duration::from_secs(15), advance, directory)
}
