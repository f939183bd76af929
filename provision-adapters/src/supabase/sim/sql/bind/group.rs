//! Turns a select with aggregates into one over groups.
//!
//! The expressions were bound over the rows of the source; here each part that is a key or an
//! aggregate becomes a column of the group's row, and what remains of the source is an error.

use std::rc::Rc;

use super::super::error::{SqlError, code};
use super::super::plan::{
    Aggregate, Body, Expr, Group, Join, QueryPlan, SelectPlan, Source, SubqueryKind, TableFunction,
};

/// Rewrites a select over groups, if it has keys, aggregates or a `HAVING`.
pub(crate) fn apply(plan: &mut SelectPlan, keys: Vec<Expr>) -> Result<(), SqlError> {
    let mut aggregated = false;
    for output in plan.outputs.iter().chain(&plan.having) {
        aggregated |= contains_aggregate(output);
    }
    if !aggregated && keys.is_empty() && plan.having.is_none() {
        return Ok(());
    }
    for key in &keys {
        refuse_aggregates(key, "GROUP BY")?;
    }
    let mut group = Group { keys, aggregates: Vec::new() };
    for output in plan.outputs.iter_mut().chain(&mut plan.having) {
        rewrite(output, &mut group, 0)?;
    }
    plan.group = Some(group);
    Ok(())
}

/// Refuses aggregates in a place that is evaluated before the grouping.
pub(crate) fn refuse_aggregates(expr: &Expr, place: &str) -> Result<(), SqlError> {
    if contains_aggregate(expr) {
        let text = format!("aggregate functions are not allowed in {place}");
        return Err(SqlError::new(code::GROUPING, text));
    }
    Ok(())
}

fn contains_aggregate(expr: &Expr) -> bool {
    let mut found = matches!(expr, Expr::Aggregate(_));
    let mut copy = expr.clone();
    each_part(&mut copy, &mut |part| {
        found |= contains_aggregate(part);
        Ok(())
    })
    .ok();
    found
}

/// Rewrites an expression `depth` queries inside the select.
fn rewrite(expr: &mut Expr, group: &mut Group, depth: usize) -> Result<(), SqlError> {
    for (index, key) in group.keys.iter().enumerate() {
        let mut wanted = key.clone();
        let same = if depth == 0 {
            *expr == wanted
        } else {
            // Inside a subquery only whole columns of the group can be told apart.
            if let Expr::Column { up, .. } = &mut wanted {
                *up = up.saturating_add(depth);
            }
            matches!(wanted, Expr::Column { .. }) && *expr == wanted
        };
        if same {
            *expr = Expr::Column { up: depth, index };
            return Ok(());
        }
    }
    match expr {
        Expr::Aggregate(aggregate) if depth == 0 => {
            let index = place(group, aggregate)?;
            *expr = Expr::Column { up: 0, index };
            return Ok(());
        }
        Expr::Column { up, .. } if *up == depth => {
            let text =
                "column must appear in the GROUP BY clause or be used in an aggregate function";
            return Err(SqlError::new(code::GROUPING, text));
        }
        Expr::Subquery { kind, query } => {
            if let SubqueryKind::Quantified { left, .. } = kind {
                rewrite(left, group, depth)?;
            }
            return in_query(query, &mut |part, inner| {
                rewrite(part, group, depth.saturating_add(inner))
            });
        }
        _ => {}
    }
    each_part(expr, &mut |part| rewrite(part, group, depth))
}

fn place(group: &mut Group, aggregate: &Aggregate) -> Result<usize, SqlError> {
    let nested = aggregate.args.iter().any(contains_aggregate);
    if nested {
        let text = "aggregate function calls cannot be nested";
        return Err(SqlError::new(code::GROUPING, text));
    }
    // One over columns of a query further out belongs to that query.
    let mut levels = Vec::new();
    for arg in &aggregate.args {
        column_levels(arg, &mut levels);
    }
    if !levels.is_empty() && !levels.contains(&0) {
        return Err(SqlError::unsupported("aggregates of a query further out"));
    }
    let known = group.aggregates.iter().position(|known| known == aggregate);
    let index = known.unwrap_or_else(|| {
        group.aggregates.push(aggregate.clone());
        group.aggregates.len().saturating_sub(1)
    });
    Ok(group.keys.len().saturating_add(index))
}

