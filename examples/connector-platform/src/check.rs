//! One look at everything: database, schema, rights, vault, flags, platforms, queues. Each finding
//! says what it looked at, and what to do where it is wrong.

mod rights;
mod shape;

use std::{fmt, sync::Arc};

use provision_core::{
    Engine, Secret,
    clock::{Clock as _, SystemClock},
    draw::{SystemEntropy, uuid_v4},
    vault::{KeyProvider, TokenName},
};
use serde::Serialize;
use sqlx::{PgPool, query_as, query_scalar};
use uuid::Uuid;

use crate::{
    database::Database,
    flags,
    platform::{PlatformName, Platforms},
    saga::QUEUES,
    schema::{MIGRATIONS, fingerprint},
    trouble::Trouble,
    vault::TokenKeeper,
    webhook,
};

pub use shape::shape_of;

/// Tables of the service.
pub const TABLES: [&str; 14] = [
    "connection_audit",
    "connection_health_log",
    "connections",
    "connector_metadata",
    "connector_platforms",
    "encrypted_secrets",
    "feature_flags",
    "oauth_states",
    "publish_job_analytics",
    "publish_job_errors",
    "publish_jobs",
    "queue_jobs_monitoring",
    "rate_limit_buckets",
    "webhook_events",
];
/// Views of the service.
pub const VIEWS: [&str; 3] =
    ["connections_requiring_attention", "publish_jobs_dlq", "publish_jobs_pending_retry"];
/// Tables that a tenant reads its own rows of.
pub const OF_TENANTS: [&str; 7] = [
    "connection_audit",
    "connection_health_log",
    "connections",
    "publish_job_analytics",
    "publish_job_errors",
    "publish_jobs",
    "rate_limit_buckets",
];
/// Indexes without which the service grows slow, or lets something happen twice.
pub const INDEXES: [&str; 12] = [
    "connection_audit_connection",
    "connection_health_log_latest",
    "connections_account",
    "connections_attention",
    "encrypted_secrets_key",
    "oauth_states_expiry",
    "publish_job_errors_job",
    "publish_jobs_connection",
    "publish_jobs_open",
    "publish_jobs_tenant_id_request_key_key",
    "webhook_events_connection",
    "webhook_events_of_delivery",
];
/// Those that keep something from happening twice.
const UNIQUE: [&str; 2] = ["connections_account", "publish_jobs_tenant_id_request_key_key"];
const DEPLOY: &str = "run `connector-platform deploy` as the owner of the database";
const RESTORE: &str = "put it back by hand from `migrations/`: a deployment repeats nothing";

/// What one look has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it belongs to, such as `database`.
    pub area: &'static str,
    /// What was looked at.
    pub name: String,
    /// Whether it is as it has to be.
    pub ok: bool,
    /// What was seen.
    pub detail: String,
    /// What to do about it; empty where it is well.
    pub hint: String,
}

impl Finding {
    fn new(
        area: &'static str,
        name: impl Into<String>,
        ok: bool,
        (detail, hint): (impl Into<String>, &str),
    ) -> Self {
        let hint = if ok { String::new() } else { hint.to_owned() };
        Self { area, name: name.into(), ok, detail: detail.into(), hint }
    }

    fn trouble(area: &'static str, name: &str, trouble: &Trouble) -> Self {
        let detail = format!("{}: {}", trouble.code(), trouble.message());
        Self::new(area, name, false, (detail, trouble.hint()))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.ok { "ok   " } else { "WRONG" };
        write!(f, "{mark} {}: {}: {}", self.area, self.name, self.detail)?;
        if self.ok { Ok(()) } else { write!(f, "\n      {}", self.hint) }
    }
}

