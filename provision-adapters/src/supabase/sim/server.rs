//! What a server has to do that holds the databases of projects, in place of the model.

use std::fmt;

use super::sql::{ResultSet, SqlError};

/// One project's database on a server: its name is that of the role that owns it, too.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "sim-postgres"), allow(dead_code, reason = "only servers read it"))]
pub(super) struct Home<'a> {
    pub(super) name: &'a str,
    pub(super) password: &'a str,
    /// Whether it has been there before: then it is not made again where it is missing.
    pub(super) made: bool,
}

/// Why SQL was not carried out.
#[derive(Debug)]
pub(super) enum Failure {
    /// The database refused it, and nothing of it holds.
    Refused { sqlstate: String, message: String },
    /// The database could not be asked, or did not answer.
    Unreachable(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { sqlstate, message } => write!(f, "{sqlstate}: {message}"),
            Self::Unreachable(why) => f.write_str(why),
        }
    }
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        let SqlError { sqlstate, message } = error;
        Self::Refused { sqlstate: sqlstate.to_owned(), message }
    }
}

/// A server with databases of projects. Each call waits for its answer.
pub(super) trait SqlServer: fmt::Debug + Send + Sync {
    /// The name of a new project's database: no other cloud and no earlier process has it.
    fn name_for(&self, project: &str) -> String;

    /// Runs a batch as the owner, as one transaction unless it says otherwise, on a connection that
    /// ends with it. Makes the database first where it is not there, or not whole.
    fn execute(&self, home: Home<'_>, sql: &str) -> Result<Vec<ResultSet>, Failure>;

    /// The answer to the last statement if a role ran them; changes nothing.
    fn ask(&self, home: Home<'_>, role: &str, sql: &str) -> Result<ResultSet, Failure>;

    /// Removes a database and its owner, whether or not they are there.
    fn remove(&self, name: &str) -> Result<(), Failure>;
}
