//! Submissions and appends: what changes runs.

use std::sync::Arc;

use crate::{
    id::{Payload, RunId, Timestamp},
    store::{Append, Appended, FirstFrame, Frame, NewRun, Request, RunHead, Submission, Submitted},
};

use super::{
    due::Spot,
    tables::{Row, Tables},
};

impl Tables {
    pub(super) fn submit(&mut self, submission: &Submission, now: Timestamp) -> Submitted {
        match submission {
            Submission::Run(new) => self.submit_run(new, now),
            Submission::Request { run, body } => self.submit_request(*run, body, now),
            Submission::Reopen { run, body } => match self.retake(*run) {
                Some(holder) => Submitted::Guarded(Box::new(holder)),
                None => self.submit_request(*run, body, now),
            },
        }
    }

    fn submit_run(&mut self, new: &NewRun, now: Timestamp) -> Submitted {
        let head = &new.head;
        // A submission that is repeated because its answer was lost finds its own run by id.
        let known = head.key.as_ref().and_then(|key| self.keys.get(key)).unwrap_or(&head.id);
        if let Some(row) = self.runs.get(known) {
            let found = Box::new(row.head.clone());
            let same = found.input_hash == head.input_hash && found.saga.name == head.saga.name;
            return if same { Submitted::Known(found) } else { Submitted::KeyTaken(found) };
        }
        if let Some(pruned) = self.pruned(known) {
            return pruned;
        }
        let holder = head.guard.as_ref().and_then(|guard| self.guards.get(&guard.key));
        if let Some(row) = holder.and_then(|holder| self.runs.get(holder)) {
            return Submitted::Guarded(Box::new(row.head.clone()));
        }
        let lease = new.lease_to.as_ref().filter(|lease| !self.dead.contains(&lease.worker));
        self.insert(new, lease.and(new.first()));
        let Some(lease) = lease else { return Submitted::Created(None) };
        let life = self.alive.entry(lease.worker).or_default();
        life.expires = life.expires.max(now.plus(lease.ttl));
        if let Some(row) = self.runs.get(&head.id) {
            self.due.remove(&row.spot, row.head.due, head.id);
        }
        Submitted::Created(self.grant(head.id, lease.worker, now).map(Box::new))
    }

    fn insert(&mut self, new: &NewRun, first: Option<&FirstFrame>) {
        let mut head = new.head.clone();
        let frames = first.map(|first| first.enter(&mut head)).into_iter().collect();
        let spot = Spot {
            group: self.due.group(&head.queue, &head.saga),
            priority: head.priority,
            tenant: head.tenant.as_deref().map(Arc::from),
        };
        if let Some(key) = &head.key {
            self.keys.insert(key.clone(), head.id);
        }
        if let Some(guard) = &head.guard {
            self.guards.insert(guard.key.clone(), head.id);
        }
        if let Some(parent) = &head.parent {
            self.children.entry(parent.run).or_default().insert(head.id);
        }
        self.due.insert(&spot, head.due, head.id);
        self.stirred = true;
        let row = Row {
            spot,
            frames,
            requests: Vec::new(),
            nonce: 0,
            died_at: None,
            poked: false,
            freed: None,
            head,
        };
        self.runs.insert(row.head.id, row);
    }

    /// Takes the business key again that the run's end has freed; answers who holds it instead.
    fn retake(&mut self, run: RunId) -> Option<RunHead> {
        let key = self.runs.get(&run)?.freed.as_ref().map(|guard| guard.key.clone())?;
        if let Some(holder) = self.guards.get(&key).and_then(|holder| self.runs.get(holder)) {
            return Some(holder.head.clone());
        }
        let row = self.runs.get_mut(&run)?;
        row.head.guard = row.freed.take();
        self.guards.insert(key, run);
        None
    }

    fn submit_request(&mut self, run: RunId, body: &Payload, now: Timestamp) -> Submitted {
        let Some(row) = self.runs.get_mut(&run) else {
            return self.pruned(&run).unwrap_or(Submitted::NoSuchRun);
        };
        let number = row.head.requests.saturating_add(1);
        row.head.requests = number;
        row.head.updated_at = now;
        row.requests.push(Request { number, at: now, body: body.clone() });
        // A leased run is not touched: its release compares `consumed` with `requests`.
        if row.head.owner.is_none() {
            self.set_due(run, now, now);
        }
        Submitted::Requested(number)
    }

    pub(super) fn append(&mut self, append: &Append, now: Timestamp) -> Appended {
        if let Some(answer) = self.refuse(append) {
            return answer;
        }
        let Some(row) = self.runs.get_mut(&append.run) else { return Appended::Stale };
        let head = &mut row.head;
        if let Some(body) = &append.frame {
            head.seq = append.seq;
            let epoch = append.fence.epoch;
            row.frames.push(Frame {
                seq: append.seq,
                epoch,
                at: append.at,
                body: Arc::clone(body),
            });
        }
        head.status = append.status;
        head.summary.clone_from(&append.summary);
        head.open = append.open;
        if append.settled {
            head.deaths = 0;
        }
        head.updated_at = now;
        if append.consumed > head.consumed {
            head.consumed = append.consumed;
            row.requests.retain(|request| request.number > append.consumed);
        }
        let requests = head.requests;
        let freed = if append.free_guard { head.guard.take() } else { None };
        if let Some(guard) = freed {
            if self.guards.get(&guard.key) == Some(&append.run) {
                self.guards.remove(&guard.key);
            }
            row.freed = Some(guard);
        }
        for row in &append.ledger {
            self.ledger.put(row.clone());
        }
        for (key, sealed) in &append.sealed {
            self.sealed.entry(key.clone()).or_insert_with(|| sealed.clone());
        }
        for run in &append.wakes {
            self.poke(*run, now);
        }
        for new in &append.starts {
            self.submit_run(new, now);
        }
        if let Some(release) = &append.release {
            self.release(append.run, release, now);
        }
        Appended::Applied { requests, lease_lost: false }
    }

    /// Compares fence, sequence and ledger; `None` means the append may be written.
    fn refuse(&self, append: &Append) -> Option<Appended> {
        let Some(row) = self.runs.get(&append.run) else { return Some(Appended::Stale) };
        let current = row.is_held_by(&append.fence);
        if let Some(body) = &append.frame
            && append.seq <= row.head.seq
        {
            // S19: an earlier try of this very append is success; anything else is a lost lease.
            let same = |frame: &&Frame| frame.epoch == append.fence.epoch && frame.body == *body;
            return Some(match row.frame(append.seq).filter(same) {
                Some(_) => Appended::Applied { requests: row.head.requests, lease_lost: !current },
                None => Appended::Stale,
            });
        }
        let next = row.head.seq.saturating_add(u64::from(append.frame.is_some()));
        if !current || append.seq != next {
            return Some(Appended::Stale);
        }
        let mut conflicts = append.ledger.iter().filter_map(|row| self.ledger.conflict(row));
        conflicts.next().map(|row| Appended::Conflict(Box::new(row.clone())))
    }
}
