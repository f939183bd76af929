//! Who reads what through which door: the ways past row-level security, and those that only look
//! like one.

use provision_adapters::supabase::sim::sql::Catalog;
use serde_json::Value;

const OWNER: &str = "00000000-0000-0000-0000-00000000000a";

/// Three rows, one of them owned; policies let everybody see their own.
fn catalog() -> Catalog {
    let mut catalog = Catalog::supabase_defaults();
    let sql = format!(
        "create table notes (id int primary key, owner uuid, body text);
         alter table notes enable row level security;
         create policy own on notes using (auth.uid() = owner) with check (auth.uid() = owner);
         insert into notes values (1, '{OWNER}', 'a'), (2, null, 'b'), (3, null, 'c');
         create view plain as select * from notes;
         create view invoker with (security_invoker = true) as select * from notes;
         create view outer_plain as select * from invoker;
         create materialized view copied as select * from notes;
         create function definer() returns setof notes language sql security definer
             set search_path = '' as 'select * from public.notes';
         create function invoked() returns setof notes language sql as 'select * from notes';
         create table parted (id int) partition by range (id);
         create table part partition of parted for values from (0) to (10);
         insert into parted values (1), (2), (3);
         alter table parted enable row level security;"
    );
    catalog.execute(&sql).unwrap();
    catalog
}

fn count(catalog: &Catalog, role: &str, from: &str) -> i64 {
    let sql = format!("select count(*) from {from}");
    let found = catalog.query_as(role, &sql).unwrap_or_else(|e| panic!("{role} {from}: {e}"));
    found.rows[0][0].as_i64().unwrap()
}

fn count_as(catalog: &Catalog, sub: &str, from: &str) -> i64 {
    let sql = format!(
        "select set_config('request.jwt.claims', '{{\"sub\":\"{sub}\"}}', true);
         select count(*) from {from}"
    );
    catalog.query_as("authenticated", &sql).unwrap().rows[0][0].as_i64().unwrap()
}

// covers: X11
#[test]
fn each_door_shows_what_it_shows_in_the_server() {
    let catalog = catalog();
    // Door, then rows for anon, the owner of one row, postgres (owner of all) and service_role.
    let doors = [
        ("notes", [0, 1, 3, 3]),
        ("plain", [3, 3, 3, 3]),
        ("invoker", [0, 1, 3, 3]),
        ("outer_plain", [0, 1, 3, 3]),
        ("copied", [3, 3, 3, 3]),
        ("definer()", [3, 3, 3, 3]),
        ("invoked()", [0, 1, 3, 3]),
        ("parted", [0, 0, 3, 3]),
        ("part", [3, 3, 3, 3]),
    ];
    for (door, [anon, owner, postgres, service]) in doors {
        assert_eq!(count(&catalog, "anon", door), anon, "{door} as anon");
        assert_eq!(count_as(&catalog, OWNER, door), owner, "{door} as the owner of a row");
        assert_eq!(count(&catalog, "postgres", door), postgres, "{door} as postgres");
        assert_eq!(count(&catalog, "service_role", door), service, "{door} as service_role");
    }
}

// covers: X11
#[test]
fn a_read_that_must_not_be_filtered_is_refused_exactly_where_it_would_be() {
    let catalog = catalog();
    let doors = [
        ("notes", true),
        ("plain", false),
        ("invoker", true),
        ("outer_plain", true),
        ("copied", false),
        ("definer()", false),
        ("invoked()", true),
        ("parted", true),
        ("part", false),
    ];
    for (door, refused) in doors {
        let sql = format!("set row_security = off; select count(*) from {door}");
        let state = catalog.query_as("anon", &sql).err().map(|error| error.sqlstate);
        assert_eq!(state, refused.then_some("42501"), "{door}");
    }
}

