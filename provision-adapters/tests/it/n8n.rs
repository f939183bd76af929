//! n8n: the way a webhook workflow comes to answer, and what the instance's answers mean.

use provision_adapters::{
    http::BaseUrl,
    n8n::{
        ActivationSpec, Credential, CredentialMade, CredentialSpec, CredentialValue, N8n,
        N8nConfig, Node, Template, Workflow, WorkflowActivation, WorkflowMade, WorkflowSpec,
        sim::{KEY, N8nSim, Release},
    },
    sim::{Fault, FaultRule, InventoryItem, SimOptions, SimServer},
};
use provision_core::{
    Effect, ExternalId, Found, Readiness, Resource, RunId, SecretRef, StepContext, Verdict,
};
use provision_testkit::solo::SoloHost;
use uuid::Uuid;

use crate::{
    spec::{SpecSet, check_exchanges},
    vercel::{build, settled},
};

/// A simulated n8n, a client of it, and a host for single resources.
pub(crate) struct World {
    pub(crate) server: SimServer<N8nSim>,
    pub(crate) n8n: N8n,
    pub(crate) host: SoloHost,
}

impl World {
    pub(crate) fn start() -> Self {
        let options = SimOptions::default().with_recorded_exchanges();
        let server = SimServer::start(N8nSim::new(), options).unwrap();
        let n8n = client(&server.url());
        let host = SoloHost::new().with_secret("N8N_API_KEY", KEY);
        Self { server, n8n, host }
    }

    pub(crate) fn cx(&self, path: &str) -> StepContext {
        self.host.context(run(1), path)
    }

    pub(crate) fn of(&self, kind: &str) -> Vec<InventoryItem> {
        self.server.inventory().into_iter().filter(|item| item.kind == kind).collect()
    }

    pub(crate) async fn credential(&self) -> CredentialMade {
        let cx = self.cx("credential");
        build(&self.host, &cx, &Credential::new(&self.n8n), &header()).await.1
    }

    /// Makes a credential and an inactive workflow.
    pub(crate) async fn workflow(&self) -> (WorkflowSpec, WorkflowMade) {
        let spec = wanted(self.credential().await);
        let cx = self.cx("workflow");
        let made = build(&self.host, &cx, &Workflow::new(&self.n8n), &spec).await.1;
        (spec, made)
    }

    /// Every exchange with the API fits its document; webhooks are not the API's.
    pub(crate) fn check(&self) {
        let Some(spec) = SpecSet::load("n8n") else { return };
        let spec = spec.exempt("/webhook").exempt("/healthz");
        check_exchanges(&spec, &self.server.exchanges());
    }
}

pub(crate) fn client(url: &str) -> N8n {
    let base = BaseUrl::parse(url).unwrap();
    N8n::new(N8nConfig::new(base, SecretRef::named("N8N_API_KEY"))).unwrap()
}

pub(crate) fn run(number: u128) -> RunId {
    RunId::from_uuid(Uuid::from_u128(number))
}

pub(crate) fn header() -> CredentialSpec {
    CredentialSpec::header("Intake acme", "X-Intake-Key", CredentialValue::Generated)
}

pub(crate) fn template() -> Template {
    let set = serde_json::json!({ "values": { "string": [{ "name": "client", "value": "<<client>>" }] } });
    Template::webhook("client-intake", "1.2.0", "client-<<client>>/post-created").then(Node {
        name: "Set".to_owned(),
        kind: "n8n-nodes-base.set".to_owned(),
        type_version: 3.4,
        position: (220.0, 0.0),
        parameters: set.as_object().unwrap().clone(),
        needs: Vec::new(),
    })
}

pub(crate) fn wanted(credential: CredentialMade) -> WorkflowSpec {
    WorkflowSpec::new("Intake acme", template())
        .with_value("client", "acme")
        .with_credential(credential)
}

pub(crate) async fn call(url: &str, header: Option<&str>) -> u16 {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = http.post(url).json(&serde_json::json!({ "hello": "world" }));
    if let Some(value) = header {
        request = request.header("x-intake-key", value);
    }
    request.send().await.unwrap().status().as_u16()
}

