//! The watch over the ledger: a second look at what ended in doubt, when nothing can land any more.

use std::{sync::Arc, time::Duration};

use super::{
    Engine,
    look::nobodys,
    removal::{Behind, REMOVAL_HOLD, is_open, wanted},
};
use crate::{
    clock::{Moment, moment},
    error::{Effect, Error, StepError, Verdict},
    id::{ExternalId, Timestamp},
    ledger::{LedgerOp, LedgerReply, LedgerRow, is_lived_with, rows, rows_of},
    mark::OwnerMark,
    panics,
    proof::{By, Proof},
    protocol::Action,
    resource::{Listing, Owned},
    store::Incarnation,
};

/// How long after a look that could not end the watch the next one is.
const AGAIN: Duration = Duration::from_secs(3_600);
/// The same, of a look that could not tell: what is there changes seldom by itself.
const UNVERIFIED_AGAIN: Duration = Duration::from_secs(24 * 3_600);

/// What a look of the watch has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looked {
    /// Nothing is left.
    Over,
    /// Something may be left that a later look will see or remove.
    Again,
    /// Something may be left, and no look can tell whose it is.
    Unverified,
}

impl Looked {
    const fn over(over: bool) -> Self {
        if over { Self::Over } else { Self::Again }
    }
}

impl Engine {
    /// S15: looks once more at rows whose end was unknown once, and deletes what carries their
    /// mark and is not the recorded live id. Any worker's maintenance calls this.
    ///
    /// What is found is in the ledger while it exists. A look that cannot say that nothing is left
    /// is followed by another one within the hour; one that failed, or that needs code which this
    /// worker does not have, by that of any worker within five minutes. What nothing lists is looked
    /// for with the step's input; where that cannot tell whose it is, the row stays on watch, is
    /// looked at once a day, and is in [`SweepReport::unverified`] until
    /// [`Engine::end_watch`].
    ///
    /// [`SweepReport::unverified`]: super::SweepReport::unverified
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

    /// Ends the watch over a row, because a person has looked and what it stands for is gone, or is
    /// to stay. False where the row has changed since it was read, or is being removed.
    ///
    /// The row stays what it says; only nobody looks any more.
    ///
    /// # Errors
    /// The store cannot be reached.
    pub async fn end_watch(&self, row: &LedgerRow) -> Result<bool, Error> {
        if row.is_being_removed() {
            return Ok(false);
        }
        let op = LedgerOp::EndWatch { row: Box::new(row.clone()), next: None };
        let replies = self.inner.store.ledger(&[op]).await?;
        Ok(matches!(replies.as_slice(), [LedgerReply::Changed(true)]))
    }

    async fn look_once_more(&self, row: &LedgerRow, held: Moment) -> Result<Looked, StepError> {
        let mark = OwnerMark::new(row.run, &row.path);
        // A step that has moved to another account since looks in vain for what is in this one.
        let behind = self.behind(&mark).await.map_err(trouble)?;
        let behind = behind.filter(|behind| behind.action.account() == row.account);
        if row.is_being_removed() {
            let behind = behind.ok_or_else(no_code)?;
            let gone = self.go_on_removing(&behind, row, held).await.map_err(trouble)?;
            return Ok(Looked::over(gone));
        }
        let listing = match &behind {
            Some(behind) => Arc::clone(&behind.action),
            None => self.action_of(row).ok_or_else(no_code)?,
        };
        let cx = self.looking(nobodys(row.run, &row.path, row.tenant.clone())).await;
        let by = match listing.list_owned(cx.map_err(trouble)?).await? {
            Some(Listing::Complete(listed)) => {
                let ours = |owned: &Owned| owned.mark.as_ref() == Some(&mark);
                let found: Vec<_> = listed.into_iter().filter(ours).collect();
                // What is listed is read before the rows: what the run noted meanwhile is known
                // as its.
                return self.remove_found(row, &mark, &found).await.map_err(trouble);
            }
            Some(Listing::Unlisted) => By::Mark,
            Some(Listing::Unmarked) => By::Nothing,
            None => return Ok(Looked::Over),
        };
        self.look_for_its_own(row, &behind.ok_or_else(no_code)?, by).await
    }

