//! The real engine over a simulated provider, in a time of its own.
//!
//! Both live on tokio's paused clock: a wait of an hour costs nothing, and while a request is under
//! way the clock stands still, so that real HTTP takes no time at all. The times that adapters
//! declare (quiet times, listing lags, polls) are the real ones here, and the cloud's stages too.

use std::{
    cell::Cell,
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use async_trait::async_trait;
use provision_adapters::sim::{
    FaultPlan, InventoryItem, Provider, RequestLine, SimOptions, SimServer,
};
use provision_core::{
    Call, CallKind, Engine, LedgerQuery, LedgerRow, MemoryStore, NothingToUndo, Outcome, Policy,
    ResourceState, RunId, Saga, SagaId, Step, StepContext, StepError, Timestamp, Worker,
    WorkerConfig, clock::Clock, context::Seam, engine::RunHandle, probe::Probe,
    resolver::MapResolver, vault::LocalKeys,
};
use serde_json::Value;
use tokio::time::Instant;

/// The sagas of all scenes: a name in, a word out.
pub(crate) const SAGA: SagaId<String, String> = SagaId::new("scene", 1);

/// When every case begins; fixed, so that a case is the same on every day.
const BEGIN: Timestamp = Timestamp::from_millis(1_767_225_600_000);

/// How long an unanswered request may hold the clock, in real time, before a case is given up.
const STUCK: Duration = Duration::from_secs(120);

/// How often it is looked whether a call is one to which nothing comes any more.
const LOOK: Duration = Duration::from_millis(20);
/// Faults after which nothing comes, or never enough: only the call's own time ends it.
const SILENT: [&str; 4] = ["half_open", "slow", "slow_headers", "trickle"];

/// Longest time of a call where it is set short, as an option of every adapter.
pub(crate) const CALL_WITHIN: Duration = Duration::from_millis(200);

std::thread_local! {
    static HASTY: Cell<bool> = const { Cell::new(false) };
}

/// Longest time of a call of the scenes that this thread sets. What the engine's maintenance asks
/// does not hold the clock, and needs its time.
pub(crate) fn call_within() -> Duration {
    if HASTY.get() { CALL_WITHIN } else { Duration::from_secs(30) }
}

/// Does work in which calls end after [`CALL_WITHIN`].
pub(crate) fn hastily<T>(work: impl FnOnce() -> T) -> T {
    HASTY.set(true);
    let out = work();
    HASTY.set(false);
    out
}

/// How a scene's saga is built.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Build {
    /// Whether its last step fails for good, so that everything is undone.
    pub(crate) fails: bool,
    /// Whether a failed attempt is the last one of its step.
    pub(crate) gives_up: bool,
}

impl Build {
    pub(crate) const GOES_WELL: Self = Self { fails: false, gives_up: false };
    pub(crate) const FAILS_AT_THE_END: Self = Self { fails: true, gives_up: false };
    pub(crate) const GIVES_UP: Self = Self { fails: false, gives_up: true };

    /// How often a step is tried.
    pub(crate) fn policy(self) -> Policy {
        if self.gives_up { Policy::once() } else { Policy::onboarding_default() }
    }
}

/// One provider with a small saga of its steps.
pub(crate) trait Scene: Clone + fmt::Debug + Send + Sync + 'static {
    /// The simulated provider.
    type Sim: Provider;

    /// The cloud before anything happens, with what others have in it.
    fn sim(&self) -> Self::Sim;
    /// The saga over a client of `url`; its last step is [`End`].
    fn saga(&self, url: &str, build: Build) -> Saga<String, String>;
    /// The tokens.
    fn resolver(&self) -> MapResolver;
    /// The part of a state that must be as before when all is undone.
    fn lasting(&self, state: Value) -> Value;
    /// The kind of the inventory that has the same ids as a kind of the ledger.
    fn same_ids(&self, kind: &str) -> Option<&'static str>;
    /// Whether a step that has no identity may have made this kind more than once.
    fn may_repeat(&self, _kind: &str) -> bool {
        false
    }
    /// How far this provider's look-ups are declared to lag at most.
    fn lag(&self) -> Duration;
    /// How late a cut request may land here at most.
    fn late(&self) -> Duration;
}

/// The step at the end of a scene, which goes well or fails for good.
#[derive(Debug)]
pub(crate) struct End(pub(crate) Build);

impl Step for End {
    const KIND: &'static str = "scene.end";
    type Input = String;
    type Output = String;

    async fn run(&self, _: &StepContext, word: String) -> Result<String, StepError> {
        match self.0.fails {
            true => Err(StepError::permanent("end").with_code("as_planned")),
            false => Ok(word),
        }
    }
}

