//! Values and their order, apart from the types that give them meaning.
//!
//! One [`Value`] serves many types: a `bigint`, an `oid` and a `regclass` are all [`Value::Int`]. The
//! bound expression knows the type; [`sql_type`] names types and [`text`] reads and prints values.

pub(crate) mod decimal;
pub(crate) mod sql_type;
pub(crate) mod text;
pub(crate) mod time;

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::decimal::Decimal;
use self::time::Interval;

/// One value of a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Decimal(Decimal),
    Float(f64),
    Text(String),
    Uuid(Uuid),
    Json(serde_json::Value),
    /// Microseconds since 1970-01-01 UTC.
    Time(i64),
    /// Days since 1970-01-01.
    Date(i64),
    Interval(Interval),
    Array(Vec<Self>),
    Row(Vec<Self>),
}

impl Value {
    pub(crate) fn text(value: impl Into<String>) -> Self {
        Self::Text(value.into())
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    pub(crate) fn is_true(&self) -> bool {
        matches!(self, Self::Bool(true))
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// Reads a value that holds the number of an object.
    pub(crate) fn as_oid(&self) -> Option<u32> {
        self.as_int().and_then(|value| u32::try_from(value).ok())
    }

    pub(crate) fn elements(&self) -> &[Self] {
        match self {
            Self::Array(items) | Self::Row(items) => items,
            _ => &[],
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(i64::from(value))
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

/// Orders two values of one type; nulls come last, as in an ascending index.
///
/// Values that no type brings together compare as equal: the binder refuses such a comparison before
/// it can be evaluated.
pub(crate) fn compare(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Greater,
        (_, Value::Null) => Ordering::Less,
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        (Value::Uuid(a), Value::Uuid(b)) => a.cmp(b),
        (Value::Time(a), Value::Time(b)) | (Value::Date(a), Value::Date(b)) => a.cmp(b),
        (Value::Interval(a), Value::Interval(b)) => a.span().cmp(&b.span()),
        (Value::Array(a), Value::Array(b)) | (Value::Row(a), Value::Row(b)) => compare_lists(a, b),
        (Value::Json(a), Value::Json(b)) => compare_json(a, b),
        (a, b) => compare_numbers(a, b),
    }
}

fn compare_lists(left: &[Value], right: &[Value]) -> Ordering {
    left.iter()
        .zip(right)
        .map(|(a, b)| compare(a, b))
        .find(|order| order.is_ne())
        .unwrap_or_else(|| left.len().cmp(&right.len()))
}

fn compare_numbers(left: &Value, right: &Value) -> Ordering {
    if let (Value::Int(a), Value::Int(b)) = (left, right) {
        return a.cmp(b);
    }
    if let (Some(a), Some(b)) = (decimal_of(left), decimal_of(right)) {
        return a.compare(&b);
    }
    // NaN sorts above every number, as in the server.
    float_of(left).zip(float_of(right)).map_or(Ordering::Equal, |(a, b)| {
        a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
    })
}

pub(crate) fn decimal_of(value: &Value) -> Option<Decimal> {
    match value {
        Value::Int(value) => Some(Decimal::from_int(*value)),
        Value::Decimal(value) => Some(value.clone()),
        _ => None,
    }
}

pub(crate) fn float_of(value: &Value) -> Option<f64> {
    match value {
        Value::Float(value) => Some(*value),
        other => decimal_of(other).and_then(|value| value.to_string().parse().ok()),
    }
}

/// Orders documents as `jsonb` does: null, string, number, boolean, array, object.
fn compare_json(left: &serde_json::Value, right: &serde_json::Value) -> Ordering {
    use serde_json::Value as Json;
    match (left, right) {
        (Json::String(a), Json::String(b)) => a.cmp(b),
        (Json::Bool(a), Json::Bool(b)) => a.cmp(b),
        (Json::Number(a), Json::Number(b)) => {
            a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal)
        }
        (Json::Array(a), Json::Array(b)) => a.len().cmp(&b.len()).then_with(|| {
            let found = a.iter().zip(b).map(|(x, y)| compare_json(x, y)).find(|o| o.is_ne());
            found.unwrap_or(Ordering::Equal)
        }),
        (Json::Object(a), Json::Object(b)) => a.len().cmp(&b.len()).then_with(|| {
            let pairs = a.iter().zip(b);
            let order = |((ka, va), (kb, vb)): ((&String, &Json), (&String, &Json))| {
                ka.cmp(kb).then_with(|| compare_json(va, vb))
            };
            pairs.map(order).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
        }),
        (a, b) => json_rank(a).cmp(&json_rank(b)),
    }
}

fn json_rank(value: &serde_json::Value) -> u8 {
    match value {
        serde_json::Value::Null => 0,
        serde_json::Value::String(_) => 1,
        serde_json::Value::Number(_) => 2,
        serde_json::Value::Bool(_) => 3,
        serde_json::Value::Array(_) => 4,
        serde_json::Value::Object(_) => 5,
    }
}
