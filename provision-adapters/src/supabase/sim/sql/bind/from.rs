//! Binds `FROM` lists: tables, views, subqueries, functions and joins.

use std::collections::BTreeSet;
use std::rc::Rc;

use sqlparser::ast::{
    FunctionArg, Join as AstJoin, JoinConstraint, JoinOperator, ObjectName, Query, TableAlias,
    TableFactor, TableWithJoins,
};

use super::super::error::{SqlError, code};
use super::super::parse;
use super::super::parse::{Name, checked};
use super::super::plan::{
    Comparison, Expr, Join, OutputColumn, QueryPlan, Scan, Source, TableFunction,
};
use super::super::state::lookup::Found;
use super::super::state::{PolicyCommand, Relation, RelationKind};
use super::super::value::sql_type::Type;
use super::Binder;
use super::expr::compare;
use super::scope::{Scope, Table, table_of};
use super::uses::TableUse;

/// A source with the names it brings.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) source: Source,
    pub(crate) tables: Vec<Table>,
    /// True when it must be evaluated for each row beside it.
    lateral: bool,
}

impl Bound {
    fn width(&self) -> usize {
        self.tables.iter().map(|table| table.columns.len()).sum()
    }
}

impl Binder<'_> {
    /// Binds a whole list; its items stand side by side.
    pub(crate) fn from(
        &self,
        items: &[TableWithJoins],
        outer: &Scope<'_>,
    ) -> Result<Bound, SqlError> {
        let mut all: Option<Bound> = None;
        for item in items {
            let left = all.as_ref().map(|bound| scope_of(bound, outer));
            let right = self.joined(item, outer, left.as_ref())?;
            all = Some(match all {
                None => right,
                Some(left) => combine(left, right, (false, false), None)?,
            });
        }
        Ok(all.unwrap_or(Bound { source: Source::Nothing, tables: Vec::new(), lateral: false }))
    }

    fn joined(
        &self,
        item: &TableWithJoins,
        outer: &Scope<'_>,
        beside: Option<&Scope<'_>>,
    ) -> Result<Bound, SqlError> {
        let mut left = self.factor(&item.relation, outer, beside)?;
        if left.lateral && !item.joins.is_empty() {
            return Err(SqlError::unsupported("joins behind a lateral item of a list"));
        }
        for join in &item.joins {
            left = self.join(left, join, outer)?;
        }
        Ok(left)
    }

    fn join(&self, left: Bound, join: &AstJoin, outer: &Scope<'_>) -> Result<Bound, SqlError> {
        let scope = scope_of(&left, outer);
        let right = self.factor(&join.relation, outer, Some(&scope))?;
        let (constraint, keep) = match &join.join_operator {
            _ if join.global => return Err(SqlError::unsupported("GLOBAL joins")),
            JoinOperator::Join(on) | JoinOperator::Inner(on) => (on, (false, false)),
            JoinOperator::Left(on) | JoinOperator::LeftOuter(on) => (on, (true, false)),
            JoinOperator::Right(on) | JoinOperator::RightOuter(on) => (on, (false, true)),
            JoinOperator::FullOuter(on) => (on, (true, true)),
            JoinOperator::CrossJoin(JoinConstraint::None) => {
                return combine(left, right, (false, false), None);
            }
            _ => return Err(SqlError::unsupported("this kind of join")),
        };
        if right.lateral && keep.1 {
            let text = "invalid reference to FROM-clause entry in a RIGHT or FULL JOIN";
            return Err(SqlError::new(code::INVALID_COLUMN_REFERENCE, text));
        }
        let (left_names, right_names) = (left.tables.clone(), right.tables.clone());
        let mut both = outer.inside();
        both.append(left_names)?;
        both.append(right_names)?;
        match constraint {
            JoinConstraint::On(on) => {
                let on = self.condition(&self.expr(on, &both)?, "JOIN/ON")?;
                combine(left, right, keep, Some(on))
            }
            JoinConstraint::Using(names) if !keep.1 => {
                let (on, merged) = self.using(names, &left, &right)?;
                let mut right = right;
                for (table, place) in merged {
                    if let Some(table) = right.tables.get_mut(table) {
                        table.merged.insert(place);
                    }
                }
                combine(left, right, keep, Some(on))
            }
            JoinConstraint::Using(_) => Err(SqlError::unsupported("USING in an outer join")),
            JoinConstraint::Natural => Err(SqlError::unsupported("natural joins")),
            JoinConstraint::None => Err(SqlError::syntax("JOIN without ON")),
        }
    }

    /// Binds `USING`: equal columns, of which the left ones stay visible.
    fn using(
        &self,
        names: &[ObjectName],
        left: &Bound,
        right: &Bound,
    ) -> Result<(Expr, Vec<(usize, usize)>), SqlError> {
        let width = left.width();
        let mut parts = Vec::new();
        let mut merged = Vec::new();
        for name in names {
            let name = relation_name(name)?.name;
            let side = |bound: &Bound| {
                let mut scope = Scope::ROOT;
                scope.append(bound.tables.clone())?;
                scope.column(&name)?.ok_or_else(|| {
                    let text =
                        format!("column \"{name}\" specified in USING clause does not exist");
                    SqlError::new(code::UNDEFINED_COLUMN, text)
                })
            };
            let (a, mut b) = (side(left)?, side(right)?);
            for (place, table) in right.tables.iter().enumerate() {
                if let Some(column) = b.index.checked_sub(table.offset)
                    && column < table.columns.len()
                {
                    merged.push((place, column));
                }
            }
            b.index = b.index.saturating_add(width);
            let (a, b) = (self.column(a), self.column(b));
            let (a, b, _) = self.comparable((&a, &b), "=")?;
            parts.push(compare(Comparison::Equal, a, b));
        }
        Ok((Expr::And(parts), merged))
    }

    fn factor(
        &self,
        factor: &TableFactor,
        outer: &Scope<'_>,
        beside: Option<&Scope<'_>>,
    ) -> Result<Bound, SqlError> {
        let _depth = self.env.shared.enter()?;
        match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version: None,
                with_ordinality,
                partitions,
                json_path: None,
                sample: None,
                index_hints,
            } if with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty() => {
                if let Some(table) = only_table(name, alias.as_ref()) {
                    return self.named_table(&table?, None, (outer, true));
                }
                let name = relation_name(name)?;
                match args {
                    None if *with_ordinality => Err(SqlError::syntax("with")),
                    None => self.named_table(&name, alias.as_ref(), (outer, false)),
                    Some(args) if args.settings.is_none() => {
                        let call = (&name, args.args.as_slice(), *with_ordinality);
                        self.function_table(call, alias.as_ref(), beside.unwrap_or(outer))
                    }
                    Some(_) => Err(SqlError::unsupported(factor)),
                }
            }
            TableFactor::Derived { lateral, subquery, alias, sample: None } => {
                let scope = if *lateral { beside.unwrap_or(outer) } else { outer };
                let mut bound = self.derived(subquery, alias.as_ref(), scope)?;
                bound.lateral = *lateral && beside.is_some();
                Ok(bound)
            }
            TableFactor::Function { name, args, with_ordinality, alias, lateral: _ } => {
                let name = relation_name(name)?;
                let call = (&name, args.as_slice(), *with_ordinality);
                self.function_table(call, alias.as_ref(), beside.unwrap_or(outer))
                    .map(|bound| Bound { lateral: beside.is_some(), ..bound })
            }
            TableFactor::UNNEST {
                alias,
                array_exprs,
                with_offset: false,
                with_offset_alias: None,
                with_ordinality,
            } => {
                let name = Name { schema: None, name: "unnest".to_owned() };
                let arg = |expr: &sqlparser::ast::Expr| {
                    FunctionArg::Unnamed(sqlparser::ast::FunctionArgExpr::Expr(expr.clone()))
                };
                let args: Vec<FunctionArg> = array_exprs.iter().map(arg).collect();
                let call = (&name, args.as_slice(), *with_ordinality);
                self.function_table(call, alias.as_ref(), beside.unwrap_or(outer))
                    .map(|bound| Bound { lateral: beside.is_some(), ..bound })
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                self.joined(table_with_joins, outer, None)
            }
            other => Err(SqlError::unsupported(format!("{other} in FROM"))),
        }
        .map(|bound| lateral_call(bound, factor, beside.is_some()))
    }

    fn derived(
        &self,
        query: &Query,
        alias: Option<&TableAlias>,
        scope: &Scope<'_>,
    ) -> Result<Bound, SqlError> {
        let Some(alias) = alias else {
            return Err(SqlError::new(code::SYNTAX, "subquery in FROM must have an alias"));
        };
        let plan = self.query(query, scope)?;
        query_table(Rc::new(plan), alias)
    }

    fn function_table(
        &self,
        (name, args, ordinality): (&Name, &[FunctionArg], bool),
        alias: Option<&TableAlias>,
        scope: &Scope<'_>,
    ) -> Result<Bound, SqlError> {
        let (mut function, mut columns) = self.table_function(name, args, scope)?;
        if let (Some(alias), [(only, _)]) = (alias, columns.as_mut_slice())
            && !matches!(&function, TableFunction::User { .. } if *only != name.name)
        {
            // A function with one column lends it the alias of the table.
            *only = checked(&alias.name)?;
        }
        if ordinality {
            columns.push(("ordinality".to_owned(), Type::Int8));
            function = TableFunction::Ordinality(Box::new(function));
        }
        let mut table = plain_table(name.name.clone(), columns);
        rename(&mut table, alias)?;
        Ok(Bound { source: Source::Function(function), tables: vec![table], lateral: false })
    }

    fn named_table(
        &self,
        name: &Name,
        alias: Option<&TableAlias>,
        (outer, only): (&Scope<'_>, bool),
    ) -> Result<Bound, SqlError> {
        if name.schema.is_none()
            && let Some(plan) = outer.cte(&name.name)
        {
            let mut bound = query_bound(plan, name.name.clone());
            if let Some(table) = bound.tables.first_mut() {
                rename(table, alias)?;
            }
            return Ok(bound);
        }
        let mut bound = match self.resolver().relation(name)? {
            Found::System(system) => {
                let columns =
                    system.columns.iter().map(|(name, ty)| ((*name).to_owned(), ty.ty())).collect();
                let mut table = plain_table(system.name.to_owned(), columns);
                table.incomplete = !system.complete;
                table.schema = Some(self.env.db.schema_name(system.schema).to_owned());
                Bound { source: Source::System(system), tables: vec![table], lateral: false }
            }
            Found::Relation(relation) => self.relation_table(relation, only)?,
        };
        if let (Some(table), Some(_)) = (bound.tables.first_mut(), alias) {
            rename(table, alias)?;
        }
        Ok(bound)
    }

    /// Reads a relation: notes the use, and puts its policies or its query in place.
    pub(crate) fn relation_table(
        &self,
        relation: &Relation,
        only: bool,
    ) -> Result<Bound, SqlError> {
        self.depends(relation.oid);
        if relation.kind == RelationKind::Index {
            let text = format!("cannot open relation \"{}\"", relation.name);
            return Err(SqlError::new(code::WRONG_OBJECT_TYPE, text));
        }
        let used = {
            let mut uses = self.uses.borrow_mut();
            let mut entry = TableUse::new(relation.oid, self.reader);
            entry.reads = true;
            uses.tables.push(entry);
            uses.tables.len().saturating_sub(1)
        };
        let schema = self.env.db.schema_name(relation.schema);
        let mut table = table_of(relation, schema, used);
        if relation.kind == RelationKind::Sequence {
            table.columns = vec![
                ("last_value".to_owned(), Type::Int8),
                ("log_cnt".to_owned(), Type::Int8),
                ("is_called".to_owned(), Type::Bool),
            ];
        }
        let source = if relation.kind == RelationKind::View {
            Source::Query(Rc::new(self.view(relation)?))
        } else {
            let security = self.row_security(relation, PolicyCommand::Select)?;
            let security = security.map(Box::new);
            Source::Scan(Scan { relation: relation.oid, only, security })
        };
        Ok(Bound { source, tables: vec![table], lateral: false })
    }

    /// Binds the query of a view, as its owner unless it is an invoker's view.
    fn view(&self, relation: &Relation) -> Result<QueryPlan, SqlError> {
        let stored = relation.query.as_ref();
        let stored = stored.ok_or_else(|| SqlError::internal("a view has no query"))?;
        let mut inner = self.stored(stored);
        // An invoker's view asks for the rights of the current user, wherever it is used.
        let invoker = relation.option("security_invoker");
        inner.reader = if invoker { self.env.role } else { relation.owner };
        let mut plan = inner.query(&*parse::query(&stored.text)?, &Scope::ROOT)?;
        let declared = relation.columns.iter();
        plan.columns = declared
            .map(|column| OutputColumn { name: column.name.clone(), ty: column.ty.clone() })
            .collect();
        Ok(plan)
    }
}

