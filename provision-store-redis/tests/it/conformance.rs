//! All suites, unchanged, on a real server: plainly, and through the wrapper for faults.

use provision_testkit::conformance::Fixture;

use crate::given;

async fn fixture() -> Option<Fixture> {
    match given::url() {
        Some(url) => Some(given::fixture(url).await),
        None => None,
    }
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
