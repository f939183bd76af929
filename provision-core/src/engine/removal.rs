//! Removing what carries our marks and nothing wants, so that no run takes it meanwhile.

use std::{sync::Arc, time::Duration};

use sha2::{Digest as _, Sha256};

use super::{Engine, look::nobodys};
use crate::{
    clock::{self, Moment, moment},
    context::{self, Attempt, Memory},
    drive::fold,
    error::{Error, StepError},
    id::{ExternalId, Payload, RunId, Timestamp},
    ledger::{
        LedgerOp, LedgerReply, LedgerRow, Origin, ResourceState, halves, is_lived_with, rows_of,
    },
    mark::OwnerMark,
    protocol::Action,
    resource::{IntentRecord, Owned},
};

/// The step behind a mark.
pub(super) struct Behind {
    /// What finds, lists and deletes for it, in its own account.
    pub(super) action: Arc<dyn Action>,
    /// Its durable kind.
    pub(super) kind: String,
    run: RunId,
    path: String,
    generation: u32,
    tenant: Option<String>,
    input: Payload,
    /// The intent of the step's present generation, if one is recorded.
    intent: Option<IntentRecord>,
    /// Whether the run lives with what the step has made, and the step makes nothing any more.
    settled: bool,
}

/// How long a removal that was begun is left to whoever began it, at least.
pub(super) const REMOVAL_HOLD: Duration = Duration::from_secs(300);
/// How long after that moment its delete is given up: somebody else begins after the hold alone.
const DELETE_MAX: Duration = Duration::from_secs(200);

impl Engine {
    /// The step whose mark it is; `None` when its run cannot be read, or never got to it.
    pub(super) async fn behind(&self, mark: &OwnerMark) -> Result<Option<Behind>, Error> {
        let record = self.inner.store.load(&[mark.run()]).await?.pop().flatten();
        let Some(record) = record else { return Ok(None) };
        let Ok(state) = fold(&record.head, &record.frames, &self.inner.plans) else {
            return Ok(None);
        };
        let marked =
            state.nodes.iter().find(|n| OwnerMark::new(state.run, &n.path).step() == mark.step());
        Ok(marked.and_then(|node| {
            Some(Behind {
                action: Arc::clone(node.def().action()?),
                kind: node.def().kind_name().to_owned(),
                run: state.run,
                path: node.path.to_string(),
                generation: node.generation,
                tenant: record.head.tenant.clone(),
                input: node.input.clone()?,
                intent: node.intent.clone(),
                settled: node.stands_for_good(),
            })
        }))
    }

    /// Removes what carries the mark of a step, unless its run, or one that has adopted it, lives
    /// with it, or somebody else is removing it. False when it may still be there.
    ///
    /// S15: it is entered first, which the store refuses while the run moves. So a run that is moved
    /// by an order while this goes on sees the row, and takes nothing until it is gone.
    pub(super) async fn remove_stray(&self, behind: &Behind, owned: &Owned) -> Result<bool, Error> {
        let Some(rows) = self.removable(behind, &owned.id).await? else { return Ok(false) };
        let (held, now) = (moment(), self.inner.store.now().await?);
        let stray = behind.found(&rows, owned, now);
        if self.changes(LedgerOp::Enter(Box::new(stray.clone()))).await? {
            return self.end_removal(behind, &stray, held).await;
        }
        // Its run moves, or somebody else has just entered it. Where the step stands, what is
        // beside it is nobody's; else the step may be about to take it, and another look comes
        // later. What it has taken until it stood is read after that.
        let mark = OwnerMark::new(behind.run, &behind.path);
        if !self.behind(&mark).await?.is_some_and(|now| now.settled) {
            return Ok(false);
        }
        if self.removable(behind, &owned.id).await?.is_none() {
            return Ok(false);
        }
        self.delete_stray(behind, &owned.id, held).await
    }

