//! Schemas in databases of a real PostgreSQL server: cloned, migrated, locked down, and tried as the
//! anonymous role.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, path::Path};

use provision_adapters::tools::{
    postgres::{
        ApplySchema, DatabaseSpec, Identifier, Openings, PostgresDatabase, Schema, SchemaSpec,
    },
    row_security::{Answer, Executor, Scope, verify},
};
use provision_core::{Call, Effect, Resource, Step, StepError};
use tempfile::tempdir;

use crate::{
    postgres::{Given, given, make, name},
    supabase_schemas::{Case, ROLES, cases, complaint, folder},
};

/// What a template has that a naive copy loses.
const TEMPLATE: &str = r#"
create type mood as enum ('calm', 'busy');
create table accounts (id bigint generated always as identity primary key, name text not null unique, mood mood);
create sequence ticket start 100;
create table "Orders ""x""" (
    id bigint primary key default nextval('ticket'),
    account bigint not null references accounts on delete cascade,
    placed date not null check (placed > date '2000-01-01')
);
create index placed_first on "Orders ""x""" (placed desc) where account > 0;
create table "naïve 😀" (part int not null, body text) partition by range (part);
create table first_part partition of "naïve 😀" for values from (0) to (10);
create function stamp() returns trigger language plpgsql as $$
begin
    -- a comment; with a semicolon, and commit;
    new.name := lower(new.name); return new;
end $$;
create trigger lowered before insert on accounts for each row execute function stamp();
create view busy with (security_invoker = on) as select id from accounts where mood = 'busy';
create materialized view totals as select count(*) as n from accounts;
create function of_account(wanted bigint) returns setof "Orders ""x""" language sql stable
    as $$ select * from "Orders ""x""" where account = wanted $$;
create policy own on accounts to pg_monitor using (name = current_user);
insert into accounts (name) values ('a row that is not copied');
comment on table accounts is 'it''s kept';
"#;

/// What the catalog says of a database; two clones say the same.
const CATALOG: &str = "
select concat_ws(' ', 'relation', oid::regclass, relkind, relrowsecurity) from pg_class
    where relnamespace = 'public'::regnamespace
union all select concat_ws(' ', 'column', attrelid::regclass, attname, atttypid::regtype, attnotnull,
    attidentity) from pg_attribute join pg_class c on c.oid = attrelid
    where c.relnamespace = 'public'::regnamespace and attnum > 0 and not attisdropped
union all select concat_ws(' ', 'default', adrelid::regclass, pg_get_expr(adbin, adrelid))
    from pg_attrdef join pg_class c on c.oid = adrelid where c.relnamespace = 'public'::regnamespace
union all select concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid))
    from pg_constraint where connamespace = 'public'::regnamespace and conrelid <> 0
union all select concat_ws(' ', 'index', indexdef) from pg_indexes where schemaname = 'public'
union all select concat_ws(' ', 'trigger', pg_get_triggerdef(oid)) from pg_trigger
    where not tgisinternal
union all select concat_ws(' ', 'function', pg_get_functiondef(oid)) from pg_proc
    where pronamespace = 'public'::regnamespace
union all select concat_ws(' ', 'view', definition) from pg_views where schemaname = 'public'
union all select concat_ws(' ', 'sequence', seqrelid::regclass, seqstart, seqtypid::regtype)
    from pg_sequence join pg_class c on c.oid = seqrelid
    where c.relnamespace = 'public'::regnamespace
union all select concat_ws(' ', 'policy', tablename, policyname, roles, qual) from pg_policies
    where schemaname = 'public'
union all select concat_ws(' ', 'comment', obj_description('accounts'::regclass))
order by 1";

/// Applies a schema as the engine would.
pub(crate) async fn apply(given: &Given, spec: &SchemaSpec) -> Result<Schema, StepError> {
    let (step, cx) = (ApplySchema::new(&given.server()), given.context("schema"));
    Box::pin(step.run(&cx, spec.clone())).await
}

