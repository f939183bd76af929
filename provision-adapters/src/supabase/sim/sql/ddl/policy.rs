//! Policies for row-level security.

use std::cell::RefCell;

use sqlparser::ast::Expr;

use super::super::bind::group::refuse_aggregates;
use super::super::bind::scope::Scope;
use super::super::bind::uses::Uses;
use super::super::bind::{Binder, keep};
use super::super::error::{SqlError, code};
use super::super::parse::Name;
use super::super::parse::statement::{AlterPolicy, CreatePolicy, RoleSpec};
use super::super::session::Exec;
use super::super::state::{Oid, PUBLIC, Policy, PolicyCommand, StoredSql};
use super::{check_owner, grantee_of};

pub(super) fn create(exec: &mut Exec, create: &CreatePolicy) -> Result<(), SqlError> {
    let relation = secured_table(exec, &create.table)?;
    check_clauses(create.command, (create.using.is_some(), create.check.is_some()))?;
    if exec.db.policy_on(relation, &create.name).is_some() {
        let table = &exec.db.relation(relation)?.name;
        let text = format!("policy \"{}\" for table \"{table}\" already exists", create.name);
        return Err(SqlError::new(code::DUPLICATE_OBJECT, text));
    }
    let roles = roles_of(exec, &create.roles)?;
    let using = condition(exec, relation, create.using.as_ref())?;
    let check = condition(exec, relation, create.check.as_ref())?;
    let oid = exec.db.take_oid();
    let policy = Policy {
        oid,
        name: create.name.clone(),
        relation,
        permissive: create.permissive,
        command: create.command,
        roles,
        using,
        check,
    };
    exec.db.policies.insert(oid, policy);
    Ok(())
}

pub(super) fn alter(exec: &mut Exec, alter: &AlterPolicy) -> Result<(), SqlError> {
    let relation = secured_table(exec, &alter.table)?;
    let found = find(exec, relation, &alter.name)?;
    if let Some(name) = &alter.rename {
        if exec.db.policy_on(relation, name).is_some() {
            let table = &exec.db.relation(relation)?.name;
            let text = format!("policy \"{name}\" for table \"{table}\" already exists");
            return Err(SqlError::new(code::DUPLICATE_OBJECT, text));
        }
        if let Some(policy) = exec.db.policies.get_mut(&found) {
            policy.name.clone_from(name);
        }
        return Ok(());
    }
    let command = exec.db.policies.get(&found).map_or(PolicyCommand::All, |policy| policy.command);
    check_clauses(command, (alter.using.is_some(), alter.check.is_some()))?;
    let roles = alter.roles.as_ref().map(|roles| roles_of(exec, roles)).transpose()?;
    let using = condition(exec, relation, alter.using.as_ref())?;
    let check = condition(exec, relation, alter.check.as_ref())?;
    if let Some(policy) = exec.db.policies.get_mut(&found) {
        if let Some(roles) = roles {
            policy.roles = roles;
        }
        policy.using = using.or_else(|| policy.using.take());
        policy.check = check.or_else(|| policy.check.take());
    }
    Ok(())
}

pub(super) fn drop(
    exec: &mut Exec,
    name: &str,
    table: &Name,
    if_exists: bool,
) -> Result<(), SqlError> {
    let Some(relation) = super::relation_if_exists(exec, table, if_exists)? else {
        return Ok(());
    };
    secured_table(exec, table)?;
    if if_exists && exec.db.policy_on(relation, name).is_none() {
        return Ok(());
    }
    let found = find(exec, relation, name)?;
    exec.db.policies.remove(&found);
    exec.db.comments.retain(|comment| comment.object != found);
    Ok(())
}

/// Tables of the platform on which `postgres` may have policies although it does not own them.
const PLATFORM_TABLES: &[(&str, &str)] =
    &[("auth", "users"), ("storage", "buckets"), ("storage", "objects")];

fn secured_table(exec: &Exec, name: &Name) -> Result<Oid, SqlError> {
    let found = exec.env().resolver().user_relation(name)?.oid;
    let relation = exec.db.relation(found)?;
    let place = (exec.db.schema_name(relation.schema), relation.name.as_str());
    let granted = PLATFORM_TABLES.contains(&place) && exec.role() == exec.db.owner;
    if !granted {
        check_owner(exec, relation)?;
    }
    if !relation.kind.is_table() {
        let text = format!("\"{}\" is not a table", relation.name);
        return Err(SqlError::new(code::WRONG_OBJECT_TYPE, text));
    }
    Ok(relation.oid)
}

fn find(exec: &Exec, relation: Oid, name: &str) -> Result<Oid, SqlError> {
    let found = exec.db.policy_on(relation, name).map(|policy| policy.oid);
    let table = &exec.db.relation(relation)?.name;
    found.ok_or_else(|| {
        let text = format!("policy \"{name}\" for table \"{table}\" does not exist");
        SqlError::new(code::UNDEFINED_OBJECT, text)
    })
}

fn check_clauses(command: PolicyCommand, (using, check): (bool, bool)) -> Result<(), SqlError> {
    match command {
        PolicyCommand::Insert if using => {
            Err(SqlError::new(code::SYNTAX, "only WITH CHECK expression allowed for INSERT"))
        }
        PolicyCommand::Select | PolicyCommand::Delete if check => {
            Err(SqlError::new(code::SYNTAX, "WITH CHECK cannot be applied to SELECT or DELETE"))
        }
        _ => Ok(()),
    }
}

/// Everybody swallows the roles named beside.
fn roles_of(exec: &Exec, specs: &[RoleSpec]) -> Result<Vec<Oid>, SqlError> {
    let mut roles: Vec<Oid> =
        specs.iter().map(|spec| grantee_of(exec, spec)).collect::<Result<_, _>>()?;
    if roles.contains(&PUBLIC) {
        return Ok(vec![PUBLIC]);
    }
    roles.dedup();
    Ok(roles)
}

fn condition(
    exec: &Exec,
    relation: Oid,
    expr: Option<&Expr>,
) -> Result<Option<StoredSql>, SqlError> {
    let Some(expr) = expr else { return Ok(None) };
    let env = exec.env();
    let uses = RefCell::new(Uses::default());
    let table = exec.db.relation(relation)?;
    let binder = Binder::new(&env, &uses);
    let typed = binder.expr(expr, &Scope::of_relation(table, None))?;
    let bound = binder.condition(&typed, "POLICY")?;
    refuse_aggregates(&bound, "policy expressions")?;
    keep(&env, expr, uses.into_inner()).map(Some)
}
