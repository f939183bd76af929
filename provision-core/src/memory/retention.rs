//! Runs that are over: removed whole, their tombstones kept.

use std::collections::HashMap;

use async_trait::async_trait;

use crate::{
    error::StoreError,
    id::{RunId, Timestamp},
    retention::{Prune, Pruned, RetentionStore, Tombstone, TombstoneQuery},
    store::{RunHead, Submitted},
};

use super::{MemoryStore, tables::Tables};

/// Which runs were started by which.
type Children = HashMap<RunId, Vec<RunId>>;

impl Tables {
    /// The answer about a run that was removed.
    pub(super) fn pruned(&self, run: &RunId) -> Option<Submitted> {
        self.tombstones.get(run).cloned().map(|tombstone| Submitted::Pruned(Box::new(tombstone)))
    }

    fn prune(&mut self, prune: &Prune, now: Timestamp) -> Pruned {
        let from = prune.after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let walk = self.runs.range((from, std::ops::Bound::Unbounded));
        let looked: Vec<RunId> = walk.take(Prune::LOOKS_MAX).map(|(run, _)| *run).collect();
        let children = self.children();
        let (mut pruned, mut frames) = (Pruned::default(), 0_u64);
        for run in &looked {
            let Some(row) = self.runs.get(run).filter(|row| self.may_go(&row.head, prune)) else {
                continue;
            };
            if self.is_needed(&row.head, &children) {
                continue;
            }
            frames = frames.saturating_add(row.head.seq);
            pruned.runs.push(*run);
            if !prune.dry_run {
                self.remove(*run, now);
            }
            if pruned.runs.len() >= prune.most() || frames >= Prune::FRAMES_MAX {
                pruned.next = Some(*run);
                return pruned;
            }
        }
        pruned.next = looked.last().filter(|_| looked.len() == Prune::LOOKS_MAX).copied();
        pruned
    }

    fn children(&self) -> Children {
        let mut children = Children::new();
        for row in self.runs.values() {
            if let Some(parent) = &row.head.parent {
                children.entry(parent.run).or_default().push(row.head.id);
            }
        }
        children
    }

    /// Whether its own row lets a run go.
    fn may_go(&self, head: &RunHead, prune: &Prune) -> bool {
        let letter = head.summary.is_dead_letter(head.status);
        head.updated_at < prune.ended_before && (prune.dead_letters || !letter)
    }

    /// S1: whether anybody needs it: a parent, what it made, or a run below it.
    fn is_needed(&self, head: &RunHead, children: &Children) -> bool {
        let parent = head.parent.as_ref().is_some_and(|p| self.runs.contains_key(&p.run));
        let mut family = vec![head.id];
        let mut at = 0;
        while let Some(run) = family.get(at).copied() {
            family.extend(children.get(&run).into_iter().flatten());
            at += 1;
        }
        parent || family.iter().any(|run| self.holds(*run))
    }

    fn holds(&self, run: RunId) -> bool {
        let Some(head) = self.runs.get(&run).map(|row| &row.head) else { return false };
        let rests = head.status.is_end() && head.owner.is_none() && head.due == Timestamp::NEVER;
        !rests || head.guard.is_some() || self.ledger.holds(run)
    }

    fn remove(&mut self, run: RunId, now: Timestamp) {
        let Some(row) = self.runs.remove(&run) else { return };
        self.ledger.remove(run);
        let scope = run.to_string();
        self.sealed.retain(|key, _| key.scope != scope);
        self.tombstones.insert(run, Tombstone::of(&row.head, now));
    }

    fn entombed(&self, query: &TombstoneQuery) -> Vec<Tombstone> {
        let of = |run: &RunId| self.tombstones.get(run).cloned();
        match query {
            TombstoneQuery::Runs(runs) => runs.iter().filter_map(of).collect(),
            TombstoneQuery::Key(key) => self.keys.get(key).and_then(of).into_iter().collect(),
            TombstoneQuery::KeyPrefix(prefix) => {
                let begins = |known: &&Tombstone| {
                    known.key.as_ref().is_some_and(|key| key.starts_with(prefix.as_str()))
                };
                let found = self.tombstones.values().filter(begins);
                found.max_by_key(|known| (known.ended_at, known.run)).cloned().into_iter().collect()
            }
        }
    }

    fn forget(&mut self, ended_before: Timestamp, limit: usize) -> usize {
        let old = self.tombstones.values().filter(|known| known.ended_at < ended_before);
        let old: Vec<RunId> = old.take(limit).map(|known| known.run).collect();
        for run in &old {
            if let Some(key) = self.tombstones.remove(run).and_then(|known| known.key) {
                self.keys.remove(&key);
            }
        }
        old.len()
    }
}

#[async_trait]
impl RetentionStore for MemoryStore {
    async fn prune(&self, prune: &Prune) -> Result<Pruned, StoreError> {
        Ok(self.write(|tables, now| tables.prune(prune, now)))
    }

    async fn tombstones(&self, query: &TombstoneQuery) -> Result<Vec<Tombstone>, StoreError> {
        Ok(self.read(|tables, _| tables.entombed(query)))
    }

    async fn forget(&self, ended_before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        Ok(self.write(|tables, _| tables.forget(ended_before, limit)))
    }
}