// covers: R1-47, R1-48, R1-50, R1-63, R4-03
#[tokio::test]
async fn a_clone_has_everything_of_its_template_and_the_version_it_had() {
    let Some(given) = given() else { return };
    let (server, cx) = (given.server(), given.context("database"));
    let (anonymous, owner) = (given.role("anonymous").await, given.role("owner").await);
    let template = given.template(TEMPLATE).await;
    // The template is as closed as its clones will be, so that the two can be compared.
    let tables = ["accounts", "\"Orders \"\"x\"\"\"", "\"naïve 😀\"", "first_part"];
    for table in tables {
        let sql = format!("alter table {table} enable row level security");
        given.sql(template.as_str(), &sql).await.unwrap();
    }
    let (first, second) = (DatabaseSpec::new(name("one")), given.context("database"));
    let id = make(&given, &cx, &first).await;
    let one = Identifier::new(resource_name(&first)).unwrap();
    let spec = |database: &Identifier| {
        SchemaSpec::new(database.clone(), anonymous.clone())
            .with_owner(owner.clone())
            .with_template(template.clone())
    };
    let applied = apply(&given, &spec(&one)).await.unwrap();
    let of = |name: &Identifier| {
        let (given, name) = (given.clone(), name.clone());
        async move { given.sql(name.as_str(), CATALOG).await.unwrap() }
    };
    let (copied, original) = (of(&one).await, of(&template).await);
    assert!(original.len() > 40, "{}", original.len());
    assert_eq!(copied, original);
    let rows = given.sql(one.as_str(), "select count(*) from accounts").await.unwrap();
    assert_eq!(rows, ["0"]);
    // All of it is the tenant's, and nobody was granted anything.
    let owners = "select distinct pg_get_userbyid(relowner)::text from pg_class
        where relnamespace = 'public'::regnamespace";
    assert_eq!(given.sql(one.as_str(), owners).await.unwrap(), [owner.as_str()]);
    let granted = "select relname::text from pg_class
        where relnamespace = 'public'::regnamespace and relacl is not null";
    assert!(given.sql(one.as_str(), granted).await.unwrap().is_empty());
    // A repetition changes nothing and says the same.
    assert_eq!(apply(&given, &spec(&one)).await.unwrap(), applied);
    // The template moves on: the next clone has what is new, and who is behind is known.
    given.sql(template.as_str(), "alter table accounts add column since date").await.unwrap();
    let spec_two = DatabaseSpec::new(name("two"));
    let id_two = make(&given, &second, &spec_two).await;
    let two = Identifier::new(resource_name(&spec_two)).unwrap();
    let newer = apply(&given, &spec(&two)).await.unwrap();
    given.sql(two.as_str(), "select since from accounts").await.unwrap();
    let now = ApplySchema::new(&server).version(&cx, &spec(&two)).await.unwrap();
    let tenants = server.tenants(&cx).await.unwrap();
    let version = |name: &Identifier| {
        tenants.iter().find(|t| t.database == name.as_str()).unwrap().schema_version.clone()
    };
    assert_eq!((version(&one), version(&two)), (Some(applied.version), Some(newer.version)));
    assert_ne!(version(&one), Some(now.clone()));
    assert_eq!(version(&two), Some(now));
    let databases = PostgresDatabase::new(&server);
    databases.delete(&cx, &first, &id).await.unwrap();
    databases.delete(&second, &spec_two, &id_two).await.unwrap();
    given.drop_database(&template).await;
    for role in [&anonymous, &owner] {
        given.drop_role(role).await;
    }
}

fn resource_name(spec: &DatabaseSpec) -> String {
    serde_json::to_value(spec).unwrap()["name"].as_str().unwrap().to_owned()
}

// covers: R1-50
#[tokio::test]
async fn row_security_is_on_for_tables_of_any_name() {
    let Some(given) = given() else { return };
    let anonymous = given.role("anonymous").await;
    let database = given.template("create table \"there before\" (x int)").await;
    let sql = "create table \"Quoted \"\"Name\"\"\" (x int); create table \"😀\" (x int);
        create table \"select\" (x int); create table \"a'; drop table b; --\" (x int);
        create table parts (x int) partition by list (x);
        create table part_one partition of parts for values in (1)";
    let spec = SchemaSpec::new(database.clone(), anonymous.clone())
        .with_schema(Identifier::new("tenant").unwrap())
        .with_migration("0001", sql);
    apply(&given, &spec).await.unwrap();
    let tables = "select n.nspname || ' ' || c.relname || ' ' || c.relrowsecurity::text
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p') and n.nspname in ('public', 'tenant')";
    let tables = given.sql(database.as_str(), tables).await.unwrap();
    assert_eq!(tables.len(), 7, "{tables:?}");
    assert!(tables.iter().all(|table| table.ends_with(" true")), "{tables:?}");
    given.drop_database(&database).await;
    given.drop_role(&anonymous).await;
}

