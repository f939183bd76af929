//! The other path: a workflow makes the machine and reports what it does.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use agent_hosting::{
    cli::Checked,
    cloud::Cloud,
    host::Host,
    input::{MadeBy, Preset, Subscription},
    reconcile::reconcile,
    runner::{Goes, REPOSITORY, Temper},
    table::{Desired, Row, State, Table},
    web::{DEMO_SECRET, Receiver, Served, callbacks, router},
    workflow::{self, DISPATCHES_MAX, HOST_BY_WORKFLOW, Runs, STEPS},
};
use example_command::stage::Stage;
use provision_adapters::sim::{Fault, FaultRule, RetryAfterForm};
use provision_core::{
    By, Engine, LedgerQuery, LedgerRow, ResourceState, RunId, RunStatus, Secret, WorkerConfig,
    clock, engine::StepStatus, vault::LocalKeys,
};
use provision_store_sqlite::SqliteStore;
use serde_json::Value;

use crate::{
    life::{open, options, running_in_phases, until, working},
    place::Place,
};

/// Pays for an agent whose machine a workflow makes.
async fn pay(host: &Host, id: &str) {
    let order = Subscription::new(id, "acme", Preset::Small, "fsn1").unwrap();
    assert!(host.table.pay(&format!("{id}/1"), &order.made_by(MadeBy::Workflow)).await.unwrap());
}

/// What the ledger knows of a kind.
async fn ledger(host: &Host, kind: &str) -> Vec<LedgerRow> {
    let query = LedgerQuery { kind: Some(kind.to_owned()), ..LedgerQuery::default() };
    host.engine.ledger(&query).await.unwrap()
}

/// What the workflow was told, each time.
fn dispatched(host: &Host) -> Vec<BTreeMap<String, String>> {
    host.cloud().github().with(|sim| sim.run_inputs(REPOSITORY))
}

/// Reconciles until something is so.
async fn so(host: &Host, what: impl Fn(&Host) -> bool + Send + Sync) {
    let looked = async {
        while !what(host) {
            reconcile(host).await.unwrap();
            clock::sleep(Duration::from_millis(10)).await;
        }
    };
    clock::within(Duration::from_secs(120), looked).await.expect("two minutes are enough");
}

/// Reports as the workflow does; answers status and code.
async fn report(host: &Host, name: &str, token: &str, body: &str) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let report = client.post(format!("{}/callbacks/{name}", host.address())).bearer_auth(token);
    let answer = report.body(body.to_owned()).send().await.unwrap();
    let status = answer.status().as_u16();
    let told: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    (status, told["code"].as_str().unwrap().to_owned())
}

// covers: R2-04, R2-19
#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_makes_the_machine_in_the_same_phases_and_it_is_removed_in_the_same_way() {
    let (_dir, host, worker) = working().await;
    // Each report comes three times, and the later one first.
    host.cloud().runner().set_temper(Temper { repeats: 2, backwards: true, ..Temper::default() });
    pay(&host, "a").await;
    let row = running_in_phases(&host, "a").await;
    let servers = ledger(&host, "server").await;
    let id = row.agent.unwrap().server.to_string();
    assert_eq!(servers.len(), 1, "{servers:?}");
    assert_eq!(servers[0].external_id.as_ref().map(|id| id.as_str()), Some(&*id));
    assert!(servers[0].cost.is_some() && servers[0].state == ResourceState::Alive);

    // What was told is no secret, and what is told again is answered as it was.
    let told = dispatched(&host);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(!told[0].values().any(|value| value.contains("tskey-")), "{told:?}");
    let tokens: Value = serde_json::from_str(&told[0]["callbacks"]).unwrap();
    let token = |name: &str| tokens[name].as_str().unwrap().to_owned();
    let body = r#"{"machine":"agent-a"}"#;
    let good = token("vm_created");
    assert_eq!(report(&host, "vm_created", &good, body).await, (202, "taken".to_owned()));
    // Forged: for another name, cut, changed, and none.
    let changed = format!("{}x", &good[..good.len() - 1]);
    for (name, token) in [
        ("terraform_init", good.as_str()),
        ("vm_created", &good[..40]),
        ("vm_created", &changed),
        ("vm_created", ""),
        ("unknown", &good),
    ] {
        assert_eq!(report(&host, name, token, body).await, (401, "refused".to_owned()), "{name}");
    }
    assert_eq!(report(&host, "vm_created", &good, "[").await.0, 422);
    let large = "x".repeat(1 << 20);
    assert_eq!(report(&host, "vm_created", &good, &large).await.0, 413);

    host.table.want(&["a"], Desired::Gone).await.unwrap();
    until(&host, "a", Row::is_settled).await;
    assert!(host.cloud().inventory().is_empty(), "{}", host.cloud().inventory());
    let secret = host.cloud().github().with(|sim| sim.secret_value(REPOSITORY, "JOIN_A"));
    assert_eq!(secret, None, "the join key is gone from the repository");
    let rows = host.engine.ledger(&LedgerQuery::default()).await.unwrap();
    assert!(rows.iter().all(|row| row.state == ResourceState::Gone), "{rows:?}");
    worker.stop().await;
}

