//! What was seen at the seams of the engine, and the place where the world is stopped.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use provision_core::{
    Call, CallKind, RunId, StepError, clock,
    context::Seam,
    probe::{Juncture, Probe},
    run::journal::{Direction, Record},
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::{Script, script::InPlay};

/// How long a call waits for its turn: one that was cut never gives its own back.
const TURN_WITHIN: Duration = Duration::from_secs(5);

/// One point of a run, found again by what happens there and the how manieth time it is.
///
/// A write is named by its first record and met by every write that holds that record: which records
/// go out together is a matter of time with a store that takes its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Point {
    /// What happens there.
    pub label: String,
    /// The how manieth time, from 1.
    pub nth: u32,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.nth {
            1 => write!(f, "{}", self.label),
            nth => write!(f, "{} (time {nth})", self.label),
        }
    }
}

/// Something that was seen.
#[derive(Debug, Clone)]
pub(super) enum Seen {
    /// Records were committed.
    Appended(RunId, Vec<Record>),
    /// A call was about to be sent.
    Sending(RunId, String, CallKind),
    /// The process ended and another one began.
    Ended,
}

#[derive(Debug, Default)]
struct State {
    counts: HashMap<String, u32>,
    points: Vec<Point>,
    seen: Vec<Seen>,
    /// Mutating calls as they were first made: path, operation, whether before any unwinding.
    calls: Vec<(String, &'static str, bool)>,
    /// Steps whose code was called, in the order of their first attempts.
    attempted: Vec<String>,
    unwinding: bool,
    /// Where somebody is still to interrupt the run.
    interrupt: Option<Point>,
    crash: Option<Point>,
    crashed: bool,
    /// How many points there were when it turned back, was interrupted, and came to its first end.
    turned: Option<usize>,
    interrupted: Option<usize>,
    /// Processes that are gone.
    processes: u64,
    ended: usize,
    /// Whose turn it is to call, where calls go one after another.
    turn: Option<(RunId, String, OwnedSemaphorePermit)>,
}

/// What the names of records begin with by which a run, or a step of it, turns back.
const TURNS: [&str; 2] = ["unwinding of", "gave up"];

impl State {
    /// Counts what happens here under each of its names, and takes note of where that is.
    fn reach(&mut self, names: Vec<String>) -> Vec<Point> {
        let turns = |name: &String| TURNS.iter().any(|turn| name.contains(turn));
        if self.turned.is_none() && names.iter().any(turns) {
            self.turned = Some(self.points.len());
        }
        let mut here = Vec::with_capacity(names.len());
        for label in names {
            let nth = self.counts.entry(label.clone()).or_default();
            *nth += 1;
            here.push(Point { label, nth: *nth });
        }
        here
    }
}

/// What one scenario shows, over all its processes.
#[derive(Debug)]
pub(super) struct Trace {
    /// A plain mutex, held for one look.
    state: Mutex<State>,
    stopped: Notify,
    interrupts: Notify,
    interrupted: Notify,
    upset: InPlay,
    turns: Option<Arc<Semaphore>>,
}

impl Trace {
    pub(super) fn new(script: &Script, in_turn: bool) -> Arc<Self> {
        let (interrupt, crash) = (script.interrupt.clone(), script.crash.clone());
        let state = Mutex::new(State { interrupt, crash, ..State::default() });
        let upset = InPlay::new(script.upset.clone());
        let (stopped, interrupts, interrupted) = Default::default();
        let turns = in_turn.then(|| Arc::new(Semaphore::new(1)));
        Arc::new(Self { state, stopped, interrupts, interrupted, upset, turns })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Comes back when the point of the crash is reached.
    pub(super) async fn stopped(&self) {
        self.stopped.notified().await;
    }

    /// Comes back when the point is reached at which somebody interrupts the run.
    pub(super) async fn interrupts(&self) {
        self.interrupts.notified().await;
    }

    /// The run goes on from there.
    pub(super) fn interrupted(&self) {
        self.interrupted.notify_one();
    }

    /// Whether the point of the interruption was reached, if there is one.
    pub(super) fn was_interrupted(&self) -> bool {
        self.state().interrupt.is_none()
    }

    /// The process is gone; what follows belongs to the next one.
    pub(super) fn ended(&self) {
        let mut state = self.state();
        state.processes += 1;
        state.turn = None;
        state.seen.push(Seen::Ended);
    }

    /// How many processes were there before this one.
    pub(super) fn processes_before(&self) -> u64 {
        self.state().processes
    }

    /// What a process that is gone had written down.
    pub(super) fn remember(&self, run: RunId, records: Vec<Record>) {
        self.state().seen.push(Seen::Appended(run, records));
    }

    /// Whether the point of the crash was reached.
    pub(super) fn has_crashed(&self) -> bool {
        self.state().crashed
    }

    pub(super) fn points(&self) -> Vec<Point> {
        self.state().points.clone()
    }

    /// How many points there were when the run came to its first end.
    pub(super) fn points_before_first_end(&self) -> usize {
        self.state().ended
    }

    /// How many points there were when the run, or a step of it, turned back; all if none did.
    pub(super) fn points_before_turn(&self) -> usize {
        let state = self.state();
        state.turned.unwrap_or(state.points.len())
    }

    /// How many points there were when somebody interrupted the run; all if nobody did.
    pub(super) fn points_before_interruption(&self) -> usize {
        let state = self.state();
        state.interrupted.unwrap_or(state.points.len())
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    pub(super) fn calls(&self) -> Vec<(String, &'static str, bool)> {
        self.state().calls.clone()
    }

    pub(super) fn attempted(&self) -> Vec<String> {
        self.state().attempted.clone()
    }

    /// Waits until no other call is under way, first come, first served.
    async fn take_turn(&self, run: &RunId, path: &str) {
        let Some(turns) = &self.turns else { return };
        let turn = clock::within(TURN_WITHIN, Arc::clone(turns).acquire_owned()).await;
        if let Some(Ok(turn)) = turn {
            self.state().turn = Some((*run, path.to_owned(), turn));
        }
    }

    fn give_turn(&self, run: &RunId, path: &str) {
        self.state().turn.take_if(|(of, at, _)| of == run && at == path);
    }

    /// A point with its names: the first is the one it is recorded under.
    async fn point(&self, names: Vec<String>) {
        let (interrupts, here) = {
            let mut state = self.state();
            let points = state.reach(names);
            let interrupts = state.interrupt.take_if(|at| points.contains(at)).is_some();
            if interrupts {
                state.interrupted = Some(state.points.len());
            }
            let is_here = |at: &Point| points.contains(at);
            let here = !state.crashed && state.crash.as_ref().is_some_and(is_here);
            state.crashed |= here;
            state.points.extend(points.into_iter().next());
            (interrupts, here)
        };
        if interrupts {
            self.interrupts.notify_one();
            self.interrupted.notified().await;
        }
        if here {
            self.stopped.notify_one();
            // Nothing follows: whoever drives this run is dropped.
            std::future::pending::<()>().await;
        }
    }
}

/// The probe of one process.
#[derive(Debug, Clone)]
pub(super) struct Watch(pub(super) Arc<Trace>);

#[async_trait]
impl Probe for Watch {
    async fn appending(&self, _: &RunId, records: &[Record]) {
        self.0.point(names("before writing", records)).await;
    }

    async fn appended(&self, run: &RunId, records: &[Record]) {
        {
            let mut state = self.0.state();
            state.seen.push(Seen::Appended(*run, records.to_vec()));
            state.unwinding |= records.iter().any(|r| matches!(r, Record::UnwindStarted { .. }));
        }
        self.0.point(names("after writing", records)).await;
        let ends = records.iter().any(|r| matches!(r, Record::Ended { .. }));
        let mut state = self.0.state();
        if ends && state.ended == 0 {
            state.ended = state.points.len();
        }
    }

    async fn call(&self, run: &RunId, path: &str, call: &Call, seam: Seam) {
        let operation = call.operation;
        let when = match seam {
            Seam::Sending => "before",
            Seam::Answered => "after",
        };
        if seam == Seam::Sending {
            self.0.take_turn(run, path).await;
            let mut state = self.0.state();
            state.seen.push(Seen::Sending(*run, path.to_owned(), call.kind));
            let (path, forward) = (path.to_owned(), !state.unwinding);
            let made = (path, operation, forward);
            if call.kind == CallKind::Mutate && !state.calls.contains(&made) {
                state.calls.push(made);
            }
        }
        self.0.point(vec![format!("{when} `{operation}` of `{path}`")]).await;
        if seam == Seam::Answered {
            self.0.give_turn(run, path);
        }
    }

    fn upset(&self, _: &RunId, path: &str, at: Juncture<'_>) -> Option<StepError> {
        if let Juncture::Begins { dir: Direction::Forward, .. } = at {
            let mut state = self.0.state();
            if !state.attempted.iter().any(|known| known == path) {
                state.attempted.push(path.to_owned());
            }
        }
        self.0.upset.at(path, at)
    }
}

/// What an append says, short and the same in every run: a name for each record.
fn names(when: &str, records: &[Record]) -> Vec<String> {
    if records.is_empty() {
        return vec![format!("{when} the row alone")];
    }
    records.iter().map(|record| format!("{when} {}", name(record))).collect()
}

fn name(record: &Record) -> String {
    let way = |dir: &Direction| match dir {
        Direction::Forward => "",
        Direction::Undo => "undo of ",
    };
    match record {
        Record::Waiting { path, dir, .. } => format!("{}`{path}` waits", way(dir)),
        Record::Started { path, dir, .. } => format!("{}`{path}` started", way(dir)),
        Record::Intent { path, .. } => format!("`{path}` intends"),
        Record::Noted { path, .. } => format!("`{path}` noted"),
        Record::Failed { path, dir, .. } => format!("{}`{path}` failed", way(dir)),
        Record::Resolved { path, .. } => format!("`{path}` resolved"),
        Record::Succeeded { path, dir, .. } => format!("{}`{path}` done", way(dir)),
        Record::Skipped { path } => format!("`{path}` skipped"),
        Record::Kept { path } => format!("undo of `{path}` keeps something"),
        Record::Refused { code, .. } => format!("a request refused: {code}"),
        Record::GaveUp { path, dir, .. } => format!("{}`{path}` gave up", way(dir)),
        Record::Expanded { path, .. } => format!("`{path}` expanded"),
        Record::UnwindStarted { scope, .. } => format!("unwinding of `{scope}`"),
        Record::Unwound { scope } => format!("`{scope}` unwound"),
        Record::Sealed { path, name } => format!("`{name}` of `{path}` sealed"),
        Record::Signal { name, .. } => format!("signal `{name}`"),
        Record::Ordered { .. } => "an order".to_owned(),
        Record::Parked { .. } => "parked".to_owned(),
        Record::Ended { status, .. } => format!("ended {}", status.as_str()),
        Record::Renewed { path, generation, .. } => format!("`{path}` renewed to {generation}"),
    }
}
