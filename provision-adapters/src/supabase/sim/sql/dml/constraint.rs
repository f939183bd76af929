//! Defaults, checks, keys and references.
//!
//! Constraints see every row: row-level security never hides one from them.

use std::cell::RefCell;

use super::super::bind::Binder;
use super::super::bind::scope::Scope;
use super::super::bind::uses::Uses;
use super::super::error::{SqlError, code};
use super::super::func::session::next_value;
use super::super::plan::Expr;
use super::super::run::{Env, Frame, expr::eval};
use super::super::session::Exec;
use super::super::state::{
    Check, Database, ForeignKey, Generated, Key, Oid, ReferenceAction, Relation, Row,
};
use super::super::value::{Value, compare};
use super::family;

/// Binds what each column takes when nothing is given; null where that is nothing.
pub(crate) fn defaults(binder: &Binder<'_>, relation: &Relation) -> Result<Vec<Expr>, SqlError> {
    let mut found = Vec::new();
    for column in &relation.columns {
        found.push(match &column.default {
            None => Expr::Const(Value::Null),
            Some(default) => {
                let scope = match column.generated {
                    Generated::Stored => Scope::of_relation(relation, None),
                    _ => Scope::ROOT,
                };
                let typed = binder.stored_expr(default, &scope)?;
                binder.assign(&typed, &column.ty, &column.name)?
            }
        });
    }
    Ok(found)
}

/// Gives a column without a value its default.
pub(crate) fn default_value(
    env: &Env<'_>,
    relation: &Relation,
    place: usize,
    bound: &[Expr],
) -> Result<Value, SqlError> {
    let column = relation.columns.get(place);
    let column = column.ok_or_else(|| SqlError::internal("a column is missing"))?;
    if let Some(sequence) = column.sequence {
        // A serial column calls `nextval` and needs the right to; an identity column does not.
        return next_value(env, sequence, column.generated == Generated::No);
    }
    match bound.get(place) {
        Some(default) if column.generated != Generated::Stored => eval(env, default, &Frame::EMPTY),
        _ => Ok(Value::Null),
    }
}

/// Computes the generated columns of a row.
pub(crate) fn generate(
    env: &Env<'_>,
    relation: &Relation,
    bound: &[Expr],
    row: &mut Row,
) -> Result<(), SqlError> {
    for (place, column) in relation.columns.iter().enumerate() {
        if column.generated != Generated::Stored {
            continue;
        }
        let Some(expr) = bound.get(place) else { continue };
        let value = eval(env, expr, &Frame { row, parent: None })?;
        if let Some(slot) = row.get_mut(place) {
            *slot = value;
        }
    }
    Ok(())
}

/// Checks what a row must be by itself: no forbidden nulls, and every check not false.
pub(crate) fn check_row(env: &Env<'_>, relation: &Relation, row: &Row) -> Result<(), SqlError> {
    for (column, value) in relation.columns.iter().zip(row) {
        if column.not_null && value.is_null() {
            let text = format!(
                "null value in column \"{}\" of relation \"{}\" violates not-null constraint",
                column.name, relation.name
            );
            return Err(SqlError::new(code::NOT_NULL_VIOLATION, text));
        }
    }
    let uses = RefCell::new(Uses::default());
    let binder = Binder::new(env, &uses);
    for check in &relation.checks {
        let scope = Scope::of_relation(relation, None);
        let condition = binder.stored_condition(&check.expression, &scope)?;
        let held = eval(env, &condition, &Frame { row, parent: None })?;
        if held == Value::Bool(false) {
            let text = format!(
                "new row for relation \"{}\" violates check constraint \"{}\"",
                relation.name, check.name
            );
            return Err(SqlError::new(code::CHECK_VIOLATION, text));
        }
    }
    Ok(())
}

/// Checks a new check against the rows that are there already.
pub(crate) fn check_rows(exec: &Exec, table: Oid, check: &Check) -> Result<(), SqlError> {
    let env = exec.env();
    let relation = exec.db.relation(table)?;
    let mut probe = relation.clone();
    probe.checks = vec![check.clone()];
    relation.rows.iter().try_for_each(|row| check_row(&env, &probe, row))
}

/// Finds a key that another row of the table has already; `only` looks at the key of those columns.
pub(crate) fn conflict<'r>(
    relation: &'r Relation,
    row: &[Value],
    (except, only): (Option<usize>, Option<&[usize]>),
) -> Option<&'r Key> {
    let same = |key: &&Key| {
        if only.is_some_and(|only| only != key.columns) {
            return false;
        }
        let values: Option<Vec<&Value>> = key.columns.iter().map(|place| row.get(*place)).collect();
        let Some(values) = values.filter(|values| values.iter().all(|value| !value.is_null()))
        else {
            return false;
        };
        relation.rows.iter().enumerate().any(|(place, other)| {
            Some(place) != except
                && key.columns.iter().zip(&values).all(|(column, value)| {
                    other.get(*column).is_some_and(|other| compare(other, value).is_eq())
                })
        })
    };
    relation.keys.iter().find(same)
}

/// Refuses a row whose key is there already.
pub(crate) fn check_keys(
    relation: &Relation,
    row: &[Value],
    except: Option<usize>,
) -> Result<(), SqlError> {
    match conflict(relation, row, (except, None)) {
        None => Ok(()),
        Some(key) => {
            let text = format!("duplicate key value violates unique constraint \"{}\"", key.name);
            Err(SqlError::new(code::UNIQUE_VIOLATION, text))
        }
    }
}

