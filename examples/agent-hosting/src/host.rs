//! Everything that is open while a command works: store, table, cloud, engine, worker.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use example_command::{
    crash::CrashAt,
    exit::Trouble,
    place::{self, StoreAt},
    stage::Stage,
    stores::Opened,
};
use provision_core::{
    Engine, RunId, RunStatus, SagaError, Worker, WorkerConfig, store::RunFilter, vault::LocalKeys,
};

use crate::{
    cli::Checked,
    cloud::Cloud,
    saga::{PURE, ending, hosting, stopping},
    table::{Desired, Row, Table},
};

/// How often a worker looks for runs that were begun beside it, in the host's own transactions.
const POLL: Duration = Duration::from_millis(100);
/// Runs that one process works on at a time.
const SLOTS: usize = 32;

/// What is open.
#[derive(Debug)]
pub struct Host {
    /// The engine over the store.
    pub engine: Engine,
    /// The host's own rows.
    pub table: Table,
    data_dir: PathBuf,
    /// Parked runs that were told once more to be undone.
    tried: Mutex<BTreeSet<RunId>>,
    // Last: the cloud goes down after everything that talks to it.
    cloud: Arc<Cloud>,
}

impl Host {
    /// Opens everything; nothing of a run is done yet.
    ///
    /// # Errors
    /// Something cannot be opened.
    pub async fn open(options: &Checked) -> Result<Self, Trouble> {
        place::prepare(&options.data_dir)?;
        let cloud = Arc::new(Cloud::start(&options.data_dir, options.speed).await?);
        let store = Opened::open(&StoreAt::Sqlite(options.file.clone())).await?;
        let Opened::Sqlite(file) = &store else {
            return Err(Trouble::bug("store", "a SQLite file was opened as another store"));
        };
        let table = Table::open(file).await?;
        let stage = Stage::simulated(&cloud, options.speed, options.fail_at.clone());
        let providers = cloud.providers()?;
        let defined = |error: SagaError| Trouble::bug("saga", error.to_string());
        let builder = store
            .engine()
            .keys(LocalKeys::file(options.data_dir.join("keys"))?)
            .resolver(Cloud::tokens())
            .register(hosting(&providers, &stage).map_err(defined)?)
            .register(stopping(&providers, &stage).map_err(defined)?)
            .register(ending(&table).map_err(defined)?);
        let builder = match &options.crash_at {
            Some(step) => builder.probe(CrashAt::new(step.as_str(), &PURE)),
            None => builder,
        };
        let (engine, data_dir) = (builder.build().await?, options.data_dir.clone());
        Ok(Self { engine, table, data_dir, tried: Mutex::default(), cloud })
    }

    /// The cloud of this process.
    #[must_use]
    pub fn cloud(&self) -> &Cloud {
        &self.cloud
    }

    /// Spawns the worker, which drives all runs of the store.
    #[must_use]
    pub fn worker(&self) -> Worker {
        let config = WorkerConfig::default()
            // A command that was killed and is typed again goes on at once.
            .with_lock_dir(self.data_dir.join("workers"))
            .with_poll(POLL)
            .with_slots(SLOTS);
        self.engine.spawn_worker(config)
    }

    /// Whether a parked run was not told yet, by this process, to be undone all the same; from now
    /// on it was.
    pub(crate) fn is_first_try(&self, run: RunId) -> bool {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner).insert(run)
    }

    /// Whether a person is needed before a subscription goes on.
    ///
    /// # Errors
    /// The store is away.
    pub async fn is_parked(&self, row: &Row) -> Result<bool, Trouble> {
        for run in [row.run, row.stop].into_iter().flatten() {
            let head = self.engine.run(&run).await?;
            if head.status == RunStatus::Parked && head.consumed >= head.requests {
                let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
                return Ok(row.desired != Desired::Gone || tried.contains(&run));
            }
        }
        Ok(false)
    }

    /// Whether nothing is left to do: all rows are settled or need a person, and no run is open.
    ///
    /// # Errors
    /// The store is away.
    pub async fn is_idle(&self) -> Result<bool, Trouble> {
        use provision_core::RunStatus::{Running, Unwinding, Waiting};
        let open = RunFilter {
            status: vec![Running, Waiting, Unwinding],
            limit: 1,
            ..RunFilter::default()
        };
        let rows = self.table.all().await?;
        for row in rows.iter().filter(|row| !row.is_settled()) {
            if !self.is_parked(row).await? {
                return Ok(false);
            }
        }
        Ok(self.engine.runs(&open).await?.runs.is_empty())
    }
}
