//! Pieces of SQL that a database gets once, each recorded by name and checksum.
//!
//! This differs from who sends them: here is what is pending, what one transaction holds, and what
//! no such transaction may hold. A batch that is sent twice, also one that lands late, meets the
//! records of the first and is rolled back by the database (S9).

mod statements;

use provision_core::StepError;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use statements::{Refusal, check};

/// Where the records are read.
pub(crate) const RECORDED: &str = "select name, checksum from provision.migrations order by name";
/// Most migrations of one schema.
pub const MIGRATIONS_MAX: usize = 500;
/// Most bytes of SQL that one schema may have; one request carries them all.
pub const SQL_BYTES_MAX: usize = 4 << 20;

/// A named piece of SQL that is applied once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    pub(crate) name: String,
    pub(crate) sql: String,
}

impl Migration {
    /// Names a piece of SQL.
    #[must_use]
    pub fn new(name: impl Into<String>, sql: impl Into<String>) -> Self {
        Self { name: name.into(), sql: sql.into() }
    }

    /// Tells one text from another; 32 hex digits.
    pub(crate) fn checksum(&self) -> String {
        checksum(&self.sql)
    }
}

/// Tells one text from another; 32 hex digits.
pub(crate) fn checksum(text: &str) -> String {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()).simple().to_string()
}

/// A migration's name and checksum, as a database has recorded it.
pub(crate) type Record = (String, String);

/// Why migrations cannot be applied together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MigrationError {
    /// There are too many migrations, or too much SQL.
    #[error("at most {MIGRATIONS_MAX} migrations and {SQL_BYTES_MAX} bytes of sql")]
    TooLarge,
    /// A migration's name has other characters than letters, digits, `.`, `_` and `-`.
    #[error("migration name `{name}` must be 1 to 128 of letters, digits, `.`, `_`, `-`")]
    Name {
        /// The name.
        name: String,
    },
    /// Two migrations have the same name.
    #[error("two migrations are called `{name}`")]
    Twice {
        /// The name.
        name: String,
    },
    /// A migration has a statement that would end the transaction it runs in.
    #[error("migration `{name}` has the statement `{word}`; all migrations run in one transaction")]
    Transaction {
        /// The migration.
        name: String,
        /// The first word of the statement.
        word: String,
    },
    /// A migration has a command of the terminal client.
    #[error("migration `{name}` has a command of psql")]
    ClientCommand {
        /// The migration.
        name: String,
    },
    /// A quote or comment of a migration does not end.
    #[error("migration `{name}` has a quote or comment that does not end")]
    Unfinished {
        /// The migration.
        name: String,
    },
}

impl MigrationError {
    /// Short stable word.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge => "schema_too_large",
            Self::Name { .. } | Self::Twice { .. } => "bad_migration_name",
            Self::Transaction { .. } | Self::ClientCommand { .. } | Self::Unfinished { .. } => {
                "bad_migration"
            }
        }
    }
}

/// Looks whether migrations can be applied together, before anything is sent.
pub(crate) fn acceptable(migrations: &[Migration]) -> Result<(), MigrationError> {
    let bytes: usize = migrations.iter().map(|migration| migration.sql.len()).sum();
    if migrations.len() > MIGRATIONS_MAX || bytes > SQL_BYTES_MAX {
        return Err(MigrationError::TooLarge);
    }
    for (place, migration) in migrations.iter().enumerate() {
        let name = migration.name.clone();
        let mut earlier = migrations.iter().take(place);
        // X5: it is written into a statement.
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.len() > 128 || !name.chars().all(plain) {
            return Err(MigrationError::Name { name });
        }
        if earlier.any(|other| other.name == name) {
            return Err(MigrationError::Twice { name });
        }
        check(&migration.sql).map_err(|refusal| match refusal {
            Refusal::Transaction(word) => MigrationError::Transaction { name, word },
            Refusal::ClientCommand => MigrationError::ClientCommand { name },
            Refusal::Unfinished => MigrationError::Unfinished { name },
        })?;
    }
    Ok(())
}

/// The migrations without a record. One recorded with other SQL is refused: the database and the
/// spec would say different things from then on.
pub(crate) fn pending<'a>(
    operation: &'static str,
    migrations: &'a [Migration],
    recorded: &[Record],
) -> Result<Vec<&'a Migration>, StepError> {
    let mut pending = Vec::new();
    for migration in migrations {
        match recorded.iter().find(|(name, _)| *name == migration.name) {
            None => pending.push(migration),
            Some((_, checksum)) if *checksum == migration.checksum() => {}
            Some(_) => {
                return Err(StepError::permanent(operation)
                    .with_code("migration_changed")
                    .with_message(format!(
                        "migration {} was applied with other sql",
                        migration.name
                    ))
                    .with_hint("put the change into a new migration"));
            }
        }
    }
    Ok(pending)
}

/// The statement that records a migration. It comes before what it records, so that a second
/// batch fails before it changes anything.
pub(crate) fn entry(name: &str, checksum: &str) -> String {
    // Names and checksums are checked to hold nothing that a quote could mistake (X5).
    format!("insert into provision.migrations (name, checksum) values ('{name}', '{checksum}');\n")
}

/// The statements of one transaction: what comes first, then each migration behind its record, as
/// `piece` puts its SQL, then what comes last. A piece ends its last statement, and leaves no setting
/// to the next. Who sends them begins the transaction and commits it.
pub(crate) fn batch(
    first: &str,
    pending: &[&Migration],
    piece: impl Fn(&str) -> String,
    last: &str,
) -> String {
    let mut sql = first.to_owned();
    for migration in pending {
        sql.push_str(&entry(&migration.name, &migration.checksum()));
        sql.push_str(&piece(&migration.sql));
    }
    sql.push_str(last);
    sql
}

#[cfg(test)]
mod tests {
    use super::{Migration, batch, pending};

    // covers: S9
    #[test]
    fn a_recorded_migration_is_not_repeated_and_a_changed_one_is_refused() {
        let (a, b) = (Migration::new("a", "select 1"), Migration::new("b", "select 2"));
        let wanted = [a.clone(), b.clone()];
        let record = |m: &Migration| (m.name.clone(), m.checksum());
        assert_eq!(pending("apply", &wanted, &[]).unwrap(), [&a, &b]);
        assert_eq!(pending("apply", &wanted, &[record(&a)]).unwrap(), [&b]);
        assert!(pending("apply", &wanted, &[record(&b), record(&a)]).unwrap().is_empty());
        let changed = Migration::new("a", "select 1 ");
        let error = pending("apply", &wanted, &[record(&changed)]).unwrap_err();
        assert_eq!(error.code(), "migration_changed");
    }

    #[test]
    fn records_come_before_what_they_record() {
        let migration = Migration::new("a", "create table t (x int) -- end");
        let piece = |sql: &str| format!("as x;\n{sql}\n;\n");
        let sql = batch("first;\n", &[&migration], piece, "last;\n");
        let place = |text: &str| sql.find(text).unwrap_or_else(|| panic!("{text} in {sql}"));
        assert!(sql.starts_with("first;\n") && sql.ends_with("last;\n"));
        assert!(place("insert into provision.migrations") < place("as x"));
        assert!(place("as x") < place("create table t"));
        // The comment must not swallow the end of the statement.
        assert!(sql.contains("-- end\n;\n"));
    }
}
