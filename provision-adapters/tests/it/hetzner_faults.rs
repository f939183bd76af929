//! Hetzner when calls fail: what is proven, what is unknown, and what is found afterwards.

use std::{error::Error, time::Duration};

use provision_adapters::{
    hetzner::{Server, SshKey, SshKeySpec, sim::TOKEN},
    sim::{Fault, FaultRule, RetryAfterForm},
};
use provision_core::{Effect, Found, Resource, StepError, Verdict};

use crate::hetzner::{CANARY, PUBLIC_KEY, World, agent, check, gone, settled};

/// Faults after which the provider has done what it was asked.
fn lost_answers() -> Vec<Fault> {
    vec![
        Fault::DropAfter,
        Fault::ResetAfter,
        Fault::StatusAfter(500),
        Fault::StatusAfter(502),
        Fault::StatusAfter(504),
        Fault::CutBody,
        Fault::LyingLength,
        Fault::Garbage200,
        Fault::Html200,
    ]
}

/// X1: neither the token nor a value is in anything an error can print.
pub(crate) fn assert_clean(error: &StepError) {
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

/// Creates with a lost answer, then finds exactly what was made, and removes it the same way.
pub(crate) async fn loses_the_answer<R: Resource>(
    world: &World,
    resource: &R,
    spec: &R::Spec,
    (path, kind): (&str, &str),
) {
    for fault in lost_answers() {
        let name = fault.name();
        let cx = world.cx(&format!("{path}-{name}-{}", world.server.requests().len()));
        world.server.faults().add(FaultRule::new(fault).method("POST").once());
        let intent = world.host.intend(&cx, resource, spec);
        let error = resource.create(&cx, spec, &intent).await.expect_err(name);
        assert_eq!(error.effect(), Effect::Unknown, "{name}: {error}");
        assert!(matches!(error.verdict(), Verdict::Retry { .. }), "{name}: {error}");
        assert_clean(&error);
        let Found::Ours(id) = resource.find(&cx, spec).await.unwrap() else { panic!("{name}") };
        assert_eq!(world.of(kind).len(), 1, "{name}");
        settled(&cx, resource, spec, &id).await.unwrap();
        // A repeated create cannot make a second one.
        let error = resource.create(&cx, spec, &intent).await.expect_err(name);
        assert_eq!((error.code(), error.effect()), ("name_taken", Effect::Unknown), "{name}");
        world.server.faults().add(FaultRule::new(Fault::DropAfter).method("DELETE").once());
        let error = resource.delete(&cx, spec, &id).await.unwrap_err();
        assert_eq!(error.effect(), Effect::Unknown);
        gone(&cx, resource, spec, &id).await;
        assert_eq!(world.of(kind), [], "{name}");
        world.server.faults().clear();
    }
}

// covers: S9, S14, X1, R5-38
#[tokio::test]
async fn a_machine_whose_answer_was_lost_is_found_again() {
    let world = World::start();
    let resource = Server::new(&world.hetzner);
    loses_the_answer(&world, &resource, &agent(), ("machine", "server")).await;
}

// covers: S9, S14, X1
#[tokio::test]
async fn a_key_whose_answer_was_lost_is_found_again() {
    let world = World::start();
    let resource = SshKey::new(&world.hetzner);
    let spec = SshKeySpec::new("acme-ops", PUBLIC_KEY);
    loses_the_answer(&world, &resource, &spec, ("key", "ssh_key")).await;
}

/// Every way in which a look-up can fail; none of them says "absent".
pub(crate) async fn never_absent<R: Resource>(world: &World, resource: &R, spec: &R::Spec) {
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
        let cx = host.context(crate::hetzner::run(1), "absent");
        let error = resource.find(&cx, spec).await.expect_err(name);
        assert_eq!(error.effect(), Effect::None, "{name}");
        assert_clean(&error);
        world.server.faults().clear();
    }
}

// covers: S7, S9, R1-36
#[tokio::test]
async fn a_failed_look_is_never_absent() {
    let world = World::start();
    never_absent(&world, &Server::new(&world.hetzner), &agent()).await;
    let key = SshKeySpec::new("acme-ops", PUBLIC_KEY);
    never_absent(&world, &SshKey::new(&world.hetzner), &key).await;
    assert_eq!(world.changes(), 0);
}

#[tokio::test]
async fn a_page_of_something_in_between_is_no_answer() {
    let world = World::start();
    let (cx, machines) = (world.cx("machine"), Server::new(&world.hetzner));
    let (id, _) = crate::hetzner::build(&world.host, &cx, &machines, &agent()).await;
    world.server.faults().add(FaultRule::new(Fault::Html200).method("DELETE").once());
    let error = machines.delete(&cx, &agent(), &id).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("garbage", Effect::Unknown));
    // A 404 whose body is another's proves nothing.
    world.server.faults().add(FaultRule::new(Fault::Echo(404)).once());
    let error = machines.delete(&cx, &agent(), &id).await.unwrap_err();
    assert_eq!(error.code(), "not_the_provider");
    gone(&cx, &machines, &agent(), &id).await;
    // What a ghost creates is not there, and not waited for forever.
    world.server.faults().add(FaultRule::new(Fault::Ghost).method("POST").once());
    let intent = world.host.intend(&cx, &machines, &agent());
    let id = machines.create(&cx, &agent(), &intent).await.unwrap();
    let look = machines.ready(&world.late("machine"), &agent(), &id).await.unwrap();
    assert_eq!(look, provision_core::Readiness::Broken { code: "vanished".to_owned() });
}

