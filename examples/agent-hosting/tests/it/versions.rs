//! Runs that earlier programs have begun.

use std::sync::Arc;

use agent_hosting::{
    cloud::Cloud,
    host::Host,
    input::{MadeBy, Preset, Subscription},
    saga::{HOST, HOST_2, hosting},
    table::{Desired, Row, State, Table},
    web::callbacks,
    workflow::{self, HOST_BY_WORKFLOW, HOST_BY_WORKFLOW_1, Runs},
};
use example_command::stage::Stage;
use provision_core::{
    By, Engine, Saga, SagaId,
    executor::{Executor, HostDriven},
};
use provision_store_sqlite::SqliteStore;

use crate::life::{options, until, working};

#[tokio::test(flavor = "multi_thread")]
async fn the_shapes_of_stored_versions_stay_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Cloud::start(dir.path(), 0.0).await.unwrap();
    let store = SqliteStore::open(dir.path().join("provision.db")).await.unwrap();
    let table = Table::open(&store).await.unwrap();
    let callbacks = callbacks(dir.path()).await.unwrap();
    let providers = cloud.providers("ops@example.com", &callbacks).unwrap();
    let (runs, stage) = (Arc::new(store) as Runs, Stage::served(0.0));
    for (version, shape) in [
        (HOST, "99e168bc944a3a41b3d5e7deea6277f6"),
        (HOST_2, "aea4204f11c0a4ee799d2a6c18564bb2"),
        (HOST_BY_WORKFLOW, "d83495f90a4df3d5148285f8fa37178c"),
        (HOST_BY_WORKFLOW_1, "6ea4bc2334ba121298643b1577fbcdab"),
    ] {
        let saga = match version.name() == HOST.name() {
            true => hosting(version, &providers, &table, &stage),
            false => workflow::hosting(version, &providers, (&table, &runs), &stage),
        };
        assert_eq!(saga.unwrap().saga_ref().fingerprint, shape, "{version:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_of_earlier_versions_are_driven_to_their_end() {
    let (_dir, host, worker) = working().await;
    for (id, version, made_by) in
        [("a", HOST_2, MadeBy::Direct), ("b", HOST_BY_WORKFLOW_1, MadeBy::Workflow)]
    {
        let order = Subscription::new(id, "acme", Preset::Small, "fsn1").unwrap();
        assert!(host.table.pay(&format!("{id}/1"), &order.made_by(made_by)).await.unwrap());
        let row = host.table.get(id).await.unwrap().unwrap();
        let run = host.engine.start(version, &row.subscription).prepare().await.unwrap();
        assert!(host.table.begin(&row, State::Provisioning, run).await.unwrap());
        until(&host, id, |row| row.state == State::Running).await;
        host.table.want(&[id], Desired::Gone).await.unwrap();
        until(&host, id, Row::is_settled).await;
        assert!(host.cloud().inventory().is_empty(), "{}", host.cloud().inventory());
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_nobody_would_drive_are_told_before_anything_is_opened_over_them() {
    const FIRST: SagaId<String, String> = SagaId::new(HOST.name(), 1);
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path().join("provision.db")).await.unwrap();
    let saga =
        Saga::define(FIRST, |s| s.value("made").input((), |order: &String, ()| order.clone()));
    let engine = Engine::builder(store.clone()).register(saga.unwrap()).build().await.unwrap();
    let run = engine.start(FIRST, &"a".to_owned()).await.unwrap();
    HostDriven.drive(&engine, run.id()).await.unwrap();
    let refused = Host::open(&options(dir.path())).await.unwrap_err();
    assert_eq!(refused.code(), "run_of_an_earlier_program");
    assert!(refused.message().contains(&run.id().to_string()), "{}", refused.message());
    let tables = "select count(*) from sqlite_master where name = 'subscriptions'";
    let tables =
        store.query_host(move |conn| conn.query_row(tables, [], |row| row.get::<_, u32>(0)));
    assert_eq!(tables.await.unwrap(), 0, "the host's tables are not there yet");
    // The program that has begun it removes it.
    engine.tear_down(run.id(), By::new("ann", "an upgrade")).await.unwrap();
    HostDriven.drive(&engine, run.id()).await.unwrap();
    Host::open(&options(dir.path())).await.unwrap();
}
