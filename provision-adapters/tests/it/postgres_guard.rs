//! Code that tenants have put into their databases, against the rights of the role that administers
//! the server.

use std::{fs, os::unix::fs::PermissionsExt as _};

use provision_adapters::tools::{
    postgres::{
        ApplySchema, Identifier, Openings, Postgres, PostgresConfig, PostgresDatabase, SchemaSpec,
    },
    row_security::{Scope, Trouble, verify},
};
use provision_core::{Resource as _, SecretRef, StepError};
use provision_testkit::solo::SoloHost;
use tempfile::tempdir;

use crate::{
    postgres::{Given, given, name},
    postgres_schema::{Direct, apply, program},
};

/// A function that goes back to the role of the connection, does what only a superuser may, and says
/// nothing of how that ended.
fn taking(function: &str, deed: &str) -> String {
    format!(
        "create or replace function {function} returns boolean language plpgsql as $take$
         begin
            begin reset role; exception when others then null; end;
            begin reset session authorization; exception when others then null; end;
            begin {deed}; exception when others then null; end;
            return true;
         end $take$;"
    )
}

// covers: X11
#[tokio::test]
async fn a_verification_runs_no_code_of_a_tenant_with_more_rights_than_a_reader_has() {
    let Some(given) = given() else { return };
    let anonymous = given.role("anonymous").await;
    let folder = tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let file = folder.path().join("taken");
    // It works in a transaction that may only read, and stays when that is rolled back.
    let take = format!("copy (select 1) to program 'touch {}'", file.display());
    let database = given
        .template(&format!(
            "create schema closed;
             create function take() returns boolean language sql as 'select true';
             create function closed.take() returns boolean language sql as 'select true';
             create domain closed.checked as int check (closed.take());
             create type closed.pair as (x closed.checked);
             create function held() returns setof int language plpgsql as $$ begin
                execute 'declare held cursor with hold for select public.take()';
                return next 1;
             end $$;
             create function escape() returns setof int language plpgsql as $$ begin
                perform public.take();
                return next 1;
             end $$;
             create table notes (id int);
             alter table notes enable row level security;
             create policy hidden on notes using (not closed.take());
             create policy open on notes using (not take());
             create policy read on notes
                using (not closed.take() and ('(1)'::closed.pair) is null);
             grant usage on schema public to \"{anonymous}\";
             grant select on notes to \"{anonymous}\";
             {} {}",
            taking("public.take()", &take),
            taking("closed.take()", &take)
        ))
        .await;
    let executor = Direct(&given, database.clone());
    let scope = Scope::role(anonymous.as_str());
    let end = verify(&executor, &scope, &Openings::none()).await;
    // The policies were evaluated, also the one that names what no reader may name.
    let findings = end.unwrap();
    assert!(!file.exists(), "{findings:?}");
    // With the rights of the administering role each of them does it.
    for call in [
        "select closed.take()::text",
        "select escape()::text",
        "select held()::text",
        "select (('(1)'::closed.pair) is null)::text",
    ] {
        given.sql(database.as_str(), call).await.unwrap();
        assert!(file.exists(), "{call}");
        fs::remove_file(&file).unwrap();
    }
    given.drop_database(&database).await;
    given.drop_role(&anonymous).await;
}

