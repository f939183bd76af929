//! Putting an engine together.

use std::sync::Arc;

use super::{Engine, Inner, Start, schedules::Scheduled};
use crate::{
    caps::{Cap, Capped, Caps},
    clock::{Clock, SystemClock},
    draw::{Entropy, SystemEntropy},
    drive::Plans,
    error::{Error, ErrorKind},
    id::{Data, Timestamp},
    limit::{self, Limiter, Rate},
    offers::Offers,
    probe::{NoProbe, Probe},
    queue::Queue,
    resolver::{EnvResolver, SecretResolver},
    retention::{Retention, RetentionStore},
    retry::Overrides,
    saga::{Plan, Saga},
    schedule::Schedule,
    secret::SecretStore,
    store::{RunFilter, StateStore},
    vault::{KeyProvider, Vault},
    worker::Hosted,
};

/// A store that is everything in one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a backend",
    label = "expected a type that implements `StateStore`, `Queue`, `Limiter`, `SecretStore` and \
             `RetentionStore`",
    note = "implement the missing one, or pass parts with `.queue(..)`, `.limiter(..)`"
)]
pub trait Backend: StateStore + Queue + Limiter + SecretStore + RetentionStore {}
impl<T: StateStore + Queue + Limiter + SecretStore + RetentionStore> Backend for T {}

/// Collects what an engine is made of.
#[must_use = "`.build().await` makes the engine"]
pub struct EngineBuilder {
    inner: Inner,
    plans: Vec<Arc<Plan>>,
    overrides: Option<Overrides>,
    limits: Option<limit::Overrides>,
}

impl std::fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineBuilder").field("plans", &self.plans).finish_non_exhaustive()
    }
}

impl EngineBuilder {
    pub(super) fn new(backend: impl Backend) -> Self {
        let backend = Arc::new(backend);
        let inner = Inner {
            store: Arc::<_>::clone(&backend) as Arc<dyn StateStore>,
            queue: Arc::<_>::clone(&backend) as Arc<dyn Queue>,
            offers: None,
            limiter: Arc::<_>::clone(&backend) as Arc<dyn Limiter>,
            secrets: Arc::<_>::clone(&backend) as Arc<dyn SecretStore>,
            retention_store: backend as Arc<dyn RetentionStore>,
            retention: None,
            resolver: Arc::new(EnvResolver::default()),
            vault: None,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            probe: Arc::new(NoProbe),
            plans: Arc::default(),
            namespace: Arc::from("default"),
            hosted: Hosted::default(),
            locals: Arc::default(),
            schedules: Vec::new(),
            changes: Arc::default(),
            app_version: None,
            timepiece: super::timepiece::Timepiece::default(),
            start_rate: None,
            overrides: Arc::default(),
            limits: Arc::default(),
            limiter_is_beside: false,
            caps: Caps::default(),
        };

        Self { inner, plans: Vec::new(), overrides: None, limits: None }
    }

    /// Registers a saga; workers of this engine claim its runs.
    ///
    /// A changed graph is another version: register the old one, too, until its runs are over.
    ///
    /// ```
    /// use provision_core::{Engine, MemoryStore, Saga, SagaId, executor::{Executor, HostDriven}};
    ///
    /// const OLD: SagaId<u32, u32> = SagaId::new("seats", 1);
    /// const NEW: SagaId<u32, u32> = SagaId::new("seats", 2);
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let one = |id| Saga::define(id, |s| s.value("seats").input((), |n, ()| *n));
    /// let two = |id| Saga::define(id, |s| {
    ///     let row = s.value("row").input((), |n, ()| *n);
    ///     s.value("seats").input(row, |n, row| n + row)
    /// });
    /// let store = MemoryStore::new();
    /// let before = Engine::builder(store.clone()).register(one(OLD)?).build().await?;
    /// let run = before.start(OLD, &4).await?;
    ///
    /// // The new program, on the same store: runs of both versions go on.
    /// let after = Engine::builder(store.clone()).register(one(OLD)?).register(two(NEW)?);
    /// let after = after.build().await?;
    /// HostDriven.drive(&after, run.id()).await?;
    /// assert_eq!(run.output().await?, 4);
    ///
    /// // The same version with another graph is refused.
    /// let refused = Engine::builder(store).register(two(OLD)?).build().await.unwrap_err();
    /// assert_eq!(refused.code(), "fingerprint");
    /// # Ok(())
    /// # }
    /// ```
    pub fn register<I: Data, O: Data>(mut self, saga: Saga<I, O>) -> Self {
        self.plans.push(saga.plan);
        self
    }

