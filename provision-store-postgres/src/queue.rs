//! The store as a queue: proposals come from its own index of ready runs.
//!
//! A commit of this process wakes claims at once, one of another process by a notification where
//! those are on; a look every few seconds finds everything (L7).

use std::{pin::pin, time::Duration};

use async_trait::async_trait;
use provision_core::{
    error::StoreError,
    id::RunId,
    queue::{Claim, Offer, Queue, QueueStats},
};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::{
    notify::Stirs,
    rows::{Columns, count, moment, unsigned},
    store::PostgresStore,
};

/// A claim waits at most so long in one call, whatever it asks for.
const WAIT_MAX: Duration = Duration::from_secs(3_600);

#[async_trait]
impl Queue for PostgresStore {
    async fn offer(&self, offers: &[Offer]) -> Result<(), StoreError> {
        if offers.is_empty() {
            return Ok(());
        }
        let db = &self.shared.db;
        let runs: Vec<Uuid> = offers.iter().map(|offer| *offer.run.as_uuid()).collect();
        let due: Vec<i64> = offers.iter().map(|offer| moment(offer.due)).collect();
        let statement = db.query(&db.sql.offer).bind(self.ns).bind(runs).bind(due);
        let rows = db.once("offer", statement).await?;
        self.shared.stirred.stir(Stirs::ready(!rows.is_empty()));
        Ok(())
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<RunId>, StoreError> {
        let deadline = Instant::now() + claim.wait.min(WAIT_MAX);
        loop {
            // Listens before it looks, so that what comes in between is not missed.
            let mut stirred = pin!(self.shared.stirred.notified());
            stirred.as_mut().enable();
            let (found, next_in) = self.propose(claim).await?;
            let now = Instant::now();
            if !found.is_empty() || now >= deadline {
                return Ok(found);
            }
            let until = deadline.min(now + next_in.min(self.shared.config.poll()));
            // Why the wait ended does not matter: the next look decides.
            let _: Result<(), _> = timeout_at(until, stirred).await;
        }
    }

    async fn ack(&self, _runs: &[RunId]) -> Result<(), StoreError> {
        // The run's own release moves or removes its entry.
        Ok(())
    }

    async fn wake(&self, _runs: &[RunId]) -> Result<(), StoreError> {
        self.shared.stirred.stir(Stirs::ready(true));
        Ok(())
    }

    async fn stats(&self) -> Result<QueueStats, StoreError> {
        let db = &self.shared.db;
        let rows = db.once("count the queue", db.query(&db.sql.stats).bind(self.ns)).await?;
        let Some(row) = rows.first() else { return Ok(QueueStats::default()) };
        let mut c = Columns::new(row);
        let mut number = || c.number().map_err(|fault| fault.into_store("count the queue"));
        let (ready, delayed, leased) = (number()?, number()?, number()?);
        let (oldest_ms, expired) = (number()?, number()?);
        Ok(QueueStats { ready, delayed, leased, expired, oldest_ms })
    }
}

impl PostgresStore {
    /// Due runs, and how long until the next one.
    async fn propose(&self, claim: &Claim) -> Result<(Vec<RunId>, Duration), StoreError> {
        const OPERATION: &str = "claim";
        let db = &self.shared.db;
        let statement = db.query(&db.sql.propose).bind(self.ns).bind(claim.queues.clone());
        let statement = statement.bind(count(claim.limit)).bind(claim.except.clone());
        let rows = db.once(OPERATION, statement).await?;
        let Some(row) = rows.first() else { return Ok((Vec::new(), WAIT_MAX)) };
        let mut c = Columns::new(row);
        let read = c.take::<Vec<Uuid>>().and_then(|runs| Ok((runs, c.take::<Option<i64>>()?)));
        let (runs, next) = read.map_err(|fault| fault.into_store(OPERATION))?;
        let next = next.map_or(WAIT_MAX, |next| Duration::from_millis(unsigned(next)));
        Ok((runs.into_iter().map(RunId::from_uuid).collect(), next))
    }
}
