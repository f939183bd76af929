//! What PostgreSQL and the way to it report, sorted into the kinds a caller can act on.

use std::borrow::Cow;

use provision_core::error::{StoreError, StoreErrorKind};
use sqlx::{Error as SqlError, error::DatabaseError};

/// A failure inside a piece of work: the driver's, or one of ours.
#[derive(Debug)]
pub(crate) enum Fault {
    Sql(SqlError),
    Store(StoreError),
    /// Another transaction holds what is needed; nothing was written.
    Busy,
}

impl From<SqlError> for Fault {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Fault {
    pub(crate) fn into_store(self, operation: &'static str) -> StoreError {
        match self {
            Self::Sql(error) => sorted(error, operation),
            Self::Store(error) => error,
            Self::Busy => busy(operation),
        }
    }

    /// As [`into_store`](Self::into_store), while the store is opened.
    pub(crate) fn at_opening(self, operation: &'static str) -> StoreError {
        match self {
            Self::Sql(error) => opening(error, operation),
            other => other.into_store(operation),
        }
    }

    /// An error that can be told to several callers.
    pub(crate) fn told(&self, operation: &'static str) -> StoreError {
        match self {
            Self::Sql(error) => {
                let (kind, code, hint) = under_way(class(error));
                described(StoreError::new(kind, code, operation), error, hint)
            }
            Self::Store(error) => {
                let copy = StoreError::new(error.kind(), error.code(), operation);
                let copy = match error.context() {
                    Some(context) => copy.with_context(context),
                    None => copy,
                };
                match error.hint() {
                    Some(hint) => copy.with_hint(hint.to_owned()),
                    None => copy,
                }
            }
            Self::Busy => busy(operation),
        }
    }

    /// Whether one value or row among many may be what failed: its neighbours are tried without it.
    pub(crate) fn is_poison(&self) -> bool {
        let (kind, code) = match self {
            Self::Sql(error) => (class(error).0, class(error).1),
            Self::Store(error) => (error.kind(), error.code()),
            Self::Busy => return true,
        };
        let invalid = kind == StoreErrorKind::Invalid || code == "postgres_out_of_memory";
        invalid || self.is_bad_row() || self.is_busy()
    }

    /// Whether a stored row cannot be read.
    pub(crate) fn is_bad_row(&self) -> bool {
        let code = match self {
            Self::Sql(error) => class(error).1,
            Self::Store(error) => error.code(),
            Self::Busy => return false,
        };
        code == BAD_ROW
    }

    /// Whether another transaction holds what is needed; this one was rolled back.
    pub(crate) fn is_busy(&self) -> bool {
        match self {
            Self::Sql(SqlError::Database(error)) => {
                matches!(error.code().as_deref(), Some("40001" | "40P01" | "55P03"))
            }
            Self::Sql(_) | Self::Store(_) => false,
            Self::Busy => true,
        }
    }
}

const BAD_ROW: &str = "postgres_bad_row";

/// A stored value that this version cannot read.
pub(crate) fn bad_row(column: &str) -> Fault {
    Fault::Store(
        StoreError::new(StoreErrorKind::Damaged, BAD_ROW, "read a row")
            .with_context(format!("column {column}"))
            .with_hint("restore the database from a backup, or repair the row"),
    )
}

/// Rows that somebody else has held for too long.
pub(crate) fn busy(operation: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "postgres_busy", operation)
        .with_context("another transaction holds what this call needs")
        .with_hint("keep transactions of the host short, above all those that start runs")
}

/// Sorts an error by PostgreSQL's own code. Values of a statement never come into it.
pub(crate) fn sorted(error: SqlError, operation: &'static str) -> StoreError {
    let class = under_way(class(&error));
    shown(error, operation, class)
}

/// As [`sorted`], while the store is opened: there, who is not let in must change something.
pub(crate) fn opening(error: SqlError, operation: &'static str) -> StoreError {
    let class = class(&error);
    shown(error, operation, class)
}

fn shown(error: SqlError, operation: &'static str, (kind, code, hint): Class) -> StoreError {
    let store = described(StoreError::new(kind, code, operation), &error, hint);
    // X1: what is said about a refused value, or an address, may quote it.
    match (kind, &error) {
        (StoreErrorKind::Invalid, _) | (_, SqlError::Configuration(_)) => store,
        _ => store.with_source(error),
    }
}

/// A server that let this program in once, and does not when it connects again, will again: a
/// password that is being changed, a database that is being restored (S18).
fn under_way((kind, code, hint): Class) -> Class {
    match code {
        "postgres_wrong_password" | "postgres_no_database" => {
            (StoreErrorKind::Unavailable, code, hint)
        }
        _ => (kind, code, hint),
    }
}

/// Whether trouble of the server or of the way to it interrupted a statement of the host, which
/// said nothing against it.
pub(crate) fn is_trouble(error: &SqlError) -> bool {
    match error {
        SqlError::Database(error) => {
            let code = error.code().unwrap_or_default();
            let class = code.get(..2).unwrap_or_default();
            code == "55P03" || code == "25P03" || matches!(class, "08" | "40" | "53" | "57" | "58")
        }
        SqlError::Io(_) | SqlError::PoolTimedOut => true,
        _ => false,
    }
}

