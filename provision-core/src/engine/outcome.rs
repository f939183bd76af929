//! Every way in which a run can stand still.

use crate::{
    drive::fold,
    error::{Error, ErrorKind, Failure},
    id::{Data, ExternalId},
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
    pub(super) async fn outcome_of<O: Data>(
        &self,
        record: &RunRecord,
    ) -> Result<Option<Outcome<O>>, Error> {
        let head = &record.head;
        let moves = !head.status.is_end() && head.status != RunStatus::Parked;
        // An order that nobody has looked at yet may open the run again.
        if moves || head.requests > head.consumed {
            return Ok(None);
        }
        let failure = head.summary.failure.clone();
        Ok(Some(match head.status {
            RunStatus::Succeeded => Outcome::Succeeded(self.output_of(record)?.0),
            RunStatus::PartlySucceeded => {
                let (output, failures) = self.output_of(record)?;
                Outcome::PartlySucceeded(output, failures)
            }
            RunStatus::RolledBack => Outcome::RolledBack(failure),
            RunStatus::RolledBackKeeping => {
                Outcome::RolledBackKeeping(failure, self.left(record).await?)
            }
            RunStatus::TornDown => Outcome::TornDown,
            _ => {
                let failure = failure.ok_or_else(|| damaged("a parked run without a reason"))?;
                Outcome::Parked(failure, self.left(record).await?)
            }
        }))
    }

    fn output_of<O: Data>(&self, record: &RunRecord) -> Result<(O, Vec<Failure>), Error> {
        let state = fold(&record.head, &record.frames, &self.inner.plans).map_err(damaged)?;
        let output = state.output.as_ref().ok_or_else(|| damaged("no output is recorded"))?;
        let output = output.decode().map_err(|error| {
            Error::new(ErrorKind::Damaged, "output_shape", "read a run's output")
                .with_hint("the saga's output type changed: give the saga a new version")
                .with_source(error)
        })?;
        Ok((output, state.tolerated()))
    }

    async fn left(&self, record: &RunRecord) -> Result<Vec<ExternalId>, Error> {
        let query = crate::ledger::LedgerQuery {
            run: Some(record.head.id),
            states: vec![ResourceState::Alive, ResourceState::Unknown, ResourceState::LeftBehind],
            ..Default::default()
        };
        let rows = self.ledger(&query).await?;
        Ok(rows.into_iter().filter_map(|row| row.external_id).collect())
    }
}

pub(crate) fn damaged(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Damaged, "damaged_journal", "read a run").with_context(what)
}
