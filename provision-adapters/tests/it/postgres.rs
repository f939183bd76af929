//! Databases and roles on a real PostgreSQL server, which `PROVISION_TEST_POSTGRES_URL`
//! names and whose superuser it logs in.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use provision_adapters::tools::{
    postgres::{
        ApplySchema, Database, DatabaseSpec, HEIR, Identifier, Postgres, PostgresConfig,
        PostgresDatabase, PostgresRole, Role, RoleSpec, SchemaSpec,
    },
    process::Program,
    row_security::Answer,
};
use provision_core::{
    By, Call, Effect, Engine, ExternalId, Found, MemoryStore, NothingToUndo, Outcome, Policy,
    Readiness, Resource, RunId, Saga, SagaId, Secret, SecretRef, Step, StepContext, StepError,
    Verdict, WorkerConfig, resolver::MapResolver, vault::LocalKeys,
};
use provision_testkit::solo::SoloHost;
use uuid::Uuid;

use crate::supabase_schemas::server;

const URL: &str = "PROVISION_TEST_POSTGRES_URL";
pub(crate) const ADMIN: &str = "POSTGRES_ADMIN";

/// The server of these tests, and who administers it.
#[derive(Clone)]
pub(crate) struct Given {
    pub(crate) environment: Vec<(&'static str, String)>,
    pub(crate) config: PostgresConfig,
    pub(crate) host: SoloHost,
}

/// The server that is named, or nothing, aloud.
pub(crate) fn given() -> Option<Given> {
    let Ok(url) = std::env::var(URL) else {
        provision_testkit::skips::refused_in_ci(&format!("{URL} is not set"));
        eprintln!("skipped: {URL} is not set");
        return None;
    };
    let environment = server(&url).expect("a postgres url");
    let part = |name: &str| environment.iter().find(|(n, _)| *n == name).unwrap().1.clone();
    let config = PostgresConfig::new(part("PGHOST"), part("PGUSER"), SecretRef::named(ADMIN))
        .with_port(part("PGPORT").parse().unwrap())
        .with_late_window(Duration::from_secs(2))
        .with_statement_timeout(Duration::from_secs(30));
    let host = SoloHost::new().with_secret(ADMIN, &part("PGPASSWORD"));
    Some(Given { environment, config, host })
}

/// A number that no other test of this machine has at this time.
fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    u64::from(std::process::id()) << 16 | NEXT.fetch_add(1, Ordering::Relaxed)
}

pub(crate) fn name(prefix: &str) -> Identifier {
    Identifier::new(format!("{prefix}_{}", number())).unwrap()
}

impl Given {
    pub(crate) fn server(&self) -> Postgres {
        Postgres::new(self.config.clone())
    }

    /// The context of a step of a run of its own.
    pub(crate) fn context(&self, path: &str) -> StepContext {
        self.host.context(RunId::from_uuid(Uuid::from_u128(u128::from(number()))), path)
    }

    /// Rows of a statement in a database, as the superuser; the first column of each.
    pub(crate) async fn sql(&self, database: &str, sql: &str) -> Result<Vec<String>, StepError> {
        let database = Identifier::new(database).unwrap();
        let cx = self.context("test");
        let call = Call::mutate("test");
        match self.server().query(&cx, call, &database, sql).await? {
            Answer::Rows(rows) => {
                Ok(rows.into_iter().map(|row| row[0].1.clone().unwrap_or_default()).collect())
            }
            Answer::Refused { sqlstate } => {
                Err(StepError::permanent("test").with_code(sqlstate.clone()))
            }
        }
    }

    pub(crate) async fn has_database(&self, name: &str) -> bool {
        let sql = format!("select 1 from pg_database where datname = '{name}'");
        !self.sql("postgres", &sql).await.unwrap().is_empty()
    }

    pub(crate) async fn drop_database(&self, name: &Identifier) {
        let sql = format!("drop database if exists \"{name}\" with (force)");
        self.sql("postgres", &sql).await.unwrap();
    }

