//! Runs that are over: removed whole, in transactions shared with other calls; their tombstones.

use async_trait::async_trait;
use provision_core::{
    error::StoreError,
    id::{RunId, Timestamp},
    retention::{Prune, PruneStep, RetentionStore, Tombstone, TombstoneQuery},
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
        TombstoneQuery::LastKey { from, below } => {
            all(conn, sql::TOMBSTONE_LAST_KEY, (ns, from, below), tombstone)
        }
    }
}

impl Unit<'_> {
    /// The answer about a run that was removed.
    pub(crate) fn pruned(&self, ns: i64, run: &RunId) -> Result<Option<Submitted>, Fault> {
        let found = self.first(sql::TOMBSTONE, (ns, blob(run)), tombstone)?;
        Ok(found.map(|tombstone| Submitted::Pruned(Box::new(tombstone))))
    }

    fn prune(&self, ns: i64, prune: &Prune) -> Result<PruneStep, Fault> {
        let after: &[u8] = prune.after.as_ref().map_or(&[], blob);
        // One more than is looked at tells whether the walk goes on.
        let rows = signed((Prune::LOOKS_MAX as u64).saturating_add(1));
        let (before, succeeded) = (moment(prune.ended_before), prune.succeeded);
        let values = (ns, after, rows, before, succeeded, prune.dead_letters);
        let walk = self.all(sql::PRUNE_WALK, values, |row| {
            Ok((run_of(row)?, unsigned(row.get(1)?), row.get::<_, bool>(2)?))
        })?;
        let (mut step, mut looks, mut frames) = (PruneStep::default(), 0_usize, 0_u64);
        let mut last = None;
        for (run, seq, may_go) in walk {
            let full = step.runs.len() >= prune.most() || frames >= Prune::FRAMES_MAX;
            if full || looks >= Prune::LOOKS_MAX {
                step.next = last;
                break;
            }
            (looks, last) = (looks.saturating_add(1), Some(run));
            if !may_go || self.first(sql::PRUNE_PARENT, (ns, blob(&run)), |_| Ok(()))?.is_some() {
                continue;
            }
            let family = self.family(ns, &run, prune)?;
            looks = looks.saturating_add(family.len().saturating_sub(1));
            if family.len() > Prune::FAMILY_MAX || family.contains(&true) {
                continue;
            }
            frames = frames.saturating_add(seq);
            step.runs.push(run);
            if !prune.dry_run {
                self.remove(ns, &run)?;
            }
        }
        Ok(step)
    }

    /// S1: whether a run, and each one below it, stays; judged in the transaction that removes it.
    fn family(&self, ns: i64, run: &RunId, prune: &Prune) -> Result<Vec<bool>, Fault> {
        let most = signed((Prune::FAMILY_MAX as u64).saturating_add(1));
        let (before, succeeded) = (moment(prune.ended_before), prune.succeeded);
        let values = (ns, blob(run), most, before, succeeded, prune.dead_letters);
        self.all(sql::PRUNE_FAMILY, values, |row| Ok(row.get(0)?))
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
    async fn prune(&self, prune: &Prune) -> Result<PruneStep, StoreError> {
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
