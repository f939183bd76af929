//! Points at which a recorder can look at a run, and a test can stop the world: the seams between
//! the engine, its store and the providers.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::{
    context::{Call, Seam},
    error::StepError,
    id::RunId,
    run::journal::{Direction, Record},
};

/// A point at which a test can make something go wrong.
#[derive(Debug, Clone, Copy)]
pub enum Juncture<'a> {
    /// An attempt is about to begin; an error here means that nothing of it was done.
    Begins {
        /// Which way.
        dir: Direction,
        /// Number of the attempt, from 1.
        attempt: u32,
    },
    /// An attempt came to its good end; an error here replaces its outcome.
    Done {
        /// Which way.
        dir: Direction,
        /// Number of the attempt, from 1.
        attempt: u32,
    },
    /// A call was answered well; an error here replaces the answer.
    Answered(&'a Call),
}

/// Watches the seams. An implementation that never returns stops the run right there, which is
/// how crash tests work; the engine's own default does nothing.
#[async_trait]
pub trait Probe: Debug + Send + Sync + 'static {
    /// Records are about to be written.
    async fn appending(&self, _run: &RunId, _records: &[Record]) {}

    /// Records are committed; what follows from them has not begun.
    async fn appended(&self, _run: &RunId, _records: &[Record]) {}

    /// A provider call is about to be sent, or has ended.
    async fn call(&self, _run: &RunId, _path: &str, _call: &Call, _seam: Seam) {}

    /// Makes something go wrong, so that every step of any saga can be made to fail.
    fn upset(&self, _run: &RunId, _path: &str, _at: Juncture<'_>) -> Option<StepError> {
        None
    }
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NoProbe;

#[async_trait]
impl Probe for NoProbe {}
