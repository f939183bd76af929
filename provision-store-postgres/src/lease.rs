//! The one place where leases are granted, renewed and ended.
//!
//! A call is a few statements, each a transaction that is right by itself: whoever is granted a run
//! has locked its own incarnation in the same statement, and whoever takes over locks the dead
//! incarnation first, and frees its runs by a later statement of the same transaction, which sees
//! what was granted before.

use std::time::Duration;

use provision_core::{
    caps::{Capped, Caps, Room},
    error::StoreError,
    id::{RunId, Timestamp},
    store::{Acquire, Fence, Incarnation, LeaseGrant, LeaseRequest, Leased, RunRecord},
};
use sqlx::{PgConnection, postgres::PgRow};
use uuid::Uuid;

use crate::{
    bury, caps,
    db::{Db, Statement},
    error::Fault,
    notify::Stirs,
    rows::{Columns, count, head, json, millis, moment, record, signed, unsigned},
    start,
    store::PostgresStore,
};

const OPERATION: &str = "lease";
/// None of the dead incarnations is renewed for so long; what comes later holds nothing, under any
/// name.
const DEAD_KEPT: Duration = Duration::from_secs(24 * 3_600);
/// Most that one call forgets: more than one call buries, as a rule.
const FORGOTTEN_AT_ONCE: i64 = 100;
/// Runs that one call leases, at most.
const LEASED_MAX: usize = 1_000;

/// What a renewal tells beside its answer.
#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a sign of its own")]
struct Signs {
    alive: bool,
    /// Somebody's lease is over.
    expired: bool,
    /// Somebody has been dead for long.
    forgettable: bool,
    /// Runs whose time has come are not among the ready ones yet.
    delayed: bool,
}

/// One call under way.
struct Call<'a> {
    store: &'a PostgresStore,
    db: &'a Db,
    conn: &'a mut PgConnection,
    request: &'a LeaseRequest,
    stirs: Stirs,
    /// Queues that were found at their cap.
    full: Vec<String>,
}

impl PostgresStore {
    pub(crate) async fn lease_now(&self, request: &LeaseRequest) -> Result<LeaseGrant, StoreError> {
        let db = &*self.shared.db;
        let mut conn = db.acquire(OPERATION).await?;
        let (stirs, full) = (Stirs::default(), Vec::new());
        let mut call = Call { store: self, db, conn: &mut conn, request, stirs, full };
        let granted = call.grant().await;
        self.shared.stirred.stir(call.stirs);
        let full = std::mem::take(&mut call.full);
        let granted = granted.map_err(|fault| fault.into_store(OPERATION))?;
        let Some(leased) = granted else { return self.not_alive(&mut conn).await };
        let grant = match self.figures(&mut conn, request).await {
            Err(Fault::Sql(error)) => {
                // What was granted is heard of although this connection was lost meanwhile.
                tracing::debug!(?error, "the figures of a lease are asked for again");
                drop(conn);
                conn = db.acquire(OPERATION).await?;
                self.figures(&mut conn, request).await
            }
            known => known,
        };
        let grant = grant.map_err(|fault| fault.into_store(OPERATION))?;
        Ok(LeaseGrant { alive: !request.retire, leased, full, ..grant })
    }

    async fn not_alive(&self, conn: &mut PgConnection) -> Result<LeaseGrant, StoreError> {
        let db = &*self.shared.db;
        let rows = db.single(conn, db.query(&db.sql.now)).await;
        let now =
            rows.and_then(|rows| rows.first().map(|row| Columns::new(row).moment()).transpose());
        let now = now.map_err(|fault| fault.into_store(OPERATION))?.unwrap_or_default();
        Ok(self.nothing(now))
    }

    /// An answer that grants nothing.
    fn nothing(&self, now: Timestamp) -> LeaseGrant {
        LeaseGrant {
            now: self.shared.reading(now),
            alive: false,
            leased: Vec::new(),
            held: Vec::new(),
            peers: Vec::new(),
            next_due: None,
            full: Vec::new(),
        }
    }

    async fn figures(
        &self,
        conn: &mut PgConnection,
        request: &LeaseRequest,
    ) -> Result<LeaseGrant, Fault> {
        let db = &*self.shared.db;
        let caps = Caps::default();
        let none = Acquire { limit: 0, runs: None, queues: Vec::new(), code: Vec::new(), caps };
        let wanted = wanted(request);
        let acquire = wanted.unwrap_or(&none);
        let query = db.query(&db.sql.figures).bind(self.ns);
        let query = query.bind(request.worker.0).bind(acquire.queues.clone());
        let rows = db.careful(conn, with_code(query.bind(wanted.is_none()), acquire)).await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        let mut c = Columns::new(row);
        let now = c.moment()?;
        let (runs, epochs): (Vec<Uuid>, Vec<i64>) = (c.take()?, c.take()?);
        let peers: Vec<Uuid> = c.take()?;
        let held = runs.into_iter().zip(epochs);
        let grant = LeaseGrant {
            held: held.map(|(run, epoch)| (RunId::from_uuid(run), unsigned(epoch))).collect(),
            peers: peers.into_iter().map(Incarnation).collect(),
            next_due: c.moment_or_none()?,
            ..self.nothing(now)
        };
        let stands: bool = c.take()?;
        if stands || self.shared.clock_lags(now) {
            db.single(conn, db.query(&db.sql.clock_keep)).await?;
        }
        Ok(grant)
    }
}