// covers: R1-49, S9, S12
#[tokio::test]
async fn a_clone_that_is_refused_or_cut_leaves_nothing() {
    let Some(given) = given() else { return };
    let (anonymous, owner) = (given.role("anonymous").await, given.role("owner").await);
    let template = given.template(TEMPLATE).await;
    // The last thing of the dump is in the way.
    let target = given.template("create schema public_2; create sequence ticket").await;
    let spec = SchemaSpec::new(target.clone(), anonymous.clone()).with_template(template.clone());
    // Functions that run with the rights of their owner would be those of the superuser.
    let error = apply(&given, &spec).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("no_owner", Effect::None));
    let spec = spec.with_owner(owner.clone());
    let error = apply(&given, &spec).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("migration_refused", Effect::None), "{error:?}");
    assert!(error.message().unwrap().contains("42P07"), "{error:?}");
    let left = "select relname::text from pg_class where relnamespace = 'public'::regnamespace
        union all select nspname::text from pg_namespace where nspname = 'provision'";
    assert_eq!(given.sql(target.as_str(), left).await.unwrap(), ["ticket"]);
    given.sql(target.as_str(), "drop sequence ticket").await.unwrap();
    // A dump that ends early, as when the program that writes it dies: without its end it is
    // nothing, with an exit code of 1 as with 0.
    let folder = tempdir().unwrap();
    for (end, code) in
        [("exit 1", "dump_failed"), ("kill -9 $$", "dump_failed"), ("exit 0", "dump_cut")]
    {
        program(&folder.path().join("pg_dump"), &format!("echo 'create table t (x int);'; {end}"));
        let broken =
            Given { config: given.config.clone().with_programs(folder.path()), ..given.clone() };
        let error = apply(&broken, &spec).await.unwrap_err();
        assert_eq!((error.code(), error.effect()), (code, Effect::None));
    }
    // And then it goes through.
    apply(&given, &spec).await.unwrap();
    for database in [&target, &template] {
        given.drop_database(database).await;
    }
    given.drop_role(&anonymous).await;
    given.drop_role(&owner).await;
}

/// Writes a program that stands in for another.
pub(crate) fn program(file: &Path, script: &str) {
    fs::write(file, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

// covers: R1-49, X8, X1
#[tokio::test]
async fn the_program_sees_no_shell_and_no_password_in_its_arguments() {
    let Some(given) = given() else { return };
    let (anonymous, owner) = (given.role("anonymous").await, given.role("owner").await);
    let template = given.template("create table t (x int)").await;
    let target = given.template("").await;
    let folder = tempdir().unwrap();
    let at = folder.path().display();
    let script = format!(
        "tr '\\0' '\\n' < /proc/$$/cmdline > {at}/args
         tr '\\0' '\\n' < /proc/$$/environ > {at}/env\nexec pg_dump \"$@\""
    );
    program(&folder.path().join("pg_dump"), &script);
    let watched =
        Given { config: given.config.clone().with_programs(folder.path()), ..given.clone() };
    let spec = SchemaSpec::new(target.clone(), anonymous.clone())
        .with_owner(owner.clone())
        .with_template(template.clone());
    apply(&watched, &spec).await.unwrap();
    let password = &given.environment.iter().find(|(n, _)| *n == "PGPASSWORD").unwrap().1;
    let read = |kind: &str| fs::read_to_string(folder.path().join(kind)).unwrap();
    let (arguments, environment) = (read("args"), read("env"));
    assert!(arguments.contains("--no-password") && !arguments.contains(password), "{arguments}");
    let names: BTreeSet<&str> =
        environment.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    let expected = BTreeSet::from([
        "LC_ALL",
        "PATH",
        "PGAPPNAME",
        "PGCLIENTENCODING",
        "PGCONNECT_TIMEOUT",
        "PGDATABASE",
        "PGHOST",
        "PGPASSWORD",
        "PGPORT",
        "PGSSLMODE",
        "PGUSER",
    ]);
    assert_eq!(names, expected);
    // A name that a shell or a connection string would take apart is no name.
    assert!(Identifier::new("x;rm").is_err() && Identifier::new("host=evil").is_err());
    for database in [&target, &template] {
        given.drop_database(database).await;
    }
    given.drop_role(&anonymous).await;
    given.drop_role(&owner).await;
}

// covers: R1-13, R4-03, S9
#[tokio::test]
async fn migrations_are_applied_once_whoever_repeats_them() {
    let Some(given) = given() else { return };
    let anonymous = given.role("anonymous").await;
    let database = given.template("").await;
    let spec = |sql: &str| {
        SchemaSpec::new(database.clone(), anonymous.clone())
            .with_schema(Identifier::new("tenant").unwrap())
            .with_migration("0001_init", sql)
    };
    // Broken at its end: nothing of it stays.
    let error = apply(&given, &spec("create table a (x int); select 1/0")).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("migration_refused", Effect::None));
    let left = "select nspname::text from pg_namespace where nspname in ('tenant', 'provision')";
    assert!(given.sql(database.as_str(), left).await.unwrap().is_empty());
    // Six attempts at once, as of workers that believe each other dead.
    let sql = "create table a (x int); insert into a values (1)";
    let attempts = (0..6).map(|_| {
        let (given, spec) = (given.clone(), spec(sql));
        tokio::spawn(async move { apply(&given, &spec).await })
    });
    let mut versions = BTreeSet::new();
    for attempt in attempts.collect::<Vec<_>>() {
        match attempt.await.unwrap() {
            Ok(schema) => drop(versions.insert(schema.version)),
            Err(error) => assert_eq!(error.effect(), Effect::None, "{error:?}"),
        }
    }
    versions.insert(apply(&given, &spec(sql)).await.unwrap().version);
    assert_eq!(versions.len(), 1);
    // It went into the tenant's schema, once; SQL runs directly in the database.
    let rows = given.sql(database.as_str(), "select x from tenant.a").await.unwrap();
    assert_eq!(rows, ["1"]);
    let error = apply(&given, &spec("create table b (x int)")).await.unwrap_err();
    assert_eq!(error.code(), "migration_changed");
    let error = apply(&given, &spec("select 1; commit")).await.unwrap_err();
    assert_eq!(error.code(), "bad_migration");
    given.drop_database(&database).await;
    given.drop_role(&anonymous).await;
}

// covers: X11
#[tokio::test]
async fn a_schema_that_lets_anonymous_readers_in_is_no_success() {
    let Some(given) = given() else { return };
    let anonymous = given.role("anonymous").await;
    let database = given.template("").await;
    let open = format!(
        "create table notes (body text); insert into notes values ('secret');
         create view shown as select * from notes; grant usage on schema public to \"{anonymous}\";
         grant select on shown to \"{anonymous}\""
    );
    let spec = SchemaSpec::new(database.clone(), anonymous.clone()).with_migration("1", open);
    let error = apply(&given, &spec).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("exposed", Effect::Applied));
    assert!(error.message().unwrap().contains("public.shown"), "{error:?}");
    // What was not verified has no version.
    let settings = format!(
        "select count(*)::text from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase
            where d.datname = '{database}'"
    );
    assert_eq!(given.sql("postgres", &settings).await.unwrap(), ["0"]);
    let named = spec.clone().with_openings(Openings::none().read("shown"));
    apply(&given, &named).await.unwrap();
    assert_eq!(given.sql("postgres", &settings).await.unwrap(), ["1"]);
    // Without the role there is nobody to read as, and silence is no proof.
    let nobody = SchemaSpec::new(database.clone(), name("nobody"));
    assert_eq!(apply(&given, &nobody).await.unwrap_err().code(), "unverifiable");
    given.drop_database(&database).await;
    given.drop_role(&anonymous).await;
}

