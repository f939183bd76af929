//! `DROP`, with everything that hangs on what is dropped.

use std::collections::BTreeSet;

use super::super::error::{SqlError, code};
use super::super::parse::Name;
use super::super::parse::statement::{Drop, DropKind, Dropped, FunctionRef};
use super::super::session::Exec;
use super::super::state::{Database, Oid, Relation, Shape, StoredSql};
use super::comment::fits;
use super::{check_owner, relation_if_exists, routine};

pub(super) fn run(exec: &mut Exec, drop: &Drop) -> Result<(), SqlError> {
    let targets = match &drop.what {
        Dropped::Schemas(names) => schemas(exec, names, drop)?,
        Dropped::Relations(kind, names) => relations(exec, *kind, names, drop.if_exists)?,
        Dropped::Functions(functions) => routines(exec, functions, drop.if_exists)?,
        Dropped::Extensions(names) => return extensions(exec, names, drop.if_exists),
    };
    if targets.is_empty() {
        return Ok(());
    }
    remove_all(&mut exec.db, targets, drop.cascade)
}

fn schemas(exec: &Exec, names: &[String], drop: &Drop) -> Result<BTreeSet<Oid>, SqlError> {
    let mut targets = BTreeSet::new();
    for name in names {
        let Some(schema) = exec.db.schema_named(name) else {
            if drop.if_exists {
                continue;
            }
            return Err(SqlError::undefined_schema(name));
        };
        if !exec.db.has_rights_of(exec.role(), schema.owner) {
            return Err(SqlError::not_owner("schema", name));
        }
        targets.insert(schema.oid);
        if drop.cascade {
            targets.extend(contents(&exec.db, schema.oid));
        } else if contents(&exec.db, schema.oid).next().is_some() {
            let text = format!("cannot drop schema {name} because other objects depend on it");
            return Err(SqlError::new(code::DEPENDENT_OBJECTS, text));
        }
    }
    Ok(targets)
}

fn contents(db: &Database, schema: Oid) -> impl Iterator<Item = Oid> {
    let relations = db.relations.values().filter(move |r| r.schema == schema).map(|r| r.oid);
    let functions = db.functions.values().filter(move |f| f.schema == schema).map(|f| f.oid);
    relations.chain(functions)
}

fn relations(
    exec: &Exec,
    kind: DropKind,
    names: &[Name],
    if_exists: bool,
) -> Result<BTreeSet<Oid>, SqlError> {
    let mut targets = BTreeSet::new();
    for name in names {
        let Some(oid) = relation_if_exists(exec, name, if_exists)? else { continue };
        let relation = exec.db.relation(oid)?;
        if !fits(kind, relation.kind) {
            let text = format!("\"{}\" is a {}", relation.name, relation.kind.word());
            return Err(SqlError::new(code::WRONG_OBJECT_TYPE, text));
        }
        let schema_owner = exec.db.schemas.get(&relation.schema).map(|schema| schema.owner);
        let by_schema = schema_owner.is_some_and(|owner| exec.db.has_rights_of(exec.role(), owner));
        if !by_schema {
            check_owner(exec, relation)?;
        }
        let behind_key = exec
            .db
            .relations
            .values()
            .any(|table| table.keys.iter().any(|key| key.index == oid && key.constraint));
        if behind_key {
            let text =
                format!("cannot drop index {} because a constraint requires it", relation.name);
            return Err(SqlError::new(code::DEPENDENT_OBJECTS, text));
        }
        targets.insert(oid);
    }
    Ok(targets)
}

fn routines(
    exec: &Exec,
    functions: &[FunctionRef],
    if_exists: bool,
) -> Result<BTreeSet<Oid>, SqlError> {
    let mut targets = BTreeSet::new();
    for function in functions {
        let oid = match routine::find(exec, function) {
            Ok(oid) => oid,
            Err(error) if if_exists && error.sqlstate == code::UNDEFINED_FUNCTION => continue,
            Err(error) => return Err(error),
        };
        let owner = exec.db.functions.get(&oid).map(|function| function.owner);
        if !owner.is_some_and(|owner| exec.db.has_rights_of(exec.role(), owner)) {
            return Err(SqlError::not_owner("function", &function.name.name));
        }
        targets.insert(oid);
    }
    Ok(targets)
}

fn extensions(exec: &mut Exec, names: &[String], if_exists: bool) -> Result<(), SqlError> {
    for name in names {
        let known = exec.db.extensions.get(name).map(|extension| extension.owner);
        match known {
            None if if_exists => {}
            None => {
                let text = format!("extension \"{name}\" does not exist");
                return Err(SqlError::new(code::UNDEFINED_OBJECT, text));
            }
            Some(owner) if !exec.db.has_rights_of(exec.role(), owner) => {
                return Err(SqlError::not_owner("extension", name));
            }
            // Its functions would have to go with it, and with them what uses them.
            Some(_) => return Err(SqlError::unsupported("DROP EXTENSION")),
        }
    }
    Ok(())
}

