//! Who administers a server without being a superuser: what is enough, and what is missing where one
//! right is.

use std::time::Duration;

use provision_adapters::tools::postgres::{
    ApplySchema, DatabaseSpec, Identifier, Postgres, PostgresConfig, PostgresDatabase,
    PostgresRole, RoleSpec, SchemaSpec,
};
use provision_core::{
    By, Engine, MemoryStore, Outcome, Readiness, Resource as _, SecretRef, Step as _, StepError,
    WorkerConfig, resolver::MapResolver, vault::LocalKeys,
};
use provision_testkit::solo::SoloHost;

use crate::postgres::{Given, TENANT, given, name, tenant, wait};

const PARAMETERS: &str = "provision.schema_version, lc_messages";

/// The server as it is administered by a role with the rights that the documents name.
struct Scene {
    given: Given,
    low: Given,
    admin: Identifier,
}

impl Scene {
    async fn set() -> Option<Self> {
        let given = given()?;
        let admin = name("admin");
        let sql = format!(
            "create role \"{admin}\" login createdb createrole password 'low';
             grant set on parameter {PARAMETERS} to \"{admin}\""
        );
        given.sql("postgres", &sql).await.unwrap();
        let part = |wanted: &str| {
            let found = given.environment.iter().find(|(name, _)| *name == wanted);
            found.unwrap().1.clone()
        };
        let config = PostgresConfig::new(part("PGHOST"), admin.as_str(), SecretRef::named("LOW"))
            .with_port(part("PGPORT").parse().unwrap())
            .with_late_window(Duration::from_secs(2))
            .with_statement_timeout(Duration::from_secs(30));
        let host = SoloHost::new().with_secret("LOW", "low");
        let low = Given { config, host, environment: given.environment.clone() };
        Some(Self { given, low, admin })
    }

    /// A role as this role makes it.
    async fn made(&self, prefix: &str) -> Identifier {
        let name = name(prefix);
        self.low.sql("postgres", &format!("create role \"{name}\" nologin")).await.unwrap();
        name
    }

    async fn end(self, roles: &[&Identifier]) {
        for role in roles {
            self.given.drop_role(role).await;
        }
        let revoke = format!("revoke set on parameter {PARAMETERS} from \"{}\"", self.admin);
        self.given.sql("postgres", &revoke).await.unwrap();
        self.given.drop_role(&self.admin).await;
    }
}

// covers: R4-02, R4-03, S12, S14
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_with_the_rights_that_are_named_brings_tenants_up_and_down() {
    let Some(scene) = Scene::set().await else { return };
    let anonymous = scene.made("anonymous").await;
    let engine = Engine::builder(MemoryStore::new())
        .register(tenant(&scene.low.server(), &anonymous))
        .keys(LocalKeys::new("test", [7; 32]).unwrap())
        .resolver(MapResolver::new().with("LOW", "low"))
        .build()
        .await
        .unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let base = name("low");
    let mut runs = Vec::new();
    for place in 0..4 {
        let tenant = Identifier::new(format!("{base}_{place}")).unwrap();
        // The last one fails at its end and is undone.
        runs.push((engine.start(TENANT, &(tenant.clone(), place == 3)).await.unwrap(), tenant));
    }
    let end = Duration::from_secs(120);
    for (place, (run, _)) in runs.iter().enumerate() {
        let outcome = tokio::time::timeout(end, run.outcome()).await.unwrap().unwrap();
        let succeeded = matches!(outcome, Outcome::Succeeded(_));
        assert_eq!(succeeded, place != 3, "{place}: {outcome:?}");
    }
    // The login of one has made a table and a function, and works in its database.
    let (_, tenant) = &runs[0];
    let made = format!(
        "set role \"{tenant}_app\"; create table tenant.mine (x int);
         create function tenant.five() returns int language sql as 'select 5'; reset role"
    );
    scene.given.sql(tenant.as_str(), &made).await.unwrap();
    for (run, _) in &runs[..3] {
        engine.tear_down(run.id(), By::default()).await.unwrap();
        let outcome = tokio::time::timeout(end, run.outcome()).await.unwrap().unwrap();
        assert!(matches!(outcome, Outcome::TornDown), "{outcome:?}");
    }
    let like = format!("like '{}\\_%'", base.as_str().replace('_', "\\_"));
    let left = format!(
        "select datname::text from pg_database where datname {like}
         union all select rolname::text from pg_roles where rolname {like}"
    );
    assert!(scene.given.sql("postgres", &left).await.unwrap().is_empty());
    worker.stop().await;
    scene.end(&[&anonymous]).await;
}

// covers: S14
#[tokio::test]
async fn a_login_that_is_connected_is_ended_by_who_made_it() {
    let Some(scene) = Scene::set().await else { return };
    let low = &scene.low;
    let roles = PostgresRole::new(&low.server());
    let (cx, spec) = (low.context("login"), RoleSpec::login(name("login")));
    let intent = low.host.intend(&cx, &roles, &spec);
    let id = roles.create(&cx, &spec, &intent).await.unwrap();
    let Readiness::Ready(role) = roles.ready(&cx, &spec, &id).await.unwrap() else { panic!() };
    let password = cx.reveal(role.password.as_ref().unwrap()).await.unwrap();
    let (given, login) = (scene.given.clone(), role.clone());
    let working = tokio::spawn(async move {
        given.login(&login, &password, "postgres", "select pg_sleep(60)").await
    });
    let works = format!("select 1 from pg_stat_activity where usename = '{}'", role.name);
    wait(&scene.given, &works, true).await;
    roles.delete(&cx, &spec, &id).await.unwrap();
    let (code, said) = working.await.unwrap();
    assert!(code != 0, "{said}");
    scene.end(&[]).await;
}

