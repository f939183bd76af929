//! Which unowned runs are due, in which order: never a scan over all runs.
//!
//! Runs wait in one group per named queue and saga, so a worker only ever meets runs it can claim.
//! Inside a group they move from `delayed`, by due time, to a lane per tenant of their priority
//! when their time has come.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    caps::Room,
    id::{RunId, Timestamp},
    store::SagaRef,
};

/// Tenant of a lane; runs without a tenant share one lane.
pub(super) type Tenant = Option<Arc<str>>;

/// Where an unowned run belongs.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    /// Index of its group.
    pub(super) group: usize,
    pub(super) priority: i32,
    pub(super) tenant: Tenant,
}

/// All unowned runs that are due at some time.
#[derive(Debug, Clone, Default)]
pub(super) struct DueIndex {
    groups: Vec<Group>,
    ids: HashMap<(String, SagaRef), usize>,
    /// Counts picks; a lane is stamped with it when it is served.
    turn: u64,
}

#[derive(Debug, Clone)]
struct Group {
    queue: String,
    saga: SagaRef,
    delayed: BTreeMap<(Timestamp, RunId), (i32, Tenant)>,
    ready: BTreeMap<Reverse<i32>, Band>,
    /// The ready runs again, by due time alone.
    oldest: BTreeSet<(Timestamp, RunId)>,
}

/// The ready runs of one priority.
#[derive(Debug, Clone, Default)]
struct Band {
    /// Lanes by the turn at which they were last served, then by their oldest run.
    order: BTreeSet<(u64, Timestamp, Tenant)>,
    lanes: HashMap<Tenant, Lane>,
}

#[derive(Debug, Clone, Default)]
struct Lane {
    turn: u64,
    runs: BTreeSet<(Timestamp, RunId)>,
}

impl Lane {
    fn first(&self) -> Option<Timestamp> {
        self.runs.first().map(|(due, _)| *due)
    }
}

impl Band {
    fn change(&mut self, tenant: &Tenant, turn: u64, change: impl FnOnce(&mut Lane)) {
        let lane = self
            .lanes
            .entry(tenant.clone())
            .or_insert_with(|| Lane { turn, runs: BTreeSet::new() });
        if let Some(first) = lane.first() {
            self.order.remove(&(lane.turn, first, tenant.clone()));
        }
        change(lane);
        match lane.first() {
            Some(first) => {
                self.order.insert((lane.turn, first, tenant.clone()));
            }
            None => {
                self.lanes.remove(tenant);
            }
        }
    }
}

impl Group {
    fn promote(&mut self, now: Timestamp, turn: u64) {
        while let Some(entry) = self.delayed.first_entry()
            && entry.key().0 <= now
        {
            let ((due, run), (priority, tenant)) = entry.remove_entry();
            self.oldest.insert((due, run));
            // A lane joins at the end of the round: one that is refilled before every poll must
            // not come first for ever (L3).
            let band = self.ready.entry(Reverse(priority)).or_default();
            band.change(&tenant, turn, |lane| {
                lane.runs.insert((due, run));
            });
        }
    }

    /// Priority, turn and age of the next run to serve.
    fn next(&self) -> Option<(Reverse<i32>, u64, Timestamp)> {
        let (priority, band) = self.ready.first_key_value()?;
        let (turn, due, _) = band.order.first()?;
        Some((*priority, *turn, *due))
    }

    fn pop(&mut self, turn: u64) -> Option<RunId> {
        let mut band = self.ready.first_entry()?;
        let tenant = band.get().order.first()?.2.clone();
        let mut popped = None;
        band.get_mut().change(&tenant, turn, |lane| {
            popped = lane.runs.pop_first();
            lane.turn = turn;
        });
        if band.get().lanes.is_empty() {
            band.remove();
        }
        let (due, run) = popped?;
        self.oldest.remove(&(due, run));
        Some(run)
    }
}

impl DueIndex {
    /// The group of runs of this queue and saga, made when it is new.
    pub(super) fn group(&mut self, queue: &str, saga: &SagaRef) -> usize {
        let key = (queue.to_owned(), saga.clone());
        *self.ids.entry(key).or_insert_with_key(|(queue, saga)| {
            self.groups.push(Group {
                queue: queue.clone(),
                saga: saga.clone(),
                delayed: BTreeMap::new(),
                ready: BTreeMap::new(),
                oldest: BTreeSet::new(),
            });
            self.groups.len().saturating_sub(1)
        })
    }

    /// Puts an unowned run in; a run that is never due stays out.
    pub(super) fn insert(&mut self, spot: &Spot, due: Timestamp, run: RunId) {
        if due < Timestamp::NEVER
            && let Some(group) = self.groups.get_mut(spot.group)
        {
            group.delayed.insert((due, run), (spot.priority, spot.tenant.clone()));
        }
    }

    /// Takes a run out; `due` is what it was put in with.
    pub(super) fn remove(&mut self, spot: &Spot, due: Timestamp, run: RunId) {
        let Some(group) = self.groups.get_mut(spot.group) else { return };
        if group.delayed.remove(&(due, run)).is_some() || !group.oldest.remove(&(due, run)) {
            return;
        }
        if let Some(band) = group.ready.get_mut(&Reverse(spot.priority)) {
            band.change(&spot.tenant, self.turn, |lane| {
                lane.runs.remove(&(due, run));
            });
            if band.lanes.is_empty() {
                group.ready.remove(&Reverse(spot.priority));
            }
        }
    }

    /// Groups of these queues and sagas; an empty list of queues, or no list of sagas, means all.
    pub(super) fn matching(&self, queues: &[String], code: Option<&[SagaRef]>) -> Vec<usize> {
        let fits = |group: &Group| {
            (queues.is_empty() || queues.contains(&group.queue))
                && code.is_none_or(|code| code.contains(&group.saga))
        };
        let groups = self.groups.iter().enumerate();
        groups.filter(|(_, group)| fits(group)).map(|(index, _)| index).collect()
    }

