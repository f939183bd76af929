//! Appends on which more hangs than a frame: ledger rows, sealed values, runs that begin or wake,
//! a freed business key, the host's own rows. All of it is one transaction with the fenced row.
//!
//! Nobody waits for a row or a name that somebody else holds: the append is tried again, so two
//! of them never wait for each other.

use std::collections::{HashMap, HashSet};

use provision_core::{
    ledger::LedgerRow,
    run::RunStatus,
    store::{Append, Appended, NewRun},
};
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use crate::{
    append::{Done, Job, Verdict, touched},
    batch::{appending, seq_before},
    db::Db,
    error::Fault,
    host::{self, EndHandler},
    ledger,
    rows::{Columns, ledger_row, signed},
    secrets, start,
};

/// The names of things that an append wants for its run, for the lock of that name.
pub(crate) fn names(job: &Job) -> Vec<String> {
    let wanted = job.append.ledger.iter().filter(|row| row.claimed_name().is_some());
    wanted
        .map(|row| {
            let (provider, account, kind) = (&row.provider, &row.account, &row.kind);
            let name = row.name.as_deref().unwrap_or_default();
            format!("name:{}:{provider}\u{1}{account}\u{1}{kind}\u{1}{name}", job.ns)
        })
        .collect()
}

/// A run's row as it was locked.
struct Locked {
    owner: Option<Uuid>,
    epoch: i64,
    nonce: i64,
    seq: i64,
    over: bool,
}

impl Locked {
    /// S5: owner, epoch, nonce and sequence, as they stand now and until the end.
    fn lets(&self, append: &Append) -> bool {
        let fence = &append.fence;
        self.owner == Some(fence.owner.0)
            && (self.epoch, self.nonce) == (signed(fence.epoch), signed(fence.nonce))
            && self.seq == seq_before(append)
    }
}

type Rows = HashMap<(i32, Uuid), Locked>;

/// Writes these, each whole or not at all.
pub(crate) async fn write(db: &Db, conn: &mut PgConnection, jobs: &[&Job]) -> Result<Done, Fault> {
    // A lane that is made for a run that begins stays, whatever becomes of the run.
    for (job, new) in starts(jobs) {
        start::lane(db, conn, job.ns, &new.head).await?;
    }
    let with_host = jobs.iter().any(|job| job.handler.is_some());
    let mut tx = match with_host {
        true => db.begin_with_host(conn).await?,
        false => db.begin(conn).await?,
    };
    match write_in(db, &mut tx, jobs).await {
        Ok(done) => db.commit(tx).await.map(|()| done),
        Err(fault) => Err(db.undone(tx, fault).await),
    }
}

async fn write_in(db: &Db, tx: &mut PgConnection, jobs: &[&Job]) -> Result<Done, Fault> {
    let mut done = Done::read(&[], jobs.len())?;
    if !lock_names(db, tx, jobs).await? {
        return Err(Fault::Busy);
    }
    let rows = lock_rows(db, tx, jobs).await?;
    let busy = busy(db, tx, jobs, &rows).await?;
    let mut accepted = judge(jobs, &rows, &busy, &mut done);
    for (n, holder) in conflicts(db, tx, &accepted).await? {
        done.set(n, Verdict::Done(Appended::Conflict(Box::new(holder))));
        accepted.retain(|(number, _)| *number != n);
    }
    put(db, tx, &accepted, &mut done).await?;
    done.ask_why(db, tx, jobs, false).await?;
    for (_, job) in &accepted {
        end(tx, job, &rows).await?;
    }
    Ok(done)
}

/// Those that may be written. The fence comes first: who has no lease learns nothing but that.
fn judge<'a>(
    jobs: &[&'a Job],
    rows: &Rows,
    busy: &HashSet<(i32, Uuid)>,
    done: &mut Done,
) -> Vec<(u64, &'a Job)> {
    let mut accepted: Vec<(u64, &Job)> = Vec::new();
    for (job, n) in jobs.iter().zip(1_u64..) {
        let row = rows.get(&(job.ns, *job.append.run.as_uuid()));
        let mut touched = touched(std::slice::from_ref(job));
        if touched.any(|(ns, run)| busy.contains(&(ns, *run.as_uuid()))) {
            done.set(n, Verdict::Again);
        } else if row.is_some_and(|row| row.lets(&job.append)) {
            accepted.push((n, job));
        }
    }
    accepted
}

/// Lets the host write with an end. What is written to a run that is over already is no end.
async fn end(tx: &mut PgConnection, job: &Job, rows: &Rows) -> Result<(), Fault> {
    let over = rows.get(&(job.ns, *job.append.run.as_uuid())).is_some_and(|row| row.over);
    match &job.handler {
        Some(handler) if !over => host::call(handler, tx, &job.append).await,
        _ => Ok(()),
    }
}

/// Runs that begin with these.
fn starts<'a>(jobs: &'a [&'a Job]) -> impl Iterator<Item = (&'a Job, &'a NewRun)> {
    jobs.iter().flat_map(|job| job.append.starts.iter().map(move |new| (*job, new)))
}

