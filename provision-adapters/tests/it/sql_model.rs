//! The catalog model of the Supabase simulator, statement by statement.
//!
//! The files beside this one hold statements with the answers PostgreSQL 15 gave to them; the model
//! must give the same rows and the same codes. What it does not know it must refuse by name.

use provision_adapters::supabase::sim::sql::{Catalog, ResultSet, SqlError};
use serde_json::Value;

/// One statement (or several in one call) with the role that sends it and the answer.
pub(crate) struct Step {
    pub(crate) role: String,
    pub(crate) sql: String,
    answer: String,
}

/// Steps that share a database.
pub(crate) struct Case {
    name: String,
    pub(crate) steps: Vec<Step>,
}

pub(crate) const FILES: [&str; 9] = [
    include_str!("sql_model/expressions.txt"),
    include_str!("sql_model/functions.txt"),
    include_str!("sql_model/owners.txt"),
    include_str!("sql_model/queries.txt"),
    include_str!("sql_model/rights.txt"),
    include_str!("sql_model/roles.txt"),
    include_str!("sql_model/security.txt"),
    include_str!("sql_model/tables.txt"),
    include_str!("sql_model/views.txt"),
];

/// Reads a file: `==` opens a case, `@role` a step, and `=>` its answer.
pub(crate) fn cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("== ") {
            cases.push(Case { name: name.to_owned(), steps: Vec::new() });
        } else if let (Some(role), Some(case)) = (line.strip_prefix('@'), cases.last_mut()) {
            let (sql, answer) = (String::new(), String::new());
            case.steps.push(Step { role: role.to_owned(), sql, answer });
        } else if let Some(step) = cases.last_mut().and_then(|case| case.steps.last_mut()) {
            match line.strip_prefix("=> ") {
                Some(answer) => step.answer += &format!("{answer}\n"),
                None => step.sql += &format!("{line}\n"),
            }
        }
    }
    cases
}

