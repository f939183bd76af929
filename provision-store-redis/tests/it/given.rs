//! The server of the tests, namespaces of their own on it, and clocks that can be moved.

use std::{
    future::Future,
    io::Write as _,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use provision_store_redis::{RedisConfig, RedisStore};
use provision_testkit::conformance::{Fixture, Handle};
use uuid::Uuid;

/// Where the server is.
const URL: &str = "PROVISION_TEST_REDIS_URL";

/// The server's address; `None`, said aloud once, where there is none.
pub(crate) fn url() -> Option<&'static str> {
    static FOUND: OnceLock<Option<String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let found = std::env::var(URL).ok();
        if found.is_none() {
            provision_testkit::skips::refused_in_ci(&format!("{URL} is not set"));
            // Not by a macro, whose words the test runner keeps to itself when a test passes.
            let words = format!("skipped: {URL} is not set; see `cargo xtask services run`\n");
            std::io::stderr().write_all(words.as_bytes()).unwrap();
        }
        found
    });
    found.as_deref()
}

/// A namespace that nobody else uses.
pub(crate) fn namespace() -> String {
    format!("test-{}", Uuid::now_v7())
}

/// The server in a namespace, heard of by polling at a pace for tests.
pub(crate) async fn open(url: &str, namespace: &str) -> RedisStore {
    let config = RedisConfig::new(url).with_namespace(namespace);
    config.with_poll_interval(Duration::from_millis(50)).open().await.unwrap()
}

/// Lets the clock of a namespace pass: as if the server's had been set back by as much before.
pub(crate) async fn pass(client: &redis::Client, namespace: &str, by: Duration) {
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut command = redis::cmd("HINCRBY");
    command.arg(format!("{{{namespace}}}:meta")).arg("skew");
    command.arg(u64::try_from(by.as_millis()).unwrap());
    let _: i64 = command.query_async(&mut connection).await.unwrap();
}

/// The kinds of keys of a namespace; that there are no others is tested.
pub(crate) const KINDS: [&str; 31] = [
    "meta",
    "rows",
    "frames",
    "requests",
    "ready",
    "later",
    "held",
    "guards",
    "letters",
    "ledger",
    "ledger-order",
    "names",
    "ids",
    "watch",
    "secrets",
    "secret-order",
    "fixed",
    "inputs",
    "runs",
    "starts",
    "lanes",
    "children",
    "alive",
    "dead",
    "turns",
    "sights",
    "tombstones",
    "tombstone-ends",
    "tombstone-keys",
    "buckets",
    "capped",
];

/// Everything a namespace holds, as bytes: what a thief of the server's memory would find.
pub(crate) fn stored(client: &redis::Client, namespace: &str) -> Vec<u8> {
    let mut connection = client.get_connection().unwrap();
    let keys = KINDS.map(|kind| format!("{{{namespace}}}:{kind}"));
    let mut found = Vec::new();
    for key in keys {
        let kind: String = redis::cmd("TYPE").arg(&key).query(&mut connection).unwrap();
        let read = match kind.as_str() {
            "hash" => redis::cmd("HGETALL").arg(&key).clone(),
            "zset" => redis::cmd("ZRANGE").arg(&key).arg(0).arg(-1).clone(),
            _ => continue,
        };
        let values: Vec<Vec<u8>> = read.query(&mut connection).unwrap();
        for value in std::iter::once(key.into_bytes()).chain(values) {
            found.extend(value);
            found.push(b'\n');
        }
    }
    found
}

/// A fresh namespace seen by two handles with connections of their own, as if by two processes.
pub(crate) async fn fixture(url: &str, handle: fn(RedisStore) -> Handle) -> Fixture {
    let (here, elsewhere) = (namespace(), namespace());
    let main = open(url, &here).await;
    let again = open(url, &here).await;
    let other = main.in_namespace(elsewhere.as_str()).await.unwrap();
    let handles = [main, again, other].map(handle);
    let client = redis::Client::open(url).unwrap();
    let advance = Arc::new(move |by: Duration| -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (client, here, elsewhere) = (client.clone(), here.clone(), elsewhere.clone());
        Box::pin(async move {
            pass(&client, &here, by).await;
            pass(&client, &elsewhere, by).await;
        })
    });
    Fixture::new(handles, Duration::from_secs(15), advance, ())
}
