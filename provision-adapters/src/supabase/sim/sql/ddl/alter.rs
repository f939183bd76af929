//! `ALTER TABLE`, and the same for views, materialized views and sequences.

use std::cell::RefCell;

use sqlparser::ast::Expr;

use super::super::bind::Binder;
use super::super::bind::uses::Uses;
use super::super::dml::constraint;
use super::super::error::{SqlError, code};
use super::super::parse::statement::{AlterTable, ColumnSpec, TableAction};
use super::super::run::{Frame, expr::eval};
use super::super::session::Exec;
use super::super::state::{Generated, Oid, RelationKind};
use super::super::value::Value;
use super::comment::fits;
use super::{
    check_new_owner, check_owner, check_owner_may_create, relation_if_exists, role_of, table, view,
};

pub(super) fn run(exec: &mut Exec, alter: &AlterTable) -> Result<(), SqlError> {
    let Some(oid) = relation_if_exists(exec, &alter.name, alter.if_exists)? else {
        return Ok(());
    };
    for action in &alter.actions {
        let relation = exec.db.relation(oid)?;
        if relation.kind == RelationKind::Index {
            return Err(SqlError::unsupported("ALTER TABLE on an index"));
        }
        if alter.kind.is_some_and(|kind| !fits(kind, relation.kind)) {
            let text = format!("\"{}\" is a {}", relation.name, relation.kind.word());
            return Err(SqlError::new(code::WRONG_OBJECT_TYPE, text));
        }
        check_owner(exec, relation)?;
        one(exec, oid, action)?;
    }
    Ok(())
}

fn one(exec: &mut Exec, oid: Oid, action: &TableAction) -> Result<(), SqlError> {
    match action {
        TableAction::OwnerTo(owner) => {
            let owner = role_of(exec, owner)?;
            return change_owner(exec, oid, owner);
        }
        TableAction::SetOptions(options) => return view::set_options(exec, oid, options),
        _ => {}
    }
    let relation = exec.db.relation(oid)?;
    if !relation.kind.is_table() {
        let text = format!(
            "ALTER action cannot be performed on relation \"{}\": it is a {}",
            relation.name,
            relation.kind.word()
        );
        return Err(SqlError::new(code::WRONG_OBJECT_TYPE, text));
    }
    match action {
        TableAction::RowSecurity(on) => exec.db.relation_mut(oid)?.row_security = *on,
        TableAction::ForceRowSecurity(on) => exec.db.relation_mut(oid)?.force_row_security = *on,
        TableAction::AddColumn { column, if_not_exists } => {
            if *if_not_exists && relation.column(&column.name).is_some() {
                return Ok(());
            }
            return add_column(exec, oid, column);
        }
        TableAction::AddConstraint(constraint) => {
            refuse_divided(exec, oid, "ADD CONSTRAINT")?;
            return table::add_constraint(exec, oid, constraint, None);
        }
        TableAction::DropConstraint { name, if_exists } => {
            refuse_divided(exec, oid, "DROP CONSTRAINT")?;
            return drop_constraint(exec, oid, name, *if_exists);
        }
        TableAction::SetNotNull(column) => {
            refuse_divided(exec, oid, "SET NOT NULL")?;
            let place = relation.require_column(column)?;
            return table::set_not_null(exec, oid, place);
        }
        TableAction::DropNotNull(column) => {
            refuse_divided(exec, oid, "DROP NOT NULL")?;
            return drop_not_null(exec, oid, column);
        }
        TableAction::SetDefault(column, default) => {
            refuse_divided(exec, oid, "SET DEFAULT")?;
            return set_default(exec, oid, column, default.as_ref().as_ref());
        }
        TableAction::OwnerTo(_) | TableAction::SetOptions(_) => {}
    }
    Ok(())
}

/// Refuses changes that would have to go down to the partitions.
fn refuse_divided(exec: &Exec, oid: Oid, what: &str) -> Result<(), SqlError> {
    let relation = exec.db.relation(oid)?;
    if relation.kind == RelationKind::Partitioned || relation.partition_of.is_some() {
        return Err(SqlError::unsupported(format!("{what} on partitioned tables and partitions")));
    }
    Ok(())
}

fn change_owner(exec: &mut Exec, oid: Oid, owner: Oid) -> Result<(), SqlError> {
    let relation = exec.db.relation(oid)?;
    let before = relation.owner;
    let schema = relation.schema;
    check_new_owner(exec, owner)?;
    check_owner_may_create(exec, schema, owner)?;
    // Indexes and the sequences of columns go with their table.
    let follows = |other: &super::super::state::Relation| {
        other.oid == oid
            || other.index.as_ref().is_some_and(|index| index.table == oid)
            || other.sequence.as_ref().is_some_and(|sequence| sequence.owned_by == Some(oid))
    };
    for relation in exec.db.relations.values_mut().filter(|relation| follows(relation)) {
        relation.owner = owner;
        let lists = relation.columns.iter_mut().filter_map(|column| column.acl.as_mut());
        for acl in relation.acl.iter_mut().chain(lists) {
            acl.change_owner(before, owner);
        }
    }
    Ok(())
}

