//! Versioned migrations: one transaction each, one program at a time.

use std::fmt::Write as _;

use provision_core::error::{StoreError, StoreErrorKind};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use crate::{
    db::Db,
    error::Fault,
    rows::Columns,
    sql::{Schema, Text},
};

const OPEN: &str = "open the store";

/// One step of the schema. The text is fixed for ever once released.
pub(crate) struct Migration {
    version: i32,
    name: &'static str,
    text: &'static str,
}

pub(crate) const ALL: &[Migration] = &[
    Migration { version: 1, name: "first", text: include_str!("../migrations/0001_first.sql") },
    Migration {
        version: 2,
        name: "heads_by_lane",
        text: include_str!("../migrations/0002_heads_by_lane.sql"),
    },
    Migration {
        version: 3,
        name: "retention",
        text: include_str!("../migrations/0003_retention.sql"),
    },
    Migration {
        version: 4,
        name: "lanes_alone",
        text: include_str!("../migrations/0004_lanes_alone.sql"),
    },
];

/// Brings the schema up to date.
pub(crate) async fn migrate(
    db: &Db,
    conn: &mut PgConnection,
    schema: &Schema,
    migrations: &[Migration],
) -> Result<(), Fault> {
    for migration in migrations {
        let mut tx = db.begin(conn).await?;
        let lock = format!("provision:{}", schema.name());
        let wait = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
        db.rows(&mut tx, db.query(&Text::from(wait)).bind(lock)).await?;
        // Behind the lock: another program may have migrated meanwhile.
        prepare(db, &mut tx, schema).await?;
        let missing = missing(db, &mut tx, migrations).await?;
        if missing.iter().any(|found| found.version == migration.version) {
            run(&mut tx, schema.apply(migration.text)).await?;
            let add = db.query(&db.sql.migration_add).bind(migration.version);
            db.run(&mut tx, add.bind(migration.name).bind(checksum_of(migration.text))).await?;
        }
        db.commit(tx).await?;
    }
    Ok(())
}

/// Makes the schema and its table of migrations where they are not there; the rights to do so are
/// only needed then.
async fn prepare(db: &Db, tx: &mut PgConnection, schema: &Schema) -> Result<(), Fault> {
    let there = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1), \
                 to_regclass(format('%I.migrations', $1)) IS NOT NULL";
    let there = db.query(&Text::from(there)).bind(schema.name().to_owned());
    let rows = db.rows(tx, there).await?;
    let mut c = Columns::new(rows.first().ok_or(sqlx::Error::RowNotFound)?);
    if !c.take::<bool>()? {
        run(tx, create_schema(schema)).await?;
    }
    if !c.take::<bool>()? {
        run(tx, Text::clone(&db.sql.migrations_table)).await?;
    }
    Ok(())
}

fn create_schema(schema: &Schema) -> Text {
    format!("CREATE SCHEMA \"{}\"", schema.name()).into()
}

async fn run(conn: &mut PgConnection, text: Text) -> Result<(), Fault> {
    conn.execute(sqlx::raw_sql(AssertSqlSafe(text))).await?;
    Ok(())
}

/// Migrations that were not applied; a schema of another version is refused.
async fn missing<'a>(
    db: &Db,
    conn: &mut PgConnection,
    migrations: &'a [Migration],
) -> Result<Vec<&'a Migration>, Fault> {
    let rows = db.rows(conn, db.query(&db.sql.migrations_applied)).await?;
    let mut applied: Vec<i32> = Vec::new();
    for row in &rows {
        let mut c = Columns::new(row);
        let (version, checksum): (i32, &str) = (c.take()?, c.take()?);
        let known = migrations.iter().find(|known| known.version == version);
        let Some(known) = known else { return Err(newer(version).into()) };
        if checksum_of(known.text) != checksum {
            return Err(changed(version).into());
        }
        applied.push(version);
    }
    Ok(migrations.iter().filter(|known| !applied.contains(&known.version)).collect())
}

/// Compares the schema with what this version needs, and writes nothing. `made` says that there
/// is a table of migrations.
pub(crate) async fn verify(
    db: &Db,
    conn: &mut PgConnection,
    made: bool,
    complete: bool,
) -> Result<(), Fault> {
    let mut tx = db.begin_if_pooler(conn).await?;
    let missing = match made {
        true => missing(db, tx.conn(), ALL).await?,
        false => ALL.iter().collect(),
    };
    tx.end(db).await?;
    match missing.first() {
        Some(missing) if complete => Err(older(missing.version).into()),
        _ => Ok(()),
    }
}

/// All migrations as a script for `psql`, with what the store would write down of them.
pub(crate) fn script(schema: &Schema) -> String {
    let mut script = String::from("BEGIN;\n");
    let table = include_str!("../sql/migrations_table.sql");
    let mut add = |text: &str| {
        script.push_str(text.trim_end());
        script.push_str(";\n");
    };
    add(&format!(
        "SELECT pg_advisory_xact_lock(hashtextextended('provision:{}', 0))",
        schema.name()
    ));
    add(&create_schema(schema));
    add(&schema.apply(table));
    for migration in ALL {
        let text = schema.apply(migration.text);
        add(text.trim_end().trim_end_matches(';'));
        let mut values = String::from("INSERT INTO provision.migrations VALUES (");
        let checksum = checksum_of(migration.text);
        // Writing to a string cannot fail; both texts are ours and hold no quotes.
        let _ = write!(values, "{}, '{}', '{checksum}')", migration.version, migration.name);
        add(&schema.apply(&values));
    }
    add("COMMIT");
    script
}

fn newer(version: i32) -> StoreError {
    StoreError::new(StoreErrorKind::Damaged, "schema_newer", OPEN)
        .with_context(format!("the schema has version {version}"))
        .with_hint("it was made by a newer version of this library: upgrade this program")
}

fn older(version: i32) -> StoreError {
    StoreError::new(StoreErrorKind::Unsuitable, "schema_older", OPEN)
        .with_context(format!("schema version {version} is missing"))
        .with_hint("let a role that may change the schema migrate, then start this program again")
}

fn changed(version: i32) -> StoreError {
    StoreError::new(StoreErrorKind::Damaged, "schema_changed", OPEN)
        .with_context(format!("schema version {version} is not the one this library made"))
        .with_hint("restore the schema from a backup, or open it with the program that changed it")
}

/// FNV-1a over the text of a migration: it notices accidents, not attacks.
fn checksum_of(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::{ALL, Schema, checksum_of, script};

    // Released migrations never change; a new version is a new file.
    #[test]
    fn released_migrations_are_fixed() {
        let texts: Vec<_> = ALL.iter().map(|m| (m.version, checksum_of(m.text))).collect();
        let fixed =
            ["cfa399fa7fd62d0e", "e7b8b40487745eb3", "587af050548a9bde", "821ef39ec0e9272b"];
        let fixed = fixed.map(str::to_owned);
        let fixed: Vec<_> = (1..).zip(fixed).collect();
        assert_eq!(texts, fixed);
    }

    #[test]
    fn the_script_is_one_transaction_in_its_schema() {
        let script = script(&Schema::new("hosted").unwrap());
        assert!(script.starts_with("BEGIN;") && script.trim_end().ends_with("COMMIT;"));
        assert!(script.contains("CREATE SCHEMA \"hosted\""));
        assert!(script.contains("INSERT INTO \"hosted\".migrations VALUES (1, 'first'"));
        assert!(!script.contains(" provision."));
    }
}
