//! Evaluates expressions, with nulls meaning "unknown" as in SQL.

use std::cmp::Ordering;

use super::super::error::{SqlError, code};
use super::super::func;
use super::super::plan::{Arithmetic, Comparison, Expr, SubqueryKind};
use super::super::value::decimal::Decimal;
use super::super::value::sql_type::Type;
use super::super::value::time::{self, Interval};
use super::super::value::{Value, compare, decimal_of, float_of};
use super::{Env, Frame, cast, query};

/// Evaluates an expression over a row.
pub(crate) fn eval(env: &Env<'_>, expr: &Expr, frame: &Frame<'_>) -> Result<Value, SqlError> {
    let _depth = env.shared.enter()?;
    match expr {
        Expr::Const(value) => Ok(value.clone()),
        Expr::Column { up, index } => frame.value(*up, *index),
        Expr::Param(index) => env
            .params
            .get(*index)
            .cloned()
            .ok_or_else(|| SqlError::internal("a parameter is missing")),
        Expr::Cast { expr, from, to, explicit } => {
            cast::cast(env, &eval(env, expr, frame)?, (from, to), *explicit)
        }
        Expr::Call { function, args, types } => {
            let values = eval_all(env, args, frame)?;
            func::call(env, *function, &values, types)
        }
        Expr::UserCall { function, args } => {
            let values = eval_all(env, args, frame)?;
            super::source::call_scalar(env, *function, values)
        }
        Expr::Subquery { kind, query } => subquery(env, kind, query, frame),
        Expr::Array(items) => Ok(Value::Array(eval_all(env, items, frame)?)),
        Expr::Row(items) => Ok(Value::Row(eval_all(env, items, frame)?)),
        Expr::Aggregate(_) => Err(SqlError::internal("an aggregate outside of a group")),
        Expr::Arithmetic { op, left, right, ty } => {
            arithmetic(*op, &eval(env, left, frame)?, &eval(env, right, frame)?, ty)
        }
        Expr::Element { array, index } => {
            Ok(element(&eval(env, array, frame)?, &eval(env, index, frame)?))
        }
        _ => condition(env, expr, frame),
    }
}

pub(crate) fn eval_all(
    env: &Env<'_>,
    items: &[Expr],
    frame: &Frame<'_>,
) -> Result<Vec<Value>, SqlError> {
    items.iter().map(|item| eval(env, item, frame)).collect()
}

fn condition(env: &Env<'_>, expr: &Expr, frame: &Frame<'_>) -> Result<Value, SqlError> {
    match expr {
        Expr::Not(inner) => Ok(match eval(env, inner, frame)? {
            Value::Bool(value) => Value::Bool(!value),
            other => other,
        }),
        Expr::And(items) => connect(env, items, frame, false),
        Expr::Or(items) => connect(env, items, frame, true),
        Expr::IsNull { expr, negated } => {
            Ok(Value::Bool(eval(env, expr, frame)?.is_null() != *negated))
        }
        Expr::Is { expr, truth, negated } => {
            let held = eval(env, expr, frame)? == Value::Bool(*truth);
            Ok(Value::Bool(held != *negated))
        }
        Expr::Distinct { left, right, negated } => {
            let (left, right) = (eval(env, left, frame)?, eval(env, right, frame)?);
            Ok(Value::Bool(compare(&left, &right).is_ne() != *negated))
        }
        Expr::Compare { op, left, right } => {
            Ok(compared(*op, &eval(env, left, frame)?, &eval(env, right, frame)?))
        }
        Expr::Like { expr, pattern, insensitive, negated } => {
            let (text, pattern) = (eval(env, expr, frame)?, eval(env, pattern, frame)?);
            let (Some(text), Some(pattern)) = (text.as_str(), pattern.as_str()) else {
                return Ok(Value::Null);
            };
            let found = if *insensitive {
                like(&text.to_lowercase(), &pattern.to_lowercase())?
            } else {
                like(text, pattern)?
            };
            Ok(Value::Bool(found != *negated))
        }
        Expr::Quantified { op, all, left, array } => {
            let left = eval(env, left, frame)?;
            match eval(env, array, frame)? {
                Value::Array(items) => Ok(quantify(*op, *all, &left, &items)),
                _ => Ok(Value::Null),
            }
        }
        _ => choice(env, expr, frame),
    }
}

