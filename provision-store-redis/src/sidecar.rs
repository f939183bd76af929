//! Redis beside a journal that is kept elsewhere: a queue and a limiter, and no state.
//!
//! An entry of the queue is a row like a run's, so that the store's own scripts place, pick and
//! count it: higher priority first, tenants in turn, oldest first. What differs is that a proposed
//! entry is hidden for a while, since no lease of this server tells that somebody has it.

use std::{collections::HashSet, fmt, time::Duration};

use async_trait::async_trait;
use provision_core::{
    bucket::{Bucket, Standing},
    error::StoreError,
    id::RunId,
    limit::{Admission, Ask, Limiter, Observed},
    queue::{Claim, Offer, Queue, QueueStats},
    store::Incarnation,
};

use crate::{
    args::Args,
    config::RedisConfig,
    counters::Counters,
    keys::Reach,
    rows::{json, spot},
    scripts,
    store::RedisStore,
};

/// How the namespaces of sidecars are marked, so that none is taken for a store's.
pub(crate) const FORMAT: &str = "sidecar 1";

/// A worker is written down as heard of so often within the silence after which it is dead.
const SILENCE_PARTS: u32 = 6;

/// Proposes runs and shares limits through a Redis server, beside a journal in another store.
///
/// Nothing in it has to last, so no durability is asked of the server: it may keep everything in
/// memory alone, evict, be flushed or be replaced by an empty one. What it loses is found again by
/// the store's own scan, and a lost limit costs one burst. It needs a namespace of its own, which
/// no [`RedisStore`] uses. Cheap to clone; clones share their connection. Calls may be cancelled at
/// any await.
///
/// Due times are judged by this server's clock. Where it is ahead of the store's, waiting runs are
/// proposed too early and come again a moment later; where it is behind, the store's scan finds
/// them first.
///
/// ```
/// use provision_core::{Engine, MemoryStore};
/// use provision_store_redis::RedisSidecar;
///
/// # async fn example(url: &str) -> Result<(), Box<dyn std::error::Error>> {
/// # let journal = MemoryStore::new();
/// let sidecar = RedisSidecar::connect(url, "acme-queue").await?;
/// let builder = Engine::builder(journal).queue(sidecar.clone()).limiter(sidecar);
/// let engine = builder.build().await?;
/// assert!(engine.health().await.is_ready());
/// # Ok(())
/// # }
/// # if let Ok(url) = std::env::var("PROVISION_TEST_REDIS_URL") {
/// #     let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
/// #     runtime.block_on(example(&url)).unwrap();
/// # }
/// ```
#[derive(Clone)]
pub struct RedisSidecar {
    server: RedisStore,
    hidden: Duration,
    silence: Duration,
}

impl RedisSidecar {
    /// Connects to the server at `url` with default options, in this namespace.
    ///
    /// # Errors
    /// As [`RedisConfig::open_sidecar`].
    pub async fn connect(
        url: impl Into<String>,
        namespace: impl Into<String>,
    ) -> Result<Self, StoreError> {
        RedisConfig::new(url).with_namespace(namespace).open_sidecar().await
    }

    pub(crate) async fn open_with(config: RedisConfig) -> Result<Self, StoreError> {
        let (hidden, silence) = (config.hidden, config.silence);
        Ok(Self { server: RedisStore::open_as(config, FORMAT).await?, hidden, silence })
    }

    /// A handle to another namespace of the same server; nothing of this one can be reached by it.
    ///
    /// # Errors
    /// The server cannot be reached, or the namespace is a store's.
    pub async fn in_namespace(&self, namespace: impl Into<String>) -> Result<Self, StoreError> {
        let server = self.server.namespace_as(namespace.into(), FORMAT).await?;
        Ok(Self { server, hidden: self.hidden, silence: self.silence })
    }

    /// What it has done in this process since it was opened, over all namespaces.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.server.counters()
    }
}

impl fmt::Debug for RedisSidecar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSidecar")
            .field("server", &self.server)
            .field("hidden", &self.hidden)
            .field("silence", &self.silence)
            .finish()
    }
}

#[async_trait]
impl Queue for RedisSidecar {
    async fn offer(&self, offers: &[Offer]) -> Result<(), StoreError> {
        if offers.is_empty() {
            return Ok(());
        }
        let mut args = Args::default();
        args.count(offers.len());
        for offer in offers {
            args.run(&offer.run);
            args.moment(offer.due);
            // A lane of the queue alone: who may claim a run is for the store to judge.
            args.push(format!("{}\n", json(&offer.queue)?));
            args.push(spot(offer.priority, offer.tenant.as_deref()));
        }
        let keys = self.server.keys().of(Reach::All);
        self.server.link().write(&scripts::SIDECAR_OFFER, keys, &args).await?;
        self.server.stirred().notify_waiters();
        Ok(())
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<RunId>, StoreError> {
        self.server.proposals(claim, &scripts::SIDECAR_CLAIM, Some(self.hidden)).await
    }

    async fn ack(&self, runs: &[RunId]) -> Result<(), StoreError> {
        if runs.is_empty() {
            return Ok(());
        }
        let mut args = Args::default();
        args.count(runs.len());
        runs.iter().for_each(|run| args.run(run));
        let keys = self.server.keys().of(Reach::All);
        self.server.link().write(&scripts::SIDECAR_ACK, keys, &args).await.map(drop)
    }

    async fn wake(&self, _runs: &[RunId]) -> Result<(), StoreError> {
        self.server.stir().await
    }

    /// What was proposed and is hidden counts as delayed; leases are the store's to count.
    async fn stats(&self) -> Result<QueueStats, StoreError> {
        self.server.figures(&scripts::SIDECAR_STATS).await
    }
}

#[async_trait]
impl Limiter for RedisSidecar {
    async fn admit(&self, ask: &Ask) -> Result<Admission, StoreError> {
        let silence = self.silence;
        self.server
            .change_bucket(&ask.profile.bucket, |bucket, found| {
                bucket.heard(ask.worker, found.now, silence / SILENCE_PARTS);
                // Nobody tells this server who is dead: who was not heard of for so long is.
                let silent: HashSet<Incarnation> = bucket.silent(found.now, silence).collect();
                bucket.admit(ask, found.now, |worker| match silent.contains(&worker) {
                    true => Standing::Dead,
                    false => Standing::Alive,
                })
            })
            .await
    }

    async fn observe(
        &self,
        bucket: &str,
        worker: Incarnation,
        seen: &Observed,
    ) -> Result<(), StoreError> {
        let silence = self.silence;
        self.server
            .change_bucket(bucket, |bucket, found| {
                bucket.heard(worker, found.now, silence / SILENCE_PARTS);
                bucket.observe(worker, seen, found.now);
            })
            .await
    }

    async fn look(&self, bucket: &str) -> Result<Bucket, StoreError> {
        self.server.change_bucket(bucket, |bucket, _| bucket.clone()).await
    }
}
