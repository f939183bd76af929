//! A strict model of the PostgreSQL catalog, behind the SQL a project's database is asked.
//!
//! The simulator of a project must answer questions about row-level security the way the server does:
//! who owns a table, whose rights a view reads with, which policies hold for the anonymous role. A
//! recording cannot do that and a real server cannot be part of every test, so this module models the
//! part of PostgreSQL 15 that decides access, and refuses the rest by name (`0A000`): what it does not
//! model is an error, never a success.
//!
//! It differs from an embedded database in its purpose. Rows are few and live in lists, nothing is
//! fast, and the whole state is plain data that can be cloned, stored and read back.
//!
//! What is known to differ from the server: expressions are printed as they were written, with
//! brackets and schemas added but without the casts the server shows; dates are in UTC; text sorts by
//! bytes; random values follow from a counter; a rollback also takes back what sequences gave.

mod bind;
mod ddl;
mod defaults;
mod dml;
mod error;
mod func;
mod parse;
mod plan;
mod run;
mod session;
mod state;
mod sys;
mod value;

use serde::{Deserialize, Serialize};

pub use self::error::SqlError;
use self::session::Session;
use self::state::Database;

/// The rows a statement gave.
///
/// A statement without rows has no columns either.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ResultSet {
    /// Names of the columns, in order; a name may occur twice.
    pub columns: Vec<String>,
    /// The rows, each with one value for each column, as the database API gives them in JSON.
    pub rows: Vec<Vec<serde_json::Value>>,
}

/// A database: roles, schemas, relations, policies, functions, rights and rows.
///
/// A clone is a copy of all of it, and the serialized form is a complete snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Catalog {
    db: Database,
    /// Microseconds since 1970-01-01 UTC.
    now: i64,
}

impl Catalog {
    /// Makes the database of a new project as long-standing projects have it: whatever is created in
    /// `public` is granted to `anon`, `authenticated` and `service_role`, so that only row-level
    /// security stands between the anonymous key and the rows.
    ///
    /// The clock stands at 2026-01-01 until [`Self::set_now`].
    #[must_use]
    pub fn supabase_defaults() -> Self {
        defaults::catalog(true)
    }

    /// Makes the database of a project created since 2026-05-30, where new tables are granted to
    /// nobody (provider's changelog, read 2026-08-21).
    #[must_use]
    pub fn supabase_without_default_grants() -> Self {
        defaults::catalog(false)
    }

    /// Sets what `now()` gives, in microseconds since 1970-01-01 UTC.
    pub fn set_now(&mut self, unix_micros: i64) {
        self.now = unix_micros;
    }

    /// Runs statements as `postgres` and gives one result for each.
    ///
    /// The statements are one transaction: all of them hold or none does. `BEGIN` and `COMMIT` divide
    /// them as the server would; a transaction that is still open at the end is rolled back, because
    /// the connection behind the database API ends with the call.
    ///
    /// # Errors
    /// The first refusal; what was committed before it stays.
    pub fn execute(&mut self, sql: &str) -> Result<Vec<ResultSet>, SqlError> {
        self.execute_as("postgres", sql)
    }

    /// Runs statements as another role, with the rights that role has.
    ///
    /// # Errors
    /// As [`Self::execute`], and `42704` when there is no such role.
    pub fn execute_as(&mut self, role: &str, sql: &str) -> Result<Vec<ResultSet>, SqlError> {
        let role = self.db.role_oid(role)?;
        let mut session = Session::new(self.db.clone(), role, self.now);
        let outcome = session.script(sql);
        self.db = session.finish();
        outcome
    }

    /// Asks what statements would answer if a role ran them, and changes nothing.
    ///
    /// The answer is that of the last statement that has columns; claims of a request are given by
    /// `select set_config('request.jwt.claims', '{..}', true);` in front of the question.
    ///
    /// # Errors
    /// As [`Self::execute_as`].
    pub fn query_as(&self, role: &str, sql: &str) -> Result<ResultSet, SqlError> {
        let results = self.clone().execute_as(role, sql)?;
        let mut with_columns = results.into_iter().filter(|result| !result.columns.is_empty());
        Ok(with_columns.next_back().unwrap_or_default())
    }
}
