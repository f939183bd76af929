//! Submissions: new runs and requests.

use provision_core::{
    id::{Payload, RunId},
    store::{Fence, NewLease, NewRun, RunHead, Submission, Submitted},
};
use uuid::Uuid;

use crate::{
    error::Fault,
    rows::{blob, head, json, moment, signed, unsigned},
    sql,
    unit::{Unit, awake_after, place},
};

/// A lease that a start asks for is not written again while no more than this part of it is over:
/// less than the tenth that every worker keeps as its margin.
const LEASE_SLACK: u32 = 16;

impl Unit<'_> {
    pub(crate) fn submit(&mut self, ns: i64, submission: &Submission) -> Result<Submitted, Fault> {
        match submission {
            Submission::Run(new) => self.submit_run(ns, new),
            Submission::Request { run, body } => self.submit_request(ns, run, body),
            Submission::Reopen { run, body } => match self.retake(ns, run)? {
                Some(holder) => Ok(Submitted::Guarded(Box::new(holder))),
                None => self.submit_request(ns, run, body),
            },
        }
    }

    pub(crate) fn submit_run(&mut self, ns: i64, new: &NewRun) -> Result<Submitted, Fault> {
        let known = match &new.head.key {
            Some(key) => self.run_of(ns, sql::RUN_BY_KEY, key)?,
            // Its own guard must not answer a submission that is repeated.
            None if new.head.guard.is_some() => Some(new.head.id),
            None => None,
        };
        if let Some(known) = known
            && let Some(answer) = self.known(ns, &known, new)?
        {
            return Ok(answer);
        }
        if let Some(guard) = &new.head.guard
            && let Some(holder) = self.find(ns, sql::RUN_BY_GUARD, &guard.key)?
        {
            return Ok(Submitted::Guarded(Box::new(holder)));
        }
        let fence = self.fence_new(ns, new)?;
        if !self.insert(ns, &new.head, fence)? {
            // A submission that is repeated because its answer was lost finds its own run.
            let found = self.known(ns, &new.head.id, new)?;
            return Ok(found.ok_or(rusqlite::Error::QueryReturnedNoRows)?);
        }
        let Some(fence) = fence else {
            self.stir();
            return Ok(Submitted::Created(None));
        };
        if let Some(first) = new.first() {
            self.add_first(ns, &new.head.id, first)?;
        }
        Ok(Submitted::Created(Some(Box::new(new.born(fence, self.wall())))))
    }

    /// The fence of a run that is born leased; `None` when nobody takes it, or who would is dead.
    fn fence_new(&self, ns: i64, new: &NewRun) -> Result<Option<Fence>, Fault> {
        let Some(NewLease { worker: owner, ttl, .. }) = &new.lease_to else { return Ok(None) };
        let (id, boot) = (owner.0.as_bytes(), &self.now.boot);
        let enough = awake_after(&self.now, ttl.saturating_sub(*ttl / LEASE_SLACK));
        let lasts = self.first(sql::INCARNATION_LASTS, (ns, id, boot, enough), |_| Ok(()))?;
        if lasts.is_none() {
            let (expires, at) = (awake_after(&self.now, *ttl), moment(self.wall().plus(*ttl)));
            // No row is touched when the incarnation is marked dead: it is never renewed.
            if self.run(sql::INCARNATION_EXTEND, (ns, id, boot, expires, at))? == 0 {
                return Ok(None);
            }
        }
        Ok(Some(Fence { owner: *owner, epoch: 1, nonce: unsigned(self.draw_nonce()?) }))
    }

    fn find_by_id(&self, ns: i64, run: &RunId) -> Result<Option<RunHead>, Fault> {
        Ok(self.first(sql::RUN_READ, (ns, blob(run)), head)?.map(|(head, _)| head))
    }

    fn run_of(&self, ns: i64, text: &str, key: &str) -> Result<Option<RunId>, Fault> {
        let run = self.first(text, (ns, key), |row| Ok(row.get::<_, [u8; 16]>(0)?))?;
        Ok(run.map(|bytes| RunId::from_uuid(Uuid::from_bytes(bytes))))
    }

    fn find(&self, ns: i64, text: &str, key: &str) -> Result<Option<RunHead>, Fault> {
        let Some(run) = self.run_of(ns, text, key)? else { return Ok(None) };
        self.find_by_id(ns, &run)
    }

    /// The answer to a start by the run that was started so before: it is there, or was removed.
    fn known(&self, ns: i64, run: &RunId, new: &NewRun) -> Result<Option<Submitted>, Fault> {
        match self.find_by_id(ns, run)? {
            Some(found) => Ok(Some(answer(found, new))),
            None => self.pruned(ns, run),
        }
    }

    /// False when there is a run of this id; nothing is written then.
    fn insert(&mut self, ns: i64, new: &RunHead, fence: Option<Fence>) -> Result<bool, Fault> {
        let lane = self.lane(ns, &new.queue, &new.saga)?;
        let run = blob(&new.id);
        let parent = new.parent.as_ref();
        let added = self.run(
            sql::RUN_ADD,
            (
                ns,
                run,
                &new.tenant,
                &new.key,
                new.input.as_str(),
                &new.input_hash,
                parent.map(|parent| blob(&parent.run)),
                parent.map(|parent| &parent.path),
                json(&new.context)?,
                moment(new.created_at),
            ),
        )?;
        if added == 0 {
            return Ok(false);
        }
        let free = fence.is_none();
        self.run(
            sql::HEAD_ADD,
            rusqlite::params![
                ns,
                run,
                lane,
                new.priority,
                new.tenant.as_deref().unwrap_or_default(),
                new.status.as_str(),
                moment(new.due),
                if free { place(new.due, self.wall()) } else { 0 },
                json(&new.polls)?,
                signed(new.requests),
                signed(new.consumed),
                new.open,
                new.deaths,
                json(&new.summary)?,
                new.summary.is_dead_letter(new.status),
                new.guard.as_ref().map(|guard| &guard.key),
                new.guard.as_ref().map(|guard| guard.until.as_str()),
                moment(if free { new.updated_at } else { self.wall() }),
                signed(fence.map_or(0, |fence| fence.epoch)),
                fence.as_ref().map(|fence| fence.owner.0.as_bytes()),
                signed(fence.map_or(0, |fence| fence.nonce)),
            ],
        )?;
        Ok(true)
    }

    /// Takes the business key again that the run's end has freed; answers who holds it instead.
    fn retake(&mut self, ns: i64, run: &RunId) -> Result<Option<RunHead>, Fault> {
        let freed =
            self.first(sql::GUARD_FREED, (ns, blob(run)), |row| Ok(row.get::<_, String>(0)?));
        let Some(key) = freed? else { return Ok(None) };
        let holder = self.find(ns, sql::RUN_BY_GUARD, &key)?;
        if holder.is_none() {
            self.run(sql::GUARD_RETAKE, (ns, blob(run)))?;
        }
        Ok(holder)
    }

    fn submit_request(&mut self, ns: i64, run: &RunId, body: &Payload) -> Result<Submitted, Fault> {
        let now = moment(self.wall());
        // A leased run is not touched: its release compares `consumed` with `requests`.
        let count =
            self.first(sql::REQUEST_COUNT, (ns, blob(run)), |row| Ok(unsigned(row.get(0)?)))?;
        let Some(count) = count else {
            return Ok(self.pruned(ns, run)?.unwrap_or(Submitted::NoSuchRun));
        };
        let number = signed(count.saturating_add(1));
        self.run(sql::REQUEST_NOTE, (ns, blob(run), number, now))?;
        self.run(sql::REQUEST_ADD, (ns, blob(run), number, now, body.as_str()))?;
        self.stir();
        Ok(Submitted::Requested(unsigned(number)))
    }
}

/// The same start is the same run; another saga or input under its key is a mistake.
fn answer(found: RunHead, new: &NewRun) -> Submitted {
    let head = &new.head;
    let same = found.input_hash == head.input_hash && found.saga.name == head.saga.name;
    let found = Box::new(found);
    if same { Submitted::Known(found) } else { Submitted::KeyTaken(found) }
}
