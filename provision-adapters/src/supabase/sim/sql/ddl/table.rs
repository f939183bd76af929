//! `CREATE TABLE`: columns, constraints, and the sequences and indexes that come with them.

use std::cell::RefCell;

use sqlparser::ast::Expr;

use super::super::bind::group::refuse_aggregates;
use super::super::bind::scope::Scope;
use super::super::bind::uses::{TableUse, Uses};
use super::super::bind::{Binder, keep};
use super::super::error::{SqlError, code};
use super::super::parse::statement::{
    ColumnSpec, ConstraintBody, CreateTable, References, TableConstraint,
};
use super::super::session::Exec;
use super::super::state::acl::Rights;
use super::super::state::{
    Check, Column, ForeignKey, Generated, GrantObject, Key, Oid, Relation, RelationKind, Sequence,
    StoredSql,
};
use super::super::value::sql_type::{CastLevel, Type, cast_level, common};
use super::{free_name, index, initial_acl, is_taken, partition, taken};

/// Most columns of one table, as in the server.
const COLUMNS_MAX: usize = 1_600;

pub(super) fn create(exec: &mut Exec, create: &CreateTable) -> Result<(), SqlError> {
    let schema = exec.env().resolver().creation_schema(&create.name)?.oid;
    let name = create.name.name.clone();
    if is_taken(exec, schema, &name) {
        return if create.if_not_exists { Ok(()) } else { Err(taken(&name)) };
    }
    let mut relation = empty(exec, schema, name, RelationKind::Table);
    relation.acl = initial_acl(&exec.db, GrantObject::Table, relation.owner, Some(schema));
    let oid = relation.oid;
    if let Some((parent, bound)) = &create.partition_of {
        partition::attach(exec, &mut relation, parent, bound)?;
    }
    if let Some(rule) = &create.partitioning {
        partition::divide(&mut relation, rule)?;
    }
    exec.db.relations.insert(oid, relation);
    for column in &create.columns {
        add_column(exec, oid, column)?;
    }
    for column in &create.columns {
        for constraint in &column.constraints {
            add_constraint(exec, oid, constraint, Some(&column.name))?;
        }
    }
    for constraint in &create.constraints {
        add_constraint(exec, oid, constraint, None)?;
    }
    if create.partition_of.is_some() {
        partition::copy_keys(exec, oid)?;
    }
    if let Some(rule) = &create.partitioning {
        partition::resolve_rule(exec, oid, rule)?;
    }
    Ok(())
}

/// A relation of the current role without anything in it.
pub(super) fn empty(exec: &mut Exec, schema: Oid, name: String, kind: RelationKind) -> Relation {
    let owner = exec.role();
    Relation {
        oid: exec.db.take_oid(),
        schema,
        name,
        kind,
        owner,
        acl: None,
        columns: Vec::new(),
        row_security: false,
        force_row_security: false,
        options: Vec::new(),
        checks: Vec::new(),
        keys: Vec::new(),
        foreign_keys: Vec::new(),
        partitioning: None,
        partition_of: None,
        query: None,
        populated: true,
        sequence: None,
        index: None,
        rows: Vec::new(),
    }
}

/// Adds a column; rows that are there already get its default elsewhere.
pub(super) fn add_column(exec: &mut Exec, table: Oid, spec: &ColumnSpec) -> Result<(), SqlError> {
    let relation = exec.db.relation(table)?;
    if relation.column(&spec.name).is_some() {
        let text = format!("column \"{}\" specified more than once", spec.name);
        return Err(SqlError::new(code::DUPLICATE_COLUMN, text));
    }
    if super::super::bind::scope::is_system_column(&spec.name) {
        let text = format!("column name \"{}\" conflicts with a system column name", spec.name);
        return Err(SqlError::new(code::DUPLICATE_COLUMN, text));
    }
    if relation.columns.len() >= COLUMNS_MAX {
        return Err(SqlError::new("54011", "tables can have at most 1600 columns"));
    }
    let identity =
        matches!(spec.generated, Generated::IdentityAlways | Generated::IdentityByDefault);
    let sequence = if spec.serial || identity {
        Some(column_sequence(exec, table, &spec.name)?)
    } else {
        None
    };
    exec.db.relation_mut(table)?.columns.push(Column {
        name: spec.name.clone(),
        ty: spec.ty.clone(),
        not_null: spec.not_null,
        default: None,
        generated: spec.generated,
        sequence,
        acl: None,
    });
    if let Some(default) = &spec.default {
        let stored = default_of(exec, table, spec, default)?;
        if let Some(column) = exec.db.relation_mut(table)?.columns.last_mut() {
            column.default = Some(stored);
        }
    }
    Ok(())
}