/// Reads `ONLY name`, which the parser takes for a table `only` with an alias.
fn only_table(name: &ObjectName, alias: Option<&TableAlias>) -> Option<Result<Name, SqlError>> {
    let [part] = name.0.as_slice() else { return None };
    let word = part.as_ident()?;
    if word.quote_style.is_some() || !word.value.eq_ignore_ascii_case("only") {
        return None;
    }
    let alias = alias.filter(|alias| !alias.explicit && alias.columns.is_empty())?;
    Some(checked(&alias.name).map(|name| Name { schema: None, name }))
}

/// Marks calls beside another source: they see its row.
fn lateral_call(mut bound: Bound, factor: &TableFactor, beside: bool) -> Bound {
    if matches!(factor, TableFactor::Table { args: Some(_), .. }) && beside {
        bound.lateral = true;
    }
    bound
}

fn scope_of<'s>(bound: &Bound, outer: &'s Scope<'s>) -> Scope<'s> {
    Scope { tables: bound.tables.clone(), ..outer.inside() }
}

/// Puts two sources side by side.
fn combine(
    left: Bound,
    right: Bound,
    (keep_left, keep_right): (bool, bool),
    on: Option<Expr>,
) -> Result<Bound, SqlError> {
    let (left_width, right_width) = (left.width(), right.width());
    let mut scope = Scope::ROOT;
    scope.append(left.tables)?;
    scope.append(right.tables)?;
    let join = Join {
        left: left.source,
        right: right.source,
        left_width,
        right_width,
        keep_left,
        keep_right,
        lateral: right.lateral,
        on,
    };
    Ok(Bound { source: Source::Join(Box::new(join)), tables: scope.tables, lateral: left.lateral })
}

