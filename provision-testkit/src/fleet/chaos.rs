//! What goes on around the workers, and what comes of it.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use provision_core::{
    Engine, RunHandle, RunId, Timestamp,
    clock::sleep,
    error::ErrorKind,
    run::journal::Record,
    store::{RunHead, StateStore},
};

use super::{
    DELIVER, Depot, Order, Process, Site, Times, all_succeed, answered, each_once, engine, ms, now,
};

/// The workers of a scene, while faults go on around them.
#[derive(Debug)]
pub struct Crew<'a, S: Site> {
    site: &'a S,
    folder: &'a Path,
    workers: Vec<Process>,
}

impl<S: Site> Crew<'_, S> {
    /// One worker gets SIGKILL, and another one starts in its place.
    pub fn replace_one(&mut self) {
        drop(self.workers.remove(0));
        self.workers.push(Process::start(self.site, self.folder));
    }

    /// One worker stands still for so long.
    pub async fn freeze_one(&mut self, time: Duration) {
        self.workers[0].signal("STOP");
        sleep(time).await;
        self.workers[0].signal("CONT");
    }
}

/// How long after the last fault all runs are over: those that are started later, so long after that.
const HEALED_MAX: Duration = Duration::from_secs(60);

/// What was ordered, with its run, and when its start was answered.
type Ordered = (Order, RunHandle<String>, Timestamp);

/// How runs have ended around which faults went on.
#[derive(Debug, Clone, Copy)]
pub struct Healed {
    /// How many there were.
    pub runs: usize,
    /// How long the last one took after the last fault, or after its own start if that came later.
    pub after: Duration,
    /// Attempts that were cut, and begun anew without using one up.
    pub cut: usize,
}

/// What went on while faults did.
struct Driven {
    ordered: Vec<Ordered>,
    /// When the last fault was over.
    healed: Timestamp,
    workers: Vec<Process>,
}

