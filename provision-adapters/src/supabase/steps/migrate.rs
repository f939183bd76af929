//! Applies a schema: one transaction for everything, recorded by name and checksum so that a
//! repetition, also one that lands late, changes nothing.

use provision_core::{Call, Effect, StepContext, StepError, Verdict};

use crate::{
    supabase::{
        client::Supabase,
        verify::{Answer, Row},
    },
    tools::migrations::{Migration, RECORDED, Record, batch, pending},
};

const LOCK_DOWN: &str = include_str!("lock_down.sql");
/// Ends a migration, also behind a comment. What it switched for itself does not reach the next one;
/// only a superuser could have switched the authorization of the session.
const AFTER: &str = "\n;\nreset role;\nreset all;\n";
const OPERATION: &str = "apply schema";

/// Applies what is not yet recorded. Repeatable: a call whose end is unknown is looked up by the
/// records, and one that lands late meets them and is rolled back by the database.
pub(crate) async fn apply(
    client: &Supabase,
    cx: &StepContext,
    id: &str,
    migrations: &[Migration],
) -> Result<(), StepError> {
    let recorded = recorded(client, cx, id).await?;
    let missing = pending(OPERATION, migrations, recorded.as_deref().unwrap_or_default())?;
    // Without any record not even the lock-down has run.
    if missing.is_empty() && recorded.is_some() {
        return Ok(());
    }
    let statements = batch(LOCK_DOWN, &missing, |sql| format!("{sql}{AFTER}"), "");
    // One request is all there is: the commit comes with the rest.
    let sql = format!("begin;\n{statements}commit;\n");
    match client.query(cx, id, Call::mutate(OPERATION), &sql).await? {
        Answer::Rows(_) => Ok(()),
        // Another attempt's batch was faster: it is complete, or this one would not see it.
        Answer::Refused { sqlstate } if sqlstate == "23505" => {
            let now = self::recorded(client, cx, id).await?.unwrap_or_default();
            match pending(OPERATION, migrations, &now)?.is_empty() {
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
) -> Result<Option<Vec<Record>>, StepError> {
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

fn record(row: &Row) -> Option<Record> {
    let get = |column: &str| {
        let found = row.iter().find(|(name, _)| name == column);
        found.and_then(|(_, value)| value.clone())
    };
    Some((get("name")?, get("checksum")?))
}
