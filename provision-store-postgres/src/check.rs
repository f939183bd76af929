//! Looks at the server before anything is written there.

use provision_core::error::{StoreError, StoreErrorKind};
use sqlx::{PgConnection, postgres::PgRow};

use crate::{config::PostgresConfig, db::Db, error::Fault, rows::Columns};

const OPEN: &str = "open the store";
const VERSION_MIN: i32 = 130_000;

/// What the server is like, and what this role may do there.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is an answer of its own")]
pub(crate) struct Found {
    version: i32,
    fsync: String,
    full_page_writes: String,
    synchronous_commit: String,
    read_only: bool,
    isolation: String,
    encoding: String,
    schema: bool,
    may_use: bool,
    may_create: bool,
    /// The schema has a table of migrations.
    pub(crate) migrated: bool,
    /// Rights that this role lacks on tables that are there.
    lacks: Option<String>,
}

/// Asks the server; what will not do is refused with its own error.
pub(crate) async fn server(
    db: &Db,
    conn: &mut PgConnection,
    config: &PostgresConfig,
) -> Result<Found, Fault> {
    let rows = db.single(conn, db.query(&db.sql.check).bind(config.schema.clone())).await?;
    let found = Found::read(rows.first().ok_or(sqlx::Error::RowNotFound)?)?;
    found.refuse(config).map_or(Ok(found), |error| Err(error.into()))
}

impl Found {
    fn read(row: &PgRow) -> Result<Self, Fault> {
        let mut c = Columns::new(row);
        Ok(Self {
            version: c.take()?,
            fsync: c.take()?,
            full_page_writes: c.take()?,
            synchronous_commit: c.take()?,
            read_only: c.take()?,
            isolation: c.take()?,
            encoding: c.take()?,
            schema: c.take()?,
            may_use: c.take()?,
            may_create: c.take()?,
            migrated: c.take()?,
            lacks: c.take()?,
        })
    }

    fn refuse(&self, config: &PostgresConfig) -> Option<StoreError> {
        let unsuitable = |code, context: String, hint: &'static str| {
            let error = StoreError::new(StoreErrorKind::Unsuitable, code, OPEN);
            Some(error.with_context(context).with_hint(hint))
        };
        if self.version < VERSION_MIN {
            let context = format!("server version {}", self.version / 10_000);
            return unsuitable("postgres_too_old", context, "use PostgreSQL 13 or newer");
        }
        if self.read_only {
            return unsuitable(
                "postgres_read_only",
                "it takes no writes".to_owned(),
                "point the address at the primary; run state is never read from a replica",
            );
        }
        if self.encoding != "UTF8" {
            let context = format!("encoding {}", self.encoding);
            return unsuitable("postgres_encoding", context, "use a database in UTF8");
        }
        if self.isolation != "read committed" {
            let context = format!("default_transaction_isolation is {:?}", self.isolation);
            let hint = "ALTER ROLE .. SET default_transaction_isolation = 'read committed'";
            return unsuitable("postgres_isolation", context, hint);
        }
        self.refuse_unsafe(config).or_else(|| self.refuse_rights(config))
    }

    fn refuse_unsafe(&self, config: &PostgresConfig) -> Option<StoreError> {
        let settings = [
            ("fsync", &self.fsync),
            ("full_page_writes", &self.full_page_writes),
            ("synchronous_commit", &self.synchronous_commit),
        ];
        let off: Vec<_> =
            settings.into_iter().filter(|(_, is)| *is == "off").map(|(name, _)| name).collect();
        if off.is_empty() {
            return None;
        }
        if config.unsafe_settings {
            tracing::warn!(settings = ?off, "the server may lose what it acknowledged");
            return None;
        }
        let error = StoreError::new(StoreErrorKind::Unsuitable, "postgres_unsafe_settings", OPEN)
            .with_context(format!("{} is off", off.join(", ")));
        Some(error.with_hint(
            "switch it on; a server that is thrown away is accepted by `with_unsafe_settings`",
        ))
    }

    fn refuse_rights(&self, config: &PostgresConfig) -> Option<StoreError> {
        let missing = if !self.schema && config.migrate && !self.may_create {
            "this role may not create a schema in this database"
        } else if self.schema && !self.may_use {
            "this role may not use the schema"
        } else if self.schema && config.migrate && !self.migrated && !self.may_create {
            "this role may not create tables in the schema"
        } else {
            return self.refuse_lacks();
        };
        let error = StoreError::new(StoreErrorKind::Unsuitable, "postgres_no_permission", OPEN)
            .with_context(missing);
        Some(error.with_hint(
            "let a role with that right migrate once, then open the store with \
             `with_migrate(false)`",
        ))
    }

    fn refuse_lacks(&self) -> Option<StoreError> {
        let lacks = self.lacks.as_ref()?;
        let error = StoreError::new(StoreErrorKind::Unsuitable, "postgres_no_permission", OPEN)
            .with_context(format!("this role lacks {lacks}"));
        Some(error.with_hint("grant this role what the page of the store lists"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Found, PostgresConfig, StoreErrorKind};

    fn good() -> Found {
        Found {
            version: 150_000,
            fsync: "on".to_owned(),
            full_page_writes: "on".to_owned(),
            synchronous_commit: "remote_write".to_owned(),
            read_only: false,
            isolation: "read committed".to_owned(),
            encoding: "UTF8".to_owned(),
            schema: true,
            may_use: true,
            may_create: false,
            migrated: true,
            lacks: None,
        }
    }

    fn code(found: &Found, config: &PostgresConfig) -> &'static str {
        let Some(error) = found.refuse(config) else { return "" };
        assert_eq!(error.kind(), StoreErrorKind::Unsuitable);
        assert!(error.hint().is_some());
        error.code()
    }

    #[test]
    fn what_will_not_do_has_its_own_error_and_hint() {
        let config = PostgresConfig::new("postgres://localhost/x");
        assert_eq!(code(&good(), &config), "");
        let cases = [
            (Found { version: 120_020, ..good() }, "postgres_too_old"),
            (Found { read_only: true, ..good() }, "postgres_read_only"),
            (Found { encoding: "LATIN1".to_owned(), ..good() }, "postgres_encoding"),
            (Found { isolation: "serializable".to_owned(), ..good() }, "postgres_isolation"),
            (Found { fsync: "off".to_owned(), ..good() }, "postgres_unsafe_settings"),
            (Found { full_page_writes: "off".to_owned(), ..good() }, "postgres_unsafe_settings"),
            (Found { synchronous_commit: "off".to_owned(), ..good() }, "postgres_unsafe_settings"),
            (Found { schema: false, ..good() }, "postgres_no_permission"),
            (Found { may_use: false, ..good() }, "postgres_no_permission"),
            (Found { migrated: false, ..good() }, "postgres_no_permission"),
            (
                Found { lacks: Some("UPDATE on heads".to_owned()), ..good() },
                "postgres_no_permission",
            ),
        ];
        for (found, expected) in cases {
            assert_eq!(code(&found, &config), expected, "{found:?}");
        }
        let accepting = config.with_unsafe_settings(true);
        assert_eq!(code(&Found { fsync: "off".to_owned(), ..good() }, &accepting), "");
    }
}
