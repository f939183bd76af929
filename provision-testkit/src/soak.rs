//! A soak (L8): load of several kinds, round after round, and what the process holds afterwards.
//!
//! Runs succeed and are torn down, are refused and undone, repeat an attempt, or are cancelled; they
//! look again for a resource that is not ready, and wait for a signal. When a round is over its runs
//! are removed from the store: what a store in memory keeps on purpose is no growth.
//!
//! What is held is that of the whole process, so the caller gives the soak one of its own. Pools,
//! caches and the allocator take what they want for a while and then no more; what leaks grows with
//! each round. So rounds are measured in stretches, and what has not grown in one of them is well:
//! neither a slow machine nor a late end of a task is taken for a leak.
//!
//! It is measured on Linux alone, where `/proc` tells.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    future::Future,
    time::Duration,
};

use provision_core::{
    By, Compensator, Engine, ExternalId, Found, Identity, Intent, Listing, Outcome, Policy,
    Readiness, Resource, RunHandle, RunId, Saga, SagaId, SignalId, Step, StepContext, StepError,
    Timing, Undo, WorkerConfig, clock::sleep, engine::Backend, retention::Prune,
};

const SOAK: SagaId<String, String> = SagaId::new("soak", 1);
/// What the runs wait for; its value says what their last step does.
const GO: SignalId<Told> = SignalId::new("go");

/// Runs of one round.
pub const RUNS: usize = 120;
/// Rounds before the first measurement.
const WARM_UP: usize = 2;
/// Rounds between two measurements.
const STRETCH: usize = 2;
/// Stretches after which what has grown in each of them is a leak.
const STRETCHES: usize = 4;
/// Looks at what is held; the least counts, since what goes on beside the load comes and goes.
const LOOKS: usize = 40;
const PAUSE: Duration = Duration::from_millis(10);
/// How long what is over may take to be gone.
const LONG: Duration = Duration::from_secs(60);
/// How long what was closed may take to be closed.
const CLOSED_MAX: Duration = Duration::from_secs(30);
/// Memory by which a stretch may end higher than it began: pages that an allocator has split. A
/// leak of one kilobyte and a half for each run is more.
const MEMORY_STEP_BYTES: u64 = 320 * 1024;
/// The unit of `statm`: that of all systems these tests are run on.
const PAGE_BYTES: u64 = 4_096;

/// What is soaked.
pub trait Subject: Send + Sync {
    /// The store on which the runs are.
    type Store: Backend + Clone;

    /// Opens it.
    fn open(&self) -> impl Future<Output = Self::Store> + Send;

    /// How many of its connections somebody uses now.
    fn connections(&self, _: &Self::Store) -> u64 {
        0
    }

    /// What a host does with a run beside it; nothing unless something is to be found.
    fn beside(&mut self, _: &RunHandle<String>) {}
}

/// What a process holds, by name.
type Held = BTreeMap<&'static str, u64>;

const MEMORY: &str = "memory";
const TASKS: &str = "tasks";
const FILES: &str = "files";

/// Whether this system tells what a process holds.
#[must_use]
pub fn is_told() -> bool {
    own_memory_bytes().is_some()
}

/// Without files that are mapped.
fn own_memory_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = statm.split_ascii_whitespace().skip(1).map_while(|word| word.parse().ok());
    let (resident, shared): (u64, u64) = (pages.next()?, pages.next()?);
    Some(resident.saturating_sub(shared) * PAGE_BYTES)
}

/// Memory in bytes, tasks of this runtime that are not over, threads, open files and sockets.
fn held() -> Held {
    let count = |folder| fs::read_dir(folder).unwrap().count() as u64;
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    BTreeMap::from([
        (MEMORY, own_memory_bytes().unwrap()),
        (TASKS, tasks as u64),
        ("threads", count("/proc/self/task")),
        (FILES, count("/proc/self/fd")),
    ])
}

