//! The store: two tasks that write, a pool, and the traits over them.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use provision_core::{
    error::StoreError,
    id::{RunId, Timestamp},
    ledger::{LedgerOp, LedgerReply},
    store::{
        Append, Appended, LeaseGrant, LeaseRequest, RunFilter, RunPage, RunRecord, StateStore,
        Submission, Submitted,
    },
};
use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use uuid::Uuid;

use crate::{
    append::{self, Caps},
    check,
    config::{PostgresConfig, Server},
    counters::Counters,
    db::{Db, SETTLE},
    error::{Fault, opening},
    extras,
    held::Held,
    host::EndHandlers,
    ledger, list, migrate,
    notify::Stirred,
    rights,
    rows::{Columns, at, moment, record},
    sql::{Schema, Sql},
    submit,
    turns::Turns,
};

const OPEN: &str = "open the store";
/// The clock's reading is kept in the database this often, while there is a worker.
const CLOCK_KEPT_MS: i64 = 1_000;
/// A connection that was idle for longer is looked at before it is used.
const RESTED: Duration = Duration::from_millis(250);

/// Keeps runs, leases, queue, limits, secrets and the ledger in one schema of a PostgreSQL database.
///
/// A call that was answered survives a crash of the process and of the server. Any number of
/// processes on any number of machines may use the schema at the same time. Cheap to clone; clones
/// share two tasks that write, which end with the last of them, after what is pending. Calls may
/// be cancelled at any await: what was handed to a task is written anyway.
#[derive(Clone)]
pub struct PostgresStore {
    pub(crate) shared: Arc<Shared>,
    pub(crate) ns: i32,
    pub(crate) namespace: Arc<str>,
    /// Where claims of this namespace go on between tenants.
    pub(crate) turns: Arc<Turns>,
    /// Where claims of this namespace go on between capped queues.
    pub(crate) cap_turn: Arc<AtomicUsize>,
}

pub(crate) struct Shared {
    pub(crate) config: PostgresConfig,
    pub(crate) db: Arc<Db>,
    pub(crate) handlers: EndHandlers,
    pub(crate) stirred: Arc<Stirred>,
    appends: append::Desk,
    submits: submit::Desk,
    /// The highest reading of the clock that was given out, and the last one that was kept.
    highest: AtomicI64,
    kept: AtomicI64,
    /// The tasks that only tell and hear end with the last handle.
    _tasks: Mutex<JoinSet<()>>,
    /// The tasks that write come to their own end, after what is pending.
    writers: Mutex<JoinSet<()>>,
}

impl PostgresStore {
    /// Opens the schema `provision` of the database at `url` with default options; makes it when
    /// it is missing.
    ///
    /// # Errors
    /// Before anything is written. Kind `Unsuitable`: `postgres_wrong_url`,
    /// `postgres_wrong_password`, `postgres_no_database`, `postgres_no_permission`,
    /// `postgres_too_old`, `postgres_read_only`, `postgres_unsafe_settings`,
    /// `postgres_isolation`, `postgres_encoding`, `postgres_wrong_schema_name`, `schema_older`.
    /// Kind `Damaged`: `schema_newer`, `schema_changed`. Kind `Unavailable`:
    /// `postgres_unreachable`, `postgres_tls`, `postgres_no_connection`,
    /// `postgres_too_many_connections`.
    pub async fn open(url: impl Into<String>) -> Result<Self, StoreError> {
        Self::open_with(PostgresConfig::new(url)).await
    }

