//! Vercel when calls fail: what is proven, what is unknown, and what is found afterwards.

use std::{error::Error, time::Duration};

use provision_adapters::{
    sim::{Fault, FaultRule, RetryAfterForm},
    vercel::{
        DeploymentSpec, DomainSpec, SiteSpec, VercelDeployment, VercelDomain, VercelEnv,
        VercelProject, sim::TOKEN,
    },
};
use provision_core::{Effect, ExternalId, Found, Resource, StepContext, StepError, Verdict};

use crate::vercel::{CANARY, World, check, client, five, settled, source};

/// Faults after which the provider has done what it was asked.
fn lost_answers() -> Vec<Fault> {
    vec![
        Fault::DropAfter,
        Fault::ResetAfter,
        Fault::StatusAfter(500),
        Fault::StatusAfter(502),
        Fault::CutBody,
        Fault::LyingLength,
        Fault::Garbage200,
        Fault::Html200,
    ]
}

/// X1: neither the token nor a value is in anything an error can print.
fn assert_clean(error: &StepError) {
    let mut told = format!("{error} {error:?} {:?} {:?}", error.message(), error.hint());
    let mut source: Option<&(dyn Error + 'static)> = error.source();
    while let Some(inner) = source {
        told.push_str(&format!("{inner} {inner:?}"));
        source = inner.source();
    }
    for secret in [TOKEN, CANARY, "canary"] {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
}

/// Creates with a lost answer, then finds exactly what was made, `count` things of a kind.
async fn loses_the_answer<R: Resource>(
    world: &World,
    resource: &R,
    spec: &R::Spec,
    (path, route, kind, count): (&str, &str, &str, usize),
) {
    for fault in lost_answers() {
        let name = fault.name();
        let cx = world.cx(&format!("{path}-{name}-{}", world.server.requests().len()));
        world.server.faults().add(FaultRule::new(fault).method("POST").path_contains(route).once());
        let intent = world.host.intend(&cx, resource, spec);
        let error = resource.create(&cx, spec, &intent).await.expect_err(name);
        assert_eq!(error.effect(), Effect::Unknown, "{name}: {error}");
        assert!(matches!(error.verdict(), Verdict::Retry { .. }), "{name}: {error}");
        assert_clean(&error);
        let id = match resource.find(&cx, spec).await.unwrap() {
            Found::Ours(id) => id,
            // No place for a mark: the engine's intent is the proof.
            Found::Foreign(foreign) if !foreign.markable => foreign.id,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(world.of(kind).len(), count, "{name}");
        settled(&cx, resource, spec, &id).await.unwrap();
        remove_with_faults(world, &cx, resource, spec, &id).await;
        assert_eq!(world.of(kind), [], "{name}");
        world.server.faults().clear();
    }
}

/// A delete whose answer is lost is unknown, and repeated.
async fn remove_with_faults<R: Resource>(
    world: &World,
    cx: &StepContext,
    resource: &R,
    spec: &R::Spec,
    id: &ExternalId,
) {
    world.server.faults().add(FaultRule::new(Fault::DropAfter).method("DELETE").once());
    let error = resource.delete(cx, spec, id).await.unwrap_err();
    assert_eq!(error.effect(), Effect::Unknown);
    assert_clean(&error);
    for _ in 0..2 {
        resource.delete(cx, spec, id).await.unwrap();
    }
}

// covers: S9, S14, X1, R5-38
#[tokio::test]
async fn a_project_whose_answer_was_lost_is_found_again() {
    let world = World::start();
    let spec = SiteSpec::linked("acme-site", "acme/site");
    let resource = VercelProject::new(&world.vercel);
    loses_the_answer(&world, &resource, &spec, ("project", "/projects", "project", 1)).await;
}

// covers: S9, S14, X1
#[tokio::test]
async fn variables_whose_answer_was_lost_are_found_again() {
    let world = World::start();
    let spec = five(world.project().await);
    let resource = VercelEnv::new(&world.vercel);
    loses_the_answer(&world, &resource, &spec, ("env", "/env", "env", 5)).await;
}

// covers: S9, S14, X1
#[tokio::test]
async fn a_deployment_whose_answer_was_lost_is_found_again() {
    let world = World::start();
    let spec = DeploymentSpec::production(world.env().await, source());
    let resource = VercelDeployment::new(&world.vercel);
    loses_the_answer(&world, &resource, &spec, ("dpl", "/deployments", "deployment", 1)).await;
}

// covers: S9, S14, X1
#[tokio::test]
async fn a_domain_whose_answer_was_lost_is_found_again() {
    let world = World::start();
    world.server.with(|sim| sim.set_dns("app.acme.example"));
    let spec = DomainSpec::new(world.project().await, "app.acme.example");
    let resource = VercelDomain::new(&world.vercel);
    loses_the_answer(&world, &resource, &spec, ("domain", "/domains", "domain", 1)).await;
}

/// Every way in which a look-up can fail; none of them says "absent".
async fn never_absent<R: Resource>(world: &World, resource: &R, spec: &R::Spec) {
    let faults = [
        Fault::Status(500),
        Fault::Status(503),
        Fault::Status(403),
        Fault::Status(401),
        Fault::RateLimited { retry_after: RetryAfterForm::Absent },
        Fault::RefuseBefore,
        Fault::ResetAfter,
        Fault::CutBody,
        Fault::LyingLength,
        Fault::Garbage200,
        Fault::Html200,
        Fault::SlowHeaders(Duration::from_secs(30)),
        Fault::EndlessBody { bytes: 16 << 20 },
        Fault::Redirect("http://127.0.0.1:9/".to_owned()),
    ];
    for fault in faults {
        let name = fault.name();
        world.server.faults().add(FaultRule::new(fault).method("GET"));
        let host = world.host.clone().with_call_max(Duration::from_millis(300));
        let cx = host.context(crate::vercel::run(1), "absent");
        let error = resource.find(&cx, spec).await.expect_err(name);
        assert_eq!(error.effect(), Effect::None, "{name}");
        assert_clean(&error);
        world.server.faults().clear();
    }
    assert!(
        world
            .server
            .requests()
            .iter()
            .all(|line| line.method == "GET" || line.status == 200 || line.status == 201)
    );
}

// covers: S7, S9, R1-36
#[tokio::test]
async fn a_failed_look_is_never_absent() {
    let world = World::start();
    let env = world.env().await;
    let project = env.project().clone();
    never_absent(&world, &VercelProject::new(&world.vercel), &SiteSpec::new("other")).await;
    never_absent(&world, &VercelEnv::new(&world.vercel), &five(project.clone())).await;
    let spec = DeploymentSpec::production(env, source());
    never_absent(&world, &VercelDeployment::new(&world.vercel), &spec).await;
    let spec = DomainSpec::new(project, "app.acme.example");
    never_absent(&world, &VercelDomain::new(&world.vercel), &spec).await;
}

#[tokio::test]
async fn a_page_of_something_in_between_is_no_answer() {
    // A 404 that is not the provider's own proves nothing, and deletes nothing.
    let world = World::start();
    let project = world.project().await;
    let cx = world.cx("project");
    let resource = VercelProject::new(&world.vercel);
    let id = ExternalId::new(project.id);
    world.server.faults().add(FaultRule::new(Fault::Html200).method("DELETE").once());
    let spec = SiteSpec::new("acme-site");
    let error = resource.delete(&cx, &spec, &id).await.unwrap_err();
    assert_eq!(error.effect(), Effect::Unknown);
    // What a ghost creates is not there, and not waited for forever.
    world.server.faults().add(FaultRule::new(Fault::Ghost).method("POST").once());
    let ghost = SiteSpec::new("ghost");
    let intent = world.host.intend(&cx, &resource, &ghost);
    let id = resource.create(&cx, &ghost, &intent).await.unwrap();
    let memory = provision_core::context::Memory {
        polling_since: Some(provision_core::Timestamp::ZERO),
        ..Default::default()
    };
    let late = world.host.attempt(crate::vercel::run(1), "project", 2, memory);
    let look = resource.ready(&late, &ghost, &id).await.unwrap();
    assert_eq!(look, provision_core::Readiness::Broken { code: "vanished".to_owned() });
    assert_eq!(resource.find(&cx, &ghost).await.unwrap(), Found::Absent);
}

// covers: L4
#[tokio::test]
async fn a_wait_asked_for_is_passed_on_in_every_form() {
    let world = World::start();
    let resource = VercelProject::new(&world.vercel);
    let spec = SiteSpec::new("acme-site");
    let cx = world.cx("project");
    let forms = [
        (RetryAfterForm::Seconds(120), 120..=120),
        (RetryAfterForm::Date(120), 118..=121),
        (RetryAfterForm::Absent, 60..=60),
    ];
    for (form, expected) in forms {
        let rule = FaultRule::new(Fault::RateLimited { retry_after: form }).once();
        world.server.faults().add(rule);
        let error = resource.find(&cx, &spec).await.unwrap_err();
        let Verdict::Throttled { bucket, after } = error.verdict() else { panic!("{error}") };
        assert_eq!(bucket, "vercel/default/find project");
        assert!(expected.contains(&after.as_secs()), "{form:?}: {after:?}");
    }
    let told = world.host.told();
    let paused = told.observed.iter().filter(|(_, seen)| seen.pause.is_some()).count();
    assert_eq!(paused, 3, "the shared bucket is paused each time");
}

// covers: L4, R1-60
#[tokio::test]
async fn a_used_up_endpoint_says_when_it_is_open_again() {
    let world = World::start();
    world.server.with(|sim| sim.set_calls_per_minute(2));
    let resource = VercelProject::new(&world.vercel);
    let (spec, cx) = (SiteSpec::new("acme-site"), world.cx("project"));
    for _ in 0..2 {
        assert_eq!(resource.find(&cx, &spec).await.unwrap(), Found::Absent);
    }
    let seen = world.host.told().observed;
    assert_eq!(seen[0].1.remaining.unwrap().0, 1);
    assert!(seen[1].1.pause.is_some(), "the last call of a window pauses the bucket");
    let error = resource.find(&cx, &spec).await.unwrap_err();
    let Verdict::Throttled { after, .. } = error.verdict() else { panic!("{error}") };
    assert!((1..=61).contains(&after.as_secs()), "{after:?}");
    // Limits are per endpoint: another one is open.
    let intent = world.host.intend(&cx, &resource, &spec);
    resource.create(&cx, &spec, &intent).await.unwrap();
    check(&world);
}

#[tokio::test]
async fn refusals_of_the_provider_are_told_apart() {
    let world = World::start();
    let env = world.env().await;
    let project = VercelProject::new(&world.vercel);
    let cx = world.cx("x");
    // The name is taken: the engine looks before it says whose it is.
    let spec = SiteSpec::new("acme-site");
    let intent = world.host.intend(&cx, &project, &spec);
    let error = project.create(&cx, &spec, &intent).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("name_taken", Effect::Unknown));
    // The app does not see the repository.
    world.server.with(|sim| sim.set_repo_hidden("acme/hidden", true));
    let spec = SiteSpec::linked("hidden", "acme/hidden");
    let intent = world.host.intend(&cx, &project, &spec);
    let error = project.create(&cx, &spec, &intent).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("repository_not_visible", Effect::None));
    assert!(error.hint().is_some());
    // A project that is being handed over goes later.
    world.server.with(|sim| sim.set_in_transfer("acme-site", true));
    let id = ExternalId::new(env.project().id.clone());
    let error = project.delete(&cx, &spec, &id).await.unwrap_err();
    assert_eq!(error.code(), "being_transferred");
    assert_eq!(error.verdict(), &Verdict::Retry { after: Some(Duration::from_secs(60)) });
    // Somebody else is writing variables right now.
    world.server.with(|sim| sim.set_env_busy(1));
    let variables = VercelEnv::new(&world.vercel);
    let wanted = five(env.project().clone());
    let intent = world.host.intend(&cx, &variables, &wanted);
    let error = variables.create(&cx, &wanted, &intent).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("concurrent_env_write", Effect::None));
    assert!(matches!(error.verdict(), Verdict::Retry { .. }));
    // The plan's deployments of the day are used up: a person's matter, not a minute's.
    world.server.with(|sim| sim.set_deployments_per_day(0));
    let deployment = VercelDeployment::new(&world.vercel);
    let spec = DeploymentSpec::production(env, source());
    let intent = world.host.intend(&cx, &deployment, &spec);
    let error = deployment.create(&cx, &spec, &intent).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("deployments_per_day", &Verdict::Operator));
    assert_eq!(error.effect(), Effect::None);
    assert_eq!(world.of("deployment"), []);
}

