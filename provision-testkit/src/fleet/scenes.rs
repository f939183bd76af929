//! What happens to the workers.

use std::{
    fmt::{self, Display},
    path::Path,
    time::Duration,
};

use provision_core::{Engine, RunHandle, clock::sleep};

use super::{
    DELIVER, Depot, LONG, Order, Process, Site, Times, all_succeed, each_once, engine, ms, now,
    pace::Pace, until,
};
use crate::skips::is_long;

async fn start(engine: &Engine, order: Order) -> RunHandle<String> {
    engine.start(DELIVER, &order).await.unwrap()
}

/// How many of these runs somebody holds.
async fn held(engine: &Engine, runs: &[RunHandle<String>]) -> usize {
    let mut held = 0;
    for run in runs {
        held += usize::from(engine.run(run.id()).await.unwrap().owner.is_some());
    }
    held
}

/// How soon a worker that stops lets go of what has no call open, or none any more.
const RELEASE: Duration = Duration::from_secs(1);
/// How long its open calls are waited for.
const GRACE: Duration = Duration::from_secs(8);
/// How much later than its hard deadline the last of them may be free: it has to be written down.
const CUT: Duration = Duration::from_millis(500);
/// How long after it was carried out the call is answered that ends in time.
const ANSWER: Duration = Duration::from_secs(4);
/// How often times are measured that are not as promised at once: the machine runs other tests, too,
/// and what it held up in another process is not seen here.
const TRIES: usize = 3;

/// How soon a worker that was told to stop let go.
#[derive(Debug, Clone, Copy)]
pub struct Stopped {
    /// Of what had no call open, after the signal.
    pub idle: Duration,
    /// Of a call that ended in time, after its end.
    pub ended: Duration,
    /// Of the call that was cut, after the signal.
    pub cut: Duration,
    /// How late the machine was meanwhile.
    pub late: Duration,
}

impl Stopped {
    fn is_as_promised(&self) -> bool {
        let Self { idle, ended, cut, late } = *self;
        idle <= RELEASE + late && ended <= RELEASE + late && cut <= GRACE + CUT + late
    }
}

/// A lease that nobody can wait for.
const LEASE: Duration = Duration::from_secs(240);

/// L6: a worker that gets SIGTERM lets go of what has no call open within a second, of a call that
/// ends in time when it has ended, of the rest at the hard deadline; and others go on without
/// waiting for its leases.
pub async fn a_stopping_worker_hands_over<S: Site>(site: &S, folder: &Path) -> Stopped {
    Times { lease: LEASE, poll: ms(200), grace: GRACE }.write(folder);
    let (depot, engine) = (Depot::at(folder), engine(site.store().await, folder).await);
    let mut measured = Vec::new();
    while measured.len() < TRIES {
        let stopped = a_worker_stops(site, folder, (&engine, &depot), measured.len()).await;
        if stopped.is_as_promised() {
            return stopped;
        }
        measured.push(stopped);
    }
    panic!("it lets go too late: {measured:?}");
}

async fn a_worker_stops<S: Site>(
    site: &S,
    folder: &Path,
    (engine, depot): (&Engine, &Depot),
    round: usize,
) -> Stopped {
    let mut worker = Process::start(site, folder);
    let (runs, idle) = busy(engine, depot, round).await;
    let pace = Pace::of(engine);
    worker.signal("TERM");
    let stopped = lets_go_of((engine, depot), &idle, &runs, pace).await;
    assert!(worker.ended(LONG).await.success());
    assert!(depot.boxes().contains_key(&runs[0].0), "its call was not cut");
    let runs: Vec<_> = runs.into_iter().map(|(_, run)| run).chain(idle).collect();
    assert_eq!(held(engine, &runs).await, 0, "no lease is left behind");
    let cut = engine.failures(runs[1].id()).await.unwrap();
    assert_eq!(cut.len(), 1, "the open call was cut at the deadline: {cut:?}");
    let taken = now();
    let mut next = Process::start(site, folder);
    all_succeed(engine, &runs).await;
    assert!(now().since(taken) < LEASE / 2, "nobody waited for a lease");
    next.signal("TERM");
    assert!(next.ended(LONG).await.success());
    each_once(depot, 10 * (round + 1));
    stopped
}

