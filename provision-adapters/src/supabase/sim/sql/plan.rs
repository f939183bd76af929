//! Bound expressions and queries: every name resolved, every type known.
//!
//! Binding happens before the first row is touched, so a wrong or unknown construct is refused even
//! when the tables are empty.

use std::rc::Rc;

use super::state::Oid;
use super::sys::SystemRelation;
use super::value::Value;
use super::value::sql_type::Type;

/// An expression with its type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Typed {
    pub(crate) expr: Expr,
    pub(crate) ty: Type,
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A calculation with two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

/// A bound expression.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expr {
    Const(Value),
    /// A column of the row `up` queries further out.
    Column {
        up: usize,
        index: usize,
    },
    /// An argument of the SQL function being evaluated.
    Param(usize),
    Cast {
        expr: Box<Self>,
        from: Type,
        to: Type,
        /// An explicit cast cuts what is too long, an assignment refuses it.
        explicit: bool,
    },
    Not(Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
    IsNull {
        expr: Box<Self>,
        negated: bool,
    },
    Is {
        expr: Box<Self>,
        truth: bool,
        negated: bool,
    },
    Distinct {
        left: Box<Self>,
        right: Box<Self>,
        negated: bool,
    },
    Compare {
        op: Comparison,
        left: Box<Self>,
        right: Box<Self>,
    },
    Arithmetic {
        op: Arithmetic,
        left: Box<Self>,
        right: Box<Self>,
        ty: Type,
    },
    Like {
        expr: Box<Self>,
        pattern: Box<Self>,
        insensitive: bool,
        negated: bool,
    },
    /// A comparison with any or all elements of an array.
    Quantified {
        op: Comparison,
        all: bool,
        left: Box<Self>,
        array: Box<Self>,
    },
    Case {
        branches: Vec<(Self, Self)>,
        otherwise: Box<Self>,
    },
    Coalesce(Vec<Self>),
    Extremum {
        items: Vec<Self>,
        greatest: bool,
    },
    /// A function of the server, by its place in the table of functions.
    Call {
        function: usize,
        args: Vec<Self>,
        types: Vec<Type>,
    },
    UserCall {
        function: Oid,
        args: Vec<Self>,
    },
    Aggregate(Box<Aggregate>),
    Subquery {
        kind: SubqueryKind,
        query: Box<QueryPlan>,
    },
    Array(Vec<Self>),
    Row(Vec<Self>),
    Element {
        array: Box<Self>,
        index: Box<Self>,
    },
}

/// What a subquery in an expression is asked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SubqueryKind {
    Scalar,
    Exists,
    Array,
    /// `left op ANY (..)` or `ALL`; `IN` is `= ANY`.
    Quantified {
        left: Box<Expr>,
        op: Comparison,
        all: bool,
    },
}

/// The aggregates of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AggregateKind {
    CountRows,
    Count,
    Sum,
    Min,
    Max,
    BoolAnd,
    BoolOr,
    ArrayAgg,
    StringAgg,
    JsonAgg,
}

/// A call of an aggregate.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Aggregate {
    pub(crate) kind: AggregateKind,
    pub(crate) args: Vec<Expr>,
    pub(crate) types: Vec<Type>,
    pub(crate) distinct: bool,
    pub(crate) filter: Option<Expr>,
    pub(crate) order: Vec<SortKey>,
}

/// One key of an order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SortKey {
    pub(crate) expr: Expr,
    pub(crate) descending: bool,
    pub(crate) nulls_first: bool,
}

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutputColumn {
    pub(crate) name: String,
    pub(crate) ty: Type,
}

/// A whole query.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct QueryPlan {
    pub(crate) body: Body,
    pub(crate) columns: Vec<OutputColumn>,
    /// Keys over the row of the body, hidden columns included.
    pub(crate) order: Vec<SortKey>,
    pub(crate) limit: Option<Expr>,
    pub(crate) offset: Option<Expr>,
}

/// What gives the rows of a query before they are ordered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body {
    Select(Box<SelectPlan>),
    Values(Vec<Vec<Expr>>),
    Combined { op: SetOperation, all: bool, left: Box<QueryPlan>, right: Box<QueryPlan> },
}

/// How two results are brought together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetOperation {
    Union,
    Except,
    Intersect,
}

/// One `SELECT`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SelectPlan {
    pub(crate) source: Source,
    pub(crate) filter: Option<Expr>,
    pub(crate) group: Option<Group>,
    pub(crate) having: Option<Expr>,
    /// The columns of the result, then those only the order needs.
    pub(crate) outputs: Vec<Expr>,
    pub(crate) distinct: bool,
}

/// A grouping; the row it gives is the keys, then the aggregates.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Group {
    pub(crate) keys: Vec<Expr>,
    pub(crate) aggregates: Vec<Aggregate>,
}

/// Where rows come from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    /// One row without columns.
    Nothing,
    Scan(Scan),
    System(&'static SystemRelation),
    Query(Rc<QueryPlan>),
    Function(TableFunction),
    Join(Box<Join>),
}

/// Reading a table, with what row-level security lets through.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scan {
    pub(crate) relation: Oid,
    /// True to leave partitions out.
    pub(crate) only: bool,
    pub(crate) security: Option<Box<Expr>>,
}

/// A function that gives rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TableFunction {
    /// A set from a function of the server; each value is one row.
    Call {
        kind: SetFunction,
        args: Vec<Expr>,
    },
    User {
        function: Oid,
        args: Vec<Expr>,
        width: usize,
    },
    /// One row with one value.
    Scalar(Expr),
    /// Adds the number of the row behind its columns.
    Ordinality(Box<Self>),
}

/// Functions of the server that give rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetFunction {
    Unnest,
    GenerateSeries,
    AclExplode,
    JsonArrayElements,
    JsonArrayElementsText,
}

/// Two sources side by side.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Join {
    pub(crate) left: Source,
    pub(crate) right: Source,
    pub(crate) left_width: usize,
    pub(crate) right_width: usize,
    /// Keep rows of this side that have no partner.
    pub(crate) keep_left: bool,
    pub(crate) keep_right: bool,
    /// The right side sees the row of the left one as the next query further out.
    pub(crate) lateral: bool,
    pub(crate) on: Option<Expr>,
}
