//! Roles.

use super::super::error::{SqlError, code};
use super::super::parse::statement::RoleOption;
use super::super::run::settings;
use super::super::session::Exec;
use super::super::state::{Oid, Role};
use super::membership;

/// Roles the platform keeps for itself: only a superuser changes them. For those with a `true` their
/// settings may still be changed.
const RESERVED: &[(&str, bool)] = &[
    ("anon", true),
    ("authenticated", true),
    ("authenticator", true),
    ("service_role", true),
    ("supabase_admin", false),
    ("supabase_auth_admin", false),
    ("supabase_storage_admin", false),
    ("supabase_read_only_user", false),
];

fn check_reserved(exec: &Exec, name: &str, setting: bool) -> Result<(), SqlError> {
    let kept = RESERVED.iter().find(|(reserved, _)| *reserved == name);
    let free = kept.is_none_or(|(_, settable)| setting && *settable);
    if free || exec.db.is_superuser(exec.role()) {
        return Ok(());
    }
    let text = format!("\"{name}\" is a reserved role, only superusers can modify it");
    Err(SqlError::new(code::INSUFFICIENT_PRIVILEGE, text))
}

fn check_may_manage(exec: &Exec, verb: &str) -> Result<(), SqlError> {
    let role = exec.db.role(exec.role())?;
    if role.superuser || role.create_role {
        return Ok(());
    }
    let text = format!("permission denied to {verb} role");
    Err(SqlError::new(code::INSUFFICIENT_PRIVILEGE, text))
}

