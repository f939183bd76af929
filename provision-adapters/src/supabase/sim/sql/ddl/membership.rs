//! Roles as members of roles.

use super::super::error::{SqlError, code};
use super::super::parse::statement::GrantRole;
use super::super::session::Exec;
use super::super::state::{Membership, Oid};
use super::role_of;

pub(super) fn run(exec: &mut Exec, change: &GrantRole) -> Result<(), SqlError> {
    for role in &change.roles {
        let role = exec.db.role_oid(role)?;
        check_may_grant(exec, role)?;
        for member in &change.members {
            let member = role_of(exec, member)?;
            if change.revoke {
                revoke(exec, role, member, change.admin);
            } else {
                grant(exec, role, member, change.admin)?;
            }
        }
    }
    Ok(())
}

/// Who may create roles may also hand out membership, except in superusers.
fn check_may_grant(exec: &Exec, role: Oid) -> Result<(), SqlError> {
    let actor = exec.db.role(exec.role())?;
    let target = exec.db.role(role)?;
    if actor.superuser {
        return Ok(());
    }
    if target.superuser {
        let text = "must be superuser to alter superusers";
        return Err(SqlError::new(code::INSUFFICIENT_PRIVILEGE, text));
    }
    if actor.create_role || exec.db.is_admin_of(actor.oid, role) {
        return Ok(());
    }
    let text = format!("must have admin option on role \"{}\"", target.name);
    Err(SqlError::new(code::INSUFFICIENT_PRIVILEGE, text))
}

/// Makes a role a member of another; a circle is refused.
pub(super) fn grant(exec: &mut Exec, role: Oid, member: Oid, admin: bool) -> Result<(), SqlError> {
    if exec.db.is_member_by_grant(role, member) {
        let (role, member) = (&exec.db.role(role)?.name, &exec.db.role(member)?.name);
        let text = format!("role \"{role}\" is a member of role \"{member}\"");
        return Err(SqlError::new(code::INVALID_GRANT, text));
    }
    let grantor = exec.role();
    let same = |known: &&mut Membership| known.role == role && known.member == member;
    match exec.db.members.iter_mut().find(same) {
        Some(known) => known.admin |= admin,
        None => exec.db.members.push(Membership { role, member, grantor, admin }),
    }
    Ok(())
}

fn revoke(exec: &mut Exec, role: Oid, member: Oid, admin_only: bool) {
    let same = |known: &Membership| known.role == role && known.member == member;
    if admin_only {
        for known in exec.db.members.iter_mut().filter(|known| same(known)) {
            known.admin = false;
        }
    } else {
        exec.db.members.retain(|known| !same(known));
    }
}
