//! All suites, unchanged: with a few connections, with one and polling alone, through `PgBouncer` in
//! transaction mode, as a role with few rights under forced row-level security, and through the
//! wrapper for faults.
// covers: R3-38

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

mod pgbouncer {
    use crate::given::through_pgbouncer;

    mod store {
        use super::through_pgbouncer;
        provision_testkit::store_suite!(through_pgbouncer);
    }

    mod queue {
        use super::through_pgbouncer;
        provision_testkit::queue_suite!(through_pgbouncer);
    }

    mod limiter {
        use super::through_pgbouncer;
        provision_testkit::limiter_suite!(through_pgbouncer);
    }

    mod secrets {
        use super::through_pgbouncer;
        provision_testkit::secrets_suite!(through_pgbouncer);
    }
}

mod few_rights {
    use crate::given::least_privilege;

    mod store {
        use super::least_privilege;
        provision_testkit::store_suite!(least_privilege);
    }

    mod queue {
        use super::least_privilege;
        provision_testkit::queue_suite!(least_privilege);
    }

    mod limiter {
        use super::least_privilege;
        provision_testkit::limiter_suite!(least_privilege);
    }

    mod secrets {
        use super::least_privilege;
        provision_testkit::secrets_suite!(least_privilege);
    }
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
