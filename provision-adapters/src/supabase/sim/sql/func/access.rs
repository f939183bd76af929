//! Functions that ask about rights: `has_table_privilege` and its family.

use super::super::bind::uses::has_right;
use super::super::error::{SqlError, code};
use super::super::run::Env;
use super::super::state::acl::Rights;
use super::super::state::roles::Target;
use super::super::state::{GrantObject, Oid, PUBLIC, Relation};
use super::super::sys;
use super::super::value::Value;
use super::super::value::sql_type::Type;
use super::Parameter::{Either, Is};
use super::names;
use super::{Builtin, Parameter, Returns, str_at, strict};

const BOOL: Returns = Returns::Is(Type::Bool);
const WITH_ROLE: &[Parameter] =
    &[Either(Type::Name, Type::Oid), Either(Type::Text, Type::Oid), Is(Type::Text)];
const WITHOUT_ROLE: &[Parameter] = &[Either(Type::Text, Type::Oid), Is(Type::Text)];
const COLUMN: &[Parameter] =
    &[Either(Type::Name, Type::Oid), Either(Type::Text, Type::Oid), Is(Type::Text), Is(Type::Text)];
const ROLES: &[Parameter] =
    &[Either(Type::Name, Type::Oid), Either(Type::Name, Type::Oid), Is(Type::Text)];

pub(super) static LIST: &[Builtin] = &[
    strict("has_table_privilege", WITH_ROLE, BOOL, |env, a, _| table(env, a, false)),
    strict("has_table_privilege", WITHOUT_ROLE, BOOL, |env, a, _| {
        table(env, &with_current(env, a), false)
    }),
    strict("has_any_column_privilege", WITH_ROLE, BOOL, |env, a, _| table(env, a, true)),
    strict("has_any_column_privilege", WITHOUT_ROLE, BOOL, |env, a, _| {
        table(env, &with_current(env, a), true)
    }),
    strict("has_column_privilege", COLUMN, BOOL, column),
    strict("has_sequence_privilege", WITH_ROLE, BOOL, |env, a, _| table(env, a, false)),
    strict("has_sequence_privilege", WITHOUT_ROLE, BOOL, |env, a, _| {
        table(env, &with_current(env, a), false)
    }),
    strict("has_schema_privilege", WITH_ROLE, BOOL, |env, a, _| schema(env, a)),
    strict("has_schema_privilege", WITHOUT_ROLE, BOOL, |env, a, _| {
        schema(env, &with_current(env, a))
    }),
    strict("has_database_privilege", WITH_ROLE, BOOL, |env, a, _| database(env, a)),
    strict("has_function_privilege", WITH_ROLE, BOOL, |env, a, _| function(env, a)),
    strict("has_function_privilege", WITHOUT_ROLE, BOOL, |env, a, _| {
        function(env, &with_current(env, a))
    }),
    strict("pg_has_role", ROLES, BOOL, |env, a, _| {
        let (Some(role), Some(other)) = (role(env, a.first())?, role(env, a.get(1))?) else {
            return Ok(Value::Null);
        };
        membership(env, (role, other), str_at(a, 2))
    }),
    strict("pg_has_role", &[Either(Type::Name, Type::Oid), Is(Type::Text)], BOOL, |env, a, _| {
        let Some(other) = role(env, a.first())? else { return Ok(Value::Null) };
        membership(env, (env.role, other), str_at(a, 1))
    }),
    strict("row_security_active", &[Either(Type::Text, Type::Oid)], BOOL, |env, a, _| {
        let Some(Object::Relation(relation)) = relation(env, a.first())? else {
            return Ok(Value::Null);
        };
        let free = env.db.bypasses_row_security(env.role)
            || (env.db.has_rights_of(env.role, relation.owner) && !relation.force_row_security);
        Ok(Value::Bool(relation.row_security && !free))
    }),
];

fn with_current(env: &Env<'_>, args: &[Value]) -> Vec<Value> {
    std::iter::once(Value::from(env.role)).chain(args.iter().cloned()).collect()
}

/// The role an argument names; a number without a role is nobody, and "public" is everybody.
fn role(env: &Env<'_>, value: Option<&Value>) -> Result<Option<Oid>, SqlError> {
    match value {
        Some(Value::Text(name)) if name == "public" => Ok(Some(PUBLIC)),
        Some(Value::Text(name)) => env.db.role_oid(name).map(Some),
        Some(value) => Ok(value.as_oid().filter(|oid| env.db.roles.contains_key(oid))),
        None => Ok(None),
    }
}

/// Reads `SELECT, UPDATE WITH GRANT OPTION` as rights with their options.
fn rights(text: &str, object: GrantObject) -> Result<Vec<(Rights, bool)>, SqlError> {
    let mut found = Vec::new();
    for part in text.split(',') {
        let word = part.trim().to_ascii_uppercase();
        let (word, option) = match word.strip_suffix(" WITH GRANT OPTION") {
            Some(word) => (word.trim().to_owned(), true),
            None => (word, false),
        };
        let right = Rights::from_word(&word).filter(|right| object.all_rights().has(*right));
        let right = right.ok_or_else(|| {
            let text = format!("unrecognized privilege type: \"{word}\"");
            SqlError::new(code::INVALID_PARAMETER, text)
        })?;
        found.push((right, option));
    }
    Ok(found)
}

enum Object<'a> {
    Relation(&'a Relation),
    System,
}

