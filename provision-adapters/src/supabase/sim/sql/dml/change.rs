//! `UPDATE` and `DELETE`.

use std::cell::RefCell;

use sqlparser::ast::{self, TableWithJoins};

use super::super::ResultSet;
use super::super::bind::Binder;
use super::super::bind::scope::{Scope, table_of};
use super::super::bind::security::NewRowCheck;
use super::super::bind::uses::{TableUse, Uses};
use super::super::error::{SqlError, code};
use super::super::parse::Name;
use super::super::parse::statement::{Delete, Update};
use super::super::plan::{Expr, Source};
use super::super::run::query::holds;
use super::super::run::source::{Place, rows as source_rows, stored_rows};
use super::super::run::{Env, Frame, expr::eval};
use super::super::session::Exec;
use super::super::state::acl::Rights;
use super::super::state::{Generated, Oid, PolicyCommand, Relation, Row};
use super::constraint::{self, Change};
use super::insert::check_policies;
use super::{Returning, check_target, routing};

/// The rows a statement is about.
#[derive(Debug)]
struct Target {
    relation: Oid,
    only: bool,
    beside: Source,
    filter: Option<Expr>,
    security: Vec<Expr>,
    returning: Returning,
}

/// What both statements say in the same words.
struct Spoken<'s> {
    table: &'s Name,
    alias: Option<&'s String>,
    only: bool,
    beside: &'s [TableWithJoins],
    filter: Option<&'s ast::Expr>,
    returning: &'s [ast::SelectItem],
}

/// A row to change: its place, itself, and itself with what stands beside it.
struct Hit {
    place: Place,
    row: Row,
    joined: Row,
}

type Assignment = (usize, Option<Expr>);

pub(crate) fn update(exec: &mut Exec, update: &Update) -> Result<ResultSet, SqlError> {
    let (target, changes, joined) = {
        let env = exec.env();
        let uses = RefCell::new(Uses::default());
        let binder = Binder::new(&env, &uses);
        let spoken = Spoken {
            table: &update.table,
            alias: update.alias.as_ref(),
            only: update.only,
            beside: &update.from,
            filter: update.filter.as_ref(),
            returning: &update.returning,
        };
        let (mut target, scope) = bind(&binder, &spoken)?;
        let relation = env.db.relation(target.relation)?;
        let assignments = assignments(&binder, relation, (update, &scope))?;
        if let Some(used) = uses.borrow_mut().tables.first_mut() {
            used.updates = assignments.iter().map(|(place, _)| *place).collect();
        }
        let reads = secure(&binder, &mut target, PolicyCommand::Update)?;
        let mut checks = binder.new_row_checks(relation, PolicyCommand::Update)?;
        if reads {
            checks.extend(binder.new_row_checks(relation, PolicyCommand::Select)?);
        }
        let defaults = constraint::defaults(&binder, relation)?;
        uses.borrow().check(&env)?;
        let mut changes = Vec::new();
        let mut joined = Vec::new();
        for hit in hits(&env, &target)? {
            let new = new_row(&env, relation, (&hit, &assignments), (&defaults, &checks))?;
            let beside = hit.joined.iter().skip(hit.row.len()).cloned();
            joined.push(new.iter().cloned().chain(beside).collect::<Row>());
            changes.push((hit, new));
        }
        (target, changes, joined)
    };
    apply_updates(exec, target.relation, changes)?;
    target.returning.rows(&exec.env(), &joined)
}

pub(crate) fn delete(exec: &mut Exec, delete: &Delete) -> Result<ResultSet, SqlError> {
    let (target, hits) = {
        let env = exec.env();
        let uses = RefCell::new(Uses::default());
        let binder = Binder::new(&env, &uses);
        let spoken = Spoken {
            table: &delete.table,
            alias: delete.alias.as_ref(),
            only: delete.only,
            beside: &delete.using,
            filter: delete.filter.as_ref(),
            returning: &delete.returning,
        };
        let (mut target, _) = bind(&binder, &spoken)?;
        if let Some(used) = uses.borrow_mut().tables.first_mut() {
            used.whole = Rights::DELETE;
        }
        secure(&binder, &mut target, PolicyCommand::Delete)?;
        uses.borrow().check(&env)?;
        let hits = hits(&env, &target)?;
        (target, hits)
    };
    let joined: Vec<Row> = hits.iter().map(|hit| hit.joined.clone()).collect();
    let changes =
        hits.iter().map(|hit| Change { table: hit.place.0, before: hit.row.clone(), after: None });
    let changes: Vec<Change> = changes.collect();
    remove(exec, hits.into_iter().map(|hit| hit.place).collect())?;
    constraint::follow(exec, changes)?;
    target.returning.rows(&exec.env(), &joined)
}

/// Binds what both statements have; the target is the first table of the scope.
fn bind(binder: &Binder<'_>, spoken: &Spoken<'_>) -> Result<(Target, Scope<'static>), SqlError> {
    let env = binder.env;
    let relation = env.resolver().user_relation(spoken.table)?;
    check_target(relation)?;
    binder.uses.borrow_mut().tables.push(TableUse::new(relation.oid, env.role));
    let mut table = table_of(relation, env.db.schema_name(relation.schema), 0);
    if let Some(alias) = spoken.alias {
        table.alias.clone_from(alias);
        table.schema = None;
    }
    let mut scope = Scope { tables: vec![table], ..Scope::default() };
    let bound = binder.from(spoken.beside, &Scope::ROOT)?;
    scope.append(bound.tables)?;
    let filter = match spoken.filter {
        None => None,
        Some(filter) => {
            let filter = binder.condition(&binder.expr(filter, &scope)?, "WHERE")?;
            super::super::bind::group::refuse_aggregates(&filter, "WHERE")?;
            Some(filter)
        }
    };
    let (outputs, columns) = binder.outputs(spoken.returning, &scope)?;
    for output in &outputs {
        super::super::bind::group::refuse_aggregates(output, "RETURNING")?;
    }
    let target = Target {
        relation: relation.oid,
        only: spoken.only,
        beside: bound.source,
        filter,
        security: Vec::new(),
        returning: Returning { outputs, columns },
    };
    Ok((target, scope))
}

