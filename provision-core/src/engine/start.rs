//! Starting runs, and the handle a starter keeps.

use std::{
    collections::BTreeMap,
    future::{Future, IntoFuture},
    marker::PhantomData,
    pin::Pin,
    slice,
    sync::Arc,
    time::Duration,
};

use super::{Engine, Outcome, input_hash, retention};
use crate::{
    changes::Watcher,
    clock,
    error::{Error, ErrorKind},
    id::{Data, Payload, RunId, Timestamp},
    limit::{Admission, Ask, Profile, Turn},
    offers::offer_of,
    queue::Offer,
    retention::{Tombstone, TombstoneQuery},
    run::{RunStatus, RunSummary},
    saga::{Plan, Saga, SagaId},
    store::{Guard, GuardUntil, Incarnation, NewRun, RunFilter, RunHead, Submission, Submitted},
};

/// Longest start key, business key, tenant or queue name.
const KEY_MAX: usize = 256;

/// Names what to start: a [`SagaId`] or a [`Saga`] by reference.
pub trait Start {
    /// The saga's input.
    type Input: Data;
    /// The saga's output.
    type Output: Data;
    /// Durable name.
    fn name(&self) -> &str;
    /// Version.
    fn version(&self) -> u32;
}

impl<I: Data, O: Data> Start for SagaId<I, O> {
    type Input = I;
    type Output = O;

    fn name(&self) -> &str {
        Self::name(self)
    }

    fn version(&self) -> u32 {
        Self::version(self)
    }
}

impl<I: Data, O: Data> Start for &Saga<I, O> {
    type Input = I;
    type Output = O;

    fn name(&self) -> &str {
        &self.saga_ref().name
    }

    fn version(&self) -> u32 {
        self.saga_ref().version
    }
}

/// A start under construction; awaiting it stores the run.
#[must_use = "the run is started by `.await`"]
#[derive(Debug)]
pub struct StartRun<O> {
    engine: Engine,
    plan: Result<Arc<Plan>, Error>,
    input: Result<Payload, Error>,
    key: Option<String>,
    guard: Option<Guard>,
    tenant: Option<String>,
    queue: String,
    priority: i32,
    delay: Duration,
    context: BTreeMap<String, String>,
    output: PhantomData<fn() -> O>,
}

impl Engine {
    pub(crate) fn plan_of(&self, name: &str, version: u32) -> Result<Arc<Plan>, Error> {
        self.inner.plans.named(name, version).cloned().ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "no_such_saga", "start a run")
                .with_context(format!("`{name}` version {version} is not registered"))
                .with_hint("register it on the engine's builder")
        })
    }

    /// Starts a run, or finds the one that was started with the same key.
    ///
    /// Only validates and stores; no provider is called before it returns.
    #[allow(clippy::needless_pass_by_value, reason = "an id, or a reference to a saga: both Copy")]
    pub fn start<S: Start>(&self, saga: S, input: &S::Input) -> StartRun<S::Output> {
        StartRun {
            engine: self.clone(),
            plan: self.plan_of(saga.name(), saga.version()),
            input: super::encode(input, "input_too_large", "encode the input"),
            key: None,
            guard: None,
            tenant: None,
            queue: "default".to_owned(),
            priority: 0,
            delay: Duration::ZERO,
            context: BTreeMap::new(),
            output: PhantomData,
        }
    }

    /// The handle of a run whose id is known.
    #[must_use]
    pub fn handle<O>(&self, run: RunId) -> RunHandle<O> {
        RunHandle { engine: self.clone(), id: run, fresh: None, pruned: None, output: PhantomData }
    }
}

impl<O> StartRun<O> {
    /// Sets the start key: the same key, saga and input always answer with the same run, of
    /// whichever version; another saga or input under the key is refused.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Takes a business key that only one run may hold; freed by `RolledBack` or `TornDown`.
    ///
    /// A start that finds it held answers with the run that holds it.
    ///
    /// ```
    /// use provision_core::{By, Engine, MemoryStore, Saga, SagaId, executor::{Executor, HostDriven}};
    ///
    /// const SITE: SagaId<String, String> = SagaId::new("site", 1);
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let saga = Saga::define(SITE, |s| s.value("site").input((), |name, ()| name.clone()))?;
    /// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
    /// let start = |name: &str| engine.start(SITE, &name.to_owned()).unique("domain/acme.example");
    /// let first = start("blue").await?;
    /// HostDriven.drive(&engine, first.id()).await?;
    ///
    /// let second = start("green").await?;
    /// assert!(!second.is_new());
    /// assert_eq!(second.id(), first.id());
    ///
    /// engine.tear_down(first.id(), By::new("ann", "moved away")).await?;
    /// HostDriven.drive(&engine, first.id()).await?;
    /// assert!(start("green").await?.is_new());
    /// # Ok(())
    /// # }
    /// ```
    pub fn unique(mut self, key: impl Into<String>) -> Self {
        self.guard = Some(Guard { key: key.into(), until: GuardUntil::Gone });
        self
    }