    /// Starts runs of a saga by the clock; `input` makes the input of one firing from its planned
    /// moment, and must give the same for the same moment.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use provision_core::{Engine, MemoryStore, Saga, SagaId, schedule::Schedule};
    ///
    /// const CLEAN_UP: SagaId<u64, u64> = SagaId::new("clean-up", 1);
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let saga = Saga::define(CLEAN_UP, |s| s.value("at").input((), |at, ()| *at))?;
    /// let daily = Schedule::every("clean-up", Duration::from_secs(24 * 3_600))?;
    /// let builder = Engine::builder(MemoryStore::new()).register(saga);
    /// let engine = builder.schedule(daily, CLEAN_UP, |at| at.as_millis()).build().await?;
    /// // Workers ask by themselves; whoever asks, a firing starts one run.
    /// let started = engine.fire_schedules(None).await?;
    /// assert_eq!(started.len(), 1);
    /// assert_eq!(engine.fire_schedules(None).await?, started);
    /// # Ok(())
    /// # }
    /// ```
    pub fn schedule<S: Start + Clone + Send + Sync + 'static>(
        mut self,
        schedule: Schedule,
        saga: S,
        input: impl Fn(Timestamp) -> S::Input + Send + Sync + 'static,
    ) -> Self {
        self.inner.schedules.push(Scheduled::new(schedule, saga, input));
        self
    }

    /// Uses another system as the queue beside the store, which stays the truth. Not another handle
    /// of the same store: a store proposes its own runs by itself.
    ///
    /// Runs are offered to it when they start, when something is asked of them, and when a worker
    /// gives them back, with the moment at which they are due; what has ended or parked is acked.
    /// Workers lease what it proposes, and scan the store themselves at every poll
    /// ([`WorkerConfig::with_poll`](crate::worker::WorkerConfig::with_poll)): that finds what the
    /// queue has lost, what a dead worker held, and what a host started inside its own transaction;
    /// a queue that lost everything is filled again with what is due. A queue that does not
    /// answer is waited for one second, and then left alone for another; nothing fails because of
    /// it.
    pub fn queue(mut self, queue: impl Queue) -> Self {
        let store = Arc::clone(&self.inner.store);
        self.inner.offers = Some(Arc::new(Offers::new(Arc::new(queue), store)));
        self
    }

    /// Limits how many runs of a named queue are worked on at the same time, by all workers of all
    /// processes together; default: no limit but the workers' slots.
    ///
    /// Exact on every store: it is compared where leases are granted. A run counts while a worker
    /// holds it, and not while it waits (see [`crate::caps`]). Every engine whose workers claim from
    /// the queue names the same limit; 0 holds all of its runs back. A full queue holds back no other.
    ///
    /// ```
    /// use provision_core::{Engine, MemoryStore, Saga, SagaId, WorkerConfig};
    ///
    /// # const POST: SagaId<u32, u32> = SagaId::new("post", 1);
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let saga = Saga::define(POST, |s| s.value("n").input((), |n, ()| *n))?;
    /// let builder = Engine::builder(MemoryStore::new()).register(saga);
    /// let engine = builder.queue_limit("publish_jobs", 5).build().await?;
    /// let worker = engine.spawn_worker(WorkerConfig::default());
    /// let run = engine.start(POST, &7).queue("publish_jobs").await?;
    /// assert_eq!(run.output().await?, 7);
    /// # worker.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn queue_limit(mut self, queue: impl Into<String>, runs: u32) -> Self {
        self.inner.caps.0.push(Cap { queues: Capped::Named(queue.into()), runs });
        self
    }

    /// Limits each queue whose name begins so, on its own: concurrency by key. With
    /// `queue_limit_each("tenant/", 1)`, runs that are started with `.queue("tenant/42")` are worked
    /// on one after the other, beside those of all other tenants.
    ///
    /// As [`Self::queue_limit`]; where several limits fit a queue, the smallest holds. Queues are
    /// kept by stores for ever, with each version of a saga: keys are for tens of thousands, not for
    /// one of each run.
    pub fn queue_limit_each(mut self, prefix: impl Into<String>, runs: u32) -> Self {
        self.inner.caps.0.push(Cap { queues: Capped::Each(prefix.into()), runs });
        self
    }

    /// Uses another limiter. What only the store knows, which workers are dead, it has to find out
    /// by itself: a worker tells it of every slot it holds at every third of its lease.
    pub fn limiter(mut self, limiter: impl Limiter) -> Self {
        self.inner.limiter = Arc::new(limiter);
        self.inner.limiter_is_beside = true;
        self
    }

    /// Seals secrets under these keys. Without keys, a step that seals parks with a hint.
    pub fn keys(mut self, keys: impl KeyProvider) -> Self {
        self.inner.vault = Some(Vault::new(Arc::new(keys)));
        self
    }

    /// Resolves named secrets here; default: environment variables.
    pub fn resolver(mut self, resolver: impl SecretResolver) -> Self {
        self.inner.resolver = Arc::new(resolver);
        self
    }

    /// Names the namespace that sealed values are bound to; default `"default"`.
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.inner.namespace = Arc::from(namespace);
        self
    }

    /// Names the version of the host's program: every run keeps the one that started it, in its
    /// context as `app_version`, and so do its log events.
    ///
    /// ```
    /// # use provision_core::{Engine, MemoryStore, Saga, SagaId};
    /// # const SEATS: SagaId<u32, u32> = SagaId::new("seats", 1);
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let saga = Saga::define(SEATS, |s| s.value("n").input((), |n, ()| *n))?;
    /// let builder = Engine::builder(MemoryStore::new()).app_version(env!("CARGO_PKG_VERSION"));
    /// let engine = builder.register(saga).build().await?;
    /// let run = engine.start(SEATS, &3).await?;
    /// let context = engine.run(run.id()).await?.context;
    /// assert_eq!(context["app_version"], env!("CARGO_PKG_VERSION"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn app_version(mut self, version: impl Into<String>) -> Self {
        self.inner.app_version = Some(version.into());
        self
    }

    /// Limits how many runs each tenant may start; runs without a tenant share one limit. Default:
    /// none. What is above it is refused with kind `Limit`, code `too_many_starts` and
    /// [`Error::retry_after`]; nothing of it is stored.
    ///
    /// The limit is kept by the limiter, so it is one for all processes. A start whose key is known
    /// is answered with its run also above the limit. Where the limiter cannot be asked, runs start.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use provision_core::{Engine, MemoryStore, Saga, SagaId, limit::Rate};
    ///
    /// # const SEATS: SagaId<u32, u32> = SagaId::new("seats", 1);
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let saga = Saga::define(SEATS, |s| s.value("n").input((), |n, ()| *n))?;
    /// let rate = Rate { calls: 60, per: Duration::from_secs(3600), burst: 1 };
    /// let engine = Engine::builder(MemoryStore::new()).register(saga).start_limit(rate);
    /// let engine = engine.build().await?;
    /// engine.start(SEATS, &1).tenant("acme").await?;
    /// let refused = engine.start(SEATS, &2).tenant("acme").await.unwrap_err();
    /// assert_eq!(refused.code(), "too_many_starts");
    /// assert!(refused.retry_after() <= Some(Duration::from_secs(60)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn start_limit(mut self, rate: Rate) -> Self {
        self.inner.start_rate = Some(rate);
        self
    }

    /// Lets the workers of this engine remove runs that are over, once they have been kept for long
    /// enough. Default: nothing is ever removed. [`crate::retention`] says what may go, and what stays.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use provision_core::{Engine, MemoryStore, WorkerConfig, retention::Retention};
    ///
    /// const DAY: Duration = Duration::from_secs(24 * 3_600);
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let quarter = Retention::keeping(90 * DAY);
    /// let engine = Engine::builder(MemoryStore::new()).retention(quarter).build().await?;
    /// let worker = engine.spawn_worker(WorkerConfig::default());
    /// # worker.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn retention(mut self, retention: Retention) -> Self {
        self.inner.retention = Some(retention);
        self
    }

    /// Replaces retry policies of the registered sagas; [`Engine::set_retry_overrides`] replaces them
    /// again while workers run.
    pub fn retry_overrides(mut self, overrides: Overrides) -> Self {
        self.overrides = Some(overrides);
        self
    }

    /// Replaces what buckets allow, whatever adapters and steps say of them;
    /// [`Engine::set_limit_overrides`] replaces it again while workers run.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use provision_core::{Engine, MemoryStore, limit::{Overrides, Rate}};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // The account has another plan than most.
    /// let plan = Rate { calls: 5_000, per: Duration::from_secs(3_600), burst: 50 };
    /// let limits = Overrides::new().with_rate("github/acme/", plan).with_concurrency("n8n/", 2);
    /// let engine = Engine::builder(MemoryStore::new()).limit_overrides(limits).build().await?;
    /// // A limit that lets no call through is refused, and the ones before stay.
    /// let none = Overrides::new().with_concurrency("n8n/", 0);
    /// assert_eq!(engine.set_limit_overrides(none).unwrap_err().code(), "limit_concurrency");
    /// # Ok(())
    /// # }
    /// ```
    pub fn limit_overrides(mut self, overrides: limit::Overrides) -> Self {
        self.limits = Some(overrides);
        self
    }

    /// Replaces the wall clock that [`Engine::health`] compares with the store's, for tests. Nothing
    /// else asks it: due times and leases go by the store's clock.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.inner.clock = Arc::new(clock);
        self
    }

    /// Replaces the random source, for tests that replay.
    pub fn entropy(mut self, entropy: impl Entropy) -> Self {
        self.inner.entropy = Arc::new(entropy);
        self
    }

    /// Watches the seams: recorders and crash tests.
    pub fn probe(mut self, probe: impl Probe) -> Self {
        self.inner.probe = Arc::new(probe);
        self
    }

    /// Makes the engine, after comparing fingerprints with what is stored.
    ///
    /// # Errors
    /// `fingerprint`: a saga of the same name and version is stored or registered with another
    /// shape (kind `Conflict`); a policy or a limit of the overrides, or the retention, is outside
    /// its range (kind `Invalid`); or the store cannot be read.
    pub async fn build(mut self) -> Result<Engine, Error> {
        if let Some(overrides) = self.overrides {
            self.inner.overrides.set(overrides)?;
        }
        if let Some(limits) = self.limits {
            self.inner.limits.set(limits)?;
        }
        self.inner.retention.as_ref().map_or(Ok(()), Retention::check)?;
        let mut plans = Plans::default();
        for plan in self.plans {
            let known = plans.named(&plan.saga.name, plan.saga.version);
            if known.is_some_and(|known| known.saga.fingerprint != plan.saga.fingerprint) {
                return Err(changed(&plan, "registered twice with different shapes"));
            }
            check_stored(&*self.inner.store, &plan).await?;
            plans.insert(Arc::new(plan.under(&self.inner.overrides)));
        }
        self.inner.plans = Arc::new(plans);
        Ok(Engine { inner: Arc::new(self.inner) })
    }
}

/// S22: the newest stored run of the same name and version tells the shape that version has.
async fn check_stored(store: &dyn StateStore, plan: &Plan) -> Result<(), Error> {
    let filter = RunFilter {
        saga: Some(plan.saga.name.clone()),
        version: Some(plan.saga.version),
        limit: 1,
        ..RunFilter::default()
    };
    match store.list(&filter).await?.runs.first() {
        Some(head) if head.saga.fingerprint != plan.saga.fingerprint => {
            Err(changed(plan, "stored with another shape"))
        }
        _ => Ok(()),
    }
}

fn changed(plan: &Plan, what: &str) -> Error {
    Error::new(ErrorKind::Conflict, "fingerprint", "register a saga")
        .with_context(format!("`{}` version {} is {what}", plan.saga.name, plan.saga.version))
        .with_hint("give the changed saga a new version; keep the old one until its runs are over")
}
