//! The ledger: rows, names, sightings, the watch.

use provision_core::{
    id::{ExternalId, RunId, Timestamp},
    ledger::{LedgerOp, LedgerQuery, LedgerReply, LedgerRow, Sighting},
    run::RunStatus,
};
use rusqlite::{Connection, Row, params};
use std::time::Duration;
use uuid::Uuid;

use crate::{
    error::Fault,
    rows::{all, at, blob, json, ledger_row, moment, signed, unsigned},
    sql,
    unit::Unit,
};

/// Rows a query answers when it names no limit, and the most it ever answers.
const ROWS_DEFAULT: usize = 1_000;
const ROWS_MAX: usize = 10_000;
/// When a row that cannot be read is watched again, and how many of them one claim passes over.
const UNREAD_AGAIN: Duration = Duration::from_secs(3_600);
const UNREAD_PASSED_MAX: usize = 100;
const FIRST_RUN: [u8; 16] = [0; 16];
const LAST_RUN: [u8; 16] = [0xff; 16];

/// The key of a row as it is stored, whatever that is.
struct RawKey {
    run: Vec<u8>,
    path: Vec<u8>,
    generation: i64,
    index: i64,
}

impl RawKey {
    fn of(row: &Row<'_>) -> Result<Self, Fault> {
        // Column 0 is the namespace.
        let bytes = |at| Ok::<_, Fault>(row.get_ref(at)?.as_bytes_or_null().ok().flatten());
        Ok(Self {
            run: bytes(1)?.unwrap_or_default().to_vec(),
            path: bytes(2)?.unwrap_or_default().to_vec(),
            generation: row.get(3)?,
            index: row.get(4)?,
        })
    }
}

/// Answers what needs no write.
pub(crate) fn read(conn: &Connection, ns: i64, op: &LedgerOp) -> Result<LedgerReply, Fault> {
    match op {
        LedgerOp::Query(query) => Ok(LedgerReply::Rows(self::query(conn, ns, query)?)),
        LedgerOp::Sightings(run) => Ok(LedgerReply::Sightings(sightings(conn, ns, *run)?)),
        LedgerOp::Sight(_)
        | LedgerOp::ClaimWatch { .. }
        | LedgerOp::EndWatch { .. }
        | LedgerOp::Enter(_) => Ok(LedgerReply::Changed(false)),
    }
}

/// Whether an operation only reads.
pub(crate) fn is_read(op: &LedgerOp) -> bool {
    matches!(op, LedgerOp::Query(_) | LedgerOp::Sightings(_))
}

fn query(conn: &Connection, ns: i64, query: &LedgerQuery) -> Result<Vec<LedgerRow>, Fault> {
    let limit = if query.limit == 0 { ROWS_DEFAULT } else { query.limit.min(ROWS_MAX) };
    let first = query.run.map_or(FIRST_RUN, |run| *run.as_uuid().as_bytes());
    let last = query.run.map_or(LAST_RUN, |run| *run.as_uuid().as_bytes());
    // Below every row of the first run, whose numbers are never negative.
    let (run, path, generation, index) = match &query.after {
        Some((run, path, generation, index)) => {
            (*run.as_uuid().as_bytes(), path.as_str(), i64::from(*generation), i64::from(*index))
        }
        None => {
            (first, query.path.as_deref().filter(|_| query.run.is_some()).unwrap_or(""), -1, -1)
        }
    };
    let states: Vec<_> = query.states.iter().map(|known| known.as_str()).collect();
    let values = params![
        ns,
        run.max(first),
        path,
        generation,
        index,
        last,
        query.tenant,
        query.provider,
        query.kind,
        query.external_id.as_ref().map(ExternalId::as_str),
        json(&states)?,
        signed(limit as u64),
        query.path,
    ];
    let by_id = query.external_id.is_some() && query.run.is_none();
    all(conn, if by_id { sql::LEDGER_BY_ID } else { sql::LEDGER_QUERY }, values, ledger_row)
}

fn sightings(conn: &Connection, ns: i64, run: Option<RunId>) -> Result<Vec<Sighting>, Fault> {
    let first = run.map_or(FIRST_RUN, |run| *run.as_uuid().as_bytes());
    let last = run.map_or(LAST_RUN, |run| *run.as_uuid().as_bytes());
    all(conn, sql::SIGHTINGS, (ns, first, last), |row| {
        Ok(Sighting {
            run: RunId::from_uuid(Uuid::from_bytes(row.get(0)?)),
            path: row.get(1)?,
            provider: row.get(2)?,
            kind: row.get(3)?,
            external_id: ExternalId::new(row.get::<_, String>(4)?),
            epoch: unsigned(row.get(5)?),
            at: at(row.get(6)?),
            generation: row.get(7)?,
        })
    })
}

