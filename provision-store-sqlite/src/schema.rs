//! Opening connections: settings that are read back, and versioned migrations.

use std::path::Path;

use provision_core::error::{StoreError, StoreErrorKind};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, config::DbConfig};

use crate::{
    config::SqliteConfig,
    error::{Fault, sorted},
    place::beside,
    sql,
};

const OPEN: &str = "open the store";
/// Statements kept prepared on each connection; more than the store has.
const STATEMENTS_KEPT: usize = 128;
const PAGE_BYTES: u64 = 4_096;
/// Four times what the log holds when it is moved into the file.
const LOG_BYTES_KEPT: i64 = 64 << 20;

/// One step of the schema. The text is fixed for ever once released.
struct Migration {
    version: u32,
    name: &'static str,
    text: &'static str,
}

const STATE: &[Migration] = &[
    Migration { version: 1, name: "first", text: include_str!("../migrations/0001_first.sql") },
    Migration {
        version: 2,
        name: "freed guards",
        text: include_str!("../migrations/0002_freed_guards.sql"),
    },
    Migration {
        version: 3,
        name: "generations of sightings",
        text: include_str!("../migrations/0003_sighted_generations.sql"),
    },
    Migration {
        version: 4,
        name: "dead incarnations",
        text: include_str!("../migrations/0004_dead_incarnations.sql"),
    },
    Migration {
        version: 5,
        name: "steps in frames",
        text: include_str!("../migrations/0005_steps_in_frames.sql"),
    },
    Migration {
        version: 6,
        name: "retention",
        text: include_str!("../migrations/0006_retention.sql"),
    },
    Migration {
        version: 7,
        name: "due over all lanes",
        text: include_str!("../migrations/0007_due_over_lanes.sql"),
    },
];

/// The schema that this version of the library writes.
const VERSION: u32 = 7;

const LIMITS: &[Migration] = &[Migration {
    version: 1,
    name: "first",
    text: include_str!("../migrations/limits_0001_first.sql"),
}];

/// Opens the connection that writes runs, and brings the schema up to date.
pub(crate) fn open_state(config: &SqliteConfig) -> Result<Connection, StoreError> {
    let mut conn = connect(&config.path, config, false)?;
    if let Some(bytes) = config.bytes_max {
        // Of 0 pages SQLite makes a question.
        let pages = i64::try_from(bytes / PAGE_BYTES).unwrap_or(i64::MAX).max(1);
        pragma(&conn, "max_page_count", pages)?;
    }
    pragma(&conn, "synchronous", "FULL")?;
    pragma(&conn, "wal_autocheckpoint", 4_000)?;
    // What the log has grown to while a reader held it is given back once it begins anew.
    pragma(&conn, "journal_size_limit", LOG_BYTES_KEPT)?;
    verify(&conn)?;
    migrate(&mut conn, STATE).map_err(|fault| fault.into_store("migrate the store"))?;
    Ok(conn)
}

/// Opens the connection that writes limits: never synced, losing it costs at most one burst.
///
/// A power cut may leave such a file damaged; then it is made anew.
pub(crate) fn open_limits(path: &Path, config: &SqliteConfig) -> Result<Connection, StoreError> {
    match try_limits(path, config) {
        Err(error) if BEYOND_REPAIR.contains(&error.code()) => {
            tracing::warn!(path = %path.display(), %error, "limits are made anew: one burst is lost");
            for file in [path.to_owned(), beside(path, "wal"), beside(path, "shm")] {
                drop(std::fs::remove_file(file));
            }
            try_limits(path, config)
        }
        opened => opened,
    }
}

/// What says that a file is no database of ours; a newer schema is not among it.
const BEYOND_REPAIR: [&str; 4] =
    ["sqlite_damaged", "sqlite_not_a_database", "sqlite_schema", "sqlite_bad_row"];

