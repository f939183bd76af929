//! GitHub under faults: for every call that changes something, what a lost answer leads to, and
//! that a look finds what is there. Never more than one, never an absent that is not.

use std::{future::Future, pin::Pin, time::Duration};

use provision_adapters::{
    github::{Dispatch, RepoSecrets, RepoVariables, SecretsSpec, VariablesSpec},
    sim::{Fault, FaultRule, RetryAfterForm, SimOptions},
};
use provision_core::{
    Effect, ExternalId, Found, Readiness, Resource, SecretRef, StepContext, StepError, Verdict,
    context::Memory,
};

use crate::github::{CANARY, CANARY_VALUE, World, all_texts, deploy, number, ready, run, spec};

/// The effect is there, and the answer is not, or is not usable.
fn lost_answers() -> Vec<Fault> {
    vec![
        Fault::DropAfter,
        Fault::ResetAfter,
        Fault::StatusAfter(500),
        Fault::StatusAfter(502),
        Fault::StatusAfter(504),
        Fault::CutBody,
        Fault::LyingLength,
        Fault::EndlessBody { bytes: 4 << 20 },
        Fault::SlowHeaders(Duration::from_secs(20)),
        Fault::Garbage200,
        Fault::Html200,
    ]
}

/// Nothing happened, and the client cannot know that.
fn lost_requests() -> Vec<Fault> {
    vec![Fault::RefuseBefore, Fault::Status(500), Fault::Status(503), Fault::Status(408)]
}

type Op<'a> = Pin<Box<dyn Future<Output = Result<(), StepError>> + 'a>>;

/// One call that changes something: how it is set up, made, and what is there afterwards.
struct Case {
    name: &'static str,
    method: &'static str,
    path: &'static str,
    call: for<'a> fn(&'a World, &'a ExternalId) -> Op<'a>,
    /// Kinds in the world when it was carried out, and when it was not.
    done: &'static [&'static str],
    undone: &'static [&'static str],
}

fn secrets_spec(id: &ExternalId) -> SecretsSpec {
    SecretsSpec::new(number(id), "acme/site").with("DB_URL", SecretRef::named("DB_URL"))
}

fn variables_spec(id: &ExternalId) -> VariablesSpec {
    VariablesSpec::new(number(id), "acme/site").with("REGION", "eu")
}

async fn create<R: Resource>(
    world: &World,
    path: &str,
    resource: R,
    spec: R::Spec,
) -> Result<(), StepError> {
    let cx = world.cx(path);
    let intent = world.host.intend(&cx, &resource, &spec);
    resource.create(&cx, &spec, &intent).await.map(drop)
}

fn cases() -> Vec<Case> {
    vec![
        Case {
            name: "set a secret",
            method: "PUT",
            path: "/secrets/",
            call: |w, id| {
                Box::pin(create(w, "secrets", RepoSecrets::new(&w.github), secrets_spec(id)))
            },
            done: &["repo", "secret"],
            undone: &["repo"],
        },
        Case {
            name: "create a variable",
            method: "POST",
            path: "/variables",
            call: |w, id| {
                Box::pin(create(w, "variables", RepoVariables::new(&w.github), variables_spec(id)))
            },
            done: &["repo", "variable"],
            undone: &["repo"],
        },
        Case {
            name: "dispatch a workflow",
            method: "POST",
            path: "/dispatches",
            call: |w, _| Box::pin(create(w, "deploy", Dispatch::new(&w.github), deploy())),
            done: &["repo", "run"],
            undone: &["repo"],
        },
        Case {
            name: "delete the repository",
            method: "DELETE",
            path: "/repos/acme/Site",
            call: |w, id| {
                Box::pin(async move { w.repos().delete(&w.cx("repo"), &spec(), id).await })
            },
            done: &[],
            undone: &["repo"],
        },
    ]
}