#[test]
fn forced_security_holds_an_owner_who_does_not_bypass_it() {
    let mut catalog = catalog();
    catalog
        .execute(
            "create role keeper; grant keeper to postgres; grant create on schema public to keeper;
             set role keeper; create table kept (a int); insert into kept values (1);
             alter table kept enable row level security;
             create view kept_view as select * from kept; grant select on kept_view to anon",
        )
        .unwrap();
    assert_eq!(count(&catalog, "keeper", "kept"), 1);
    assert_eq!(count(&catalog, "anon", "kept_view"), 1);
    catalog.execute("alter table kept force row level security").unwrap();
    assert_eq!(count(&catalog, "keeper", "kept"), 0);
    assert_eq!(count(&catalog, "anon", "kept_view"), 0);
    assert_eq!(count(&catalog, "postgres", "kept"), 1, "postgres bypasses");
}

#[test]
fn writes_pass_only_where_a_policy_lets_them() {
    let catalog = catalog();
    let as_owner = |sql: &str| {
        let claims =
            format!("select set_config('request.jwt.claims', '{{\"sub\":\"{OWNER}\"}}', true);");
        catalog.query_as("authenticated", &format!("{claims} {sql}"))
    };
    let own = format!("insert into notes values (9, '{OWNER}', 'x') returning id");
    assert_eq!(as_owner(&own).unwrap().rows, [[Value::from(9)]]);
    let foreign = "insert into notes values (9, null, 'x')";
    assert_eq!(as_owner(foreign).unwrap_err().sqlstate, "42501");
    // An update touches what is seen, and what it makes must pass too.
    let seen = as_owner("update notes set body = 'y' returning id").unwrap();
    assert_eq!(seen.rows, [[Value::from(1)]]);
    assert_eq!(as_owner("update notes set owner = null").unwrap_err().sqlstate, "42501");
    assert_eq!(as_owner("delete from notes returning id").unwrap().rows, [[Value::from(1)]]);
    // Emptying a table is a right, which no policy holds back.
    catalog.query_as("anon", "truncate notes").unwrap();
}

#[test]
fn a_materialized_view_shows_what_was_there_when_it_was_refreshed() {
    let mut catalog = catalog();
    catalog.execute("delete from notes where id > 1").unwrap();
    assert_eq!(count(&catalog, "anon", "copied"), 3);
    catalog.execute("refresh materialized view copied").unwrap();
    assert_eq!(count(&catalog, "anon", "copied"), 1);
}

#[test]
fn new_projects_grant_nothing_by_themselves() {
    let sql = "create table t (a int); select has_table_privilege('anon', 't', 'select'), \
               has_table_privilege('service_role', 't', 'insert')";
    for (mut catalog, open) in
        [(Catalog::supabase_defaults(), true), (Catalog::supabase_without_default_grants(), false)]
    {
        let rows = catalog.execute(sql).unwrap().pop().unwrap().rows;
        assert_eq!(rows, [[Value::from(open), Value::from(open)]]);
    }
}

#[test]
fn the_platform_is_there() {
    let catalog = Catalog::supabase_defaults();
    let sql = "select count(*) from pg_roles where rolname in ('postgres', 'anon', 'authenticated', \
               'service_role', 'authenticator')";
    assert_eq!(catalog.query_as("anon", sql).unwrap().rows, [[Value::from(5)]]);
    let sql = "select rolname::text from pg_roles where rolbypassrls order by 1";
    let bypassing = catalog.query_as("anon", sql).unwrap().rows.concat();
    let expected = ["postgres", "service_role", "supabase_admin", "supabase_read_only_user"];
    assert_eq!(bypassing, expected);
    for (role, sql) in [
        ("anon", "select auth.uid(), auth.role(), auth.jwt(), auth.email(), now()"),
        ("anon", "select gen_random_uuid(), uuid_generate_v4()"),
        ("service_role", "select count(*) from storage.objects"),
        ("postgres", "select count(*) from auth.users"),
        ("postgres", "create policy p on storage.objects for select using (bucket_id = 'x')"),
    ] {
        catalog.query_as(role, sql).unwrap_or_else(|error| panic!("{role}: {sql}: {error}"));
    }
    let refused = catalog.query_as("anon", "select * from auth.users").unwrap_err();
    assert_eq!(refused.sqlstate, "42501");
}
