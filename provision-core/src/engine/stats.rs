//! How long steps take and how often they fail, from the journals of past runs.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::Engine;
use crate::{
    error::Error,
    id::Timestamp,
    run::journal::{Direction, Record},
    saga::graph::graph_path,
    store::{RunFilter, RunRecord},
};

/// Runs loaded at a time.
const LOAD: usize = 50;

/// What past runs say about one kind of step in one region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepStats {
    /// Durable kind of the step, such as `hub.project`.
    pub kind: String,
    /// Region of the resource, where it has one.
    pub region: Option<String>,
    /// Times it was done.
    pub succeeded: u32,
    /// Times it was given up.
    pub failed: u32,
    /// Attempts that failed, those of steps that succeeded later included.
    pub failed_attempts: u32,
    /// Average time from its first attempt until it was done, waits and repetitions included.
    pub average: Option<Duration>,
    /// The time that half of them did not need.
    pub median: Option<Duration>,
    /// The longest.
    pub longest: Option<Duration>,
}

impl StepStats {
    /// Share of those given up among those that ended, 0 to 1; 0 when none has ended.
    #[must_use]
    pub fn failure_rate(&self) -> f64 {
        let ended = f64::from(self.succeeded) + f64::from(self.failed);
        if ended > 0.0 { f64::from(self.failed) / ended } else { 0.0 }
    }
}

/// One kind in one region, while it is being counted.
#[derive(Debug, Default)]
struct Tally {
    took: Vec<Duration>,
    failed: u32,
    failed_attempts: u32,
}

impl Engine {
    /// Counts durations and failures by kind of step and region, over the newest runs that match:
    /// at most `filter.limit`, 100 by default.
    ///
    /// Reads whole journals, in pages: meant for a status page that keeps the answer for a while.
    /// Steps of sagas that are not registered here are left out.
    ///
    /// ```
    /// # use provision_core::{Engine, MemoryStore};
    /// use provision_core::store::RunFilter;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = Engine::builder(MemoryStore::new()).build().await?;
    /// let newest = RunFilter { saga: Some("onboarding".to_owned()), limit: 500, ..RunFilter::default() };
    /// for step in engine.step_stats(&newest).await? {
    ///     println!("{} {:?}: {:?}, {}", step.kind, step.region, step.average, step.failure_rate());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The store cannot be read, or a journal is damaged.
    pub async fn step_stats(&self, filter: &RunFilter) -> Result<Vec<StepStats>, Error> {
        let runs: Vec<_> = self.runs(filter).await?.runs.into_iter().map(|head| head.id).collect();
        let mut tallies = BTreeMap::new();
        for some in runs.chunks(LOAD) {
            for record in self.inner.store.load(some).await?.into_iter().flatten() {
                self.count(&record, &mut tallies)?;
            }
        }
        Ok(tallies.into_iter().map(|((kind, region), tally)| summed(kind, region, tally)).collect())
    }

    fn count(
        &self,
        run: &RunRecord,
        tallies: &mut BTreeMap<(String, Option<String>), Tally>,
    ) -> Result<(), Error> {
        let Some(plan) = self.inner.plans.get(&run.head.saga) else { return Ok(()) };
        let kinds = plan.graph.kinds();
        let mut begun: BTreeMap<String, (Timestamp, Option<String>, u32)> = BTreeMap::new();
        for frame in &run.frames {
            for record in crate::drive::records(frame)? {
                let (path, done) = match record {
                    Record::Started { path, dir: Direction::Forward, .. } => {
                        begun.entry(path.to_string()).or_insert((frame.at, None, 0));
                        continue;
                    }
                    Record::Intent { path, intent } => {
                        begun.entry(path.to_string()).and_modify(|b| b.1 = intent.region);
                        continue;
                    }
                    Record::Failed { path, dir: Direction::Forward, .. } => {
                        begun.entry(path.to_string()).and_modify(|b| b.2 += 1);
                        continue;
                    }
                    Record::Succeeded { path, dir: Direction::Forward, .. } => (path, true),
                    Record::GaveUp { path, dir: Direction::Forward, .. } => (path, false),
                    _ => continue,
                };
                let Some((since, region, failed_attempts)) = begun.remove(&*path) else { continue };
                let Some(kind) = kinds.get(&graph_path(&path)) else { continue };
                let tally = tallies.entry(((*kind).to_owned(), region)).or_default();
                tally.failed_attempts += failed_attempts;
                if done {
                    tally.took.push(frame.at.since(since));
                } else {
                    tally.failed += 1;
                }
            }
        }
        Ok(())
    }
}

fn summed(kind: String, region: Option<String>, mut tally: Tally) -> StepStats {
    tally.took.sort_unstable();
    let succeeded = u32::try_from(tally.took.len()).unwrap_or(u32::MAX);
    StepStats {
        kind,
        region,
        succeeded,
        failed: tally.failed,
        failed_attempts: tally.failed_attempts,
        average: tally.took.iter().sum::<Duration>().checked_div(succeeded),
        median: tally.took.get(tally.took.len() / 2).copied(),
        longest: tally.took.last().copied(),
    }
}
