//! Functions over text, numbers and arrays.

use super::super::error::SqlError;
use super::super::run::cast;
use super::super::state::lookup;
use super::super::value::sql_type::Type;
use super::super::value::{Value, compare};
use super::Parameter::{Any, AnyArray, Is, Rest};
use super::{Builtin, Returns, int_at, operator, str_at, strict};

const TEXT: Returns = Returns::Is(Type::Text);
const BOOL: Returns = Returns::Is(Type::Bool);
const INT4: Returns = Returns::Is(Type::Int4);

pub(super) static LIST: &[Builtin] = &[
    strict("lower", &[Is(Type::Text)], TEXT, |_, a, _| {
        Ok(Value::Text(str_at(a, 0).to_lowercase()))
    }),
    strict("upper", &[Is(Type::Text)], TEXT, |_, a, _| {
        Ok(Value::Text(str_at(a, 0).to_uppercase()))
    }),
    strict("btrim", &[Is(Type::Text)], TEXT, |_, a, _| Ok(str_at(a, 0).trim_matches(' ').into())),
    strict("length", &[Is(Type::Text)], INT4, |_, a, _| Ok(size(str_at(a, 0).chars().count()))),
    strict("char_length", &[Is(Type::Text)], INT4, |_, a, _| {
        Ok(size(str_at(a, 0).chars().count()))
    }),
    strict("replace", &[Is(Type::Text), Is(Type::Text), Is(Type::Text)], TEXT, |_, a, _| {
        let (text, from) = (str_at(a, 0), str_at(a, 1));
        // An empty search text is found nowhere.
        Ok(if from.is_empty() {
            text.into()
        } else {
            Value::Text(text.replace(from, str_at(a, 2)))
        })
    }),
    strict("starts_with", &[Is(Type::Text), Is(Type::Text)], BOOL, |_, a, _| {
        Ok(Value::Bool(str_at(a, 0).starts_with(str_at(a, 1))))
    }),
    strict("left", &[Is(Type::Text), Is(Type::Int4)], TEXT, |_, a, _| {
        let length = str_at(a, 0).chars().count();
        let count = int_at(a, 1);
        let kept = match usize::try_from(count) {
            Ok(count) => count,
            // A negative count leaves out symbols at the end.
            Err(_) => {
                length.saturating_sub(usize::try_from(count.unsigned_abs()).unwrap_or(length))
            }
        };
        Ok(Value::Text(str_at(a, 0).chars().take(kept).collect()))
    }),
    strict("split_part", &[Is(Type::Text), Is(Type::Text), Is(Type::Int4)], TEXT, |_, a, _| {
        let Some(place) = usize::try_from(int_at(a, 2)).ok().and_then(|n| n.checked_sub(1)) else {
            return Err(SqlError::unsupported("split_part from the end"));
        };
        let (text, by) = (str_at(a, 0), str_at(a, 1));
        let part = if by.is_empty() {
            Some(text).filter(|_| place == 0)
        } else {
            text.split(by).nth(place)
        };
        Ok(part.unwrap_or_default().into())
    }),
    strict(
        "string_to_array",
        &[Is(Type::Text), Is(Type::Text)],
        Returns::ArrayOf(Type::Text),
        |_, a, _| {
            let (text, by) = (str_at(a, 0), str_at(a, 1));
            Ok(Value::Array(match (text.is_empty(), by.is_empty()) {
                (true, _) => Vec::new(),
                (false, true) => vec![text.into()],
                (false, false) => text.split(by).map(Value::from).collect(),
            }))
        },
    ),
    strict("quote_ident", &[Is(Type::Text)], TEXT, |_, a, _| {
        Ok(Value::Text(lookup::quote_ident(str_at(a, 0))))
    }),
    strict("quote_literal", &[Is(Type::Text)], TEXT, |_, a, _| {
        let text = str_at(a, 0).replace('\'', "''");
        let quoted = if text.contains('\\') {
            format!("E'{}'", text.replace('\\', "\\\\"))
        } else {
            format!("'{text}'")
        };
        Ok(Value::Text(quoted))
    }),
    Builtin {
        schema: "pg_catalog",
        name: "concat",
        parameters: &[Any, Rest],
        returns: TEXT,
        strict: false,
        body: |env, values, types| {
            let pairs = values.iter().zip(types).filter(|(value, _)| !value.is_null());
            Ok(Value::Text(pairs.map(|(value, ty)| cast::output(env, value, ty)).collect()))
        },
    },
    strict("abs", &[Is(Type::Int8)], Returns::Is(Type::Int8), |_, a, _| {
        Ok(Value::Int(int_at(a, 0).saturating_abs()))
    }),
    strict("array_to_string", &[AnyArray, Is(Type::Text)], TEXT, |env, a, types| {
        let element = match types.first() {
            Some(Type::Array(element)) => (**element).clone(),
            _ => Type::Unknown,
        };
        let items = a.first().map_or(&[][..], Value::elements).iter();
        let present = items.filter(|item| !item.is_null());
        let printed: Vec<String> = present.map(|item| cast::output(env, item, &element)).collect();
        Ok(Value::Text(printed.join(str_at(a, 1))))
    }),
    strict("cardinality", &[AnyArray], INT4, |_, a, _| Ok(size(elements(a, 0).len()))),
    strict("array_length", &[AnyArray, Is(Type::Int4)], INT4, |_, a, _| {
        let length = elements(a, 0).len();
        Ok(if length == 0 || int_at(a, 1) != 1 { Value::Null } else { size(length) })
    }),
    operator("||", &[Is(Type::Text), Is(Type::Text)], TEXT, |_, a, _| {
        Ok(Value::Text(format!("{}{}", str_at(a, 0), str_at(a, 1))))
    }),
    operator("||", &[AnyArray, AnyArray], Returns::Same(0), |_, a, types| {
        same_arrays(types)?;
        Ok(Value::Array(elements(a, 0).iter().chain(elements(a, 1)).cloned().collect()))
    }),
    operator("@>", &[AnyArray, AnyArray], BOOL, |_, a, types| {
        same_arrays(types)?;
        Ok(Value::Bool(contains(elements(a, 0), elements(a, 1))))
    }),
    operator("<@", &[AnyArray, AnyArray], BOOL, |_, a, types| {
        same_arrays(types)?;
        Ok(Value::Bool(contains(elements(a, 1), elements(a, 0))))
    }),
    operator("&&", &[AnyArray, AnyArray], BOOL, |_, a, types| {
        same_arrays(types)?;
        let (left, right) = (elements(a, 0), elements(a, 1));
        Ok(Value::Bool(left.iter().any(|item| contains(right, std::slice::from_ref(item)))))
    }),
];

fn elements(args: &[Value], place: usize) -> &[Value] {
    args.get(place).map_or(&[], Value::elements)
}

fn size(count: usize) -> Value {
    Value::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

fn same_arrays(types: &[Type]) -> Result<(), SqlError> {
    match types {
        [left, right] if left.base() == right.base() => Ok(()),
        _ => Err(SqlError::unsupported("operators between arrays of different types")),
    }
}

fn contains(all: &[Value], some: &[Value]) -> bool {
    let has = |wanted: &Value| {
        !wanted.is_null() && all.iter().any(|item| !item.is_null() && compare(item, wanted).is_eq())
    };
    some.iter().all(has)
}
