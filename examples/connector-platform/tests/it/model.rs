//! The data model: tables, views, and who sees what, on a real server.

use connector_platform::{
    check::{OF_TENANTS, TABLES, VIEWS},
    database::Database,
    schema::{self, MIGRATIONS, Migration},
};
use provision_store_postgres::PostgresConfig;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, query_scalar, raw_sql};

use crate::place::database;

/// Two tenants with a row in every table that holds rows of tenants.
const ROWS: &str = "
INSERT INTO connectors.connections
(id, tenant_id, user_id, platform, state, account_id, account_name, run_id)
SELECT ('00000000-0000-0000-0000-00000000000' || n)::uuid, t, 'u', 'meta', 'connected', 'a', 'A',
    gen_random_uuid()
FROM (VALUES (1, 'acme'), (2, 'globex')) AS x (n, t);
INSERT INTO connectors.publish_jobs
(id, tenant_id, connection_id, request_key, body, link, flags, run_id)
SELECT c.id, c.tenant_id, c.id, 'k', 'b', 'https://x.example', '{}', gen_random_uuid()
FROM connectors.connections AS c;
INSERT INTO connectors.connection_health_log (tenant_id, connection_id, run_id, healthy)
SELECT c.tenant_id, c.id, gen_random_uuid(), true FROM connectors.connections AS c;
INSERT INTO connectors.connection_audit (tenant_id, connection_id, actor, action, outcome)
SELECT c.tenant_id, c.id::text, 'test', 'connected', 'done' FROM connectors.connections AS c;
INSERT INTO connectors.publish_job_analytics
(job_id, tenant_id, run_id, impressions, reactions, clicks)
SELECT c.id, c.tenant_id, gen_random_uuid(), 1, 1, 1 FROM connectors.connections AS c;
INSERT INTO connectors.publish_job_errors (tenant_id, job_id, step, attempt, code)
SELECT c.tenant_id, c.id, 'post', 1, 'timeout' FROM connectors.connections AS c;
INSERT INTO connectors.rate_limit_buckets
SELECT c.id, c.tenant_id, 'meta/' || c.id, 1, 1, 1, 1 FROM connectors.connections AS c;
INSERT INTO connectors.encrypted_secrets
SELECT c.tenant_id, c.id, 'tokens', 1, 'k', 'x' FROM connectors.connections AS c;
INSERT INTO connectors.webhook_events
(id, delivery, platform, event_id, tenant_id, kind, body_format, body_key, body_sealed)
SELECT c.id, c.id, 'meta', c.id::text, c.tenant_id, 'feed', 1, 'k', 'x' FROM connectors.connections AS c;
INSERT INTO connectors.oauth_states
SELECT decode(md5(c.tenant_id), 'hex'), c.tenant_id, 'u', 'meta', c.id, 'https://x.example',
    now() + interval '1 hour' FROM connectors.connections AS c;
INSERT INTO connectors.queue_jobs_monitoring VALUES ('publish_jobs', now(), 0, 0, 0, 0, 0)";

async fn deployed() -> Option<(String, PgConnection)> {
    let url = database().await?;
    schema::deploy(&url).await.unwrap();
    let conn = PgConnection::connect(&url).await.unwrap();
    Some((url, conn))
}

async fn count(conn: &mut PgConnection, table: &str) -> Result<i64, sqlx::Error> {
    let sql = format!("SELECT count(*) FROM connectors.{table}");
    query_scalar(AssertSqlSafe(sql)).fetch_one(conn).await
}

fn code(error: &sqlx::Error) -> String {
    error.as_database_error().unwrap().code().unwrap().into_owned()
}

async fn names(conn: &mut PgConnection, kind: &str) -> Vec<String> {
    let sql = "SELECT c.relname::text FROM pg_class AS c
        WHERE c.relnamespace = 'connectors'::regnamespace AND c.relkind::text = $1 ORDER BY 1";
    query_scalar(sql).bind(kind).fetch_all(conn).await.unwrap()
}

// covers: R5-01, R5-14, R5-18
#[tokio::test]
async fn there_are_fourteen_tables_and_three_views_and_none_is_open() {
    let Some((_, mut conn)) = deployed().await else { return };
    assert_eq!(names(&mut conn, "r").await, TABLES);
    assert_eq!(names(&mut conn, "v").await, VIEWS);
    let open = "SELECT count(*) FROM pg_class AS c
        WHERE c.relnamespace = 'connectors'::regnamespace AND c.relkind = 'r'
        AND NOT (c.relrowsecurity AND c.relforcerowsecurity)";
    assert_eq!(query_scalar::<_, i64>(open).fetch_one(&mut conn).await.unwrap(), 0);
    let silent = "SELECT count(*) FROM pg_class AS c
        WHERE c.relnamespace = 'connectors'::regnamespace AND c.relkind IN ('r', 'v')
        AND obj_description(c.oid) IS NULL";
    assert_eq!(query_scalar::<_, i64>(silent).fetch_one(&mut conn).await.unwrap(), 0);
}

