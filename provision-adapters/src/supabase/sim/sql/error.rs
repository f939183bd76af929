//! The errors of the model, with the codes PostgreSQL gives.
//!
//! Code that talks to a database branches on the SQLSTATE, so each refusal here carries the one the
//! server would have sent. What the model does not know is [`code::UNSUPPORTED`]: a refusal is always
//! safe to build on, a wrong success never is.

use std::fmt;

use sqlparser::parser::ParserError;
use sqlparser::tokenizer::TokenizerError;

/// SQLSTATE codes of the refusals the model gives.
pub(crate) mod code {
    /// A feature the model (or the server) does not have.
    pub(crate) const UNSUPPORTED: &str = "0A000";
    /// A cardinality that does not fit, such as two rows from a scalar subquery.
    pub(crate) const CARDINALITY: &str = "21000";
    /// A string longer than its type allows.
    pub(crate) const STRING_TRUNCATION: &str = "22001";
    /// A number outside the range of its type.
    pub(crate) const OUT_OF_RANGE: &str = "22003";
    /// A date the calendar does not have.
    pub(crate) const DATETIME_OVERFLOW: &str = "22008";
    /// Text that is no date or time.
    pub(crate) const INVALID_DATETIME: &str = "22007";
    /// A division by zero.
    pub(crate) const DIVISION_BY_ZERO: &str = "22012";
    /// An argument value a function refuses.
    pub(crate) const INVALID_PARAMETER: &str = "22023";
    /// Text that is no literal of the type asked for.
    pub(crate) const INVALID_TEXT: &str = "22P02";
    /// A null in a column that forbids it.
    pub(crate) const NOT_NULL_VIOLATION: &str = "23502";
    /// A reference to a row that does not exist, or is still referenced.
    pub(crate) const FOREIGN_KEY_VIOLATION: &str = "23503";
    /// A second row with the same key.
    pub(crate) const UNIQUE_VIOLATION: &str = "23505";
    /// A row that fails a check or fits no partition.
    pub(crate) const CHECK_VIOLATION: &str = "23514";
    /// A statement that cannot run inside a transaction block.
    pub(crate) const ACTIVE_TRANSACTION: &str = "25001";
    /// A write in a read-only transaction.
    pub(crate) const READ_ONLY: &str = "25006";
    /// An object others depend on.
    pub(crate) const DEPENDENT_OBJECTS: &str = "2BP01";
    /// A schema name that does not exist.
    pub(crate) const UNDEFINED_SCHEMA: &str = "3F000";
    /// A grant that makes no sense, such as a right the kind of object does not have.
    pub(crate) const INVALID_GRANT: &str = "0LP01";
    /// A right the role does not have.
    pub(crate) const INSUFFICIENT_PRIVILEGE: &str = "42501";
    /// Text that is no SQL.
    pub(crate) const SYNTAX: &str = "42601";
    /// A name that starts with a reserved prefix.
    pub(crate) const RESERVED_NAME: &str = "42939";
    /// A column listed or named twice.
    pub(crate) const DUPLICATE_COLUMN: &str = "42701";
    /// A column name that fits more than one table.
    pub(crate) const AMBIGUOUS_COLUMN: &str = "42702";
    /// A column that does not exist.
    pub(crate) const UNDEFINED_COLUMN: &str = "42703";
    /// An object, role or type that does not exist.
    pub(crate) const UNDEFINED_OBJECT: &str = "42704";
    /// A role, policy or constraint that exists already.
    pub(crate) const DUPLICATE_OBJECT: &str = "42710";
    /// A table alias given twice.
    pub(crate) const DUPLICATE_ALIAS: &str = "42712";
    /// A function that exists already.
    pub(crate) const DUPLICATE_FUNCTION: &str = "42723";
    /// A function call that fits more than one function.
    pub(crate) const AMBIGUOUS_FUNCTION: &str = "42725";
    /// A column that is neither grouped nor aggregated.
    pub(crate) const GROUPING: &str = "42803";
    /// Types that do not fit together.
    pub(crate) const DATATYPE_MISMATCH: &str = "42804";
    /// An object of another kind than the statement needs.
    pub(crate) const WRONG_OBJECT_TYPE: &str = "42809";
    /// A foreign key that fits no unique key.
    pub(crate) const INVALID_FOREIGN_KEY: &str = "42830";
    /// A cast that does not exist.
    pub(crate) const CANNOT_COERCE: &str = "42846";
    /// A function or operator that does not exist.
    pub(crate) const UNDEFINED_FUNCTION: &str = "42883";
    /// A table name that does not exist.
    pub(crate) const UNDEFINED_TABLE: &str = "42P01";
    /// A name the object may not have or that a clause does not know.
    pub(crate) const INVALID_COLUMN_REFERENCE: &str = "42P10";
    /// A schema that exists already.
    pub(crate) const DUPLICATE_SCHEMA: &str = "42P06";
    /// A table that exists already.
    pub(crate) const DUPLICATE_TABLE: &str = "42P07";
    /// A function definition that contradicts itself.
    pub(crate) const INVALID_FUNCTION: &str = "42P13";
    /// A table definition that contradicts itself.
    pub(crate) const INVALID_TABLE: &str = "42P16";
    /// A definition that is broken, such as a policy that needs itself.
    pub(crate) const INVALID_OBJECT: &str = "42P17";
    /// A type that cannot be told.
    pub(crate) const INDETERMINATE_TYPE: &str = "42P18";
    /// More than the model holds.
    pub(crate) const PROGRAM_LIMIT: &str = "54000";
    /// A statement that is nested too deeply.
    pub(crate) const TOO_COMPLEX: &str = "54001";
    /// An object that is not in the state the statement needs.
    pub(crate) const OBJECT_STATE: &str = "55000";
}

