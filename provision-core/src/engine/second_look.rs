//! The watch over the ledger: a second look at what ended in doubt, when nothing can land any more.

use std::{sync::Arc, time::Duration};

use super::{
    Engine,
    removal::{REMOVAL_HOLD, is_open, wanted},
};
use crate::{
    context::Memory,
    error::{Effect, Error, StepError},
    ledger::{LedgerOp, LedgerRow, ResourceState, rows, rows_of},
    mark::OwnerMark,
    panics,
    protocol::Action,
    resource::Owned,
    store::Incarnation,
};

/// How long after a look that could not end the watch the next one is.
const AGAIN: Duration = Duration::from_secs(3_600);

impl Engine {
    /// S15: looks once more at rows whose end was unknown once, and deletes what carries their
    /// mark and is not the recorded live id. Any worker's maintenance calls this.
    ///
    /// What is found is in the ledger while it exists. A look that cannot say that nothing is left
    /// is followed by another one within the hour; one that failed, or that needs code which this
    /// worker does not have, by that of any worker after five minutes.
    ///
    /// # Errors
    /// The store cannot be reached; a provider's trouble moves the next look.
    pub async fn watch_ledger(&self, limit: usize) -> Result<usize, Error> {
        let worker = Incarnation(uuid::Uuid::nil());
        let op = LedgerOp::ClaimWatch { worker, hold: REMOVAL_HOLD, limit };
        let claimed = rows(self.inner.store.ledger(&[op]).await?);
        let count = claimed.len();
        for row in claimed {
            // S21: one row that cannot be looked at holds back no other.
            let looking = self.look_once_more(&row);
            let looked = panics::guarded("watch a resource", &row.path, Effect::Unknown, looking);
            let next = match looked.await {
                Ok(true) => None,
                Ok(false) => Some(self.inner.store.now().await?.plus(AGAIN)),
                Err(error) => {
                    tracing::warn!(%error, path = %row.path, "the watch looks again later");
                    continue;
                }
            };
            let op = LedgerOp::EndWatch { row: Box::new(row), next };
            self.inner.store.ledger(&[op]).await?;
        }
        Ok(count)
    }

    /// Whether nothing is left to look for.
    async fn look_once_more(&self, row: &LedgerRow) -> Result<bool, StepError> {
        let trouble = |error: Error| StepError::retry("watch a resource").with_source(error);
        let mark = OwnerMark::new(row.run, &row.path);
        let behind = self.behind(&mark).await.map_err(trouble)?;
        let action = behind.map(|behind| behind.action).or_else(|| self.action_of(row));
        let Some(action) = action else {
            return Err(StepError::retry("watch a resource").with_code("no_code"));
        };
        let memory = Memory::default();
        let cx = self.looking(row.run, &row.path, row.tenant.clone(), memory).await;
        let listed = action.list_owned(cx.map_err(trouble)?).await?.unwrap_or_default();
        let found: Vec<_> =
            listed.into_iter().filter(|owned| owned.mark.as_ref() == Some(&mark)).collect();
        // What is listed is read before the rows: what the run noted meanwhile is known as its.
        self.remove_found(row, &mark, &found).await.map_err(trouble)
    }

    /// Code that lists the kind and account of a row, of whatever saga.
    fn action_of(&self, row: &LedgerRow) -> Option<Arc<dyn Action>> {
        let kind = row.full_kind();
        self.inner.plans.all().find_map(|plan| {
            let mut actions = plan.graph.actions().into_iter();
            let same = actions.find(|(def, action)| {
                let resource = action.timing().is_some() && action.account() == row.account;
                resource && def.kind_name() == kind
            });
            same.map(|(_, action)| Arc::clone(action))
        })
    }

    /// Removes what was found under a mark beside what its run lives with. Whether nothing is left.
    async fn remove_found(
        &self,
        row: &LedgerRow,
        mark: &OwnerMark,
        found: &[Owned],
    ) -> Result<bool, Error> {
        let rows = rows_of(&*self.inner.store, row.run, &row.path).await?;
        if rows.iter().any(|row| row.index == 0 && is_open(row)) {
            return Ok(false);
        }
        let mut over = true;
        for row in rows.iter().filter(|row| row.is_being_removed()) {
            if !found.iter().any(|owned| Some(&owned.id) == row.external_id.as_ref()) {
                over &= self.enter(row, ResourceState::Gone).await?;
            }
        }
        let strays: Vec<_> = found.iter().filter(|owned| !wanted(&rows, owned)).collect();
        if strays.is_empty() {
            return Ok(over);
        }
        let Some(behind) = self.behind(mark).await? else { return Ok(false) };
        for owned in strays {
            over &= self.remove_stray(&behind, owned).await?;
        }
        Ok(over)
    }
}
