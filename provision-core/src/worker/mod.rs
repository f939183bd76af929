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
    /// folder are left to their leases. Files of the dead are removed by those who bury them.
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
