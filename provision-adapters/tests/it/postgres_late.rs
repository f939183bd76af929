//! Code of a tenant that will not end: it catches the end of its time, does not look whether its
//! client is still there, and would have what it did committed later.

use std::{
    os::unix::fs::symlink,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use provision_adapters::tools::postgres::{ApplySchema, Identifier, Postgres, SchemaSpec};
use provision_core::{
    Call, Engine, MemoryStore, Step as _, StepContext, StepError, StoreError,
    bucket::Bucket,
    limit::{Admission, Ask, HeldBy, Limiter, Observed},
    resolver::MapResolver,
    store::Incarnation,
};
use tempfile::tempdir;

use crate::postgres::{Given, given, name, wait};

/// What a tenant puts into its database. It goes on once `mode` says `open`, and where that says
/// `stuck` it never does.
const LINGER: &str = "create table mode (word text);
    create table notes (id int);
    create function linger() returns boolean language plpgsql as $linger$
    declare
        stuck boolean := exists (select from public.mode where word = 'stuck');
        free boolean := not exists (select from public.mode);
    begin
        if free then return true; end if;
        perform pg_catalog.set_config('client_connection_check_interval', '0', false);
        loop
            begin
                perform pg_catalog.pg_sleep(0.05);
                exit when not stuck and exists (select from public.mode where word = 'open');
            exception when query_canceled then null;
            end;
        end loop;
        return true;
    end $linger$;
    create function lingering() returns trigger language plpgsql as $lingering$
    begin
        perform public.linger();
        return new;
    end $lingering$;
    create trigger lingering before insert on notes for each row execute function lingering();";

/// A tenant whose migrations meet that code.
struct Scene {
    given: Given,
    anonymous: Identifier,
    owner: Identifier,
    database: Identifier,
}

impl Scene {
    /// `limit` is the longest time of one statement, and a call takes twice as long at most.
    async fn set(limit: Duration) -> Option<Self> {
        let given = given()?;
        let (anonymous, owner) = (given.role("anonymous").await, given.role("owner").await);
        let database = given.template("").await;
        let scene = Self { given, anonymous, owner, database };
        scene.apply(&scene.given.context("schema"), scene.spec(None)).await.unwrap();
        let config = scene.given.config.clone().with_statement_timeout(limit);
        Some(Self { given: Given { config, ..scene.given.clone() }, ..scene })
    }

    fn spec(&self, second: Option<&str>) -> SchemaSpec {
        let spec = SchemaSpec::new(self.database.clone(), self.anonymous.clone())
            .with_owner(self.owner.clone())
            .with_migration("1", LINGER);
        match second {
            Some(sql) => spec.with_migration("2", sql),
            None => spec,
        }
    }

    fn schemas(&self) -> ApplySchema {
        ApplySchema::new(&Postgres::new(self.given.config.clone()))
    }

    async fn apply(&self, cx: &StepContext, spec: SchemaSpec) -> Result<(), StepError> {
        Box::pin(self.schemas().run(cx, spec)).await.map(drop)
    }

    async fn says(&self, word: &str) {
        let sql = format!("delete from mode; insert into mode values ('{word}')");
        self.sql(&sql).await;
    }

    async fn sql(&self, sql: &str) -> Vec<String> {
        self.given.sql(self.database.as_str(), sql).await.unwrap()
    }

    /// Waits until somebody works in a database at what has this in it, or until nobody does.
    async fn wait(&self, database: &Identifier, working: &str, there: bool) {
        let question = format!(
            "select 1 from pg_stat_activity
                where datname = '{database}' and query like '%{working}%' and state = 'active'"
        );
        wait(&self.given, &question, there).await;
    }

    /// An attempt whose worker dies while the tenant's code runs.
    async fn killed_attempt(&self, cx: &StepContext) {
        let (schemas, cx, spec) = (self.schemas(), cx.clone(), self.spec(Some(INSERT)));
        let attempt = tokio::spawn(async move { Box::pin(schemas.run(&cx, spec)).await });
        self.wait(&self.database, WORKING, true).await;
        attempt.abort();
        assert!(attempt.await.unwrap_err().is_cancelled());
    }

    async fn end(self) {
        self.given.drop_database(&self.database).await;
        for role in [&self.anonymous, &self.owner] {
            self.given.drop_role(role).await;
        }
    }
}

const INSERT: &str = "insert into notes values (1)";
/// What the server shows of a message that applies migrations.
const WORKING: &str = "provision step";
const NOTES: &str = "select id::text from notes";
/// Long enough for whatever is no code of the tenant, on a machine with other things to do.
const LIMIT: Duration = Duration::from_secs(3);

// covers: S7, S9
#[tokio::test]
async fn what_a_killed_worker_left_running_is_never_committed() {
    let Some(scene) = Scene::set(Duration::from_secs(30)).await else { return };
    let cx = scene.given.context("schema");
    scene.says("closed").await;
    scene.killed_attempt(&cx).await;
    // The tenant's code ends well, and nobody is there who would commit what it did.
    scene.says("open").await;
    scene.wait(&scene.database, WORKING, false).await;
    assert!(scene.sql(NOTES).await.is_empty());
    let recorded = scene.sql("select name from provision.migrations order by 1").await;
    assert_eq!(recorded, ["1"]);
    scene.apply(&cx, scene.spec(Some(INSERT))).await.unwrap();
    assert_eq!(scene.sql(NOTES).await, ["1"]);
    scene.end().await;
}

// covers: S7, S9
#[tokio::test]
async fn a_call_that_is_cut_by_time_ends_what_it_began_at_the_server() {
    let Some(scene) = Scene::set(LIMIT).await else { return };
    scene.says("stuck").await;
    let cx = scene.given.context("schema");
    let error = scene.apply(&cx, scene.spec(Some(INSERT))).await.unwrap_err();
    assert_eq!(error.code(), "timeout", "{error:?}");
    scene.wait(&scene.database, WORKING, false).await;
    // So does every other call, also one that only looks.
    let (server, call) = (Postgres::new(scene.given.config.clone()), Call::read("look"));
    let look = server.query(&cx, call, &scene.database, "select public.linger()::text");
    assert_eq!(look.await.unwrap_err().code(), "timeout");
    scene.wait(&scene.database, "public.linger()", false).await;
    // Nothing of it stands, and the next attempt finds nothing in its way.
    scene.sql("delete from mode").await;
    assert!(scene.sql(NOTES).await.is_empty());
    scene.apply(&cx, scene.spec(Some(INSERT))).await.unwrap();
    assert_eq!(scene.sql(NOTES).await, ["1"]);
    scene.end().await;
}

// covers: S7, L1
#[tokio::test]
async fn what_a_killed_worker_left_standing_in_the_way_is_ended_by_the_next() {
    let Some(scene) = Scene::set(LIMIT).await else { return };
    let cx = scene.given.context("schema");
    scene.says("stuck").await;
    scene.killed_attempt(&cx).await;
    scene.sql("delete from mode").await;
    let mut codes = Vec::new();
    while let Err(error) = scene.apply(&cx, scene.spec(Some(INSERT))).await {
        codes.push(error.code().to_owned());
        assert!(codes.len() < 6, "{codes:?}");
    }
    assert_eq!(codes.first().map(String::as_str), Some("busy"), "{codes:?}");
    assert_eq!(scene.sql(NOTES).await, ["1"]);
    scene.end().await;
}

// covers: S7
#[tokio::test]
async fn a_clone_that_is_cut_by_time_ends_what_it_began() {
    let Some(scene) = Scene::set(LIMIT * 2).await else { return };
    // The reading of a literal runs the check of a domain; the last of its functions is what a dump
    // has.
    let stuck = "create or replace function take() returns boolean language plpgsql as $take$
        begin
            perform pg_catalog.set_config('client_connection_check_interval', '0', false);
            loop
                begin perform pg_catalog.pg_sleep(0.05);
                exception when query_canceled then null; end;
            end loop;
        end $take$";
    let template = scene
        .given
        .template(&format!(
            "create function take() returns boolean language sql as 'select true';
             create domain checked as int check (take());
             create type pair as (x checked);
             create table notes (id int);
             create policy read on notes to pg_monitor using (('(1)'::pair) is null);
             {stuck}"
        ))
        .await;
    let target = scene.given.template("").await;
    let spec = SchemaSpec::new(target.clone(), scene.anonymous.clone())
        .with_owner(scene.owner.clone())
        .with_template(template.clone());
    let (schemas, cx) = (scene.schemas(), scene.given.context("clone"));
    let clone = tokio::spawn(async move { Box::pin(schemas.run(&cx, spec)).await.map(drop) });
    scene.wait(&target, WORKING, true).await;
    assert_eq!(clone.await.unwrap().unwrap_err().code(), "timeout");
    scene.wait(&target, WORKING, false).await;
    let left = scene.given.sql(target.as_str(), "select to_regclass('notes')::text").await;
    assert_eq!(left.unwrap(), [""]);
    for database in [&template, &target] {
        scene.given.drop_database(database).await;
    }
    scene.end().await;
}

// covers: S7, S9
#[tokio::test]
async fn a_clone_whose_worker_was_killed_is_never_committed() {
    let Some(scene) = Scene::set(Duration::from_secs(30)).await else { return };
    // The dump is all that a program makes: nothing that outlives the worker has a commit to send.
    let folder = tempdir().unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let found = std::env::split_paths(&path).map(|folder| folder.join("pg_dump"));
    let dump = found.into_iter().find(|file| file.is_file()).expect("pg_dump is installed");
    symlink(dump, folder.path().join("pg_dump")).unwrap();
    // It goes on once there is a role of this name.
    let go = name("go");
    let lingering = format!(
        "create or replace function take() returns boolean language plpgsql as $take$
        begin
            perform pg_catalog.set_config('client_connection_check_interval', '0', false);
            while not exists (select from pg_catalog.pg_roles where rolname = '{go}') loop
                begin perform pg_catalog.pg_sleep(0.05);
                exception when query_canceled then null; end;
            end loop;
            return true;
        end $take$"
    );
    let template = scene
        .given
        .template(&format!(
            "create function take() returns boolean language sql as 'select true';
             create domain checked as int check (take());
             create type pair as (x checked);
             create table notes (id int);
             create policy read on notes to pg_monitor using (('(1)'::pair) is null);
             {lingering}"
        ))
        .await;
    let target = scene.given.template("").await;
    let spec = SchemaSpec::new(target.clone(), scene.anonymous.clone())
        .with_owner(scene.owner.clone())
        .with_template(template.clone());
    let config = scene.given.config.clone().with_programs(folder.path());
    let (schemas, cx) = (ApplySchema::new(&Postgres::new(config)), scene.given.context("clone"));
    let attempt = {
        let (schemas, cx, spec) = (schemas.clone(), cx.clone(), spec.clone());
        tokio::spawn(async move { Box::pin(schemas.run(&cx, spec)).await.map(drop) })
    };
    scene.wait(&target, WORKING, true).await;
    attempt.abort();
    assert!(attempt.await.unwrap_err().is_cancelled());
    scene.given.sql("postgres", &format!("create role \"{go}\"")).await.unwrap();
    scene.wait(&target, WORKING, false).await;
    let there = "select to_regclass('notes')::text";
    assert_eq!(scene.given.sql(target.as_str(), there).await.unwrap(), [""]);
    Box::pin(schemas.run(&cx, spec)).await.unwrap();
    assert_eq!(scene.given.sql(target.as_str(), there).await.unwrap(), ["notes"]);
    for database in [&template, &target] {
        scene.given.drop_database(database).await;
    }
    scene.given.drop_role(&go).await;
    scene.end().await;
}

/// Lets calls through until it is shut.
#[derive(Debug, Clone, Default)]
struct Gate(std::sync::Arc<AtomicBool>);

#[async_trait]
impl Limiter for Gate {
    async fn admit(&self, ask: &Ask) -> Result<Admission, StoreError> {
        if !self.0.load(Ordering::SeqCst) {
            return Ok(Admission::Now { calls: ask.calls });
        }
        let wait = Duration::from_secs(60);
        let at = provision_core::Timestamp::from_millis(u64::MAX / 2);
        Ok(Admission::At { at, wait, reason: HeldBy::Concurrency })
    }

    async fn observe(&self, _: &str, _: Incarnation, _: &Observed) -> Result<(), StoreError> {
        Ok(())
    }

    async fn look(&self, _: &str) -> Result<Bucket, StoreError> {
        Ok(Bucket::default())
    }
}

// covers: S7, L1
#[tokio::test]
async fn what_a_cut_call_began_is_ended_also_where_calls_of_the_server_are_held_back() {
    let Some(scene) = Scene::set(LIMIT).await else { return };
    scene.says("stuck").await;
    let gate = Gate::default();
    let part = |wanted: &str| scene.given.environment.iter().find(|(name, _)| *name == wanted);
    let password = &part("PGPASSWORD").unwrap().1;
    let resolver = MapResolver::new().with(crate::postgres::ADMIN, password.as_str());
    let engine = Engine::builder(MemoryStore::new()).limiter(gate.clone()).resolver(resolver);
    let engine = engine.build().await.unwrap();
    let cx = engine.preparing(None).await.unwrap();
    let (server, database) = (Postgres::new(scene.given.config.clone()), scene.database.clone());
    let look = tokio::spawn(async move {
        let call = Call::read("look");
        server.query(&cx, call, &database, "select public.linger()::text").await.map(drop)
    });
    scene.wait(&scene.database, "public.linger()", true).await;
    gate.0.store(true, Ordering::SeqCst);
    assert_eq!(look.await.unwrap().unwrap_err().code(), "timeout");
    scene.wait(&scene.database, "public.linger()", false).await;
    scene.end().await;
}
