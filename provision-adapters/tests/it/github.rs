//! GitHub: the happy path, whose a repository is, limits, and the simulator's own checklist.

use std::{collections::BTreeMap, time::Duration};

use provision_adapters::{
    github::{
        Account, Dispatch, DispatchSpec, Event, GitHub, GitHubConfig, RepoFromTemplate,
        RepoSecrets, RepoSpec, RepoVariables, SecretsSpec, SendEvent, StopRuns, VariablesSpec,
        sim::{GitHubSim, Limits, Token},
    },
    http::BaseUrl,
    sim::{Fault, FaultRule, RetryAfterForm, SimOptions, SimServer},
};
use provision_core::{
    Compensator, Effect, ExternalId, Found, Readiness, Resource, RunId, Secret, SecretRef, Step,
    StepContext, StepError, Undo, Verdict, context::Memory,
};
use provision_testkit::solo::SoloHost;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    github_sim::raw,
    spec::{SpecSet, check_exchanges},
};

/// A token that must never be seen in any text we produce.
pub(crate) const CANARY: &str = "ghp_CANARY0token0that0must0never0show";
/// A secret value that must never be seen either.
pub(crate) const CANARY_VALUE: &str = "postgres://CANARY-value";

/// Longest time of a call.
const PATIENT: Duration = Duration::from_secs(10);
/// Longest time of a call that gets no answer in time.
const HASTY: Duration = Duration::from_millis(500);

/// A simulated GitHub, the adapter for it, and a host that knows the token.
pub(crate) struct World {
    pub(crate) server: SimServer<GitHubSim>,
    pub(crate) host: SoloHost,
    pub(crate) github: GitHub,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(SimOptions::default().with_speed(0.0).with_recorded_exchanges())
    }

    pub(crate) fn with(options: SimOptions) -> Self {
        let server = SimServer::start(GitHubSim::acme(CANARY), options).unwrap();
        let host = SoloHost::new()
            .with_secret("GITHUB_TOKEN", CANARY)
            .with_secret("DB_URL", CANARY_VALUE)
            .with_call_max(PATIENT);
        let github = GitHub::new(config(&server.url())).unwrap();
        Self { server, host, github }
    }

    /// Lets a fault happen. A slow answer is not waited for longer than it has to be, until
    /// [`Self::recovers`].
    pub(crate) fn suffers(&self, fault: &Fault, rule: FaultRule) {
        if let Fault::SlowHeaders(_) = fault {
            drop(self.host.clone().with_call_max(HASTY));
        }
        self.server.faults().add(rule);
    }

    /// Waits for answers as long as before.
    pub(crate) fn recovers(&self) {
        drop(self.host.clone().with_call_max(PATIENT));
    }

    pub(crate) fn cx(&self, path: &str) -> StepContext {
        self.host.context(run(1), path)
    }

    pub(crate) fn repos(&self) -> RepoFromTemplate {
        RepoFromTemplate::new(&self.github)
    }

    /// Makes `acme/site` and waits for it, as the engine would.
    pub(crate) async fn site(&self) -> ExternalId {
        let (cx, repos) = (self.cx("repo"), self.repos());
        let intent = self.host.intend(&cx, &repos, &spec());
        let id = repos.create(&cx, &spec(), &intent).await.unwrap();
        ready(&repos, &cx, &spec(), &id).await;
        id
    }

    pub(crate) fn kinds(&self) -> Vec<String> {
        self.server.inventory().into_iter().map(|item| item.kind).collect()
    }
}

pub(crate) fn config(url: &str) -> GitHubConfig {
    let account = Account::Organization("acme".to_owned());
    GitHubConfig::new(account, SecretRef::named("GITHUB_TOKEN"))
        .with_base(BaseUrl::parse(url).unwrap())
        .with_body_bytes_max(256 << 10)
}

pub(crate) fn run(n: u128) -> RunId {
    RunId::from_uuid(Uuid::from_u128(n))
}

pub(crate) fn spec() -> RepoSpec {
    RepoSpec::from_template("acme/template", "Site")
        .with_description("Site of a client")
        .with_sentinel("README.md")
}

