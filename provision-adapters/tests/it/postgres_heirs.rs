//! What a role leaves that is dropped: who gets it, and whether anything of one tenant's then reaches
//! what another one has left.

use provision_adapters::tools::postgres::{
    DatabaseSpec, HEIR, Identifier, PostgresDatabase, PostgresRole, RoleSpec,
};
use provision_core::{ExternalId, Found, Resource as _, StepContext, Verdict};

use crate::postgres::{Given, given, make, name, wait};

/// A role with the step that has made it.
struct Made {
    cx: StepContext,
    spec: RoleSpec,
    name: Identifier,
    id: ExternalId,
}

impl Made {
    async fn new(given: &Given, prefix: &str) -> Self {
        let roles = PostgresRole::new(&given.server());
        let (cx, name) = (given.context(prefix), name(prefix));
        let spec = RoleSpec::login(name.clone());
        let intent = given.host.intend(&cx, &roles, &spec);
        let id = roles.create(&cx, &spec, &intent).await.unwrap();
        Self { cx, spec, name, id }
    }

    async fn dropped(&self, given: &Given) {
        let roles = PostgresRole::new(&given.server());
        roles.delete(&self.cx, &self.spec, &self.id).await.unwrap();
        assert_eq!(roles.find(&self.cx, &self.spec).await.unwrap(), Found::Absent);
    }
}

/// Who owns a table of a database.
async fn owner(given: &Given, database: &Identifier, table: &str) -> String {
    let sql =
        format!("select pg_get_userbyid(relowner)::text from pg_class where relname = '{table}'");
    given.sql(database.as_str(), &sql).await.unwrap().remove(0)
}

// covers: S12, S14, X11
#[tokio::test]
async fn what_dropped_roles_have_left_does_not_reach_what_others_have() {
    let Some(given) = given() else { return };
    let shared = given.template("create schema shared").await;
    let (one, other) = (Made::new(&given, "one").await, Made::new(&given, "other").await);
    let sql = format!(
        "grant create on schema shared to \"{0}\", \"{1}\"; grant usage on schema shared to public;
         set role \"{1}\"; create table shared.kept as select 7 as x; reset role;
         set role \"{0}\"; create table shared.own as select 5 as x;
         create function shared.reads(wanted text) returns bigint language plpgsql
            security definer as $$ declare found bigint; begin
                execute 'select x from ' || wanted into found; return found;
            end $$;
         create function shared.empties() returns void language sql security definer
            as 'select'; reset role",
        one.name, other.name
    );
    given.sql(shared.as_str(), &sql).await.unwrap();
    one.dropped(&given).await;
    other.dropped(&given).await;
    // What it has left goes on working with its own.
    let reads = |table: &str| format!("select shared.reads('shared.{table}')::text");
    assert_eq!(given.sql(shared.as_str(), &reads("own")).await.unwrap(), ["5"]);
    let refused = given.sql(shared.as_str(), &reads("kept")).await.unwrap_err();
    assert_eq!(refused.code(), "42501");
    let (first, second) =
        (owner(&given, &shared, "own").await, owner(&given, &shared, "kept").await);
    assert!(first != second, "{first}");
    // Heirs have no rights, and go with the next role that is dropped once nothing is left for them.
    let heirs = format!(
        "select rolname::text from pg_roles where rolname in ('{first}', '{second}')
            and not (rolcanlogin or rolsuper or rolcreaterole or rolcreatedb or rolbypassrls)"
    );
    assert_eq!(given.sql("postgres", &heirs).await.unwrap().len(), 2);
    assert!(first.starts_with(HEIR) && second.starts_with(HEIR));
    given.drop_database(&shared).await;
    Made::new(&given, "third").await.dropped(&given).await;
    // Another one's sweep may be dropping them in this very moment.
    wait(&given, &heirs, false).await;
}

// covers: S12, S14
#[tokio::test]
async fn an_heir_goes_with_the_database_in_which_it_had_something() {
    let Some(given) = given() else { return };
    let (databases, cx) = (PostgresDatabase::new(&given.server()), given.context("database"));
    let (tenant, role) = (name("tenant"), Made::new(&given, "login").await);
    let spec = DatabaseSpec::new(tenant.clone());
    let id = make(&given, &cx, &spec).await;
    let sql = format!(
        "create schema tenant authorization \"{0}\"; set role \"{0}\";
         create table tenant.notes (id int); reset role",
        role.name
    );
    given.sql(tenant.as_str(), &sql).await.unwrap();
    role.dropped(&given).await;
    let heir = owner(&given, &tenant, "notes").await;
    assert_eq!(heir, format!("{HEIR}{}", role.cx.mark().token()));
    let left = format!("select 1 from pg_roles where rolname = '{heir}'");
    assert_eq!(given.sql("postgres", &left).await.unwrap(), ["1"]);
    databases.delete(&cx, &spec, &id).await.unwrap();
    wait(&given, &left, false).await;
}

// covers: S14
#[tokio::test]
async fn a_role_under_the_name_of_an_heir_is_refused_before_it_is_made() {
    let Some(given) = given() else { return };
    let roles = PostgresRole::new(&given.server());
    let spec = RoleSpec::group(Identifier::new(format!("{HEIR}x")).unwrap());
    let refused = roles.find(&given.context("role"), &spec).await.unwrap_err();
    assert_eq!((refused.code(), refused.verdict()), ("bad_name", &Verdict::Permanent));
}

// covers: X5, S14
#[tokio::test]
async fn a_role_is_dropped_whatever_it_was_renamed_to() {
    let Some(given) = given() else { return };
    let kept = given.template("create schema shared").await;
    let role = Made::new(&given, "renamed").await;
    let sql = format!(
        "grant create, usage on schema shared to \"{0}\"; set role \"{0}\";
         create table shared.mine as select 7 as x; reset role;
         alter role \"{0}\" rename to \"$provision$;$heir'{0}\\\"",
        role.name
    );
    given.sql(kept.as_str(), &sql).await.unwrap();
    role.dropped(&given).await;
    let left = format!("select 1 from pg_roles where rolname like '%{}%'", role.name);
    assert!(given.sql("postgres", &left).await.unwrap().is_empty());
    assert!(owner(&given, &kept, "mine").await.starts_with(HEIR));
    // A role that has its heir's name and rights of its own gets nothing.
    let (role, group) = (Made::new(&given, "heir").await, given.role("group").await);
    let heir = format!("{HEIR}{}", role.cx.mark().token());
    let sql = format!(
        "create role \"{heir}\"; grant \"{group}\" to \"{heir}\";
         grant usage on schema shared to \"{}\"",
        role.name
    );
    given.sql(kept.as_str(), &sql).await.unwrap();
    let roles = PostgresRole::new(&given.server());
    let refused = roles.delete(&role.cx, &role.spec, &role.id).await.unwrap_err();
    assert_eq!(refused.code(), "heir_has_rights", "{refused:?}");
    given.sql("postgres", &format!("revoke \"{group}\" from \"{heir}\"")).await.unwrap();
    role.dropped(&given).await;
    given.drop_database(&kept).await;
    given.drop_role(&group).await;
}
