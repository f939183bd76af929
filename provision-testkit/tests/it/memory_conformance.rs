//! All suites on the memory store, and a look at the suites themselves.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use provision_core::memory::MemoryStore;
use provision_testkit::conformance::{Fixture, Handle};
use tokio::runtime::{Handle as Runtime, RuntimeFlavor};

async fn memory() -> Fixture {
    // Cases of one thread run on a paused clock; those of several run on the real one, where no
    // case lets a lease expire.
    if Runtime::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        tokio::time::pause();
    }
    let store = MemoryStore::new();
    let handles = [
        Handle::of(Arc::new(store.clone())),
        Handle::of(Arc::new(store.clone())),
        Handle::of(Arc::new(store.in_namespace("elsewhere"))),
    ];
    let advance = Arc::new(|by: Duration| -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::advance(by))
    });
    Fixture::new(handles, Duration::from_secs(15), advance, ())
}

mod store {
    use super::memory;
    provision_testkit::store_suite!(memory);
}

mod queue {
    use super::memory;
    provision_testkit::queue_suite!(memory);
}

mod limiter {
    use super::memory;
    provision_testkit::limiter_suite!(memory);
}

mod secrets {
    use super::memory;
    provision_testkit::secrets_suite!(memory);
}

/// A case that no suite names would never run anywhere.
#[test]
fn every_case_is_named_by_a_suite() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let suite = std::fs::read_to_string(format!("{root}/suite.rs")).unwrap();
    let mut cases = 0;
    for file in std::fs::read_dir(format!("{root}/conformance")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for line in text.lines().filter(|line| line.ends_with("(f: Fixture) {")) {
            let Some(name) = line.strip_prefix("pub async fn ") else { continue };
            let name = name.split('(').next().unwrap();
            assert!(suite.contains(name), "no suite names {name}");
            cases += 1;
        }
    }
    assert!(cases >= 130, "only {cases} cases were found");
}
