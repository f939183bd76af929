//! The sweep: what providers hold under our marks, against what the ledger knows.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::Engine;
use crate::{
    context::Memory,
    drive::fold,
    error::{Effect, Error, Failure, StepError},
    id::{ExternalId, Payload, RunId, Timestamp},
    ledger::{
        LedgerOp, LedgerQuery, LedgerReply, LedgerRow, Origin, ResourceState, Sighting, adopter,
        halves, sightings,
    },
    mark::OwnerMark,
    panics,
    protocol::Action,
    resource::Owned,
    store::Incarnation,
};

/// Something at a provider that carries our mark, or was seen by a worker that had just lost its
/// lease, and that nothing wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stray {
    /// Durable kind, such as `supabase.project`.
    pub kind: String,
    /// The provider's id.
    pub id: ExternalId,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// The run whose mark it carries, or whose worker has seen it.
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
    /// the ledger; so is what workers have seen that had lost their lease. With `delete`, strays of
    /// runs this store knows are deleted.
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
        let sighted = sightings(&*self.inner.store, None).await?;
        for (kind, (path, action)) in kinds {
            let run = RunId::from_uuid(uuid::Uuid::nil());
            let cx = self.looking(run, &path, None, Memory::default()).await?;
            match action.list_owned(cx).await {
                Ok(listed) => {
                    let listed = listed.unwrap_or_default();
                    let part = self.sweep_kind(&kind, &**action, &listed, delete).await?;
                    report.wanted += part.wanted;
                    report.strays.extend(part.strays);
                    report.missing.extend(part.missing);
                    let unlisted = sighted.iter().filter(|seen| {
                        (&*seen.provider, &*seen.kind) == halves(&kind)
                            && !listed.iter().any(|owned| owned.id == seen.external_id)
                    });
                    let strays = self.sweep_sighted(&kind, &**action, unlisted, delete).await?;
                    report.strays.extend(strays);
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
        listed: &[Owned],
        delete: bool,
    ) -> Result<SweepReport, Error> {
        let mut report = SweepReport::default();
        let (provider, kind) = halves(full);
        let query = LedgerQuery {
            provider: Some(provider.to_owned()),
            kind: Some(kind.to_owned()),
            states: vec![ResourceState::Alive, ResourceState::Unknown],
            ..LedgerQuery::default()
        };
        let rows = self.all_rows(query).await?;
        let wanted = Wanted::of(&rows);
        for owned in listed {
            if wanted.has(owned) {
                report.wanted += 1;
                continue;
            }
            let run = owned.mark.as_ref().map(OwnerMark::run);
            let deleted = delete && self.delete_unwanted(action, owned).await?;
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

    /// What workers have seen that had lost their lease, and that nobody wants or has removed.
    async fn sweep_sighted(
        &self,
        full: &str,
        action: &dyn Action,
        sighted: impl Iterator<Item = &Sighting> + Send,
        delete: bool,
    ) -> Result<Vec<Stray>, Error> {
        let mut strays = Vec::new();
        for sighting in sighted {
            let (run, path) = (sighting.run, &sighting.path);
            let query =
                LedgerQuery { run: Some(run), path: Some(path.clone()), ..LedgerQuery::default() };
            let rows = self.all_rows(query).await?;
            let is_it = |row: &&LedgerRow| row.external_id.as_ref() == Some(&sighting.external_id);
            // A row of its own says what became of it; a run that looks finds it by itself.
            let known = rows.iter().any(|row| is_it(&row) || is_open(row));
            let id = &sighting.external_id;
            if known || adopter(&*self.inner.store, full, id, run).await?.is_some() {
                continue;
            }
            let owned = Owned::new(id.clone())
                .with_mark(Some(OwnerMark::new(run, path)))
                .with_created_at(Some(sighting.at));
            let deleted = delete && self.delete_unwanted(action, &owned).await?;
            if let Some(row) = rows.first().filter(|_| deleted) {
                let index = rows.iter().map(|row| row.index).max().unwrap_or_default();
                let row = found_row(row, &owned, index.saturating_add(1), sighting.at);
                self.enter(&row, ResourceState::Gone).await?;
            }
            strays.push(Stray {
                kind: full.to_owned(),
                id: id.clone(),
                name: None,
                run: Some(run),
                deleted,
            });
        }
        Ok(strays)
    }

    async fn delete_unwanted(&self, action: &dyn Action, owned: &Owned) -> Result<bool, Error> {
        let Some(mark) = &owned.mark else { return Ok(false) };
        let Some(behind) = self.behind(mark).await? else { return Ok(false) };
        self.delete_stray(action, mark, &behind, &owned.id).await
    }

    /// Deletes a stray with the input of the step whose mark it carries. False when it may still
    /// be there.
    async fn delete_stray(
        &self,
        action: &dyn Action,
        mark: &OwnerMark,
        behind: &Behind,
        id: &ExternalId,
    ) -> Result<bool, Error> {
        let (path, tenant) = (&behind.path, behind.tenant.clone());
        let cx = self.looking(mark.run(), path, tenant, Memory::default()).await?;
        match action.delete(cx, behind.input.clone(), id).await {
            Ok(()) => Ok(true),
            Err(error) => {
                tracing::warn!(%error, %id, "a stray could not be deleted");
                Ok(false)
            }
        }
    }

    /// The step whose mark it is; `None` when its run cannot be read, or never got to it.
    async fn behind(&self, mark: &OwnerMark) -> Result<Option<Behind>, Error> {
        let record = self.inner.store.load(&[mark.run()]).await?.pop().flatten();
        let Some(record) = record else { return Ok(None) };
        let Ok(state) = fold(&record.head, &record.frames, &self.inner.plans) else {
            return Ok(None);
        };
        let marked =
            state.nodes.iter().find(|n| OwnerMark::new(state.run, &n.path).step() == mark.step());
        Ok(marked.and_then(|node| {
            let (input, path) = (node.input.clone()?, node.path.to_string());
            Some(Behind { input, path, tenant: record.head.tenant.clone(), open: node.is_open() })
        }))
    }

    /// S15: looks once more at rows whose end was unknown once, and deletes what carries their
    /// mark and is not the recorded live id. Any worker's maintenance calls this.
    ///
    /// What is found is in the ledger while it exists. A look that cannot say that nothing is left
    /// is followed by another one.
    ///
    /// # Errors
    /// The store cannot be reached; a provider's trouble moves the next look.
    pub async fn watch_ledger(&self, limit: usize) -> Result<usize, Error> {
        let worker = Incarnation(uuid::Uuid::nil());
        let op = LedgerOp::ClaimWatch { worker, hold: WATCH_HOLD, limit };
        let rows = crate::ledger::rows(self.inner.store.ledger(&[op]).await?);
        let count = rows.len();
        for row in rows {
            // S21: one row that cannot be looked at holds back no other.
            let looking = self.look_once_more(&row);
            let looked = panics::guarded("watch a resource", &row.path, Effect::Unknown, looking);
            let over = looked.await.unwrap_or_else(|error| {
                tracing::warn!(%error, path = %row.path, "the watch looks again later");
                false
            });
            let next = if over { None } else { Some(self.inner.store.now().await?.plus(AGAIN)) };
            let op = LedgerOp::EndWatch { row: Box::new(row), next };
            self.inner.store.ledger(&[op]).await?;
        }
        Ok(count)
    }

    /// Whether nothing is left to look for.
    async fn look_once_more(&self, row: &LedgerRow) -> Result<bool, StepError> {
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
        let found: Vec<_> =
            listed.into_iter().filter(|owned| owned.mark.as_ref() == Some(&mark)).collect();
        // What is listed is read before the rows: what the run noted meanwhile is known as its.
        self.remove(&**action, row, &mark, &found).await.map_err(trouble)
    }

    /// Removes what was found under a mark beside what its run lives with.
    async fn remove(
        &self,
        action: &dyn Action,
        row: &LedgerRow,
        mark: &OwnerMark,
        found: &[Owned],
    ) -> Result<bool, Error> {
        let (run, path) = (Some(row.run), Some(row.path.clone()));
        let query = LedgerQuery { run, path, ..LedgerQuery::default() };
        let (own, entered): (Vec<_>, Vec<_>) =
            self.all_rows(query).await?.into_iter().partition(|row| row.index == 0);
        if own.iter().any(is_open) {
            return Ok(false);
        }
        let mut over = true;
        for row in entered.iter().filter(|row| row.state == ResourceState::Alive) {
            if !found.iter().any(|owned| Some(&owned.id) == row.external_id.as_ref()) {
                over &= self.enter(row, ResourceState::Gone).await?;
            }
        }
        let lives = |owned: &&Owned| {
            let same = |row: &&LedgerRow| row.external_id.as_ref() == Some(&owned.id);
            own.iter().filter(same).any(|row| row.state != ResourceState::Gone)
        };
        let strays: Vec<_> = found.iter().filter(|owned| !lives(owned)).collect();
        if strays.is_empty() {
            return Ok(over);
        }
        let Some(behind) = self.behind(mark).await?.filter(|behind| !behind.open) else {
            return Ok(false);
        };
        let now = self.inner.store.now().await?;
        let mut next = entered.iter().map(|row| row.index).max().unwrap_or_default();
        for owned in strays {
            let kind = format!("{}.{}", row.provider, row.kind);
            if adopter(&*self.inner.store, &kind, &owned.id, row.run).await?.is_some() {
                over = false;
                continue;
            }
            let known = entered.iter().find(|row| row.external_id.as_ref() == Some(&owned.id));
            next += u32::from(known.is_none());
            let stray = known.cloned().unwrap_or_else(|| found_row(row, owned, next, now));
            // A run under way keeps its rows to itself; what is deleted there is not entered.
            let kept = self.enter(&stray, ResourceState::Alive).await? || known.is_some();
            let deleted = self.delete_stray(action, mark, &behind, &owned.id).await?;
            if deleted && kept {
                self.enter(&stray, ResourceState::Gone).await?;
            }
            over &= deleted;
        }
        Ok(over)
    }

    async fn enter(&self, row: &LedgerRow, state: ResourceState) -> Result<bool, Error> {
        let gone = state == ResourceState::Gone;
        let until = if gone { Some(self.inner.store.now().await?) } else { None };
        let row = Box::new(LedgerRow { state, until, ..row.clone() });
        let replies = self.inner.store.ledger(&[LedgerOp::Enter(row)]).await?;
        Ok(matches!(replies.as_slice(), [LedgerReply::Changed(true)]))
    }
}

/// Whether its run has a call open that may make it, or will look by itself.
fn is_open(row: &LedgerRow) -> bool {
    row.state == ResourceState::Unknown && row.external_id.is_none()
}

/// The step behind a mark.
struct Behind {
    input: Payload,
    path: String,
    tenant: Option<String>,
    /// Whether an attempt of it is open.
    open: bool,
}

/// The row of something found under the mark of `row`'s step, as the provider shows it.
fn found_row(row: &LedgerRow, owned: &Owned, index: u32, now: Timestamp) -> LedgerRow {
    LedgerRow {
        index,
        name: owned.name.clone().or_else(|| row.name.clone()),
        external_id: Some(owned.id.clone()),
        origin: Origin::Created,
        suspect: true,
        watch_at: None,
        since: owned.created_at.unwrap_or(now),
        ..row.clone()
    }
}

/// How long after a look that could not end the watch the next one is.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(3_600);

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
        // Later indexes are what the watch has found: entered, and not wanted.
        for row in rows.iter().filter(|row| row.index == 0) {
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