/// Two workers drive runs that are started one after the other: so many at least, and until `faults`
/// is over. Every start is repeated until it is answered.
async fn driven<S: Site>(
    (site, folder, engine): (&S, &Path, &Engine),
    runs: usize,
    faults: impl AsyncFnOnce(&mut Crew<'_, S>),
) -> Driven {
    let workers = (0..2).map(|_| Process::start(site, folder)).collect();
    let mut crew = Crew { site, folder, workers };
    let is_over = AtomicBool::new(false);
    let starts = async {
        let mut started = Vec::new();
        while started.len() < runs || !is_over.load(Relaxed) {
            let order = Order::late(format!("order-{}", started.len()), ms(30));
            let run = keyed(engine, &order).await;
            started.push((order, run, now()));
            sleep(ms(15)).await;
        }
        started
    };
    let faults = async {
        faults(&mut crew).await;
        is_over.store(true, Relaxed);
        now()
    };
    let (ordered, healed) = tokio::join!(starts, faults);
    Driven { ordered, healed, workers: crew.workers }
}

/// Starts a run by the name of its order, until the store has answered.
async fn keyed(engine: &Engine, order: &Order) -> RunHandle<String> {
    let start = answered(async || engine.start(DELIVER, order).key(&order.name).await);
    start.await.unwrap()
}

/// The times of workers around which faults go on.
fn write_short_times(folder: &Path) {
    Times { lease: ms(2_000), poll: ms(200), grace: ms(1_000) }.write(folder);
}

/// S18, S19, L1: two workers drive runs, so many at least, which are started one after the other
/// while `faults` goes on. Whatever it does to the store and the workers: every run succeeds within
/// a minute of its end, each makes one thing, and no trouble of the store uses up an attempt.
pub async fn everything_ends_well<S: Site>(
    site: &S,
    folder: &Path,
    runs: usize,
    faults: impl AsyncFnOnce(&mut Crew<'_, S>),
) -> Healed {
    write_short_times(folder);
    let store = site.store().await;
    let (depot, engine) = (Depot::at(folder), engine(store.clone(), folder).await);
    let Driven { ordered, healed, workers } = driven((site, folder, &engine), runs, faults).await;
    let (at, runs): (Vec<_>, Vec<_>) = ordered.into_iter().map(|(_, run, at)| (at, run)).unzip();
    all_succeed(&engine, &runs).await;
    let mut ended = Healed { runs: runs.len(), after: Duration::ZERO, cut: 0 };
    for (run, at) in runs.iter().zip(at) {
        let over = engine.run(run.id()).await.unwrap().updated_at;
        ended.after = ended.after.max(over.since(healed.max(at)));
    }
    assert!(ended.after < HEALED_MAX, "{ended:?}");
    each_once(&depot, runs.len());
    for run in &runs {
        ended.cut += cut_attempts(&store, run.id()).await;
    }
    drop(workers);
    ended
}

/// The provider has refused nothing, so nothing but a fault has ended an attempt without success: each
/// of those was cut, and uses up nothing of what the step is allowed. Answers how many.
async fn cut_attempts(store: &impl StateStore, run: &RunId) -> usize {
    let record = store.load(&[*run]).await.unwrap().remove(0).unwrap();
    let mut cut = 0;
    for record in record.frames.iter().flat_map(|frame| Record::decode(&frame.body).unwrap()) {
        if let Record::Failed { interrupted, .. } = &record {
            assert!(*interrupted, "an attempt of run {run} is used up: {record:?}");
            cut += 1;
        }
    }
    cut
}

/// What a store has lost of what it had answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forgotten {
    /// Runs that were ordered.
    pub of: usize,
    /// Runs that it does not know any more.
    pub runs: usize,
    /// Things that were made for them.
    pub boxes: usize,
}

/// S5, S11, L1: as [`everything_ends_well`], on a store that loses in `faults` what it had answered.
/// Every run that it still knows succeeds and has made one thing; one that it has forgotten is
/// started anew by its host, as another run. What was made for the forgotten ones is taken for
/// nothing else, and a sweep tells of all of it.
pub async fn what_is_forgotten_is_told_and_mixed_up_with_nothing<S: Site>(
    site: &S,
    folder: &Path,
    runs: usize,
    faults: impl AsyncFnOnce(&mut Crew<'_, S>),
) -> Forgotten {
    write_short_times(folder);
    let (depot, engine) = (Depot::at(folder), engine(site.store().await, folder).await);
    let Driven { ordered, workers, .. } = driven((site, folder, &engine), runs, faults).await;
    let (mut known, mut lost) = (Vec::new(), 0);
    for (order, run, _) in ordered {
        if is_known(&engine, run.id()).await {
            known.push(run);
            continue;
        }
        let again = keyed(&engine, &order).await;
        assert_ne!(again.id(), run.id());
        known.push(again);
        lost += 1;
    }
    all_succeed(&engine, &known).await;
    let mut made = depot.by_run();
    for run in &known {
        assert_eq!(made.remove(run.id()), Some(1), "run {} has made one thing", run.id());
    }
    let strays = strays(&engine, known.len()).await;
    assert!(made.keys().eq(&strays), "the sweep tells of all of {made:?}: {strays:?}");
    drop(workers);
    Forgotten { of: known.len(), runs: lost, boxes: made.into_values().sum() }
}

async fn is_known(engine: &Engine, run: &RunId) -> bool {
    match answered(async || engine.run(run).await).await {
        Ok(RunHead { id, .. }) => id == *run,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            false
        }
    }
}

/// The runs of what a sweep finds that nothing wants, beside so many things that are wanted.
async fn strays(engine: &Engine, wanted: usize) -> BTreeSet<RunId> {
    let report = engine.sweep(false).await.unwrap();
    assert_eq!((report.wanted, report.missing.len()), (wanted, 0), "{report:?}");
    assert!(report.failures.is_empty(), "{report:?}");
    report.strays.iter().map(|stray| stray.run.unwrap()).collect()
}