/// A refusal, as PostgreSQL would have put it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlError {
    /// Five characters that say what kind of refusal it is, for example `42501`.
    pub sqlstate: &'static str,
    /// One line for people, in the words of the server where the server has words for it.
    pub message: String,
}

impl SqlError {
    /// Makes a refusal of a given kind.
    pub fn new(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self { sqlstate, message: message.into() }
    }

    /// Refuses something the model does not know, and names it.
    pub fn unsupported(what: impl fmt::Display) -> Self {
        Self::new(code::UNSUPPORTED, format!("not modelled: {what}"))
    }

    pub(crate) fn syntax(near: impl fmt::Display) -> Self {
        Self::new(code::SYNTAX, format!("syntax error at or near \"{near}\""))
    }

    pub(crate) fn denied(kind: &str, name: &str) -> Self {
        Self::new(code::INSUFFICIENT_PRIVILEGE, format!("permission denied for {kind} {name}"))
    }

    pub(crate) fn not_owner(kind: &str, name: &str) -> Self {
        Self::new(code::INSUFFICIENT_PRIVILEGE, format!("must be owner of {kind} {name}"))
    }

    pub(crate) fn undefined_table(name: impl fmt::Display) -> Self {
        Self::new(code::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist"))
    }

    pub(crate) fn undefined_column(name: impl fmt::Display) -> Self {
        Self::new(code::UNDEFINED_COLUMN, format!("column \"{name}\" does not exist"))
    }

    pub(crate) fn undefined_schema(name: &str) -> Self {
        Self::new(code::UNDEFINED_SCHEMA, format!("schema \"{name}\" does not exist"))
    }

    pub(crate) fn undefined_role(name: &str) -> Self {
        Self::new(code::UNDEFINED_OBJECT, format!("role \"{name}\" does not exist"))
    }

    pub(crate) fn too_complex() -> Self {
        Self::new(code::TOO_COMPLEX, "stack depth limit exceeded")
    }

    /// Says that the model's own records contradict each other: a defect here, never the caller's.
    pub(crate) fn internal(what: &str) -> Self {
        Self::new("XX000", format!("catalog model is inconsistent: {what}"))
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.sqlstate, self.message)
    }
}

impl std::error::Error for SqlError {}

impl From<ParserError> for SqlError {
    fn from(error: ParserError) -> Self {
        match error {
            ParserError::RecursionLimitExceeded => Self::too_complex(),
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => {
                Self::new(code::SYNTAX, format!("syntax error: {text}"))
            }
        }
    }
}

impl From<TokenizerError> for SqlError {
    fn from(error: TokenizerError) -> Self {
        Self::new(code::SYNTAX, format!("syntax error: {error}"))
    }
}
