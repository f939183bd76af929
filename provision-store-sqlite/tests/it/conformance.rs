//! All suites, unchanged, on a real file: plainly, and through the wrapper for faults.

provision_testkit::backend_suite!(crate::given::fixture);

mod wrapper {
    provision_testkit::backend_suite!(crate::given::wrapped);
}
