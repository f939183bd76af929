//! The task that writes submissions: starts and requests of many calls share their commits.
//!
//! It differs from the task of the appends in that a start may wait for a key that a transaction
//! of the host is about to take; no step waits behind it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use provision_core::{
    clock,
    error::StoreError,
    id::{Payload, RunId},
    store::{Submission, Submitted},
};
use sqlx::PgConnection;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use uuid::Uuid;

use crate::{
    db::Db,
    error::{Fault, busy},
    held::Held,
    inbox::Inbox,
    notify::{Stirred, Stirs},
    retention,
    rows::Columns,
    start::{self, Added, Adding},
};

const OPERATION: &str = "submit";
/// How soon is tried again what somebody else holds.
const AGAIN: Duration = Duration::from_millis(3);
/// Submissions of several calls in one statement, at most, and how many bytes of inputs may be
/// among them. A larger call is written in parts, in one transaction.
const ROWS_MAX: usize = 256;
const BYTES_MAX: usize = 8 << 20;

/// One call that waits for its answer. What others hold of it is tried again, when the rest may be
/// written already.
pub(crate) struct Call {
    ns: i32,
    batch: Vec<Submission>,
    answers: Vec<Option<Submitted>>,
    /// One of its runs is there, and cannot be read.
    failed: Option<StoreError>,
    since: Instant,
    reply: oneshot::Sender<Result<Vec<Submitted>, StoreError>>,
}

/// What a call is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// New runs without business keys.
    Starts,
    /// Requests.
    Requests,
    /// Anything else: a transaction of its own.
    Mixed,
}

impl Call {
    fn kind(&self) -> Kind {
        let starts = |one: &Submission| match one {
            Submission::Run(new) => new.head.guard.is_none(),
            Submission::Request { .. } | Submission::Reopen { .. } => false,
        };
        if self.batch.iter().all(starts) {
            Kind::Starts
        } else if self.batch.iter().all(|one| matches!(one, Submission::Request { .. })) {
            Kind::Requests
        } else {
            Kind::Mixed
        }
    }

    fn bytes(&self) -> usize {
        self.batch.iter().map(Submission::bytes).fold(0, usize::saturating_add)
    }

    /// Submissions without an answer, by their place.
    fn open(&self) -> impl Iterator<Item = (usize, &Submission)> {
        let open = self.batch.iter().zip(&self.answers).enumerate();
        open.filter(|(_, (_, answer))| answer.is_none()).map(|(at, (one, _))| (at, one))
    }

    fn set(&mut self, at: usize, answer: Submitted) {
        if let Some(slot) = self.answers.get_mut(at) {
            *slot = Some(answer);
        }
    }

    fn is_answered(&self) -> bool {
        self.failed.is_some() || self.answers.iter().all(Option::is_some)
    }
}

/// The task's outside.
pub(crate) type Desk = mpsc::Sender<[Call; 1]>;

/// Sends a batch in and waits for its answers.
pub(crate) async fn submit_all(
    desk: &Desk,
    ns: i32,
    batch: &[Submission],
) -> Result<Vec<Submitted>, StoreError> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let (reply, answer) = oneshot::channel();
    let answers = batch.iter().map(|_| None).collect();
    let call =
        Call { ns, batch: batch.to_vec(), answers, failed: None, since: Instant::now(), reply };
    desk.send([call]).await.map_err(|_closed| StoreError::unavailable(OPERATION))?;
    answer.await.map_err(|_gone| StoreError::unavailable(OPERATION))?
}

/// The task's inside.
pub(crate) struct Clerk {
    inbox: Inbox<[Call; 1], Call>,
    held: Held,
    stirred: Arc<Stirred>,
    /// So many calls were tried one after the other and not answered: others hold what they need.
    stuck: usize,
}

impl Clerk {
    pub(crate) fn new(calls: mpsc::Receiver<[Call; 1]>, held: Held, stirred: Arc<Stirred>) -> Self {
        Self { inbox: Inbox::new(calls), held, stirred, stuck: 0 }
    }