    pub(crate) async fn open_with(config: PostgresConfig) -> Result<Self, StoreError> {
        let schema = Schema::new(&config.schema)?;
        let db = Arc::new(connect(&config, &schema).await?);
        let channel = config.notify.then(|| {
            format!(
                "provision_{}",
                Uuid::new_v5(&Uuid::NAMESPACE_OID, schema.name().as_bytes(),).simple()
            )
        });
        let stirred = Arc::new(Stirred::new(channel));
        let (mut tasks, mut writers) = (JoinSet::new(), JoinSet::new());
        let (appends, calls) = mpsc::channel(config.queue_max);
        let caps = Caps { rows: config.batch_max, bytes: config.batch_bytes_max };
        let held = || Held::new(Arc::clone(&db));
        writers.spawn(append::Clerk::new(calls, held(), Arc::clone(&stirred), caps).serve());
        let (submits, calls) = mpsc::channel(config.queue_max);
        writers.spawn(submit::Clerk::new(calls, held(), Arc::clone(&stirred)).serve());
        if config.notify {
            tasks.spawn(Arc::clone(&stirred).tell(Arc::clone(&db)));
        }
        if config.listens() {
            tasks.spawn(Arc::clone(&stirred).hear(db.pool.clone()));
        }
        let namespace = config.namespace.clone();
        let shared = Arc::new(Shared {
            config,
            db,
            handlers: EndHandlers::default(),
            stirred,
            appends,
            submits,
            highest: AtomicI64::new(0),
            kept: AtomicI64::new(0),
            _tasks: Mutex::new(tasks),
            writers: Mutex::new(writers),
        });
        Self::in_shared(shared, namespace.into()).await
    }

    async fn in_shared(shared: Arc<Shared>, namespace: Arc<str>) -> Result<Self, StoreError> {
        const OPERATION: &str = "open a namespace";
        let db = Arc::clone(&shared.db);
        let mut conn = db.acquire(OPERATION).await?;
        let found = find_namespace(&db, &mut conn, &namespace).await;
        let ns = found.map_err(|fault| fault.into_store(OPERATION))?;
        Ok(Self { shared, ns, namespace, turns: Arc::default(), cap_turn: Arc::default() })
    }

    /// A handle to another namespace of the same schema; nothing of this one can be reached by it.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn in_namespace(&self, namespace: impl Into<String>) -> Result<Self, StoreError> {
        Self::in_shared(Arc::clone(&self.shared), namespace.into().into()).await
    }

    /// The script that makes the schema by hand, with `psql`, as a role that may: what opening
    /// would do to a database without it.
    ///
    /// # Errors
    /// Code `postgres_wrong_schema_name`.
    pub fn migration_script(schema: &str) -> Result<String, StoreError> {
        Ok(migrate::script(&Schema::new(schema)?))
    }

    /// The script that gives a role what running sagas needs, and no more: run it as the owner of
    /// the schema, after the migrations; it may be repeated. Such a role opens the store with
    /// [`PostgresConfig::with_migrate`]`(false)`, and can change neither the schema nor what is in a
    /// journal.
    ///
    /// With `row_security` it also closes every table by row-level security, forced on the owner,
    /// too, with policies for this role and for the owner alone. What other roles were granted shows
    /// them no row then.
    ///
    /// # Errors
    /// Codes `postgres_wrong_schema_name` and `postgres_wrong_role_name`.
    pub fn rights_script(
        schema: &str,
        role: &str,
        row_security: bool,
    ) -> Result<String, StoreError> {
        rights::script(&Schema::new(schema)?, role, row_security)
    }

    /// The script that lets a role start runs by [`PostgresStore::start_in`], and do nothing else with
    /// them: it reads no journal and no sealed value, and neither moves a run that is there nor takes
    /// one from a worker. What it may read are the rows of runs, with inputs and summaries, of all
    /// namespaces: a start that is known is answered with its run. Run it as the owner of the schema;
    /// it takes back what the role was granted there before, and may be repeated.
    ///
    /// Runs are started unleased, as [`Engine`](provision_core::Engine) prepares them. The store itself is opened as another role: such a one sends no requests, either.
    ///
    /// # Errors
    /// Codes `postgres_wrong_schema_name` and `postgres_wrong_role_name`.
    pub fn start_rights_script(schema: &str, role: &str) -> Result<String, StoreError> {
        rights::starting(&Schema::new(schema)?, role)
    }

    /// The script that lets such a role remove runs that are over ([`provision_core::retention`]),
    /// and with `forget` also forget their start keys; without it takes the latter back. Run it as the
    /// owner of the schema, where retention is wanted; it may be repeated. Who was not granted this
    /// runs sagas all the same, and removes nothing.
    ///
    /// # Errors
    /// Codes `postgres_wrong_schema_name` and `postgres_wrong_role_name`.
    pub fn retention_rights_script(
        schema: &str,
        role: &str,
        forget: bool,
    ) -> Result<String, StoreError> {
        rights::retention(&Schema::new(schema)?, role, forget)
    }

    /// What the store has done in this process since it was opened, over all namespaces.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.db.tally.read()
    }

    /// The pool that the store uses: its own, or the host's.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.shared.db.pool
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("schema", &self.shared.config.schema)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // What is pending is written; the tasks end when their channels are closed and empty.
        self.writers.lock().unwrap_or_else(PoisonError::into_inner).detach_all();
    }
}

