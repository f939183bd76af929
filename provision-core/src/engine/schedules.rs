//! Runs that start by the clock, on any worker, once per firing.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use super::{Engine, Start};
use crate::{
    error::{Error, ErrorKind},
    id::{RunId, Timestamp},
    panics,
    retention::TombstoneQuery,
    schedule::{Firing, MOST_CAUGHT_UP, Schedule},
    store::RunFilter,
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

/// How far each schedule of an engine has fired.
#[derive(Debug, Clone)]
pub(crate) struct Fired(Vec<Option<Timestamp>>);

impl Engine {
    /// Starts every run that a schedule has due since `since`; each firing starts one run in the
    /// whole namespace, however many workers ask. Workers do this by themselves.
    ///
    /// # Errors
    /// The store cannot be reached, or one of the schedules could not start its run: all others
    /// have been asked as well. What was not started is started by the next call.
    pub async fn fire_schedules(&self, since: Option<Timestamp>) -> Result<Vec<RunId>, Error> {
        let mut fired = Fired(vec![since; self.inner.schedules.len()]);
        let mut started = Vec::new();
        loop {
            let now = self.fire_since(&mut fired, &mut started).await?;
            if !self.is_behind(&fired, now) {
                return Ok(started);
            }
        }
    }

    /// How far the schedules have fired before this process looks for the first time.
    ///
    /// Only those that catch up on everything ask: the start key of their newest run tells.
    pub(crate) async fn fired_before(&self) -> Result<Fired, Error> {
        let mut fired = Vec::new();
        for scheduled in &self.inner.schedules {
            fired.push(self.newest_firing(&scheduled.schedule).await?);
        }
        Ok(Fired(fired))
    }

    async fn newest_firing(&self, schedule: &Schedule) -> Result<Option<Timestamp>, Error> {
        if !schedule.catches_up() {
            return Ok(None);
        }
        let prefix = schedule.key_prefix();
        let filter =
            RunFilter { key_prefix: Some(prefix.clone()), limit: 1, ..RunFilter::default() };
        let newest = self.runs(&filter).await?.runs.pop().and_then(|head| head.key);
        // Retention may have removed it. Its key ends with digits, and the colon is what follows them.
        let (from, below) = (format!("{prefix}0"), format!("{prefix}:"));
        let removed = TombstoneQuery::LastKey { from, below };
        let removed = self.inner.retention_store.tombstones(&removed).await?.pop();
        let at = |key: Option<String>| key?.strip_prefix(&prefix)?.parse().ok();
        let newest = at(newest).max(at(removed.and_then(|tombstone| tombstone.key)));
        Ok(newest.map(Timestamp::from_millis))
    }

    /// Fires each schedule by itself: one that cannot start its run holds back no other. Answers
    /// with the moment up to which it looked, or the first error after all were asked.
    pub(crate) async fn fire_since(
        &self,
        fired: &mut Fired,
        started: &mut Vec<RunId>,
    ) -> Result<Timestamp, Error> {
        let now = self.inner.store.now().await?;
        let mut failed = None;
        for (scheduled, since) in self.inner.schedules.iter().zip(&mut fired.0) {
            let name = scheduled.schedule.name();
            let firing = self.fire_one(scheduled, since, now, started);
            // S21: its input, or a check of its saga, may panic.
            let end = panics::caught("start a scheduled run", name, firing).await;
            match end.unwrap_or_else(|| Err(panicked(name))) {
                // More may have been missed than are caught up at once.
                Ok(count) if count < MOST_CAUGHT_UP => *since = Some(now),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, schedule = name, "a scheduled run could not be started");
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(now), Err)
    }

    /// Starts what is due, as far as it is caught up at once; answers how many that were.
    async fn fire_one(
        &self,
        scheduled: &Scheduled,
        since: &mut Option<Timestamp>,
        now: Timestamp,
        started: &mut Vec<RunId>,
    ) -> Result<usize, Error> {
        let due = scheduled.schedule.due(*since, now);
        let count = due.len();
        for firing in due {
            let at = firing.at;
            match (scheduled.start)(self.clone(), firing).await {
                Ok(run) => started.push(run),
                // It has fired, with what an earlier version of the program gave it.
                Err(error) if error.code() == "key_taken" => {}
                Err(error) => return Err(error),
            }
            *since = Some(at);
        }
        Ok(count)
    }

    /// Whether more was missed than was caught up at once.
    pub(crate) fn is_behind(&self, fired: &Fired, now: Timestamp) -> bool {
        self.inner.schedules.iter().zip(&fired.0).any(|(scheduled, since)| {
            since.is_some_and(|since| !scheduled.schedule.due(Some(since), now).is_empty())
        })
    }

    /// When the next schedule fires.
    pub(crate) fn next_firing(&self, now: Timestamp) -> Option<Timestamp> {
        self.inner.schedules.iter().filter_map(|s| s.schedule.next_due(now)).min()
    }
}

fn panicked(schedule: &str) -> Error {
    Error::new(ErrorKind::Invalid, panics::CODE, "start a scheduled run")
        .with_context(format!("the input of `{schedule}`, or a check of its saga, panicked"))
}
