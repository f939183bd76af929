//! From parsed text to plans: resolves names, checks types, and notes what a statement touches.
//!
//! The rights are not checked here but noted in [`Uses`]: the server, too, first understands a whole
//! statement and then asks whether it may run.

pub(crate) mod call;
pub(crate) mod coercion;
pub(crate) mod column_name;
pub(crate) mod expr;
pub(crate) mod from;
pub(crate) mod group;
pub(crate) mod operator;
pub(crate) mod query;
pub(crate) mod routine;
pub(crate) mod scope;
pub(crate) mod security;
pub(crate) mod uses;

use std::cell::RefCell;

use self::uses::Uses;
use super::error::SqlError;
use super::parse;
use super::plan::{Expr, QueryPlan, Typed};
use super::run::Env;
use super::state::lookup::Resolver;
use super::state::{Oid, StoredSql};
use super::value::sql_type::Type;
use scope::Scope;

/// Binds parsed text in the surroundings of a role.
#[derive(Debug, Clone)]
pub(crate) struct Binder<'e> {
    pub(crate) env: &'e Env<'e>,
    pub(crate) path: Vec<String>,
    /// False inside stored definitions, whose names were resolved at creation.
    pub(crate) check_usage: bool,
    /// Role whose rights on tables count; the owner inside a view.
    pub(crate) reader: Oid,
    pub(crate) uses: &'e RefCell<Uses>,
    /// True inside what the statement itself does not name.
    pub(crate) nested: bool,
    /// Tables whose policies are being bound, to find those that need themselves.
    pub(crate) securing: Vec<Oid>,
    /// True in the branches of a set operation, whose literals wait for the other branch.
    pub(crate) untyped: bool,
    /// Arguments of the function whose body is bound.
    pub(crate) arguments: Vec<(Option<String>, Type)>,
}

impl<'e> Binder<'e> {
    /// Binds a statement as the current role.
    pub(crate) fn new(env: &'e Env<'e>, uses: &'e RefCell<Uses>) -> Self {
        Self {
            env,
            path: env.path.clone(),
            check_usage: true,
            reader: env.role,
            uses,
            nested: false,
            securing: Vec::new(),
            untyped: false,
            arguments: Vec::new(),
        }
    }

    pub(crate) fn resolver(&self) -> Resolver<'_> {
        Resolver {
            db: self.env.db,
            role: self.env.role,
            path: &self.path,
            check_usage: self.check_usage,
        }
    }

    /// A binder for something stored: its own search path, names taken as they were resolved.
    pub(crate) fn stored(&self, sql: &StoredSql) -> Self {
        Self {
            path: sql.path.clone(),
            check_usage: false,
            nested: true,
            arguments: Vec::new(),
            ..self.clone()
        }
    }

    /// Notes that the statement names an object.
    pub(crate) fn depends(&self, object: Oid) {
        if !self.nested {
            self.uses.borrow_mut().depends.insert(object);
        }
    }

    /// Binds a stored expression over the columns of a scope.
    pub(crate) fn stored_expr(
        &self,
        sql: &StoredSql,
        scope: &Scope<'_>,
    ) -> Result<Typed, SqlError> {
        let parsed = parse::expression(&sql.text)?;
        self.stored(sql).expr(&parsed, scope)
    }

    /// Binds a stored condition over the columns of a scope.
    pub(crate) fn stored_condition(
        &self,
        sql: &StoredSql,
        scope: &Scope<'_>,
    ) -> Result<Expr, SqlError> {
        let typed = self.stored_expr(sql, scope)?;
        self.condition(&typed, "a stored condition")
    }
}

/// Binds a query as the current role, with what it touches.
pub(crate) fn query(
    env: &Env<'_>,
    parsed: &sqlparser::ast::Query,
) -> Result<(QueryPlan, Uses), SqlError> {
    let uses = RefCell::new(Uses::default());
    let plan = Binder::new(env, &uses).query(parsed, &Scope::ROOT)?;
    Ok((plan, uses.into_inner()))
}

/// Keeps an expression as text, with the path it was understood under.
pub(crate) fn keep(
    env: &Env<'_>,
    expr: &sqlparser::ast::Expr,
    uses: Uses,
) -> Result<StoredSql, SqlError> {
    let text = expr.to_string();
    // What is kept must mean the same when it is read again.
    if parse::expression(&text).as_ref() != Ok(expr) {
        return Err(SqlError::unsupported(format!("storing the expression {text}")));
    }
    Ok(StoredSql { text, path: env.path.clone(), uses: uses.depends })
}

/// Keeps a query as text, with the path it was understood under.
pub(crate) fn keep_query(
    env: &Env<'_>,
    query: &sqlparser::ast::Query,
    uses: Uses,
) -> Result<StoredSql, SqlError> {
    let text = query.to_string();
    if parse::query(&text).as_deref() != Ok(query) {
        return Err(SqlError::unsupported(format!("storing the query {text}")));
    }
    Ok(StoredSql { text, path: env.path.clone(), uses: uses.depends })
}
