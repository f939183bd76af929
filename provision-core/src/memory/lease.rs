//! The one place where leases are granted, renewed and ended.

use std::{collections::HashMap, convert::Infallible};

use crate::{
    caps::{Caps, Room},
    id::Timestamp,
    store::{Acquire, Incarnation, LeaseGrant, LeaseRequest, Leased},
};

use super::tables::Tables;

impl Tables {
    pub(super) fn lease(&mut self, request: &LeaseRequest, now: Timestamp) -> LeaseGrant {
        let worker = request.worker;
        for who in request.dead.iter().filter(|who| **who != worker) {
            self.bury(*who, Some(now), now);
        }
        // A dead incarnation is never renewed: its process goes on as a new one.
        if self.dead.contains(&worker) {
            return LeaseGrant {
                now,
                alive: false,
                leased: Vec::new(),
                held: Vec::new(),
                peers: Vec::new(),
                next_due: None,
                full: Vec::new(),
            };
        }
        self.alive.entry(worker).or_default().expires = now.plus(request.ttl);
        self.bury_expired(now);
        self.dead.forget(now);
        for (run, fence, release) in &request.release {
            if self.runs.get(run).is_some_and(|row| row.is_held_by(fence)) {
                self.release(*run, release, now);
            }
        }
        for (run, epoch) in &request.strangers {
            self.give_back(*run, worker, *epoch, now);
        }
        let mut groups = self.due.matching(&[], None);
        let (mut leased, mut full) = (Vec::new(), Vec::new());
        if let Some(acquire) = request.acquire.as_ref().filter(|_| !request.retire) {
            groups = self.due.matching(&acquire.queues, Some(&acquire.code));
            let mut room = self.room(&acquire.caps, &groups);
            leased = self.acquire(acquire, (&groups, &mut room), worker, now);
            full = room.full();
        }
        if request.retire {
            self.bury(worker, None, now);
        }
        LeaseGrant {
            now,
            alive: !request.retire,
            leased,
            held: self.held(worker),
            peers: self.alive.keys().filter(|who| **who != worker).copied().collect(),
            next_due: self.due.next_due(&groups),
            full,
        }
    }

    /// Marks incarnations dead whose lease is over; only then can their runs be taken.
    fn bury_expired(&mut self, now: Timestamp) {
        let over = |expires: Timestamp| expires <= now;
        let expired: Vec<_> = self
            .alive
            .iter()
            .filter(|(_, life)| over(life.expires))
            .map(|(who, life)| (*who, life.expires))
            .collect();
        for (who, expires) in expired {
            self.bury(who, Some(expires), now);
        }
    }

    fn acquire(
        &mut self,
        acquire: &Acquire,
        (groups, room): (&[usize], &mut Room),
        worker: Incarnation,
        now: Timestamp,
    ) -> Vec<Leased> {
        let taken = match &acquire.runs {
            None => self.due.take(groups, acquire.limit, now, room),
            Some(runs) => {
                let mut taken = Vec::new();
                for run in runs {
                    let Some(row) = self.runs.get(run) else { continue };
                    let due = row.head.owner.is_none() && row.head.due <= now;
                    let fits = groups.contains(&row.spot.group) && !taken.contains(run);
                    let wanted = due && fits && taken.len() < acquire.limit;
                    if wanted && room.take(&row.head.queue) {
                        self.due.remove(&row.spot, row.head.due, *run);
                        taken.push(*run);
                    }
                }
                taken
            }
        };
        taken.into_iter().filter_map(|run| self.grant(run, worker, now)).collect()
    }

    /// The room in the capped queues of these groups.
    fn room(&self, caps: &Caps, groups: &[usize]) -> Room {
        let mut leased: HashMap<&str, u64> = HashMap::new();
        // One look for all queues, and none where no queue has a cap.
        for life in self.alive.values().filter(|_| !caps.is_empty()) {
            for row in life.runs.iter().filter_map(|run| self.runs.get(run)) {
                *leased.entry(row.head.queue.as_str()).or_default() += 1;
            }
        }
        let leased =
            |queue: &str| Ok::<_, Infallible>(leased.get(queue).copied().unwrap_or_default());
        match caps.room(groups.iter().filter_map(|index| self.due.queue_of(*index)), leased) {
            Ok(room) => room,
            Err(never) => match never {},
        }
    }

    fn held(&self, worker: Incarnation) -> Vec<(crate::id::RunId, u64)> {
        let runs = self.alive.get(&worker).into_iter().flat_map(|life| &life.runs);
        runs.filter_map(|run| Some((*run, self.runs.get(run)?.head.epoch))).collect()
    }
}
