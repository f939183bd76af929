//! The task that writes appends: it takes whatever is pending and writes it in one statement.
//!
//! It never waits for more to come: alone, an append is one statement and one commit; under load
//! batches grow by themselves while the previous one is being synced. Each row is fenced on its
//! own, so a stale one fails no other; a row that somebody else holds is passed over and tried
//! again; a value that the server refuses is found by halving.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use provision_core::{
    error::StoreError,
    id::RunId,
    store::{Append, Appended},
};
use sqlx::PgConnection;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    batch::{appending, asking_why},
    db::Db,
    error::{Fault, busy},
    extras,
    held::Held,
    host::EndHandler,
    inbox::Inbox,
    notify::{Stirred, Stirs},
    rows::Columns,
};

const OPERATION: &str = "append";
/// How soon a row is tried again that somebody else holds.
const AGAIN_FIRST: Duration = Duration::from_millis(1);
const AGAIN_MOST: Duration = Duration::from_millis(50);

/// One append that waits for its answer.
pub(crate) struct Job {
    pub(crate) ns: i32,
    pub(crate) append: Append,
    /// What the host writes with this end.
    pub(crate) handler: Option<EndHandler>,
    pub(crate) since: Instant,
    /// It was tried before, and somebody else held what it needs.
    pub(crate) again: bool,
    pub(crate) reply: oneshot::Sender<Result<Appended, StoreError>>,
}

impl Job {
    /// Whether more hangs on it than its frame and its row.
    fn is_plain(&self) -> bool {
        let append = &self.append;
        let rows = append.ledger.is_empty() && append.sealed.is_empty();
        let runs = append.wakes.is_empty() && append.starts.is_empty();
        rows && runs && !append.free_guard && self.handler.is_none()
    }
}

/// What became of an append.
#[derive(Debug, Clone)]
pub(crate) enum Verdict {
    Done(Appended),
    /// Somebody else holds what it needs.
    Again,
}

/// The task's outside.
pub(crate) type Desk = mpsc::Sender<Vec<Job>>;

/// How much goes into one statement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caps {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

/// The task's inside.
pub(crate) struct Clerk {
    inbox: Inbox<Vec<Job>, Job>,
    held: Held,
    stirred: Arc<Stirred>,
    caps: Caps,
    /// How long to wait when nothing of the last batch could be written: others hold it.
    pause: Option<Duration>,
}

impl Clerk {
    pub(crate) fn new(
        calls: mpsc::Receiver<Vec<Job>>,
        held: Held,
        stirred: Arc<Stirred>,
        caps: Caps,
    ) -> Self {
        Self { inbox: Inbox::new(calls), held, stirred, caps, pause: None }
    }

    /// Works until the last handle of the store is gone, and what is pending then is written.
    pub(crate) async fn serve(mut self) {
        while self.inbox.gather(&mut self.held, self.pause, self.caps.rows).await {
            let batch = self.take();
            let all = batch.len();
            let (plain, hung): (Vec<_>, Vec<_>) = batch.into_iter().partition(Job::is_plain);
            let mut again = self.write(plain, false).await;
            let (ends, hung): (Vec<_>, Vec<_>) =
                hung.into_iter().partition(|job| job.handler.is_some());
            again.extend(self.write(hung, true).await);
            for end in ends {
                // The host's statement may fail: it fails its own end only.
                again.extend(self.write(vec![end], true).await);
            }
            self.held.pause();
            self.put_back(again, all);
        }
    }

    /// A batch of different runs, in their order, up to the caps.
    fn take(&mut self) -> Vec<Job> {
        let (mut batch, mut later) = (Vec::new(), VecDeque::new());
        let (mut runs, mut names, mut bytes) = (HashSet::new(), HashSet::new(), 0_usize);
        while batch.len() < self.caps.rows && bytes < self.caps.bytes {
            let Some(job) = self.inbox.waiting.pop_front() else { break };
            // Two of one run would meet the same row, two of one name each other's.
            let own = runs.insert((job.ns, job.append.run));
            let wanted = extras::names(&job);
            if own && wanted.iter().all(|name| !names.contains(name)) {
                bytes = bytes.saturating_add(job.append.bytes());
                names.extend(wanted);
                batch.push(job);
            } else {
                later.push_back(job);
            }
        }
        later.append(&mut self.inbox.waiting);
        self.inbox.waiting = later;
        // Rows are locked in this order by everybody.
        batch.sort_unstable_by_key(|job| (job.ns, job.append.run));
        batch
    }

