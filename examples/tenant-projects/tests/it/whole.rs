//! A project's life as one types it.

use provision_core::{engine::What, run::journal::Direction};
use sqlx::{Connection as _, PgConnection, query_scalar};
use tenant_projects::{
    keys::owner_of,
    saga::{STAGES, STEPS},
};

use crate::place::Place;

const VALID: &str = "SELECT count(*) FROM tenants.api_keys WHERE revoked_at IS NULL";

/// Names of what an inventory shows of this test's projects.
fn listed(place: &Place, inventory: &serde_json::Value) -> Vec<String> {
    let ours = |name: &str| name.contains(&place.slug);
    let all = inventory.as_array().unwrap().iter();
    let all = all.filter(|thing| ours(thing["name"].as_str().unwrap()));
    let kind = |thing: &serde_json::Value| {
        let word = |name: &str| thing[name].as_str().filter(|word| !word.is_empty()).unwrap();
        assert!(!word("id").is_empty() && thing["labels"].to_string().contains("-"), "{thing}");
        format!("{}.{}", word("provider"), word("kind"))
    };
    all.map(kind).collect()
}

/// What is undone, in its order: nothing before all that depends on it.
async fn undone_in_order(place: &Place, ran: &crate::place::Ran, step: &str) {
    let host = place.host().await;
    let run = ran.json()["run"].as_str().unwrap().parse().unwrap();
    let steps = host.engine.snapshot(&run).await.unwrap().steps;
    let stage = |path: &str| {
        let phase = steps.iter().find(|step| step.path == path).unwrap().phase.clone();
        STAGES.iter().position(|stage| Some(*stage) == phase.as_deref()).unwrap()
    };
    let mut events = host.engine.watch(&run, 0);
    let mut undone = Vec::new();
    while let Some(event) = events.next().await.unwrap() {
        if matches!(event.what, What::Done { dir: Direction::Undo }) {
            undone.push(event.path);
        }
    }
    let stages: Vec<usize> = undone.iter().map(|path| stage(path)).collect();
    assert!(stages.is_sorted_by(|one, next| one >= next), "{step}: {undone:?}");
    assert_eq!(undone.last().map(String::as_str), Some("reserve"), "{step}: {undone:?}");
}

/// Usage is asked of the servers, kept, and shown beside the quota.
async fn is_measured(place: &Place) {
    let usage = place.run(&["usage"]).await;
    assert_eq!(usage.code, Some(0), "{usage:?}");
    let figure = |metric: &str| {
        let all = usage.json();
        let found = all.as_array().unwrap().iter().find(|figure| figure["metric"] == metric);
        let found = found.unwrap();
        (found["used"].as_i64().unwrap(), found["quota"].as_i64().unwrap())
    };
    assert!(figure("database_bytes").0 > 1 << 20, "{usage:?}");
    assert_eq!((figure("database_bytes").1, figure("resources")), (512 << 20, (6, 6)));
    assert!(usage.json()[0]["measured_at"].as_str().unwrap().ends_with('Z'), "{usage:?}");
    let measured = "SELECT count(*) FROM tenants.project_usage WHERE used IS NOT NULL";
    assert_eq!(place.number(measured).await, 3);
}

