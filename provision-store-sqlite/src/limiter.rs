//! Shared limits, in a file of their own that is never synced.
//!
//! Losing that file costs at most one burst, so a call pays for no sync; the arithmetic is the
//! same as that of every other store.

use std::sync::Arc;

use async_trait::async_trait;
use provision_core::{
    bucket::{Bucket, Standing},
    error::StoreError,
    limit::{Admission, Ask, Limiter, Observed},
    store::Incarnation,
};

use crate::{
    error::Fault,
    readers::Readers,
    rows::{all, json},
    sql,
    store::SqliteStore,
    unit::Unit,
};

#[async_trait]
impl Limiter for SqliteStore {
    async fn admit(&self, ask: &Ask) -> Result<Admission, StoreError> {
        let (ns, namespace, ask) = (self.ns(), Arc::clone(&self.namespace), ask.clone());
        let readers = Arc::clone(&self.shared.readers);
        self.shared
            .limits
            .shared("admit calls", 0, move |unit| {
                let boot = unit.now.boot.clone();
                let now = unit.wall();
                unit.change(&namespace, &ask.profile.bucket, |bucket| {
                    bucket.admit(&ask, now, |worker| standing(&readers, ns, &boot, worker))
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
        let (namespace, bucket, seen) = (Arc::clone(&self.namespace), bucket.to_owned(), *seen);
        self.shared
            .limits
            .shared("observe an answer", 0, move |unit| {
                let now = unit.wall();
                unit.change(&namespace, &bucket, |bucket| bucket.observe(worker, &seen, now))
            })
            .await
    }

    async fn look(&self, bucket: &str) -> Result<Bucket, StoreError> {
        let (namespace, bucket) = (Arc::clone(&self.namespace), bucket.to_owned());
        let look = move |unit: &Unit<'_>| unit.change(&namespace, &bucket, |found| found.clone());
        self.shared.limits.shared("look at a limit", 0, move |unit| look(unit)).await
    }
}

impl Unit<'_> {
    /// Reads, changes and keeps one bucket; one that is at rest need not be kept.
    fn change<T>(
        &self,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Bucket) -> T,
    ) -> Result<T, Fault> {
        let text =
            self.first(sql::BUCKET_READ, (namespace, name), |row| Ok(row.get::<_, String>(0)?))?;
        // A state that cannot be read is worth as much as a lost one: a burst.
        let stored: Option<Bucket> = text.as_deref().and_then(|t| serde_json::from_str(t).ok());
        let mut bucket = stored.clone().unwrap_or_default();
        let out = change(&mut bucket);
        if bucket.is_idle(self.wall()) {
            if text.is_some() {
                self.run(sql::BUCKET_DROP, (namespace, name))?;
            }
        } else if stored.as_ref() != Some(&bucket) {
            self.run(sql::BUCKET_KEEP, (namespace, name, json(&bucket)?))?;
        }
        Ok(out)
    }
}

/// Whether an incarnation may still use its slots, as far as the journal's file knows.
fn standing(readers: &Readers, ns: i64, boot: &str, worker: Incarnation) -> Standing {
    let gone = readers.read("look for a dead worker", |conn| {
        all(conn, sql::INCARNATION_GONE, (ns, worker.0.as_bytes(), boot), |row| {
            Ok(row.get::<_, bool>(0)?)
        })
    });
    match gone.ok().and_then(|gone| gone.first().copied()) {
        Some(true) => Standing::Dead,
        Some(false) => Standing::Alive,
        None => Standing::Unknown,
    }
}