/// What is to be leased; nothing to a worker that retires.
fn wanted(request: &LeaseRequest) -> Option<&Acquire> {
    request.acquire.as_ref().filter(|_| !request.retire)
}

impl Call<'_> {
    /// What is leased; `None` when the worker is dead.
    async fn grant(&mut self) -> Result<Option<Vec<Leased>>, Fault> {
        let request = self.request;
        let worker = request.worker;
        let dead: Vec<_> = request.dead.iter().copied().filter(|who| *who != worker).collect();
        if !dead.is_empty() {
            self.bury(&dead, true).await?;
        }
        self.release().await?;
        self.give_back().await?;
        let wanted = wanted(request);
        let (signs, mut leased) = self.renew_and_acquire(wanted).await?;
        if !signs.alive {
            return Ok(None);
        }
        let more = self.more(signs, wanted, leased.len()).await;
        // What was granted is worth more than what could be: others will tidy up.
        let missed = |fault: &Fault| {
            tracing::warn!(?fault, "a look after other workers' runs failed");
        };
        leased.extend(more.inspect_err(missed).unwrap_or_default());
        if request.retire {
            self.bury(&[worker], false).await?;
        }
        Ok(Some(leased))
    }

    /// Tidies up, and leases what became ready by that.
    async fn more(
        &mut self,
        signs: Signs,
        wanted: Option<&Acquire>,
        leased: usize,
    ) -> Result<Vec<Leased>, Fault> {
        let more = self.tidy(signs).await?;
        let Some(acquire) = wanted.filter(|_| more) else { return Ok(Vec::new()) };
        let limit = acquire.limit.min(LEASED_MAX).saturating_sub(leased);
        let rest = Acquire { limit, ..acquire.clone() };
        Ok(self.renew_and_acquire(Some(&rest)).await?.1)
    }

    async fn bury(&mut self, who: &[Incarnation], died: bool) -> Result<(), Fault> {
        let freed = bury::named(self.db, self.conn, self.store.ns, (who, died)).await?;
        self.stirs.ready |= freed;
        Ok(())
    }

    /// Does what the signs ask for; whether more runs may be ready then.
    async fn tidy(&mut self, signs: Signs) -> Result<bool, Fault> {
        if signs.forgettable {
            self.forget().await?;
        }
        let mut freed = false;
        if signs.expired {
            freed = bury::expired(self.db, self.conn, (self.store.ns, self.request.worker)).await?;
            self.stirs.ready |= freed;
        }
        if signs.delayed {
            let promote = self.db.query(&self.db.sql.promote).bind(self.store.ns);
            self.db.careful(self.conn, promote).await?;
        }
        Ok(freed || signs.delayed)
    }

    /// S5: a dead incarnation is never renewed, and gets nothing.
    async fn renew_and_acquire(
        &mut self,
        wanted: Option<&Acquire>,
    ) -> Result<(Signs, Vec<Leased>), Fault> {
        let Some(acquire) = wanted.filter(|acquire| acquire.limit > 0) else {
            let renew = self.db.query(&self.db.sql.renew).bind(self.store.ns);
            let renew = renew.bind(self.request.worker.0).bind(millis(self.request.ttl));
            let rows = self.db.careful(self.conn, renew.bind(millis(DEAD_KEPT))).await?;
            let Some(row) = rows.first() else { return Ok((Signs::default(), Vec::new())) };
            let mut c = Columns::new(row).skip(1);
            let (alive, expired, forgettable) = (c.take()?, c.take()?, c.take()?);
            return Ok((Signs { alive, expired, forgettable, delayed: false }, Vec::new()));
        };
        let rows = match acquire.caps.is_empty() {
            true => {
                let statement =
                    acquiring(self.db, (self.store, self.request), acquire, &Room::default())?;
                self.db.careful(self.conn, statement).await?
            }
            false => self.acquired_within_caps(acquire).await?,
        };
        let mut signs = Signs::default();
        let (mut granted, mut served) = (Vec::new(), Vec::new());
        for row in &rows {
            let mut c = Columns::new(row).skip(34);
            signs.alive = c.take()?;
            (signs.expired, signs.forgettable, signs.delayed) = (c.take()?, c.take()?, c.take()?);
            if is_granted(row) {
                granted.push(row);
                let (priority, mut c) =
                    (Columns::new(row).skip(7).take()?, Columns::new(row).skip(31));
                served.push((c.take()?, priority, c.take()?));
            }
        }
        if acquire.runs.is_none() {
            self.store.turns.served(served);
        }
        Ok((signs, self.leased(&granted).await?))
    }

    /// Leases where queues have caps: those with room are locked, counted and leased from in one
    /// transaction.
    async fn acquired_within_caps(&mut self, acquire: &Acquire) -> Result<Vec<PgRow>, Fault> {
        let (db, store, request) = (self.db, self.store, self.request);
        let mut tx = db.begin(self.conn).await?;
        let mut found = caps::room((db, &mut tx), store, acquire).await?;
        if let Some(queue) = found.taken {
            db.commit(tx).await?;
            caps::wait((db, self.conn), store.ns, queue).await;
            tx = db.begin(self.conn).await?;
            found = caps::room((db, &mut tx), store, acquire).await?;
        }
        let caps::Found { mut room, full, .. } = found;
        let statement = acquiring(db, (store, request), acquire, &room)?;
        let rows = db.rows(&mut tx, statement).await?;
        db.commit(tx).await?;
        for row in rows.iter().filter(|row| is_granted(row)) {
            room.take(&Columns::new(row).skip(6).take::<String>()?);
        }
        self.full = full;
        self.full.extend(room.full());
        self.full.sort();
        self.full.dedup();
        Ok(rows)
    }

    /// What was granted, with all that is stored of it.
    async fn leased(&mut self, granted: &[&PgRow]) -> Result<Vec<Leased>, Fault> {
        let mut leased = Vec::with_capacity(granted.len());
        let mut with_journal = Vec::new();
        for row in granted {
            match leased_row(row) {
                Ok(one) => {
                    let head = &one.record.head;
                    if head.seq > 0 || head.requests > head.consumed {
                        with_journal.push(*head.id.as_uuid());
                    }
                    leased.push(one);
                }
                Err(fault) => self.park(row, fault).await?,
            }
        }
        if with_journal.is_empty() {
            return Ok(leased);
        }
        // Read after the grant: from then on nobody else adds a frame.
        let query = self.db.query(&self.db.sql.record).bind(self.store.ns).bind(with_journal);
        let rows = self.db.single(self.conn, query).await?;
        let mut unread = Vec::new();
        for row in &rows {
            match record(row) {
                Ok(record) => keep_journal(&mut leased, record),
                Err(fault) => {
                    let run = Columns::new(row).skip(1).run()?;
                    leased.retain(|one| one.record.head.id != run);
                    unread.push((row, fault));
                }
            }
        }
        for (row, fault) in unread {
            self.park(row, fault).await?;
        }
        Ok(leased)
    }

    /// S3: one row that cannot be read stops nobody else's work.
    async fn park(&mut self, row: &PgRow, fault: Fault) -> Result<(), Fault> {
        let run = Columns::new(row).skip(1).run()?;
        let mut c = Columns::new(row).skip(20);
        let (epoch, owner): (i64, Uuid) = (c.take()?, c.take()?);
        tracing::error!(%run, ?fault, "a run that cannot be read is parked");
        let query = self.db.query(&self.db.sql.park_unread).bind(self.store.ns);
        let query = query.bind(*run.as_uuid()).bind(owner).bind(epoch);
        self.db.single(self.conn, query).await.map(drop)
    }

    async fn release(&mut self) -> Result<(), Fault> {
        let releases = &self.request.release;
        if releases.is_empty() {
            return Ok(());
        }
        let mut columns = Releases::default();
        for (run, fence, release) in releases {
            columns.run.push(*run.as_uuid());
            columns.owner.push(fence.owner.0);
            columns.epoch.push(signed(fence.epoch));
            columns.nonce.push(signed(fence.nonce));
            columns.polls.push(json(&release.polls)?);
            columns.due.push(moment(release.due));
            columns.seen.push(signed(release.seen));
        }
        let query = self.db.query(&self.db.sql.release).bind(self.store.ns).bind(columns.run);
        let query = query.bind(columns.owner).bind(columns.epoch).bind(columns.nonce);
        let query = query.bind(columns.polls).bind(columns.due).bind(columns.seen);
        let rows = self.db.careful(self.conn, query).await?;
        for row in &rows {
            self.stirs.add(Columns::new(row).take()?);
        }
        Ok(())
    }

    /// Gives back leases that this worker never heard of.
    async fn give_back(&mut self) -> Result<(), Fault> {
        if self.request.strangers.is_empty() {
            return Ok(());
        }
        let (runs, epochs): (Vec<Uuid>, Vec<i64>) = self
            .request
            .strangers
            .iter()
            .map(|(run, epoch)| (*run.as_uuid(), signed(*epoch)))
            .unzip();
        let query = self.db.query(&self.db.sql.give_back).bind(self.store.ns);
        let query = query.bind(self.request.worker.0).bind(runs).bind(epochs);
        self.stirs.ready |= !self.db.careful(self.conn, query).await?.is_empty();
        Ok(())
    }

    /// Forgets those that have been dead for long. Burying one has freed its runs: none names it.
    async fn forget(&mut self) -> Result<(), Fault> {
        let query = self.db.query(&self.db.sql.incarnations_forget).bind(self.store.ns);
        let query = query.bind(millis(DEAD_KEPT)).bind(FORGOTTEN_AT_ONCE);
        self.db.single(self.conn, query).await.map(drop)
    }
}