/// Prints an answer as the command line of the server does.
fn printed(answer: &Result<Vec<ResultSet>, SqlError>) -> String {
    match answer {
        Err(error) => format!("error {}\n", error.sqlstate),
        Ok(sets) => {
            let rows = sets.iter().flat_map(|set| &set.rows);
            let row = |row: &Vec<Value>| row.iter().map(cell).collect::<Vec<_>>().join("|") + "\n";
            let text: String = rows.map(row).collect();
            if text.is_empty() { "nothing\n".to_owned() } else { text }
        }
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(value) => if *value { "t" } else { "f" }.to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let item = |item: &Value| match item {
                Value::Null => "NULL".to_owned(),
                item => cell(item),
            };
            format!("{{{}}}", items.iter().map(item).collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

fn check(text: &str) {
    let mut checked = 0;
    for case in cases(text) {
        let mut catalog = Catalog::supabase_defaults();
        for step in &case.steps {
            let answer = catalog.execute_as(&step.role, &step.sql);
            let (found, sql) = (printed(&answer), &step.sql);
            assert_eq!(found, step.answer, "{}: as {}: {sql}{answer:?}", case.name, step.role);
            // What was stored and read back is the same database.
            let stored = serde_json::to_string(&catalog).unwrap();
            catalog = serde_json::from_str(&stored).unwrap();
            assert_eq!(serde_json::to_string(&catalog).unwrap(), stored);
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked} steps were read");
}

// covers: X11
#[test]
fn row_level_security_is_as_recorded() {
    check(FILES[6]);
    check(FILES[2]);
}

#[test]
fn rights_and_roles_are_as_recorded() {
    check(FILES[4]);
    check(FILES[5]);
}

#[test]
fn functions_are_as_recorded() {
    check(FILES[1]);
}

#[test]
fn tables_views_and_transactions_are_as_recorded() {
    check(FILES[7]);
    check(FILES[8]);
}

#[test]
fn queries_are_as_recorded() {
    check(FILES[0]);
    check(FILES[3]);
}

/// The code of the refusal, or nothing when there was none.
fn verdict(sql: &str) -> Option<&'static str> {
    let mut catalog = Catalog::supabase_defaults();
    catalog.execute("create table t (a int, b text); create view v as select a from t").unwrap();
    catalog.execute(sql).err().map(|error| error.sqlstate)
}

/// What PostgreSQL takes and the model must refuse by name.
const UNMODELLED: &[&str] = &[
    "create trigger x before insert on t for each row execute function f()",
    "create function f() returns trigger language plpgsql as $$ begin return new; end $$",
    "create function f() returns int language plpgsql as $$ begin return 1; end $$",
    "create function f() returns int language sql as 'select 1; select 2'",
    "create function f() returns int language sql as 'delete from t returning 1'",
    "create function f() returns int language sql return 1",
    "create function f(out x int) language sql as 'select 1'",
    "create procedure p() language sql as 'select 1'",
    "create type mood as enum ('a', 'b')",
    "create domain d as text",
    "create publication p for table t",
    "create rule r as on insert to t do nothing",
    "create temporary table x (a int)",
    "create unlogged table x (a int)",
    "create table x (like t)",
    "create table x as select 1",
    "create table x (a int) inherits (t)",
    "create table x (a int) with (fillfactor = 50)",
    "create table x (a int[][])",
    "create table x (a bytea)",
    "create table x (a int, exclude using gist (a with =))",
    "create table x (a int references t deferrable initially deferred)",
    "create table x (a int) partition by hash (a)",
    "create unique index on t (a) where b is null",
    "create index on t using gin (b)",
    "create index on t (a) include (b)",
    "create extension plpython3u",
    "create extension citext",
    "alter table t rename to u",
    "alter table t rename column a to x",
    "alter table t drop column a",
    "alter table t alter column a type text",
    "alter table t set schema auth",
    "alter table t replica identity full",
    "alter schema public rename to x",
    "alter role service_role in database postgres set search_path = ''",
    "alter database postgres set search_path = ''",
    "alter view v set (check_option = local)",
    "grant connect on database postgres to anon",
    "grant usage on type mood to anon",
    "grant select on t to anon granted by postgres",
    "insert into v values (1)",
    "insert into t values (1) on conflict (a) do update set b = 'x'",
    "with x as (insert into t values (1) returning a) select * from x",
    "update v set a = 1",
    "copy t from stdin",
    "do $$ begin perform 1; end $$",
    "lock table t",
    "vacuum",
    "explain select 1",
    "savepoint a",
    "prepare p as select 1",
    "declare c cursor for select 1",
    "listen x",
    "notify x",
    "set session authorization anon",
    "set work_mem = '1GB'",
    "set timezone = 'Europe/Vienna'",
    "select * from pg_stat_activity",
    "select * from pg_class",
    "select relpages from pg_class",
    "select * from information_schema.triggers",
    "select t from t",
    "select ctid from t",
    "select a from t for update",
    "select distinct on (a) a from t",
    "select row_number() over (order by a) from t",
    "select avg(a) from t",
    "select unnest(array[1])",
    "select a, grouping(a) from t group by rollup (a)",
    "with recursive r as (select 1) select * from r",
    "select * from t natural join v",
    "select 1.0 / 3",
    "select 'x' ~ '[a-z]+'",
    "select '1 day'::interval * 2",
    "select 'infinity'::timestamptz",
    "select extract(year from now())",
    "select now() at time zone 'UTC'",
    "select (select max(t.a) from v) from t",
    "select row(1, 2) = row(1, 2)",
    "select 1::money",
    "select postgres.public.t.a from t",
];

#[test]
fn what_is_not_modelled_is_refused_by_name() {
    let others: Vec<_> = UNMODELLED
        .iter()
        .map(|sql| (verdict(sql), sql))
        .filter(|(verdict, _)| *verdict != Some("0A000"))
        .collect();
    assert_eq!(others, [], "not refused as unmodelled");
}

#[test]
fn an_unmodelled_statement_undoes_the_script_it_stands_in() {
    let mut catalog = Catalog::supabase_defaults();
    let error = catalog.execute("create table kept (a int); vacuum").unwrap_err();
    assert_eq!(error.sqlstate, "0A000");
    assert!(error.message.contains("VACUUM"), "{error}");
    let error = catalog.execute("select * from kept").unwrap_err();
    assert_eq!(error.sqlstate, "42P01");
}

#[test]
fn only_a_superuser_makes_another_or_changes_the_roles_of_the_platform() {
    let refused = [
        "create role x superuser",
        "alter role postgres superuser",
        "alter role anon bypassrls",
        "alter role service_role nobypassrls",
        "drop role authenticated",
        "create role supabase_auth_admin",
        "grant supabase_admin to postgres",
        "set role supabase_admin",
    ];
    for sql in refused {
        assert_eq!(verdict(sql), Some("42501"), "{sql}");
    }
    let mut catalog = Catalog::supabase_defaults();
    catalog
        .execute("create role worker bypassrls; alter role anon set statement_timeout = '3s'")
        .unwrap();
    catalog.execute_as("supabase_admin", "alter role anon bypassrls").unwrap();
    let roles = "select rolname from pg_roles where rolbypassrls and rolname in ('anon', 'worker')";
    assert_eq!(catalog.query_as("anon", roles).unwrap().rows.len(), 2);
}

#[test]
fn asking_changes_nothing() {
    let mut catalog = Catalog::supabase_defaults();
    catalog.execute("create table t (id bigserial, x uuid default gen_random_uuid())").unwrap();
    let before = serde_json::to_string(&catalog).unwrap();
    let insert = "insert into t default values returning id";
    for _ in 0..2 {
        assert_eq!(catalog.query_as("service_role", insert).unwrap().rows, [[Value::from(1)]]);
    }
    assert_eq!(serde_json::to_string(&catalog).unwrap(), before);
}

#[test]
fn values_come_as_the_database_api_gives_them() {
    let catalog = Catalog::supabase_defaults();
    let sql = "select 1::bigint as small, 9007199254740993 as big, 1.50::numeric as exact, \
               true as flag, null::text as nothing, '{\"b\":[1]}'::jsonb as doc, \
               array['a', null] as list, '2026-01-02'::date as day, \
               '2026-01-02 03:04:05.5+01'::timestamptz as moment, 'public'::regnamespace as space, \
               array['a']::name[] as names";
    let found = catalog.query_as("anon", sql).unwrap();
    let expected = serde_json::json!([
        1, "9007199254740993", "1.50", true, null, {"b": [1]}, ["a", null], "2026-01-02",
        "2026-01-02 02:04:05.5+00", "public", "{a}"
    ]);
    assert_eq!(Value::from(found.rows[0].clone()), expected);
    assert_eq!(found.columns[..3], ["small", "big", "exact"]);
}

#[test]
fn the_clock_is_the_one_that_was_set() {
    let mut catalog = Catalog::supabase_defaults();
    catalog.set_now(1_800_000_000_000_000);
    let found = catalog.query_as("anon", "select now()::text, current_date::text").unwrap();
    assert_eq!(found.rows, [["2027-01-15 08:00:00+00", "2027-01-15"]]);
}

#[test]
fn random_values_differ_within_a_database_and_repeat_with_it() {
    let mut catalog = Catalog::supabase_defaults();
    let draw = |catalog: &mut Catalog| {
        let sets = catalog.execute("select gen_random_uuid(), gen_random_uuid()").unwrap();
        sets[0].rows[0].clone()
    };
    let copy = catalog.clone();
    let (first, second) = (draw(&mut catalog), draw(&mut catalog));
    assert!(first[0] != first[1] && first != second);
    assert_eq!(draw(&mut copy.clone()), first);
}
