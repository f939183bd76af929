//! Indexes, sequences and extensions.

use std::cell::RefCell;

use sqlparser::ast::Expr;

use super::super::bind::Binder;
use super::super::bind::scope::Scope;
use super::super::bind::uses::Uses;
use super::super::error::{SqlError, code};
use super::super::parse::fold;
use super::super::parse::statement::{CreateIndex, CreateSequence};
use super::super::run::query::compare_rows;
use super::super::session::Exec;
use super::super::state::lookup::quote_ident;
use super::super::state::{
    Extension, GrantObject, Index, Key, Oid, Relation, RelationKind, Sequence,
};
use super::table::{empty, key_places};
use super::{free_name, initial_acl, is_taken, owned_relation, taken};

/// Extensions that may be created. Their functions live in the schema `extensions`, out of reach of
/// the data API; only those of the first two are there to be called.
const EXTENSIONS: &[&str] = &[
    "uuid-ossp",
    "pgcrypto",
    "btree_gin",
    "btree_gist",
    "citext",
    "fuzzystrmatch",
    "hstore",
    "ltree",
    "moddatetime",
    "pg_stat_statements",
    "pg_trgm",
    "pgjwt",
    "unaccent",
    "vector",
];

pub(super) fn create(exec: &mut Exec, create: &CreateIndex, alone: bool) -> Result<(), SqlError> {
    if create.concurrently && !alone {
        let text = "CREATE INDEX CONCURRENTLY cannot run inside a transaction block";
        return Err(SqlError::new(code::ACTIVE_TRANSACTION, text));
    }
    let relation = owned_relation(exec, &create.table)?;
    let (table, schema) = (relation.oid, relation.schema);
    if !relation.kind.is_table() && relation.kind != RelationKind::MaterializedView {
        let text = format!("cannot create index on relation \"{}\"", relation.name);
        return Err(SqlError::new(code::WRONG_OBJECT_TYPE, text));
    }
    if relation.kind == RelationKind::Partitioned && exec.db.partitions_of(table).next().is_some() {
        return Err(SqlError::unsupported("indexes on a table that has partitions"));
    }
    check_parts(exec, relation, create)?;
    let plain = plain_columns(&create.parts);
    let name = match &create.name {
        Some(name) if is_taken(exec, schema, name) => {
            return if create.if_not_exists { Ok(()) } else { Err(taken(name)) };
        }
        Some(name) => name.clone(),
        None => {
            let mut parts = vec![relation.name.as_str()];
            let names = plain.clone().unwrap_or_else(|| vec!["expr".to_owned()]);
            parts.extend(names.iter().map(String::as_str));
            parts.push("idx");
            free_name(&exec.db, schema, &parts)
        }
    };
    let mut key = None;
    if create.unique {
        let Some(columns) = &plain else {
            return Err(SqlError::unsupported("unique indexes over expressions"));
        };
        let places = key_places(relation, columns)?;
        check_unique_rows(exec, table, &places, &name)?;
        key = Some(places);
    }
    let index = insert(exec, table, &name, (create.unique, false, create.text.clone()))?;
    if let Some(columns) = key {
        let key = Key { index, name, columns, primary: false, constraint: false };
        exec.db.relation_mut(table)?.keys.push(key);
        super::partition::check_key(exec.db.relation(table)?)?;
    }
    Ok(())
}

fn check_parts(exec: &Exec, relation: &Relation, create: &CreateIndex) -> Result<(), SqlError> {
    let env = exec.env();
    let uses = RefCell::new(Uses::default());
    let binder = Binder::new(&env, &uses);
    let scope = Scope::of_relation(relation, None);
    for part in &create.parts {
        let typed = binder.settle(binder.expr(part, &scope)?)?;
        if !typed.ty.has_equality() {
            let text = format!("data type {} has no default operator class", typed.ty.label());
            return Err(SqlError::new(code::UNDEFINED_OBJECT, text));
        }
    }
    if let Some(filter) = &create.filter {
        let typed = binder.expr(filter, &scope)?;
        binder.condition(&typed, "WHERE")?;
    }
    Ok(())
}