// covers: R4-11, R4-12, R4-33
#[tokio::test]
async fn a_project_comes_up_is_measured_and_goes_as_a_whole() {
    let Some(place) = Place::new().await else { return };
    // What is typed once need not be repeated, also by those who take it down.
    let ran = place.run(&["--owner", "0190d2a4-3c5b-7000-8000-00000000bbbb"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let keys = ran.keys();
    assert_eq!(keys.len(), 2);
    assert!(keys[0].starts_with("tp_public_") && keys[1].starts_with("tp_secret_"));
    assert!(!ran.error.contains(&keys[1]), "keys are shown in one place");
    let name = format!("project_{}", place.slug);
    let there =
        [format!("database {name}"), format!("role {name}_app"), format!("role {name}_owner")];
    assert_eq!(place.catalog().await, there);
    for (table, rows) in [
        ("SELECT count(*) FROM tenants.projects WHERE state = 'active'", 1),
        ("SELECT count(*) FROM tenants.project_services", 3),
        ("SELECT count(*) FROM tenants.project_resources", 3),
        ("SELECT count(*) FROM tenants.project_usage WHERE used IS NULL", 3),
        ("SELECT count(*) FROM tenants.api_keys WHERE shown_at IS NOT NULL", 2),
    ] {
        assert_eq!(place.number(table).await, rows, "{table}");
    }
    let inventory = listed(&place, &place.run(&["inventory"]).await.json());
    let kinds = [
        "auth.registration",
        "postgres.database",
        "postgres.role",
        "postgres.role",
        "realtime.registration",
        "storage.registration",
        "tenants.key",
        "tenants.key",
    ];
    assert_eq!(inventory, kinds);

    is_measured(&place).await;

    // Typed again: nothing is begun, and no key is shown twice.
    let again = place.run(&[]).await;
    assert_eq!((again.code, again.keys().len()), (Some(0), 0), "{again:?}");
    let same = place.run(&["--connections", "+020"]).await;
    assert_eq!(same.code, Some(0), "{same:?}");
    let other = place.run(&["--region", "us-east"]).await;
    assert!(other.code == Some(64) && other.error.contains("error[other_options]"), "{other:?}");

    let gone = place.run(&["--tear-down"]).await;
    assert_eq!(gone.code, Some(0), "{gone:?}");
    assert!(place.catalog().await.is_empty(), "{:?}", place.catalog().await);
    assert!(listed(&place, &place.run(&["inventory"]).await.json()).is_empty());
    for table in [
        VALID,
        "SELECT count(*) FROM tenants.projects WHERE state <> 'removed'",
        "SELECT count(*) FROM tenants.project_services",
        "SELECT count(*) FROM tenants.project_resources",
        "SELECT count(*) FROM tenants.project_usage",
    ] {
        assert_eq!(place.number(table).await, 0, "{table}");
    }
    // The name is free again.
    let ran = place.run(&[]).await;
    assert_eq!((ran.code, ran.keys().len()), (Some(0), 2), "{ran:?}");
    assert_eq!(place.run(&["--tear-down"]).await.code, Some(0));
}

// covers: R4-33, S12, S13
#[tokio::test]
async fn whichever_step_fails_nothing_is_left() {
    let Some(place) = Place::new().await else { return };
    for step in STEPS {
        let ran = place.run(&["--fail-at", step, "--key-hash", "argon2id"]).await;
        assert_eq!(
            (ran.code, &ran.json()["status"]),
            (Some(1), &"RolledBack".into()),
            "{step}: {ran:?}"
        );
        let services = ["auth", "realtime", "storage"].contains(&step);
        let by_order = ran.json()["error"]["code"] == "refused_by_order";
        assert_ne!(by_order, services, "{step}: a service refuses in its own words: {ran:?}");
        undone_in_order(&place, &ran, step).await;
        assert!(place.catalog().await.is_empty(), "{step}: {:?}", place.catalog().await);
        let inventory = place.run(&["inventory"]).await.json();
        assert!(listed(&place, &inventory).is_empty(), "{step}: {inventory}");
        let rows = "SELECT (SELECT count(*) FROM tenants.project_services)
            + (SELECT count(*) FROM tenants.project_usage)";
        for none in [VALID, rows] {
            assert_eq!(place.number(none).await, 0, "{step}: {none}");
        }
    }
    let failed = "SELECT count(*) FROM tenants.projects WHERE state = 'failed'";
    assert_eq!(place.number(failed).await, 10);
}

// covers: R4-18
#[tokio::test]
async fn what_cannot_be_used_is_told_as_a_whole_and_before_anything_is_done() {
    let Some(place) = Place::new().await else { return };
    let ran = place.run(&["--owner", "ada", "--region", "mars", "--connections", "0"]).await;
    assert_eq!(ran.code, Some(64), "{ran:?}");
    for word in ["error[bad_project]", "--owner: ", "--region: ", "--connections: ", "\nhint: "] {
        assert!(ran.error.contains(word), "{word}: {ran:?}");
    }
    for (arguments, word) in [
        (["--fail-at", "x"], "error[unknown_step]"),
        (["--fleet", "0"], "error[usage]"),
        (["--attempts", "0"], "error[bad_retry]"),
        (["--tear-down", "inventory"], "error[usage]"),
    ] {
        let ran = place.run(&arguments).await;
        assert!(ran.code == Some(64) && ran.error.contains(word), "{word}: {ran:?}");
    }
    // What only looks makes nothing either.
    assert_eq!(place.run(&["usage"]).await.json(), serde_json::json!([]));
    let inventory = place.run(&["inventory"]).await;
    assert!(listed(&place, &inventory.json()).is_empty(), "{inventory:?}");
    let tables = "SELECT count(*) FROM pg_namespace WHERE nspname IN ('tenants', 'provision')";
    assert_eq!(place.number(tables).await, 0, "nothing was made in the database");
}

// covers: R4-19
#[tokio::test]
async fn a_server_that_does_not_let_us_in_is_told_before_anything_is_made() {
    let Some(place) = Place::new().await else { return };
    let mut command = place.command(&[]);
    command.env("TENANTS_PGHOST", "localhost").env("TENANTS_PGPORT", "1");
    command.env("TENANTS_PGUSER", "nobody").env("TENANTS_PGPASSWORD", "hunter2");
    let ran = crate::place::ran(command).await;
    assert!(ran.code == Some(69) && ran.error.contains("error[tenants_server]"), "{ran:?}");
    assert!(ran.error.contains("127.0.0.1:1 as nobody"), "{ran:?}");
    let tables = "SELECT count(*) FROM pg_namespace WHERE nspname IN ('tenants', 'provision')";
    assert_eq!(place.number(tables).await, 0, "nothing was made in the database");
    assert!(!ran.error.contains("hunter2") && !ran.said.contains("hunter2"), "{ran:?}");
}

// covers: R4-19
#[tokio::test]
async fn the_server_of_the_database_is_found_by_its_name_and_with_a_password_beside() {
    let Some(place) = Place::new().await else { return };
    let (scheme, rest) = place.url.split_once("://").unwrap();
    let (who, place_of) = rest.split_once('@').unwrap();
    assert!(place_of.starts_with("127.0.0.1:"), "the test names the machine in another way");
    let (user, password) = who.split_once(':').unwrap_or((who, ""));
    let url = format!("{scheme}://{user}@{}", place_of.replacen("127.0.0.1", "localhost", 1));
    let mut command = place.command(&["--key-hash", "argon2id"]);
    command.env("DATABASE_URL", url).env("PGPASSWORD", password);
    let ran = crate::place::ran(command).await;
    assert_eq!((ran.code, ran.keys().len()), (Some(0), 2), "{ran:?}");
    assert_eq!(place.run(&["--tear-down"]).await.code, Some(0));
}

// covers: R4-21, R4-05
#[tokio::test]
async fn a_key_that_was_lost_before_anybody_saw_it_is_replaced() {
    let Some(place) = Place::new().await else { return };
    let ran = place.run(&["--key-hash", "scrypt"]).await;
    let keys = ran.keys();
    let host = place.host().await;
    let project = owner_of(host.pool(), &keys[1]).await.unwrap().expect("a valid key");
    assert_eq!(owner_of(host.pool(), &keys[0]).await.unwrap(), Some(project));
    assert_eq!(owner_of(host.pool(), &format!("{}0", keys[1])).await.unwrap(), None);
    drop(host);
    // A command that died after it had taken the key, and before it showed it, leaves this.
    let mut conn = PgConnection::connect(&place.url).await.unwrap();
    let lose = "UPDATE tenants.api_keys SET shown_at = NULL WHERE purpose = 'secret' RETURNING id";
    let lost: String = query_scalar(lose).fetch_one(&mut conn).await.unwrap();
    let ran = place.run(&["--key-hash", "argon2id"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let told = ran.shown();
    assert_eq!(told[0]["replaces"], serde_json::json!([lost]), "whoever has it is told");
    let again = ran.keys();
    assert!(again.len() == 1 && again[0].starts_with("tp_secret_"), "{ran:?}");
    assert!(!again[0].contains(&lost));
    let host = place.host().await;
    assert_eq!(owner_of(host.pool(), &keys[1]).await.unwrap(), None, "the lost one is worthless");
    // Hashes of both kinds stand beside each other.
    assert_eq!(owner_of(host.pool(), &keys[0]).await.unwrap(), Some(project));
    assert_eq!(owner_of(host.pool(), &again[0]).await.unwrap(), Some(project));
    assert_eq!(place.number(VALID).await, 2);
    drop(host);
    assert_eq!(place.run(&["--tear-down"]).await.code, Some(0));
    assert_eq!(place.number(VALID).await, 0, "replaced keys go as well");
}