impl Shared {
    /// A reading of the clock; never less than one that was given out before (S20).
    pub(crate) fn reading(&self, now: Timestamp) -> Timestamp {
        let now = moment(now);
        at(self.highest.fetch_max(now, Relaxed).max(now))
    }

    /// Whether the database should keep this reading.
    pub(crate) fn clock_lags(&self, now: Timestamp) -> bool {
        let now = moment(now);
        let lags = now.saturating_sub(self.kept.load(Relaxed)) > CLOCK_KEPT_MS;
        if lags {
            self.kept.store(now, Relaxed);
        }
        lags
    }
}

/// The pool, after the server was looked at and the schema is up to date.
async fn connect(config: &PostgresConfig, schema: &Schema) -> Result<Db, StoreError> {
    let db = |pool| Db::new(pool, Sql::of(schema), config);
    let sorted = |error| opening(error, OPEN);
    let url = match &config.server {
        Server::Pool(pool) => {
            let db = db(pool.clone());
            let mut conn = pool.acquire().await.map_err(sorted)?;
            let prepared = prepare(&db, &mut conn, config, schema).await;
            drop(conn);
            return prepared.map(|()| db).map_err(|fault| fault.at_opening(OPEN));
        }
        Server::Url(url) => url,
    };
    let options = url.expose().parse::<PgConnectOptions>().map_err(sorted)?;
    let options = options.application_name("provision").disable_statement_logging();
    // PgBouncer refuses a parameter at the start that it does not keep track of, and the default of
    // this one has told floating point numbers apart since PostgreSQL 12.
    let options = if config.pooler { options.extra_float_digits(None) } else { options };
    let pool = PgPoolOptions::new()
        .max_connections(config.connections_max)
        .acquire_timeout(config.connect_timeout)
        .test_before_acquire(false)
        // One that has rested is looked at: after a restart of the server all of them are dead, and
        // a heartbeat would meet them one at a time.
        .before_acquire(|conn, about| {
            Box::pin(async move {
                if about.idle_for > RESTED {
                    conn.ping().await?;
                }
                Ok(true)
            })
        });
    let pool = match config.pooler {
        true => pool,
        false => pool.after_connect(|conn, _| Box::pin(async { settle(conn).await })),
    };
    // A connection of its own: the pool would try an address where nobody is until its time is up.
    let first = timeout(config.connect_timeout, PgConnection::connect_with(&options)).await;
    let first = first.map_err(|_over| std::io::Error::from(std::io::ErrorKind::TimedOut).into());
    let mut conn = first.and_then(|connected| connected).map_err(sorted)?;
    let db = db(pool.connect_lazy_with(options));
    let prepared = prepare(&db, &mut conn, config, schema).await;
    // The server ends a connection that is only dropped, too.
    drop(conn.close().await);
    prepared.map(|()| db).map_err(|fault| fault.at_opening(OPEN))
}

async fn settle(conn: &mut PgConnection) -> sqlx::Result<()> {
    conn.execute(sqlx::raw_sql(SETTLE)).await.map(drop)
}

