//! Turns a value of one type into a value of another.

use super::super::error::{SqlError, code};
use super::super::func::names;
use super::super::value::sql_type::Type;
use super::super::value::text;
use super::super::value::time;
use super::super::value::{Value, decimal_of, float_of};
use super::Env;

/// Casts a value; whether the cast exists was decided when the expression was bound.
pub(crate) fn cast(
    env: &Env<'_>,
    value: &Value,
    types: (&Type, &Type),
    explicit: bool,
) -> Result<Value, SqlError> {
    let (from, to) = types;
    if value.is_null() {
        return Ok(Value::Null);
    }
    if let (Type::Array(from), Type::Array(to)) = (from, to) {
        let items = value.elements().iter().map(|item| cast(env, item, (from, to), explicit));
        return Ok(Value::Array(items.collect::<Result<_, _>>()?));
    }
    match to {
        Type::Varchar(_) if explicit => return cut(&print(env, value, from), to),
        Type::Text | Type::Varchar(_) | Type::Name | Type::InternalChar | Type::NodeTree => {
            return text::parse(&print(env, value, from), to);
        }
        _ => {}
    }
    if let Some(literal) = value.as_str().filter(|_| from.is_string() || *from == Type::Unknown) {
        return if to.is_registered() {
            names::registered(env, literal, to)
        } else if let Type::Array(element) = to
            && element.is_registered()
        {
            Err(SqlError::unsupported(format!("literals of type {}", to.label())))
        } else {
            text::parse(literal, to)
        };
    }
    convert(value, from, to)
}

/// An explicit cast to a shorter type cuts without asking.
fn cut(printed: &str, to: &Type) -> Result<Value, SqlError> {
    let Type::Varchar(Some(length)) = to else { return Ok(Value::text(printed)) };
    let length = usize::try_from(*length).unwrap_or(usize::MAX);
    Ok(Value::Text(printed.chars().take(length).collect()))
}

fn convert(value: &Value, from: &Type, to: &Type) -> Result<Value, SqlError> {
    if let Value::Json(json) = value {
        return from_json(json, to);
    }
    let converted = match to {
        Type::Int2 => whole(value, i64::from(i16::MIN), i64::from(i16::MAX)),
        Type::Int4 => whole(value, i64::from(i32::MIN), i64::from(i32::MAX)),
        Type::Int8 => whole(value, i64::MIN, i64::MAX),
        to if to.is_object_id() => whole(value, 0, i64::from(u32::MAX)),
        Type::Numeric(modifier) => {
            let number = decimal_of(value).or_else(|| match value {
                Value::Float(float) => {
                    super::super::value::decimal::Decimal::parse(&float.to_string())
                }
                _ => None,
            });
            return text::round(number.ok_or_else(|| out_of_range(to))?, *modifier);
        }
        Type::Float8 => float_of(value).map(Value::Float),
        Type::Bool => value.as_int().map(|number| Value::Bool(number != 0)),
        Type::Timestamp | Type::Timestamptz => match value {
            Value::Date(days) => time::midnight(*days).map(Value::Time),
            other => Some(other.clone()),
        },
        Type::Date => match value {
            Value::Time(micros) => Some(Value::Date(time::date_of(*micros))),
            other => Some(other.clone()),
        },
        _ if from.base() == to.base() => Some(value.clone()),
        _ => None,
    };
    converted.ok_or_else(|| out_of_range(to))
}

fn out_of_range(to: &Type) -> SqlError {
    SqlError::new(code::OUT_OF_RANGE, format!("{} out of range", to.label()))
}

fn whole(value: &Value, min: i64, max: i64) -> Option<Value> {
    let number = match value {
        Value::Bool(value) => i64::from(*value),
        Value::Float(float) => {
            super::super::value::decimal::Decimal::parse(&float.to_string())?.to_int()?
        }
        other => decimal_of(other)?.to_int()?,
    };
    (min..=max).contains(&number).then_some(Value::Int(number))
}

fn from_json(json: &serde_json::Value, to: &Type) -> Result<Value, SqlError> {
    match (json, to) {
        (json, Type::Json | Type::Jsonb) => Ok(Value::Json(json.clone())),
        (serde_json::Value::Null, _) => Ok(Value::Null),
        (serde_json::Value::Bool(value), Type::Bool) => Ok(Value::Bool(*value)),
        (serde_json::Value::Number(number), to) if to.is_number() => {
            let exact = text::parse(&number.to_string(), &Type::Numeric(None))?;
            convert(&exact, &Type::Numeric(None), to)
        }
        _ => {
            let text = format!("cannot cast jsonb value to type {}", to.label());
            Err(SqlError::new(code::INVALID_PARAMETER, text))
        }
    }
}

/// Prints a value as it appears inside of other texts, where a boolean is one letter.
pub(crate) fn output(env: &Env<'_>, value: &Value, ty: &Type) -> String {
    match value {
        Value::Bool(value) => if *value { "t" } else { "f" }.to_owned(),
        other => print(env, other, ty),
    }
}

/// Prints a value as its type does, names of objects included.
pub(crate) fn print(env: &Env<'_>, value: &Value, ty: &Type) -> String {
    match (value, ty) {
        (Value::Int(_), ty) if ty.is_registered() => names::print(env, value, ty),
        (Value::Array(items), Type::Array(element)) if element.is_registered() => {
            let item = |item: &Value| (!item.is_null()).then(|| print(env, item, element));
            text::print_elements(&items.iter().map(item).collect::<Vec<_>>())
        }
        (value, ty) => text::print(value, ty),
    }
}
