//! Runs that start by the clock, and runs over many inputs.
// covers: R2-64, R1-84

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use provision_core::{
    Engine, MemoryStore, NothingToUndo, RunStatus, Saga, SagaId, Step, StepContext, StepError,
    WorkerConfig, engine::Fleet, schedule::Schedule, store::RunFilter,
};

const DAILY: SagaId<u64, u64> = SagaId::new("daily", 1);

/// Remembers what it was called with, and refuses what it is told to.
#[derive(Debug, Clone, Default)]
struct Update {
    called: Arc<Mutex<Vec<u64>>>,
    refused: Arc<Mutex<BTreeSet<u64>>>,
}

impl Step for Update {
    const KIND: &'static str = "test.update";
    type Input = u64;
    type Output = u64;

    async fn run(&self, _: &StepContext, n: u64) -> Result<u64, StepError> {
        self.called.lock().unwrap().push(n);
        if self.refused.lock().unwrap().contains(&n) {
            return Err(StepError::permanent("update"));
        }
        Ok(n)
    }
}

fn saga(update: &Update) -> Saga<u64, u64> {
    Saga::define(DAILY, |s| s.step("update", update.clone(), NothingToUndo).input((), |n, ()| *n))
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_schedule_fires_once_with_several_workers() {
    let update = Update::default();
    let every = Schedule::every("sweep", Duration::from_secs(3600)).unwrap();
    let engine = Engine::builder(MemoryStore::new())
        .register(saga(&update))
        .schedule(every, DAILY, |at| at.as_millis())
        .build()
        .await
        .unwrap();
    let workers = [
        engine.spawn_worker(WorkerConfig::default()),
        engine.spawn_worker(WorkerConfig::default()),
        engine.spawn_worker(WorkerConfig::default()),
    ];
    provision_core::clock::sleep(Duration::from_secs(5 * 3600)).await;
    for worker in workers {
        worker.stop().await;
    }
    let runs = engine.runs(&RunFilter::default()).await.unwrap().runs;
    assert!(runs.iter().all(|run| run.status == RunStatus::Succeeded));
    let called = update.called.lock().unwrap().clone();
    let distinct: BTreeSet<u64> = called.iter().copied().collect();
    assert_eq!(called.len(), distinct.len(), "a firing ran twice");
    assert!((5..=6).contains(&called.len()), "{called:?}");
}

#[tokio::test(start_paused = true)]
async fn a_repeated_fleet_touches_only_what_failed() {
    let update = Update::default();
    update.refused.lock().unwrap().extend([3, 50, 77]);
    let engine = Engine::builder(MemoryStore::new()).register(saga(&update)).build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let items: Vec<(String, u64)> = (0..100).map(|n| (format!("repo-{n}"), n)).collect();
    let fleet = Fleet::new("template-7").with_at_once(8);
    let report = engine.fleet(&fleet, DAILY, items.clone()).await.unwrap();
    assert_eq!(report.failed().count(), 3);
    update.refused.lock().unwrap().clear();
    update.called.lock().unwrap().clear();
    let report = engine.fleet(&fleet, DAILY, items).await.unwrap();
    assert_eq!(report.failed().count(), 0);
    let mut called = update.called.lock().unwrap().clone();
    called.sort_unstable();
    assert_eq!(called, [3, 50, 77]);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_fleet_stops_when_too_many_fail() {
    let update = Update::default();
    update.refused.lock().unwrap().extend(0..100);
    let engine = Engine::builder(MemoryStore::new()).register(saga(&update)).build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let items: Vec<(String, u64)> = (0..100).map(|n| (format!("repo-{n}"), n)).collect();
    let fleet = Fleet::new("template-8").with_at_once(4).with_failures_max(5);
    let report = engine.fleet(&fleet, DAILY, items).await.unwrap();
    assert!((5..=9).contains(&report.failed().count()), "{}", report.failed().count());
    assert!(report.not_started.len() >= 90);
    worker.stop().await;
}