// covers: R5-01, R5-02, R5-03, R5-04, R5-06, R5-08, R5-19
#[tokio::test]
async fn a_tenant_sees_its_own_rows_and_changes_none() {
    let Some((url, mut owner)) = deployed().await else { return };
    owner.execute(raw_sql(ROWS)).await.unwrap();
    let db = Database::new(&url).unwrap();
    for tenant in ["acme", "globex", "nobody"] {
        let mut tx = db.as_tenant(tenant).await.unwrap();
        for table in OF_TENANTS {
            let sql = format!("SELECT tenant_id FROM connectors.{table}");
            let seen: Vec<String> =
                query_scalar(AssertSqlSafe(sql)).fetch_all(&mut *tx).await.unwrap();
            let wanted: &[&str] = if tenant == "nobody" { &[] } else { &[tenant] };
            assert_eq!(seen, wanted, "{table} as {tenant}");
        }
        assert_eq!(count(&mut tx, "connector_platforms").await.unwrap(), 5);
    }
    for table in TABLES {
        let mut tx = db.as_tenant("acme").await.unwrap();
        let sql = format!("DELETE FROM connectors.{table}");
        let refused = tx.execute(AssertSqlSafe(sql)).await.unwrap_err();
        assert_eq!(code(&refused), "42501", "{table}");
    }
    for closed in ["encrypted_secrets", "oauth_states", "webhook_events", "feature_flags"] {
        let mut tx = db.as_tenant("acme").await.unwrap();
        assert_eq!(code(&count(&mut tx, closed).await.unwrap_err()), "42501", "{closed}");
    }
    // The worker sees all tenants.
    let mut worker = db.pool().acquire().await.unwrap();
    assert_eq!(count(&mut worker, "connections").await.unwrap(), 2);
}

// covers: R5-01, R5-18
#[tokio::test]
async fn who_is_nobody_sees_nothing_even_where_somebody_grants_it_everything() {
    let Some((_, mut owner)) = deployed().await else { return };
    owner.execute(raw_sql(ROWS)).await.unwrap();
    let mut tx = owner.begin().await.unwrap();
    tx.execute("SET LOCAL ROLE connector_anonymous").await.unwrap();
    assert_eq!(code(&count(&mut tx, "connections").await.unwrap_err()), "42501");
    tx.rollback().await.unwrap();
    let careless = "GRANT USAGE ON SCHEMA connectors TO connector_anonymous;
        GRANT SELECT ON ALL TABLES IN SCHEMA connectors TO connector_anonymous;
        GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA connectors TO connector_anonymous;
        SET LOCAL ROLE connector_anonymous; SET LOCAL connectors.tenant = 'acme'";
    let mut tx = owner.begin().await.unwrap();
    tx.execute(raw_sql(careless)).await.unwrap();
    for name in TABLES.into_iter().chain(VIEWS) {
        assert_eq!(count(&mut tx, name).await.unwrap(), 0, "{name}");
    }
    tx.rollback().await.unwrap();
}

// covers: R5-07, R5-20
#[tokio::test]
async fn a_line_of_the_trail_stays_as_it_was_written_whoever_asks() {
    let Some((url, mut owner)) = deployed().await else { return };
    owner.execute(raw_sql(ROWS)).await.unwrap();
    let db = Database::new(&url).unwrap();
    for sql in [
        "UPDATE connectors.connection_audit SET actor = 'me'",
        "DELETE FROM connectors.connection_audit",
        "TRUNCATE connectors.connection_audit",
    ] {
        assert_eq!(code(&db.pool().execute(sql).await.unwrap_err()), "42501", "worker: {sql}");
        assert_eq!(code(&owner.execute(sql).await.unwrap_err()), "42501", "owner: {sql}");
    }
    assert_eq!(count(&mut owner, "connection_audit").await.unwrap(), 2);
}