// covers: R1-77, R1-79, R2-54
#[tokio::test]
async fn a_webhook_answers_exactly_while_its_workflow_is_active() {
    let world = World::start();
    let (spec, made) = world.workflow().await;
    assert_eq!(made.template, "client-intake@1.2.0");
    let url = made.webhook_url.clone().unwrap();
    assert_eq!(url, format!("{}/webhook/client-acme/post-created", world.server.url()));
    assert_eq!(call(&url, None).await, 404, "not active yet");

    let activation = WorkflowActivation::new(&world.n8n);
    let (cx, active) = (world.cx("activation"), ActivationSpec::new(made.clone()));
    let (id, live) = build(&world.host, &cx, &activation, &active).await;
    assert_eq!(live.webhook_url.as_deref(), Some(url.as_str()));
    assert_eq!(call(&url, Some("wrong")).await, 403);
    let key = world.cx("credential").reveal(&spec.credentials[0].generated.clone().unwrap()).await;
    assert_eq!(call(&url, Some(key.unwrap().expose())).await, 200);
    let runs = world.server.with(|sim| sim.executions_of(&made.id));
    assert_eq!(runs, 1, "the proof that it is there started nothing");

    for _ in 0..2 {
        activation.delete(&cx, &active, &id).await.unwrap();
    }
    assert_eq!(call(&url, None).await, 404);
    let (workflow, credential) = (Workflow::new(&world.n8n), Credential::new(&world.n8n));
    for _ in 0..2 {
        let id = ExternalId::new(made.id.clone());
        workflow.delete(&world.cx("workflow"), &spec, &id).await.unwrap();
        let id = ExternalId::new(spec.credentials[0].id.clone());
        credential.delete(&world.cx("credential"), &header(), &id).await.unwrap();
    }
    activation.delete(&cx, &active, &id).await.unwrap();
    assert_eq!(world.server.inventory(), []);
    world.check();
}

// covers: R1-78
#[tokio::test]
async fn a_crash_between_creating_and_activating_ends_with_one_active_workflow() {
    let world = World::start();
    let spec = wanted(world.credential().await);
    let workflow = Workflow::new(&world.n8n);
    // The process dies when the workflow is there and nobody knows of it.
    {
        let cx = world.cx("workflow");
        let intent = world.host.intend(&cx, &workflow, &spec);
        world
            .server
            .faults()
            .add(FaultRule::new(Fault::DropAfter).path_contains("workflows").once());
        workflow.create(&cx, &spec, &intent).await.unwrap_err();
    }
    let cx = world.host.attempt(run(1), "workflow", 2, Default::default());
    let Found::Ours(id) = workflow.find(&cx, &spec).await.unwrap() else { panic!("not found") };
    let made = settled(&cx, &workflow, &spec, &id).await.unwrap();
    // And again right after it was activated.
    let activation = WorkflowActivation::new(&world.n8n);
    let active = ActivationSpec::new(made);
    {
        let cx = world.cx("activation");
        assert_eq!(activation.find(&cx, &active).await.unwrap(), Found::Absent);
        let intent = world.host.intend(&cx, &activation, &active);
        world
            .server
            .faults()
            .add(FaultRule::new(Fault::ResetAfter).path_contains("activate").once());
        let error = activation.create(&cx, &active, &intent).await.unwrap_err();
        assert_eq!(error.effect(), Effect::Unknown);
    }
    let cx = world.host.attempt(run(1), "activation", 2, Default::default());
    let Found::Foreign(found) = activation.find(&cx, &active).await.unwrap() else {
        panic!("an activation has no place for a mark")
    };
    assert!(!found.markable, "so the intent is the proof");
    settled(&cx, &activation, &active, &found.id).await.unwrap();
    let items = world.of("workflow");
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].labels["active"], "true");
}

#[tokio::test]
async fn a_webhook_that_was_not_registered_is_activated_once_more() {
    let world = World::start();
    let (_, made) = world.workflow().await;
    let activation = WorkflowActivation::new(&world.n8n);
    let (cx, active) = (world.cx("activation"), ActivationSpec::new(made.clone()));
    world.server.with(|sim| sim.forget_webhooks(1));
    build(&world.host, &cx, &activation, &active).await;
    assert_eq!(call(made.webhook_url.as_deref().unwrap(), None).await, 403, "it is there");

    // Twice is a failure that says so, and a retry undoes it first.
    activation.delete(&cx, &active, &ExternalId::new(made.id.clone())).await.unwrap();
    world.server.with(|sim| sim.forget_webhooks(2));
    let intent = world.host.intend(&cx, &activation, &active);
    let id = activation.create(&cx, &active, &intent).await.unwrap();
    let error = settled(&cx, &activation, &active, &id).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("webhook_not_registered", Effect::Applied));
    assert!(error.is_broken());
    assert!(!format!("{error} {error:?}").contains("canary"), "the stack is not told");
}