    /// Writes a batch, and answers it; gives back what has to be tried again.
    async fn write(&mut self, jobs: Vec<Job>, hung: bool) -> Vec<Job> {
        let (mut parts, mut again) = (vec![jobs], Vec::new());
        while let Some(mut part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            match self.attempt(&part, hung).await {
                Ok(verdicts) => again.extend(self.answer(part, verdicts)),
                Err(fault) if fault.is_poison() && part.len() > 1 => {
                    let rest = part.split_off(part.len() / 2);
                    parts.extend([rest, part]);
                }
                Err(fault) if fault.is_busy() => {
                    let verdicts = vec![Verdict::Again; part.len()];
                    again.extend(self.answer(part, verdicts));
                }
                Err(fault) => {
                    self.held.give_back();
                    for job in part {
                        // A caller that has gone away does not want to know.
                        let _ = job.reply.send(Err(fault.told(OPERATION)));
                    }
                }
            }
        }
        again
    }

    async fn attempt(&mut self, jobs: &[Job], hung: bool) -> Result<Vec<Verdict>, Fault> {
        let (db, conn) = self.held.get(OPERATION).await?;
        let jobs: Vec<&Job> = jobs.iter().collect();
        let done = if hung {
            extras::write(db, conn, &jobs).await?
        } else {
            // One that somebody held stands in a row that was locked. Where the connection is not
            // the store's own, nothing would end a wait.
            let locked = !db.settled || jobs.iter().any(|job| job.again);
            let statement = appending(db, &jobs, locked)?;
            let rows = db.single(conn, statement).await?;
            let mut done = Done::read(&rows, jobs.len())?;
            done.ask_why(db, conn, &jobs, true).await?;
            done
        };
        for _ in 0..done.applied {
            db.tally.appended();
        }
        self.stirred.stir(done.stirs);
        Ok(done.verdicts())
    }

    fn answer(&self, jobs: Vec<Job>, verdicts: Vec<Verdict>) -> Vec<Job> {
        let mut again = Vec::new();
        for (mut job, verdict) in jobs.into_iter().zip(verdicts) {
            let answer = match verdict {
                Verdict::Done(answer) => Ok(answer),
                Verdict::Again if job.since.elapsed() < self.held.db.busy => {
                    job.again = true;
                    again.push(job);
                    continue;
                }
                Verdict::Again => Err(busy(OPERATION)),
            };
            // A caller that has gone away does not want to know.
            let _ = job.reply.send(answer);
        }
        again
    }

    /// Puts back what has to be tried again of a batch of `all`.
    fn put_back(&mut self, again: Vec<Job>, all: usize) {
        let longer = self.pause.map_or(AGAIN_FIRST, |pause| (pause * 2).min(AGAIN_MOST));
        self.pause = (again.len() == all).then_some(longer);
        for job in again.into_iter().rev() {
            self.inbox.waiting.push_front(job);
        }
    }
}

/// What is known of a batch after its statement.
pub(crate) struct Done {
    verdicts: Vec<Option<Verdict>>,
    pub(crate) applied: usize,
    pub(crate) stirs: Stirs,
}

impl Done {
    /// Reads what `append` returned for so many rows.
    pub(crate) fn read(rows: &[sqlx::postgres::PgRow], count: usize) -> Result<Self, Fault> {
        let mut done = Self { verdicts: vec![None; count], applied: 0, stirs: Stirs::default() };
        for row in rows {
            let mut c = Columns::new(row);
            let (n, requests, place) = (c.number()?, c.number()?, c.take::<i16>()?);
            done.stirs.add(place);
            done.applied = done.applied.saturating_add(1);
            done.set(n, Verdict::Done(Appended::Applied { requests, lease_lost: false }));
        }
        Ok(done)
    }