    /// Works until the last handle of the store is gone, and what is pending then is written.
    pub(crate) async fn serve(mut self) {
        while self.gather().await {
            let mut again = Vec::new();
            let (kind, batch) = self.take();
            let all = batch.len();
            let mut parts = vec![batch];
            while let Some(mut part) = parts.pop() {
                match self.attempt(kind, &mut part).await {
                    Ok(()) => again.extend(self.answer(part)),
                    Err(fault) if fault.is_poison() && part.len() > 1 => {
                        let rest = part.split_off(part.len() / 2);
                        parts.extend([rest, part]);
                    }
                    Err(fault) if fault.is_busy() => again.extend(self.answer(part)),
                    Err(fault) => {
                        self.held.give_back();
                        for call in part {
                            // A caller that has gone away does not want to know.
                            let _ = call.reply.send(Err(fault.told(OPERATION)));
                        }
                    }
                }
            }
            self.held.pause();
            self.stuck = if again.len() == all { self.stuck.saturating_add(all) } else { 0 };
            self.inbox.waiting.extend(again);
        }
    }

    /// Waits for work; false after the last.
    async fn gather(&mut self) -> bool {
        let stuck = self.stuck >= self.inbox.waiting.len();
        let pause = stuck.then(|| {
            self.stuck = 0;
            AGAIN
        });
        self.inbox.gather(&mut self.held, pause, ROWS_MAX).await
    }

    /// The first call, and others of its kind that fit into the same statement.
    fn take(&mut self) -> (Kind, Vec<Call>) {
        let kind = self.inbox.waiting.front().map_or(Kind::Mixed, Call::kind);
        let (mut batch, mut later) = (Vec::new(), VecDeque::new());
        let (mut rows, mut bytes) = (0_usize, 0_usize);
        while let Some(call) = self.inbox.waiting.pop_front() {
            let full = rows >= ROWS_MAX || bytes >= BYTES_MAX;
            let fits = batch.is_empty() || (kind != Kind::Mixed && !full && call.kind() == kind);
            if fits {
                rows = rows.saturating_add(call.batch.len());
                bytes = bytes.saturating_add(call.bytes());
                batch.push(call);
            } else {
                later.push_back(call);
            }
        }
        self.inbox.waiting = later;
        (kind, batch)
    }

    async fn attempt(&mut self, kind: Kind, calls: &mut [Call]) -> Result<(), Fault> {
        let (db, conn) = self.held.get(OPERATION).await?;
        let stirs = match kind {
            Kind::Starts => starts(db, conn, calls).await?,
            Kind::Requests => Stirs::ready(requests(db, conn, calls).await?),
            Kind::Mixed => mixed(db, conn, calls).await?,
        };
        self.stirred.stir(stirs);
        Ok(())
    }

    /// Answers what is done; gives back what has to be tried again.
    fn answer(&self, calls: Vec<Call>) -> Vec<Call> {
        let mut again = Vec::new();
        for call in calls {
            if !call.is_answered() && call.since.elapsed() < self.held.db.busy {
                again.push(call);
                continue;
            }
            let answers: Option<Vec<_>> = call.answers.into_iter().collect();
            let answers = call.failed.map_or(answers.ok_or_else(|| busy(OPERATION)), Err);
            // A caller that has gone away does not want to know.
            let _ = call.reply.send(answers);
        }
        again
    }
}

/// New runs of many calls, in one statement; those that somebody else is about to add stay open.
async fn starts(db: &Db, conn: &mut PgConnection, calls: &mut [Call]) -> Result<Stirs, Fault> {
    let (mut runs, mut seen) = (Vec::new(), HashSet::new());
    let mut places: Vec<(usize, usize)> = Vec::new();
    let mut others: Vec<(usize, usize)> = Vec::new();
    for (at, call) in calls.iter().enumerate() {
        for (place, submission) in call.open() {
            let Submission::Run(new) = submission else { continue };
            // One that comes twice meets itself only after it was written.
            if !seen.insert((call.ns, new.head.id)) {
                others.push((at, place));
                continue;
            }
            let lane = start::lane(db, conn, call.ns, &new.head).await?;
            runs.push(Adding { ns: call.ns, lane, nonce: start::nonce()?, new });
            places.push((at, place));
        }
    }
    let added = add(db, conn, &runs).await?;
    let (mut answers, mut stirs) = (Vec::new(), Stirs::default());
    for (run, place) in runs.iter().zip(places) {
        match added.get(&(run.ns, *run.new.head.id.as_uuid())) {
            Some(added) => {
                stirs |= added.stirs;
                answers.push((place, start::created(run, added)));
            }
            None => others.push(place),
        }
    }
    for ((at, place), answer) in answers {
        if let Some(call) = calls.get_mut(at) {
            call.set(place, answer);
        }
    }
    for (at, place) in others {
        if let Some(call) = calls.get_mut(at) {
            look(db, conn, (call, place)).await?;
        }
    }
    Ok(stirs)
}