    /// Looks for what a step has made, of a kind that nothing lists.
    async fn look_for_its_own(
        &self,
        row: &LedgerRow,
        behind: &Behind,
        by: By,
    ) -> Result<Looked, StepError> {
        let mark = OwnerMark::new(row.run, &row.path);
        let (attempt, input) = behind.of_row(row);
        let cx = self.looking(attempt).await.map_err(trouble)?;
        match behind.action.prove(cx, input, by).await {
            Ok(Proof::Going) => Ok(Looked::Again),
            Ok(Proof::Gone) => self.remove_found(row, &mark, &[]).await.map_err(trouble),
            Ok(Proof::Ours(ids)) => {
                let marked = |id| Owned::new(id).with_mark(Some(mark.clone()));
                let found: Vec<_> = ids.into_iter().map(marked).collect();
                self.remove_found(row, &mark, &found).await.map_err(trouble)
            }
            Ok(Proof::Unclear(ids)) => self.explained(row, behind, &ids).await.map_err(trouble),
            Err(error) => not_told(row, error),
        }
    }

    /// Whether all that was found belongs to somebody whom the ledger knows.
    async fn explained(
        &self,
        row: &LedgerRow,
        behind: &Behind,
        ids: &[ExternalId],
    ) -> Result<Looked, Error> {
        let store = &*self.inner.store;
        let rows = rows_of(store, row.run, &row.path).await?;
        if rows.iter().any(|row| row.index == 0 && is_open(row)) {
            return Ok(Looked::Again);
        }
        let (kind, step) = (row.full_kind(), (row.run, row.path.as_str()));
        let mut known = !ids.is_empty();
        for id in ids {
            let place = (kind.as_str(), behind.action.account());
            known &= wanted(&rows, id) || is_lived_with(store, place, id, step).await?;
        }
        if known {
            return Ok(Looked::Over);
        }
        tracing::warn!(path = %row.path, kind, "what is left cannot be verified: see the sweep");
        Ok(Looked::Unverified)
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

    /// Removes what was found under a mark beside what its run lives with.
    async fn remove_found(
        &self,
        row: &LedgerRow,
        mark: &OwnerMark,
        found: &[Owned],
    ) -> Result<Looked, Error> {
        let rows = rows_of(&*self.inner.store, row.run, &row.path).await?;
        if rows.iter().any(|row| row.index == 0 && is_open(row)) {
            return Ok(Looked::Again);
        }
        let strays: Vec<_> = found.iter().filter(|owned| !wanted(&rows, &owned.id)).collect();
        if strays.is_empty() {
            return Ok(Looked::Over);
        }
        let behind = self.behind(mark).await?;
        let Some(behind) = behind.filter(|behind| behind.action.account() == row.account) else {
            return Ok(Looked::Again);
        };
        let mut over = true;
        for owned in strays {
            over &= self.remove_stray(&behind, owned).await?;
        }
        Ok(Looked::over(over))
    }
}

fn trouble(error: Error) -> StepError {
    StepError::retry("watch a resource").with_source(error)
}

fn no_code() -> StepError {
    StepError::retry("watch a resource").with_code("no_code")
}

/// How long after a look the next one is; `None` when nothing is left to look for.
fn again_after(row: &LedgerRow, looked: Result<Looked, StepError>) -> Option<Duration> {
    match looked {
        Ok(Looked::Over) => None,
        // A run that an order has moved may be waiting for a removal.
        Ok(_) if row.is_being_removed() => Some(REMOVAL_HOLD),
        Ok(Looked::Again) => Some(AGAIN),
        Ok(Looked::Unverified) => Some(UNVERIFIED_AGAIN),
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

/// A refusal for good: no later look is told anything else.
fn not_told(row: &LedgerRow, error: StepError) -> Result<Looked, StepError> {
    if !matches!(error.verdict(), Verdict::Permanent | Verdict::Operator) {
        return Err(error);
    }
    tracing::warn!(%error, path = %row.path, "the watch is not told what is left");
    Ok(Looked::Unverified)
}
