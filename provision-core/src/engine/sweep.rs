//! The sweep: what providers hold under our marks, against what the ledger knows.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::Engine;
use crate::{
    context::Memory,
    drive::fold,
    error::{Error, Failure, StepError},
    id::{ExternalId, Payload, RunId},
    ledger::{LedgerOp, LedgerQuery, LedgerReply, LedgerRow, Origin, ResourceState},
    mark::OwnerMark,
    protocol::Action,
    resource::Owned,
    store::Incarnation,
};

/// Something at a provider that carries our mark and that nothing wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stray {
    /// Durable kind, such as `supabase.project`.
    pub kind: String,
    /// The provider's id.
    pub id: ExternalId,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// The run whose mark it carries.
    pub run: Option<RunId>,
    /// Whether it was deleted by this sweep.
    pub deleted: bool,
}

/// What a sweep found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SweepReport {
    /// Resources with our mark that exist and are wanted.
    pub wanted: usize,
    /// Resources with our mark that nothing wants.
    pub strays: Vec<Stray>,
    /// Rows of the ledger that say "alive" of something the provider does not list.
    pub missing: Vec<LedgerRow>,
    /// Kinds that could not be listed.
    pub failures: Vec<Failure>,
}

impl Engine {
    /// Lists what every registered kind of resource holds under our marks and compares it with
    /// the ledger. With `delete`, strays of runs this store knows are deleted.
    ///
    /// # Errors
    /// The store cannot be read; a provider's trouble is in the report.
    pub async fn sweep(&self, delete: bool) -> Result<SweepReport, Error> {
        let mut report = SweepReport::default();
        let mut kinds = BTreeMap::new();
        let plans: Vec<_> = self.inner.plans.all().cloned().collect();
        for plan in &plans {
            for (def, action) in plan.graph.actions() {
                if action.timing().is_some() {
                    kinds.insert(def.kind_name().to_owned(), (def.path.to_string(), action));
                }
            }
        }
        for (kind, (path, action)) in kinds {
            let run = RunId::from_uuid(uuid::Uuid::nil());
            let cx = self.looking(run, &path, None, Memory::default()).await?;
            match action.list_owned(cx).await {
                Ok(listed) => {
                    let listed = listed.unwrap_or_default();
                    let part = self.sweep_kind(&kind, &**action, listed, delete).await?;
                    report.wanted += part.wanted;
                    report.strays.extend(part.strays);
                    report.missing.extend(part.missing);
                }
                Err(error) => report.failures.push(Failure::of(path, 0, &error)),
            }
        }
        Ok(report)
    }

    async fn sweep_kind(
        &self,
        full: &str,
        action: &dyn Action,
        listed: Vec<Owned>,
        delete: bool,
    ) -> Result<SweepReport, Error> {
        let mut report = SweepReport::default();
        let (provider, kind) = full.split_once('.').unwrap_or(("", full));
        let query = LedgerQuery {
            provider: Some(provider.to_owned()),
            kind: Some(kind.to_owned()),
            states: vec![ResourceState::Alive, ResourceState::Unknown],
            ..LedgerQuery::default()
        };
        let rows = self.all_rows(query).await?;
        let wanted = Wanted::of(&rows);
        for owned in &listed {
            if wanted.has(owned) {
                report.wanted += 1;
                continue;
            }
            let run = owned.mark.as_ref().map(OwnerMark::run);
            let deleted = delete && self.delete_stray(action, owned).await?;
            report.strays.push(Stray {
                kind: full.to_owned(),
                id: owned.id.clone(),
                name: owned.name.clone(),
                run,
                deleted,
            });
        }
        let seen: HashSet<&ExternalId> = listed.iter().map(|owned| &owned.id).collect();
        let gone = |row: &LedgerRow| {
            row.state == ResourceState::Alive
                && row.origin == Origin::Created
                && row.external_id.as_ref().is_none_or(|id| !seen.contains(id))
        };
        report.missing.extend(rows.into_iter().filter(gone));
        Ok(report)
    }

    /// Deletes a stray with the input of the step whose mark it carries.
    async fn delete_stray(&self, action: &dyn Action, owned: &Owned) -> Result<bool, Error> {
        let Some(mark) = &owned.mark else { return Ok(false) };
        let Some((input, path, tenant)) = self.input_behind(mark).await? else {
            return Ok(false);
        };
        let cx = self.looking(mark.run(), &path, tenant, Memory::default()).await?;
        match action.delete(cx, input, &owned.id).await {
            Ok(()) => Ok(true),
            Err(error) => {
                tracing::warn!(%error, id = %owned.id, "a stray could not be deleted");
                Ok(false)
            }
        }
    }

