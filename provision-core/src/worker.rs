//! Workers: lease, renew, drive, release; drain on shutdown.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::{JoinHandle, JoinSet},
};

use crate::{
    clock,
    drive::{Drive, Left, Shared, commit::Committer, lease::LeaseView},
    engine::Engine,
    error::{Error, StoreError},
    id::RunId,
    incarnation::LifeLock,
    queue::Claim,
    store::{Acquire, Incarnation, LeaseGrant, LeaseRequest, Leased},
};

/// Options of a worker.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    slots: usize,
    queues: Vec<String>,
    lease: Duration,
    poll: Duration,
    grace: Duration,
    lock_dir: Option<PathBuf>,
    maintain_every: Duration,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            slots: 256,
            queues: Vec::new(),
            lease: Duration::from_secs(15),
            poll: Duration::from_secs(1),
            grace: Duration::from_secs(25),
            lock_dir: None,
            maintain_every: Duration::from_secs(60),
        }
    }
}

impl WorkerConfig {
    /// Runs under way at the same time; default 256. A waiting run takes no slot.
    #[must_use]
    pub fn with_slots(mut self, slots: usize) -> Self {
        self.slots = slots.max(1);
        self
    }

    /// Named queues to serve; default all.
    #[must_use]
    pub fn with_queues(mut self, queues: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.queues = queues.into_iter().map(Into::into).collect();
        self
    }

    /// How long a lease lasts without renewal; default 15 s, at least 300 ms. Renewed every third.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(Duration::from_millis(300));
        self
    }

    /// How often the store is scanned when nothing wakes the worker; default 1 s.
    #[must_use]
    pub fn with_poll(mut self, poll: Duration) -> Self {
        self.poll = poll.max(Duration::from_millis(1));
        self
    }

    /// How long a stop waits for open calls before it cuts them; default 25 s.
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Holds an OS file lock in this folder while alive, so that another worker on this machine
    /// can take over at once when this one is killed. Default: none.
    #[must_use]
    pub fn with_lock_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.lock_dir = Some(dir.into());
        self
    }

    /// How often the worker looks after the ledger's watch; default 60 s.
    #[must_use]
    pub fn with_maintenance(mut self, every: Duration) -> Self {
        self.maintain_every = every;
        self
    }
}

/// Drives runs until it is stopped. Dropping it without [`Worker::stop`] is like a crash: its
/// tasks end at once, and its leases run out.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    grace: Duration,
    main: JoinHandle<()>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.main.abort();
    }
}

type Held = Arc<Mutex<HashMap<RunId, Arc<Notify>>>>;

struct Loop {
    engine: Engine,
    config: WorkerConfig,
    shared: Arc<Shared>,
    drives: JoinSet<RunId>,
    held: Held,
    lock: Option<LifeLock>,
}

impl Worker {
    pub(crate) fn spawn(engine: &Engine, config: WorkerConfig) -> Self {
        let shared = shared(engine, config.lease);
        let grace = config.grace;
        let lock = config.lock_dir.as_deref().and_then(|dir| {
            LifeLock::take(dir, shared.worker)
                .inspect_err(|error| tracing::warn!(%error, "no file lock for quick take-over"))
                .ok()
        });
        let main = Loop {
            engine: engine.clone(),
            config,
            shared: Arc::clone(&shared),
            drives: JoinSet::new(),
            held: Held::default(),
            lock,
        };
        let main = spawn(main.run());
        Self { shared, grace, main }
    }

    /// The incarnation of this worker.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.shared.worker
    }

    /// Stops gracefully: claims nothing more, releases runs without an open call at once, awaits
    /// open calls up to the grace time, then cuts and records them, and retires.
    pub async fn stop(mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.stop.notify_waiters();
        self.shared.changes.work.notify_waiters();
        if clock::within(self.grace, &mut self.main).await.is_some() {
            return;
        }
        self.shared.cutting.store(true, Ordering::Release);
        self.shared.stop.notify_waiters();
        // Only writes are left to wait for.
        let _ = clock::within(self.grace.max(Duration::from_secs(5)), &mut self.main).await;
    }

    /// Ends at once, like a crash: nothing is released, nothing recorded.
    pub fn kill(self) {
        self.main.abort();
    }
}

