//! A 404 of GitHub means "not there" or "not for you": what takes something for gone needs a proof
//! that the token would have seen it, and what is in between proves nothing.

use provision_adapters::{
    github::{
        Account, Dispatch, GitHub, RepoFromTemplate, RepoSecrets, RepoVariables, SecretsSpec,
        VariablesSpec,
        sim::{GitHubSim, Token},
    },
    sim::{Fault, FaultRule, SimOptions, SimServer},
};
use provision_core::{
    Effect, ExternalId, Found, Listing, Resource, SecretRef, StepContext, StepError, Verdict,
    context::Memory,
};

use crate::github::{CANARY, CANARY_VALUE, World, config, deploy, number, ready, run, spec};

/// The other token, which comes in the place of the first one.
const SWAPPED: &str = "ghp_swapped0CANARY0token";

/// A world in which everything was made with a token that sees everything, and which then goes on
/// with another one.
async fn swapped(token: Token) -> (World, ExternalId) {
    let sim = GitHubSim::acme(CANARY).with_token(SWAPPED, token);
    let options = SimOptions::default().with_speed(0.0);
    let mut world = World::new();
    world.server = SimServer::start(sim, options).unwrap();
    world.github = GitHub::new(config(&world.server.url())).unwrap();
    let id = world.site().await;
    set(&world, "secrets", &RepoSecrets::new(&world.github), &secrets(&id)).await;
    set(&world, "variables", &RepoVariables::new(&world.github), &variables(&id)).await;
    world.host.set_secret("GITHUB_TOKEN", SWAPPED);
    (world, id)
}

async fn set<R: Resource>(world: &World, path: &str, resource: &R, spec: &R::Spec) {
    let cx = world.cx(path);
    let intent = world.host.intend(&cx, resource, spec);
    let id = resource.create(&cx, spec, &intent).await.unwrap();
    ready(resource, &cx, spec, &id).await;
}

fn secrets(id: &ExternalId) -> SecretsSpec {
    SecretsSpec::new(number(id), "acme/site").with("DB_URL", SecretRef::named("DB_URL"))
}

fn variables(id: &ExternalId) -> VariablesSpec {
    VariablesSpec::new(number(id), "acme/site").with("REGION", "eu")
}

/// The context of an attempt after a call that may have had an effect.
fn after_a_lost_call<R: Resource>(world: &World, resource: &R, spec: &R::Spec) -> StepContext {
    let intent = world.host.intend(&world.cx("repo"), resource, spec);
    let intent = Some(intent.record().clone());
    let memory = Memory { intent, unknown: true, may_exist: true, ..Memory::default() };
    world.host.attempt(run(1), "repo", 2, memory)
}

