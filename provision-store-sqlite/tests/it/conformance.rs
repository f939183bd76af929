//! All suites, unchanged, on a real file: plainly, and through the wrapper for faults.

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

mod wrapper {
    use crate::given::wrapped;

    mod store {
        use super::wrapped;
        provision_testkit::store_suite!(wrapped);
    }

    mod queue {
        use super::wrapped;
        provision_testkit::queue_suite!(wrapped);
    }

    mod limiter {
        use super::wrapped;
        provision_testkit::limiter_suite!(wrapped);
    }

    mod secrets {
        use super::wrapped;
        provision_testkit::secrets_suite!(wrapped);
    }
}
