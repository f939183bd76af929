//! Reads and prints values as text, and prints them for a JSON answer.

use serde_json::Value as Json;
use uuid::Uuid;

use super::super::error::{SqlError, code};
use super::Value;
use super::decimal::Decimal;
use super::sql_type::Type;
use super::time::{self, Interval};

/// Largest whole number that JavaScript keeps exact; the database API gives larger ones as text.
const SAFE_INTEGER: i64 = 9_007_199_254_740_991;

/// Reads a literal of a type whose text form needs no catalog.
pub(crate) fn parse(text: &str, to: &Type) -> Result<Value, SqlError> {
    let parsed = match to {
        Type::Unknown | Type::Text | Type::NodeTree => Some(Value::text(text)),
        Type::Varchar(length) => return limit(text, *length),
        Type::Name => Some(Value::Text(truncate_name(text))),
        Type::InternalChar => Some(Value::Text(text.chars().take(1).collect())),
        Type::Bool => parse_bool(text).map(Value::Bool),
        Type::Int2 => return integer(text, i64::from(i16::MIN), i64::from(i16::MAX), to),
        Type::Int4 => return integer(text, i64::from(i32::MIN), i64::from(i32::MAX), to),
        Type::Int8 => return integer(text, i64::MIN, i64::MAX, to),
        Type::Oid => return integer(text, 0, i64::from(u32::MAX), to),
        Type::Numeric(modifier) => {
            let value = Decimal::parse(text).ok_or_else(|| invalid(text, to))?;
            return round(value, *modifier);
        }
        // Infinities and NaN have no place in a JSON snapshot.
        Type::Float8 => {
            text.trim().parse().ok().filter(|value: &f64| value.is_finite()).map(Value::Float)
        }
        Type::Uuid => parse_uuid(text).map(Value::Uuid),
        Type::Json | Type::Jsonb => serde_json::from_str(text).ok().map(Value::Json),
        Type::Timestamp | Type::Timestamptz => {
            return time::parse_moment(text).map(Value::Time).ok_or_else(|| bad_time(text, to));
        }
        Type::Date => {
            return time::parse_date(text).map(Value::Date).ok_or_else(|| bad_time(text, to));
        }
        Type::Interval => {
            let parsed = Interval::parse(text).map(Value::Interval);
            return parsed.ok_or_else(|| bad_time(text, to));
        }
        Type::Array(element) => return parse_array(text, element, to),
        Type::Void | Type::Record | Type::AclItem => None,
        Type::Regclass
        | Type::Regrole
        | Type::Regnamespace
        | Type::Regprocedure
        | Type::Regtype => None,
    };
    parsed.ok_or_else(|| invalid(text, to))
}

fn invalid(text: &str, to: &Type) -> SqlError {
    let label = to.base().label();
    SqlError::new(code::INVALID_TEXT, format!("invalid input syntax for type {label}: \"{text}\""))
}

fn bad_time(text: &str, to: &Type) -> SqlError {
    let words = ["infinity", "-infinity", "now", "today", "tomorrow", "yesterday", "epoch"];
    if words.contains(&text.trim().to_ascii_lowercase().as_str()) {
        return SqlError::unsupported(format!("{} '{text}'", to.label()));
    }
    // What looks like a date is one that the calendar does not have.
    let shape: String = text.trim().chars().take(10).collect();
    let dated = shape.len() == 10
        && shape.char_indices().all(|(place, symbol)| match place {
            4 | 7 => symbol == '-',
            _ => symbol.is_ascii_digit(),
        });
    if dated && *to != Type::Interval {
        let text = format!("date/time field value out of range: \"{text}\"");
        return SqlError::new(code::DATETIME_OVERFLOW, text);
    }
    let label = to.label();
    SqlError::new(
        code::INVALID_DATETIME,
        format!("invalid input syntax for type {label}: \"{text}\""),
    )
}