    /// Goes on with a removal that was claimed from the watch, when nothing can be left of a call
    /// of whoever held it before. `held` was before the claim.
    pub(super) async fn go_on_removing(
        &self,
        behind: &Behind,
        claimed: &LedgerRow,
        held: Moment,
    ) -> Result<bool, Error> {
        let hold = behind.hold();
        if hold <= REMOVAL_HOLD {
            return self.end_removal(behind, claimed, held).await;
        }
        let next = Some(self.inner.store.now().await?.plus(hold));
        let op = LedgerOp::EndWatch { row: Box::new(claimed.clone()), next };
        if !self.changes(op).await? {
            return Ok(false);
        }
        self.end_removal(behind, &LedgerRow { watch_at: next, ..claimed.clone() }, held).await
    }

    /// Ends a removal that this caller holds since `held`: the row was just entered, or claimed.
    /// What its run lives with by now is left, and the row withdrawn. False when it may still be
    /// there.
    async fn end_removal(
        &self,
        behind: &Behind,
        stray: &LedgerRow,
        held: Moment,
    ) -> Result<bool, Error> {
        let Some(id) = &stray.external_id else { return Ok(true) };
        // Read after the row was entered: a run that is driven again from here on sees it.
        let rows = rows_of(&*self.inner.store, behind.run, &behind.path).await?;
        let ours = |row: &LedgerRow| behind.removes(row, id) && row.watch_at == stray.watch_at;
        if !rows.iter().any(ours) {
            return Ok(false);
        }
        let wanted = self.is_wanted(behind, &rows, id).await?;
        if !wanted && !self.delete_stray(behind, id, held).await? {
            return Ok(false);
        }
        // Nobody else is told while somebody else holds it: the store compares the claim.
        let until = Some(self.inner.store.now().await?);
        let gone = LedgerRow { state: ResourceState::Gone, until, ..stray.clone() };
        if self.changes(LedgerOp::Enter(Box::new(gone.clone()))).await? {
            self.changes(LedgerOp::EndWatch { row: Box::new(gone), next: None }).await?;
        }
        Ok(!wanted)
    }

    /// The rows of the step, unless somebody lives with it, or is removing it.
    async fn removable(
        &self,
        behind: &Behind,
        id: &ExternalId,
    ) -> Result<Option<Vec<LedgerRow>>, Error> {
        let rows = rows_of(&*self.inner.store, behind.run, &behind.path).await?;
        let begun = rows.iter().any(|row| behind.removes(row, id));
        let free = !begun && !self.is_wanted(behind, &rows, id).await?;
        Ok(free.then_some(rows))
    }

    async fn is_wanted(
        &self,
        behind: &Behind,
        rows: &[LedgerRow],
        id: &ExternalId,
    ) -> Result<bool, Error> {
        let place = (behind.kind.as_str(), behind.action.account());
        let step = (behind.run, behind.path.as_str());
        let others = is_lived_with(&*self.inner.store, place, id, step).await?;
        Ok(others || wanted(rows, id))
    }

    /// Deletes with the input of the step, as long as what is held since `held` is nobody else's.
    /// False when it may still be there.
    async fn delete_stray(
        &self,
        behind: &Behind,
        id: &ExternalId,
        held: Moment,
    ) -> Result<bool, Error> {
        let attempt = nobodys(behind.run, &behind.path, behind.tenant.clone());
        // What is being removed is in the ledger, or beside what stands for good.
        let cx = self.changing(attempt).await?;
        // S6: a process that stood still past its hold does not go on with the call.
        let deleting = behind.action.delete(cx, behind.input.clone(), id);
        let error = match clock::within(DELETE_MAX.saturating_sub(held.elapsed()), deleting).await {
            Some(Ok(())) => return Ok(true),
            Some(Err(error)) => error,
            None => StepError::unknown("delete").with_code("too_slow"),
        };
        tracing::warn!(%error, %id, "a stray could not be deleted");
        Ok(false)
    }

    async fn changes(&self, op: LedgerOp) -> Result<bool, Error> {
        let replies = self.inner.store.ledger(&[op]).await?;
        Ok(matches!(replies.as_slice(), [LedgerReply::Changed(true)]))
    }
}