// covers: R4-02, R4-03
#[tokio::test]
async fn every_right_that_is_named_is_needed() {
    let Some(scene) = Scene::set().await else { return };
    let (low, admin) = (&scene.low, &scene.admin);
    let (anonymous, owner) = (scene.made("anonymous").await, scene.made("owner").await);
    let database = name("rights");
    low.sql("postgres", &format!("create database \"{database}\"")).await.unwrap();
    let close = format!("revoke all on database \"{database}\" from public");
    low.sql("postgres", &close).await.unwrap();
    let server = Postgres::new(low.config.clone());
    let spec = SchemaSpec::new(database.clone(), anonymous.clone())
        .with_owner(owner.clone())
        .with_migration("1", "create table notes (id int)");
    let apply = async || -> Result<(), StepError> {
        let cx = low.context("schema");
        Box::pin(ApplySchema::new(&server).run(&cx, spec.clone())).await.map(drop)
    };
    let (databases, roles) = (PostgresDatabase::new(&server), PostgresRole::new(&server));
    let change = |sql: &str| {
        let (given, sql) = (scene.given.clone(), sql.replace("{}", admin.as_str()));
        async move { given.sql("postgres", &sql).await.unwrap() }
    };
    change("alter role \"{}\" nocreatedb").await;
    let (cx, wanted) = (low.context("database"), DatabaseSpec::new(name("none")));
    let intent = low.host.intend(&cx, &databases, &wanted);
    let refused = databases.create(&cx, &wanted, &intent).await.unwrap_err();
    assert_eq!(refused.code(), "forbidden");
    change("alter role \"{}\" createdb nocreaterole").await;
    let (cx, wanted) = (low.context("role"), RoleSpec::group(name("none")));
    let intent = low.host.intend(&cx, &roles, &wanted);
    assert_eq!(roles.create(&cx, &wanted, &intent).await.unwrap_err().code(), "forbidden");
    assert_eq!(apply().await.unwrap_err().code(), "migration_refused");
    change("alter role \"{}\" createrole").await;
    for (parameter, code) in
        [("lc_messages", "unverifiable"), ("provision.schema_version", "forbidden")]
    {
        change(&format!("revoke set on parameter {parameter} from \"{{}}\"")).await;
        assert_eq!(apply().await.unwrap_err().code(), code, "{parameter}");
        change(&format!("grant set on parameter {parameter} to \"{{}}\"")).await;
    }
    apply().await.unwrap();
    scene.given.drop_database(&database).await;
    scene.end(&[&anonymous, &owner]).await;
}

// covers: R4-02, R4-03, L1
#[tokio::test]
async fn what_a_tenants_login_has_made_stands_in_the_way_of_no_later_migration() {
    let Some(scene) = Scene::set().await else { return };
    let low = &scene.low;
    let (anonymous, owner) = (scene.made("anonymous").await, scene.made("owner").await);
    let (login, database) = (name("login"), name("later"));
    low.sql("postgres", &format!("create role \"{login}\" login in role \"{owner}\""))
        .await
        .unwrap();
    low.sql("postgres", &format!("create database \"{database}\"")).await.unwrap();
    let spec = SchemaSpec::new(database.clone(), anonymous.clone())
        .with_owner(owner.clone())
        .with_schema(Identifier::new("tenant").unwrap())
        .with_migration("1", "create table notes (id int)");
    let server = Postgres::new(low.config.clone());
    let apply = async |spec: &SchemaSpec| -> Result<(), StepError> {
        let cx = low.context("schema");
        Box::pin(ApplySchema::new(&server).run(&cx, spec.clone())).await.map(drop)
    };
    apply(&spec).await.unwrap();
    // Somebody else's table asks for nothing: whoever it is, this role does not become a member of him.
    let stranger = scene.given.role("stranger").await;
    let theirs = format!(
        "create table tenant.theirs (id int primary key);
         alter table tenant.theirs enable row level security;
         alter table tenant.theirs owner to \"{stranger}\""
    );
    scene.given.sql(database.as_str(), &theirs).await.unwrap();
    // Its login makes a table, and one with a trigger that is put off, in a schema of its own, and a
    // policy that asks who is there by a function which no reader may name.
    let made = format!(
        "set role \"{login}\";
         create table tenant.mine (id int, body text);
         create schema hidden;
         create table hidden.later (id int unique deferrable initially deferred);
         create function hidden.who() returns text language sql
            as $$ select nullif(current_setting('app.user', true), '') $$;
         create policy own on tenant.mine using (body = hidden.who());
         grant select on tenant.mine to \"{anonymous}\";
         grant usage on schema tenant to \"{anonymous}\""
    );
    scene.given.sql(database.as_str(), &made).await.unwrap();
    apply(&spec.with_migration("2", "alter table notes add column body text")).await.unwrap();
    let open = "select relname::text from pg_class join pg_namespace n on n.oid = relnamespace
        where relkind = 'r' and not relrowsecurity and n.nspname in ('tenant', 'hidden', 'public')";
    assert!(scene.given.sql(database.as_str(), open).await.unwrap().is_empty());
    let joined = [&login, &stranger].map(|role| {
        format!("select pg_has_role('{}', '{role}', 'MEMBER')::text as joined", scene.admin)
    });
    let joined = scene.given.sql("postgres", &joined.join(" union all ")).await.unwrap();
    assert_eq!(joined, ["true", "false"]);
    scene.given.drop_database(&database).await;
    scene.end(&[&login, &anonymous, &owner, &stranger]).await;
}
