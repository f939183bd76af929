//! Groups rows and folds them.

use std::collections::BTreeMap;

use super::super::error::{SqlError, code};
use super::super::plan::{Aggregate, AggregateKind, Arithmetic, Group};
use super::super::state::Row;
use super::super::value::sql_type::Type;
use super::super::value::text;
use super::super::value::{Value, compare};
use super::expr::{arithmetic, eval_all};
use super::query::{compare_keys, compare_rows, distinct, holds};
use super::{Env, Frame};

/// A row as a key of an ordered map.
#[derive(Debug)]
struct Key(Row);

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        compare_rows(&self.0, &other.0)
    }
}

/// Puts rows with equal keys together and gives one row for each group.
pub(crate) fn group(
    env: &Env<'_>,
    group: &Group,
    rows: Vec<Row>,
    outer: &Frame<'_>,
) -> Result<Vec<Row>, SqlError> {
    let mut groups: BTreeMap<Key, Vec<Row>> = BTreeMap::new();
    if group.keys.is_empty() {
        // Without keys there is one group, even when there are no rows.
        groups.insert(Key(Vec::new()), rows);
    } else {
        for row in rows {
            let frame = Frame { row: &row, parent: Some(outer) };
            let key = Key(eval_all(env, &group.keys, &frame)?);
            groups.entry(key).or_default().push(row);
        }
    }
    let mut found = Vec::new();
    for (Key(mut row), members) in groups {
        for aggregate in &group.aggregates {
            row.push(fold(env, aggregate, &members, outer)?);
        }
        found.push(row);
    }
    Ok(found)
}

fn fold(
    env: &Env<'_>,
    aggregate: &Aggregate,
    rows: &[Row],
    outer: &Frame<'_>,
) -> Result<Value, SqlError> {
    let mut inputs = Vec::new();
    for row in rows {
        let frame = Frame { row, parent: Some(outer) };
        if !holds(env, aggregate.filter.as_ref(), &frame)? {
            continue;
        }
        let args = eval_all(env, &aggregate.args, &frame)?;
        let keys: Vec<_> = aggregate.order.iter().map(|key| key.expr.clone()).collect();
        inputs.push((eval_all(env, &keys, &frame)?, args));
    }
    inputs.sort_by(|(a, _), (b, _)| compare_keys(a, b, &aggregate.order));
    let mut inputs: Vec<Row> = inputs.into_iter().map(|(_, args)| args).collect();
    if aggregate.distinct {
        inputs = distinct(inputs);
        if aggregate.order.is_empty() {
            inputs.sort_by(|a, b| compare_rows(a, b));
        }
    }
    let ty = aggregate.types.first().unwrap_or(&Type::Unknown);
    finish(aggregate.kind, inputs, ty)
}

fn finish(kind: AggregateKind, inputs: Vec<Row>, ty: &Type) -> Result<Value, SqlError> {
    if kind == AggregateKind::CountRows {
        return Ok(count(inputs.len()));
    }
    let ordered = matches!(kind, AggregateKind::ArrayAgg | AggregateKind::JsonAgg);
    let present = |row: &Row| ordered || row.first().is_some_and(|value| !value.is_null());
    let inputs: Vec<Row> = inputs.into_iter().filter(present).collect();
    if kind == AggregateKind::Count {
        return Ok(count(inputs.len()));
    }
    if inputs.is_empty() {
        return Ok(Value::Null);
    }
    let values = inputs.iter().filter_map(|row| row.first());
    match kind {
        AggregateKind::CountRows | AggregateKind::Count => Ok(Value::Null),
        AggregateKind::Sum => sum(values, ty),
        AggregateKind::Min => Ok(values.min_by(|a, b| compare(a, b)).cloned().into()),
        AggregateKind::Max => Ok(values.max_by(|a, b| compare(a, b)).cloned().into()),
        AggregateKind::BoolAnd => Ok(Value::Bool(values.into_iter().all(Value::is_true))),
        AggregateKind::BoolOr => Ok(Value::Bool(values.into_iter().any(Value::is_true))),
        AggregateKind::ArrayAgg => Ok(Value::Array(values.cloned().collect())),
        AggregateKind::JsonAgg => {
            let items = values.map(|value| plain_json(value, ty)).collect();
            Ok(Value::Json(serde_json::Value::Array(items)))
        }
        AggregateKind::StringAgg => {
            let mut joined = String::new();
            for (place, row) in inputs.iter().enumerate() {
                let mut parts = row.iter();
                let text = parts.next().and_then(Value::as_str).unwrap_or_default();
                if place > 0 {
                    joined.push_str(parts.next().and_then(Value::as_str).unwrap_or_default());
                }
                joined.push_str(text);
            }
            Ok(Value::Text(joined))
        }
    }
}

fn count(rows: usize) -> Value {
    Value::Int(i64::try_from(rows).unwrap_or(i64::MAX))
}

fn sum<'v>(values: impl Iterator<Item = &'v Value>, ty: &Type) -> Result<Value, SqlError> {
    // The sum of small integers is wide, and that of wide ones is exact.
    let result = match ty {
        Type::Int2 | Type::Int4 => Type::Int8,
        Type::Float8 => Type::Float8,
        _ => Type::Numeric(None),
    };
    let mut total: Option<Value> = None;
    for value in values {
        let value = match (value, &result) {
            (Value::Int(number), Type::Numeric(_)) => {
                Value::Decimal(super::super::value::decimal::Decimal::from_int(*number))
            }
            (other, _) => other.clone(),
        };
        total = Some(match total {
            None => value,
            Some(total) => arithmetic(Arithmetic::Add, &total, &value, &result)?,
        });
    }
    total.ok_or_else(|| SqlError::new(code::OUT_OF_RANGE, "nothing to add"))
}

/// Gives a value the form it has inside a JSON document.
pub(crate) fn plain_json(value: &Value, ty: &Type) -> serde_json::Value {
    match (value, ty) {
        (Value::Null, _) => serde_json::Value::Null,
        (Value::Int(number), _) => serde_json::Value::from(*number),
        (Value::Decimal(number), _) => {
            serde_json::from_str(&number.to_string()).unwrap_or(serde_json::Value::Null)
        }
        (Value::Array(items), Type::Array(element)) => {
            items.iter().map(|item| plain_json(item, element)).collect()
        }
        (Value::Time(_), ty) => {
            // Inside a document a moment is in ISO form.
            let printed = text::print(value, ty).replacen(' ', "T", 1);
            let zoned = if *ty == Type::Timestamptz { format!("{printed}:00") } else { printed };
            serde_json::Value::String(zoned)
        }
        (value, ty) => text::to_json(value, ty),
    }
}
