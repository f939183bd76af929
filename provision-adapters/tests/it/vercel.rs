//! Vercel: the way a site is made, and what every answer of the provider means.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use provision_adapters::{
    http::BaseUrl,
    sim::{Exchange, InventoryItem, SimOptions, SimServer},
    vercel::{
        Deployed, DeploymentSpec, DomainSpec, EnvApplied, EnvSpec, EnvTarget, EnvVar, GitSource,
        Probe, SiteProject, SiteSpec, Vercel, VercelConfig, VercelDeployment, VercelDomain,
        VercelEnv, VercelProject,
        sim::{Fate, TOKEN, VercelSim},
    },
};
use provision_core::{
    Effect, ExternalId, Found, Readiness, Resource, RunId, SecretRef, StepContext, StepError,
    Verdict,
};
use provision_testkit::solo::SoloHost;
use uuid::Uuid;

use crate::spec::{SpecSet, check_exchanges};

pub(crate) const CANARY: &str = "canary-value-7f3a";

/// A simulated Vercel, a client of it, and a host for single resources.
pub(crate) struct World {
    pub(crate) server: SimServer<VercelSim>,
    pub(crate) vercel: Vercel,
    pub(crate) host: SoloHost,
}

impl World {
    /// Readiness takes no time here.
    pub(crate) fn start() -> Self {
        Self::at_speed(0.0, None)
    }

    pub(crate) fn at_speed(speed: f64, team: Option<&str>) -> Self {
        let options = SimOptions::default().with_speed(speed).with_recorded_exchanges();
        let server = SimServer::start(VercelSim::new(), options).unwrap();
        let vercel = client(&server.url(), team);
        let host =
            SoloHost::new().with_secret("VERCEL_TOKEN", TOKEN).with_secret("SERVICE_KEY", CANARY);
        Self { server, vercel, host }
    }

    pub(crate) fn cx(&self, path: &str) -> StepContext {
        self.host.context(run(1), path)
    }

    pub(crate) fn of(&self, kind: &str) -> Vec<InventoryItem> {
        self.server.inventory().into_iter().filter(|item| item.kind == kind).collect()
    }

    /// Makes a project.
    pub(crate) async fn project(&self) -> SiteProject {
        let spec = SiteSpec::linked("acme-site", "acme/site").with_framework("nextjs");
        let cx = self.cx("project");
        build(&self.host, &cx, &VercelProject::new(&self.vercel), &spec).await.1
    }

    /// Makes a project with its variables.
    pub(crate) async fn env(&self) -> EnvApplied {
        let spec = five(self.project().await);
        build(&self.host, &self.cx("env"), &VercelEnv::new(&self.vercel), &spec).await.1
    }
}

pub(crate) fn client(url: &str, team: Option<&str>) -> Vercel {
    let base = BaseUrl::parse(url).unwrap();
    let mut config = VercelConfig::at(base.clone(), SecretRef::named("VERCEL_TOKEN"))
        .with_edge(base)
        .with_probe_grace(Duration::ZERO);
    if let Some(team) = team {
        config = config.with_team(team);
    }
    Vercel::new(config).unwrap()
}

pub(crate) fn run(number: u128) -> RunId {
    RunId::from_uuid(Uuid::from_u128(number))
}

pub(crate) fn five(project: SiteProject) -> EnvSpec {
    let secret = SecretRef::named("SERVICE_KEY");
    EnvSpec::new(
        project,
        [
            EnvVar::plain("A_REGION", "eu"),
            EnvVar::encrypted("B_URL", secret.clone()),
            EnvVar::sensitive("C_KEY", secret.clone()),
            EnvVar::plain("D_NAME", "acme"),
            EnvVar::encrypted("E_TOKEN", secret),
        ],
    )
}

pub(crate) fn source() -> GitSource {
    GitSource::repository("acme/site", "main").at("c0ffee")
}

/// Finds nothing, creates, and asks until it is ready; bounded.
pub(crate) async fn build<R: Resource>(
    host: &SoloHost,
    cx: &StepContext,
    resource: &R,
    spec: &R::Spec,
) -> (ExternalId, R::Output) {
    assert_eq!(resource.find(cx, spec).await.unwrap(), Found::Absent);
    let intent = host.intend(cx, resource, spec);
    let id = resource.create(cx, spec, &intent).await.unwrap();
    assert!(cx.noted().contains(&id), "the id is noted before anything is waited for");
    let output = settled(cx, resource, spec, &id).await.unwrap();
    (id, output)
}

