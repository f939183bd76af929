//! Everything that is open while a command works: store, cloud, engine, worker.

use std::{path::PathBuf, sync::Arc};

use example_command::{crash::CrashAt, exit::Trouble, place, stage::Stage, stores::Opened};
use provision_core::{
    Engine, RunHandle, Saga, SagaError, Worker, WorkerConfig,
    store::{RunFilter, RunHead},
    vault::LocalKeys,
};

use crate::{
    cloud::{Addresses, Cloud, Reached},
    host_row::Clients,
    input::{Client, Tier, business_key, queue},
    live,
    options::{Mode, Options},
    saga::{ONBOARD, PURE, Site, onboarding},
};

/// What is open.
#[derive(Debug)]
pub struct Host {
    /// The engine over the chosen store.
    pub engine: Engine,
    /// The host's own rows.
    pub clients: Clients,
    /// Ids of the clients this command is about.
    ids: Vec<String>,
    data_dir: PathBuf,
    // Last: the cloud goes down after everything that talks to it.
    _cloud: Option<Arc<Cloud>>,
}

impl Host {
    /// Opens everything; nothing of a run is done yet.
    ///
    /// # Errors
    /// Something cannot be opened, or a variable for `--live` is missing.
    pub async fn open(options: &Options) -> Result<Self, Trouble> {
        let tier = match options.clients.first() {
            Some(wanted) => wanted.fresh()?.tier,
            None => Tier::Professional,
        };
        // Before the first file: a command that cannot work leaves nothing behind.
        let real = if options.live { Some(live::providers(tier).await?) } else { None };
        place::prepare(&options.data_dir)?;
        let store = Opened::open(&options.store).await?;
        let clients = Clients::of(&store).await?;
        let keys = LocalKeys::file(options.data_dir.join("keys"))?;
        let builder = store.engine().keys(keys);
        let (saga, builder, cloud) = match real {
            Some(providers) => {
                let saga = onboarding(&providers, &Stage::live());
                (saga, builder.resolver(live::resolver()), None)
            }
            None => {
                let (saga, cloud) = simulated(options).await?;
                (saga, builder.resolver(Cloud::tokens()), cloud)
            }
        };
        let saga = saga.map_err(|error| Trouble::bug("saga", error.to_string()))?;
        let builder = match &options.crash_at {
            Some(step) => builder.probe(CrashAt::new(step.as_str(), &PURE)),
            None => builder,
        };
        let engine = builder.register(saga).build().await?;
        let ids = options.clients.iter().map(|wanted| wanted.id.clone()).collect();
        let data_dir = options.data_dir.clone();
        Ok(Self { engine, clients, ids, data_dir, _cloud: cloud })
    }

    /// Spawns the worker. It drives the runs of this command's clients and no others; without
    /// clients, all runs.
    #[must_use]
    pub fn worker(&self) -> Worker {
        let config = WorkerConfig::default()
            // A command that was killed and is typed again goes on at once.
            .with_lock_dir(self.data_dir.join("workers"))
            .with_queues(self.ids.iter().map(|id| queue(id)));
        self.engine.spawn_worker(config)
    }

    /// The run that holds a client's business key: open, parked, or ended with something left.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn current(&self, id: &str) -> Result<Option<RunHead>, Trouble> {
        let filter = RunFilter { guard: Some(business_key(id)), limit: 1, ..RunFilter::default() };
        Ok(self.engine.runs(&filter).await?.runs.pop())
    }

    /// Runs of the real providers and of the simulated cloud never share a store: the one would
    /// look in vain for what the other has made, and take it for gone.
    ///
    /// # Errors
    /// Code `other_options`: the store holds runs of the other kind.
    pub async fn check_cloud(&self, live: bool) -> Result<(), Trouble> {
        let filter = RunFilter { limit: 1, ..RunFilter::default() };
        let Some(head) = self.engine.runs(&filter).await?.runs.pop() else { return Ok(()) };
        let (whose, hint) = match (client_of(&head)?.live, live) {
            (true, false) => ("the real providers", "say --live, or choose another --data-dir"),
            (false, true) => {
                ("the simulated cloud", "leave out --live, or choose another --data-dir")
            }
            _ => return Ok(()),
        };
        Err(Trouble::usage("other_options", format!("the runs here are of {whose}"), hint))
    }

    /// The newest run of a client, whatever its end.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn newest(&self, id: &str) -> Result<Option<RunHead>, Trouble> {
        let filter = RunFilter { tenant: Some(id.to_owned()), limit: 1, ..RunFilter::default() };
        Ok(self.engine.runs(&filter).await?.runs.pop())
    }

    /// Starts the run of a client, or finds the one that holds its business key.
    ///
    /// # Errors
    /// The store cannot be reached.
    pub async fn start(&self, client: &Client) -> Result<RunHandle<Site>, Trouble> {
        let start = self.engine.start(ONBOARD, client).unique(business_key(&client.id));
        Ok(start.tenant(client.id.as_str()).queue(queue(&client.id)).await?)
    }
}

/// The client a run was started for.
///
/// # Errors
/// The input is no client: a bug of ours.
pub fn client_of(head: &RunHead) -> Result<Client, Trouble> {
    head.input.decode().map_err(|error| Trouble::bug("input", error.to_string()))
}

/// A saga, as it was defined.
type Defined = Result<Saga<Client, Site>, SagaError>;

/// The saga over the simulated cloud: the one that another process serves, or else this one's own.
async fn simulated(options: &Options) -> Result<(Defined, Option<Arc<Cloud>>), Trouble> {
    let speed = options.cloud.speed;
    if options.mode == Mode::Submit {
        let nowhere = Addresses::nowhere(speed);
        return Ok((onboarding(&nowhere.providers()?, &Stage::served(speed)), None));
    }
    let served = match Cloud::reach(&options.data_dir, &options.cloud).await? {
        Reached::Served(served) => served,
        Reached::Own(cloud) => {
            let cloud = Arc::new(*cloud);
            let stage = Stage::simulated(&cloud, speed, options.fail_at.clone());
            return Ok((onboarding(&cloud.addresses().providers()?, &stage), Some(cloud)));
        }
    };
    if options.fail_at.is_some() {
        return Err(Trouble::usage(
            "fail_at_elsewhere",
            "--fail-at is for the cloud of this very process, and another one serves it",
            "end `client-onboarding cloud`, or leave --fail-at out",
        ));
    }
    if options.cloud.sql.is_some() {
        return Err(Trouble::usage(
            "simulated_sql",
            "--simulated-sql is for the cloud of this very process, and another one serves it",
            "say it where `client-onboarding cloud` is started, and leave it out here",
        ));
    }
    Ok((onboarding(&served.providers()?, &Stage::served(served.speed)), None))
}