pub(super) fn create(exec: &mut Exec, name: &str, options: &[RoleOption]) -> Result<(), SqlError> {
    check_may_manage(exec, "create")?;
    if name.starts_with("pg_") {
        let text = format!("role name \"{name}\" is reserved");
        return Err(SqlError::new(code::RESERVED_NAME, text));
    }
    check_reserved(exec, name, false)?;
    if exec.db.role_named(name).is_some() {
        let text = format!("role \"{name}\" already exists");
        return Err(SqlError::new(code::DUPLICATE_OBJECT, text));
    }
    let oid = exec.db.take_oid();
    let mut role = Role {
        oid,
        name: name.to_owned(),
        superuser: false,
        inherit: true,
        create_role: false,
        create_db: false,
        login: false,
        replication: false,
        bypass_rls: false,
        connection_limit: -1,
        config: Vec::new(),
    };
    apply(exec, &mut role, options)?;
    exec.db.roles.insert(oid, role);
    for option in options {
        match option {
            RoleOption::InRole(roles) => {
                for other in roles {
                    let other = exec.db.role_oid(other)?;
                    membership::grant(exec, other, oid, false)?;
                }
            }
            RoleOption::Members(members) => {
                for member in members {
                    let member = exec.db.role_oid(member)?;
                    membership::grant(exec, oid, member, false)?;
                }
            }
            RoleOption::Admins(members) => {
                for member in members {
                    let member = exec.db.role_oid(member)?;
                    membership::grant(exec, oid, member, true)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn alter(exec: &mut Exec, name: &str, options: &[RoleOption]) -> Result<(), SqlError> {
    let oid = exec.db.role_oid(name)?;
    check_reserved(exec, name, false)?;
    let own = oid == exec.role() && options.iter().all(|o| matches!(o, RoleOption::Password));
    if !own {
        check_may_manage(exec, "alter")?;
    }
    let mut role = exec.db.role(oid)?.clone();
    if role.superuser && !exec.db.is_superuser(exec.role()) {
        let text = "must be superuser to alter superuser roles or change superuser attribute";
        return Err(SqlError::new(code::INSUFFICIENT_PRIVILEGE, text));
    }
    let lists = |option: &RoleOption| {
        matches!(option, RoleOption::InRole(_) | RoleOption::Members(_) | RoleOption::Admins(_))
    };
    if options.iter().any(lists) {
        return Err(SqlError::syntax("role"));
    }
    apply(exec, &mut role, options)?;
    exec.db.roles.insert(oid, role);
    Ok(())
}

/// Changes the attributes; nobody but a superuser makes another one.
fn apply(exec: &Exec, role: &mut Role, options: &[RoleOption]) -> Result<(), SqlError> {
    for option in options {
        match option {
            RoleOption::Superuser(on) => {
                if !exec.db.is_superuser(exec.role()) {
                    let text =
                        "must be superuser to alter superuser roles or change superuser attribute";
                    return Err(SqlError::new(code::INSUFFICIENT_PRIVILEGE, text));
                }
                role.superuser = *on;
            }
            RoleOption::Inherit(on) => role.inherit = *on,
            RoleOption::CreateRole(on) => role.create_role = *on,
            RoleOption::CreateDb(on) => role.create_db = *on,
            RoleOption::Login(on) => role.login = *on,
            RoleOption::Replication(on) => role.replication = *on,
            RoleOption::BypassRls(on) => role.bypass_rls = *on,
            RoleOption::ConnectionLimit(limit) => role.connection_limit = *limit,
            RoleOption::Password
            | RoleOption::InRole(_)
            | RoleOption::Members(_)
            | RoleOption::Admins(_) => {}
        }
    }
    Ok(())
}

pub(super) fn set(
    exec: &mut Exec,
    name: &str,
    setting: &str,
    value: Option<&str>,
) -> Result<(), SqlError> {
    let oid = exec.db.role_oid(name)?;
    check_reserved(exec, name, true)?;
    if oid != exec.role() {
        check_may_manage(exec, "alter")?;
    }
    let text = value.map(|value| settings::check(setting, value)).transpose()?;
    let role = exec.db.roles.get_mut(&oid);
    let role = role.ok_or_else(|| SqlError::internal("a role is missing"))?;
    role.config.retain(|known| known.split_once('=').is_none_or(|(key, _)| key != setting));
    if let Some(text) = text {
        role.config.push(format!("{setting}={text}"));
    }
    Ok(())
}

pub(super) fn drop(exec: &mut Exec, names: &[String], if_exists: bool) -> Result<(), SqlError> {
    check_may_manage(exec, "drop")?;
    for name in names {
        let Some(role) = exec.db.role_named(name) else {
            if if_exists {
                continue;
            }
            return Err(SqlError::undefined_role(name));
        };
        let (oid, superuser) = (role.oid, role.superuser);
        check_reserved(exec, name, false)?;
        if oid == exec.role() || oid == exec.shared.session_role {
            return Err(SqlError::new("55006", "current user cannot be dropped"));
        }
        if superuser && !exec.db.is_superuser(exec.role()) {
            let text = "must be superuser to drop superusers";
            return Err(SqlError::new(code::INSUFFICIENT_PRIVILEGE, text));
        }
        if is_used(exec, oid) {
            let text =
                format!("role \"{name}\" cannot be dropped because some objects depend on it");
            return Err(SqlError::new(code::DEPENDENT_OBJECTS, text));
        }
        exec.db.roles.remove(&oid);
        exec.db.members.retain(|known| known.role != oid && known.member != oid);
    }
    Ok(())
}

/// Tells whether anything belongs to a role or is granted to it.
fn is_used(exec: &Exec, role: Oid) -> bool {
    let db = &exec.db;
    let listed = |acl: &Option<super::super::state::acl::Acl>| {
        acl.as_ref().is_some_and(|acl| acl.mentions(role))
    };
    db.schemas.values().any(|schema| schema.owner == role || listed(&schema.acl))
        || db.functions.values().any(|function| function.owner == role || listed(&function.acl))
        || db.policies.values().any(|policy| policy.roles.contains(&role))
        || db.extensions.values().any(|extension| extension.owner == role)
        || db.default_acls.iter().any(|acl| acl.role == role || acl.acl.mentions(role))
        || db.relations.values().any(|relation| {
            relation.owner == role
                || listed(&relation.acl)
                || relation.columns.iter().any(|column| listed(&column.acl))
        })
}
