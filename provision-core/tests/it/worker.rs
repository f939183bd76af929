//! Workers: when they look for runs.

use std::time::Duration;

use provision_core::{Engine, MemoryStore, Saga, SagaId, WorkerConfig, clock};

const NAME: SagaId<String, String> = SagaId::new("name", 1);

async fn engine(store: &MemoryStore) -> Engine {
    let saga = Saga::define(NAME, |s| s.value("name").input((), |c, ()| c.clone())).unwrap();
    Engine::builder(store.clone()).register(saga).build().await.unwrap()
}

// covers: L2
#[tokio::test(start_paused = true)]
async fn a_worker_that_found_nothing_hears_of_the_next_run_before_its_next_poll() {
    let store = MemoryStore::new();
    let poll = Duration::from_secs(60);
    let worker = engine(&store).await.spawn_worker(WorkerConfig::default().with_poll(poll));
    // Its first look is over, and so is the wait that followed it.
    for idle in [Duration::from_secs(1), poll.mul_f64(1.5)] {
        clock::sleep(idle).await;
        // Another engine over the same store: it has no worker of its own to hand the run to.
        let host = engine(&store).await;
        let run = host.start(NAME, &"x".into()).await.unwrap();
        let output = clock::within(Duration::from_secs(5), run.output()).await;
        assert_eq!(output.expect("long before the next poll").unwrap(), "x", "{idle:?}");
    }
    worker.stop().await;
}
