//! A store whose trouble is planned: any store behind [`Faulty`] fails where a test wants it to.
//!
//! Two ends of a call matter, and both are offered: nothing was written and the caller is told so
//! ([`Fault::Before`]), and everything was written and the caller is told nothing
//! ([`Fault::After`]). It differs from a simulator of a store in that the store behind it is a
//! real one; without a plan it changes nothing, so every conformance suite passes through it.

mod plan;
mod seams;

use std::{future::Future, sync::mpsc};

use provision_core::error::StoreError;

pub use plan::{Fault, Faults, Odds, Op};

/// A store with planned trouble. Cheap to clone where the store is; clones share the plan.
#[derive(Debug, Clone)]
pub struct Faulty<S> {
    inner: S,
    faults: Faults,
    holds_time: bool,
}

impl<S> Faulty<S> {
    /// Wraps a store; without faults in the plan every call passes unchanged.
    #[must_use]
    pub fn new(inner: S, faults: &Faults) -> Self {
        Self { inner, faults: faults.clone(), holds_time: false }
    }

    /// Wraps a store and plans nothing: every call passes unchanged.
    #[must_use]
    pub fn transparent(inner: S) -> Self {
        Self::new(inner, &Faults::seeded(0, Odds { before: 0, after: 0 }))
    }

    /// Lets paused time stand still while the store works, but for claims, which wait for time to
    /// pass: see [`time_held`]. For a store with threads of its own, in a test whose runtime has
    /// paused its clock.
    #[must_use]
    pub fn holding_time(mut self) -> Self {
        self.holds_time = true;
        self
    }

    /// The store behind the trouble, for what a test wants to see of it.
    #[must_use]
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// The plan.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }
}

impl<S: Sync> Faulty<S> {
    async fn through<T>(
        &self,
        op: Op,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let call = self.faults.through(op, call);
        if self.holds_time && op != Op::Claim { time_held(call).await } else { call.await }
    }
}

/// Does `work` while the paused clock of a current-thread runtime stands still.
///
/// Such a clock leaps to the next timer whenever all tasks wait, also where one of them waits for
/// another thread, which needs real time: leases would run out, and deadlines pass, in the middle of a
/// write. Work that waits for the clock itself never ends under it. On other runtimes nothing is held.
///
/// # Panics
/// Outside of a runtime.
pub async fn time_held<T>(work: impl Future<Output = T>) -> T {
    let (over, waits) = mpsc::channel::<()>();
    // The runtime lets its clock stand while a blocking task is under way. This one ends with the
    // work, also when that is dropped.
    let _held = tokio::task::spawn_blocking(move || waits.recv().is_err());
    let done = work.await;
    drop(over);
    done
}