    /// Takes over what became of some of the rows, which are numbered differently there.
    pub(crate) fn take_over(&mut self, other: &Self, numbers: &[(u64, &Job)]) {
        self.applied = self.applied.saturating_add(other.applied);
        self.stirs |= other.stirs;
        for (verdict, (n, _)) in other.verdicts.iter().zip(numbers) {
            if let Some(verdict) = verdict {
                self.set(*n, verdict.clone());
            }
        }
    }

    /// Enters what became of row `n`, counted from 1.
    pub(crate) fn set(&mut self, n: u64, verdict: Verdict) {
        let index = usize::try_from(n.saturating_sub(1)).unwrap_or(usize::MAX);
        if let Some(slot) = self.verdicts.get_mut(index) {
            *slot = Some(verdict);
        }
    }

    /// S19: an earlier try of a very same append is success; anything else is a lost lease.
    pub(crate) async fn ask_why(
        &mut self,
        db: &Db,
        conn: &mut PgConnection,
        jobs: &[&Job],
        alone: bool,
    ) -> Result<(), Fault> {
        if self.verdicts.iter().all(Option::is_some) {
            return Ok(());
        }
        let open = jobs.iter().zip(&self.verdicts).zip(1_u64..);
        let (open, numbers): (Vec<&Job>, Vec<u64>) = open
            .filter(|((_, verdict), _)| verdict.is_none())
            .map(|((job, _), n)| (*job, n))
            .unzip();
        let statement = asking_why(db, &open);
        let rows = match alone {
            true => db.single(conn, statement).await?,
            false => db.rows(conn, statement).await?,
        };
        for row in &rows {
            let mut c = Columns::new(row);
            let (n, requests) = (c.number()?, c.number()?);
            let (current, next, same): (bool, bool, bool) = (c.take()?, c.take()?, c.take()?);
            let verdict = if same {
                Verdict::Done(Appended::Applied { requests, lease_lost: !current })
            } else if current && next {
                Verdict::Again
            } else {
                Verdict::Done(Appended::Stale)
            };
            let index = usize::try_from(n.saturating_sub(1)).unwrap_or(usize::MAX);
            if let Some(number) = numbers.get(index) {
                self.set(*number, verdict);
            }
        }
        Ok(())
    }

    /// One verdict for each row; a run that nobody knows has no lease.
    pub(crate) fn verdicts(self) -> Vec<Verdict> {
        let open = Verdict::Done(Appended::Stale);
        self.verdicts.into_iter().map(|verdict| verdict.unwrap_or_else(|| open.clone())).collect()
    }
}

/// Sends a batch in and waits for its answers.
pub(crate) async fn append_all(
    desk: &Desk,
    ns: i32,
    batch: &[Append],
    handler: impl Fn(&Append) -> Option<EndHandler>,
) -> Result<Vec<Appended>, StoreError> {
    let gone = || StoreError::unavailable(OPERATION);
    let since = Instant::now();
    let (mut jobs, mut replies) = (Vec::new(), Vec::new());
    for append in batch {
        let (reply, answer) = oneshot::channel();
        jobs.push(Job {
            ns,
            append: append.clone(),
            handler: handler(append),
            since,
            again: false,
            reply,
        });
        replies.push(answer);
    }
    if !jobs.is_empty() {
        desk.send(jobs).await.map_err(|_closed| gone())?;
    }
    let mut answers = Ok(Vec::with_capacity(batch.len()));
    for reply in replies {
        match (reply.await.map_err(|_gone| gone())?, &mut answers) {
            (Ok(answer), Ok(answers)) => answers.push(answer),
            (Err(error), answers @ Ok(_)) => *answers = Err(error),
            (_, Err(_)) => {}
        }
    }
    answers
}

/// The runs that a batch of jobs writes or wakes.
pub(crate) fn touched<'a>(jobs: &'a [&'a Job]) -> impl Iterator<Item = (i32, RunId)> + 'a {
    jobs.iter().flat_map(|job| {
        let runs = std::iter::once(&job.append.run).chain(&job.append.wakes);
        runs.map(|run| (job.ns, *run))
    })
}
