//! Listings: newest first, filtered, in pages.

use provision_core::{
    run::RunStatus,
    store::{RunFilter, RunPage},
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    db::Db,
    error::Fault,
    rows::{Columns, count, head, moment},
};

/// Rows of a page when the filter names no limit, and the most a page ever holds.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;

pub(crate) async fn page(
    db: &Db,
    conn: &mut PgConnection,
    ns: i32,
    filter: &RunFilter,
) -> Result<RunPage, Fault> {
    let limit = if filter.limit == 0 { PAGE_DEFAULT } else { filter.limit.min(PAGE_MAX) };
    let Some((first, last)) = bounds(db, conn, ns, filter).await? else {
        return Ok(RunPage::default());
    };
    let status: Vec<_> = filter.status.iter().copied().map(RunStatus::as_str).collect();
    let text = match filter {
        RunFilter { dead_letters: true, .. } => &db.sql.list_dead,
        RunFilter { parent: Some(_), .. } => &db.sql.list_children,
        _ => &db.sql.list,
    };
    let query = db.query(text).bind(ns).bind(first).bind(last).bind(status);
    let query = query.bind(filter.saga.clone()).bind(filter.tenant.clone());
    let query = query.bind(filter.key_prefix.clone()).bind(count(limit).saturating_add(1));
    let query = query.bind(filter.parent.map(|parent| *parent.as_uuid()));
    let query = query.bind(filter.due_by.map(moment)).bind(filter.version.map(i64::from));
    let rows = db.rows(conn, query).await?;
    let more = rows.len() > limit;
    let (mut runs, mut next) = (Vec::with_capacity(rows.len()), None);
    for row in rows.iter().take(limit) {
        let run = Columns::new(row).skip(1).run()?;
        next = more.then_some(run);
        match head(&mut Columns::new(row)) {
            Ok(head) => runs.push(head),
            // S3: it hides none of the others; who asks for this run by its id is told.
            Err(fault) => tracing::error!(%run, ?fault, "a run that cannot be read is not listed"),
        }
    }
    Ok(RunPage { runs, next })
}

/// First and last id that can match; `None` when none can. A key names one run at most.
async fn bounds(
    db: &Db,
    conn: &mut PgConnection,
    ns: i32,
    filter: &RunFilter,
) -> Result<Option<(Uuid, Uuid)>, Fault> {
    let (mut first, mut last) = (0_u128, u128::MAX);
    if let Some(after) = &filter.after {
        match after.as_uuid().as_u128().checked_sub(1) {
            Some(before) => last = before,
            None => return Ok(None),
        }
    }
    // A version that never ran is told by its lanes, without a look at the runs.
    if let (Some(saga), Some(version)) = (&filter.saga, filter.version) {
        let query = db.query(&db.sql.lane_of_version).bind(ns).bind(saga.clone());
        if db.rows(conn, query.bind(i64::from(version))).await?.is_empty() {
            return Ok(None);
        }
    }
    let sql = &db.sql;
    for (text, key) in [(&sql.run_by_key, &filter.key), (&sql.guard_holder, &filter.guard)] {
        let Some(key) = key else { continue };
        let rows = db.rows(conn, db.query(text).bind(ns).bind(key.clone())).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let found = Columns::new(row).run()?.as_uuid().as_u128();
        first = first.max(found);
        last = last.min(found);
    }
    Ok((first <= last).then(|| (Uuid::from_u128(first), Uuid::from_u128(last))))
}
