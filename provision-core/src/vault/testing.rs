//! A store and a clock for the tests of this module.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;

use crate::{
    clock::Clock,
    error::StoreError,
    id::Timestamp,
    secret::{Sealed, SecretKey, SecretStore},
};

/// Pages of three keys, so that paging is always passed.
#[derive(Debug, Default)]
pub(super) struct Shelf(pub(super) Mutex<BTreeMap<SecretKey, Sealed>>);

#[async_trait]
impl SecretStore for Shelf {
    async fn put(&self, key: &SecretKey, sealed: &Sealed) -> Result<Sealed, StoreError> {
        let mut all = self.0.lock().unwrap();
        Ok(all.entry(key.clone()).or_insert_with(|| sealed.clone()).clone())
    }

    async fn replace(
        &self,
        key: &SecretKey,
        old: &Sealed,
        new: &Sealed,
    ) -> Result<bool, StoreError> {
        // Lets others in between a read and the write that depends on it.
        tokio::task::yield_now().await;
        let mut all = self.0.lock().unwrap();
        let held = all.get_mut(key).filter(|held| *held == old);
        Ok(held.map(|held| *held = new.clone()).is_some())
    }

    async fn get(&self, key: &SecretKey) -> Result<Option<Sealed>, StoreError> {
        tokio::task::yield_now().await;
        Ok(self.0.lock().unwrap().get(key).cloned())
    }

    async fn keys(&self, after: Option<&SecretKey>) -> Result<Vec<SecretKey>, StoreError> {
        let all = self.0.lock().unwrap();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(all.range((from, Bound::Unbounded)).take(3).map(|(key, _)| key.clone()).collect())
    }

    async fn erase(&self, key: &SecretKey) -> Result<(), StoreError> {
        self.0.lock().unwrap().remove(key);
        Ok(())
    }
}

#[derive(Debug, Default)]
pub(super) struct Hand(pub(super) AtomicU64);

impl Clock for Hand {
    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
}
