//! Statements that read and change rows.

pub(crate) mod change;
pub(crate) mod constraint;
pub(crate) mod insert;
pub(crate) mod routing;

use super::ResultSet;
use super::bind::uses::{TableUse, Uses};
use super::error::{SqlError, code};
use super::parse::Name;
use super::plan::{Expr, OutputColumn, QueryPlan};
use super::run::{Env, Frame, cast, expr, query};
use super::session::Exec;
use super::state::acl::Rights;
use super::state::{Oid, Relation, RelationKind, Row};
use super::value::sql_type::Type;
use super::value::{Value, text};

/// Most rows of one table.
const ROWS_MAX: usize = 100_000;

/// Runs a bound query and gives its rows as the database API does.
pub(crate) fn read(env: &Env<'_>, plan: &QueryPlan, uses: &Uses) -> Result<ResultSet, SqlError> {
    uses.check(env)?;
    let rows = query::rows(env, plan, &Frame::EMPTY)?;
    Ok(result(env, &plan.columns, &rows))
}

/// Prints rows for an answer.
fn result(env: &Env<'_>, columns: &[OutputColumn], rows: &[Row]) -> ResultSet {
    let cell = |(value, column): (&Value, &OutputColumn)| match &column.ty {
        ty if ty.is_registered() && !value.is_null() => {
            serde_json::Value::String(cast::print(env, value, ty))
        }
        Type::Array(element) if element.is_registered() => {
            serde_json::Value::String(cast::print(env, value, &column.ty))
        }
        ty => text::to_json(value, ty),
    };
    let row = |row: &Row| row.iter().zip(columns).map(cell).collect();
    ResultSet {
        columns: columns.iter().map(|column| column.name.clone()).collect(),
        rows: rows.iter().map(row).collect(),
    }
}

/// What a statement gives back of the rows it changed.
#[derive(Debug)]
struct Returning {
    outputs: Vec<Expr>,
    columns: Vec<OutputColumn>,
}

impl Returning {
    fn rows(&self, env: &Env<'_>, changed: &[Row]) -> Result<ResultSet, SqlError> {
        if self.columns.is_empty() {
            return Ok(ResultSet::default());
        }
        let mut rows = Vec::new();
        for row in changed {
            let frame = Frame { row, parent: None };
            rows.push(expr::eval_all(env, &self.outputs, &frame)?);
        }
        Ok(result(env, &self.columns, &rows))
    }
}

/// Refuses relations whose rows a statement cannot change.
fn check_target(relation: &Relation) -> Result<(), SqlError> {
    let word = match relation.kind {
        RelationKind::Table | RelationKind::Partitioned => return Ok(()),
        RelationKind::View => return Err(SqlError::unsupported("changing rows through a view")),
        other => other.word(),
    };
    let text = format!("cannot change {word} \"{}\"", relation.name);
    Err(SqlError::new(code::WRONG_OBJECT_TYPE, text))
}

/// The table with all tables below it.
fn family(exec: &Exec, table: Oid) -> Vec<Oid> {
    let mut found = vec![table];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(exec.db.partitions_of(parent).map(|partition| partition.oid));
        next = next.saturating_add(1);
    }
    found
}

pub(crate) fn truncate(exec: &mut Exec, names: &[Name]) -> Result<ResultSet, SqlError> {
    let mut tables = Vec::new();
    for name in names {
        let env = exec.env();
        let relation = env.resolver().user_relation(name)?;
        if !relation.kind.is_table() {
            let text = format!("\"{}\" is not a table", relation.name);
            return Err(SqlError::new(code::WRONG_OBJECT_TYPE, text));
        }
        // Row-level security does not hold this back: the right alone decides.
        let mut used = TableUse::new(relation.oid, env.role);
        used.whole = Rights::TRUNCATE;
        let uses = Uses { tables: vec![used], ..Uses::default() };
        uses.check(&env)?;
        tables.extend(family(exec, relation.oid));
    }
    for relation in exec.db.relations.values() {
        let refers = relation.foreign_keys.iter().any(|key| tables.contains(&key.target));
        if refers && !tables.contains(&relation.oid) {
            let text = "cannot truncate a table referenced in a foreign key constraint";
            return Err(SqlError::new(code::UNSUPPORTED, text));
        }
    }
    for table in tables {
        exec.db.relation_mut(table)?.rows.clear();
    }
    Ok(ResultSet::default())
}
