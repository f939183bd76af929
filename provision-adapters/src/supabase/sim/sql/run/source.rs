//! Gives the rows of tables, joins and functions.

use std::borrow::Cow;

use super::super::bind;
use super::super::error::{SqlError, code};
use super::super::plan::{Join, Scan, SetFunction, Source, TableFunction};
use super::super::state::{Oid, RelationKind, Row};
use super::super::sys;
use super::super::value::Value;
use super::expr::{eval, eval_all};
use super::query::holds;
use super::{Env, Frame, query, settings};

/// Most rows that `generate_series` gives.
const SERIES_MAX: i64 = 100_000;

/// Gives the rows of a source.
pub(crate) fn rows(
    env: &Env<'_>,
    source: &Source,
    outer: &Frame<'_>,
) -> Result<Vec<Row>, SqlError> {
    let _depth = env.shared.enter()?;
    match source {
        Source::Nothing => Ok(vec![Vec::new()]),
        Source::Scan(scan) => scan_rows(env, scan, outer),
        Source::System(relation) => sys::rows(env, relation),
        Source::Query(plan) => query::rows(env, plan, outer),
        Source::Function(function) => function_rows(env, function, outer),
        Source::Join(join) => join_rows(env, join, outer),
    }
}

fn scan_rows(env: &Env<'_>, scan: &Scan, outer: &Frame<'_>) -> Result<Vec<Row>, SqlError> {
    let relation = env.db.relation(scan.relation)?;
    if relation.kind == RelationKind::MaterializedView && !relation.populated {
        let text = format!("materialized view \"{}\" has not been populated", relation.name);
        return Err(SqlError::new(code::OBJECT_STATE, text));
    }
    let mut found = Vec::new();
    for (_, row) in stored_rows(env, scan.relation, scan.only)? {
        env.shared.work()?;
        let frame = Frame { row: &row, parent: Some(outer) };
        if holds(env, scan.security.as_deref(), &frame)? {
            found.push(row.into_owned());
        }
    }
    Ok(found)
}

/// The place of a row: the relation that keeps it, and its position there.
pub(crate) type Place = (Oid, usize);

/// A row with its place.
pub(crate) type StoredRow<'r> = (Place, Cow<'r, [Value]>);

/// The rows of a table with those of its partitions, in the order of the table's columns.
pub(crate) fn stored_rows<'e>(
    env: &Env<'e>,
    relation: Oid,
    only: bool,
) -> Result<Vec<StoredRow<'e>>, SqlError> {
    let table = env.db.relation(relation)?;
    if let Some(sequence) = &table.sequence {
        let last = env.shared.sequences.borrow().get(&relation).copied().unwrap_or(sequence.next);
        let row = vec![Value::Int(last), Value::Int(0), Value::Bool(last > sequence.start)];
        return Ok(vec![((relation, 0), Cow::Owned(row))]);
    }
    let own = table.rows.iter().enumerate();
    let mut found: Vec<StoredRow<'_>> =
        own.map(|(place, row)| ((relation, place), Cow::Borrowed(row.as_slice()))).collect();
    if !only {
        for partition in env.db.partitions_of(relation) {
            found.extend(stored_rows(env, partition.oid, false)?);
        }
    }
    Ok(found)
}

fn join_rows(env: &Env<'_>, join: &Join, outer: &Frame<'_>) -> Result<Vec<Row>, SqlError> {
    let left = rows(env, &join.left, outer)?;
    let shared = if join.lateral { None } else { Some(rows(env, &join.right, outer)?) };
    let mut right_used = vec![false; shared.as_ref().map_or(0, Vec::len)];
    let mut found = Vec::new();
    for left_row in left {
        let own;
        let right = match &shared {
            Some(rows) => rows,
            None => {
                let frame = Frame { row: &left_row, parent: Some(outer) };
                own = rows_beside(env, join, &frame)?;
                &own
            }
        };
        let mut partner = false;
        for (place, right_row) in right.iter().enumerate() {
            env.shared.work()?;
            let row: Row = left_row.iter().chain(right_row).cloned().collect();
            let frame = Frame { row: &row, parent: Some(outer) };
            if holds(env, join.on.as_ref(), &frame)? {
                partner = true;
                if let Some(used) = right_used.get_mut(place) {
                    *used = true;
                }
                found.push(row);
            }
        }
        if join.keep_left && !partner {
            found.push(padded(left_row, join.right_width));
        }
    }
    if join.keep_right {
        for (row, used) in shared.unwrap_or_default().into_iter().zip(right_used) {
            if !used {
                let mut padded = vec![Value::Null; join.left_width];
                padded.extend(row);
                found.push(padded);
            }
        }
    }
    Ok(found)
}

fn rows_beside(env: &Env<'_>, join: &Join, left: &Frame<'_>) -> Result<Vec<Row>, SqlError> {
    rows(env, &join.right, left)
}

fn padded(mut row: Row, width: usize) -> Row {
    row.extend(std::iter::repeat_n(Value::Null, width));
    row
}

