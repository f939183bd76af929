//! All suites, unchanged: with a few connections, with one and polling alone, and as behind a
//! pooler in transaction mode. That the wrapper of faults changes nothing is shown over memory.

mod plain {
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
}

mod one_connection {
    use crate::given::pool_of_one;

    mod store {
        use super::pool_of_one;
        provision_testkit::store_suite!(pool_of_one);
    }

    mod queue {
        use super::pool_of_one;
        provision_testkit::queue_suite!(pool_of_one);
    }

    mod limiter {
        use super::pool_of_one;
        provision_testkit::limiter_suite!(pool_of_one);
    }

    mod secrets {
        use super::pool_of_one;
        provision_testkit::secrets_suite!(pool_of_one);
    }
}

mod pooler {
    use crate::given::behind_a_pooler;

    mod store {
        use super::behind_a_pooler;
        provision_testkit::store_suite!(behind_a_pooler);
    }

    mod queue {
        use super::behind_a_pooler;
        provision_testkit::queue_suite!(behind_a_pooler);
    }
}
