//! Binds queries: select lists, set operations, order and limit.

use std::rc::Rc;

use sqlparser::ast::{
    self, Distinct, GroupByExpr, LimitClause, OrderByExpr, OrderByKind, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, SetOperator, SetQuantifier,
    WildcardAdditionalOptions,
};

use super::super::error::{SqlError, code};
use super::super::parse::{checked, fold, label};
use super::super::plan::{
    Body, Expr, OutputColumn, QueryPlan, SelectPlan, SetOperation, SortKey, Typed,
};
use super::super::value::sql_type::{CastLevel, Type, common};
use super::Binder;
use super::column_name;
use super::from::relation_name;
use super::scope::{Scope, Table};

impl Binder<'_> {
    /// Binds a query inside the names of a scope.
    pub(crate) fn query(&self, query: &Query, outer: &Scope<'_>) -> Result<QueryPlan, SqlError> {
        if self.untyped {
            return Self { untyped: false, ..self.clone() }.query(query, outer);
        }
        let _depth = self.env.shared.enter()?;
        let plain = query.fetch.is_none()
            && query.locks.is_empty()
            && query.for_clause.is_none()
            && query.settings.is_none()
            && query.format_clause.is_none()
            && query.pipe_operators.is_empty();
        if !plain {
            return Err(SqlError::unsupported("FETCH, FOR UPDATE and other clauses of queries"));
        }
        let mut scope = outer.inside();
        scope.transparent = true;
        if let Some(with) = &query.with {
            self.common_tables(with, &mut scope)?;
        }
        let inner = &scope;
        let empty = Vec::new();
        let order = match &query.order_by {
            None => &empty,
            Some(order) => match &order.kind {
                OrderByKind::Expressions(keys) if order.interpolate.is_none() => keys,
                _ => return Err(SqlError::unsupported("ORDER BY ALL")),
            },
        };
        let mut plan = self.body(&query.body, order, inner)?;
        self.limit(query, &mut plan, inner)?;
        Ok(plan)
    }

    fn common_tables(&self, with: &ast::With, scope: &mut Scope<'_>) -> Result<(), SqlError> {
        if with.recursive {
            return Err(SqlError::unsupported("WITH RECURSIVE"));
        }
        for cte in &with.cte_tables {
            if cte.from.is_some() || cte.alias.at.is_some() {
                return Err(SqlError::unsupported(cte));
            }
            let name = checked(&cte.alias.name)?;
            if scope.ctes.iter().any(|(known, _)| *known == name) {
                let text = format!("WITH query name \"{name}\" specified more than once");
                return Err(SqlError::new(code::DUPLICATE_ALIAS, text));
            }
            // The plan may be used further in, so it must not look at rows around it.
            let mut plan = self.query(&cte.query, &scope.only_ctes())?;
            if cte.alias.columns.len() > plan.columns.len() {
                let text = format!("WITH query \"{name}\" has fewer columns than specified");
                return Err(SqlError::new(code::INVALID_COLUMN_REFERENCE, text));
            }
            for (column, given) in plan.columns.iter_mut().zip(&cte.alias.columns) {
                column.name = checked(&given.name)?;
            }
            scope.ctes.push((name, Rc::new(plan)));
        }
        Ok(())
    }

    fn body(
        &self,
        body: &SetExpr,
        order: &[OrderByExpr],
        outer: &Scope<'_>,
    ) -> Result<QueryPlan, SqlError> {
        let _depth = self.env.shared.enter()?;
        match body {
            SetExpr::Select(select) => self.select(select, order, outer),
            SetExpr::Query(query) => {
                let inner = self.query(query, outer)?;
                if order.is_empty() { Ok(inner) } else { self.over(inner, order) }
            }
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                let combined = self.combined((left, *op, *set_quantifier, right), outer)?;
                self.ordered_by_output(combined, order)
            }
            SetExpr::Values(values) if !values.explicit_row && !values.value_keyword => {
                let rows: Vec<&[ast::Expr]> =
                    values.rows.iter().map(|row| row.content.as_slice()).collect();
                let plan = self.values(&rows, outer)?;
                self.ordered_by_output(plan, order)
            }
            _ => Err(SqlError::unsupported(format!("query {body}"))),
        }
    }

    fn over(&self, inner: QueryPlan, order: &[OrderByExpr]) -> Result<QueryPlan, SqlError> {
        // A bracketed query keeps its own order and limit below the outer ones.
        let outputs = (0..inner.columns.len()).map(|index| Expr::Column { up: 0, index }).collect();
        let columns = inner.columns.clone();
        let select = SelectPlan {
            source: super::super::plan::Source::Query(Rc::new(inner)),
            filter: None,
            group: None,
            having: None,
            outputs,
            distinct: false,
        };
        let body = Body::Select(Box::new(select));
        let plan = QueryPlan { body, columns, order: Vec::new(), limit: None, offset: None };
        self.ordered_by_output(plan, order)
    }

    fn combined(
        &self,
        (left, op, quantifier, right): (&SetExpr, SetOperator, SetQuantifier, &SetExpr),
        outer: &Scope<'_>,
    ) -> Result<QueryPlan, SqlError> {
        let all = match quantifier {
            SetQuantifier::All => true,
            SetQuantifier::None | SetQuantifier::Distinct => false,
            _ => return Err(SqlError::unsupported("set operations BY NAME")),
        };
        let op = match op {
            SetOperator::Union => SetOperation::Union,
            SetOperator::Except if !all => SetOperation::Except,
            SetOperator::Intersect if !all => SetOperation::Intersect,
            _ => return Err(SqlError::unsupported("EXCEPT ALL and INTERSECT ALL")),
        };
        let branches = Self { untyped: true, ..self.clone() };
        let (left, right) = (branches.body(left, &[], outer)?, branches.body(right, &[], outer)?);
        if left.columns.len() != right.columns.len() {
            let text = "each UNION query must have the same number of columns";
            return Err(SqlError::new(code::SYNTAX, text));
        }
        let mut columns = Vec::new();
        for (a, b) in left.columns.iter().zip(&right.columns) {
            let ty = common(&a.ty, &b.ty).ok_or_else(|| {
                let text =
                    format!("UNION types {} and {} cannot be matched", a.ty.label(), b.ty.label());
                SqlError::new(code::DATATYPE_MISMATCH, text)
            })?;
            columns.push(OutputColumn { name: a.name.clone(), ty });
        }
        let (left, right) = (self.converted(left, &columns)?, self.converted(right, &columns)?);
        let body = Body::Combined { op, all, left: Box::new(left), right: Box::new(right) };
        Ok(QueryPlan { body, columns, order: Vec::new(), limit: None, offset: None })
    }

    /// Brings the columns of a branch to the types the branches have in common.
    fn converted(&self, plan: QueryPlan, to: &[OutputColumn]) -> Result<QueryPlan, SqlError> {
        if plan.columns.iter().zip(to).all(|(from, to)| from.ty == to.ty) {
            return Ok(plan);
        }
        let mut outputs = Vec::new();
        for (index, (from, to)) in plan.columns.iter().zip(to).enumerate() {
            let typed = Typed { expr: Expr::Column { up: 0, index }, ty: from.ty.clone() };
            outputs.push(self.implicit(&typed, &to.ty)?);
        }
        let mut over = self.over(plan, &[])?;
        if let Body::Select(select) = &mut over.body {
            select.outputs = outputs;
        }
        over.columns = to.to_vec();
        Ok(over)
    }

    fn values(&self, rows: &[&[ast::Expr]], outer: &Scope<'_>) -> Result<QueryPlan, SqlError> {
        let scope = outer.inside();
        let width = rows.first().map_or(0, |row| row.len());
        if rows.iter().any(|row| row.len() != width) {
            let text = "VALUES lists must all be the same length";
            return Err(SqlError::new(code::SYNTAX, text));
        }
        let mut lists: Vec<Vec<Expr>> = vec![Vec::new(); rows.len()];
        let mut columns = Vec::new();
        for place in 0..width {
            let cells = rows.iter().filter_map(|row| row.get(place));
            let cells = cells.map(|cell| self.expr(cell, &scope)).collect::<Result<Vec<_>, _>>()?;
            let (exprs, ty) = self.unify(&cells, "VALUES")?;
            for (list, expr) in lists.iter_mut().zip(exprs) {
                list.push(expr);
            }
            columns.push(OutputColumn { name: format!("column{}", place.saturating_add(1)), ty });
        }
        let body = Body::Values(lists);
        Ok(QueryPlan { body, columns, order: Vec::new(), limit: None, offset: None })
    }

    fn select(
        &self,
        select: &Select,
        order: &[OrderByExpr],
        outer: &Scope<'_>,
    ) -> Result<QueryPlan, SqlError> {
        refuse_clauses(select)?;
        let bound = self.from(&select.from, outer)?;
        let scope = Scope { tables: bound.tables, ..outer.inside() };
        let filter = match &select.selection {
            Some(filter) => {
                let filter = self.condition(&self.expr(filter, &scope)?, "WHERE")?;
                super::group::refuse_aggregates(&filter, "WHERE")?;
                Some(filter)
            }
            None => None,
        };
        let (mut outputs, columns) = self.outputs(&select.projection, &scope)?;
        let keys = self.group_keys(&select.group_by, (&outputs, &columns), &scope)?;
        let having = match &select.having {
            Some(having) => Some(self.condition(&self.expr(having, &scope)?, "HAVING")?),
            None => None,
        };
        let visible = outputs.len();
        let order = self.select_order(order, (&mut outputs, &columns), &scope)?;
        let distinct = match &select.distinct {
            None | Some(Distinct::All) => false,
            Some(Distinct::Distinct) => {
                check_distinct(&columns, outputs.len() > visible)?;
                true
            }
            Some(Distinct::On(_)) => return Err(SqlError::unsupported("DISTINCT ON")),
        };
        let mut plan =
            SelectPlan { source: bound.source, filter, group: None, having, outputs, distinct };
        super::group::apply(&mut plan, keys)?;
        let body = Body::Select(Box::new(plan));
        Ok(QueryPlan { body, columns, order, limit: None, offset: None })
    }

    /// Binds a select list, stars included.
    pub(crate) fn outputs(
        &self,
        items: &[SelectItem],
        scope: &Scope<'_>,
    ) -> Result<(Vec<Expr>, Vec<OutputColumn>), SqlError> {
        let mut outputs = Vec::new();
        let mut columns = Vec::new();
        for item in items {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    let typed = self.output(expr, scope)?;
                    columns.push(OutputColumn { name: column_name::of(expr), ty: typed.ty });
                    outputs.push(typed.expr);
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    let typed = self.output(expr, scope)?;
                    columns.push(OutputColumn { name: label(alias)?, ty: typed.ty });
                    outputs.push(typed.expr);
                }
                SelectItem::Wildcard(options) => {
                    plain_star(options)?;
                    if scope.tables.is_empty() {
                        let text = "SELECT * with no tables specified is not valid";
                        return Err(SqlError::new(code::SYNTAX, text));
                    }
                    for table in &scope.tables {
                        self.star(table, (&mut outputs, &mut columns))?;
                    }
                }
                SelectItem::QualifiedWildcard(kind, options) => {
                    plain_star(options)?;
                    let table = qualified_table(kind, scope)?;
                    let mut table = table.clone();
                    table.merged.clear();
                    self.star(&table, (&mut outputs, &mut columns))?;
                }
                SelectItem::ExprWithAliases { .. } => {
                    return Err(SqlError::unsupported(item));
                }
            }
        }
        Ok((outputs, columns))
    }

    fn output(&self, expr: &ast::Expr, scope: &Scope<'_>) -> Result<Typed, SqlError> {
        let typed = self.expr(expr, scope)?;
        let typed = if self.untyped { typed } else { self.settle(typed)? };
        if typed.ty == Type::Record {
            return Err(SqlError::unsupported("rows as values of a result"));
        }
        Ok(typed)
    }

    fn star(
        &self,
        table: &Table,
        (outputs, columns): (&mut Vec<Expr>, &mut Vec<OutputColumn>),
    ) -> Result<(), SqlError> {
        if table.incomplete {
            return Err(SqlError::unsupported(format!("all columns of {}", table.alias)));
        }
        for (place, (name, ty)) in table.columns.iter().enumerate() {
            if table.merged.contains(&place) {
                continue;
            }
            if let Some(found) = table.at(place, 0) {
                outputs.push(self.column(found).expr);
                columns.push(OutputColumn { name: name.clone(), ty: ty.clone() });
            }
        }
        Ok(())
    }

    fn group_keys(
        &self,
        group: &GroupByExpr,
        (outputs, columns): (&[Expr], &[OutputColumn]),
        scope: &Scope<'_>,
    ) -> Result<Vec<Expr>, SqlError> {
        let GroupByExpr::Expressions(items, modifiers) = group else {
            return Err(SqlError::unsupported("GROUP BY ALL"));
        };
        if !modifiers.is_empty() {
            return Err(SqlError::unsupported("GROUP BY with modifiers"));
        }
        let mut keys = Vec::new();
        for item in items {
            if let Some(place) = position(item, outputs.len(), "GROUP BY")? {
                keys.extend(outputs.get(place).cloned());
                continue;
            }
            // A name means a column first, and only then an alias of the list.
            let alias = match item {
                ast::Expr::Identifier(ident) if scope.column(&fold(ident))?.is_none() => {
                    let name = fold(ident);
                    columns.iter().position(|column| column.name == name)
                }
                _ => None,
            };
            match alias.and_then(|place| outputs.get(place)) {
                Some(output) => keys.push(output.clone()),
                None => {
                    let typed = self.settle(self.expr(item, scope)?)?;
                    if !typed.ty.has_equality() {
                        return Err(no_equality(&typed.ty));
                    }
                    keys.push(typed.expr);
                }
            }
        }
        Ok(keys)
    }

    /// Binds the order of a select; keys that are no output become hidden ones.
    fn select_order(
        &self,
        order: &[OrderByExpr],
        (outputs, columns): (&mut Vec<Expr>, &[OutputColumn]),
        scope: &Scope<'_>,
    ) -> Result<Vec<SortKey>, SqlError> {
        let mut keys = Vec::new();
        for key in order {
            let index = match output_place(&key.expr, columns)? {
                Some(place) => {
                    check_ordered(columns.get(place).map(|column| &column.ty))?;
                    place
                }
                None => {
                    let typed = self.settle(self.expr(&key.expr, scope)?)?;
                    check_ordered(Some(&typed.ty))?;
                    let known = outputs.iter().position(|output| *output == typed.expr);
                    known.unwrap_or_else(|| {
                        outputs.push(typed.expr);
                        outputs.len().saturating_sub(1)
                    })
                }
            };
            keys.push(sort_key(key, Expr::Column { up: 0, index })?);
        }
        Ok(keys)
    }

    /// Orders a result whose rows have nothing but their columns.
    fn ordered_by_output(
        &self,
        mut plan: QueryPlan,
        order: &[OrderByExpr],
    ) -> Result<QueryPlan, SqlError> {
        for key in order {
            let Some(index) = output_place(&key.expr, &plan.columns)? else {
                return Err(SqlError::unsupported("ORDER BY an expression over a set operation"));
            };
            check_ordered(plan.columns.get(index).map(|column| &column.ty))?;
            plan.order.push(sort_key(key, Expr::Column { up: 0, index })?);
        }
        Ok(plan)
    }

    fn limit(
        &self,
        query: &Query,
        plan: &mut QueryPlan,
        outer: &Scope<'_>,
    ) -> Result<(), SqlError> {
        let Some(clause) = &query.limit_clause else { return Ok(()) };
        let LimitClause::LimitOffset { limit, offset, limit_by } = clause else {
            return Err(SqlError::unsupported("LIMIT offset, count"));
        };
        if !limit_by.is_empty() {
            return Err(SqlError::unsupported("LIMIT BY"));
        }
        let scope = outer.inside();
        let bind = |expr: &ast::Expr, word: &str| {
            let typed = self.expr(expr, &scope)?;
            let number = self.coerce(&typed, &Type::Int8, CastLevel::Assignment)?;
            number.filter(|_| typed.ty.is_integer() || typed.ty == Type::Unknown).ok_or_else(|| {
                let text = format!("argument of {word} must be type bigint");
                SqlError::new(code::DATATYPE_MISMATCH, text)
            })
        };
        if plan.limit.is_some() || plan.offset.is_some() {
            return Err(SqlError::unsupported("LIMIT behind a bracketed query with a limit"));
        }
        plan.limit = limit.as_ref().map(|limit| bind(limit, "LIMIT")).transpose()?;
        plan.offset = offset.as_ref().map(|offset| bind(&offset.value, "OFFSET")).transpose()?;
        Ok(())
    }
}

