//! Functions that print what the catalogs hold.

use super::super::error::SqlError;
use super::super::run::Env;
use super::super::state::acl::Acl;
use super::super::state::lookup::quote_ident;
use super::super::state::{Function, GrantObject, Shape, Volatility};
use super::super::sys;
use super::super::value::Value;
use super::super::value::sql_type::{self, Type};
use super::Parameter::Is;
use super::names;
use super::{Builtin, Returns, int_at, str_at, strict};

const TEXT: Returns = Returns::Is(Type::Text);

pub(super) static LIST: &[Builtin] = &[
    strict("pg_get_userbyid", &[Is(Type::Oid)], Returns::Is(Type::Name), |env, a, _| {
        let oid = oid_at(a);
        let found = env.db.roles.get(&oid).map(|role| role.name.clone());
        Ok(Value::Text(found.unwrap_or_else(|| format!("unknown (OID={oid})"))))
    }),
    Builtin {
        schema: "pg_catalog",
        name: "format_type",
        parameters: &[Is(Type::Oid), Is(Type::Int4)],
        returns: TEXT,
        strict: false,
        body: |_, a, _| {
            let Some(oid) = a.first().and_then(Value::as_oid) else { return Ok(Value::Null) };
            if let Some(name) = sql_type::pseudo_name(oid) {
                return Ok(name.into());
            }
            let modifier = a.get(1).and_then(Value::as_int).unwrap_or(-1);
            let found = sql_type::numbered(oid, modifier);
            Ok(Value::Text(found.map_or_else(|| "???".to_owned(), |ty| ty.label())))
        },
    },
    strict("pg_get_expr", &[Is(Type::NodeTree), Is(Type::Oid)], TEXT, |_, a, _| {
        Ok(str_at(a, 0).into())
    }),
    strict("pg_get_expr", &[Is(Type::NodeTree), Is(Type::Oid), Is(Type::Bool)], TEXT, |_, a, _| {
        Ok(str_at(a, 0).into())
    }),
    strict("pg_get_function_identity_arguments", &[Is(Type::Oid)], TEXT, |env, a, _| {
        Ok(function(env, a).map(|function| Value::Text(arguments(function, false))).into())
    }),
    strict("pg_get_function_arguments", &[Is(Type::Oid)], TEXT, |env, a, _| {
        Ok(function(env, a).map(|function| Value::Text(arguments(function, true))).into())
    }),
    strict("pg_get_function_result", &[Is(Type::Oid)], TEXT, |env, a, _| match function(env, a) {
        Some(function) => result(env, function).map(Value::Text),
        None => Ok(Value::Null),
    }),
    strict("pg_get_functiondef", &[Is(Type::Oid)], TEXT, |env, a, _| match function(env, a) {
        Some(function) => definition(env, function).map(Value::Text),
        None => Ok(Value::Null),
    }),
    strict("obj_description", &[Is(Type::Oid), Is(Type::Name)], TEXT, |env, a, _| {
        Ok(comment(env, oid_at(a), 0))
    }),
    strict("col_description", &[Is(Type::Oid), Is(Type::Int4)], TEXT, |env, a, _| {
        let column = usize::try_from(int_at(a, 1)).unwrap_or_default();
        Ok(if column == 0 { Value::Null } else { comment(env, oid_at(a), column) })
    }),
    strict("to_regclass", &[Is(Type::Text)], Returns::Is(Type::Regclass), |env, a, _| {
        Ok(names::relation(env, str_at(a, 0)).ok().into())
    }),
    strict("to_regprocedure", &[Is(Type::Text)], Returns::Is(Type::Regprocedure), |env, a, _| {
        Ok(names::function(env, str_at(a, 0)).ok().into())
    }),
    strict("to_regrole", &[Is(Type::Text)], Returns::Is(Type::Regrole), |env, a, _| {
        Ok(env.db.role_oid(str_at(a, 0)).ok().into())
    }),
    strict("to_regnamespace", &[Is(Type::Text)], Returns::Is(Type::Regnamespace), |env, a, _| {
        Ok(env.db.schema_named(str_at(a, 0)).map(|schema| schema.oid).into())
    }),
    strict(
        "acldefault",
        &[Is(Type::InternalChar), Is(Type::Oid)],
        Returns::ArrayOf(Type::AclItem),
        |env, a, _| {
            let owner = a.get(1).and_then(Value::as_oid).unwrap_or_default();
            let object = match str_at(a, 0) {
                "r" => GrantObject::Table,
                "s" => GrantObject::Sequence,
                "f" => GrantObject::Function,
                "n" => GrantObject::Schema,
                other => return Err(SqlError::unsupported(format!("acldefault of {other}"))),
            };
            Ok(sys::print_acl(env, Some(&Acl::default_for(object, owner))))
        },
    ),
    strict("pg_table_is_visible", &[Is(Type::Oid)], Returns::Is(Type::Bool), |env, a, _| {
        let Some(relation) = env.db.relations.get(&oid_at(a)) else { return Ok(Value::Null) };
        let mut schemas = env.resolver().schemas().into_iter();
        let first = schemas.find_map(|schema| env.db.relation_in(schema, &relation.name));
        Ok(Value::Bool(first.is_some_and(|first| first.oid == relation.oid)))
    }),
];

