//! Runs queries: filter, group, project, order, cut.

use std::cmp::Ordering;

use super::super::error::{SqlError, code};
use super::super::plan::{Body, Expr, QueryPlan, SelectPlan, SetOperation, SortKey};
use super::super::state::Row;
use super::super::value::{Value, compare};
use super::expr::{eval, eval_all};
use super::{Env, Frame, aggregate, source};

/// Runs a query and gives its rows, without the columns only its order needed.
pub(crate) fn rows(
    env: &Env<'_>,
    plan: &QueryPlan,
    outer: &Frame<'_>,
) -> Result<Vec<Row>, SqlError> {
    let _depth = env.shared.enter()?;
    let mut rows = match &plan.body {
        Body::Select(select) => select_rows(env, select, outer)?,
        Body::Values(lists) => {
            let frame = Frame { row: &[], parent: Some(outer) };
            lists.iter().map(|list| eval_all(env, list, &frame)).collect::<Result<_, _>>()?
        }
        Body::Combined { op, all, left, right } => {
            let (left, right) = (self::rows(env, left, outer)?, self::rows(env, right, outer)?);
            combine(*op, *all, left, right)
        }
    };
    if !plan.order.is_empty() {
        sort(env, &mut rows, &plan.order, outer)?;
    }
    cut(env, plan, &mut rows, outer)?;
    for row in &mut rows {
        row.truncate(plan.columns.len());
    }
    Ok(rows)
}

fn select_rows(
    env: &Env<'_>,
    select: &SelectPlan,
    outer: &Frame<'_>,
) -> Result<Vec<Row>, SqlError> {
    let mut kept = Vec::new();
    for row in source::rows(env, &select.source, outer)? {
        env.shared.work()?;
        let frame = Frame { row: &row, parent: Some(outer) };
        if holds(env, select.filter.as_ref(), &frame)? {
            kept.push(row);
        }
    }
    if let Some(group) = &select.group {
        kept = aggregate::group(env, group, kept, outer)?;
    }
    let mut found: Vec<Row> = Vec::new();
    for row in kept {
        let frame = Frame { row: &row, parent: Some(outer) };
        if holds(env, select.having.as_ref(), &frame)? {
            found.push(eval_all(env, &select.outputs, &frame)?);
        }
    }
    if select.distinct {
        found = distinct(found);
    }
    Ok(found)
}

/// Tells whether a condition is true; a missing one is.
pub(crate) fn holds(
    env: &Env<'_>,
    condition: Option<&Expr>,
    frame: &Frame<'_>,
) -> Result<bool, SqlError> {
    match condition {
        None => Ok(true),
        Some(condition) => Ok(eval(env, condition, frame)?.is_true()),
    }
}

pub(crate) fn compare_rows(left: &[Value], right: &[Value]) -> Ordering {
    let pairs = left.iter().zip(right);
    pairs.map(|(a, b)| compare(a, b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

/// Drops repeated rows; the first of each stays where it was.
pub(crate) fn distinct(rows: Vec<Row>) -> Vec<Row> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let row = |place: usize| rows.get(place).map_or(&[][..], Vec::as_slice);
    order.sort_by(|a, b| compare_rows(row(*a), row(*b)).then(a.cmp(b)));
    order.dedup_by(|later, first| compare_rows(row(*later), row(*first)).is_eq());
    order.sort_unstable();
    let keep: std::collections::BTreeSet<usize> = order.into_iter().collect();
    let places = rows.into_iter().enumerate().filter(|(place, _)| keep.contains(place));
    places.map(|(_, row)| row).collect()
}

fn combine(op: SetOperation, all: bool, left: Vec<Row>, right: Vec<Row>) -> Vec<Row> {
    if op == SetOperation::Union {
        let both = left.into_iter().chain(right).collect();
        return if all { both } else { distinct(both) };
    }
    let mut right = right;
    right.sort_by(|a, b| compare_rows(a, b));
    let listed = |row: &Row| right.binary_search_by(|other| compare_rows(other, row)).is_ok();
    let wanted = op == SetOperation::Intersect;
    distinct(left).into_iter().filter(|row| listed(row) == wanted).collect()
}

fn sort(
    env: &Env<'_>,
    rows: &mut Vec<Row>,
    keys: &[SortKey],
    outer: &Frame<'_>,
) -> Result<(), SqlError> {
    let mut keyed = Vec::with_capacity(rows.len());
    for row in rows.drain(..) {
        let frame = Frame { row: &row, parent: Some(outer) };
        let key: Vec<Value> =
            keys.iter().map(|key| eval(env, &key.expr, &frame)).collect::<Result<_, _>>()?;
        keyed.push((key, row));
    }
    keyed.sort_by(|(a, _), (b, _)| compare_keys(a, b, keys));
    rows.extend(keyed.into_iter().map(|(_, row)| row));
    Ok(())
}

pub(crate) fn compare_keys(left: &[Value], right: &[Value], keys: &[SortKey]) -> Ordering {
    for ((a, b), key) in left.iter().zip(right).zip(keys) {
        let order = match (a.is_null(), b.is_null()) {
            (true, true) => Ordering::Equal,
            (true, false) if key.nulls_first => Ordering::Less,
            (true, false) => Ordering::Greater,
            (false, true) if key.nulls_first => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) if key.descending => compare(b, a),
            (false, false) => compare(a, b),
        };
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

fn cut(
    env: &Env<'_>,
    plan: &QueryPlan,
    rows: &mut Vec<Row>,
    outer: &Frame<'_>,
) -> Result<(), SqlError> {
    let count = |expr: &Option<Expr>, word: &str| -> Result<Option<usize>, SqlError> {
        let Some(expr) = expr else { return Ok(None) };
        match eval(env, expr, &Frame { row: &[], parent: Some(outer) })? {
            Value::Null => Ok(None),
            value => {
                let number = value.as_int().and_then(|number| usize::try_from(number).ok());
                number.map(Some).ok_or_else(|| {
                    let state = if word == "LIMIT" { "2201W" } else { "2201X" };
                    SqlError::new(state, format!("{word} must not be negative"))
                })
            }
        }
    };
    if let Some(offset) = count(&plan.offset, "OFFSET")? {
        rows.drain(..offset.min(rows.len()));
    }
    if let Some(limit) = count(&plan.limit, "LIMIT")? {
        rows.truncate(limit);
    }
    if rows.len() > 100_000 {
        return Err(SqlError::new(code::PROGRAM_LIMIT, "result has more than 100000 rows"));
    }
    Ok(())
}
