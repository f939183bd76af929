//! Twenty projects at once, and a SIGKILL in the middle of them.

use std::{collections::BTreeSet, time::Duration};

use provision_core::{LedgerQuery, ResourceState};
use tenant_projects::keys::owner_of;

use crate::place::{Place, keys_of};

const PROJECTS: usize = 20;

// covers: S1, S8, S9, S15, L2, R4-01, R4-11, R4-33
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_projects_survive_a_kill_and_everything_agrees() {
    let Some(place) = Place::new().await else { return };
    let arguments = ["--fleet", "20", "--key-hash", "argon2id"];
    let mut child = place.spawn(&arguments);
    // In the middle: some databases are there, and not all of the projects are complete.
    let began = std::time::Instant::now();
    while place.catalog().await.len() < PROJECTS {
        assert!(began.elapsed() < crate::place::WITHIN, "it never gets there");
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    let active = "SELECT count(*) FROM tenants.projects WHERE state = 'active'";
    assert!(place.number(active).await < 20, "the kill came in the middle");

    let ran = place.run(&arguments).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let told = ran.json();
    let runs = told["runs"].as_array().unwrap();
    assert_eq!(runs.len(), PROJECTS);
    assert_eq!(place.catalog().await.len(), 3 * PROJECTS, "{:?}", place.catalog().await);
    for (table, rows) in [
        (active, 20),
        ("SELECT count(*) FROM tenants.projects", 20),
        ("SELECT count(*) FROM tenants.project_services", 60),
        ("SELECT count(*) FROM tenants.project_resources", 60),
        ("SELECT count(*) FROM tenants.api_keys WHERE revoked_at IS NULL", 40),
        ("SELECT count(*) FROM provision.runs WHERE true", 20),
    ] {
        assert_eq!(place.number(table).await, rows, "{table}");
    }
    let host = place.host().await;
    for sim in [&host.cloud.auth, &host.cloud.realtime, &host.cloud.storage] {
        assert_eq!(sim.inventory().len(), PROJECTS, "each is registered once");
    }
    let alive = LedgerQuery { states: vec![ResourceState::Alive], ..LedgerQuery::default() };
    assert_eq!(host.engine.ledger(&alive).await.unwrap().len(), 6 * PROJECTS, "so says the ledger");
    let mut owners = BTreeSet::new();
    for run in runs {
        let keys = keys_of(run);
        assert_eq!(keys.len(), 2, "{run}");
        owners.insert(owner_of(host.pool(), &keys[1]).await.unwrap().expect("a valid key"));
    }
    assert_eq!(owners.len(), PROJECTS, "each key opens its own project");
    drop(host);

    let gone = place.run(&["--fleet", "20", "--tear-down"]).await;
    assert_eq!(gone.code, Some(0), "{gone:?}");
    assert!(place.catalog().await.is_empty(), "{:?}", place.catalog().await);
    let valid = "SELECT count(*) FROM tenants.api_keys WHERE revoked_at IS NULL";
    assert_eq!(place.number(valid).await, 0);
    let host = place.host().await;
    assert_eq!(host.engine.ledger(&alive).await.unwrap().len(), 0);
    for sim in [&host.cloud.auth, &host.cloud.realtime, &host.cloud.storage] {
        assert!(sim.inventory().is_empty());
    }
}
