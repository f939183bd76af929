//! Simulated projects with databases of a real PostgreSQL server, which `PROVISION_TEST_POSTGRES_URL`
//! names: the same verdicts as over the model, and nothing that outlives its project.

use std::sync::{Arc, Mutex};

use provision_adapters::{
    sim::{Fault, FaultRule, SimOptions},
    supabase::{
        ProjectSpec, SchemaSpec,
        sim::{PostgresServer, SupabaseSim},
        verify::{Answer, Executor},
    },
};
use provision_core::Resource;
use provision_testkit::skips::is_long;
use serde_json::{Value, json};

use crate::{
    supabase::{World, spec},
    supabase_raw::ask,
    supabase_schemas::{Case, Psql, ROLES, cases, look_at, server_url},
};

/// A simulator that knows a server.
fn over(url: &str) -> SupabaseSim {
    let mut sim = SupabaseSim::new();
    sim.set_postgres(PostgresServer::connect(url).unwrap());
    sim
}

fn fast() -> SimOptions {
    SimOptions::default().with_speed(0.0)
}

/// What the server has of a project: its database and its owner.
fn left_of(url: &str, project: &str) -> (bool, bool) {
    let has = |table: &str, name: &str| {
        let sql = format!("select 1 from {table} where {name} like 'provision\\_sim\\_%{project}'");
        Psql::server(url).sql(&sql).unwrap().lines().count() > 1
    };
    (has("pg_database", "datname"), has("pg_roles", "rolname"))
}

/// One project, asked as its owner.
struct Project {
    sim: Arc<Mutex<SupabaseSim>>,
    id: String,
}

impl Project {
    fn new(sim: &Arc<Mutex<SupabaseSim>>, case: &Case) -> Result<Self, String> {
        let id = sim.lock().unwrap().add_project(&case.name);
        // As the step does before it applies a schema.
        let lock_down = include_str!("../../src/supabase/steps/lock_down.sql");
        sim.lock().unwrap().execute(&id, &format!("{lock_down}{}", case.sql))?;
        Ok(Self { sim: Arc::clone(sim), id })
    }
}

impl Executor for Project {
    type Error = String;

