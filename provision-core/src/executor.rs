//! Who owns the loop and the timers.
//!
//! The machine, the journal and the resource protocol are the same under every executor; what
//! differs is who claims runs and who waits. [`InProcess`] spawns a worker, [`HostDriven`] is a
//! loop of the host's own around [`Engine::run_one`]. Every executor passes the test kit's
//! `executor_suite!`.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;

use crate::{
    clock,
    engine::Engine,
    error::Error,
    id::{RunId, Timestamp},
    run::RunStatus,
    store::RunHead,
    worker::WorkerConfig,
};

/// Drives runs of an engine until one of them stands still.
#[async_trait]
pub trait Executor: Debug + Send + Sync + 'static {
    /// Drives due runs until `run` stands still: over, parked, paused, or waiting for something
    /// that no passing of time brings. Answers with its row.
    ///
    /// # Errors
    /// There is no such run, or the store cannot be reached.
    async fn drive(&self, engine: &Engine, run: &RunId) -> Result<RunHead, Error>;
}

/// Whether nothing but an outside event can move a run on.
#[must_use]
pub fn stands_still(head: &RunHead) -> bool {
    let waits_for_ever = head.due == Timestamp::NEVER && head.owner.is_none();
    // A request that is due for nobody has been looked at and cannot be taken.
    let pending = head.requests > head.consumed && !waits_for_ever;
    (head.status.is_end() || head.status == RunStatus::Parked || waits_for_ever) && !pending
}

/// The usual one: a worker on the tokio runtime, for as long as the run moves.
#[derive(Debug, Clone, Default)]
pub struct InProcess {
    config: WorkerConfig,
}

impl InProcess {
    /// Uses these options for its worker.
    #[must_use]
    pub fn new(config: WorkerConfig) -> Self {
        Self { config }
    }
}

/// How often a run is looked at when nothing tells of a change.
const LOOK_EVERY: Duration = Duration::from_millis(250);

#[async_trait]
impl Executor for InProcess {
    async fn drive(&self, engine: &Engine, run: &RunId) -> Result<RunHead, Error> {
        let watcher = engine.inner.changes.watch(*run);
        let worker = engine.spawn_worker(self.config.clone());
        let head = loop {
            let changed = watcher.wakes.each.notified();
            let head = engine.run(run).await?;
            if stands_still(&head) {
                break head;
            }
            clock::within(LOOK_EVERY, changed).await;
        };
        worker.stop().await;
        Ok(head)
    }
}

/// A loop around [`Engine::run_one`]: one run at a time, no task, no worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostDriven;

#[async_trait]
impl Executor for HostDriven {
    async fn drive(&self, engine: &Engine, run: &RunId) -> Result<RunHead, Error> {
        loop {
            if engine.run_one().await?.is_some() {
                continue;
            }
            let head = engine.run(run).await?;
            if stands_still(&head) {
                return Ok(head);
            }
            let now = engine.inner.store.now().await?;
            let wait = head.due.since(now).clamp(Duration::from_millis(1), LOOK_EVERY);
            clock::sleep(wait).await;
        }
    }
}
