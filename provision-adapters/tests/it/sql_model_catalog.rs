//! The system catalogs of the model, as verification reads them.

use provision_adapters::{supabase::sim::sql::Catalog, tools::row_security::Scope};
use serde_json::{Value, json};

fn catalog() -> Catalog {
    let mut catalog = Catalog::supabase_defaults();
    catalog
        .execute(
            "create schema app; grant usage on schema app to anon;
             create table posts (id uuid primary key, owner uuid, title varchar(20), n numeric(10,2));
             alter table posts enable row level security;
             create policy own on posts for select to authenticated using (auth.uid() = owner);
             create table app.open (a int); revoke all on app.open from anon;
             grant select (a) on app.open to anon;
             create view seen with (security_invoker = on) as select id from posts;
             create function helper(a int, b text default 'x') returns setof posts language sql
                 stable security definer set search_path = '' as 'select * from public.posts';
             create policy fn on app.open using (exists (select 1 from helper(a)))",
        )
        .unwrap();
    catalog
}

fn rows(sql: &str) -> Vec<Vec<Value>> {
    catalog().query_as("postgres", sql).unwrap_or_else(|error| panic!("{sql}: {error}")).rows
}

// covers: X11
#[test]
fn the_questions_of_verification_are_answered() {
    let preamble = "set transaction read only; set local search_path = '';";
    let ask = |sql: &str| rows(&format!("{preamble}{}", Scope::supabase().render(sql)));
    let relations = ask(include_str!("../../src/tools/row_security/sql/relations.sql"));
    let expected = json!([
        ["app", "open", "r", "false", "false", "postgres", "", "true", "false", "false"],
        ["public", "posts", "r", "true", "false", "postgres", "", "true", "true", "true"],
        [
            "public",
            "seen",
            "v",
            "false",
            "false",
            "postgres",
            "security_invoker=on",
            "true",
            "true",
            "true"
        ],
    ]);
    assert_eq!(json!(relations), expected);
    let policies = ask(include_str!("../../src/tools/row_security/sql/policies.sql"));
    let expected = json!([
        [
            "app",
            "open",
            "fn",
            "PERMISSIVE",
            "public",
            "ALL",
            "(EXISTS (SELECT 1 FROM public.helper(a)))",
            null
        ],
        [
            "public",
            "posts",
            "own",
            "PERMISSIVE",
            "authenticated",
            "SELECT",
            "(auth.uid() = owner)",
            null
        ],
    ]);
    assert_eq!(json!(policies), expected);
    let bodies = ask(include_str!("../../src/tools/row_security/sql/bodies.sql"));
    assert_eq!(json!(bodies), json!([["public", "helper", "select * from public.posts"]]));
    let functions = ask(include_str!("../../src/tools/row_security/sql/functions.sql"));
    let expected = json!([["public", "helper", "a integer, b text", "f", "true", "true", "1"]]);
    assert_eq!(json!(functions), expected);
    let reached = ask(include_str!("../../src/tools/row_security/sql/reached.sql"));
    assert_eq!(json!(reached), json!([]));
    let roles = ask(include_str!("../../src/tools/row_security/sql/roles.sql"));
    let expected =
        json!([["anon", "false", "false", "true"], ["authenticated", "false", "false", "false"],]);
    assert_eq!(json!(roles), expected);
}

#[test]
fn a_printed_condition_names_what_the_reader_would_not_find() {
    let qual = "select qual from pg_policies where policyname = 'fn'";
    let found = [rows(qual), rows(&format!("set search_path = app; {qual}"))];
    assert_eq!(found[0], [["(EXISTS (SELECT 1 FROM helper(a)))"]]);
    assert_eq!(found[1], [["(EXISTS (SELECT 1 FROM public.helper(a)))"]]);
}

#[test]
fn grants_are_shown_to_whom_they_concern() {
    let sql = "select grantee::text, privilege_type::text from information_schema.role_table_grants \
               where table_name = 'open' order by 1, 2";
    let catalog = catalog();
    assert!(!catalog.query_as("postgres", sql).unwrap().rows.is_empty());
    assert!(catalog.query_as("anon", sql).unwrap().rows.is_empty());
    let sql = "select count(*) from information_schema.tables where table_schema = 'app'";
    assert_eq!(catalog.query_as("anon", sql).unwrap().rows, [[Value::from(1)]]);
    assert_eq!(catalog.query_as("authenticated", sql).unwrap().rows, [[Value::from(0)]]);
}

#[test]
fn every_catalog_can_be_read() {
    let tables = rows(
        "select n.nspname::text, c.relname::text from pg_class c \
         join pg_namespace n on n.oid = c.relnamespace \
         where n.nspname in ('pg_catalog', 'information_schema')",
    );
    assert!(tables.len() > 20);
    for table in tables {
        let [schema, name] = [&table[0], &table[1]].map(|cell| cell.as_str().unwrap());
        rows(&format!("select count(*) from {schema}.{name}"));
        let columns = rows(&format!(
            "select attname::text from pg_attribute where attrelid = '{schema}.{name}'::regclass"
        ));
        for column in columns.concat() {
            rows(&format!("select {} from {schema}.{name}", column.as_str().unwrap()));
        }
    }
}