fn integer(text: &str, min: i64, max: i64, to: &Type) -> Result<Value, SqlError> {
    let trimmed = text.trim();
    let value: i128 = trimmed.parse().map_err(|_| invalid(text, to))?;
    i64::try_from(value)
        .ok()
        .filter(|value| (min..=max).contains(value))
        .map(Value::Int)
        .ok_or_else(|| {
            let label = to.label();
            let text = format!("value \"{trimmed}\" is out of range for type {label}");
            SqlError::new(code::OUT_OF_RANGE, text)
        })
}

/// Rounds a number to the precision of its column.
pub(crate) fn round(value: Decimal, modifier: Option<(u32, u32)>) -> Result<Value, SqlError> {
    let Some((precision, scale)) = modifier else { return Ok(Value::Decimal(value)) };
    value
        .round(scale)
        .filter(|rounded| rounded.fits(precision))
        .map(Value::Decimal)
        .ok_or_else(|| SqlError::new(code::OUT_OF_RANGE, "numeric field overflow"))
}

fn limit(text: &str, length: Option<u32>) -> Result<Value, SqlError> {
    let max = length.and_then(|length| usize::try_from(length).ok()).unwrap_or(usize::MAX);
    // Only blanks may be cut off.
    let kept: String = text.chars().take(max).collect();
    if text.chars().skip(max).all(|symbol| symbol == ' ') {
        return Ok(Value::Text(kept));
    }
    let text = format!("value too long for type character varying({max})");
    Err(SqlError::new(code::STRING_TRUNCATION, text))
}

/// Cuts a name to the 63 bytes the server keeps.
pub(crate) fn truncate_name(text: &str) -> String {
    let mut end = text.len().min(63);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default().to_owned()
}

fn parse_bool(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "t" | "tr" | "tru" | "true" | "y" | "ye" | "yes" | "on" | "1" => Some(true),
        "f" | "fa" | "fal" | "fals" | "false" | "n" | "no" | "of" | "off" | "0" => Some(false),
        _ => None,
    }
}

fn parse_uuid(text: &str) -> Option<Uuid> {
    // The parser of the crate also knows URNs, which the server does not.
    let allowed = text.bytes().all(|byte| byte.is_ascii_hexdigit() || b"-{}".contains(&byte));
    if allowed { Uuid::parse_str(text).ok() } else { None }
}

fn parse_array(text: &str, element: &Type, to: &Type) -> Result<Value, SqlError> {
    let malformed =
        || SqlError::new(code::INVALID_TEXT, format!("malformed array literal: \"{text}\""));
    let body = text.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let body = body.ok_or_else(malformed)?;
    if body.contains('{') {
        return Err(SqlError::unsupported(format!("{} of several dimensions", to.label())));
    }
    if body.trim().is_empty() {
        return Ok(Value::Array(Vec::new()));
    }
    let mut items = Vec::new();
    for item in split_array(body).ok_or_else(malformed)? {
        items.push(match item {
            None => Value::Null,
            Some(text) => parse(&text, element)?,
        });
    }
    Ok(Value::Array(items))
}

/// Splits the inside of an array literal; an unquoted NULL is nothing.
fn split_array(body: &str) -> Option<Vec<Option<String>>> {
    let mut items = Vec::new();
    let mut symbols = body.chars().peekable();
    loop {
        while symbols.next_if(|symbol| symbol.is_whitespace()).is_some() {}
        let quoted = symbols.next_if_eq(&'"').is_some();
        let mut item = String::new();
        loop {
            match symbols.peek() {
                None if quoted => return None,
                None => break,
                Some('"') if quoted => break,
                Some(',') if !quoted => break,
                Some('"') => return None,
                Some(_) => {}
            }
            match symbols.next()? {
                '\\' => item.push(symbols.next()?),
                symbol => item.push(symbol),
            }
        }
        if quoted {
            symbols.next();
            while symbols.next_if(|symbol| symbol.is_whitespace()).is_some() {}
            items.push(Some(item));
        } else {
            let word = item.trim_end();
            if word.is_empty() {
                return None;
            }
            items.push((!word.eq_ignore_ascii_case("null")).then(|| word.to_owned()));
        }
        match symbols.next() {
            None => return Some(items),
            Some(',') => {}
            Some(_) => return None,
        }
    }
}

