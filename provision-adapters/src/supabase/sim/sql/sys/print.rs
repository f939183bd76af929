//! Prints stored expressions as the catalogs show them.
//!
//! The server prints from its own tree: every operator in brackets, and each name with its schema
//! unless the reader's search path finds it. Verification reads these texts and evaluates them again,
//! so a name that is found elsewhere than it was meant would change what they say.

use sqlparser::ast::{
    AccessExpr, BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, Ident, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart,
    OrderByKind, Query, Select, SelectItem, SetExpr, Subscript, TableFactor, TableWithJoins,
};

use super::super::bind::call::function_name;
use super::super::bind::from::relation_name;
use super::super::error::SqlError;
use super::super::parse::{self, Name, fold};
use super::super::run::Env;
use super::super::state::StoredSql;
use super::super::state::lookup::{Found, PG_CATALOG, Resolver, quote_ident};
use super::super::value::sql_type;

/// Prints a stored expression for the reader of a catalog.
pub(crate) fn expression(env: &Env<'_>, sql: &StoredSql) -> Result<String, SqlError> {
    let mut expr = parse::expression(&sql.text)?;
    let stored = Resolver { db: env.db, role: env.role, path: &sql.path, check_usage: false };
    let printer = Printer { env, stored };
    printer.expr(&mut expr, None)?;
    Ok(expr.to_string())
}

/// Rewrites parsed text into the form the catalogs show.
struct Printer<'e> {
    env: &'e Env<'e>,
    /// Looks names up as they were meant.
    stored: Resolver<'e>,
}