// covers: S9, S7, X1, R5-38
#[tokio::test]
async fn a_lost_answer_of_a_create_is_unknown_and_the_repository_is_found_again() {
    for fault in lost_answers() {
        let world = World::new();
        let (cx, repos) = (world.cx("repo"), world.repos());
        let rule = FaultRule::new(fault.clone()).method("POST").path_contains("/generate").once();
        world.suffers(&fault, rule);
        let intent = world.host.intend(&cx, &repos, &spec());
        let Err(error) = repos.create(&cx, &spec(), &intent).await else {
            panic!("{fault:?}: {:?}", world.server.requests())
        };
        world.recovers();
        check_unknown(&error, &fault, "generate");
        let Found::Ours(id) = repos.find(&cx, &spec()).await.unwrap() else {
            panic!("{fault:?}: not found again")
        };
        // A create sent again all the same is refused by the name, and makes no second one.
        let again = repos.create(&cx, &spec(), &intent).await.unwrap_err();
        assert_eq!((again.code(), again.effect()), ("name_taken", Effect::Unknown));
        ready(&repos, &cx, &spec(), &id).await;
        assert_eq!(world.kinds(), ["repo"], "{fault:?}");
        repos.delete(&cx, &spec(), &id).await.unwrap();
        assert!(world.server.inventory().is_empty());
    }
}

// covers: S9, X1
#[tokio::test]
async fn a_lost_answer_of_any_other_change_is_unknown_and_a_repetition_is_harmless() {
    for case in cases() {
        for fault in lost_answers() {
            let world = World::new();
            let id = world.site().await;
            let rule = FaultRule::new(fault.clone()).method(case.method).path_contains(case.path);
            world.suffers(&fault, rule.once());
            let error = (case.call)(&world, &id).await.unwrap_err();
            world.recovers();
            check_unknown(&error, &fault, case.name);
            assert_eq!(world.kinds(), case.done, "{} {fault:?}", case.name);
            if case.name != "dispatch a workflow" {
                let again = (case.call)(&world, &id).await;
                let taken = again.as_ref().is_err_and(|error| error.code() == "name_taken");
                assert!(again.is_ok() || taken, "{} {fault:?}: {again:?}", case.name);
                assert_eq!(world.kinds(), case.done, "{} {fault:?}", case.name);
            }
        }
    }
}

// covers: S9
#[tokio::test]
async fn a_request_that_was_lost_before_its_effect_is_unknown_too() {
    for case in cases() {
        for fault in lost_requests() {
            let world = World::new();
            let id = world.site().await;
            let rule = FaultRule::new(fault.clone()).method(case.method).path_contains(case.path);
            world.server.faults().add(rule.once());
            let error = (case.call)(&world, &id).await.unwrap_err();
            check_unknown(&error, &fault, case.name);
            assert_eq!(world.kinds(), case.undone, "{} {fault:?}", case.name);
            (case.call)(&world, &id).await.unwrap();
            assert_eq!(world.kinds(), case.done, "{} {fault:?}", case.name);
        }
    }
}

fn check_unknown(error: &StepError, fault: &Fault, what: &str) {
    assert_eq!(error.effect(), Effect::Unknown, "{what} {fault:?}: {error}");
    let verdict = error.verdict();
    assert!(matches!(verdict, Verdict::Retry { .. }), "{what} {fault:?}: {verdict:?}");
    no_secret(error);
}

fn no_secret(error: &StepError) {
    let text = all_texts(error);
    for canary in [CANARY, CANARY_VALUE, "AAAACANARYCLONETOKEN", "127.0.0.1", "Server Error"] {
        assert!(!text.contains(canary), "{canary} in {text}");
    }
}

// covers: S9
#[tokio::test]
async fn a_cut_topic_change_leaves_the_repository_ours_and_the_next_look_finishes_it() {
    for fault in lost_answers() {
        let world = World::new();
        let (cx, repos) = (world.cx("repo"), world.repos());
        let intent = world.host.intend(&cx, &repos, &spec());
        let id = repos.create(&cx, &spec(), &intent).await.unwrap();
        world.suffers(&fault, FaultRule::new(fault.clone()).method("PUT").once());
        let error = repos.ready(&cx, &spec(), &id).await.unwrap_err();
        world.recovers();
        check_unknown(&error, &fault, "topics");
        ready(&repos, &cx, &spec(), &id).await;
        assert_eq!(world.server.with(|sim| sim.topics("acme/site")).len(), 3);
    }
}