fn try_limits(path: &Path, config: &SqliteConfig) -> Result<Connection, StoreError> {
    let mut conn = connect(path, config, false)?;
    pragma(&conn, "synchronous", "OFF")?;
    let sound = conn.query_row("PRAGMA quick_check(1)", (), |row| row.get::<_, String>(0));
    if sound.map_err(|e| sorted(&e, OPEN))? != "ok" {
        return Err(StoreError::new(StoreErrorKind::Damaged, "sqlite_damaged", OPEN));
    }
    migrate(&mut conn, LIMITS).map_err(|fault| fault.into_store("migrate the limits"))?;
    Ok(conn)
}

/// Opens a connection that cannot write.
pub(crate) fn open_reader(config: &SqliteConfig) -> Result<Connection, StoreError> {
    connect(&config.path, config, true)
}

fn connect(path: &Path, config: &SqliteConfig, read: bool) -> Result<Connection, StoreError> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if !read {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let conn = Connection::open_with_flags(path, flags).map_err(|e| sorted(&e, OPEN))?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    conn.busy_timeout(config.busy).map_err(|e| sorted(&e, OPEN))?;
    // Plans never depend on bound values: else each new value prepares its statement again.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map_err(|e| sorted(&e, OPEN))?;
    pragma(&conn, "foreign_keys", "OFF")?;
    pragma(&conn, "temp_store", "MEMORY")?;
    if read {
        pragma(&conn, "query_only", "ON")?;
    } else {
        let mode = conn.query_row("PRAGMA journal_mode = WAL", (), |row| row.get::<_, String>(0));
        mode.map_err(|e| sorted(&e, OPEN))?;
    }
    Ok(conn)
}

fn pragma(conn: &Connection, name: &str, value: impl rusqlite::ToSql) -> Result<(), StoreError> {
    conn.pragma_update(None, name, value).map_err(|e| sorted(&e, OPEN))
}

/// Reads back what was set: a file system or build without WAL ignores the order silently.
fn verify(conn: &Connection) -> Result<(), StoreError> {
    let read = |name: &str| {
        conn.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0))
            .map_err(|e| sorted(&e, OPEN))
    };
    let (mode, sync) = (read("journal_mode")?, read("synchronous")?);
    let wal = matches!(&mode, rusqlite::types::Value::Text(mode) if mode == "wal");
    let full = matches!(sync, rusqlite::types::Value::Integer(2..));
    if wal && full {
        return Ok(());
    }
    Err(StoreError::new(StoreErrorKind::Unsuitable, "sqlite_unsafe_settings", OPEN)
        .with_context(format!("journal_mode is {mode:?}, synchronous is {sync:?}"))
        .with_hint("use a file on a local disk, where SQLite can keep a write-ahead log"))
}

fn migrate(conn: &mut Connection, migrations: &[Migration]) -> Result<(), Fault> {
    // One transaction: a migration that fails leaves the file as it was.
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute(sql::MIGRATIONS_TABLE, ())?;
    let applied = applied(&tx)?;
    for (version, checksum) in &applied {
        let known = migrations.iter().find(|m| m.version == *version);
        let Some(known) = known else { return Err(newer(*version).into()) };
        if checksum_of(known.text) != *checksum {
            return Err(changed(*version).into());
        }
    }
    for migration in migrations {
        if applied.iter().all(|(version, _)| *version != migration.version) {
            tx.execute_batch(migration.text)?;
            let checksum = checksum_of(migration.text);
            tx.execute(sql::MIGRATION_ADD, (migration.version, migration.name, checksum))?;
        }
    }
    tx.commit()?;
    Ok(())
}

fn applied(tx: &Transaction<'_>) -> Result<Vec<(u32, String)>, Fault> {
    let mut statement = tx.prepare(sql::MIGRATIONS_APPLIED)?;
    let rows = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect::<Result<_, _>>().map_err(Fault::from)
}

/// A process that has the file open must not write on once a newer one has changed the tables.
pub(crate) fn check_version(version: u32) -> Result<(), StoreError> {
    if version > VERSION { Err(newer(version)) } else { Ok(()) }
}

