//! Supabase when calls fail: what is proven, what is unknown, and what is found afterwards.

use std::{error::Error, time::Duration};

use provision_adapters::{
    sim::{Fault, FaultRule, RetryAfterForm},
    supabase::ProjectSpec,
};
use provision_core::{
    Effect, ExternalId, Found, Readiness, Resource, StepError, Timestamp, Verdict, context::Memory,
};

use crate::supabase::{CANARY, World, run, spec};

/// Faults after which the provider has done what it was asked.
fn lost_answers() -> Vec<Fault> {
    vec![
        Fault::DropAfter,
        Fault::ResetAfter,
        Fault::StatusAfter(500),
        Fault::StatusAfter(504),
        Fault::CutBody,
        Fault::LyingLength,
        Fault::Garbage200,
        Fault::Html200,
    ]
}

/// X1: no secret is in anything an error can print.
fn assert_clean(error: &StepError, secrets: &[String]) {
    let mut told = format!("{error} {error:?} {:?} {:?}", error.message(), error.hint());
    let mut source: Option<&(dyn Error + 'static)> = error.source();
    while let Some(inner) = source {
        told.push_str(&format!("{inner} {inner:?}"));
        source = inner.source();
    }
    for secret in secrets.iter().map(String::as_str).chain([CANARY]) {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
}

// covers: S7, S9, X1, R1-28, R5-38
#[tokio::test]
async fn a_create_without_an_answer_is_unknown_and_found_again() {
    let world = World::start();
    let spec = spec();
    for fault in lost_answers() {
        let name = fault.name();
        let cx = world.cx(&format!("{name}-{}", world.asked().len()));
        let rule = FaultRule::new(fault).method("POST").path_prefix("/v1/projects").once();
        world.server.faults().add(rule);
        let intent = world.host.intend(&cx, &world.projects, &spec);
        let error = world.projects.create(&cx, &spec, &intent).await.expect_err(name);
        assert_eq!(error.effect(), Effect::Unknown, "{name}: {error}");
        assert!(matches!(error.verdict(), Verdict::Retry { .. }), "{name}: {error}");
        let password = intent.secret("db_password").unwrap().expose().to_owned();
        assert_clean(&error, std::slice::from_ref(&password));
        let found = world.projects.find(&cx, &spec).await.unwrap();
        let Found::Ours(id) = found else { panic!("{name}: {found:?}") };
        assert_eq!(world.made(), 1, "{name}");
        let project = world.settle(&cx, &spec, &id).await.unwrap();
        // The run still knows the password of the project whose answer it never saw.
        assert_eq!(cx.reveal(&project.db_password).await.unwrap().expose(), password);
        let got = world.server.with(|sim| sim.password(id.as_str()).map(str::to_owned));
        assert_eq!(got, Some(password), "{name}");
        world.projects.delete(&cx, &spec, &id).await.unwrap();
        assert_eq!(world.made(), 0, "{name}");
    }
}

// covers: S7, S14
#[tokio::test]
async fn a_delete_without_an_answer_is_unknown_and_repeated() {
    let world = World::start();
    let spec = spec();
    for fault in [Fault::DropAfter, Fault::StatusAfter(500), Fault::CutBody, Fault::Html200] {
        let name = fault.name();
        let cx = world.cx(name);
        let id = world.create(&cx, &spec).await;
        world.server.faults().add(FaultRule::new(fault).method("DELETE").once());
        let error = world.projects.delete(&cx, &spec, &id).await.expect_err(name);
        assert_eq!(error.effect(), Effect::Unknown, "{name}: {error}");
        assert_clean(&error, &[]);
        world.projects.delete(&cx, &spec, &id).await.unwrap();
        assert_eq!(world.made(), 0, "{name}");
    }
}

// covers: S7, R1-06, X11
#[tokio::test]
async fn a_lock_down_without_an_answer_is_looked_up_and_not_repeated() {
    let world = World::start();
    let spec = spec();
    for fault in lost_answers() {
        let name = fault.name();
        let cx = world.cx(&format!("{name}-{}", world.asked().len()));
        let id = world.create(&cx, &spec).await;
        // The first query reads the records, the second is the transaction.
        let path = format!("/v1/projects/{id}/database/query");
        world.server.faults().add(FaultRule::new(fault).path_prefix(&path).nth(2).once());
        let error = world.settle(&cx, &spec, &id).await.expect_err(name);
        assert_eq!(error.effect(), Effect::Unknown, "{name}: {error}");
        assert_clean(&error, &world.server.with(|sim| sim.keys(id.as_str())));
        let early =
            world.asked().iter().any(|line| *line == format!("GET /v1/projects/{id}/api-keys"));
        assert!(!early, "{name}: keys were read before the lock-down was known to stand");
        // A second `create table` would be refused by the database.
        world.settle(&cx, &spec, &id).await.unwrap();
        let sql = "select count(*)::text as n from provision.migrations";
        let rows = world.server.with(|sim| sim.execute(id.as_str(), sql)).unwrap();
        assert_eq!(rows[0]["n"], "1", "{name}");
        world.projects.delete(&cx, &spec, &id).await.unwrap();
    }
}

// covers: S7
#[tokio::test]
async fn a_lock_down_that_lands_late_changes_nothing() {
    let world = World::start();
    let (cx, spec) = (world.cx("late"), spec());
    let id = world.create(&cx, &spec).await;
    let path = format!("/v1/projects/{id}/database/query");
    let late = Fault::LateLanding(Duration::from_millis(200));
    world.server.faults().add(FaultRule::new(late).path_prefix(&path).nth(2).once());
    let error = world.settle(&cx, &spec, &id).await.unwrap_err();
    assert_eq!(error.effect(), Effect::Unknown);
    world.settle(&cx, &spec, &id).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let sql = "select count(*)::text as n from provision.migrations";
    let rows = world.server.with(|sim| sim.execute(id.as_str(), sql)).unwrap();
    assert_eq!(rows[0]["n"], "1");
    world.settle(&cx, &spec, &id).await.unwrap();
}

// covers: S9, R1-36
#[tokio::test]
async fn trouble_while_looking_is_never_absent() {
    let world = World::start();
    let (cx, spec) = (world.cx("supabase"), spec());
    world.create(&cx, &spec).await;
    let faults = [
        Fault::RefuseBefore,
        Fault::DropAfter,
        Fault::Status(500),
        Fault::Status(502),
        Fault::Status(403),
        Fault::Status(404),
        Fault::TokenRevoked,
        Fault::CutBody,
        Fault::Garbage200,
        Fault::Html200,
        Fault::RateLimited { retry_after: RetryAfterForm::Absent },
        Fault::Redirect("http://127.0.0.1:9/".to_owned()),
    ];
    for fault in faults {
        let name = format!("{fault:?}");
        world.server.faults().add(FaultRule::new(fault));
        let error = world.projects.find(&cx, &spec).await.expect_err(&name);
        assert_eq!(error.effect(), Effect::None, "{name}: {error}");
        assert_clean(&error, &[]);
        world.server.faults().clear();
    }
    let host = world.host.clone().with_call_max(Duration::from_secs(2));
    world.server.faults().add(FaultRule::new(Fault::SlowHeaders(Duration::from_secs(20))).once());
    let slow = host.context(run(1), "supabase");
    let error = world.projects.find(&slow, &spec).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("timeout", Effect::None));
    world.server.with(|sim| sim.set_forbidden(true));
    let error = world.projects.find(&cx, &spec).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("forbidden", &Verdict::Permanent));
    let creates = world.asked().iter().filter(|line| *line == "POST /v1/projects").count();
    assert_eq!((creates, world.made()), (1, 1));
}

