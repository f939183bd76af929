//! Room in queues that have a cap: which of them a claim may lease from, and how much.
//!
//! A queue with room is locked for one claim at a time, counted again under its lock, and leased
//! from in the same transaction. No claim takes many locks, since the server's table of them is
//! shared by all that use it, and none is stopped by one: what another claim has, perhaps that of a
//! frozen process, is passed over, and so is what was full without any lock. Where others have all
//! that a claim could lock, it waits for one of them once, for a tenth of a second at most.

use std::{collections::HashMap, sync::atomic::Ordering};

use provision_core::{caps::Room, store::Acquire};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{db::Db, error::Fault, lease::with_code, rows::Columns, store::PostgresStore};

/// Queues that one claim locks, at most.
const LOCKED_MAX: usize = 128;

/// What is known of the capped queues that a claim is about.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The room in those that are locked for this claim.
    pub(crate) room: Room,
    /// Those that were full.
    pub(crate) full: Vec<String>,
    /// One that another claim has, where all are had by others.
    pub(crate) taken: Option<String>,
}

/// Locks the capped queues of a claim, and counts.
pub(crate) async fn room(
    (db, tx): (&Db, &mut PgConnection),
    store: &PostgresStore,
    acquire: &Acquire,
) -> Result<Found, Fault> {
    let mut due = due(db, tx, (store.ns, acquire)).await?;
    due.retain(|(queue, _)| acquire.caps.of(queue).is_some());
    let queues = due.iter().map(|(queue, _)| queue.clone()).collect();
    let seen = counted(db, tx, (store.ns, acquire), queues).await?;
    due.retain(|(queue, _)| !seen.is_full(queue));
    let most = acquire.limit.saturating_mul(2).min(LOCKED_MAX);
    let turn = store.cap_turn.fetch_add(most, Ordering::Relaxed);
    let chosen = chosen(due, turn, most);
    let first = chosen.first().cloned();
    let mut found = Found { full: seen.full(), ..Found::default() };
    if first.is_none() {
        return Ok(found);
    }
    let lock = db.query(&db.sql.cap_lock).bind(i64::from(store.ns)).bind(chosen);
    let locked = names(&db.rows(tx, lock).await?)?;
    found.taken = first.filter(|_| locked.is_empty());
    // A statement of its own: it sees what was granted under the locks before.
    found.room = counted(db, tx, (store.ns, acquire), locked).await?;
    Ok(found)
}

/// Waits a moment until another claim has done with this queue, with nothing locked meanwhile.
pub(crate) async fn wait((db, conn): (&Db, &mut PgConnection), ns: i32, queue: String) {
    let wait = db.query(&db.sql.cap_wait).bind(i64::from(ns)).bind(queue);
    if let Err(fault) = db.single(conn, wait).await {
        tracing::debug!(?fault, "another claim has a queue for long");
    }
}

/// Queues that this claim is about, with the highest priority of what is due there.
async fn due(
    db: &Db,
    tx: &mut PgConnection,
    (ns, acquire): (i32, &Acquire),
) -> Result<Vec<(String, i32)>, Fault> {
    let query = match &acquire.runs {
        Some(runs) => {
            let runs: Vec<Uuid> = runs.iter().map(|run| *run.as_uuid()).collect();
            db.query(&db.sql.cap_queues_of).bind(ns).bind(runs)
        }
        None => {
            let query = db.query(&db.sql.cap_queues).bind(ns).bind(acquire.queues.clone());
            with_code(query, acquire)
        }
    };
    let rows = db.rows(tx, query).await?;
    let read = rows.iter().map(|row| {
        let mut c = Columns::new(row);
        Ok((c.take()?, c.take()?))
    });
    read.collect()
}

/// The room in these queues.
async fn counted(
    db: &Db,
    tx: &mut PgConnection,
    (ns, acquire): (i32, &Acquire),
    queues: Vec<String>,
) -> Result<Room, Fault> {
    if queues.is_empty() {
        return Ok(Room::default());
    }
    let query = db.query(&db.sql.cap_count).bind(ns).bind(queues.clone());
    let mut leased: HashMap<String, u64> = HashMap::new();
    for row in &db.rows(tx, query).await? {
        let mut c = Columns::new(row);
        leased.insert(c.take()?, c.number()?);
    }
    let of = |queue: &str| Ok::<_, Fault>(leased.get(queue).copied().unwrap_or_default());
    acquire.caps.room(queues.iter().map(String::as_str), of)
}

fn names(rows: &[sqlx::postgres::PgRow]) -> Result<Vec<String>, Fault> {
    rows.iter().map(|row| Columns::new(row).take()).collect()
}

/// Which queues with room are locked: those of higher priority first, in turn within one.
fn chosen(mut open: Vec<(String, i32)>, turn: usize, most: usize) -> Vec<String> {
    open.sort_by(|(a, high), (b, low)| low.cmp(high).then_with(|| a.cmp(b)));
    for equals in open.chunk_by_mut(|(_, one), (_, other)| one == other) {
        equals.rotate_left(turn.checked_rem(equals.len()).unwrap_or_default());
    }
    open.into_iter().take(most).map(|(queue, _)| queue).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::chosen;

    // covers: L3
    #[test]
    fn no_more_than_so_many_are_locked_by_priority_and_in_turn() {
        let mut open: Vec<_> = (0..300).map(|n| (format!("tenant/{n}"), 0)).collect();
        open.push(("urgent".to_owned(), 7));
        let mut served = BTreeSet::new();
        for turn in 0..31 {
            let found = chosen(open.clone(), turn * 10, 11);
            assert_eq!((found.len(), found[0].as_str()), (11, "urgent"));
            served.extend(found);
        }
        assert_eq!(served.len(), 301, "each has its turn");
        assert!(chosen(Vec::new(), 3, 9).is_empty());
    }
}
