//! The ledger: rows, names, sightings, the watch.

use std::{collections::HashMap, time::Duration};

use provision_core::{
    id::{ExternalId, RunId, Timestamp},
    ledger::{LedgerOp, LedgerQuery, LedgerReply, LedgerRow, Sighting},
    run::RunStatus,
};
use sqlx::{PgConnection, postgres::PgRow};
use uuid::Uuid;

use crate::{
    db::{Db, Statement},
    error::{Fault, bad_row},
    rows::{Columns, count, json, ledger_row, millis, moment, signed},
};

/// Rows a query answers when it names no limit, and the most it ever answers.
const ROWS_DEFAULT: usize = 1_000;
const ROWS_MAX: usize = 10_000;

/// Does one operation inside a transaction.
pub(crate) async fn answer(
    db: &Db,
    tx: &mut PgConnection,
    ns: i32,
    op: &LedgerOp,
) -> Result<LedgerReply, Fault> {
    match op {
        LedgerOp::Query(query) => Ok(LedgerReply::Rows(self::query(db, tx, ns, query).await?)),
        LedgerOp::Sightings(run) => Ok(LedgerReply::Sightings(sightings(db, tx, ns, *run).await?)),
        LedgerOp::Sight(seen) => {
            Ok(LedgerReply::Changed(db.run(tx, sighting(db, ns, seen)).await? > 0))
        }
        LedgerOp::ClaimWatch { hold, limit, .. } => {
            Ok(LedgerReply::Rows(claim_watch(db, tx, ns, (*hold, *limit)).await?))
        }
        LedgerOp::EndWatch { row, next } => {
            let query = with_key(db.query(&db.sql.ledger_watch_set), ns, row);
            let query = query.bind(row.watch_at.map(moment)).bind(next.map(moment));
            Ok(LedgerReply::Changed(db.run(tx, query).await? > 0))
        }
        LedgerOp::Enter(row) => Ok(LedgerReply::Changed(enter(db, tx, ns, row).await?)),
    }
}

fn with_key(statement: Statement, ns: i32, row: &LedgerRow) -> Statement {
    let statement = statement.bind(ns).bind(*row.run.as_uuid()).bind(row.path.clone());
    statement.bind(i64::from(row.generation)).bind(i64::from(row.index))
}

async fn query(
    db: &Db,
    tx: &mut PgConnection,
    ns: i32,
    query: &LedgerQuery,
) -> Result<Vec<LedgerRow>, Fault> {
    let limit = if query.limit == 0 { ROWS_DEFAULT } else { query.limit.min(ROWS_MAX) };
    let first = query.run.map_or(Uuid::nil(), |run| *run.as_uuid());
    let last = query.run.map_or(Uuid::max(), |run| *run.as_uuid());
    // Below every row of the first run, whose numbers are never negative.
    let (run, path, generation, index) = match &query.after {
        Some((run, path, generation, index)) => {
            (*run.as_uuid(), path.as_str(), i64::from(*generation), i64::from(*index))
        }
        None => {
            (first, query.path.as_deref().filter(|_| query.run.is_some()).unwrap_or(""), -1, -1)
        }
    };
    let states: Vec<_> = query.states.iter().map(|known| known.as_str()).collect();
    let by_id = query.external_id.is_some() && query.run.is_none();
    let text = if by_id { &db.sql.ledger_by_id } else { &db.sql.ledger_query };
    let statement = db.query(text).bind(ns).bind(run.max(first)).bind(path.to_owned());
    let statement = statement.bind(generation).bind(index).bind(last).bind(query.tenant.clone());
    let statement = statement.bind(query.provider.clone()).bind(query.kind.clone());
    let statement = statement.bind(query.external_id.as_ref().map(ExternalId::as_str));
    let statement = statement.bind(states).bind(count(limit)).bind(query.path.clone());
    read(&db.rows(tx, statement).await?)
}

fn read(rows: &[PgRow]) -> Result<Vec<LedgerRow>, Fault> {
    rows.iter().map(|row| ledger_row(&mut Columns::new(row))).collect()
}

async fn sightings(
    db: &Db,
    tx: &mut PgConnection,
    ns: i32,
    run: Option<RunId>,
) -> Result<Vec<Sighting>, Fault> {
    let first = run.map_or(Uuid::nil(), |run| *run.as_uuid());
    let last = run.map_or(Uuid::max(), |run| *run.as_uuid());
    let statement = db.query(&db.sql.sightings).bind(ns).bind(first).bind(last);
    let rows = db.rows(tx, statement).await?;
    let found = rows.iter().map(|row| {
        let mut c = Columns::new(row);
        Ok(Sighting {
            run: c.run()?,
            path: c.take()?,
            provider: c.take()?,
            kind: c.take()?,
            external_id: ExternalId::new(c.take::<String>()?),
            epoch: c.number()?,
            at: c.moment()?,
            generation: u32::try_from(c.take::<i64>()?).map_err(|_error| bad_row("generation"))?,
        })
    });
    found.collect()
}

fn sighting(db: &Db, ns: i32, seen: &Sighting) -> Statement {
    let query = db.query(&db.sql.sight).bind(ns).bind(*seen.run.as_uuid());
    let query = query.bind(seen.path.clone()).bind(seen.provider.clone()).bind(seen.kind.clone());
    let query = query.bind(seen.external_id.as_str().to_owned()).bind(signed(seen.epoch));
    query.bind(moment(seen.at)).bind(i64::from(seen.generation))
}

