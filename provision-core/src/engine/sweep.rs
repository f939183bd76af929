//! The sweep: what providers hold under our marks, against what the ledger knows.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    Engine,
    look::nobodys,
    removal::{Behind, is_open},
};
use crate::{
    error::{Error, Failure},
    id::{ExternalId, RunId},
    ledger::{
        LedgerQuery, LedgerRow, Origin, ResourceState, Sighting, adopter, halves, rows_of,
        sightings,
    },
    mark::OwnerMark,
    protocol::Action,
    resource::{Listing, Owned},
    retention::Tombstone,
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
    /// What is left of that run, where retention has removed it: nothing here can delete what it
    /// made, so a person has to.
    pub tombstone: Option<Tombstone>,
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
    /// Kinds that could not be listed this time.
    pub failures: Vec<Failure>,
    /// Kinds that nothing lists: they are among neither `wanted` nor `missing`, and what nothing
    /// wants of them is found by the watch alone.
    #[serde(default)]
    pub unlisted: Vec<Unlisted>,
    /// Rows of such kinds whose end was in doubt, and that no look has proven gone yet: on watch.
    /// One that stays here for days needs a person, who looks at the provider and then says
    /// [`Engine::end_watch`].
    #[serde(default)]
    pub unverified: Vec<LedgerRow>,
}

/// A kind that nothing lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unlisted {
    /// Durable kind, such as `github.repo_secrets`.
    pub kind: String,
    /// Account at the provider.
    pub account: String,
    /// How many of them the ledger says to be alive; whether they are was not looked at.
    pub alive: usize,
}

/// Where things of one kind are listed: each account once.
type Places = BTreeMap<String, (String, Arc<dyn Action>)>;

impl Engine {
    /// Lists what every registered kind of resource holds under our marks, in each account that
    /// the registered sagas work in, and compares it with the ledger; so is what workers have seen
    /// that had lost their lease. With `delete`, strays of runs this store knows are deleted; those of
    /// runs that retention has removed are told, with what is left of the run, and left alone.
    ///
    /// # Errors
    /// The store cannot be read; a provider's trouble is in the report.
    pub async fn sweep(&self, delete: bool) -> Result<SweepReport, Error> {
        let mut report = SweepReport::default();
        let sighted = sightings(&*self.inner.store, None).await?;
        for (kind, places) in self.places() {
            let mut listed = Vec::new();
            let mut complete = true;
            for (account, (path, action)) in places {
                let run = RunId::from_uuid(uuid::Uuid::nil());
                let cx = self.looking(nobodys(run, &path, None)).await?;
                match action.list_owned(cx).await {
                    Ok(Some(Listing::Unlisted | Listing::Unmarked)) => {
                        self.sweep_unlisted((&kind, &account), &mut report).await?;
                    }
                    Ok(found) => {
                        let found = found.and_then(Listing::complete).unwrap_or_default();
                        self.sweep_account((&kind, &account), &found, delete, &mut report).await?;
                        listed.extend(found);
                    }
                    Err(error) => {
                        report.failures.push(Failure::of(path, 0, &error));
                        complete = false;
                    }
                }
            }
            let unlisted = sighted.iter().filter(|seen| {
                (&*seen.provider, &*seen.kind) == halves(&kind)
                    && !listed.iter().any(|owned| owned.id == seen.external_id)
            });
            if complete {
                report.strays.extend(self.sweep_sighted(&kind, unlisted, delete).await?);
            }
        }
        Ok(report)
    }

    /// Every kind of resource, and where it is listed.
    fn places(&self) -> BTreeMap<String, Places> {
        let mut kinds = BTreeMap::<String, Places>::new();
        for plan in self.inner.plans.all() {
            let actions = plan.graph.actions().into_iter();
            for (def, action) in actions.filter(|(_, action)| action.timing().is_some()) {
                let places = kinds.entry(def.kind_name().to_owned()).or_default();
                let place = (def.path.to_string(), Arc::clone(action));
                places.insert(action.account().to_owned(), place);
            }
        }
        kinds
    }