// covers: S4, S12, S15
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_comes_after_its_workflow_was_cancelled_is_removed() {
    // Slow enough that a cancelled workflow has seconds left, on a busy machine, too.
    let dir = tempfile::tempdir().unwrap();
    let (host, worker) = open(&Checked { speed: 0.02, ..options(dir.path()) }).await;
    let paused = Temper { goes: Goes::Nowhere, deaf: true, ..Temper::default() };
    host.cloud().runner().set_temper(paused);
    pay(&host, "a").await;
    so(&host, |host| !dispatched(host).is_empty()).await;
    // It was dispatched, so the machine that it may make is known.
    let servers = ledger(&host, "server").await;
    assert_eq!(servers.len(), 1, "{servers:?}");
    assert_eq!((servers[0].state, &servers[0].external_id), (ResourceState::Unknown, &None));
    let run = servers[0].run;
    // The runner has seen the run before it is cancelled, and goes on afterwards.
    clock::sleep(Duration::from_millis(200)).await;
    host.table.want(&["a"], Desired::Gone).await.unwrap();
    let cancelled = |host: &Host| {
        let runs = host.cloud().github().with(|sim| sim.runs(REPOSITORY));
        runs.iter().all(|(_, end)| end.is_some())
    };
    so(&host, cancelled).await;
    host.cloud().runner().set_temper(Temper { goes: Goes::Well, ..paused });
    let made = |host: &Host| {
        let asked = host.cloud().hetzner().requests();
        asked.iter().any(|asked| asked.path.ends_with("/servers") && asked.status == 201)
    };
    so(&host, made).await;
    // Nothing that was to go is made twice, or stays.
    host.cloud().runner().set_temper(Temper::default());
    until(&host, "a", Row::is_settled).await;
    assert!(host.cloud().inventory().is_empty(), "{}", host.cloud().inventory());
    let rows = ledger(&host, "server").await;
    assert!(rows.iter().all(|row| row.run == run && row.state == ResourceState::Gone), "{rows:?}");
    // What the workflow says now is late.
    let tokens: Value = serde_json::from_str(&dispatched(&host)[0]["callbacks"]).unwrap();
    let token = tokens["terraform_init"].as_str().unwrap();
    let late = report(&host, "terraform_init", token, r#"{"machine":"agent-a"}"#).await;
    assert!(late.0 == 410 || late.0 == 202, "late, or told in time: {late:?}");
    worker.stop().await;
}

/// Whether the run of a workflow was looked at.
fn is_looked_at(host: &Host) -> bool {
    let asked = host.cloud().github().requests();
    asked.iter().any(|asked| asked.method == "GET" && asked.path.contains("/actions/runs/"))
}

/// Lets workflows do nothing for now.
fn paused(host: &Host) {
    host.cloud().runner().set_temper(Temper { goes: Goes::Nowhere, ..Temper::default() });
}

// covers: R2-20
#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_that_fails_is_dispatched_once_more_and_leaves_nothing_and_one_mail() {
    let (_dir, host, worker) = working().await;
    // It is seen at work before it fails.
    paused(&host);
    pay(&host, "a").await;
    so(&host, is_looked_at).await;
    host.cloud().runner().set_temper(Temper { goes: Goes::Wrong, ..Temper::default() });
    until(&host, "a", |row| row.state == State::Failed).await;
    assert_eq!(dispatched(&host).len(), DISPATCHES_MAX);
    assert!(host.cloud().inventory().is_empty(), "{}", host.cloud().inventory());
    let mails = || host.cloud().resend().with(|sim| sim.mails_to("ops@example.com"));
    so(&host, |_| !mails().is_empty()).await;
    let text = mails()[0].text.clone().unwrap();
    assert!(text.contains("run_failure") && text.contains("redriven"), "{text}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn looks_at_a_workflow_that_have_no_answer_are_no_end_of_it() {
    let (_dir, host, worker) = working().await;
    paused(&host);
    pay(&host, "a").await;
    so(&host, is_looked_at).await;
    let away = FaultRule::new(Fault::Status(503)).method("GET").path_contains("/actions/runs/");
    host.cloud().github().faults().add(away.times(3));
    so(&host, |host| host.cloud().github().faults().fired().len() >= 3).await;
    host.cloud().runner().set_temper(Temper::default());
    until(&host, "a", |row| row.state == State::Running).await;
    assert_eq!(dispatched(&host).len(), 1);
    worker.stop().await;
}

/// Where a step of a run stands.
async fn stands(host: &Host, run: &RunId, path: &str) -> StepStatus {
    let steps = host.engine.snapshot(run).await.unwrap().steps;
    steps.into_iter().find(|step| step.path == path).unwrap().status
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_the_reports_begins_when_the_workflow_can_be_dispatched() {
    let (_dir, host, worker) = working().await;
    let busy = Fault::RateLimited { retry_after: RetryAfterForm::Seconds(1) };
    let busy = FaultRule::new(busy).method("POST").path_contains("/ssh_keys");
    let busy = host.cloud().hetzner().faults().add(busy);
    pay(&host, "a").await;
    so(&host, |host| host.cloud().hetzner().faults().fired().len() >= 2).await;
    let run = host.table.get("a").await.unwrap().unwrap().run.unwrap();
    assert_eq!(stands(&host, &run, "terraform_init").await, StepStatus::Pending);
    host.cloud().hetzner().faults().remove(busy);
    until(&host, "a", |row| row.state == State::Running).await;
    assert_eq!(stands(&host, &run, "terraform_init").await, StepStatus::Succeeded);
    worker.stop().await;
}

/// Waits until a run stands so.
async fn ended(engine: &Engine, run: &RunId, status: RunStatus) {
    let looked = async {
        while engine.run(run).await.unwrap().status != status {
            clock::sleep(Duration::from_millis(20)).await;
        }
    };
    clock::within(Duration::from_secs(120), looked).await.expect("two minutes are enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_workflow_has_made_is_removed_without_a_wait_for_a_workflow_that_is_over() {
    let (dir, speed) = (tempfile::tempdir().unwrap(), 0.004);
    let cloud = Arc::new(Cloud::start(dir.path(), speed).await.unwrap());
    let store = SqliteStore::open(dir.path().join("provision.db")).await.unwrap();
    let (table, runs) = (Table::open(&store).await.unwrap(), Arc::new(store.clone()) as Runs);
    let (callbacks, receiver) = (callbacks(dir.path()).await.unwrap(), Receiver::default());
    let mut providers = cloud.providers("ops@example.com", &callbacks).unwrap();
    // Longer than anybody waits here.
    providers.workflows.stops_within = Duration::from_secs(3_600);
    let routes = router(&table, Secret::new(DEMO_SECRET), (callbacks, Arc::clone(&receiver)));
    let web = Served::start("127.0.0.1:0".parse().unwrap(), routes.unwrap()).await.unwrap();
    cloud.runner().report_to(web.address());
    let stage = Stage::simulated(&cloud, speed, None);
    let saga = workflow::hosting(HOST_BY_WORKFLOW, &providers, (&table, &runs), &stage).unwrap();
    let builder = Engine::builder(store).register(saga).resolver(Cloud::tokens());
    let keys = LocalKeys::new("test", [7; 32]).unwrap();
    let engine = builder.keys(keys).build().await.unwrap();
    receiver.set(engine.clone()).unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let order = Subscription::new("a", "acme", Preset::Small, "fsn1").unwrap();
    let run = engine.start(HOST_BY_WORKFLOW, &order.made_by(MadeBy::Workflow)).await.unwrap();
    ended(&engine, run.id(), RunStatus::Succeeded).await;
    engine.tear_down(run.id(), By::new("ann", "it is over")).await.unwrap();
    ended(&engine, run.id(), RunStatus::TornDown).await;
    assert!(cloud.inventory().is_empty(), "{}", cloud.inventory());
    worker.stop().await;
}

// covers: R2-01
#[test]
fn a_crash_at_every_step_of_a_workflow_makes_nothing_twice() {
    for step in STEPS {
        let place = Place::new();
        let died = place.run(&["--path", "workflow", "--crash-at", step]);
        assert_eq!(died.code, None, "{step}: {died:?}");
        place.done(&["--path", "workflow"]);
        let kinds = ["ssh_key", "firewall", "server", "device"].map(|kind| place.count(kind));
        assert_eq!(kinds, [1, 1, 1, 1], "{step}: {:?}", place.things());
        place.done(&["--tear-down"]);
        assert_eq!(place.things(), Vec::<String>::new(), "{step}");
    }
}