/// Binds the direction of a sort key.
pub(crate) fn sort_key(key: &OrderByExpr, expr: Expr) -> Result<SortKey, SqlError> {
    if key.with_fill.is_some() {
        return Err(SqlError::unsupported("ORDER BY WITH FILL"));
    }
    let descending = match &key.options.sort {
        None | Some(ast::OrderBySort::Asc) => false,
        Some(ast::OrderBySort::Desc) => true,
        Some(_) => return Err(SqlError::unsupported("ORDER BY USING")),
    };
    let nulls_first = key.options.nulls_first.unwrap_or(descending);
    Ok(SortKey { expr, descending, nulls_first })
}

fn output_place(expr: &ast::Expr, columns: &[OutputColumn]) -> Result<Option<usize>, SqlError> {
    if let Some(place) = position(expr, columns.len(), "ORDER BY")? {
        return Ok(Some(place));
    }
    let ast::Expr::Identifier(ident) = expr else { return Ok(None) };
    let name = fold(ident);
    Ok(columns.iter().position(|column| column.name == name))
}

fn position(expr: &ast::Expr, width: usize, word: &str) -> Result<Option<usize>, SqlError> {
    let ast::Expr::Value(value) = expr else { return Ok(None) };
    let ast::Value::Number(text, false) = &value.value else {
        let text = format!("non-integer constant in {word}");
        return Err(SqlError::new(code::SYNTAX, text));
    };
    let place = text.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
    place.filter(|place| *place < width).map(Some).ok_or_else(|| {
        let text = format!("{word} position {text} is not in select list");
        SqlError::new(code::INVALID_COLUMN_REFERENCE, text)
    })
}

