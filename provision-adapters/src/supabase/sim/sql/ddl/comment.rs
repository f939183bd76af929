//! `COMMENT ON`.

use super::super::error::{SqlError, code};
use super::super::parse::statement::{CommentTarget, DropKind};
use super::super::session::Exec;
use super::super::state::{Comment, RelationKind};
use super::{owned_relation, routine};

pub(super) fn run(exec: &mut Exec, on: &CommentTarget, text: Option<&str>) -> Result<(), SqlError> {
    let (object, column) = target(exec, on)?;
    exec.db.comments.retain(|known| known.object != object || known.column != column);
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        exec.db.comments.push(Comment { object, column, text: text.to_owned() });
    }
    Ok(())
}

fn target(exec: &Exec, on: &CommentTarget) -> Result<(u32, usize), SqlError> {
    let role = exec.role();
    match on {
        CommentTarget::Relation(name, kind) => {
            let relation = owned_relation(exec, name)?;
            if kind.is_some_and(|kind| !fits(kind, relation.kind)) {
                let text = format!("\"{}\" is a {}", relation.name, relation.kind.word());
                return Err(SqlError::new(code::WRONG_OBJECT_TYPE, text));
            }
            Ok((relation.oid, 0))
        }
        CommentTarget::Column(name, column) => {
            let relation = owned_relation(exec, name)?;
            Ok((relation.oid, relation.require_column(column)?.saturating_add(1)))
        }
        CommentTarget::Schema(name) => {
            let schema =
                exec.db.schema_named(name).ok_or_else(|| SqlError::undefined_schema(name))?;
            if !exec.db.has_rights_of(role, schema.owner) {
                return Err(SqlError::not_owner("schema", name));
            }
            Ok((schema.oid, 0))
        }
        CommentTarget::Function(function) => {
            let oid = routine::find(exec, function)?;
            let owner = exec.db.functions.get(&oid).map(|function| function.owner);
            if !owner.is_some_and(|owner| exec.db.has_rights_of(role, owner)) {
                return Err(SqlError::not_owner("function", &function.name.name));
            }
            Ok((oid, 0))
        }
        CommentTarget::Policy(policy, table) => {
            let relation = owned_relation(exec, table)?;
            let found = exec.db.policy_on(relation.oid, policy);
            found.map(|found| (found.oid, 0)).ok_or_else(|| {
                let table = &relation.name;
                let text = format!("policy \"{policy}\" for table \"{table}\" does not exist");
                SqlError::new(code::UNDEFINED_OBJECT, text)
            })
        }
    }
}

/// Tells whether a relation is of the kind a statement names.
pub(super) fn fits(named: DropKind, kind: RelationKind) -> bool {
    match named {
        DropKind::Table => kind.is_table(),
        DropKind::View => kind == RelationKind::View,
        DropKind::MaterializedView => kind == RelationKind::MaterializedView,
        DropKind::Sequence => kind == RelationKind::Sequence,
        DropKind::Index => kind == RelationKind::Index,
    }
}
