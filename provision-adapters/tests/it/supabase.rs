//! Supabase: a project from nothing to verified keys, and what keeps keys back.

use std::time::Duration;

use provision_adapters::{
    http::BaseUrl,
    sim::{SimOptions, SimServer},
    supabase::{
        Openings, Project, ProjectSpec, SchemaSpec, Supabase, SupabaseConfig, SupabaseProject,
        sim::{Fate, ORGANIZATION, SupabaseSim},
    },
};
use provision_core::{
    Effect, ExternalId, Found, Identity, Readiness, Resource, RunId, SecretRef, StepContext,
    StepError, Verdict,
};
use provision_testkit::solo::SoloHost;
use uuid::Uuid;

use crate::{
    spec::{SpecSet, check_exchanges},
    supabase_schemas::cases,
};

pub(crate) const CANARY: &str = "sbp_canary7f3a";

/// A simulated Supabase, a client of it, and a host for single resources.
pub(crate) struct World {
    pub(crate) server: SimServer<SupabaseSim>,
    pub(crate) projects: SupabaseProject,
    pub(crate) host: SoloHost,
}

impl World {
    /// Stages take no time here.
    pub(crate) fn start() -> Self {
        Self::with(SimOptions::default().with_speed(0.0).with_recorded_exchanges())
    }

    pub(crate) fn with(options: SimOptions) -> Self {
        Self::of(SupabaseSim::new(), options)
    }

    pub(crate) fn of(mut sim: SupabaseSim, options: SimOptions) -> Self {
        sim.set_token(CANARY);
        let server = SimServer::start(sim, options).unwrap();
        let projects = SupabaseProject::new(&client(&server.url()));
        // A token file often ends with a line feed.
        let host = SoloHost::new().with_secret("TOKEN", &format!("{CANARY}\n"));
        Self { server, projects, host }
    }

    pub(crate) fn cx(&self, path: &str) -> StepContext {
        self.host.context(run(1), path)
    }

    /// Creates the project of a spec, after having found nothing.
    pub(crate) async fn create(&self, cx: &StepContext, spec: &ProjectSpec) -> ExternalId {
        assert_eq!(self.projects.find(cx, spec).await.unwrap(), Found::Absent);
        let intent = self.host.intend(cx, &self.projects, spec);
        let id = self.projects.create(cx, spec, &intent).await.unwrap();
        cx.note(&id).await.unwrap();
        id
    }

    /// Creates a project and asks until it is ready.
    pub(crate) async fn make(&self, cx: &StepContext, spec: &ProjectSpec) -> Project {
        let id = self.create(cx, spec).await;
        self.settle(cx, spec, &id).await.unwrap()
    }

    /// Asks until it is ready or fails; bounded by 300 looks of 10 ms.
    pub(crate) async fn settle(
        &self,
        cx: &StepContext,
        spec: &ProjectSpec,
        id: &ExternalId,
    ) -> Result<Project, StepError> {
        for _ in 0..3_000 {
            match self.projects.ready(cx, spec, id).await? {
                Readiness::Ready(project) => return Ok(project),
                Readiness::NotYet { .. } => tokio::time::sleep(Duration::from_millis(10)).await,
                Readiness::Broken { code } => panic!("broken: {code}"),
            }
        }
        panic!("never ready");
    }

    /// Paths that were asked for, with their methods.
    pub(crate) fn asked(&self) -> Vec<String> {
        let lines = self.server.requests();
        lines.iter().map(|line| format!("{} {}", line.method, line.path)).collect()
    }

    pub(crate) fn made(&self) -> usize {
        self.server.inventory().len()
    }
}

pub(crate) fn client(url: &str) -> Supabase {
    let base = BaseUrl::parse(url).unwrap();
    Supabase::new(SupabaseConfig::at(base, SecretRef::named("TOKEN"), ORGANIZATION)).unwrap()
}

pub(crate) fn run(number: u128) -> RunId {
    RunId::from_uuid(Uuid::from_u128(number))
}

/// A project with one good schema.
pub(crate) fn spec() -> ProjectSpec {
    let case = cases("good_owners_only").pop().unwrap();
    let schema = SchemaSpec::new().with_migration("0001_init", case.sql);
    ProjectSpec::new("client-7", "eu-central-1").with_schema(schema)
}