// covers: S7, S9
#[tokio::test]
async fn a_run_whose_answer_was_lost_is_found_by_its_key() {
    for fault in lost_answers() {
        let world = World::new();
        world.site().await;
        let dispatch = Dispatch::new(&world.github);
        let cx = world.cx("deploy");
        let intent = world.host.intend(&cx, &dispatch, &deploy());
        let rule = FaultRule::new(fault.clone()).method("POST").path_contains("/dispatches").once();
        world.suffers(&fault, rule);
        assert!(dispatch.create(&cx, &deploy(), &intent).await.is_err());
        world.recovers();
        let memory = Memory { intent: Some(intent.record().clone()), ..Memory::default() };
        let later = world.host.attempt(run(1), "deploy", 2, memory.clone());
        let found = dispatch.find(&later, &deploy()).await.unwrap();
        assert!(matches!(found, Found::Ours(_)), "{fault:?}: {found:?}");
        // Another step's key finds nothing, and a second run with ours is seen as a second one.
        let other = world.host.attempt(run(1), "other", 2, memory.clone());
        assert_eq!(dispatch.find(&other, &deploy()).await.unwrap(), Found::Absent);
        dispatch.create(&cx, &deploy(), &intent).await.unwrap();
        let found = dispatch.find(&later, &deploy()).await.unwrap();
        assert!(matches!(&found, Found::Many(both) if both.len() == 2), "{found:?}");
    }
}

// covers: S7, R1-36, R1-15
#[tokio::test]
async fn a_failed_look_is_never_absent_and_nothing_is_made() {
    let faults = [
        Fault::Status(500),
        Fault::Status(502),
        Fault::Status(403),
        Fault::Status(401),
        Fault::TokenRevoked,
        Fault::DropAfter,
        Fault::RefuseBefore,
        Fault::CutBody,
        Fault::LyingLength,
        Fault::Garbage200,
        Fault::Html200,
        Fault::SlowHeaders(Duration::from_secs(20)),
        Fault::Redirect("http://127.0.0.1:1/".to_owned()),
        Fault::RateLimited { retry_after: RetryAfterForm::Absent },
    ];
    for fault in faults {
        // The look at the name, and the look at the owner that makes a 404 count.
        for path in ["/repos/", "/orgs/"] {
            let world = World::new();
            world.suffers(&fault, FaultRule::new(fault.clone()).path_prefix(path));
            let error = world.repos().find(&world.cx("repo"), &spec()).await.unwrap_err();
            assert_eq!(error.effect(), Effect::None, "{fault:?}");
            no_secret(&error);
            let requests = world.server.requests();
            assert!(requests.iter().all(|line| line.method == "GET"), "{requests:?}");
        }
        let world = World::new();
        let site = world.site().await;
        world.suffers(&fault, FaultRule::new(fault.clone()).method("GET"));
        let cx = world.cx("x");
        let (secrets, variables) =
            (RepoSecrets::new(&world.github), RepoVariables::new(&world.github));
        assert!(secrets.find(&cx, &secrets_spec(&site)).await.is_err(), "{fault:?}");
        assert!(variables.find(&cx, &variables_spec(&site)).await.is_err(), "{fault:?}");
        assert!(world.repos().list_owned(&cx).await.is_err(), "{fault:?}");
        let id = ExternalId::from("1");
        assert!(world.repos().ready(&cx, &spec(), &id).await.is_err(), "{fault:?}");
        assert!(world.repos().delete(&cx, &spec(), &id).await.is_err(), "{fault:?}");
        assert_eq!(world.kinds(), ["repo"]);
    }
}

// covers: X1, R2-20
#[tokio::test]
async fn a_revoked_token_is_permanent_and_says_what_to_do() {
    let world = World::new();
    world.server.faults().add(FaultRule::new(Fault::TokenRevoked));
    let (cx, repos) = (world.cx("repo"), world.repos());
    let intent = world.host.intend(&cx, &repos, &spec());
    let error = repos.create(&cx, &spec(), &intent).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("unauthorized", Effect::None));
    assert_eq!(error.verdict(), &Verdict::Permanent);
    assert!(error.hint().unwrap().contains("token"));
    no_secret(&error);
}

