//! New runs: one statement for any number of them.

use std::collections::HashMap;

use provision_core::{
    error::{StoreError, StoreErrorKind},
    store::{Fence, NewRun, RunHead, Submitted},
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    db::{Db, Statement},
    error::Fault,
    notify::Stirs,
    retention,
    rows::{Columns, at, head, json, millis, moment, signed},
};

/// Nonces are below 2^53, so that every store could keep them.
const NONCE_BITS: u32 = 53;

/// Draws the nonce of a lease.
pub(crate) fn nonce() -> Result<i64, Fault> {
    let drawn = getrandom::u64().map_err(|_error| {
        StoreError::new(StoreErrorKind::Unavailable, "postgres_no_randomness", "draw a nonce")
            .with_hint("the system's generator of random numbers does not answer")
    })?;
    // 0 stands for no lease.
    Ok(signed(drawn >> (u64::BITS - NONCE_BITS)).max(1))
}

/// The lane of a run, made in a transaction of its own when it is new.
pub(crate) async fn lane(
    db: &Db,
    conn: &mut PgConnection,
    ns: i32,
    new: &RunHead,
) -> Result<i32, Fault> {
    if let Some(lane) = db.known_lane(ns, &new.queue, &new.saga) {
        return Ok(lane);
    }
    let mut tx = db.begin(conn).await?;
    let lane = match db.lane(&mut tx, ns, &new.queue, &new.saga).await {
        Ok(lane) => lane,
        Err(fault) => return Err(db.undone(tx, fault).await),
    };
    db.commit(tx).await?;
    db.remember_lane(ns, &new.queue, &new.saga, lane);
    Ok(lane)
}

/// What was added, by namespace and run.
pub(crate) type Added = HashMap<(i32, Uuid), AddedRun>;

/// A run that was added.
pub(crate) struct AddedRun {
    pub(crate) leased: bool,
    pub(crate) stirs: Stirs,
    updated_at: i64,
}

/// A run to be added.
pub(crate) struct Adding<'a> {
    pub(crate) ns: i32,
    pub(crate) lane: i32,
    pub(crate) nonce: i64,
    pub(crate) new: &'a NewRun,
}

#[derive(Default)]
struct Columned<'a> {
    ns: Vec<i32>,
    run: Vec<Uuid>,
    lane: Vec<i32>,
    priority: Vec<i32>,
    tenant: Vec<Option<&'a str>>,
    key: Vec<Option<&'a str>>,
    input: Vec<&'a str>,
    input_hash: Vec<&'a str>,
    parent_run: Vec<Option<Uuid>>,
    parent_path: Vec<Option<&'a str>>,
    context: Vec<String>,
    created_at: Vec<i64>,
    status: Vec<&'static str>,
    due: Vec<i64>,
    polls: Vec<String>,
    requests: Vec<i64>,
    consumed: Vec<i64>,
    open: Vec<bool>,
    deaths: Vec<i32>,
    summary: Vec<String>,
    dead_letter: Vec<bool>,
    guard: Vec<Option<&'a str>>,
    guard_until: Vec<Option<&'static str>>,
    updated_at: Vec<i64>,
    owner: Vec<Option<Uuid>>,
    nonce: Vec<i64>,
    ttl: Vec<i64>,
    first: Vec<Option<&'a str>>,
    first_at: Vec<Option<i64>>,
    first_summary: Vec<Option<String>>,
}

impl<'a> Columned<'a> {
    fn push(&mut self, adding: &Adding<'a>) -> Result<(), Fault> {
        let head = &adding.new.head;
        self.ns.push(adding.ns);
        self.run.push(*head.id.as_uuid());
        self.lane.push(adding.lane);
        self.priority.push(head.priority);
        self.tenant.push(head.tenant.as_deref());
        self.key.push(head.key.as_deref());
        self.input.push(head.input.as_str());
        self.input_hash.push(&head.input_hash);
        self.parent_run.push(head.parent.as_ref().map(|parent| *parent.run.as_uuid()));
        self.parent_path.push(head.parent.as_ref().map(|parent| parent.path.as_str()));
        self.context.push(json(&head.context)?);
        self.created_at.push(moment(head.created_at));
        self.status.push(head.status.as_str());
        self.due.push(moment(head.due));
        self.polls.push(json(&head.polls)?);
        self.requests.push(signed(head.requests));
        self.consumed.push(signed(head.consumed));
        self.open.push(head.open);
        self.deaths.push(i32::try_from(head.deaths).unwrap_or(i32::MAX));
        self.summary.push(json(&head.summary)?);
        self.dead_letter.push(head.summary.is_dead_letter(head.status));
        self.guard.push(head.guard.as_ref().map(|guard| guard.key.as_str()));
        self.guard_until.push(head.guard.as_ref().map(|guard| guard.until.as_str()));
        self.updated_at.push(moment(head.updated_at));
        let (lease, first) = (adding.new.lease_to.as_ref(), adding.new.first());
        self.owner.push(lease.map(|lease| lease.worker.0));
        self.nonce.push(adding.nonce);
        self.ttl.push(lease.map_or(0, |lease| millis(lease.ttl)));
        self.first.push(first.map(|first| &*first.body));
        self.first_at.push(first.map(|first| moment(first.at)));
        self.first_summary.push(first.map(|first| json(&first.summary)).transpose()?);
        Ok(())
    }

