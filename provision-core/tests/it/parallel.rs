//! Side by side: how long many steps and many runs take together.

use std::time::Duration;

use provision_core::{
    Engine, MemoryStore, NothingToUndo, RunStatus, Saga, SagaId, Step, StepContext, StepError,
    WorkerConfig, clock::sleep, store::RunFilter,
};
use tokio::time::Instant;

use crate::cloud::{Cloud, Do, UndoIt};

/// Takes so many seconds.
#[derive(Debug, Clone)]
struct Take(u64);

impl Step for Take {
    const KIND: &'static str = "test.take";
    type Input = u64;
    type Output = u64;

    async fn run(&self, _: &StepContext, so_far: u64) -> Result<u64, StepError> {
        sleep(Duration::from_secs(self.0)).await;
        Ok(so_far + self.0)
    }
}

// covers: R2-29
#[tokio::test(start_paused = true)]
async fn independent_steps_take_as_long_as_the_longest_path() {
    const WIDE: SagaId<u64, u64> = SagaId::new("wide", 1);
    let saga = Saga::define(WIDE, |s| {
        let short = s.step("short", Take(60), NothingToUndo).input((), |_, ()| 0);
        let long = s.step("long", Take(90), NothingToUndo).input((), |_, ()| 0);
        let next = s.step("next", Take(100), NothingToUndo).input(short, |_, n| n);
        s.value("longest").input((next, long), |_, (next, long)| next.max(long))
    });
    let saga = saga.unwrap();
    let engine = Engine::builder(MemoryStore::new()).register(saga).build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let began = Instant::now();
    let run = engine.start(WIDE, &0).await.unwrap();
    assert_eq!(run.output().await.unwrap(), 160);
    let took = began.elapsed();
    assert!((160..162).contains(&took.as_secs()), "{took:?}, and not the sum of 250 s");
    worker.stop().await;
}

// covers: R1-81, R5-70
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_runs_of_six_steps_take_seconds_and_none_is_stuck() {
    const SIX: SagaId<u32, String> = SagaId::new("six", 1);
    const RUNS: u32 = 300;
    let cloud = Cloud::default();
    let saga = Saga::define(SIX, |s| {
        let first = s.step("s0", Do(cloud.clone()), UndoIt(cloud.clone()));
        let mut last = first.input((), |n, ()| n.to_string());
        for n in 1..6 {
            let step = s.step(format!("s{n}"), Do(cloud.clone()), UndoIt(cloud.clone()));
            last = step.input(last, |_, last| last);
        }
        last
    });
    let saga = saga.unwrap();
    let engine = Engine::builder(MemoryStore::new()).register(saga).build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let began = Instant::now();
    let mut runs = Vec::new();
    for n in 0..RUNS {
        runs.push(engine.start(SIX, &n).await.unwrap());
    }
    for run in &runs {
        run.output().await.unwrap();
    }
    let took = began.elapsed();
    let each = took / (RUNS * 6);
    assert!(took < Duration::from_secs(60), "{took:?}");
    assert!(each < Duration::from_millis(20), "{each:?} for each step");
    assert_eq!(cloud.log().len(), 6 * 300);
    let all = RunFilter { limit: 1_000, ..RunFilter::default() };
    let rows = engine.runs(&all).await.unwrap().runs;
    assert!(rows.iter().all(|row| row.status == RunStatus::Succeeded && row.deaths == 0));
    assert_eq!(engine.queue_stats().await.unwrap().leased, 0, "nothing is left under a lease");
    worker.stop().await;
}