// covers: S9
#[tokio::test]
async fn a_create_that_was_delivered_twice_makes_one() {
    let world = World::new();
    let (cx, repos) = (world.cx("repo"), world.repos());
    world.server.faults().add(FaultRule::new(Fault::Duplicate).method("POST").once());
    let intent = world.host.intend(&cx, &repos, &spec());
    // The second delivery's answer is the one that comes back.
    let error = repos.create(&cx, &spec(), &intent).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("name_taken", Effect::Unknown));
    assert!(matches!(repos.find(&cx, &spec()).await.unwrap(), Found::Ours(_)));
    assert_eq!(world.kinds(), ["repo"]);
}

#[tokio::test]
async fn a_ghost_is_never_ready() {
    let world = World::new();
    let (cx, repos) = (world.cx("repo"), world.repos());
    world.server.faults().add(FaultRule::new(Fault::Ghost).method("POST").once());
    let intent = world.host.intend(&cx, &repos, &spec());
    let id = repos.create(&cx, &spec(), &intent).await.unwrap();
    for _ in 0..3 {
        let state = repos.ready(&cx, &spec(), &id).await.unwrap();
        assert!(matches!(state, Readiness::NotYet { .. }));
    }
    repos.delete(&cx, &spec(), &id).await.unwrap();
}

// covers: S7
#[tokio::test]
async fn what_is_visible_late_is_not_ready_until_it_is_seen() {
    let world = World::new();
    let (cx, repos) = (world.cx("repo"), world.repos());
    let late = Fault::LateVisible(Duration::from_secs(3));
    world.server.faults().add(FaultRule::new(late).method("POST").once());
    let intent = world.host.intend(&cx, &repos, &spec());
    let id = repos.create(&cx, &spec(), &intent).await.unwrap();
    let state = repos.ready(&cx, &spec(), &id).await.unwrap();
    assert!(matches!(state, Readiness::NotYet { .. }), "a 404 after the 201 is normal");
    ready(&repos, &cx, &spec(), &id).await;
    assert_eq!(repos.list_owned(&cx).await.unwrap().complete().unwrap().len(), 1);
}

// covers: S9
#[tokio::test]
async fn a_storm_of_faults_leaves_one_repository_with_everything_in_it() {
    for seed in 0..12 {
        let options = SimOptions::default().with_speed(0.0).with_seed(seed);
        let world = World::with(options);
        for fault in [
            Fault::DropAfter,
            Fault::ResetAfter,
            Fault::Status(500),
            Fault::StatusAfter(502),
            Fault::CutBody,
            Fault::RefuseBefore,
            Fault::Duplicate,
            Fault::RateLimited { retry_after: RetryAfterForm::Seconds(1) },
        ] {
            world.server.faults().add(FaultRule::new(fault).chance(0.06));
        }
        let cx = world.cx("repo");
        let repo = protocol(&world, &cx, &world.repos(), &spec()).await;
        let id = ExternalId::from(repo.id.to_string().as_str());
        let secrets = RepoSecrets::new(&world.github);
        protocol(&world, &world.cx("secrets"), &secrets, &secrets_spec(&id)).await;
        let variables = RepoVariables::new(&world.github);
        protocol(&world, &world.cx("variables"), &variables, &variables_spec(&id)).await;
        assert_eq!(world.kinds(), ["repo", "secret", "variable"], "seed {seed}");
    }
}

/// Looks, creates and polls as the engine does, until it is there; errors start it again.
async fn protocol<R: Resource>(
    world: &World,
    cx: &StepContext,
    resource: &R,
    spec: &R::Spec,
) -> R::Output {
    let mut intended = false;
    for _ in 0..60 {
        let Ok(found) = resource.find(cx, spec).await else { continue };
        let id = match found {
            Found::Ours(id) => id,
            // Absent was recorded before the intent: what is there now is ours.
            Found::Foreign(foreign) if intended && !foreign.markable => foreign.id,
            Found::Absent => {
                let intent = world.host.intend(cx, resource, spec);
                intended = true;
                match resource.create(cx, spec, &intent).await {
                    Ok(id) => id,
                    Err(_) => continue,
                }
            }
            other => panic!("{other:?}"),
        };
        if let Ok(Readiness::Ready(output)) = resource.ready(cx, spec, &id).await {
            return output;
        }
    }
    panic!("it never came to rest");
}
