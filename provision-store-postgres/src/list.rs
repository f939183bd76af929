//! Listings: newest first, filtered, in pages.

use provision_core::{
    run::RunStatus,
    store::{RunFilter, RunPage},
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    db::{Db, Statement},
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
    let statement = selecting(db, conn, (ns, limit), filter, (first, last)).await?;
    let rows = db.rows(conn, statement).await?;
    let (mut runs, mut next) = (Vec::with_capacity(rows.len()), None);
    for row in rows.iter().take(limit) {
        let run = Columns::new(row).skip(1).run()?;
        next = (rows.len() > limit).then_some(run);
        match head(&mut Columns::new(row)) {
            Ok(head) => runs.push(head),
            // S3: it hides none of the others; who asks for this run by its id is told.
            Err(fault) => tracing::error!(%run, ?fault, "a run that cannot be read is not listed"),
        }
    }
    Ok(RunPage { runs, next })
}

/// The statement for one row more than a page, between two ids.
async fn selecting(
    db: &Db,
    conn: &mut PgConnection,
    (ns, limit): (i32, usize),
    filter: &RunFilter,
    (first, last): (Uuid, Uuid),
) -> Result<Statement, Fault> {
    let rows = count(limit).saturating_add(1);
    if let Some((saga, version)) = only_version(filter) {
        let query = db.query(&db.sql.list_of_version).bind(ns).bind(first).bind(last);
        return Ok(query.bind(saga.to_owned()).bind(i64::from(version)).bind(rows));
    }
    let among = of_prefix(db, conn, ns, filter).await?;
    let text = match filter {
        RunFilter { dead_letters: true, .. } => &db.sql.list_dead,
        RunFilter { parent: Some(_), .. } => &db.sql.list_children,
        _ if among.is_some() => &db.sql.list_among,
        _ => &db.sql.list,
    };
    let status: Vec<_> = filter.status.iter().copied().map(RunStatus::as_str).collect();
    let query = db.query(text).bind(ns).bind(first).bind(last).bind(status);
    let query = query.bind(filter.saga.clone()).bind(filter.tenant.clone());
    let query = query.bind(filter.key_prefix.clone()).bind(rows);
    let query = query.bind(filter.parent.map(|parent| *parent.as_uuid()));
    let query = query.bind(filter.due_by.map(moment)).bind(filter.version.map(i64::from));
    Ok(match among {
        Some(runs) => query.bind(runs),
        None => query,
    })
}

/// The version of a saga, where the filter asks for nothing else: every start of a program does.
fn only_version(filter: &RunFilter) -> Option<(&str, u32)> {
    // Key, guard and page are in the bounds.
    let RunFilter {
        status, saga, version, tenant, key_prefix, parent, due_by, dead_letters, ..
    } = filter;
    let more = !status.is_empty() || tenant.is_some() || key_prefix.is_some() || parent.is_some();
    if more || due_by.is_some() || *dead_letters {
        return None;
    }
    saga.as_deref().zip(*version)
}

/// The runs whose start key begins as asked, by the index of keys; `None` where there are so many
/// that a look at one run after the other soon finds a page of them.
async fn of_prefix(
    db: &Db,
    conn: &mut PgConnection,
    ns: i32,
    filter: &RunFilter,
) -> Result<Option<Vec<Uuid>>, Fault> {
    if filter.dead_letters || filter.parent.is_some() {
        return Ok(None);
    }
    let Some(prefix) = &filter.key_prefix else { return Ok(None) };
    let Some(end) = successor(prefix) else { return Ok(None) };
    let query = db.query(&db.sql.runs_of_prefix).bind(ns).bind(prefix.clone()).bind(end);
    let rows = db.rows(conn, query.bind(count(PAGE_MAX).saturating_add(1))).await?;
    if rows.len() > PAGE_MAX {
        return Ok(None);
    }
    rows.iter().map(|row| Columns::new(row).take()).collect::<Result<_, _>>().map(Some)
}

/// The first text after all that begin with this one; `None` when all do, or none comes after.
fn successor(prefix: &str) -> Option<String> {
    let last = prefix.chars().next_back()?;
    let rest = prefix.strip_suffix(last)?;
    match (last..=char::MAX).nth(1) {
        Some(next) => Some(format!("{rest}{next}")),
        None => successor(rest),
    }
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

#[cfg(test)]
mod tests {
    use super::successor;

    #[test]
    fn what_comes_after_a_prefix_comes_after_all_that_begin_with_it() {
        let cases = [
            ("order:", Some("order;")),
            ("\u{d7ff}", Some("\u{e000}")),
            ("a\u{10ffff}", Some("b")),
            ("\u{10ffff}", None),
            ("", None),
        ];
        for (prefix, expected) in cases {
            assert_eq!(successor(prefix).as_deref(), expected, "{prefix:?}");
        }
    }
}
