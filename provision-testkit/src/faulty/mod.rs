//! A store whose trouble is planned: any store behind [`Faulty`] fails where a test wants it to.
//!
//! Two ends of a call matter, and both are offered: nothing was written and the caller is told so
//! ([`Fault::Before`]), and everything was written and the caller is told nothing
//! ([`Fault::After`]). It differs from a simulator of a store in that the store behind it is a
//! real one; without a plan it changes nothing, so every conformance suite passes through it.

mod plan;
mod seams;

pub use plan::{Fault, Faults, Odds, Op};

/// A store with planned trouble. Cheap to clone where the store is; clones share the plan.
#[derive(Debug, Clone)]
pub struct Faulty<S> {
    inner: S,
    faults: Faults,
}

impl<S> Faulty<S> {
    /// Wraps a store; without faults in the plan every call passes unchanged.
    #[must_use]
    pub fn new(inner: S, faults: &Faults) -> Self {
        Self { inner, faults: faults.clone() }
    }

    /// Wraps a store and plans nothing: every call passes unchanged.
    #[must_use]
    pub fn transparent(inner: S) -> Self {
        Self::new(inner, &Faults::seeded(0, Odds { before: 0, after: 0 }))
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