pub(crate) async fn ready<R: Resource>(
    resource: &R,
    cx: &StepContext,
    spec: &R::Spec,
    id: &ExternalId,
) -> R::Output {
    for _ in 0..1_500 {
        match resource.ready(cx, spec, id).await.unwrap() {
            Readiness::Ready(output) => return output,
            Readiness::NotYet { .. } => tokio::time::sleep(Duration::from_millis(20)).await,
            Readiness::Broken { code } => panic!("broken: {code}"),
        }
    }
    panic!("never ready");
}

/// The number of a repository, as a spec names it.
pub(crate) fn number(id: &ExternalId) -> u64 {
    id.as_str().parse().unwrap()
}

/// Every text an error can become, with all its causes.
pub(crate) fn all_texts(error: &StepError) -> String {
    let mut text = format!("{error} {error:?} {error:#?} {:?}", error.hint());
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!("{cause} {cause:?}"));
        source = cause.source();
    }
    text
}

// covers: R2-54, R1-39, R1-73, R1-90
#[tokio::test]
async fn a_repository_is_made_marked_waited_for_and_deleted() {
    let world = World::with(SimOptions::default().with_speed(0.05).with_recorded_exchanges());
    let (cx, repos) = (world.cx("repo"), world.repos());
    assert_eq!(repos.find(&cx, &spec()).await.unwrap(), Found::Absent);
    let intent = world.host.intend(&cx, &repos, &spec());
    let id = repos.create(&cx, &spec(), &intent).await.unwrap();
    assert!(matches!(repos.ready(&cx, &spec(), &id).await.unwrap(), Readiness::NotYet { .. }));
    let output = ready(&repos, &cx, &spec(), &id).await;
    assert_eq!(output.full_name, "acme/Site");
    assert_eq!(output.default_branch, "main");
    assert!(output.html_url.ends_with("/acme/Site"), "{output:?}");
    assert!(output.clone_url.ends_with("/acme/Site.git"), "{output:?}");
    let sent = world.server.exchanges().into_iter().find(|e| e.request.method == "POST").unwrap();
    assert_eq!(sent.request.path, ["repos", "acme", "template", "generate"]);
    let body: BTreeMap<String, Value> = serde_json::from_slice(&sent.request.body).unwrap();
    let fields: Vec<&str> = body.keys().map(String::as_str).collect();
    let documented = ["description", "include_all_branches", "name", "owner", "private"];
    assert_eq!(fields, documented);
    assert_eq!((&body["owner"], &body["include_all_branches"]), (&"acme".into(), &false.into()));
    assert_eq!((&body["name"], &body["private"]), (&"Site".into(), &true.into()));
    assert_eq!(output.id.to_string(), id.as_str());
    let topics = world.server.with(|sim| sim.topics("acme/site"));
    assert!(topics.contains(&format!("provision-run-{}", run(1))), "{topics:?}");

    let listed = repos.list_owned(&cx).await.unwrap().complete().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].id, id);
    assert_eq!(listed[0].mark, Some(cx.mark()));
    let items = world.server.inventory();
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].labels["provision-run"], run(1).to_string());

    repos.delete(&cx, &spec(), &id).await.unwrap();
    assert!(world.server.inventory().is_empty());
    repos.delete(&cx, &spec(), &id).await.unwrap();
    assert_eq!(repos.find(&cx, &spec()).await.unwrap(), Found::Absent);
    assert!(repos.list_owned(&cx).await.unwrap().complete().unwrap().is_empty());
}

// covers: X1
#[tokio::test]
async fn every_exchange_fits_the_providers_specification() {
    let world = World::new();
    everything(&world).await;
    let Some(spec) = SpecSet::load("github") else { return };
    // Where redirects of renamed repositories lead, and what a user is in an organization; both are
    // documented, and not in the document.
    let spec = spec.exempt("/repositories/").exempt("/user/memberships/");
    check_exchanges(&spec, &world.server.exchanges());
}

