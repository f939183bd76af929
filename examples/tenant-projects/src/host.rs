//! Everything that is open while a command works: database, tenants' server, services, engine.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use example_command::{
    crash::CrashAt,
    drive::{Order, Pulse, Subject},
    exit::Trouble,
    place,
    report::OwnRow,
    stage::Stage,
    tables::{options, pool},
};
use provision_adapters::{sim::SimServer, tools::postgres::Postgres};
use provision_core::{
    Engine, MemoryStore, RunHandle, RunId, Worker, WorkerConfig,
    resolver::MapResolver,
    store::{RunFilter, RunHead},
    vault::LocalKeys,
};
use provision_store_postgres::PostgresConfig;
use sqlx::{PgPool, query, query_as};
use uuid::Uuid;

use crate::{
    cloud::{Cloud, SIMULATED_TOKEN, ServiceSim},
    folder::Folder,
    input::{Project, Request},
    keys::Hashing,
    retry::Retry,
    saga::{PROVISION, Ready, Registry, Tools},
    server::{PASSWORD, TenantServer},
    services::{Registration, Service, TOKEN},
    tables,
};

const CONNECTIONS_MAX: u32 = 12;
/// Runs that a worker drives at a time.
const SLOTS: usize = 24;

/// Where everything is, and what is to go wrong.
#[derive(Debug, Clone)]
pub struct Places {
    /// The host's database.
    pub database: String,
    /// The tenants' server.
    pub tenants: TenantServer,
    /// Folder of keys and of the simulated services.
    pub data_dir: PathBuf,
    /// Factor of the services' times.
    pub speed: f64,
    /// How both sagas repeat what went wrong.
    pub retry: Retry,
    /// How keys are hashed.
    pub hashing: Hashing,
    /// The step that is refused.
    pub fail_at: Option<String>,
    /// The step after which this process dies.
    pub crash_at: Option<String>,
}

/// What is open.
#[derive(Debug)]
pub struct Host {
    /// Starts and orders runs.
    pub engine: Engine,
    /// The tenants' server.
    pub server: Postgres,
    /// The services.
    pub cloud: Arc<Cloud>,
    pool: PgPool,
    folder: Folder,
    locks: PathBuf,
}

impl Host {
    /// Opens everything; nothing of a run is done yet.
    ///
    /// # Errors
    /// Something cannot be reached, or will not do.
    pub async fn open(places: &Places) -> Result<Self, Trouble> {
        let reached = places.tenants.reach().await?;
        place::prepare(&places.data_dir)?;
        let pool = pool(options(&places.database)?, CONNECTIONS_MAX);
        // First the store: it tells what is wrong with a server in words of its own.
        let store = PostgresConfig::with_pool(pool.clone()).open().await?;
        let beside = reached.may_have(&pool).await.then(|| places.tenants.user());
        tables::migrate(&pool, beside).await?;
        tables::write_ends(&store);
        let cloud = Arc::new(Cloud::start(&places.data_dir, places.speed).await?);
        let folder = Folder::open(&places.data_dir)?;
        folder.note(&pool).await?;
        let server = places.tenants.server.clone();
        let tools = Tools {
            pool: pool.clone(),
            server: server.clone(),
            auth: registration(&cloud.auth)?,
            realtime: registration(&cloud.realtime)?,
            storage: registration(&cloud.storage)?,
            hashing: places.hashing,
            retry: places.retry.clone(),
            stage: Stage::simulated(&cloud, places.speed, places.fail_at.clone()),
            real: Stage::simulated(&cloud, 1.0, places.fail_at.clone()),
        };
        let registry = Registry::of(&tools);
        let registry = registry.map_err(|error| Trouble::bug("saga", error.to_string()))?;
        let resolver = MapResolver::new()
            .with(PASSWORD, places.tenants.password.expose())
            .with(TOKEN, SIMULATED_TOKEN);
        let keys = LocalKeys::file(places.data_dir.join("keys"))?;
        let builder = registry.register(Engine::builder(store)).keys(keys).resolver(resolver);
        let builder = match &places.crash_at {
            Some(step) => builder.probe(CrashAt::new(step.as_str(), &[])),
            None => builder,
        };
        let engine = builder.build().await?;
        places.tenants.prepare(&engine.preparing(None).await?).await?;
        let locks = places.data_dir.join("workers");
        Ok(Self { engine, server, cloud, pool, folder, locks })
    }

    /// The host's database.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The queue of this data folder: its services are reached from this process alone.
    #[must_use]
    pub fn queue(&self) -> &str {
        self.folder.queue()
    }

    /// Spawns the worker that drives the runs of this data folder, also those of commands that died.
    #[must_use]
    pub fn worker(&self) -> Worker {
        let config = WorkerConfig::default()
            .with_slots(SLOTS)
            // A command that was killed and is typed again goes on at once.
            .with_lock_dir(self.locks.clone())
            .with_queues([self.queue()]);
        self.engine.spawn_worker(config)
    }

    /// Starts a project's run, or finds the one that holds its slug.
    ///
    /// # Errors
    /// Code `other_folder`: the one that holds it is of another data folder. Or the store cannot be
    /// reached.
    pub async fn start(&self, project: &Project) -> Result<RunHandle<Ready>, Trouble> {
        let start = self.engine.start(PROVISION, project).unique(guard(&project.slug));
        let run = start.tenant(project.id.to_string()).queue(self.queue()).await?;
        if !run.is_new() {
            self.folder.owns(&self.pool, &self.engine.run(run.id()).await?).await?;
        }
        Ok(run)
    }