/// Asks until it is ready or fails; bounded by 3,000 looks of 10 ms.
pub(crate) async fn settled<R: Resource>(
    cx: &StepContext,
    resource: &R,
    spec: &R::Spec,
    id: &ExternalId,
) -> Result<R::Output, StepError> {
    for _ in 0..3_000 {
        match resource.ready(cx, spec, id).await? {
            Readiness::Ready(output) => return Ok(output),
            Readiness::NotYet { .. } => tokio::time::sleep(Duration::from_millis(10)).await,
            Readiness::Broken { code } => panic!("broken: {code}"),
        }
    }
    panic!("not ready in time");
}

// covers: R1-64, R1-65, R1-66, R1-74, R1-75, R1-76, R2-54
#[tokio::test]
async fn a_site_is_made_verified_live_and_removed() {
    let world = World::at_speed(0.01, None);
    let env = world.env().await;
    assert_eq!(env.keys().len(), 5);
    let deployment = VercelDeployment::new(&world.vercel);
    let spec = DeploymentSpec::production(env.clone(), source());
    let cx = world.cx("deployment");
    let (id, live): (_, Deployed) = build(&world.host, &cx, &deployment, &spec).await;
    assert_eq!(live.url, "https://acme-site.vercel.app");
    let built = world.server.with(|sim| sim.built_with(id.as_str()));
    assert_eq!(built, ["A_REGION", "B_URL", "C_KEY", "D_NAME", "E_TOKEN"]);
    assert_eq!(deployment.find(&cx, &spec).await.unwrap(), Found::Ours(id.clone()));

    let project = VercelProject::new(&world.vercel);
    let site = SiteSpec::linked("acme-site", "acme/site");
    let project_id = ExternalId::new(env.project().id.clone());
    for _ in 0..2 {
        deployment.delete(&cx, &spec, &id).await.unwrap();
        VercelEnv::new(&world.vercel)
            .delete(&world.cx("env"), &five(env.project().clone()), &env_id(&world, &env))
            .await
            .unwrap();
        project.delete(&world.cx("project"), &site, &project_id).await.unwrap();
    }
    assert_eq!(world.server.inventory(), []);
    check(&world);
}

fn env_id(world: &World, env: &EnvApplied) -> ExternalId {
    ExternalId::new(format!("{}/env/{}", env.project().id, world.cx("env").mark().token()))
}

/// Every API exchange fits the provider's document; probes of apps are not the API's.
pub(crate) fn check(world: &World) {
    let Some(spec) = SpecSet::load("vercel") else { return };
    // Two of a kind are enough: a schema takes a while to compile.
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let mut fresh = |e: &Exchange| {
        let fixed = |part: &&String| part.len() < 12 && !part.starts_with("theirs");
        let words: Vec<&String> = e.request.path.iter().filter(fixed).collect();
        let kind = format!("{} {words:?} {}", e.request.method, e.response.status);
        let count = seen.entry(kind).or_default();
        *count += 1;
        *count <= 2
    };
    let exchanges: Vec<_> = world
        .server
        .exchanges()
        .into_iter()
        .filter(|e| !e.request.host.ends_with(".vercel.app"))
        .filter(&mut fresh)
        .collect();
    check_exchanges(&spec, &exchanges);
}

#[tokio::test]
async fn the_variables_are_there_before_the_deployment_is_asked_for() {
    // covers: R1-64
    let world = World::start();
    let env = world.env().await;
    let deployment = VercelDeployment::new(&world.vercel);
    let spec = DeploymentSpec::production(env, source());
    build(&world.host, &world.cx("deployment"), &deployment, &spec).await;
    let order: Vec<String> = world
        .server
        .requests()
        .iter()
        .filter(|line| line.method == "POST" || line.path.ends_with("/env"))
        .map(|line| {
            let last = line.path.rsplit('/').next().unwrap();
            format!("{} {last}", line.method)
        })
        .collect();
    let at = |what: &str| order.iter().rposition(|o| o == what).unwrap();
    assert!(at("POST projects") < at("POST env"));
    assert!(at("POST env") < at("GET env"), "read back after it was set");
    assert!(at("GET env") < at("POST deployments"), "and before the deployment: {order:?}");
}