fn choice(env: &Env<'_>, expr: &Expr, frame: &Frame<'_>) -> Result<Value, SqlError> {
    match expr {
        Expr::Case { branches, otherwise } => {
            for (condition, result) in branches {
                if eval(env, condition, frame)?.is_true() {
                    return eval(env, result, frame);
                }
            }
            eval(env, otherwise, frame)
        }
        Expr::Coalesce(items) => {
            for item in items {
                let value = eval(env, item, frame)?;
                if !value.is_null() {
                    return Ok(value);
                }
            }
            Ok(Value::Null)
        }
        Expr::Extremum { items, greatest } => {
            let mut found = Value::Null;
            for value in eval_all(env, items, frame)? {
                let wanted = if *greatest { Ordering::Greater } else { Ordering::Less };
                if !value.is_null() && (found.is_null() || compare(&value, &found) == wanted) {
                    found = value;
                }
            }
            Ok(found)
        }
        _ => Err(SqlError::internal("an expression has no evaluation")),
    }
}

/// Evaluates `AND` (decided by the first false) or `OR` (by the first true).
fn connect(
    env: &Env<'_>,
    items: &[Expr],
    frame: &Frame<'_>,
    decisive: bool,
) -> Result<Value, SqlError> {
    let mut unknown = false;
    for item in items {
        match eval(env, item, frame)? {
            Value::Bool(value) if value == decisive => return Ok(Value::Bool(decisive)),
            Value::Null => unknown = true,
            _ => {}
        }
    }
    Ok(if unknown { Value::Null } else { Value::Bool(!decisive) })
}

/// Compares two values; a null on either side gives null.
pub(crate) fn compared(op: Comparison, left: &Value, right: &Value) -> Value {
    if left.is_null() || right.is_null() {
        return Value::Null;
    }
    let order = compare(left, right);
    Value::Bool(match op {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
    })
}

fn quantify(op: Comparison, all: bool, left: &Value, items: &[Value]) -> Value {
    let mut unknown = false;
    for item in items {
        match compared(op, left, item) {
            Value::Bool(held) if held != all => return Value::Bool(!all),
            Value::Null => unknown = true,
            _ => {}
        }
    }
    if unknown { Value::Null } else { Value::Bool(all) }
}

fn subquery(
    env: &Env<'_>,
    kind: &SubqueryKind,
    plan: &super::super::plan::QueryPlan,
    frame: &Frame<'_>,
) -> Result<Value, SqlError> {
    let rows = query::rows(env, plan, frame)?;
    match kind {
        SubqueryKind::Exists => Ok(Value::Bool(!rows.is_empty())),
        SubqueryKind::Scalar => {
            if rows.len() > 1 {
                let text = "more than one row returned by a subquery used as an expression";
                return Err(SqlError::new(code::CARDINALITY, text));
            }
            Ok(rows
                .into_iter()
                .next()
                .and_then(|row| row.into_iter().next())
                .unwrap_or(Value::Null))
        }
        SubqueryKind::Array => Ok(Value::Array(first_column(rows))),
        SubqueryKind::Quantified { left, op, all } => {
            let left = eval(env, left, frame)?;
            Ok(quantify(*op, *all, &left, &first_column(rows)))
        }
    }
}

fn first_column(rows: Vec<Vec<Value>>) -> Vec<Value> {
    rows.into_iter().filter_map(|row| row.into_iter().next()).collect()
}

fn element(array: &Value, index: &Value) -> Value {
    let place = index.as_int().and_then(|index| usize::try_from(index).ok());
    let place = place.and_then(|place| place.checked_sub(1));
    place.and_then(|place| array.elements().get(place)).cloned().unwrap_or(Value::Null)
}

/// Matches `LIKE`, with `%`, `_` and a backslash that takes the next symbol as it is.
pub(crate) fn like(text: &str, pattern: &str) -> Result<bool, SqlError> {
    let mut parts = Vec::new();
    let mut symbols = pattern.chars();
    while let Some(symbol) = symbols.next() {
        parts.push(match symbol {
            '%' => Wild::Many,
            '_' => Wild::One,
            '\\' => Wild::Just(symbols.next().ok_or_else(|| {
                SqlError::new("22025", "LIKE pattern must not end with escape character")
            })?),
            other => Wild::Just(other),
        });
    }
    // The set of places in the pattern that the text so far can have reached.
    let mut reached = vec![false; parts.len().saturating_add(1)];
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    spread(&mut reached, &parts);
    for symbol in text.chars() {
        let mut next = vec![false; reached.len()];
        for (place, part) in parts.iter().enumerate() {
            let here = reached.get(place).copied().unwrap_or(false);
            let (fits, step) = match part {
                Wild::Many => (true, 0),
                Wild::One => (true, 1),
                Wild::Just(wanted) => (*wanted == symbol, 1),
            };
            if let Some(slot) = next.get_mut(place.saturating_add(step)).filter(|_| here && fits) {
                *slot = true;
            }
        }
        spread(&mut next, &parts);
        reached = next;
    }
    Ok(reached.last().copied().unwrap_or(false))
}