async fn lock_names(db: &Db, tx: &mut PgConnection, jobs: &[&Job]) -> Result<bool, Fault> {
    let mut wanted: Vec<String> = jobs.iter().flat_map(|job| names(job)).collect();
    if wanted.is_empty() {
        return Ok(true);
    }
    wanted.sort_unstable();
    let rows = db.rows(tx, db.query(&db.sql.names_lock).bind(wanted)).await?;
    Ok(match rows.first() {
        Some(row) => row.try_get(0)?,
        None => false,
    })
}

async fn lock_rows(db: &Db, tx: &mut PgConnection, jobs: &[&Job]) -> Result<Rows, Fault> {
    let (ns, runs) = columns(touched(jobs).map(|(ns, run)| (ns, *run.as_uuid())).collect());
    let statement = db.query(&db.sql.heads_lock).bind(ns).bind(runs);
    let mut locked = HashMap::new();
    for row in db.rows(tx, statement).await? {
        let mut c = Columns::new(&row);
        let key = (c.take()?, c.take()?);
        let (owner, epoch, nonce, seq) = (c.take()?, c.take()?, c.take()?, c.take()?);
        let over = RunStatus::parse(c.take()?).is_some_and(RunStatus::is_end);
        locked.insert(key, Locked { owner, epoch, nonce, seq, over });
    }
    Ok(locked)
}

fn columns(keys: HashSet<(i32, Uuid)>) -> (Vec<i32>, Vec<Uuid>) {
    keys.into_iter().unzip()
}

/// Rows that are there and could not be locked.
async fn busy(
    db: &Db,
    tx: &mut PgConnection,
    jobs: &[&Job],
    rows: &Rows,
) -> Result<HashSet<(i32, Uuid)>, Fault> {
    let all = touched(jobs).map(|(ns, run)| (ns, *run.as_uuid()));
    let missing: HashSet<_> = all.filter(|key| !rows.contains_key(key)).collect();
    if missing.is_empty() {
        return Ok(missing);
    }
    let (ns, runs) = columns(missing);
    let known = db.rows(tx, db.query(&db.sql.heads_known).bind(ns).bind(runs)).await?;
    known.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Live created rows of other runs that stand against these, by the number of the append.
async fn conflicts(
    db: &Db,
    tx: &mut PgConnection,
    accepted: &[(u64, &Job)],
) -> Result<Vec<(u64, LedgerRow)>, Fault> {
    let wanted: Vec<(u64, i32, &LedgerRow)> = accepted
        .iter()
        .flat_map(|(n, job)| job.append.ledger.iter().map(move |row| (*n, job.ns, row)))
        .filter(|(_, _, row)| row.claimed_name().is_some())
        .collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut found: Vec<(u64, LedgerRow)> = Vec::new();
    for row in db.rows(tx, ledger::asking_holders(db, &wanted)).await? {
        let index = Columns::new(&row).number()?.saturating_sub(1);
        let wanted = usize::try_from(index).ok().and_then(|index| wanted.get(index));
        let Some((n, ..)) = wanted else { continue };
        // The first row that meets another run's is the answer.
        if found.iter().all(|(known, _)| known != n) {
            found.push((*n, ledger_row(&mut Columns::new(&row).skip(1))?));
        }
    }
    Ok(found)
}

/// Writes the accepted ones, with all that hangs on them.
async fn put(
    db: &Db,
    tx: &mut PgConnection,
    accepted: &[(u64, &Job)],
    done: &mut Done,
) -> Result<(), Fault> {
    if accepted.is_empty() {
        return Ok(());
    }
    let jobs: Vec<&Job> = accepted.iter().map(|(_, job)| *job).collect();
    let rows = db.rows(tx, appending(db, &jobs, true)?).await?;
    if rows.len() != jobs.len() {
        // Their rows are locked and were compared: nothing else can have changed them.
        return Err(crate::error::bad_row("seq"));
    }
    done.take_over(&Done::read(&rows, jobs.len())?, accepted);
    let puts: Vec<_> =
        jobs.iter().flat_map(|j| j.append.ledger.iter().map(|row| (j.ns, row))).collect();
    ledger::put(db, tx, &puts).await?;
    let sealed: Vec<_> =
        jobs.iter().flat_map(|j| j.append.sealed.iter().map(|(k, v)| (j.ns, k, v))).collect();
    secrets::put(db, tx, &sealed).await?;
    let freed: HashSet<_> = jobs
        .iter()
        .filter(|job| job.append.free_guard)
        .map(|job| (job.ns, *job.append.run.as_uuid()))
        .collect();
    if !freed.is_empty() {
        let (ns, runs) = columns(freed);
        db.run(tx, db.query(&db.sql.guards_free).bind(ns).bind(runs)).await?;
    }
    for (job, new) in starts(&jobs) {
        done.stirs |= start::begin(db, tx, job.ns, new).await?;
    }
    let woken: HashSet<_> = jobs
        .iter()
        .flat_map(|job| job.append.wakes.iter().map(|run| (job.ns, *run.as_uuid())))
        .collect();
    if !woken.is_empty() {
        let (ns, runs) = columns(woken);
        done.stirs.ready |= db.run(tx, db.query(&db.sql.wake).bind(ns).bind(runs)).await? > 0;
    }
    Ok(())
}

/// What the host writes with this end, if it does.
pub(crate) fn handler_of(append: &Append, handler: Option<&EndHandler>) -> Option<EndHandler> {
    handler.filter(|_| append.status.is_end()).cloned()
}
