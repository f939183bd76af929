//! The one place where leases are granted, renewed and ended.

use provision_core::{
    caps::Room,
    id::{RunId, Timestamp},
    store::{Acquire, Fence, Incarnation, LeaseGrant, LeaseRequest, Leased, Release},
};
use rusqlite::{Row, params};
use std::{collections::HashMap, time::Duration};
use uuid::Uuid;

use crate::{
    error::Fault,
    pick::{self, Lane},
    rows::{at, blob, json, moment, record, signed, unsigned},
    sql,
    unit::{Unit, awake_after, place},
};

/// None of the dead incarnations is renewed for so long; what comes later holds nothing, under any
/// name.
const DEAD_KEPT: Duration = Duration::from_secs(24 * 3_600);
/// Runs that one claim makes ready, at most; the next one goes on.
const PROMOTED_AT_ONCE: i64 = 2_000;
/// Most that one call forgets: more than one call buries, as a rule.
const FORGOTTEN_AT_ONCE: i64 = 100;

/// Bytes of journals after which one call grants no more.
const GRANTED_BYTES_MAX: usize = 4 << 20;

/// About how many bytes were read of a run.
fn bytes_of(leased: &Leased) -> usize {
    let record = &leased.record;
    let frames = record.frames.iter().map(|frame| frame.body.len());
    let requests = record.requests.iter().map(|request| request.body.as_str().len());
    frames.chain(requests).fold(record.head.input.as_str().len(), usize::saturating_add)
}

