//! Runs that are over: removed whole, in transactions shared with other calls; their tombstones.

use async_trait::async_trait;
use provision_core::{
    error::StoreError,
    id::{RunId, Timestamp},
    retention::{Prune, Pruned, RetentionStore, Tombstone, TombstoneQuery},
    run::RunStatus,
    store::Submitted,
};
use rusqlite::{Connection, Row};
use uuid::Uuid;

use crate::{
    error::{Fault, bad_row},
    rows::{all, at, blob, moment, signed, unsigned},
    sql,
    store::SqliteStore,
    unit::Unit,
};

/// Everything that hangs on a run by its id; its head goes last.
const PARTS: [&str; 5] = [
    sql::PRUNE_FRAMES,
    sql::PRUNE_REQUESTS,
    sql::PRUNE_LEDGER,
    sql::PRUNE_SIGHTINGS,
    sql::PRUNE_HEADS,
];

fn run_of(row: &Row<'_>) -> Result<RunId, Fault> {
    Ok(RunId::from_uuid(Uuid::from_bytes(row.get(0)?)))
}

fn tombstone(row: &Row<'_>) -> Result<Tombstone, Fault> {
    let status = RunStatus::parse(&row.get::<_, String>(5)?);
    Ok(Tombstone {
        run: run_of(row)?,
        key: row.get(1)?,
        saga: row.get(2)?,
        version: row.get(3)?,
        input_hash: row.get(4)?,
        status: status.ok_or_else(|| bad_row("pruned_status"))?,
        created_at: at(row.get(6)?),
        ended_at: at(row.get(7)?),
        pruned_at: at(row.get(8)?),
    })
}

fn read(conn: &Connection, ns: i64, query: &TombstoneQuery) -> Result<Vec<Tombstone>, Fault> {
    match query {
        TombstoneQuery::Runs(runs) => {
            let mut found = Vec::new();
            for run in runs {
                found.extend(all(conn, sql::TOMBSTONE, (ns, blob(run)), tombstone)?);
            }
            Ok(found)
        }
        TombstoneQuery::Key(key) => all(conn, sql::TOMBSTONE_BY_KEY, (ns, key), tombstone),
        TombstoneQuery::KeyPrefix(prefix) => {
            all(conn, sql::TOMBSTONE_OF_PREFIX, (ns, prefix), tombstone)
        }
    }
}

impl Unit<'_> {
    /// The answer about a run that was removed.
    pub(crate) fn pruned(&self, ns: i64, run: &RunId) -> Result<Option<Submitted>, Fault> {
        let found = self.first(sql::TOMBSTONE, (ns, blob(run)), tombstone)?;
        Ok(found.map(|tombstone| Submitted::Pruned(Box::new(tombstone))))
    }

    fn prune(&self, ns: i64, prune: &Prune) -> Result<Pruned, Fault> {
        let after: &[u8] = prune.after.as_ref().map_or(&[], blob);
        let looks = signed(Prune::LOOKS_MAX as u64);
        let before = moment(prune.ended_before);
        let values = (ns, after, looks, before, prune.dead_letters);
        let walk =
            self.all(sql::PRUNE_WALK, values, |row| Ok((run_of(row)?, unsigned(row.get(1)?))))?;
        let (mut pruned, mut frames) = (Pruned::default(), 0_u64);
        for (run, seq) in walk {
            // S1: judged in the transaction that removes it.
            if self.first(sql::PRUNE_NEEDED, (ns, blob(&run)), |_| Ok(()))?.is_some() {
                continue;
            }
            frames = frames.saturating_add(seq);
            pruned.runs.push(run);
            if !prune.dry_run {
                self.remove(ns, &run)?;
            }
            if pruned.runs.len() >= prune.most() || frames >= Prune::FRAMES_MAX {
                pruned.next = Some(run);
                return Ok(pruned);
            }
        }
        // Those that this very step has removed are no longer counted: it ends later for it.
        let rest = looks.saturating_sub(signed(pruned.runs.len() as u64)).saturating_sub(1);
        let rest = if prune.dry_run { looks.saturating_sub(1) } else { rest };
        pruned.next = self.first(sql::PRUNE_LAST, (ns, after, rest.max(0)), run_of)?;
        Ok(pruned)
    }

    fn remove(&self, ns: i64, run: &RunId) -> Result<(), Fault> {
        self.run(sql::PRUNE_ENTOMB, (ns, blob(run), moment(self.wall())))?;
        self.run(sql::PRUNE_SECRETS, (ns, run.to_string()))?;
        for part in PARTS {
            self.run(part, (ns, blob(run)))?;
        }
        Ok(())
    }
}

#[async_trait]
impl RetentionStore for SqliteStore {
    async fn prune(&self, prune: &Prune) -> Result<Pruned, StoreError> {
        let (ns, prune) = (self.ns(), prune.clone());
        self.write("remove runs", move |unit| unit.prune(ns, &prune)).await
    }

    async fn tombstones(&self, query: &TombstoneQuery) -> Result<Vec<Tombstone>, StoreError> {
        let (ns, query) = (self.ns(), query.clone());
        self.read("read tombstones", move |conn| read(conn, ns, &query)).await
    }

    async fn forget(&self, ended_before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let values = (self.ns(), moment(ended_before), signed(limit as u64));
        self.write("forget tombstones", move |unit| unit.run(sql::TOMBSTONES_FORGET, values)).await
    }
}