/// One call of everything, from nothing to nothing.
async fn everything(world: &World) {
    let (cx, repos) = (world.cx("repo"), world.repos());
    repos.find(&cx, &spec()).await.unwrap();
    let id = world.site().await;
    let secrets = RepoSecrets::new(&world.github);
    let wanted = SecretsSpec::new(number(&id), "acme/site")
        .with("DB_URL", SecretRef::named("DB_URL"))
        .with("API_KEY", SecretRef::named("DB_URL"));
    round(world, "secrets", secrets, wanted, || {
        let value = world.server.with(|sim| sim.secret_value("acme/site", "API_KEY"));
        assert_eq!(value.as_deref(), Some(CANARY_VALUE));
    })
    .await;
    let variables = RepoVariables::new(&world.github);
    let wanted =
        VariablesSpec::new(number(&id), "acme/site").with("REGION", "eu").with("TIER", "2");
    round(world, "variables", variables, wanted, || {
        let value = world.server.with(|sim| sim.variable_value("acme/site", "TIER"));
        assert_eq!(value.as_deref(), Some("2"));
    })
    .await;
    round(world, "deploy", Dispatch::new(&world.github), deploy(), || {
        assert_eq!(world.server.with(|sim| sim.runs("acme/site")).len(), 1);
    })
    .await;
    let (cx, event) = (world.cx("event"), Event::new("acme/site", "provisioned"));
    let event = event.with("client", 7.into());
    SendEvent::new(&world.github).run(&cx, event.clone()).await.unwrap();
    StopRuns::new(&world.github).compensate(&cx, event, Undo::Unknown(vec![])).await.unwrap();
    let cx = world.cx("repo");
    repos.list_owned(&cx).await.unwrap().complete().unwrap();
    repos.delete(&cx, &spec(), &id).await.unwrap();
    repos.delete(&cx, &spec(), &id).await.unwrap();
    assert!(world.server.inventory().is_empty());
}

/// Finds nothing, creates, waits, checks, and deletes twice.
async fn round<R: Resource>(
    world: &World,
    path: &str,
    resource: R,
    wanted: R::Spec,
    check: impl FnOnce(),
) {
    let cx = world.cx(path);
    assert_eq!(resource.find(&cx, &wanted).await.unwrap(), Found::Absent);
    let intent = world.host.intend(&cx, &resource, &wanted);
    let id = resource.create(&cx, &wanted, &intent).await.unwrap();
    ready(&resource, &cx, &wanted, &id).await;
    check();
    resource.delete(&cx, &wanted, &id).await.unwrap();
    resource.delete(&cx, &wanted, &id).await.unwrap();
}

pub(crate) fn deploy() -> DispatchSpec {
    DispatchSpec::new("acme/site", "deploy.yml", "main")
        .with_input("environment", "production")
        .with_key_input("provision_key")
        .until_succeeded()
}

// covers: S7
#[tokio::test]
async fn the_key_by_which_a_run_is_found_again_is_not_written_over() {
    let world = World::new();
    world.site().await;
    let before = world.server.inventory();
    let (cx, wanted) = (world.cx("deploy"), deploy());
    let dispatch = Dispatch::new(&world.github)
        .with_input_at_sending("provision_key", |_| Secret::new("another"));
    let intent = world.host.intend(&cx, &dispatch, &wanted);
    let error = dispatch.create(&cx, &wanted, &intent).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("key_input_taken", Effect::None));
    assert_eq!(world.server.inventory(), before);
}

// covers: S11
#[tokio::test]
async fn only_the_mark_of_this_run_and_step_makes_it_ours() {
    let world = World::new();
    let repos = world.repos();
    let id = world.site().await;
    let cases = [
        (world.host.context(run(1), "repo"), true),
        (world.host.context(run(2), "repo"), false),
        (world.host.context(run(1), "other"), false),
    ];
    for (cx, ours) in cases {
        match repos.find(&cx, &spec()).await.unwrap() {
            Found::Ours(found) => assert!(ours && found == id),
            Found::Foreign(foreign) => {
                assert!(!ours && foreign.markable);
                assert_eq!(foreign.owner.unwrap().run(), run(1));
            }
            other => panic!("{other:?}"),
        }
    }
}