/// Reads a tenant's database through the adapter's own connections.
pub(crate) struct Direct<'a>(pub(crate) &'a Given, pub(crate) Identifier);

impl Executor for Direct<'_> {
    type Error = String;

    async fn run(&self, batch: String) -> Result<Answer, String> {
        let cx = self.0.context("verify");
        let call = Call::read("verify");
        self.0.server().query(&cx, call, &self.1, batch).await.map_err(|error| error.to_string())
    }
}

/// A database that looks like the ones these schemas were written for, on a plain server.
async fn prepared(given: &Given, case: &Case) -> Result<Identifier, String> {
    let baseline = fs::read_to_string(folder().join("baseline.sql")).unwrap();
    let database = given.template(&baseline).await;
    // On a plain server no schema is the provider's: this one is looked at too.
    let closed = "alter table auth.users enable row level security";
    given.sql(database.as_str(), closed).await.unwrap();
    match given.sql(database.as_str(), &case.sql).await {
        Ok(_) => Ok(database),
        Err(error) => {
            given.drop_database(&database).await;
            Err(error.code().to_owned())
        }
    }
}

// covers: X11
#[tokio::test]
async fn a_plain_server_tells_good_schemas_from_bad_ones() {
    let Some(given) = given() else { return };
    // Roles belong to the server, and some of these schemas change one.
    let _alone = ROLES.lock().await;
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for case in cases("bad_").iter().chain(&cases("good_")) {
        let database = match prepared(&given, case).await {
            Ok(database) => database,
            Err(sqlstate) if case.refused.as_ref() == Some(&sqlstate) => continue,
            Err(sqlstate) => panic!("{}: {sqlstate}", case.name),
        };
        let executor = Direct(&given, database.clone());
        match verify(&executor, &Scope::role("anon"), &case.openings).await {
            Ok(findings) => wrong.extend(complaint(case, &findings)),
            Err(trouble) => wrong.push(format!("{}: {trouble:?}", case.name)),
        }
        given.drop_database(&database).await;
        given.sql("postgres", "alter role anon nobypassrls").await.unwrap();
        given.sql("postgres", "drop role if exists note_reader").await.unwrap();
        seen += 1;
    }
    assert!(seen >= 40, "{seen}");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