async fn prepare(
    db: &Db,
    conn: &mut PgConnection,
    config: &PostgresConfig,
    schema: &Schema,
) -> Result<(), Fault> {
    let found = check::server(db, conn, config).await?;
    // A schema of another version is refused before anything is written.
    migrate::verify(db, conn, found.migrated, !config.migrate).await?;
    if config.migrate {
        migrate::migrate(db, conn, schema, migrate::ALL).await?;
    }
    Ok(())
}

async fn find_namespace(db: &Db, conn: &mut PgConnection, name: &str) -> Result<i32, Fault> {
    let mut tx = db.begin(conn).await?;
    let find = || db.query(&db.sql.namespace_find).bind(name.to_owned());
    let mut rows = db.rows(&mut tx, find()).await?;
    if rows.is_empty() {
        db.run(&mut tx, db.query(&db.sql.namespace_add).bind(name.to_owned())).await?;
        rows = db.rows(&mut tx, find()).await?;
    }
    let ns = Columns::new(rows.first().ok_or(sqlx::Error::RowNotFound)?).take()?;
    db.commit(tx).await?;
    Ok(ns)
}

#[async_trait]
impl StateStore for PostgresStore {
    async fn submit(&self, batch: &[Submission]) -> Result<Vec<Submitted>, StoreError> {
        submit::submit_all(&self.shared.submits, self.ns, batch).await
    }

    async fn append(&self, batch: &[Append]) -> Result<Vec<Appended>, StoreError> {
        let handler = self.shared.handlers.of(self.ns);
        let of = |append: &Append| extras::handler_of(append, handler.as_ref());
        append::append_all(&self.shared.appends, self.ns, batch, of).await
    }

    async fn load(&self, runs: &[RunId]) -> Result<Vec<Option<RunRecord>>, StoreError> {
        let db = &self.shared.db;
        let ids: Vec<Uuid> = runs.iter().map(|run| *run.as_uuid()).collect();
        let query = db.query(&db.sql.record).bind(self.ns).bind(ids);
        let rows = db.once("load", query).await?;
        let found: Result<Vec<RunRecord>, Fault> = rows.iter().map(record).collect();
        let found = found.map_err(|fault| fault.into_store("load"))?;
        let of = |run: &RunId| found.iter().find(|record| record.head.id == *run).cloned();
        Ok(runs.iter().map(of).collect())
    }

    async fn list(&self, filter: &RunFilter) -> Result<RunPage, StoreError> {
        let ns = self.ns;
        let mut conn = self.shared.db.acquire("list").await?;
        let db = &self.shared.db;
        let work = async {
            let mut tx = db.begin_if_pooler(&mut conn).await?;
            let page = list::page(db, tx.conn(), ns, filter).await?;
            tx.end(db).await?;
            Ok(page)
        };
        work.await.map_err(|fault: Fault| fault.into_store("list"))
    }

    async fn ledger(&self, ops: &[LedgerOp]) -> Result<Vec<LedgerReply>, StoreError> {
        const OPERATION: &str = "use the ledger";
        let db = &self.shared.db;
        let mut conn = db.acquire(OPERATION).await?;
        let work = async {
            let mut tx = db.begin(&mut conn).await?;
            let mut replies = Vec::with_capacity(ops.len());
            for op in ops {
                replies.push(ledger::answer(db, &mut tx, self.ns, op).await?);
            }
            db.commit(tx).await?;
            Ok(replies)
        };
        work.await.map_err(|fault: Fault| fault.into_store(OPERATION))
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<LeaseGrant, StoreError> {
        self.lease_now(request).await
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        let db = &self.shared.db;
        let rows = db.once("read the clock", db.query(&db.sql.now)).await?;
        let now = rows.first().map(|row| Columns::new(row).moment()).transpose();
        let now = now.map_err(|fault| fault.into_store("read the clock"))?;
        Ok(self.shared.reading(now.unwrap_or_default()))
    }
}
