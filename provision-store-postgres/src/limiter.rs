//! Shared limits, in a table that is never logged.
//!
//! Losing it costs at most one burst, so a call pays for no sync; the arithmetic is the same as
//! that of every other store. Calls on one bucket take turns by a lock of its name.

use std::collections::HashMap;

use async_trait::async_trait;
use provision_core::{
    bucket::{Bucket, Standing},
    error::StoreError,
    id::Timestamp,
    limit::{Admission, Ask, Limiter, Observed},
    store::Incarnation,
};
use uuid::Uuid;

use crate::{
    error::Fault,
    rows::{Columns, json},
    store::PostgresStore,
};

#[async_trait]
impl Limiter for PostgresStore {
    async fn admit(&self, ask: &Ask) -> Result<Admission, StoreError> {
        let slots = ask.slot && ask.profile.concurrency.is_some();
        let change = |bucket: &mut Bucket, now, known: &HashMap<Uuid, bool>| {
            bucket.admit(ask, now, |worker: Incarnation| match known.get(&worker.0) {
                Some(true) => Standing::Dead,
                Some(false) => Standing::Alive,
                None => Standing::Unknown,
            })
        };
        let answer = self.change(&ask.profile.bucket, slots, change).await;
        answer.map_err(|fault| fault.into_store("admit calls"))
    }

    async fn observe(
        &self,
        bucket: &str,
        worker: Incarnation,
        seen: &Observed,
    ) -> Result<(), StoreError> {
        let change = |bucket: &mut Bucket, now, _: &HashMap<Uuid, bool>| {
            bucket.observe(worker, seen, now);
        };
        let answer = self.change(bucket, false, change).await;
        answer.map_err(|fault| fault.into_store("observe an answer"))
    }

    async fn look(&self, bucket: &str) -> Result<Bucket, StoreError> {
        let look = |bucket: &mut Bucket, _, _: &HashMap<Uuid, bool>| bucket.clone();
        let answer = self.change(bucket, false, look).await;
        answer.map_err(|fault| fault.into_store("look at a limit"))
    }
}

impl PostgresStore {
    /// Reads, changes and keeps one bucket; one that is at rest need not be kept. The change is
    /// told who of those that hold its slots is known, and dead, where it asks for `slots`.
    async fn change<T>(
        &self,
        name: &str,
        slots: bool,
        change: impl FnOnce(&mut Bucket, Timestamp, &HashMap<Uuid, bool>) -> T + Send,
    ) -> Result<T, Fault>
    where
        T: Send,
    {
        let db = &*self.shared.db;
        let mut conn = db.acquire("reach the limits").await?;
        let mut tx = db.begin(&mut conn).await?;
        let locked = db.query(&db.sql.bucket_lock).bind(self.ns).bind(name.to_owned());
        db.rows(&mut tx, locked).await?;
        let read = db.query(&db.sql.bucket_read).bind(self.ns).bind(name.to_owned());
        let rows = db.rows(&mut tx, read).await?;
        let mut c = Columns::new(rows.first().ok_or(sqlx::Error::RowNotFound)?);
        let (now, text) = (c.moment()?, c.take::<Option<String>>()?);
        // A state that cannot be read is worth as much as a lost one: a burst.
        let stored: Option<Bucket> = text.as_deref().and_then(|t| serde_json::from_str(t).ok());
        let mut bucket = stored.clone().unwrap_or_default();
        let mut known = HashMap::new();
        let holders: Vec<Uuid> = bucket.holders().filter(|_| slots).map(|who| who.0).collect();
        if !holders.is_empty() {
            let asked = db.query(&db.sql.incarnations_known).bind(self.ns).bind(holders);
            for row in &db.rows(&mut tx, asked).await? {
                let mut c = Columns::new(row);
                known.insert(c.take()?, c.take()?);
            }
        }
        let out = change(&mut bucket, now, &known);
        if bucket.is_idle(now) {
            if text.is_some() {
                let drop = db.query(&db.sql.bucket_drop).bind(self.ns).bind(name.to_owned());
                db.run(&mut tx, drop).await?;
            }
        } else if stored.as_ref() != Some(&bucket) {
            let keep = db.query(&db.sql.bucket_keep).bind(self.ns).bind(name.to_owned());
            db.run(&mut tx, keep.bind(json(&bucket)?)).await?;
        }
        db.commit(tx).await?;
        Ok(out)
    }
}
