//! Who may see and do what, as the catalog has it: policies with their conditions, triggers, grants,
//! functions; and what is really read as nobody and as a tenant that nobody is.

use sqlx::{AssertSqlSafe, PgPool, query, query_as, query_scalar};

use super::{Finding, OF_TENANTS, RESTORE, TABLES, VIEWS};
use crate::{
    database::{Database, WORKER_ROLE},
    schema::MIGRATIONS,
    trouble::Trouble,
};

const TENANT_ROLE: &str = "connector_tenant";
const ANONYMOUS_ROLE: &str = "connector_anonymous";
/// The path of functions that work with other rights than their caller's.
const SAFE_PATH: &str = "{\"search_path=pg_catalog, pg_temp\"}";
/// No tenant has this name.
const STRANGER: &str = "\u{1}nobody";
/// What `current_tenant` says; the server keeps no text of it.
const CURRENT_TENANT: &str =
    "RETURN NULLIF(current_setting('connectors.tenant'::text, true), ''::text)";

/// Policies and triggers of all tables, each as one line.
pub(super) async fn rules(pool: &PgPool) -> Result<Vec<(String, String)>, Trouble> {
    let sql = "SELECT c.relname::text, format('policy %s %s %s %s %s %s',
            p.polname, p.polcmd, p.polpermissive,
            ARRAY(SELECT CASE WHEN r = 0 THEN 'public' WHEN r = c.relowner THEN 'owner'
                ELSE pg_get_userbyid(r)::text END FROM unnest(p.polroles) AS r),
            coalesce(pg_get_expr(p.polqual, p.polrelid), '-'),
            coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '-'))
        FROM pg_policy AS p INNER JOIN pg_class AS c ON c.oid = p.polrelid
        WHERE c.relnamespace = to_regnamespace('connectors')
        UNION ALL
        SELECT c.relname::text,
            format('trigger %s %s %s %s', t.tgname, t.tgenabled, t.tgtype, t.tgfoid::regproc)
        FROM pg_trigger AS t INNER JOIN pg_class AS c ON c.oid = t.tgrelid
        WHERE c.relnamespace = to_regnamespace('connectors') AND NOT t.tgisinternal";
    Ok(query_as(sql).fetch_all(pool).await?)
}

/// The same, as `migrations/` has them.
pub(super) fn wanted_rules(table: &str) -> Vec<&'static str> {
    let mut rules = vec![
        "policy worker * t {connector_worker} true true",
        "policy deployment * t {owner} true true",
    ];
    if OF_TENANTS.contains(&table) {
        rules.push(
            "policy tenant r t {connector_tenant} (tenant_id = connectors.current_tenant()) -",
        );
    }
    if table == "connector_platforms" {
        rules.push("policy tenant r t {connector_tenant} true -");
    }
    if table == "connection_audit" {
        // 27: before each updated or deleted row; 34: before the statement that empties.
        rules.push("trigger connection_audit_is_final O 27 connectors.refuse_change");
        rules.push("trigger connection_audit_is_kept O 34 connectors.refuse_change");
    }
    rules
}

/// Grants that nobody needs, and roles that may more than they were made for.
pub(super) async fn grants(pool: &PgPool) -> Result<Vec<Finding>, Trouble> {
    let sql = "WITH granted AS (
            SELECT c.relname::text AS name, c.relowner AS owner, a.*
            FROM pg_class AS c, aclexplode(c.relacl) AS a
            WHERE c.relnamespace = to_regnamespace('connectors')
            UNION ALL
            SELECT c.relname || '.' || f.attname, c.relowner, a.*
            FROM pg_attribute AS f INNER JOIN pg_class AS c ON c.oid = f.attrelid,
                aclexplode(f.attacl) AS a
            WHERE c.relnamespace = to_regnamespace('connectors')
            UNION ALL
            SELECT p.proname || '()', p.proowner, a.*
            FROM pg_proc AS p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
            WHERE p.pronamespace = to_regnamespace('connectors')
            UNION ALL
            SELECT 'schema', n.nspowner, a.*
            FROM pg_namespace AS n, aclexplode(n.nspacl) AS a WHERE n.nspname = 'connectors'
            UNION ALL
            SELECT 'provision.' || c.relname, c.relowner, a.*
            FROM pg_class AS c, aclexplode(c.relacl) AS a
            WHERE c.relnamespace = to_regnamespace('provision')
            AND pg_get_userbyid(a.grantee) <> 'connector_worker'
        )
        SELECT name, CASE WHEN grantee = 0 THEN 'public' ELSE pg_get_userbyid(grantee)::text END,
            privilege_type::text
        FROM granted WHERE grantee <> owner
        UNION ALL
        SELECT r.rolname::text, r.rolname::text, 'BYPASS' FROM pg_roles AS r
        WHERE r.rolname LIKE 'connector\\_%' AND (r.rolsuper OR r.rolbypassrls)
        UNION ALL
        SELECT m.member::regrole::text, m.member::regrole::text, 'MEMBERSHIP'
        FROM pg_auth_members AS m
        WHERE pg_get_userbyid(m.member) IN ('connector_tenant', 'connector_anonymous')";
    let there: Vec<(String, String, String)> = query_as(sql).fetch_all(pool).await?;
    let mut findings = Vec::new();
    for (name, role, right) in &there {
        if !is_meant(name, role, right) {
            let hint = "revoke it as the owner: it opens what is closed on purpose";
            let detail = format!("`{role}` has {right}");
            findings.push(Finding::new("rights", name, false, (detail, hint)));
        }
    }
    if findings.is_empty() {
        let detail = format!("{} grants, all of them meant", there.len());
        findings.push(Finding::new("rights", "all", true, (detail, "")));
    }
    Ok(findings)
}

