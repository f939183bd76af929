//! Partitioned tables and their partitions.

use sqlparser::ast::Expr;

use super::super::bind::Binder;
use super::super::bind::scope::Scope;
use super::super::bind::uses::Uses;
use super::super::dml::routing;
use super::super::error::{SqlError, code};
use super::super::parse::Name;
use super::super::parse::statement::{BoundSpec, PartitionRule};
use super::super::run::{Frame, expr::eval};
use super::super::session::Exec;
use super::super::state::{
    Key, Oid, PartitionBound, PartitionOf, Partitioning, RangeEnd, Relation, RelationKind,
};
use super::super::value::Value;
use super::super::value::sql_type::Type;
use super::{free_name, index, owned_relation};

/// Makes a table a partitioned one; its columns are found when they are there.
pub(super) fn divide(relation: &mut Relation, rule: &PartitionRule) -> Result<(), SqlError> {
    if rule.list && rule.columns.len() != 1 {
        let text = "cannot use \"list\" partition strategy with more than one column";
        return Err(SqlError::new(code::INVALID_OBJECT, text));
    }
    relation.kind = RelationKind::Partitioned;
    relation.partitioning = Some(Partitioning { list: rule.list, columns: Vec::new() });
    Ok(())
}

pub(super) fn resolve_rule(
    exec: &mut Exec,
    table: Oid,
    rule: &PartitionRule,
) -> Result<(), SqlError> {
    let relation = exec.db.relation(table)?;
    let mut columns = Vec::new();
    for name in &rule.columns {
        columns.push(relation.column(name).ok_or_else(|| {
            let text = format!("column \"{name}\" named in partition key does not exist");
            SqlError::new(code::UNDEFINED_COLUMN, text)
        })?);
    }
    exec.db.relation_mut(table)?.partitioning = Some(Partitioning { list: rule.list, columns });
    check_key(exec.db.relation(table)?)
}

/// A key of a partitioned table must contain the columns by which the rows are spread.
pub(super) fn check_key(relation: &Relation) -> Result<(), SqlError> {
    let Some(rule) = &relation.partitioning else { return Ok(()) };
    let whole = |key: &Key| rule.columns.iter().all(|column| key.columns.contains(column));
    if relation.keys.iter().all(whole) {
        return Ok(());
    }
    let text = "unique constraint on partitioned table must include all partitioning columns";
    Err(SqlError::new(code::UNSUPPORTED, text))
}

/// Makes a new table a partition: it takes over columns and checks, but neither policies nor rights.
pub(super) fn attach(
    exec: &Exec,
    relation: &mut Relation,
    parent: &Name,
    bound: &BoundSpec,
) -> Result<(), SqlError> {
    let parent = owned_relation(exec, parent)?;
    let Some(rule) = &parent.partitioning else {
        let text = format!("\"{}\" is not partitioned", parent.name);
        return Err(SqlError::new(code::INVALID_OBJECT, text));
    };
    let types: Vec<&Type> =
        rule.columns.iter().filter_map(|place| parent.columns.get(*place)).map(|c| &c.ty).collect();
    let bound = bound_of(exec, bound, rule.list, &types)?;
    for sibling in exec.db.partitions_of(parent.oid) {
        let other = sibling.partition_of.as_ref().map(|place| &place.bound);
        if other.is_some_and(|other| routing::overlaps(other, &bound)) {
            let text = format!(
                "partition \"{}\" would overlap partition \"{}\"",
                relation.name, sibling.name
            );
            return Err(SqlError::new(code::INVALID_OBJECT, text));
        }
    }
    relation.columns = parent.columns.clone();
    for column in &mut relation.columns {
        column.acl = None;
    }
    relation.checks = parent.checks.clone();
    relation.foreign_keys = parent.foreign_keys.clone();
    relation.partition_of = Some(PartitionOf { parent: parent.oid, bound });
    Ok(())
}

/// Gives a new partition the keys of its parent, each with an index of its own.
pub(super) fn copy_keys(exec: &mut Exec, table: Oid) -> Result<(), SqlError> {
    let relation = exec.db.relation(table)?;
    let (name, schema) = (relation.name.clone(), relation.schema);
    let parent = relation.partition_of.as_ref().map(|place| place.parent).unwrap_or_default();
    let (columns, keys) = {
        let parent = exec.db.relation(parent)?;
        (parent.columns.clone(), parent.keys.clone())
    };
    for key in keys {
        let names = key.columns.iter().filter_map(|place| columns.get(*place));
        let mut parts = vec![name.as_str()];
        if !key.primary {
            parts.extend(names.map(|column| column.name.as_str()));
        }
        parts.push(if key.primary { "pkey" } else { "key" });
        let own = free_name(&exec.db, schema, &parts);
        let index = index::add(exec, table, (&own, &key.columns), key.primary)?;
        let copy = Key { index, name: own, ..key };
        exec.db.relation_mut(table)?.keys.push(copy);
    }
    Ok(())
}

fn bound_of(
    exec: &Exec,
    bound: &BoundSpec,
    list: bool,
    types: &[&Type],
) -> Result<PartitionBound, SqlError> {
    let wrong = || {
        let text = "invalid bound specification for a partition";
        SqlError::new(code::INVALID_TABLE, text)
    };
    match bound {
        BoundSpec::Default => Ok(PartitionBound::Default),
        BoundSpec::List(values) if list => {
            let ty = types.first().ok_or_else(wrong)?;
            let values = values.iter().map(|value| constant(exec, value, ty));
            Ok(PartitionBound::List(values.collect::<Result<_, _>>()?))
        }
        BoundSpec::Range(from, to) if !list => {
            if from.len() != types.len() || to.len() != types.len() {
                return Err(wrong());
            }
            let ends = |exprs: &[Expr]| -> Result<Vec<RangeEnd>, SqlError> {
                exprs.iter().zip(types).map(|(expr, ty)| range_end(exec, expr, ty)).collect()
            };
            let (from, to) = (ends(from)?, ends(to)?);
            if routing::compare_ends(&from, &to).is_ge() {
                let text = "empty range bound specified for partition";
                return Err(SqlError::new(code::INVALID_OBJECT, text));
            }
            Ok(PartitionBound::Range(from, to))
        }
        BoundSpec::List(_) | BoundSpec::Range(..) => Err(wrong()),
    }
}

fn range_end(exec: &Exec, expr: &Expr, ty: &Type) -> Result<RangeEnd, SqlError> {
    if let Expr::Identifier(ident) = expr {
        match ident.value.to_ascii_lowercase().as_str() {
            "minvalue" => return Ok(RangeEnd::Min),
            "maxvalue" => return Ok(RangeEnd::Max),
            _ => {}
        }
    }
    match constant(exec, expr, ty)? {
        Value::Null => {
            Err(SqlError::new(code::INVALID_OBJECT, "cannot specify NULL in range bound"))
        }
        value => Ok(RangeEnd::At(value)),
    }
}

fn constant(exec: &Exec, expr: &Expr, ty: &Type) -> Result<Value, SqlError> {
    let env = exec.env();
    let uses = std::cell::RefCell::new(Uses::default());
    let binder = Binder::new(&env, &uses);
    let typed = binder.expr(expr, &Scope::ROOT)?;
    let bound = binder.assign(&typed, ty, "partition key")?;
    super::super::bind::group::refuse_aggregates(&bound, "partition bound")?;
    if !uses.borrow().tables.is_empty() {
        return Err(SqlError::new(code::UNSUPPORTED, "cannot use subquery in partition bound"));
    }
    eval(&env, &bound, &Frame::EMPTY)
}
