//! Fleet runs: the same saga over many inputs, a bounded number at a time, stopped when too many
//! fail. Each item is a run of its own under its own key, so a repeated fleet touches only what
//! has not succeeded.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream::FuturesUnordered};

use super::{Engine, Outcome, RunHandle, Start};
use crate::{
    error::{Error, ErrorKind},
    id::RunId,
    retention::Tombstone,
    run::RunStatus,
};

/// Options of a fleet.
#[derive(Debug, Clone)]
pub struct Fleet {
    name: String,
    at_once: usize,
    failures_max: usize,
}

impl Fleet {
    /// Names a fleet; its runs are started under `fleet:<name>:<item>`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), at_once: 10, failures_max: usize::MAX }
    }

    /// Runs at the same time; default 10.
    #[must_use]
    pub fn with_at_once(mut self, at_once: usize) -> Self {
        self.at_once = at_once.max(1);
        self
    }

    /// Starts nothing more once so many have failed; default: no limit.
    #[must_use]
    pub fn with_failures_max(mut self, failures: usize) -> Self {
        self.failures_max = failures;
        self
    }
}

/// What became of a fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetReport {
    /// Run and status by item.
    pub runs: BTreeMap<String, (RunId, RunStatus)>,
    /// Items whose runs were over, and were removed since, with what is left of them. They count
    /// neither as done nor as failed: nobody drives them again under this name of a fleet.
    pub removed: BTreeMap<String, Tombstone>,
    /// Items that were not started because too many had failed.
    pub not_started: Vec<String>,
}

impl FleetReport {
    /// Items that did not succeed.
    pub fn failed(&self) -> impl Iterator<Item = &str> {
        let failed = self.runs.iter().filter(|(_, (_, status))| {
            !matches!(status, RunStatus::Succeeded | RunStatus::PartlySucceeded)
        });
        failed.map(|(item, _)| item.as_str())
    }
}

impl Engine {
    /// Starts a run for every item and waits for all of them. A run of the same fleet and item
    /// that was rolled back is driven again; one that succeeded, or that was removed since, is left as
    /// it is.
    ///
    /// Needs a worker. Safe to cancel: the runs go on, and the next call finds them.
    ///
    /// ```
    /// use provision_core::{
    ///     Engine, LedgerQuery, MemoryStore, Saga, SagaId, WorkerConfig, engine::Fleet,
    /// };
    /// use provision_testkit::harness::{World, world::{Entry, RemoveEntry, Thing}};
    ///
    /// const DISK: SagaId<String, String> = SagaId::new("disk", 1);
    /// const LABEL: SagaId<String, String> = SagaId::new("label", 1);
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cloud = World::new();
    /// let disk = Saga::define(DISK, |s| {
    ///     s.resource("disk", Thing::named(&cloud)).input((), |name, ()| name.clone())
    /// })?;
    /// let label = Saga::define(LABEL, |s| {
    ///     let label = s.step("label", Entry(cloud.clone()), RemoveEntry(cloud.clone()));
    ///     label.input((), |id, ()| format!("label-of-{id}"))
    /// })?;
    /// let builder = Engine::builder(MemoryStore::new()).register(disk).register(label);
    /// let engine = builder.build().await?;
    /// let worker = engine.spawn_worker(WorkerConfig::default());
    /// for name in ["red", "blue"] {
    ///     engine.start(DISK, &name.to_owned()).await?.output().await?;
    /// }
    ///
    /// // One run for each resource that the ledger knows.
    /// let rows = engine.ledger(&LedgerQuery::default()).await?;
    /// let ids = rows.into_iter().filter_map(|row| row.external_id);
    /// let items: Vec<_> = ids.map(|id| (id.to_string(), id.to_string())).collect();
    /// let fleet = Fleet::new("labels-2026").with_at_once(8).with_failures_max(5);
    /// let report = engine.fleet(&fleet, LABEL, items.clone()).await?;
    /// assert_eq!((report.runs.len(), report.failed().count()), (2, 0));
    ///
    /// // Asked again, it finds what is done.
    /// assert_eq!(engine.fleet(&fleet, LABEL, items).await?, report);
    /// worker.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// An item's key comes twice, an input differs from the one its run was started with, or the
    /// store cannot be reached.
    pub async fn fleet<S>(
        &self,
        fleet: &Fleet,
        saga: S,
        items: Vec<(String, S::Input)>,
    ) -> Result<FleetReport, Error>
    where
        S: Start + Copy,
    {
        let mut report = FleetReport::default();
        let mut waiting = items.into_iter();
        let mut open = FuturesUnordered::new();
        let mut failures = 0;
        loop {
            while open.len() < fleet.at_once && failures < fleet.failures_max {
                let Some((item, input)) = waiting.next() else { break };
                if report.runs.contains_key(&item) || report.removed.contains_key(&item) {
                    return Err(Error::new(ErrorKind::Invalid, "duplicate_item", "start a fleet")
                        .with_context(item));
                }
                let key = format!("fleet:{}:{item}", fleet.name);
                let handle = self.start(saga, &input).key(key).await?;
                if let Some(tombstone) = handle.pruned() {
                    report.removed.insert(item, tombstone.clone());
                    continue;
                }
                report.runs.insert(item.clone(), (*handle.id(), RunStatus::Running));
                open.push(self.fleet_item(item, handle));
            }
            let Some(ended) = open.next().await else { break };
            let (item, status) = ended?;
            if matches!(
                status,
                RunStatus::Parked | RunStatus::RolledBack | RunStatus::RolledBackKeeping
            ) {
                failures += 1;
            }
            if let Some(entry) = report.runs.get_mut(&item) {
                entry.1 = status;
            }
        }
        report.not_started = waiting.map(|(item, _)| item).collect();
        Ok(report)
    }

    async fn fleet_item<O: crate::id::Data>(
        &self,
        item: String,
        handle: RunHandle<O>,
    ) -> Result<(String, RunStatus), Error> {
        if !handle.is_new() {
            let status = self.run(handle.id()).await?.status;
            if matches!(status, RunStatus::RolledBack | RunStatus::RolledBackKeeping) {
                let by = super::By::new("fleet", "the fleet was started again");
                self.redrive(handle.id(), by).await?;
            }
        }
        let status = match handle.outcome().await? {
            Outcome::Succeeded(_) => RunStatus::Succeeded,
            Outcome::PartlySucceeded(..) => RunStatus::PartlySucceeded,
            Outcome::RolledBack(_) => RunStatus::RolledBack,
            Outcome::RolledBackKeeping(..) => RunStatus::RolledBackKeeping,
            Outcome::Parked(..) => RunStatus::Parked,
            Outcome::TornDown => RunStatus::TornDown,
        };
        Ok((item, status))
    }
}
