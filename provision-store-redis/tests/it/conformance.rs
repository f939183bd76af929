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

mod store {
    use super::fixture;
    provision_testkit::store_suite!(fixture);
}

mod queue {
    use super::fixture;
    provision_testkit::queue_suite!(fixture);
}

mod limiter {
    use super::fixture;
    provision_testkit::limiter_suite!(fixture);
}

mod secrets {
    use super::fixture;
    provision_testkit::secrets_suite!(fixture);
}

mod wrapper {
    use super::behind;

    mod store {
        use super::behind;
        provision_testkit::store_suite!(behind);
    }

    mod queue {
        use super::behind;
        provision_testkit::queue_suite!(behind);
    }

    mod limiter {
        use super::behind;
        provision_testkit::limiter_suite!(behind);
    }

    mod secrets {
        use super::behind;
        provision_testkit::secrets_suite!(behind);
    }
}