fn check_ordered(ty: Option<&Type>) -> Result<(), SqlError> {
    match ty {
        Some(ty) if !ty.has_equality() => {
            let text = format!("could not identify an ordering operator for type {}", ty.label());
            Err(SqlError::new(code::UNDEFINED_FUNCTION, text))
        }
        _ => Ok(()),
    }
}

fn no_equality(ty: &Type) -> SqlError {
    let text = format!("could not identify an equality operator for type {}", ty.label());
    SqlError::new(code::UNDEFINED_FUNCTION, text)
}

fn check_distinct(columns: &[OutputColumn], hidden: bool) -> Result<(), SqlError> {
    if let Some(column) = columns.iter().find(|column| !column.ty.has_equality()) {
        return Err(no_equality(&column.ty));
    }
    if hidden {
        let text = "for SELECT DISTINCT, ORDER BY expressions must appear in select list";
        return Err(SqlError::new(code::INVALID_COLUMN_REFERENCE, text));
    }
    Ok(())
}

fn plain_star(options: &WildcardAdditionalOptions) -> Result<(), SqlError> {
    let plain = options.opt_ilike.is_none()
        && options.opt_exclude.is_none()
        && options.opt_except.is_none()
        && options.opt_replace.is_none()
        && options.opt_rename.is_none()
        && options.opt_alias.is_none();
    if plain { Ok(()) } else { Err(SqlError::unsupported("options of *")) }
}

