//! One look at everything names what is broken, and says what to do.

use std::{process::Command, sync::Arc};

use connector_platform::{
    check::{Finding, examine, shape_of},
    database::Database,
    trouble::Trouble,
};
use provision_core::vault::{DevKeys, KeyProvider};

use crate::place::{Place, platforms};

fn keys() -> Result<Arc<dyn KeyProvider>, Trouble> {
    Ok(Arc::new(DevKeys::for_environment("dev").unwrap()))
}

impl Place {
    async fn wrong(&self) -> Vec<Finding> {
        let db = Database::new(&self.url).unwrap();
        let found = examine(&db, keys(), &platforms(&self.sims)).await;
        found.into_iter().filter(|finding| !finding.ok).collect()
    }
}

// covers: R5-63, R5-65, R5-76
#[tokio::test(flavor = "multi_thread")]
async fn each_thing_that_is_broken_is_named_with_its_remedy() {
    let Some(place) = Place::new().await else { return };
    assert_eq!(place.wrong().await, [], "a fresh deployment is well");
    open_doors(&place).await;
    let broken = [
        ("ALTER TABLE connectors.connections DISABLE ROW LEVEL SECURITY", "tables", "connections"),
        ("ALTER TABLE connectors.connections ENABLE ROW LEVEL SECURITY", "", ""),
        ("DROP POLICY tenant ON connectors.publish_jobs", "tables", "publish_jobs"),
        (
            "CREATE POLICY tenant ON connectors.publish_jobs FOR SELECT TO connector_tenant
                USING (tenant_id = connectors.current_tenant())",
            "",
            "",
        ),
        ("CREATE TABLE connectors.stray (n int)", "tables", "stray"),
        ("DROP TABLE connectors.stray", "", ""),
        ("DROP INDEX connectors.publish_jobs_open", "indexes", "publish_jobs_open"),
        (
            "CREATE INDEX publish_jobs_open ON connectors.publish_jobs (tenant_id, created_at)",
            "",
            "",
        ),
        (
            "ALTER VIEW connectors.publish_jobs_dlq SET (security_invoker = false)",
            "views",
            "publish_jobs_dlq",
        ),
        ("ALTER VIEW connectors.publish_jobs_dlq SET (security_invoker = true)", "", ""),
        (
            "DELETE FROM connectors.feature_flags WHERE name = 'webhook_events'",
            "flags",
            "webhook_events",
        ),
        (
            "INSERT INTO connectors.feature_flags (name, description) VALUES ('webhook_events', '')",
            "",
            "",
        ),
        ("REVOKE INSERT ON connectors.encrypted_secrets FROM connector_worker", "vault", "all"),
        ("GRANT INSERT ON connectors.encrypted_secrets TO connector_worker", "", ""),
        (
            "UPDATE connectors.connector_metadata SET value = 'x' WHERE key = 'migration/0002_views'",
            "migrations",
            "0002_views",
        ),
    ];
    for (sql, area, name) in broken {
        place.execute(sql).await;
        let wrong = place.wrong().await;
        let named: Vec<_> = wrong.iter().map(|found| (found.area, &*found.name)).collect();
        let wanted: &[_] = if area.is_empty() { &[] } else { &[(area, name)] };
        assert_eq!(named, wanted, "{sql}: {wrong:?}");
        assert!(wrong.iter().all(|found| !found.hint.is_empty()), "{wrong:?}");
    }
    place.execute("DROP TABLE connectors.webhook_events CASCADE").await;
    assert!(place.wrong().await.iter().any(|found| found.name == "webhook_events"));
}

// `UPDATE_EXPECT=1` writes it anew.
// covers: R5-63
#[tokio::test(flavor = "multi_thread")]
async fn columns_and_constraints_of_a_deployment_are_as_they_are_written_down() {
    let Some(place) = Place::new().await else { return };
    let shape = shape_of(place.service.shared().db.pool()).await.unwrap();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/check/shape.txt");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(file, &shape).unwrap();
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), shape);
    for (sql, table) in SHAPES {
        place.execute(sql).await;
        let wrong = place.wrong().await;
        let named: Vec<_> = wrong.iter().map(|found| (found.area, &*found.name)).collect();
        let wanted: &[_] = if table.is_empty() { &[] } else { &[("shapes", table)] };
        assert_eq!(named, wanted, "{sql}: {wrong:?}");
    }
}