// covers: X11
#[tokio::test]
async fn an_executor_that_may_not_ask_as_the_anonymous_role_proves_nothing() {
    let Some(given) = given() else { return };
    let (anonymous, low) = (given.role("anonymous").await, name("low"));
    let sql = format!("create role \"{low}\" login password 'low'");
    given.sql("postgres", &sql).await.unwrap();
    let open = format!(
        "create table notes (id int); alter table notes enable row level security;
         create policy open on notes using (current_setting('app.user', true) is null);
         grant usage on schema public to \"{anonymous}\";
         grant select on notes to \"{anonymous}\""
    );
    let database = given.template(&open).await;
    let part = |wanted: &str| {
        let found = given.environment.iter().find(|(name, _)| *name == wanted);
        found.unwrap().1.clone()
    };
    let config = PostgresConfig::new(part("PGHOST"), low.as_str(), SecretRef::named("LOW"))
        .with_port(part("PGPORT").parse().unwrap());
    let host = SoloHost::new().with_secret("LOW", "low");
    let lower = Given { config, host, environment: given.environment.clone() };
    let scope = Scope::role(anonymous.as_str());
    let executor = Direct(&lower, database.clone());
    let trouble = verify(&executor, &scope, &Openings::none()).await.unwrap_err();
    assert!(matches!(&trouble, Trouble::Refused { question: "ask as anon", .. }), "{trouble:?}");
    let executor = Direct(&given, database.clone());
    assert!(!verify(&executor, &scope, &Openings::none()).await.unwrap().is_empty());
    given.drop_database(&database).await;
    for role in [&anonymous, &low] {
        given.drop_role(role).await;
    }
}

/// How many of the roles are there that code of a tenant would have made.
async fn made(given: &Given, roles: &[&Identifier]) -> Vec<String> {
    let names: Vec<String> = roles.iter().map(|role| format!("'{role}'")).collect();
    let sql = format!("select rolname::text from pg_roles where rolname in ({})", names.join(", "));
    given.sql("postgres", &sql).await.unwrap()
}

fn code(end: Result<impl std::fmt::Debug, StepError>) -> String {
    let error = end.unwrap_err();
    eprintln!("{error:?}");
    error.code().to_owned()
}

// covers: X11
#[tokio::test]
async fn a_migration_runs_no_code_of_a_tenant_with_the_rights_of_the_administering_role() {
    let Some(given) = given() else { return };
    let (anonymous, owner) = (given.role("anonymous").await, given.role("owner").await);
    let (by_name, taken) = (name("by_name"), name("taken"));
    let database = given.template("").await;
    // What a member of the owner has put there.
    let first = format!(
        "{}
         create table notes (id int);
         create function public.format(a text, b name, c name) returns text language plpgsql
            as $$ begin create role \"{by_name}\"; return 'select 1'; end $$;
         create function escape() returns trigger language plpgsql as $$
         begin
            perform take();
            if new.id = 2 then set constraints all deferred; insert into notes values (3); end if;
            return null;
         end $$;
         create constraint trigger escape after insert on notes deferrable initially deferred
            for each row execute function escape();
         declare held cursor with hold for select take();
         create table later (id int)",
        taking("take()", &format!("create role \"{taken}\""))
    );
    let spec = SchemaSpec::new(database.clone(), anonymous.clone())
        .with_owner(owner.clone())
        .with_migration("1", first);
    apply(&given, &spec).await.unwrap();
    let owners = "select pg_get_userbyid(relowner)::text from pg_class where relname = 'notes'";
    assert_eq!(given.sql(database.as_str(), owners).await.unwrap(), [owner.as_str()]);
    // The next of the fleet's migrations meets it: its trigger runs before the migration ends.
    let spec = spec.with_migration("2", "insert into notes values (1)");
    apply(&given, &spec).await.unwrap();
    // A trigger that puts something off once more has nothing done.
    let again = spec.clone().with_migration("3", "insert into notes values (2)");
    assert_eq!(code(apply(&given, &again).await), "migration_refused");
    let rows = given.sql(database.as_str(), "select id::text from notes").await.unwrap();
    assert_eq!(rows, ["1"]);
    // Nor does a migration switch roles by itself.
    let switched = spec.clone().with_migration("3", "reset role; create table more (id int)");
    assert_eq!(code(apply(&given, &switched).await), "migration_refused");
    let next = spec.with_migration("3", "create table more (id int); select 1 -- its end");
    apply(&given, &next).await.unwrap();
    assert!(made(&given, &[&by_name, &taken]).await.is_empty());
    // With the rights of the administering role it does it.
    given.sql(database.as_str(), "select take()::text").await.unwrap();
    assert_eq!(made(&given, &[&by_name, &taken]).await, [taken.as_str()]);
    given.drop_database(&database).await;
    for role in [&anonymous, &owner, &taken] {
        given.drop_role(role).await;
    }
}