/// Tokens that do not see what was made, or of which nothing shows that they would.
fn blind() -> [(&'static str, Token); 6] {
    let classic = |scopes: &[&str]| Token::classic("octo", scopes);
    [
        ("an outsider's", Token::outsider("octo")),
        ("without repo", classic(&["delete_repo", "workflow"])),
        (
            "a fine-grained one of another repository",
            Token::fine_grained("octo").given(&["acme/b"]),
        ),
        (
            "a plain member's of another repository",
            classic(&["repo", "delete_repo"]).of_member().given(&[]),
        ),
        ("a fine-grained one", Token::fine_grained("octo").given(&[])),
        ("public only", classic(&["public_repo"])),
    ]
}

fn is_no_proof(error: &StepError, what: &str) {
    assert_eq!((error.code(), error.effect()), ("absence_unproven", Effect::Unknown), "{what}");
    assert_eq!(error.verdict(), &Verdict::Operator, "{what}: {error}");
    assert!(error.hint().is_some(), "{what}");
}

// covers: S7, S12, S14
#[tokio::test]
async fn what_another_token_does_not_see_is_not_taken_for_gone() {
    for (what, token) in blind() {
        let (world, id) = swapped(token).await;
        let before = world.server.inventory();
        let (cx, repos) = (world.cx("repo"), world.repos());
        is_no_proof(&repos.delete(&cx, &spec(), &id).await.unwrap_err(), what);
        let resource = RepoSecrets::new(&world.github);
        let any = ExternalId::from("x");
        is_no_proof(&resource.delete(&cx, &secrets(&id), &any).await.unwrap_err(), what);
        let lost = after_a_lost_call(&world, &resource, &secrets(&id));
        is_no_proof(&resource.find(&lost, &secrets(&id)).await.unwrap_err(), what);
        let resource = RepoVariables::new(&world.github);
        is_no_proof(&resource.delete(&cx, &variables(&id), &any).await.unwrap_err(), what);
        let lost = after_a_lost_call(&world, &resource, &variables(&id));
        is_no_proof(&resource.find(&lost, &variables(&id)).await.unwrap_err(), what);
        // A create whose answer was lost: what it may have made is not declared absent.
        let lost = after_a_lost_call(&world, &repos, &spec());
        is_no_proof(&repos.find(&lost, &spec()).await.unwrap_err(), what);
        // What a sweep cannot see is not proven gone by an empty list.
        assert_eq!(repos.list_owned(&cx).await.unwrap(), Listing::Unlisted, "{what}");
        assert_eq!(world.server.inventory(), before, "{what}");
        // The token that sees it removes it.
        world.host.set_secret("GITHUB_TOKEN", CANARY);
        repos.delete(&cx, &spec(), &id).await.unwrap();
        repos.delete(&cx, &spec(), &id).await.unwrap();
        assert!(world.server.inventory().is_empty(), "{what}");
    }
}

// covers: S7, S14
#[tokio::test]
async fn a_run_of_a_repository_out_of_sight_is_neither_absent_nor_over() {
    for (what, token) in blind() {
        let (world, _) = swapped(token).await;
        world.host.set_secret("GITHUB_TOKEN", CANARY);
        let (cx, dispatch) = (world.cx("deploy"), Dispatch::new(&world.github));
        let intent = world.host.intend(&cx, &dispatch, &deploy());
        let id = dispatch.create(&cx, &deploy(), &intent).await.unwrap();
        world.host.set_secret("GITHUB_TOKEN", SWAPPED);
        is_no_proof(&dispatch.delete(&cx, &deploy(), &id).await.unwrap_err(), what);
        let lost = after_a_lost_call(&world, &dispatch, &deploy());
        is_no_proof(&dispatch.find(&lost, &deploy()).await.unwrap_err(), what);
        // With its repository it is gone, once that is proven.
        world.host.set_secret("GITHUB_TOKEN", CANARY);
        let site = world.server.with(|sim| sim.repository_id("acme/site")).unwrap();
        let site = ExternalId::from(site.to_string().as_str());
        world.repos().delete(&cx, &spec(), &site).await.unwrap();
        dispatch.delete(&cx, &deploy(), &id).await.unwrap();
        assert_eq!(dispatch.find(&lost, &deploy()).await.unwrap(), Found::Absent, "{what}");
    }
}

// covers: S7
#[tokio::test]
async fn an_absence_is_proven_by_a_user_of_their_own_and_by_an_owner_of_the_organization() {
    let full = ["repo", "delete_repo"];
    for account in [Account::User("octo".into()), Account::Organization("acme".into())] {
        let sim = GitHubSim::acme(CANARY).with_token(SWAPPED, Token::classic("octo", &full));
        let server = SimServer::start(sim, SimOptions::default().with_speed(0.0)).unwrap();
        let mut world = World::new();
        world.server = server;
        let mut config = config(&world.server.url());
        config.account = account.clone();
        world.github = GitHub::new(config).unwrap();
        world.host.set_secret("GITHUB_TOKEN", SWAPPED);
        let repos = RepoFromTemplate::new(&world.github);
        let lost = after_a_lost_call(&world, &repos, &spec());
        assert_eq!(repos.find(&lost, &spec()).await.unwrap(), Found::Absent, "{account:?}");
        repos.delete(&lost, &spec(), &ExternalId::from("9")).await.unwrap();
        let listed = repos.list_owned(&lost).await.unwrap().complete();
        assert_eq!(listed, Some(Vec::new()), "{account:?}");
        // Proven by the same token that looks: without the membership nothing is.
        let refused = FaultRule::new(Fault::Status(403)).path_contains("/memberships/");
        world.server.faults().add(refused);
        let found = repos.find(&lost, &spec()).await;
        match account {
            Account::User(_) => assert_eq!(found.unwrap(), Found::Absent),
            Account::Organization(_) => is_no_proof(&found.unwrap_err(), "no membership"),
        }
    }
}

/// Pages that are not GitHub's, with the status that GitHub has for what is not there.
fn pages() -> Vec<Fault> {
    let page = |kind: &str, body: &str| Fault::Page {
        status: 404,
        content_type: kind.to_owned(),
        body: body.to_owned(),
    };
    vec![
        page("text/html", "<html><h1>404 Not Found</h1></html>"),
        page("text/plain", ""),
        page("application/json", "{}"),
        page("application/json", r#"{"message":"no Route matched with those values"}"#),
    ]
}

// covers: S7, S14
#[tokio::test]
async fn the_404_page_of_something_in_between_proves_nothing() {
    for fault in pages() {
        let (world, id) = swapped(Token::fine_grained("octo")).await;
        world.host.set_secret("GITHUB_TOKEN", CANARY);
        let before = world.server.inventory();
        let cx = world.cx("repo");
        let (any, what) = (ExternalId::from("x"), format!("{fault:?}"));
        let asked = |method: &str| FaultRule::new(fault.clone()).method(method);
        for method in ["DELETE", "GET"] {
            let rule = world.server.faults().add(asked(method));
            let effect = if method == "GET" { Effect::None } else { Effect::Unknown };
            let secrets_resource = RepoSecrets::new(&world.github);
            let variables_resource = RepoVariables::new(&world.github);
            let errors = [
                world.repos().delete(&cx, &spec(), &id).await.unwrap_err(),
                secrets_resource.delete(&cx, &secrets(&id), &any).await.unwrap_err(),
                variables_resource.delete(&cx, &variables(&id), &any).await.unwrap_err(),
            ];
            for error in errors {
                assert_eq!((error.code(), error.effect()), ("not_the_provider", effect), "{what}");
                assert!(matches!(error.verdict(), Verdict::Retry { .. }), "{what}");
            }
            world.server.faults().remove(rule);
        }
        world.server.faults().add(asked("GET"));
        let lost = after_a_lost_call(&world, &world.repos(), &spec());
        let error = world.repos().find(&lost, &spec()).await.unwrap_err();
        assert_eq!(error.code(), "not_the_provider", "{what}");
        assert_eq!(world.server.inventory(), before, "{what}");
        assert!(!format!("{error:?}").contains(CANARY_VALUE));
    }
}

// covers: S14
#[tokio::test]
async fn a_value_that_stands_in_the_list_is_not_deleted_by_a_404() {
    let (world, id) = swapped(Token::fine_grained("octo")).await;
    let (cx, any) = (world.cx("set"), ExternalId::from("x"));
    let denied = || FaultRule::new(Fault::Status(404)).method("DELETE").once();
    world.server.faults().add(denied());
    let resource = RepoSecrets::new(&world.github);
    let error = resource.delete(&cx, &secrets(&id), &any).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("still_there", Effect::Unknown));
    resource.delete(&cx, &secrets(&id), &any).await.unwrap();
    world.server.faults().add(denied());
    let resource = RepoVariables::new(&world.github);
    let error = resource.delete(&cx, &variables(&id), &any).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("still_there", Effect::Unknown));
    resource.delete(&cx, &variables(&id), &any).await.unwrap();
    // What it sees after all needs no proof.
    world.server.faults().add(denied());
    let error = world.repos().delete(&world.cx("repo"), &spec(), &id).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("still_there", Effect::Unknown));
    assert_eq!(world.kinds(), ["repo"]);
}
