//! Which ready runs come next: higher priority first, tenants in turn, oldest first.
//!
//! Every pick is one seek in an index that holds ready runs only, so a claim costs the same
//! however many runs are finished, delayed, or belong to sagas that this worker does not know.

use std::{collections::HashMap, time::Duration};

use provision_core::{
    caps::Room,
    id::{RunId, Timestamp},
    store::SagaRef,
};
use rusqlite::{Connection, Row, Rows};
use uuid::Uuid;

use crate::{
    clock::Reading,
    error::Fault,
    rows::{all, at, moment, signed, unsigned},
    sql,
};

/// Tenants looked at in one claim, at most.
const TENANTS_MAX: usize = 256;

/// Where each namespace, lane and priority goes on: the tenant to serve first.
pub(crate) type Turns = HashMap<(i64, i64, i32), String>;

/// The runs of one named queue and saga.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) id: i64,
    pub(crate) queue: String,
    pub(crate) saga: SagaRef,
}

impl Lane {
    /// Whether the lane belongs to one of these queues; none named means all.
    pub(crate) fn fits(&self, queues: &[String]) -> bool {
        queues.is_empty() || queues.contains(&self.queue)
    }
}

/// Runs that are not in the lanes of a worker, but due before its own, that one look goes by.
const PASSED_MAX: usize = 1_000;

/// The lane at the beginning of a row.
pub(crate) fn lane(row: &Row<'_>) -> Result<Lane, Fault> {
    let saga = SagaRef { name: row.get(2)?, version: row.get(3)?, fingerprint: row.get(4)? };
    Ok(Lane { id: row.get(0)?, queue: row.get(1)?, saga })
}

/// The lanes of a namespace that have a ready run: there may be many more that have none.
pub(crate) fn lanes(conn: &Connection, ns: i64) -> Result<Vec<Lane>, Fault> {
    all(conn, sql::LANES_READY, [ns], lane)
}

/// The earliest due time of a run in lanes that fit, of which those in `ready` have a ready one.
///
/// Behind very many runs that do not fit it is the time of one of them: too early, never too late.
pub(crate) fn next_due(
    conn: &Connection,
    ns: i64,
    ready: &[Lane],
    fits: impl Fn(&Lane) -> bool,
) -> Result<Option<Timestamp>, Fault> {
    let mut next: Option<Timestamp> = None;
    for lane in ready {
        let due = all(conn, sql::READY_ANY, (ns, lane.id), |row| Ok(at(row.get(0)?)))?.pop();
        next = due.into_iter().chain(next).min();
    }
    let mut statement = conn.prepare_cached(sql::DELAYED_NEXT)?;
    let (mut rows, mut passed) = (statement.query([ns])?, 0_usize);
    while let Some(row) = rows.next()? {
        if fits(&lane(row)?) || passed >= PASSED_MAX {
            return Ok(next.into_iter().chain([at(row.get(5)?)]).min());
        }
        passed = passed.saturating_add(1);
    }
    Ok(next)
}

/// Runs in lanes that fit whose time has come, but which no claim has moved to the ready ones yet.
pub(crate) fn delayed(
    conn: &Connection,
    ns: i64,
    now: Timestamp,
    limit: usize,
    fits: impl Fn(&Lane) -> bool,
) -> Result<Vec<(i32, RunId)>, Fault> {
    let mut statement = conn.prepare_cached(sql::DELAYED_DUE)?;
    let mut rows = statement.query((ns, moment(now)))?;
    few(&mut rows, limit, fits)
}

/// Runs with their priorities, and how long until there may be more.
type OfTheDead = (Vec<(i32, RunId)>, Option<Duration>);

/// L2: runs in lanes that fit of workers whose lease is over by this reading: whoever leases buries
/// those. And how long until the next lease is over, if it is not renewed.
pub(crate) fn of_the_dead(
    conn: &Connection,
    ns: i64,
    now: &Reading,
    limit: usize,
    fits: impl Fn(&Lane) -> bool,
) -> Result<OfTheDead, Fault> {
    let awake = signed(now.awake_ms);
    let mut statement = conn.prepare_cached(sql::DEAD_HELD)?;
    let mut rows = statement.query((ns, &now.boot, awake))?;
    let found = few(&mut rows, limit, fits)?;
    let next = all(conn, sql::INCARNATIONS_END, (ns, &now.boot, awake), |row| {
        Ok(row.get::<_, Option<i64>>(0)?)
    })?;
    let left = |end: i64| Duration::from_millis(unsigned(end.saturating_sub(awake)));
    Ok((found, next.into_iter().flatten().next().map(left)))
}

/// Up to `limit` runs in lanes that fit, with their priorities.
fn few(
    rows: &mut Rows<'_>,
    limit: usize,
    fits: impl Fn(&Lane) -> bool,
) -> Result<Vec<(i32, RunId)>, Fault> {
    let (mut found, mut passed) = (Vec::new(), 0_usize);
    while let Some(row) = rows.next()? {
        if found.len() >= limit || passed >= PASSED_MAX {
            break;
        }
        if fits(&lane(row)?) {
            found.push((row.get(5)?, RunId::from_uuid(Uuid::from_bytes(row.get(6)?))));
        } else {
            passed = passed.saturating_add(1);
        }
    }
    Ok(found)
}