    async fn sweep_account(
        &self,
        (full, account): (&str, &str),
        listed: &[Owned],
        delete: bool,
        report: &mut SweepReport,
    ) -> Result<(), Error> {
        let (provider, kind) = halves(full);
        let query = LedgerQuery {
            provider: Some(provider.to_owned()),
            kind: Some(kind.to_owned()),
            states: vec![ResourceState::Alive, ResourceState::Unknown],
            ..LedgerQuery::default()
        };
        // Those of other accounts are wanted too: who renames an account loses nothing.
        let rows = self.all_rows(query).await?;
        let wanted = Wanted::of(&rows);
        for owned in listed {
            if wanted.has(owned) {
                report.wanted += 1;
                continue;
            }
            let behind = match &owned.mark {
                Some(mark) => self.behind(mark).await?,
                None => None,
            };
            let deleted = match &behind {
                // Two kinds may list the same things: each answers for its own.
                Some(behind) if behind.kind != full => continue,
                // S11: its step deletes in another account by now, where the id may be another's.
                Some(behind) if behind.action.account() != account => false,
                Some(behind) => delete && self.remove_stray(behind, owned).await?,
                None => false,
            };
            report.strays.push(Stray {
                kind: full.to_owned(),
                id: owned.id.clone(),
                name: owned.name.clone(),
                run: owned.mark.as_ref().map(OwnerMark::run),
                deleted,
                tombstone: self.left_of(behind.as_ref(), owned.mark.as_ref()).await?,
            });
        }
        let seen: HashSet<&ExternalId> = listed.iter().map(|owned| &owned.id).collect();
        let missing = rows.into_iter().filter(|row| {
            row.account == account
                && row.index == 0
                && row.state == ResourceState::Alive
                && row.origin == Origin::Created
                && row.external_id.as_ref().is_none_or(|id| !seen.contains(id))
        });
        report.missing.extend(missing);
        Ok(())
    }

    /// What the ledger says of a kind that nothing lists.
    async fn sweep_unlisted(
        &self,
        (full, account): (&str, &str),
        report: &mut SweepReport,
    ) -> Result<(), Error> {
        let (provider, kind) = halves(full);
        let query = LedgerQuery {
            provider: Some(provider.to_owned()),
            kind: Some(kind.to_owned()),
            ..LedgerQuery::default()
        };
        let rows = self.all_rows(query).await?.into_iter();
        let rows: Vec<_> = rows.filter(|row| row.account == account && row.index == 0).collect();
        let alive = rows.iter().filter(|row| row.state == ResourceState::Alive).count();
        let (kind, account) = (full.to_owned(), account.to_owned());
        report.unlisted.push(Unlisted { kind, account, alive });
        report.unverified.extend(rows.into_iter().filter(|row| row.watch_at.is_some()));
        Ok(())
    }

    /// What is left of the run behind a mark, where its step is not known any more.
    async fn left_of(
        &self,
        behind: Option<&Behind>,
        mark: Option<&OwnerMark>,
    ) -> Result<Option<Tombstone>, Error> {
        match (behind, mark) {
            (None, Some(mark)) => self.tombstone(&mark.run()).await,
            _ => Ok(None),
        }
    }

    /// What workers have seen that had lost their lease, and that nobody wants or has removed.
    async fn sweep_sighted(
        &self,
        full: &str,
        sighted: impl Iterator<Item = &Sighting> + Send,
        delete: bool,
    ) -> Result<Vec<Stray>, Error> {
        let store = &*self.inner.store;
        let mut strays = Vec::new();
        for sighting in sighted {
            let (run, path) = (sighting.run, &sighting.path);
            let rows = rows_of(store, run, path).await?;
            let is_it = |row: &&LedgerRow| row.external_id.as_ref() == Some(&sighting.external_id);
            // A row of its own says what became of it; a run that looks finds it by itself.
            let known = rows.iter().any(|row| is_it(&row) || is_open(row));
            if known {
                continue;
            }
            let id = &sighting.external_id;
            let mark = OwnerMark::new(run, path);
            let behind = self.behind(&mark).await?;
            let of = rows.iter().rfind(|row| row.generation == sighting.generation);
            let account = of.or(rows.last()).map(|row| row.account.as_str());
            if let Some(account) = account
                && adopter(store, (full, account), id, run).await?.is_some()
            {
                continue;
            }
            // S11: a step that works in another account by now would delete another's thing.
            let behind = behind
                .filter(|behind| account.is_none_or(|account| behind.action.account() == account));
            let tombstone = self.left_of(behind.as_ref(), Some(&mark)).await?;
            let owned =
                Owned::new(id.clone()).with_mark(Some(mark)).with_created_at(Some(sighting.at));
            let deleted = match &behind {
                Some(behind) => delete && self.remove_stray(behind, &owned).await?,
                None => false,
            };
            strays.push(Stray {
                kind: full.to_owned(),
                id: id.clone(),
                name: None,
                run: Some(run),
                deleted,
                tombstone,
            });
        }
        Ok(strays)
    }
}

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