fn column_sequence(exec: &mut Exec, table: Oid, column: &str) -> Result<Oid, SqlError> {
    let relation = exec.db.relation(table)?;
    let (schema, owner) = (relation.schema, relation.owner);
    let name = free_name(&exec.db, schema, &[&relation.name, column, "seq"]);
    let mut sequence = empty(exec, schema, name, RelationKind::Sequence);
    sequence.owner = owner;
    sequence.acl = initial_acl(&exec.db, GrantObject::Sequence, owner, Some(schema));
    sequence.sequence = Some(Sequence { start: 1, increment: 1, next: 1, owned_by: Some(table) });
    let oid = sequence.oid;
    exec.db.relations.insert(oid, sequence);
    Ok(oid)
}

/// Checks a default (or what a column is generated from) and keeps it.
pub(super) fn default_of(
    exec: &Exec,
    table: Oid,
    spec: &ColumnSpec,
    default: &Expr,
) -> Result<StoredSql, SqlError> {
    let relation = exec.db.relation(table)?;
    let generated = spec.generated == Generated::Stored;
    let scope = if generated { Scope::of_relation(relation, Some(0)) } else { Scope::ROOT };
    let env = exec.env();
    let uses = RefCell::new(Uses::default());
    if generated {
        uses.borrow_mut().tables.push(TableUse::new(table, relation.owner));
    }
    let binder = Binder::new(&env, &uses);
    let typed = binder.expr(default, &scope)?;
    let bound = binder.assign(&typed, &spec.ty, &spec.name)?;
    refuse_aggregates(&bound, "DEFAULT expressions")?;
    if uses.borrow().tables.len() > usize::from(generated) {
        return Err(SqlError::new(code::UNSUPPORTED, "cannot use subquery in DEFAULT expression"));
    }
    let read = uses.borrow().tables.first().map(|table| table.read.clone()).unwrap_or_default();
    let circular = |place: &usize| {
        relation.columns.get(*place).is_some_and(|column| column.generated == Generated::Stored)
    };
    if read.iter().any(circular) {
        let text = "cannot use generated column in column generation expression";
        return Err(SqlError::new(code::INVALID_OBJECT, text));
    }
    keep(&env, default, uses.into_inner())
}

/// Adds a constraint; `column` is the one it was written behind.
pub(super) fn add_constraint(
    exec: &mut Exec,
    table: Oid,
    constraint: &TableConstraint,
    column: Option<&str>,
) -> Result<(), SqlError> {
    if let Some(name) = &constraint.name {
        let relation = exec.db.relation(table)?;
        let known = relation.checks.iter().map(|check| &check.name);
        let known = known.chain(relation.foreign_keys.iter().map(|key| &key.name));
        let mut known = known.chain(relation.keys.iter().filter(|k| k.constraint).map(|k| &k.name));
        if known.any(|known| known == name) {
            let text =
                format!("constraint \"{name}\" for relation \"{}\" already exists", relation.name);
            return Err(SqlError::new(code::DUPLICATE_OBJECT, text));
        }
    }
    let name = constraint.name.as_deref();
    match &constraint.body {
        ConstraintBody::PrimaryKey(columns) => add_key(exec, table, (name, columns, true)),
        ConstraintBody::Unique(columns) => add_key(exec, table, (name, columns, false)),
        ConstraintBody::Check(condition) => add_check(exec, table, (name, condition), column),
        ConstraintBody::References(references) => add_foreign_key(exec, table, name, references),
    }
}

