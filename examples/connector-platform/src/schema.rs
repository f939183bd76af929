//! Deploying: the engine's schema, the service's own, its roles and its seeds.

use example_command::tables::{alone, options, within};
use provision_store_postgres::{PostgresConfig, PostgresStore};
use sha2::{Digest as _, Sha256};
use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgConnection, query, query_as, query_scalar,
    raw_sql,
};

use crate::{database::WORKER_ROLE, trouble::Trouble};

/// One step of the schema. Its text is fixed once it was deployed anywhere.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// What it is entered under.
    pub name: &'static str,
    /// Statements.
    pub text: &'static str,
}

/// All of them, in their order.
pub const MIGRATIONS: [Migration; 5] = [
    Migration { name: "0001_tables", text: include_str!("../migrations/0001_tables.sql") },
    Migration { name: "0002_views", text: include_str!("../migrations/0002_views.sql") },
    Migration { name: "0003_rights", text: include_str!("../migrations/0003_rights.sql") },
    Migration { name: "0004_queues", text: include_str!("../migrations/0004_queues.sql") },
    Migration { name: "0005_events", text: include_str!("../migrations/0005_events.sql") },
];
const SEED: &str = include_str!("../migrations/seed.sql");
/// Schema of the engine's tables.
const ENGINE_SCHEMA: &str = "provision";

/// Brings everything up to date, as the owner, and seeds what is missing. Repeatable; several may do
/// it at the same time.
///
/// # Errors
/// The server refuses, or what was deployed before is not what this program holds: then the service's
/// schema stays as it was.
pub async fn deploy(url: &str) -> Result<Vec<&'static str>, Trouble> {
    let options = options(url)?;
    // First the engine: the service's views read its tables.
    drop(PostgresConfig::new(url).with_connections_max(1).with_notify(false).open().await?);
    let mut owner = PgConnection::connect_with(&options).await?;
    let applied = migrate(&mut owner, &MIGRATIONS).await?;
    let rights = PostgresStore::rights_script(ENGINE_SCHEMA, WORKER_ROLE, true)?;
    let mut tx = owner.begin().await?;
    alone(&mut tx, "connector-platform").await?;
    tx.execute(raw_sql(AssertSqlSafe(within(&rights)))).await?;
    tx.execute(raw_sql(SEED)).await?;
    let version = "INSERT INTO connectors.connector_metadata (key, value) VALUES ('version', $1)
        ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = now()";
    query(version).bind(env!("CARGO_PKG_VERSION")).execute(&mut *tx).await?;
    tx.commit().await?;
    owner.close().await?;
    Ok(applied)
}

/// Seeds flags and platforms that are missing; what was switched stays.
///
/// # Errors
/// The server refuses.
pub async fn seed(url: &str) -> Result<i64, Trouble> {
    let mut owner = PgConnection::connect_with(&options(url)?).await?;
    owner.execute(raw_sql(SEED)).await?;
    let flags = "SELECT count(*) FROM connectors.feature_flags";
    Ok(query_scalar(flags).fetch_one(&mut owner).await?)
}

/// Applies what is missing, all of it in one transaction.
///
/// # Errors
/// A statement fails, or one that was applied has another text now: nothing is changed then.
pub async fn migrate(
    owner: &mut PgConnection,
    migrations: &[Migration],
) -> Result<Vec<&'static str>, Trouble> {
    let mut tx = owner.begin().await?;
    alone(&mut tx, "connector-platform").await?;
    query("CREATE SCHEMA IF NOT EXISTS connectors").execute(&mut *tx).await?;
    let known = applied(&mut tx).await?;
    let mut fresh = Vec::new();
    for migration in migrations {
        let fingerprint = fingerprint(migration.text);
        match known.iter().find(|(name, _)| name == migration.name) {
            Some((_, there)) if *there == fingerprint => continue,
            Some(_) => return Err(changed(migration)),
            None => {}
        }
        tx.execute(raw_sql(AssertSqlSafe(migration.text))).await.map_err(|error| {
            let told = Trouble::from(error);
            let message = format!("{}: {told}", migration.name);
            Trouble::new("migration_failed", message, "nothing was changed: mend it, deploy again")
        })?;
        let enter = "INSERT INTO connectors.connector_metadata (key, value)
            VALUES ('migration/' || $1, $2)";
        query(enter).bind(migration.name).bind(fingerprint).execute(&mut *tx).await?;
        fresh.push(migration.name);
    }
    tx.commit().await?;
    Ok(fresh)
}

fn changed(migration: &Migration) -> Trouble {
    Trouble::new(
        "migration_changed",
        format!("{} was deployed with another text", migration.name),
        "put the old text back, and write a further migration",
    )
}

/// What was applied, with the fingerprints it had.
///
/// # Errors
/// The server does not answer.
pub async fn applied(conn: &mut PgConnection) -> Result<Vec<(String, String)>, Trouble> {
    let there = "SELECT to_regclass('connectors.connector_metadata') IS NOT NULL";
    if !query_scalar::<_, bool>(there).fetch_one(&mut *conn).await? {
        return Ok(Vec::new());
    }
    let rows = "SELECT substr(key, 11), value FROM connectors.connector_metadata
        WHERE key LIKE 'migration/%' ORDER BY key";
    Ok(query_as(rows).fetch_all(conn).await?)
}

/// What a text is known by.
#[must_use]
pub fn fingerprint(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
