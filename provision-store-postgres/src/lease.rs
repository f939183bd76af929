//! The one place where leases are granted, renewed and ended.
//!
//! A call is a few statements, each a transaction that is right by itself: whoever is granted a run
//! has locked its own incarnation in the same statement, and whoever takes over marks the dead
//! incarnation first, which waits for that lock, and frees its runs by a later statement of the
//! same transaction, which sees what was granted before.

use std::time::Duration;

use provision_core::{
    error::StoreError,
    id::{RunId, Timestamp},
    store::{Acquire, Fence, Incarnation, LeaseGrant, LeaseRequest, Leased, RunRecord},
};
use sqlx::{PgConnection, postgres::PgRow};
use uuid::Uuid;

use crate::{
    db::{Db, Statement},
    error::Fault,
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
    stirred: bool,
}

impl PostgresStore {
    pub(crate) async fn lease_now(&self, request: &LeaseRequest) -> Result<LeaseGrant, StoreError> {
        let db = &*self.shared.db;
        let mut conn = db.acquire(OPERATION).await?;
        let mut call = Call { store: self, db, conn: &mut conn, request, stirred: false };
        let answered = call.answer().await;
        if call.stirred {
            self.shared.stirred.stir();
        }
        answered.map_err(|fault| fault.into_store(OPERATION))
    }
}