    async fn input_behind(
        &self,
        mark: &OwnerMark,
    ) -> Result<Option<(Payload, String, Option<String>)>, Error> {
        let record = self.inner.store.load(&[mark.run()]).await?.pop().flatten();
        let Some(record) = record else { return Ok(None) };
        let Ok(state) = fold(&record.head, &record.frames, &self.inner.plans) else {
            return Ok(None);
        };
        let node = state.nodes.iter().find(|node| {
            OwnerMark::new(state.run, &node.path).step() == mark.step() && node.input.is_some()
        });
        Ok(node.and_then(|node| {
            let input = node.input.clone()?;
            Some((input, node.path.to_string(), record.head.tenant.clone()))
        }))
    }

    /// S15: looks once more at rows whose end was unknown once, and deletes what carries their
    /// mark and is not the recorded live id. Any worker's maintenance calls this.
    ///
    /// # Errors
    /// The store cannot be reached; a provider's trouble moves the next look.
    pub async fn watch_ledger(&self, limit: usize) -> Result<usize, Error> {
        let worker = Incarnation(uuid::Uuid::nil());
        let op = LedgerOp::ClaimWatch { worker, hold: WATCH_HOLD, limit };
        let rows = match self.inner.store.ledger(&[op]).await?.pop() {
            Some(LedgerReply::Rows(rows)) => rows,
            _ => Vec::new(),
        };
        let count = rows.len();
        for row in rows {
            match self.look_once_more(&row).await {
                Ok(()) => {
                    let op = LedgerOp::EndWatch { row: Box::new(row), next: None };
                    self.inner.store.ledger(&[op]).await?;
                }
                Err(error) => {
                    tracing::warn!(%error, path = %row.path, "the watch looks again later");
                }
            }
        }
        Ok(count)
    }

    async fn look_once_more(&self, row: &LedgerRow) -> Result<(), StepError> {
        let kind = format!("{}.{}", row.provider, row.kind);
        let plans: Vec<_> = self.inner.plans.all().cloned().collect();
        let action = plans.iter().find_map(|plan| {
            let mut actions = plan.graph.actions().into_iter();
            actions.find(|(def, _)| def.kind_name() == kind).map(|(_, action)| action)
        });
        let Some(action) = action.filter(|action| action.timing().is_some()) else {
            return Err(StepError::retry("watch a resource").with_code("no_code"));
        };
        let trouble = |error: Error| StepError::retry("watch a resource").with_source(error);
        let memory = Memory::default();
        let cx = self.looking(row.run, &row.path, row.tenant.clone(), memory).await;
        let listed = action.list_owned(cx.map_err(trouble)?).await?.unwrap_or_default();
        let mark = OwnerMark::new(row.run, &row.path);
        let live = self.live_ids(row).await.map_err(trouble)?;
        for owned in listed.iter().filter(|owned| owned.mark.as_ref() == Some(&mark)) {
            if !live.contains(&owned.id) {
                self.delete_stray(&**action, owned).await.map_err(trouble)?;
            }
        }
        Ok(())
    }

    async fn live_ids(&self, row: &LedgerRow) -> Result<Vec<ExternalId>, Error> {
        let query = LedgerQuery {
            run: Some(row.run),
            path: Some(row.path.clone()),
            states: vec![ResourceState::Alive, ResourceState::Unknown, ResourceState::LeftBehind],
            ..LedgerQuery::default()
        };
        let rows = self.all_rows(query).await?;
        Ok(rows.into_iter().filter_map(|other| other.external_id).collect())
    }
}

/// How long one look may take before another worker looks.
const WATCH_HOLD: std::time::Duration = std::time::Duration::from_secs(300);

/// What the ledger wants of a kind.
#[derive(Debug, Default)]
struct Wanted {
    ids: HashSet<ExternalId>,
    marks: HashSet<OwnerMark>,
}

impl Wanted {
    /// Its live ids, and the marks of runs and steps that have an intent open and no id yet.
    fn of(rows: &[LedgerRow]) -> Self {
        let mut wanted = Self::default();
        for row in rows {
            match &row.external_id {
                Some(id) => drop(wanted.ids.insert(id.clone())),
                None => drop(wanted.marks.insert(OwnerMark::new(row.run, &row.path))),
            }
        }
        wanted
    }

    fn has(&self, owned: &Owned) -> bool {
        let marked = owned.mark.as_ref().is_some_and(|mark| self.marks.contains(mark));
        marked || self.ids.contains(&owned.id)
    }
}