// covers: S11, R1-38
#[tokio::test]
async fn a_foreign_repository_is_named_and_left_untouched() {
    let world = World::new();
    let id = world.server.with(|sim| sim.add_foreign("acme/site", "precious")).to_string();
    let before = world.server.inventory();
    let (cx, repos) = (world.cx("repo"), world.repos());
    let Found::Foreign(foreign) = repos.find(&cx, &spec()).await.unwrap() else {
        panic!("not foreign")
    };
    assert_eq!((foreign.id.as_str(), &foreign.owner), (id.as_str(), &None));
    assert!(foreign.created_at.is_some());
    let intent = world.host.intend(&cx, &repos, &spec());
    let error = repos.create(&cx, &spec(), &intent).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("name_taken", Effect::Unknown));
    // Used as it is: ready looks, and neither marks nor changes it.
    ready(&repos, &cx, &spec(), &foreign.id).await;
    assert!(repos.list_owned(&cx).await.unwrap().complete().unwrap().is_empty());
    assert_eq!(world.server.inventory(), before);
    assert!(world.server.with(|sim| sim.topics("acme/site")).is_empty());
}

// covers: S11
#[tokio::test]
async fn values_that_were_there_before_are_foreign() {
    let world = World::new();
    let id = world.site().await;
    let cx = world.cx("variables");
    let variables = RepoVariables::new(&world.github);
    let theirs = VariablesSpec::new(number(&id), "acme/site").with("REGION", "us");
    let intent = world.host.intend(&cx, &variables, &theirs);
    variables.create(&cx, &theirs, &intent).await.unwrap();
    let ours = VariablesSpec::new(number(&id), "acme/site").with("REGION", "eu").with("TIER", "1");
    match variables.find(&cx, &ours).await.unwrap() {
        Found::Foreign(foreign) => assert!(!foreign.markable && foreign.owner.is_none()),
        other => panic!("{other:?}"),
    }
    let id = ExternalId::from("acme/site#x");
    let state = variables.ready(&cx, &ours, &id).await.unwrap();
    assert_eq!(state, Readiness::Broken { code: "value_differs".to_owned() });
    let value = world.server.with(|sim| sim.variable_value("acme/site", "REGION"));
    assert_eq!(value.as_deref(), Some("us"), "not overwritten");
}

// covers: S11, S14
#[tokio::test]
async fn a_renamed_repository_is_recognised_and_its_successor_is_not_deleted() {
    let world = World::new();
    let (cx, repos) = (world.cx("repo"), world.repos());
    let id = world.site().await;
    world.server.with(|sim| sim.rename("acme/Site", "old-site"));
    assert_eq!(repos.find(&cx, &spec()).await.unwrap(), Found::Ours(id.clone()));
    assert_eq!(ready(&repos, &cx, &spec(), &id).await.full_name, "acme/old-site");
    let successor = world.server.with(|sim| sim.add_foreign("acme/site", "theirs"));
    repos.delete(&cx, &spec(), &id).await.unwrap();
    let left = world.server.inventory();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].id, successor.to_string());
}

