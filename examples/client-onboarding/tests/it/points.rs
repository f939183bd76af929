//! The saga at every point at which something can go wrong: each step refused, each answer lost,
//! everything twice, a crash before and after each write and each call; and what exists in the four
//! clouds compared with ledger and journal each time.

use std::{sync::Arc, thread};

use client_onboarding::{
    cloud::{Cloud, CloudOptions},
    input::{Client, Tier},
    saga::{Site, onboarding},
};
use example_command::stage::Stage;
use provision_adapters::sim::InventoryItem;
use provision_core::{EngineBuilder, Owned, OwnerMark, RunStatus, Saga, vault::LocalKeys};
use provision_testkit::{
    harness::{Harness, Leaping, Outside, Report, Subject},
    skips::share,
};
use tempfile::TempDir;

/// Every so manieth crash is played; all of them take a quarter of an hour.
const PARTS: usize = 20;
/// Tests that share all of them.
const SIDE_BY_SIDE: usize = 2;

/// The four clouds, empty at first.
#[derive(Debug, Clone)]
struct Clouds {
    cloud: Arc<Cloud>,
    _folder: Arc<TempDir>,
}

impl Clouds {
    fn new() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let path = folder.path().to_owned();
        // On a thread of its own: who asks for a world is inside a runtime already.
        let started = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(Cloud::start(&path, &CloudOptions::at(0.0))).unwrap()
        });
        Self { cloud: Arc::new(started.join().unwrap()), _folder: Arc::new(folder) }
    }
}

impl Outside for Clouds {
    fn resources(&self) -> Vec<Owned> {
        self.cloud.inventory().items().iter().map(owned).collect()
    }

    fn secrets(&self) -> Vec<String> {
        let named = ["ghp_simulated", provision_adapters::supabase::sim::TOKEN];
        named.map(str::to_owned).to_vec()
    }
}

fn owned(item: &InventoryItem) -> Owned {
    let owned = Owned::new(item.id.as_str()).with_name(item.name.as_str());
    // An active workflow is listed as such, too, and carries the mark of the workflow's step.
    let is_own = item.kind != "activation";
    let mark = item.labels.values().find_map(|label| OwnerMark::find_in(label));
    owned.with_mark(mark.filter(|_| is_own))
}

struct Onboarding(Tier);

impl Subject for Onboarding {
    type Input = Client;
    type Output = Site;
    type World = Clouds;

    fn world(&self) -> Clouds {
        Clouds::new()
    }

    fn saga(&self, world: &Clouds) -> Saga<Client, Site> {
        let providers = world.cloud.addresses().providers().unwrap();
        onboarding(&providers, &Stage::served(0.0)).unwrap()
    }

    fn input(&self) -> Client {
        Client::new("acme", "Acme", self.0, "eu-central-1").unwrap()
    }

    fn equip(&self, builder: EngineBuilder, _: &Clouds) -> EngineBuilder {
        builder.resolver(Cloud::tokens()).keys(LocalKeys::new("test", [7; 32]).unwrap())
    }
}

/// Plays every so manieth crash, or all of them where there is time.
async fn played(first: usize) -> Report {
    let (part, of) = share(first, PARTS, SIDE_BY_SIDE);
    let places = || std::future::ready(Leaping::new());
    let harness = Harness::new(Onboarding(Tier::Enterprise), places).calls_in_turn();
    let report = harness.part(part, of).run().await;
    println!("client-onboarding, part {part} of {of}: {report}");
    report.assert_flawless();
    assert!(report.scenarios > 80, "only {} scenarios", report.scenarios);
    assert!(report.ended(RunStatus::PartlySucceeded) > 0, "the domain alone was refused");
    assert!(report.ended(RunStatus::RolledBack) > 0 && report.ended(RunStatus::TornDown) > 0);
    report
}

// covers: S4, S8, S9, S14, S15
#[tokio::test]
async fn the_saga_survives_even_crashes() {
    played(6).await;
}

// covers: S4, S8, S9, S14, S15
#[tokio::test]
async fn the_saga_survives_odd_crashes() {
    played(27).await;
}
