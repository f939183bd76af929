//! Fault wrappers: transparent without a plan, and a plan does what it says.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use provision_core::memory::MemoryStore;
use provision_testkit::{
    conformance::{Fixture, Handle},
    faulty::Faulty,
};
use tokio::runtime::{Handle as Runtime, RuntimeFlavor};

async fn behind() -> Fixture {
    if Runtime::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        tokio::time::pause();
    }
    let store = MemoryStore::new();
    let handle = |store: &MemoryStore| Handle::of(Arc::new(Faulty::transparent(store.clone())));
    let handles = [handle(&store), handle(&store), handle(&store.in_namespace("elsewhere"))];
    let advance = Arc::new(|by: Duration| -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::advance(by))
    });
    Fixture::new(handles, Duration::from_secs(15), advance, ())
}

mod store {
    use super::behind;
    provision_testkit::store_suite!(behind);
}

mod queue {
    use super::behind;
    provision_testkit::queue_suite!(behind);
}

mod limiter {
    use super::behind;
    provision_testkit::limiter_suite!(behind);
}

mod secrets {
    use super::behind;
    provision_testkit::secrets_suite!(behind);
}