#[allow(clippy::disallowed_methods, reason = "the handle is kept, aborted on drop and awaited")]
fn spawn(future: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(future)
}

/// What the runs of a new incarnation share.
fn shared(engine: &Engine, ttl: Duration) -> Arc<Shared> {
    let inner = &engine.inner;
    let worker = crate::draw::uuid_v4(&*inner.entropy).unwrap_or_else(|error| {
        tracing::error!(%error, "no randomness: an incarnation is named by the time");
        uuid::Uuid::now_v7()
    });
    Arc::new(Shared {
        worker: Incarnation(worker),
        namespace: Arc::clone(&inner.namespace),
        store: Arc::clone(&inner.store),
        limiter: Arc::clone(&inner.limiter),
        secrets: Arc::clone(&inner.secrets),
        resolver: Arc::clone(&inner.resolver),
        vault: inner.vault.clone(),
        entropy: Arc::clone(&inner.entropy),
        probe: Arc::clone(&inner.probe),
        plans: Arc::clone(&inner.plans),
        committer: Committer::new(Arc::clone(&inner.store)),
        lease: LeaseView::new(ttl),
        stopping: AtomicBool::new(false),
        stop: Notify::new(),
        cutting: AtomicBool::new(false),
        changes: Arc::clone(&inner.changes),
    })
}

/// Asks for leases; counts them from before the request was sent.
async fn lease(
    shared: &Shared,
    ttl: Duration,
    acquire: Option<Acquire>,
    dead: Vec<Incarnation>,
    retire: bool,
) -> Result<LeaseGrant, StoreError> {
    let request =
        LeaseRequest { worker: shared.worker, ttl, acquire, release: Vec::new(), dead, retire };
    let sent = clock::moment();
    let grant = shared.store.lease(&request).await?;
    if grant.alive && !retire {
        shared.lease.renewed(sent, ttl, grant.now);
    } else {
        shared.lease.lost();
    }
    Ok(grant)
}

/// Leases one due run and drives it until it lets go.
pub(crate) async fn run_one(engine: &Engine) -> Result<Option<RunId>, Error> {
    let ttl = WorkerConfig::default().lease;
    let shared = shared(engine, ttl);
    let acquire = Acquire { limit: 1, runs: None, queues: Vec::new(), code: shared.plans.refs() };
    let grant = lease(&shared, ttl, Some(acquire), Vec::new(), false).await?;
    let Some(leased) = grant.leased.into_iter().next() else {
        lease(&shared, ttl, None, Vec::new(), true).await?;
        return Ok(None);
    };
    let run = leased.record.head.id;
    let drive = Drive::run(Arc::clone(&shared), leased, Arc::new(Notify::new()));
    let mut tasks = JoinSet::new();
    tasks.spawn(heartbeat(Arc::clone(&shared), ttl, Held::default()));
    drive.await;
    lease(&shared, ttl, None, Vec::new(), true).await?;
    Ok(Some(run))
}

/// Renews the lease every third of its length, and tells drives whose run is no longer ours.
async fn heartbeat(shared: Arc<Shared>, ttl: Duration, held: Held) {
    loop {
        clock::sleep(ttl / 3).await;
        match lease(&shared, ttl, None, Vec::new(), false).await {
            Ok(grant) => tell_lost(&grant, &held),
            // S6: calls are cut by their own deadline, which was not moved.
            Err(error) => tracing::warn!(%error, "the lease could not be renewed"),
        }
    }
}

fn tell_lost(grant: &LeaseGrant, held: &Held) {
    let held = held.lock().unwrap_or_else(PoisonError::into_inner);
    for (run, lost) in held.iter() {
        if !grant.alive || !grant.held.iter().any(|(kept, _)| kept == run) {
            // A permit is stored, so a drive that is not waiting right now still hears of it.
            lost.notify_one();
        }
    }
}