fn add_column(exec: &mut Exec, oid: Oid, spec: &ColumnSpec) -> Result<(), SqlError> {
    if exec.db.relation(oid)?.partition_of.is_some() {
        let text = "cannot add column to a partition";
        return Err(SqlError::new(code::WRONG_OBJECT_TYPE, text));
    }
    let mut tables = vec![oid];
    let mut next = 0;
    while let Some(table) = tables.get(next).copied() {
        tables.extend(exec.db.partitions_of(table).map(|partition| partition.oid));
        next = next.saturating_add(1);
    }
    let divided = tables.len() > 1;
    if divided && (!spec.constraints.is_empty() || spec.serial || spec.generated != Generated::No) {
        return Err(SqlError::unsupported("ADD COLUMN with constraints on a partitioned table"));
    }
    for table in tables {
        if exec.db.relation(table)?.column(&spec.name).is_some() {
            let name = &exec.db.relation(table)?.name;
            let text = format!("column \"{}\" of relation \"{name}\" already exists", spec.name);
            return Err(SqlError::new(code::DUPLICATE_COLUMN, text));
        }
        table::add_column(exec, table, spec)?;
        fill(exec, table)?;
        for constraint in &spec.constraints {
            table::add_constraint(exec, table, constraint, Some(&spec.name))?;
        }
    }
    Ok(())
}

/// Gives the rows that are there already a value in the last column.
fn fill(exec: &mut Exec, oid: Oid) -> Result<(), SqlError> {
    let relation = exec.db.relation(oid)?;
    let Some(place) = relation.columns.len().checked_sub(1) else { return Ok(()) };
    let mut rows = relation.rows.clone();
    {
        let env = exec.env();
        let uses = RefCell::new(Uses::default());
        let binder = Binder::new(&env, &uses);
        let values = constraint::defaults(&binder, relation)?;
        let Some((column, value)) = relation.columns.last().zip(values.last()) else {
            return Ok(());
        };
        for row in &mut rows {
            row.push(Value::Null);
            let generated = column.generated == Generated::Stored;
            let filled = if generated { row.clone() } else { Vec::new() };
            let frame = Frame { row: &filled, parent: None };
            let value = eval(&env, value, &frame)?;
            if column.not_null && value.is_null() {
                let text = format!(
                    "column \"{}\" of relation \"{}\" contains null values",
                    column.name, relation.name
                );
                return Err(SqlError::new(code::NOT_NULL_VIOLATION, text));
            }
            if let Some(slot) = row.get_mut(place) {
                *slot = value;
            }
        }
    }
    exec.db.relation_mut(oid)?.rows = rows;
    Ok(())
}

fn drop_constraint(exec: &mut Exec, oid: Oid, name: &str, if_exists: bool) -> Result<(), SqlError> {
    let relation = exec.db.relation(oid)?;
    let key = relation.keys.iter().find(|key| key.constraint && key.name == name).cloned();
    if let Some(key) = key {
        let needed = exec.db.relations.values().any(|other| {
            let fits = |foreign: &super::super::state::ForeignKey| {
                let mut columns = foreign.target_columns.clone();
                let mut own = key.columns.clone();
                columns.sort_unstable();
                own.sort_unstable();
                foreign.target == oid && columns == own
            };
            other.foreign_keys.iter().any(fits)
        });
        if needed {
            let text = format!(
                "cannot drop constraint {name} on table {} because other objects depend on it",
                relation.name
            );
            return Err(SqlError::new(code::DEPENDENT_OBJECTS, text));
        }
        exec.db.relations.remove(&key.index);
        exec.db.relation_mut(oid)?.keys.retain(|known| known.name != name);
        return Ok(());
    }
    let relation = exec.db.relation_mut(oid)?;
    let before = relation.checks.len().saturating_add(relation.foreign_keys.len());
    relation.checks.retain(|check| check.name != name);
    relation.foreign_keys.retain(|key| key.name != name);
    let after = relation.checks.len().saturating_add(relation.foreign_keys.len());
    if before == after && !if_exists {
        let text =
            format!("constraint \"{name}\" of relation \"{}\" does not exist", relation.name);
        return Err(SqlError::new(code::UNDEFINED_OBJECT, text));
    }
    Ok(())
}

fn drop_not_null(exec: &mut Exec, oid: Oid, column: &str) -> Result<(), SqlError> {
    let relation = exec.db.relation_mut(oid)?;
    let place = relation.require_column(column)?;
    let primary = relation.keys.iter().any(|key| key.primary && key.columns.contains(&place));
    let Some(found) = relation.columns.get_mut(place) else { return Ok(()) };
    let identity =
        matches!(found.generated, Generated::IdentityAlways | Generated::IdentityByDefault);
    if primary || identity {
        let what = if primary { "is in a primary key" } else { "is an identity column" };
        let state = if primary { code::INVALID_TABLE } else { code::SYNTAX };
        return Err(SqlError::new(state, format!("column \"{column}\" {what}")));
    }
    found.not_null = false;
    Ok(())
}

fn set_default(
    exec: &mut Exec,
    oid: Oid,
    column: &str,
    default: Option<&Expr>,
) -> Result<(), SqlError> {
    let relation = exec.db.relation(oid)?;
    let place = relation.require_column(column)?;
    let Some(found) = relation.columns.get(place) else { return Ok(()) };
    if found.generated != Generated::No || found.sequence.is_some() {
        return Err(SqlError::unsupported("SET DEFAULT on serial, identity or generated columns"));
    }
    let stored = match default {
        None => None,
        Some(default) => {
            let spec = ColumnSpec {
                name: found.name.clone(),
                ty: found.ty.clone(),
                serial: false,
                not_null: found.not_null,
                default: None,
                generated: Generated::No,
                constraints: Vec::new(),
            };
            Some(table::default_of(exec, oid, &spec, default)?)
        }
    };
    if let Some(found) = exec.db.relation_mut(oid)?.columns.get_mut(place) {
        found.default = stored;
    }
    Ok(())
}