fn newer(version: u32) -> StoreError {
    StoreError::new(StoreErrorKind::Damaged, "schema_newer", OPEN)
        .with_context(format!("the file has schema version {version}"))
        .with_hint("the file was written by a newer version of this library: upgrade this program")
}

fn changed(version: u32) -> StoreError {
    StoreError::new(StoreErrorKind::Damaged, "schema_changed", OPEN)
        .with_context(format!("schema version {version} is not the one this library made"))
        .with_hint("restore the file from a backup, or open it with the program that changed it")
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
    use super::{Connection, Migration, STATE, checksum_of, migrate};

    const TWO: &[Migration] = &[
        Migration { version: 1, name: "a", text: "CREATE TABLE a (x); INSERT INTO a VALUES (1)" },
        Migration { version: 2, name: "b", text: "CREATE TABLE b (x)" },
    ];

    // covers: R3-36
    #[test]
    fn each_migration_runs_once_and_later_ones_are_added() {
        let mut conn = Connection::open_in_memory().unwrap();
        migrate(&mut conn, &TWO[..1]).unwrap();
        migrate(&mut conn, &TWO[..1]).unwrap();
        migrate(&mut conn, TWO).unwrap();
        let count: u32 = conn.query_row("SELECT count(*) FROM a, b", (), |r| r.get(0)).unwrap();
        assert_eq!(count, 0, "both tables are there");
        let rows: u32 = conn.query_row("SELECT count(*) FROM a", (), |r| r.get(0)).unwrap();
        assert_eq!(rows, 1, "the first ran once");
    }

    // covers: R3-36, R5-64
    #[test]
    fn a_failing_migration_leaves_the_old_version() {
        let mut conn = Connection::open_in_memory().unwrap();
        migrate(&mut conn, &TWO[..1]).unwrap();
        let bad = [
            Migration { ..TWO[0] },
            Migration { version: 2, name: "bad", text: "CREATE TABLE c (x); NONSENSE" },
        ];
        assert!(migrate(&mut conn, &bad).is_err());
        assert!(conn.prepare("SELECT * FROM c").is_err());
        migrate(&mut conn, TWO).unwrap();
    }

    // Released migrations never change; a new version is a new file.
    #[test]
    fn released_migrations_are_fixed() {
        assert_eq!(STATE.last().map(|m| m.version), Some(super::VERSION));
        let texts: Vec<_> = STATE.iter().map(|m| (m.version, checksum_of(m.text))).collect();
        let fixed = [
            "4a24ebb76ebb121d",
            "0c3efefcc89fa083",
            "7fc5e3d4076aecca",
            "0e8552f5f709adb5",
            "7083eee11ecebe87",
            "54b8e39d1628a527",
            "86c933243af7a4ef",
        ];
        let fixed: Vec<_> = (1..).zip(fixed.map(str::to_owned)).collect();
        assert_eq!(texts, fixed);
    }
}

#[cfg(test)]
mod plans {
    use super::{Connection, STATE, migrate, sql};

    /// Statements that run at every step, claim, heartbeat or page.
    const HOT: [&str; 50] = [
        sql::RUN_READ,
        sql::RUN_BY_KEY,
        sql::RUN_BY_GUARD,
        sql::FRAMES,
        sql::FRAME_SAME,
        sql::REQUESTS,
        sql::REQUEST_COUNT,
        sql::REQUEST_NOTE,
        sql::REQUESTS_CONSUME,
        sql::APPEND_FENCE,
        sql::APPEND_KEEP,
        sql::APPEND_RELEASE,
        sql::WAKE,
        sql::OFFER,
        sql::GRANT,
        sql::RELEASE,
        sql::HELD,
        sql::INCARNATIONS_EXPIRED,
        sql::INCARNATIONS_ALIVE,
        sql::INCARNATIONS_END,
        sql::DEAD_HELD,
        sql::INCARNATION_BURY,
        sql::INCARNATION_LASTS,
        sql::RUNS_FREE,
        sql::PROMOTE,
        sql::READY_PRIORITY,
        sql::READY_TENANT,
        sql::READY_RUN,
        sql::READY_ANY,
        sql::DELAYED_FIRST,
        sql::DELAYED_NEXT,
        sql::DELAYED_DUE,
        sql::LANES_READY,
        sql::PROPOSED,
        sql::LEDGER_HOLDER,
        sql::LEDGER_WATCH_DUE,
        sql::LEDGER_WATCH_PASS,
        sql::LEDGER_WATCH_SET,
        sql::LIST_DEAD,
        sql::LIST_CHILDREN,
        sql::TOMBSTONE,
        sql::TOMBSTONE_BY_KEY,
        sql::PRUNE_FRAMES,
        sql::PRUNE_REQUESTS,
        sql::PRUNE_LEDGER,
        sql::PRUNE_SIGHTINGS,
        sql::PRUNE_SECRETS,
        sql::PRUNE_ENTOMB,
        sql::PRUNE_PARENT,
        sql::PRUNE_WALK,
    ];

