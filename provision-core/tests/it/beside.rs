//! A queue beside the store: what it is told, what is leased from it, and what its loss costs.

use std::{
    collections::BTreeMap,
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use provision_core::{
    Engine, MemoryStore, NothingToUndo, RunHandle, RunId, Saga, SagaId, SignalId, Step,
    StepContext, StepError, WorkerConfig,
    clock::sleep,
    engine::Trouble,
    error::StoreError,
    id::Timestamp,
    queue::{Claim, Offer, Queue, QueueStats},
    store::StateStore as _,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use crate::counting::{Counting, Road};

const WORK: SagaId<String, u32> = SagaId::new("work", 1);
const GO: SignalId<u32> = SignalId::new("go");
/// So seldom that no test waits for it.
const NEVER: Duration = Duration::from_secs(100_000);

/// How the queue behaves.
#[derive(Debug, Default)]
struct Mood {
    /// Each message so often.
    copies: AtomicUsize,
    fails: AtomicBool,
    hangs: AtomicBool,
    /// It proposes, and takes nothing.
    takes_nothing: AtomicBool,
}

/// A queue of its own: an entry that was proposed is hidden for a minute.
#[derive(Debug, Clone)]
struct Board {
    clock: MemoryStore,
    entries: Arc<Mutex<BTreeMap<RunId, Entry>>>,
    stirred: Arc<Notify>,
    mood: Arc<Mood>,
    /// Entries that were put in.
    offered: Arc<AtomicUsize>,
}

#[derive(Debug, Clone)]
struct Entry {
    offer: Offer,
    copies: usize,
    hidden: Timestamp,
}

impl Board {
    fn new(clock: &MemoryStore) -> Self {
        let mood = Mood { copies: AtomicUsize::new(1), ..Mood::default() };
        Self {
            clock: clock.clone(),
            entries: Arc::default(),
            stirred: Arc::default(),
            mood: Arc::new(mood),
            offered: Arc::default(),
        }
    }

    fn len(&self) -> usize {
        self.entries.lock().unwrap().len()
    }

    fn lose_all(&self) {
        self.entries.lock().unwrap().clear();
    }

    async fn answers(&self) -> Result<(), StoreError> {
        if self.mood.hangs.load(Ordering::SeqCst) {
            pending::<()>().await;
        }
        match self.mood.fails.load(Ordering::SeqCst) {
            true => Err(StoreError::unavailable("the board")),
            false => Ok(()),
        }
    }

    /// As [`Self::answers`], of what is put in or taken out.
    async fn takes(&self) -> Result<(), StoreError> {
        if self.mood.takes_nothing.load(Ordering::SeqCst) {
            pending::<()>().await;
        }
        self.answers().await
    }

    fn put(&self, offers: &[Offer]) {
        let copies = self.mood.copies.load(Ordering::SeqCst);
        for offer in offers {
            let entry = Entry { offer: offer.clone(), copies, hidden: Timestamp::ZERO };
            self.entries.lock().unwrap().insert(offer.run, entry);
        }
        self.offered.fetch_add(offers.len(), Ordering::SeqCst);
        self.stirred.notify_waiters();
    }

    async fn look(&self, claim: &Claim) -> Vec<RunId> {
        let now = self.clock.now().await.unwrap();
        let mut entries = self.entries.lock().unwrap();
        let mut found = Vec::new();
        for (run, entry) in entries.iter_mut() {
            let named = claim.queues.is_empty() || claim.queues.contains(&entry.offer.queue);
            if !named || entry.offer.due > now || found.len() >= claim.limit {
                continue;
            }
            if entry.copies > 0 {
                entry.copies -= 1;
                entry.hidden = now.plus(Duration::from_secs(60));
                found.push(*run);
            } else if entry.hidden <= now {
                entry.copies = 1;
            }
        }
        found
    }
}

#[async_trait]
impl Queue for Board {
    async fn offer(&self, offers: &[Offer]) -> Result<(), StoreError> {
        self.takes().await?;
        self.put(offers);
        Ok(())
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<RunId>, StoreError> {
        self.answers().await?;
        let until = Instant::now() + claim.wait;
        loop {
            let stirred = self.stirred.notified();
            let found = self.look(claim).await;
            if !found.is_empty() || Instant::now() >= until {
                return Ok(found);
            }
            // Due times are looked for every tenth of a second.
            let step = (until - Instant::now()).min(Duration::from_millis(100));
            let _: Result<(), _> = timeout(step, stirred).await;
        }
    }

    async fn ack(&self, runs: &[RunId]) -> Result<(), StoreError> {
        self.takes().await?;
        self.entries.lock().unwrap().retain(|run, _| !runs.contains(run));
        Ok(())
    }

    async fn wake(&self, _: &[RunId]) -> Result<(), StoreError> {
        self.answers().await?;
        self.stirred.notify_waiters();
        Ok(())
    }

    async fn stats(&self) -> Result<QueueStats, StoreError> {
        self.answers().await?;
        Ok(QueueStats { ready: self.len() as u64, ..QueueStats::default() })
    }
}

/// Counts its calls by run; the first one of a run asks to be called again later.
#[derive(Debug, Clone, Default)]
struct Count {
    calls: Arc<Mutex<BTreeMap<String, u32>>>,
    takes: Duration,
}

impl Count {
    fn each_was_called(&self, runs: usize, times: u32) {
        let calls = self.calls.lock().unwrap();
        assert_eq!(calls.len(), runs);
        assert!(calls.values().all(|count| *count == times), "{calls:?}");
    }
}

impl Step for Count {
    const KIND: &'static str = "test.count";
    type Input = String;
    type Output = u32;

    async fn run(&self, _: &StepContext, name: String) -> Result<u32, StepError> {
        sleep(self.takes).await;
        let mut calls = self.calls.lock().unwrap();
        let count = calls.entry(name).or_default();
        *count += 1;
        Ok(*count)
    }
}

fn saga(id: SagaId<String, u32>, count: &Count) -> Saga<String, u32> {
    let saga = Saga::define(id, |s| {
        s.step("count", count.clone(), NothingToUndo).input((), |name: &String, ()| name.clone())
    });
    saga.unwrap()
}

async fn engine(store: &MemoryStore, queue: impl Queue, count: &Count) -> Engine {
    let builder = Engine::builder(store.clone()).queue(queue).register(saga(WORK, count));
    builder.build().await.unwrap()
}

/// An entry that is due at once.
fn entry(run: RunId) -> Offer {
    let due = Timestamp::ZERO;
    Offer { run, queue: "default".to_owned(), priority: 0, tenant: None, due }
}

fn unknown_run() -> RunId {
    RunId::from_uuid(uuid::Uuid::from_u128(7))
}

/// Starts runs in an engine without workers, as another process would.
async fn started(engine: &Engine, count: usize) -> Vec<RunHandle<u32>> {
    let mut runs = Vec::new();
    for n in 0..count {
        runs.push(engine.start(WORK, &n.to_string()).await.unwrap());
    }
    runs
}

async fn all_end(runs: &[RunHandle<u32>]) {
    for run in runs {
        let ended = timeout(Duration::from_secs(600), run.output()).await;
        assert_eq!(ended.expect("the run ends").unwrap(), 1);
    }
}

/// A worker that finds nothing by itself: the first scan is over when this returns.
async fn blind(engine: &Engine) -> provision_core::Worker {
    let worker = engine.spawn_worker(WorkerConfig::default().with_poll(NEVER).with_slots(8));
    sleep(Duration::from_millis(10)).await;
    worker
}

// covers: S23
#[tokio::test(start_paused = true)]
async fn a_worker_that_never_scans_lives_by_what_the_queue_proposes() {
    let store = MemoryStore::new();
    let (board, count) = (Board::new(&store), Count::default());
    let starter = engine(&store, board.clone(), &count).await;
    let worker = blind(&engine(&store, board.clone(), &count).await).await;
    let began = Instant::now();
    let runs = started(&starter, 50).await;
    all_end(&runs).await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    count.each_was_called(50, 1);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(board.len(), 0, "what has ended was acked");
    worker.stop().await;
}

/// A wait of half an hour, cut short by a signal.
fn waiting() -> Saga<String, u32> {
    Saga::define(WORK, |s| s.signal(GO).input((), |_, ()| Duration::from_secs(1_800))).unwrap()
}

// covers: S23
#[tokio::test(start_paused = true)]
async fn waiting_runs_are_delayed_entries_and_what_is_asked_of_them_moves_them() {
    let store = MemoryStore::new();
    let board = Board::new(&store);
    let build = || Engine::builder(store.clone()).queue(board.clone()).register(waiting()).build();
    let (starter, other) = (build().await.unwrap(), build().await.unwrap());
    let worker = blind(&other).await;
    let began = Instant::now();
    let asked = starter.start(WORK, &"asked".into()).await.unwrap();
    let late = starter.start(WORK, &"late".into()).await.unwrap();
    let delayed = starter.start(WORK, &"d".into()).delay(Duration::from_secs(600)).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    starter.signal(asked.id(), GO, &1).await.unwrap();
    assert_eq!(asked.output().await.unwrap(), 1);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(late.output().await.unwrap_err().code(), "rolled_back");
    let waited = began.elapsed();
    assert!((1_800..1_810).contains(&waited.as_secs()), "{waited:?}");
    starter.signal(delayed.id(), GO, &1).await.unwrap();
    assert_eq!(delayed.output().await.unwrap(), 1);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(board.len(), 0);
    worker.stop().await;
}

// covers: S23, L7
#[tokio::test(start_paused = true)]
async fn what_the_queue_has_lost_is_found_by_the_scan_and_put_forward_again() {
    let store = MemoryStore::new();
    let (board, count) =
        (Board::new(&store), Count { takes: Duration::from_secs(2), ..Count::default() });
    let starter = engine(&store, board.clone(), &count).await;
    let runs = started(&starter, 60).await;
    board.lose_all();
    let before = board.offered.load(Ordering::SeqCst);
    let worker = engine(&store, board.clone(), &count).await;
    let worker = worker.spawn_worker(WorkerConfig::default().with_slots(4));
    sleep(Duration::from_secs(5)).await;
    let again = board.offered.load(Ordering::SeqCst) - before;
    assert!(again >= 40, "{again} were put forward again");
    board.lose_all();
    all_end(&runs).await;
    count.each_was_called(60, 1);
    worker.stop().await;
}

// covers: S23, S8
#[tokio::test(start_paused = true)]
async fn messages_that_come_three_times_run_nothing_twice() {
    let store = MemoryStore::new();
    let (board, count) =
        (Board::new(&store), Count { takes: Duration::from_secs(1), ..Count::default() });
    board.mood.copies.store(3, Ordering::SeqCst);
    let starter = engine(&store, board.clone(), &count).await;
    let one = blind(&engine(&store, board.clone(), &count).await).await;
    let two = blind(&engine(&store, board.clone(), &count).await).await;
    let began = Instant::now();
    let runs = started(&starter, 60).await;
    all_end(&runs).await;
    assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
    count.each_was_called(60, 1);
    for worker in [one, two] {
        worker.stop().await;
    }
}

// covers: S23
#[tokio::test(start_paused = true)]
async fn entries_of_what_is_over_or_unknown_are_forgotten() {
    let store = MemoryStore::new();
    let (board, count) = (Board::new(&store), Count::default());
    let starter = engine(&store, board.clone(), &count).await;
    let worker = blind(&engine(&store, board.clone(), &count).await).await;
    let run = started(&starter, 1).await.remove(0);
    run.output().await.unwrap();
    board.offer(&[entry(*run.id()), entry(unknown_run())]).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(board.len(), 0);
    count.each_was_called(1, 1);
    worker.stop().await;
}

// covers: S23, L7
#[tokio::test(start_paused = true)]
async fn a_queue_that_fails_or_hangs_costs_time_and_nothing_else() {
    let store = MemoryStore::new();
    let (board, count) = (Board::new(&store), Count::default());
    let starter = engine(&store, board.clone(), &count).await;
    let other = engine(&store, board.clone(), &count).await;
    let worker = other.spawn_worker(WorkerConfig::default().with_slots(4));
    for mood in [&board.mood.fails, &board.mood.hangs] {
        mood.store(true, Ordering::SeqCst);
        let began = Instant::now();
        let run = starter.start(WORK, &format!("{began:?}")).await.unwrap();
        run.output().await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        let health = other.health().await;
        assert_eq!(health.troubles, [Trouble::Queue]);
        assert!(health.queue.is_some(), "the store still counts");
        mood.store(false, Ordering::SeqCst);
    }
    sleep(Duration::from_secs(5)).await;
    assert!(other.health().await.is_ready());
    let began = Instant::now();
    starter.start(WORK, &"well again".into()).await.unwrap().output().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    worker.stop().await;
}

// A worker of another program, which does not know the saga, keeps nothing from those who do.
// covers: L3
#[tokio::test(start_paused = true)]
async fn a_proposal_that_one_worker_cannot_lease_comes_to_another() {
    let store = MemoryStore::new();
    let (board, count) = (Board::new(&store), Count::default());
    let starter = engine(&store, board.clone(), &count).await;
    let stranger = Engine::builder(store.clone()).queue(board.clone()).build().await.unwrap();
    let stranger = stranger.spawn_worker(WorkerConfig::default());
    let worker = engine(&store, board.clone(), &count).await;
    let worker = worker.spawn_worker(WorkerConfig::default().with_poll(NEVER).with_slots(1));
    sleep(Duration::from_millis(10)).await;
    let runs = started(&starter, 10).await;
    all_end(&runs).await;
    count.each_was_called(10, 1);
    for worker in [stranger, worker] {
        worker.stop().await;
    }
}

// A store that cannot be asked has not said that a run is over.
// covers: S23
#[tokio::test(start_paused = true)]
async fn nothing_is_forgotten_while_the_store_does_not_answer() {
    let store = Counting::default();
    let (board, count) = (Board::new(&store.store), Count::default());
    let builder = Engine::builder(store.clone()).queue(board.clone()).register(saga(WORK, &count));
    let engine = builder.build().await.unwrap();
    let worker = blind(&engine).await;
    let late = engine.start(WORK, &"late".into()).delay(Duration::from_secs(120)).await.unwrap();
    for road in [Road::Down, Road::Slow(Duration::from_secs(30))] {
        store.taken();
        store.set("load", road);
        board.put(&[entry(*late.id())]);
        sleep(Duration::from_secs(3)).await;
        assert!(store.count("load") > 0, "the proposal was looked after");
        assert_eq!(board.len(), 1, "the entry of a live run stays");
    }
    store.set("load", Road::Open);
    board.put(&[entry(*late.id())]);
    assert_eq!(late.output().await.unwrap(), 1);
    worker.stop().await;
}

// What could not be leased is told to the queue beside, and not before, what was.
// covers: S23, L7
#[tokio::test(start_paused = true)]
async fn what_was_leased_does_not_wait_for_what_is_told_of_the_rest() {
    let store = MemoryStore::new();
    let (board, count) = (Board::new(&store), Count::default());
    let alone = Engine::builder(store.clone()).register(saga(WORK, &count));
    let alone = alone.build().await.unwrap();
    let worker = blind(&engine(&store, board.clone(), &count).await).await;
    let run = alone.start(WORK, &"run".into()).await.unwrap();
    board.mood.takes_nothing.store(true, Ordering::SeqCst);
    board.put(&[entry(*run.id()), entry(unknown_run())]);
    sleep(Duration::from_millis(200)).await;
    count.each_was_called(1, 1);
    worker.stop().await;
}

// covers: S23
#[tokio::test(start_paused = true)]
async fn a_run_that_is_proposed_early_comes_when_it_is_due() {
    let store = MemoryStore::new();
    let (board, count) = (Board::new(&store), Count::default());
    let engine = engine(&store, board.clone(), &count).await;
    let worker = blind(&engine).await;
    let began = Instant::now();
    let run = engine.start(WORK, &"run".into()).delay(Duration::from_secs(5)).await.unwrap();
    board.put(&[entry(*run.id())]);
    let ended = timeout(Duration::from_secs(60), run.output()).await.expect("not at a poll alone");
    assert_eq!(ended.unwrap(), 1);
    assert!((5..7).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    worker.stop().await;
}

// covers: L3, S23
#[tokio::test(start_paused = true)]
async fn entries_that_nobody_here_can_lease_do_not_hold_back_those_behind_them() {
    const OTHER: SagaId<String, u32> = SagaId::new("other", 1);
    let store = MemoryStore::new();
    let (board, count) = (Board::new(&store), Count::default());
    let builder = Engine::builder(store.clone()).queue(board.clone()).register(saga(OTHER, &count));
    let foreign = builder.build().await.unwrap();
    for n in 0..500 {
        foreign.start(OTHER, &format!("other {n}")).await.unwrap();
    }
    let starter = engine(&store, board.clone(), &count).await;
    let runs = started(&starter, 100).await;
    let began = Instant::now();
    let worker = engine(&store, board.clone(), &count).await;
    let worker = worker.spawn_worker(WorkerConfig::default().with_slots(4));
    while count.calls.lock().unwrap().len() < 100 {
        // Four runs at each poll would take twenty-five seconds.
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        sleep(Duration::from_millis(50)).await;
    }
    all_end(&runs).await;
    count.each_was_called(100, 1);
    worker.stop().await;
}

// covers: S23
#[tokio::test(start_paused = true)]
async fn a_worker_fills_the_queue_again_with_the_oldest_of_what_it_serves() {
    let store = MemoryStore::new();
    let (board, count) =
        (Board::new(&store), Count { takes: Duration::from_secs(2), ..Count::default() });
    let starter = engine(&store, board.clone(), &count).await;
    let runs = started(&starter, 60).await;
    for n in 0..1_200 {
        starter.start(WORK, &format!("other {n}")).queue("other").await.unwrap();
    }
    board.lose_all();
    let worker = engine(&store, board.clone(), &count).await;
    let config = WorkerConfig::default().with_slots(4).with_queues(["default"]);
    let worker = worker.spawn_worker(config);
    sleep(Duration::from_secs(3)).await;
    let known: Vec<RunId> = board.entries.lock().unwrap().keys().copied().collect();
    assert!(known.len() >= 40, "{} were put forward again", known.len());
    assert!(known.iter().all(|known| runs.iter().any(|run| run.id() == known)));
    all_end(&runs).await;
    worker.stop().await;
}

// covers: S23, L7
#[tokio::test(start_paused = true)]
async fn a_hung_queue_is_waited_for_once_and_not_by_every_start() {
    let store = MemoryStore::new();
    let (board, count) = (Board::new(&store), Count::default());
    let starter = engine(&store, board.clone(), &count).await;
    board.mood.hangs.store(true, Ordering::SeqCst);
    let began = Instant::now();
    started(&starter, 50).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

// covers: L3, L7, S23
#[tokio::test(start_paused = true)]
async fn a_slot_that_a_start_kept_in_vain_is_used_again_within_a_poll() {
    let store = Counting::default();
    let (board, count) = (Board::new(&store.store), Count::default());
    let builder = Engine::builder(store.clone()).queue(board.clone()).register(saga(WORK, &count));
    let engine = builder.build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default().with_slots(1));
    let start = async || engine.start(WORK, &"known".into()).key("known").await.unwrap();
    start().await.output().await.unwrap();
    let late = engine.start(WORK, &"late".into()).delay(Duration::from_secs(4)).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    store.set("submit", Road::Slow(Duration::from_secs(5)));
    assert!(!start().await.is_new());
    // The run became due while the only slot was kept for the start.
    let ended = timeout(Duration::from_secs(3), late.output()).await;
    assert_eq!(ended.expect("the slot is used").unwrap(), 1);
    worker.stop().await;
}
