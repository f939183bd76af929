//! Progress: a stream of what happens to a run, resumable by sequence number.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use super::Engine;
use crate::{
    clock,
    error::{Error, Failure},
    id::{RunId, Timestamp},
    run::{
        RunStatus, RunSummary,
        journal::{Direction, Record, RequestBody, WaitReason},
    },
};

/// What one event says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum What {
    /// An attempt began.
    Started {
        /// Which way.
        dir: Direction,
        /// Its number.
        attempt: u32,
    },
    /// The step waits.
    Waiting {
        /// For what.
        reason: WaitReason,
        /// Until when.
        due: Timestamp,
    },
    /// A resource's id became known.
    Noted {
        /// The id.
        id: crate::id::ExternalId,
    },
    /// An attempt failed.
    Failed {
        /// How.
        failure: Failure,
    },
    /// A step is done, or undone.
    Done {
        /// Which way.
        dir: Direction,
    },
    /// A step is not wanted.
    Skipped,
    /// A step is undone, except for something that its child run keeps.
    Kept,
    /// A request was stored and could not be taken when its turn came.
    Refused {
        /// What was asked.
        request: RequestBody,
        /// Short stable word.
        code: String,
        /// What stood against it.
        message: String,
    },
    /// A step's attempts are over.
    GaveUp {
        /// Its last failure.
        failure: Failure,
    },
    /// Something is being undone.
    Unwinding,
    /// The run needs a person.
    Parked {
        /// Why.
        failure: Failure,
    },
    /// The run is over.
    Ended {
        /// How.
        status: RunStatus,
    },
}

/// One event of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Position of its frame in the journal; pass the last one seen to resume after it.
    pub seq: u64,
    /// When it was written.
    pub at: Timestamp,
    /// The step, or `""` for the run.
    pub path: String,
    /// What happened.
    pub what: What,
    /// The run's row at the time of reading: done, total, phase, waiting.
    pub summary: RunSummary,
}

/// Yields the events of a run until it is over or parked.
#[derive(Debug)]
pub struct ProgressStream {
    engine: Engine,
    run: RunId,
    seen: u64,
    ready: VecDeque<Progress>,
    over: bool,
}

/// How often the store is asked when no worker of this process tells of a change.
const ASK_EVERY: Duration = Duration::from_millis(250);

impl Engine {
    /// Watches a run from after frame `after`; 0 is the beginning.
    ///
    /// ```
    /// use provision_core::{
    ///     Engine, MemoryStore, RunStatus, Saga, SagaId, WorkerConfig, engine::What,
    /// };
    ///
    /// const SEATS: SagaId<u32, u32> = SagaId::new("seats", 1);
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let saga = Saga::define(SEATS, |s| {
    ///     let asked = s.value("asked").input((), |n, ()| *n);
    ///     s.value("given").input(asked, |_, n| n)
    /// })?;
    /// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
    /// let worker = engine.spawn_worker(WorkerConfig::default());
    /// let run = engine.start(SEATS, &4).await?;
    ///
    /// let (mut events, mut done) = (engine.watch(run.id(), 0), Vec::new());
    /// let mut last = None;
    /// while let Some(event) = events.next().await? {
    ///     if matches!(event.what, What::Done { .. }) {
    ///         done.push(event.path.clone());
    ///     }
    ///     last = Some(event);
    /// }
    /// let last = last.expect("a run has events");
    /// assert_eq!(done, ["asked", "given"]);
    /// assert_eq!(last.what, What::Ended { status: RunStatus::Succeeded });
    /// assert_eq!((last.summary.done, last.summary.total), (2, 2));
    ///
    /// // Who has seen an event goes on after its frame.
    /// assert!(engine.watch(run.id(), last.seq).next().await?.is_none());
    /// worker.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn watch(&self, run: &RunId, after: u64) -> ProgressStream {
        ProgressStream {
            engine: self.clone(),
            run: *run,
            seen: after,
            ready: VecDeque::new(),
            over: false,
        }
    }
}

impl ProgressStream {
    /// The next event; `None` once the run is over or parked and everything was yielded.
    ///
    /// Safe to cancel.
    ///
    /// # Errors
    /// The run is unknown, its journal is damaged, or the store cannot be read.
    pub async fn next(&mut self) -> Result<Option<Progress>, Error> {
        let watcher = self.engine.inner.changes.watch(self.run);
        loop {
            if let Some(progress) = self.ready.pop_front() {
                return Ok(Some(progress));
            }
            if self.over {
                return Ok(None);
            }
            let changed = watcher.wakes.each.notified();
            self.read().await?;
            if self.ready.is_empty() && !self.over {
                clock::within(ASK_EVERY, changed).await;
            }
        }
    }

    async fn read(&mut self) -> Result<(), Error> {
        let record = self.engine.load(&self.run).await?;
        let head = &record.head;
        for frame in record.frames.iter().filter(|frame| frame.seq > self.seen) {
            let records = crate::drive::records(frame)?;
            for record in records {
                if let Some((path, what)) = event(record) {
                    let (seq, at, summary) = (frame.seq, frame.at, head.summary.clone());
                    self.ready.push_back(Progress { seq, at, path, what, summary });
                }
            }
        }
        self.seen = self.seen.max(head.seq);
        self.over = head.status.is_end() || head.status == RunStatus::Parked;
        Ok(())
    }
}

pub(super) fn event(record: Record) -> Option<(String, What)> {
    Some(match record {
        Record::Started { path, dir, attempt, .. } => {
            (path.to_string(), What::Started { dir, attempt })
        }
        Record::Waiting { path, reason, due, .. } => {
            (path.to_string(), What::Waiting { reason, due })
        }
        Record::Noted { path, id, .. } => (path.to_string(), What::Noted { id }),
        Record::Failed { path, failure, .. } => (path.to_string(), What::Failed { failure }),
        Record::Succeeded { path, dir, .. } => (path.to_string(), What::Done { dir }),
        Record::Skipped { path } => (path.to_string(), What::Skipped),
        Record::GaveUp { path, failure, .. } => (path.to_string(), What::GaveUp { failure }),
        Record::UnwindStarted { scope, .. } => (scope.to_string(), What::Unwinding),
        Record::Kept { path } => (path.to_string(), What::Kept),
        Record::Refused { request, code, message } => {
            (String::new(), What::Refused { request, code, message })
        }
        Record::Parked { failure } => (String::new(), What::Parked { failure }),
        Record::Ended { status, .. } => (String::new(), What::Ended { status }),
        Record::Intent { .. }
        | Record::Resolved { .. }
        | Record::Expanded { .. }
        | Record::Unwound { .. }
        | Record::Sealed { .. }
        | Record::Signal { .. }
        | Record::Ordered { .. }
        | Record::Renewed { .. } => return None,
    })
}