#[tokio::test]
async fn an_app_without_its_variables_fails_the_probe_and_the_deployment_is_broken() {
    // covers: R1-64, R1-66
    let world = World::start();
    let env = EnvApplied::nothing(world.project().await);
    let deployment = VercelDeployment::new(&world.vercel);
    let spec = DeploymentSpec::production(env, source());
    let cx = world.cx("deployment");
    let intent = world.host.intend(&cx, &deployment, &spec);
    let id = deployment.create(&cx, &spec, &intent).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let error = settled(&cx, &deployment, &spec, &id).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("probe_failed", &Verdict::Permanent));
    assert!(error.is_broken());
    assert_eq!(error.effect(), Effect::Applied);
    assert!(error.to_string().contains("500"), "{error}");
    // Nobody asks it, nobody complains.
    let quiet = spec.clone().with_probe(None);
    settled(&cx, &deployment, &quiet, &id).await.unwrap();
    let other = spec.with_probe(Some(Probe::at("/health/live").with_status(500)));
    settled(&cx, &deployment, &other, &id).await.unwrap();
}

#[tokio::test]
async fn a_variable_that_silently_vanishes_is_noticed_before_anything_is_deployed() {
    // covers: R1-65
    let world = World::start();
    let spec = five(world.project().await);
    world.server.with(|sim| sim.drop_variable("C_KEY"));
    let env = VercelEnv::new(&world.vercel);
    let cx = world.cx("env");
    let intent = world.host.intend(&cx, &env, &spec);
    let id = env.create(&cx, &spec, &intent).await.unwrap();
    // Within the lag of a look-up it may still come.
    let early = env.ready(&cx, &spec, &id).await.unwrap();
    assert!(matches!(early, Readiness::NotYet { .. }));
    let memory = provision_core::context::Memory {
        polling_since: Some(provision_core::Timestamp::ZERO),
        ..Default::default()
    };
    let late = world.host.attempt(run(1), "env", 2, memory);
    let error = env.ready(&late, &spec, &id).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("env_mismatch", &Verdict::Permanent));
    assert!(error.is_broken() && error.to_string().contains("C_KEY"), "{error}");
    env.delete(&late, &spec, &id).await.unwrap();
    assert_eq!(world.of("env"), []);
}

#[tokio::test]
async fn a_changed_value_target_or_type_is_noticed_and_set_again() {
    // covers: R1-65
    let world = World::start();
    let project = world.project().await;
    let env = VercelEnv::new(&world.vercel);
    let cx = world.cx("env");
    let before = EnvSpec::new(project.clone(), [EnvVar::plain("A", "1"), EnvVar::plain("B", "1")]);
    let (id, _) = build(&world.host, &cx, &env, &before).await;
    let secret = SecretRef::named("SERVICE_KEY");
    let after = EnvSpec::new(project, [EnvVar::plain("A", "2"), EnvVar::encrypted("B", secret)]);
    let applied = settled(&cx, &env, &after, &id).await.unwrap();
    assert_eq!(applied.keys(), ["A", "B"]);
    let written = world.server.requests();
    let writes = written.iter().filter(|l| l.method == "POST" && l.path.ends_with("/env")).count();
    assert_eq!((writes, world.of("env").len()), (2, 2));
    settled(&cx, &env, &after, &id).await.unwrap();
    assert_eq!(world.server.requests().len(), written.len() + 1, "what is right is only read");
}

#[tokio::test]
async fn one_refused_variable_of_five_is_finished_later_and_none_is_there_twice() {
    // covers: R1-75, S9
    let world = World::start();
    let spec = five(world.project().await);
    world.server.with(|sim| sim.refuse_variable("C_KEY", 1));
    let env = VercelEnv::new(&world.vercel);
    let cx = world.cx("env");
    let intent = world.host.intend(&cx, &env, &spec);
    let error = env.create(&cx, &spec, &intent).await.unwrap_err();
    assert_eq!((error.effect(), error.code()), (Effect::Unknown, "env_partly_set"));
    assert_eq!(world.of("env").len(), 4);
    let Found::Ours(id) = env.find(&cx, &spec).await.unwrap() else { panic!("not found") };
    settled(&cx, &env, &spec, &id).await.unwrap();
    let names: Vec<_> = world.of("env").into_iter().map(|item| item.name).collect();
    assert_eq!(names.len(), 5);
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 5);
}

