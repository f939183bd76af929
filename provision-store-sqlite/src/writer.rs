//! The one thread that writes: it takes whatever is pending, writes it in one transaction, and
//! answers each caller after the commit.
//!
//! It never waits for more work to come: alone, a call is one commit; under load batches grow by
//! themselves while the previous one is being synced. A call that fails does not fail its
//! neighbours: the batch is rolled back and each call is tried in a transaction of its own.

use std::{
    any::Any,
    collections::VecDeque,
    hint,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::RecvTimeoutError,
    },
    thread,
    time::{Duration, Instant},
};

use provision_core::error::{StoreError, StoreErrorKind};
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::timeout,
};

use crate::{
    clock::{Anchor, Reading, StoreClock},
    counters::Tally,
    error::{Fault, sorted},
    host::EndHandlers,
    rows::{moment, signed, unsigned},
    schema, sql,
    turn::{Turn, Wanted, not_had},
    unit::{Caches, Unit},
};

/// How long the thread looks for the next call before it sleeps: runs that were just answered come
/// back within this, and to be woken takes longer.
const LOOKS_FOR: Duration = Duration::from_micros(50);

/// How long a caller that is alone stays awake for its answer: a commit of a fast disk comes back
/// within this, and to wake a thread of the runtime that has gone to sleep takes half as long again.
const STAYS_AWAKE: Duration = Duration::from_micros(250);

/// A caller looks no more often than this whether its turn is waited for in vain.
const BUSY_LEAST: Duration = Duration::from_millis(10);

/// Bytes after which a turn takes in no more calls: other processes wait for its end.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// One call, as the thread sees it.
trait Work: Send {
    /// Does the work inside a transaction. May be called again after a roll-back.
    fn run(&mut self, unit: &mut Unit<'_>) -> Result<(), Fault>;
    /// Whether the caller still wants it; from now on it cannot be taken back.
    fn begin(&mut self) -> bool;
    /// Lets the caller take it back once more: nothing of it was written.
    fn pause(&self);
    /// Answers the caller: with what `run` found, or with the error.
    fn answer(self: Box<Self>, outcome: Result<(), StoreError>);
    /// What the error of this call says was tried.
    fn operation(&self) -> &'static str;
    /// Whether the call must have a transaction of its own, and can run only once.
    fn is_alone(&self) -> bool;
    /// About how many bytes it writes.
    fn bytes(&self) -> usize;
}

struct Call<T, F> {
    operation: &'static str,
    alone: bool,
    bytes: usize,
    work: F,
    found: Option<T>,
    /// Set by who is first: the thread that begins it, or the caller that takes it back.
    settled: Arc<AtomicBool>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Work for Call<T, F>
where
    T: Send,
    F: FnMut(&mut Unit<'_>) -> Result<T, Fault> + Send,
{
    fn run(&mut self, unit: &mut Unit<'_>) -> Result<(), Fault> {
        self.found = Some((self.work)(unit)?);
        Ok(())
    }

    fn begin(&mut self) -> bool {
        !self.settled.swap(true, Ordering::AcqRel)
    }

    fn pause(&self) {
        self.settled.store(false, Ordering::Release);
    }

    fn answer(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Self { operation, found, reply, .. } = *self;
        let found = outcome.and_then(|()| found.ok_or_else(|| gone(operation)));
        // A caller that has gone away does not want to know.
        let _ = reply.send(found);
    }

    fn operation(&self) -> &'static str {
        self.operation
    }

    fn is_alone(&self) -> bool {
        self.alone
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

fn gone(operation: &'static str) -> StoreError {
    // Not by trying again: this process has nobody left who writes.
    StoreError::new(StoreErrorKind::Unsuitable, "sqlite_writer_gone", operation)
        .with_hint("open the store anew; whether the call was written is not known")
}

/// The thread's outside: sends calls in and waits for answers.
#[derive(Debug)]
pub(crate) struct Writer {
    calls: Option<mpsc::Sender<Box<dyn Work>>>,
    thread: Option<thread::JoinHandle<()>>,
    /// Closed by the thread when it ends.
    ended: Mutex<std::sync::mpsc::Receiver<()>>,
    wanted: Arc<Wanted>,
    busy: Duration,
    /// Calls that wait for their answers.
    open: AtomicUsize,
}

/// Counts a call while it waits.
struct Open<'a>(&'a AtomicUsize);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the thread works with.
pub(crate) struct Setup {
    pub(crate) name: &'static str,
    pub(crate) conn: Connection,
    pub(crate) turn: Turn,
    pub(crate) clock: Arc<StoreClock>,
    pub(crate) keeps_clock: bool,
    pub(crate) tally: Arc<Tally>,
    pub(crate) handlers: Arc<RwLock<EndHandlers>>,
    pub(crate) stirred: Arc<Notify>,
    pub(crate) batch_max: usize,
    pub(crate) queue_max: usize,
    /// How long a call waits for the turn.
    pub(crate) busy: Duration,
}

impl Writer {
    /// Starts the thread; it ends when the writer is dropped, after what is pending.
    pub(crate) fn start(setup: Setup) -> Result<Self, StoreError> {
        let (calls, pending) = mpsc::channel(setup.queue_max);
        let thread = thread::Builder::new().name(setup.name.to_owned());
        let (wanted, busy) = (Arc::new(Wanted::default()), setup.busy.max(BUSY_LEAST));
        let (waiting, caches) = (VecDeque::new(), Caches::default());
        let desk = Desk { pending, waiting, caches, wanted: Arc::clone(&wanted), setup };
        let (end, ended) = std::sync::mpsc::channel();
        let serve = move || {
            desk.serve();
            drop(end);
        };
        let thread = thread
            .spawn(serve)
            .map_err(|error| StoreError::unavailable("start the writer").with_source(error))?;
        Ok(Self {
            calls: Some(calls),
            thread: Some(thread),
            ended: Mutex::new(ended),
            wanted,
            busy,
            open: AtomicUsize::new(0),
        })
    }

    /// Does `work`, which writes about so many bytes, in a transaction shared with others; it may
    /// run more than once.
    pub(crate) async fn shared<T: Send + 'static>(
        &self,
        operation: &'static str,
        bytes: usize,
        work: impl FnMut(&mut Unit<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.call(operation, (false, bytes), work).await
    }

    /// Does `work` once, in a transaction of its own.
    pub(crate) async fn alone<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Unit<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let mut work = Some(work);
        let once = move |unit: &mut Unit<'_>| match work.take() {
            Some(work) => work(unit),
            None => Err(gone(operation).into()),
        };
        self.call(operation, (true, 0), once).await
    }