// covers: R5-11, R5-47, R5-71
#[tokio::test]
async fn nine_flags_are_seeded_and_a_switched_one_stays_as_it_is() {
    let Some((url, mut owner)) = deployed().await else { return };
    let names: Vec<String> = query_scalar("SELECT name FROM connectors.feature_flags")
        .fetch_all(&mut owner)
        .await
        .unwrap();
    assert!(connector_platform::flags::ALL.iter().all(|flag| names.iter().any(|n| n == flag)));
    assert_eq!(names.len(), 9);
    let switch = "UPDATE connectors.feature_flags SET rollout = 7 WHERE name = 'bulk_publishing';
        DELETE FROM connectors.feature_flags WHERE name = 'webhook_events'";
    owner.execute(raw_sql(switch)).await.unwrap();
    assert_eq!(schema::seed(&url).await.unwrap(), 9);
    assert!(schema::deploy(&url).await.unwrap().is_empty());
    let seven =
        "SELECT rollout::bigint FROM connectors.feature_flags WHERE name = 'bulk_publishing'";
    assert_eq!(query_scalar::<_, i64>(seven).fetch_one(&mut owner).await.unwrap(), 7);
}

// covers: R5-64
#[tokio::test]
async fn a_migration_that_fails_leaves_the_old_version_whole() {
    let Some((_, mut owner)) = deployed().await else { return };
    let good = Migration { name: "0005_good", text: "CREATE TABLE connectors.good (n int)" };
    let bad = Migration {
        name: "0006_bad",
        text: "CREATE TABLE connectors.half (n int); ALTER TABLE connectors.none ADD x int",
    };
    let all: Vec<_> = MIGRATIONS.into_iter().chain([good, bad]).collect();
    let told = schema::migrate(&mut owner, &all).await.unwrap_err();
    assert_eq!(told.code(), "migration_failed");
    assert!(told.message().starts_with("0006_bad: "), "{told}");
    assert_eq!(names(&mut owner, "r").await, TABLES, "neither table was made");
    assert_eq!(schema::applied(&mut owner).await.unwrap().len(), MIGRATIONS.len());
    let changed = Migration { text: "SELECT 1", ..MIGRATIONS[0] };
    let told = schema::migrate(&mut owner, &[changed]).await.unwrap_err();
    assert_eq!(told.code(), "migration_changed");
}

// covers: R5-05
#[tokio::test]
async fn a_delivery_that_was_kept_before_is_one_of_its_own_afterwards() {
    let Some(url) = database().await else { return };
    let engine = PostgresConfig::new(&url).with_connections_max(1).with_notify(false);
    drop(engine.open().await.unwrap());
    let mut owner = PgConnection::connect(&url).await.unwrap();
    schema::migrate(&mut owner, &MIGRATIONS[..4]).await.unwrap();
    let old = "INSERT INTO connectors.feature_flags (name, description) VALUES ('a', 'b');
        INSERT INTO connectors.connector_platforms (platform, title, flag, calls, per_seconds, burst)
        VALUES ('meta', 'Meta', 'a', 1, 1, 1);
        INSERT INTO connectors.webhook_events
        (id, platform, event_id, tenant_id, kind, body_format, body_key, body_sealed)
        VALUES (gen_random_uuid(), 'meta', 'e', 'acme', 'feed', 1, 'k', 'x')";
    owner.execute(raw_sql(old)).await.unwrap();
    assert_eq!(schema::deploy(&url).await.unwrap(), ["0005_events"]);
    let kept = "SELECT count(*) FROM connectors.webhook_events
        WHERE delivery = id AND tenant_id = 'acme' AND body_sealed = 'x'";
    assert_eq!(query_scalar::<_, i64>(kept).fetch_one(&mut owner).await.unwrap(), 1);
    let bare = "UPDATE connectors.webhook_events SET body_sealed = NULL";
    let refused = owner.execute(raw_sql(bare)).await.unwrap_err();
    assert_eq!(code(&refused), "23514", "a delivery has its body");
}

#[tokio::test]
async fn deployments_at_the_same_time_are_one_after_the_other() {
    let Some(url) = database().await else { return };
    let all = (0..4).map(|_| schema::deploy(&url));
    let mut applied = Vec::new();
    for deployed in futures(all).await {
        applied.extend(deployed.unwrap());
    }
    assert_eq!(applied.len(), MIGRATIONS.len(), "each was applied once: {applied:?}");
}

/// Drives all of them at the same time.
async fn futures<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut open: Vec<_> = all.map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|cx| {
        open.retain_mut(|future| match future.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => {
                done.push(output);
                false
            }
            std::task::Poll::Pending => true,
        });
        if open.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done
}