#[tokio::test]
async fn an_edited_description_does_not_lose_the_mark() {
    let world = World::new();
    let id = world.site().await;
    let (cx, repos) = (world.cx("repo"), world.repos());
    let patch = raw(&world, "PATCH", "/repos/acme/site", r#"{"description":"edited"}"#);
    assert_eq!(patch.0, 200);
    assert_eq!(repos.find(&cx, &spec()).await.unwrap(), Found::Ours(id.clone()));
    let other = world.host.context(run(2), "repo");
    match repos.find(&other, &spec()).await.unwrap() {
        Found::Foreign(foreign) => assert_eq!(foreign.owner.unwrap().run(), run(1)),
        other => panic!("{other:?}"),
    }
    assert_eq!(repos.list_owned(&cx).await.unwrap().complete().unwrap()[0].id, id);
}

// covers: S7, S12
#[tokio::test]
async fn a_404_of_a_token_that_sees_nothing_is_not_absent() {
    let cases = [
        (Token::outsider("octo"), "ghost", "owner_invisible"),
        (Token::classic("octo", &["repo"]), "acme", "cannot_delete"),
    ];
    for (token, org, code) in cases {
        let sim = GitHubSim::acme("other").with_token(CANARY, token);
        let server = SimServer::start(sim, SimOptions::default().with_speed(0.0)).unwrap();
        let mut config = config(&server.url());
        config.account = Account::Organization(org.to_owned());
        let github = GitHub::new(config).unwrap();
        let host = SoloHost::new().with_secret("GITHUB_TOKEN", CANARY);
        let (cx, repos) = (host.context(run(1), "repo"), RepoFromTemplate::new(&github));
        let error = match repos.find(&cx, &spec()).await {
            Ok(found) => {
                assert_eq!(found, Found::Absent);
                let intent = host.intend(&cx, &repos, &spec());
                repos.create(&cx, &spec(), &intent).await.unwrap_err()
            }
            Err(error) => error,
        };
        assert_eq!((error.code(), error.effect()), (code, Effect::None));
        assert_eq!(error.verdict(), &Verdict::Permanent);
        assert!(server.requests().iter().all(|line| line.method == "GET"), "nothing was created");
    }
}

#[tokio::test]
async fn an_unusable_template_is_refused_before_anything_is_made() {
    let world = World::new();
    world.server.with(|sim| sim.add_foreign("acme/plain", "no template"));
    let (cx, repos) = (world.cx("repo"), world.repos());
    for (template, code) in [("acme/plain", "not_a_template"), ("acme/none", "no_such_template")] {
        let spec = RepoSpec::from_template(template, "site");
        let intent = world.host.intend(&cx, &repos, &spec);
        let error = repos.create(&cx, &spec, &intent).await.unwrap_err();
        assert_eq!((error.code(), error.effect()), (code, Effect::None));
    }
    let spec = RepoSpec::from_template("acme/template", "my site");
    assert_eq!(repos.find(&cx, &spec).await.unwrap_err().code(), "bad_name");
    assert!(world.server.requests().iter().all(|line| line.method == "GET"));
}

#[tokio::test]
async fn a_repository_that_became_public_is_broken_and_not_released() {
    let world = World::new();
    let id = world.site().await;
    assert_eq!(raw(&world, "PATCH", "/repos/acme/site", r#"{"private":false}"#).0, 200);
    let state = world.repos().ready(&world.cx("repo"), &spec(), &id).await.unwrap();
    assert_eq!(state, Readiness::Broken { code: "public".to_owned() });
}

#[tokio::test]
async fn a_rotated_key_is_read_again_and_the_value_arrives() {
    let world = World::new();
    let id = world.site().await;
    let (cx, secrets) = (world.cx("secrets"), RepoSecrets::new(&world.github));
    let wanted =
        SecretsSpec::new(number(&id), "acme/site").with("DB_URL", SecretRef::named("DB_URL"));
    let put = FaultRule::new(Fault::Status(422)).method("PUT").path_contains("/secrets/").once();
    world.server.faults().add(put);
    let intent = world.host.intend(&cx, &secrets, &wanted);
    let error = secrets.create(&cx, &wanted, &intent).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("key_rotated", Effect::None));
    world.server.with(|sim| sim.rotate_key("acme/site"));
    secrets.create(&cx, &wanted, &intent).await.unwrap();
    let value = world.server.with(|sim| sim.secret_value("acme/site", "DB_URL"));
    assert_eq!(value.as_deref(), Some(CANARY_VALUE));
}

// covers: S9
#[tokio::test]
async fn an_event_is_not_sent_again_when_one_of_its_runs_is_there() {
    let world = World::new();
    world.site().await;
    let event = Event::new("acme/site", "provisioned");
    let step = SendEvent::new(&world.github);
    let lost = FaultRule::new(Fault::DropAfter).method("POST").path_contains("/dispatches").once();
    world.server.faults().add(lost);
    let error = step.run(&world.cx("event"), event.clone()).await.unwrap_err();
    assert_eq!(error.effect(), Effect::Unknown);
    let second = world.host.attempt(run(1), "event", 2, Memory::default());
    let sent = step.run(&second, event).await.unwrap();
    assert_eq!(sent.key, second.idempotency_key());
    assert_eq!(world.server.with(|sim| sim.runs("acme/site")).len(), 1);
}

// covers: L4, R1-02
#[tokio::test]
async fn limits_in_all_their_forms_pause_the_bucket_they_hit() {
    let forms = [
        (Fault::RateLimited { retry_after: RetryAfterForm::Seconds(17) }, 17..=17),
        (Fault::RateLimited { retry_after: RetryAfterForm::Date(30) }, 28..=30),
        (Fault::RateLimited { retry_after: RetryAfterForm::Absent }, 60..=60),
    ];
    for (fault, expected) in forms {
        let world = World::new();
        let (cx, repos) = (world.cx("repo"), world.repos());
        world.server.faults().add(FaultRule::new(fault).method("POST").once());
        let intent = world.host.intend(&cx, &repos, &spec());
        let error = repos.create(&cx, &spec(), &intent).await.unwrap_err();
        let Verdict::Throttled { bucket, after } = error.verdict() else { panic!("{error}") };
        assert_eq!(bucket, "github/acme/creates");
        assert!(expected.contains(&after.as_secs()), "{after:?}");
        assert_eq!(error.effect(), Effect::None);
        let pauses = world.host.told().observed;
        let paused = pauses.iter().any(|(b, seen)| b == bucket && seen.pause == Some(*after));
        assert!(paused, "{pauses:?}");
    }
}

// covers: L4, R1-12, R1-60
#[tokio::test]
async fn an_exhausted_window_is_a_wait_until_its_reset() {
    for status in [403, 429] {
        let world = World::new();
        world.server.with(|sim| {
            sim.set_limits(Limits { per_hour: 2, status, ..Limits::default() });
        });
        let (cx, repos) = (world.cx("repo"), world.repos());
        assert_eq!(repos.find(&cx, &spec()).await.unwrap(), Found::Absent);
        let error = repos.find(&cx, &spec()).await.unwrap_err();
        let Verdict::Throttled { bucket, after } = error.verdict() else { panic!("{error}") };
        assert_eq!(bucket, "github/acme");
        assert!((3_500..=3_600).contains(&after.as_secs()), "{after:?}");
        assert_eq!(error.code(), "rate_limit");
    }
}

// covers: S11, R1-12
#[tokio::test]
async fn a_sweep_reads_every_page_and_lists_what_carries_a_mark() {
    let world = World::new();
    world.server.with(|sim| {
        for n in 0..250 {
            sim.add_foreign(&format!("acme/theirs-{n}"), "no mark of ours");
        }
    });
    let id = world.site().await;
    // A page of 100 repositories is larger than these tests allow an answer to be.
    let large = config(&world.server.url()).with_body_bytes_max(8 << 20);
    let repos = RepoFromTemplate::new(&GitHub::new(large).unwrap());
    let owned = repos.list_owned(&world.cx("sweep")).await.unwrap().complete().unwrap();
    assert_eq!(owned.iter().map(|one| &one.id).collect::<Vec<_>>(), [&id]);
    // A page that is lost is an error, never a shorter list.
    let lost = FaultRule::new(Fault::Status(502)).path_contains("/orgs/acme/repos").nth(2);
    world.server.faults().add(lost);
    let error = repos.list_owned(&world.cx("sweep")).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("server_error", Effect::None));
}

#[tokio::test]
async fn what_may_not_be_deleted_is_said_so() {
    let world = World::new();
    let id = world.site().await;
    world.server.with(|sim| sim.set_members_delete(false));
    let error = world.repos().delete(&world.cx("repo"), &spec(), &id).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("delete_forbidden", &Verdict::Permanent));
    assert!(error.hint().is_some());
    assert_eq!(world.kinds(), ["repo"]);
}
