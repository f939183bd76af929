//! The engine as a host sees it: registered sagas over a store, runs to start, to watch, to order.

mod builder;
mod fleet;
mod health;
mod inspect;
mod log;
mod look;
mod orders;
mod outcome;
mod plan;
mod removal;
mod retention;
mod reveal;
mod schedules;
mod second_look;
mod start;
mod stats;
mod sweep;
mod timepiece;
mod usage;
mod watch;

use std::{collections::BTreeMap, fmt, sync::Arc};

pub use builder::{Backend, EngineBuilder};
pub use fleet::{Fleet, FleetReport};
pub use health::{Health, HealthLimits, Trouble};
pub use inspect::{AttemptView, Snapshot, StepStatus, StepView};
pub use log::{LOG_LINES_MAX, LogLine, LogPage};
pub use orders::{By, Resolution};
pub use outcome::Outcome;
pub(crate) use outcome::damaged;
pub use plan::{Change, Plan, PlannedStep, Preflight};
pub(crate) use schedules::Fired;
use serde::Serialize;
use sha2::{Digest, Sha256};
pub use start::{RunHandle, Start, StartRun};
pub use stats::StepStats;
pub use sweep::{Stray, SweepReport, Unlisted};
pub use usage::{Excess, Usage, UsageLimits};
pub use watch::{Progress, ProgressStream, What};

use crate::{
    bucket::Bucket,
    caps::Caps,
    changes::Changes,
    clock::Clock,
    draw::Entropy,
    drive::Plans,
    error::{Error, ErrorKind},
    id::{Payload, RunId},
    ledger::{LedgerOp, LedgerQuery, LedgerRow},
    limit::{self, Limiter, LiveLimits, Rate},
    local::Locals,
    offers::Offers,
    probe::Probe,
    queue::{Queue, QueueStats},
    resolver::SecretResolver,
    retention::{Retention, RetentionStore},
    retry::{LiveOverrides, Overrides},
    secret::SecretStore,
    store::{RunFilter, RunHead, RunPage, RunRecord, StateStore},
    vault::Vault,
    worker::{Hosted, Worker, WorkerConfig},
};

/// Runs sagas over a store. Cheap to clone; holds no task of its own.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Arc<dyn StateStore>,
    /// The store as a queue.
    pub(crate) queue: Arc<dyn Queue>,
    /// The queue that is not the store, where there is one.
    pub(crate) offers: Option<Arc<Offers>>,
    pub(crate) limiter: Arc<dyn Limiter>,
    pub(crate) secrets: Arc<dyn SecretStore>,
    pub(crate) retention_store: Arc<dyn RetentionStore>,
    /// What workers remove, if they do.
    pub(crate) retention: Option<Retention>,
    pub(crate) resolver: Arc<dyn SecretResolver>,
    pub(crate) vault: Option<Vault>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) probe: Arc<dyn Probe>,
    pub(crate) plans: Arc<Plans>,
    pub(crate) namespace: Arc<str>,
    /// Who drives the runs of hosts that own their loop.
    pub(crate) hosted: Hosted,
    /// Workers of this process.
    pub(crate) locals: Arc<Locals>,
    pub(crate) schedules: Vec<schedules::Scheduled>,
    pub(crate) changes: Arc<Changes>,
    /// Version of the host's program, kept by every run it starts.
    pub(crate) app_version: Option<String>,
    /// The store's clock, as starts read it.
    timepiece: timepiece::Timepiece,
    /// Starts allowed to each tenant.
    pub(crate) start_rate: Option<Rate>,
    /// Retry policies that replace those of the sagas.
    pub(crate) overrides: Arc<LiveOverrides>,
    /// Limits that replace those of adapters and steps.
    pub(crate) limits: Arc<LiveLimits>,
    /// The limiter is not the store: it does not know which workers live.
    pub(crate) limiter_is_beside: bool,
    /// How many runs of a queue may be under lease.
    pub(crate) caps: Caps,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("sagas", &self.inner.plans.refs()).finish_non_exhaustive()
    }
}