fn function_rows(
    env: &Env<'_>,
    function: &TableFunction,
    outer: &Frame<'_>,
) -> Result<Vec<Row>, SqlError> {
    match function {
        TableFunction::Scalar(expr) => Ok(vec![vec![eval(env, expr, outer)?]]),
        TableFunction::Call { kind, args } => set_rows(env, *kind, &eval_all(env, args, outer)?),
        TableFunction::User { function, args, width } => {
            let values = eval_all(env, args, outer)?;
            let mut rows = call(env, *function, values)?;
            // A function that gives one row gives one even when its query found none.
            let set = env.db.functions.get(function).is_some_and(|function| function.returns.set);
            if !set {
                rows.truncate(1);
                if rows.is_empty() {
                    rows.push(vec![Value::Null; *width]);
                }
            }
            Ok(rows)
        }
        TableFunction::Ordinality(inner) => {
            let mut rows = function_rows(env, inner, outer)?;
            for (row, number) in rows.iter_mut().zip(1..) {
                row.push(Value::Int(number));
            }
            Ok(rows)
        }
    }
}

fn set_rows(env: &Env<'_>, kind: SetFunction, args: &[Value]) -> Result<Vec<Row>, SqlError> {
    let first = args.first().cloned().unwrap_or(Value::Null);
    match kind {
        SetFunction::Unnest => Ok(first.elements().iter().map(|item| vec![item.clone()]).collect()),
        SetFunction::GenerateSeries => series(args),
        SetFunction::AclExplode => sys::acl_explode(env, &first),
        SetFunction::JsonArrayElements | SetFunction::JsonArrayElementsText => {
            let items = match first {
                Value::Null => return Ok(Vec::new()),
                Value::Json(serde_json::Value::Array(items)) => items,
                _ => {
                    let text = "cannot extract elements from a scalar or an object";
                    return Err(SqlError::new(code::INVALID_PARAMETER, text));
                }
            };
            let row = |item: serde_json::Value| match (kind, item) {
                (SetFunction::JsonArrayElementsText, serde_json::Value::Null) => vec![Value::Null],
                (SetFunction::JsonArrayElementsText, serde_json::Value::String(text)) => {
                    vec![Value::Text(text)]
                }
                (SetFunction::JsonArrayElementsText, item) => {
                    vec![Value::Text(super::super::value::text::print_jsonb(&item))]
                }
                (_, item) => vec![Value::Json(item)],
            };
            Ok(items.into_iter().map(row).collect())
        }
    }
}

fn series(args: &[Value]) -> Result<Vec<Row>, SqlError> {
    let mut numbers = args.iter().map(Value::as_int);
    let (Some(Some(from)), Some(Some(to))) = (numbers.next(), numbers.next()) else {
        return Ok(Vec::new());
    };
    let step = match numbers.next() {
        None => 1,
        Some(Some(step)) => step,
        Some(None) => return Ok(Vec::new()),
    };
    if step == 0 {
        return Err(SqlError::new(code::INVALID_PARAMETER, "step size cannot equal zero"));
    }
    let mut found = Vec::new();
    let mut next = from;
    while (step > 0 && next <= to) || (step < 0 && next >= to) {
        found.push(vec![Value::Int(next)]);
        if i64::try_from(found.len()).unwrap_or(i64::MAX) > SERIES_MAX {
            return Err(SqlError::new(code::PROGRAM_LIMIT, "series is too long"));
        }
        let Some(following) = next.checked_add(step) else { break };
        next = following;
    }
    Ok(found)
}

/// Calls a function as a value: the first column of the first row it finds.
pub(crate) fn call_scalar(
    env: &Env<'_>,
    function: Oid,
    args: Vec<Value>,
) -> Result<Value, SqlError> {
    let mut rows = call(env, function, args)?;
    if rows.is_empty() {
        return Ok(Value::Null);
    }
    Ok(rows.swap_remove(0).into_iter().next().unwrap_or(Value::Null))
}

/// Runs the body of a function as the role it runs as, under its own settings.
fn call(env: &Env<'_>, function: Oid, args: Vec<Value>) -> Result<Vec<Row>, SqlError> {
    let _depth = env.shared.enter()?;
    let found = env.db.functions.get(&function);
    let found = found.ok_or_else(|| SqlError::internal("a function is missing"))?;
    if found.strict && args.iter().any(Value::is_null) {
        return Ok(if found.returns.set { Vec::new() } else { vec![vec![Value::Null]] });
    }
    let mut inner = env.clone();
    inner.params = args;
    if found.definer {
        inner.role = found.owner;
    }
    for setting in &found.config {
        if let Some((name, value)) = setting.split_once('=') {
            if name == "search_path" {
                inner.path = settings::split_path(value);
            }
            inner.config.push((name.to_owned(), value.to_owned()));
        }
    }
    let plan = bind::routine::body(&inner, found)?;
    query::rows(&inner, &plan, &Frame::EMPTY)
}