/// A run with the name of its order.
type Named = (String, RunHandle<String>);

/// A run whose call ends soon, one whose call does not, and some that are just begun.
async fn busy(
    engine: &Engine,
    depot: &Depot,
    round: usize,
) -> ([Named; 2], Vec<RunHandle<String>>) {
    let named = |name: &str| format!("{name}-{round}");
    let (brief, long) = (named("brief"), named("long"));
    let runs = [
        (brief.clone(), start(engine, Order::unanswered(&brief, ANSWER)).await),
        (long.clone(), start(engine, Order::late(&long, ms(25_000))).await),
    ];
    // The one is carried out by now and not answered.
    let open = async || depot.boxes().contains_key(&brief) && depot.is_held(&long);
    until("both calls are open", LONG, open).await;
    let mut idle = Vec::new();
    for number in 0..8 {
        idle.push(start(engine, Order::prompt(named(&format!("idle-{number}")))).await);
    }
    (runs, idle)
}

/// First of what has no call open, then of the call that ends in time, and of the one that would go
/// on for long at the hard deadline.
async fn lets_go_of(
    (engine, depot): (&Engine, &Depot),
    idle: &[RunHandle<String>],
    [brief, long]: &[Named; 2],
    pace: Pace,
) -> Stopped {
    let told = now();
    let free = async |runs: &[RunHandle<String>]| held(engine, runs).await == 0;
    let idle = until("what has no call is free", LONG, async || free(idle).await).await;
    let ended = std::slice::from_ref(&brief.1);
    until("what ends in time is free", LONG, async || free(ended).await).await;
    let log = depot.log();
    let made = log.iter().find(|(word, name, _)| word == "create" && *name == brief.0);
    let ended = now().since(made.expect("its call is noted").2.plus(ANSWER));
    let cut = std::slice::from_ref(&long.1);
    until("what is cut is free", LONG, async || free(cut).await).await;
    let cut = now().since(told);
    assert!(cut >= GRACE, "open calls are waited for: {cut:?}");
    Stopped { idle, ended, cut, late: pace.lateness() }
}

/// S6, S11: a worker that stands still past its lease inside of two creates, one of which the
/// provider has carried out, makes nothing twice when it goes on.
pub async fn a_frozen_worker_makes_nothing_twice<S: Site>(site: &S, folder: &Path) {
    Times { lease: ms(3_000), poll: ms(100), grace: ms(1_000) }.write(folder);
    let (depot, engine) = (Depot::at(folder), engine(site.store().await, folder).await);
    let mut frozen = Process::start(site, folder);
    let made = start(&engine, Order::unanswered("made", ms(6_000))).await;
    let unmade = start(&engine, Order::late("unmade", ms(6_000))).await;
    let open = async || depot.boxes().contains_key("made") && depot.is_held("unmade");
    until("both calls are open", LONG, open).await;
    frozen.signal("STOP");
    let mut other = Process::start(site, folder);
    let runs = [made, unmade];
    all_succeed(&engine, &runs).await;
    each_once(&depot, 2);
    let epochs = async || {
        let mut epochs = Vec::new();
        for run in &runs {
            let head = engine.run(run.id()).await.unwrap();
            epochs.push((head.epoch, head.seq));
        }
        epochs
    };
    let before = epochs().await;
    frozen.signal("CONT");
    // Longer than its calls would have taken.
    sleep(ms(7_000)).await;
    each_once(&depot, 2);
    assert_eq!(epochs().await, before, "its late writes were refused");
    let log = depot.log();
    let creates = log.iter().filter(|(word, ..)| word == "create").count();
    assert_eq!(creates, 2, "it has sent nothing since: {log:?}");
    for process in [&mut frozen, &mut other] {
        process.signal("TERM");
        assert!(process.ended(LONG).await.success());
    }
}

/// How a worker finds what another one has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// It is woken, by whatever the store has for that; a look only comes long after.
    WakeUp,
    /// It looks each time that so much has passed.
    Polling(Duration),
}