fn plain_table(alias: String, columns: Vec<(String, Type)>) -> Table {
    Table {
        alias,
        schema: None,
        columns,
        merged: BTreeSet::new(),
        offset: 0,
        used: None,
        incomplete: false,
    }
}

fn query_bound(plan: Rc<QueryPlan>, alias: String) -> Bound {
    let columns = plan.columns.iter().map(|c| (c.name.clone(), c.ty.clone())).collect();
    let tables = vec![plain_table(alias, columns)];
    Bound { source: Source::Query(plan), tables, lateral: false }
}

fn query_table(plan: Rc<QueryPlan>, alias: &TableAlias) -> Result<Bound, SqlError> {
    let mut bound = query_bound(plan, String::new());
    if let Some(table) = bound.tables.first_mut() {
        rename(table, Some(alias))?;
    }
    Ok(bound)
}

/// Applies `AS name (column, ..)`.
fn rename(table: &mut Table, alias: Option<&TableAlias>) -> Result<(), SqlError> {
    let Some(alias) = alias else { return Ok(()) };
    if alias.at.is_some() {
        return Err(SqlError::unsupported(alias));
    }
    table.alias = checked(&alias.name)?;
    table.schema = None;
    if alias.columns.len() > table.columns.len() {
        let text = format!(
            "table \"{}\" has {} columns available but {} columns specified",
            table.alias,
            table.columns.len(),
            alias.columns.len()
        );
        return Err(SqlError::new(code::INVALID_COLUMN_REFERENCE, text));
    }
    for (slot, column) in table.columns.iter_mut().zip(&alias.columns) {
        if column.data_type.is_some() {
            return Err(SqlError::unsupported(alias));
        }
        slot.0 = checked(&column.name)?;
    }
    Ok(())
}

/// Reads the name of a relation.
pub(crate) fn relation_name(name: &ObjectName) -> Result<Name, SqlError> {
    let mut parts = Vec::new();
    for part in &name.0 {
        let ident = part.as_ident().ok_or_else(|| SqlError::unsupported(name))?;
        parts.push(checked(ident)?);
    }
    match parts.as_slice() {
        [name] => Ok(Name { schema: None, name: name.clone() }),
        [schema, name] => Ok(Name { schema: Some(schema.clone()), name: name.clone() }),
        _ => Err(SqlError::unsupported(format!("name {}", parts.join(".")))),
    }
}