impl Call<'_> {
    async fn answer(&mut self) -> Result<LeaseGrant, Fault> {
        let request = self.request;
        let worker = request.worker;
        let dead: Vec<_> = request.dead.iter().copied().filter(|who| *who != worker).collect();
        if !dead.is_empty() {
            self.bury(&dead, true).await?;
        }
        self.release().await?;
        self.give_back().await?;
        let wanted = request.acquire.as_ref().filter(|_| !request.retire);
        let (signs, mut leased) = self.renew_and_acquire(wanted).await?;
        if !signs.alive {
            return self.not_alive().await;
        }
        let more = self.tidy(signs).await?;
        if let Some(acquire) = wanted.filter(|_| more) {
            let limit = acquire.limit.min(LEASED_MAX).saturating_sub(leased.len());
            let rest = Acquire { limit, ..acquire.clone() };
            leased.extend(self.renew_and_acquire(Some(&rest)).await?.1);
        }
        if request.retire {
            self.bury(&[worker], false).await?;
        }
        let mut grant = self.figures(wanted).await?;
        (grant.alive, grant.leased) = (!request.retire, leased);
        Ok(grant)
    }

    /// Does what the signs ask for; whether more runs may be ready then.
    async fn tidy(&mut self, signs: Signs) -> Result<bool, Fault> {
        if signs.forgettable {
            self.forget().await?;
        }
        let buried = signs.expired && self.bury_expired().await?;
        if signs.delayed {
            let promote = self.db.query(&self.db.sql.promote).bind(self.store.ns);
            self.db.single(self.conn, promote).await?;
        }
        Ok(buried || signs.delayed)
    }

    async fn not_alive(&mut self) -> Result<LeaseGrant, Fault> {
        let rows = self.db.single(self.conn, self.db.query(&self.db.sql.now)).await?;
        let now = rows.first().map(|row| Columns::new(row).moment()).transpose()?;
        Ok(LeaseGrant {
            now: self.store.shared.reading(now.unwrap_or_default()),
            alive: false,
            leased: Vec::new(),
            held: Vec::new(),
            peers: Vec::new(),
            next_due: None,
        })
    }

    /// S5: a dead incarnation is never renewed, and gets nothing.
    async fn renew_and_acquire(
        &mut self,
        wanted: Option<&Acquire>,
    ) -> Result<(Signs, Vec<Leased>), Fault> {
        let Some(acquire) = wanted.filter(|acquire| acquire.limit > 0) else {
            let renew = self.db.query(&self.db.sql.renew).bind(self.store.ns);
            let renew = renew.bind(self.request.worker.0).bind(millis(self.request.ttl));
            let rows = self.db.single(self.conn, renew.bind(millis(DEAD_KEPT))).await?;
            let Some(row) = rows.first() else { return Ok((Signs::default(), Vec::new())) };
            let mut c = Columns::new(row).skip(1);
            let (alive, expired, forgettable) = (c.take()?, c.take()?, c.take()?);
            return Ok((Signs { alive, expired, forgettable, delayed: false }, Vec::new()));
        };
        let statement = self.acquiring(acquire)?;
        let rows = self.db.single(self.conn, statement).await?;
        let mut signs = Signs::default();
        let (mut granted, mut served) = (Vec::new(), Vec::new());
        for row in &rows {
            let mut c = Columns::new(row).skip(34);
            signs.alive = c.take()?;
            (signs.expired, signs.forgettable, signs.delayed) = (c.take()?, c.take()?, c.take()?);
            if Columns::new(row).take::<Option<i32>>()?.is_some() {
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

    fn acquiring(&self, acquire: &Acquire) -> Result<Statement, Fault> {
        let sql = &self.db.sql;
        let text = if acquire.runs.is_some() { &sql.take } else { &sql.acquire };
        let limit = acquire.limit.min(LEASED_MAX);
        let nonces: Vec<i64> = (0..limit).map(|_| start::nonce()).collect::<Result<_, _>>()?;
        let query = self.db.query(text).bind(self.store.ns).bind(self.request.worker.0);
        let query = query.bind(millis(self.request.ttl)).bind(count(limit));
        let query = with_code(query.bind(acquire.queues.clone()), acquire).bind(nonces);
        Ok(match &acquire.runs {
            Some(runs) => {
                let runs: Vec<Uuid> = runs.iter().map(|run| *run.as_uuid()).collect();
                query.bind(runs).bind(millis(DEAD_KEPT))
            }
            None => {
                let turns = self.store.turns.columns();
                let query = query.bind(turns.lanes).bind(turns.priorities).bind(turns.tenants);
                query.bind(millis(DEAD_KEPT))
            }
        })
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
        let rows = self.db.single(self.conn, query).await?;
        for row in &rows {
            self.stirred |= Columns::new(row).take::<i16>()? == 2;
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
        self.stirred |= !self.db.single(self.conn, query).await?.is_empty();
        Ok(())
    }

    /// Marks incarnations dead and makes their runs due. Who `died`, and did not retire, leaves
    /// the moment of its death behind.
    async fn bury(&mut self, who: &[Incarnation], died: bool) -> Result<(), Fault> {
        let ids: Vec<Uuid> = who.iter().map(|who| who.0).collect();
        let mut tx = self.db.begin(self.conn).await?;
        let query = self.db.query(&self.db.sql.bury).bind(self.store.ns).bind(ids);
        let buried = self.db.rows(&mut tx, query).await?;
        let freed = free(self.db, &mut tx, self.store.ns, (&buried, died)).await?;
        self.db.commit(tx).await?;
        self.stirred |= freed;
        Ok(())
    }

    /// Marks those dead whose lease is over; whether there was one.
    async fn bury_expired(&mut self) -> Result<bool, Fault> {
        let mut tx = self.db.begin(self.conn).await?;
        let query = self.db.query(&self.db.sql.bury_expired).bind(self.store.ns);
        let buried = self.db.rows(&mut tx, query.bind(self.request.worker.0)).await?;
        let freed = free(self.db, &mut tx, self.store.ns, (&buried, true)).await?;
        self.db.commit(tx).await?;
        self.stirred |= freed;
        Ok(!buried.is_empty())
    }

    /// Forgets those that have been dead for long. Burying one has freed its runs: none names it.
    async fn forget(&mut self) -> Result<(), Fault> {
        let query = self.db.query(&self.db.sql.incarnations_forget).bind(self.store.ns);
        let query = query.bind(millis(DEAD_KEPT)).bind(FORGOTTEN_AT_ONCE);
        self.db.single(self.conn, query).await.map(drop)
    }

    async fn figures(&mut self, wanted: Option<&Acquire>) -> Result<LeaseGrant, Fault> {
        let none = Acquire { limit: 0, runs: None, queues: Vec::new(), code: Vec::new() };
        let acquire = wanted.unwrap_or(&none);
        let query = self.db.query(&self.db.sql.figures).bind(self.store.ns);
        let query = query.bind(self.request.worker.0).bind(acquire.queues.clone());
        let rows =
            self.db.single(self.conn, with_code(query.bind(wanted.is_none()), acquire)).await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        let mut c = Columns::new(row);
        let now = c.moment()?;
        let (runs, epochs): (Vec<Uuid>, Vec<i64>) = (c.take()?, c.take()?);
        let peers: Vec<Uuid> = c.take()?;
        let held = runs.into_iter().zip(epochs);
        let grant = LeaseGrant {
            now: self.store.shared.reading(now),
            alive: true,
            leased: Vec::new(),
            held: held.map(|(run, epoch)| (RunId::from_uuid(run), unsigned(epoch))).collect(),
            peers: peers.into_iter().map(Incarnation).collect(),
            next_due: c.moment_or_none()?,
        };
        if self.store.shared.clock_lags(now) {
            let keep = self.db.query(&self.db.sql.clock_keep);
            self.db.single(self.conn, keep).await?;
        }
        Ok(grant)
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

fn with_code(query: Statement, acquire: &Acquire) -> Statement {
    let names: Vec<String> = acquire.code.iter().map(|saga| saga.name.clone()).collect();
    let versions: Vec<i64> = acquire.code.iter().map(|saga| i64::from(saga.version)).collect();
    let prints: Vec<String> = acquire.code.iter().map(|saga| saga.fingerprint.clone()).collect();
    query.bind(names).bind(versions).bind(prints)
}

/// Frees the runs of those that were marked dead by an earlier statement of this transaction.
async fn free(
    db: &Db,
    tx: &mut PgConnection,
    ns: i32,
    (buried, died): (&[PgRow], bool),
) -> Result<bool, Fault> {
    if buried.is_empty() {
        return Ok(false);
    }
    let (mut ids, mut moments): (Vec<Uuid>, Vec<Option<i64>>) = (Vec::new(), Vec::new());
    for row in buried {
        let mut c = Columns::new(row);
        ids.push(c.take()?);
        let at: i64 = c.take()?;
        moments.push(died.then_some(at));
    }
    let query = db.query(&db.sql.runs_free).bind(ns).bind(ids).bind(moments);
    Ok(db.run(tx, query).await? > 0)
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
