//! What runs cost a store while they wait.

use std::time::Duration;

use provision_core::{
    Engine, RunStatus, Saga, SagaId, WorkerConfig, clock::sleep, engine::Backend, store::RunFilter,
};

const WAITS: SagaId<Duration, ()> = SagaId::new("waits", 1);
/// Runs that wait.
const RUNS: usize = 300;
/// How long is counted, without them and with them.
const WATCHED: Duration = Duration::from_secs(3);
/// How long they may take until they wait.
const LONG: Duration = Duration::from_secs(180);

/// L1: a worker asks no more of the store beside 300 runs that wait for an hour than beside none.
/// `calls` is how often the store has asked its server since it was opened. Answers both counts.
///
/// # Panics
/// It asks more, or the runs do not come to wait within three minutes.
pub async fn waiting_runs_cost_nothing(
    store: impl Backend,
    calls: impl Fn() -> u64 + Send + Sync,
) -> (u64, u64) {
    let saga = Saga::define(WAITS, |s| s.sleep("wait").input((), |hour: &Duration, ()| *hour));
    let engine = Engine::builder(store).register(saga.unwrap()).build().await.unwrap();
    let config = WorkerConfig::default().with_poll(Duration::from_millis(100));
    let worker = engine.spawn_worker(config);
    let counted = async || {
        // What was begun before comes to its end.
        sleep(Duration::from_secs(1)).await;
        let before = calls();
        sleep(WATCHED).await;
        calls() - before
    };
    // What a busy machine does not get round to is not asked: the most of two counts.
    let without = counted().await.max(counted().await);
    for _ in 0..RUNS {
        engine.start(WAITS, &Duration::from_secs(3_600)).await.unwrap();
    }
    let waiting =
        RunFilter { status: vec![RunStatus::Waiting], limit: RUNS, ..RunFilter::default() };
    let mut left = LONG.as_secs();
    while engine.runs(&waiting).await.unwrap().runs.len() < RUNS {
        assert!(left > 0, "not all of them wait");
        left -= 1;
        sleep(Duration::from_secs(1)).await;
    }
    let allowed = without + without / 2 + 10;
    let with = least(counted, allowed).await;
    worker.stop().await;
    assert!(with <= allowed, "{without} calls without, {with} with {RUNS} runs");
    (without, with)
}

/// Counts again, a few times, while it is more than allowed: what was held up may come all at once.
async fn least(counted: impl AsyncFn() -> u64, allowed: u64) -> u64 {
    let mut count = counted().await;
    for _ in 0..4 {
        if count <= allowed {
            break;
        }
        count = counted().await;
    }
    count
}
