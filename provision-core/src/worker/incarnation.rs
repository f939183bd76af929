//! One incarnation of a worker: it claims, drives, and ends by order or when it is declared dead.

use std::{
    sync::{
        Arc, Once,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
};

use super::{Control, WorkerConfig, held::Held, hints::Hints, tend};
use crate::{
    clock,
    drive::{Begun, Drive, Left, Shared, Slots, lease::LeaseView},
    engine::Engine,
    error::StoreError,
    id::RunId,
    incarnation::{Grave, LifeLock},
    local::{Handed, Local, Locals},
    silence::Silence,
    store::{Acquire, Incarnation, LeaseGrant, LeaseRequest, Leased},
};

/// Lives as one incarnation after the other until the worker is stopped.
pub(super) async fn live(engine: Engine, config: WorkerConfig, control: Arc<Control>) {
    loop {
        let shared = shared(&engine, config.lease, &control);
        let life = Life::begin(&engine, &config, &shared);
        life.run().await;
        if control.stopping.load(Ordering::Acquire) {
            return;
        }
        tracing::warn!("the worker goes on under a new name");
    }
}

/// What the runs of a new incarnation share.
pub(super) fn shared(engine: &Engine, ttl: Duration, control: &Arc<Control>) -> Arc<Shared> {
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
        limits: Arc::clone(&inner.limits),
        secrets: Arc::clone(&inner.secrets),
        resolver: Arc::clone(&inner.resolver),
        vault: inner.vault.clone(),
        entropy: Arc::clone(&inner.entropy),
        probe: Arc::clone(&inner.probe),
        plans: Arc::clone(&inner.plans),
        lease: LeaseView::new(ttl),
        slots: Slots::default(),
        control: Arc::clone(control),
        leaving: AtomicBool::new(false),
        left: Notify::new(),
        changes: Arc::clone(&inner.changes),
        offers: inner.offers.clone(),
        limiter_is_beside: inner.limiter_is_beside,
        limiter_silence: Silence::default(),
    })
}

/// A request that only renews.
pub(super) fn asking(shared: &Shared, ttl: Duration) -> LeaseRequest {
    LeaseRequest {
        worker: shared.worker,
        ttl,
        acquire: None,
        release: Vec::new(),
        strangers: Vec::new(),
        dead: Vec::new(),
        retire: false,
    }
}

/// Asks for leases; counts them from before the request was sent.
pub(super) async fn lease(
    shared: &Shared,
    request: &LeaseRequest,
) -> Result<LeaseGrant, StoreError> {
    let sent = clock::moment();
    let grant = shared.store.lease(request).await?;
    if grant.alive && !request.retire {
        shared.lease.renewed(sent, request.ttl, grant.now);
    } else {
        shared.lease.lost();
    }
    Ok(grant)
}

/// One incarnation at work.
struct Life {
    engine: Engine,
    config: WorkerConfig,
    shared: Arc<Shared>,
    drives: JoinSet<()>,
    held: Held,
    lock: Option<LifeLock>,
    /// Looks through the folder of locks, once.
    clear: Once,
    slots: Arc<Semaphore>,
    handed: mpsc::UnboundedReceiver<Handed>,
    /// Takes the incarnation off the list of those that starts hand runs to.
    _listed: Listed,
    /// Something may be due: the store is asked for leases.
    ask: bool,
    /// The last answer filled all slots: there may be more.
    backlog: bool,
    /// Where it hears of work.
    hints: Hints,
}

struct Listed {
    locals: Arc<Locals>,
    worker: Incarnation,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.locals.remove(self.worker);
    }
}

impl Life {
    fn begin(engine: &Engine, config: &WorkerConfig, shared: &Arc<Shared>) -> Self {
        let lock = config.lock_dir.as_deref().and_then(|dir| {
            LifeLock::take(dir, shared.worker)
                .inspect_err(|error| tracing::warn!(%error, "no file lock for quick take-over"))
                .ok()
        });
        let slots = Arc::new(Semaphore::new(config.slots));
        let (hand, handed) = mpsc::unbounded_channel();
        let locals = Arc::clone(&engine.inner.locals);
        locals.add(Arc::new(Local {
            shared: Arc::clone(shared),
            ttl: config.lease,
            queues: config.queues.clone(),
            slots: Arc::clone(&slots),
            hand,
        }));
        Self {
            engine: engine.clone(),
            config: config.clone(),
            shared: Arc::clone(shared),
            drives: JoinSet::new(),
            held: Held::default(),
            lock,
            clear: Once::new(),
            slots,
            handed,
            _listed: Listed { locals, worker: shared.worker },
            ask: true,
            backlog: false,
            hints: Hints::new(engine, config),
        }
    }

    async fn run(mut self) {
        let mut helpers = JoinSet::new();
        let (ttl, held) = (self.config.lease, self.held.clone());
        helpers.spawn(tend::heartbeat(Arc::clone(&self.shared), ttl, held));
        helpers.spawn(tend::keep_slots(Arc::clone(&self.shared), ttl));
        if !self.engine.inner.schedules.is_empty() {
            helpers.spawn(tend::fire(self.engine.clone()));
        }
        helpers.spawn(tend::maintain(self.engine.clone(), self.config.maintain_every));
        if let Some(retention) = self.engine.inner.retention.clone() {
            let first = self.config.maintain_every;
            helpers.spawn(tend::retire(self.engine.clone(), retention, first));
        }
        let mut dead = Vec::new();
        while !self.shared.is_stopping() {
            if std::mem::take(&mut self.ask) {
                dead = self.ask_for_runs(std::mem::take(&mut dead)).await;
            } else {
                self.rest().await;
            }
            self.reap();
        }
        self.let_go().await;
    }