#[tokio::test]
async fn a_replaced_token_is_tried_once_and_a_bad_one_is_permanent() {
    let world = World::start();
    let resource = VercelProject::new(&world.vercel);
    let (spec, cx) = (SiteSpec::new("acme-site"), world.cx("project"));
    world.host.set_secret("VERCEL_TOKEN", "stale-token-canary");
    let error = resource.find(&cx, &spec).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("forbidden", &Verdict::Permanent));
    assert_clean(&error);
    assert_eq!(world.server.requests().len(), 1, "the same token is not sent again");
    world.server.faults().add(FaultRule::new(Fault::TokenRevoked).once());
    let error = resource.find(&cx, &spec).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("unauthorized", Effect::None));
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn nothing_is_sent_when_nobody_listens() {
    let world = World::start();
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let resource = VercelProject::new(&client(&gone, None));
    let (spec, cx) = (SiteSpec::new("acme-site"), world.cx("project"));
    let intent = world.host.intend(&cx, &resource, &spec);
    let error = resource.create(&cx, &spec, &intent).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("connect", Effect::None));
    assert!(matches!(error.verdict(), Verdict::Retry { .. }));
}

fn page(status: u16, body: &str) -> Fault {
    let (content_type, body) = ("application/json".to_owned(), body.to_owned());
    Fault::Page { status, content_type, body }
}

