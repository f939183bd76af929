//! `INSERT`.

use std::cell::RefCell;

use sqlparser::ast::{self, SetExpr};

use super::super::ResultSet;
use super::super::bind::Binder;
use super::super::bind::scope::{Scope, table_of};
use super::super::bind::security::NewRowCheck;
use super::super::bind::uses::{TableUse, Uses};
use super::super::error::{SqlError, code};
use super::super::parse::statement::{ConflictTarget, Insert, Overriding};
use super::super::plan::Expr;
use super::super::run::{Env, Frame, expr::eval, query};
use super::super::session::Exec;
use super::super::state::{Generated, Oid, PolicyCommand, Relation, Row};
use super::super::value::Value;
use super::{ROWS_MAX, Returning, check_target, constraint, routing};

/// Where the values of a row come from.
#[derive(Debug)]
enum Values {
    /// One list for each row; nothing stands for the default.
    Lists(Vec<Vec<Option<Expr>>>),
    Query(Box<super::super::plan::QueryPlan>, Vec<Expr>),
}

/// A bound `INSERT`.
#[derive(Debug)]
struct Plan {
    relation: Oid,
    /// Columns that are given, in the order of the values.
    places: Vec<usize>,
    values: Values,
    defaults: Vec<Expr>,
    checks: Vec<NewRowCheck>,
    returning: Returning,
}

pub(crate) fn run(exec: &mut Exec, insert: &Insert) -> Result<ResultSet, SqlError> {
    let (plan, rows) = {
        let env = exec.env();
        let (plan, uses) = bind(&env, insert)?;
        uses.check(&env)?;
        let rows = rows(&env, &plan)?;
        (plan, rows)
    };
    let key = conflict_key(exec, &plan, insert)?;
    let mut added = Vec::new();
    let mut touched = Vec::new();
    for row in rows {
        let leaf = routing::leaf(&exec.db, plan.relation, &row)?;
        let relation = exec.db.relation(leaf)?;
        if plan.relation == leaf {
            routing::check_belongs(&exec.db, relation, &row)?;
        }
        constraint::check_row(&exec.env(), relation, &row)?;
        let wanted = insert.on_conflict.is_some();
        if wanted && constraint::conflict(relation, &row, (None, key.as_deref())).is_some() {
            continue;
        }
        constraint::check_keys(relation, &row, None)?;
        let relation = exec.db.relation_mut(leaf)?;
        if relation.rows.len() >= ROWS_MAX {
            return Err(SqlError::new(code::PROGRAM_LIMIT, "table has too many rows"));
        }
        relation.rows.push(row.clone());
        touched.push((leaf, row.clone()));
        added.push(row);
    }
    for (leaf, row) in touched {
        let relation = exec.db.relation(leaf)?;
        for key in &relation.foreign_keys {
            constraint::check_reference(exec, relation, key, &row)?;
        }
    }
    plan.returning.rows(&exec.env(), &added)
}

fn bind(env: &Env<'_>, insert: &Insert) -> Result<(Plan, Uses), SqlError> {
    let uses = RefCell::new(Uses::default());
    let binder = Binder::new(env, &uses);
    let relation = env.resolver().user_relation(&insert.table)?;
    check_target(relation)?;
    let mut used = TableUse::new(relation.oid, env.role);
    used.adds = true;
    uses.borrow_mut().tables.push(used);
    let named = named_places(relation, insert)?;
    let (values, width) = values(&binder, relation, (insert, &named))?;
    let places = match insert.columns {
        Some(_) => named,
        // Without a list the values fill the first columns.
        None => named.into_iter().take(width).collect(),
    };
    check_identity(relation, insert, (&places, &values))?;
    if let Some(used) = uses.borrow_mut().tables.first_mut() {
        used.inserts = places.iter().copied().collect();
    }
    let defaults = constraint::defaults(&binder, relation)?;
    let returning = returning(&binder, relation, insert)?;
    note_conflict_target(relation, insert, &uses)?;
    let mut checks = binder.new_row_checks(relation, PolicyCommand::Insert)?;
    // Rows that come back, or are compared with others, must be visible too.
    let reads = uses.borrow().tables.first().is_some_and(|used| !used.read.is_empty());
    if reads {
        checks.extend(binder.new_row_checks(relation, PolicyCommand::Select)?);
    }
    let plan = Plan { relation: relation.oid, places, values, defaults, checks, returning };
    Ok((plan, uses.into_inner()))
}

