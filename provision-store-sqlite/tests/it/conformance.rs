//! All suites, unchanged, on a real file.

use crate::given::fixture;

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