#[tokio::test]
async fn an_activation_that_did_nothing_is_noticed() {
    let world = World::start();
    let (_, made) = world.workflow().await;
    let activation = WorkflowActivation::new(&world.n8n);
    let active = ActivationSpec::new(made);
    world.server.with(|sim| sim.set_mute(true));
    let cx = world.cx("activation");
    let intent = world.host.intend(&cx, &activation, &active);
    let id = activation.create(&cx, &active, &intent).await.unwrap();
    let look = activation.ready(&cx, &active, &id).await.unwrap();
    assert!(matches!(look, Readiness::NotYet { .. }));
    let memory = provision_core::context::Memory {
        polling_since: Some(provision_core::Timestamp::ZERO),
        ..Default::default()
    };
    let late = world.host.attempt(run(1), "activation", 2, memory);
    let look = activation.ready(&late, &active, &id).await.unwrap();
    assert_eq!(look, Readiness::Broken { code: "not_active".to_owned() });
}

#[tokio::test]
async fn newer_releases_are_published() {
    for release in [Release::V2_41, Release::PublishOnly] {
        let world = World::start();
        world.server.with(|sim| sim.set_release(release));
        let (_, made) = world.workflow().await;
        let activation = WorkflowActivation::new(&world.n8n);
        let active = ActivationSpec::new(made.clone());
        build(&world.host, &world.cx("activation"), &activation, &active).await;
        assert_eq!(world.server.with(|sim| sim.active()), [made.id]);
        world.check();
    }
}

#[tokio::test]
async fn a_path_with_parameters_is_called_below_the_webhooks_id() {
    let world = World::start();
    let credential = world.credential().await;
    let template = Template::webhook("orders", "1.0.0", "cust/:id/x");
    let spec = WorkflowSpec::new("Orders", template).with_credential(credential);
    let workflow = Workflow::new(&world.n8n);
    let (_, made) = build(&world.host, &world.cx("workflow"), &workflow, &spec).await;
    let url = made.webhook_url.clone().unwrap();
    assert!(url.ends_with("/cust/:id/x"), "{url}");
    let activation = WorkflowActivation::new(&world.n8n);
    build(&world.host, &world.cx("activation"), &activation, &ActivationSpec::new(made)).await;
    assert_eq!(call(&url.replace(":id", "5"), None).await, 403);
    let plain = format!("{}/webhook/cust/5/x", world.server.url());
    assert_eq!(call(&plain, None).await, 404);
}

// covers: S11
#[tokio::test]
async fn workflows_of_others_are_never_touched() {
    let world = World::start();
    // The same name, and another run's workflow of the same spec.
    let theirs = world.server.with(|sim| sim.seed_workflow("Intake acme", "GET", "theirs", true));
    let (spec, made) = world.workflow().await;
    let workflow = Workflow::new(&world.n8n);
    for (number, path) in [(2, "workflow"), (1, "other")] {
        let cx = world.host.context(run(number), path);
        assert_eq!(workflow.find(&cx, &spec).await.unwrap(), Found::Absent);
    }
    let owned = workflow
        .list_owned(&world.host.context(run(9), "sweep"))
        .await
        .unwrap()
        .complete()
        .unwrap();
    assert_eq!(owned.len(), 1);
    assert_eq!(owned[0].mark, Some(world.cx("workflow").mark()));
    assert!(owned[0].created_at.is_some());
    let id = ExternalId::new(made.id);
    workflow.delete(&world.cx("workflow"), &spec, &id).await.unwrap();
    assert_eq!(world.server.with(|sim| sim.active()), [theirs]);
    let owned = Credential::new(&world.n8n)
        .list_owned(&world.cx("sweep"))
        .await
        .unwrap()
        .complete()
        .unwrap();
    assert_eq!(owned.len(), 1);
    assert!(owned[0].name.as_deref().unwrap().contains(&world.cx("credential").mark().token()));
}