/// The least that is held over some looks.
async fn least(connections: impl Fn() -> u64) -> Held {
    let mut least = Held::new();
    for _ in 0..LOOKS {
        let mut held = held();
        held.insert("connections", connections());
        for (what, count) in held {
            let least = least.entry(what).or_insert(count);
            *least = count.min(*least);
        }
        sleep(PAUSE).await;
    }
    least
}

/// What is held more than before, in words by name.
fn grown(before: &Held, after: &Held) -> BTreeMap<&'static str, String> {
    let more = |(what, after): (&&'static str, &u64)| {
        let (before, step) = (before[what], if *what == MEMORY { MEMORY_STEP_BYTES } else { 0 });
        (*after > before + step).then(|| (*what, format!("{what} from {before} to {after}")))
    };
    after.iter().filter_map(more).collect()
}

/// Plays rounds of load and says what grows with each stretch of them, and which tasks and files are
/// left when everything is closed: nothing where all is well.
///
/// # Panics
/// The system tells nothing, a run does not end as it should, or what is over is not removed within
/// a minute.
pub async fn soak(subject: &mut impl Subject) -> Vec<String> {
    let before = least(|| 0).await;
    let mut leaks = soaked(subject).await;
    leaks.extend(left(&before).await);
    leaks
}

async fn soaked<S: Subject>(subject: &mut S) -> Vec<String> {
    let store = subject.open().await;
    let engine = Engine::builder(store.clone()).register(saga()).build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    for _ in 0..WARM_UP {
        round(&engine, &store, subject).await;
    }
    let mut before = least(|| subject.connections(&store)).await;
    let mut suspects = None::<BTreeMap<_, _>>;
    for _ in 0..STRETCHES {
        for _ in 0..STRETCH {
            round(&engine, &store, subject).await;
        }
        let after = least(|| subject.connections(&store)).await;
        let mut more = grown(&before, &after);
        if let Some(suspects) = &suspects {
            more.retain(|what, _| suspects.contains_key(what));
        }
        before = after;
        let is_well = more.is_empty();
        suspects = Some(more);
        if is_well {
            break;
        }
    }
    worker.stop().await;
    suspects.unwrap_or_default().into_values().collect()
}

/// What is open although everything is closed, and was not before.
async fn left(before: &Held) -> Vec<String> {
    let mut left = Vec::new();
    for _ in 0..CLOSED_MAX.as_millis() / PAUSE.as_millis() {
        let more = grown(before, &held()).into_iter();
        left =
            more.filter(|(what, _)| [TASKS, FILES].contains(what)).map(|(_, more)| more).collect();
        if left.is_empty() {
            break;
        }
        sleep(PAUSE).await;
    }
    left.into_iter().map(|more| format!("left when all was closed: {more}")).collect()
}

/// What the last step of a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
enum Told {
    Succeeds,
    SucceedsLater,
    Fails,
}

/// Something that is there when it was looked at twice. Nobody remembers it.
#[derive(Debug, Clone, Copy)]
struct Berth;

impl Resource for Berth {
    const KIND: &'static str = "soak.berth";
    type Spec = String;
    type Output = String;

    fn identity(&self, name: &String) -> Identity {
        Identity::Named(name.clone())
    }

    async fn find(&self, _: &StepContext, _: &String) -> Result<Found, StepError> {
        Ok(Found::Absent)
    }

    async fn create(
        &self,
        _: &StepContext,
        name: &String,
        _: &Intent,
    ) -> Result<ExternalId, StepError> {
        Ok(ExternalId::new(name.as_str()))
    }

    async fn ready(
        &self,
        cx: &StepContext,
        name: &String,
        _: &ExternalId,
    ) -> Result<Readiness<String>, StepError> {
        if cx.memory().polling_since.is_some() {
            return Ok(Readiness::Ready(name.clone()));
        }
        Ok(Readiness::NotYet { again_in: Duration::from_millis(20) })
    }

    async fn delete(&self, _: &StepContext, _: &String, _: &ExternalId) -> Result<(), StepError> {
        Ok(())
    }

