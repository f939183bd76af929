//! What a host writes to test its own saga: a store in memory, providers that lose answers, and a
//! look at what exists in the end.

use std::sync::Arc;

use client_onboarding::{
    cloud::{Cloud, Provider},
    input::{Client, Tier},
    saga::{ONBOARD, onboarding},
    stage::Stage,
};
use provision_adapters::sim::{Fault, FaultRule};
use provision_core::{
    Engine, LedgerQuery, MemoryStore, Outcome, ResourceState, WorkerConfig, vault::LocalKeys,
};

// [quoted in the README: begin]
// covers: R1-52, R1-54
#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_make_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Arc::new(Cloud::start(dir.path(), 0.0).await.unwrap());
    for provider in [Provider::Supabase, Provider::GitHub, Provider::Vercel, Provider::N8n] {
        // The first call of each kind that makes something is carried out, and nobody hears of it.
        for part in ["/projects", "/generate", "/deployments", "/credentials", "/workflows"] {
            let lost = FaultRule::new(Fault::DropAfter).method("POST").path_contains(part);
            cloud.faults(provider).add(lost.once());
        }
    }
    let saga = onboarding(&cloud.providers().unwrap(), &Stage::simulated(&cloud, 0.0, None));
    let engine = Engine::builder(MemoryStore::new())
        .register(saga.unwrap())
        .resolver(Cloud::tokens())
        .keys(LocalKeys::new("test", [7; 32]).unwrap())
        .build()
        .await
        .unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());

    let client = Client::new("acme", "Acme", Tier::Professional, "eu-central-1").unwrap();
    let run = engine.start(ONBOARD, &client).await.unwrap();
    let outcome = run.outcome().await.unwrap();
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");

    let inventory = cloud.inventory();
    for (provider, kind) in
        [("supabase", "project"), ("github", "repo"), ("vercel", "project"), ("n8n", "workflow")]
    {
        assert_eq!(inventory.of(provider, kind).count(), 1, "{provider} {kind}: {inventory}");
    }
    let rows = engine.ledger(&LedgerQuery::default()).await.unwrap();
    let alive = rows.iter().filter(|row| row.state == ResourceState::Alive).count();
    assert_eq!(alive, 10, "one row for each resource: {rows:?}");
    worker.stop().await;
}
// [quoted in the README: end]

#[test]
fn the_readme_quotes_this_test_as_it_is() {
    let own = include_str!("host.rs");
    let (_, rest) = own.split_once("// [quoted in the README: begin]\n").unwrap();
    let (quoted, _) = rest.split_once("// [quoted in the README: end]\n").unwrap();
    assert!(include_str!("../../README.md").contains(quoted));
}