#[derive(Default)]
struct Releases {
    run: Vec<Uuid>,
    owner: Vec<Uuid>,
    epoch: Vec<i64>,
    nonce: Vec<i64>,
    polls: Vec<String>,
    due: Vec<i64>,
    seen: Vec<i64>,
}

/// The statement of a claim.
fn acquiring(
    db: &Db,
    (store, request): (&PostgresStore, &LeaseRequest),
    acquire: &Acquire,
    room: &Room,
) -> Result<Statement, Fault> {
    let sql = &db.sql;
    let text = match (&acquire.runs, acquire.caps.is_empty()) {
        (Some(_), _) => &sql.take,
        (None, true) => &sql.acquire,
        (None, false) => &sql.acquire_capped,
    };
    let limit = acquire.limit.min(LEASED_MAX);
    let nonces: Vec<i64> = (0..limit).map(|_| start::nonce()).collect::<Result<_, _>>()?;
    let query = db.query(text).bind(store.ns).bind(request.worker.0);
    let query = query.bind(millis(request.ttl)).bind(count(limit));
    let query = with_code(query.bind(acquire.queues.clone()), acquire).bind(nonces);
    let query = match &acquire.runs {
        Some(runs) => {
            let runs: Vec<Uuid> = runs.iter().map(|run| *run.as_uuid()).collect();
            query.bind(runs).bind(millis(DEAD_KEPT))
        }
        None => {
            let turns = store.turns.columns();
            let query = query.bind(turns.lanes).bind(turns.priorities).bind(turns.tenants);
            query.bind(millis(DEAD_KEPT))
        }
    };
    let bare = acquire.runs.is_none() && acquire.caps.is_empty();
    Ok(if bare { query } else { with_room(query, acquire, room) })
}

