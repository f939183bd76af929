//! Objects by name and names by object: what `regclass` and its brothers read and print.

use super::super::error::{SqlError, code};
use super::super::func;
use super::super::parse::routine::{qualified_name, signature, type_name};
use super::super::run::Env;
use super::super::state::lookup::{Found, quote_ident};
use super::super::state::{Function, Oid, Relation};
use super::super::sys;
use super::super::value::Value;
use super::super::value::sql_type::{self, Type};

/// Reads the name of an object as its number.
pub(crate) fn registered(env: &Env<'_>, text: &str, ty: &Type) -> Result<Value, SqlError> {
    if let Ok(number) = text.parse::<u32>() {
        return Ok(number.into());
    }
    let found = match ty {
        Type::Regclass => relation(env, text)?,
        Type::Regrole => env.db.role_oid(&plain(text)?)?,
        Type::Regnamespace => {
            let name = plain(text)?;
            let schema = env.db.schema_named(&name);
            schema.map(|schema| schema.oid).ok_or_else(|| SqlError::undefined_schema(&name))?
        }
        Type::Regprocedure => function(env, text)?,
        Type::Regtype => match sql_type::number_of_name(text) {
            Some(number) => number,
            None => sql_type::number(&type_name(text)?),
        },
        other => return Err(SqlError::unsupported(format!("literals of type {}", other.label()))),
    };
    Ok(found.into())
}

fn plain(text: &str) -> Result<String, SqlError> {
    let name = qualified_name(text)?;
    match name.schema {
        None => Ok(name.name),
        Some(_) => Err(SqlError::new(code::INVALID_TEXT, "invalid name syntax")),
    }
}

/// Finds a relation by a name such as `public.songs`.
pub(crate) fn relation(env: &Env<'_>, text: &str) -> Result<Oid, SqlError> {
    let name = qualified_name(text)?;
    Ok(match env.resolver().relation(&name)? {
        Found::Relation(relation) => relation.oid,
        Found::System(system) => system.oid(),
    })
}

/// Finds a function by a signature such as `public.is_owner(uuid)`.
pub(crate) fn function(env: &Env<'_>, text: &str) -> Result<Oid, SqlError> {
    let wanted = signature(text)?;
    let types = wanted.types.unwrap_or_default();
    let mut found = env.resolver().functions(&wanted.name)?.into_iter();
    let same = |function: &&Function| function.argument_types().eq(types.iter().map(Type::base));
    if let Some(found) = found.find(same) {
        return Ok(found.oid);
    }
    let system = wanted.name.schema.as_deref().is_none_or(|schema| schema == "pg_catalog");
    let mut builtins = func::all().filter(|(_, builtin)| {
        system && builtin.schema == "pg_catalog" && builtin.name == wanted.name.name
    });
    let builtin = builtins.find(|(_, builtin)| builtin.types().iter().eq(types.iter()));
    builtin.map(|(place, _)| sys::function_oid(place)).ok_or_else(|| {
        if system && func::is_foreign(&wanted.name.name) {
            return SqlError::unsupported(format!("function {text}"));
        }
        SqlError::new(code::UNDEFINED_FUNCTION, format!("function \"{text}\" does not exist"))
    })
}

/// Prints the name behind a number, or the number where nothing has it.
pub(crate) fn print(env: &Env<'_>, value: &Value, ty: &Type) -> String {
    let oid = value.as_oid().unwrap_or_default();
    let number = || oid.to_string();
    if oid == 0 {
        return "-".to_owned();
    }
    match ty {
        Type::Regclass => match env.db.relations.get(&oid) {
            Some(relation) => visible_relation(env, relation),
            None => sys::with_oid(oid).map_or_else(number, |system| system.name.to_owned()),
        },
        Type::Regrole => env.db.roles.get(&oid).map_or_else(number, |role| quote_ident(&role.name)),
        Type::Regnamespace => {
            env.db.schemas.get(&oid).map_or_else(number, |schema| quote_ident(&schema.name))
        }
        Type::Regprocedure => env.db.functions.get(&oid).map_or_else(number, |function| {
            let visible = env.resolver().schemas().contains(&function.schema);
            if visible {
                return function.signature();
            }
            let schema = quote_ident(env.db.schema_name(function.schema));
            format!("{schema}.{}", function.signature())
        }),
        Type::Regtype => match sql_type::pseudo_name(oid) {
            Some(name) => name.to_owned(),
            None => sql_type::numbered(oid, -1).map_or_else(number, |ty| ty.label()),
        },
        _ => number(),
    }
}

/// Prints a relation, with its schema unless the search path finds it.
fn visible_relation(env: &Env<'_>, relation: &Relation) -> String {
    let first = env
        .resolver()
        .schemas()
        .into_iter()
        .find_map(|schema| env.db.relation_in(schema, &relation.name));
    if first.is_some_and(|first| first.oid == relation.oid) {
        quote_ident(&relation.name)
    } else {
        env.db.qualified(relation)
    }
}
