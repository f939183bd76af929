//! The statements the model knows, as its own grammar gives them.
//!
//! Nothing here has room for an option that is not modelled: what the grammar cannot put into one of
//! these shapes is refused, so no clause is ever read and forgotten.

use sqlparser::ast::{Expr, Query, SelectItem, TableWithJoins};

use super::super::state::acl::Rights;
use super::super::state::{Generated, GrantObject, PolicyCommand, ReferenceAction, Volatility};
use super::super::value::sql_type::Type;
use super::Name;

/// One statement.
#[derive(Debug, Clone)]
pub(crate) enum Statement {
    Begin {
        read_only: Option<bool>,
    },
    Commit,
    Rollback,
    /// `SET TRANSACTION`; no value leaves the access mode as it is.
    SetTransaction {
        read_only: Option<bool>,
    },
    Set(SetVariable),
    SetRole {
        role: Option<String>,
        local: bool,
    },
    Show(String),
    Query(Box<Query>),
    Insert(Box<Insert>),
    Update(Box<Update>),
    Delete(Box<Delete>),
    Truncate(Vec<Name>),
    CreateSchema(CreateSchema),
    CreateTable(Box<CreateTable>),
    AlterTable(AlterTable),
    CreateView(CreateView),
    Refresh {
        name: Name,
        with_data: bool,
    },
    CreateFunction(Box<CreateFunction>),
    AlterFunction(AlterFunction),
    CreateIndex(CreateIndex),
    CreateSequence(CreateSequence),
    CreateExtension {
        name: String,
        schema: Option<String>,
        if_not_exists: bool,
    },
    CreatePolicy(CreatePolicy),
    AlterPolicy(AlterPolicy),
    AlterOwner {
        object: OwnedObject,
        owner: RoleSpec,
    },
    Drop(Drop),
    DropPolicy {
        name: String,
        table: Name,
        if_exists: bool,
    },
    CreateRole {
        name: String,
        options: Vec<RoleOption>,
    },
    AlterRole {
        name: String,
        options: Vec<RoleOption>,
    },
    AlterRoleSet {
        name: String,
        setting: String,
        value: Option<String>,
    },
    DropRole {
        names: Vec<String>,
        if_exists: bool,
    },
    Grant(Grant),
    GrantRole(GrantRole),
    DefaultPrivileges(DefaultPrivileges),
    Comment {
        on: CommentTarget,
        text: Option<String>,
    },
}

/// `SET name = value`; no value is a reset.
#[derive(Debug, Clone)]
pub(crate) struct SetVariable {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
    pub(crate) local: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Insert {
    pub(crate) table: Name,
    pub(crate) alias: Option<String>,
    pub(crate) columns: Option<Vec<String>>,
    pub(crate) overriding: Option<Overriding>,
    /// No source is `DEFAULT VALUES`.
    pub(crate) source: Option<Box<Query>>,
    pub(crate) on_conflict: Option<OnConflict>,
    pub(crate) returning: Vec<SelectItem>,
}

/// Whose value an identity column takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overriding {
    System,
    User,
}

/// `ON CONFLICT (..) DO NOTHING` or `DO UPDATE`; no columns means any key.
#[derive(Debug, Clone)]
pub(crate) struct OnConflict {
    pub(crate) target: ConflictTarget,
}

#[derive(Debug, Clone)]
pub(crate) enum ConflictTarget {
    Any,
    Columns(Vec<String>),
    Constraint(String),
}

#[derive(Debug, Clone)]
pub(crate) struct Update {
    pub(crate) table: Name,
    pub(crate) only: bool,
    pub(crate) alias: Option<String>,
    /// No expression is `DEFAULT`.
    pub(crate) assignments: Vec<(String, Option<Expr>)>,
    pub(crate) from: Vec<TableWithJoins>,
    pub(crate) filter: Option<Expr>,
    pub(crate) returning: Vec<SelectItem>,
}

#[derive(Debug, Clone)]
pub(crate) struct Delete {
    pub(crate) table: Name,
    pub(crate) only: bool,
    pub(crate) alias: Option<String>,
    pub(crate) using: Vec<TableWithJoins>,
    pub(crate) filter: Option<Expr>,
    pub(crate) returning: Vec<SelectItem>,
}

/// A role by name, or the one that is speaking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RoleSpec {
    Named(String),
    Public,
    Current,
    Session,
}