    /// A database made by hand, with this in it.
    pub(crate) async fn template(&self, sql: &str) -> Identifier {
        let name = name("template");
        self.sql("postgres", &format!("create database \"{name}\"")).await.unwrap();
        self.sql(name.as_str(), sql).await.unwrap();
        name
    }

    /// A role made by hand.
    pub(crate) async fn role(&self, prefix: &str) -> Identifier {
        let name = name(prefix);
        self.sql("postgres", &format!("create role \"{name}\" nologin")).await.unwrap();
        name
    }

    pub(crate) async fn drop_role(&self, name: &Identifier) {
        self.sql("postgres", &format!("drop role \"{name}\"")).await.unwrap();
    }

    /// What a client program says with this user and password.
    pub(crate) async fn login(
        &self,
        role: &Role,
        password: &Secret,
        database: &str,
        sql: &str,
    ) -> (i32, String) {
        let mut program = Program::new("psql").arguments(["-X", "-A", "-t", "-c", sql]);
        for (name, value) in &self.environment {
            program = program.with_variable(*name, value);
        }
        let program = program
            .with_variable("PGUSER", role.name.as_str())
            .with_variable("PGDATABASE", database)
            .with_secret("PGPASSWORD", password);
        let ended = program.run(&self.context("login"), &Call::read("log in")).await.unwrap();
        let output = String::from_utf8(ended.output().to_vec()).unwrap();
        (ended.code().unwrap(), format!("{output}{}", ended.complaint()))
    }
}

/// Makes a database as the engine would.
pub(crate) async fn make(given: &Given, cx: &StepContext, spec: &DatabaseSpec) -> ExternalId {
    let resource = PostgresDatabase::new(&given.server());
    let intent = given.host.intend(cx, &resource, spec);
    resource.create(cx, spec, &intent).await.unwrap()
}

fn ours(found: Found) -> ExternalId {
    match found {
        Found::Ours(id) => id,
        other => panic!("not ours: {other:?}"),
    }
}

// covers: R4-02, S7, S11, S14
#[tokio::test]
async fn a_database_is_made_found_again_and_dropped_with_those_who_are_connected() {
    let Some(given) = given() else { return };
    let (cx, spec) = (given.context("database"), DatabaseSpec::new(name("tenant")));
    let resource = PostgresDatabase::new(&given.server());
    assert_eq!(resource.find(&cx, &spec).await.unwrap(), Found::Absent);
    let id = make(&given, &cx, &spec).await;
    assert_eq!(ours(resource.find(&cx, &spec).await.unwrap()), id);
    let ready = resource.ready(&cx, &spec, &id).await.unwrap();
    let Readiness::Ready(Database { name, .. }) = ready else { panic!("{ready:?}") };
    // Who is not granted it does not get in, and the template of everybody was not copied.
    let facts = format!(
        "select has_database_privilege('pg_monitor', '{name}', 'CONNECT')::text
         union all select pg_encoding_to_char(encoding) from pg_database where datname = '{name}'"
    );
    assert_eq!(given.sql("postgres", &facts).await.unwrap(), ["false", "UTF8"]);
    let listed = resource.list_owned(&cx).await.unwrap().complete().unwrap();
    let listed = listed.iter().find(|owned| owned.id == id).unwrap();
    assert_eq!(
        (listed.name.as_deref(), listed.mark.as_ref()),
        (Some(name.as_str()), Some(&cx.mark()))
    );
    // Somebody works in it.
    let (busy, at) = (given.clone(), name.clone());
    let working =
        tokio::spawn(async move { busy.sql(at.as_str(), "select pg_sleep(60)::text").await });
    wait(
        &given,
        &format!(
            "select 1 from pg_stat_activity where datname = '{name}' and query like '%pg_sleep%'"
        ),
        true,
    )
    .await;
    resource.delete(&cx, &spec, &id).await.unwrap();
    assert!(working.await.unwrap().is_err());
    assert!(!given.has_database(name.as_str()).await);
    resource.delete(&cx, &spec, &id).await.unwrap();
    assert_eq!(resource.find(&cx, &spec).await.unwrap(), Found::Absent);
}

