//! All suites, unchanged, on a real server: plainly, and through the wrapper for faults.

use std::sync::Arc;

use provision_store_redis::RedisStore;
use provision_testkit::{
    conformance::{Fixture, Handle},
    faulty::Faulty,
};

use crate::given;

async fn fixture() -> Option<Fixture> {
    match given::url() {
        Some(url) => Some(given::fixture(url, plain).await),
        None => None,
    }
}

fn plain(store: RedisStore) -> Handle {
    Handle::of(Arc::new(store))
}

/// The same through the wrapper for faults, with none planned.
async fn behind() -> Option<Fixture> {
    match given::url() {
        Some(url) => Some(given::fixture(url, wrapped).await),
        None => None,
    }
}

fn wrapped(store: RedisStore) -> Handle {
    Handle::of(Arc::new(Faulty::transparent(store)))
}

provision_testkit::backend_suite!(crate::conformance::fixture);

mod wrapper {
    provision_testkit::backend_suite!(crate::conformance::behind);
}
