//! Secrets and variables of GitHub repositories: whose repository it is, and what is not there yet.

use std::time::Duration;

use provision_adapters::{
    github::{LISTING_LAG, RepoSecrets, RepoVariables, SecretsSpec, VariablesSpec},
    sim::{Fault, FaultRule},
};
use provision_core::{
    Effect, ExternalId, Found, Resource, SecretRef, StepContext, StepError, Verdict,
    context::Memory,
};

use crate::github::{World, number, ready, run};

fn secrets(id: &ExternalId) -> SecretsSpec {
    SecretsSpec::new(number(id), "acme/site").with("A", SecretRef::named("DB_URL"))
}

fn variables(id: &ExternalId) -> VariablesSpec {
    VariablesSpec::new(number(id), "acme/site").with("A", "1")
}

async fn make<R: Resource>(world: &World, cx: &StepContext, resource: &R, spec: &R::Spec) {
    let intent = world.host.intend(cx, resource, spec);
    let id = resource.create(cx, spec, &intent).await.unwrap();
    ready(resource, cx, spec, &id).await;
}

/// Makes a repository under the old name, with a set of its own.
async fn follow<R: Resource>(world: &World, resource: &R, spec: impl Fn(&ExternalId) -> R::Spec) {
    let theirs = world.server.with(|sim| sim.add_foreign("acme/site", "theirs"));
    let theirs = spec(&ExternalId::from(theirs.to_string().as_str()));
    let other = world.host.context(run(2), "set");
    assert_eq!(resource.find(&other, &theirs).await.unwrap(), Found::Absent);
    make(world, &other, resource, &theirs).await;
}

/// Deletes a set after its repository was renamed, with a successor under the old name or not.
async fn renamed<R: Resource>(
    resource: impl Fn(&World) -> R + Send + Sync,
    spec: impl Fn(&ExternalId) -> R::Spec + Send + Sync,
    left: [&[&str]; 2],
) {
    for (followed, left) in [false, true].into_iter().zip(left) {
        let world = World::new();
        let (cx, resource, site) = (world.cx("set"), resource(&world), world.site().await);
        let wanted = spec(&site);
        make(&world, &cx, &resource, &wanted).await;
        world.server.with(|sim| sim.rename("acme/Site", "old-site"));
        if followed {
            follow(&world, &resource, &spec).await;
        }
        let found = resource.find(&cx, &wanted).await.unwrap();
        assert!(matches!(found, Found::Foreign(_)), "found under its new name");
        delete_twice(&cx, &resource, &wanted).await;
        assert_eq!(world.kinds(), left, "followed: {followed}");
        // Without its repository a set is gone, whoever has the name.
        world.repos().delete(&world.cx("repo"), &crate::github::spec(), &site).await.unwrap();
        delete_twice(&cx, &resource, &wanted).await;
        assert_eq!(world.kinds(), left[1..], "followed: {followed}");
    }
}

async fn delete_twice<R: Resource>(cx: &StepContext, resource: &R, spec: &R::Spec) {
    for _ in 0..2 {
        resource.delete(cx, spec, &ExternalId::from("x")).await.unwrap();
    }
    assert_eq!(resource.find(cx, spec).await.unwrap(), Found::Absent);
}

// covers: S11, S14
#[tokio::test]
async fn values_of_a_renamed_repository_are_deleted_and_those_of_its_successor_are_not() {
    let left: [&[&str]; 2] = [&["repo"], &["repo", "repo", "secret"]];
    renamed(|world| RepoSecrets::new(&world.github), secrets, left).await;
    let left: [&[&str]; 2] = [&["repo"], &["repo", "repo", "variable"]];
    renamed(|world| RepoVariables::new(&world.github), variables, left).await;
}

async fn set<R: Resource>(
    world: &World,
    cx: &StepContext,
    resource: &R,
    spec: &R::Spec,
) -> Result<(), StepError> {
    let intent = world.host.intend(cx, resource, spec);
    resource.create(cx, spec, &intent).await.map(drop)
}

// covers: S7
#[tokio::test]
async fn a_404_right_after_the_repository_was_made_is_asked_again() {
    let places = [
        ("GET", "/repositories/"),
        ("GET", "/public-key"),
        ("PUT", "/secrets/"),
        ("POST", "/variables"),
    ];
    for (method, path) in places {
        let world = World::new();
        let site = world.site().await;
        let call = async |cx: &StepContext| {
            if path == "/variables" {
                return set(&world, cx, &RepoVariables::new(&world.github), &variables(&site))
                    .await;
            }
            set(&world, cx, &RepoSecrets::new(&world.github), &secrets(&site)).await
        };
        let missing = || FaultRule::new(Fault::Status(404)).method(method).path_contains(path);
        world.server.faults().add(missing().once());
        let cx = world.cx("set");
        let error = call(&cx).await.unwrap_err();
        assert_eq!((error.code(), error.effect()), ("not_visible_yet", Effect::None), "{path}");
        assert!(matches!(error.verdict(), Verdict::Retry { .. }), "{path}");
        call(&cx).await.unwrap();
        // Long after the intent it is a refusal.
        world.server.faults().add(missing());
        let secrets_resource = RepoSecrets::new(&world.github);
        let intent = world.host.intend(&cx, &secrets_resource, &secrets(&site));
        let mut record = intent.record().clone();
        let age = LISTING_LAG + Duration::from_secs(1);
        let before = u64::try_from(age.as_millis()).unwrap();
        record.at = provision_core::Timestamp::from_millis(record.at.as_millis() - before);
        let memory = Memory { intent: Some(record), ..Memory::default() };
        let late = world.host.attempt(run(1), "set", 2, memory);
        let error = call(&late).await.unwrap_err();
        assert_eq!((error.code(), error.verdict()), ("not_found", &Verdict::Permanent), "{path}");
    }
}