    /// Takes a business key that is freed by every end.
    pub fn unique_while_running(mut self, key: impl Into<String>) -> Self {
        self.guard = Some(Guard { key: key.into(), until: GuardUntil::Ended });
        self
    }

    /// Sets the tenant, for fairness, cost and isolation.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Sets the named queue; default `"default"`.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = queue.into();
        self
    }

    /// Sets the priority; higher is claimed earlier, default 0.
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Puts the start off, by the store's clock. Requests are taken meanwhile, and only a cancel
    /// goes before that time: it ends the run with nothing begun.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Adds a field that every span and error of the run carries.
    pub fn context(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.context.insert(name.into(), value.into());
        self
    }

    fn check_names(&self) -> Result<(), Error> {
        for text in [self.key.as_deref(), self.tenant.as_deref(), Some(&*self.queue)]
            .into_iter()
            .chain([self.guard.as_ref().map(|guard| &*guard.key)])
            .flatten()
        {
            if text.is_empty() || text.len() > KEY_MAX {
                return Err(Error::new(ErrorKind::Invalid, "bad_key", "start a run")
                    .with_context(format!("keys have 1 to {KEY_MAX} bytes")));
            }
        }
        Ok(())
    }

    /// Makes the start ready for a store that takes it in a transaction of the host's own database,
    /// and stores nothing: `PostgresStore::start_in` takes it as a [`Submission`].
    ///
    /// The run is `head.id`; [`Engine::handle`] waits for it once the transaction is committed. What
    /// [`Engine::start`] checks is checked here; nothing is handed to a worker of this process. A
    /// key that is known, or a guard that is held, is found by the store, which answers with the run
    /// that has it.
    ///
    /// ```
    /// use provision_core::{Engine, MemoryStore, Saga, SagaId, store::{StateStore, Submission}};
    ///
    /// const SEATS: SagaId<u32, u32> = SagaId::new("seats", 1);
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let saga = Saga::define(SEATS, |s| s.value("seats").input((), |n, ()| *n))?;
    /// let store = MemoryStore::new();
    /// let engine = Engine::builder(store.clone()).register(saga).build().await?;
    /// let new = engine.start(SEATS, &4).key("order:17").prepare().await?;
    /// let run = engine.handle::<u32>(new.head.id);
    /// // Memory has no transaction to share: elsewhere this is where `start_in` stands.
    /// store.submit(&[Submission::Run(Box::new(new))]).await?;
    /// engine.run_one().await?;
    /// assert_eq!(run.output().await?, 4);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of a start that is awaited, but for what only the store knows.
    pub async fn prepare(self) -> Result<NewRun, Error> {
        match self.ready().await? {
            Ready::New(head) | Ready::Known(_, head) => Ok(NewRun { head: *head, lease_to: None }),
        }
    }

    async fn submit(self) -> Result<RunHandle<O>, Error> {
        let (engine, immediate) = (self.engine.clone(), self.delay.is_zero());
        match self.ready().await? {
            Ready::New(head) => send(&engine, *head, immediate).await,
            Ready::Known(found, _) => Ok(handle_of(&engine, found)),
        }
    }

    /// Checks everything, and puts the row together.
    async fn ready(self) -> Result<Ready, Error> {
        self.check_names()?;
        let (plan, input) = (self.plan?, self.input?);
        let engine = &self.engine.inner;
        let input_hash = input_hash(&input);
        let now = engine.timepiece.now(&*engine.store).await?;
        let admitted = match plan.checks.pass(&input) {
            Ok(()) => engine.admit_start(self.tenant.as_deref()).await,
            refused => refused,
        };
        let mut known = None;
        if let Err(refusal) = admitted {
            // S2: what was started once is answered with its run, whatever holds now.
            let key = self.key.as_deref();
            known = engine.started_with(key, &plan.saga.name, &input_hash).await?;
            if known.is_none() {
                return Err(refusal);
            }
        }
        let mut context = self.context;
        if let Some(version) = &engine.app_version {
            context.entry("app_version".to_owned()).or_insert_with(|| version.clone());
        }
        let id = crate::draw::run_id(&*engine.entropy, now).map_err(|error| {
            Error::new(ErrorKind::Internal, "no_randomness", "draw a run id").with_source(error)
        })?;
        let due = now.plus(self.delay);
        let not_before = Some(due).filter(|due| *due > now);
        let head = Box::new(RunHead {
            id,
            saga: plan.saga.clone(),
            tenant: self.tenant,
            queue: self.queue,
            priority: self.priority,
            key: self.key,
            guard: self.guard,
            input_hash,
            input,
            parent: None,
            context,
            status: RunStatus::Running,
            due,
            polls: BTreeMap::new(),
            seq: 0,
            epoch: 0,
            owner: None,
            requests: 0,
            consumed: 0,
            open: false,
            deaths: 0,
            summary: RunSummary { not_before, ..RunSummary::default() },
            created_at: now,
            updated_at: Timestamp::ZERO,
        });
        Ok(match known {
            Some(found) => Ready::Known(found, head),
            None => Ready::New(head),
        })
    }
}

