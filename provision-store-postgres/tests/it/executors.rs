//! The executor suite on a real server, in real time.
// covers: L1, S8, S13, S16, S17, R4-24

use provision_core::{
    Engine,
    executor::{HostDriven, InProcess},
};
use provision_testkit::executors::Setting;

use crate::given::Schema;

async fn on_server() -> Option<Setting> {
    let schema = Schema::new()?;
    let store = schema.open().await;
    Some(Setting::in_real_time(move || Engine::builder(store.clone()), schema))
}

provision_testkit::executor_suite!(in_process, InProcess::default(), on_server);
provision_testkit::executor_suite!(host_driven, HostDriven, on_server);