// covers: S7, S9
#[tokio::test]
async fn duplicates_ghosts_and_late_ones_are_told_apart() {
    let world = World::start();
    let spec = spec();
    let fault = |fault| {
        world
            .server
            .faults()
            .add(FaultRule::new(fault).method("POST").path_prefix("/v1/pro").once());
    };
    // A proxy repeated the create: two projects carry our mark.
    let cx = world.cx("double");
    fault(Fault::Duplicate);
    world.create(&cx, &spec).await;
    let Found::Many(both) = world.projects.find(&cx, &spec).await.unwrap() else { panic!() };
    assert_eq!((both.len(), world.made()), (2, 2));
    assert!(both.iter().all(|one| one.marked && one.created_at.is_some()));
    for one in &both {
        world.projects.delete(&cx, &spec, &one.id).await.unwrap();
    }
    // Answered, and not there: the look at it says so, at first as "not yet".
    let cx = world.cx("ghost");
    fault(Fault::Ghost);
    let id = world.create(&cx, &spec).await;
    assert!(matches!(ready(&world, "ghost", &spec, &id, 1).await, Readiness::NotYet { .. }));
    let Readiness::Broken { code } = ready(&world, "ghost", &spec, &id, 60).await else { panic!() };
    assert_eq!(code, "gone");
    world.projects.delete(&cx, &spec, &id).await.unwrap();
    assert_eq!(world.projects.find(&cx, &spec).await.unwrap(), Found::Absent);
    // Cut, and carried out later.
    let cx = world.cx("late");
    fault(Fault::LateLanding(Duration::from_secs(3)));
    let intent = world.host.intend(&cx, &world.projects, &spec);
    let error = world.projects.create(&cx, &spec, &intent).await.unwrap_err();
    assert_eq!(error.effect(), Effect::Unknown);
    assert_eq!(world.projects.find(&cx, &spec).await.unwrap(), Found::Absent);
    assert!(world.projects.timing().quiet() > Duration::from_secs(60));
    let began = std::time::Instant::now();
    while !matches!(world.projects.find(&cx, &spec).await.unwrap(), Found::Ours(_)) {
        assert!(began.elapsed() < Duration::from_secs(30), "it never landed");
        // Seldom: the platform allows so many looks a minute.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // Known by its id, and not yet in the listing.
    let cx = world.cx("hidden");
    fault(Fault::LateVisible(Duration::from_secs(30)));
    let id = world.create(&cx, &spec).await;
    assert_eq!(world.projects.find(&cx, &spec).await.unwrap(), Found::Ours(id));
}

/// One look at readiness, so many seconds after polling began.
async fn ready(
    world: &World,
    path: &str,
    spec: &ProjectSpec,
    id: &ExternalId,
    seconds: u64,
) -> Readiness<provision_adapters::supabase::Project> {
    let now = world.cx(path).now();
    let since = Timestamp::from_millis(now.as_millis() - seconds * 1000);
    let memory = Memory { polling_since: Some(since), ..Memory::default() };
    let cx = world.host.attempt(run(1), path, 2, memory);
    world.projects.ready(&cx, spec, id).await.unwrap()
}

// covers: L4
#[tokio::test]
async fn limits_pause_the_bucket_of_one_endpoint() {
    let world = World::start();
    let (cx, spec) = (world.cx("supabase"), spec());
    for (form, least, most) in [
        (RetryAfterForm::Seconds(7), 7, 7),
        (RetryAfterForm::Date(90), 88, 90),
        (RetryAfterForm::Absent, 60, 60),
    ] {
        world.server.faults().add(FaultRule::new(Fault::RateLimited { retry_after: form }).once());
        let error = world.projects.find(&cx, &spec).await.unwrap_err();
        let Verdict::Throttled { bucket, after } = error.verdict() else { panic!("{error}") };
        assert!(bucket.contains("/list/"), "{bucket}");
        assert!((least..=most).contains(&after.as_secs()), "{form:?}: {after:?}");
        assert_eq!(error.effect(), Effect::None);
    }
    // The provider's own limit: no Retry-After, the reset in seconds from now.
    world.server.with(|sim| sim.set_calls_per_minute(2));
    let second = world.cx("second");
    let intent = world.host.intend(&second, &world.projects, &spec);
    let mut made = 0;
    let error = loop {
        match world.projects.create(&second, &spec, &intent).await {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
        assert!(made < 5, "the limit never came");
    };
    let Verdict::Throttled { bucket, after } = error.verdict() else { panic!("{error}") };
    assert!(bucket.contains("/create/") && error.effect() == Effect::None, "{error}");
    assert!((50..=60).contains(&after.as_secs()), "{after:?}");
    assert_eq!((made, world.made()), (2, 2));
    let observed = world.host.told().observed;
    let (_, last) = observed.iter().rfind(|(name, _)| name.contains("/create/")).unwrap();
    assert!(last.pause.is_some_and(|pause| pause.as_secs() >= 50), "{last:?}");
}

// covers: R1-70, S9
#[tokio::test]
async fn errors_of_a_poll_are_classified_each_by_itself() {
    let world = World::start();
    let (cx, spec) = (world.cx("supabase"), spec());
    let id = world.create(&cx, &spec).await;
    world.server.faults().add(FaultRule::new(Fault::Status(502)).times(3));
    for _ in 0..3 {
        let error = world.projects.ready(&cx, &spec, &id).await.unwrap_err();
        assert_eq!(error.verdict(), &Verdict::Retry { after: None });
    }
    world.settle(&cx, &spec, &id).await.unwrap();
    world.server.faults().add(FaultRule::new(Fault::TokenRevoked));
    let error = world.projects.ready(&cx, &spec, &id).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("unauthorized", &Verdict::Permanent));
    assert!(error.hint().is_some());
    assert_clean(&error, &[]);
}

// covers: S9
#[tokio::test]
async fn a_full_plan_is_for_a_person() {
    let world = World::start();
    world.server.with(|sim| sim.set_projects_max(0));
    let (cx, spec) = (world.cx("supabase"), spec());
    let intent = world.host.intend(&cx, &world.projects, &spec);
    let error = world.projects.create(&cx, &spec, &intent).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("quota", &Verdict::Operator));
    assert_eq!(error.effect(), Effect::None);
}
