//! Who is a member of whom, and what that lets a role do.

use std::collections::BTreeSet;

use super::super::error::SqlError;
use super::acl::{Acl, Rights};
use super::{Database, GrantObject, Oid, Relation, Role};

impl Database {
    pub(crate) fn role(&self, oid: Oid) -> Result<&Role, SqlError> {
        self.roles.get(&oid).ok_or_else(|| SqlError::internal("a role is missing"))
    }

    pub(crate) fn role_named(&self, name: &str) -> Option<&Role> {
        self.roles.values().find(|role| role.name == name)
    }

    pub(crate) fn role_oid(&self, name: &str) -> Result<Oid, SqlError> {
        self.role_named(name).map(|role| role.oid).ok_or_else(|| SqlError::undefined_role(name))
    }

    pub(crate) fn is_superuser(&self, role: Oid) -> bool {
        self.roles.get(&role).is_some_and(|role| role.superuser)
    }

    pub(crate) fn bypasses_row_security(&self, role: Oid) -> bool {
        self.roles.get(&role).is_some_and(|role| role.superuser || role.bypass_rls)
    }

    /// Tells whether a role has the rights of another: itself, or by inherited membership.
    pub(crate) fn has_rights_of(&self, role: Oid, other: Oid) -> bool {
        role == other || self.is_superuser(role) || self.closure(role, true).contains(&other)
    }

    /// Tells whether a role may become another with `SET ROLE`.
    pub(crate) fn is_member(&self, role: Oid, other: Oid) -> bool {
        role == other || self.is_superuser(role) || self.closure(role, false).contains(&other)
    }

    /// Tells whether a role is a member of another without being one by its superuser attribute.
    pub(crate) fn is_member_by_grant(&self, role: Oid, other: Oid) -> bool {
        role == other || self.closure(role, false).contains(&other)
    }

    /// Tells whether a role may hand on membership in another.
    pub(crate) fn is_admin_of(&self, role: Oid, other: Oid) -> bool {
        let holders = self.closure(role, false);
        let held = |member: Oid| member == role || holders.contains(&member);
        self.is_superuser(role)
            || self.members.iter().any(|m| m.admin && m.role == other && held(m.member))
    }

    fn closure(&self, role: Oid, inherited: bool) -> BTreeSet<Oid> {
        let mut found = BTreeSet::new();
        let mut open = vec![role];
        while let Some(next) = open.pop() {
            let inherits = self.roles.get(&next).is_some_and(|role| role.inherit);
            if inherited && !inherits {
                continue;
            }
            let up = self.members.iter().filter(|m| m.member == next).map(|m| m.role);
            open.extend(up.filter(|role| found.insert(*role)));
        }
        found
    }

    /// The rights a role has by an access control list, its memberships included.
    pub(crate) fn rights_in(&self, acl: &Acl, role: Oid) -> Rights {
        let all = self.closure(role, true);
        acl.held(|grantee| grantee == role || all.contains(&grantee))
    }

    /// The rights a role has on an object, the server's rules for superusers included.
    pub(crate) fn rights_on(&self, target: &Target<'_>, role: Oid) -> Rights {
        if self.is_superuser(role) {
            return target.object.all_rights();
        }
        match target.acl {
            Some(acl) => self.rights_in(acl, role),
            None => self.rights_in(&Acl::default_for(target.object, target.owner), role),
        }
    }

    /// The rights a role may hand on; an owner may hand on all.
    pub(crate) fn grantable_on(&self, target: &Target<'_>, role: Oid) -> Rights {
        if self.has_rights_of(role, target.owner) {
            return target.object.all_rights();
        }
        let all = self.closure(role, true);
        let counts = |grantee: Oid| grantee == role || all.contains(&grantee);
        target.acl.map_or(Rights::NONE, |acl| acl.grantable(counts))
    }
}

/// An object with what decides about the rights on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) object: GrantObject,
    pub(crate) owner: Oid,
    pub(crate) acl: Option<&'a Acl>,
}

impl Relation {
    pub(crate) fn grant_object(&self) -> GrantObject {
        if self.sequence.is_some() { GrantObject::Sequence } else { GrantObject::Table }
    }

    pub(crate) fn target(&self) -> Target<'_> {
        Target { object: self.grant_object(), owner: self.owner, acl: self.acl.as_ref() }
    }
}

impl super::Schema {
    pub(crate) fn target(&self) -> Target<'_> {
        Target { object: GrantObject::Schema, owner: self.owner, acl: self.acl.as_ref() }
    }
}

impl super::Function {
    pub(crate) fn target(&self) -> Target<'_> {
        Target { object: GrantObject::Function, owner: self.owner, acl: self.acl.as_ref() }
    }
}