/// Examines everything; never fails: trouble is a finding.
///
/// Where the database does not answer, or holds no schema, nothing else can be known and that is all
/// that is said.
pub async fn examine(
    db: &Database,
    keys: Result<Arc<dyn KeyProvider>, Trouble>,
    platforms: &Platforms,
) -> Vec<Finding> {
    let pool = db.pool();
    let began = SystemClock.wall();
    if let Err(error) = query_scalar::<_, i32>("SELECT 1").fetch_one(pool).await {
        return vec![Finding::trouble("database", "connection", &error.into())];
    }
    let took = format!("answered in {} ms", SystemClock.wall().since(began).as_millis());
    let mut findings = vec![Finding::new("database", "connection", true, (took, ""))];
    for (area, look) in looks(db, keys, platforms).await {
        match look {
            Ok(found) => findings.extend(found),
            Err(trouble) => findings.push(Finding::trouble(area, "all", &trouble)),
        }
    }
    findings
}

/// One look, and what it found.
type Look = (&'static str, Result<Vec<Finding>, Trouble>);

async fn looks(
    db: &Database,
    keys: Result<Arc<dyn KeyProvider>, Trouble>,
    platforms: &Platforms,
) -> Vec<Look> {
    let pool = db.pool();
    vec![
        ("migrations", migrations(pool).await),
        ("tables", tables(pool).await),
        ("shapes", shape::shapes(pool).await),
        ("views", views(pool).await),
        ("indexes", indexes(pool).await),
        ("functions", rights::functions(pool).await),
        ("rights", rights::grants(pool).await),
        ("reads", rights::reads(db).await),
        ("flags", seeded_flags(pool).await),
        ("platforms", seeded_platforms(pool, platforms).await),
        ("vault", vault(pool, keys).await),
        ("queues", queues(db).await),
    ]
}

async fn migrations(pool: &PgPool) -> Result<Vec<Finding>, Trouble> {
    let sql = "SELECT substr(key, 11), value FROM connectors.connector_metadata
        WHERE key LIKE 'migration/%'";
    let known: Vec<(String, String)> = query_as(sql).fetch_all(pool).await?;
    let look = |migration: &crate::schema::Migration| {
        let there = known.iter().find(|(name, _)| name == migration.name);
        let (ok, detail) = match there {
            Some((_, text)) if *text == fingerprint(migration.text) => (true, "applied"),
            Some(_) => (false, "applied with another text"),
            None => (false, "not applied"),
        };
        Finding::new("migrations", migration.name, ok, (detail, DEPLOY))
    };
    Ok(MIGRATIONS.iter().map(look).collect())
}

async fn tables(pool: &PgPool) -> Result<Vec<Finding>, Trouble> {
    let sql = "SELECT c.relname::text, c.relrowsecurity AND c.relforcerowsecurity
        FROM pg_class AS c
        WHERE c.relnamespace = to_regnamespace('connectors') AND c.relkind IN ('r', 'p', 'f', 'm')";
    let there: Vec<(String, bool)> = query_as(sql).fetch_all(pool).await?;
    let rules = rights::rules(pool).await?;
    let mut findings = Vec::new();
    for name in TABLES {
        let Some((_, secured)) = there.iter().find(|(known, _)| known == name) else {
            findings.push(Finding::new("tables", name, false, ("missing", RESTORE)));
            continue;
        };
        let of_table = rules.iter().filter(|(table, _)| table == name);
        let known: Vec<&str> = of_table.map(|(_, rule)| &**rule).collect();
        let wanted = rights::wanted_rules(name);
        let missing = wanted.iter().filter(|rule| !known.contains(rule));
        let strays = known.iter().filter(|rule| !wanted.contains(rule));
        let wrong: Vec<String> = missing
            .map(|rule| format!("no {rule}"))
            .chain(strays.map(|rule| format!("not meant: {rule}")))
            .collect();
        let (ok, detail) = match (secured, wrong.as_slice()) {
            (false, _) => (false, "row security is off: every role reads every row".to_owned()),
            (true, []) => (true, format!("row security, {} rules as deployed", wanted.len())),
            (true, wrong) => (false, wrong.join("; ")),
        };
        findings.push(Finding::new("tables", name, ok, (detail, RESTORE)));
    }
    findings.extend(strays("tables", there.iter().map(|(name, _)| &**name), &TABLES));
    Ok(findings)
}

/// What stands in the schema and is none of the service's.
fn strays<'a>(
    area: &'static str,
    there: impl Iterator<Item = &'a str>,
    ours: &[&str],
) -> Vec<Finding> {
    let hint = "move it to a schema of its own: nobody looks after its rights here";
    let stray = |name| Finding::new(area, name, false, ("not one of the service", hint));
    there.filter(|name| !ours.contains(name)).map(stray).collect()
}

