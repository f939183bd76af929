//! Runs that start by the clock, on any worker, once per firing.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use super::{Engine, Start};
use crate::{
    error::Error,
    id::{RunId, Timestamp},
    schedule::{Firing, Schedule},
};

type Starting = Pin<Box<dyn Future<Output = Result<RunId, Error>> + Send>>;

/// A schedule and what it starts.
#[derive(Clone)]
pub(crate) struct Scheduled {
    pub(crate) schedule: Schedule,
    start: Arc<dyn Fn(Engine, Firing) -> Starting + Send + Sync>,
}

impl fmt::Debug for Scheduled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduled").field("schedule", &self.schedule).finish_non_exhaustive()
    }
}

impl Scheduled {
    pub(super) fn new<S>(
        schedule: Schedule,
        saga: S,
        input: impl Fn(Timestamp) -> S::Input + Send + Sync + 'static,
    ) -> Self
    where
        S: Start + Clone + Send + Sync + 'static,
    {
        let start = move |engine: Engine, firing: Firing| {
            let starting = engine.start(saga.clone(), &input(firing.at)).key(firing.key);
            let starting: Starting = Box::pin(async move { Ok(*starting.await?.id()) });
            starting
        };
        Self { schedule, start: Arc::new(start) }
    }
}

impl Engine {
    /// Starts every run that a schedule has due since `since`; each firing starts one run in the
    /// whole namespace, however many workers ask. Workers do this by themselves.
    ///
    /// # Errors
    /// The store cannot be reached. What was not started is started by the next call.
    pub async fn fire_schedules(&self, since: Option<Timestamp>) -> Result<Vec<RunId>, Error> {
        let now = self.inner.store.now().await?;
        let mut started = Vec::new();
        for scheduled in &self.inner.schedules {
            for firing in scheduled.schedule.due(since, now) {
                started.push((scheduled.start)(self.clone(), firing).await?);
            }
        }
        Ok(started)
    }

    /// When the next schedule fires.
    pub(crate) fn next_firing(&self, now: Timestamp) -> Option<Timestamp> {
        self.inner.schedules.iter().filter_map(|s| s.schedule.next_due(now)).min()
    }
}
