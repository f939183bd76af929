//! Whole engines with workers on one server: what a run costs, and what a death leaves.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use provision_core::{
    Compensator, Engine, Outcome, Saga, SagaId, Step, StepContext, StepError, Undo, WorkerConfig,
    saga::Handle,
};
use provision_store_redis::{RedisConfig, RedisStore};
use tokio::task::JoinSet;

use crate::{
    given::{namespace, open, url},
    server::Server,
};

const SEVEN: SagaId<u64, u64> = SagaId::new("seven", 1);
const STEPS: u64 = 7;

/// How often each step of each run was called.
type Calls = Arc<Mutex<HashMap<(u64, u64), u32>>>;

#[derive(Debug, Clone)]
struct Add {
    calls: Calls,
    takes: Duration,
}

impl Step for Add {
    const KIND: &'static str = "test.add";
    type Input = (u64, u64);
    type Output = (u64, u64);

    async fn run(&self, _: &StepContext, input: (u64, u64)) -> Result<(u64, u64), StepError> {
        *self.calls.lock().unwrap().entry(input).or_default() += 1;
        tokio::time::sleep(self.takes).await;
        Ok((input.0, input.1 + 1))
    }
}

#[derive(Debug)]
struct Subtract;

impl Compensator<Add> for Subtract {
    async fn compensate(
        &self,
        _: &StepContext,
        _: (u64, u64),
        _: Undo<(u64, u64)>,
    ) -> Result<(), StepError> {
        Ok(())
    }
}

async fn engine(store: RedisStore, calls: &Calls, takes: Duration) -> Engine {
    let saga = Saga::define(SEVEN, |s| {
        let mut last: Option<Handle<'_, (u64, u64)>> = None;
        for n in 0..STEPS {
            let add = Add { calls: Arc::clone(calls), takes };
            let node = s.step(format!("s{n}"), add, Subtract);
            last = Some(match last {
                None => node.input((), |n, ()| (*n, 0)),
                Some(before) => node.input(before, |_, before| before),
            });
        }
        let last = last.unwrap();
        s.value("sum").input(last, |_, (run, sum)| run + sum)
    });
    Engine::builder(store).register(saga.unwrap()).build().await.unwrap()
}

/// Runs so many, one after the other.
async fn drive(engine: &Engine, runs: std::ops::Range<u64>) {
    for n in runs {
        let run = engine.start(SEVEN, &n).await.unwrap();
        assert!(
            matches!(run.outcome().await.unwrap(), Outcome::Succeeded(sum) if sum == n + STEPS)
        );
    }
}

// covers: R1-09
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_step_costs_one_round_trip() {
    let Some(server) = Server::start("") else { return };
    let config = RedisConfig::new(server.url()).with_polling_only();
    let store = config.with_poll_interval(Duration::from_secs(5)).open().await.unwrap();
    let engine = engine(store.clone(), &Calls::default(), Duration::ZERO).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    drive(&engine, 0..5).await;
    let (before, begun) = (store.counters(), Instant::now());
    drive(&engine, 5..55).await;
    let after = store.counters();
    let steps = STEPS * 50;
    let trips = after.round_trips - before.round_trips;
    println!(
        "{:.2} round trips and {} bytes a step, {:.2} ms a run",
        trips as f64 / steps as f64,
        (after.bytes_sent - before.bytes_sent) / steps,
        begun.elapsed().as_secs_f64() * 1_000.0 / 50.0
    );
    // Its start, a frame for each step, and the looks and heartbeats of the worker.
    assert!(trips * 10 <= steps * 17, "{trips} round trips for {steps} steps");
    worker.stop().await;
}

// covers: S1, S5, S8, L2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_worker_held_is_finished_by_another_process() {
    const RUNS: u64 = 60;
    let Some(url) = url() else { return };
    let (namespace, calls) = (namespace(), Calls::default());
    let takes = Duration::from_millis(50);
    let lease = Duration::from_secs(5);
    let slots = 16;
    let config = || WorkerConfig::default().with_slots(slots).with_lease(lease);
    let first = engine(open(url, &namespace).await, &calls, takes).await;
    let second = engine(open(url, &namespace).await, &calls, takes).await;
    let dying = first.spawn_worker(config());
    let living = second.spawn_worker(config());
    let host = engine(open(url, &namespace).await, &calls, takes).await;
    let mut ends = JoinSet::new();
    for n in 0..RUNS {
        let run = host.start(SEVEN, &n).key(format!("order-{n}")).await.unwrap();
        ends.spawn(async move { (n, run.outcome().await.unwrap()) });
    }
    tokio::time::sleep(Duration::from_millis(150)).await;
    dying.kill();
    drop(first);
    let finished = tokio::time::timeout(Duration::from_secs(120), ends.join_all()).await.unwrap();
    assert_eq!(finished.len() as u64, RUNS);
    for (n, outcome) in finished {
        assert!(matches!(outcome, Outcome::Succeeded(sum) if sum == n + STEPS), "{outcome:?}");
    }
    living.stop().await;
    let calls = calls.lock().unwrap();
    assert_eq!(calls.len() as u64, RUNS * STEPS, "every step of every run was called");
    let again: u32 = calls.values().map(|count| count - 1).sum();
    println!("{again} steps were called again");
    assert!(again as usize <= slots, "only what was open at the death is called again: {again}");
}