fn is_meant(name: &str, role: &str, right: &str) -> bool {
    match (role, right, name) {
        (WORKER_ROLE | TENANT_ROLE, "USAGE", "schema")
        | (WORKER_ROLE | TENANT_ROLE, "EXECUTE", "current_tenant()" | "run_of()")
        | (WORKER_ROLE, "EXECUTE", "queue_figures()") => true,
        (WORKER_ROLE, "UPDATE" | "DELETE", "connection_audit")
        | (WORKER_ROLE, "INSERT" | "UPDATE" | "DELETE", "connector_platforms") => false,
        (WORKER_ROLE, "SELECT" | "INSERT" | "UPDATE" | "DELETE", _) => {
            TABLES.contains(&name) || VIEWS.contains(&name)
        }
        (WORKER_ROLE, "USAGE", _) => name.ends_with("_id_seq"),
        (TENANT_ROLE, "SELECT", _) => {
            OF_TENANTS.contains(&name) || VIEWS.contains(&name) || name == "connector_platforms"
        }
        _ => false,
    }
}

/// Name, whether it works with its owner's rights, its settings, and its text.
type Function = (String, bool, Option<String>, String);

/// Functions: those of the service, as `migrations/` has them, and no other.
pub(super) async fn functions(pool: &PgPool) -> Result<Vec<Finding>, Trouble> {
    let sql = "SELECT p.proname::text, p.prosecdef, p.proconfig::text,
            coalesce(pg_get_function_sqlbody(p.oid), p.prosrc)
        FROM pg_proc AS p WHERE p.pronamespace = to_regnamespace('connectors')";
    let there: Vec<Function> = query_as(sql).fetch_all(pool).await?;
    let wanted = [
        ("current_tenant", false, None),
        ("queue_figures", true, Some(SAFE_PATH)),
        ("refuse_change", false, Some(SAFE_PATH)),
        ("run_of", true, Some(SAFE_PATH)),
    ];
    let mut findings = Vec::new();
    for (name, definer, settings) in wanted {
        let of_name: Vec<&Function> = there.iter().filter(|(known, ..)| known == name).collect();
        let (ok, detail) = match of_name.as_slice() {
            [] => (false, "missing"),
            [(_, d, s, body)] if (*d, s.as_deref()) == (definer, settings) && is_ours(body) => {
                (true, "as it was deployed")
            }
            [_] => (false, "replaced by another one"),
            _ => (false, "there are several of this name"),
        };
        findings.push(Finding::new("functions", name, ok, (detail, RESTORE)));
    }
    let strays = there.iter().filter(|(name, ..)| wanted.iter().all(|(known, ..)| known != name));
    for (name, ..) in strays {
        findings.push(Finding::new("functions", name, false, ("not one of the service", RESTORE)));
    }
    Ok(findings)
}

fn is_ours(body: &str) -> bool {
    body == CURRENT_TENANT
        || (!body.trim().is_empty() && MIGRATIONS.iter().any(|each| each.text.contains(body)))
}

/// Reads as nobody, and as a tenant that does not exist: neither sees a row.
pub(super) async fn reads(db: &Database) -> Result<Vec<Finding>, Trouble> {
    let mut findings = Vec::new();
    for (role, names) in [
        (ANONYMOUS_ROLE, TABLES.iter().chain(VIEWS.iter())),
        (TENANT_ROLE, OF_TENANTS.iter().chain(VIEWS.iter())),
    ] {
        for name in names {
            if shows_a_row(db, (role, STRANGER), name).await? {
                let detail = format!("shows rows to `{role}` of no tenant");
                let hint = "stop giving the login out until the policies stand as deployed";
                findings.push(Finding::new("reads", *name, false, (detail, hint)));
            }
        }
    }
    if findings.is_empty() {
        let detail = "nobody and a foreign tenant see no row";
        findings.push(Finding::new("reads", "all", true, (detail, "")));
    }
    Ok(findings)
}

async fn shows_a_row(
    db: &Database,
    (role, tenant): (&str, &str),
    name: &str,
) -> Result<bool, Trouble> {
    let mut tx = db.pool().begin().await?;
    query(AssertSqlSafe(format!("SET LOCAL ROLE {role}"))).execute(&mut *tx).await?;
    let set = query("SELECT set_config('connectors.tenant', $1, true)").bind(tenant);
    set.execute(&mut *tx).await?;
    let sql = format!("SELECT EXISTS (SELECT 1 FROM connectors.{name})");
    match query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *tx).await {
        Ok(shows) => Ok(shows),
        // It is closed, or it is not there, which another look says.
        Err(sqlx::Error::Database(said))
            if matches!(said.code().as_deref(), Some("42501" | "42P01" | "3F000" | "42883")) =>
        {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}
