//! Applies a schema: one transaction for everything, recorded by name and checksum so that a
//! repetition, also one that lands late, changes nothing.

use provision_core::{Call, Effect, StepContext, StepError, Verdict};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::supabase::{
    client::Supabase,
    verify::{Answer, Row},
};

const LOCK_DOWN: &str = include_str!("lock_down.sql");
const RECORDED: &str = "select name, checksum from provision.migrations order by name";
const OPERATION: &str = "apply schema";

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
    fn checksum(&self) -> String {
        Uuid::new_v5(&Uuid::NAMESPACE_OID, self.sql.as_bytes()).simple().to_string()
    }
}

/// Applies what is not yet recorded. Repeatable: a call whose end is unknown is looked up by the
/// records, and one that lands late meets them and is rolled back by the database.
pub(crate) async fn apply(
    client: &Supabase,
    cx: &StepContext,
    id: &str,
    migrations: &[Migration],
) -> Result<(), StepError> {
    let recorded = recorded(client, cx, id).await?;
    let pending = pending(migrations, recorded.as_deref().unwrap_or_default())?;
    // Without any record not even the lock-down has run.
    if pending.is_empty() && recorded.is_some() {
        return Ok(());
    }
    match client.query(cx, id, Call::mutate(OPERATION), &batch(&pending)).await? {
        Answer::Rows(_) => Ok(()),
        // Another attempt's batch was faster: it is complete, or this one would not see it.
        Answer::Refused { sqlstate } if sqlstate == "23505" => {
            let now = self::recorded(client, cx, id).await?.unwrap_or_default();
            match self::pending(migrations, &now)?.is_empty() {
                true => Ok(()),
                false => Err(refused(&sqlstate)),
            }
        }
        Answer::Refused { sqlstate } => Err(refused(&sqlstate)),
    }
}

fn refused(sqlstate: &str) -> StepError {
    StepError::permanent(OPERATION)
        .with_code("migration_refused")
        .with_message(format!("the database answered SQLSTATE {sqlstate} and kept nothing"))
        .with_hint("run the migrations on an empty project to see the statement")
}

/// Names and checksums on record; `None` before the first batch.
async fn recorded(
    client: &Supabase,
    cx: &StepContext,
    id: &str,
) -> Result<Option<Vec<(String, String)>>, StepError> {
    const READ: &str = "read applied migrations";
    match client.query(cx, id, Call::read(READ), RECORDED).await? {
        Answer::Rows(rows) => {
            let read: Option<Vec<_>> = rows.iter().map(record).collect();
            read.map(Some).ok_or_else(|| StepError::retry(READ).with_code("garbage"))
        }
        // There is no such table, or no such schema.
        Answer::Refused { sqlstate } if matches!(&*sqlstate, "42P01" | "3F000") => Ok(None),
        Answer::Refused { sqlstate } => {
            let retry = Verdict::Retry { after: None };
            Err(StepError::new(Effect::None, retry, READ)
                .with_code("records_unreadable")
                .with_message(format!("the database answered SQLSTATE {sqlstate}")))
        }
    }
}

fn record(row: &Row) -> Option<(String, String)> {
    let get = |column: &str| {
        let found = row.iter().find(|(name, _)| name == column);
        found.and_then(|(_, value)| value.clone())
    };
    Some((get("name")?, get("checksum")?))
}

/// The migrations without a record. One recorded with other SQL is refused: the database and the
/// spec would say different things from then on.
fn pending<'a>(
    migrations: &'a [Migration],
    recorded: &[(String, String)],
) -> Result<Vec<&'a Migration>, StepError> {
    let mut pending = Vec::new();
    for migration in migrations {
        match recorded.iter().find(|(name, _)| *name == migration.name) {
            None => pending.push(migration),
            Some((_, checksum)) if *checksum == migration.checksum() => {}
            Some(_) => {
                return Err(StepError::permanent(OPERATION)
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

/// One transaction: lock-down, then each migration behind its record. The record comes first, so
/// that a second batch fails before it changes anything.
fn batch(pending: &[&Migration]) -> String {
    let mut sql = format!("begin;\n{LOCK_DOWN}");
    for migration in pending {
        // Names and checksums are checked to hold nothing that a quote could mistake (X5).
        let (name, checksum) = (&migration.name, migration.checksum());
        sql.push_str(&format!(
            "insert into provision.migrations (name, checksum) values ('{name}', '{checksum}');\n"
        ));
        sql.push_str(&migration.sql);
        // What a migration switched for itself does not reach the next one.
        sql.push_str("\n;\nreset role;\nreset search_path;\n");
    }
    sql.push_str("commit;\n");
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
        assert_eq!(pending(&wanted, &[]).unwrap(), [&a, &b]);
        assert_eq!(pending(&wanted, &[record(&a)]).unwrap(), [&b]);
        assert!(pending(&wanted, &[record(&b), record(&a)]).unwrap().is_empty());
        let changed = Migration::new("a", "select 1 ");
        let error = pending(&wanted, &[record(&changed)]).unwrap_err();
        assert_eq!(error.code(), "migration_changed");
    }

    #[test]
    fn records_come_before_what_they_record() {
        let sql = batch(&[&Migration::new("a", "create table t (x int) -- end")]);
        let place = |text: &str| sql.find(text).unwrap_or_else(|| panic!("{text} in {sql}"));
        assert!(sql.starts_with("begin;\n") && sql.ends_with("commit;\n"));
        assert!(place("insert into provision.migrations") < place("create table t"));
        // The comment must not swallow the end of the statement.
        assert!(sql.contains("-- end\n;\n"));
    }
}