    fn bind(self, statement: Statement) -> Statement {
        let statement = statement.bind(self.ns).bind(self.run).bind(self.lane).bind(self.priority);
        let statement = statement.bind(self.tenant).bind(self.key).bind(self.input);
        let statement = statement.bind(self.input_hash).bind(self.parent_run);
        let statement = statement.bind(self.parent_path).bind(self.context).bind(self.created_at);
        let statement = statement.bind(self.status).bind(self.due).bind(self.polls);
        let statement = statement.bind(self.requests).bind(self.consumed).bind(self.open);
        let statement = statement.bind(self.deaths).bind(self.summary).bind(self.dead_letter);
        let statement = statement.bind(self.guard).bind(self.guard_until).bind(self.updated_at);
        let statement = statement.bind(self.owner).bind(self.nonce).bind(self.ttl);
        statement.bind(self.first).bind(self.first_at).bind(self.first_summary)
    }
}

/// The statement that adds all of these; they have different ids and business keys.
pub(crate) fn adding(db: &Db, runs: &[Adding<'_>]) -> Result<Statement, Fault> {
    let mut columns = Columned::default();
    for run in runs {
        columns.push(run)?;
    }
    let is_leased = columns.owner.iter().any(Option::is_some);
    let start = if is_leased { &db.sql.start } else { &db.sql.start_unleased };
    Ok(columns.bind(db.query(start)))
}

/// Reads which of them were added.
pub(crate) fn added(rows: &[sqlx::postgres::PgRow]) -> Result<Added, Fault> {
    let mut found = HashMap::new();
    for row in rows {
        let mut c = Columns::new(row);
        let key = (c.take()?, c.take()?);
        let (leased, place): (bool, i16) = (c.take()?, c.take()?);
        let mut stirs = Stirs::default();
        stirs.add(place);
        found.insert(key, AddedRun { leased, stirs, updated_at: c.take()? });
    }
    Ok(found)
}

/// The answer about a run that was added.
pub(crate) fn created(adding: &Adding<'_>, added: &AddedRun) -> Submitted {
    let Some(lease) = adding.new.lease_to.as_ref().filter(|_| added.leased) else {
        return Submitted::Created(None);
    };
    let nonce = crate::rows::unsigned(adding.nonce);
    let fence = Fence { owner: lease.worker, epoch: 1, nonce };
    Submitted::Created(Some(Box::new(adding.new.born(fence, at(added.updated_at)))))
}

/// The answer about a run that was not added, if somebody stands in its way; else it is about to
/// be added elsewhere.
pub(crate) async fn known(
    db: &Db,
    conn: &mut PgConnection,
    ns: i32,
    new: &RunHead,
) -> Result<Option<Submitted>, Fault> {
    let find = db.query(&db.sql.run_find).bind(ns).bind(&new.key).bind(*new.id.as_uuid());
    if let Some(row) = db.rows(conn, find).await?.first() {
        let found = Box::new(head(&mut Columns::new(row))?);
        // The same start is the same run; another saga or input under its key is a mistake.
        let same = found.input_hash == new.input_hash && found.saga.name == new.saga.name;
        return Ok(Some(if same { Submitted::Known(found) } else { Submitted::KeyTaken(found) }));
    }
    if let Some(left) = retention::known(db, conn, ns, new).await? {
        return Ok(Some(Submitted::Pruned(Box::new(left))));
    }
    let Some(guard) = &new.guard else { return Ok(None) };
    Ok(holder(db, conn, ns, &guard.key).await?.map(|found| Submitted::Guarded(Box::new(found))))
}

/// The run that holds a business key.
pub(crate) async fn holder(
    db: &Db,
    conn: &mut PgConnection,
    ns: i32,
    guard: &str,
) -> Result<Option<RunHead>, Fault> {
    let rows = db.rows(conn, db.query(&db.sql.run_by_guard).bind(ns).bind(guard)).await?;
    rows.first().map(|row| head(&mut Columns::new(row))).transpose()
}

/// Gets the lock of a business key, until the end of the transaction; nobody waits for it.
pub(crate) async fn lock_guard(
    db: &Db,
    tx: &mut PgConnection,
    ns: i32,
    guard: &str,
) -> Result<bool, Fault> {
    let name = vec![format!("guard:{ns}:{guard}")];
    let rows = db.rows(tx, db.query(&db.sql.names_lock).bind(name)).await?;
    let got = rows.first().map(|row| Columns::new(row).take()).transpose()?;
    Ok(got.unwrap_or_default())
}

/// Adds one run inside a transaction; `None` when somebody else is about to take its keys.
pub(crate) async fn one(
    db: &Db,
    tx: &mut PgConnection,
    ns: i32,
    new: &NewRun,
) -> Result<Option<(Submitted, Stirs)>, Fault> {
    if let Some(guard) = &new.head.guard
        && !lock_guard(db, tx, ns, &guard.key).await?
    {
        return Ok(None);
    }
    let lane = db.lane(tx, ns, &new.head.queue, &new.head.saga).await?;
    let run = Adding { ns, lane, nonce: nonce()?, new };
    let rows = db.rows(tx, adding(db, std::slice::from_ref(&run))?).await?;
    match added(&rows)?.get(&(ns, *new.head.id.as_uuid())) {
        Some(added) => Ok(Some((created(&run, added), added.stirs))),
        None => Ok(known(db, tx, ns, &new.head).await?.map(|found| (found, Stirs::default()))),
    }
}

/// Adds one run that begins with another run's append; who should look for it. One that is there
/// already stays as it is.
pub(crate) async fn begin(
    db: &Db,
    tx: &mut PgConnection,
    ns: i32,
    new: &NewRun,
) -> Result<Stirs, Fault> {
    match one(db, tx, ns, new).await? {
        Some((_, stirs)) => Ok(stirs),
        None => Err(Fault::Busy),
    }
}
