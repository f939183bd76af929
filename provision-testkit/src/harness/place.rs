//! Where a store is kept while engines come and go.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use provision_core::{
    MemoryStore,
    clock::{self, Clock as _, SystemClock},
    engine::Backend,
};

/// A fresh store's place: it survives every crash of what opened it.
pub trait Place: Send + Sync + 'static {
    /// The store that is opened here.
    type Store: Backend + Clone;

    /// Opens the store, as a process that starts does.
    fn open(&self) -> impl Future<Output = Self::Store> + Send;

    /// Lets the store's clock pass by at least so much.
    fn pass(&self, by: Duration) -> impl Future<Output = ()> + Send;

    /// Everything that is stored, as bytes, to be searched for secrets. Default: what the store
    /// answers is all that is searched.
    fn bytes(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// A store in memory, on a runtime whose time is paused.
#[derive(Debug, Clone, Default)]
pub struct InMemory {
    store: MemoryStore,
}

impl InMemory {
    /// A fresh store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Place for InMemory {
    type Store = MemoryStore;

    async fn open(&self) -> MemoryStore {
        self.store.clone()
    }

    async fn pass(&self, by: Duration) {
        clock::sleep(by).await;
    }
}

/// A store in memory whose clock leaps over what a scenario waits for: for steps that talk to
/// servers, on a runtime whose time passes.
#[derive(Debug, Clone)]
pub struct Leaping {
    store: MemoryStore,
    ahead_ms: Arc<AtomicU64>,
    rest: Duration,
}

impl Leaping {
    /// A fresh store.
    #[must_use]
    pub fn new() -> Self {
        let ahead_ms = Arc::new(AtomicU64::new(0));
        let leapt = Arc::clone(&ahead_ms);
        let now = move || SystemClock.wall().plus(Duration::from_millis(leapt.load(Relaxed)));
        Self { store: MemoryStore::with_clock(Arc::new(now)), ahead_ms, rest: Duration::ZERO }
    }

    /// Takes so long for every leap: servers that do something by themselves come to it meanwhile.
    #[must_use]
    pub fn with_rest(mut self, rest: Duration) -> Self {
        self.rest = rest;
        self
    }
}

impl Default for Leaping {
    fn default() -> Self {
        Self::new()
    }
}

impl Place for Leaping {
    type Store = MemoryStore;

    async fn open(&self) -> MemoryStore {
        self.store.clone()
    }

    async fn pass(&self, by: Duration) {
        self.ahead_ms.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Relaxed);
        if !self.rest.is_zero() {
            clock::sleep(self.rest).await;
        }
    }
}