    async fn call<T: Send + 'static>(
        &self,
        operation: &'static str,
        (alone, bytes): (bool, usize),
        work: impl FnMut(&mut Unit<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, mut answer) = oneshot::channel();
        let settled = Arc::new(AtomicBool::new(false));
        let mine = Arc::clone(&settled);
        let call = Box::new(Call { operation, alone, bytes, work, found: None, settled, reply });
        let is_alone = self.open.fetch_add(1, Ordering::Relaxed) == 0;
        let _open = Open(&self.open);
        self.room(operation).await?.send(call);
        if is_alone {
            awake(&mut answer).await;
        }
        loop {
            match timeout(self.busy, &mut answer).await {
                Ok(found) => return found.map_err(|_closed| gone(operation))?,
                // What the thread has begun is answered; what waits with it for a turn that is not
                // given back is taken back, so that the answer is a definite one.
                Err(_late) => {
                    if self.is_stuck() && !mine.swap(true, Ordering::AcqRel) {
                        return Err(not_had(operation));
                    }
                }
            }
        }
    }

    /// Room for one more call.
    async fn room(
        &self,
        operation: &'static str,
    ) -> Result<mpsc::Permit<'_, Box<dyn Work>>, StoreError> {
        let calls = self.calls.as_ref().ok_or_else(|| gone(operation))?;
        loop {
            match timeout(self.busy, calls.reserve()).await {
                Ok(room) => return room.map_err(|_closed| gone(operation)),
                Err(_late) if self.is_stuck() => return Err(not_had(operation)),
                Err(_late) => {}
            }
        }
    }

    /// Whether the thread waits for a turn that nobody gives back.
    fn is_stuck(&self) -> bool {
        self.wanted.since(self.busy)
    }
}

/// Looks for the answer between other tasks before the caller sleeps.
#[allow(clippy::disallowed_methods, reason = "how long a caller stays awake is no time of a run")]
async fn awake<T>(answer: &mut oneshot::Receiver<T>) {
    let began = Instant::now();
    // An answer that is there is left for who waits.
    while began.elapsed() < STAYS_AWAKE && answer.is_empty() && !answer.is_terminated() {
        tokio::task::yield_now().await;
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.calls = None;
        let Some(thread) = self.thread.take() else { return };
        if thread.thread().id() == thread::current().id() {
            return;
        }
        let (wanted, busy) = (Arc::clone(&self.wanted), self.busy);
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        while ended.recv_timeout(busy) == Err(RecvTimeoutError::Timeout) {
            // It writes what is pending once it has the turn, if the process lives so long.
            if wanted.since(busy) {
                return;
            }
        }
        // A thread that panicked has nothing left to write.
        let _ = thread.join();
    }
}

