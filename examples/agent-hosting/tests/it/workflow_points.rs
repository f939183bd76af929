//! The other path at every point at which something can go wrong, as [`crate::points`] plays it.
//!
//! Whoever runs the workflow works whenever the saga waits, and so at the same place each time; what
//! it reports is kept, and told to whichever process drives the run.

use std::{
    mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use agent_hosting::{
    cloud::Cloud,
    input::{MadeBy, Preset, Subscription},
    runner::{self, Goes, REPOSITORY, Runner, Temper},
    saga::Agent,
    web::Served,
    workflow::{HOST_BY_WORKFLOW, REPORTS_WITHIN, Runs, hosting},
};
use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
    routing::post,
};
use example_command::stage::Stage;
use futures_util::FutureExt as _;
use provision_adapters::{
    sim::Provider as _,
    webhook::{Answer, Report as Told},
};
use provision_core::{
    Engine, EngineBuilder, Owned, RunStatus, Saga,
    clock::{Clock as _, SystemClock},
    store::RunHead,
    vault::LocalKeys,
};
use provision_testkit::{
    harness::{Harness, Leaping, Outside, Place as _, Subject},
    skips::share,
};

use crate::points::{REST, Region, opened};

/// Every so manieth crash is played; all of them where there is time.
const PARTS: usize = 48;
/// Id of the secret with the join key: it tells the name by a hash.
const SECRET: &str = "acme/machines#460aa2738fa5";

/// What was reported and not told yet: name, proof and body.
type Kept = Arc<Mutex<Vec<(String, Vec<u8>, Vec<u8>)>>>;

#[derive(Debug, Clone)]
struct World {
    region: Region,
    place: Arc<Leaping>,
    runner: Arc<Runner>,
    kept: Kept,
    _served: Arc<Served>,
}

async fn keep(
    State(kept): State<Kept>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let proof = headers.get(AUTHORIZATION).map(|proof| proof.as_bytes().to_vec());
    kept.lock().unwrap().push((name, proof.unwrap_or_default(), body.to_vec()));
    StatusCode::ACCEPTED
}

impl World {
    fn new() -> Self {
        let (region, kept) = (Region::new(), Kept::default());
        // The runner of the cloud itself comes at any time.
        let nothing = Temper { goes: Goes::Nowhere, ..Temper::default() };
        region.cloud.runner().set_temper(nothing);
        let runner = Arc::new(Runner::new(region.cloud.hetzner().url()));
        let routes =
            Router::new().route("/callbacks/{name}", post(keep)).with_state(Arc::clone(&kept));
        let served = Served::start("127.0.0.1:0".parse().unwrap(), routes);
        let served = opened(async move { served.await.unwrap() });
        runner.report_to(served.address());
        let place = Arc::new(Leaping::new().with_rest(REST));
        Self { region, place, runner, kept, _served: Arc::new(served) }
    }

    /// The dispatched runs that nobody has cancelled: there are no others that stand.
    fn runs(&self) -> Vec<Owned> {
        let github = self.region.cloud.github();
        let asked = github.requests();
        let state = github.with(|sim| sim.snapshot());
        let repos = state["repos"].as_object().unwrap().values();
        let runs = repos.flat_map(|repo| repo["runs"].as_array().unwrap());
        let ids = runs.map(|run| run["id"].to_string());
        let stands = |id: &String| {
            let cancel = format!("/actions/runs/{id}/cancel");
            !asked.iter().any(|asked| asked.status != 0 && asked.path.ends_with(&cancel))
        };
        ids.filter(stands).map(Owned::new).collect()
    }
}

impl Outside for World {
    fn resources(&self) -> Vec<Owned> {
        let github = self.region.cloud.github();
        let secret = github.with(|sim| sim.secret_value(REPOSITORY, "JOIN_DEMO"));
        let secret = secret.map(|_| Owned::new(SECRET));
        self.region.resources().into_iter().chain(secret).chain(self.runs()).collect()
    }

    fn secrets(&self) -> Vec<String> {
        let mut secrets = self.region.secrets();
        secrets.push(runner::TOKEN.to_owned());
        secrets
    }
}

/// The saga, and the places of the stores of the worlds that were made.
#[derive(Debug, Clone, Default)]
struct ByWorkflow(Arc<Mutex<Vec<Arc<Leaping>>>>);

impl Subject for ByWorkflow {
    type Input = Subscription;
    type Output = Agent;
    type World = World;

    fn world(&self) -> World {
        let world = World::new();
        self.0.lock().unwrap().push(Arc::clone(&world.place));
        world
    }

    fn saga(&self, world: &World) -> Saga<Subscription, Agent> {
        let Region { cloud, table, callbacks, .. } = &world.region;
        let mut providers = cloud.providers("ops@example.com", callbacks).unwrap();
        // Of the store's time, which leaps.
        providers.join_within = Duration::from_secs(24 * 3_600);
        providers.workflows.within = REPORTS_WITHIN;
        let runs = Arc::new(world.place.open().now_or_never().unwrap()) as Runs;
        hosting(HOST_BY_WORKFLOW, &providers, (table, &runs), &Stage::served(0.0)).unwrap()
    }

    fn input(&self) -> Subscription {
        let order = Subscription::new("demo", "ada", Preset::Small, "nbg1").unwrap();
        order.made_by(MadeBy::Workflow)
    }

    fn equip(&self, builder: EngineBuilder, _: &World) -> EngineBuilder {
        builder.resolver(Cloud::tokens()).keys(LocalKeys::new("test", [7; 32]).unwrap())
    }

    async fn nudge(&self, engine: &Engine, world: &World, _: &RunHead) -> bool {
        world.runner.pass(world.region.cloud.github()).await;
        let mut given = false;
        let kept = mem::take(&mut *world.kept.lock().unwrap());
        for (name, proof, body) in kept {
            let headers = [("authorization", proof.as_slice())];
            let now = SystemClock.wall();
            let told = Told { name: &name, headers: &headers, body: &body, now };
            given |= world.region.callbacks.receive(engine, told).await == Answer::Taken;
        }
        given
    }
}

// covers: S4, S8, S9, S12, S14, S15, R2-04
#[tokio::test]
async fn an_agent_by_a_workflow_survives_crashes() {
    let subject = ByWorkflow::default();
    let made = Arc::clone(&subject.0);
    // A world is made before its store's place is asked for.
    let places = move || std::future::ready(At(made.lock().unwrap().pop().unwrap()));
    let (part, of) = share(7, PARTS, 1);
    let harness = Harness::new(subject, places).calls_in_turn().last_failure_only();
    let report = harness.part(part, of).run().await;
    println!("agent-hosting by a workflow, part {part} of {of}: {report}");
    report.assert_flawless_but_for(2);
    assert!(report.scenarios > 60, "only {} scenarios", report.scenarios);
    assert!(report.ended(RunStatus::RolledBack) > 0 && report.ended(RunStatus::TornDown) > 0);
}

/// The place of one world's store.
#[derive(Debug)]
struct At(Arc<Leaping>);

impl provision_testkit::harness::Place for At {
    type Store = provision_core::MemoryStore;

    async fn open(&self) -> Self::Store {
        self.0.open().await
    }

    async fn pass(&self, by: Duration) {
        self.0.pass(by).await;
    }
}