async fn views(pool: &PgPool) -> Result<Vec<Finding>, Trouble> {
    let sql =
        "SELECT c.relname::text, coalesce('security_invoker=true' = ANY (c.reloptions), false)
        FROM pg_class AS c
        WHERE c.relnamespace = to_regnamespace('connectors') AND c.relkind = 'v'";
    let there: Vec<(String, bool)> = query_as(sql).fetch_all(pool).await?;
    let look = |name: &str| {
        let (ok, detail) = match there.iter().find(|(known, _)| known == name) {
            Some((_, true)) => (true, "reads as who asks"),
            Some((_, false)) => (false, "reads as its owner: it passes row security by"),
            None => (false, "missing"),
        };
        Finding::new("views", name, ok, (detail, RESTORE))
    };
    let mut findings: Vec<Finding> = VIEWS.into_iter().map(look).collect();
    findings.extend(strays("views", there.iter().map(|(name, _)| &**name), &VIEWS));
    Ok(findings)
}

async fn indexes(pool: &PgPool) -> Result<Vec<Finding>, Trouble> {
    let sql = "SELECT c.relname::text, i.indisunique FROM pg_class AS c
        INNER JOIN pg_index AS i ON i.indexrelid = c.oid AND i.indisvalid
        WHERE c.relnamespace = to_regnamespace('connectors')";
    let there: Vec<(String, bool)> = query_as(sql).fetch_all(pool).await?;
    let look = |name: &'static str| {
        let known = there.iter().find(|(known, _)| known == name);
        let detail = match known {
            None => "missing or not valid",
            Some((_, false)) if UNIQUE.contains(&name) => "not unique: something may happen twice",
            Some(_) => return None,
        };
        Some(Finding::new("indexes", name, false, (detail, RESTORE)))
    };
    let wrong: Vec<Finding> = INDEXES.into_iter().filter_map(look).collect();
    if wrong.is_empty() {
        let detail = format!("{} there", INDEXES.len());
        return Ok(vec![Finding::new("indexes", "all", true, (detail, ""))]);
    }
    Ok(wrong)
}

async fn seeded_flags(pool: &PgPool) -> Result<Vec<Finding>, Trouble> {
    let sql = "SELECT name FROM connectors.feature_flags";
    let there: Vec<String> = query_scalar(sql).fetch_all(pool).await?;
    let missing: Vec<&str> =
        flags::ALL.into_iter().filter(|name| !there.iter().any(|known| known == name)).collect();
    let hint = "run `connector-platform seed`";
    if missing.is_empty() {
        let detail = format!("{} there", flags::ALL.len());
        return Ok(vec![Finding::new("flags", "all", true, (detail, ""))]);
    }
    Ok(missing.iter().map(|name| Finding::new("flags", *name, false, ("missing", hint))).collect())
}

async fn seeded_platforms(pool: &PgPool, set_up: &Platforms) -> Result<Vec<Finding>, Trouble> {
    let sql = "SELECT platform FROM connectors.connector_platforms";
    let there: Vec<String> = query_scalar(sql).fetch_all(pool).await?;
    let look = |name: PlatformName| {
        let seeded = there.iter().any(|known| known == name.as_str());
        let (detail, hint) = match (seeded, set_up.names().any(|known| known == name)) {
            (true, true) => ("seeded, and set up here", ""),
            (true, false) => ("seeded; not set up in this process", ""),
            (false, _) => ("its settings are missing", "run `connector-platform seed`"),
        };
        Finding::new("platforms", name.as_str(), seeded, (detail, hint))
    };
    Ok(PlatformName::ALL.into_iter().map(look).collect())
}

