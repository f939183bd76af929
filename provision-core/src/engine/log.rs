//! The log of a run: its events in words, the newest ones, a page at a time.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Engine, What, watch::event};
use crate::{
    error::Error,
    id::{RunId, Timestamp},
    run::journal::{Direction, RequestBody, WaitReason},
};

/// Most lines of one page.
pub const LOG_LINES_MAX: usize = 1_000;

/// One line of a run's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Its number, from 1; it never changes.
    pub number: u64,
    /// When it was written.
    pub at: Timestamp,
    /// The step, or `""` for the run.
    pub path: String,
    /// What happened, in words.
    pub text: String,
}

/// Some lines of a run's log, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct LogPage {
    /// The lines.
    pub lines: Vec<LogLine>,
    /// Lines before the first of these.
    pub before: u64,
    /// Lines after the last of these.
    pub after: u64,
}

impl Engine {
    /// Reads the newest `limit` lines of a run's log, at most [`LOG_LINES_MAX`]; with `before`, the
    /// newest of those whose number is lower, for the page before.
    ///
    /// The lines are the events of the journal, so they are as durable as it is, and hold no secret,
    /// no output and no value of a signal. The journal is read whole; only the page is kept.
    ///
    /// ```
    /// use provision_core::{Engine, MemoryStore, Saga, SagaId, executor::{Executor, HostDriven}};
    ///
    /// const SEATS: SagaId<u32, u32> = SagaId::new("seats", 1);
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let saga = Saga::define(SEATS, |s| s.value("asked").input((), |n, ()| *n))?;
    /// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
    /// let run = engine.start(SEATS, &4).await?;
    /// HostDriven.drive(&engine, run.id()).await?;
    ///
    /// let last = engine.log(run.id(), None, 2).await?;
    /// let told: Vec<_> = last.lines.iter().map(|line| (line.number, &*line.path, &*line.text)).collect();
    /// assert_eq!(told, [(2, "asked", "done"), (3, "", "ends: Succeeded")]);
    /// let older = engine.log(run.id(), Some(last.lines[0].number), 2).await?;
    /// assert_eq!((older.lines.len(), older.before, older.after), (1, 0, 2));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// There is no such run, or its journal cannot be read.
    pub async fn log(
        &self,
        run: &RunId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<LogPage, Error> {
        let record = self.load(run).await?;
        let limit = limit.min(LOG_LINES_MAX);
        let (mut lines, mut number, mut after) = (VecDeque::with_capacity(limit), 0_u64, 0_u64);
        for frame in &record.frames {
            for (path, what) in crate::drive::records(frame)?.into_iter().filter_map(event) {
                number += 1;
                if limit == 0 || before.is_some_and(|before| number >= before) {
                    after += 1;
                    continue;
                }
                if lines.len() == limit {
                    lines.pop_front();
                }
                let (at, text) = (frame.at, what.text(frame.at));
                lines.push_back(LogLine { number, at, path, text });
            }
        }
        let shown = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        let before = number.saturating_sub(after).saturating_sub(shown);
        Ok(LogPage { lines: lines.into(), before, after })
    }
}

impl What {
    /// What happened, in words, for people; `at` is when it was written. The wording may change.
    #[must_use]
    pub fn text(&self, at: Timestamp) -> String {
        match self {
            Self::Started { dir, attempt } => begins(*dir, *attempt),
            Self::Waiting { reason, due } => waits(reason, due.since(at)),
            Self::Noted { id } => format!("exists as {id}"),
            Self::Failed { failure } | Self::GaveUp { failure } => {
                let given_up = matches!(self, Self::GaveUp { .. });
                let verb = if given_up { "gives up" } else { "failed" };
                let message = failure.message.as_deref().unwrap_or_default();
                format!("{verb}: {}: {} {message}", failure.operation, failure.code)
            }
            Self::Done { dir: Direction::Forward } => "done".to_owned(),
            Self::Done { dir: Direction::Undo } => "undone".to_owned(),
            Self::Skipped => "is not wanted".to_owned(),
            Self::Kept => "undone, but for what its run keeps".to_owned(),
            Self::Refused { request, code, message } => {
                format!("{} was refused: {code}: {message}", asked(request))
            }
            Self::Unwinding => "undoes what it made, last things first".to_owned(),
            Self::Parked { failure } => format!("needs a person: {failure}"),
            Self::Ended { status } => format!("ends: {}", status.as_str()),
        }
    }
}

fn begins(dir: Direction, attempt: u32) -> String {
    match (dir, attempt) {
        (Direction::Forward, 1) => "begins".to_owned(),
        (Direction::Forward, attempt) => format!("attempt {attempt}"),
        (Direction::Undo, 1) => "is being undone".to_owned(),
        (Direction::Undo, attempt) => format!("undo, attempt {attempt}"),
    }
}

fn waits(reason: &WaitReason, left: Duration) -> String {
    let left = format!("{:.1} s", left.as_secs_f64());
    match reason {
        WaitReason::Retry => format!("waits {left} before the next attempt"),
        WaitReason::Poll => format!("is not ready yet, looks again in {left}"),
        WaitReason::Quiet => format!("waits {left}, until a lost call can no longer land"),
        WaitReason::Throttled { bucket } => format!("waits {left}, asked to slow down by {bucket}"),
        WaitReason::Sleep => format!("waits {left}, as it should"),
        WaitReason::Signal { name } => format!("waits up to {left} for the signal {name}"),
        WaitReason::Child { run } => format!("waits for run {run}"),
    }
}

fn asked(request: &RequestBody) -> String {
    match request {
        RequestBody::Order { order, who, .. } => format!("{order:?}, ordered by {who},"),
        RequestBody::Signal { name, .. } => format!("the signal {name}"),
        RequestBody::Unreadable { number } => format!("request {number}"),
    }
}
