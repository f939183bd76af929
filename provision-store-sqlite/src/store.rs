//! The store: one writer thread, some readers, and the traits over them.

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use provision_core::{
    error::{StoreError, StoreErrorKind},
    id::{RunId, Timestamp},
    ledger::{LedgerOp, LedgerReply},
    store::{
        Append, Appended, LeaseGrant, LeaseRequest, RunFilter, RunPage, RunRecord, StateStore,
        Submission, Submitted,
    },
};
use rusqlite::Connection;
use tokio::{sync::Notify, task::spawn_blocking};

use crate::{
    append::Prepared,
    clock::StoreClock,
    config::SqliteConfig,
    counters::{Counters, Tally},
    error::{Fault, sorted},
    host::EndHandlers,
    ledger, list,
    pick::Turns,
    place,
    readers::Readers,
    rows::record,
    schema, sql,
    turn::Turn,
    unit::Unit,
    writer::{Setup, Writer},
};

/// Keeps runs, leases, queue, limits, secrets and the ledger in one SQLite file.
///
/// A call that was answered survives a crash of the process, of the system and of the power: every
/// commit is synced. Several processes of one machine may use the file at the same time; they take
/// turns. Cheap to clone; clones share one writer, which ends with the last of them, after what is
/// pending. Calls may be cancelled at any await: what was handed to the writer is written anyway.
#[derive(Clone)]
pub struct SqliteStore {
    pub(crate) shared: Arc<Shared>,
    ns: i64,
    pub(crate) namespace: Arc<str>,
}

pub(crate) struct Shared {
    pub(crate) config: SqliteConfig,
    pub(crate) writer: Writer,
    pub(crate) limits: Writer,
    pub(crate) readers: Arc<Readers>,
    pub(crate) handlers: Arc<RwLock<EndHandlers>>,
    pub(crate) stirred: Arc<Notify>,
    /// Where claims go on between tenants.
    pub(crate) turns: Arc<Mutex<Turns>>,
    pub(crate) clock: Arc<StoreClock>,
    tally: Arc<Tally>,
    /// Sees commits of other processes; a plain mutex, held for one look.
    pub(crate) watch: Mutex<Connection>,
}

impl SqliteStore {
    /// Opens the file at `path` with default options; makes it when it is missing.
    ///
    /// # Errors
    /// Kind `Unsuitable`: `sqlite_unsafe_settings` (no write-ahead log or no sync there),
    /// `sqlite_network_fs`, `sqlite_read_only`, `sqlite_cannot_open`. Kind `Damaged`:
    /// `schema_newer`, `schema_changed`, `sqlite_damaged`, `sqlite_not_a_database`. Kind
    /// `Unavailable`: `sqlite_busy`.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(SqliteConfig::new(path.as_ref())).await
    }

    pub(crate) async fn open_with(config: SqliteConfig) -> Result<Self, StoreError> {
        let namespace: Arc<str> = config.namespace.as_str().into();
        let opened = spawn_blocking(move || open(config)).await;
        let shared = Arc::new(opened.map_err(|_ended| StoreError::unavailable("open the store"))??);
        Self { shared, ns: 0, namespace: Arc::clone(&namespace) }.in_namespace(&*namespace).await
    }

    /// A handle to another namespace of the same file; nothing of this one can be reached by it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn in_namespace(&self, namespace: impl Into<String>) -> Result<Self, StoreError> {
        let namespace: Arc<str> = namespace.into().into();
        let name = Arc::clone(&namespace);
        let ns = self.write("open a namespace", move |unit| {
            unit.run(sql::NAMESPACE_ADD, [&*name])?;
            let found = unit.first(sql::NAMESPACE_FIND, [&*name], |row| Ok(row.get(0)?))?;
            Ok(found.ok_or(rusqlite::Error::QueryReturnedNoRows)?)
        });
        Ok(Self { shared: Arc::clone(&self.shared), ns: ns.await?, namespace })
    }

    /// What the store has done in this process since it was opened, over all namespaces.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.tally.read()
    }

    /// Number of the namespace in the file.
    pub(crate) fn ns(&self) -> i64 {
        self.ns
    }

    /// Does `work` in a transaction shared with other calls.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnMut(&mut Unit<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.shared.writer.shared(operation, 0, work).await
    }

    /// Reads on a thread that may block.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let readers = Arc::clone(&self.shared.readers);
        let turn = readers.turn().await;
        let found = spawn_blocking(move || {
            let _turn = turn;
            readers.read(operation, work)
        })
        .await;
        found.map_err(|_ended| StoreError::unavailable(operation))?
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.shared.config.path)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

