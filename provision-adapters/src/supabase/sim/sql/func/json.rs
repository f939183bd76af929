//! Functions and operators over documents.

use serde_json::Value as Json;

use super::super::error::{SqlError, code};
use super::super::run::aggregate::plain_json;
use super::super::run::cast;
use super::super::value::sql_type::Type;
use super::super::value::text::print_jsonb;
use super::super::value::{Value, compare};
use super::Parameter::{Any, ArrayOf, Is, Rest};
use super::{Builtin, Parameter, Returns, operator, str_at, strict};

const JSONB: Returns = Returns::Is(Type::Jsonb);
const JSON: Returns = Returns::Is(Type::Json);
const TEXT: Returns = Returns::Is(Type::Text);
const BOOL: Returns = Returns::Is(Type::Bool);

pub(super) static LIST: &[Builtin] = &[
    operator("->", &[Is(Type::Jsonb), Is(Type::Text)], JSONB, |_, a, _| Ok(value(field(a)))),
    operator("->", &[Is(Type::Jsonb), Is(Type::Int4)], JSONB, |_, a, _| Ok(value(item(a)))),
    operator("->", &[Is(Type::Json), Is(Type::Text)], JSON, |_, a, _| Ok(value(field(a)))),
    operator("->", &[Is(Type::Json), Is(Type::Int4)], JSON, |_, a, _| Ok(value(item(a)))),
    operator("->>", &[Is(Type::Jsonb), Is(Type::Text)], TEXT, |_, a, _| Ok(text(field(a)))),
    operator("->>", &[Is(Type::Jsonb), Is(Type::Int4)], TEXT, |_, a, _| Ok(text(item(a)))),
    operator("->>", &[Is(Type::Json), Is(Type::Text)], TEXT, |_, a, _| Ok(text(field(a)))),
    operator("->>", &[Is(Type::Json), Is(Type::Int4)], TEXT, |_, a, _| Ok(text(item(a)))),
    operator("#>", &[Is(Type::Jsonb), ArrayOf(Type::Text)], JSONB, |_, a, _| Ok(value(path(a)))),
    operator("#>>", &[Is(Type::Jsonb), ArrayOf(Type::Text)], TEXT, |_, a, _| Ok(text(path(a)))),
    operator("@>", &[Is(Type::Jsonb), Is(Type::Jsonb)], BOOL, |_, a, _| {
        Ok(Value::Bool(contains(document(a, 0), document(a, 1))))
    }),
    operator("<@", &[Is(Type::Jsonb), Is(Type::Jsonb)], BOOL, |_, a, _| {
        Ok(Value::Bool(contains(document(a, 1), document(a, 0))))
    }),
    operator("?", &[Is(Type::Jsonb), Is(Type::Text)], BOOL, |_, a, _| {
        let key = str_at(a, 1);
        Ok(Value::Bool(match document(a, 0) {
            Json::Object(fields) => fields.contains_key(key),
            Json::Array(items) => items.iter().any(|item| item.as_str() == Some(key)),
            Json::String(text) => text == key,
            _ => false,
        }))
    }),
    operator("||", &[Is(Type::Jsonb), Is(Type::Jsonb)], JSONB, |_, a, _| {
        match (document(a, 0), document(a, 1)) {
            (Json::Object(left), Json::Object(right)) => {
                let both = left.iter().chain(right);
                let fields = both.map(|(name, value)| (name.clone(), value.clone())).collect();
                Ok(Value::Json(Json::Object(fields)))
            }
            (Json::Array(left), Json::Array(right)) => {
                Ok(Value::Json(left.iter().chain(right).cloned().collect()))
            }
            _ => Err(SqlError::unsupported("|| between documents of different kinds")),
        }
    }),
    strict("jsonb_typeof", &[Is(Type::Jsonb)], TEXT, |_, a, _| {
        let kind = match document(a, 0) {
            Json::Null => "null",
            Json::Bool(_) => "boolean",
            Json::Number(_) => "number",
            Json::String(_) => "string",
            Json::Array(_) => "array",
            Json::Object(_) => "object",
        };
        Ok(kind.into())
    }),
    strict("jsonb_array_length", &[Is(Type::Jsonb)], Returns::Is(Type::Int4), |_, a, _| {
        match document(a, 0) {
            Json::Array(items) => Ok(Value::Int(i64::try_from(items.len()).unwrap_or(i64::MAX))),
            _ => {
                let text = "cannot get array length of a non-array";
                Err(SqlError::new(code::INVALID_PARAMETER, text))
            }
        }
    }),
    strict("to_jsonb", &[Any], JSONB, |_, a, types| {
        let ty = types.first().unwrap_or(&Type::Unknown);
        Ok(Value::Json(a.first().map_or(Json::Null, |value| plain_json(value, ty))))
    }),
    build("jsonb_build_object", &[Rest], |env, values, types| {
        if values.len() % 2 != 0 {
            let text = "argument list must have even number of elements";
            return Err(SqlError::new(code::INVALID_PARAMETER, text));
        }
        let mut fields = serde_json::Map::new();
        let mut pairs = values.iter().zip(types);
        while let (Some((name, name_type)), Some((value, value_type))) =
            (pairs.next(), pairs.next())
        {
            if name.is_null() {
                let text = "argument 1: key must not be null";
                return Err(SqlError::new(code::INVALID_PARAMETER, text));
            }
            fields.insert(cast::print(env, name, name_type), plain_json(value, value_type));
        }
        Ok(Value::Json(Json::Object(fields)))
    }),
    build("jsonb_build_array", &[Rest], |_, values, types| {
        let pairs = values.iter().zip(types);
        Ok(Value::Json(pairs.map(|(value, ty)| plain_json(value, ty)).collect()))
    }),
];

