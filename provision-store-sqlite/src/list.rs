//! Listings: newest first, filtered, in pages.

use provision_core::{
    id::RunId,
    run::RunStatus,
    store::{RunFilter, RunHead, RunPage},
};
use rusqlite::{Connection, Row, params};
use uuid::Uuid;

use crate::{
    error::Fault,
    rows::{all, blob, head, json, moment, signed},
    sql,
};

/// Rows of a page when the filter names no limit, and the most a page ever holds.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;

pub(crate) fn page(conn: &Connection, ns: i64, filter: &RunFilter) -> Result<RunPage, Fault> {
    let limit = if filter.limit == 0 { PAGE_DEFAULT } else { filter.limit.min(PAGE_MAX) };
    let Some((first, last)) = bounds(conn, ns, filter)? else { return Ok(RunPage::default()) };
    let status: Vec<_> = filter.status.iter().copied().map(RunStatus::as_str).collect();
    let text = match filter {
        RunFilter { dead_letters: true, .. } => sql::LIST_DEAD,
        RunFilter { parent: Some(_), .. } => sql::LIST_CHILDREN,
        _ => sql::LIST,
    };
    let values = params![
        ns,
        first,
        last,
        json(&status)?,
        filter.saga,
        filter.tenant,
        filter.key_prefix,
        signed(limit as u64).saturating_add(1),
        filter.parent.as_ref().map(blob),
        filter.due_by.map(moment),
        filter.version,
    ];
    let mut found = all(conn, text, values, legible)?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|(run, _)| *run);
    Ok(RunPage { runs: found.into_iter().filter_map(|(_, head)| head).collect(), next })
}

/// A run and its head, unless that cannot be read: who loads that run is told, and a page goes on
/// without it (S3).
fn legible(row: &Row<'_>) -> Result<(RunId, Option<RunHead>), Fault> {
    match head(row) {
        Ok((head, _)) => Ok((head.id, Some(head))),
        Err(fault) if fault.is_bad_row() => {
            // Column 0 is the namespace.
            let run = RunId::from_uuid(Uuid::from_bytes(row.get(1)?));
            tracing::error!(%run, ?fault, "a run that cannot be read is missing from a page");
            Ok((run, None))
        }
        Err(fault) => Err(fault),
    }
}

/// First and last id of a range.
type Bounds = ([u8; 16], [u8; 16]);

/// First and last id that can match; `None` when none can. A key names one run at most.
fn bounds(conn: &Connection, ns: i64, filter: &RunFilter) -> Result<Option<Bounds>, Fault> {
    let (mut first, mut last) = (0_u128, u128::MAX);
    if let Some(after) = &filter.after {
        match after.as_uuid().as_u128().checked_sub(1) {
            Some(before) => last = before,
            None => return Ok(None),
        }
    }
    // A version that never ran is told by its lanes, without a look at the runs.
    if let (Some(saga), Some(version)) = (&filter.saga, filter.version)
        && all(conn, sql::LANE_OF_VERSION, (ns, saga, version), |_| Ok(()))?.is_empty()
    {
        return Ok(None);
    }
    for (text, key) in [(sql::RUN_BY_KEY, &filter.key), (sql::RUN_BY_GUARD, &filter.guard)] {
        let Some(key) = key else { continue };
        let found = all(conn, text, (ns, key), |row| Ok(row.get::<_, [u8; 16]>(0)?))?.pop();
        let Some(found) = found.map(u128::from_be_bytes) else { return Ok(None) };
        first = first.max(found);
        last = last.min(found);
    }
    Ok((first <= last).then(|| (first.to_be_bytes(), last.to_be_bytes())))
}