/// Seals, stores, reads and erases a value of nobody's.
async fn vault(
    pool: &PgPool,
    keys: Result<Arc<dyn KeyProvider>, Trouble>,
) -> Result<Vec<Finding>, Trouble> {
    let keeper = TokenKeeper::new(pool, keys?).acting_for("check");
    let connection = uuid_v4(&SystemEntropy).map_err(|error| {
        Trouble::new("no_randomness", error.to_string(), "the system's generator does not answer")
    })?;
    let (vault, value) = (keeper.token_vault(), Secret::new(connection.to_string()));
    let name = TokenName::new("check", &connection.to_string(), "round-trip")?;
    vault.put(&name, &value, None).await?;
    let back = vault.get(&name).await;
    vault.delete(&name).await?;
    let same = back?.is_some_and(|token| token.value.expose() == value.expose());
    let key = keeper.vault().current_key().await.map_err(provision_core::Error::from)?;
    let detail = format!("sealed, stored, read and erased under key `{key}`");
    let hint = "what was read is not what was stored: stop all workers, restore the keys";
    let mut findings = vec![Finding::new("vault", "round trip", same, (detail, hint))];
    findings.extend(opened(pool, &keeper).await?);
    Ok(findings)
}

/// Opens one row of each key that something was sealed under.
async fn opened(pool: &PgPool, keeper: &TokenKeeper) -> Result<Vec<Finding>, Trouble> {
    let hint = "give the key file of the workers: what this key has sealed opens by no other";
    let found = |key: &str, kept: &str, error: Option<String>| {
        let detail = error.unwrap_or_else(|| format!("opens {kept}"));
        let ok = detail.starts_with("opens ");
        Finding::new("vault", format!("key {key}, {kept}"), ok, (detail, hint))
    };
    let mut findings = Vec::new();
    let sql = "SELECT DISTINCT ON (key_id) key_id, tenant_id, connection_id, name
        FROM connectors.encrypted_secrets ORDER BY key_id, updated_at DESC";
    let rows: Vec<(String, String, String, String)> = query_as(sql).fetch_all(pool).await?;
    for (key, tenant, connection, name) in rows {
        let name = TokenName::new(&tenant, &connection, &name)?;
        let told = keeper.token_vault().get(&name).await.err();
        findings.push(found(&key, "tokens", told.map(|error| error.to_string())));
    }
    let sql = "SELECT DISTINCT ON (body_key) body_key, id
        FROM connectors.webhook_events WHERE body_key IS NOT NULL
        ORDER BY body_key, received_at DESC";
    let rows: Vec<(String, Uuid)> = query_as(sql).fetch_all(pool).await?;
    for (key, event) in rows {
        let told = webhook::open_body(pool, keeper.vault(), event).await.err();
        findings.push(found(&key, "events", told.map(|told| told.message().to_owned())));
    }
    Ok(findings)
}

async fn queues(db: &Database) -> Result<Vec<Finding>, Trouble> {
    let engine = Engine::builder(db.store().await?).build().await?;
    let health = engine.health().await;
    let detail = match health.queue {
        Some(queue) => format!(
            "{} due, {} later, {} under way, oldest {} ms",
            queue.ready, queue.delayed, queue.leased, queue.oldest_ms
        ),
        None => "not counted".to_owned(),
    };
    let troubles: Vec<String> =
        health.troubles.iter().map(|trouble| format!("{trouble:?}").to_lowercase()).collect();
    let detail = match troubles.as_slice() {
        [] => detail,
        troubles => format!("{detail}; {}", troubles.join(", ")),
    };
    let hint = "start workers: `connector-platform workers`, and look at what they say";
    let mut findings = vec![Finding::new("queues", "all", health.is_ready(), (detail, hint))];
    let sql = "SELECT f.queue, f.dead_letters FROM connectors.queue_figures() AS f";
    let there: Vec<(String, i64)> = query_as(sql).fetch_all(db.pool()).await?;
    for (name, dead) in there {
        let detail = match QUEUES.iter().find(|(known, _)| *known == name) {
            Some((_, runs)) => format!("{runs} at a time, {dead} dead letters"),
            None => format!("{dead} dead letters"),
        };
        let hint =
            "read `connectors.publish_jobs_dlq`, mend the cause, and order the runs to retry";
        findings.push(Finding::new("queues", name, dead == 0, (detail, hint)));
    }
    Ok(findings)
}