enum Wild {
    Many,
    One,
    Just(char),
}

/// A `%` may stand for nothing, so what reaches it reaches the place behind it.
fn spread(reached: &mut [bool], parts: &[Wild]) {
    for (place, part) in parts.iter().enumerate() {
        let here = reached.get(place).copied().unwrap_or(false);
        if let Some(slot) = reached.get_mut(place.saturating_add(1))
            && here
            && matches!(part, Wild::Many)
        {
            *slot = true;
        }
    }
}

pub(crate) fn arithmetic(
    op: Arithmetic,
    left: &Value,
    right: &Value,
    ty: &Type,
) -> Result<Value, SqlError> {
    if left.is_null() || right.is_null() {
        return Ok(Value::Null);
    }
    let divides = matches!(op, Arithmetic::Divide | Arithmetic::Modulo);
    if divides && float_of(right).is_some_and(|value| value == 0.0) {
        return Err(SqlError::new(code::DIVISION_BY_ZERO, "division by zero"));
    }
    let result = match (left, right) {
        (Value::Int(a), Value::Int(b)) => {
            integers(op, *a, *b).filter(|value| fits(*value, ty)).map(Value::Int)
        }
        (Value::Float(_), _) | (_, Value::Float(_)) => {
            let pair = float_of(left).zip(float_of(right));
            pair.map(|(a, b)| floats(op, a, b)).filter(|value| value.is_finite()).map(Value::Float)
        }
        (Value::Time(micros), Value::Interval(interval)) => moved(op, *micros, interval),
        (Value::Interval(interval), Value::Time(micros)) => moved(op, *micros, interval),
        (Value::Date(days), Value::Interval(interval)) => {
            time::midnight(*days).and_then(|micros| moved(op, micros, interval))
        }
        (Value::Interval(interval), Value::Date(days)) => {
            time::midnight(*days).and_then(|micros| moved(op, micros, interval))
        }
        (Value::Date(days), Value::Int(count)) => {
            let count = if op == Arithmetic::Subtract { count.checked_neg() } else { Some(*count) };
            count.and_then(|count| days.checked_add(count)).map(Value::Date)
        }
        (Value::Date(a), Value::Date(b)) => a.checked_sub(*b).map(Value::Int),
        _ => decimals(op, left, right).map(Value::Decimal),
    };
    result.ok_or_else(|| SqlError::new(code::OUT_OF_RANGE, format!("{} out of range", ty.label())))
}

fn integers(op: Arithmetic, left: i64, right: i64) -> Option<i64> {
    match op {
        Arithmetic::Add => left.checked_add(right),
        Arithmetic::Subtract => left.checked_sub(right),
        Arithmetic::Multiply => left.checked_mul(right),
        Arithmetic::Divide => left.checked_div(right),
        // The smallest number modulo minus one is zero, although the division overflows.
        Arithmetic::Modulo => Some(left.checked_rem(right).unwrap_or(0)),
    }
}

fn fits(value: i64, ty: &Type) -> bool {
    match ty {
        Type::Int2 => i16::try_from(value).is_ok(),
        Type::Int4 => i32::try_from(value).is_ok(),
        _ => true,
    }
}

fn floats(op: Arithmetic, left: f64, right: f64) -> f64 {
    match op {
        Arithmetic::Add => left + right,
        Arithmetic::Subtract => left - right,
        Arithmetic::Multiply => left * right,
        Arithmetic::Divide => left / right,
        Arithmetic::Modulo => left % right,
    }
}

fn decimals(op: Arithmetic, left: &Value, right: &Value) -> Option<Decimal> {
    let (left, right) = (decimal_of(left)?, decimal_of(right)?);
    match op {
        Arithmetic::Add => left.add(&right),
        Arithmetic::Subtract => left.subtract(&right),
        Arithmetic::Multiply => left.multiply(&right),
        Arithmetic::Divide | Arithmetic::Modulo => None,
    }
}

fn moved(op: Arithmetic, micros: i64, interval: &Interval) -> Option<Value> {
    let interval = match op {
        Arithmetic::Subtract => interval.negate()?,
        _ => *interval,
    };
    time::shift(micros, &interval).map(Value::Time)
}