// covers: R1-01, R1-07, R1-27, R1-28, R1-46, R1-67, R1-72, R4-15
#[tokio::test]
async fn a_project_is_made_locked_down_verified_and_only_then_gives_its_keys() {
    let world = World::start();
    let (cx, spec) = (world.cx("supabase"), spec());
    let project = world.make(&cx, &spec).await;
    assert_eq!(project.region, "eu-central-1");
    assert_eq!(project.url, format!("{}/p/{}", world.server.url(), project.project_ref));
    assert!(project.db_host.contains(&project.project_ref));
    // The sealed password is the one the provider got, long and drawn from a wide alphabet.
    let password = cx.reveal(&project.db_password).await.unwrap();
    let id = project.project_ref.clone();
    let got = world.server.with(|sim| sim.password(&id).map(str::to_owned));
    assert_eq!(got.as_deref(), Some(password.expose()));
    assert!(password.expose().len() >= 32);
    let keys = world.server.with(|sim| sim.keys(&id));
    for reference in [&project.anon_key, &project.service_key] {
        let value = cx.reveal(reference).await.unwrap();
        assert!(keys.iter().any(|key| key == value.expose()));
    }
    // X11: keys were asked for once, and after every question to the database.
    let asked = world.asked();
    let at = |part: &str| asked.iter().rposition(|line| line.contains(part)).unwrap();
    assert_eq!(asked.iter().filter(|line| line.contains("api-keys")).count(), 1, "{asked:?}");
    assert!(at("api-keys") > at("database/query"), "{asked:?}");
    assert_eq!(at("api-keys"), asked.len() - 1);
    // The output holds references, and no value of them.
    let printed = serde_json::to_string(&project).unwrap();
    assert!(keys.iter().all(|key| !printed.contains(key.as_str())));
    assert!(!printed.contains(password.expose()));
}

// covers: S14, R1-42, R2-54
#[tokio::test]
async fn a_project_is_found_again_listed_and_deleted_twice() {
    let world = World::start();
    let (cx, spec) = (world.cx("supabase"), spec());
    let project = world.make(&cx, &spec).await;
    let id = ExternalId::new(project.project_ref);
    assert_eq!(world.projects.identity(&spec), Identity::Label);
    assert_eq!(world.projects.find(&cx, &spec).await.unwrap(), Found::Ours(id.clone()));
    let owned = world.projects.list_owned(&cx).await.unwrap().complete().unwrap();
    assert_eq!(owned.len(), 1);
    assert_eq!((&owned[0].id, owned[0].mark.as_ref()), (&id, Some(&cx.mark())));
    assert!(owned[0].created_at.is_some());
    assert_eq!(world.projects.account(), ORGANIZATION);
    for _ in 0..2 {
        world.projects.delete(&cx, &spec, &id).await.unwrap();
    }
    assert_eq!(world.made(), 0);
    assert_eq!(world.projects.find(&cx, &spec).await.unwrap(), Found::Absent);
    assert_eq!(world.projects.list_owned(&cx).await.unwrap().complete().unwrap(), []);
}

// covers: S11, R1-91
#[tokio::test]
async fn projects_of_the_same_name_are_not_ours() {
    let world = World::start();
    let (cx, spec) = (world.cx("supabase"), spec());
    let theirs = world.server.with(|sim| sim.add_project("client-7"));
    let other_run = world.host.context(run(2), "supabase");
    let other_step = world.cx("second");
    let second = world.make(&other_run, &spec).await;
    let third = world.make(&other_step, &spec).await;
    let ours = ExternalId::new(world.make(&cx, &spec).await.project_ref);
    assert_eq!(world.made(), 3);
    world.projects.delete(&cx, &spec, &ours).await.unwrap();
    let left = world.server.with(|sim| sim.projects());
    assert!(left.contains_key(&theirs) && left.contains_key(&second.project_ref));
    assert!(left.contains_key(&third.project_ref) && left.len() == 3);
}