// covers: L4, R2-48
#[tokio::test]
async fn a_used_up_project_waits_for_some_calls_and_not_for_all_of_them() {
    let world = World::start();
    world.server.with(|sim| sim.set_calls_per_hour(3));
    let keys = SshKey::new(&world.hetzner);
    let spec = SshKeySpec::new("acme-ops", PUBLIC_KEY);
    // By name, by mark, by key: three calls.
    assert_eq!(keys.find(&world.cx("key"), &spec).await.unwrap(), Found::Absent);
    let seen = world.host.told().observed;
    let remaining: Vec<u32> = seen.iter().map(|(_, seen)| seen.remaining.unwrap().0).collect();
    assert_eq!(remaining, [2, 1, 0]);
    assert!(seen.iter().all(|(bucket, _)| bucket == "hetzner/default"));
    let paused: Vec<_> = seen.iter().map(|(_, seen)| seen.pause).collect();
    assert_eq!(paused, [None, None, Some(Duration::from_secs(1))]);
    let error = keys.find(&world.cx("key"), &spec).await.unwrap_err();
    assert_eq!(error.code(), "rate_limit_exceeded");
    let after = Duration::from_secs(5);
    assert_eq!(
        error.verdict(),
        &Verdict::Throttled { bucket: "hetzner/default".to_owned(), after }
    );
    assert_eq!(world.host.told().observed.last().unwrap().1.pause, Some(after));
    check(&world);
}

// covers: R2-48
#[tokio::test]
async fn a_wait_asked_for_is_passed_on() {
    let world = World::start();
    let machines = Server::new(&world.hetzner);
    for (form, expected) in [(RetryAfterForm::Seconds(120), 120), (RetryAfterForm::Absent, 5)] {
        let rule = FaultRule::new(Fault::RateLimited { retry_after: form }).once();
        world.server.faults().add(rule);
        let error = machines.find(&world.cx("machine"), &agent()).await.unwrap_err();
        let Verdict::Throttled { after, .. } = error.verdict() else { panic!("{error}") };
        assert_eq!(after.as_secs(), expected);
    }
}

// covers: R1-02, R2-09
#[tokio::test]
async fn refusals_of_the_provider_are_told_apart() {
    let world = World::start();
    let (cx, machines) = (world.cx("machine"), Server::new(&world.hetzner));
    let refused = async || {
        let intent = world.host.intend(&cx, &machines, &agent());
        let error = machines.create(&cx, &agent(), &intent).await.unwrap_err();
        assert_clean(&error);
        assert!(error.message().unwrap().contains("correlation id sim-"), "{error}");
        error
    };
    // No room there: the same again only after a while, or elsewhere.
    world.server.with(|sim| sim.set_full("fsn1", true));
    let error = refused().await;
    assert_eq!((error.code(), error.effect()), ("resource_unavailable", Effect::None));
    assert_eq!(error.verdict(), &Verdict::Retry { after: Some(Duration::from_secs(120)) });
    assert!(error.hint().unwrap().contains("location"));
    // The project's limit: a person's matter.
    world.server.with(|sim| {
        sim.set_full("fsn1", false);
        sim.set_servers_max(0);
    });
    let error = refused().await;
    assert_eq!((error.code(), error.verdict()), ("resource_limit_exceeded", &Verdict::Operator));
    world.server.with(|sim| sim.set_servers_max(1));
    for (status, code) in [(423, "locked"), (403, "maintenance"), (412, "placement_error")] {
        world.server.with(|sim| sim.refuse_next(status, code));
        let error = refused().await;
        assert_eq!((error.code(), error.effect()), (code, Effect::None));
        assert!(matches!(error.verdict(), Verdict::Retry { after: Some(_) }), "{error}");
    }
    world.server.with(|sim| sim.refuse_next(409, "conflict"));
    assert_eq!(refused().await.effect(), Effect::Unknown);
    assert_eq!(world.of("server"), []);
    check(&world);
}

#[tokio::test]
async fn a_token_that_may_only_read_or_nothing_at_all_is_told_apart() {
    let world = World::start();
    let (cx, machines) = (world.cx("machine"), Server::new(&world.hetzner));
    world.server.with(|sim| sim.accept_reader("reader-token-canary"));
    world.host.set_secret("HCLOUD_TOKEN", "reader-token-canary");
    assert_eq!(machines.find(&cx, &agent()).await.unwrap(), Found::Absent);
    let intent = world.host.intend(&cx, &machines, &agent());
    let error = machines.create(&cx, &agent(), &intent).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("token_readonly", &Verdict::Permanent));
    assert!(error.hint().is_some());
    assert_clean(&error);
    world.host.set_secret("HCLOUD_TOKEN", "stale-token-canary");
    let error = machines.find(&cx, &agent()).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("unauthorized", &Verdict::Permanent));
    assert_clean(&error);
}