impl Behind {
    /// Whether a row of the step says that this is being removed.
    fn removes(&self, row: &LedgerRow, id: &ExternalId) -> bool {
        let same = row.external_id.as_ref() == Some(id) && row.account == self.action.account();
        row.is_being_removed() && same
    }

    /// The step's input, and what it remembers of the generation of a row, for a look at what that
    /// one has made.
    pub(super) fn of_row(&self, row: &LedgerRow) -> (Attempt, Payload) {
        let intent = if self.generation == row.generation {
            self.intent.clone()
        } else {
            let (path, generation) = (&row.path, row.generation);
            Some(IntentRecord {
                key: context::idempotency_key(&row.run, path, generation, "create"),
                name: row.name.clone(),
                account: row.account.clone(),
                region: row.region.clone(),
                template: row.template.clone(),
                cost: row.cost.clone(),
                secrets: Vec::new(),
                at: row.since,
            })
        };
        // What is noted is left out: what stands beside it is looked for.
        let memory = Memory {
            may_exist: intent.is_some(),
            called_at: intent.as_ref().map(|intent| intent.at),
            intent,
            ..Memory::default()
        };
        let attempt = nobodys(self.run, &self.path, self.tenant.clone());
        (Attempt { generation: row.generation, memory, ..attempt }, self.input.clone())
    }

    /// How long a removal is left to who has begun it: its delete may be sent until the end of
    /// `DELETE_MAX`, and land within the quiet time after that (S7).
    fn hold(&self) -> Duration {
        let quiet = self.action.timing().map(|timing| timing.quiet()).unwrap_or_default();
        REMOVAL_HOLD.max(DELETE_MAX.saturating_add(quiet))
    }

    /// The row of something found under its mark, as the provider shows it.
    fn found(&self, rows: &[LedgerRow], owned: &Owned, now: Timestamp) -> LedgerRow {
        let last = rows.iter().rev().find(|row| row.index == 0);
        let (provider, kind) = halves(&self.kind);
        LedgerRow {
            run: self.run,
            path: self.path.clone(),
            generation: last.map_or(self.generation, |row| row.generation),
            index: index_of(self.action.account(), &owned.id),
            tenant: self.tenant.clone(),
            provider: provider.to_owned(),
            account: self.action.account().to_owned(),
            kind: kind.to_owned(),
            name: owned.name.clone().or_else(|| last?.name.clone()),
            external_id: Some(owned.id.clone()),
            origin: Origin::Created,
            state: ResourceState::Alive,
            region: last.and_then(|row| row.region.clone()),
            template: last.and_then(|row| row.template.clone()),
            cost: last.and_then(|row| row.cost.clone()),
            suspect: true,
            // Who finds it then goes on with it, should this worker die.
            watch_at: Some(now.plus(self.hold())),
            since: owned.created_at.unwrap_or(now),
            until: None,
        }
    }
}

/// The place of a removal among the rows of its step: two that find different things do not write
/// over each other's row. Between 1 and 2^31.
fn index_of(account: &str, id: &ExternalId) -> u32 {
    let hash = Sha256::new().chain_update(account).chain_update([0]).chain_update(id.as_str());
    let hash = hash.finalize();
    let bytes = hash.as_slice().first_chunk::<4>().copied().unwrap_or_default();
    (u32::from_be_bytes(bytes) >> 1).max(1)
}

/// Whether the step's run lives with something, or may be making it.
pub(super) fn wanted(rows: &[LedgerRow], id: &ExternalId) -> bool {
    let lives =
        |row: &LedgerRow| row.external_id.as_ref() == Some(id) && row.state != ResourceState::Gone;
    rows.iter().filter(|row| row.index == 0).any(|row| is_open(row) || lives(row))
}

/// Whether its run has a call open that may make it, or will look by itself.
pub(super) fn is_open(row: &LedgerRow) -> bool {
    row.state == ResourceState::Unknown && row.external_id.is_none()
}