impl Unit<'_> {
    pub(crate) fn ledger_op(&self, ns: i64, op: &LedgerOp) -> Result<LedgerReply, Fault> {
        match op {
            LedgerOp::Sight(sighting) => Ok(LedgerReply::Changed(self.sight(ns, sighting)?)),
            LedgerOp::ClaimWatch { hold, limit, .. } => {
                let until = self.wall().plus(*hold);
                Ok(LedgerReply::Rows(self.claim_watch(ns, until, *limit)?))
            }
            LedgerOp::EndWatch { row, next } => {
                Ok(LedgerReply::Changed(self.set_watch(ns, row, *next)?))
            }
            LedgerOp::Enter(row) => Ok(LedgerReply::Changed(self.enter(ns, row)?)),
            LedgerOp::Query(_) | LedgerOp::Sightings(_) => read(self.tx, ns, op),
        }
    }

    pub(crate) fn put_row(&self, ns: i64, row: &LedgerRow) -> Result<(), Fault> {
        let cost = row.cost.as_ref().map(json).transpose()?;
        let values = params![
            ns,
            blob(&row.run),
            row.path,
            row.generation,
            row.index,
            row.tenant,
            row.provider,
            row.account,
            row.kind,
            row.name,
            row.external_id.as_ref().map(ExternalId::as_str),
            row.origin.as_str(),
            row.state.as_str(),
            row.region,
            row.template,
            cost,
            row.suspect,
            row.watch_at.map(moment),
            moment(row.since),
            row.until.map(moment),
        ];
        self.run(sql::LEDGER_PUT, values)?;
        Ok(())
    }

    /// Another run's live created row of the same name.
    pub(crate) fn holder(&self, ns: i64, row: &LedgerRow) -> Result<Option<LedgerRow>, Fault> {
        let Some(name) = row.claimed_name() else { return Ok(None) };
        let values = (ns, &row.provider, &row.account, &row.kind, name, blob(&row.run));
        self.first(sql::LEDGER_HOLDER, values, ledger_row)
    }

    /// The stored row of the same run, path, generation and index.
    pub(crate) fn row(&self, ns: i64, row: &LedgerRow) -> Result<Option<LedgerRow>, Fault> {
        let values = (ns, blob(&row.run), &row.path, row.generation, row.index);
        self.first(sql::LEDGER_ONE, values, ledger_row)
    }

    fn sight(&self, ns: i64, seen: &Sighting) -> Result<bool, Fault> {
        let values = params![
            ns,
            blob(&seen.run),
            seen.path,
            seen.provider,
            seen.kind,
            seen.external_id.as_str(),
            signed(seen.epoch),
            moment(seen.at),
            seen.generation,
        ];
        Ok(self.run(sql::SIGHT, values)? > 0)
    }

    fn claim_watch(
        &self,
        ns: i64,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<LedgerRow>, Fault> {
        let values = (ns, moment(self.wall()), signed(limit.min(ROWS_MAX) as u64));
        for _ in 0..UNREAD_PASSED_MAX {
            let mut unread = Vec::new();
            let found = self.all(sql::LEDGER_WATCH_DUE, values, |row| match ledger_row(row) {
                Ok(found) => Ok(Some(found)),
                Err(fault) if fault.is_bad_row() => {
                    tracing::error!(
                        ?fault,
                        "a row of the ledger that cannot be read is not watched"
                    );
                    unread.push(RawKey::of(row)?);
                    Ok(None)
                }
                Err(fault) => Err(fault),
            })?;
            self.pass_over(ns, &unread)?;
            let mut rows: Vec<_> = found.into_iter().flatten().collect();
            for row in &mut rows {
                self.set_watch(ns, row, Some(until))?;
                row.watch_at = Some(until);
            }
            if !rows.is_empty() || unread.is_empty() {
                return Ok(rows);
            }
        }
        Ok(Vec::new())
    }

    /// S15: rows that cannot be read are looked at again later, and hold up no other until then.
    fn pass_over(&self, ns: i64, unread: &[RawKey]) -> Result<(), Fault> {
        let next = moment(self.wall().plus(UNREAD_AGAIN));
        for RawKey { run, path, generation, index } in unread {
            self.run(sql::LEDGER_WATCH_PASS, (ns, run, path, generation, index, next))?;
        }
        Ok(())
    }

    /// Moves the watch of a row, if it still is where `row` says.
    fn set_watch(&self, ns: i64, row: &LedgerRow, next: Option<Timestamp>) -> Result<bool, Fault> {
        let values = params![
            ns,
            blob(&row.run),
            row.path,
            row.generation,
            row.index,
            row.watch_at.map(moment),
            next.map(moment),
        ];
        Ok(self.run(sql::LEDGER_WATCH_SET, values)? > 0)
    }

    /// Where a run stands; `None` when there is none. A name that this version does not know is
    /// taken for a run under way.
    pub(crate) fn status(&self, ns: i64, run: &RunId) -> Result<Option<RunStatus>, Fault> {
        self.first(sql::RUN_STATUS, (ns, blob(run)), |row| {
            Ok(RunStatus::parse(&row.get::<_, String>(0)?).unwrap_or(RunStatus::Running))
        })
    }

    /// S17: rows of a run under way are written by its own appends only.
    fn enter(&self, ns: i64, row: &LedgerRow) -> Result<bool, Fault> {
        let status = self.status(ns, &row.run)?;
        let known = self.row(ns, row)?;
        if known.as_ref() == Some(row) || !row.may_be_entered(known.as_ref(), status) {
            return Ok(false);
        }
        self.put_row(ns, row)?;
        Ok(true)
    }
}
