//! Workers in processes of their own, on a store that they share: stopped, frozen and killed.
//!
//! A test program is its own worker: a [`Site`] starts it again with a variable set, and the child
//! calls [`work`]. What the workers make are files of a [`Depot`], so that nothing of it is lost
//! with a process.

mod chaos;
mod depot;
mod pace;
mod scenes;

use std::{
    fs,
    future::Future,
    path::Path,
    process::{Child, Command, ExitStatus},
    time::Duration,
};

pub use chaos::{
    Crew, Forgotten, Healed, everything_ends_well,
    what_is_forgotten_is_told_and_mixed_up_with_nothing,
};
pub use depot::{Depot, Order};
use provision_core::{
    Engine, Error, RunHandle, RunStatus, Saga, SagaId, Timestamp, WorkerConfig,
    clock::{Clock as _, SystemClock, sleep},
    engine::Backend,
    error::ErrorKind,
    retry::Policy,
};
pub use scenes::{
    Finding, Stopped, TakenOver, a_frozen_worker_makes_nothing_twice, a_stopping_worker_hands_over,
    check_takeovers,
};
use serde::{Deserialize, Serialize};

/// How long anything may take that is not measured.
const LONG: Duration = Duration::from_secs(180);

/// Where the processes of a test meet.
pub trait Site: Sync {
    /// The store they share.
    type Store: Backend + Clone;

    /// Opens it.
    fn store(&self) -> impl Future<Output = Self::Store> + Send;

    /// Starts a process that opens it and calls [`work`] with this folder.
    fn spawn(&self, folder: &Path) -> Child;
}

/// Times of the workers in a folder.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Times {
    lease: Duration,
    poll: Duration,
    grace: Duration,
}

impl Times {
    fn write(self, folder: &Path) {
        fs::write(folder.join("times"), serde_json::to_vec(&self).unwrap()).unwrap();
    }

    fn config(self) -> WorkerConfig {
        let config = WorkerConfig::default().with_lease(self.lease).with_poll(self.poll);
        config.with_grace(self.grace)
    }
}

const DELIVER: SagaId<Order, String> = SagaId::new("deliver", 1);

fn deliver(depot: &Depot) -> Saga<Order, String> {
    Saga::define(DELIVER, |s| {
        let retry = Policy::attempts(5).fixed(Duration::from_millis(100));
        let made = s.resource("box", depot.clone()).retry(retry);
        let made = made.input((), |order: &Order, ()| order.clone());
        s.value("told").input(made, |_, id| id)
    })
    .unwrap()
}

async fn engine(store: impl Backend, folder: &Path) -> Engine {
    let saga = deliver(&Depot::at(folder));
    Engine::builder(store).register(saga).build().await.unwrap()
}

/// Drives whatever is there until this process is told to stop, as a host would: in a child alone.
///
/// # Panics
/// When the store cannot be opened, or no signal can be heard of.
pub async fn work(store: impl Backend, folder: &Path) {
    let mut stop = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .expect("signals can be heard of");
    let times: Times = serde_json::from_slice(&fs::read(folder.join("times")).unwrap()).unwrap();
    let engine = engine(store, folder).await;
    let worker = engine.spawn_worker(times.config());
    stop.recv().await;
    worker.stop().await;
}

/// A worker's process; dropping it kills it.
#[derive(Debug)]
struct Process(Child);

impl Process {
    fn start(site: &impl Site, folder: &Path) -> Self {
        Self(site.spawn(folder))
    }

    /// Sends a signal, such as `TERM`.
    fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        let sent = kill.args([&format!("-{name}"), &self.0.id().to_string()]).status();
        assert!(sent.unwrap().success(), "{name} was not sent");
    }

    /// Waits for its end.
    async fn ended(&mut self, within: Duration) -> ExitStatus {
        let mut status = None;
        until("the process ends", within, async || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Waits for something that others do, and says how long it took.
async fn until(what: &str, within: Duration, mut is_so: impl AsyncFnMut() -> bool) -> Duration {
    let begun = SystemClock.wall();
    while !is_so().await {
        let passed = SystemClock.wall().since(begun);
        assert!(passed < within, "not within {within:?}: {what}");
        sleep(Duration::from_millis(5)).await;
    }
    SystemClock.wall().since(begun)
}

/// The machine's time.
fn now() -> Timestamp {
    SystemClock.wall()
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Asks the store until it answers: a connection from before a fault may be the first to tell of it.
async fn answered<T>(mut ask: impl AsyncFnMut() -> Result<T, Error>) -> Result<T, Error> {
    let mut answer = None;
    until("the store answers", LONG, async || {
        let told = ask().await;
        let is_told = !told.as_ref().is_err_and(|error| error.kind() == ErrorKind::Store);
        answer = Some(told);
        is_told
    })
    .await;
    answer.unwrap()
}

async fn all_succeed(engine: &Engine, runs: &[RunHandle<String>]) {
    for run in runs {
        until("a run succeeds", LONG, async || {
            let status = answered(async || engine.run(run.id()).await).await.unwrap().status;
            assert!(status.is_moving() || status == RunStatus::Succeeded, "{status:?}");
            status == RunStatus::Succeeded
        })
        .await;
    }
}

fn each_once(depot: &Depot, orders: usize) {
    let boxes = depot.boxes();
    assert_eq!(boxes.len(), orders, "{boxes:?}");
    assert!(boxes.values().all(|count| *count == 1), "{boxes:?}");
}