fn add_key(
    exec: &mut Exec,
    table: Oid,
    (name, columns, primary): (Option<&str>, &[String], bool),
) -> Result<(), SqlError> {
    let relation = exec.db.relation(table)?;
    let places = key_places(relation, columns)?;
    if primary && relation.keys.iter().any(|key| key.primary) {
        let text = format!("multiple primary keys for table \"{}\" are not allowed", relation.name);
        return Err(SqlError::new(code::INVALID_TABLE, text));
    }
    let name = match name {
        Some(name) if is_taken(exec, relation.schema, name) => return Err(taken(name)),
        Some(name) => name.to_owned(),
        None if primary => free_name(&exec.db, relation.schema, &[&relation.name, "pkey"]),
        None => {
            let mut parts = vec![relation.name.as_str()];
            parts.extend(columns.iter().map(String::as_str));
            parts.push("key");
            free_name(&exec.db, relation.schema, &parts)
        }
    };
    index::check_unique_rows(exec, table, &places, &name)?;
    if primary {
        for place in &places {
            set_not_null(exec, table, *place)?;
        }
    }
    let index = index::add(exec, table, (&name, &places), primary)?;
    let key = Key { index, name, columns: places, primary, constraint: true };
    exec.db.relation_mut(table)?.keys.push(key);
    partition::check_key(exec.db.relation(table)?)
}

/// Forbids nulls in a column, if there are none.
pub(super) fn set_not_null(exec: &mut Exec, table: Oid, place: usize) -> Result<(), SqlError> {
    let relation = exec.db.relation_mut(table)?;
    let filled = relation.rows.iter().all(|row| row.get(place).is_some_and(|v| !v.is_null()));
    let name = relation.name.clone();
    if let Some(column) = relation.columns.get_mut(place) {
        if !filled {
            let text =
                format!("column \"{}\" of relation \"{name}\" contains null values", column.name);
            return Err(SqlError::new(code::NOT_NULL_VIOLATION, text));
        }
        column.not_null = true;
    }
    Ok(())
}

pub(super) fn key_places(relation: &Relation, columns: &[String]) -> Result<Vec<usize>, SqlError> {
    let mut places = Vec::new();
    for name in columns {
        let place = relation.column(name).ok_or_else(|| {
            let text = format!("column \"{name}\" named in key does not exist");
            SqlError::new(code::UNDEFINED_COLUMN, text)
        })?;
        if places.contains(&place) {
            let text = format!("column \"{name}\" appears twice in a key");
            return Err(SqlError::new(code::DUPLICATE_COLUMN, text));
        }
        if relation.columns.get(place).is_some_and(|column| !column.ty.has_equality()) {
            let text = format!("column \"{name}\" has no ordering for a key");
            return Err(SqlError::new(code::UNDEFINED_OBJECT, text));
        }
        places.push(place);
    }
    Ok(places)
}

fn add_check(
    exec: &mut Exec,
    table: Oid,
    (name, condition): (Option<&str>, &Expr),
    column: Option<&str>,
) -> Result<(), SqlError> {
    let relation = exec.db.relation(table)?;
    let (expression, columns) = check_condition(exec, relation, condition)?;
    let name = match name {
        Some(name) => name.to_owned(),
        None => {
            let only = match columns.as_slice() {
                [only] => relation.columns.get(*only).map(|column| column.name.as_str()),
                _ => None,
            };
            free_check(relation, column.or(only))
        }
    };
    let check = Check { name, expression };
    super::super::dml::constraint::check_rows(exec, table, &check)?;
    exec.db.relation_mut(table)?.checks.push(check);
    Ok(())
}

/// Binds a check over the columns of its table, and tells which of them it reads.
fn check_condition(
    exec: &Exec,
    relation: &Relation,
    condition: &Expr,
) -> Result<(StoredSql, Vec<usize>), SqlError> {
    let env = exec.env();
    let uses = RefCell::new(Uses::default());
    uses.borrow_mut().tables.push(TableUse::new(relation.oid, relation.owner));
    let binder = Binder::new(&env, &uses);
    let typed = binder.expr(condition, &Scope::of_relation(relation, Some(0)))?;
    let bound = binder.condition(&typed, "CHECK")?;
    refuse_aggregates(&bound, "check constraints")?;
    let uses = uses.into_inner();
    if uses.tables.len() > 1 {
        return Err(SqlError::new(code::UNSUPPORTED, "cannot use subquery in check constraint"));
    }
    let read = uses.tables.iter().flat_map(|table| table.read.iter().copied()).collect();
    Ok((keep(&env, condition, uses)?, read))
}

