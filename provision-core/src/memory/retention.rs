//! Runs that are over: removed whole, their tombstones kept.

use async_trait::async_trait;

use crate::{
    error::StoreError,
    id::{RunId, Timestamp},
    retention::{Prune, PruneStep, RetentionStore, Tombstone, TombstoneQuery},
    store::{RunHead, Submitted},
};

use super::{MemoryStore, tables::Tables};

impl Tables {
    /// The answer about a run that was removed.
    pub(super) fn pruned(&self, run: &RunId) -> Option<Submitted> {
        self.tombstones.get(run).cloned().map(|tombstone| Submitted::Pruned(Box::new(tombstone)))
    }

    fn prune(&mut self, prune: &Prune, now: Timestamp) -> PruneStep {
        let from = prune.after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let walk = self.runs.range((from, std::ops::Bound::Unbounded));
        let walk: Vec<RunId> = walk.take(Prune::LOOKS_MAX + 1).map(|(run, _)| *run).collect();
        let (mut step, mut looks, mut frames) = (PruneStep::default(), 0_usize, 0_u64);
        let mut last = None;
        for run in walk {
            let full = step.runs.len() >= prune.most() || frames >= Prune::FRAMES_MAX;
            if full || looks >= Prune::LOOKS_MAX {
                step.next = last;
                break;
            }
            (looks, last) = (looks.saturating_add(1), Some(run));
            let Some(head) = self.runs.get(&run).map(|row| &row.head) else { continue };
            let seq = head.seq;
            // Cheap before dear: most runs stay for what their own row says.
            if self.stays(run, prune) || self.has_parent(head) {
                continue;
            }
            let family = self.family(run);
            looks = looks.saturating_add(family.len().saturating_sub(1));
            if family.len() > Prune::FAMILY_MAX || family.iter().any(|run| self.stays(*run, prune))
            {
                continue;
            }
            frames = frames.saturating_add(seq);
            step.runs.push(run);
            if !prune.dry_run {
                self.remove(run, now);
            }
        }
        step
    }

    fn has_parent(&self, head: &RunHead) -> bool {
        head.parent.as_ref().is_some_and(|parent| self.runs.contains_key(&parent.run))
    }

    /// A run and those below it, and no more than one too many.
    fn family(&self, run: RunId) -> Vec<RunId> {
        let mut family = vec![run];
        let mut at = 0;
        while let Some(run) = family.get(at).copied()
            && family.len() <= Prune::FAMILY_MAX
        {
            let room = (Prune::FAMILY_MAX + 1).saturating_sub(family.len());
            family.extend(self.children.get(&run).into_iter().flatten().take(room));
            at += 1;
        }
        family
    }

    /// S1: whether a run, or anything it has made, is not over and done with.
    fn stays(&self, run: RunId, prune: &Prune) -> bool {
        let Some(head) = self.runs.get(&run).map(|row| &row.head) else { return false };
        let letter = head.summary.is_dead_letter(head.status);
        let old = head.updated_at < prune.ended_before && (prune.dead_letters || !letter);
        let rests =
            prune.takes(head.status) && head.owner.is_none() && head.due == Timestamp::NEVER;
        !old || !rests || head.guard.is_some() || self.ledger.holds(run)
    }

    fn remove(&mut self, run: RunId, now: Timestamp) {
        let Some(row) = self.runs.remove(&run) else { return };
        if let Some(parent) = &row.head.parent
            && let Some(children) = self.children.get_mut(&parent.run)
        {
            children.remove(&run);
            if children.is_empty() {
                self.children.remove(&parent.run);
            }
        }
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
            TombstoneQuery::LastKey { from, below } => {
                let between = |known: &&Tombstone| {
                    known.key.as_ref().is_some_and(|key| (from..below).contains(&key))
                };
                let found = self.tombstones.values().filter(between);
                found.max_by(|a, b| a.key.cmp(&b.key)).cloned().into_iter().collect()
            }
        }
    }

    fn forget(&mut self, ended_before: Timestamp, limit: usize) -> usize {
        let old = self.tombstones.values().filter(|known| known.ended_at < ended_before);
        let mut old: Vec<_> = old.map(|known| (known.ended_at, known.run)).collect();
        old.sort_unstable();
        old.truncate(limit);
        for (_, run) in &old {
            if let Some(key) = self.tombstones.remove(run).and_then(|known| known.key) {
                self.keys.remove(&key);
            }
        }
        old.len()
    }
}

#[async_trait]
impl RetentionStore for MemoryStore {
    async fn prune(&self, prune: &Prune) -> Result<PruneStep, StoreError> {
        Ok(self.write(|tables, now| tables.prune(prune, now)))
    }

    async fn tombstones(&self, query: &TombstoneQuery) -> Result<Vec<Tombstone>, StoreError> {
        Ok(self.read(|tables, _| tables.entombed(query)))
    }

    async fn forget(&self, ended_before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        Ok(self.write(|tables, _| tables.forget(ended_before, limit)))
    }
}
