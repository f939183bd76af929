//! All suites, unchanged: with a few connections, with one and polling alone, through `PgBouncer` in
//! transaction mode, as a role with few rights under forced row-level security, and through the
//! wrapper for faults.
// covers: R3-38

mod plain {
    provision_testkit::backend_suite!(crate::given::fixture);
}

mod one_connection {
    provision_testkit::backend_suite!(crate::given::pool_of_one);
}

mod pgbouncer {
    provision_testkit::backend_suite!(crate::given::through_pgbouncer);
}

mod few_rights {
    provision_testkit::backend_suite!(crate::given::least_privilege);
}

mod wrapper {
    provision_testkit::backend_suite!(crate::given::wrapped);
}