impl Unit<'_> {
    pub(crate) fn lease(&mut self, ns: i64, request: &LeaseRequest) -> Result<LeaseGrant, Fault> {
        let (worker, now) = (request.worker, self.wall());
        for who in request.dead.iter().filter(|who| **who != worker) {
            self.bury(ns, *who, Some(now))?;
        }
        if !self.renew(ns, worker, request.ttl)? {
            return Ok(LeaseGrant {
                now,
                alive: false,
                leased: Vec::new(),
                held: Vec::new(),
                peers: Vec::new(),
                next_due: None,
                full: Vec::new(),
            });
        }
        self.bury_expired(ns, worker)?;
        self.forget_dead(ns)?;
        for (run, fence, release) in &request.release {
            self.release(ns, run, fence, release)?;
        }
        for (run, epoch) in &request.strangers {
            self.give_back(ns, run, worker, *epoch)?;
        }
        let (mut leased, mut full, mut next_due) = (Vec::new(), Vec::new(), None);
        if let Some(acquire) = request.acquire.as_ref().filter(|_| !request.retire) {
            let fits =
                |lane: &Lane| lane.fits(&acquire.queues) && acquire.code.contains(&lane.saga);
            (leased, full) = self.acquire(ns, acquire, worker, &fits)?;
            let mut lanes = pick::lanes(self.tx, ns)?;
            lanes.retain(fits);
            next_due = pick::next_due(self.tx, ns, &lanes, fits)?;
        }
        if request.retire {
            self.bury(ns, worker, None)?;
        }
        let id = worker.0.as_bytes();
        Ok(LeaseGrant {
            now,
            alive: !request.retire,
            leased,
            held: self.all(sql::HELD, (ns, id), |row| {
                let run = RunId::from_uuid(Uuid::from_bytes(row.get(0)?));
                Ok((run, unsigned(row.get(1)?)))
            })?,
            peers: self.all(sql::INCARNATIONS_ALIVE, (ns, id), |row| {
                Ok(Incarnation(Uuid::from_bytes(row.get(0)?)))
            })?,
            next_due,
            full,
        })
    }

    /// Renews an incarnation, or registers it. A dead one is never renewed: no row is touched.
    fn renew(&self, ns: i64, worker: Incarnation, ttl: Duration) -> Result<bool, Fault> {
        let expires = awake_after(&self.now, ttl);
        let expires_at = moment(self.wall().plus(ttl));
        let values = (ns, worker.0.as_bytes(), &self.now.boot, expires, expires_at);
        Ok(self.run(sql::INCARNATION_RENEW, values)? > 0)
    }

    /// Marks incarnations dead whose lease is over by the clock of leases, or of an earlier boot.
    fn bury_expired(&mut self, ns: i64, worker: Incarnation) -> Result<(), Fault> {
        let awake = signed(self.now.awake_ms);
        let values = (ns, worker.0.as_bytes(), &self.now.boot, awake);
        let expired = self.all(sql::INCARNATIONS_EXPIRED, values, |row| {
            let who = Incarnation(Uuid::from_bytes(row.get(0)?));
            let same_boot: bool = row.get(1)?;
            Ok((who, same_boot, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?))
        })?;
        for (who, same_boot, expires, expires_at) in &expired {
            let wall = self.wall();
            let died_at = if *same_boot {
                // Sleep since then is not counted: later than it was is the safe side.
                let ago = unsigned(awake.saturating_sub(*expires));
                Timestamp::from_millis(wall.as_millis().saturating_sub(ago))
            } else {
                // It was dead when this boot began; the later of the two bounds is the safe one.
                let boot_began = wall.as_millis().saturating_sub(self.now.boot_ms);
                at(*expires_at).max(Timestamp::from_millis(boot_began)).min(wall)
            };
            self.bury(ns, *who, Some(died_at))?;
        }
        Ok(())
    }

    /// Forgets those that have been dead for long. Burying one has freed its runs: none names it.
    fn forget_dead(&self, ns: i64) -> Result<(), Fault> {
        let kept = u64::try_from(DEAD_KEPT.as_millis()).unwrap_or(u64::MAX);
        let long_ago = signed(self.wall().as_millis().saturating_sub(kept));
        self.run(sql::INCARNATIONS_FORGET, (ns, long_ago, FORGOTTEN_AT_ONCE))?;
        Ok(())
    }

    /// Marks an incarnation dead and makes its runs due. `died_at` is `None` for one that retired.
    fn bury(&mut self, ns: i64, who: Incarnation, died_at: Option<Timestamp>) -> Result<(), Fault> {
        let now = moment(self.wall());
        let id = who.0.as_bytes();
        if self.run(sql::INCARNATION_BURY, (ns, id, now))? > 0 {
            self.run(sql::RUNS_FREE, (ns, id, now, died_at.map(moment)))?;
            self.stir();
        }
        Ok(())
    }

    /// Gives back a lease that its owner never heard of.
    fn give_back(
        &mut self,
        ns: i64,
        run: &RunId,
        owner: Incarnation,
        epoch: u64,
    ) -> Result<(), Fault> {
        let values = params![ns, blob(run), owner.0.as_bytes(), signed(epoch), moment(self.wall())];
        if self.run(sql::GIVE_BACK, values)? > 0 {
            self.stir();
        }
        Ok(())
    }

    fn release(
        &mut self,
        ns: i64,
        run: &RunId,
        fence: &Fence,
        release: &Release,
    ) -> Result<(), Fault> {
        let now = self.wall();
        let values = params![
            ns,
            blob(run),
            fence.owner.0.as_bytes(),
            signed(fence.epoch),
            signed(fence.nonce),
            json(&release.polls)?,
            moment(now),
            moment(release.due),
            place(release.due, now),
            signed(release.seen),
        ];
        if self.run(sql::RELEASE, values)? > 0 {
            self.stir();
        }
        Ok(())
    }

    /// Leases what is due in lanes that fit; with it, the queues that were full.
    fn acquire(
        &mut self,
        ns: i64,
        acquire: &Acquire,
        worker: Incarnation,
        fits: &impl Fn(&Lane) -> bool,
    ) -> Result<(Vec<Leased>, Vec<String>), Fault> {
        self.promote(ns)?;
        let (runs, full) = match &acquire.runs {
            Some(proposed) => {
                let due = self.proposed(ns, proposed, fits)?;
                let mut room = self.room(ns, acquire, due.iter().map(|(_, lane)| lane))?;
                let mut runs = Vec::new();
                for (run, lane) in due {
                    if runs.len() < acquire.limit && room.take(&lane.queue) {
                        runs.push(run);
                    }
                }
                (runs, room.full())
            }
            None => {
                let mut lanes = pick::lanes(self.tx, ns)?;
                lanes.retain(fits);
                let mut room = self.room(ns, acquire, &lanes)?;
                let turns = &mut self.caches.turns;
                let due = pick::due(self.tx, ns, (&lanes, &mut room), acquire.limit, turns)?;
                (due.into_iter().map(|(_, run)| run).collect(), room.full())
            }
        };
        Ok((self.grant_all(ns, runs, worker)?, full))
    }

    /// Moves runs whose time has come to the ready ones, those of all lanes: they are ready for
    /// whoever looks. So many at most that no other process waits long for its turn.
    fn promote(&self, ns: i64) -> Result<(), Fault> {
        let now = moment(self.wall());
        let first = self.first(sql::DELAYED_FIRST, [ns], |row| Ok(row.get::<_, i64>(0)?))?;
        if first.is_some_and(|due| due <= now) {
            self.run(sql::PROMOTE, (ns, now, PROMOTED_AT_ONCE))?;
        }
        Ok(())
    }

    fn grant_all(
        &self,
        ns: i64,
        runs: Vec<RunId>,
        worker: Incarnation,
    ) -> Result<Vec<Leased>, Fault> {
        let (mut leased, mut bytes) = (Vec::new(), 0_usize);
        for run in runs {
            // S25: what is read while others wait for the turn is bounded; the rest stays due.
            if bytes >= GRANTED_BYTES_MAX {
                break;
            }
            if let Some(granted) = self.grant_or_park(ns, &run, worker)? {
                bytes = bytes.saturating_add(bytes_of(&granted));
                leased.push(granted);
            }
        }
        Ok(leased)
    }

    /// S3: one row that cannot be read stops nobody else's work.
    fn grant_or_park(
        &self,
        ns: i64,
        run: &RunId,
        worker: Incarnation,
    ) -> Result<Option<Leased>, Fault> {
        match self.grant(ns, run, worker) {
            Ok(Some(granted)) => return Ok(Some(granted)),
            Ok(None) => tracing::error!(%run, "a run of which a part is missing is parked"),
            Err(fault) if fault.is_bad_row() => {
                tracing::error!(%run, ?fault, "a run that cannot be read is parked");
            }
            Err(fault) => return Err(fault),
        }
        self.run(sql::PARK_UNREAD, (ns, blob(run), moment(Timestamp::NEVER)))?;
        Ok(None)
    }

    /// The room in the capped queues of these lanes: the writer is alone, so it stays as it is found.
    fn room<'l>(
        &self,
        ns: i64,
        acquire: &Acquire,
        lanes: impl IntoIterator<Item = &'l Lane>,
    ) -> Result<Room, Fault> {
        let mut leased = HashMap::new();
        // One look for all queues, and none where no queue has a cap.
        if !acquire.caps.is_empty() {
            let read = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, unsigned(row.get(1)?)));
            leased.extend(self.all(sql::LEASED_BY_QUEUE, (ns,), read)?);
        }
        let of = |queue: &str| Ok::<_, Fault>(leased.get(queue).copied().unwrap_or_default());
        acquire.caps.room(lanes.into_iter().map(|lane| lane.queue.as_str()), of)
    }

    /// Those of the proposed runs that are due, unowned and in lanes that fit.
    fn proposed(
        &self,
        ns: i64,
        proposed: &[RunId],
        fits: impl Fn(&Lane) -> bool,
    ) -> Result<Vec<(RunId, Lane)>, Fault> {
        let now = moment(self.wall());
        let mut due: Vec<(RunId, Lane)> = Vec::new();
        for run in proposed {
            let lane = self.first(sql::PROPOSED, (ns, blob(run), now), pick::lane)?;
            if let Some(lane) = lane.filter(&fits)
                && due.iter().all(|(known, _)| known != run)
            {
                due.push((*run, lane));
            }
        }
        Ok(due)
    }

    /// Leases a run that nobody holds; `None` when it is not there, or not whole.
    fn grant(&self, ns: i64, run: &RunId, worker: Incarnation) -> Result<Option<Leased>, Fault> {
        let Some((mut record, died_at)) = record(self.tx, ns, run)? else { return Ok(None) };
        let (nonce, now) = (self.draw_nonce()?, self.wall());
        let (before, epoch) = (record.head.epoch, record.head.epoch.saturating_add(1));
        let values =
            params![ns, blob(run), worker.0.as_bytes(), nonce, moment(now), signed(before)];
        if self.run(sql::GRANT, values)? == 0 {
            return Ok(None);
        }
        record.head.epoch = epoch;
        record.head.owner = Some(worker);
        record.head.updated_at = now;
        let fence = Fence { owner: worker, epoch, nonce: unsigned(nonce) };
        Ok(Some(Leased { record, fence, died_at }))
    }
}
