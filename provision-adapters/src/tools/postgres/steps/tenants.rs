//! What a server has: every database that carries a mark, with the version of its schema.

use provision_core::{OwnerMark, StepContext, StepError};

use super::{Shown, text};
use crate::tools::postgres::Postgres;

const LIST: &str = include_str!("../sql/databases.sql");

/// A database that some run has made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tenant {
    /// Its name.
    pub database: String,
    /// The mark of the run and step that made it.
    pub mark: OwnerMark,
    /// The version of the schema that was applied last, if one was; see
    /// [`Schema::version`](super::schema::Schema::version).
    pub schema_version: Option<String>,
}

impl Tenant {
    fn of(row: &crate::tools::row_security::Row) -> Option<Self> {
        let shown = Shown::of(row)?;
        Some(Self {
            database: shown.name,
            mark: shown.mark?,
            schema_version: text(row, "schema_version").map(str::to_owned),
        })
    }
}

impl Postgres {
    /// Lists every database that carries a mark, by name. Those whose version is not the one that
    /// [`ApplySchema::version`](super::schema::ApplySchema::version) tells have an older schema.
    ///
    /// # Errors
    /// The server gave no answer.
    pub async fn tenants(&self, cx: &StepContext) -> Result<Vec<Tenant>, StepError> {
        let rows = self.ask(cx, "list tenants", LIST, &[]).await?;
        Ok(rows.iter().filter_map(Tenant::of).collect())
    }
}