/// What changes the shape of a table, which is then named, and what puts it back.
const SHAPES: [(&str, &str); 9] = [
    ("ALTER TABLE connectors.publish_jobs ALTER body DROP NOT NULL", "publish_jobs"),
    ("ALTER TABLE connectors.publish_jobs ALTER body SET NOT NULL", ""),
    ("ALTER TABLE connectors.oauth_states ALTER user_id TYPE char(9)", "oauth_states"),
    ("ALTER TABLE connectors.oauth_states ALTER user_id TYPE text", ""),
    ("ALTER TABLE connectors.feature_flags ALTER rollout SET DEFAULT 100", "feature_flags"),
    ("ALTER TABLE connectors.feature_flags ALTER rollout SET DEFAULT 0", ""),
    ("ALTER TABLE connectors.publish_jobs DROP CONSTRAINT publish_jobs_link_check", "publish_jobs"),
    (
        "ALTER TABLE connectors.publish_jobs ADD CONSTRAINT publish_jobs_link_check
            CHECK (link ~ '^http')",
        "publish_jobs",
    ),
    (
        "ALTER TABLE connectors.publish_jobs DROP CONSTRAINT publish_jobs_link_check,
            ADD CONSTRAINT publish_jobs_link_check CHECK (link ~ '^https://[^ ]+$')",
        "",
    ),
];

/// What opens tenants to each other, or the trail to change, while every name stands as it was: how
/// it is opened, how it is closed again, and what is said between.
const DOORS: [(&str, &str, (&str, &str)); 9] = [
    (
        "ALTER POLICY tenant ON connectors.publish_jobs USING (true)",
        "ALTER POLICY tenant ON connectors.publish_jobs
                USING (tenant_id = connectors.current_tenant())",
        ("tables", "publish_jobs"),
    ),
    (
        "CREATE POLICY more ON connectors.oauth_states FOR SELECT USING (true)",
        "DROP POLICY more ON connectors.oauth_states",
        ("tables", "oauth_states"),
    ),
    (
        "GRANT SELECT ON connectors.webhook_events TO connector_tenant",
        "REVOKE SELECT ON connectors.webhook_events FROM connector_tenant",
        ("rights", "webhook_events"),
    ),
    (
        "GRANT UPDATE (outcome) ON connectors.connection_audit TO connector_worker",
        "REVOKE UPDATE (outcome) ON connectors.connection_audit FROM connector_worker",
        ("rights", "connection_audit.outcome"),
    ),
    (
        "CREATE FUNCTION connectors.every_secret() RETURNS bigint LANGUAGE sql SECURITY DEFINER
                AS 'SELECT count(*) FROM connectors.encrypted_secrets';
            REVOKE ALL ON FUNCTION connectors.every_secret FROM PUBLIC",
        "DROP FUNCTION connectors.every_secret",
        ("functions", "every_secret"),
    ),
    (
        "CREATE MATERIALIZED VIEW connectors.all_jobs AS SELECT * FROM connectors.publish_jobs",
        "DROP MATERIALIZED VIEW connectors.all_jobs",
        ("tables", "all_jobs"),
    ),
    (
        "CREATE OR REPLACE FUNCTION connectors.current_tenant() RETURNS text LANGUAGE sql STABLE
                RETURN 'acme'",
        "CREATE OR REPLACE FUNCTION connectors.current_tenant() RETURNS text LANGUAGE sql STABLE
                RETURN nullif(current_setting('connectors.tenant', true), '')",
        ("functions", "current_tenant"),
    ),
    (
        "ALTER TABLE connectors.connection_audit DISABLE TRIGGER connection_audit_is_final",
        "ALTER TABLE connectors.connection_audit ENABLE TRIGGER connection_audit_is_final",
        ("tables", "connection_audit"),
    ),
    (
        "DROP INDEX connectors.connections_account;
            CREATE INDEX connections_account
                ON connectors.connections (tenant_id, platform, account_id)",
        "DROP INDEX connectors.connections_account;
            CREATE UNIQUE INDEX connections_account
                ON connectors.connections (tenant_id, platform, account_id)
                WHERE state <> 'disconnected'",
        ("indexes", "connections_account"),
    ),
];

async fn open_doors(place: &Place) {
    for (open, close, wanted) in DOORS {
        place.execute(open).await;
        let wrong = place.wrong().await;
        let named: Vec<_> = wrong.iter().map(|found| (found.area, &*found.name)).collect();
        assert_eq!(named, [wanted], "{open}: {wrong:?}");
        place.execute(close).await;
        assert_eq!(place.wrong().await, [], "{close}");
    }
    // A row that a foreign tenant reads is seen, too.
    place
        .execute(
            "INSERT INTO connectors.connections
            (id, tenant_id, user_id, platform, state, account_id, account_name, run_id)
            VALUES (gen_random_uuid(), 'acme', 'u', 'meta', 'connected', 'a', 'A',
                gen_random_uuid());
            ALTER POLICY tenant ON connectors.connections USING (true)",
        )
        .await;
    let wrong = place.wrong().await;
    let named: Vec<_> = wrong.iter().map(|found| (found.area, &*found.name)).collect();
    assert_eq!(named, [("tables", "connections"), ("reads", "connections")], "{wrong:?}");
    let close = "ALTER POLICY tenant ON connectors.connections
            USING (tenant_id = connectors.current_tenant());
        DELETE FROM connectors.connections";
    place.execute(close).await;
    assert_eq!(place.wrong().await, []);
}