fn described(store: StoreError, error: &SqlError, hint: &'static str) -> StoreError {
    let store = match context(error) {
        Some(context) => store.with_context(context),
        None => store,
    };
    if hint.is_empty() { store } else { store.with_hint(hint) }
}

/// What an error says, without the values it may quote (X1).
pub(crate) fn context(error: &SqlError) -> Option<String> {
    match error {
        SqlError::Database(error) => {
            let code = error.code().unwrap_or(Cow::Borrowed("?????"));
            match (error.table(), error.constraint()) {
                (Some(table), Some(constraint)) => {
                    Some(format!("SQLSTATE {code}, {constraint} of {table}"))
                }
                (Some(table), None) => Some(format!("SQLSTATE {code}, table {table}")),
                _ if quotes_values(&code) => Some(format!("SQLSTATE {code}")),
                _ => Some(format!("SQLSTATE {code}: {}", error.message())),
            }
        }
        // What it says may quote the address, and with it the password.
        SqlError::Configuration(_) => None,
        SqlError::Io(error) => Some(error.kind().to_string()),
        SqlError::PoolTimedOut => Some("no connection became free in time".to_owned()),
        SqlError::Encode(_) | SqlError::Decode(_) | SqlError::ColumnDecode { .. } => None,
        other => Some(other.to_string()),
    }
}

/// Data exceptions and broken constraints name the value.
fn quotes_values(code: &str) -> bool {
    code.starts_with("22") || code.starts_with("23")
}

type Class = (StoreErrorKind, &'static str, &'static str);

fn class(error: &SqlError) -> Class {
    use StoreErrorKind::{Damaged, Invalid, Unavailable, Unsuitable};
    match error {
        SqlError::Database(error) => by_code(error.as_ref()),
        SqlError::Configuration(_) => (
            Unsuitable,
            "postgres_wrong_url",
            "give an address such as postgres://user:password@host:5432/database",
        ),
        SqlError::Io(_) => (
            Unavailable,
            "postgres_unreachable",
            "check that the server runs and that its address and port are right",
        ),
        SqlError::Tls(_) => (
            Unavailable,
            "postgres_tls",
            "check the server's certificate, or `sslmode` in the address; encryption needs the \
             feature `tls` of this crate",
        ),
        SqlError::PoolTimedOut => (
            Unavailable,
            "postgres_no_connection",
            "allow the pool more connections, or find who keeps them",
        ),
        SqlError::PoolClosed => {
            (Unavailable, "postgres_closed", "the host has closed the pool of this store")
        }
        SqlError::Encode(_) | SqlError::InvalidArgument(_) => (Invalid, "postgres_refused", ""),
        SqlError::ColumnDecode { .. }
        | SqlError::Decode(_)
        | SqlError::ColumnNotFound(_)
        | SqlError::ColumnIndexOutOfBounds { .. }
        | SqlError::RowNotFound
        | SqlError::TypeNotFound { .. } => {
            (Damaged, BAD_ROW, "restore the database from a backup, or repair the row")
        }
        _ => (Unavailable, "postgres_unavailable", ""),
    }
}

fn by_code(error: &dyn DatabaseError) -> Class {
    use StoreErrorKind::{Damaged, Full, Invalid, Unavailable, Unsuitable};
    let code = error.code().unwrap_or_default();
    match &*code {
        "28P01" | "28000" => (
            Unsuitable,
            "postgres_wrong_password",
            "check user and password, and which users the server's pg_hba.conf lets in",
        ),
        "3D000" => (Unsuitable, "postgres_no_database", "create the database, or name another one"),
        "42501" => (
            Unsuitable,
            "postgres_no_permission",
            "grant this role what the page of the store lists, or open it with another role",
        ),
        "25006" => (
            Unavailable,
            "postgres_read_only",
            "the server takes no writes: point the address at the primary",
        ),
        "53100" => (Full, "postgres_full", "free disk space on the server"),
        "53200" => (Full, "postgres_out_of_memory", "give the server more memory"),
        "53300" | "53400" => (
            Unavailable,
            "postgres_too_many_connections",
            "allow the server more connections, or put a pooler in front of it",
        ),
        "40001" | "40P01" | "55P03" | "57014" => (
            Unavailable,
            "postgres_busy",
            "keep transactions of the host short, above all those that start runs",
        ),
        "3F000" | "42P01" | "42703" | "42883" | "42P10" => (
            Damaged,
            "postgres_schema",
            "the tables are not those of this version: let the store migrate, or look who \
             changed them",
        ),
        "26000" | "42P05" => (
            Unavailable,
            "postgres_pooler",
            "a pooler in transaction mode is in between: declare it in the configuration",
        ),
        "54000" | "54001" | "54011" | "54023" | "21000" => (Invalid, "postgres_refused", ""),
        _ => by_class(&code),
    }
}

fn by_class(code: &str) -> Class {
    use StoreErrorKind::{Damaged, Invalid, Unavailable, Unsuitable};
    match code.get(..2) {
        Some("22" | "23") => (Invalid, "postgres_refused", ""),
        Some("42") => (Unsuitable, "postgres_unexpected", "report this as a bug"),
        Some("XX") if matches!(code, "XX001" | "XX002") => {
            (Damaged, "postgres_damaged", "look at the server's log and its disk")
        }
        Some("XX") => (Unavailable, "postgres_internal", "look at the server's log"),
        _ => (Unavailable, "postgres_unavailable", ""),
    }
}