/// One tenant's runs in one lane, at one priority.
#[derive(Debug)]
struct Queue<'l> {
    lane: &'l Lane,
    tenant: String,
    next: Option<(i64, [u8; 16])>,
    served: bool,
}

/// Up to `limit` ready runs with their priorities; `turns` remembers where the tenants go on.
/// Queues without room are passed over.
pub(crate) fn due(
    conn: &Connection,
    ns: i64,
    (lanes, room): (&[Lane], &mut Room),
    limit: usize,
    turns: &mut Turns,
) -> Result<Vec<(i32, RunId)>, Fault> {
    let mut found = Vec::new();
    let mut below = i64::MAX;
    while found.len() < limit {
        let mut tops = Vec::new();
        for lane in lanes.iter().filter(|lane| !room.is_full(&lane.queue)) {
            let top = all(conn, sql::READY_PRIORITY, (ns, lane.id, below), |row| {
                Ok(row.get::<_, i32>(0)?)
            })?;
            tops.extend(top.into_iter().map(|priority| (priority, lane)));
        }
        let Some(priority) = tops.iter().map(|(priority, _)| *priority).max() else { break };
        let lanes = tops.iter().filter(|(top, _)| *top == priority).map(|(_, lane)| *lane);
        let band = Band { conn, ns, priority };
        band.serve((lanes, &mut *room), limit, &mut found, turns)?;
        below = i64::from(priority);
    }
    Ok(found)
}

struct Band<'a> {
    conn: &'a Connection,
    ns: i64,
    priority: i32,
}

impl Band<'_> {
    /// Goes round the tenants, one run each, until the limit is reached or nothing is left.
    fn serve<'l>(
        &self,
        (lanes, room): (impl Iterator<Item = &'l Lane>, &mut Room),
        limit: usize,
        found: &mut Vec<(i32, RunId)>,
        turns: &mut Turns,
    ) -> Result<(), Fault> {
        let wanted = limit.saturating_sub(found.len()).min(TENANTS_MAX);
        let mut queues = Vec::new();
        for lane in lanes {
            self.tenants(lane, wanted, turns, &mut queues)?;
        }
        queues.sort_by_key(|queue| queue.next);
        let mut left = queues.len();
        while left > 0 && found.len() < limit {
            left = 0;
            for queue in &mut queues {
                if found.len() >= limit {
                    break;
                }
                let Some((due, run)) = queue.next else { continue };
                if !room.take(&queue.lane.queue) {
                    queue.next = None;
                    continue;
                }
                found.push((self.priority, RunId::from_uuid(Uuid::from_bytes(run))));
                queue.served = true;
                if found.len() < limit {
                    queue.next = self.after(queue.lane.id, &queue.tenant, due, &run)?;
                }
                left = left.saturating_add(1);
            }
        }
        self.remember(&queues, turns);
        Ok(())
    }

    /// Up to `wanted` tenants of a lane that have ready runs, from the one whose turn it is.
    fn tenants<'l>(
        &self,
        lane: &'l Lane,
        wanted: usize,
        turns: &Turns,
        queues: &mut Vec<Queue<'l>>,
    ) -> Result<(), Fault> {
        let start = turns.get(&(self.ns, lane.id, self.priority)).cloned().unwrap_or_default();
        let (mut from, mut wrapped, mut count) = (start.clone(), start.is_empty(), 0_usize);
        while count < wanted {
            let values = (self.ns, lane.id, self.priority, &from);
            let tenant =
                all(self.conn, sql::READY_TENANT, values, |row| Ok(row.get::<_, String>(0)?))?
                    .pop();
            match tenant {
                Some(tenant) if !(wrapped && !start.is_empty() && tenant >= start) => {
                    let next = self.after(lane.id, &tenant, -1, &[])?;
                    from = successor(&tenant);
                    queues.push(Queue { lane, tenant, next, served: false });
                    count = count.saturating_add(1);
                }
                None if !wrapped => {
                    wrapped = true;
                    from = String::new();
                }
                _ => break,
            }
        }
        Ok(())
    }

    /// The next ready run of a tenant after (due, run).
    fn after(
        &self,
        lane: i64,
        tenant: &str,
        due: i64,
        run: &[u8],
    ) -> Result<Option<(i64, [u8; 16])>, Fault> {
        let values = (self.ns, lane, self.priority, tenant, due, run);
        let next = all(self.conn, sql::READY_RUN, values, |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(next.into_iter().next())
    }

    /// The first tenant that was not served comes first next time; after all of them, the next.
    fn remember(&self, queues: &[Queue], turns: &mut Turns) {
        let mut last: HashMap<i64, &Queue> = HashMap::new();
        for queue in queues.iter().filter(|queue| queue.served) {
            last.entry(queue.lane.id)
                .and_modify(|known| {
                    if queue.tenant > known.tenant {
                        *known = queue;
                    }
                })
                .or_insert(queue);
        }
        for (lane, queue) in last {
            turns.insert((self.ns, lane, self.priority), successor(&queue.tenant));
        }
        for queue in queues.iter().filter(|queue| !queue.served) {
            let next = turns.entry((self.ns, queue.lane.id, self.priority)).or_default();
            if queue.tenant < *next {
                next.clone_from(&queue.tenant);
            }
        }
    }
}

/// The text that follows `tenant` immediately in SQLite's order of bytes.
fn successor(tenant: &str) -> String {
    format!("{tenant}\0")
}