fn free_check(relation: &Relation, column: Option<&str>) -> String {
    let wanted = match column {
        Some(column) => format!("{}_{column}_check", relation.name),
        None => format!("{}_check", relation.name),
    };
    let mut name = wanted.clone();
    let mut number = 0_u32;
    while relation.checks.iter().any(|check| check.name == name) {
        number = number.saturating_add(1);
        name = format!("{wanted}{number}");
    }
    name
}

fn add_foreign_key(
    exec: &mut Exec,
    table: Oid,
    name: Option<&str>,
    references: &References,
) -> Result<(), SqlError> {
    let relation = exec.db.relation(table)?;
    let columns = key_places(relation, &references.columns)?;
    let env = exec.env();
    let target = env.resolver().user_relation(&references.table)?;
    if !target.kind.is_table() {
        let text = format!("referenced relation \"{}\" is not a table", target.name);
        return Err(SqlError::new(code::WRONG_OBJECT_TYPE, text));
    }
    let target_columns = referenced_columns(target, &references.target_columns)?;
    if columns.len() != target_columns.len() {
        let text = "number of referencing and referenced columns for foreign key disagree";
        return Err(SqlError::new(code::INVALID_FOREIGN_KEY, text));
    }
    if !exec.db.rights_on(&target.target(), exec.role()).has(Rights::REFERENCES) {
        return Err(SqlError::denied("table", &target.name));
    }
    for (own, other) in columns.iter().zip(&target_columns) {
        let own = relation.columns.get(*own).map_or(Type::Unknown, |column| column.ty.clone());
        let other = target.columns.get(*other).map_or(Type::Unknown, |column| column.ty.clone());
        let comparable = common(&own, &other).is_some()
            && cast_level(&own, &other).is_some_and(|level| level <= CastLevel::Assignment);
        if !comparable {
            let text = format!(
                "key columns are of incompatible types: {} and {}",
                own.label(),
                other.label()
            );
            return Err(SqlError::new(code::DATATYPE_MISMATCH, text));
        }
    }
    let target = target.oid;
    let name = name.map_or_else(|| foreign_key_name(relation, &references.columns), str::to_owned);
    let key = ForeignKey {
        name,
        columns,
        target,
        target_columns,
        on_delete: references.on_delete,
        on_update: references.on_update,
    };
    super::super::dml::constraint::check_references(exec, table, &key)?;
    exec.db.relation_mut(table)?.foreign_keys.push(key);
    Ok(())
}

fn referenced_columns(target: &Relation, named: &[String]) -> Result<Vec<usize>, SqlError> {
    if named.is_empty() {
        let primary = target.keys.iter().find(|key| key.primary);
        return primary.map(|key| key.columns.clone()).ok_or_else(|| {
            let text = format!("there is no primary key for referenced table \"{}\"", target.name);
            SqlError::new(code::UNDEFINED_OBJECT, text)
        });
    }
    let places = key_places(target, named)?;
    let mut wanted = places.clone();
    wanted.sort_unstable();
    let fits = target.keys.iter().any(|key| {
        let mut columns = key.columns.clone();
        columns.sort_unstable();
        columns == wanted
    });
    if fits {
        return Ok(places);
    }
    let text = format!(
        "there is no unique constraint matching given keys for referenced table \"{}\"",
        target.name
    );
    Err(SqlError::new(code::INVALID_FOREIGN_KEY, text))
}

fn foreign_key_name(relation: &Relation, columns: &[String]) -> String {
    let wanted = format!("{}_{}_fkey", relation.name, columns.join("_"));
    let mut name = wanted.clone();
    let mut number = 0_u32;
    while relation.foreign_keys.iter().any(|key| key.name == name) {
        number = number.saturating_add(1);
        name = format!("{wanted}{number}");
    }
    name
}
