//! Binds the bodies of SQL functions.

use std::cell::RefCell;

use sqlparser::ast::{Query, SetExpr};

use super::super::error::{SqlError, code};
use super::super::parse::{self, statement::Statement};
use super::super::plan::{OutputColumn, QueryPlan};
use super::super::run::Env;
use super::super::state::{Function, Shape};
use super::super::value::sql_type::{CastLevel, Type, cast_level};
use super::Binder;
use super::scope::Scope;
use super::uses::Uses;

/// Reads a body that must be one query.
pub(crate) fn parse_body(text: &str) -> Result<Box<Query>, SqlError> {
    let mut statements = parse::script(text)?;
    match (statements.pop(), statements.is_empty()) {
        (Some(Statement::Query(query)), true) => match query.body.as_ref() {
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                Err(SqlError::unsupported("function bodies that write"))
            }
            _ => Ok(query),
        },
        _ => Err(SqlError::unsupported("function bodies other than one SELECT")),
    }
}

/// Binds the body of a function as the role it runs as, and checks that role's rights.
pub(crate) fn body(env: &Env<'_>, function: &Function) -> Result<QueryPlan, SqlError> {
    let parsed = parse_body(&function.body)?;
    let uses = RefCell::new(Uses::default());
    let plan = bind(env, function, &parsed, &uses)?;
    uses.into_inner().check(env)?;
    Ok(plan)
}

/// Binds a body without asking for rights, as its creation does.
pub(crate) fn check(env: &Env<'_>, function: &Function) -> Result<(), SqlError> {
    let parsed = parse_body(&function.body)?;
    bind(env, function, &parsed, &RefCell::new(Uses::default())).map(|_| ())
}

fn bind(
    env: &Env<'_>,
    function: &Function,
    parsed: &Query,
    uses: &RefCell<Uses>,
) -> Result<QueryPlan, SqlError> {
    let mut binder = Binder::new(env, uses);
    let named =
        |argument: &super::super::state::Argument| (argument.name.clone(), argument.ty.clone());
    binder.arguments = function.arguments.iter().map(named).collect();
    let plan = binder.query(parsed, &Scope::ROOT)?;
    let wanted: Vec<Type> = match &function.returns.shape {
        // A function without a result may end in any query.
        Shape::Scalar(Type::Void) => return Ok(plan),
        Shape::Scalar(ty) => vec![ty.clone()],
        Shape::Table(columns) => columns.iter().map(|(_, ty)| ty.clone()).collect(),
        Shape::Relation(relation) => {
            env.db.relation(*relation)?.columns.iter().map(|column| column.ty.clone()).collect()
        }
    };
    shaped(plan, &wanted, &function.name)
}

/// Brings the columns of a body to those the function declares.
fn shaped(plan: QueryPlan, wanted: &[Type], name: &str) -> Result<QueryPlan, SqlError> {
    let mismatch = || {
        let text = format!("return type mismatch in function \"{name}\"");
        SqlError::new(code::INVALID_FUNCTION, text)
    };
    if plan.columns.len() != wanted.len() {
        return Err(mismatch());
    }
    let mut columns = Vec::new();
    let mut outputs = Vec::new();
    for (index, (column, to)) in plan.columns.iter().zip(wanted).enumerate() {
        let level = cast_level(&column.ty, to).ok_or_else(mismatch)?;
        if level > CastLevel::Assignment {
            return Err(mismatch());
        }
        outputs.push(super::super::plan::Expr::Cast {
            expr: Box::new(super::super::plan::Expr::Column { up: 0, index }),
            from: column.ty.clone(),
            to: to.clone(),
            explicit: false,
        });
        columns.push(OutputColumn { name: column.name.clone(), ty: to.clone() });
    }
    if plan.columns.iter().zip(wanted).all(|(column, to)| column.ty == *to) {
        return Ok(plan);
    }
    let select = super::super::plan::SelectPlan {
        source: super::super::plan::Source::Query(std::rc::Rc::new(plan)),
        filter: None,
        group: None,
        having: None,
        outputs,
        distinct: false,
    };
    let body = super::super::plan::Body::Select(Box::new(select));
    Ok(QueryPlan { body, columns, order: Vec::new(), limit: None, offset: None })
}
