//! The ledger: rows by (run, path, generation, index), with indexes for names and the watch.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{
    id::{RunId, Timestamp},
    ledger::{LedgerOp, LedgerQuery, LedgerReply, LedgerRow, ResourceState, Sighting},
};

use super::tables::Tables;

/// Rows a query answers when it names no limit, and the most it ever answers.
const ROWS_DEFAULT: usize = 1_000;
const ROWS_MAX: usize = 10_000;

type Key = (RunId, String, u32, u32);
type Name = (String, String, String, String);

#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    rows: BTreeMap<Key, LedgerRow>,
    /// Live created rows by (provider, account, kind, name).
    names: HashMap<Name, BTreeSet<Key>>,
    watch: BTreeSet<(Timestamp, Key)>,
    sightings: Vec<Sighting>,
}

fn key(row: &LedgerRow) -> Key {
    (row.run, row.path.clone(), row.generation, row.index)
}

fn claimed(row: &LedgerRow) -> Option<Name> {
    let name = row.claimed_name()?.to_owned();
    Some((row.provider.clone(), row.account.clone(), row.kind.clone(), name))
}

fn same_sighting(a: &Sighting, b: &Sighting) -> bool {
    (a.run, &a.path, &a.provider, &a.kind, &a.external_id, a.epoch)
        == (b.run, &b.path, &b.provider, &b.kind, &b.external_id, b.epoch)
}

impl Ledger {
    /// Another run's live created row of the same name.
    pub(super) fn conflict(&self, row: &LedgerRow) -> Option<&LedgerRow> {
        let name = claimed(row)?;
        // A row that has the name already keeps it, whatever the watch has entered since.
        if self.rows.get(&key(row)).and_then(claimed).as_ref() == Some(&name) {
            return None;
        }
        let holder = self.names.get(&name)?.iter().find(|(run, ..)| *run != row.run)?;
        self.rows.get(holder)
    }

    pub(super) fn put(&mut self, row: LedgerRow) {
        let key = key(&row);
        if let Some(old) = self.rows.remove(&key) {
            if let Some(at) = old.watch_at {
                self.watch.remove(&(at, key.clone()));
            }
            if let Some(name) = claimed(&old)
                && let Some(holders) = self.names.get_mut(&name)
            {
                holders.remove(&key);
                if holders.is_empty() {
                    self.names.remove(&name);
                }
            }
        }
        if let Some(at) = row.watch_at {
            self.watch.insert((at, key.clone()));
        }
        if let Some(name) = claimed(&row) {
            self.names.entry(name).or_default().insert(key.clone());
        }
        self.rows.insert(key, row);
    }

    /// The rows of a run.
    fn of(&self, run: RunId) -> impl Iterator<Item = &LedgerRow> {
        let rows = self.rows.range((run, String::new(), 0, 0)..).map(|(_, row)| row);
        rows.take_while(move |row| row.run == run)
    }

    /// Whether anything that a run made, or may have made, is not known to be gone and done with.
    pub(super) fn holds(&self, run: RunId) -> bool {
        let settled = |seen: &Sighting| {
            let same = |row: &LedgerRow| {
                row.path == seen.path && row.external_id.as_ref() == Some(&seen.external_id)
            };
            self.of(run).any(same)
        };
        self.of(run).any(|row| row.state != ResourceState::Gone || row.watch_at.is_some())
            || self.sightings.iter().any(|seen| seen.run == run && !settled(seen))
    }

    /// Removes what a run has here: rows that claim no name and are not watched.
    pub(super) fn remove(&mut self, run: RunId) {
        let keys: Vec<Key> = self.of(run).map(key).collect();
        for key in keys {
            self.rows.remove(&key);
        }
        self.sightings.retain(|seen| seen.run != run);
    }