// covers: X11
#[tokio::test]
async fn an_owner_with_rights_of_its_own_is_refused_before_anything_runs() {
    let Some(given) = given() else { return };
    let (anonymous, owner) = (given.role("anonymous").await, given.role("owner").await);
    let database = given.template("").await;
    let admin = given.sql("postgres", "select current_user::text").await.unwrap().remove(0);
    let wants = |owner: Identifier| {
        SchemaSpec::new(database.clone(), anonymous.clone())
            .with_owner(owner)
            .with_migration("1", "create table notes (id int)")
    };
    let admin = wants(Identifier::new(admin).unwrap());
    assert_eq!(code(apply(&given, &admin).await), "powerful_owner");
    for (gives, takes) in [
        ("alter role \"{}\" createrole", "alter role \"{}\" nocreaterole"),
        (
            "grant pg_execute_server_program to \"{}\"",
            "revoke pg_execute_server_program from \"{}\"",
        ),
    ] {
        let change = |text: &str| text.replace("{}", owner.as_str());
        given.sql("postgres", &change(gives)).await.unwrap();
        assert_eq!(code(apply(&given, &wants(owner.clone())).await), "powerful_owner", "{gives}");
        given.sql("postgres", &change(takes)).await.unwrap();
    }
    let tables = "select relname::text from pg_class where relname = 'notes'";
    assert!(given.sql(database.as_str(), tables).await.unwrap().is_empty());
    apply(&given, &wants(owner.clone())).await.unwrap();
    given.drop_database(&database).await;
    for role in [&anonymous, &owner] {
        given.drop_role(role).await;
    }
}

// covers: X11
#[tokio::test]
async fn a_clone_runs_no_code_of_its_template_with_the_rights_of_the_administering_role() {
    let Some(given) = given() else { return };
    let (anonymous, owner) = (given.role("anonymous").await, given.role("owner").await);
    let taken = name("taken");
    // Its own author makes it with all rights, before it does anything.
    let template = given
        .template(&format!(
            "create function take() returns boolean language sql as 'select true';
             create domain checked as int check (take());
             create type pair as (x checked);
             create table notes (id int);
             create policy read on notes to pg_monitor using (('(1)'::pair) is null);
             {}",
            taking("take()", &format!("create role \"{taken}\""))
        ))
        .await;
    let target = given.template("").await;
    let spec = SchemaSpec::new(target.clone(), anonymous.clone())
        .with_owner(owner.clone())
        .with_template(template.clone());
    apply(&given, &spec).await.unwrap();
    let policies = "select count(*)::text from pg_policies where tablename = 'notes'";
    assert_eq!(given.sql(target.as_str(), policies).await.unwrap(), ["1"]);
    assert!(made(&given, &[&taken]).await.is_empty());
    given.sql(target.as_str(), "select (('(1)'::pair) is null)::text").await.unwrap();
    assert_eq!(made(&given, &[&taken]).await, [taken.as_str()]);
    for database in [&target, &template] {
        given.drop_database(database).await;
    }
    for role in [&anonymous, &owner, &taken] {
        given.drop_role(role).await;
    }
}