    /// The named queue of a group.
    pub(super) fn queue_of(&self, group: usize) -> Option<&str> {
        self.groups.get(group).map(|group| group.queue.as_str())
    }

    /// Takes up to `limit` due runs out: higher priority first, then tenants in turn, oldest first.
    /// Queues without room are passed over.
    pub(super) fn take(
        &mut self,
        groups: &[usize],
        limit: usize,
        now: Timestamp,
        room: &mut Room,
    ) -> Vec<RunId> {
        self.promote(groups, now);
        let mut taken = Vec::new();
        while taken.len() < limit {
            let open = |group: &&Group| !room.is_full(&group.queue);
            let best = groups
                .iter()
                .filter_map(|index| Some((self.groups.get(*index).filter(open)?.next()?, *index)))
                .min();
            let Some((_, index)) = best else { break };
            self.turn = self.turn.saturating_add(1);
            let Some(group) = self.groups.get_mut(index) else { break };
            let Some(run) = group.pop(self.turn) else { break };
            room.take(&group.queue);
            taken.push(run);
        }
        taken
    }

    /// The runs [`Self::take`] would take, roughly in its order, left where they are.
    pub(super) fn peek(&mut self, groups: &[usize], limit: usize, now: Timestamp) -> Vec<RunId> {
        self.promote(groups, now);
        let mut bands: BTreeMap<Reverse<i32>, Vec<&Band>> = BTreeMap::new();
        for group in groups.iter().filter_map(|index| self.groups.get(*index)) {
            for (priority, band) in &group.ready {
                bands.entry(*priority).or_default().push(band);
            }
        }
        let mut found = Vec::new();
        for band in bands.into_values() {
            let mut lanes: Vec<_> = band
                .iter()
                .flat_map(|band| band.order.iter().filter_map(|(_, _, t)| band.lanes.get(t)))
                .take(limit)
                .map(|lane| lane.runs.iter())
                .collect();
            while found.len() < limit && !lanes.is_empty() {
                lanes.retain_mut(|lane| match lane.next() {
                    Some((_, run)) => {
                        found.push(*run);
                        true
                    }
                    None => false,
                });
            }
        }
        found.truncate(limit);
        found
    }

    /// Earliest due time in these groups.
    pub(super) fn next_due(&self, groups: &[usize]) -> Option<Timestamp> {
        let groups = groups.iter().filter_map(|index| self.groups.get(*index));
        groups
            .flat_map(|group| {
                let delayed = group.delayed.first_key_value().map(|((due, _), _)| *due);
                delayed.into_iter().chain(group.oldest.first().map(|(due, _)| *due))
            })
            .min()
    }

    /// Counts of ready and delayed runs, and the oldest ready one's due time.
    pub(super) fn stats(&mut self, now: Timestamp) -> (usize, usize, Option<Timestamp>) {
        let all: Vec<usize> = (0..self.groups.len()).collect();
        self.promote(&all, now);
        let ready = self.groups.iter().map(|group| group.oldest.len()).sum();
        let delayed = self.groups.iter().map(|group| group.delayed.len()).sum();
        let oldest = self.groups.iter().filter_map(|g| g.oldest.first().map(|(due, _)| *due)).min();
        (ready, delayed, oldest)
    }

    fn promote(&mut self, groups: &[usize], now: Timestamp) {
        for index in groups {
            if let Some(group) = self.groups.get_mut(*index) {
                group.promote(now, self.turn);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{DueIndex, Room, RunId, SagaRef, Spot, Tenant, Timestamp};

    fn saga() -> SagaRef {
        SagaRef { name: "s".into(), version: 1, fingerprint: "f".into() }
    }

    fn run(n: u128) -> RunId {
        RunId::from_uuid(Uuid::from_u128(n))
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn spot(priority: i32, tenant: Option<&str>) -> Spot {
        let tenant: Tenant = tenant.map(Into::into);
        Spot { group: 0, priority, tenant }
    }

    fn index() -> DueIndex {
        let mut index = DueIndex::default();
        assert_eq!(index.group("q", &saga()), 0);
        index
    }

    // covers: L3
    #[test]
    fn a_lane_that_is_refilled_before_each_poll_does_not_come_first_for_ever() {
        let mut index = index();
        for n in 0..3 {
            index.insert(&spot(0, Some("slow")), at(10), run(n));
        }
        let mut served = 0;
        for n in 100..106 {
            index.insert(&spot(0, Some("eager")), at(1), run(n));
            let taken = index.take(&[0], 1, at(20), &mut Room::default());
            served += u32::from(taken.iter().any(|id| *id < run(100)));
        }
        assert_eq!(served, 3, "the lanes take turns");
    }

    #[test]
    fn runs_can_be_taken_out_of_every_place() {
        let mut index = index();
        index.insert(&spot(0, None), at(10), run(1));
        index.insert(&spot(5, None), at(11), run(2));
        index.insert(&spot(0, None), at(30), run(3));
        assert_eq!(index.peek(&[0], 9, at(20)), [run(2), run(1)]);
        index.remove(&spot(5, None), at(11), run(2));
        index.remove(&spot(0, None), at(30), run(3));
        assert_eq!(index.next_due(&[0]), Some(at(10)));
        assert_eq!(index.take(&[0], 9, at(99), &mut Room::default()), [run(1)]);
        assert_eq!((index.next_due(&[0]), index.stats(at(99))), (None, (0, 0, None)));
        index.insert(&spot(0, None), Timestamp::NEVER, run(4));
        assert_eq!(index.next_due(&[0]), None);
    }
}