    /// Claims what is due; answers which peers' file locks prove them dead.
    async fn ask_for_runs(&mut self, dead: Vec<Grave>) -> Vec<Grave> {
        let free = self.slots.available_permits();
        let wanted = self.hints.wanted();
        match self.claim(free, wanted.clone(), dead).await {
            Ok(grant) => {
                let full = free == 0 || grant.leased.len() == free;
                if wanted.is_none() {
                    self.backlog = full;
                }
                let again = self.hints.answered(wanted, &grant, full);
                let dead = self.take(grant);
                let more = self.hints.scans() && self.backlog && free > 0;
                self.ask = again || more || !dead.is_empty();
                dead
            }
            Err(error) => {
                tracing::warn!(%error, "runs could not be claimed");
                clock::sleep(self.config.poll).await;
                self.ask = true;
                Vec::new()
            }
        }
    }

    /// Lets every drive come to its end, and retires.
    async fn let_go(&mut self) {
        // What was handed over while the worker began to stop is driven, and lets go at once.
        self.handed.close();
        while let Some(handed) = self.handed.recv().await {
            self.take_over(handed);
        }
        while self.drives.join_next().await.is_some() {}
        let retire = LeaseRequest { retire: true, ..asking(&self.shared, self.config.lease) };
        if let Err(error) = lease(&self.shared, &retire).await {
            tracing::warn!(%error, "the worker could not retire; its leases run out");
        }
    }

    async fn claim(
        &mut self,
        free: usize,
        runs: Option<Vec<RunId>>,
        graves: Vec<Grave>,
    ) -> Result<LeaseGrant, StoreError> {
        let acquire = (free > 0).then(|| Acquire {
            limit: free,
            runs,
            queues: self.config.queues.clone(),
            code: self.shared.plans.refs(),
            caps: self.engine.inner.caps.clone(),
        });
        let dead = graves.iter().map(|grave| grave.worker).collect();
        let request = LeaseRequest { acquire, dead, ..asking(&self.shared, self.config.lease) };
        let before = self.held.leases();
        let grant = lease(&self.shared, &request).await?;
        self.held.tell_lost(&before, &grant);
        for grave in graves.into_iter().filter(|_| grant.alive) {
            if !grant.peers.contains(&grave.worker) {
                grave.close();
            }
        }
        Ok(grant)
    }

    /// Starts driving what was granted; answers which peers' file locks prove them dead.
    fn take(&mut self, grant: LeaseGrant) -> Vec<Grave> {
        if !grant.alive {
            tracing::warn!("this incarnation was declared dead; its calls are cut");
            self.shared.leave();
        }
        for leased in grant.leased {
            // A start may have taken the slot meanwhile: one more run than slots is no harm.
            let permit = Arc::clone(&self.slots).try_acquire_owned().ok();
            self.drive(leased, None, permit);
        }
        let Some(lock) = &self.lock else { return Vec::new() };
        if grant.alive {
            self.clear.call_once(|| lock.clear(&grant.peers));
        }
        grant.peers.into_iter().filter_map(|peer| lock.proves_dead(peer)).collect()
    }

    fn take_over(&mut self, handed: Handed) {
        self.drive(handed.leased, handed.begun, Some(handed.permit));
    }

    fn drive(
        &mut self,
        leased: Leased,
        begun: Option<Box<Begun>>,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        let run = leased.record.head.id;
        let Some(driving) = self.held.add((run, leased.fence.epoch)) else { return };
        let shared = Arc::clone(&self.shared);
        self.drives.spawn(async move {
            if Drive::run(shared, leased, begun, driving.lost()).await == Left::Lost {
                tracing::warn!(%run, "the lease was lost");
            }
            drop((driving, permit));
        });
    }

    fn reap(&mut self) {
        while self.drives.try_join_next().is_some() {
            self.ask |= self.more();
        }
    }

    /// Whether a slot that came free is a reason to ask: more was due than there were slots, or a
    /// queue was at its cap.
    fn more(&self) -> bool {
        (self.backlog && self.hints.scans()) || self.hints.found_full()
    }

    /// Waits for something to do: a proposal, a run handed over, a free slot, a stop.
    async fn rest(&mut self) {
        let free = self.slots.available_permits();
        let changes = Arc::clone(&self.engine.inner.changes);
        let shared = Arc::clone(&self.shared);
        let stop = shared.control.stop.notified();
        let left = shared.left.notified();
        if shared.is_stopping() {
            return;
        }
        tokio::select! {
            biased;
            () = stop => {}
            () = left => {}
            Some(handed) = self.handed.recv() => self.take_over(handed),
            Some(_) = self.drives.join_next(), if !self.drives.is_empty() => {
                self.ask |= self.more();
            }
            () = changes.work.notified() => self.ask = true,
            ask = self.hints.next(free) => self.ask |= ask,
        }
    }
}