// covers: X11, S11
#[tokio::test]
async fn what_a_tenant_made_under_the_names_of_the_library_is_neither_read_nor_called() {
    let Some(given) = given() else { return };
    let (anonymous, owner) = (given.role("anonymous").await, given.role("owner").await);
    let taken = name("taken");
    let database = given
        .template(&format!(
            "{}
             create schema provision authorization \"{owner}\";
             create view provision.migrations as select take()::text as name, '' as checksum;
             create function public.shobj_description(a oid, b text) returns text
                language plpgsql as $$ begin perform take(); return null; end $$;",
            taking("public.take()", &format!("create role \"{taken}\""))
        ))
        .await;
    let spec = SchemaSpec::new(database.clone(), anonymous.clone())
        .with_migration("1", "create table notes (id int)");
    assert_eq!(code(apply(&given, &spec).await), "foreign_records");
    // The same where databases are looked for.
    let there = given.config.clone().with_database(database.as_str());
    let resource = PostgresDatabase::new(&Postgres::new(there));
    resource.list_owned(&given.context("database")).await.unwrap();
    assert!(made(&given, &[&taken]).await.is_empty());
    // It is what a question finds that names no schema.
    let question = "select shobj_description(1::oid, 'pg_database')";
    given.sql(database.as_str(), question).await.unwrap();
    assert_eq!(made(&given, &[&taken]).await, [taken.as_str()]);
    given.drop_database(&database).await;
    for role in [&anonymous, &owner, &taken] {
        given.drop_role(role).await;
    }
}

// covers: X11
#[tokio::test]
async fn an_owner_makes_temporary_tables_in_its_migrations_alone_and_none_stands_for_a_table() {
    let Some(given) = given() else { return };
    let (anonymous, owner) = (given.role("anonymous").await, given.role("owner").await);
    let (database, close) = (given.template("").await, "revoke all on database \"{}\" from public");
    let close = close.replace("{}", database.as_str());
    given.sql("postgres", &close).await.unwrap();
    let spec = SchemaSpec::new(database.clone(), anonymous.clone())
        .with_owner(owner.clone())
        .with_migration(
            "1",
            "create table notes (id int); create temporary table notes (id int);
             create temporary table drafts (id int); insert into drafts values (1)",
        )
        .with_migration("2", "alter table notes add column body text");
    apply(&given, &spec).await.unwrap();
    let columns = "select attname::text from pg_attribute
        where attrelid = 'public.notes'::regclass and attnum > 0 order by attnum";
    assert_eq!(given.sql(database.as_str(), columns).await.unwrap(), ["id", "body"]);
    let may = format!(
        "select has_database_privilege('{owner}', '{database}', 'TEMPORARY')::text
         union all select has_database_privilege('{owner}', '{database}', 'CREATE')::text"
    );
    assert_eq!(given.sql("postgres", &may).await.unwrap(), ["false", "true"]);
    // It is taken back also where a migration throws away all that is temporary.
    let spec = spec.with_migration("3", "create temporary table drafts (id int); discard temp");
    apply(&given, &spec).await.unwrap();
    assert_eq!(given.sql("postgres", &may).await.unwrap(), ["false", "true"]);
    let left = "select typname::text from pg_type where typname = 'temporary_lent'";
    assert!(given.sql(database.as_str(), left).await.unwrap().is_empty());
    // What somebody else has granted stays.
    let grant = format!("grant temporary on database \"{database}\" to \"{owner}\"");
    given.sql("postgres", &grant).await.unwrap();
    let spec = spec.with_migration("4", "create temporary table more (id int)");
    apply(&given, &spec).await.unwrap();
    assert_eq!(given.sql("postgres", &may).await.unwrap(), ["true", "true"]);
    given.drop_database(&database).await;
    for role in [&anonymous, &owner] {
        given.drop_role(role).await;
    }
}

// covers: X2
#[tokio::test]
async fn a_client_that_does_not_know_the_roots_of_the_system_is_told_so() {
    let Some(given) = given() else { return };
    let folder = tempdir().unwrap();
    program(&folder.path().join("pg_dump"), "echo 'pg_dump (PostgreSQL) 15.4 (Debian)'");
    let config = PostgresConfig::new("db.example.com", "admin", SecretRef::named("POSTGRES_ADMIN"))
        .with_programs(folder.path());
    let spec = SchemaSpec::new(name("database"), name("anonymous")).with_template(name("template"));
    let schemas = ApplySchema::new(&Postgres::new(config));
    let error = schemas.version(&given.context("schema"), &spec).await.unwrap_err();
    assert_eq!(error.code(), "program_too_old", "{error:?}");
}
