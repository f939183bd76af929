//! Names the columns of a result the way the server does.

use sqlparser::ast::{Expr, SelectItem, SetExpr, Value};

use super::super::parse::fold;
use super::super::value::sql_type;
use super::call;

/// The name of an output that was given none.
pub(crate) fn of(expr: &Expr) -> String {
    name(expr).unwrap_or_else(|| "?column?".to_owned())
}

fn name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) => Some(fold(ident)),
        Expr::CompoundIdentifier(parts) => parts.last().map(fold),
        Expr::Nested(inner) => name(inner),
        Expr::CompoundFieldAccess { root, .. } => name(root),
        Expr::Function(function) => {
            let written = call::last_part(&function.name);
            Some(if written == "current_timestamp" {
                "current_timestamp".to_owned()
            } else {
                written
            })
        }
        Expr::Cast { expr, data_type, .. } => name(expr)
            .or_else(|| sql_type::from_ast(data_type).ok().map(|ty| sql_type::short_name(&ty))),
        Expr::TypedString(text) => {
            sql_type::from_ast(&text.data_type).ok().map(|ty| sql_type::short_name(&ty))
        }
        Expr::Interval(_) => Some("interval".to_owned()),
        Expr::Case { else_result, .. } => {
            let inner = else_result.as_deref().and_then(name);
            Some(inner.unwrap_or_else(|| "case".to_owned()))
        }
        Expr::Exists { .. } => Some("exists".to_owned()),
        Expr::Array(_) => Some("array".to_owned()),
        Expr::Tuple(_) => Some("row".to_owned()),
        Expr::Value(value) => match value.value {
            Value::Boolean(_) => Some("bool".to_owned()),
            _ => None,
        },
        Expr::Subquery(query) => match query.body.as_ref() {
            SetExpr::Select(select) => match select.projection.first() {
                Some(SelectItem::ExprWithAlias { alias, .. }) => Some(fold(alias)),
                Some(SelectItem::UnnamedExpr(expr)) => name(expr),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}
