//! Schemas.

use super::super::error::{SqlError, code};
use super::super::parse::statement::{CreateSchema, RoleSpec};
use super::super::session::Exec;
use super::super::state::{GrantObject, Schema};
use super::{check_new_owner, initial_acl, role_of};

pub(super) fn create(exec: &mut Exec, create: &CreateSchema) -> Result<(), SqlError> {
    let owner = match &create.owner {
        Some(owner) => role_of(exec, owner)?,
        None => exec.role(),
    };
    let name = match &create.name {
        Some(name) => name.clone(),
        None => exec.db.role(owner)?.name.clone(),
    };
    // Creating a schema is a right on the database, which its owner has.
    if !exec.db.has_rights_of(exec.role(), exec.db.owner) {
        return Err(SqlError::denied("database", "postgres"));
    }
    check_new_owner(exec, owner)?;
    if name.starts_with("pg_") {
        let text = format!("unacceptable schema name \"{name}\"");
        return Err(SqlError::new(code::RESERVED_NAME, text));
    }
    if exec.db.schema_named(&name).is_some() {
        if create.if_not_exists {
            return Ok(());
        }
        let text = format!("schema \"{name}\" already exists");
        return Err(SqlError::new(code::DUPLICATE_SCHEMA, text));
    }
    let acl = initial_acl(&exec.db, GrantObject::Schema, owner, None);
    let oid = exec.db.take_oid();
    exec.db.schemas.insert(oid, Schema { oid, name, owner, acl });
    Ok(())
}

pub(super) fn change_owner(exec: &mut Exec, name: &str, owner: &RoleSpec) -> Result<(), SqlError> {
    let owner = role_of(exec, owner)?;
    let found = exec.db.schema_named(name).ok_or_else(|| SqlError::undefined_schema(name))?;
    let (oid, before) = (found.oid, found.owner);
    if !exec.db.has_rights_of(exec.role(), before) {
        return Err(SqlError::not_owner("schema", name));
    }
    check_new_owner(exec, owner)?;
    if !exec.db.has_rights_of(exec.role(), exec.db.owner) {
        return Err(SqlError::denied("database", "postgres"));
    }
    if let Some(schema) = exec.db.schemas.get_mut(&oid) {
        schema.owner = owner;
        if let Some(acl) = &mut schema.acl {
            acl.change_owner(before, owner);
        }
    }
    Ok(())
}