#[tokio::test]
async fn an_ended_deployment_says_how_without_quoting_the_build() {
    // covers: R1-76, X1
    let cases = [
        (Fate::Error("BUILD_FAILED".into()), "deployment_failed", Verdict::Permanent, true),
        (Fate::Canceled, "deployment_canceled", Verdict::Permanent, true),
        (Fate::AliasError, "alias_error", Verdict::Permanent, true),
        (Fate::ChecksFail, "checks_failed", Verdict::Permanent, true),
        (Fate::Blocked, "deployment_blocked", Verdict::Operator, false),
        (
            Fate::Error("internal_error".into()),
            "platform_failed",
            Verdict::Retry { after: None },
            true,
        ),
    ];
    let world = World::start();
    let env = world.env().await;
    let deployment = VercelDeployment::new(&world.vercel);
    for (number, (fate, code, verdict, broken)) in cases.into_iter().enumerate() {
        world.server.with(|sim| sim.decide_next(fate));
        let cx = world.cx(&format!("deployment{number}"));
        let spec = DeploymentSpec::production(env.clone(), source());
        let intent = world.host.intend(&cx, &deployment, &spec);
        let id = deployment.create(&cx, &spec, &intent).await.unwrap();
        let error = settled(&cx, &deployment, &spec, &id).await.unwrap_err();
        assert_eq!((error.code(), error.verdict()), (code, &verdict));
        assert_eq!((error.effect(), error.is_broken()), (Effect::Applied, broken));
        let told = format!("{error} {error:?} {:?}", error.hint());
        assert!(!told.contains("canary"), "{told}");
        if code == "deployment_failed" {
            let hint = error.hint().unwrap();
            assert!(hint.contains("https://vercel.com/user_sim/acme-site/"), "{hint}");
            assert!(error.to_string().contains("BUILD_FAILED"));
        }
    }
    check(&world);
}

#[tokio::test]
async fn a_deployment_is_not_live_before_its_alias_is() {
    let world = World::at_speed(1.0, None);
    world.server.with(|sim| {
        sim.set_times(Duration::ZERO, Duration::ZERO, Duration::from_secs(3600));
    });
    let env = world.env().await;
    let deployment = VercelDeployment::new(&world.vercel);
    let spec = DeploymentSpec::production(env, source());
    let cx = world.cx("deployment");
    let intent = world.host.intend(&cx, &deployment, &spec);
    let id = deployment.create(&cx, &spec, &intent).await.unwrap();
    let look = deployment.ready(&cx, &spec, &id).await.unwrap();
    assert_eq!(look, Readiness::NotYet { again_in: Duration::from_secs(5) });
    let shown = world.server.exchanges().pop().unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&shown.response.body).unwrap();
    assert_eq!(shown["readyState"], "READY");
    assert_eq!(shown["aliasAssigned"], false);
}

#[tokio::test]
async fn a_domain_waits_for_its_dns() {
    let world = World::start();
    let spec = DomainSpec::new(world.project().await, "app.acme.example");
    let domain = VercelDomain::new(&world.vercel);
    let cx = world.cx("domain");
    assert_eq!(domain.find(&cx, &spec).await.unwrap(), Found::Absent);
    let intent = world.host.intend(&cx, &domain, &spec);
    let id = domain.create(&cx, &spec, &intent).await.unwrap();
    let look = domain.ready(&cx, &spec, &id).await.unwrap();
    assert!(matches!(look, Readiness::NotYet { .. }));
    let Found::Foreign(found) = domain.find(&cx, &spec).await.unwrap() else { panic!() };
    assert!(!found.markable && found.created_at.is_some());
    world.server.with(|sim| sim.set_dns("app.acme.example"));
    settled(&cx, &domain, &spec, &id).await.unwrap();
    for _ in 0..2 {
        domain.delete(&cx, &spec, &id).await.unwrap();
    }
    assert_eq!(world.of("domain"), []);
    check(&world);
}

// covers: S11
#[tokio::test]
async fn what_is_not_ours_is_named_and_left_alone() {
    let world = World::start();
    world.server.with(|sim| sim.seed_project("user_sim", "acme-site"));
    let project = VercelProject::new(&world.vercel);
    let site = SiteSpec::new("acme-site");
    let Found::Foreign(foreign) = project.find(&world.cx("project"), &site).await.unwrap() else {
        panic!("a project without a mark is foreign")
    };
    assert!(foreign.markable && foreign.owner.is_none() && foreign.created_at.is_some());

    // Another run's, and another step's of the same run: named, and not ours.
    let world = World::start();
    let env = world.env().await;
    for (number, path) in [(2, "project"), (1, "other")] {
        let cx = world.host.context(run(number), path);
        let Found::Foreign(foreign) = project_of(&world).find(&cx, &site).await.unwrap() else {
            panic!("another mark is foreign")
        };
        assert_eq!(foreign.owner, Some(world.cx("project").mark()));
        let variables = VercelEnv::new(&world.vercel);
        let wanted = five(env.project().clone());
        let Found::Foreign(foreign) = variables.find(&cx, &wanted).await.unwrap() else {
            panic!("another mark is foreign")
        };
        assert_eq!(foreign.owner, Some(world.cx("env").mark()));
        let own = ExternalId::new(format!("{}/env/{}", env.project().id, cx.mark().token()));
        variables.delete(&cx, &wanted, &own).await.unwrap();
        assert_eq!(world.of("env").len(), 5, "only what carries this mark is deleted");
    }
}

