//! A node of a cluster: everything a script touches lies in the one slot of its namespace.

use std::time::{Duration, Instant};

use provision_store_redis::RedisConfig;

use crate::{everything::everything, server::Server};

const READY_MAX: Duration = Duration::from_secs(60);

// covers: S24
#[tokio::test]
async fn every_operation_stays_in_the_slot_of_its_namespace() {
    let Some(server) = Server::start("cluster-enabled yes") else { return };
    server.ask("CLUSTER ADDSLOTSRANGE 0 16383").unwrap();
    let begun = Instant::now();
    let is_ready = || {
        let answer = server.ask("CLUSTER INFO").unwrap();
        let text: String = redis::from_redis_value(answer).unwrap();
        text.contains("cluster_state:ok")
    };
    while !is_ready() {
        assert!(begun.elapsed() < READY_MAX, "the cluster is not ready");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for namespace in ["acme", "default", "a tenant with spaces"] {
        let config = RedisConfig::new(server.url()).with_namespace(namespace);
        everything(&config.open().await.unwrap()).await;
    }
}

#[tokio::test]
async fn a_slot_that_nobody_serves_is_waited_for() {
    let Some(server) = Server::start("cluster-enabled yes") else { return };
    let error = RedisConfig::new(server.url()).open().await.unwrap_err();
    assert_eq!(error.code(), "redis_cluster_moves");
    assert!(error.is_transient() && error.hint().is_some());
}
