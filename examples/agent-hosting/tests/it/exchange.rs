//! A machine that is exchanged for a new one, by processes that die at every point of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use agent_hosting::{
    cloud::Cloud,
    exchange::{Exchange, SERVE, Serves, serving},
};
use async_trait::async_trait;
use example_command::stage::Stage;
use provision_adapters::hetzner::{ServerMade, ServerSpec};
use provision_core::{
    By, Call, Engine, LedgerQuery, OwnerMark, ResourceState, RunId, RunStatus, Step, StepContext,
    StepError, context::Seam, probe::Probe, run::journal::Record,
};
use provision_store_sqlite::SqliteStore;
use provision_testkit::{
    harness::{Leaping, Place as _},
    skips::is_long,
};
use tokio::sync::Notify;

use crate::points::{REST, Region, opened};

/// Longer than the lease of a process that died.
const LEASE_OVER: Duration = Duration::from_secs(16);
const SERVICE: &str = "web";

/// Dies when so many points have been reached.
#[derive(Debug)]
struct Cut {
    left: AtomicU32,
    reached: Notify,
}

#[derive(Debug, Clone)]
struct At(Arc<Cut>);

impl At {
    async fn point(&self) {
        if self.0.left.fetch_sub(1, SeqCst) == 1 {
            self.0.reached.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Probe for At {
    async fn appending(&self, _: &RunId, _: &[Record]) {
        self.point().await;
    }

    async fn appended(&self, _: &RunId, _: &[Record]) {
        self.point().await;
    }

    async fn call(&self, _: &RunId, _: &str, _: &Call, _: Seam) {
        self.point().await;
    }
}

/// Asks a machine; one of the two questions may be answered badly for the new machine.
#[derive(Debug, Clone)]
struct Well {
    cloud: Arc<Cloud>,
    ill: Option<&'static str>,
}

impl Step for Well {
    const KIND: &'static str = "test.well";
    type Input = ServerMade;
    type Output = ();

    async fn run(&self, cx: &StepContext, _: ServerMade) -> Result<(), StepError> {
        let is_new = machine_of(&self.cloud, cx.run_id()).as_deref() == Some("web-2");
        match self.ill == Some(cx.path()) && is_new {
            true => Err(StepError::permanent("ask the machine").with_code("not_well")),
            false => Ok(()),
        }
    }
}

/// The name of the machine that a run has made and that is there.
fn machine_of(cloud: &Cloud, run: &RunId) -> Option<String> {
    let things = cloud.inventory();
    let mut servers = things.items().iter().filter(|item| item.kind == "server");
    let made = |labels: &std::collections::BTreeMap<String, String>| {
        let labels = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        OwnerMark::from_labels(labels).is_some_and(|mark| mark.run() == *run)
    };
    servers.find(|item| made(&item.labels)).map(|item| item.name.clone())
}

/// A cloud, and where its service is served.
struct Town {
    region: Region,
    serves: Serves,
    place: Leaping,
    ill: Option<&'static str>,
    folder: tempfile::TempDir,
}

impl Town {
    fn new(ill: Option<&'static str>) -> Self {
        let (region, folder) = (Region::new(), tempfile::tempdir().unwrap());
        let path = folder.path().join("serves.db");
        let serves =
            opened(
                async move { Serves::open(&SqliteStore::open(path).await.unwrap()).await.unwrap() },
            );
        Self { region, serves, place: Leaping::new().with_rest(REST), ill, folder }
    }

    /// The engine of a process.
    async fn engine(&self, dies: Option<At>) -> Engine {
        let cloud = &self.region.cloud;
        let hetzner = cloud.providers("ops@example.com", &self.region.callbacks).unwrap().hetzner;
        let well = Well { cloud: Arc::clone(cloud), ill: self.ill };
        let saga =
            |orders| serving(&hetzner, &well, &self.serves, orders, &Stage::served(0.0)).unwrap();
        let store = self.place.open().await;
        let orders = Engine::builder(store.clone()).register(saga(None)).build().await.unwrap();
        let builder = Engine::builder(store).register(saga(Some(orders)));
        let builder = builder.resolver(Cloud::tokens());
        match dies {
            Some(dies) => builder.probe(dies).build().await.unwrap(),
            None => builder.build().await.unwrap(),
        }
    }

    /// Lets a machine of this name serve.
    async fn exchange(&self, engine: &Engine, name: &str, replaces: Option<RunId>) -> RunId {
        let machine = ServerSpec::new(name, "cx23", "debian-13", "fsn1");
        let wanted = Exchange { service: SERVICE.to_owned(), machine, replaces };
        *engine.start(SERVE, &wanted).key(name).await.unwrap().id()
    }

    /// Drives everything until these runs have come to an end.
    async fn drive(&self, engine: &Engine, runs: &[RunId]) {
        for _ in 0..2_000 {
            if engine.run_one().await.unwrap().is_some() {
                continue;
            }
            let mut over = true;
            for run in runs {
                let head = engine.run(run).await.unwrap();
                over &= head.status.is_end() && head.consumed == head.requests;
            }
            if over {
                return;
            }
            self.place.pass(Duration::from_secs(1)).await;
        }
        panic!("they do not come to an end");
    }

    /// A first machine that serves.
    async fn served(&self) -> RunId {
        let engine = self.engine(None).await;
        let run = self.exchange(&engine, "web-1", None).await;
        self.drive(&engine, &[run]).await;
        assert_eq!(self.machine().await.as_deref(), Some("web-1"));
        run
    }

    /// The machine that serves, if it is there.
    async fn machine(&self) -> Option<String> {
        let run = self.serves.by(SERVICE).await.unwrap()?;
        machine_of(&self.region.cloud, &run)
    }

    fn machines(&self) -> Vec<String> {
        let things = self.region.cloud.inventory();
        let servers = things.items().iter().filter(|item| item.kind == "server");
        servers.map(|item| item.name.clone()).collect()
    }

    async fn assert_ends(&self, engine: &Engine, runs: [(RunId, RunStatus); 2], serves: &str) {
        for (run, status) in runs {
            assert_eq!(engine.run(&run).await.unwrap().status, status);
        }
        assert_eq!(self.machine().await.as_deref(), Some(serves));
        assert_eq!(self.machines(), [serves], "{}", self.folder.path().display());
        let rows = engine.ledger(&LedgerQuery::default()).await.unwrap();
        let alive = rows.iter().filter(|row| row.state == ResourceState::Alive);
        assert_eq!(alive.map(|row| row.name.as_deref()).collect::<Vec<_>>(), [Some(serves)]);
        assert!(!rows.iter().any(|row| row.state == ResourceState::Unknown), "{rows:?}");
    }
}

// covers: R2-33, S9, S13, S15
#[tokio::test]
async fn a_machine_is_exchanged_without_a_gap_whenever_a_process_dies() {
    let every = if is_long() { 1 } else { 4 };
    let mut played = 0;
    for at in (1..).step_by(every) {
        let town = Town::new(None);
        let old = town.served().await;
        let cut = Arc::new(Cut { left: AtomicU32::new(at), reached: Notify::new() });
        let first = town.engine(Some(At(Arc::clone(&cut)))).await;
        let lived = async {
            let new = town.exchange(&first, "web-2", Some(old)).await;
            town.drive(&first, &[old, new]).await;
        };
        let died = tokio::select! {
            biased;
            () = cut.reached.notified() => true,
            () = lived => false,
        };
        // Whatever was cut, one that is there serves.
        assert!(town.machine().await.is_some(), "a gap at point {at}");
        if died {
            town.place.pass(LEASE_OVER).await;
        }
        let next = town.engine(None).await;
        let new = town.exchange(&next, "web-2", Some(old)).await;
        town.drive(&next, &[old, new]).await;
        let ends = [(old, RunStatus::TornDown), (new, RunStatus::Succeeded)];
        town.assert_ends(&next, ends, "web-2").await;
        if !died {
            // Nothing serves when the last one goes.
            next.tear_down(&new, By::new("ann", "the service is over")).await.unwrap();
            town.drive(&next, &[new]).await;
            assert_eq!((town.serves.by(SERVICE).await.unwrap(), town.machines()), (None, vec![]));
            break;
        }
        played += 1;
    }
    assert!(played * every > 24, "only {played} points");
}

// covers: R2-33, S12
#[tokio::test]
async fn a_new_machine_that_is_not_well_goes_and_the_old_one_serves() {
    for ill in ["well", "serves"] {
        let town = Town::new(Some(ill));
        let old = town.served().await;
        let engine = town.engine(None).await;
        let new = town.exchange(&engine, "web-2", Some(old)).await;
        town.drive(&engine, &[new]).await;
        let ends = [(old, RunStatus::Succeeded), (new, RunStatus::RolledBack)];
        town.assert_ends(&engine, ends, "web-1").await;
    }
}

// covers: R2-33
#[tokio::test]
async fn one_machine_is_exchanged_once() {
    let town = Town::new(None);
    let old = town.served().await;
    let engine = town.engine(None).await;
    let new = town.exchange(&engine, "web-2", Some(old)).await;
    town.drive(&engine, &[old, new]).await;
    // Somebody else wants to replace what is gone.
    let late = town.exchange(&engine, "web-3", Some(old)).await;
    town.drive(&engine, &[late]).await;
    assert_eq!(engine.run(&late).await.unwrap().status, RunStatus::RolledBack);
    let ends = [(old, RunStatus::TornDown), (new, RunStatus::Succeeded)];
    town.assert_ends(&engine, ends, "web-2").await;
}
