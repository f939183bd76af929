//! Hosting at every point at which something can go wrong: each step refused, each answer lost,
//! everything twice, a crash before and after each write and each call; and what exists at both
//! providers compared with ledger and journal each time.

use std::{
    sync::{Arc, LazyLock},
    thread,
    time::Duration,
};

use agent_hosting::{
    cloud::Cloud,
    input::{Preset, Subscription},
    saga::{Agent, HOST, hosting},
    table::Table,
    web::callbacks,
};
use example_command::stage::Stage;
use provision_adapters::{
    hetzner, resend,
    sim::{InventoryItem, Provider as _},
    tailscale,
    webhook::Callbacks,
};
use provision_core::{EngineBuilder, Owned, OwnerMark, RunStatus, Saga, vault::LocalKeys};
use provision_store_sqlite::SqliteStore;
use provision_testkit::{
    harness::{Harness, Leaping, Outside, Report, Subject},
    skips::share,
};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// Every so manieth crash is played; all of them where there is time.
const PARTS: usize = 32;
/// Tests that share all of them.
const SIDE_BY_SIDE: usize = 2;
/// How long a leap takes: machines boot and join by themselves meanwhile.
pub(crate) const REST: Duration = Duration::from_millis(25);

/// Where machines live: who asks for a world is inside a runtime of his own.
static MACHINES: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

#[derive(Debug, Clone)]
pub(crate) struct Region {
    pub(crate) cloud: Arc<Cloud>,
    pub(crate) table: Table,
    pub(crate) callbacks: Callbacks,
    _folder: Arc<TempDir>,
}

/// Opens what lives beside the harness, where the machines are.
pub(crate) fn opened<T: Send + 'static>(open: impl Future<Output = T> + Send + 'static) -> T {
    thread::spawn(move || MACHINES.block_on(open)).join().unwrap()
}

impl Region {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let path = folder.path().to_owned();
        let (cloud, table, callbacks) = opened(async move {
            let cloud = Cloud::start(&path, 0.0).await.unwrap();
            let store = SqliteStore::open(path.join("provision.db")).await.unwrap();
            (cloud, Table::open(&store).await.unwrap(), callbacks(&path).await.unwrap())
        });
        Self { cloud: Arc::new(cloud), table, callbacks, _folder: Arc::new(folder) }
    }
}

impl Region {
    /// A key with which a machine has joined is listed no more, and belongs to that machine.
    fn spent_keys(&self) -> Vec<Owned> {
        let state = self.cloud.tailscale().with(|sim| sim.snapshot());
        let listed = |what: &str| state[what].as_array().cloned().unwrap_or_default();
        let devices = listed("devices");
        let spent = listed("keys").into_iter().filter(|key| {
            let joined = key["used_by"].as_array().unwrap();
            devices.iter().any(|device| joined.contains(&device["hostname"]))
        });
        spent.map(|key| Owned::new(key["id"].as_str().unwrap())).collect()
    }
}

impl Outside for Region {
    fn resources(&self) -> Vec<Owned> {
        let things = self.cloud.inventory();
        things.items().iter().map(owned).chain(self.spent_keys()).collect()
    }

    fn secrets(&self) -> Vec<String> {
        [hetzner::sim::TOKEN, tailscale::sim::CLIENT_SECRET, resend::sim::KEY]
            .map(str::to_owned)
            .to_vec()
    }
}

fn owned(item: &InventoryItem) -> Owned {
    let mark = item.labels.values().find_map(|label| OwnerMark::find_in(label));
    // A device is known by its host name, which its key was minted for.
    let id = if item.kind == "device" { &item.name } else { &item.id };
    Owned::new(id.as_str()).with_name(item.name.as_str()).with_mark(mark)
}

struct Hosting;

impl Subject for Hosting {
    type Input = Subscription;
    type Output = Agent;
    type World = Region;

    fn world(&self) -> Region {
        Region::new()
    }

    fn saga(&self, world: &Region) -> Saga<Subscription, Agent> {
        let providers = world.cloud.providers("ops@example.com", &world.callbacks);
        let mut providers = providers.unwrap();
        // Of the store's time, which leaps.
        providers.join_within = Duration::from_secs(24 * 3_600);
        hosting(HOST, &providers, &world.table, &Stage::served(0.0)).unwrap()
    }

    fn input(&self) -> Subscription {
        Subscription::new("demo", "ada", Preset::Small, "nbg1").unwrap()
    }

    fn equip(&self, builder: EngineBuilder, _: &Region) -> EngineBuilder {
        builder.resolver(Cloud::tokens()).keys(LocalKeys::new("test", [7; 32]).unwrap())
    }
}

async fn played(first: usize) -> Report {
    let (part, of) = share(first, PARTS, SIDE_BY_SIDE);
    let places = || std::future::ready(Leaping::new().with_rest(REST));
    let report = Harness::new(Hosting, places).calls_in_turn().part(part, of).run().await;
    println!("agent-hosting, part {part} of {of}: {report}");
    report.assert_flawless();
    assert!(report.scenarios > 60, "only {} scenarios", report.scenarios);
    assert!(report.ended(RunStatus::RolledBack) > 0 && report.ended(RunStatus::TornDown) > 0);
    report
}

// covers: S4, S8, S9, S14, S15
#[tokio::test]
async fn an_agent_survives_even_crashes() {
    played(4).await;
}

// covers: S4, S8, S9, S14, S15
#[tokio::test]
async fn an_agent_survives_odd_crashes() {
    played(1).await;
}