/// Declares a function that takes nulls as values.
const fn build(name: &'static str, parameters: &'static [Parameter], body: super::Body) -> Builtin {
    Builtin { schema: "pg_catalog", name, parameters, returns: JSONB, strict: false, body }
}

fn document(args: &[Value], place: usize) -> &Json {
    match args.get(place) {
        Some(Value::Json(json)) => json,
        _ => &Json::Null,
    }
}

fn field(args: &[Value]) -> Option<&Json> {
    document(args, 0).as_object().and_then(|fields| fields.get(str_at(args, 1)))
}

fn item(args: &[Value]) -> Option<&Json> {
    let items = document(args, 0).as_array()?;
    let index = args.get(1).and_then(Value::as_int)?;
    let place = match usize::try_from(index) {
        Ok(place) => place,
        Err(_) => items.len().checked_sub(usize::try_from(index.unsigned_abs()).ok()?)?,
    };
    items.get(place)
}

fn path(args: &[Value]) -> Option<&Json> {
    let mut found = document(args, 0);
    for step in args.get(1)?.elements() {
        let step = step.as_str()?;
        found = match found {
            Json::Object(fields) => fields.get(step)?,
            Json::Array(items) => items.get(step.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(found)
}

fn value(found: Option<&Json>) -> Value {
    found.map_or(Value::Null, |json| Value::Json(json.clone()))
}

fn text(found: Option<&Json>) -> Value {
    match found {
        None | Some(Json::Null) => Value::Null,
        Some(Json::String(text)) => Value::text(text),
        Some(other) => Value::Text(print_jsonb(other)),
    }
}

/// Containment as `jsonb` has it: every field and every item of the right is found in the left.
fn contains(left: &Json, right: &Json) -> bool {
    match (left, right) {
        (Json::Object(a), Json::Object(b)) => {
            b.iter().all(|(name, wanted)| a.get(name).is_some_and(|found| contains(found, wanted)))
        }
        (Json::Array(a), Json::Array(b)) => {
            b.iter().all(|wanted| a.iter().any(|found| contains(found, wanted)))
        }
        // An array also contains a bare value.
        (Json::Array(a), wanted) if !wanted.is_object() => {
            a.iter().any(|found| same(found, wanted))
        }
        (found, wanted) => same(found, wanted),
    }
}

fn same(left: &Json, right: &Json) -> bool {
    compare(&Value::Json(left.clone()), &Value::Json(right.clone())).is_eq()
}
