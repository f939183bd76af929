//! The store as a queue: proposals come from its own index of ready runs.
//!
//! A commit of this process wakes claims at once; one of another process is seen by
//! `PRAGMA data_version`, which a waiting claim looks at every few milliseconds.

use std::{
    cmp::Reverse,
    pin::{Pin, pin},
    sync::{Arc, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use provision_core::{
    caps::Room,
    error::StoreError,
    id::RunId,
    queue::{Claim, Offer, Queue, QueueStats},
};
use tokio::{
    sync::futures::Notified,
    time::{Instant, timeout_at},
};

use crate::{
    pick::{self, Lane},
    rows::{all, at, blob, moment, signed, unsigned},
    sql,
    store::SqliteStore,
    unit::place,
};

/// A claim waits at most so long in one call, whatever it asks for.
const WAIT_MAX: Duration = Duration::from_secs(3_600);

#[async_trait]
impl Queue for SqliteStore {
    async fn offer(&self, offers: &[Offer]) -> Result<(), StoreError> {
        let (ns, offers) = (self.ns(), offers.to_vec());
        self.write("offer", move |unit| {
            for offer in &offers {
                let values =
                    (ns, blob(&offer.run), moment(offer.due), place(offer.due, unit.wall()));
                if unit.run(sql::OFFER, values)? > 0 {
                    unit.stir();
                }
            }
            Ok(())
        })
        .await
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<RunId>, StoreError> {
        let deadline = Instant::now() + claim.wait.min(WAIT_MAX);
        loop {
            // Listens before it looks, so that what comes in between is not missed.
            let mut stirred = pin!(self.shared.stirred.notified());
            stirred.as_mut().enable();
            let seen = self.shared.data_version()?;
            let (found, next_in) = self.look(claim).await?;
            let now = Instant::now();
            if !found.is_empty() || now >= deadline {
                return Ok(found);
            }
            let until = deadline.min(now + next_in.min(WAIT_MAX));
            self.wait(stirred, seen, until).await?;
        }
    }

    async fn ack(&self, _runs: &[RunId]) -> Result<(), StoreError> {
        // The run's own release moves or removes its entry.
        Ok(())
    }

    async fn wake(&self, _runs: &[RunId]) -> Result<(), StoreError> {
        self.shared.stirred.notify_waiters();
        Ok(())
    }

    async fn stats(&self) -> Result<QueueStats, StoreError> {
        let (ns, reading) = (self.ns(), self.shared.clock.read(None));
        let now = reading.wall;
        self.read("count the queue", move |conn| {
            let values = (ns, moment(now), &reading.boot, signed(reading.awake_ms));
            let stats = all(conn, sql::STATS, values, |row| {
                let oldest = at(row.get(3)?);
                Ok(QueueStats {
                    ready: unsigned(row.get(0)?),
                    delayed: unsigned(row.get(1)?),
                    leased: unsigned(row.get(2)?),
                    expired: unsigned(row.get(4)?),
                    oldest_ms: u64::try_from(now.since(oldest).as_millis()).unwrap_or(u64::MAX),
                })
            })?;
            Ok(stats.into_iter().next().unwrap_or_default())
        })
        .await
    }
}

impl SqliteStore {
    /// Due runs, and how long until there may be more.
    async fn look(&self, claim: &Claim) -> Result<(Vec<RunId>, Duration), StoreError> {
        let (ns, reading) = (self.ns(), self.shared.clock.read(None));
        let (queues, except, limit) = (claim.queues.clone(), claim.except.clone(), claim.limit);
        let turns = Arc::clone(&self.shared.turns);
        self.read("claim", move |conn| {
            let fits = |lane: &Lane| lane.fits(&queues) && !except.contains(&lane.queue);
            let mut lanes = pick::lanes(conn, ns)?;
            lanes.retain(&fits);
            let mut turns = turns.lock().unwrap_or_else(PoisonError::into_inner);
            let mut found = pick::due(conn, ns, (&lanes, &mut Room::default()), limit, &mut turns)?;
            found.extend(pick::delayed(conn, ns, reading.wall, limit, fits)?);
            let (dead, over) = pick::of_the_dead(conn, ns, &reading, limit, fits)?;
            found.extend(dead);
            // Stable: within a priority, the ready ones in their turns, then those just due, then
            // those of the dead.
            found.sort_by_key(|(priority, _)| Reverse(*priority));
            found.truncate(limit);
            let next = pick::next_due(conn, ns, &lanes, fits)?.map(|due| due.since(reading.wall));
            let next = next.into_iter().chain(over).min().unwrap_or(WAIT_MAX);
            Ok((found.into_iter().map(|(_, run)| run).collect(), next))
        })
        .await
    }

    /// Waits until something may have changed: a commit here or elsewhere, or the time given.
    async fn wait(
        &self,
        mut stirred: Pin<&mut Notified<'_>>,
        seen: i64,
        until: Instant,
    ) -> Result<(), StoreError> {
        while Instant::now() < until {
            let next = until.min(Instant::now() + self.shared.config.poll);
            if timeout_at(next, stirred.as_mut()).await.is_ok()
                || self.shared.data_version()? != seen
            {
                break;
            }
        }
        Ok(())
    }
}