// covers: R1-68
#[tokio::test]
async fn stages_are_waited_for_without_a_loop_and_broken_ones_are_told_apart() {
    let options = SimOptions::default().with_speed(0.01).with_recorded_exchanges();
    let world = World::with(options);
    let (cx, spec) = (world.cx("slow"), spec());
    let id = world.create(&cx, &spec).await;
    let first = world.projects.ready(&cx, &spec, &id).await.unwrap();
    assert!(matches!(first, Readiness::NotYet { .. }), "{first:?}");
    // Refused with 400 as long as it comes up, and worth repeating all the same.
    let early = world.projects.delete(&cx, &spec, &id).await.unwrap_err();
    assert_eq!((early.code(), early.effect()), ("not_ready_for_deletion", Effect::None));
    assert!(matches!(early.verdict(), Verdict::Retry { after: Some(_) }));
    world.settle(&cx, &spec, &id).await.unwrap();
    world.projects.delete(&cx, &spec, &id).await.unwrap();
    let going = world.projects.find(&cx, &spec).await.unwrap();
    assert!(matches!(going, Found::Going { .. }), "{going:?}");

    let world = World::start();
    for (fate, name) in
        [(Fate::InitFailed, "failed"), (Fate::Hangs, "hangs"), (Fate::SickService, "sick")]
    {
        world.server.with(|sim| sim.set_next_fate(fate));
        let cx = world.cx(name);
        let id = world.create(&cx, &spec).await;
        let end = world.projects.ready(&cx, &spec, &id).await;
        match (fate, end) {
            (Fate::InitFailed, Ok(Readiness::Broken { code })) => assert_eq!(code, "init_failed"),
            (Fate::Hangs, Ok(Readiness::NotYet { .. })) => {}
            (Fate::SickService, Err(error)) => {
                assert_eq!(error.code(), "unhealthy");
                assert!(matches!(error.verdict(), Verdict::Retry { .. }));
            }
            (fate, end) => panic!("{fate:?}: {end:?}"),
        }
    }
    assert!(world.asked().iter().all(|line| !line.contains("api-keys")));
}

// covers: X11, R1-06, R1-07, R1-46
#[tokio::test]
async fn a_schema_that_lets_anonymous_readers_in_never_gets_its_keys_out() {
    let world = World::start();
    for case in cases("bad_") {
        let schema = SchemaSpec::new()
            .with_migration("0001_init", case.sql.clone())
            .with_openings(case.openings.clone());
        let spec = ProjectSpec::new("client-7", "eu-west-1").with_schema(schema);
        let cx = world.cx(&case.name);
        let id = world.create(&cx, &spec).await;
        let error = world.settle(&cx, &spec, &id).await.expect_err(&case.name);
        let expected = if case.refused.is_some() { "migration_refused" } else { "exposed" };
        assert_eq!(error.code(), expected, "{}: {error}", case.name);
        assert_eq!(error.verdict(), &Verdict::Permanent, "{}", case.name);
        for secret in world.server.with(|sim| sim.keys(id.as_str())) {
            assert!(!format!("{error} {error:?}").contains(&secret));
        }
    }
    assert!(world.asked().iter().all(|line| !line.contains("api-keys")), "keys were asked for");
}

// covers: X11, R1-51
#[tokio::test]
async fn good_schemas_get_their_keys_and_the_keys_show_what_was_verified() {
    let world = World::start();
    for case in cases("good_") {
        let schema = SchemaSpec::new()
            .with_migration("0001_init", case.sql.clone())
            .with_openings(case.openings.clone());
        let spec = ProjectSpec::new("client-7", "eu-west-1").with_schema(schema);
        let cx = world.cx(&case.name);
        let id = world.create(&cx, &spec).await;
        let project = world.settle(&cx, &spec, &id).await;
        project.unwrap_or_else(|error| panic!("{}: {error}", case.name));
    }
}

// covers: R1-06
#[tokio::test]
async fn after_a_crash_between_create_and_lock_down_the_lock_down_comes_first() {
    let folder = tempfile::tempdir().unwrap();
    let options = || {
        let state = folder.path().join("cloud.json");
        SimOptions::default().with_speed(0.0).with_persist(state)
    };
    let (id, spec) = {
        let world = World::with(options());
        let spec = spec();
        (world.create(&world.cx("supabase"), &spec).await, spec)
    };
    // Another process, another cloud process, the same run.
    let world = World::with(options());
    let cx = world.cx("supabase");
    assert_eq!(world.projects.find(&cx, &spec).await.unwrap(), Found::Ours(id.clone()));
    world.settle(&cx, &spec, &id).await.unwrap();
    let asked = world.asked();
    let posts: Vec<_> = asked.iter().filter(|line| line.starts_with("POST")).collect();
    assert!(posts.iter().all(|line| line.ends_with("/database/query")), "{posts:?}");
    assert!(asked.last().unwrap().ends_with("/api-keys"), "{asked:?}");
}