#[tokio::test]
async fn a_path_that_another_workflow_owns_is_a_conflict_for_a_person_to_solve() {
    let world = World::start();
    world.server.with(|sim| sim.seed_workflow("x", "POST", "client-acme/post-created", true));
    let (_, made) = world.workflow().await;
    let activation = WorkflowActivation::new(&world.n8n);
    let (cx, active) = (world.cx("activation"), ActivationSpec::new(made));
    let intent = world.host.intend(&cx, &activation, &active);
    let error = activation.create(&cx, &active, &intent).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("webhook_conflict", Effect::None));
    assert_eq!(error.verdict(), &Verdict::Permanent);
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn a_workflow_is_found_among_many_pages() {
    let world = World::start();
    world.server.with(|sim| {
        for number in 0..600 {
            // A substring of ours, and not ours.
            sim.seed_workflow(&format!("{number} [prov:zzz"), "GET", "p", false);
        }
    });
    let (spec, made) = world.workflow().await;
    let workflow = Workflow::new(&world.n8n);
    let found = workflow.find(&world.cx("workflow"), &spec).await.unwrap();
    assert_eq!(found, Found::Ours(made.id.clone().into()));
    let owned = workflow.list_owned(&world.cx("sweep")).await.unwrap().complete().unwrap();
    assert!(owned.iter().any(|o| o.id.as_str() == made.id && o.mark.is_some()));
    assert_eq!(owned.len(), 601);
}

#[tokio::test]
async fn twins_are_candidates_with_their_age() {
    let world = World::start();
    let spec = wanted(world.credential().await);
    let workflow = Workflow::new(&world.n8n);
    let cx = world.cx("workflow");
    world.server.faults().add(FaultRule::new(Fault::Duplicate).method("POST").once());
    let intent = world.host.intend(&cx, &workflow, &spec);
    workflow.create(&cx, &spec, &intent).await.unwrap();
    let Found::Many(twins) = workflow.find(&cx, &spec).await.unwrap() else { panic!("not many") };
    assert_eq!(twins.len(), 2);
    assert!(twins.iter().all(|twin| twin.marked && twin.created_at.is_some()));
}

#[tokio::test]
async fn a_spec_that_cannot_work_is_refused_before_anything_is_sent() {
    let world = World::start();
    let credential = world.credential().await;
    let sent = world.server.requests().len();
    let good = || wanted(credential.clone());
    let mut unnamed = good();
    unnamed.values.clear();
    let mut bare = good();
    bare.credentials.clear();
    let mut long = good();
    long.name = "x".repeat(120);
    let mut versionless = good();
    versionless.template.version = "1".to_owned();
    let cases = [
        unnamed,
        bare,
        long,
        versionless,
        good().with_value("client", "a b"),
        good().with_value("client", "/../admin"),
        good().with_value("client", "?x"),
    ];
    let workflow = Workflow::new(&world.n8n);
    for (number, spec) in cases.into_iter().enumerate() {
        let cx = world.cx("x");
        let intent = world.host.intend(&cx, &workflow, &spec);
        let error = workflow.create(&cx, &spec, &intent).await.unwrap_err();
        assert_eq!((error.code(), error.effect()), ("invalid_spec", Effect::None), "{number}");
    }
    assert_eq!(world.server.requests().len(), sent);
}

#[tokio::test]
async fn a_restarted_instance_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let options = || SimOptions::default().with_persist(folder.path().join("n8n.json"));
    let server = SimServer::start(N8nSim::new(), options()).unwrap();
    let world = World { n8n: client(&server.url()), server, host: World::start().host };
    let (_, made) = world.workflow().await;
    let activation = WorkflowActivation::new(&world.n8n);
    build(&world.host, &world.cx("activation"), &activation, &ActivationSpec::new(made)).await;
    let before = world.server.inventory();
    world.server.stop();
    let server = SimServer::start(N8nSim::new(), options()).unwrap();
    assert_eq!(server.inventory(), before);
    let url = format!("{}/webhook/client-acme/post-created", server.url());
    assert_eq!(call(&url, None).await, 403, "its webhooks are there again");
}
