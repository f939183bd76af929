//! What a host writes to test its own saga: a store in memory whose every seventh call fails or
//! is not heard of, providers that lose answers, and a look at what exists in the end.

use std::{future::IntoFuture, sync::Arc};

use client_onboarding::{
    cloud::{Cloud, CloudOptions, Provider},
    input::{Client, Tier},
    saga::{ONBOARD, onboarding},
};
use example_command::stage::Stage;
use provision_adapters::sim::{Fault, FaultRule};
use provision_core::{
    Engine, Error, LedgerQuery, MemoryStore, Outcome, ResourceState, WorkerConfig, vault::LocalKeys,
};
use provision_testkit::faulty::{Faults, Faulty, Odds};

// [quoted: begin]
/// Asks until the store answers.
async fn heard<T, F: Future<Output = Result<T, Error>>>(mut call: impl FnMut() -> F) -> T {
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => assert_eq!(error.code(), "store_unavailable", "{error}"),
        }
    }
}

// covers: R1-52, R1-54
#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_make_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Arc::new(Cloud::start(dir.path(), &CloudOptions::at(0.0)).await.unwrap());
    for provider in [Provider::Supabase, Provider::GitHub, Provider::Vercel, Provider::N8n] {
        // The first call of each kind that makes something is carried out, and nobody hears of it.
        for part in ["/projects", "/generate", "/deployments", "/credentials", "/workflows"] {
            let lost = FaultRule::new(Fault::DropAfter).method("POST").path_contains(part);
            cloud.faults(provider).add(lost.once());
        }
    }
    let saga =
        onboarding(&cloud.addresses().providers().unwrap(), &Stage::simulated(&cloud, 0.0, None));
    // Now and then the store fails, or writes and says it did not.
    let faults = Faults::seeded(7, Odds { before: 70, after: 70 });
    let engine = Engine::builder(Faulty::new(MemoryStore::new(), &faults))
        .register(saga.unwrap())
        .resolver(Cloud::tokens())
        .keys(LocalKeys::new("test", [7; 32]).unwrap())
        .build()
        .await
        .unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());

    let client = Client::new("acme", "Acme", Tier::Professional, "eu-central-1").unwrap();
    // The key makes a start that was not heard of the same start when it is repeated.
    let run = heard(|| engine.start(ONBOARD, &client).key("acme-1").into_future()).await;
    let outcome = heard(|| run.outcome()).await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");

    let inventory = cloud.inventory();
    for (provider, kind) in
        [("supabase", "project"), ("github", "repo"), ("vercel", "project"), ("n8n", "workflow")]
    {
        assert_eq!(inventory.of(provider, kind).count(), 1, "{provider} {kind}: {inventory}");
    }
    assert!(faults.failed() > 0, "the store has been in trouble");
    faults.heal();
    let rows = engine.ledger(&LedgerQuery::default()).await.unwrap();
    let alive = rows.iter().filter(|row| row.state == ResourceState::Alive).count();
    assert_eq!(alive, 10, "one row for each resource: {rows:?}");
    worker.stop().await;
}
// [quoted: end]
