//! One look at everything: database, schema, rights, vault, flags, platforms, queues. Each finding
//! says what it looked at, and what to do where it is wrong.

use std::{fmt, sync::Arc};

use provision_core::{
    Engine, Secret,
    clock::{Clock as _, SystemClock},
    draw::{SystemEntropy, uuid_v4},
    vault::{KeyProvider, TokenName},
};
use serde::Serialize;
use sqlx::{PgPool, query_as, query_scalar};

use crate::{
    database::Database,
    flags,
    platform::{PlatformName, Platforms},
    saga::QUEUES,
    schema::{MIGRATIONS, fingerprint},
    trouble::Trouble,
    vault::TokenKeeper,
};

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
pub const INDEXES: [&str; 11] = [
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
];
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
    let looks = [
        ("migrations", migrations(pool).await),
        ("tables", tables(pool).await),
        ("views", views(pool).await),
        ("indexes", indexes(pool).await),
        ("flags", seeded_flags(pool).await),
        ("platforms", seeded_platforms(pool, platforms).await),
        ("vault", vault(pool, keys).await),
        ("queues", queues(db).await),
    ];
    for (area, look) in looks {
        match look {
            Ok(found) => findings.extend(found),
            Err(trouble) => findings.push(Finding::trouble(area, "all", &trouble)),
        }
    }
    findings
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
    let sql = "SELECT c.relname::text, c.relrowsecurity AND c.relforcerowsecurity,
            ARRAY(SELECT p.polname::text FROM pg_policy AS p WHERE p.polrelid = c.oid)
        FROM pg_class AS c
        WHERE c.relnamespace = to_regnamespace('connectors') AND c.relkind = 'r'";
    let there: Vec<(String, bool, Vec<String>)> = query_as(sql).fetch_all(pool).await?;
    let mut findings = Vec::new();
    for name in TABLES {
        let Some((_, secured, policies)) = there.iter().find(|(known, ..)| known == name) else {
            findings.push(Finding::new("tables", name, false, ("missing", RESTORE)));
            continue;
        };
        let tenant = OF_TENANTS.contains(&name).then_some("tenant");
        let wanted = ["worker"].into_iter().chain(tenant);
        let missing = wanted.filter(|wanted| !policies.iter().any(|known| known == wanted));
        let missing: Vec<&str> = missing.collect();
        let (ok, detail) = match (secured, missing.as_slice()) {
            (false, _) => (false, "row security is off: every role reads every row".to_owned()),
            (true, []) => (true, format!("row security, {} policies", policies.len())),
            (true, missing) => (false, format!("no policy {}", missing.join(", "))),
        };
        findings.push(Finding::new("tables", name, ok, (detail, RESTORE)));
    }
    for (name, ..) in there.iter().filter(|(name, ..)| !TABLES.contains(&&**name)) {
        let hint = "move it to a schema of its own: nobody looks after its rights here";
        findings.push(Finding::new("tables", name, false, ("not one of the service", hint)));
    }
    Ok(findings)
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
    Ok(VIEWS.into_iter().map(look).collect())
}

async fn indexes(pool: &PgPool) -> Result<Vec<Finding>, Trouble> {
    let sql = "SELECT c.relname::text FROM pg_class AS c
        INNER JOIN pg_index AS i ON i.indexrelid = c.oid AND i.indisvalid
        WHERE c.relnamespace = to_regnamespace('connectors')";
    let there: Vec<String> = query_scalar(sql).fetch_all(pool).await?;
    let missing: Vec<&str> =
        INDEXES.into_iter().filter(|name| !there.iter().any(|known| known == name)).collect();
    if missing.is_empty() {
        let detail = format!("{} there", INDEXES.len());
        return Ok(vec![Finding::new("indexes", "all", true, (detail, ""))]);
    }
    let look = |name| Finding::new("indexes", name, false, ("missing or not valid", RESTORE));
    Ok(missing.into_iter().map(look).collect())
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
    Ok(vec![Finding::new("vault", "round trip", same, (detail, hint))])
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
    for (name, runs) in QUEUES {
        let dead = there.iter().find(|(known, _)| known == name).map_or(0, |(_, dead)| *dead);
        let detail = format!("{runs} at a time, {dead} dead letters");
        let hint =
            "read `connectors.publish_jobs_dlq`, mend the cause, and order the runs to retry";
        findings.push(Finding::new("queues", name, dead == 0, (detail, hint)));
    }
    Ok(findings)
}
