//! The crash matrix on a real server: engine and store are dropped at every point and opened anew.

use std::time::Duration;

use provision_store_redis::{RedisConfig, RedisStore};
use provision_testkit::harness::{Harness, Place, Report, TenSteps};

use crate::{
    given::{namespace, pass, stored},
    server::Server,
};

/// Crashes are shared by so many tests, which run side by side.
const PARTS: usize = 2;

/// A namespace of the server: fresh for each scenario, and opened anew after each crash.
#[derive(Debug)]
pub(crate) struct OnServer {
    client: redis::Client,
    url: String,
    namespace: String,
}

impl OnServer {
    pub(crate) fn new(url: &str, namespace: String) -> Self {
        let client = redis::Client::open(url).unwrap();
        Self { client, url: url.to_owned(), namespace }
    }
}

impl Place for OnServer {
    type Store = RedisStore;

    // Heard of by polling alone (L7).
    async fn open(&self) -> RedisStore {
        let config = RedisConfig::new(&self.url).with_namespace(&self.namespace);
        config.with_polling_only().open().await.unwrap()
    }

    async fn pass(&self, by: Duration) {
        pass(&self.client, &self.namespace, by).await;
    }

    /// X1: every key of the namespace, as the server holds it.
    fn bytes(&self) -> Vec<u8> {
        stored(&self.client, &self.namespace)
    }
}

async fn part(number: usize) -> Option<Report> {
    // A server that no other test slows down: what is written together depends on its pace.
    let server = Server::start("")?;
    let url = server.url();
    let place = || std::future::ready(OnServer::new(&url, namespace()));
    let report = Harness::new(TenSteps::default(), place).part(number, PARTS).run().await;
    println!("crash matrix on Redis, part {number} of {PARTS}: {report}");
    report.assert_flawless();
    assert!(report.scenarios >= 380, "only {} scenarios", report.scenarios);
    Some(report)
}

// covers: S1, S4, S5, S7, S8, S9, S12, S13, S14, S15, L1, X1, R1-09
#[tokio::test]
async fn ten_steps_survive_every_even_crash() {
    part(0).await;
}

// covers: S1, S4, S5, S7, S8, S9, S12, S13, S14, S15, L1, X1
#[tokio::test]
async fn ten_steps_survive_every_odd_crash() {
    part(1).await;
}
