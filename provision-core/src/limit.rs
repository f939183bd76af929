//! The seam for limits that all workers share: rates, pauses, breakers, concurrency.
//!
//! The arithmetic is pure: [`crate::gcra`], [`crate::breaker`] and [`crate::bucket`], one for all
//! stores. Limiter state needs no fsync; losing it costs at most one burst.
//!
//! A call names its bucket; all calls on a bucket share what it allows, whichever step, worker or
//! process makes them:
//!
//! ```
//! use std::time::Duration;
//!
//! use provision_core::{
//!     Call, Engine, MemoryStore, NothingToUndo, Saga, SagaError, SagaId, Step, StepContext,
//!     StepError, WorkerConfig, limit::{Overrides, Profile, Rate},
//! };
//!
//! /// Writes to a provider that takes one call in ten seconds.
//! struct Write;
//!
//! const SLOW: Rate = Rate { calls: 1, per: Duration::from_secs(10), burst: 1 };
//!
//! impl Step for Write {
//!     const KIND: &'static str = "tasks.write";
//!     type Input = u32;
//!     type Output = u32;
//!
//!     async fn run(&self, cx: &StepContext, n: u32) -> Result<u32, StepError> {
//!         let bucket = "tasks/acme/writes".to_owned();
//!         let limit = Profile { bucket, rate: Some(SLOW), concurrency: Some(1.into()) };
//!         cx.call(&Call::mutate("write").with_limit(limit), async { Ok(n) }).await
//!     }
//! }
//!
//! const TASKS: SagaId<u32, u32> = SagaId::new("tasks", 1);
//!
//! /// Two steps beside each other.
//! fn tasks() -> Result<Saga<u32, u32>, SagaError> {
//!     Saga::define(TASKS, |s| {
//!         let left = s.step("left", Write, NothingToUndo).input((), |n, ()| *n);
//!         let right = s.step("right", Write, NothingToUndo).input((), |n, ()| *n);
//!         s.value("sum").input((left, right), |_, (left, right)| left + right)
//!     })
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Two engines over one store, as two processes would have it.
//! let store = MemoryStore::new();
//! let one = Engine::builder(store.clone()).register(tasks()?).build().await?;
//! let other = Engine::builder(store).register(tasks()?).build().await?;
//! let workers = [&one, &other].map(|engine| engine.spawn_worker(WorkerConfig::default()));
//!
//! let began = tokio::time::Instant::now();
//! let runs = [one.start(TASKS, &1).await?, other.start(TASKS, &2).await?];
//! for (run, sum) in runs.iter().zip([2, 4]) {
//!     assert_eq!(run.output().await?, sum);
//! }
//! assert!(began.elapsed() >= Duration::from_secs(30), "four calls, ten seconds apart");
//!
//! // The provider allows more from now on: no new build is needed.
//! let faster = Overrides::new().with_rate("tasks/", Rate { calls: 100, ..SLOW });
//! for engine in [&one, &other] {
//!     engine.set_limit_overrides(faster.clone())?;
//! }
//! // The call before has had its price; it is paid within those ten seconds.
//! tokio::time::sleep(Duration::from_secs(10)).await;
//! let began = tokio::time::Instant::now();
//! assert_eq!(one.start(TASKS, &3).await?.output().await?, 6);
//! assert!(began.elapsed() < Duration::from_secs(1));
//! # for worker in workers {
//! #     worker.stop().await;
//! # }
//! # Ok(())
//! # }
//! ```

mod overrides;

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
pub(crate) use overrides::LiveLimits;
pub use overrides::Overrides;
use serde::{Deserialize, Serialize};

use crate::{bucket::Bucket, error::StoreError, id::Timestamp, store::Incarnation};

/// What a bucket allows. A value of the running code, never stored; [`Overrides`] replace it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Name: provider, account and token class, such as `"supabase/acme/management"`.
    pub bucket: String,
    /// Calls allowed per period; `None` means no known rate.
    pub rate: Option<Rate>,
    /// Calls that may be open at the same time in all processes; `None` means no cap.
    pub concurrency: Option<Concurrency>,
}