/// Waits until a question has rows, or has none; bounded.
pub(crate) async fn wait(given: &Given, question: &str, there: bool) {
    let began = Instant::now();
    while given.sql("postgres", question).await.unwrap().is_empty() == there {
        assert!(began.elapsed() < Duration::from_secs(30), "{question}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

// covers: R4-02, S7, S9, S12
#[tokio::test]
async fn a_database_that_was_cut_at_any_moment_is_taken_up_and_nothing_is_left() {
    let Some(given) = given() else { return };
    let resource = PostgresDatabase::new(&given.server());
    let (mut cut, mut unfinished) = (0, 0);
    for round in 0..12_u64 {
        let run = RunId::from_uuid(Uuid::from_u128(u128::from(number())));
        let (cx, spec) = (given.host.context(run, "database"), DatabaseSpec::new(name("cut")));
        // The same step with calls that are cut, from before the connection to after the end.
        let most = Duration::from_millis(4 << (round / 2));
        let hasty = SoloHost::new().with_call_max(most);
        let password = given.environment.iter().find(|(n, _)| *n == "PGPASSWORD").unwrap();
        hasty.set_secret(ADMIN, &password.1);
        let hasty = hasty.context(run, "database");
        let intent = given.host.intend(&cx, &resource, &spec);
        if let Err(error) = resource.create(&hasty, &spec, &intent).await {
            assert_ne!(error.effect() == Effect::None, error.code() == "timeout", "{error:?}");
            cut += 1;
        }
        // The quiet time: nothing of it is under way at the server any more.
        let token = cx.mark().token();
        let under_way = format!(
            "select 1 from pg_stat_activity where pid <> pg_backend_pid() and state = 'active'
                and query like '%{token}%'"
        );
        wait(&given, &under_way, false).await;
        // Forward: what is there is taken up, also under its first name.
        let id = match resource.find(&cx, &spec).await.unwrap() {
            Found::Absent => resource.create(&cx, &spec, &intent).await.unwrap(),
            found => {
                unfinished +=
                    usize::from(given.has_database(&format!("provision_new_{token}")).await);
                ours(found)
            }
        };
        let ready = resource.ready(&cx, &spec, &id).await.unwrap();
        assert!(matches!(ready, Readiness::Ready(_)), "{ready:?}");
        resource.delete(&cx, &spec, &id).await.unwrap();
        assert_eq!(resource.find(&cx, &spec).await.unwrap(), Found::Absent);
        assert!(!given.has_database(&format!("provision_new_{token}")).await);
    }
    assert!(cut > 0, "no call was cut");
    eprintln!("{cut} of 12 were cut, {unfinished} of them between the two statements");
}

// covers: R4-02, S7, S9
#[tokio::test]
async fn a_database_that_was_made_and_not_named_is_named_by_the_next_attempt() {
    let Some(given) = given() else { return };
    let resource = PostgresDatabase::new(&given.server());
    let (cx, spec) = (given.context("database"), DatabaseSpec::new(name("cut")));
    let first = format!("provision_new_{}", cx.mark().token());
    // What a worker leaves that dies right after the first statement.
    given.sql("postgres", &format!("create database {first} template template0")).await.unwrap();
    let id = ours(resource.find(&cx, &spec).await.unwrap());
    // A late repeat of the first statement makes no second one.
    assert_eq!(make(&given, &cx, &spec).await, id);
    assert!(!given.has_database(&first).await);
    let ready = resource.ready(&cx, &spec, &id).await.unwrap();
    assert!(matches!(ready, Readiness::Ready(_)), "{ready:?}");
    // Of those that make it at once none is told that it never can be made, and there is one.
    let (all, many) = (given.context("database"), DatabaseSpec::new(name("at_once")));
    let made = given.host.intend(&all, &resource, &many);
    let attempts = (0..4).map(|_| resource.create(&all, &many, &made));
    for end in futures_util::future::join_all(attempts).await {
        let passes = end.err().is_none_or(|error| *error.verdict() != Verdict::Permanent);
        assert!(passes, "a create that lost a race was given up");
    }
    let one = match resource.find(&all, &many).await.unwrap() {
        Found::Absent => panic!("none was made"),
        found => ours(found),
    };
    resource.delete(&all, &many, &one).await.unwrap();
    assert_eq!(resource.find(&all, &many).await.unwrap(), Found::Absent);
    // One that lands after all is found beside it.
    given.sql("postgres", &format!("create database {first} template template0")).await.unwrap();
    let Found::Many(candidates) = resource.find(&cx, &spec).await.unwrap() else { panic!() };
    assert_eq!(candidates.len(), 2);
    for candidate in candidates {
        assert!(candidate.marked);
        resource.delete(&cx, &spec, &candidate.id).await.unwrap();
    }
    assert_eq!(resource.find(&cx, &spec).await.unwrap(), Found::Absent);
}

// covers: R4-02, S11
#[tokio::test]
async fn somebody_elses_database_stays_as_it_is() {
    let Some(given) = given() else { return };
    let resource = PostgresDatabase::new(&given.server());
    let taken = given.template("create table kept (x int)").await;
    let (cx, spec) = (given.context("database"), DatabaseSpec::new(taken.clone()));
    let Found::Foreign(foreign) = resource.find(&cx, &spec).await.unwrap() else { panic!() };
    assert_eq!((foreign.owner, foreign.markable), (None, true));
    // Created all the same, as after a race: the other one keeps its name, ours is left to undo.
    let intent = given.host.intend(&cx, &resource, &spec);
    let error = resource.create(&cx, &spec, &intent).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("name_taken", Effect::Applied));
    let own = ours(resource.find(&cx, &spec).await.unwrap());
    // Nobody gets into one that is not finished, and its own step lists it.
    let open = format!("select datallowconn::text from pg_database where oid = {}", own.as_str());
    assert_eq!(given.sql("postgres", &open).await.unwrap(), ["false"]);
    let lists = |cx: StepContext| {
        let (resource, own) = (resource.clone(), own.clone());
        async move {
            let listed = resource.list_owned(&cx).await.unwrap().complete().unwrap();
            listed.iter().any(|owned| owned.id == own)
        }
    };
    assert!(lists(cx.clone()).await && !lists(given.context("database")).await);
    assert_ne!(own, foreign.id);
    resource.delete(&cx, &spec, &own).await.unwrap();
    assert_eq!(given.sql(taken.as_str(), "select count(*) from kept").await.unwrap(), ["0"]);
    // The id alone proves nothing: another server gives it again.
    assert_eq!(resource.delete(&cx, &spec, &foreign.id).await.unwrap_err().code(), "foreign");
    assert_eq!(resource.ready(&cx, &spec, &foreign.id).await.unwrap_err().code(), "foreign");
    assert!(given.has_database(taken.as_str()).await);
    // With the mark of another run it is not dropped even by its id.
    let other = given.context("database").mark();
    let mark = format!("comment on database \"{taken}\" is 'theirs {other}'");
    given.sql("postgres", &mark).await.unwrap();
    let Found::Foreign(foreign) = resource.find(&cx, &spec).await.unwrap() else { panic!() };
    assert_eq!(foreign.owner, Some(other));
    let error = resource.delete(&cx, &spec, &foreign.id).await.unwrap_err();
    assert_eq!(error.code(), "foreign");
    assert!(given.has_database(taken.as_str()).await);
    given.drop_database(&taken).await;
}

// covers: X10, S11, S14
#[tokio::test]
async fn a_role_logs_in_with_its_drawn_password_and_is_dropped_with_what_it_has() {
    let Some(given) = given() else { return };
    let resource = PostgresRole::new(&given.server());
    let kept = given.template("create schema shared").await;
    let group = given.role("readers").await;
    let cx = given.context("role");
    let spec =
        RoleSpec::login(name("login")).with_membership(group.clone()).with_connect(kept.clone());
    assert_eq!(resource.find(&cx, &spec).await.unwrap(), Found::Absent);
    let intent = given.host.intend(&cx, &resource, &spec);
    let attempts = (0..6).map(|_| resource.create(&cx, &spec, &intent));
    let made = futures_util::future::join_all(attempts).await;
    let id = resource.create(&cx, &spec, &intent).await.unwrap();
    // Of those that make it at once none is told that it cannot be made.
    assert!(made.iter().all(|end| end.as_ref().is_ok_and(|made| *made == id)), "{made:?}");
    // A repeat of the same create, which landed late, finds it made.
    assert_eq!(resource.create(&cx, &spec, &intent).await.unwrap(), id);
    assert_eq!(ours(resource.find(&cx, &spec).await.unwrap()), id);
    let Readiness::Ready(role) = resource.ready(&cx, &spec, &id).await.unwrap() else { panic!() };
    let password = cx.reveal(role.password.as_ref().unwrap()).await.unwrap();
    let login = |sql: &'static str| given.login(&role, &password, kept.as_str(), sql);
    let (code, said) = login("select current_user").await;
    assert_eq!((code, said.trim()), (0, role.name.as_str()));
    let wrong = Secret::new("wrong");
    let (code, said) = given.login(&role, &wrong, kept.as_str(), "select 1").await;
    assert!(code == 2 && said.contains("password authentication failed"), "{said}");
    // What the server keeps is no password.
    let kept_of = format!("select rolpassword from pg_authid where rolname = '{}'", role.name);
    let verifier = given.sql("postgres", &kept_of).await.unwrap().remove(0);
    assert!(verifier.starts_with("SCRAM-SHA-256$4096:") && !verifier.contains(password.expose()));
    // It owns something where others live, and is granted something more.
    let grants = format!(
        "grant create, usage on schema shared to \"{0}\"; set role \"{0}\";
         create table shared.mine as select 7 as x;
         create function shared.lift() returns void language sql security definer
            as 'alter role \"{1}\" superuser'; reset role;",
        role.name, group
    );
    given.sql(kept.as_str(), &grants).await.unwrap();
    resource.delete(&cx, &spec, &id).await.unwrap();
    resource.delete(&cx, &spec, &id).await.unwrap();
    assert_eq!(resource.find(&cx, &spec).await.unwrap(), Found::Absent);
    // What it made for others stays, without the rights of those who dropped it.
    let lifted = given.sql(kept.as_str(), "select shared.lift()::text").await.unwrap_err();
    assert_eq!(lifted.code(), "42501");
    // A role without the mark is nobody's to drop, whatever its id.
    let unmarked = "select oid::text from pg_roles where rolname = ";
    let unmarked = given.sql("postgres", &format!("{unmarked}'{group}'")).await.unwrap().remove(0);
    let unmarked = ExternalId::new(unmarked);
    assert_eq!(resource.delete(&cx, &spec, &unmarked).await.unwrap_err().code(), "foreign");
    assert_eq!(resource.ready(&cx, &spec, &unmarked).await.unwrap_err().code(), "foreign");
    assert_eq!(given.sql(kept.as_str(), "select x from shared.mine").await.unwrap(), ["7"]);
    // A role of somebody else is foreign.
    let theirs = RoleSpec::group(group.clone());
    let found = resource.find(&cx, &theirs).await.unwrap();
    assert!(matches!(found, Found::Foreign(_)), "{found:?}");
    let owners = "select pg_get_userbyid(relowner)::text from pg_class where relname = 'mine'";
    let heirs = given.sql(kept.as_str(), owners).await.unwrap();
    assert!(heirs.len() == 1 && heirs[0].starts_with(HEIR), "{heirs:?}");
    given.drop_database(&kept).await;
    given.drop_role(&group).await;
}

/// A tenant: its name and whether its last step fails for good.
pub(crate) type Wanted = (Identifier, bool);
pub(crate) const TENANT: SagaId<Wanted, String> = SagaId::new("postgres.tenant", 1);

/// The step at the end, which goes well or fails for good.
struct End;

impl Step for End {
    const KIND: &'static str = "postgres.end";
    type Input = (bool, Role);
    type Output = String;

    async fn run(&self, _: &StepContext, (fails, role): (bool, Role)) -> Result<String, StepError> {
        match fails {
            true => Err(StepError::permanent("end").with_code("as_planned")),
            false => Ok(role.name.to_string()),
        }
    }
}

pub(crate) fn tenant(server: &Postgres, anonymous: &Identifier) -> Saga<Wanted, String> {
    let anonymous = anonymous.clone();
    let suffixed =
        |name: &Identifier, suffix: &str| Identifier::new(format!("{name}_{suffix}")).unwrap();
    Saga::define(TENANT, |s| {
        let owner = s
            .resource("owner", PostgresRole::new(server))
            .input((), move |(name, _), ()| RoleSpec::group(suffixed(name, "owner")));
        let database = s
            .resource("database", PostgresDatabase::new(server))
            .input((), |(name, _), ()| DatabaseSpec::new(name.clone()));
        let schema = s.step("schema", ApplySchema::new(server), NothingToUndo).input(
            (owner, database),
            move |_, (owner, database)| {
                SchemaSpec::new(database.name, anonymous.clone())
                    .with_owner(owner.name)
                    .with_schema(Identifier::new("tenant").unwrap())
                    .with_migration("1", "create table notes (id int primary key, body text)")
            },
        );
        let login = s.resource("login", PostgresRole::new(server)).input(
            (schema, owner),
            move |(name, _), (schema, owner)| {
                RoleSpec::login(suffixed(name, "app"))
                    .with_connect(schema.database)
                    .with_membership(owner.name)
            },
        );
        s.step("end", End, NothingToUndo)
            .retry(Policy::once())
            .input(login, |(_, fails), login| (*fails, login))
    })
    .unwrap()
}

// covers: R4-02, R4-03, S12, S13, S15
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_tenants_at_once_come_up_and_leave_nothing_when_they_go() {
    let Some(given) = given() else { return };
    let anonymous = given.role("anonymous").await;
    let password = &given.environment.iter().find(|(n, _)| *n == "PGPASSWORD").unwrap().1;
    let engine = Engine::builder(MemoryStore::new())
        .register(tenant(&given.server(), &anonymous))
        .keys(LocalKeys::new("test", [7; 32]).unwrap())
        .resolver(MapResolver::new().with(ADMIN, password.as_str()))
        .build()
        .await
        .unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let base = name("many");
    let mut runs = Vec::new();
    for place in 0..20 {
        let tenant = Identifier::new(format!("{base}_{place}")).unwrap();
        // Every fifth fails at its end and is undone.
        runs.push(engine.start(TENANT, &(tenant, place % 5 == 4)).await.unwrap());
    }
    let like = format!("like '{}\\_%'", base.as_str().replace('_', "\\_"));
    let there = |given: Given, like: String| async move {
        let databases = format!("select count(*) from pg_database where datname {like}");
        let roles = format!("select count(*) from pg_roles where rolname {like}");
        let unfinished =
            "select count(*) from pg_database where datname like 'provision\\_new\\_%'";
        let mut counts = Vec::new();
        for sql in [databases.as_str(), roles.as_str(), unfinished] {
            counts.push(given.sql("postgres", sql).await.unwrap().remove(0));
        }
        counts
    };
    for (place, run) in runs.iter().enumerate() {
        let outcome = tokio::time::timeout(Duration::from_secs(120), run.outcome()).await;
        let succeeded = matches!(outcome.unwrap().unwrap(), Outcome::Succeeded(_));
        assert_eq!(succeeded, place % 5 != 4, "{place}");
    }
    assert_eq!(there(given.clone(), like.clone()).await[..2], ["16", "32"]);
    for (place, run) in runs.iter().enumerate().filter(|(place, _)| place % 5 != 4) {
        engine.tear_down(run.id(), By::default()).await.unwrap();
        let outcome = tokio::time::timeout(Duration::from_secs(120), run.outcome()).await;
        let outcome = outcome.unwrap().unwrap();
        assert!(!matches!(outcome, Outcome::Succeeded(_)), "{place}: {outcome:?}");
    }
    assert_eq!(there(given.clone(), like).await[..2], ["0", "0"]);
    worker.stop().await;
    given.drop_role(&anonymous).await;
}
