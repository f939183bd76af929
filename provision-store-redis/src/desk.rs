//! Appends and submissions that many tasks make at the same time: those that are pending go out as
//! one script.
//!
//! Nothing waits for more to come: alone, a call is a script of its own; under load the next script
//! grows while the server is busy with the last one. What a script does once (read the clock, make
//! its functions, write its rows) is paid once for all of them. Each call is answered on its own:
//! what a script refuses whole because of one of them is sent again, each by itself.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use provision_core::error::{StoreError, StoreErrorKind};
use redis::Value;
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinSet, yield_now},
};

use crate::{
    args::Args,
    error::{again, bad_row},
    keys::{Keys, Reach},
    link::Link,
    reply::array,
    scripts,
};

/// How much one script does: the server serves nobody else meanwhile. A plain append weighs 1, and
/// takes it some 10 us.
const WEIGHT_MAX: usize = 64;
/// Bytes of arguments of one script; a larger call goes alone.
const BYTES_MAX: usize = 256 * 1024;
/// How often all other tasks get a turn before a script is closed, as long as each brings more.
const TURNS_MAX: usize = 4;
/// Calls that are kept for the task; who comes later waits.
const PENDING_MAX: usize = 1024;

/// What one caller asks for.
#[derive(Debug)]
pub(crate) struct Call {
    /// What it is named in errors.
    pub(crate) operation: &'static str,
    pub(crate) reach: Reach,
    /// The run of each item.
    pub(crate) runs: Args,
    /// The arguments of the items, one after the other.
    pub(crate) items: Args,
    /// How much the server has to do for it, in plain appends.
    pub(crate) weight: usize,
}

impl Call {
    fn bytes(&self) -> usize {
        self.runs.bytes().saturating_add(self.items.bytes())
    }
}

type Answers = Result<Vec<Value>, StoreError>;

#[derive(Debug)]
struct Job {
    call: Call,
    reply: oneshot::Sender<Answers>,
}

/// Where the writes of one namespace come together.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    /// Held for a moment only; made by the first call, and anew where its runtime is gone.
    task: Mutex<Option<Task>>,
}

#[derive(Debug)]
struct Task {
    jobs: mpsc::Sender<Job>,
    _owned: JoinSet<()>,
}

impl Desk {
    /// Sends a call with those of others, and waits for the answers to its items.
    pub(crate) async fn call(
        &self,
        link: &Arc<Link>,
        keys: &Arc<Keys>,
        call: Call,
    ) -> Result<Vec<Value>, StoreError> {
        let operation = call.operation;
        let gone = || StoreError::unavailable(operation);
        let (reply, answers) = oneshot::channel();
        let jobs = self.jobs(link, keys);
        jobs.send(Job { call, reply }).await.map_err(|_closed| gone())?;
        answers.await.map_err(|_gone| gone())?
    }

    fn jobs(&self, link: &Arc<Link>, keys: &Arc<Keys>) -> mpsc::Sender<Job> {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = &*task
            && !task.jobs.is_closed()
        {
            return task.jobs.clone();
        }
        let (jobs, pending) = mpsc::channel(PENDING_MAX);
        let writer = Writer { link: Arc::clone(link), keys: Arc::clone(keys) };
        let mut owned = JoinSet::new();
        owned.spawn(serve(writer, pending));
        *task = Some(Task { jobs: jobs.clone(), _owned: owned });
        jobs
    }
}

/// Works until the desk is gone. One script is under way at a time: with two, each would have half of
/// the calls, and both would pay a sync.
async fn serve(writer: Writer, mut pending: mpsc::Receiver<Job>) {
    let mut waiting = VecDeque::new();
    loop {
        if waiting.is_empty() {
            let Some(job) = pending.recv().await else { return };
            waiting.push_back(job);
        }
        // Whoever was answered a moment ago comes back before the next script is closed.
        for _ in 0..TURNS_MAX {
            yield_now().await;
            let known = waiting.len();
            while waiting.len() < WEIGHT_MAX
                && let Ok(job) = pending.try_recv()
            {
                waiting.push_back(job);
            }
            if waiting.len() == known {
                break;
            }
        }
        let taken = take(&mut waiting);
        let Some(trouble) = writer.write(taken).await else { continue };
        // The server is not there: nobody waits for as many times its silence as there are scripts
        // before his own. Nothing of these was sent.
        while let Ok(job) = pending.try_recv() {
            waiting.push_back(job);
        }
        for Job { call, reply } in waiting.drain(..) {
            drop(reply.send(Err(again(&trouble, call.operation))));
        }
    }
}

/// As many of those that wait, in their order, as one script may do.
fn take(waiting: &mut VecDeque<Job>) -> Vec<Job> {
    let (mut taken, mut weight, mut bytes) = (Vec::new(), 0_usize, 0_usize);
    while let Some(job) = waiting.front() {
        // Whose caller has gone away before it was sent is not sent.
        if job.reply.is_closed() {
            waiting.pop_front();
            continue;
        }
        weight = weight.saturating_add(job.call.weight);
        bytes = bytes.saturating_add(job.call.bytes());
        if !taken.is_empty() && (weight > WEIGHT_MAX || bytes > BYTES_MAX) {
            break;
        }
        taken.extend(waiting.pop_front());
    }
    taken
}

/// Sends scripts.
struct Writer {
    link: Arc<Link>,
    keys: Arc<Keys>,
}

impl Writer {
    /// Writes these and answers their callers; the trouble, where the server could not be asked.
    async fn write(&self, jobs: Vec<Job>) -> Option<StoreError> {
        if jobs.is_empty() {
            return None;
        }
        match self.sent(&jobs).await {
            Ok(answers) => {
                let mut answers = answers.into_iter();
                for Job { call, reply } in jobs {
                    // A caller that has gone away does not want to know.
                    drop(reply.send(Ok(answers.by_ref().take(call.runs.len()).collect())));
                }
                None
            }
            // Nothing was written; those that are of no new lane are no part of it.
            Err(error) if jobs.len() > 1 && error.code() == "redis_too_many_lanes" => {
                for job in jobs {
                    let answers = self.sent(std::slice::from_ref(&job)).await;
                    let answers = answers.map_err(|error| again(&error, job.call.operation));
                    drop(job.reply.send(answers));
                }
                None
            }
            Err(error) => {
                for job in jobs {
                    drop(job.reply.send(Err(again(&error, job.call.operation))));
                }
                (error.kind() == StoreErrorKind::Unavailable).then_some(error)
            }
        }
    }

    async fn sent(&self, jobs: &[Job]) -> Answers {
        let count = jobs.iter().map(|job| job.call.runs.len()).sum();
        let mut args = Args::default();
        args.count(count);
        jobs.iter().for_each(|job| args.extend(&job.call.runs));
        jobs.iter().for_each(|job| args.extend(&job.call.items));
        let reach = jobs.iter().map(|job| job.call.reach).max().unwrap_or(Reach::Step);
        let answers = array(self.link.write(&scripts::WRITE, self.keys.of(reach), &args).await?)?;
        if answers.len() == count {
            return Ok(answers);
        }
        Err(bad_row("answers that are fewer or more than was asked for"))
    }
}
