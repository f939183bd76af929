//! Shared limits.
//!
//! The arithmetic is the one of every store, in `provision_core::bucket`: a bucket is read, changed
//! here, and put back if it still is what was read. Calls of this process take turns, so that only
//! other processes can come between; their change comes back with the refusal, and is built upon.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
};

use async_trait::async_trait;
use provision_core::{
    bucket::{Bucket, Standing},
    error::{StoreError, StoreErrorKind},
    id::Timestamp,
    limit::{Admission, Ask, Limiter, Observed},
    store::Incarnation,
};
use tokio::sync::Mutex;

use crate::{
    args::Args,
    reply::{Reply, texts},
    rows::{incarnation, json},
    scripts,
    store::RedisStore,
};

/// Buckets that never wait for each other, roughly.
const TURNS: usize = 64;
/// Changes of other processes that may come between before the caller is told to come again.
const TRIES_MAX: usize = 1_000;

/// Turns of this process' calls.
#[derive(Debug)]
pub(crate) struct Turns(Vec<Mutex<()>>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..TURNS).map(|_| Mutex::new(())).collect())
    }
}

impl Turns {
    fn of(&self, bucket: &str) -> Option<&Mutex<()>> {
        let hash = BuildHasherDefault::<DefaultHasher>::new().hash_one(bucket);
        self.0.get(usize::try_from(hash % TURNS as u64).unwrap_or_default())
    }
}

/// A bucket as the server has it.
pub(crate) struct Found {
    text: String,
    pub(crate) now: Timestamp,
    dead: HashSet<Incarnation>,
    alive: HashSet<Incarnation>,
}

impl Found {
    fn of(mut answer: Reply) -> Result<Self, StoreError> {
        let (text, now) = (answer.text()?, answer.moment()?);
        // The script found their marks: whatever is damaged here is nobody of those.
        let mut known = || -> Result<HashSet<Incarnation>, StoreError> {
            Ok(texts(answer.value()?)?.iter().filter_map(|who| incarnation(who).ok()).collect())
        };
        let (dead, alive) = (known()?, known()?);
        Ok(Self { text, now, dead, alive })
    }

    fn standing(&self, worker: Incarnation) -> Standing {
        match () {
            () if self.dead.contains(&worker) => Standing::Dead,
            () if self.alive.contains(&worker) => Standing::Alive,
            () => Standing::Unknown,
        }
    }
}

#[async_trait]
impl Limiter for RedisStore {
    async fn admit(&self, ask: &Ask) -> Result<Admission, StoreError> {
        self.change_bucket(&ask.profile.bucket, |bucket, found| {
            bucket.admit(ask, found.now, |worker| found.standing(worker))
        })
        .await
    }

    async fn observe(
        &self,
        bucket: &str,
        worker: Incarnation,
        seen: &Observed,
    ) -> Result<(), StoreError> {
        self.change_bucket(bucket, |bucket, found| bucket.observe(worker, seen, found.now)).await
    }

    async fn look(&self, bucket: &str) -> Result<Bucket, StoreError> {
        self.change_bucket(bucket, |bucket, _| bucket.clone()).await
    }
}

impl RedisStore {
    /// Reads, changes and keeps one bucket; one that is at rest need not be kept.
    pub(crate) async fn change_bucket<T: Send>(
        &self,
        name: &str,
        change: impl Fn(&mut Bucket, &Found) -> T + Send,
    ) -> Result<T, StoreError> {
        let _turn = match self.turns().of(name) {
            Some(turn) => Some(turn.lock().await),
            None => None,
        };
        let keys = self.keys().limits();
        let mut args = Args::default();
        args.push(name);
        let answer = self.link().read(&scripts::BUCKET_READ, keys, &args).await?;
        let mut found = Found::of(Reply::of(answer)?)?;
        for _ in 0..TRIES_MAX {
            // A state that cannot be read is worth as much as a lost one: a burst.
            let mut bucket: Bucket = serde_json::from_str(&found.text).unwrap_or_default();
            let out = change(&mut bucket, &found);
            let kept = if bucket.is_idle(found.now) { String::new() } else { json(&bucket)? };
            if kept == found.text {
                return Ok(out);
            }
            let mut args = Args::default();
            args.push(name);
            args.push(&found.text);
            args.push(&kept);
            let answer = self.link().read(&scripts::BUCKET_SWAP, keys, &args).await?;
            let answer = Reply::of(answer)?;
            if answer.is_empty() {
                return Ok(out);
            }
            found = Found::of(answer)?;
        }
        Err(StoreError::new(StoreErrorKind::Unavailable, "redis_contended", "change a limit")
            .with_hint("too many processes ask for one bucket: let them ask for blocks of calls"))
    }
}
