//! Removing what carries our marks and nothing wants, so that no run takes it meanwhile.

use std::sync::Arc;

use super::Engine;
use crate::{
    context::Memory,
    drive::fold,
    error::Error,
    id::{Payload, RunId, Timestamp},
    ledger::{LedgerOp, LedgerReply, LedgerRow, Origin, ResourceState, adopter, halves, rows_of},
    mark::OwnerMark,
    protocol::Action,
    resource::Owned,
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
    /// Whether an attempt of it is open.
    open: bool,
}

/// How long a removal that was begun is left to whoever began it.
pub(super) const REMOVAL_HOLD: std::time::Duration = std::time::Duration::from_secs(300);

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
                open: node.is_open(),
            })
        }))
    }

    /// Removes what carries the mark of a step, unless its run, or one that has adopted it, lives
    /// with it. False when it may still be there.
    ///
    /// S15: it is entered first, which the store refuses while the run is under way. So a run that
    /// is driven again while this goes on sees the row, and takes nothing until it is gone.
    pub(super) async fn remove_stray(&self, behind: &Behind, owned: &Owned) -> Result<bool, Error> {
        let store = &*self.inner.store;
        let place = (behind.kind.as_str(), behind.action.account());
        if adopter(store, place, &owned.id, behind.run).await?.is_some() {
            return Ok(false);
        }
        let rows = rows_of(store, behind.run, &behind.path).await?;
        if wanted(&rows, owned) {
            return Ok(false);
        }
        let begun = rows
            .iter()
            .find(|row| row.is_being_removed() && row.external_id.as_ref() == Some(&owned.id));
        let stray = match begun {
            Some(row) => row.clone(),
            None => behind.found(&rows, owned, store.now().await?),
        };
        let entered = begun.is_some() || self.enter(&stray, ResourceState::Alive).await?;
        if !entered && behind.open {
            return Ok(false);
        }
        if wanted(&rows_of(store, behind.run, &behind.path).await?, owned) {
            // Driven again, and over again, since its rows were read.
            self.enter(&stray, ResourceState::Gone).await?;
            return Ok(false);
        }
        let deleted = self.delete_stray(behind, owned).await?;
        if deleted && entered {
            self.enter(&stray, ResourceState::Gone).await?;
        }
        Ok(deleted)
    }

    /// Deletes with the input of the step. False when it may still be there.
    async fn delete_stray(&self, behind: &Behind, owned: &Owned) -> Result<bool, Error> {
        let (path, tenant) = (&behind.path, behind.tenant.clone());
        let cx = self.looking(behind.run, path, tenant, Memory::default()).await?;
        match behind.action.delete(cx, behind.input.clone(), &owned.id).await {
            Ok(()) => Ok(true),
            Err(error) => {
                tracing::warn!(%error, id = %owned.id, "a stray could not be deleted");
                Ok(false)
            }
        }
    }

    /// Enters a row of something found; false where its run is under way.
    pub(super) async fn enter(&self, row: &LedgerRow, state: ResourceState) -> Result<bool, Error> {
        let now = self.inner.store.now().await?;
        let gone = state == ResourceState::Gone;
        let row = LedgerRow {
            state,
            until: gone.then_some(now),
            // Who finds it goes on with it, should this worker die.
            watch_at: (!gone).then(|| now.plus(REMOVAL_HOLD)),
            ..row.clone()
        };
        let replies = self.inner.store.ledger(&[LedgerOp::Enter(Box::new(row))]).await?;
        Ok(matches!(replies.as_slice(), [LedgerReply::Changed(true)]))
    }
}

impl Behind {
    /// The row of something found under its mark, as the provider shows it.
    fn found(&self, rows: &[LedgerRow], owned: &Owned, now: Timestamp) -> LedgerRow {
        let index = rows.iter().map(|row| row.index).max().unwrap_or_default();
        let last = rows.iter().rev().find(|row| row.index == 0);
        let (provider, kind) = halves(&self.kind);
        LedgerRow {
            run: self.run,
            path: self.path.clone(),
            generation: last.map_or(self.generation, |row| row.generation),
            index: index.saturating_add(1),
            tenant: self.tenant.clone(),
            provider: provider.to_owned(),
            account: last.map_or(self.action.account(), |row| &row.account).to_owned(),
            kind: kind.to_owned(),
            name: owned.name.clone().or_else(|| last?.name.clone()),
            external_id: Some(owned.id.clone()),
            origin: Origin::Created,
            state: ResourceState::Alive,
            region: last.and_then(|row| row.region.clone()),
            template: last.and_then(|row| row.template.clone()),
            cost: last.and_then(|row| row.cost.clone()),
            suspect: true,
            watch_at: None,
            since: owned.created_at.unwrap_or(now),
            until: None,
        }
    }
}

/// Whether the step's run lives with something, or may be making it.
pub(super) fn wanted(rows: &[LedgerRow], owned: &Owned) -> bool {
    let lives = |row: &LedgerRow| {
        row.external_id.as_ref() == Some(&owned.id) && row.state != ResourceState::Gone
    };
    rows.iter().filter(|row| row.index == 0).any(|row| is_open(row) || lives(row))
}

/// Whether its run has a call open that may make it, or will look by itself.
pub(super) fn is_open(row: &LedgerRow) -> bool {
    row.state == ResourceState::Unknown && row.external_id.is_none()
}