/// A start that has passed every check.
enum Ready {
    New(Box<RunHead>),
    /// It would be refused now, but it was started before.
    Known(Started, Box<RunHead>),
}

/// Sends a new run to the store; an immediate one is leased to a worker of this process with it.
async fn send<O>(on: &Engine, head: RunHead, immediate: bool) -> Result<RunHandle<O>, Error> {
    let (engine, id) = (&on.inner, head.id);
    // Whoever leases from a capped queue looks at its cap: a claim does.
    let immediate = immediate && engine.caps.of(&head.queue).is_none();
    let kept = immediate.then(|| engine.locals.keep(&head.queue)).flatten();
    let (lease_to, begun) = kept.as_ref().map(|kept| kept.local.lease_of(&head)).unzip();
    let begun = begun.flatten();
    let watcher = Arc::new(engine.changes.watch(id));
    let start = (head.saga.name.clone(), head.input_hash.clone());
    let offer = offer_of(&head, head.due);
    let new = Submission::Run(Box::new(NewRun { head, lease_to }));
    match engine.store.submit(&[new]).await?.pop() {
        Some(Submitted::Created(leased)) => {
            match (kept, leased) {
                (Some(kept), Some(leased)) => kept.hand(*leased, begun),
                _ => engine.offer(offer).await,
            }
            Ok(RunHandle { fresh: Some(watcher), ..on.handle(id) })
        }
        Some(Submitted::Known(head) | Submitted::Guarded(head)) => Ok(on.handle(head.id)),
        Some(Submitted::Pruned(tombstone)) if tombstone.is_of(&start.0, &start.1) => {
            Ok(handle_of(on, Started::Once(tombstone)))
        }
        Some(Submitted::Pruned(tombstone)) => Err(key_taken(tombstone.run)),
        Some(Submitted::KeyTaken(head)) => Err(key_taken(head.id)),
        Some(Submitted::Requested(_) | Submitted::NoSuchRun) | None => {
            Err(Error::new(ErrorKind::Internal, "store_answer", "start a run"))
        }
    }
}

fn key_taken(run: RunId) -> Error {
    Error::new(ErrorKind::Conflict, "key_taken", "start a run")
        .with_context(format!("run {run} has this key with another start"))
        .with_hint("use another key, or the saga and the input of that run")
}

/// What is known of an earlier start.
enum Started {
    /// The run is there.
    Run(RunId),
    /// It was removed.
    Once(Box<Tombstone>),
}

fn handle_of<O>(engine: &Engine, found: Started) -> RunHandle<O> {
    match found {
        Started::Run(run) => engine.handle(run),
        Started::Once(tombstone) => {
            RunHandle { pruned: Some(Arc::from(tombstone.clone())), ..engine.handle(tombstone.run) }
        }
    }
}

impl super::Inner {
    /// Asks the limiter whether a tenant may start one more run.
    async fn admit_start(&self, tenant: Option<&str>) -> Result<(), Error> {
        let Some(rate) = self.start_rate else { return Ok(()) };
        let bucket = format!("engine.start/{}", tenant.unwrap_or_default());
        let profile = Profile { bucket, rate: Some(rate), concurrency: None };
        let worker = Incarnation(uuid::Uuid::nil());
        let ask = Ask { profile, calls: 1, worker, slot: false, turn: Turn::Open };
        match self.limiter.admit(&ask).await {
            Ok(Admission::At { wait, .. }) => {
                Err(Error::new(ErrorKind::Limit, "too_many_starts", "start a run")
                    .with_retry_after(wait)
                    .with_hint("start it later, or raise the engine's limit of starts"))
            }
            Ok(Admission::Now { .. }) => Ok(()),
            Err(error) => {
                tracing::debug!(%error, "the limit of starts could not be asked for");
                Ok(())
            }
        }
    }