/// What [`End`] is undone by.
pub(crate) const NOTHING: NothingToUndo = NothingToUndo;

/// The cloud's time: the engine's, as of its last request.
#[derive(Debug, Clone, Default)]
struct CloudClock(Arc<AtomicU64>);

impl Clock for CloudClock {
    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Acquire))
    }
}

/// Takes the time from engine to cloud, and holds it while a request is under way.
pub(crate) struct Timekeeper {
    cloud: CloudClock,
    start: Instant,
    // A plain mutex: held for single reads and writes, never across an `.await`.
    open: Mutex<HashMap<(RunId, String), Open>>,
    plan: OnceLock<FaultPlan>,
    over: Mutex<Vec<Over>>,
}

/// A call under way.
struct Open {
    /// Dropped at its end.
    _hold: mpsc::Sender<()>,
    began: Instant,
    fired: usize,
}

/// A call that is over.
#[derive(Debug, Clone)]
pub(crate) struct Over {
    pub(crate) operation: &'static str,
    pub(crate) kind: CallKind,
    /// How long it took, by the engine's clock.
    pub(crate) took: Duration,
    /// When it was over, by the store's clock.
    pub(crate) at: Timestamp,
    /// Whether a fault happened meanwhile.
    pub(crate) disturbed: bool,
}

impl fmt::Debug for Timekeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timekeeper").finish_non_exhaustive()
    }
}

impl Timekeeper {
    fn now(&self) -> Timestamp {
        BEGIN.plus(self.start.elapsed())
    }

    fn tick(&self) {
        self.cloud.0.store(self.now().as_millis(), Ordering::Release);
    }

    fn fired(&self) -> Vec<&'static str> {
        self.plan.get().map(FaultPlan::fired).unwrap_or_default()
    }
}

/// Keeps a blocking task busy until a call is over, or until nothing comes to it any more.
fn hold(held: &mpsc::Receiver<()>, plan: Option<&FaultPlan>, before: usize) {
    let silent = |fired: Vec<&'static str>| fired.iter().filter(|f| SILENT.contains(f)).count();
    for _ in 0..STUCK.as_millis() / LOOK.as_millis() {
        let waits = held.recv_timeout(LOOK) == Err(mpsc::RecvTimeoutError::Timeout);
        let new = plan.map_or(0, |plan| silent(plan.fired().split_off(before)));
        if !waits || new > 0 {
            return;
        }
    }
}

/// The same keeper, as the engine's probe.
#[derive(Debug, Clone)]
struct Seams(Arc<Timekeeper>);

#[async_trait]
impl Probe for Seams {
    async fn call(&self, run: &RunId, path: &str, call: &Call, seam: Seam) {
        let place = (*run, path.to_owned());
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let fired = self.0.fired().len();
        match seam {
            Seam::Sending => {
                self.0.tick();
                let (sender, held) = mpsc::channel::<()>();
                let plan = self.0.plan.get().cloned();
                // Tokio does not move a paused clock while a blocking task runs.
                drop(tokio::task::spawn_blocking(move || hold(&held, plan.as_ref(), fired)));
                open.insert(place, Open { _hold: sender, began: Instant::now(), fired });
            }
            Seam::Answered => {
                let Some(begun) = open.remove(&place) else { return };
                let over = Over {
                    operation: call.operation,
                    kind: call.kind,
                    took: begun.began.elapsed(),
                    at: self.0.now(),
                    disturbed: fired > begun.fired,
                };
                self.0.over.lock().unwrap_or_else(PoisonError::into_inner).push(over);
            }
        }
    }
}

/// One engine with a worker, and one cloud.
pub(crate) struct Stage<S: Scene> {
    pub(crate) scene: S,
    pub(crate) server: SimServer<S::Sim>,
    pub(crate) engine: Engine,
    pub(crate) store: MemoryStore,
    keeper: Arc<Timekeeper>,
    worker: Worker,
    before: (Vec<InventoryItem>, Value),
}

impl<S: Scene> Stage<S> {
    /// Needs a paused, single-threaded runtime around it.
    pub(crate) async fn set(scene: S, build: Build) -> Self {
        let cloud = CloudClock::default();
        let start = Instant::now();
        let keeper = Arc::new(Timekeeper {
            cloud: cloud.clone(),
            start,
            open: Mutex::default(),
            plan: OnceLock::new(),
            over: Mutex::default(),
        });
        keeper.tick();
        let options = SimOptions::default().with_clock(Arc::new(cloud)).with_recorded_exchanges();
        let server = SimServer::start(scene.sim(), options).unwrap();
        keeper.plan.get_or_init(|| server.faults().clone());
        let store = MemoryStore::with_clock(Arc::new(move || BEGIN.plus(start.elapsed())));
        let engine = Engine::builder(store.clone())
            .register(scene.saga(&server.url(), build))
            .keys(LocalKeys::new("test", [7; 32]).unwrap())
            .resolver(scene.resolver())
            .probe(Seams(Arc::clone(&keeper)))
            .build()
            .await
            .unwrap();
        // The clock stands still during calls, so a lease cannot run out in one.
        let config = WorkerConfig::default().with_lease(Duration::from_secs(120));
        let worker = engine.spawn_worker(config);
        let lasting = scene.lasting(server.with(|sim| sim.snapshot()));
        let before = (server.inventory(), lasting);
        Self { scene, server, engine, store, keeper, worker, before }
    }

