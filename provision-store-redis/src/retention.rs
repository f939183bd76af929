//! Runs that are over: removed by one script for each step of the walk; their tombstones.

use async_trait::async_trait;
use provision_core::{
    error::StoreError,
    id::Timestamp,
    retention::{Prune, PruneStep, RetentionStore, Tombstone, TombstoneQuery},
};

use crate::{
    args::Args,
    keys::Reach,
    reply::{Reply, number, run, text, texts},
    rows::{parsed, run_key},
    scripts,
    store::RedisStore,
};

/// Tombstones that one script forgets, at most.
const FORGOTTEN_MAX: usize = 1_000;

/// Reads a tombstone as it is stored.
pub(crate) fn tombstone(stored: &str) -> Result<Tombstone, StoreError> {
    parsed(stored, "a tombstone")
}

#[async_trait]
impl RetentionStore for RedisStore {
    async fn prune(&self, prune: &Prune) -> Result<PruneStep, StoreError> {
        let mut args = Args::default();
        args.push(prune.after.as_ref().map(run_key).unwrap_or_default());
        args.moment(prune.ended_before);
        args.flag(prune.succeeded);
        args.flag(prune.dead_letters);
        args.count(prune.most());
        args.count(Prune::LOOKS_MAX);
        args.count(Prune::FAMILY_MAX);
        args.number(Prune::FRAMES_MAX);
        args.flag(prune.dry_run);
        let keys = self.keys().of(Reach::All);
        let mut answer = Reply::of(self.link().write(&scripts::PRUNE, keys, &args).await?)?;
        let runs =
            texts(answer.value()?)?.iter().map(|text| run(text)).collect::<Result<_, _>>()?;
        let next = answer.text()?;
        let next = if next.is_empty() { None } else { Some(run(&next)?) };
        Ok(PruneStep { runs, next })
    }

    async fn tombstones(&self, query: &TombstoneQuery) -> Result<Vec<Tombstone>, StoreError> {
        let mut args = Args::default();
        match query {
            TombstoneQuery::Runs(runs) => {
                args.push("runs");
                args.count(runs.len());
                runs.iter().for_each(|run| args.run(run));
            }
            TombstoneQuery::Key(key) => {
                args.push("key");
                args.push(key);
            }
            TombstoneQuery::LastKey { from, below } => {
                args.push("last");
                args.push(from);
                args.push(below);
            }
        }
        let keys = self.keys().of(Reach::All);
        let found = texts(self.link().read(&scripts::TOMBSTONES, keys, &args).await?)?;
        found.iter().map(|stored| tombstone(stored)).collect()
    }

    async fn forget(&self, ended_before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let mut args = Args::default();
        args.moment(ended_before);
        args.count(limit.min(FORGOTTEN_MAX));
        let keys = self.keys().of(Reach::All);
        let count = number(&text(self.link().write(&scripts::FORGET, keys, &args).await?)?)?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }
}