fn plain_columns(parts: &[Expr]) -> Option<Vec<String>> {
    let column = |part: &Expr| match part {
        Expr::Identifier(ident) => Some(fold(ident)),
        _ => None,
    };
    parts.iter().map(column).collect()
}

/// Adds the index behind a key.
pub(super) fn add(
    exec: &mut Exec,
    table: Oid,
    (name, columns): (&str, &[usize]),
    primary: bool,
) -> Result<Oid, SqlError> {
    let relation = exec.db.relation(table)?;
    let names = columns.iter().filter_map(|place| relation.columns.get(*place));
    let names: Vec<String> = names.map(|column| quote_ident(&column.name)).collect();
    let definition = format!("USING btree ({})", names.join(", "));
    insert(exec, table, name, (true, primary, definition))
}

fn insert(
    exec: &mut Exec,
    table: Oid,
    name: &str,
    (unique, primary, definition): (bool, bool, String),
) -> Result<Oid, SqlError> {
    let relation = exec.db.relation(table)?;
    let (schema, owner) = (relation.schema, relation.owner);
    let mut index = empty(exec, schema, name.to_owned(), RelationKind::Index);
    index.owner = owner;
    index.index = Some(Index { table, unique, primary, definition });
    let oid = index.oid;
    exec.db.relations.insert(oid, index);
    Ok(oid)
}

/// Refuses a key that the rows there already break.
pub(super) fn check_unique_rows(
    exec: &Exec,
    table: Oid,
    columns: &[usize],
    name: &str,
) -> Result<(), SqlError> {
    let relation = exec.db.relation(table)?;
    let key = |row: &Vec<super::super::value::Value>| {
        columns.iter().map(|place| row.get(*place).cloned()).collect::<Option<Vec<_>>>()
    };
    let mut keys: Vec<_> = relation.rows.iter().filter_map(key).collect();
    keys.retain(|key| key.iter().all(|value| !value.is_null()));
    keys.sort_by(|a, b| compare_rows(a, b));
    let twice = keys.windows(2).any(|pair| match pair {
        [a, b] => compare_rows(a, b).is_eq(),
        _ => false,
    });
    if twice {
        let text = format!("could not create unique index \"{name}\"");
        return Err(SqlError::new(code::UNIQUE_VIOLATION, text));
    }
    Ok(())
}

pub(super) fn create_sequence(exec: &mut Exec, create: &CreateSequence) -> Result<(), SqlError> {
    let schema = exec.env().resolver().creation_schema(&create.name)?.oid;
    let name = create.name.name.clone();
    if is_taken(exec, schema, &name) {
        return if create.if_not_exists { Ok(()) } else { Err(taken(&name)) };
    }
    let mut sequence = empty(exec, schema, name, RelationKind::Sequence);
    sequence.acl = initial_acl(&exec.db, GrantObject::Sequence, sequence.owner, Some(schema));
    let (start, increment) = (create.start, create.increment);
    sequence.sequence = Some(Sequence { start, increment, next: start, owned_by: None });
    exec.db.relations.insert(sequence.oid, sequence);
    Ok(())
}

pub(super) fn create_extension(
    exec: &mut Exec,
    name: &str,
    schema: Option<&str>,
    if_not_exists: bool,
) -> Result<(), SqlError> {
    if exec.db.extensions.contains_key(name) {
        if if_not_exists {
            return Ok(());
        }
        let text = format!("extension \"{name}\" already exists");
        return Err(SqlError::new(code::DUPLICATE_OBJECT, text));
    }
    if !EXTENSIONS.contains(&name) {
        return Err(SqlError::unsupported(format!("extension {name}")));
    }
    // Elsewhere its functions would be in reach, and the model does not have them.
    if schema != Some("extensions") {
        return Err(SqlError::unsupported(format!(
            "extension {name} outside of schema extensions"
        )));
    }
    if !exec.db.has_rights_of(exec.role(), exec.db.owner) {
        let text = format!("permission denied to create extension \"{name}\"");
        return Err(SqlError::new(code::INSUFFICIENT_PRIVILEGE, text));
    }
    let schema = exec.env().resolver().schema("extensions")?.oid;
    let oid = exec.db.take_oid();
    let owner = exec.role();
    exec.db.extensions.insert(name.to_owned(), Extension { oid, schema, owner });
    Ok(())
}