    pub(crate) async fn start(&self) -> RunHandle<String> {
        self.engine.start(SAGA, &"client-a".to_owned()).await.unwrap()
    }

    /// Lets time pass, for the engine and for the cloud.
    pub(crate) async fn pass(&self, time: Duration) {
        provision_core::clock::sleep(time).await;
        self.keeper.tick();
    }

    /// The calls that are over, in their order.
    pub(crate) fn calls(&self) -> Vec<Over> {
        self.keeper.over.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is there that was not there before.
    pub(crate) fn made(&self) -> Vec<InventoryItem> {
        self.keeper.tick();
        let mut items = self.server.inventory();
        items.retain(|item| !self.before.0.contains(item));
        items
    }

    /// Requests that may change something.
    pub(crate) fn changes(&self) -> Vec<RequestLine> {
        let mut lines = self.server.requests();
        lines.retain(|line| !matches!(&*line.method, "GET" | "HEAD"));
        lines
    }

    /// Rows of the ledger that say that something of this run exists, or may.
    pub(crate) async fn alive(&self, run: &RunId) -> Vec<LedgerRow> {
        let query = LedgerQuery {
            run: Some(*run),
            states: vec![ResourceState::Alive, ResourceState::Unknown, ResourceState::LeftBehind],
            ..LedgerQuery::default()
        };
        self.engine.ledger(&query).await.unwrap()
    }

    /// All is as it was before the run, to the byte; the ledger says so too.
    pub(crate) async fn assert_as_before(&self, run: &RunId, case: &str) {
        self.keeper.tick();
        assert_eq!(self.server.inventory(), self.before.0, "{case}: something stayed");
        let lasting = self.scene.lasting(self.server.with(|sim| sim.snapshot()));
        assert_eq!(lasting, self.before.1, "{case}: something of others was touched");
        let alive = self.alive(run).await;
        assert!(alive.is_empty(), "{case}: the ledger still has {alive:?}");
    }

    /// Every created row of the ledger is one thing in the cloud, and the other way round, where
    /// both sides give it the same id.
    pub(crate) async fn assert_ledger_is_the_world(&self, run: &RunId, case: &str) {
        let (mut rows, mut kinds) = (Vec::new(), BTreeSet::new());
        for row in self.alive(run).await {
            assert_eq!(row.state, ResourceState::Alive, "{case}: {row:?}");
            if let (Some(kind), Some(id)) = (self.scene.same_ids(&row.kind), row.external_id) {
                kinds.insert(kind);
                rows.push((kind.to_owned(), id.as_str().to_owned()));
            }
        }
        let made = self.made().into_iter().filter(|item| kinds.contains(&*item.kind));
        let mut made: Vec<_> = made.map(|item| (item.kind, item.id)).collect();
        rows.sort();
        made.sort();
        assert_eq!(rows, made, "{case}: ledger and world");
    }

    pub(crate) async fn close(self) {
        self.worker.stop().await;
    }
}

/// Waits for the end of a run; the time is bounded.
pub(crate) async fn ended(run: &RunHandle<String>) -> Outcome<String> {
    tokio::time::timeout(Duration::from_secs(24 * 3_600), run.outcome())
        .await
        .expect("the run did not end within a day")
        .unwrap()
}

/// Runs cases on a few threads, each case on a paused runtime of its own.
pub(crate) fn each_alone<C: Send + 'static>(cases: Vec<C>, check: fn(&C)) {
    let cases = Mutex::new(cases);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let next = cases.lock().unwrap_or_else(PoisonError::into_inner).pop();
                    let Some(case) = next else { return };
                    let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        check(&case);
                    }));
                    if let Err(panic) = end {
                        let said = panic.downcast_ref::<String>().cloned();
                        let said = said.unwrap_or_else(|| "a panic without words".to_owned());
                        failures.lock().unwrap_or_else(PoisonError::into_inner).push(said);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
}

/// Blocks on a future with a paused clock.
pub(crate) fn paused<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(future)
}