    async fn run(&self, batch: String) -> Result<Answer, String> {
        let rows = match self.sim.lock().unwrap().execute(&self.id, &batch) {
            Ok(rows) => rows,
            Err(said) => match said.split_once(": ") {
                Some((state, _)) if state.len() == 5 => {
                    return Ok(Answer::Refused { sqlstate: state.to_owned() });
                }
                _ => return Err(said),
            },
        };
        let text = |value: &Value| match value {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        let row = |row: &Value| {
            let fields = row.as_object().unwrap().iter();
            fields.map(|(name, value)| (name.clone(), text(value))).collect()
        };
        Ok(Answer::Rows(rows.iter().map(row).collect()))
    }
}

// covers: X11, R1-07, R1-51
#[tokio::test]
async fn a_simulator_over_a_server_tells_good_schemas_from_bad_ones() {
    let Some(url) = server_url() else { return };
    let _alone = ROLES.lock().await;
    let sim = Arc::new(Mutex::new(over(&url)));
    let makes_roles = |case: &Case| case.sql.contains("create role");
    let (roles, bad): (Vec<_>, Vec<_>) = cases("bad_").into_iter().partition(makes_roles);
    // All of them take two minutes.
    let step = if is_long() { 1 } else { 3 };
    let cases: Vec<_> = bad.into_iter().step_by(step).chain(cases("good_")).collect();
    look_at(&cases, |case| Project::new(&sim, case)).await;
    // Roles are the whole server's, so a schema that makes some gets no further.
    assert!(!roles.is_empty());
    for case in roles {
        let refused = Project::new(&sim, &case).err();
        assert!(refused.is_some_and(|said| said.starts_with("42501")), "{}", case.name);
    }
}

// covers: X11, R1-06, R1-07
#[tokio::test]
async fn a_project_over_a_server_gives_its_keys_only_when_it_is_closed() {
    let Some(url) = server_url() else { return };
    let _alone = ROLES.lock().await;
    let world = World::of(over(&url), fast());
    for (prefix, closed) in [("good_", true), ("bad_policy", false)] {
        for case in cases(prefix).into_iter().take(3) {
            let schema = SchemaSpec::new().with_migration("0001_init", case.sql.clone());
            let schema = schema.with_openings(case.openings.clone());
            let spec = ProjectSpec::new("client-7", "eu-west-1").with_schema(schema);
            let cx = world.cx(&case.name);
            let id = world.create(&cx, &spec).await;
            let came = world.settle(&cx, &spec, &id).await;
            let code = came.as_ref().err().map(|error| error.code().to_owned());
            let expected = (!closed).then(|| "exposed".to_owned());
            assert_eq!(code, expected, "{}: {came:?}", case.name);
        }
    }
}

// covers: X11
#[tokio::test]
async fn anonymous_readers_see_what_the_server_shows_them() {
    let Some(url) = server_url() else { return };
    let _alone = ROLES.lock().await;
    let world = World::of(over(&url), fast());
    let id = world.server.with(|sim| sim.add_project("read"));
    let made = "create table news (id int primary key, body text);
        alter table news enable row level security;
        create policy everybody on news for select to anon using (id = 1);
        insert into news values (1, 'shown'), (2, 'hidden');
        create table closed (id int);
        revoke all on closed from anon;
        create function twice(a int default 4) returns int language sql as 'select a * 2'";
    world.server.with(|sim| sim.execute(&id, made)).unwrap();
    let keys = world.server.with(|sim| sim.keys(&id));
    let get = async |line: String, key: &str| {
        let (status, _, body) = ask(&world, &line, &[("apikey", key)], "").await;
        (status, body)
    };
    let [anon, service] = [&keys[0], &keys[1]];
    let news = format!("GET /p/{id}/rest/v1/news");
    assert_eq!(get(news.clone(), anon).await, (200, json!([{ "id": 1, "body": "shown" }])));
    assert_eq!(get(news, service).await.1.as_array().unwrap().len(), 2);
    let (status, body) = get(format!("GET /p/{id}/rest/v1/closed"), anon).await;
    assert_eq!((status, &body["code"]), (401, &json!("42501")));
    assert_eq!(get(format!("GET /p/{id}/rest/v1/none"), anon).await.0, 404);
    let called = get(format!("POST /p/{id}/rest/v1/rpc/twice"), anon).await;
    assert_eq!(called, (200, json!([{ "twice": 8 }])));
    // Values have the form that the model gives them, and the clock is the server's.
    let sql = "select 1::bigint as small, 9007199254740993 as big, 1.50::numeric as exact, \
               true as flag, null::text as nothing, '{\"b\":[1]}'::jsonb as doc, \
               array['a', null] as list, '2026-01-02'::date as day, \
               'public'::regnamespace as space, array['a']::name[] as names";
    let rows = world.server.with(|sim| sim.execute(&id, sql)).unwrap();
    let expected = json!({
        "small": 1, "big": "9007199254740993", "exact": "1.50", "flag": true, "nothing": null,
        "doc": { "b": [1] }, "list": ["a", null], "day": "2026-01-02", "space": "public",
        "names": "{a}",
    });
    assert_eq!(rows, [expected]);
}

#[tokio::test]
async fn a_database_comes_and_goes_with_its_project() {
    let Some(url) = server_url() else { return };
    let _alone = ROLES.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("cloud.json");
    let (id, spec) = {
        let world = World::of(over(&url), fast().with_persist(&state));
        let spec = spec();
        (world.create(&world.cx("supabase"), &spec).await, spec)
    };
    // The name is on the disk before there is anything of that name.
    assert_eq!(left_of(&url, id.as_str()), (false, false));
    let stored: Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    let name = &stored["state"]["projects"][id.as_str()]["database"]["on_server"];
    let name = name.as_str().unwrap().to_owned();
    // A process that was killed while it made it has left this.
    let server = Psql::server(&url);
    server.sql(&format!("create role {name} login")).unwrap();
    server.sql(&format!("create database {name} owner {name}")).unwrap();
    {
        let world = World::of(over(&url), fast().with_persist(&state));
        world.settle(&world.cx("supabase"), &spec, &id).await.unwrap();
        let kept = "create table kept (id int); insert into kept values (7)";
        world.server.with(|sim| sim.execute(id.as_str(), kept)).unwrap();
    }
    let kept = "select id from kept";
    // Another process finds the database as it was; one without the server says so.
    let world = World::of(over(&url), fast().with_persist(&state));
    let found = world.server.with(|sim| sim.execute(id.as_str(), kept)).unwrap();
    assert_eq!(found, [json!({ "id": 7 })]);
    assert!(world.server.with(|sim| !sim.lacks_server()));
    drop(world);
    let world = World::with(fast().with_persist(&state));
    assert!(world.server.with(|sim| sim.lacks_server()));
    assert!(world.server.with(|sim| sim.execute(id.as_str(), "select 1")).is_err());
    drop(world);
    // A delete that is told and not done takes nothing; a real one takes all.
    let world = World::of(over(&url), fast().with_persist(&state));
    let cx = world.cx("supabase");
    world.server.faults().add(FaultRule::new(Fault::Ghost).method("DELETE").once());
    world.projects.delete(&cx, &spec, &id).await.unwrap();
    assert_eq!(world.server.with(|sim| sim.execute(id.as_str(), kept)).unwrap().len(), 1);
    assert_eq!(left_of(&url, id.as_str()), (true, true));
    world.projects.delete(&cx, &spec, &id).await.unwrap();
    assert_eq!(left_of(&url, id.as_str()), (false, false));
}

#[tokio::test]
async fn a_cloud_that_keeps_nothing_leaves_nothing() {
    let Some(url) = server_url() else { return };
    let _alone = ROLES.lock().await;
    let mut sim = over(&url);
    let id = sim.add_project("short");
    sim.execute(&id, "create table kept (id int)").unwrap();
    assert_eq!(left_of(&url, &id), (true, true));
    // The owner is no superuser, and what would outlive its project is not its to make.
    for sql in ["create role other", "alter role anon bypassrls", "create database other"] {
        let said = sim.execute(&id, sql).unwrap_err();
        assert!(said.starts_with("42501"), "{sql}: {said}");
    }
    let roles = "select rolsuper, rolcreaterole from pg_roles where rolname = current_user";
    let owner = sim.execute(&id, roles).unwrap();
    assert_eq!(owner, [json!({ "rolsuper": false, "rolcreaterole": false })]);
    drop(sim);
    assert_eq!(left_of(&url, &id), (false, false));
}

#[test]
fn a_server_that_will_not_do_is_refused() {
    let no = |url: &str| PostgresServer::connect(url).unwrap_err();
    assert!(no("mysql://x").contains("no URL"));
    assert!(no("postgres://me:hunter2@db.example.com/x").contains("this machine"));
    let nobody = no("postgres://me:hunter2@127.0.0.1:1/x");
    assert!(nobody.contains("server of simulated projects") && !nobody.contains("hunter2"));
    let Some(url) = server_url() else { return };
    let server = Psql::server(&url);
    let name = format!("sim_nobody_{}", std::process::id());
    server.sql(&format!("create role {name} login password 'x'")).unwrap();
    let (_, address) = url.rsplit_once('@').unwrap();
    assert!(no(&format!("postgres://{name}:x@{address}")).contains("no superuser"));
    server.sql(&format!("drop role {name}")).unwrap();
}
