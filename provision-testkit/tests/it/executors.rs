//! The executor suite on the executors that ship with the engine.
// covers: L1, S8, S13, S16, S17, R4-24

use provision_core::executor::{HostDriven, InProcess};

provision_testkit::executor_suite!(in_process, InProcess::default());
provision_testkit::executor_suite!(host_driven, HostDriven);