fn oid_at(args: &[Value]) -> u32 {
    args.first().and_then(Value::as_oid).unwrap_or_default()
}

fn function<'e>(env: &Env<'e>, args: &[Value]) -> Option<&'e Function> {
    env.db.functions.get(&oid_at(args))
}

/// Prints the arguments of a function, with defaults where a definition would need them.
pub(crate) fn arguments(function: &Function, defaults: bool) -> String {
    let print = |argument: &super::super::state::Argument| {
        let mut printed = argument
            .name
            .as_deref()
            .map_or_else(String::new, |name| format!("{} ", quote_ident(name)));
        printed.push_str(&argument.ty.base().label());
        if let Some(default) = argument.default.as_ref().filter(|_| defaults) {
            printed.push_str(" DEFAULT ");
            printed.push_str(&default.text);
            // The server prints the type that a bare text was read as.
            if default.text.starts_with('\'') && default.text.ends_with('\'') {
                printed.push_str("::");
                printed.push_str(&argument.ty.base().label());
            }
        }
        printed
    };
    function.arguments.iter().map(print).collect::<Vec<_>>().join(", ")
}

fn result(env: &Env<'_>, function: &Function) -> Result<String, SqlError> {
    let shape = match &function.returns.shape {
        Shape::Scalar(ty) => ty.base().label(),
        Shape::Relation(relation) => {
            let value = Value::from(env.db.relation(*relation)?.oid);
            names::print(env, &value, &Type::Regclass)
        }
        Shape::Table(columns) => {
            let column = |(name, ty): &(String, Type)| format!("{name} {}", ty.base().label());
            let columns: Vec<String> = columns.iter().map(column).collect();
            return Ok(format!("TABLE({})", columns.join(", ")));
        }
    };
    Ok(if function.returns.set { format!("SETOF {shape}") } else { shape })
}

/// Prints the statement that would make a function again.
fn definition(env: &Env<'_>, function: &Function) -> Result<String, SqlError> {
    if !function.config.is_empty() {
        return Err(SqlError::unsupported("definitions of functions with settings"));
    }
    let schema = env.db.schemas.values().find(|schema| schema.oid == function.schema);
    let schema = schema.ok_or_else(|| SqlError::internal("a schema is missing"))?;
    let mut options = match function.volatility {
        Volatility::Immutable => " IMMUTABLE",
        Volatility::Stable => " STABLE",
        Volatility::Volatile => "",
    }
    .to_owned();
    for (holds, word) in [(function.strict, " STRICT"), (function.definer, " SECURITY DEFINER")] {
        options.push_str(if holds { word } else { "" });
    }
    if !options.is_empty() {
        options.push('\n');
    }
    let mut quote = "$function".to_owned();
    while function.body.contains(&quote) {
        quote.push('x');
    }
    Ok(format!(
        "CREATE OR REPLACE FUNCTION {}.{}({})\n RETURNS {}\n LANGUAGE sql\n{options}AS {quote}${}{quote}$\n",
        quote_ident(&schema.name),
        quote_ident(&function.name),
        arguments(function, true),
        result(env, function)?,
        function.body,
    ))
}

fn comment(env: &Env<'_>, object: u32, column: usize) -> Value {
    let found =
        env.db.comments.iter().find(|known| known.object == object && known.column == column);
    found.map(|found| found.text.as_str()).into()
}
