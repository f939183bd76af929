//! Every way in which a run can stand still.

use crate::{
    changes::Still,
    drive::fold,
    error::{Error, ErrorKind, Failure},
    id::{Data, ExternalId, RunId, Timestamp},
    ledger::ResourceState,
    run::RunStatus,
    store::RunRecord,
};

use super::Engine;

/// How a run ended, or why it needs a person.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome<O> {
    /// Every step succeeded.
    Succeeded(O),
    /// Succeeded, with tolerated failures.
    PartlySucceeded(O, Vec<Failure>),
    /// Everything was undone. `None` when it was cancelled.
    RolledBack(Option<Failure>),
    /// Undone, except these.
    RolledBackKeeping(Option<Failure>, Vec<ExternalId>),
    /// Needs a person; these resources exist, or may.
    Parked(Failure, Vec<ExternalId>),
    /// Succeeded once, and removed by order.
    TornDown,
}

impl Engine {
    /// The outcome of a run by its record; `None` while it moves.
    pub(super) async fn outcome_of<O: Data>(
        &self,
        record: &RunRecord,
    ) -> Result<Option<Outcome<O>>, Error> {
        let head = &record.head;
        let moves = !head.status.is_end() && head.status != RunStatus::Parked;
        // An order that nobody has looked at yet may open the run again; one that is looked at and
        // cannot be taken leaves it where it is, due for nobody.
        let due = head.owner.is_some() || head.due < Timestamp::NEVER;
        if moves || (due && head.requests > head.consumed) {
            return Ok(None);
        }
        let mut still = Still {
            status: head.status,
            failure: head.summary.failure.clone(),
            output: None,
            tolerated: Vec::new(),
        };
        if matches!(head.status, RunStatus::Succeeded | RunStatus::PartlySucceeded) {
            let state = fold(head, &record.frames, &self.inner.plans)?;
            still.tolerated = state.tolerated();
            still.output = state.output;
        }
        self.outcome_when(head.id, &still).await.map(Some)
    }

    /// The outcome of a run that stands still.
    pub(super) async fn outcome_when<O: Data>(
        &self,
        run: RunId,
        still: &Still,
    ) -> Result<Outcome<O>, Error> {
        let failure = still.failure.clone();
        Ok(match still.status {
            RunStatus::Succeeded => Outcome::Succeeded(output_of(still)?),
            RunStatus::PartlySucceeded => {
                Outcome::PartlySucceeded(output_of(still)?, still.tolerated.clone())
            }
            RunStatus::RolledBack => Outcome::RolledBack(failure),
            RunStatus::RolledBackKeeping => {
                Outcome::RolledBackKeeping(failure, self.left(run).await?)
            }
            RunStatus::TornDown => Outcome::TornDown,
            _ => {
                let failure = failure.ok_or_else(|| damaged("a parked run without a reason"))?;
                Outcome::Parked(failure, self.left(run).await?)
            }
        })
    }

    async fn left(&self, run: RunId) -> Result<Vec<ExternalId>, Error> {
        let query = crate::ledger::LedgerQuery {
            run: Some(run),
            states: vec![ResourceState::Alive, ResourceState::Unknown, ResourceState::LeftBehind],
            ..Default::default()
        };
        let rows = self.all_rows(query).await?;
        Ok(rows.into_iter().filter_map(|row| row.external_id).collect())
    }
}

fn output_of<O: Data>(still: &Still) -> Result<O, Error> {
    let output = still.output.as_ref().ok_or_else(|| damaged("no output is recorded"))?;
    output.decode().map_err(|error| {
        Error::new(ErrorKind::Damaged, "output_shape", "read a run's output")
            .with_hint("the saga's output type changed: give the saga a new version")
            .with_source(error)
    })
}

pub(crate) fn damaged(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Damaged, "damaged_journal", "read a run").with_context(what)
}