fn named_places(relation: &Relation, insert: &Insert) -> Result<Vec<usize>, SqlError> {
    let Some(columns) = &insert.columns else {
        return Ok((0..relation.columns.len()).collect());
    };
    let mut places = Vec::new();
    for name in columns {
        let place = relation.require_column(name)?;
        if places.contains(&place) {
            let text = format!("column \"{name}\" specified more than once");
            return Err(SqlError::new(code::DUPLICATE_COLUMN, text));
        }
        places.push(place);
    }
    Ok(places)
}

fn values(
    binder: &Binder<'_>,
    relation: &Relation,
    (insert, named): (&Insert, &[usize]),
) -> Result<(Values, usize), SqlError> {
    let Some(source) = &insert.source else {
        return Ok((Values::Lists(vec![Vec::new()]), 0));
    };
    let listed = insert.columns.is_some();
    let check_width = |width: usize| {
        let text = if width > named.len() {
            "INSERT has more expressions than target columns"
        } else {
            "INSERT has more target columns than expressions"
        };
        let wrong = width > named.len() || (listed && width < named.len());
        if wrong { Err(SqlError::new(code::SYNTAX, text)) } else { Ok(()) }
    };
    let column = |index: usize| named.get(index).and_then(|place| relation.columns.get(*place));
    if let Some(rows) = plain_values(source) {
        let mut lists = Vec::new();
        let width = rows.first().map_or(0, |row| row.len());
        check_width(width)?;
        let scope = Scope::ROOT;
        for row in rows {
            if row.len() != width {
                let text = "VALUES lists must all be the same length";
                return Err(SqlError::new(code::SYNTAX, text));
            }
            let mut list = Vec::new();
            for (index, cell) in row.iter().enumerate() {
                let column =
                    column(index).ok_or_else(|| SqlError::internal("a column is missing"))?;
                if is_default(cell) {
                    list.push(None);
                    continue;
                }
                let typed = binder.expr(cell, &scope)?;
                let bound = binder.assign(&typed, &column.ty, &column.name)?;
                super::super::bind::group::refuse_aggregates(&bound, "VALUES")?;
                list.push(Some(bound));
            }
            lists.push(list);
        }
        return Ok((Values::Lists(lists), width));
    }
    let plan = binder.query(source, &Scope::ROOT)?;
    check_width(plan.columns.len())?;
    let mut casts = Vec::new();
    for (index, output) in plan.columns.iter().enumerate() {
        let column = column(index).ok_or_else(|| SqlError::internal("a column is missing"))?;
        let typed = super::super::plan::Typed {
            expr: Expr::Column { up: 0, index },
            ty: output.ty.clone(),
        };
        casts.push(binder.assign(&typed, &column.ty, &column.name)?);
    }
    let width = plan.columns.len();
    Ok((Values::Query(Box::new(plan), casts), width))
}

/// The lists of a bare `VALUES`; each of its cells is brought to its column by itself.
fn plain_values(query: &ast::Query) -> Option<Vec<&[ast::Expr]>> {
    let bare = query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none()
        && query.locks.is_empty()
        && query.for_clause.is_none()
        && query.settings.is_none()
        && query.format_clause.is_none()
        && query.pipe_operators.is_empty();
    match query.body.as_ref() {
        SetExpr::Values(values) if bare && !values.explicit_row && !values.value_keyword => {
            Some(values.rows.iter().map(|row| row.content.as_slice()).collect())
        }
        _ => None,
    }
}

