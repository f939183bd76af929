//! Points at which a recorder can look at a run, and a test can stop the world: the seams between
//! the engine, its store and the providers.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::{
    context::{Call, Seam},
    id::RunId,
    run::journal::Record,
};

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
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NoProbe;

#[async_trait]
impl Probe for NoProbe {}
