//! Rounds of load leave nothing behind in the process.

use std::io::Read as _;

use provision_store_redis::RedisStore;
use provision_testkit::soak::{self, Subject};

use crate::{
    given::{namespace, open, url},
    processes::child,
};

/// Set in children; its value is the namespace.
const CHILD: &str = "PROVISION_REDIS_TEST_SOAK";

struct OnServer(String);

impl Subject for OnServer {
    type Store = RedisStore;

    async fn open(&self) -> RedisStore {
        open(url().unwrap(), &self.0).await
    }
}

// Only does something in a child, which has a process of its own: says what has grown.
#[tokio::test]
async fn child_is_soaked() {
    let Ok(namespace) = std::env::var(CHILD) else { return };
    let grown = soak::soak(&mut OnServer(namespace)).await;
    println!("\ngrown: {grown:?}");
}

// covers: L8
#[test]
fn rounds_of_load_leave_no_memory_tasks_threads_or_files() {
    if url().is_none() || !soak::is_told() {
        return;
    }
    let mut process = child("soak::child_is_soaked", CHILD, &namespace());
    let mut said = String::new();
    process.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(process.wait().unwrap().success(), "{said}");
    assert!(said.lines().any(|line| line == "grown: []"), "{said}");
}
