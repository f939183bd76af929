//! Runs that a host drives one at a time: the calls of one engine live as one incarnation, so that
//! a host's loop leaves no trail of dead ones in the store.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::JoinSet;

use super::{
    Control, WorkerConfig,
    held::Held,
    incarnation::{asking, lease, shared},
    tend,
};
use crate::{
    caps::Caps,
    clock,
    drive::{Drive, Shared},
    engine::Engine,
    error::{Error, StoreError},
    id::RunId,
    store::{Acquire, LeaseGrant, LeaseRequest},
};

/// The incarnation that an engine's calls live as now, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Hosted(Mutex<Option<Life>>);

#[derive(Debug, Clone)]
struct Life {
    shared: Arc<Shared>,
    held: Held,
    caps: Caps,
}

impl Hosted {
    fn life(&self) -> MutexGuard<'_, Option<Life>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The living one, or a new one.
    fn current(&self, engine: &Engine) -> Life {
        let mut life = self.life();
        if let Some(life) = life.as_ref().filter(|life| !life.shared.is_stopping()) {
            return life.clone();
        }
        let shared = shared(engine, WorkerConfig::default().lease, &Arc::<Control>::default());
        let caps = engine.inner.caps.clone();
        life.insert(Life { shared, held: Held::default(), caps }).clone()
    }

    /// The next call is another one.
    fn end(&self, ended: &Life) {
        let mut life = self.life();
        if life.as_ref().is_some_and(|life| Arc::ptr_eq(&life.shared, &ended.shared)) {
            *life = None;
        }
    }
}

/// A call under way. One that is dropped, or that has no answer from the store, may have leased a
/// run that nobody drives: its incarnation is never renewed again, and the lease runs out.
struct Under<'a> {
    hosted: &'a Hosted,
    life: Life,
    over: bool,
}

impl Drop for Under<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.hosted.end(&self.life);
        }
    }
}

/// Leases one due run and drives it until it lets go.
pub(crate) async fn run_one(engine: &Engine) -> Result<Option<RunId>, Error> {
    let hosted = &engine.inner.hosted;
    let mut under = Under { hosted, life: hosted.current(engine), over: false };
    let mut grant = claim(&under.life).await?;
    if !grant.alive {
        // Its lease had lapsed between two calls, and somebody has said so.
        hosted.end(&under.life);
        under.life = hosted.current(engine);
        grant = claim(&under.life).await?;
    }
    let run = drive(&under.life, grant).await;
    under.over = true;
    Ok(run)
}

async fn claim(life: &Life) -> Result<LeaseGrant, StoreError> {
    let code = life.shared.plans.refs();
    let caps = life.caps.clone();
    let acquire = Acquire { limit: 1, runs: None, queues: Vec::new(), code, caps };
    let request = asking(&life.shared, WorkerConfig::default().lease);
    lease(&life.shared, &LeaseRequest { acquire: Some(acquire), ..request }).await
}

async fn drive(life: &Life, grant: LeaseGrant) -> Option<RunId> {
    let ttl = WorkerConfig::default().lease;
    let Life { shared, held, .. } = life;
    let leased = grant.leased.into_iter().next()?;
    let run = leased.record.head.id;
    // The heartbeat of another call may go on after this one is dropped: it gives the lease back.
    let driving = held.add((run, leased.fence.epoch))?;
    let mut tasks = JoinSet::new();
    tasks.spawn(tend::heartbeat(Arc::clone(shared), ttl, held.clone()));
    tasks.spawn(tend::keep_slots(Arc::clone(shared), ttl));
    Drive::run(Arc::clone(shared), leased, None, driving.lost()).await;
    drop(driving);
    // Nobody renews it until the next call: what its calls held of a provider's patience is free.
    clock::within(ttl / 6, shared.give_back_slots()).await;
    Some(run)
}