fn values(row: &[Value], columns: &[usize]) -> Option<Vec<Value>> {
    let values: Option<Vec<Value>> = columns.iter().map(|place| row.get(*place).cloned()).collect();
    values.filter(|values| values.iter().all(|value| !value.is_null()))
}

fn matches(row: &[Value], columns: &[usize], wanted: &[Value]) -> bool {
    columns
        .iter()
        .zip(wanted)
        .all(|(place, wanted)| row.get(*place).is_some_and(|value| compare(value, wanted).is_eq()))
}

fn family_rows<'d>(db: &'d Database, tables: &[Oid]) -> impl Iterator<Item = &'d Row> {
    let relations: Vec<&Relation> = tables.iter().filter_map(|oid| db.relations.get(oid)).collect();
    relations.into_iter().flat_map(|relation| &relation.rows)
}

/// Refuses a row that refers to nothing.
pub(crate) fn check_reference(
    exec: &Exec,
    relation: &Relation,
    key: &ForeignKey,
    row: &[Value],
) -> Result<(), SqlError> {
    // One null among the columns, and nothing is referred to.
    let Some(wanted) = values(row, &key.columns) else { return Ok(()) };
    let tables = family(exec, key.target);
    if family_rows(&exec.db, &tables).any(|row| matches(row, &key.target_columns, &wanted)) {
        return Ok(());
    }
    let text = format!(
        "insert or update on table \"{}\" violates foreign key constraint \"{}\"",
        relation.name, key.name
    );
    Err(SqlError::new(code::FOREIGN_KEY_VIOLATION, text))
}

/// Checks a new foreign key against the rows that are there already.
pub(crate) fn check_references(exec: &Exec, table: Oid, key: &ForeignKey) -> Result<(), SqlError> {
    let relation = exec.db.relation(table)?;
    relation.rows.iter().try_for_each(|row| check_reference(exec, relation, key, row))
}

/// A row that was there, and what became of it.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) table: Oid,
    pub(crate) before: Row,
    /// Nothing when the row was deleted.
    pub(crate) after: Option<Row>,
}

/// Follows the foreign keys that point at changed rows, and what follows from that.
pub(crate) fn follow(exec: &mut Exec, changes: Vec<Change>) -> Result<(), SqlError> {
    let mut open = changes;
    while let Some(change) = open.pop() {
        exec.shared.work()?;
        for (referring, key) in pointing_at(&exec.db, change.table) {
            let Some(before) = values(&change.before, &key.target_columns) else { continue };
            let after = change.after.as_ref().and_then(|row| values(row, &key.target_columns));
            let kept = after
                .as_ref()
                .is_some_and(|after| after.iter().zip(&before).all(|(a, b)| compare(a, b).is_eq()));
            let tables = family(exec, key.target);
            let still = family_rows(&exec.db, &tables)
                .any(|row| matches(row, &key.target_columns, &before));
            if !kept && !still {
                open.extend(apply(exec, (referring, &key), &before, after.as_deref())?);
            }
        }
    }
    Ok(())
}

/// The foreign keys that point at a table or at one it is a partition of.
fn pointing_at(db: &Database, table: Oid) -> Vec<(Oid, ForeignKey)> {
    let mut targets = vec![table];
    let mut up = db.relations.get(&table);
    while let Some(parent) = up.and_then(|relation| relation.partition_of.as_ref()) {
        targets.push(parent.parent);
        up = db.relations.get(&parent.parent);
    }
    let keys = db.relations.values().flat_map(|relation| {
        relation.foreign_keys.iter().map(move |key| (relation.oid, key.clone()))
    });
    keys.filter(|(_, key)| targets.contains(&key.target)).collect()
}

fn apply(
    exec: &mut Exec,
    (referring, key): (Oid, &ForeignKey),
    before: &[Value],
    after: Option<&[Value]>,
) -> Result<Vec<Change>, SqlError> {
    let relation = exec.db.relation(referring)?;
    let action = if after.is_some() { key.on_update } else { key.on_delete };
    let (hit, rest): (Vec<Row>, Vec<Row>) =
        relation.rows.iter().cloned().partition(|row| matches(row, &key.columns, before));
    if hit.is_empty() {
        return Ok(Vec::new());
    }
    if action == ReferenceAction::Refuse {
        let target = &exec.db.relation(key.target)?.name;
        let text = format!(
            "update or delete on table \"{target}\" violates foreign key constraint \"{}\" on table \"{}\"",
            key.name, relation.name
        );
        return Err(SqlError::new(code::FOREIGN_KEY_VIOLATION, text));
    }
    let mut changes = Vec::new();
    let mut rows = rest;
    for row in hit {
        let new = match (action, after) {
            (ReferenceAction::Cascade, None) => None,
            (ReferenceAction::Cascade, Some(after)) => Some(with(&row, &key.columns, after)),
            _ => Some(with(&row, &key.columns, &vec![Value::Null; key.columns.len()])),
        };
        rows.extend(new.clone());
        changes.push(Change { table: referring, before: row, after: new });
    }
    let fresh: Vec<Row> = changes.iter().filter_map(|change| change.after.clone()).collect();
    exec.db.relation_mut(referring)?.rows = rows;
    let relation = exec.db.relation(referring)?;
    let env = exec.env();
    for row in &fresh {
        check_row(&env, relation, row)?;
    }
    Ok(changes)
}

fn with(row: &Row, columns: &[usize], values: &[Value]) -> Row {
    let mut copy = row.clone();
    for (place, value) in columns.iter().zip(values) {
        if let Some(slot) = copy.get_mut(*place) {
            slot.clone_from(value);
        }
    }
    copy
}