/// The thread's inside.
struct Desk {
    pending: mpsc::Receiver<Box<dyn Work>>,
    /// Calls taken from the channel that belong to a later turn.
    waiting: VecDeque<Box<dyn Work>>,
    caches: Caches,
    wanted: Arc<Wanted>,
    setup: Setup,
}

/// Why a turn wrote nothing.
enum Failed {
    /// One of the calls failed; the others may not.
    Call(StoreError),
    /// The transaction as a whole could not begin or end.
    All(Fault),
}

impl Desk {
    fn serve(mut self) {
        while let Some(first) = self.next() {
            let mut batch = vec![first];
            match self.turn(&mut batch, true) {
                Ok(()) => answer(batch),
                Err(Failed::All(fault)) => answer_all(batch, &fault),
                Err(Failed::Call(error)) if batch.len() == 1 => answer_one(batch, error),
                Err(Failed::Call(_)) => self.one_by_one(batch),
            }
        }
    }

    /// The next call, or `None` after the last.
    #[allow(clippy::disallowed_methods, reason = "how long the thread spins is no time of a run")]
    fn next(&mut self) -> Option<Box<dyn Work>> {
        if let Some(call) = self.waiting.pop_front() {
            return Some(call);
        }
        let began = Instant::now();
        while began.elapsed() < LOOKS_FOR {
            if let Ok(call) = self.pending.try_recv() {
                return Some(call);
            }
            hint::spin_loop();
        }
        self.pending.blocking_recv()
    }

    /// One call of a batch failed: each gets a transaction of its own.
    fn one_by_one(&mut self, batch: Vec<Box<dyn Work>>) {
        // Nothing of them was written: until its own turn, each may be taken back.
        batch.iter().for_each(|call| call.pause());
        for call in batch {
            let mut one = vec![call];
            match self.turn(&mut one, false) {
                Ok(()) => answer(one),
                Err(Failed::All(fault)) => answer_all(one, &fault),
                Err(Failed::Call(error)) => answer_one(one, error),
            }
        }
    }

    /// One bounded batch; the turn is given back after it, so that other processes come in.
    fn turn(&mut self, batch: &mut Vec<Box<dyn Work>>, gather: bool) -> Result<(), Failed> {
        let Self { pending, waiting, caches, wanted, setup } = self;
        let turn = setup.turn.take(wanted).map_err(|error| Failed::All(Fault::Store(error)))?;
        if gather {
            fill(batch, waiting, pending, setup.batch_max);
        }
        // What a call of the host holds may panic where it is dropped: the others go on.
        let _ = catch_unwind(AssertUnwindSafe(|| batch.retain_mut(|call| call.begin())));
        if batch.is_empty() {
            return Ok(());
        }
        let conn = &mut setup.conn;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let tx = conn
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(|error| Failed::All(error.into()))?;
            let now = now(&tx, &setup.clock, setup.keeps_clock).map_err(Failed::All)?;
            let handlers = setup.handlers.read().unwrap_or_else(PoisonError::into_inner);
            let mut unit = Unit::new(&tx, now, caches, &setup.tally, &handlers);
            for call in batch.iter_mut() {
                let operation = call.operation();
                call.run(&mut unit).map_err(|fault| Failed::Call(fault.into_store(operation)))?;
            }
            let done = unit.done();
            commit(tx).map_err(|error| Failed::All(error.into()))?;
            Ok(done)
        }));
        drop(turn);
        match outcome.unwrap_or_else(|panic| Err(Failed::Call(panicked(panic.as_ref())))) {
            Ok(done) => {
                setup.tally.committed(done.appends);
                if done.stirred {
                    setup.stirred.notify_waiters();
                }
                Ok(())
            }
            Err(failed) => {
                // What was looked up inside a transaction that is gone may be gone with it.
                caches.forget();
                Err(failed)
            }
        }
    }
}

/// Commits by a statement that is kept: `Transaction::commit` reads its text anew each time.
///
/// A transaction whose commit failed is rolled back where it is dropped; one that is over is left alone.
fn commit(tx: Transaction<'_>) -> rusqlite::Result<()> {
    let committed = tx.prepare_cached("COMMIT")?.execute(());
    drop(tx);
    committed.map(drop)
}

