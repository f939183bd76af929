//! Ends of incarnations: their runs are freed, and then they are dead.
//!
//! The incarnation is locked first, so that a later statement sees every run that was granted to
//! it. Nobody waits for a run that somebody else holds: it is freed by a later call, and until
//! then its incarnation is not marked dead, so that it is found again (L2).

use provision_core::{clock, store::Incarnation};
use sqlx::{PgConnection, postgres::PgRow};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{db::Db, error::Fault, rows::Columns};

/// How soon is tried again what somebody else holds.
const AGAIN: Duration = Duration::from_millis(5);

/// Ends these, whatever their leases say; whether runs were freed. Who `died`, and did not retire,
/// leaves the moment of its death behind.
pub(crate) async fn named(
    db: &Db,
    conn: &mut PgConnection,
    ns: i32,
    (who, died): (&[Incarnation], bool),
) -> Result<bool, Fault> {
    let ids: Vec<Uuid> = who.iter().map(|who| who.0).collect();
    let since = Instant::now();
    loop {
        let mut tx = db.begin(conn).await?;
        let lock = db.query(&db.sql.living_lock).bind(ns).bind(ids.clone());
        let locked = db.rows(&mut tx, lock).await?;
        let (freed, left) = end(db, &mut tx, ns, (&locked, died)).await?;
        if !left {
            db.commit(tx).await?;
            return Ok(freed);
        }
        // Nobody would look for the rest once they are dead: all of it, or nothing.
        tx.rollback().await?;
        if since.elapsed() >= db.busy {
            return Err(Fault::Busy);
        }
        clock::sleep(AGAIN).await;
    }
}

/// Ends those whose lease is over, but for the one that asks; whether runs were freed.
pub(crate) async fn expired(
    db: &Db,
    conn: &mut PgConnection,
    (ns, asks): (i32, Incarnation),
) -> Result<bool, Fault> {
    let mut tx = db.begin(conn).await?;
    let lock = db.query(&db.sql.expired_lock).bind(ns).bind(asks.0);
    let locked = db.rows(&mut tx, lock).await?;
    let (freed, _) = end(db, &mut tx, ns, (&locked, true)).await?;
    db.commit(tx).await?;
    Ok(freed)
}

/// Frees runs of locked incarnations, and marks those dead that have none left; whether runs were
/// freed, and whether some are left.
async fn end(
    db: &Db,
    tx: &mut PgConnection,
    ns: i32,
    (locked, died): (&[PgRow], bool),
) -> Result<(bool, bool), Fault> {
    if locked.is_empty() {
        return Ok((false, false));
    }
    let (mut ids, mut moments): (Vec<Uuid>, Vec<Option<i64>>) = (Vec::new(), Vec::new());
    for row in locked {
        let mut c = Columns::new(row);
        ids.push(c.take()?);
        let at: i64 = c.take()?;
        moments.push(died.then_some(at));
    }
    let free = db.query(&db.sql.runs_free).bind(ns).bind(ids.clone()).bind(moments);
    let freed = db.run(tx, free).await? > 0;
    let dead = db.rows(tx, db.query(&db.sql.bury).bind(ns).bind(ids)).await?;
    Ok((freed, dead.len() < locked.len()))
}
