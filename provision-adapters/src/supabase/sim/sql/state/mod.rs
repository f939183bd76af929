//! What a database holds: roles, schemas, relations, policies, functions and the rows.
//!
//! Everything here is plain data that can be cloned and stored, so that a transaction is a copy and a
//! simulator can be snapshotted. Expressions are kept as text and bound again at each use; the names in
//! them cannot go stale, because renaming is not modelled and dropping checks `uses`.

pub(crate) mod acl;
pub(crate) mod lookup;
pub(crate) mod roles;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use self::acl::{Acl, Rights};
use super::value::Value;
use super::value::sql_type::Type;

/// Number of an object, unique over all kinds in this model.
pub(crate) type Oid = u32;

/// First number given to objects that a statement creates, as in the server.
pub(crate) const FIRST_NORMAL_OID: Oid = 16_384;

/// The grantee number that stands for everybody.
pub(crate) const PUBLIC: Oid = 0;

/// One row; values stand in the order of the columns.
pub(crate) type Row = Vec<Value>;

/// Everything a transaction can change.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Database {
    pub(crate) next_oid: Oid,
    pub(crate) roles: BTreeMap<Oid, Role>,
    pub(crate) members: Vec<Membership>,
    pub(crate) schemas: BTreeMap<Oid, Schema>,
    pub(crate) relations: BTreeMap<Oid, Relation>,
    pub(crate) functions: BTreeMap<Oid, Function>,
    pub(crate) policies: BTreeMap<Oid, Policy>,
    pub(crate) default_acls: Vec<DefaultAcl>,
    pub(crate) extensions: BTreeMap<String, Extension>,
    pub(crate) comments: Vec<Comment>,
    /// Owner of the database, who may create schemas in it.
    pub(crate) owner: Oid,
    /// Number of random values drawn; the next one follows from it.
    pub(crate) drawn: u64,
}

impl Database {
    pub(crate) fn take_oid(&mut self) -> Oid {
        let oid = self.next_oid;
        self.next_oid = self.next_oid.saturating_add(1);
        oid
    }
}

/// A role, with the attributes that decide about rights.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "pg_authid has exactly these flags")]
pub(crate) struct Role {
    pub(crate) oid: Oid,
    pub(crate) name: String,
    pub(crate) superuser: bool,
    pub(crate) inherit: bool,
    pub(crate) create_role: bool,
    pub(crate) create_db: bool,
    pub(crate) login: bool,
    pub(crate) replication: bool,
    pub(crate) bypass_rls: bool,
    pub(crate) connection_limit: i64,
    pub(crate) config: Vec<String>,
}

/// One role being a member of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Membership {
    pub(crate) role: Oid,
    pub(crate) member: Oid,
    pub(crate) grantor: Oid,
    pub(crate) admin: bool,
}

/// A namespace.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Schema {
    pub(crate) oid: Oid,
    pub(crate) name: String,
    pub(crate) owner: Oid,
    pub(crate) acl: Option<Acl>,
}

/// What a relation is; the letters are those of `pg_class.relkind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RelationKind {
    Table,
    Partitioned,
    View,
    MaterializedView,
    Sequence,
    Index,
}

impl RelationKind {
    pub(crate) fn letter(self, partitioned: bool) -> &'static str {
        match self {
            Self::Table => "r",
            Self::Partitioned => "p",
            Self::View => "v",
            Self::MaterializedView => "m",
            Self::Sequence => "S",
            Self::Index if partitioned => "I",
            Self::Index => "i",
        }
    }

    /// The word the server uses for it in messages.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Table | Self::Partitioned => "table",
            Self::View => "view",
            Self::MaterializedView => "materialized view",
            Self::Sequence => "sequence",
            Self::Index => "index",
        }
    }

    pub(crate) fn is_table(self) -> bool {
        matches!(self, Self::Table | Self::Partitioned)
    }
}

/// An expression or a query as text, with the search path it was understood under.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredSql {
    pub(crate) text: String,
    pub(crate) path: Vec<String>,
    /// Relations and functions it names.
    pub(crate) uses: BTreeSet<Oid>,
}

/// A table, view, sequence or index.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Relation {
    pub(crate) oid: Oid,
    pub(crate) schema: Oid,
    pub(crate) name: String,
    pub(crate) kind: RelationKind,
    pub(crate) owner: Oid,
    pub(crate) acl: Option<Acl>,
    pub(crate) columns: Vec<Column>,
    pub(crate) row_security: bool,
    pub(crate) force_row_security: bool,
    /// Storage options such as `security_invoker=true`.
    pub(crate) options: Vec<String>,
    pub(crate) checks: Vec<Check>,
    pub(crate) keys: Vec<Key>,
    pub(crate) foreign_keys: Vec<ForeignKey>,
    /// How a partitioned table spreads its rows.
    pub(crate) partitioning: Option<Partitioning>,
    /// Where a partition belongs.
    pub(crate) partition_of: Option<PartitionOf>,
    /// The query of a view or materialized view.
    pub(crate) query: Option<StoredSql>,
    /// False for a materialized view created `WITH NO DATA`.
    pub(crate) populated: bool,
    pub(crate) sequence: Option<Sequence>,
    pub(crate) index: Option<Index>,
    pub(crate) rows: Vec<Row>,
}

/// A column of a relation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) ty: Type,
    pub(crate) not_null: bool,
    pub(crate) default: Option<StoredSql>,
    pub(crate) generated: Generated,
    /// Sequence that belongs to the column (`serial`, identity).
    pub(crate) sequence: Option<Oid>,
    pub(crate) acl: Option<Acl>,
}