async fn claim_watch(
    db: &Db,
    tx: &mut PgConnection,
    ns: i32,
    (hold, limit): (Duration, usize),
) -> Result<Vec<LedgerRow>, Fault> {
    let query = db.query(&db.sql.ledger_watch_claim).bind(ns).bind(millis(hold));
    read(&db.rows(tx, query.bind(count(limit.min(ROWS_MAX)))).await?)
}

/// S17: rows of a run under way are written by its own appends only.
async fn enter(db: &Db, tx: &mut PgConnection, ns: i32, row: &LedgerRow) -> Result<bool, Fault> {
    let status = db.query(&db.sql.run_status_locked).bind(ns).bind(*row.run.as_uuid());
    let status = match db.rows(tx, status).await?.first() {
        // A name that this version does not know is taken for a run under way.
        Some(found) => {
            Some(RunStatus::parse(Columns::new(found).take()?).unwrap_or(RunStatus::Running))
        }
        None => None,
    };
    let one = with_key(db.query(&db.sql.ledger_one), ns, row);
    let known = read(&db.rows(tx, one).await?)?.into_iter().next();
    if known.as_ref() == Some(row) || !row.may_be_entered(known.as_ref(), status) {
        return Ok(false);
    }
    put(db, tx, &[(ns, row)]).await?;
    Ok(true)
}

/// The statement that asks for live created rows of other runs under the names of these.
pub(crate) fn asking_holders(db: &Db, wanted: &[(u64, i32, &LedgerRow)]) -> Statement {
    let text = |read: fn(&LedgerRow) -> &str| -> Vec<String> {
        wanted.iter().map(|(.., row)| read(row).to_owned()).collect()
    };
    let ns: Vec<i32> = wanted.iter().map(|(_, ns, _)| *ns).collect();
    let runs: Vec<Uuid> = wanted.iter().map(|(.., row)| *row.run.as_uuid()).collect();
    let generations: Vec<i64> = wanted.iter().map(|(.., row)| i64::from(row.generation)).collect();
    let indexes: Vec<i64> = wanted.iter().map(|(.., row)| i64::from(row.index)).collect();
    let query = db.query(&db.sql.ledger_holders).bind(ns).bind(runs).bind(text(|row| &row.path));
    let query = query.bind(generations).bind(indexes).bind(text(|row| &row.provider));
    let query = query.bind(text(|row| &row.account)).bind(text(|row| &row.kind));
    query.bind(text(|row| row.name.as_deref().unwrap_or_default()))
}

/// Puts rows whole; of several under one key the last one stands.
pub(crate) async fn put(
    db: &Db,
    tx: &mut PgConnection,
    rows: &[(i32, &LedgerRow)],
) -> Result<(), Fault> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut last: HashMap<_, (i32, &LedgerRow)> = HashMap::new();
    for (ns, row) in rows {
        last.insert((*ns, row.run, &row.path, row.generation, row.index), (*ns, *row));
    }
    let rows: Vec<(i32, &LedgerRow)> = last.into_values().collect();
    db.run(tx, putting(db, &rows)?).await.map(drop)
}

fn putting(db: &Db, rows: &[(i32, &LedgerRow)]) -> Result<Statement, Fault> {
    let text = |read: fn(&LedgerRow) -> &str| -> Vec<String> {
        rows.iter().map(|(_, row)| read(row).to_owned()).collect()
    };
    let may = |read: fn(&LedgerRow) -> Option<&str>| -> Vec<Option<String>> {
        rows.iter().map(|(_, row)| read(row).map(str::to_owned)).collect()
    };
    let moments = |read: fn(&LedgerRow) -> Option<Timestamp>| -> Vec<Option<i64>> {
        rows.iter().map(|(_, row)| read(row).map(moment)).collect()
    };
    let numbers = |read: fn(&LedgerRow) -> u32| -> Vec<i64> {
        rows.iter().map(|(_, row)| i64::from(read(row))).collect()
    };
    let costs = rows.iter().map(|(_, row)| row.cost.as_ref().map(json).transpose());
    let costs = costs.collect::<Result<Vec<_>, _>>()?;
    let ns: Vec<i32> = rows.iter().map(|(ns, _)| *ns).collect();
    let runs: Vec<Uuid> = rows.iter().map(|(_, row)| *row.run.as_uuid()).collect();
    let suspect: Vec<bool> = rows.iter().map(|(_, row)| row.suspect).collect();
    let query = db.query(&db.sql.ledger_put).bind(ns).bind(runs).bind(text(|row| &row.path));
    let query = query.bind(numbers(|row| row.generation)).bind(numbers(|row| row.index));
    let query = query.bind(may(|row| row.tenant.as_deref())).bind(text(|row| &row.provider));
    let query = query.bind(text(|row| &row.account)).bind(text(|row| &row.kind));
    let query = query.bind(may(|row| row.name.as_deref()));
    let query = query.bind(may(|row| row.external_id.as_ref().map(ExternalId::as_str)));
    let query = query.bind(text(|row| row.origin.as_str())).bind(text(|row| row.state.as_str()));
    let query = query.bind(may(|row| row.region.as_deref()));
    let query = query.bind(may(|row| row.template.as_deref())).bind(costs).bind(suspect);
    let query = query.bind(moments(|row| row.watch_at)).bind(moments(|row| Some(row.since)));
    Ok(query.bind(moments(|row| row.until)))
}
