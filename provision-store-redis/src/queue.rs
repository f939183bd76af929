//! The store as a queue: proposals come from its own index of ready runs.

use std::{pin::pin, time::Duration};

use async_trait::async_trait;
use provision_core::{
    error::StoreError,
    id::RunId,
    queue::{Claim, Offer, Queue, QueueStats},
};
use tokio::time::{Instant, timeout_at};

use crate::{
    args::Args,
    keys::Reach,
    lease::runs,
    reply::{Reply, number},
    rows::json,
    scripts::{self, Script},
    store::RedisStore,
};

/// A claim waits at most so long in one call, whatever it asks for.
const WAIT_MAX: Duration = Duration::from_secs(3_600);

#[async_trait]
impl Queue for RedisStore {
    async fn offer(&self, offers: &[Offer]) -> Result<(), StoreError> {
        let mut args = Args::default();
        args.count(offers.len());
        for offer in offers {
            args.run(&offer.run);
            args.moment(offer.due);
        }
        self.link().write(&scripts::OFFER, self.keys().of(Reach::All), &args).await?;
        self.stirred().notify_waiters();
        Ok(())
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<RunId>, StoreError> {
        self.proposals(claim, &scripts::PROPOSE, None).await
    }

    async fn ack(&self, _runs: &[RunId]) -> Result<(), StoreError> {
        // The run's own release moves or removes its entry.
        Ok(())
    }

    async fn wake(&self, _runs: &[RunId]) -> Result<(), StoreError> {
        self.stir().await
    }

    async fn stats(&self) -> Result<QueueStats, StoreError> {
        self.figures(&scripts::STATS).await
    }
}

impl RedisStore {
    /// Waits for what a script proposes, and hides for so long.
    pub(crate) async fn proposals(
        &self,
        claim: &Claim,
        script: &'static Script,
        hidden: Option<Duration>,
    ) -> Result<Vec<RunId>, StoreError> {
        let deadline = Instant::now() + claim.wait.min(WAIT_MAX);
        loop {
            // Listens before it looks, so that what comes in between is not missed.
            let mut stirred = pin!(self.stirred().notified());
            stirred.as_mut().enable();
            let (found, next_in) = self.look(claim, script, hidden).await?;
            let now = Instant::now();
            if !found.is_empty() || now >= deadline {
                return Ok(found);
            }
            // L7: what nobody tells of is found by looking again.
            let until = deadline.min(now + next_in.min(self.poll()));
            // Why the wait ended does not matter: the next look decides.
            let _: Result<(), _> = timeout_at(until, stirred).await;
        }
    }

    /// Ends the waits of claimants of this namespace.
    pub(crate) async fn stir(&self) -> Result<(), StoreError> {
        self.stirred().notify_waiters();
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(self.keys().channel()).arg("");
        self.link().command(&publish, "wake claimants").await.map(drop)
    }

    /// Counts by this script.
    pub(crate) async fn figures(&self, script: &'static Script) -> Result<QueueStats, StoreError> {
        let keys = self.keys().of(Reach::All);
        let answer = self.link().read(script, keys, &Args::default()).await?;
        let mut answer = Reply::of(answer)?;
        Ok(QueueStats {
            ready: answer.number()?,
            delayed: answer.number()?,
            leased: answer.number()?,
            expired: answer.number()?,
            oldest_ms: answer.number()?,
        })
    }

    /// Due runs, and how long until the next one.
    async fn look(
        &self,
        claim: &Claim,
        script: &'static Script,
        hidden: Option<Duration>,
    ) -> Result<(Vec<RunId>, Duration), StoreError> {
        let mut args = Args::default();
        args.count(claim.limit);
        for names in [&claim.queues, &claim.except] {
            args.count(names.len());
            for queue in names {
                args.push(json(queue)?);
            }
        }
        if let Some(hidden) = hidden {
            args.number(u64::try_from(hidden.as_millis()).unwrap_or(u64::MAX));
        }
        let keys = self.keys().of(Reach::All);
        let answer = self.link().read(script, keys, &args).await?;
        let mut answer = Reply::of(answer)?;
        let found = runs(answer.value()?)?;
        let next = answer.text()?;
        let next_in = if next.is_empty() {
            WAIT_MAX
        } else {
            // A moment early would look once more for nothing.
            Duration::from_millis(number(&next)?.max(1))
        };
        Ok((found, next_in))
    }
}
