//! Row-level security: which policies hold for whom, and what they let through.

use super::super::error::{SqlError, code};
use super::super::plan::Expr;
use super::super::state::{Oid, PUBLIC, Policy, PolicyCommand, Relation, StoredSql};
use super::super::value::Value;
use super::Binder;
use super::scope::Scope;

/// What new rows must satisfy, with the name of the policy where one alone can refuse.
#[derive(Debug)]
pub(crate) struct NewRowCheck {
    pub(crate) policy: Option<String>,
    pub(crate) condition: Expr,
}

impl Binder<'_> {
    /// The condition under which rows are seen, or nothing where no policy applies.
    ///
    /// `command` is what the statement does: the policies for reading also hold for what an update
    /// or a delete reads.
    pub(crate) fn row_security(
        &self,
        relation: &Relation,
        command: PolicyCommand,
    ) -> Result<Option<Expr>, SqlError> {
        if !self.is_secured(relation)? {
            return Ok(None);
        }
        let mut inner = self.securing(relation)?;
        inner.nested = true;
        let (permissive, restrictive) = inner.policies(relation, command);
        let mut allowed = Vec::new();
        for policy in permissive {
            // A policy without a condition for reading shows nothing.
            if let Some(using) = &policy.using {
                allowed.push(inner.policy_condition(relation, using)?);
            }
        }
        let mut all = vec![any_of(allowed)];
        for policy in restrictive {
            if let Some(using) = &policy.using {
                all.push(inner.policy_condition(relation, using)?);
            }
        }
        Ok(Some(Expr::And(all)))
    }

    /// The conditions new rows must satisfy; none where no policy applies.
    pub(crate) fn new_row_checks(
        &self,
        relation: &Relation,
        command: PolicyCommand,
    ) -> Result<Vec<NewRowCheck>, SqlError> {
        if !self.is_secured(relation)? {
            return Ok(Vec::new());
        }
        let mut inner = self.securing(relation)?;
        inner.nested = true;
        let (permissive, restrictive) = inner.policies(relation, command);
        let mut allowed = Vec::new();
        for policy in permissive {
            if let Some(check) = check_of(policy, command) {
                allowed.push(inner.policy_condition(relation, check)?);
            }
        }
        let mut checks = vec![NewRowCheck { policy: None, condition: any_of(allowed) }];
        for policy in restrictive {
            if let Some(check) = check_of(policy, command) {
                let condition = inner.policy_condition(relation, check)?;
                checks.push(NewRowCheck { policy: Some(policy.name.clone()), condition });
            }
        }
        Ok(checks)
    }

    /// Tells whether policies hold for the reader, and refuses where they were switched off.
    fn is_secured(&self, relation: &Relation) -> Result<bool, SqlError> {
        let db = self.env.db;
        let free = !relation.row_security
            || db.bypasses_row_security(self.reader)
            || (db.has_rights_of(self.reader, relation.owner) && !relation.force_row_security);
        if free {
            return Ok(false);
        }
        if self.env.shared.settings.borrow().is_off("row_security") {
            let text = format!(
                "query would be affected by row-level security policy for table \"{}\"",
                relation.name
            );
            return Err(SqlError::new(code::INSUFFICIENT_PRIVILEGE, text));
        }
        Ok(true)
    }

    fn securing(&self, relation: &Relation) -> Result<Self, SqlError> {
        if self.securing.contains(&relation.oid) {
            let text =
                format!("infinite recursion detected in policy for relation \"{}\"", relation.name);
            return Err(SqlError::new(code::INVALID_OBJECT, text));
        }
        let mut inner = self.clone();
        inner.securing.push(relation.oid);
        Ok(inner)
    }

    fn policies(
        &self,
        relation: &Relation,
        command: PolicyCommand,
    ) -> (Vec<&Policy>, Vec<&Policy>) {
        let applies = |policy: &&Policy| {
            (policy.command == PolicyCommand::All || policy.command == command)
                && policy.roles.iter().any(|role| self.counts_as(*role))
        };
        let mut found: Vec<&Policy> =
            self.env.db.policies_of(relation.oid).filter(applies).collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found.into_iter().partition(|policy| policy.permissive)
    }

    fn counts_as(&self, role: Oid) -> bool {
        role == PUBLIC || self.env.db.has_rights_of(self.reader, role)
    }

    fn policy_condition(&self, relation: &Relation, sql: &StoredSql) -> Result<Expr, SqlError> {
        self.stored_condition(sql, &Scope::of_relation(relation, None))
    }
}

/// The condition of a policy for new rows: its own, or the one for reading.
fn check_of(policy: &Policy, command: PolicyCommand) -> Option<&StoredSql> {
    match command {
        // Rows that a statement returns must be visible.
        PolicyCommand::Select | PolicyCommand::Delete => policy.using.as_ref(),
        PolicyCommand::All | PolicyCommand::Insert | PolicyCommand::Update => {
            policy.check.as_ref().or(policy.using.as_ref())
        }
    }
}

/// Without any policy that lets rows through, none are.
fn any_of(allowed: Vec<Expr>) -> Expr {
    if allowed.is_empty() { Expr::Const(Value::Bool(false)) } else { Expr::Or(allowed) }
}
