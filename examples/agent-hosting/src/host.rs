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
    Engine, EngineBuilder, RunId, RunStatus, SagaError, Worker, WorkerConfig,
    error::ErrorKind,
    retention::Retention,
    store::{RunFilter, RunHead, StateStore},
    vault::LocalKeys,
};

use crate::{
    cli::{Checked, Do},
    cloud::Cloud,
    mails::{MAIL, sending},
    providers::Providers,
    saga::{END, HOST, HOST_2, PURE, ending, hosting, stopping},
    table::{Desired, Row, State, Table},
    watch::{Beat, HEALTH, SWEEP, Watch, health, sweeping},
    web::{Receiver, Served, callbacks, router, secret},
    workflow::{self, HOST_BY_WORKFLOW, HOST_BY_WORKFLOW_1, Runs},
};

/// How often a worker looks for runs that were begun beside it, in the host's own transactions.
const POLL: Duration = Duration::from_millis(100);
/// Runs that one process works on at a time.
const SLOTS: usize = 32;

/// How long runs are kept that hold nothing any more: beats are many.
pub const KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);

/// What is removed of runs that are over. Their start keys are those of beats, sweeps and mails:
/// twice the longest time between two beats later nobody comes with one again.
#[must_use]
pub fn retention() -> Retention {
    Retention::keeping(KEPT).with_succeeded(true).with_forget_after(2 * KEPT)
}