fn relation<'e>(env: &Env<'e>, value: Option<&Value>) -> Result<Option<Object<'e>>, SqlError> {
    let oid = match value {
        Some(Value::Text(text)) => names::relation(env, text)?,
        Some(value) => value.as_oid().unwrap_or_default(),
        None => return Ok(None),
    };
    if sys::with_oid(oid).is_some() {
        return Ok(Some(Object::System));
    }
    Ok(env.db.relations.get(&oid).map(Object::Relation))
}

fn table(env: &Env<'_>, args: &[Value], any_column: bool) -> Result<Value, SqlError> {
    let Some(role) = role(env, args.first())? else { return Ok(Value::Null) };
    let Some(object) = relation(env, args.get(1))? else { return Ok(Value::Null) };
    let Object::Relation(relation) = object else {
        // Everybody may read the catalogs of the model, and nobody may write them.
        let asked = rights(str_at(args, 2), GrantObject::Table)?;
        let reads = asked.iter().any(|(right, option)| *right == Rights::SELECT && !option);
        return Ok(Value::Bool(reads || env.db.is_superuser(role)));
    };
    let asked = rights(str_at(args, 2), relation.grant_object())?;
    let held = asked.iter().any(|(right, option)| match option {
        true => env.db.grantable_on(&relation.target(), role).has(*right),
        false => has_right(env, relation, (*right, any_column), role),
    });
    Ok(Value::Bool(held))
}

fn column(env: &Env<'_>, args: &[Value], _: &[Type]) -> Result<Value, SqlError> {
    let Some(role) = role(env, args.first())? else { return Ok(Value::Null) };
    let Some(Object::Relation(relation)) = relation(env, args.get(1))? else {
        return Ok(Value::Null);
    };
    let place = relation.require_column(str_at(args, 2))?;
    let held = env
        .db
        .rights_on(&relation.target(), role)
        .or(super::super::bind::uses::column_rights(env, relation, place, role));
    let asked = rights(str_at(args, 3), GrantObject::Table)?;
    if asked.iter().any(|(right, option)| *option || !Rights::COLUMN.has(*right)) {
        return Err(SqlError::unsupported("this right on a column"));
    }
    Ok(Value::Bool(asked.iter().any(|(right, _)| held.has(*right))))
}

fn held(env: &Env<'_>, target: &Target<'_>, role: Oid, asked: &str) -> Result<Value, SqlError> {
    let asked = rights(asked, target.object)?;
    let held = asked.iter().any(|(right, option)| match option {
        true => env.db.grantable_on(target, role).has(*right),
        false => env.db.rights_on(target, role).has(*right),
    });
    Ok(Value::Bool(held))
}

fn schema(env: &Env<'_>, args: &[Value]) -> Result<Value, SqlError> {
    let Some(role) = role(env, args.first())? else { return Ok(Value::Null) };
    let schema = match args.get(1) {
        Some(Value::Text(name)) => {
            let found = env.db.schema_named(name);
            Some(found.ok_or_else(|| SqlError::undefined_schema(name))?)
        }
        Some(value) => value.as_oid().and_then(|oid| env.db.schemas.get(&oid)),
        None => None,
    };
    match schema {
        Some(schema) => held(env, &schema.target(), role, str_at(args, 2)),
        None => Ok(Value::Null),
    }
}

/// The one database, with the rights that a new one has: everybody connects and makes temporary
/// tables, and its owner makes schemas.
fn database(env: &Env<'_>, args: &[Value]) -> Result<Value, SqlError> {
    let Some(role) = role(env, args.first())? else { return Ok(Value::Null) };
    if args.get(1).and_then(Value::as_str) != Some("postgres") {
        return Err(SqlError::unsupported("another database"));
    }
    let owner = env.db.role_oid("postgres")?;
    match str_at(args, 2).trim().to_ascii_uppercase().as_str() {
        "CONNECT" | "TEMPORARY" | "TEMP" => Ok(Value::Bool(true)),
        "CREATE" => Ok(Value::Bool(env.db.has_rights_of(role, owner))),
        _ => Err(SqlError::unsupported("this right on a database")),
    }
}

fn function(env: &Env<'_>, args: &[Value]) -> Result<Value, SqlError> {
    let Some(role) = role(env, args.first())? else { return Ok(Value::Null) };
    let oid = match args.get(1) {
        Some(Value::Text(text)) => names::function(env, text)?,
        Some(value) => value.as_oid().unwrap_or_default(),
        None => return Ok(Value::Null),
    };
    if sys::is_server_function(oid) {
        rights(str_at(args, 2), GrantObject::Function)?;
        return Ok(Value::Bool(true));
    }
    match env.db.functions.get(&oid) {
        Some(function) => held(env, &function.target(), role, str_at(args, 2)),
        None => Ok(Value::Null),
    }
}

/// Answers `MEMBER` (may become) and `USAGE` (has the rights of).
fn membership(env: &Env<'_>, (role, other): (Oid, Oid), asked: &str) -> Result<Value, SqlError> {
    match asked.trim().to_ascii_uppercase().as_str() {
        "MEMBER" => Ok(Value::Bool(env.db.is_member(role, other))),
        "USAGE" => Ok(Value::Bool(env.db.has_rights_of(role, other))),
        "MEMBER WITH ADMIN OPTION" | "USAGE WITH ADMIN OPTION" => {
            Ok(Value::Bool(env.db.is_admin_of(role, other)))
        }
        other => {
            let text = format!("unrecognized privilege type: \"{other}\"");
            Err(SqlError::new(code::INVALID_PARAMETER, text))
        }
    }
}