fn open(config: SqliteConfig) -> Result<Shared, StoreError> {
    if config.path.as_os_str().is_empty() || config.path == Path::new(":memory:") {
        return Err(StoreError::new(
            StoreErrorKind::Unsuitable,
            "sqlite_unsafe_settings",
            "open the store",
        )
        .with_context("a database in memory keeps nothing")
        .with_hint("give the path of a file, or use the memory store"));
    }
    place::check(&config.path)?;
    let clock = Arc::new(StoreClock::new(Arc::clone(&config.machine)));
    if !clock.has_boot_clock() {
        tracing::warn!("no boot clock on this system: leases are judged by the wall clock");
    }
    let handlers = Arc::new(RwLock::new(EndHandlers::default()));
    let (stirred, tally) = (Arc::new(Notify::new()), Arc::new(Tally::default()));
    let setup = |name, conn, turn, keeps_clock, tally| Setup {
        name,
        conn,
        turn,
        keeps_clock,
        tally,
        clock: Arc::clone(&clock),
        handlers: Arc::clone(&handlers),
        stirred: Arc::clone(&stirred),
        batch_max: config.batch_max,
        queue_max: config.queue_max,
        busy: config.busy,
    };
    let (conn, turn) = in_turn(&config.path, config.busy, |_| schema::open_state(&config))?;
    let writer = Writer::start(setup("provision-write", conn, turn, true, Arc::clone(&tally)))?;
    let limits_path = place::beside(&config.path, "limits");
    let limits_of = |path: &Path| schema::open_limits(path, &config);
    let (conn, turn) = in_turn(&limits_path, config.busy, limits_of)?;
    let limits = setup("provision-limits", conn, turn, false, Arc::new(Tally::default()));
    let limits = Writer::start(limits)?;
    let watch = Mutex::new(schema::open_reader(&config)?);
    let readers = Arc::new(Readers::new(config.clone()));
    let turns = Arc::default();
    Ok(Shared { config, writer, limits, readers, handlers, stirred, turns, clock, tally, watch })
}

/// Opens a file in its turn: another process may be making or migrating it.
fn in_turn(
    path: &Path,
    busy: Duration,
    open: impl FnOnce(&Path) -> Result<Connection, StoreError>,
) -> Result<(Connection, Turn), StoreError> {
    let turn = Turn::open(path)?.take_first(busy)?;
    let conn = open(path);
    turn.give_back();
    Ok((conn?, turn))
}

impl Shared {
    /// A number that changes with every commit of another connection, in any process.
    pub(crate) fn data_version(&self) -> Result<i64, StoreError> {
        let watch = self.watch.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let found = watch
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut statement| statement.query_row((), |row| row.get(0)));
        found.map_err(|error| sorted(&error, "look for commits"))
    }
}

#[async_trait]
impl StateStore for SqliteStore {
    async fn submit(&self, batch: &[Submission]) -> Result<Vec<Submitted>, StoreError> {
        let (ns, batch) = (self.ns, batch.to_vec());
        let bytes = batch.iter().map(Submission::bytes).sum();
        let work =
            move |unit: &mut Unit<'_>| batch.iter().map(|one| unit.submit(ns, one)).collect();
        self.shared.writer.shared("submit", bytes, work).await
    }

    async fn append(&self, batch: &[Append]) -> Result<Vec<Appended>, StoreError> {
        let (ns, bytes) = (self.ns, batch.iter().map(Append::bytes).sum());
        let batch: Result<Vec<_>, _> = batch.iter().map(Prepared::new).collect();
        let batch = batch.map_err(|fault| fault.into_store("append"))?;
        let work = move |unit: &mut Unit<'_>| unit.append_all(ns, &batch);
        self.shared.writer.shared("append", bytes, work).await?
    }

    async fn load(&self, runs: &[RunId]) -> Result<Vec<Option<RunRecord>>, StoreError> {
        let (ns, runs) = (self.ns, runs.to_vec());
        self.read("load", move |conn| {
            let found = runs.iter().map(|run| Ok(record(conn, ns, run)?.map(|(record, _)| record)));
            found.collect()
        })
        .await
    }

    async fn list(&self, filter: &RunFilter) -> Result<RunPage, StoreError> {
        let (ns, filter) = (self.ns, filter.clone());
        self.read("list", move |conn| list::page(conn, ns, &filter)).await
    }

    async fn ledger(&self, ops: &[LedgerOp]) -> Result<Vec<LedgerReply>, StoreError> {
        let (ns, ops) = (self.ns, ops.to_vec());
        if ops.iter().all(ledger::is_read) {
            return self
                .read("read the ledger", move |conn| {
                    ops.iter().map(|op| ledger::read(conn, ns, op)).collect()
                })
                .await;
        }
        self.write("write the ledger", move |unit| {
            ops.iter().map(|op| unit.ledger_op(ns, op)).collect()
        })
        .await
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<LeaseGrant, StoreError> {
        let (ns, request) = (self.ns, request.clone());
        self.write("lease", move |unit| unit.lease(ns, &request)).await
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        Ok(self.shared.clock.read(None).wall)
    }
}