impl Loop {
    async fn run(mut self) {
        let mut helpers = JoinSet::new();
        let (ttl, held) = (self.config.lease, Arc::clone(&self.held));
        helpers.spawn(heartbeat(Arc::clone(&self.shared), ttl, held));
        if !self.engine.inner.schedules.is_empty() {
            helpers.spawn(fire(self.engine.clone()));
        }
        helpers.spawn(maintain(self.engine.clone(), self.config.maintain_every));
        let mut dead = Vec::new();
        loop {
            while let Some(ended) = self.drives.try_join_next() {
                self.forget(ended.ok());
            }
            if self.shared.is_stopping() {
                break;
            }
            let free = self.config.slots.saturating_sub(self.drives.len());
            let granted = self.claim(free, std::mem::take(&mut dead), None).await;
            match granted {
                Ok(grant) => {
                    let got = grant.leased.len();
                    dead = self.take(grant);
                    if (got == 0 || got == free) && dead.is_empty() {
                        self.rest(free).await;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "runs could not be claimed");
                    clock::sleep(self.config.poll).await;
                }
            }
        }
        while let Some(ended) = self.drives.join_next().await {
            self.forget(ended.ok());
        }
        if let Err(error) = lease(&self.shared, ttl, None, Vec::new(), true).await {
            tracing::warn!(%error, "the worker could not retire; its leases run out");
        }
    }

    async fn claim(
        &self,
        free: usize,
        dead: Vec<Incarnation>,
        runs: Option<Vec<RunId>>,
    ) -> Result<LeaseGrant, StoreError> {
        let acquire = (free > 0).then(|| Acquire {
            limit: free,
            runs,
            queues: self.config.queues.clone(),
            code: self.shared.plans.refs(),
        });
        lease(&self.shared, self.config.lease, acquire, dead, false).await
    }

    /// Starts driving what was granted; answers which peers' file locks prove them dead.
    fn take(&mut self, grant: LeaseGrant) -> Vec<Incarnation> {
        tell_lost(&grant, &self.held);
        if !grant.alive {
            tracing::warn!("this incarnation was declared dead; its calls are cut");
        }
        for leased in grant.leased {
            self.drive(leased);
        }
        let Some(lock) = &self.lock else { return Vec::new() };
        grant.peers.into_iter().filter(|peer| lock.proves_dead(*peer)).collect()
    }

    fn drive(&mut self, leased: Leased) {
        let run = leased.record.head.id;
        let lost = Arc::new(Notify::new());
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(run, Arc::clone(&lost));
        let shared = Arc::clone(&self.shared);
        self.drives.spawn(async move {
            if Drive::run(shared, leased, lost).await == Left::Lost {
                tracing::warn!(%run, "the lease was lost");
            }
            run
        });
    }

    fn forget(&self, run: Option<RunId>) {
        if let Some(run) = run {
            self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
        }
    }

    /// Waits for something to do: a proposal, a free slot, a stop.
    async fn rest(&mut self, free: usize) {
        let claim =
            Claim { limit: free, queues: self.config.queues.clone(), wait: self.config.poll };
        let changes = Arc::clone(&self.engine.inner.changes);
        let queue = Arc::clone(&self.engine.inner.queue);
        let ended = tokio::select! {
            biased;
            () = self.shared.stop.notified() => None,
            Some(ended) = self.drives.join_next(), if !self.drives.is_empty() => ended.ok(),
            _ = queue.claim(&claim), if free > 0 => None,
            () = changes.work.notified(), if free > 0 => None,
        };
        self.forget(ended);
    }
}

/// Starts scheduled runs as their time comes. A worker that begins looks back as far as each
/// schedule's misfire rule says; the start key keeps a firing from starting twice.
async fn fire(engine: Engine) {
    let mut since = None;
    loop {
        let now = engine.inner.store.now().await;
        match (engine.fire_schedules(since).await, &now) {
            (Ok(_), Ok(now)) => since = Some(*now),
            (Err(error), _) => tracing::warn!(%error, "scheduled runs could not be started"),
            (Ok(_), Err(error)) => tracing::warn!(%error, "the store's clock could not be read"),
        }
        let now = since.unwrap_or_default();
        let wait = engine.next_firing(now).map_or(FIRE_EVERY, |next| next.since(now));
        clock::sleep(wait.clamp(Duration::from_millis(10), FIRE_EVERY)).await;
    }
}

/// How often schedules are looked at, at the latest.
const FIRE_EVERY: Duration = Duration::from_secs(30);

/// S15: any worker's maintenance looks after the watch.
async fn maintain(engine: Engine, every: Duration) {
    loop {
        clock::sleep(every).await;
        if let Err(error) = engine.watch_ledger(20).await {
            tracing::debug!(%error, "the watch could not look");
        }
    }
}
