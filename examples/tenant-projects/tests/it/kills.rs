//! Twenty projects at once, and SIGKILLs in the middle of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use provision_adapters::tools::postgres::{PostgresDatabase, PostgresRole};
use provision_core::{LedgerQuery, Resource as _, ResourceState};
use tenant_projects::{cloud::Cloud, host::Host, keys::owner_of};

use crate::place::{Place, WITHIN};

const PROJECTS: usize = 20;
/// Steps of all runs together that are done when somebody kills: from and to.
/// A run that outlives three deaths of its workers without going on would be parked.
const KILLS: [(i64, i64); 2] = [(25, 80), (110, 170)];
/// Where the kills fall within them.
const SEED: u64 = 20;
const DONE: &str = "SELECT coalesce(sum(done), 0)::bigint FROM provision.runs_view";

/// What exists of one kind of bookkeeping, as kind, id and name.
type Things = BTreeSet<(String, String, String)>;

async fn rows(place: &Place, sql: &'static str) -> Things {
    place.triples(sql).await.into_iter().collect()
}

/// What the ledger has as alive, and what servers and services have.
async fn things(place: &Place, host: &Host) -> (Things, Things) {
    let alive = LedgerQuery { states: vec![ResourceState::Alive], ..LedgerQuery::default() };
    let ledger = host.engine.ledger(&alive).await.unwrap().into_iter().map(|row| {
        let id = row.external_id.unwrap().to_string();
        (format!("{}.{}", row.provider, row.kind), id, row.name.unwrap())
    });
    let cx = host.engine.outside(None).await.unwrap();
    let mut there = Things::new();
    let databases = PostgresDatabase::new(&host.server).list_owned(&cx).await.unwrap();
    let roles = PostgresRole::new(&host.server).list_owned(&cx).await.unwrap();
    for (kind, owned) in [("postgres.database", databases), ("postgres.role", roles)] {
        let owned = owned
            .complete()
            .unwrap()
            .into_iter()
            .map(|one| (one.id.to_string(), one.name.unwrap()));
        let ours = owned.filter(|(_, name)| name.contains(&place.slug));
        there.extend(ours.map(|(id, name)| (kind.to_owned(), id, name)));
    }
    for sim in [&host.cloud.auth, &host.cloud.realtime, &host.cloud.storage] {
        let items = sim.inventory().into_iter();
        there.extend(
            items.map(|item| (format!("{}.{}", item.provider, item.kind), item.id, item.name)),
        );
    }
    (ledger.collect(), there)
}

/// Ledger, servers and the host's own tables say the same of everything.
async fn agree(place: &Place, host: &Host) {
    let (ledger, there) = things(place, host).await;
    assert_eq!(ledger, there);
    assert_eq!(there.len(), 6 * PROJECTS);
    let registered = rows(
        place,
        "SELECT s.service || '.registration', s.registration, p.slug
            FROM tenants.project_services s JOIN tenants.projects p ON p.id = s.project
            WHERE p.state = 'active'",
    )
    .await;
    let services: Things =
        there.iter().filter(|thing| thing.0.ends_with(".registration")).cloned().collect();
    assert_eq!(registered, services);
    let named = rows(
        place,
        "SELECT CASE kind WHEN 'database' THEN 'postgres.database' ELSE 'postgres.role' END, '',
            name FROM tenants.project_resources",
    )
    .await;
    let on_server = there.iter().filter(|thing| thing.0.starts_with("postgres."));
    let on_server: Things =
        on_server.map(|(kind, _, name)| (kind.clone(), String::new(), name.clone())).collect();
    assert_eq!(named, on_server);
}

/// Types the fleet, and kills it once so many steps are done.
async fn kill_at(place: &Place, arguments: &[&str], steps: i64) {
    let mut child = place.spawn(arguments);
    let began = Instant::now();
    // The first command makes the tables.
    while !place.has_runs().await || place.number(DONE).await < steps {
        assert!(began.elapsed() < WITHIN, "it never gets there");
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
}

async fn runs(place: &Place) -> BTreeMap<String, String> {
    let sql = "SELECT p.slug, v.run::text, v.status FROM provision.runs_view v
        JOIN tenants.projects p ON p.run = v.run";
    place.triples(sql).await.into_iter().map(|(slug, run, _)| (slug, run)).collect()
}

// covers: S1, S9, S15, R4-01, R4-11, R4-33
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_projects_survive_kills_and_everything_agrees() {
    let Some(place) = Place::new().await else { return };
    let arguments = ["--fleet", "20", "--key-hash", "argon2id"];
    let mut drawn = SEED;
    let (mut known, mut mixtures) = (BTreeMap::new(), 0);
    for (from, to) in KILLS {
        // A step of a generator that is good enough for where to kill.
        drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let steps = from + i64::try_from(drawn >> 33).unwrap() % (to - from);
        kill_at(&place, &arguments, steps).await;
        let found = runs(&place).await;
        for (slug, run) in &known {
            assert_eq!(found.get(slug), Some(run), "seed {SEED}: {slug} has another run");
        }
        known = found;
        let progress = "SELECT count(DISTINCT (done, waiting, status)) FROM provision.runs_view";
        mixtures += i32::from(place.number(progress).await > 1);
    }
    assert!(mixtures > 0, "seed {SEED}: all runs were at the same point at every kill");
    let active = "SELECT count(*) FROM tenants.projects WHERE state = 'active'";
    assert!(place.number(active).await < 20, "seed {SEED}: the kills came in the middle");

    let ran = place.run(&arguments).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let told = ran.json();
    let ids: BTreeSet<&str> =
        told["runs"].as_array().unwrap().iter().map(|run| run["run"].as_str().unwrap()).collect();
    let all = runs(&place).await;
    assert!(known.iter().all(|(slug, run)| all.get(slug) == Some(run)), "{known:?} {all:?}");
    assert_eq!(ids, all.values().map(String::as_str).collect(), "one run for each project");
    for (table, rows) in [
        (active, 20),
        ("SELECT count(*) FROM tenants.projects", 20),
        ("SELECT count(*) FROM tenants.api_keys WHERE revoked_at IS NULL", 40),
        ("SELECT count(*) FROM provision.runs", 20),
    ] {
        assert_eq!(place.number(table).await, rows, "{table}");
    }
    let host = place.host().await;
    agree(&place, &host).await;
    let mut owners = BTreeSet::new();
    let shown = ran.shown();
    for key in shown.iter().filter(|key| key["purpose"] == "secret") {
        let key = key["key"].as_str().unwrap();
        owners.insert(owner_of(host.pool(), key).await.unwrap().expect("a valid key"));
    }
    assert_eq!((shown.len(), owners.len()), (2 * PROJECTS, PROJECTS), "each opens its own");
    drop(host);

    let gone = place.run(&["--fleet", "20", "--tear-down"]).await;
    assert_eq!(gone.code, Some(0), "{gone:?}");
    let valid = "SELECT count(*) FROM tenants.api_keys WHERE revoked_at IS NULL";
    assert_eq!(place.number(valid).await, 0);
    let host = place.host().await;
    assert_eq!(things(&place, &host).await, (Things::new(), Things::new()));
    assert!(Cloud::stored(place.path()).unwrap().is_empty());
    assert!(place.catalog().await.is_empty(), "{:?}", place.catalog().await);
}