fn project_of(world: &World) -> VercelProject {
    VercelProject::new(&world.vercel)
}

#[tokio::test]
async fn everything_that_carries_a_mark_is_listed_over_all_pages() {
    let world = World::start();
    let project = project_of(&world);
    world.server.with(|sim| {
        for number in 0..130 {
            sim.seed_project("user_sim", &format!("theirs-{number}"));
        }
    });
    let env = world.env().await;
    let deployment = VercelDeployment::new(&world.vercel);
    for number in 0..3 {
        let spec = DeploymentSpec::production(env.clone(), source());
        let cx = world.cx(&format!("deployment{number}"));
        let intent = world.host.intend(&cx, &deployment, &spec);
        deployment.create(&cx, &spec, &intent).await.unwrap();
    }
    let cx = world.host.context(run(9), "sweep");
    let owned = project.list_owned(&cx).await.unwrap().complete().unwrap();
    assert_eq!(owned.len(), 1);
    assert_eq!(owned[0].mark, Some(world.cx("project").mark()));
    assert_eq!(owned[0].name.as_deref(), Some("acme-site"));
    let owned = VercelEnv::new(&world.vercel).list_owned(&cx).await.unwrap().complete().unwrap();
    assert_eq!(owned.len(), 1);
    assert_eq!(owned[0].id, env_id(&world, &env));
    let owned = deployment.list_owned(&cx).await.unwrap().complete().unwrap();
    let marks: BTreeSet<_> =
        owned.iter().map(|o| o.mark.as_ref().unwrap().step().to_owned()).collect();
    assert_eq!(marks.len(), 3);
    check(&world);
}

#[tokio::test]
async fn a_name_belongs_to_one_team() {
    let world = World::at_speed(0.0, Some("team_b"));
    world.server.with(|sim| {
        sim.add_team("team_b");
        sim.seed_project("user_sim", "acme-site");
    });
    // The same name in another scope is not in the way.
    let made = world.project().await;
    let personal = VercelProject::new(&client(&world.server.url(), None));
    let found = personal.find(&world.cx("project"), &SiteSpec::new("acme-site")).await.unwrap();
    let Found::Foreign(foreign) = found else { panic!("the seeded one is there") };
    assert_ne!(foreign.id.as_str(), made.id);
    let outsider = VercelProject::new(&client(&world.server.url(), Some("team_c")));
    let error = outsider.find(&world.cx("project"), &SiteSpec::new("x")).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("forbidden", &Verdict::Permanent));
}

#[tokio::test]
async fn a_spec_that_cannot_work_is_refused_before_anything_is_sent() {
    let world = World::start();
    let project = world.project().await;
    let sent = world.server.requests().len();
    let cx = world.cx("x");
    let sites = [
        SiteSpec::new(""),
        SiteSpec::new("Upper"),
        SiteSpec::new("a".repeat(101)),
        SiteSpec::new("a---b"),
        SiteSpec::linked("a", "no-owner"),
    ];
    for site in sites {
        let resource = project_of(&world);
        let intent = world.host.intend(&cx, &resource, &site);
        let error = resource.create(&cx, &site, &intent).await.unwrap_err();
        assert_eq!((error.code(), error.effect()), ("invalid_spec", Effect::None), "{site:?}");
    }
    let secret = SecretRef::named("SERVICE_KEY");
    let lists = [
        vec![],
        vec![EnvVar::plain("1A", "x")],
        vec![EnvVar::plain("PROVISION_OWNER", "x")],
        vec![EnvVar::plain("A", "x").with_targets([])],
        vec![
            EnvVar::plain("A", "x"),
            EnvVar::plain("A", "y").with_targets([EnvTarget::Production]),
        ],
        vec![EnvVar::sensitive("A", secret).with_targets([EnvTarget::Development])],
    ];
    for variables in lists {
        let resource = VercelEnv::new(&world.vercel);
        let spec = EnvSpec::new(project.clone(), variables);
        let intent = world.host.intend(&cx, &resource, &spec);
        let error = resource.create(&cx, &spec, &intent).await.unwrap_err();
        assert_eq!((error.code(), error.effect()), ("invalid_spec", Effect::None), "{spec:?}");
    }
    assert_eq!(world.server.requests().len(), sent);
}
