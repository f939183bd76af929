//! Submissions: new runs and requests.

use provision_core::{
    id::{Payload, RunId},
    run::{RunStatus, RunSummary},
    store::{Leased, NewRun, RunHead, Submission, Submitted},
};

use crate::{
    error::Fault,
    rows::{blob, guard_until, head, json, moment, signed},
    sql,
    unit::{Unit, boot_after, place},
};

impl Unit<'_> {
    pub(crate) fn submit(&mut self, ns: i64, submission: &Submission) -> Result<Submitted, Fault> {
        match submission {
            Submission::Run(new) => self.submit_run(ns, new),
            Submission::Request { run, body } => self.submit_request(ns, run, body),
        }
    }

    fn submit_run(&mut self, ns: i64, new: &NewRun) -> Result<Submitted, Fault> {
        // A submission that is repeated because its answer was lost finds its own run by id.
        let known = match &new.head.key {
            Some(key) => self.find(ns, sql::RUN_BY_KEY, key)?,
            None => None,
        };
        let known = match known {
            Some(found) => Some(found),
            None => {
                self.first(sql::RUN_READ, (ns, blob(&new.head.id)), head)?.map(|(head, _)| head)
            }
        };
        if let Some(found) = known {
            let same = found.input_hash == new.head.input_hash;
            let found = Box::new(found);
            return Ok(if same { Submitted::Known(found) } else { Submitted::KeyTaken(found) });
        }
        if let Some(guard) = &new.head.guard
            && let Some(holder) = self.find(ns, sql::RUN_BY_GUARD, &guard.key)?
        {
            return Ok(Submitted::Guarded(Box::new(holder)));
        }
        self.insert(ns, &new.head)?;
        self.stir();
        Ok(Submitted::Created(self.lease_new(ns, new)?.map(Box::new)))
    }

    fn lease_new(&mut self, ns: i64, new: &NewRun) -> Result<Option<Leased>, Fault> {
        let Some((worker, ttl)) = new.lease_to else { return Ok(None) };
        let id = worker.0.as_bytes();
        let values =
            (ns, id, &self.now.boot, boot_after(&self.now, ttl), moment(self.wall().plus(ttl)));
        // No row is touched when the incarnation is marked dead: it is never renewed.
        if self.run(sql::INCARNATION_EXTEND, values)? == 0 {
            return Ok(None);
        }
        self.grant(ns, &new.head.id, worker)
    }

    fn find(&self, ns: i64, text: &str, key: &str) -> Result<Option<RunHead>, Fault> {
        let run = self.first(text, (ns, key), |row| Ok(row.get::<_, Vec<u8>>(0)?))?;
        let Some(run) = run else { return Ok(None) };
        Ok(self.first(sql::RUN_READ, (ns, run), head)?.map(|(head, _)| head))
    }

    fn insert(&mut self, ns: i64, new: &RunHead) -> Result<(), Fault> {
        let lane = self.lane(ns, &new.queue, &new.saga)?;
        let run = blob(&new.id);
        let parent = new.parent.as_ref();
        self.run(
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
                place(new.due, self.wall()),
                json(&new.polls)?,
                signed(new.requests),
                signed(new.consumed),
                new.open,
                new.deaths,
                json(&new.summary)?,
                is_dead_letter(new.status, &new.summary),
                new.guard.as_ref().map(|guard| &guard.key),
                new.guard.as_ref().map(|guard| guard_until(guard.until)),
                moment(new.updated_at),
            ],
        )?;
        Ok(())
    }

    fn submit_request(&mut self, ns: i64, run: &RunId, body: &Payload) -> Result<Submitted, Fault> {
        let now = moment(self.wall());
        // A leased run is not touched: its release compares `consumed` with `requests`.
        let number =
            self.first(sql::REQUEST_COUNT, (ns, blob(run), now), |row| Ok(row.get::<_, i64>(0)?))?;
        let Some(number) = number else { return Ok(Submitted::NoSuchRun) };
        self.run(sql::REQUEST_ADD, (ns, blob(run), number, now, body.as_str()))?;
        self.stir();
        Ok(Submitted::Requested(crate::rows::unsigned(number)))
    }
}

/// A run that needs a person: parked, or undone after a failure nobody has looked at.
pub(crate) fn is_dead_letter(status: RunStatus, summary: &RunSummary) -> bool {
    let undone = matches!(status, RunStatus::RolledBack | RunStatus::RolledBackKeeping);
    let failed = undone && summary.failure.is_some();
    (status == RunStatus::Parked || failed) && !summary.resolved
}