/// Adds what the policies let the statement see, and tells whether it reads what is there.
fn secure(
    binder: &Binder<'_>,
    target: &mut Target,
    command: PolicyCommand,
) -> Result<bool, SqlError> {
    let relation = binder.env.db.relation(target.relation)?;
    target.security.extend(binder.row_security(relation, command)?);
    let reads = binder.uses.borrow().tables.first().is_some_and(|used| !used.read.is_empty());
    if reads {
        target.security.extend(binder.row_security(relation, PolicyCommand::Select)?);
    }
    Ok(reads)
}

fn assignments(
    binder: &Binder<'_>,
    relation: &Relation,
    (update, scope): (&Update, &Scope<'_>),
) -> Result<Vec<Assignment>, SqlError> {
    let mut found: Vec<Assignment> = Vec::new();
    for (name, value) in &update.assignments {
        let place = relation.require_column(name)?;
        if found.iter().any(|(known, _)| *known == place) {
            let text = format!("multiple assignments to same column \"{name}\"");
            return Err(SqlError::new(code::SYNTAX, text));
        }
        let Some(column) = relation.columns.get(place) else { continue };
        let fixed = matches!(column.generated, Generated::Stored | Generated::IdentityAlways);
        if fixed && value.is_some() {
            let text = format!("column \"{name}\" can only be updated to DEFAULT");
            return Err(SqlError::new("428C9", text));
        }
        let bound = match value {
            None => None,
            Some(value) => {
                let typed = binder.expr(value, scope)?;
                let bound = binder.assign(&typed, &column.ty, name)?;
                super::super::bind::group::refuse_aggregates(&bound, "UPDATE")?;
                Some(bound)
            }
        };
        found.push((place, bound));
    }
    Ok(found)
}

/// Finds the rows that the statement and the policies choose, each once.
fn hits(env: &Env<'_>, target: &Target) -> Result<Vec<Hit>, SqlError> {
    let beside = source_rows(env, &target.beside, &Frame::EMPTY)?;
    let mut found = Vec::new();
    let stored = stored_rows(env, target.relation, target.only)?;
    for (place, row) in stored {
        env.shared.work()?;
        let own = Frame { row: &row, parent: None };
        let mut seen = true;
        for condition in &target.security {
            seen = seen && holds(env, Some(condition), &own)?;
        }
        if !seen {
            continue;
        }
        for other in &beside {
            env.shared.work()?;
            let joined: Row = row.iter().chain(other).cloned().collect();
            if holds(env, target.filter.as_ref(), &Frame { row: &joined, parent: None })? {
                found.push(Hit { place, row: row.to_vec(), joined });
                break;
            }
        }
    }
    Ok(found)
}

fn new_row(
    env: &Env<'_>,
    relation: &Relation,
    (hit, assignments): (&Hit, &[Assignment]),
    (defaults, checks): (&[Expr], &[NewRowCheck]),
) -> Result<Row, SqlError> {
    let frame = Frame { row: &hit.joined, parent: None };
    let mut row = hit.row.clone();
    for (place, value) in assignments {
        let value = match value {
            Some(value) => eval(env, value, &frame)?,
            None => constraint::default_value(env, relation, *place, defaults)?,
        };
        if let Some(slot) = row.get_mut(*place) {
            *slot = value;
        }
    }
    constraint::generate(env, relation, defaults, &mut row)?;
    check_policies(env, relation, checks, &row)?;
    Ok(row)
}

fn apply_updates(exec: &mut Exec, table: Oid, changes: Vec<(Hit, Row)>) -> Result<(), SqlError> {
    let mut followed = Vec::new();
    let mut moved = Vec::new();
    let mut fresh = Vec::new();
    for (hit, row) in changes {
        let (leaf, place) = hit.place;
        let home = routing::leaf(&exec.db, table, &row)?;
        if table == leaf {
            routing::check_belongs(&exec.db, exec.db.relation(leaf)?, &row)?;
        }
        let relation = exec.db.relation(home)?;
        constraint::check_row(&exec.env(), relation, &row)?;
        constraint::check_keys(relation, &row, Some(place).filter(|_| home == leaf))?;
        if home == leaf {
            if let Some(slot) = exec.db.relation_mut(leaf)?.rows.get_mut(place) {
                slot.clone_from(&row);
            }
        } else {
            moved.push(hit.place);
            exec.db.relation_mut(home)?.rows.push(row.clone());
        }
        fresh.push((home, row.clone()));
        followed.push(Change { table: leaf, before: hit.row, after: Some(row) });
    }
    remove(exec, moved)?;
    for (home, row) in fresh {
        let relation = exec.db.relation(home)?;
        for key in &relation.foreign_keys {
            constraint::check_reference(exec, relation, key, &row)?;
        }
    }
    constraint::follow(exec, followed)
}

/// Removes rows by their places, from the last to the first.
fn remove(exec: &mut Exec, mut places: Vec<Place>) -> Result<(), SqlError> {
    places.sort_unstable();
    for (table, place) in places.into_iter().rev() {
        let rows = &mut exec.db.relation_mut(table)?.rows;
        if place < rows.len() {
            rows.remove(place);
        }
    }
    Ok(())
}
