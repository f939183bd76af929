//! What SQLite reports, sorted into the kinds a caller can act on.

use provision_core::error::{StoreError, StoreErrorKind};
use rusqlite::{Error as SqlError, ErrorCode, ffi};

/// A failure inside a unit of work: SQLite's own, or one of ours.
#[derive(Debug)]
pub(crate) enum Fault {
    Sql(SqlError),
    Store(StoreError),
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
    /// Whether a stored value cannot be read by this version.
    pub(crate) fn is_bad_row(&self) -> bool {
        match self {
            Self::Sql(error) => sorted(error, "read a row").code() == "sqlite_bad_row",
            Self::Store(error) => error.code() == "sqlite_bad_row",
        }
    }

    pub(crate) fn into_store(self, operation: &'static str) -> StoreError {
        match self {
            Self::Sql(error) => sorted(&error, operation),
            Self::Store(error) => error,
        }
    }
}

/// A stored value that this version cannot read.
pub(crate) fn bad_row(column: &'static str) -> Fault {
    Fault::Store(
        StoreError::new(StoreErrorKind::Damaged, "sqlite_bad_row", "read a row")
            .with_context(format!("column {column}"))
            .with_hint("restore the file from a backup, or repair the row"),
    )
}

/// Sorts an error by SQLite's own code. Its message names tables and columns, never values.
pub(crate) fn sorted(error: &SqlError, operation: &'static str) -> StoreError {
    let (kind, code, hint) = match error {
        SqlError::SqliteFailure(failure, _) => by_code(failure),
        SqlError::FromSqlConversionFailure(..)
        | SqlError::InvalidColumnType(..)
        | SqlError::IntegralValueOutOfRange(..)
        | SqlError::Utf8Error(..) => {
            (StoreErrorKind::Damaged, "sqlite_bad_row", "restore the file from a backup")
        }
        _ => (StoreErrorKind::Unsuitable, "sqlite_unexpected", "report this as a bug"),
    };
    let store = StoreError::new(kind, code, operation).with_context(error.to_string());
    let store = if hint.is_empty() { store } else { store.with_hint(hint) };
    match error {
        SqlError::SqliteFailure(failure, text) => {
            store.with_source(SqlError::SqliteFailure(*failure, text.clone()))
        }
        _ => store,
    }
}

fn by_code(failure: &ffi::Error) -> (StoreErrorKind, &'static str, &'static str) {
    use StoreErrorKind::{Damaged, Full, Invalid, Unavailable, Unsuitable};
    match failure.code {
        ErrorCode::DiskFull => {
            (Full, "sqlite_full", "free disk space, or raise the size limit of the store")
        }
        ErrorCode::DatabaseCorrupt => (Damaged, "sqlite_damaged", "restore the file from a backup"),
        ErrorCode::NotADatabase => {
            (Damaged, "sqlite_not_a_database", "check the path; the file is not SQLite's")
        }
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => (
            Unavailable,
            "sqlite_busy",
            "another program holds the file's write lock; keep its transactions short",
        ),
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => (
            Unsuitable,
            "sqlite_read_only",
            "make the file and its directory writable for this process",
        ),
        ErrorCode::CannotOpen => {
            (Unsuitable, "sqlite_cannot_open", "check that the directory exists and is writable")
        }
        ErrorCode::TooBig | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch => {
            (Invalid, "sqlite_refused", "")
        }
        ErrorCode::SystemIoFailure => {
            (Unavailable, "sqlite_io", "check the disk; whether the write landed is not known")
        }
        ErrorCode::OutOfMemory => (Full, "sqlite_out_of_memory", "free memory"),
        // `SQLITE_ERROR` covers statements that no longer fit the tables: a damaged or foreign schema.
        ErrorCode::Unknown => {
            (Damaged, "sqlite_schema", "the tables are not those of this version")
        }
        _ => (Unavailable, "sqlite_unavailable", ""),
    }
}