fn qualified_table<'s>(
    kind: &SelectItemQualifiedWildcardKind,
    scope: &'s Scope<'_>,
) -> Result<&'s Table, SqlError> {
    let SelectItemQualifiedWildcardKind::ObjectName(name) = kind else {
        return Err(SqlError::unsupported("fields of composite values"));
    };
    let name = relation_name(name)?;
    let named = |table: &&Table| {
        table.alias == name.name && (name.schema.is_none() || table.schema == name.schema)
    };
    scope.tables.iter().find(named).ok_or_else(|| {
        let text = format!("missing FROM-clause entry for table \"{name}\"");
        SqlError::new(code::UNDEFINED_TABLE, text)
    })
}

/// Refuses the clauses of other dialects and those that are not modelled.
fn refuse_clauses(select: &Select) -> Result<(), SqlError> {
    let Select {
        select_token: _,
        optimizer_hints,
        distinct: _,
        select_modifiers,
        top,
        top_before_distinct: _,
        projection,
        exclude,
        into,
        from: _,
        lateral_views,
        prewhere,
        selection: _,
        connect_by,
        group_by: _,
        cluster_by,
        distribute_by,
        sort_by,
        having: _,
        named_window,
        qualify,
        window_before_qualify: _,
        value_table_mode,
        flavor,
    } = select;
    let absent = select_modifiers.is_none()
        && top.is_none()
        && exclude.is_none()
        && into.is_none()
        && prewhere.is_none()
        && qualify.is_none()
        && value_table_mode.is_none();
    let empty = lateral_views.is_empty()
        && connect_by.is_empty()
        && cluster_by.is_empty()
        && distribute_by.is_empty()
        && sort_by.is_empty()
        && named_window.is_empty()
        && optimizer_hints.is_empty();
    if !absent || !empty || *flavor != ast::SelectFlavor::Standard {
        return Err(SqlError::unsupported("INTO, WINDOW and other clauses of SELECT"));
    }
    if projection.is_empty() {
        return Err(SqlError::unsupported("SELECT without columns"));
    }
    Ok(())
}
