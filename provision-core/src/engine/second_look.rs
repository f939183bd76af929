//! The watch over the ledger: a second look at what ended in doubt, when nothing can land any more.

use std::{sync::Arc, time::Duration};

use super::{
    Engine,
    removal::{REMOVAL_HOLD, is_open, wanted},
};
use crate::{
    clock::{Moment, moment},
    context::Memory,
    error::{Effect, Error, StepError},
    id::Timestamp,
    ledger::{LedgerOp, LedgerRow, rows, rows_of},
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
    /// worker does not have, by that of any worker within five minutes.
    ///
    /// # Errors
    /// The store cannot be reached; a provider's trouble moves the next look.
    pub async fn watch_ledger(&self, limit: usize) -> Result<usize, Error> {
        let worker = Incarnation(uuid::Uuid::nil());
        for count in 0..limit {
            // One by one: each is held from its own claim on.
            let held = moment();
            let op = LedgerOp::ClaimWatch { worker, hold: REMOVAL_HOLD, limit: 1 };
            let claimed = rows(self.inner.store.ledger(&[op]).await?).pop();
            let Some(row) = claimed else { return Ok(count) };
            // S21: one row that cannot be looked at holds back no other.
            let looking = Box::pin(self.look_once_more(&row, held));
            let looked = panics::guarded("watch a resource", &row.path, Effect::Unknown, looking);
            let again = again_after(&row, looked.await);
            let now = self.inner.store.now().await?;
            let next = again.map(|again| now.plus(again));
            let op = LedgerOp::EndWatch { row: Box::new(row), next };
            self.inner.store.ledger(&[op]).await?;
        }
        Ok(limit)
    }

    /// Whether nothing is left to look for.
    async fn look_once_more(&self, row: &LedgerRow, held: Moment) -> Result<bool, StepError> {
        let trouble = |error: Error| StepError::retry("watch a resource").with_source(error);
        let no_code = || StepError::retry("watch a resource").with_code("no_code");
        let mark = OwnerMark::new(row.run, &row.path);
        // A step that has moved to another account since looks in vain for what is in this one.
        let behind = self.behind(&mark).await.map_err(trouble)?;
        let behind = behind.filter(|behind| behind.action.account() == row.account);
        if row.is_being_removed() {
            let behind = behind.ok_or_else(no_code)?;
            return self.go_on_removing(&behind, row, held).await.map_err(trouble);
        }
        let action = behind.map(|behind| behind.action).or_else(|| self.action_of(row));
        let action = action.ok_or_else(no_code)?;
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
        let strays: Vec<_> = found.iter().filter(|owned| !wanted(&rows, &owned.id)).collect();
        if strays.is_empty() {
            return Ok(true);
        }
        let behind = self.behind(mark).await?;
        let Some(behind) = behind.filter(|behind| behind.action.account() == row.account) else {
            return Ok(false);
        };
        let mut over = true;
        for owned in strays {
            over &= self.remove_stray(&behind, owned).await?;
        }
        Ok(over)
    }
}

/// How long after a look the next one is; `None` when nothing is left to look for.
fn again_after(row: &LedgerRow, looked: Result<bool, StepError>) -> Option<Duration> {
    match looked {
        Ok(true) => None,
        // A run that an order has moved may be waiting for a removal.
        Ok(false) if row.is_being_removed() => Some(REMOVAL_HOLD),
        Ok(false) => Some(AGAIN),
        Err(error) => {
            tracing::warn!(%error, path = %row.path, "the watch looks again later");
            Some(another_time(row))
        }
    }
}

/// When a row that could not be looked at is looked at next: within five minutes, and not for ever
/// by the same worker, which may lack its code.
fn another_time(row: &LedgerRow) -> Duration {
    let bytes = row.run.as_uuid().as_bytes();
    let tick = row.watch_at.map_or(0, Timestamp::as_millis);
    let spread =
        bytes.iter().fold(tick, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    Duration::from_secs(60 + spread % 240)
}