/// Takes what is pending, without waiting, up to a call that must be alone or to as many bytes as
/// one turn may write (S25).
fn fill(
    batch: &mut Vec<Box<dyn Work>>,
    waiting: &mut VecDeque<Box<dyn Work>>,
    pending: &mut mpsc::Receiver<Box<dyn Work>>,
    most: usize,
) {
    if batch.iter().any(|call| call.is_alone()) {
        return;
    }
    let mut bytes: usize = batch.iter().map(|call| call.bytes()).sum();
    while batch.len() < most && bytes < BATCH_BYTES_MAX {
        let Some(next) = waiting.pop_front().or_else(|| pending.try_recv().ok()) else { return };
        if next.is_alone() {
            waiting.push_front(next);
            return;
        }
        bytes = bytes.saturating_add(next.bytes());
        batch.push(next);
    }
}

/// Reads the clock, and the version of the schema with it; the file keeps the reading when it ran
/// ahead of the last one kept (S20).
fn now(tx: &Transaction<'_>, clock: &StoreClock, keeps: bool) -> Result<Reading, Fault> {
    if !keeps {
        return Ok(clock.read(None));
    }
    let kept = tx
        .prepare_cached(sql::CLOCK_READ)?
        .query_row((), |row| {
            let (boot, boot_ms, wall_ms) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let kept = Anchor { boot, boot_ms: unsigned(boot_ms), wall_ms: unsigned(wall_ms) };
            Ok((kept, row.get(3)?))
        })
        .optional()?;
    let kept = match kept {
        Some((kept, version)) => {
            schema::check_version(version)?;
            Some(kept)
        }
        None => None,
    };
    let now = clock.read(kept.as_ref());
    if kept.is_none_or(|kept| kept.lags(&now)) {
        let values = (&now.boot, signed(now.boot_ms), moment(now.wall));
        tx.prepare_cached(sql::CLOCK_KEEP)?.execute(values)?;
    }
    Ok(now)
}

fn answer(batch: Vec<Box<dyn Work>>) {
    for call in batch {
        tell(call, Ok(()));
    }
}

/// Answers one caller: what a host's function holds may panic where it is dropped, and must not end
/// the thread.
fn tell(call: Box<dyn Work>, outcome: Result<(), StoreError>) {
    if catch_unwind(AssertUnwindSafe(|| call.answer(outcome))).is_err() {
        tracing::error!("what a call of the host holds panicked where it was dropped");
    }
}

fn answer_one(batch: Vec<Box<dyn Work>>, error: StoreError) {
    let mut error = Some(error);
    for call in batch {
        let operation = call.operation();
        tell(call, Err(error.take().unwrap_or_else(|| gone(operation))));
    }
}

fn answer_all(batch: Vec<Box<dyn Work>>, fault: &Fault) {
    for call in batch {
        let error = match fault {
            Fault::Sql(error) => sorted(error, call.operation()),
            Fault::Store(error) => {
                let told = StoreError::new(error.kind(), error.code(), call.operation())
                    .with_context(error.to_string());
                match error.hint() {
                    Some(hint) => told.with_hint(hint.to_owned()),
                    None => told,
                }
            }
        };
        tell(call, Err(error));
    }
}

fn panicked(panic: &(dyn Any + Send)) -> StoreError {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    StoreError::new(StoreErrorKind::Invalid, "sqlite_call_panicked", "write")
        .with_context(text)
        .with_hint("a function of the host panicked inside the transaction")
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use provision_core::error::StoreError;
    use tokio::sync::mpsc;

    use super::{BATCH_BYTES_MAX, Fault, Unit, Work, fill};

    struct Sized(usize);

    impl Work for Sized {
        fn run(&mut self, _: &mut Unit<'_>) -> Result<(), Fault> {
            Ok(())
        }

        fn begin(&mut self) -> bool {
            true
        }

        fn pause(&self) {}

        fn answer(self: Box<Self>, _: Result<(), StoreError>) {}

        fn operation(&self) -> &'static str {
            "test"
        }

        fn is_alone(&self) -> bool {
            false
        }

        fn bytes(&self) -> usize {
            self.0
        }
    }

    // covers: S25
    #[test]
    fn a_turn_takes_in_so_many_calls_and_so_many_bytes() {
        for (size, taken) in [(1, 9), (BATCH_BYTES_MAX / 2, 2), (BATCH_BYTES_MAX * 2, 1)] {
            let (calls, mut pending) = mpsc::channel::<Box<dyn Work>>(20);
            for _ in 0..20 {
                calls.try_send(Box::new(Sized(size))).unwrap();
            }
            let mut batch: Vec<Box<dyn Work>> = vec![pending.try_recv().unwrap()];
            fill(&mut batch, &mut VecDeque::new(), &mut pending, 9);
            assert_eq!(batch.len(), taken, "of {size} bytes each");
        }
    }
}
