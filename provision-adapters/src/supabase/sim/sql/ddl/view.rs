//! Views and materialized views.

use super::super::bind::{self, keep_query};
use super::super::error::{SqlError, code};
use super::super::parse::Name;
use super::super::parse::statement::CreateView;
use super::super::plan::OutputColumn;
use super::super::run::{Env, Frame, query};
use super::super::session::Exec;
use super::super::state::{
    Column, Generated, GrantObject, Oid, Relation, RelationKind, Row, StoredSql,
};
use super::table::empty;
use super::{check_owner, initial_acl, owned_relation, taken};

type Options = [(String, Option<String>)];

pub(super) fn create(exec: &mut Exec, create: &CreateView) -> Result<(), SqlError> {
    let schema = exec.env().resolver().creation_schema(&create.name)?.oid;
    let name = &create.name.name;
    let known = exec.db.relation_in(schema, name).map(|relation| relation.oid);
    if known.is_some() && create.if_not_exists {
        return Ok(());
    }
    if known.is_some() && !create.or_replace {
        return Err(taken(name));
    }
    let options = options_of(&create.options, create.materialized)?;
    let (stored, columns) = definition(exec, create)?;
    if let Some(known) = known {
        return replace(exec, known, (stored, columns, options));
    }
    let kind =
        if create.materialized { RelationKind::MaterializedView } else { RelationKind::View };
    let mut view = empty(exec, schema, name.clone(), kind);
    view.acl = initial_acl(&exec.db, GrantObject::Table, view.owner, Some(schema));
    view.columns = columns;
    view.options = options;
    if create.materialized {
        view.populated = create.with_data;
        if create.with_data {
            view.rows = contents(exec, &stored, view.owner)?;
        }
    }
    view.query = Some(stored);
    exec.db.relations.insert(view.oid, view);
    Ok(())
}

fn definition(exec: &Exec, create: &CreateView) -> Result<(StoredSql, Vec<Column>), SqlError> {
    let env = exec.env();
    let (plan, uses) = bind::query(&env, &create.query)?;
    if create.columns.len() > plan.columns.len() {
        let text = "CREATE VIEW specifies more column names than columns";
        return Err(SqlError::new(code::SYNTAX, text));
    }
    let mut columns: Vec<Column> = Vec::new();
    for (place, output) in plan.columns.iter().enumerate() {
        let name = create.columns.get(place).unwrap_or(&output.name);
        if columns.iter().any(|column| column.name == *name) {
            let text = format!("column \"{name}\" specified more than once");
            return Err(SqlError::new(code::DUPLICATE_COLUMN, text));
        }
        columns.push(column(&OutputColumn { name: name.clone(), ty: output.ty.clone() }));
    }
    Ok((keep_query(&env, &create.query, uses)?, columns))
}

fn column(output: &OutputColumn) -> Column {
    Column {
        name: output.name.clone(),
        ty: output.ty.clone(),
        not_null: false,
        default: None,
        generated: Generated::No,
        sequence: None,
        acl: None,
    }
}

/// Replaces a view: owner and rights stay, columns may only be added.
fn replace(
    exec: &mut Exec,
    known: Oid,
    (stored, columns, options): (StoredSql, Vec<Column>, Vec<String>),
) -> Result<(), SqlError> {
    let relation = exec.db.relation(known)?;
    if relation.kind != RelationKind::View {
        let text = format!("\"{}\" is not a view", relation.name);
        return Err(SqlError::new(code::WRONG_OBJECT_TYPE, text));
    }
    check_owner(exec, relation)?;
    let kept = relation.columns.iter().zip(&columns);
    let same = kept.clone().all(|(old, new)| old.name == new.name && old.ty == new.ty);
    if columns.len() < relation.columns.len() || !same {
        let text = "cannot change or drop columns of a view";
        return Err(SqlError::new(code::INVALID_TABLE, text));
    }
    if stored.uses.contains(&known) {
        let text = "infinite recursion detected in rules for relation";
        return Err(SqlError::new(code::INVALID_OBJECT, text));
    }
    let rights: Vec<_> = relation.columns.iter().map(|column| column.acl.clone()).collect();
    let view = exec.db.relation_mut(known)?;
    view.columns = columns;
    for (column, acl) in view.columns.iter_mut().zip(rights) {
        column.acl = acl;
    }
    view.query = Some(stored);
    view.options = options;
    Ok(())
}

/// Checks storage options; only those that decide about access are known.
fn options_of(options: &Options, materialized: bool) -> Result<Vec<String>, SqlError> {
    let mut found: Vec<String> = Vec::new();
    for (name, value) in options {
        if materialized || (name != "security_invoker" && name != "security_barrier") {
            let text = format!("unrecognized or unmodelled parameter \"{name}\"");
            return Err(SqlError::new(code::UNSUPPORTED, text));
        }
        let value = value.as_deref().unwrap_or("true");
        let lower = value.to_ascii_lowercase();
        let known = ["true", "false", "on", "off", "yes", "no", "1", "0"];
        if !known.contains(&lower.as_str()) {
            let text = format!("invalid value for boolean option \"{name}\": {value}");
            return Err(SqlError::new(code::INVALID_PARAMETER, text));
        }
        found.retain(|known| known.split_once('=').is_none_or(|(key, _)| key != name));
        found.push(format!("{name}={lower}"));
    }
    Ok(found)
}

/// `ALTER VIEW .. SET (..)`.
pub(super) fn set_options(exec: &mut Exec, oid: Oid, options: &Options) -> Result<(), SqlError> {
    let relation = exec.db.relation(oid)?;
    if relation.kind != RelationKind::View {
        let what = relation.kind.word();
        return Err(SqlError::unsupported(format!("storage options of a {what}")));
    }
    let mut all = relation.options.clone();
    for option in options_of(options, false)? {
        let name = option.split_once('=').map_or("", |(name, _)| name).to_owned();
        all.retain(|known| known.split_once('=').is_none_or(|(key, _)| key != name));
        all.push(option);
    }
    exec.db.relation_mut(oid)?.options = all;
    Ok(())
}

pub(super) fn refresh(exec: &mut Exec, name: &Name, with_data: bool) -> Result<(), SqlError> {
    let view: &Relation = owned_relation(exec, name)?;
    let (oid, owner) = (view.oid, view.owner);
    let Some(stored) = view.query.clone().filter(|_| view.kind == RelationKind::MaterializedView)
    else {
        let text = format!("\"{}\" is not a materialized view", view.name);
        return Err(SqlError::new(code::UNSUPPORTED, text));
    };
    let rows = if with_data { contents(exec, &stored, owner)? } else { Vec::new() };
    let view = exec.db.relation_mut(oid)?;
    view.rows = rows;
    view.populated = with_data;
    Ok(())
}

/// Runs the query of a materialized view with the rights of its owner.
fn contents(exec: &Exec, stored: &StoredSql, owner: Oid) -> Result<Vec<Row>, SqlError> {
    let mut env: Env<'_> = exec.env();
    env.role = owner;
    env.path = stored.path.clone();
    let parsed = super::super::parse::query(&stored.text)?;
    let (plan, uses) = bind::query(&env, &parsed)?;
    uses.check(&env)?;
    query::rows(&env, &plan, &Frame::EMPTY)
}