    /// The run that was started with this key and input, if there is one.
    async fn started_with(
        &self,
        key: Option<&str>,
        saga: &str,
        hash: &str,
    ) -> Result<Option<Started>, Error> {
        let Some(key) = key else { return Ok(None) };
        let filter = RunFilter { key: Some(key.to_owned()), ..RunFilter::default() };
        let found = self.store.list(&filter).await?.runs;
        let same = |head: &RunHead| head.saga.name == saga && head.input_hash == hash;
        if let Some(head) = found.into_iter().find(same) {
            return Ok(Some(Started::Run(head.id)));
        }
        let query = TombstoneQuery::Key(key.to_owned());
        let mut found = self.retention_store.tombstones(&query).await?.into_iter();
        let once = found.find(|tombstone| tombstone.is_of(saga, hash));
        Ok(once.map(|tombstone| Started::Once(Box::new(tombstone))))
    }

    /// Tells claimants about a run; polling would find it as well.
    pub(super) async fn offer(&self, offer: Offer) {
        if let Some(offers) = &self.offers
            && offers.put(slice::from_ref(&offer)).await
        {
            return;
        }
        self.changes.work.notify_waiters();
        if let Err(error) = self.queue.wake(&[offer.run]).await {
            tracing::debug!(%error, "the queue could not be woken");
        }
    }
}

impl<O: Data> IntoFuture for StartRun<O> {
    type Output = Result<RunHandle<O>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.submit())
    }
}

/// Knows a run and the type of its output.
#[derive(Debug, Clone)]
pub struct RunHandle<O> {
    engine: Engine,
    id: RunId,
    /// Of a run that this handle's start has created: it was watched from before that.
    fresh: Option<Arc<Watcher>>,
    /// Of a run that was removed before this handle's start came again.
    pruned: Option<Arc<Tombstone>>,
    output: PhantomData<fn() -> O>,
}

/// How soon a handle asks the store when no worker of this process tells it of a change: at first,
/// and at the latest.
const ASK_AFTER: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));

/// A run that takes long is asked for less often: a whole journal is read each time.
fn ask_after(waited: Duration) -> Duration {
    (waited / 8).clamp(ASK_AFTER.0, ASK_AFTER.1)
}

impl<O: Data> RunHandle<O> {
    /// The run.
    #[must_use]
    pub fn id(&self) -> &RunId {
        &self.id
    }

    /// Whether this start created the run, or found one that was there.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.fresh.is_some()
    }

    /// What is known of the run, when it was over and removed before this start came again: it is not
    /// started anew, and nothing else of it can be read.
    #[must_use]
    pub fn pruned(&self) -> Option<&Tombstone> {
        self.pruned.as_deref()
    }

    /// Waits until the run is over or parked, and says how.
    ///
    /// Safe to cancel; the run goes on without it.
    ///
    /// # Errors
    /// The run is unknown or was removed (code `pruned`), its journal cannot be read, or the store cannot be reached.
    pub async fn outcome(&self) -> Result<Outcome<O>, Error> {
        if let Some(tombstone) = self.pruned() {
            return Err(retention::pruned(tombstone));
        }
        let watcher = self.engine.inner.changes.watch(self.id);
        let stops = watcher.wakes.count();
        // Who started it knows that it moves until this process says otherwise.
        let mut moves = self.fresh.is_some() && stops == 0;
        let began = clock::moment();
        loop {
            let changed = watcher.wakes.still.notified();
            if let Some(still) = watcher.wakes.after(stops) {
                return self.engine.outcome_when(self.id, &still).await;
            }
            if !std::mem::take(&mut moves) {
                let record = self.engine.load(&self.id).await?;
                if let Some(outcome) = self.engine.outcome_of(&record).await? {
                    return Ok(outcome);
                }
            }
            let waited = clock::moment().saturating_duration_since(began);
            clock::within(ask_after(waited), changed).await;
        }
    }

    /// Waits for the output; every end but success is an error that says what happened.
    ///
    /// # Errors
    /// As [`Self::outcome`], and kind `Unsuccessful` when the run did not succeed.
    pub async fn output(&self) -> Result<O, Error> {
        let failed = |code: &'static str, what: String, hint: &'static str| {
            Err(Error::new(ErrorKind::Unsuccessful, code, "wait for a run's output")
                .with_context(format!("run {}: {what}", self.id))
                .with_hint(hint))
        };
        let why = |failure: Option<crate::error::Failure>| {
            failure.map_or_else(|| "cancelled".to_owned(), |failure| failure.to_string())
        };
        match self.outcome().await? {
            Outcome::Succeeded(output) | Outcome::PartlySucceeded(output, _) => Ok(output),
            Outcome::RolledBack(failure) => {
                failed("rolled_back", why(failure), "mend the cause, then redrive the run")
            }
            Outcome::RolledBackKeeping(failure, _) => {
                failed("rolled_back_keeping", why(failure), "look at the ledger for what is left")
            }
            Outcome::Parked(failure, _) => {
                let what = failure.to_string();
                failed("parked", what, "resolve what it asks for, then retry the run")
            }
            Outcome::TornDown => failed("torn_down", "removed by order".to_owned(), "start anew"),
        }
    }
}