    async fn list_owned(&self, _: &StepContext) -> Result<Listing, StepError> {
        Ok(Listing::Unmarked)
    }

    fn timing(&self) -> Timing {
        Timing { listing_lag: Duration::ZERO, ..Timing::default() }
    }
}

/// Does as it is told.
#[derive(Debug, Clone, Copy)]
struct Finish;

impl Step for Finish {
    const KIND: &'static str = "soak.finish";
    type Input = Told;
    type Output = String;

    async fn run(&self, cx: &StepContext, told: Told) -> Result<String, StepError> {
        match told {
            Told::Fails => Err(StepError::permanent("finish")),
            Told::SucceedsLater if cx.attempt() == 1 => Err(StepError::retry("finish")),
            Told::Succeeds | Told::SucceedsLater => Ok(cx.path().to_owned()),
        }
    }
}

impl Compensator<Self> for Finish {
    async fn compensate(&self, _: &StepContext, _: Told, _: Undo<String>) -> Result<(), StepError> {
        Ok(())
    }
}

fn saga() -> Saga<String, String> {
    let saga = Saga::define(SOAK, |s| {
        let berth = s.resource("berth", Berth).input((), |name: &String, ()| name.clone());
        let told = s.signal(GO).input(berth, |_, _| Duration::from_secs(3_600));
        let again = Policy::attempts(3).fixed(Duration::from_millis(10));
        s.step("finish", Finish, Finish).retry(again).input(told, |_, told| told)
    });
    saga.unwrap()
}

async fn round<S: Subject>(engine: &Engine, store: &S::Store, subject: &mut S) {
    let mut runs = Vec::with_capacity(RUNS);
    for number in 0..RUNS {
        let run = engine.start(SOAK, &format!("berth-{number}")).await.unwrap();
        let asked = match number % 4 {
            0 => engine.signal(run.id(), GO, &Told::Succeeds).await,
            1 => engine.signal(run.id(), GO, &Told::SucceedsLater).await,
            2 => engine.signal(run.id(), GO, &Told::Fails).await,
            _ => engine.cancel(run.id(), By::default()).await,
        };
        asked.unwrap();
        subject.beside(&run);
        runs.push(run);
    }
    ended(engine, &runs).await;
    removed(store, runs.iter().map(|run| *run.id()).collect()).await;
}

/// Waits for all of them, and tears down those that succeed.
async fn ended(engine: &Engine, runs: &[RunHandle<String>]) {
    let mut succeeded = Vec::new();
    for run in runs {
        match run.outcome().await.unwrap() {
            Outcome::Succeeded(_) => succeeded.push(run),
            Outcome::RolledBack(_) => continue,
            other => panic!("run {} is {other:?}", run.id()),
        }
        engine.tear_down(run.id(), By::default()).await.unwrap();
    }
    assert_eq!(succeeded.len() * 2, RUNS, "every other run succeeds");
    for run in succeeded {
        torn_down(run).await;
    }
}

/// Waits for an order that no worker may have heard yet.
async fn torn_down(run: &RunHandle<String>) {
    for _ in 0..LONG.as_millis() / PAUSE.as_millis() {
        match run.outcome().await.unwrap() {
            Outcome::TornDown => return,
            _ => sleep(PAUSE).await,
        }
    }
    panic!("run {} is not torn down", run.id());
}

/// Removes what is over, until nothing of the round is left.
async fn removed(store: &impl Backend, mut left: BTreeSet<RunId>) {
    for _ in 0..LONG.as_millis() / PAUSE.as_millis() {
        // What has changed in the very millisecond of the call is left alone.
        sleep(PAUSE).await;
        let mut prune = Prune::before(store.now().await.unwrap());
        prune.dead_letters = true;
        loop {
            let step = store.prune(&prune).await.unwrap();
            for run in &step.runs {
                left.remove(run);
            }
            prune.after = step.next;
            if prune.after.is_none() {
                break;
            }
        }
        if left.is_empty() {
            return;
        }
    }
    panic!("{} runs are not removed", left.len());
}