/// Prints a value of a type whose text form needs no catalog; null prints as nothing.
pub(crate) fn print(value: &Value, ty: &Type) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(value) => if *value { "true" } else { "false" }.to_owned(),
        Value::Int(value) => value.to_string(),
        Value::Decimal(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Text(text) => text.clone(),
        Value::Uuid(value) => value.to_string(),
        Value::Json(value) if *ty == Type::Jsonb => print_jsonb(value),
        Value::Json(value) => value.to_string(),
        Value::Time(value) => time::print_moment(*value, *ty == Type::Timestamptz),
        Value::Date(value) => time::print_date(*value),
        Value::Interval(value) => value.print(),
        Value::Array(items) => {
            let element = if let Type::Array(element) = ty { element } else { &Type::Unknown };
            print_array(items, element)
        }
        Value::Row(items) => {
            let printed: Vec<String> =
                items.iter().map(|item| print(item, &Type::Unknown)).collect();
            format!("({})", printed.join(","))
        }
    }
}

fn print_array(items: &[Value], element: &Type) -> String {
    let printed: Vec<String> = items
        .iter()
        .map(|item| match item {
            Value::Null => "NULL".to_owned(),
            Value::Bool(value) => if *value { "t" } else { "f" }.to_owned(),
            other => quote_element(&print(other, element)),
        })
        .collect();
    format!("{{{}}}", printed.join(","))
}

/// Prints an array whose elements were printed by somebody who knows the catalog.
pub(crate) fn print_elements(items: &[Option<String>]) -> String {
    let item =
        |item: &Option<String>| item.as_deref().map_or_else(|| "NULL".to_owned(), quote_element);
    format!("{{{}}}", items.iter().map(item).collect::<Vec<_>>().join(","))
}

fn quote_element(text: &str) -> String {
    let special = |symbol: char| symbol.is_whitespace() || "{},\"\\".contains(symbol);
    if text.is_empty() || text.eq_ignore_ascii_case("null") || text.contains(special) {
        return format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    }
    text.to_owned()
}

/// Prints a document with the blanks `jsonb` puts after colons and commas.
pub(crate) fn print_jsonb(value: &Json) -> String {
    match value {
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(print_jsonb).collect();
            format!("[{}]", items.join(", "))
        }
        Json::Object(fields) => {
            let field = |(name, value): (&String, &Json)| {
                format!("{}: {}", Json::String(name.clone()), print_jsonb(value))
            };
            format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// Gives a value the form it has in an answer of the database API.
///
/// Whole numbers stay numbers while JavaScript keeps them exact; `numeric`, moments and the arrays of
/// catalog types (`name[]`, `aclitem[]`) come as text, as the API's driver leaves them.
pub(crate) fn to_json(value: &Value, ty: &Type) -> Json {
    match (value, ty) {
        (Value::Null, _) => Json::Null,
        (Value::Bool(value), _) => Json::Bool(*value),
        (Value::Int(value), _) if (-SAFE_INTEGER..=SAFE_INTEGER).contains(value) => {
            Json::from(*value)
        }
        (Value::Float(value), _) => {
            serde_json::Number::from_f64(*value).map_or(Json::Null, Json::Number)
        }
        (Value::Json(value), _) => value.clone(),
        (Value::Array(items), Type::Array(element))
            if !matches!(**element, Type::Name | Type::AclItem) =>
        {
            Json::Array(items.iter().map(|item| to_json(item, element)).collect())
        }
        (value, ty) => Json::String(print(value, ty)),
    }
}