/// Encodes what a host hands over; `code` names it when it is too large to be journaled.
pub(crate) fn encode<T: Serialize>(
    value: &T,
    code: &'static str,
    operation: &'static str,
) -> Result<Payload, Error> {
    let payload = Payload::encode(value).map_err(|error| {
        Error::new(ErrorKind::Invalid, "not_serializable", operation).with_source(error)
    })?;
    if payload.fits() {
        return Ok(payload);
    }
    let (bytes, most) = (payload.as_str().len(), Payload::MAX_BYTES);
    Err(Error::new(ErrorKind::Limit, code, operation)
        .with_context(format!("{bytes} bytes, at most {most}"))
        .with_hint("keep the blob elsewhere and pass a reference"))
}

/// Hash of an input, for "same key, same input".
pub(crate) fn input_hash(input: &Payload) -> String {
    let canonical = serde_json::from_str::<serde_json::Value>(input.as_str())
        .map_or_else(|_| input.as_str().to_owned(), |value| value.to_string());
    let digest = Sha256::digest(canonical.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Engine {
    /// Builds an engine over a store that is state store, queue, limiter and secret store in one.
    pub fn builder(backend: impl Backend) -> EngineBuilder {
        EngineBuilder::new(backend)
    }

    /// Spawns a worker on the current tokio runtime.
    #[must_use]
    pub fn spawn_worker(&self, config: WorkerConfig) -> Worker {
        Worker::spawn(self, config)
    }

    /// Leases one due run, drives it until it lets go, and says which it was: for hosts that own
    /// their loop. `None` when nothing is due.
    ///
    /// The calls of one engine are one worker to the store, for as long as they follow each other
    /// within a lease (15 s); several may be under way at once. A call that is dropped is like a
    /// crash: its run is claimed again when the lease is over.
    ///
    /// # Errors
    /// The store cannot be reached.
    pub async fn run_one(&self) -> Result<Option<RunId>, Error> {
        crate::worker::run_one(self).await
    }

    /// Replaces the retry policies that the sagas of this engine use from now on, in this process.
    ///
    /// ```
    /// # use provision_core::{Engine, MemoryStore};
    /// use provision_core::{Policy, retry::Overrides};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = Engine::builder(MemoryStore::new()).build().await?;
    /// let patient = Overrides::new().with_code(None, "quota", Policy::attempts(50));
    /// engine.set_retry_overrides(patient)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A policy is outside its range (kind `Invalid`); then the ones before stay.
    pub fn set_retry_overrides(&self, overrides: Overrides) -> Result<(), Error> {
        self.inner.overrides.set(overrides)
    }

    /// Replaces what buckets allow, for the calls of this engine from now on, in this process.
    ///
    /// What the store knows of a bucket stays. Calls that were made before keep the price that they
    /// had, so a bucket that was emptied under a slow rate comes back at that pace, and a wait that is
    /// journaled stands. Calls that are open without a slot are not counted when the number of open
    /// calls gets a limit. [`crate::limit`] shows it at work.
    ///
    /// # Errors
    /// A limit would let no call through (kind `Invalid`); then the ones before stay.
    pub fn set_limit_overrides(&self, overrides: limit::Overrides) -> Result<(), Error> {
        self.inner.limits.set(overrides)
    }

    /// Reads a run's row.
    ///
    /// # Errors
    /// There is no such run, it was removed by the retention (code `pruned`: [`Engine::tombstone`]
    /// says what it was), or the store cannot be read.
    pub async fn run(&self, run: &RunId) -> Result<RunHead, Error> {
        self.load(run).await.map(|record| record.head)
    }

    /// Lists runs, newest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn runs(&self, filter: &RunFilter) -> Result<RunPage, Error> {
        Ok(self.inner.store.list(filter).await?)
    }

    /// Lists dead letters: runs that need a person, and failed ones nobody has looked at.
    ///
    /// ```
    /// use provision_core::{
    ///     By, Engine, MemoryStore, Resolution, Saga, SagaId, StepError,
    ///     executor::{Executor, HostDriven},
    /// };
    ///
    /// const SEATS: SagaId<u32, u32> = SagaId::new("seats", 1);
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let saga = Saga::define(SEATS, |s| {
    ///     s.value("seats").try_input((), |_, ()| Err(StepError::permanent("count")))
    /// })?;
    /// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
    /// let run = engine.start(SEATS, &4).await?;
    /// HostDriven.drive(&engine, run.id()).await?;
    /// let letters = engine.dead_letters().await?.runs;
    /// assert_eq!(letters[0].id, *run.id());
    /// assert_eq!(letters[0].summary.failure.as_ref().unwrap().path, "seats");
    ///
    /// let seen = By::new("ann", "the customer was called");
    /// engine.resolve(run.id(), Resolution::Acknowledge, seen).await?;
    /// HostDriven.drive(&engine, run.id()).await?;
    /// assert!(engine.dead_letters().await?.runs.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn dead_letters(&self) -> Result<RunPage, Error> {
        self.runs(&RunFilter { dead_letters: true, ..RunFilter::default() }).await
    }

    /// Reads one page of rows of the ledger.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn ledger(&self, query: &LedgerQuery) -> Result<Vec<LedgerRow>, Error> {
        let replies = self.inner.store.ledger(&[LedgerOp::Query(query.clone())]).await?;
        Ok(crate::ledger::rows(replies))
    }

    /// Reads all rows of the ledger that a query selects.
    async fn all_rows(&self, query: LedgerQuery) -> Result<Vec<LedgerRow>, Error> {
        Ok(crate::ledger::all_rows(&*self.inner.store, query).await?)
    }

    /// Sums what resources that exist, or may, cost per month, by currency, in thousandths. An hour
    /// counts 730 times; what is paid once does not count.
    ///
    /// ```
    /// use provision_core::{
    ///     Cost, CostPer, Engine, MemoryStore, Saga, SagaId, executor::{Executor, HostDriven},
    /// };
    /// use provision_testkit::harness::{World, world::Thing};
    ///
    /// const DISK: SagaId<String, String> = SagaId::new("disk", 1);
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cents = Cost { milli: 10, currency: "EUR".to_owned(), per: CostPer::Hour };
    /// let disk = Thing::named(&World::new()).with_cost(cents);
    /// let saga = Saga::define(DISK, |s| s.resource("disk", disk).input((), |name, ()| name.clone()))?;
    /// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
    /// for name in ["red", "blue"] {
    ///     let run = engine.start(DISK, &name.to_owned()).tenant("acme").await?;
    ///     HostDriven.drive(&engine, run.id()).await?;
    /// }
    /// assert_eq!(engine.monthly_cost(Some("acme")).await?["EUR"], 2 * 7_300);
    /// assert!(engine.monthly_cost(Some("other")).await?.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn monthly_cost(&self, tenant: Option<&str>) -> Result<BTreeMap<String, u64>, Error> {
        let mut sums = BTreeMap::new();
        for (currency, month) in self.usage(tenant).await?.into_values().flat_map(|u| u.monthly) {
            let sum: &mut u64 = sums.entry(currency).or_default();
            *sum = sum.saturating_add(month);
        }
        Ok(sums)
    }

    /// Looks at a shared limit: what a provider asked for, calls that are open, and what was found
    /// out about how many it bears ([`Concurrency::Adaptive`](crate::limit::Concurrency)).
    ///
    /// # Errors
    /// The limiter cannot be reached.
    pub async fn limit(&self, bucket: &str) -> Result<Bucket, Error> {
        Ok(self.inner.limiter.look(bucket).await?)
    }

    /// Figures of the runs that wait, as the store counts them, whatever queue is beside it.
    ///
    /// # Errors
    /// The queue cannot be read.
    pub async fn queue_stats(&self) -> Result<QueueStats, Error> {
        Ok(self.inner.queue.stats().await?)
    }

    pub(crate) async fn load(&self, run: &RunId) -> Result<RunRecord, Error> {
        let mut records = self.inner.store.load(&[*run]).await?;
        match records.pop().flatten() {
            Some(record) => Ok(record),
            None => Err(self.absent(run).await),
        }
    }
}

pub(crate) fn no_such_run(run: &RunId) -> Error {
    Error::new(ErrorKind::NotFound, "no_such_run", "look up a run").with_context(run.to_string())
}