/// Where a column's value comes from when it is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Generated {
    /// From the default, or nothing.
    No,
    /// `GENERATED ALWAYS AS IDENTITY`.
    IdentityAlways,
    /// `GENERATED BY DEFAULT AS IDENTITY`.
    IdentityByDefault,
    /// `GENERATED ALWAYS AS (..) STORED`; the expression is the default.
    Stored,
}

/// A check constraint.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) expression: StoredSql,
}

/// A primary key, a unique constraint, or what a unique index asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Key {
    /// Number of the index that carries it.
    pub(crate) index: Oid,
    pub(crate) name: String,
    pub(crate) columns: Vec<usize>,
    pub(crate) primary: bool,
    /// False for a bare unique index.
    pub(crate) constraint: bool,
}

/// A foreign key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ForeignKey {
    pub(crate) name: String,
    pub(crate) columns: Vec<usize>,
    pub(crate) target: Oid,
    pub(crate) target_columns: Vec<usize>,
    pub(crate) on_delete: ReferenceAction,
    pub(crate) on_update: ReferenceAction,
}

/// What happens to referring rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ReferenceAction {
    /// `NO ACTION` and `RESTRICT`: the change is refused.
    Refuse,
    Cascade,
    SetNull,
}

/// The rule by which a partitioned table spreads its rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Partitioning {
    pub(crate) list: bool,
    pub(crate) columns: Vec<usize>,
}

/// The parent of a partition and the rows it takes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PartitionOf {
    pub(crate) parent: Oid,
    pub(crate) bound: PartitionBound,
}

/// The rows a partition takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum PartitionBound {
    Default,
    List(Vec<Value>),
    /// From (inclusive) and to (exclusive).
    Range(Vec<RangeEnd>, Vec<RangeEnd>),
}

/// One end of a range partition in one column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum RangeEnd {
    Min,
    At(Value),
    Max,
}

/// The state of a sequence.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Sequence {
    pub(crate) start: i64,
    pub(crate) increment: i64,
    pub(crate) next: i64,
    /// Table the sequence goes away with.
    pub(crate) owned_by: Option<Oid>,
}

/// What an index covers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Index {
    pub(crate) table: Oid,
    pub(crate) unique: bool,
    pub(crate) primary: bool,
    pub(crate) definition: String,
}

/// The commands a policy speaks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PolicyCommand {
    All,
    Select,
    Insert,
    Update,
    Delete,
}

impl PolicyCommand {
    pub(crate) fn letter(self) -> &'static str {
        match self {
            Self::All => "*",
            Self::Select => "r",
            Self::Insert => "a",
            Self::Update => "w",
            Self::Delete => "d",
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::All => "ALL",
            Self::Select => "SELECT",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

/// A row-level security policy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Policy {
    pub(crate) oid: Oid,
    pub(crate) name: String,
    pub(crate) relation: Oid,
    pub(crate) permissive: bool,
    pub(crate) command: PolicyCommand,
    /// Roles it applies to; [`PUBLIC`] means everybody.
    pub(crate) roles: Vec<Oid>,
    pub(crate) using: Option<StoredSql>,
    pub(crate) check: Option<StoredSql>,
}

/// A function made by a statement or by an extension.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Function {
    pub(crate) oid: Oid,
    pub(crate) schema: Oid,
    pub(crate) name: String,
    pub(crate) owner: Oid,
    pub(crate) acl: Option<Acl>,
    pub(crate) arguments: Vec<Argument>,
    pub(crate) returns: Returns,
    pub(crate) body: String,
    pub(crate) definer: bool,
    pub(crate) strict: bool,
    pub(crate) volatility: Volatility,
    /// Settings that hold while it runs, as `name=value`.
    pub(crate) config: Vec<String>,
}

/// One argument of a function.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Argument {
    pub(crate) name: Option<String>,
    pub(crate) ty: Type,
    pub(crate) default: Option<StoredSql>,
}

/// What a function gives.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Returns {
    pub(crate) set: bool,
    pub(crate) shape: Shape,
}

/// The type of what a function gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Shape {
    Scalar(Type),
    /// The row type of a relation.
    Relation(Oid),
    /// `RETURNS TABLE (..)`.
    Table(Vec<(String, Type)>),
}

/// How much the result of a function may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Volatility {
    Immutable,
    Stable,
    Volatile,
}

impl Volatility {
    pub(crate) fn letter(self) -> &'static str {
        match self {
            Self::Immutable => "i",
            Self::Stable => "s",
            Self::Volatile => "v",
        }
    }
}

/// Rights that objects get at their creation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DefaultAcl {
    pub(crate) role: Oid,
    pub(crate) schema: Option<Oid>,
    pub(crate) object: GrantObject,
    pub(crate) acl: Acl,
}

/// The kinds of objects that carry rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum GrantObject {
    Table,
    Sequence,
    Function,
    Schema,
}

impl GrantObject {
    /// Everything that can be granted on it.
    pub(crate) fn all_rights(self) -> Rights {
        match self {
            Self::Table => Rights::TABLE,
            Self::Sequence => Rights::SEQUENCE,
            Self::Function => Rights::EXECUTE,
            Self::Schema => Rights::SCHEMA,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Sequence => "sequence",
            Self::Function => "function",
            Self::Schema => "schema",
        }
    }

    pub(crate) fn letter(self) -> &'static str {
        match self {
            Self::Table => "r",
            Self::Sequence => "S",
            Self::Function => "f",
            Self::Schema => "n",
        }
    }
}

/// An installed extension.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Extension {
    pub(crate) oid: Oid,
    pub(crate) schema: Oid,
    pub(crate) owner: Oid,
}

/// A comment on an object, or on one of its columns (counted from 1; 0 is the object itself).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Comment {
    pub(crate) object: Oid,
    pub(crate) column: usize,
    pub(crate) text: String,
}
