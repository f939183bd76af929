//! What a run looks like from outside: its steps, attempts and failures, folded from the journal.

use serde::{Deserialize, Serialize};

use super::Engine;
use crate::{
    drive::fold,
    error::{Error, Failure},
    id::{RunId, Timestamp},
    run::{
        RunStatus,
        decide::{Node, Phase, State, Undo},
        journal::{Direction, Record},
    },
    saga::graph::Kind,
    store::{RunFilter, RunHead, RunRecord},
};

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StepStatus {
    /// Not begun.
    Pending,
    /// An attempt is open.
    Running,
    /// Waits for a time, a limit, a signal or a child.
    Waiting,
    /// Done.
    Succeeded,
    /// Its attempts are over without success, and nothing of it is left.
    Failed,
    /// Whether it had an effect is not known.
    Unknown,
    /// Not wanted.
    Skipped,
    /// Being undone.
    Compensating,
    /// Undone.
    Compensated,
    /// Needs a person.
    Parked,
}

impl StepStatus {
    /// The name it is shown under.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Skipped => "skipped",
            Self::Compensating => "compensating",
            Self::Compensated => "compensated",
            Self::Parked => "parked",
        }
    }
}

/// One step as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepView {
    /// Stable path.
    pub path: String,
    /// Durable kind.
    pub kind: String,
    /// Phase it belongs to.
    pub phase: Option<String>,
    /// Where it stands.
    pub status: StepStatus,
    /// Attempts begun forward; polls are not attempts.
    pub attempts: u32,
    /// Attempts begun to undo it.
    pub undo_attempts: u32,
    /// Generation of its effect.
    pub generation: u32,
    /// Its last failure.
    pub failure: Option<Failure>,
    /// When it is due, while it waits.
    pub due: Option<Timestamp>,
}

/// One record of the journal in brief, for timelines and error histories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptView {
    /// Position of its frame.
    pub seq: u64,
    /// When it was written.
    pub at: Timestamp,
    /// The step.
    pub path: String,
    /// Which way.
    pub dir: Direction,
    /// Its failure.
    pub failure: Failure,
}

/// A run as it is now.
///
/// ```
/// use std::time::Duration;
///
/// use provision_core::{Engine, MemoryStore, Saga, SagaId, executor::{Executor, HostDriven}};
///
/// const REST: SagaId<(), ()> = SagaId::new("rest", 1);
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let seconds = Duration::from_secs;
/// let saga = Saga::define(REST, |s| s.sleep("rest").input((), move |_, ()| seconds(60)))?;
/// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
///
/// // The first run of a saga has no past to go by.
/// let first = engine.start(REST, &()).await?;
/// assert_eq!(engine.snapshot(first.id()).await?.eta, None);
/// HostDriven.drive(&engine, first.id()).await?;
///
/// // The second one has: it will take as long.
/// let second = engine.start(REST, &()).await?;
/// let eta = engine.snapshot(second.id()).await?.eta;
/// assert!(eta.is_some_and(|eta| eta >= seconds(59) && eta <= seconds(62)), "{eta:?}");
/// tokio::time::sleep(seconds(40)).await;
/// let eta = engine.snapshot(second.id()).await?.eta;
/// assert!(eta.is_some_and(|eta| eta <= seconds(22)), "{eta:?}");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The run's row.
    pub head: RunHead,
    /// Its steps, in the order of the definition; items of a fan-out follow it.
    pub steps: Vec<StepView>,
    /// Time the rest may take, from past runs of the same saga; `None` without history.
    pub eta: Option<std::time::Duration>,
}