impl Finding {
    /// Longer than everything that is measured.
    const SELDOM: Duration = Duration::from_secs(20);

    const fn poll(self) -> Duration {
        match self {
            Self::WakeUp => Self::SELDOM,
            Self::Polling(poll) => poll,
        }
    }

    /// L2: how long after its owner was killed a run may stay where it was.
    fn promised(self, lease: Duration) -> Duration {
        let wait = match self {
            Self::WakeUp => Duration::ZERO,
            Self::Polling(poll) => poll,
        };
        lease + wait + ms(500)
    }
}

/// How long runs stayed with workers that were killed.
#[derive(Debug)]
pub struct TakenOver {
    /// From the kill to the next call of each, sorted.
    pub after: Vec<Duration>,
    /// How late the machine was at worst meanwhile.
    pub late: Duration,
}

impl TakenOver {
    /// The time within which so many of a hundred were taken over.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        self.after[(self.after.len() * percent).div_ceil(100) - 1]
    }
}

impl Display for TakenOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [half, most] = [50, 99].map(|percent| self.percentile(percent));
        write!(f, "taken over: p50 {half:?}, p99 {most:?}; late by {:?}", self.late)
    }
}

/// How many workers are killed: 48 runs are taken over in all, and 104 where there is time.
fn kills() -> usize {
    if is_long() { 13 } else { 6 }
}

/// L2: the runs of a worker that gets SIGKILL are taken over by another one, 99 of 100 within what is
/// promised and what the machine was late by meanwhile.
pub async fn check_takeovers<S: Site>(
    site: &S,
    folder: &Path,
    (lease, finding): (Duration, Finding),
) -> TakenOver {
    let times = Times { lease, poll: finding.poll(), grace: ms(1_000) };
    times.write(folder);
    let (depot, engine) = (Depot::at(folder), engine(site.store().await, folder).await);
    let mut measured = Vec::new();
    while measured.len() < TRIES {
        let done = measured.len() * kills();
        let mut taken = TakenOver { after: Vec::new(), late: Duration::ZERO };
        for kill in done..done + kills() {
            a_killed_workers_runs(site, folder, (&engine, &depot), (kill, times), &mut taken).await;
        }
        assert!(taken.after.len() * 2 > kills() * RUNS, "{} are taken over", taken.after.len());
        each_once(&depot, (done + kills()) * RUNS);
        taken.after.sort_unstable();
        if taken.percentile(99) <= finding.promised(lease) + taken.late {
            return taken;
        }
        measured.push(taken);
    }
    panic!("taken over too late, {finding:?} with a lease of {lease:?}: {measured:?}");
}

/// Runs of each worker that is killed.
const RUNS: usize = 8;

async fn a_killed_workers_runs<S: Site>(
    site: &S,
    folder: &Path,
    (engine, depot): (&Engine, &Depot),
    (kill, times): (usize, Times),
    taken: &mut TakenOver,
) {
    let mut dying = Process::start(site, folder);
    let names: Vec<_> = (0..RUNS).map(|run| format!("{kill}-{run}")).collect();
    let mut runs = Vec::new();
    for name in &names {
        runs.push(start(engine, Order::late(name, ms(25_000))).await);
    }
    let open = async || names.iter().all(|name| depot.is_held(name));
    until("all calls are open", LONG, open).await;
    let survivor = engine.spawn_worker(times.config());
    // At any time of its lease's life.
    let seed = u32::try_from(kill).unwrap() * 7 % 5;
    sleep(ms(200) + times.lease * seed / 10).await;
    let (killed, pace) = (now(), Pace::of(engine));
    dying.0.kill().unwrap();
    dying.0.wait().unwrap();
    all_succeed(engine, &runs).await;
    taken.late = taken.late.max(pace.lateness());
    survivor.stop().await;
    let log = depot.log();
    // One that was taken over before, from a worker that stood still, is no case of this.
    taken.after.extend(names.iter().filter_map(|name| {
        let mut looks = log.iter().filter(|(word, of, _)| word == "find" && of == name);
        looks.find(|(.., at)| *at >= killed).map(|(.., at)| at.since(killed))
    }));
}