    /// The run that holds a slug: open, parked, or ended with something left.
    ///
    /// # Errors
    /// Code `other_folder`: it is one of another data folder. Or the store cannot be read.
    pub async fn current(&self, slug: &str) -> Result<Option<RunHead>, Trouble> {
        self.holding(guard(slug)).await
    }

    /// The run that holds a business key.
    ///
    /// # Errors
    /// As [`Self::current`].
    pub async fn holding(&self, guard: String) -> Result<Option<RunHead>, Trouble> {
        let filter = RunFilter { guard: Some(guard), limit: 1, ..RunFilter::default() };
        let Some(head) = self.engine.runs(&filter).await?.runs.pop() else { return Ok(None) };
        self.folder.owns(&self.pool, &head).await?;
        Ok(Some(head))
    }

    /// A run's own row, for reports.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn row_of(&self, run: RunId) -> Result<Option<OwnRow>, Trouble> {
        let row = "SELECT id, slug, state, region FROM tenants.projects WHERE run = $1";
        let row: Option<(Uuid, String, String, String)> = query_as(row)
            .bind(*run.as_uuid())
            .fetch_optional(&self.pool)
            .await
            .map_err(tables::unread)?;
        Ok(row.map(|(id, slug, state, region)| OwnRow {
            kind: "project",
            id: id.to_string(),
            name: slug,
            place: region,
            is_alive: ["provisioning", "active", "removing"].contains(&state.as_str()),
        }))
    }
}

/// What is open for looking alone: nothing is made, migrated, locked or driven.
#[derive(Debug)]
pub struct Look {
    /// Asks servers outside of every run.
    pub engine: Engine,
    /// The tenants' server.
    pub server: Postgres,
    /// Whether the host's tables are there.
    pub is_set_up: bool,
    pool: PgPool,
}

impl Look {
    /// Opens what there is to look at.
    ///
    /// # Errors
    /// A server cannot be reached, or its tables are of another version.
    pub async fn open(places: &Places) -> Result<Self, Trouble> {
        places.tenants.reach().await?;
        let pool = pool(options(&places.database)?, CONNECTIONS_MAX);
        let there = "SELECT to_regclass('tenants.api_keys') IS NOT NULL";
        let (is_set_up,): (bool,) =
            query_as(there).fetch_one(&pool).await.map_err(tables::unread)?;
        let builder = match is_set_up {
            true => {
                let config = PostgresConfig::with_pool(pool.clone()).with_migrate(false);
                Engine::builder(config.open().await?)
            }
            false => Engine::builder(MemoryStore::new()),
        };
        let resolver = MapResolver::new().with(PASSWORD, places.tenants.password.expose());
        let engine = builder.resolver(resolver).build().await?;
        Ok(Self { engine, server: places.tenants.server.clone(), is_set_up, pool })
    }

    /// The host's database.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }
}

#[async_trait]
impl Pulse for Host {
    async fn beat(&self) -> Result<(), Trouble> {
        let beat = "INSERT INTO tenants.pulse (one, beat) VALUES (1, 1)
            ON CONFLICT (one) DO UPDATE SET beat = pulse.beat + 1";
        query(beat).execute(&self.pool).await.map(drop).map_err(tables::unread)
    }
}

/// One project of a command.
#[derive(Debug)]
pub struct Wanted {
    /// What is open.
    pub host: Arc<Host>,
    /// What was typed.
    pub request: Request,
    /// What is to be done. Whoever takes a project down need not repeat its options.
    pub order: Order,
}

#[async_trait]
impl Subject for Wanted {
    fn id(&self) -> &str {
        &self.request.slug
    }

    async fn current(&self) -> Result<Option<RunHead>, Trouble> {
        let Some(head) = self.host.current(&self.request.slug).await? else { return Ok(None) };
        if self.order == Order::TearDown {
            return Ok(Some(head));
        }
        let there: Project =
            head.input.decode().map_err(|error| Trouble::bug("input", error.to_string()))?;
        let differ = self.request.differences(&there);
        if differ.is_empty() {
            return Ok(Some(head));
        }
        let message =
            format!("project `{}` is there with other options: {}", there.slug, differ.join(", "));
        let hint = "leave these options out to go on, or --tear-down the project first";
        Err(Trouble::usage("other_options", message, hint))
    }

    async fn begin(&self) -> Result<(RunId, String), Trouble> {
        let project = self.request.project()?;
        let run = *self.host.start(&project).await?.id();
        Ok((run, format!("run {run} of project `{}`", project.slug)))
    }

    async fn newest(&self) -> Result<RunHead, Trouble> {
        let slug = &self.request.slug;
        let row =
            "SELECT run FROM tenants.projects WHERE slug = $1 ORDER BY created_at DESC LIMIT 1";
        let row: Option<(Uuid,)> = query_as(row)
            .bind(slug)
            .fetch_optional(&self.host.pool)
            .await
            .map_err(tables::unread)?;
        let Some((run,)) = row else {
            let message = format!("project `{slug}` was never here");
            return Err(Trouble::usage(
                "no_such_project",
                message,
                "check --project and --data-dir",
            ));
        };
        Ok(self.host.engine.run(&RunId::from_uuid(run)).await?)
    }
}

fn guard(slug: &str) -> String {
    format!("project/{slug}")
}

fn registration<S: Service>(server: &SimServer<ServiceSim>) -> Result<Registration<S>, Trouble> {
    Ok(Registration::at(Cloud::base(server)?)?)
}
