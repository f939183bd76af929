//! Statements that define things.

mod alter;
mod comment;
mod drop;
mod grant;
mod index;
mod membership;
mod partition;
mod policy;
mod role;
mod routine;
mod schema;
mod table;
mod view;

use super::error::{SqlError, code};
use super::parse::Name;
use super::parse::statement::{OwnedObject, RoleSpec, Statement};
use super::session::Exec;
use super::state::acl::{Acl, Rights};
use super::state::lookup::Found;
use super::state::{Database, GrantObject, Oid, PUBLIC, Relation};

/// Most objects of one database.
const OBJECTS_MAX: usize = 20_000;

/// Runs a statement that defines something.
pub(crate) fn run(exec: &mut Exec, statement: &Statement, alone: bool) -> Result<(), SqlError> {
    let held = exec.db.relations.len().saturating_add(exec.db.policies.len());
    if held.saturating_add(exec.db.functions.len()) > OBJECTS_MAX {
        let text = format!("database has more than {OBJECTS_MAX} objects");
        return Err(SqlError::new(code::PROGRAM_LIMIT, text));
    }
    match statement {
        Statement::CreateSchema(create) => schema::create(exec, create),
        Statement::CreateTable(create) => table::create(exec, create),
        Statement::AlterTable(alter) => alter::run(exec, alter),
        Statement::CreateView(create) => view::create(exec, create),
        Statement::Refresh { name, with_data } => view::refresh(exec, name, *with_data),
        Statement::CreateFunction(create) => routine::create(exec, create),
        Statement::AlterFunction(alter) => routine::alter(exec, alter),
        Statement::CreateIndex(create) => index::create(exec, create, alone),
        Statement::CreateSequence(create) => index::create_sequence(exec, create),
        Statement::CreateExtension { name, schema, if_not_exists } => {
            index::create_extension(exec, name, schema.as_deref(), *if_not_exists)
        }
        Statement::CreatePolicy(create) => policy::create(exec, create),
        Statement::AlterPolicy(alter) => policy::alter(exec, alter),
        Statement::DropPolicy { name, table, if_exists } => {
            policy::drop(exec, name, table, *if_exists)
        }
        Statement::AlterOwner { object: OwnedObject::Schema(name), owner } => {
            schema::change_owner(exec, name, owner)
        }
        Statement::AlterOwner { object: OwnedObject::Function(function), owner } => {
            routine::change_owner(exec, function, owner)
        }
        Statement::Drop(drop) => drop::run(exec, drop),
        Statement::CreateRole { name, options } => role::create(exec, name, options),
        Statement::AlterRole { name, options } => role::alter(exec, name, options),
        Statement::AlterRoleSet { name, setting, value } => {
            role::set(exec, name, setting, value.as_deref())
        }
        Statement::DropRole { names, if_exists } => role::drop(exec, names, *if_exists),
        Statement::Grant(grant) => grant::run(exec, grant),
        Statement::GrantRole(grant) => membership::run(exec, grant),
        Statement::DefaultPrivileges(defaults) => grant::defaults(exec, defaults),
        Statement::Comment { on, text } => comment::run(exec, on, text.as_deref()),
        _ => Err(SqlError::internal("a statement has no execution")),
    }
}

/// What a statement is called in messages.
pub(crate) fn word(statement: &Statement) -> &'static str {
    match statement {
        Statement::Insert(_) => "INSERT",
        Statement::Update(_) => "UPDATE",
        Statement::Delete(_) => "DELETE",
        Statement::Truncate(_) => "TRUNCATE TABLE",
        Statement::CreateTable(_) => "CREATE TABLE",
        Statement::AlterTable(_) => "ALTER TABLE",
        Statement::CreateView(_) => "CREATE VIEW",
        Statement::CreateFunction(_) => "CREATE FUNCTION",
        Statement::CreatePolicy(_) => "CREATE POLICY",
        Statement::Grant(grant) if grant.revoke => "REVOKE",
        Statement::Grant(_) => "GRANT",
        Statement::Drop(_) => "DROP",
        Statement::Refresh { .. } => "REFRESH MATERIALIZED VIEW",
        _ => "this statement",
    }
}

