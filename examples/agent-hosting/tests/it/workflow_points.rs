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
    workflow::{DISPATCHES_MAX, HOST_BY_WORKFLOW, REPORTS_WITHIN, Runs, hosting},
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
    sim::{Fault, FaultRule, Provider as _, RequestLine},
    webhook::{Answer, Report as Told},
};
use provision_core::{
    Engine, EngineBuilder, Owned, RunId, RunStatus, Saga,
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
            // Accepted, or over already: nothing else stops a run.
            let stopped = |status: u16| matches!(status, 202 | 409);
            !asked.iter().any(|asked| stopped(asked.status) && asked.path.ends_with(&cancel))
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
    report.assert_flawless();
    assert!(report.scenarios > 60, "only {} scenarios", report.scenarios);
    assert!(report.ended(RunStatus::RolledBack) > 0 && report.ended(RunStatus::TornDown) > 0);
}

/// A run of this saga in a world of its own, whose time passes in steps.
struct Life {
    subject: ByWorkflow,
    world: World,
    engine: Engine,
    run: RunId,
}

impl Life {
    async fn begun() -> Self {
        let subject = ByWorkflow::default();
        let world = subject.world();
        let builder = Engine::builder(world.place.open().await).register(subject.saga(&world));
        let engine = subject.equip(builder, &world).build().await.unwrap();
        let run = *engine.start(HOST_BY_WORKFLOW, &subject.input()).await.unwrap().id();
        Self { subject, world, engine, run }
    }

    /// Does what is due, lets workflows work, and lets this time pass.
    async fn step(&self, by: Duration) -> RunStatus {
        self.engine.run_one().await.unwrap();
        let head = self.engine.run(&self.run).await.unwrap();
        self.subject.nudge(&self.engine, &self.world, &head).await;
        self.world.place.pass(by).await;
        head.status
    }

    /// Lets time pass until something is so.
    async fn until(&self, what: impl Fn(&Self, RunStatus) -> bool + Send + Sync) {
        for _ in 0..4_000 {
            let status = self.step(Duration::from_secs(5)).await;
            if what(self, status) {
                return;
            }
            assert!(!status.is_end() && status != RunStatus::Parked, "it ends as {status:?}");
        }
        panic!("five hours are enough");
    }

    /// How many workflows were dispatched.
    fn dispatched(&self) -> usize {
        self.world.region.cloud.github().with(|sim| sim.run_inputs(REPOSITORY).len())
    }
}

#[tokio::test]
async fn a_github_that_does_not_answer_for_an_hour_ends_nothing() {
    let life = Life::begun().await;
    let github = life.world.region.cloud.github();
    let is_look =
        |asked: &RequestLine| asked.method == "GET" && asked.path.contains("/actions/runs/");
    life.until(|_, _| github.requests().iter().any(is_look)).await;
    let away = FaultRule::new(Fault::Status(503)).path_contains("/repos/");
    let away = github.faults().add(away);
    for _ in 0..(61 * 3) {
        let status = life.step(Duration::from_secs(20)).await;
        assert!(matches!(status, RunStatus::Running | RunStatus::Waiting), "{status:?}");
    }
    let asked = github.faults().fired().len();
    assert!(asked > 20, "asked {asked} times in an hour");
    github.faults().remove(away);
    life.until(|_, status| status == RunStatus::Succeeded).await;
    assert_eq!(life.dispatched(), 1);
}

#[tokio::test]
async fn a_dispatch_that_never_arrived_is_none_of_those_that_there_are() {
    let life = Life::begun().await;
    let lost = FaultRule::new(Fault::RefuseBefore).method("POST").path_contains("/dispatches");
    life.world.region.cloud.github().faults().add(lost.times(1));
    life.world.runner.set_temper(Temper { goes: Goes::Wrong, ..Temper::default() });
    // Whoever runs workflows works in the same step.
    life.until(|life, _| life.dispatched() == 1).await;
    life.world.runner.set_temper(Temper::default());
    life.until(|_, status| status == RunStatus::Succeeded).await;
    assert_eq!(life.dispatched(), DISPATCHES_MAX);
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
