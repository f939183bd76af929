//! What a statement touches, and whether it may.

use std::collections::BTreeSet;

use super::super::error::SqlError;
use super::super::run::Env;
use super::super::state::acl::Rights;
use super::super::state::roles::Target;
use super::super::state::{GrantObject, Oid, Relation};

/// Everything a statement touches.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    pub(crate) tables: Vec<TableUse>,
    pub(crate) functions: Vec<Oid>,
    /// Objects the statement itself names.
    pub(crate) depends: BTreeSet<Oid>,
}

/// The use of one table.
#[derive(Debug)]
pub(crate) struct TableUse {
    pub(crate) relation: Oid,
    /// Role whose rights count.
    pub(crate) role: Oid,
    /// Rights needed on the table or on each of the columns.
    pub(crate) reads: bool,
    pub(crate) adds: bool,
    pub(crate) read: BTreeSet<usize>,
    pub(crate) inserts: BTreeSet<usize>,
    pub(crate) updates: BTreeSet<usize>,
    /// Rights that only a grant on the whole table gives.
    pub(crate) whole: Rights,
}

impl TableUse {
    pub(crate) fn new(relation: Oid, role: Oid) -> Self {
        Self {
            relation,
            role,
            reads: false,
            adds: false,
            read: BTreeSet::new(),
            inserts: BTreeSet::new(),
            updates: BTreeSet::new(),
            whole: Rights::NONE,
        }
    }
}

impl Uses {
    /// Checks the rights of everything that was touched: tables first, then functions.
    pub(crate) fn check(&self, env: &Env<'_>) -> Result<(), SqlError> {
        for table in &self.tables {
            let relation = env.db.relation(table.relation)?;
            if !may(env, relation, table) {
                let object = match relation.grant_object() {
                    GrantObject::Sequence => "sequence",
                    _ => relation.kind.word(),
                };
                return Err(SqlError::denied(object, &relation.name));
            }
        }
        for oid in &self.functions {
            let Some(function) = env.db.functions.get(oid) else { continue };
            if !env.db.rights_on(&function.target(), env.role).has(Rights::EXECUTE) {
                return Err(SqlError::denied("function", &function.name));
            }
        }
        Ok(())
    }
}

fn may(env: &Env<'_>, relation: &Relation, table: &TableUse) -> bool {
    let held = env.db.rights_on(&relation.target(), table.role);
    if !held.has(table.whole) {
        return false;
    }
    let on_columns = |right: Rights, columns: &BTreeSet<usize>, needed: bool| {
        if !needed || held.has(right) {
            return true;
        }
        let has = |column: &usize| column_rights(env, relation, *column, table.role).has(right);
        if columns.is_empty() {
            // Counting rows needs the right on any one column.
            return (0..relation.columns.len()).any(|column| has(&column));
        }
        columns.iter().all(has)
    };
    on_columns(Rights::SELECT, &table.read, table.reads || !table.read.is_empty())
        && on_columns(Rights::INSERT, &table.inserts, table.adds)
        && on_columns(Rights::UPDATE, &table.updates, !table.updates.is_empty())
}

/// The rights a role has on one column by grants on that column.
pub(crate) fn column_rights(
    env: &Env<'_>,
    relation: &Relation,
    column: usize,
    role: Oid,
) -> Rights {
    let acl = relation.columns.get(column).and_then(|column| column.acl.as_ref());
    acl.map_or(Rights::NONE, |acl| env.db.rights_in(acl, role))
}

/// Tells whether a role has a right on a table or, if that is enough, on any of its columns.
pub(crate) fn has_right(
    env: &Env<'_>,
    relation: &Relation,
    (right, any_column): (Rights, bool),
    role: Oid,
) -> bool {
    let target: Target<'_> = relation.target();
    env.db.rights_on(&target, role).has(right)
        || any_column
            && (0..relation.columns.len())
                .any(|column| column_rights(env, relation, column, role).has(right))
}