fn is_default(expr: &ast::Expr) -> bool {
    matches!(expr, ast::Expr::Identifier(ident)
        if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
}

/// Columns the server fills take only what it fills in.
fn check_identity(
    relation: &Relation,
    insert: &Insert,
    (places, values): (&[usize], &Values),
) -> Result<(), SqlError> {
    if insert.overriding == Some(Overriding::User) {
        return Err(SqlError::unsupported("OVERRIDING USER VALUE"));
    }
    for (index, place) in places.iter().enumerate() {
        let Some(column) = relation.columns.get(*place) else { continue };
        let given = match values {
            Values::Lists(lists) => lists.iter().any(|l| l.get(index).is_some_and(Option::is_some)),
            Values::Query(..) => true,
        };
        let always = column.generated == Generated::IdentityAlways && insert.overriding.is_none();
        if given && (always || column.generated == Generated::Stored) {
            let text = format!("cannot insert a non-DEFAULT value into column \"{}\"", column.name);
            return Err(SqlError::new("428C9", text));
        }
    }
    Ok(())
}

fn returning(
    binder: &Binder<'_>,
    relation: &Relation,
    insert: &Insert,
) -> Result<Returning, SqlError> {
    let schema = binder.env.db.schema_name(relation.schema);
    let mut table = table_of(relation, schema, 0);
    if let Some(alias) = &insert.alias {
        table.alias.clone_from(alias);
        table.schema = None;
    }
    let scope = Scope { tables: vec![table], ..Scope::default() };
    let (outputs, columns) = binder.outputs(&insert.returning, &scope)?;
    for output in &outputs {
        super::super::bind::group::refuse_aggregates(output, "RETURNING")?;
    }
    Ok(Returning { outputs, columns })
}

/// Comparing with the rows that are there needs the right to read those columns.
fn note_conflict_target(
    relation: &Relation,
    insert: &Insert,
    uses: &RefCell<Uses>,
) -> Result<(), SqlError> {
    let Some(conflict) = &insert.on_conflict else { return Ok(()) };
    let places = match &conflict.target {
        ConflictTarget::Any => Vec::new(),
        ConflictTarget::Columns(columns) => {
            columns.iter().map(|name| relation.require_column(name)).collect::<Result<_, _>>()?
        }
        ConflictTarget::Constraint(name) => {
            let key = relation.keys.iter().find(|key| key.constraint && key.name == *name);
            let key = key.ok_or_else(|| {
                let table = &relation.name;
                let text = format!("constraint \"{name}\" for table \"{table}\" does not exist");
                SqlError::new(code::UNDEFINED_OBJECT, text)
            })?;
            key.columns.clone()
        }
    };
    if let Some(used) = uses.borrow_mut().tables.first_mut() {
        used.read.extend(places);
    }
    Ok(())
}

fn conflict_key(exec: &Exec, plan: &Plan, insert: &Insert) -> Result<Option<Vec<usize>>, SqlError> {
    let Some(conflict) = &insert.on_conflict else { return Ok(None) };
    let relation = exec.db.relation(plan.relation)?;
    let key = match &conflict.target {
        ConflictTarget::Any => return Ok(None),
        ConflictTarget::Constraint(name) => relation.keys.iter().find(|key| key.name == *name),
        ConflictTarget::Columns(names) => {
            let mut wanted: Vec<usize> = names.iter().filter_map(|n| relation.column(n)).collect();
            wanted.sort_unstable();
            relation.keys.iter().find(|key| {
                let mut columns = key.columns.clone();
                columns.sort_unstable();
                columns == wanted
            })
        }
    };
    key.map(|key| Some(key.columns.clone())).ok_or_else(|| {
        let text = "there is no unique or exclusion constraint matching the ON CONFLICT \
                    specification";
        SqlError::new(code::INVALID_COLUMN_REFERENCE, text)
    })
}

fn rows(env: &Env<'_>, plan: &Plan) -> Result<Vec<Row>, SqlError> {
    let relation = env.db.relation(plan.relation)?;
    let mut given: Vec<Vec<Option<Value>>> = Vec::new();
    match &plan.values {
        Values::Lists(lists) => {
            for list in lists {
                let cell = |cell: &Option<Expr>| {
                    cell.as_ref().map(|expr| eval(env, expr, &Frame::EMPTY)).transpose()
                };
                given.push(list.iter().map(cell).collect::<Result<_, _>>()?);
            }
        }
        Values::Query(query, casts) => {
            for row in query::rows(env, query, &Frame::EMPTY)? {
                let frame = Frame { row: &row, parent: None };
                let cast = |cast: &Expr| eval(env, cast, &frame).map(Some);
                given.push(casts.iter().map(cast).collect::<Result<_, _>>()?);
            }
        }
    }
    let mut rows = Vec::new();
    for list in given {
        let mut row: Vec<Option<Value>> = vec![None; relation.columns.len()];
        for (place, value) in plan.places.iter().zip(list) {
            if let Some(slot) = row.get_mut(*place) {
                *slot = value;
            }
        }
        let mut whole = Vec::new();
        for (place, value) in row.into_iter().enumerate() {
            whole.push(match value {
                Some(value) => value,
                None => constraint::default_value(env, relation, place, &plan.defaults)?,
            });
        }
        constraint::generate(env, relation, &plan.defaults, &mut whole)?;
        check_policies(env, relation, &plan.checks, &whole)?;
        rows.push(whole);
    }
    Ok(rows)
}

/// Refuses a row that the policies do not let in.
pub(super) fn check_policies(
    env: &Env<'_>,
    relation: &Relation,
    checks: &[NewRowCheck],
    row: &Row,
) -> Result<(), SqlError> {
    for check in checks {
        if eval(env, &check.condition, &Frame { row, parent: None })?.is_true() {
            continue;
        }
        let policy = check.policy.as_ref().map_or_else(String::new, |name| format!("\"{name}\" "));
        let text = format!(
            "new row violates row-level security policy {policy}for table \"{}\"",
            relation.name
        );
        return Err(SqlError::new(code::INSUFFICIENT_PRIVILEGE, text));
    }
    Ok(())
}