/// What is open.
#[derive(Debug)]
pub struct Host {
    /// The engine over the store.
    pub engine: Engine,
    /// The host's own rows.
    pub table: Table,
    data_dir: PathBuf,
    /// Parked runs that were told once more to be undone, and the states that this was for.
    tried: Mutex<BTreeSet<(RunId, State)>>,
    web: Served,
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
        driven(file).await?;
        let table = Table::open(file).await?;
        let (callbacks, receiver) = (callbacks(&options.data_dir).await?, Receiver::default());
        let reports = (callbacks.clone(), Arc::clone(&receiver));
        let web = router(&table, secret(options.listen).await?, reports)?;
        let web = Served::start(options.listen, web).await?;
        cloud.runner().report_to(web.address());
        let stage = Stage::simulated(&cloud, options.speed, options.fail_at.clone());
        let providers = cloud.providers(&options.alerts_to, &callbacks)?;
        let keys = LocalKeys::file(options.data_dir.join("keys"))?;
        let builder = || {
            let builder = store.engine().keys(keys.clone()).resolver(Cloud::tokens());
            let runs: Runs = Arc::new(file.clone());
            making(builder, &providers, (&table, &runs), &stage)
        };
        // What is swept is known to an engine that does not know the sweep: neither holds itself.
        let swept = builder()?.build().await?;
        let builder = builder()?
            .register(ending(&table).map_err(|error| defined(&error))?)
            .register(health(&table, &providers).map_err(|error| defined(&error))?)
            .register(sweeping(&swept, &table, &providers).map_err(|error| defined(&error))?)
            .register(sending(&providers).map_err(|error| defined(&error))?)
            .retention(retention());
        let builder = match &options.crash_at {
            Some(step) => builder.probe(CrashAt::new(step.as_str(), &PURE)),
            None => builder,
        };
        let builder = match options.what {
            Do::Work { watch, .. } => watching(builder, watch)?,
            _ => builder,
        };
        let (engine, data_dir) = (builder.build().await?, options.data_dir.clone());
        // Until now reports were answered with "later".
        let _ = receiver.set(engine.clone());
        Ok(Self { engine, table, data_dir, tried: Mutex::default(), web, cloud })
    }

    /// Where webhooks are taken, such as `http://127.0.0.1:40123`.
    #[must_use]
    pub fn address(&self) -> &str {
        self.web.address()
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

    /// Whether a parked run was not told yet, by this process and for this state, to be undone all
    /// the same; from now on it was.
    pub(crate) fn is_first_try(&self, run: RunId, state: State) -> bool {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner).insert((run, state))
    }

    /// A run as it stands; none where it was over for so long that it was removed.
    ///
    /// # Errors
    /// The store is away.
    pub async fn head(&self, run: &RunId) -> Result<Option<RunHead>, Trouble> {
        match self.engine.run(run).await {
            Ok(head) => Ok(Some(head)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether every mail has gone out, or waits for a person.
    ///
    /// # Errors
    /// The store is away.
    pub async fn is_told(&self) -> Result<bool, Trouble> {
        let open = RunFilter { saga: Some(MAIL.name().to_owned()), ..open() };
        Ok(self.table.queued().await?.is_empty() && self.engine.runs(&open).await?.runs.is_empty())
    }

    /// Whether a person is needed before a subscription goes on.
    ///
    /// # Errors
    /// The store is away.
    pub async fn is_parked(&self, row: &Row) -> Result<bool, Trouble> {
        for run in [row.run, row.stop].into_iter().flatten() {
            let Some(head) = self.head(&run).await? else { continue };
            if head.status == RunStatus::Parked && head.consumed >= head.requests {
                let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
                return Ok(row.desired != Desired::Gone || tried.contains(&(run, row.state)));
            }
        }
        Ok(false)
    }

    /// Whether nothing is left to do: all rows are settled or need a person, and no run is open.
    ///
    /// # Errors
    /// The store is away.
    pub async fn is_idle(&self) -> Result<bool, Trouble> {
        let rows = self.table.all().await?;
        for row in rows.iter().filter(|row| !row.is_settled()) {
            if !self.is_parked(row).await? {
                return Ok(false);
            }
        }
        Ok(self.is_told().await? && self.engine.runs(&open()).await?.runs.is_empty())
    }
}

/// Runs that go on by themselves; whether there is one.
fn open() -> RunFilter {
    use RunStatus::{Running, Unwinding, Waiting};
    let status = vec![Running, Waiting, Unwinding];
    RunFilter { status, limit: 1, ..RunFilter::default() }
}

fn defined(error: &SagaError) -> Trouble {
    Trouble::bug("saga", error.to_string())
}

/// Registers the sagas that make something, in all versions whose runs may be there.
fn making(
    mut builder: EngineBuilder,
    providers: &Providers,
    (table, runs): (&Table, &Runs),
    stage: &Stage,
) -> Result<EngineBuilder, Trouble> {
    for version in [HOST, HOST_2] {
        let hosting = hosting(version, providers, table, stage);
        builder = builder.register(hosting.map_err(|error| defined(&error))?);
    }
    for version in [HOST_BY_WORKFLOW, HOST_BY_WORKFLOW_1] {
        let hosting = workflow::hosting(version, providers, (table, runs), stage);
        builder = builder.register(hosting.map_err(|error| defined(&error))?);
    }
    Ok(builder.register(stopping(providers, stage).map_err(|error| defined(&error))?))
}

/// Sagas of earlier programs that this one does not drive, by name and version.
const FORGOTTEN: [(&str, u32); 4] =
    [(HOST.name(), 1), (END.name(), 1), (HEALTH.name(), 1), (SWEEP.name(), 1)];

/// Nothing is opened over runs that nobody would drive: a machine of theirs would never be removed,
/// and nobody would say so. Told before the host's tables are touched or a payment is taken.
async fn driven(store: &dyn StateStore) -> Result<(), Trouble> {
    for (name, version) in FORGOTTEN {
        // What was made stands until it is torn down; of the others, what has ended is over.
        let stands = |status: &RunStatus| {
            let made = matches!(status, RunStatus::Succeeded | RunStatus::PartlySucceeded);
            !status.is_end() || (made && name == HOST.name())
        };
        let filter = RunFilter {
            saga: Some(name.to_owned()),
            version: Some(version),
            status: RunStatus::ALL.into_iter().filter(stands).collect(),
            limit: 1,
            ..RunFilter::default()
        };
        if let Some(run) = store.list(&filter).await?.runs.first() {
            let message =
                format!("run {} of `{name}`, version {version}, is not driven any more", run.id);
            let hint = "let the program that has begun it bring it to its end, or tear it down";
            return Err(Trouble::usage("run_of_an_earlier_program", message, hint));
        }
    }
    Ok(())
}

/// Lets workers begin what is looked at again and again.
fn watching(builder: EngineBuilder, watch: Watch) -> Result<EngineBuilder, Trouble> {
    let builder = builder.schedule(watch.heartbeats()?, HEALTH, |at| Beat { at });
    Ok(builder.schedule(watch.sweeps()?, SWEEP, |at| Beat { at }))
}