// covers: R5-63, R5-76
#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_anything_says_to_deploy() {
    let Some(url) = crate::place::database().await else { return };
    let db = Database::new(&url).unwrap();
    let found = examine(&db, keys(), &platforms(&Default::default())).await;
    let wrong: Vec<_> = found.iter().filter(|finding| !finding.ok).collect();
    assert!(!wrong.is_empty());
    // The roles are the server's: another database may have made them, or nobody yet.
    assert!(wrong.iter().any(|found| found.hint.contains("deploy")), "{wrong:?}");
    assert!(wrong.iter().all(|found| !found.hint.is_empty()), "{wrong:?}");
}

fn typed(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_connector-platform"));
    let output = command.args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

// covers: R5-65, R5-67
#[tokio::test(flavor = "multi_thread")]
async fn one_command_after_the_other_deploys_seeds_checks_and_shows() {
    let Some(url) = crate::place::database().await else { return };
    let at = ["--database", &url, "--environment", "dev"];
    let typed = |more: &[&str]| typed(&[&at[..], more].concat());
    let (code, said, error) = typed(&["demo"]);
    assert_eq!(code, Some(0), "{said} {error}");
    for name in ["meta", "linkedin", "tiktok", "gbp", "mailchimp"] {
        assert!(said.contains(&format!("{name}: connected to Account 1")), "{said}");
        assert!(said.contains(&format!("{name}: published ")), "{said}");
    }
    let (code, said, _) = typed(&["deploy"]);
    assert_eq!((code, &*said), (Some(0), "everything is up to date\n"));
    assert_eq!(typed(&["seed"]), (Some(0), "9 flags\n".to_owned(), String::new()));
    // Another key opens nothing of what is kept, and a mistyped path makes no new one.
    let file = std::env::temp_dir().join(format!("{}.keys", uuid::Uuid::new_v4()));
    let keys = ["--key-file", file.to_str().unwrap()];
    let (code, said, error) = typed(&[&keys[..], &["check"]].concat());
    assert_eq!(code, Some(69), "{said} {error}");
    assert!(said.contains("no_key_file") && !file.exists(), "{said}");
    std::fs::write(&file, format!("other {}\n", "ab".repeat(32))).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (code, said, error) = typed(&[&keys[..], &["check"]].concat());
    std::fs::remove_file(&file).unwrap();
    assert_eq!(code, Some(69), "{said} {error}");
    assert!(said.contains("WRONG vault: key ") && said.contains(", tokens: "), "{said}");
    let report = std::env::temp_dir().join(format!("{}.json", uuid::Uuid::new_v4()));
    let (code, said, error) = typed(&["check", "--report", report.to_str().unwrap(), "--json"]);
    assert_eq!(code, Some(0), "{said} {error}");
    let told: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let written: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    std::fs::remove_file(&report).unwrap();
    assert_eq!(told["ok"], true);
    assert_eq!(
        told["findings"].as_array().unwrap().len(),
        written["findings"].as_array().unwrap().len()
    );
}

// covers: R5-27, R5-76
#[test]
fn what_cannot_be_used_is_refused_with_a_hint() {
    for (arguments, code, word) in [
        (&["--database", "mysql://127.0.0.1/x", "deploy"] as &[&str], 64, "wrong_database"),
        (&["--database", "postgres://me:hunter2@127.0.0.1:1/x", "deploy"], 69, "postgres_"),
        (&["--database", "postgres://127.0.0.1:1/x", "workers"], 64, "dev_keys_refused"),
        (&["--database", "postgres://127.0.0.1:1/x", "demo"], 64, "dev_keys_refused"),
        (
            &[
                "--database",
                "postgres://127.0.0.1:1/x",
                "--environment",
                "dev",
                "--platform",
                "x",
                "workers",
            ],
            64,
            "usage",
        ),
    ] {
        let (ended, said, error) = typed(arguments);
        assert_eq!(ended, Some(code), "{arguments:?} {said} {error}");
        assert!(error.contains(&format!("error[{word}")), "{error}");
        assert!(error.contains("\nhint: ") && !error.contains("hunter2"), "{error}");
    }
}