/// Answers a start of a call by the run that stands in its way. One that cannot be read fails the
/// call that names it, and no other (S3).
async fn look(
    db: &Db,
    conn: &mut PgConnection,
    (call, place): (&mut Call, usize),
) -> Result<(), Fault> {
    let Some(Submission::Run(new)) = call.batch.get(place) else { return Ok(()) };
    let mut tx = db.begin_if_pooler(conn).await?;
    match start::known(db, tx.conn(), call.ns, &new.head).await {
        Ok(Some(answer)) => call.set(place, answer),
        Ok(None) => {}
        Err(fault) if fault.is_bad_row() => call.failed = Some(fault.into_store(OPERATION)),
        Err(fault) => return Err(fault),
    }
    tx.end(db).await
}

/// Adds runs: one statement, or one transaction where there are very many.
async fn add(db: &Db, conn: &mut PgConnection, runs: &[Adding<'_>]) -> Result<Added, Fault> {
    if runs.len() <= ROWS_MAX {
        return start::added(&db.single(conn, start::adding(db, runs)?).await?);
    }
    let (mut tx, mut all) = (db.begin(conn).await?, Added::new());
    for part in runs.chunks(ROWS_MAX) {
        all.extend(start::added(&db.rows(&mut tx, start::adding(db, part)?).await?)?);
    }
    db.commit(tx).await?;
    Ok(all)
}

/// Requests of many calls, in one statement.
async fn requests(db: &Db, conn: &mut PgConnection, calls: &mut [Call]) -> Result<bool, Fault> {
    let mut asked: Vec<((usize, usize), i32, RunId, Payload)> = Vec::new();
    for (at, call) in calls.iter().enumerate() {
        for (place, submission) in call.open() {
            if let Submission::Request { run, body } = submission {
                asked.push(((at, place), call.ns, *run, body.clone()));
            }
        }
    }
    let all: Vec<_> = asked.iter().map(|(_, ns, run, body)| (*ns, *run, body)).collect();
    let mut tx = db.begin_if_pooler(conn).await?;
    let answers = ask(db, tx.conn(), &all).await?;
    tx.end(db).await?;
    let stirred = answers.iter().any(|answer| matches!(answer, Some(Submitted::Requested(_))));
    for (((at, place), ..), answer) in asked.iter().zip(answers) {
        if let (Some(call), Some(answer)) = (calls.get_mut(*at), answer) {
            call.set(*place, answer);
        }
    }
    Ok(stirred)
}

/// Stores requests; `None` for those of runs that somebody else holds.
async fn ask(
    db: &Db,
    conn: &mut PgConnection,
    asked: &[(i32, RunId, &Payload)],
) -> Result<Vec<Option<Submitted>>, Fault> {
    let ns: Vec<i32> = asked.iter().map(|(ns, ..)| *ns).collect();
    let runs: Vec<Uuid> = asked.iter().map(|(_, run, _)| *run.as_uuid()).collect();
    let bodies: Vec<&str> = asked.iter().map(|(_, _, body)| body.as_str()).collect();
    let statement = db.query(&db.sql.request).bind(ns.clone()).bind(runs.clone()).bind(bodies);
    let mut numbers = HashMap::new();
    for row in &db.rows(conn, statement).await? {
        let mut c = Columns::new(row);
        numbers.insert(c.number()?, c.number()?);
    }
    let (mut known, mut left) = (HashSet::<(i32, Uuid)>::new(), HashMap::new());
    if numbers.len() < asked.len() {
        let statement = db.query(&db.sql.heads_known).bind(ns).bind(runs);
        for row in &db.rows(conn, statement).await? {
            let mut c = Columns::new(row);
            known.insert((c.take()?, c.take()?));
        }
        let is_absent = |n: u64, ns: i32, run: RunId| {
            !numbers.contains_key(&n) && !known.contains(&(ns, *run.as_uuid()))
        };
        let absent = asked.iter().zip(1_u64..).filter(|((ns, run, _), n)| is_absent(*n, *ns, *run));
        let absent: Vec<_> = absent.map(|((ns, run, _), _)| (*ns, *run)).collect();
        left = retention::left_of(db, conn, &absent).await?;
    }
    let answers = asked.iter().zip(1_u64..).map(|((ns, run, _), n)| match numbers.get(&n) {
        Some(number) => Some(Submitted::Requested(*number)),
        None if known.contains(&(*ns, *run.as_uuid())) => None,
        None => Some(match left.get(&(*ns, *run)) {
            Some(left) => Submitted::Pruned(Box::new(left.clone())),
            None => Submitted::NoSuchRun,
        }),
    });
    Ok(answers.collect())
}

/// One call after the other, each in a transaction of its own.
async fn mixed(db: &Db, conn: &mut PgConnection, calls: &mut [Call]) -> Result<Stirs, Fault> {
    let mut all = Stirs::default();
    for call in calls {
        let mut tx = db.begin(conn).await?;
        match mixed_in(db, &mut tx, call).await {
            Ok((answers, stirs)) => {
                db.commit(tx).await?;
                call.answers = answers;
                all |= stirs;
            }
            Err(fault) => return Err(db.undone(tx, fault).await),
        }
    }
    Ok(all)
}

async fn mixed_in(
    db: &Db,
    tx: &mut PgConnection,
    call: &Call,
) -> Result<(Vec<Option<Submitted>>, Stirs), Fault> {
    let (mut answers, mut all) = (Vec::with_capacity(call.batch.len()), Stirs::default());
    for submission in &call.batch {
        let (answer, stirs) = one(db, tx, call.ns, submission).await?.ok_or(Fault::Busy)?;
        all |= stirs;
        answers.push(Some(answer));
    }
    Ok((answers, all))
}

/// Writes one submission inside a transaction; `None` when somebody else holds what it needs.
pub(crate) async fn one(
    db: &Db,
    tx: &mut PgConnection,
    ns: i32,
    submission: &Submission,
) -> Result<Option<(Submitted, Stirs)>, Fault> {
    match submission {
        Submission::Run(new) => start::one(db, tx, ns, new).await,
        Submission::Request { run, body } => ask_one(db, tx, ns, (*run, body)).await,
        Submission::Reopen { run, body } => {
            let keys = (vec![ns], vec![*run.as_uuid()]);
            let lock = db.query(&db.sql.heads_lock).bind(keys.0).bind(keys.1);
            let locked = !db.rows(tx, lock).await?.is_empty();
            if locked {
                match retake(db, tx, ns, run).await? {
                    Retaken::Busy => return Ok(None),
                    Retaken::HeldBy(holder) => return Ok(Some((holder, Stirs::default()))),
                    Retaken::Done => {}
                }
            }
            ask_one(db, tx, ns, (*run, body)).await
        }
    }
}

async fn ask_one(
    db: &Db,
    tx: &mut PgConnection,
    ns: i32,
    (run, body): (RunId, &Payload),
) -> Result<Option<(Submitted, Stirs)>, Fault> {
    let answer = ask(db, tx, &[(ns, run, body)]).await?.pop().flatten();
    let stirs = |answer: &Submitted| Stirs::ready(matches!(answer, Submitted::Requested(_)));
    Ok(answer.map(|answer| {
        let stirs = stirs(&answer);
        (answer, stirs)
    }))
}

/// What became of a business key that a run's end had freed.
enum Retaken {
    Done,
    HeldBy(Submitted),
    Busy,
}

/// Takes the business key again that the run's end has freed.
async fn retake(db: &Db, tx: &mut PgConnection, ns: i32, run: &RunId) -> Result<Retaken, Fault> {
    let freed = db.query(&db.sql.guard_freed).bind(ns).bind(*run.as_uuid());
    let rows = db.rows(tx, freed).await?;
    let Some(row) = rows.first() else { return Ok(Retaken::Done) };
    let key: String = Columns::new(row).take()?;
    if !start::lock_guard(db, tx, ns, &key).await? {
        return Ok(Retaken::Busy);
    }
    if let Some(holder) = start::holder(db, tx, ns, &key).await? {
        return Ok(Retaken::HeldBy(Submitted::Guarded(Box::new(holder))));
    }
    db.run(tx, db.query(&db.sql.guard_retake).bind(ns).bind(*run.as_uuid())).await?;
    Ok(Retaken::Done)
}

/// Writes one submission inside a transaction of the host, waiting for what others hold.
pub(crate) async fn patiently(
    db: &Db,
    tx: &mut PgConnection,
    ns: i32,
    submission: &Submission,
    operation: &'static str,
) -> Result<Submitted, Fault> {
    let since = Instant::now();
    loop {
        match one(db, tx, ns, submission).await {
            Ok(Some((answer, _))) => return Ok(answer),
            Ok(None) | Err(Fault::Busy) => {}
            Err(fault) => return Err(fault),
        }
        if since.elapsed() >= db.busy {
            return Err(busy(operation).into());
        }
        clock::sleep(AGAIN).await;
    }
}
