//! What was found open, in words for the author of the schema.

use std::fmt;

/// Why something counts as open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// The role ignores row-level security.
    RoleBypasses,
    /// The anonymous role has the rights of another role.
    RoleIsMember,
    /// The anonymous role owns it; row-level security does not hold its owner.
    OwnedByAnonymous,
    /// Row-level security is off.
    RowSecurityOff,
    /// The anonymous role may empty it; row-level security does not filter that.
    Truncates,
    /// A view that reads with its owner's rights.
    OwnersView,
    /// A materialized view keeps rows outside of row-level security.
    MaterializedView,
    /// A foreign table has no row-level security.
    ForeignTable,
    /// A policy shows rows to everybody.
    PolicyShowsAll,
    /// A policy takes new rows from everybody.
    PolicyTakesAll,
    /// A policy lets everybody change or delete rows.
    PolicyChangesAll,
    /// A policy's condition asks who is there in a way that could not be shown to keep an anonymous
    /// reader out.
    PolicyUnclear,
    /// A function that runs with its owner's rights can be called.
    DefinerFunction,
    /// A rule on a table or view, which runs with the rights of the relation's owner.
    RewriteRule,
    /// The anonymous role may set a sequence back, and so the numbers that others are given.
    SetsSequence,
    /// The anonymous role may make schemas, or objects in a schema.
    Creates,
    /// Reading as the anonymous role was not filtered by row-level security.
    ReadUnfiltered,
    /// Reading as the anonymous role gave rows.
    ReadRows,
    /// Calling a function as the anonymous role gave rows past row-level security.
    FunctionRows,
}

impl Rule {
    /// Short stable word.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::RoleBypasses => "role_bypasses",
            Self::RoleIsMember => "role_is_member",
            Self::OwnedByAnonymous => "owned_by_anonymous",
            Self::RowSecurityOff => "row_security_off",
            Self::Truncates => "truncates",
            Self::OwnersView => "owners_view",
            Self::MaterializedView => "materialized_view",
            Self::ForeignTable => "foreign_table",
            Self::PolicyShowsAll => "policy_shows_all",
            Self::PolicyTakesAll => "policy_takes_all",
            Self::PolicyChangesAll => "policy_changes_all",
            Self::PolicyUnclear => "policy_unclear",
            Self::DefinerFunction => "definer_function",
            Self::RewriteRule => "rewrite_rule",
            Self::SetsSequence => "sets_sequence",
            Self::Creates => "creates",
            Self::ReadUnfiltered => "read_unfiltered",
            Self::ReadRows => "read_rows",
            Self::FunctionRows => "function_rows",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::RoleBypasses => "the role ignores row-level security",
            Self::RoleIsMember => "the anonymous role is a member of this role",
            Self::OwnedByAnonymous => "the anonymous role owns it",
            Self::RowSecurityOff => "row-level security is off",
            Self::Truncates => "the anonymous role may truncate it",
            Self::OwnersView => "a view without security_invoker is open to the anonymous role",
            Self::MaterializedView => "a materialized view is open to the anonymous role",
            Self::ForeignTable => "a foreign table is open to the anonymous role",
            Self::PolicyShowsAll => "the policy shows rows to everybody",
            Self::PolicyTakesAll => "the policy takes rows from everybody",
            Self::PolicyChangesAll => "the policy lets everybody change or delete rows",
            Self::PolicyUnclear => {
                "the policy could not be shown to be closed to anonymous requests"
            }
            Self::DefinerFunction => "a security definer function is open to the anonymous role",
            Self::RewriteRule => {
                "a rule that runs with the owner's rights is open to the anonymous role"
            }
            Self::SetsSequence => "the anonymous role may set the sequence",
            Self::Creates => "the anonymous role may create in it",
            Self::ReadUnfiltered => "reading it as the anonymous role is not filtered",
            Self::ReadRows => "reading it as the anonymous role gave rows",
            Self::FunctionRows => "calling it as the anonymous role gave unfiltered rows",
        }
    }
}

/// One thing an anonymous reader could reach.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Finding {
    /// What is open: a role, `schema.relation`, `schema.table/policy`, `schema.function(..)`.
    pub subject: String,
    /// Why it counts as open.
    pub rule: Rule,
}

impl Finding {
    pub(super) fn new(subject: impl Into<String>, rule: Rule) -> Self {
        Self { subject: subject.into(), rule }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.rule.words())
    }
}
