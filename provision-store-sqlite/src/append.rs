//! Appends: one fenced write, and everything that hangs on it.

use provision_core::{
    ledger::LedgerRow,
    store::{Append, Appended, Release},
};
use rusqlite::params;

use crate::{
    error::Fault,
    rows::{blob, json, moment, signed, unsigned},
    sql,
    unit::{Unit, place},
};

impl Unit<'_> {
    pub(crate) fn append(&mut self, ns: i64, append: &Append) -> Result<Appended, Fault> {
        if !append.ledger.is_empty() {
            // The fence comes first: who has no lease learns nothing but that.
            if !self.is_next(ns, append)? {
                return self.repeated(ns, append);
            }
            for row in &append.ledger {
                if let Some(holder) = self.conflict(ns, row)? {
                    return Ok(Appended::Conflict(Box::new(holder)));
                }
            }
        }
        let Some(requests) = self.keep(ns, append)? else { return self.repeated(ns, append) };
        self.hang_on(ns, append)?;
        self.count_append();
        Ok(Appended::Applied { requests, lease_lost: false })
    }

    fn is_next(&self, ns: i64, append: &Append) -> Result<bool, Fault> {
        let fence = &append.fence;
        let values = params![
            ns,
            blob(&append.run),
            fence.owner.0.as_bytes(),
            signed(fence.epoch),
            signed(fence.nonce),
            signed(seq_before(append)),
        ];
        Ok(append.seq >= seq_least(append)
            && self.first(sql::APPEND_CHECK, values, |_| Ok(()))?.is_some())
    }

    /// S5: owner, epoch, nonce and sequence are compared by the very statement that writes.
    fn keep(&mut self, ns: i64, append: &Append) -> Result<Option<u64>, Fault> {
        if append.seq < seq_least(append) {
            return Ok(None);
        }
        if self.add_step(ns, append)? {
            return Ok(Some(0));
        }
        if self.change_head(ns, append)? == 0 {
            return Ok(None);
        }
        // Read by a second statement: `RETURNING` builds a table for each row.
        let kept = self.first(sql::APPEND_KEPT, (ns, blob(&append.run)), |row| {
            Ok((unsigned(row.get(0)?), row.get::<_, i64>(1)?))
        })?;
        let (requests, place) = kept.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        // Who stands still is nobody's next work.
        if append.release.is_some() && place != 0 {
            self.stir();
        }
        if let Some(body) = &append.frame {
            let (seq, epoch) = (signed(append.seq), signed(append.fence.epoch));
            let run = blob(&append.run);
            self.run(sql::FRAME_ADD, (ns, run, seq, epoch, moment(append.at), &**body))?;
        }
        Ok(Some(requests))
    }

    /// The common step, as one statement: nothing about the run changes but how far it is, and
    /// that stands in the frame until the head is written again. Of a run that ever had a request
    /// or a death, the head is written.
    fn add_step(&self, ns: i64, append: &Append) -> Result<bool, Fault> {
        let Some(body) = append.frame.as_ref().filter(|_| append.release.is_none()) else {
            return Ok(false);
        };
        let is_step = append.consumed == 0 && !append.summary.is_dead_letter(append.status);
        if !is_step {
            return Ok(false);
        }
        let fence = &append.fence;
        let values = params![
            ns,
            blob(&append.run),
            fence.owner.0.as_bytes(),
            signed(fence.epoch),
            signed(fence.nonce),
            signed(seq_before(append)),
            signed(append.seq),
            moment(append.at),
            &**body,
            json(&append.summary)?,
            append.open,
            moment(self.wall()),
            append.status.as_str(),
        ];
        Ok(self.run(sql::APPEND_STEP, values)? > 0)
    }

    fn change_head(&self, ns: i64, append: &Append) -> Result<usize, Fault> {
        let (fence, now) = (&append.fence, self.wall());
        let summary = json(&append.summary)?;
        let dead_letter = append.summary.is_dead_letter(append.status);
        let shared = params![
            ns,
            blob(&append.run),
            fence.owner.0.as_bytes(),
            signed(fence.epoch),
            signed(fence.nonce),
            signed(seq_before(append)),
            signed(append.seq),
            append.status.as_str(),
            summary,
            append.open,
            signed(append.consumed),
            dead_letter,
            moment(now),
            append.settled,
        ];
        let Some(Release { due, polls, seen }) = &append.release else {
            return self.run(sql::APPEND_KEEP, shared);
        };
        let (polls, wakes) = (json(polls)?, append.status.is_moving());
        let (due, place, seen) = (moment(*due), place(*due, now), signed(*seen));
        let own = params![polls, wakes, due, place, seen];
        self.run(sql::APPEND_RELEASE, &*[shared, own].concat())
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

/// The sequence number the row must have before the append.
fn seq_before(append: &Append) -> u64 {
    append.seq.saturating_sub(seq_least(append))
}

/// Frames are numbered from 1.
fn seq_least(append: &Append) -> u64 {
    u64::from(append.frame.is_some())
}
