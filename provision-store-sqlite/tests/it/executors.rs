//! The executor suite on a real file, in real time.
// covers: L1, S8, S13, S16, S17, R4-24

use provision_core::{
    Engine,
    executor::{HostDriven, InProcess},
};
use provision_store_sqlite::SqliteStore;
use provision_testkit::executors::Setting;

async fn on_disk() -> Option<Setting> {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path().join("provision.db")).await.unwrap();
    Some(Setting::in_real_time(move || Engine::builder(store.clone()), directory))
}

provision_testkit::executor_suite!(in_process, InProcess::default(), on_disk);
provision_testkit::executor_suite!(host_driven, HostDriven, on_disk);
