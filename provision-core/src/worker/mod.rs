//! Workers: lease, renew, drive, release; drain on shutdown.
//!
//! A worker lives as a row of incarnations. One that was declared dead (it was frozen past its
//! lease) is never renewed: its calls are cut, and the worker goes on under a new name.

mod held;
mod hints;
mod hosted;
mod incarnation;
mod tend;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, task::JoinHandle};

use crate::{clock, engine::Engine, local::Locals};

pub(crate) use hosted::{Hosted, run_one};

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
    ///
    /// Where the system tells one boot from another (Linux), workers of other machines in a shared
    /// folder are left to their leases. Files of the dead are removed by those who bury them. What is
    /// proven is the death of a process: [`Worker::kill`] proves nothing, since work that it cuts may
    /// have a moment left.
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

/// What a worker's incarnations are told from outside.
#[derive(Debug, Default)]
pub(crate) struct Control {
    /// No more runs are taken, and what is held is let go.
    pub(crate) stopping: AtomicBool,
    /// The hard deadline has come: open calls are cut.
    pub(crate) cutting: AtomicBool,
    /// Woken when either of them is set.
    pub(crate) stop: Notify,
}

/// Drives runs until it is stopped. Dropping it without [`Worker::stop`] is like a crash: its
/// tasks end at once, and its leases run out.
#[derive(Debug)]
pub struct Worker {
    control: Arc<Control>,
    locals: Arc<Locals>,
    grace: Duration,
    main: JoinHandle<()>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.main.abort();
    }
}

impl Worker {
    pub(crate) fn spawn(engine: &Engine, config: WorkerConfig) -> Self {
        let control = Arc::new(Control::default());
        let grace = config.grace;
        let locals = Arc::clone(&engine.inner.locals);
        let main = spawn(incarnation::live(engine.clone(), config, Arc::clone(&control)));
        Self { control, locals, grace, main }
    }

    /// Stops gracefully: claims nothing more, releases runs without an open call at once, awaits
    /// open calls up to the grace time, then cuts and records them, and retires.
    pub async fn stop(mut self) {
        self.control.stopping.store(true, Ordering::Release);
        self.control.stop.notify_waiters();
        if clock::within(self.grace, &mut self.main).await.is_some() {
            return;
        }
        self.control.cutting.store(true, Ordering::Release);
        self.control.stop.notify_waiters();
        // Only writes are left to wait for.
        let _ = clock::within(self.grace.max(Duration::from_secs(5)), &mut self.main).await;
    }

    /// Ends at once, like a crash: nothing is released, nothing recorded.
    ///
    /// A run that kills its workers is set aside before it has killed them all: when the third lease
    /// in a row has ended by death with an attempt of it open, it is parked, and a person decides.
    ///
    /// ```
    /// use std::{future::pending, time::Duration};
    ///
    /// use provision_core::{
    ///     By, Engine, MemoryStore, NothingToUndo, Outcome, Saga, SagaId, Step, StepContext,
    ///     StepError, WorkerConfig, clock::sleep,
    /// };
    ///
    /// /// Takes down every process that runs it, as a bug in a native library does.
    /// struct Deadly;
    ///
    /// impl Step for Deadly {
    ///     const KIND: &'static str = "demo.deadly";
    ///     type Input = u32;
    ///     type Output = u32;
    ///
    ///     async fn run(&self, _: &StepContext, _: u32) -> Result<u32, StepError> {
    ///         pending().await
    ///     }
    /// }
    ///
    /// const DEADLY: SagaId<u32, u32> = SagaId::new("deadly", 1);
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let saga = Saga::define(DEADLY, |s| s.step("it", Deadly, NothingToUndo).input((), |n, ()| *n))?;
    /// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
    /// let run = engine.start(DEADLY, &7).await?;
    /// for _ in 0..3 {
    ///     let worker = engine.spawn_worker(WorkerConfig::default());
    ///     // Longer than the lease of the one before.
    ///     sleep(Duration::from_secs(20)).await;
    ///     worker.kill();
    /// }
    /// let worker = engine.spawn_worker(WorkerConfig::default());
    /// let Outcome::Parked(failure, _) = run.outcome().await? else { panic!("it was not set aside") };
    /// assert_eq!(failure.code, "crash_loop");
    ///
    /// // The step may have done something before it died: a person says whether it is undone, or tried
    /// // again once it is mended, with `engine.retry`.
    /// engine.cancel(run.id(), By::new("ada", "the library is broken")).await?;
    /// assert!(matches!(run.outcome().await?, Outcome::RolledBack(_)));
    /// # worker.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn kill(self) {
        self.main.abort();
    }

    /// Whether an incarnation of this worker is known to starts in this process.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.main.is_finished() && self.locals.any()
    }
}

#[allow(clippy::disallowed_methods, reason = "the handle is kept, aborted on drop and awaited")]
fn spawn(future: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(future)
}
