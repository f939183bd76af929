//! Appends: one fenced write, and everything that hangs on it.

use std::sync::Arc;

use provision_core::{
    id::RunId,
    ledger::LedgerRow,
    store::{Append, Appended, FirstFrame, Frame, Release},
};
use rusqlite::params;

use crate::{
    error::Fault,
    rows::{blob, json, moment, signed, unsigned},
    sql,
    unit::{Kept, Unit, place},
};

/// An append with its values in the form in which they are kept, made where it was called for and not
/// by the one thread that writes.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) append: Append,
    summary: String,
}

impl Prepared {
    pub(crate) fn new(append: &Append) -> Result<Self, Fault> {
        Ok(Self { append: append.clone(), summary: json(&append.summary)? })
    }
}

/// A run whose lease the append is written under, and that stands right before it.
struct Standing {
    requests: u64,
    consumed: u64,
    poked: bool,
    /// Nothing but how far it is would change by a step: it has no request, no death, this status.
    plain: bool,
}

impl Unit<'_> {
    pub(crate) fn append(&mut self, ns: i64, prepared: &Prepared) -> Result<Appended, Fault> {
        let append = &prepared.append;
        // The fence comes first: who has no lease learns nothing but that.
        let Some(standing) = self.standing(ns, append)? else { return self.repeated(ns, append) };
        for row in &append.ledger {
            if let Some(holder) = self.conflict(ns, row)? {
                return Ok(Appended::Conflict(Box::new(holder)));
            }
        }
        if standing.plain && is_step(append) {
            self.add_frame(ns, append, Some(&prepared.summary))?;
        } else {
            self.change_head(ns, prepared, &standing)?;
            self.add_frame(ns, append, None)?;
        }
        self.hang_on(ns, append)?;
        self.count_append();
        Ok(Appended::Applied { requests: standing.requests, lease_lost: false })
    }

    /// S5: owner, epoch, nonce and sequence are compared in the transaction that writes, which holds
    /// the file's only write lock since before: no other write comes in between.
    ///
    /// Not by the statement that writes: one that reads its own table copies what it reads.
    fn standing(&mut self, ns: i64, append: &Append) -> Result<Option<Standing>, Fault> {
        if append.seq < seq_least(append) {
            return Ok(None);
        }
        let fence = &append.fence;
        let values = params![
            ns,
            blob(&append.run),
            fence.owner.0.as_bytes(),
            signed(fence.epoch),
            signed(fence.nonce),
            signed(seq_before(append)),
            append.status.as_str(),
        ];
        let mut rows = self.kept(Kept::Fence)?.query(values)?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(Some(Standing {
            requests: unsigned(row.get(0)?),
            consumed: unsigned(row.get(1)?),
            poked: row.get(2)?,
            plain: row.get(3)?,
        }))
    }

    /// With a summary, the frame says what the head would say, until that is written again.
    fn add_frame(&mut self, ns: i64, append: &Append, own: Option<&str>) -> Result<(), Fault> {
        let Some(body) = &append.frame else { return Ok(()) };
        let (seq, epoch) = (append.seq, append.fence.epoch);
        let frame = Frame { seq, epoch, at: append.at, body: Arc::clone(body) };
        self.put_frame(ns, &append.run, &frame, own.map(|summary| (summary, append.open)))
    }

    /// The first frame of a run that is begun as it is created.
    pub(crate) fn add_first(
        &mut self,
        ns: i64,
        run: &RunId,
        first: &FirstFrame,
    ) -> Result<(), Fault> {
        let frame = Frame { seq: 1, epoch: 1, at: first.at, body: Arc::clone(&first.body) };
        self.put_frame(ns, run, &frame, Some((&json(&first.summary)?, true)))
    }

    fn put_frame(
        &mut self,
        ns: i64,
        run: &RunId,
        frame: &Frame,
        own: Option<(&str, bool)>,
    ) -> Result<(), Fault> {
        let updated_at = moment(self.wall());
        let values = params![
            ns,
            blob(run),
            signed(frame.seq),
            signed(frame.epoch),
            moment(frame.at),
            &*frame.body,
            own.map(|(summary, _)| summary),
            own.map(|(_, open)| open),
            own.map(|_| updated_at),
        ];
        self.kept(Kept::Frame)?.execute(values)?;
        Ok(())
    }

    /// Writes the run's row, of which the fence has been compared.
    fn change_head(&mut self, ns: i64, prepared: &Prepared, old: &Standing) -> Result<(), Fault> {
        let (append, now) = (&prepared.append, self.wall());
        let dead_letter = append.summary.is_dead_letter(append.status);
        let shared = params![
            ns,
            blob(&append.run),
            signed(append.seq),
            append.status.as_str(),
            prepared.summary,
            append.open,
            append.settled,
            signed(append.consumed),
            dead_letter,
            moment(now),
        ];
        let Some(Release { due, polls, seen }) = &append.release else {
            self.run(sql::APPEND_KEEP, shared)?;
            return Ok(());
        };
        let asked = old.requests > old.consumed.max(append.consumed).max(*seen);
        let at_once = asked || (old.poked && append.status.is_moving());
        let due = if at_once { now } else { *due };
        let place = place(due, now);
        // Who stands still is nobody's next work.
        if place != 0 {
            self.stir();
        }
        let (polls, due) = (json(polls)?, moment(due));
        let own = params![polls, due, place];
        self.run(sql::APPEND_RELEASE, &*[shared, own].concat())?;
        Ok(())
    }

    /// What belongs to the frame: the fence has been compared.
    fn hang_on(&mut self, ns: i64, append: &Append) -> Result<(), Fault> {
        let run = blob(&append.run);
        if append.consumed > 0 {
            self.run(sql::REQUESTS_CONSUME, (ns, run, signed(append.consumed)))?;
        }
        if append.free_guard {
            self.run(sql::GUARD_FREE, (ns, run))?;
        }
        for row in &append.ledger {
            self.put_row(ns, row)?;
        }
        for (key, sealed) in &append.sealed {
            self.put_sealed(ns, key, sealed)?;
        }
        for new in &append.starts {
            self.submit_run(ns, new)?;
        }
        for other in &append.wakes {
            self.run(sql::WAKE, (ns, blob(other), moment(self.wall())))?;
            self.stir();
        }
        Ok(())
    }

    /// S19: an earlier try of this very append is success; anything else is a lost lease.
    fn repeated(&self, ns: i64, append: &Append) -> Result<Appended, Fault> {
        let Some(body) = &append.frame else { return Ok(Appended::Stale) };
        let fence = &append.fence;
        let values = params![
            ns,
            blob(&append.run),
            signed(append.seq),
            signed(fence.epoch),
            &**body,
            fence.owner.0.as_bytes(),
            signed(fence.nonce),
        ];
        let found = self.first(sql::FRAME_SAME, values, |row| {
            Ok((row.get::<_, bool>(0)?, unsigned(row.get(1)?), row.get::<_, bool>(2)?))
        })?;
        Ok(match found {
            Some((true, requests, current)) => Appended::Applied { requests, lease_lost: !current },
            _ => Appended::Stale,
        })
    }

    fn conflict(&self, ns: i64, row: &LedgerRow) -> Result<Option<LedgerRow>, Fault> {
        let Some(holder) = self.holder(ns, row)? else { return Ok(None) };
        // A row that has the name already keeps it, whatever the watch has entered since.
        let own = self.row(ns, row)?;
        let kept = own.is_some_and(|own| {
            own.claimed_name().is_some()
                && (&own.provider, &own.account, &own.kind, &own.name)
                    == (&row.provider, &row.account, &row.kind, &row.name)
        });
        Ok((!kept).then_some(holder))
    }
}

/// The common step: of its run nothing changes but how far it is.
fn is_step(append: &Append) -> bool {
    append.frame.is_some()
        && append.release.is_none()
        && append.consumed == 0
        && !append.summary.is_dead_letter(append.status)
}

/// The sequence number the row must have before the append.
fn seq_before(append: &Append) -> u64 {
    append.seq.saturating_sub(seq_least(append))
}

/// Frames are numbered from 1.
fn seq_least(append: &Append) -> u64 {
    u64::from(append.frame.is_some())
}