    fn query(&self, query: &LedgerQuery) -> Vec<LedgerRow> {
        let limit = if query.limit == 0 { ROWS_DEFAULT } else { query.limit.min(ROWS_MAX) };
        let start = match (&query.after, query.run) {
            (Some(after), _) => std::ops::Bound::Excluded(after.clone()),
            (None, Some(run)) => {
                std::ops::Bound::Included((run, query.path.clone().unwrap_or_default(), 0, 0))
            }
            (None, None) => std::ops::Bound::Unbounded,
        };
        self.rows
            .range((start, std::ops::Bound::Unbounded))
            .map(|(_, row)| row)
            .take_while(|row| query.run.is_none_or(|run| row.run <= run))
            .filter(|row| matches(query, row))
            .take(limit)
            .cloned()
            .collect()
    }

    fn claim_watch(&mut self, now: Timestamp, until: Timestamp, limit: usize) -> Vec<LedgerRow> {
        let due: Vec<Key> = self
            .watch
            .iter()
            .take_while(|(at, _)| *at <= now)
            .take(limit.min(ROWS_MAX))
            .map(|(_, key)| key.clone())
            .collect();
        let rows: Vec<LedgerRow> =
            due.iter().filter_map(|key| self.rows.get(key)).cloned().collect();
        let rows = rows.into_iter().map(|row| LedgerRow { watch_at: Some(until), ..row });
        rows.inspect(|row| self.put(row.clone())).collect()
    }

    fn end_watch(&mut self, claimed: &LedgerRow, next: Option<Timestamp>) -> bool {
        let found = self.rows.get(&key(claimed)).filter(|row| row.watch_at == claimed.watch_at);
        let Some(row) = found.cloned() else { return false };
        self.put(LedgerRow { watch_at: next, ..row });
        true
    }

    fn sight(&mut self, sighting: &Sighting) -> bool {
        let new = !self.sightings.iter().any(|known| same_sighting(known, sighting));
        if new {
            self.sightings.push(sighting.clone());
        }
        new
    }
}

fn matches(query: &LedgerQuery, row: &LedgerRow) -> bool {
    query.run.is_none_or(|run| run == row.run)
        && query.path.as_ref().is_none_or(|path| *path == row.path)
        && (query.tenant.is_none() || query.tenant == row.tenant)
        && query.provider.as_ref().is_none_or(|provider| *provider == row.provider)
        && query.kind.as_ref().is_none_or(|kind| *kind == row.kind)
        && (query.external_id.is_none() || query.external_id == row.external_id)
        && (query.states.is_empty() || query.states.contains(&row.state))
}

impl Tables {
    pub(super) fn ledger_op(&mut self, op: &LedgerOp, now: Timestamp) -> LedgerReply {
        match op {
            LedgerOp::Query(query) => LedgerReply::Rows(self.ledger.query(query)),
            LedgerOp::Sight(sighting) => LedgerReply::Changed(self.ledger.sight(sighting)),
            LedgerOp::Sightings(run) => {
                let all = self.ledger.sightings.iter();
                let found = all.filter(|s| run.is_none_or(|run| run == s.run));
                LedgerReply::Sightings(found.cloned().collect())
            }
            LedgerOp::ClaimWatch { hold, limit, .. } => {
                LedgerReply::Rows(self.ledger.claim_watch(now, now.plus(*hold), *limit))
            }
            LedgerOp::EndWatch { row, next } => {
                LedgerReply::Changed(self.ledger.end_watch(row, *next))
            }
            LedgerOp::Enter(row) => LedgerReply::Changed(self.enter(row)),
        }
    }

    /// S17: rows of a run under way are written by its own appends only.
    fn enter(&mut self, row: &LedgerRow) -> bool {
        let status = self.runs.get(&row.run).map(|run| run.head.status);
        let known = self.ledger.rows.get(&key(row));
        if known == Some(row) || !row.may_be_entered(known, status) {
            return false;
        }
        self.ledger.put(row.clone());
        true
    }
}