/// Removes objects. What is part of them goes along; what only uses them must be asked for.
fn remove_all(db: &mut Database, asked: BTreeSet<Oid>, cascade: bool) -> Result<(), SqlError> {
    let mut gone = asked;
    loop {
        let parts: BTreeSet<Oid> =
            db.relations.values().filter(|r| belongs(r, &gone)).map(|r| r.oid).collect();
        let mut grown = gone.union(&parts).copied().collect::<BTreeSet<Oid>>();
        let users = users(db, &grown);
        if cascade {
            grown.extend(users);
        } else if let Some(name) = users.first().and_then(|user| name_of(db, *user)) {
            let text = format!(
                "cannot drop desired object(s) because other objects depend on them: {name}"
            );
            return Err(SqlError::new(code::DEPENDENT_OBJECTS, text));
        }
        if grown.len() == gone.len() {
            break;
        }
        gone = grown;
    }
    check_loose_ends(db, &gone, cascade)?;
    forget(db, &gone);
    Ok(())
}

/// Indexes, sequences of columns and partitions are part of their table.
fn belongs(relation: &Relation, gone: &BTreeSet<Oid>) -> bool {
    relation.index.as_ref().is_some_and(|index| gone.contains(&index.table))
        || relation
            .sequence
            .as_ref()
            .and_then(|sequence| sequence.owned_by)
            .is_some_and(|table| gone.contains(&table))
        || relation.partition_of.as_ref().is_some_and(|place| gone.contains(&place.parent))
}

fn names(sql: Option<&StoredSql>, gone: &BTreeSet<Oid>) -> bool {
    sql.is_some_and(|sql| sql.uses.iter().any(|used| gone.contains(used)))
}

/// Views and functions that need what goes.
fn users(db: &Database, gone: &BTreeSet<Oid>) -> BTreeSet<Oid> {
    let views = db.relations.values().filter(|view| names(view.query.as_ref(), gone));
    let shaped = db.functions.values().filter(|function| {
        let row = match &function.returns.shape {
            Shape::Relation(relation) => gone.contains(relation),
            Shape::Scalar(_) | Shape::Table(_) => false,
        };
        row || function.arguments.iter().any(|argument| names(argument.default.as_ref(), gone))
    });
    let found = views.map(|view| view.oid).chain(shaped.map(|function| function.oid));
    found.filter(|oid| !gone.contains(oid)).collect()
}

fn name_of(db: &Database, oid: Oid) -> Option<String> {
    let relation = db.relations.get(&oid).map(|relation| relation.name.clone());
    relation.or_else(|| db.functions.get(&oid).map(|function| function.name.clone()))
}

/// Policies, foreign keys, checks and defaults elsewhere that need what goes.
fn check_loose_ends(
    db: &mut Database,
    gone: &BTreeSet<Oid>,
    cascade: bool,
) -> Result<(), SqlError> {
    let policies: Vec<Oid> = db
        .policies
        .values()
        .filter(|policy| !gone.contains(&policy.relation))
        .filter(|policy| names(policy.using.as_ref(), gone) || names(policy.check.as_ref(), gone))
        .map(|policy| policy.oid)
        .collect();
    let loose = !policies.is_empty()
        || db.relations.values().filter(|relation| !gone.contains(&relation.oid)).any(|relation| {
            relation.foreign_keys.iter().any(|key| gone.contains(&key.target))
                || relation.checks.iter().any(|check| names(Some(&check.expression), gone))
                || relation.columns.iter().any(|column| {
                    names(column.default.as_ref(), gone)
                        || column.sequence.is_some_and(|sequence| gone.contains(&sequence))
                })
        });
    if loose && !cascade {
        let text = "cannot drop desired object(s) because other objects depend on them";
        return Err(SqlError::new(code::DEPENDENT_OBJECTS, text));
    }
    for policy in policies {
        db.policies.remove(&policy);
    }
    for relation in db.relations.values_mut() {
        relation.foreign_keys.retain(|key| !gone.contains(&key.target));
        relation.checks.retain(|check| !names(Some(&check.expression), gone));
        for column in &mut relation.columns {
            if names(column.default.as_ref(), gone) {
                column.default = None;
            }
        }
    }
    Ok(())
}

fn forget(db: &mut Database, gone: &BTreeSet<Oid>) {
    db.relations.retain(|oid, _| !gone.contains(oid));
    db.functions.retain(|oid, _| !gone.contains(oid));
    db.schemas.retain(|oid, _| !gone.contains(oid));
    db.policies.retain(|_, policy| !gone.contains(&policy.relation));
    db.default_acls.retain(|acl| acl.schema.is_none_or(|schema| !gone.contains(&schema)));
    db.comments.retain(|comment| !gone.contains(&comment.object));
    db.extensions.retain(|_, extension| !gone.contains(&extension.schema));
    for relation in db.relations.values_mut() {
        // A bare unique index that goes takes its rule with it.
        relation.keys.retain(|key| !gone.contains(&key.index));
        for column in &mut relation.columns {
            if column.sequence.is_some_and(|sequence| gone.contains(&sequence)) {
                column.sequence = None;
            }
        }
    }
}