// covers: S7, S14
#[tokio::test]
async fn an_empty_404_is_no_proof_that_something_is_gone() {
    let world = World::start();
    let (cx, projects) = (world.cx("site"), VercelProject::new(&world.vercel));
    let spec = SiteSpec::linked("client-9", "acme/site");
    let intent = world.host.intend(&cx, &projects, &spec);
    let id = projects.create(&cx, &spec, &intent).await.unwrap();
    for body in ["", "{}", "<html>404</html>", r#"{"error":{"code":"bad_gateway"}}"#] {
        world.server.faults().add(FaultRule::new(page(404, body)));
        let deleted = projects.delete(&cx, &spec, &id).await.unwrap_err();
        let found = projects.find(&cx, &spec).await.unwrap_err();
        for (error, effect) in [(deleted, Effect::Unknown), (found, Effect::None)] {
            assert_eq!((error.code(), error.effect()), ("not_the_provider", effect), "{body}");
            assert!(matches!(error.verdict(), Verdict::Retry { .. }), "{body}");
        }
        world.server.faults().clear();
        assert_eq!(world.of("project").len(), 1, "{body}");
    }
    projects.delete(&cx, &spec, &id).await.unwrap();
    projects.delete(&cx, &spec, &id).await.unwrap();
}

// covers: S9, S12
#[tokio::test]
async fn a_deployment_that_comes_back_without_its_mark_may_be_ours() {
    let world = World::start();
    let env = world.env().await;
    let (cx, live) = (world.cx("live"), VercelDeployment::new(&world.vercel));
    let spec = DeploymentSpec::production(env, source());
    let intent = world.host.intend(&cx, &live, &spec);
    let id = live.create(&cx, &spec, &intent).await.unwrap();
    let sent = |e: &provision_adapters::sim::Exchange| {
        e.request.method == "POST"
            && e.request.path.last().is_some_and(|last| last == "deployments")
    };
    let made = world.server.exchanges().into_iter().find(sent).unwrap().response.body;
    let mut made: serde_json::Value = serde_json::from_slice(&made).unwrap();
    made["meta"] = serde_json::json!({});
    let unmarked = page(200, &made.to_string());
    world.server.faults().add(FaultRule::new(unmarked).method("POST").once());
    let error = live.create(&cx, &spec, &intent).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("foreign_deployment", Effect::Unknown));
    assert_eq!(error.verdict(), &Verdict::Permanent);
    assert_eq!(live.find(&cx, &spec).await.unwrap(), Found::Ours(id));
}