/// The room in the queues that were counted, and which others have a cap and are passed over.
fn with_room(query: Statement, acquire: &Acquire, room: &Room) -> Statement {
    let (queues, left): (Vec<String>, Vec<i64>) =
        room.iter().map(|(queue, left)| (queue.to_owned(), signed(left))).unzip();
    let (mut named, mut each) = (Vec::new(), Vec::new());
    for cap in &acquire.caps.0 {
        match &cap.queues {
            Capped::Named(name) => named.push(name.clone()),
            Capped::Each(prefix) => each.push(prefix.clone()),
        }
    }
    query.bind(queues).bind(left).bind(named).bind(each)
}

/// Whether a row of a claim names a run.
fn is_granted(row: &PgRow) -> bool {
    matches!(Columns::new(row).take::<Option<i32>>(), Ok(Some(_)))
}

pub(crate) fn with_code(query: Statement, acquire: &Acquire) -> Statement {
    let names: Vec<String> = acquire.code.iter().map(|saga| saga.name.clone()).collect();
    let versions: Vec<i64> = acquire.code.iter().map(|saga| i64::from(saga.version)).collect();
    let prints: Vec<String> = acquire.code.iter().map(|saga| saga.fingerprint.clone()).collect();
    query.bind(names).bind(versions).bind(prints)
}

fn leased_row(row: &PgRow) -> Result<Leased, Fault> {
    let mut c = Columns::new(row);
    let head = head(&mut c)?;
    let died_at: Option<Timestamp> = c.moment_or_none()?;
    let nonce = c.number()?;
    let owner = head.owner.ok_or_else(|| crate::error::bad_row("owner"))?;
    let fence = Fence { owner, epoch: head.epoch, nonce };
    let record = RunRecord { head, frames: Vec::new(), requests: Vec::new() };
    Ok(Leased { record, fence, died_at })
}

/// Enters the journal of a run. A request that came after the grant is told by the next append.
fn keep_journal(leased: &mut [Leased], mut record: RunRecord) {
    let Some(one) = leased.iter_mut().find(|one| one.record.head.id == record.head.id) else {
        return;
    };
    let newest = one.record.head.requests;
    record.requests.retain(|request| request.number <= newest);
    one.record.frames = record.frames;
    one.record.requests = record.requests;
}