/// How many calls may be open at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Concurrency {
    /// So many.
    AtMost(u32),
    /// As many as the provider bears, which nobody has told, and at most so many. One at first; one
    /// more after as many good answers as calls may be open; half as many after a pause that the
    /// provider asks for (additive increase, multiplicative decrease). What was found out is shared
    /// by all processes, and forgotten a day after the last call.
    Adaptive(u32),
}

impl From<u32> for Concurrency {
    fn from(most: u32) -> Self {
        Self::AtMost(most)
    }
}

/// So many calls per period, evenly spread, with a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Calls per period; at least 1.
    pub calls: u32,
    /// The period.
    pub per: Duration,
    /// Calls that may come at once; at least 1.
    pub burst: u32,
}

/// Asks to make calls.
#[derive(Debug, Clone)]
pub struct Ask {
    /// What the bucket allows.
    pub profile: Profile,
    /// How many calls; a worker asks for what it will use within a second.
    pub calls: u32,
    /// Who asks; a concurrency slot belongs to an incarnation and dies with it.
    pub worker: Incarnation,
    /// Whether a concurrency slot is wanted.
    pub slot: bool,
    /// What becomes of a caller that is held back by the rate.
    pub turn: Turn,
}

/// How a caller stands in line for a rate that is used up.
///
/// Many callers that are told one moment come back together, and all but one in vain. So each is
/// told another moment; who says that it waits for it finds its call counted already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Turn {
    /// It comes back some time, or never: nothing is counted for it.
    #[default]
    Open,
    /// It waits if its turn is near ([`crate::bucket::TURNS_NEAR`]): one call is counted now, and
    /// the answer is [`HeldBy::Turn`]. A turn that is not used costs one interval of the rate.
    Waits,
    /// It comes for the turn that it was given, at that moment of the limiter's clock or shortly
    /// after.
    Came(Timestamp),
}

/// Answer to an [`Ask`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// So many calls may be made within the next second; unused ones lapse.
    Now {
        /// Between 1 and what was asked.
        calls: u32,
    },
    /// Not now.
    At {
        /// When to ask again, by the limiter's own clock; [`Turn::Came`] names it again.
        at: Timestamp,
        /// How long that is from now on. What waits counts this down: its clock may be another
        /// one than the limiter's.
        wait: Duration,
        /// Why.
        reason: HeldBy,
    },
}

/// Why a call is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldBy {
    /// The rate is used up.
    Rate,
    /// The rate is used up, and the moment named is kept for this caller.
    Turn,
    /// A provider told us to wait.
    Pause,
    /// Too many calls are open.
    Concurrency,
    /// The circuit breaker is open.
    Breaker,
}

/// What an answer of the provider, or its absence, says about a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Observed {
    /// Leave the bucket alone for so long (429, or an exhausted header).
    pub pause: Option<Duration>,
    /// Calls left in the provider's window, and when it resets.
    pub remaining: Option<(u32, Duration)>,
    /// How the call ended, for the breaker: `Some(true)` healthy, `Some(false)` not.
    pub healthy: Option<bool>,
    /// A concurrency slot is given back.
    pub slot_freed: bool,
}

/// Shared limits. Pauses are shared at once.
#[async_trait]
pub trait Limiter: Debug + Send + Sync + 'static {
    /// Asks to make calls on a bucket.
    ///
    /// # Errors
    /// The store cannot be reached.
    async fn admit(&self, ask: &Ask) -> Result<Admission, StoreError>;

    /// Tells what an answer said about the bucket.
    ///
    /// # Errors
    /// The store cannot be reached.
    async fn observe(
        &self,
        bucket: &str,
        worker: Incarnation,
        seen: &Observed,
    ) -> Result<(), StoreError>;

    /// Reads what is known of a bucket; one never used, or at rest, is like a new one.
    ///
    /// # Errors
    /// The store cannot be reached.
    async fn look(&self, bucket: &str) -> Result<Bucket, StoreError>;
}