    /// Those whose cost must not grow with the runs that are finished: the index they must use.
    const PARTIAL: [(&str, &str); 23] = [
        (sql::LEDGER_BY_ID, "provision_ledger_ids"),
        (sql::HELD, "provision_heads_owner"),
        (sql::LEASED_BY_QUEUE, "provision_heads_owner"),
        (sql::RUNS_FREE, "provision_heads_owner"),
        (sql::PROMOTE, "provision_heads_due"),
        (sql::DELAYED_FIRST, "provision_heads_due"),
        (sql::DELAYED_NEXT, "provision_heads_due"),
        (sql::DELAYED_DUE, "provision_heads_due"),
        (sql::LANES_READY, "provision_heads_ready"),
        (sql::READY_PRIORITY, "provision_heads_ready"),
        (sql::READY_TENANT, "provision_heads_ready"),
        (sql::READY_RUN, "provision_heads_ready"),
        (sql::LIST_DEAD, "provision_heads_dead"),
        (sql::READY_ANY, "provision_heads_ready"),
        (sql::STATS, "provision_heads_owner"),
        (sql::DEAD_HELD, "provision_heads_owner"),
        (sql::INCARNATIONS_END, "provision_incarnations_alive"),
        (sql::RUN_BY_GUARD, "provision_heads_guard"),
        (sql::LEDGER_WATCH_DUE, "provision_ledger_watch"),
        (sql::LEDGER_HOLDER, "provision_ledger_names"),
        (sql::PRUNE_FAMILY, "provision_runs_parent"),
        (sql::TOMBSTONE_LAST_KEY, "provision_runs_key_gone"),
        (sql::TOMBSTONES_FORGET, "provision_runs_ended"),
    ];

    fn plan(conn: &Connection, text: &str) -> Vec<String> {
        let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {text}")).unwrap();
        let unbound = vec![rusqlite::types::Null; statement.parameter_count()];
        let rows = statement.query_map(rusqlite::params_from_iter(unbound), |row| row.get(3));
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    }

    // covers: R3-48
    #[test]
    fn no_hot_statement_scans_or_sorts_a_table() {
        let mut conn = Connection::open_in_memory().unwrap();
        migrate(&mut conn, STATE).unwrap();
        for text in HOT {
            for line in plan(&conn, text) {
                let scans = line.starts_with("SCAN")
                    && !line.contains("json_each")
                    && line != "SCAN present";
                // All rows of a namespace are all runs it ever had.
                let whole = line.ends_with("USING PRIMARY KEY (ns=?)");
                let sorts = line.contains("TEMP B-TREE");
                assert!(!scans && !whole && !sorts, "{line} in\n{text}");
            }
        }
    }

    // covers: R3-48
    #[test]
    fn claims_and_heartbeats_use_indexes_of_the_living_only() {
        let mut conn = Connection::open_in_memory().unwrap();
        migrate(&mut conn, STATE).unwrap();
        for (text, index) in PARTIAL {
            let plan = plan(&conn, text);
            assert!(plan.iter().any(|line| line.contains(index)), "{plan:?} in\n{text}");
        }
    }
}