/// Collects how far out the columns of an expression lie.
fn column_levels(expr: &Expr, levels: &mut Vec<usize>) {
    if let Expr::Column { up, .. } = expr {
        levels.push(*up);
    }
    let mut copy = expr.clone();
    each_part(&mut copy, &mut |part| {
        column_levels(part, levels);
        Ok(())
    })
    .ok();
}

type Visit<'v> = &'v mut dyn FnMut(&mut Expr) -> Result<(), SqlError>;

/// Visits the direct parts of an expression; subqueries are not entered.
fn each_part(expr: &mut Expr, visit: Visit<'_>) -> Result<(), SqlError> {
    match expr {
        Expr::Const(_) | Expr::Column { .. } | Expr::Param(_) | Expr::Aggregate(_) => Ok(()),
        Expr::Cast { expr, .. } | Expr::Not(expr) => visit(expr),
        Expr::IsNull { expr, .. } | Expr::Is { expr, .. } => visit(expr),
        Expr::And(items)
        | Expr::Or(items)
        | Expr::Coalesce(items)
        | Expr::Array(items)
        | Expr::Row(items)
        | Expr::Extremum { items, .. }
        | Expr::Call { args: items, .. }
        | Expr::UserCall { args: items, .. } => items.iter_mut().try_for_each(visit),
        Expr::Distinct { left, right, .. }
        | Expr::Compare { left, right, .. }
        | Expr::Arithmetic { left, right, .. }
        | Expr::Quantified { left, array: right, .. }
        | Expr::Like { expr: left, pattern: right, .. }
        | Expr::Element { array: left, index: right } => {
            visit(left)?;
            visit(right)
        }
        Expr::Case { branches, otherwise } => {
            for (condition, result) in branches {
                visit(condition)?;
                visit(result)?;
            }
            visit(otherwise)
        }
        Expr::Subquery { kind, .. } => match kind {
            SubqueryKind::Quantified { left, .. } => visit(left),
            SubqueryKind::Scalar | SubqueryKind::Exists | SubqueryKind::Array => Ok(()),
        },
    }
}

type VisitInner<'v> = &'v mut dyn FnMut(&mut Expr, usize) -> Result<(), SqlError>;

/// Visits every expression of a subquery, with the number of rows it stands inside of.
fn in_query(query: &mut QueryPlan, visit: VisitInner<'_>) -> Result<(), SqlError> {
    match &mut query.body {
        Body::Select(select) => {
            in_source(&mut select.source, visit)?;
            let parts = select.filter.iter_mut().chain(&mut select.outputs);
            for part in parts.chain(&mut select.having) {
                visit(part, 1)?;
            }
            if let Some(group) = &mut select.group {
                for key in &mut group.keys {
                    visit(key, 1)?;
                }
                for aggregate in &mut group.aggregates {
                    for part in aggregate.args.iter_mut().chain(&mut aggregate.filter) {
                        visit(part, 1)?;
                    }
                }
            }
        }
        Body::Values(rows) => {
            for cell in rows.iter_mut().flatten() {
                visit(cell, 1)?;
            }
        }
        Body::Combined { left, right, .. } => {
            in_query(left, visit)?;
            in_query(right, visit)?;
        }
    }
    for part in query.limit.iter_mut().chain(&mut query.offset) {
        visit(part, 1)?;
    }
    Ok(())
}

fn in_source(source: &mut Source, visit: VisitInner<'_>) -> Result<(), SqlError> {
    match source {
        Source::Nothing | Source::Scan(_) | Source::System(_) => Ok(()),
        Source::Query(plan) => in_query(Rc::make_mut(plan), visit),
        Source::Function(function) => in_function(function, visit),
        Source::Join(join) => {
            let Join { left, right, lateral, on, .. } = join.as_mut();
            in_source(left, visit)?;
            let inner = usize::from(*lateral);
            in_source(right, &mut |part, depth| visit(part, depth.saturating_add(inner)))?;
            on.iter_mut().try_for_each(|on| visit(on, 1))
        }
    }
}

fn in_function(function: &mut TableFunction, visit: VisitInner<'_>) -> Result<(), SqlError> {
    match function {
        TableFunction::Call { args, .. } | TableFunction::User { args, .. } => {
            args.iter_mut().try_for_each(|arg| visit(arg, 0))
        }
        TableFunction::Scalar(expr) => visit(expr, 0),
        TableFunction::Ordinality(inner) => in_function(inner, visit),
    }
}