// covers: S8, S9
#[tokio::test]
async fn migrations_run_once_and_may_not_change_afterwards() {
    let world = World::start();
    let (cx, spec) = (world.cx("supabase"), spec());
    let id = ExternalId::new(world.make(&cx, &spec).await.project_ref);
    // `create table` would fail if it ran again.
    world.settle(&cx, &spec, &id).await.unwrap();
    let changed = SchemaSpec::new().with_migration("0001_init", "select 1");
    let changed = ProjectSpec::new("client-7", "eu-central-1").with_schema(changed);
    let error = world.settle(&cx, &changed, &id).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("migration_changed", &Verdict::Permanent));

    let broken = SchemaSpec::new()
        .with_migration("0001_init", "create table public.first (id int primary key);")
        .with_migration("0002_typo", "create tabel public.second (id int);");
    let broken = ProjectSpec::new("client-8", "eu-central-1").with_schema(broken);
    let cx = world.cx("broken");
    let id = world.create(&cx, &broken).await;
    let error = world.settle(&cx, &broken, &id).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("migration_refused", &Verdict::Permanent));
    // One transaction: nothing of the first migration is left.
    let left = world.server.with(|sim| sim.execute(id.as_str(), "select 1 from public.first"));
    assert!(left.is_err(), "{left:?}");
}

// covers: R1-26
#[tokio::test]
async fn preflight_and_find_refuse_an_unknown_region_before_any_call() {
    let world = World::start();
    let cx = world.cx("supabase");
    let wrong = ProjectSpec::new("client-7", "af-south-1");
    for error in [
        world.projects.find(&cx, &wrong).await.unwrap_err(),
        world.projects.preflight(&cx, &wrong).await.unwrap_err(),
    ] {
        assert_eq!((error.code(), error.effect()), ("unknown_region", Effect::None));
        assert_eq!(error.verdict(), &Verdict::Permanent);
        assert!(error.message().unwrap().contains("eu-central-1"), "{error}");
    }
    assert!(world.asked().is_empty());
    world.projects.preflight(&cx, &spec()).await.unwrap();
    world.projects.preflight(&cx, &ProjectSpec::new("c", "emea")).await.unwrap();
    world.server.with(|sim| sim.set_region_full("eu-central-1"));
    let error = world.projects.preflight(&cx, &spec()).await.unwrap_err();
    assert_eq!(error.code(), "region_full");
    assert!(error.message().unwrap().contains("eu-west-1"), "{error}");
    assert_eq!(world.made(), 0);
}

#[tokio::test]
async fn every_exchange_is_as_the_provider_documents_it() {
    let Some(document) = SpecSet::load("supabase") else { return };
    let document = document.exempt("/p/");
    let world = World::start();
    let (cx, spec) = (world.cx("supabase"), spec());
    world.projects.preflight(&cx, &spec).await.unwrap();
    let sized = spec.clone().with_instance_size("small");
    let id = ExternalId::new(world.make(&cx, &sized).await.project_ref);
    let grouped = ProjectSpec::new("client-9", "apac");
    let second = world.make(&world.cx("second"), &grouped).await;
    assert_eq!(second.region, "ap-southeast-1");
    world.projects.list_owned(&cx).await.unwrap().complete().unwrap();
    world.projects.delete(&cx, &spec, &id).await.unwrap();
    let mut exchanges = world.server.exchanges();
    for exchange in &mut exchanges {
        // The document declares no body for a query; the provider answers rows (recorded).
        if exchange.request.path.last().is_some_and(|last| last == "query") {
            exchange.response.body.clear();
        }
    }
    check_exchanges(&document, &exchanges);
}

// covers: X11
#[tokio::test]
async fn openings_are_by_name() {
    let world = World::start();
    let case = cases("good_opened_by_name").pop().unwrap();
    let closed = SchemaSpec::new().with_migration("0001_init", case.sql.clone());
    let partly = closed.clone().with_openings(Openings::none().read("news").call("news_about"));
    for (name, schema) in [("closed", closed), ("partly", partly)] {
        let spec = ProjectSpec::new(name, "eu-west-1").with_schema(schema);
        let cx = world.cx(name);
        let id = world.create(&cx, &spec).await;
        let error = world.settle(&cx, &spec, &id).await.unwrap_err();
        assert_eq!(error.code(), "exposed", "{name}: {error}");
        let told = error.message().unwrap();
        assert!(told.contains("public.news_totals") && told.contains("public.contacts"), "{told}");
        assert_eq!(told.contains("public.news/"), name == "closed", "{told}");
    }
}

#[tokio::test]
async fn without_the_data_api_its_service_is_not_waited_for() {
    let world = World::start();
    world.server.with(|sim| sim.set_data_api(false));
    let cx = world.cx("db");
    let id = world.create(&cx, &spec()).await;
    for _ in 0..3 {
        let state = world.projects.ready(&cx, &spec(), &id).await.unwrap();
        assert!(matches!(state, Readiness::NotYet { .. }), "it is waited for unless said so");
    }
    world.settle(&cx, &spec().without_data_api(), &id).await.unwrap();
}