impl Printer<'_> {
    /// Rewrites an expression; `around` is the connective it is part of, if any.
    fn expr(&self, expr: &mut Expr, around: Option<&BinaryOperator>) -> Result<(), SqlError> {
        let _depth = self.env.shared.enter()?;
        while let Expr::Nested(inner) = expr {
            *expr = std::mem::replace(inner.as_mut(), Expr::Tuple(Vec::new()));
        }
        match expr {
            Expr::BinaryOp { left, op, right } => {
                let op = op.clone();
                let chain = matches!(op, BinaryOperator::And | BinaryOperator::Or);
                self.expr(left, Some(&op).filter(|_| chain))?;
                self.expr(right, None)?;
                // A chain of the same connective needs no brackets within.
                if around == Some(&op) {
                    return Ok(());
                }
            }
            Expr::UnaryOp { expr: inner, .. }
            | Expr::IsNull(inner)
            | Expr::IsNotNull(inner)
            | Expr::IsTrue(inner)
            | Expr::IsNotTrue(inner)
            | Expr::IsFalse(inner)
            | Expr::IsNotFalse(inner) => self.expr(inner, None)?,
            Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => {
                self.expr(left, None)?;
                self.expr(right, None)?;
            }
            Expr::AnyOp { left, right, .. } | Expr::AllOp { left, right, .. } => {
                self.expr(left, None)?;
                self.expr(right, None)?;
            }
            Expr::Like { expr: inner, pattern, .. } | Expr::ILike { expr: inner, pattern, .. } => {
                self.expr(inner, None)?;
                self.expr(pattern, None)?;
            }
            Expr::InList { expr: inner, list, .. } => {
                self.expr(inner, None)?;
                list.iter_mut().try_for_each(|item| self.expr(item, None))?;
            }
            Expr::InSubquery { expr: inner, subquery, .. } => {
                self.expr(inner, None)?;
                self.query(subquery)?;
            }
            Expr::Between { expr: inner, low, high, .. } => {
                for part in [inner, low, high] {
                    self.expr(part, None)?;
                }
            }
            Expr::Exists { subquery, .. } => self.query(subquery)?,
            other => return self.operand(other),
        }
        let inner = std::mem::replace(expr, Expr::Tuple(Vec::new()));
        *expr = Expr::Nested(Box::new(inner));
        Ok(())
    }

    /// Rewrites what stands without brackets of its own.
    fn operand(&self, expr: &mut Expr) -> Result<(), SqlError> {
        match expr {
            Expr::Identifier(ident) => *ident = folded(ident),
            Expr::CompoundIdentifier(parts) => {
                parts.iter_mut().for_each(|part| *part = folded(part));
            }
            Expr::Subquery(query) => self.query(query)?,
            Expr::Function(function) => self.function(function)?,
            Expr::Cast { expr: inner, data_type, kind, .. } => {
                self.expr(inner, None)?;
                if !matches!(inner.as_ref(), Expr::Value(_) | Expr::Nested(_)) {
                    let bare = std::mem::replace(inner.as_mut(), Expr::Tuple(Vec::new()));
                    **inner = Expr::Nested(Box::new(bare));
                }
                let label = Ident::new(sql_type::from_ast(data_type)?.label());
                *data_type = DataType::Custom(
                    ObjectName(vec![ObjectNamePart::Identifier(label)]),
                    Vec::new(),
                );
                *kind = CastKind::DoubleColon;
            }
            Expr::Case { operand, conditions, else_result, .. } => {
                for part in operand.iter_mut().chain(else_result) {
                    self.expr(part, None)?;
                }
                for when in conditions {
                    self.expr(&mut when.condition, None)?;
                    self.expr(&mut when.result, None)?;
                }
            }
            Expr::Array(array) => {
                array.elem.iter_mut().try_for_each(|item| self.expr(item, None))?;
            }
            Expr::Tuple(items) => items.iter_mut().try_for_each(|item| self.expr(item, None))?,
            Expr::CompoundFieldAccess { root, access_chain } => {
                self.expr(root, None)?;
                for access in access_chain {
                    if let AccessExpr::Subscript(Subscript::Index { index }) = access {
                        self.expr(index, None)?;
                    }
                }
            }
            Expr::Value(_) | Expr::TypedString(_) | Expr::Interval(_) => {}
            other => return Err(SqlError::unsupported(format!("printing {other}"))),
        }
        Ok(())
    }

    fn function(&self, function: &mut Function) -> Result<(), SqlError> {
        let name = function_name(&function.name)?;
        if name.schema.is_none()
            && let Some(schema) = self.function_schema(&name)?
        {
            function.name = qualified(&schema, &name.name);
        }
        if let Some(part) = &mut function.filter {
            self.expr(part, None)?;
        }
        match &mut function.args {
            FunctionArguments::None => Ok(()),
            FunctionArguments::Subquery(query) => self.query(query),
            FunctionArguments::List(list) => {
                list.args.iter_mut().try_for_each(|arg| self.argument(arg))
            }
        }
    }

    fn argument(&self, arg: &mut FunctionArg) -> Result<(), SqlError> {
        match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => self.expr(expr, None),
            _ => Ok(()),
        }
    }

    /// The schema a function must be shown with, because the reader would not find it.
    fn function_schema(&self, name: &Name) -> Result<Option<String>, SqlError> {
        let Some(meant) = self.stored.functions(name)?.first().copied() else { return Ok(None) };
        let reader = self.env.resolver();
        let reader = Resolver { check_usage: false, ..reader };
        let visible = reader.functions(name)?.first().is_some_and(|seen| seen.oid == meant.oid);
        Ok((!visible).then(|| self.env.db.schema_name(meant.schema).to_owned()))
    }

    fn relation(&self, name: &mut ObjectName) -> Result<(), SqlError> {
        let written = relation_name(name)?;
        if written.schema.is_some() {
            return Ok(());
        }
        let reader = Resolver { check_usage: false, ..self.env.resolver() };
        let schema = match self.stored.find(&written)? {
            Some(Found::Relation(meant)) => {
                let seen = reader.find(&written)?;
                let visible = matches!(seen, Some(Found::Relation(seen)) if seen.oid == meant.oid);
                if visible { None } else { Some(self.env.db.schema_name(meant.schema)) }
            }
            Some(Found::System(system)) if system.schema != PG_CATALOG => {
                Some(self.env.db.schema_name(system.schema))
            }
            // A common table, or one of the server's own.
            _ => None,
        };
        if let Some(schema) = schema {
            *name = qualified(schema, &written.name);
        }
        Ok(())
    }

    fn query(&self, query: &mut Query) -> Result<(), SqlError> {
        if let Some(with) = &mut query.with {
            for cte in &mut with.cte_tables {
                self.query(&mut cte.query)?;
            }
        }
        if let Some(order) = &mut query.order_by
            && let OrderByKind::Expressions(keys) = &mut order.kind
        {
            keys.iter_mut().try_for_each(|key| self.expr(&mut key.expr, None))?;
        }
        self.body(&mut query.body)
    }

    fn body(&self, body: &mut SetExpr) -> Result<(), SqlError> {
        let _depth = self.env.shared.enter()?;
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(query) => self.query(query),
            SetExpr::SetOperation { left, right, .. } => {
                self.body(left)?;
                self.body(right)
            }
            SetExpr::Values(values) => {
                let cells = values.rows.iter_mut().flat_map(|row| &mut row.content);
                cells.into_iter().try_for_each(|cell| self.expr(cell, None))
            }
            _ => Err(SqlError::unsupported("printing this query")),
        }
    }

    fn select(&self, select: &mut Select) -> Result<(), SqlError> {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                self.expr(expr, None)?;
            }
        }
        for part in select.selection.iter_mut().chain(&mut select.having) {
            self.expr(part, None)?;
        }
        select.from.iter_mut().try_for_each(|item| self.tables(item))
    }

    fn tables(&self, item: &mut TableWithJoins) -> Result<(), SqlError> {
        self.factor(&mut item.relation)?;
        for join in &mut item.joins {
            self.factor(&mut join.relation)?;
            if let JoinOperator::Join(on)
            | JoinOperator::Inner(on)
            | JoinOperator::Left(on)
            | JoinOperator::LeftOuter(on)
            | JoinOperator::Right(on)
            | JoinOperator::RightOuter(on)
            | JoinOperator::FullOuter(on) = &mut join.join_operator
                && let JoinConstraint::On(on) = on
            {
                self.expr(on, None)?;
            }
        }
        Ok(())
    }

    fn factor(&self, factor: &mut TableFactor) -> Result<(), SqlError> {
        match factor {
            TableFactor::Table { name, args: None, .. } => self.relation(name),
            TableFactor::Table { name, args: Some(args), .. } => {
                let written = function_name(name)?;
                if written.schema.is_none()
                    && let Some(schema) = self.function_schema(&written)?
                {
                    *name = qualified(&schema, &written.name);
                }
                args.args.iter_mut().try_for_each(|arg| self.argument(arg))
            }
            TableFactor::Derived { subquery, .. } => self.query(subquery),
            TableFactor::NestedJoin { table_with_joins, .. } => self.tables(table_with_joins),
            TableFactor::UNNEST { array_exprs, .. } => {
                array_exprs.iter_mut().try_for_each(|expr| self.expr(expr, None))
            }
            _ => Err(SqlError::unsupported("printing this query")),
        }
    }
}

fn folded(ident: &Ident) -> Ident {
    let name = fold(ident);
    let plain = quote_ident(&name) == name;
    Ident { value: name, quote_style: if plain { None } else { Some('"') }, span: ident.span }
}

fn qualified(schema: &str, name: &str) -> ObjectName {
    let part = |name: &str| {
        let plain = quote_ident(name) == name;
        let mut ident = Ident::new(name);
        ident.quote_style = if plain { None } else { Some('"') };
        ObjectNamePart::Identifier(ident)
    };
    ObjectName(vec![part(schema), part(name)])
}
