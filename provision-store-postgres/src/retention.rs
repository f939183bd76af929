//! Runs that are over: removed by a function of the schema's owner; their tombstones.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use provision_core::{
    error::StoreError,
    id::{RunId, Timestamp},
    retention::{Prune, PruneStep, RetentionStore, Tombstone, TombstoneQuery},
    run::RunStatus,
    store::RunHead,
};
use sqlx::{PgConnection, postgres::PgRow};
use uuid::Uuid;

use crate::{
    db::{Db, Statement},
    error::{Fault, bad_row},
    rows::{Columns, count, moment, signed},
    store::PostgresStore,
};

fn tombstone(row: &PgRow) -> Result<Tombstone, Fault> {
    let mut c = Columns::new(row);
    Ok(Tombstone {
        run: c.run()?,
        key: c.take()?,
        saga: c.take()?,
        version: u32::try_from(c.take::<i64>()?).map_err(|_error| bad_row("pruned_version"))?,
        input_hash: c.take()?,
        status: RunStatus::parse(c.take()?).ok_or_else(|| bad_row("pruned_status"))?,
        created_at: c.moment()?,
        ended_at: c.moment()?,
        pruned_at: c.moment()?,
    })
}

fn all(rows: &[PgRow]) -> Result<Vec<Tombstone>, Fault> {
    rows.iter().map(tombstone).collect()
}

fn of_runs(db: &Db, ns: i32, runs: &[RunId]) -> Statement {
    let runs: Vec<Uuid> = runs.iter().map(|run| *run.as_uuid()).collect();
    db.query(&db.sql.tombstones).bind(ns).bind(runs)
}

/// What is left of these runs, by namespace and id: one statement for each namespace.
pub(crate) async fn left_of(
    db: &Db,
    conn: &mut PgConnection,
    runs: &[(i32, RunId)],
) -> Result<HashMap<(i32, RunId), Tombstone>, Fault> {
    let mut wanted: BTreeMap<i32, Vec<RunId>> = BTreeMap::new();
    for (ns, run) in runs {
        wanted.entry(*ns).or_default().push(*run);
    }
    let mut left = HashMap::new();
    for (ns, runs) in wanted {
        let found = all(&db.rows(conn, of_runs(db, ns, &runs)).await?)?;
        left.extend(found.into_iter().map(|tombstone| ((ns, tombstone.run), tombstone)));
    }
    Ok(left)
}

/// What is left of the run that was started with this key or under this id.
pub(crate) async fn known(
    db: &Db,
    conn: &mut PgConnection,
    ns: i32,
    new: &RunHead,
) -> Result<Option<Tombstone>, Fault> {
    let find = db.query(&db.sql.tombstone_find).bind(ns).bind(&new.key).bind(*new.id.as_uuid());
    Ok(all(&db.rows(conn, find).await?)?.pop())
}

fn pruning(db: &Db, ns: i32, prune: &Prune) -> Statement {
    let after = prune.after.map_or(Uuid::nil(), |run| *run.as_uuid());
    let number = |value: usize| i32::try_from(value).unwrap_or(i32::MAX);
    let query = db.query(&db.sql.prune).bind(ns).bind(after).bind(moment(prune.ended_before));
    let query = query.bind(prune.succeeded).bind(prune.dead_letters).bind(number(prune.most()));
    let query = query.bind(number(Prune::LOOKS_MAX)).bind(number(Prune::FAMILY_MAX));
    query.bind(signed(Prune::FRAMES_MAX)).bind(prune.dry_run)
}

#[async_trait]
impl RetentionStore for PostgresStore {
    async fn prune(&self, prune: &Prune) -> Result<PruneStep, StoreError> {
        const OPERATION: &str = "remove runs";
        let db = &self.shared.db;
        let mut conn = db.acquire(OPERATION).await?;
        let work = async {
            let rows = db.careful(&mut conn, pruning(db, self.ns, prune)).await?;
            let mut c = Columns::new(rows.first().ok_or(sqlx::Error::RowNotFound)?);
            let runs: Vec<Uuid> = c.take()?;
            let next: Option<Uuid> = c.take()?;
            let runs = runs.into_iter().map(RunId::from_uuid).collect();
            Ok(PruneStep { runs, next: next.map(RunId::from_uuid) })
        };
        work.await.map_err(|fault: Fault| fault.into_store(OPERATION))
    }

    async fn tombstones(&self, query: &TombstoneQuery) -> Result<Vec<Tombstone>, StoreError> {
        const OPERATION: &str = "read tombstones";
        let (db, ns) = (&self.shared.db, self.ns);
        let statement = match query {
            TombstoneQuery::Runs(runs) => of_runs(db, ns, runs),
            TombstoneQuery::Key(key) => {
                db.query(&db.sql.tombstone_find).bind(ns).bind(key.clone()).bind(None::<Uuid>)
            }
            TombstoneQuery::LastKey { from, below } => {
                let query = db.query(&db.sql.tombstone_last_key).bind(ns);
                query.bind(from.clone()).bind(below.clone())
            }
        };
        let rows = db.once(OPERATION, statement).await?;
        all(&rows).map_err(|fault| fault.into_store(OPERATION))
    }

    async fn forget(&self, ended_before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        const OPERATION: &str = "forget tombstones";
        let db = &self.shared.db;
        let query = db.query(&db.sql.tombstones_forget).bind(self.ns).bind(moment(ended_before));
        let mut conn = db.acquire(OPERATION).await?;
        let work = async {
            let rows = db.careful(&mut conn, query.bind(count(limit))).await?;
            let forgotten: i64 =
                Columns::new(rows.first().ok_or(sqlx::Error::RowNotFound)?).take()?;
            Ok(usize::try_from(forgotten).unwrap_or_default())
        };
        work.await.map_err(|fault: Fault| fault.into_store(OPERATION))
    }
}
