//! An executor for tests: a seed decides what is driven beside what, and when nobody looks.

use async_trait::async_trait;
use futures_util::future::join_all;
use provision_core::{
    Engine, Error, RunId, clock,
    executor::{Executor, stands_still},
    store::RunHead,
};

use crate::rng::Rng;

/// Most runs that are driven side by side.
const DRIVERS_MAX: u64 = 3;
/// Most turns that a driver lets others go first.
const TURNS_MAX: u64 = 4;
/// Longest time in which nobody looks, in milliseconds.
const PAUSE_MS_MAX: u64 = 400;

/// Drives runs in an order that comes from a seed alone, on a runtime of one thread whose time is
/// paused.
///
/// The same seed drives the same engine over the same store in the same way, to the byte of the
/// journal, if the engine's randomness and the store's clock are repeatable, too: see
/// [`EngineBuilder::entropy`](provision_core::EngineBuilder::entropy) and
/// [`MemoryStore::with_clock`](provision_core::MemoryStore::with_clock). Another seed is another
/// order.
///
/// ```
/// use provision_core::{Engine, MemoryStore, Saga, SagaId, executor::Executor};
/// use provision_testkit::executor::Deterministic;
///
/// const SEATS: SagaId<u32, u32> = SagaId::new("seats", 1);
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let saga = Saga::define(SEATS, |s| s.value("seats").input((), |n, ()| *n))?;
/// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
/// let run = engine.start(SEATS, &4).await?;
/// Deterministic::new(7).drive(&engine, run.id()).await?;
/// assert_eq!(run.output().await?, 4);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Deterministic {
    seed: u64,
}

impl Deterministic {
    /// Takes its order from this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }
}

#[async_trait]
impl Executor for Deterministic {
    async fn drive(&self, engine: &Engine, run: &RunId) -> Result<RunHead, Error> {
        let mut rng = Rng::new(self.seed);
        loop {
            let drivers = (0..rng.between(1, DRIVERS_MAX)).map(|_| {
                let turns = rng.below(TURNS_MAX);
                async move {
                    for _ in 0..turns {
                        tokio::task::yield_now().await;
                    }
                    engine.run_one().await
                }
            });
            let mut drove = false;
            for driven in join_all(drivers.collect::<Vec<_>>()).await {
                drove |= driven?.is_some();
            }
            if drove {
                continue;
            }
            let head = engine.run(run).await?;
            if stands_still(&head) {
                return Ok(head);
            }
            clock::sleep(rng.millis(1, PAUSE_MS_MAX)).await;
        }
    }
}