#[derive(Debug, Clone)]
pub(crate) struct CreateSchema {
    pub(crate) name: Option<String>,
    pub(crate) owner: Option<RoleSpec>,
    pub(crate) if_not_exists: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct CreateTable {
    pub(crate) name: Name,
    pub(crate) if_not_exists: bool,
    pub(crate) columns: Vec<ColumnSpec>,
    pub(crate) constraints: Vec<TableConstraint>,
    pub(crate) partitioning: Option<PartitionRule>,
    pub(crate) partition_of: Option<(Name, BoundSpec)>,
}

/// `PARTITION BY LIST (..)` or `RANGE (..)`.
#[derive(Debug, Clone)]
pub(crate) struct PartitionRule {
    pub(crate) list: bool,
    pub(crate) columns: Vec<String>,
}

/// The `FOR VALUES` clause of a partition.
#[derive(Debug, Clone)]
pub(crate) enum BoundSpec {
    Default,
    List(Vec<Expr>),
    Range(Vec<Expr>, Vec<Expr>),
}

#[derive(Debug, Clone)]
pub(crate) struct ColumnSpec {
    pub(crate) name: String,
    pub(crate) ty: Type,
    /// True for `serial` and its brothers.
    pub(crate) serial: bool,
    pub(crate) not_null: bool,
    pub(crate) default: Option<Expr>,
    pub(crate) generated: Generated,
    pub(crate) constraints: Vec<TableConstraint>,
}

/// A constraint of a table; one on a column has that column in its list.
#[derive(Debug, Clone)]
pub(crate) struct TableConstraint {
    pub(crate) name: Option<String>,
    pub(crate) body: ConstraintBody,
}

#[derive(Debug, Clone)]
pub(crate) enum ConstraintBody {
    PrimaryKey(Vec<String>),
    Unique(Vec<String>),
    Check(Box<Expr>),
    References(References),
}

#[derive(Debug, Clone)]
pub(crate) struct References {
    pub(crate) columns: Vec<String>,
    pub(crate) table: Name,
    pub(crate) target_columns: Vec<String>,
    pub(crate) on_delete: ReferenceAction,
    pub(crate) on_update: ReferenceAction,
}

#[derive(Debug, Clone)]
pub(crate) struct AlterTable {
    pub(crate) name: Name,
    /// The kind that was named; `TABLE` may be said of any.
    pub(crate) kind: Option<DropKind>,
    pub(crate) if_exists: bool,
    pub(crate) actions: Vec<TableAction>,
}

#[derive(Debug, Clone)]
pub(crate) enum TableAction {
    RowSecurity(bool),
    ForceRowSecurity(bool),
    AddColumn { column: Box<ColumnSpec>, if_not_exists: bool },
    AddConstraint(TableConstraint),
    DropConstraint { name: String, if_exists: bool },
    SetNotNull(String),
    DropNotNull(String),
    SetDefault(String, Box<Option<Expr>>),
    OwnerTo(RoleSpec),
    SetOptions(Vec<(String, Option<String>)>),
}

#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "the statement has exactly these switches")]
pub(crate) struct CreateView {
    pub(crate) name: Name,
    pub(crate) or_replace: bool,
    pub(crate) if_not_exists: bool,
    pub(crate) materialized: bool,
    pub(crate) columns: Vec<String>,
    pub(crate) options: Vec<(String, Option<String>)>,
    pub(crate) query: Box<Query>,
    pub(crate) with_data: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct CreateFunction {
    pub(crate) name: Name,
    pub(crate) or_replace: bool,
    pub(crate) arguments: Vec<ArgumentSpec>,
    pub(crate) returns: ReturnsSpec,
    pub(crate) body: String,
    pub(crate) options: FunctionOptions,
}

#[derive(Debug, Clone)]
pub(crate) struct ArgumentSpec {
    pub(crate) name: Option<String>,
    pub(crate) ty: Type,
    pub(crate) default: Option<Expr>,
}

#[derive(Debug, Clone)]
pub(crate) enum ReturnsSpec {
    Type { ty: TypeSpec, set: bool },
    Table(Vec<(String, Type)>),
}

/// A type name in a place where the row type of a table may stand too.
#[derive(Debug, Clone)]
pub(crate) enum TypeSpec {
    Known(Type),
    Relation(Name),
}

/// What follows the signature of a function, each part at most once.
#[derive(Debug, Clone, Default)]
pub(crate) struct FunctionOptions {
    pub(crate) definer: Option<bool>,
    pub(crate) strict: Option<bool>,
    pub(crate) volatility: Option<Volatility>,
    /// Settings; no value is a reset.
    pub(crate) config: Vec<(String, Option<String>)>,
    pub(crate) reset_all: bool,
}

/// A function by name, with its argument types where they were given.
#[derive(Debug, Clone)]
pub(crate) struct FunctionRef {
    pub(crate) name: Name,
    pub(crate) types: Option<Vec<Type>>,
}

#[derive(Debug, Clone)]
pub(crate) struct AlterFunction {
    pub(crate) function: FunctionRef,
    pub(crate) options: FunctionOptions,
}

#[derive(Debug, Clone)]
pub(crate) struct CreateIndex {
    pub(crate) name: Option<String>,
    pub(crate) table: Name,
    pub(crate) unique: bool,
    pub(crate) if_not_exists: bool,
    pub(crate) concurrently: bool,
    pub(crate) parts: Vec<Expr>,
    pub(crate) filter: Option<Expr>,
    pub(crate) text: String,
}

#[derive(Debug, Clone)]
pub(crate) struct CreateSequence {
    pub(crate) name: Name,
    pub(crate) if_not_exists: bool,
    pub(crate) start: i64,
    pub(crate) increment: i64,
}

#[derive(Debug, Clone)]
pub(crate) struct CreatePolicy {
    pub(crate) name: String,
    pub(crate) table: Name,
    pub(crate) permissive: bool,
    pub(crate) command: PolicyCommand,
    pub(crate) roles: Vec<RoleSpec>,
    pub(crate) using: Option<Expr>,
    pub(crate) check: Option<Expr>,
}

#[derive(Debug, Clone)]
pub(crate) struct AlterPolicy {
    pub(crate) name: String,
    pub(crate) table: Name,
    pub(crate) rename: Option<String>,
    pub(crate) roles: Option<Vec<RoleSpec>>,
    pub(crate) using: Option<Expr>,
    pub(crate) check: Option<Expr>,
}

/// An object whose owner can be changed by a statement of its own.
#[derive(Debug, Clone)]
pub(crate) enum OwnedObject {
    Schema(String),
    Function(FunctionRef),
}

#[derive(Debug, Clone)]
pub(crate) struct Drop {
    pub(crate) what: Dropped,
    pub(crate) if_exists: bool,
    pub(crate) cascade: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Dropped {
    Schemas(Vec<String>),
    Relations(DropKind, Vec<Name>),
    Functions(Vec<FunctionRef>),
    Extensions(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DropKind {
    Table,
    View,
    MaterializedView,
    Sequence,
    Index,
}

#[derive(Debug, Clone)]
pub(crate) enum RoleOption {
    Superuser(bool),
    Inherit(bool),
    CreateRole(bool),
    CreateDb(bool),
    Login(bool),
    Replication(bool),
    BypassRls(bool),
    ConnectionLimit(i64),
    /// A password is accepted and never kept.
    Password,
    InRole(Vec<String>),
    Members(Vec<String>),
    Admins(Vec<String>),
}

/// `GRANT` or `REVOKE` of rights on objects.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub(crate) revoke: bool,
    pub(crate) rights: RightsSpec,
    pub(crate) on: GrantTarget,
    pub(crate) roles: Vec<RoleSpec>,
    /// `WITH GRANT OPTION`, or `GRANT OPTION FOR` in a revoke.
    pub(crate) option: bool,
    pub(crate) cascade: bool,
}

/// The rights named; none is `ALL`.
#[derive(Debug, Clone)]
pub(crate) struct RightsSpec(pub(crate) Option<Vec<(Rights, Vec<String>)>>);

#[derive(Debug, Clone)]
pub(crate) enum GrantTarget {
    /// Tables, views or sequences by name; `true` when the word `SEQUENCE` was said.
    Relations(Vec<Name>, bool),
    Schemas(Vec<String>),
    Functions(Vec<FunctionRef>),
    All(GrantObject, Vec<String>),
}

/// `GRANT role TO role` or its opposite.
#[derive(Debug, Clone)]
pub(crate) struct GrantRole {
    pub(crate) revoke: bool,
    pub(crate) roles: Vec<String>,
    pub(crate) members: Vec<RoleSpec>,
    /// `WITH ADMIN OPTION`, or `ADMIN OPTION FOR` in a revoke.
    pub(crate) admin: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct DefaultPrivileges {
    pub(crate) owners: Vec<RoleSpec>,
    pub(crate) schemas: Vec<String>,
    pub(crate) revoke: bool,
    pub(crate) rights: RightsSpec,
    pub(crate) object: GrantObject,
    pub(crate) roles: Vec<RoleSpec>,
    pub(crate) option: bool,
    pub(crate) cascade: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum CommentTarget {
    Schema(String),
    Relation(Name, Option<DropKind>),
    Column(Name, String),
    Function(FunctionRef),
    Policy(String, Name),
}