/// Finds the role a statement speaks of; everybody is not a role here.
fn role_of(exec: &Exec, spec: &RoleSpec) -> Result<Oid, SqlError> {
    match spec {
        RoleSpec::Named(name) => exec.db.role_oid(name),
        RoleSpec::Current => Ok(exec.role()),
        RoleSpec::Session => Ok(exec.shared.session_role),
        RoleSpec::Public => Err(SqlError::undefined_role("public")),
    }
}

/// Finds the role a right is given to; everybody counts.
fn grantee_of(exec: &Exec, spec: &RoleSpec) -> Result<Oid, SqlError> {
    if *spec == RoleSpec::Public { Ok(PUBLIC) } else { role_of(exec, spec) }
}

/// Finds a relation and checks that the current role owns it.
fn owned_relation<'e>(exec: &'e Exec, name: &Name) -> Result<&'e Relation, SqlError> {
    let oid = exec.env().resolver().user_relation(name)?.oid;
    let relation = exec.db.relation(oid)?;
    check_owner(exec, relation)?;
    Ok(relation)
}

fn check_owner(exec: &Exec, relation: &Relation) -> Result<(), SqlError> {
    if exec.db.has_rights_of(exec.role(), relation.owner) {
        return Ok(());
    }
    Err(SqlError::not_owner(relation.kind.word(), &relation.name))
}

/// Checks that the current role may hand an object to a new owner.
fn check_new_owner(exec: &Exec, owner: Oid) -> Result<(), SqlError> {
    if exec.db.is_member(exec.role(), owner) {
        return Ok(());
    }
    let text = format!("must be member of role \"{}\"", exec.db.role(owner)?.name);
    Err(SqlError::new(code::INSUFFICIENT_PRIVILEGE, text))
}

/// A new owner must be able to create such an object where it is; a superuser need not ask.
fn check_owner_may_create(exec: &Exec, schema: Oid, owner: Oid) -> Result<(), SqlError> {
    let Some(schema) = exec.db.schemas.get(&schema) else { return Ok(()) };
    let allowed = exec.db.is_superuser(exec.role())
        || exec.db.rights_on(&schema.target(), owner).has(Rights::CREATE);
    if allowed { Ok(()) } else { Err(SqlError::denied("schema", &schema.name)) }
}

/// Tells whether a relation with this name stands in the way of a new one.
fn is_taken(exec: &Exec, schema: Oid, name: &str) -> bool {
    exec.db.relation_in(schema, name).is_some()
}

fn taken(name: &str) -> SqlError {
    SqlError::new(code::DUPLICATE_TABLE, format!("relation \"{name}\" already exists"))
}

/// Chooses a free name such as `songs_title_key`, with a number where it is taken.
fn free_name(db: &Database, schema: Oid, parts: &[&str]) -> String {
    let wanted = super::value::text::truncate_name(&parts.join("_"));
    let mut name = wanted.clone();
    let mut number = 0_u32;
    while db.relation_in(schema, &name).is_some() {
        number = number.saturating_add(1);
        name = format!("{wanted}{number}");
    }
    name
}

/// The rights a new object begins with; nothing where they are the default.
fn initial_acl(db: &Database, object: GrantObject, owner: Oid, schema: Option<Oid>) -> Option<Acl> {
    let find = |schema: Option<Oid>| {
        let same = |known: &&super::state::DefaultAcl| {
            known.role == owner && known.object == object && known.schema == schema
        };
        db.default_acls.iter().find(same).map(|known| known.acl.clone())
    };
    let standard = Acl::default_for(object, owner);
    let mut acl = find(None).unwrap_or_else(|| standard.clone());
    if let Some(added) = schema.and_then(|schema| find(Some(schema))) {
        for item in added.0 {
            acl.add(item.grantee, item.grantor, item.rights, item.options);
        }
    }
    (acl != standard).then_some(acl)
}

/// Finds a relation for a statement that lets it be missing.
fn relation_if_exists(exec: &Exec, name: &Name, if_exists: bool) -> Result<Option<Oid>, SqlError> {
    let env = exec.env();
    let resolver = env.resolver();
    if if_exists {
        match resolver.find(name)? {
            None => return Ok(None),
            Some(Found::Relation(relation)) => return Ok(Some(relation.oid)),
            Some(Found::System(_)) => {}
        }
    }
    resolver.user_relation(name).map(|relation| Some(relation.oid))
}