impl Engine {
    /// Looks at a run: its row, its steps, and how long the rest may take.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use provision_core::{Engine, MemoryStore, Saga, SagaId, engine::StepStatus};
    ///
    /// const SEATS: SagaId<u32, u32> = SagaId::new("seats", 1);
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let saga = Saga::define(SEATS, |s| {
    ///     let asked = s.value("asked").input((), |n, ()| *n);
    ///     let slept = s.sleep("slept").after(asked).input((), |_, ()| Duration::from_secs(3_600));
    ///     s.value("given").after(slept).input(asked, |_, n| n)
    /// })?;
    /// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
    /// let run = engine.start(SEATS, &4).await?;
    /// engine.run_one().await?;
    /// let now = engine.snapshot(run.id()).await?;
    /// let steps: Vec<_> = now.steps.iter().map(|step| (&*step.path, step.status)).collect();
    /// assert_eq!(
    ///     steps,
    ///     [
    ///         ("asked", StepStatus::Succeeded),
    ///         ("slept", StepStatus::Waiting),
    ///         ("given", StepStatus::Pending),
    ///     ],
    /// );
    /// assert_eq!((now.head.summary.done, now.head.summary.total), (1, 3));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// There is no such run, its saga is not registered here, or its journal is damaged.
    pub async fn snapshot(&self, run: &RunId) -> Result<Snapshot, Error> {
        let record = self.load(run).await?;
        let eta = self.eta(&record).await?;
        self.snapshot_of(record, eta)
    }

    pub(crate) fn snapshot_of(
        &self,
        record: RunRecord,
        eta: Option<std::time::Duration>,
    ) -> Result<Snapshot, Error> {
        let state = fold(&record.head, &record.frames, &self.inner.plans)?;
        let leased = record.head.owner.is_some();
        let steps = (0..state.nodes.len()).map(|number| view(&state, number, leased)).collect();
        Ok(Snapshot { head: record.head, steps, eta })
    }

    /// Every failed attempt of a run, oldest first.
    ///
    /// # Errors
    /// There is no such run, or its journal is damaged.
    pub async fn failures(&self, run: &RunId) -> Result<Vec<AttemptView>, Error> {
        let record = self.load(run).await?;
        let mut out = Vec::new();
        for frame in &record.frames {
            let records = crate::drive::records(frame)?;
            for record in records {
                if let Record::Failed { path, dir, failure, .. } = record {
                    let path = path.to_string();
                    out.push(AttemptView { seq: frame.seq, at: frame.at, path, dir, failure });
                }
            }
        }
        Ok(out)
    }

    /// Median duration of past successes of the same saga, less what has passed.
    async fn eta(&self, record: &RunRecord) -> Result<Option<std::time::Duration>, Error> {
        let head = &record.head;
        if head.status.is_end() || head.status == RunStatus::Parked {
            return Ok(None);
        }
        let filter = RunFilter {
            saga: Some(head.saga.name.clone()),
            status: vec![RunStatus::Succeeded],
            limit: 20,
            ..RunFilter::default()
        };
        let mut past: Vec<_> = (self.inner.store.list(&filter).await?.runs)
            .into_iter()
            .filter(|run| run.saga.version == head.saga.version)
            .map(|run| run.updated_at.since(run.created_at))
            .collect();
        past.sort_unstable();
        let Some(median) = past.get(past.len() / 2) else { return Ok(None) };
        let passed = self.inner.store.now().await?.since(head.created_at);
        Ok(Some(median.saturating_sub(passed)))
    }
}

fn view(state: &State, number: usize, leased: bool) -> StepView {
    let node = state.node(number);
    let def = node.def();
    StepView {
        path: node.path.to_string(),
        kind: def.kind_name().to_owned(),
        phase: def.phase.map(str::to_owned),
        status: status(state, number, leased),
        attempts: node.forward.begun,
        undo_attempts: node.backward.begun,
        generation: node.generation,
        failure: node.failure.clone(),
        due: due(node),
    }
}

fn due(node: &Node) -> Option<Timestamp> {
    match (&node.undo, &node.phase) {
        (Undo::Waiting { due, .. }, _) | (Undo::None, Phase::Waiting { due, .. }) => Some(*due),
        _ => None,
    }
}

fn status(state: &State, number: usize, leased: bool) -> StepStatus {
    let node = state.node(number);
    let unknown = node.standing() == crate::error::Effect::Unknown;
    match &node.undo {
        Undo::Done => return StepStatus::Compensated,
        Undo::GaveUp | Undo::LeftBehind => return StepStatus::Parked,
        Undo::Due | Undo::Waiting { .. } | Undo::Running => return StepStatus::Compensating,
        Undo::None => {}
    }
    match &node.phase {
        Phase::Idle => StepStatus::Pending,
        Phase::Waiting { .. } => StepStatus::Waiting,
        Phase::Running if matches!(node.def().kind, Kind::Each { .. }) => StepStatus::Running,
        Phase::Running if !leased && unknown => StepStatus::Unknown,
        Phase::Running => StepStatus::Running,
        Phase::Succeeded => StepStatus::Succeeded,
        Phase::Skipped => StepStatus::Skipped,
        Phase::GaveUp if state.parked.is_some() && !node.def().optional => StepStatus::Parked,
        Phase::GaveUp => StepStatus::Failed,
        Phase::Closed if node.failure.is_some() => StepStatus::Failed,
        Phase::Closed => StepStatus::Skipped,
    }
}

impl State {
    /// Failures that the run went on despite.
    pub(crate) fn tolerated(&self) -> Vec<Failure> {
        let failed = self.nodes.iter().filter(|n| n.phase == Phase::GaveUp && !n.def().is_hook());
        failed.filter_map(|node| node.failure.clone()).collect()
    }
}
