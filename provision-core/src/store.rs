//! The seam to durable state: what a [`StateStore`] keeps, and the one place that grants leases.
//!
//! A store is dumb: it keeps what it is given, atomically, and compares the fence it is handed. It
//! invents nothing but epochs and owner nonces. [`crate::queue::Queue`] only proposes runs;
//! whoever wants to write a run's journal needs a lease from here.
//!
//! A store handle is bound to one namespace when it is opened; no call can reach another one.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    caps::Caps,
    error::StoreError,
    id::{Payload, RunId, Timestamp},
    ledger::{LedgerOp, LedgerReply, LedgerRow},
    retention::Tombstone,
    run::{RunStatus, RunSummary},
    secret::{Sealed, SecretKey},
};

/// One life of one worker process; a fresh id per process start, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub Uuid);

/// What a write must carry to be accepted: the current lease of the run, compared atomically.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// Whose lease it is.
    pub owner: Incarnation,
    /// Number of the lease; grows by one at each claim and never repeats.
    pub epoch: u64,
    /// Random number the store drew with the lease, so that a store that lost its last second
    /// cannot issue the same lease twice. At most 2^53, so that every store keeps it exactly.
    pub nonce: u64,
}

/// Name, version and shape of a saga: what a worker must have registered to run it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SagaRef {
    /// Durable name.
    pub name: String,
    /// Version the author gave.
    pub version: u32,
    /// Hash over paths, kinds, edges and marks; not over policies and closures.
    pub fingerprint: String,
}

/// A business key that only one run may hold at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    /// The business key.
    pub key: String,
    /// When it is freed.
    pub until: GuardUntil,
}

/// When a [`Guard`] is freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum GuardUntil {
    /// By `RolledBack` or `TornDown` only: what the run made is still there after success.
    #[default]
    Gone,
    /// By every end: the run owns nothing afterwards.
    Ended,
}

impl GuardUntil {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Gone, Self::Ended];

    /// The word it is stored and shown under.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Ended => "ended",
        }
    }

    /// Finds an end of guards by its word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == word)
    }
}

/// Where a run was started from, when another run started it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The parent run.
    pub run: RunId,
    /// The parent's step.
    pub path: String,
}

/// The mutable row of a run: what serves claim, filter and list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunHead {
    /// Name of the run.
    pub id: RunId,
    /// The saga it executes.
    pub saga: SagaRef,
    /// Tenant it belongs to.
    pub tenant: Option<String>,
    /// Named queue it is claimed from.
    pub queue: String,
    /// Higher is claimed earlier; default 0.
    pub priority: i32,
    /// Start key, unique in the namespace for ever.
    pub key: Option<String>,
    /// Business key and when it is freed; `None` once freed.
    pub guard: Option<Guard>,
    /// Input as it was given at `start`.
    pub input: Payload,
    /// Hash of the input, compared when a start key comes again.
    pub input_hash: String,
    /// The run that started this one.
    pub parent: Option<Parent>,
    /// Fields the caller wants on every span and error.
    pub context: BTreeMap<String, String>,
    /// Where the run stands.
    pub status: RunStatus,
    /// When it wants to be claimed next; [`Timestamp::NEVER`] while parked, paused or ended.
    pub due: Timestamp,
    /// Times and counts of repeated polls by step path, newer than the journal's.
    pub polls: BTreeMap<String, Poll>,
    /// Number of the last frame in the journal; 0 when there is none.
    pub seq: u64,
    /// Number of the current or last lease; 0 when there was none.
    pub epoch: u64,
    /// Who holds the lease now.
    pub owner: Option<Incarnation>,
    /// Number of the newest request; 0 when there was none.
    pub requests: u64,
    /// Number of the newest request that a frame has consumed.
    pub consumed: u64,
    /// Whether the last append left an attempt open.
    pub open: bool,
    /// Leases that ended by death with an attempt open since the last append that settled one.
    pub deaths: u32,
    /// What lists and pages show without reading the journal.
    pub summary: RunSummary,
    /// When `start` was accepted.
    pub created_at: Timestamp,
    /// When the row last changed.
    pub updated_at: Timestamp,
}

/// When a repeated poll of one step is due, and how often it answered "not yet".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poll {
    /// When to ask again.
    pub due: Timestamp,
    /// Answers "not yet" so far.
    pub count: u32,
}

/// One append as it was stored: a JSON array of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Position in the journal, from 1, without gaps.
    pub seq: u64,
    /// Lease under which it was written.
    pub epoch: u64,
    /// When, by the writer's reading of the store's clock.
    pub at: Timestamp,
    /// The records as JSON text.
    pub body: Arc<str>,
}

/// A request from outside: a signal, a cancel, an operator's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Position among the run's requests, from 1, without gaps.
    pub number: u64,
    /// When it was stored.
    pub at: Timestamp,
    /// What is asked, as the engine encoded it.
    pub body: Payload,
}

/// Everything stored of one run.
#[derive(Debug, Clone)]
pub struct RunRecord {
    /// The mutable row.
    pub head: RunHead,
    /// The whole journal, in order.
    pub frames: Vec<Frame>,
    /// Requests that no frame has consumed yet, in order.
    pub requests: Vec<Request>,
}

/// Something that comes in from outside any lease.
#[derive(Debug, Clone)]
pub enum Submission {
    /// A new run.
    Run(Box<NewRun>),
    /// A request to an existing run: stored, and the run made due, in one transaction.
    Request {
        /// The run asked.
        run: RunId,
        /// What is asked.
        body: Payload,
    },
    /// A request that opens a run again which is over: as `Request`, and the business key that its
    /// end has freed is taken again in the same transaction. While another run holds that key
    /// the answer is `Guarded`, and nothing is stored.
    Reopen {
        /// The run asked.
        run: RunId,
        /// What is asked.
        body: Payload,
    },
}

impl Submission {
    /// About how many bytes it makes a store write: for stores that bound what they write at once.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Run(run) => {
                let first = run.first().map_or(0, |first| first.body.len());
                run.head.input.as_str().len().saturating_add(first)
            }
            Self::Request { body, .. } | Self::Reopen { body, .. } => body.as_str().len(),
        }
    }
}

/// A run to be created. `head.epoch`, `seq` and `owner` are 0 and `None`.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// The row to insert.
    pub head: RunHead,
    /// Lease it in the same statement.
    pub lease_to: Option<NewLease>,
}

impl NewRun {
    /// What is answered, and stored, of this run once it was created under its lease, at `now`.
    #[must_use]
    pub fn born(&self, fence: Fence, now: Timestamp) -> Leased {
        let mut head = self.head.clone();
        (head.epoch, head.owner, head.updated_at) = (fence.epoch, Some(fence.owner), now);
        let frames = self.first().map(|first| first.enter(&mut head)).into_iter().collect();
        let record = RunRecord { head, frames, requests: Vec::new() };
        Leased { record, fence, died_at: None }
    }

    /// The frame that is written if the run is leased as it is created.
    #[must_use]
    pub fn first(&self) -> Option<&FirstFrame> {
        self.lease_to.as_ref()?.first.as_deref()
    }
}

/// The lease that a run is born with. An incarnation that is dead gets none: then the run is stored
/// without it, and without its first frame.
#[derive(Debug, Clone)]
pub struct NewLease {
    /// Whose it is.
    pub worker: Incarnation,
    /// How long it lasts.
    pub ttl: Duration,
    /// What the new owner has decided already: frame 1, written under epoch 1 with the run.
    pub first: Option<Box<FirstFrame>>,
}

impl From<(Incarnation, Duration)> for NewLease {
    fn from((worker, ttl): (Incarnation, Duration)) -> Self {
        Self { worker, ttl, first: None }
    }
}

/// The first frame of a run that is begun by the write that creates it. Nothing else hangs on it, an
/// attempt is open after it, and the status is that of the new row.
#[derive(Debug, Clone)]
pub struct FirstFrame {
    /// Records as JSON text.
    pub body: Arc<str>,
    /// The writer's reading of the store's clock.
    pub at: Timestamp,
    /// The summary that the row has with it.
    pub summary: RunSummary,
}

impl FirstFrame {
    /// Changes the row of a new run as its first frame does, and answers that frame.
    pub fn enter(&self, head: &mut RunHead) -> Frame {
        (head.seq, head.open, head.summary) = (1, true, self.summary.clone());
        Frame { seq: 1, epoch: 1, at: self.at, body: Arc::clone(&self.body) }
    }
}

/// Answer to one [`Submission`].
#[derive(Debug, Clone)]
pub enum Submitted {
    /// The run is stored; leased at once if that was asked and the incarnation is alive.
    Created(Option<Box<Leased>>),
    /// The start key is known, with the same saga and input: this is that run.
    Known(Box<RunHead>),
    /// The start key is known, with another saga or input. Nothing changed.
    KeyTaken(Box<RunHead>),
    /// The business key is held by this other run. Nothing changed.
    Guarded(Box<RunHead>),
    /// The request is stored under this number.
    Requested(u64),
    /// There is no such run.
    NoSuchRun,
    /// The run that has this start key or id, or that is asked, is over and was removed. Nothing
    /// changed. Whether it was the same start is told by [`Tombstone::is_of`].
    Pruned(Box<Tombstone>),
}

/// One fenced write to one run: the frame and everything that hangs on it, all or nothing.
#[derive(Debug, Clone)]
pub struct Append {
    /// The run written.
    pub run: RunId,
    /// The lease it is written under.
    pub fence: Fence,
    /// Number of the frame; the run's `seq` must be one less. Without a frame: the run's `seq`.
    pub seq: u64,
    /// Records as JSON text; `None` changes the row only (a repeated poll, a bare release).
    pub frame: Option<Arc<str>>,
    /// The writer's reading of the store's clock.
    pub at: Timestamp,
    /// New status.
    pub status: RunStatus,
    /// New summary.
    pub summary: RunSummary,
    /// Whether an attempt is open after this write.
    pub open: bool,
    /// Whether an attempt came to an end of its own, or a person gave an order: deaths are counted
    /// anew. A write that only says that an attempt was cut, or begins one, is no such thing.
    pub settled: bool,
    /// Number of the newest request this write has consumed.
    pub consumed: u64,
    /// Give the lease back in the same write.
    pub release: Option<Release>,
    /// Free the run's business key.
    pub free_guard: bool,
    /// Rows of the ledger to put.
    pub ledger: Vec<LedgerRow>,
    /// Sealed values to put; an existing value under the same key stays as it is.
    pub sealed: Vec<(SecretKey, Sealed)>,
    /// Runs to make due at once (a parent waiting for its child).
    pub wakes: Vec<RunId>,
    /// Runs that begin with this very write (children of its steps), not leased to anybody; those
    /// that are there already stay as they are.
    pub starts: Vec<NewRun>,
}

impl Append {
    /// About how many bytes it makes a store write: its frame, the inputs of the runs it begins, and
    /// a kilobyte for each row that hangs on it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let rows = self.ledger.len().saturating_add(self.sealed.len());
        let rows = rows.saturating_add(self.starts.len()).saturating_mul(1 << 10);
        let starts: usize = self.starts.iter().map(|run| run.head.input.as_str().len()).sum();
        let frame = self.frame.as_ref().map_or(0, |body| body.len());
        frame.saturating_add(rows).saturating_add(starts)
    }
}

/// Gives a lease back, and says when the run is due next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// When to be claimed next. A request newer than `consumed` and `seen` makes it "now" instead.
    pub due: Timestamp,
    /// Repeated polls to keep in the row.
    pub polls: BTreeMap<String, Poll>,
    /// Number of the newest request that the run has seen and cannot take now; it is kept, and
    /// only a newer one makes the run due. 0 for a run that takes what comes.
    pub seen: u64,
}

/// Answer to one [`Append`]; each run of a batch has its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// Written, or found already written by an earlier try of the very same append.
    Applied {
        /// Number of the newest request of the run.
        requests: u64,
        /// The record stands, but the lease is no longer current: no call may follow.
        lease_lost: bool,
    },
    /// The fence is not the current lease, or `seq` is not the next: nothing changed.
    Stale,
    /// A ledger row names a resource of which another run has a live created row: nothing changed.
    Conflict(Box<LedgerRow>),
}

/// Asks for, renews and gives back leases, in one round trip.
#[derive(Debug, Clone)]
pub struct LeaseRequest {
    /// Who asks.
    pub worker: Incarnation,
    /// How long a lease lasts from now on. Renews all leases of this worker.
    pub ttl: Duration,
    /// Runs wanted.
    pub acquire: Option<Acquire>,
    /// Leases given back, with their next due time; stale ones are passed over.
    pub release: Vec<(RunId, Fence, Release)>,
    /// Runs that this worker holds under these epochs without having heard of it, because the
    /// answer that leased them was lost: given back, due at once, no death counted.
    pub strangers: Vec<(RunId, u64)>,
    /// Incarnations proved dead (their file lock was free): marked dead, their runs made due.
    pub dead: Vec<Incarnation>,
    /// This incarnation ends: it is marked dead after the releases, without counting a death.
    pub retire: bool,
}

/// Which runs to lease.
#[derive(Debug, Clone)]
pub struct Acquire {
    /// At most so many.
    pub limit: usize,
    /// Only these, when given (what a queue proposed); else the due ones: higher priority first,
    /// then the oldest due time, taking turns between tenants.
    pub runs: Option<Vec<RunId>>,
    /// Only from these named queues; empty means all.
    pub queues: Vec<String>,
    /// Only sagas that this worker has registered.
    pub code: Vec<SagaRef>,
    /// No more runs of these queues than that are under lease after the call, of all workers. What
    /// is at its cap holds back nothing else.
    pub caps: Caps,
}

/// Answer to a [`LeaseRequest`].
#[derive(Debug, Clone)]
pub struct LeaseGrant {
    /// The store's clock.
    pub now: Timestamp,
    /// Whether this incarnation is alive; a dead one is never renewed and gets nothing.
    pub alive: bool,
    /// Newly leased runs.
    pub leased: Vec<Leased>,
    /// Every run this worker holds after the call, with its epoch.
    pub held: Vec<(RunId, u64)>,
    /// Other incarnations that are not marked dead, for the file-lock look on this machine.
    pub peers: Vec<Incarnation>,
    /// Earliest due time of a claimable run, for the next wake-up; `None` when there is none.
    pub next_due: Option<Timestamp>,
    /// Queues among those asked for that are at their cap after this call.
    pub full: Vec<String>,
}

/// A newly leased run.
#[derive(Debug, Clone)]
pub struct Leased {
    /// Everything stored of it, as of this lease.
    pub record: RunRecord,
    /// What writes must carry.
    pub fence: Fence,
    /// The last moment at which the previous owner could have sent a call, when its lease ended
    /// by death; `None` when it was released.
    pub died_at: Option<Timestamp>,
}

/// Which runs to list.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Only these statuses; empty means all.
    pub status: Vec<RunStatus>,
    /// Only this saga.
    pub saga: Option<String>,
    /// Only this version of the saga.
    pub version: Option<u32>,
    /// Only this tenant.
    pub tenant: Option<String>,
    /// Only the run with this start key.
    pub key: Option<String>,
    /// Only start keys with this prefix.
    pub key_prefix: Option<String>,
    /// Only the run that holds this business key now.
    pub guard: Option<String>,
    /// Only children of this run.
    pub parent: Option<RunId>,
    /// Only runs that are due by this moment; parked, paused and ended ones never are.
    pub due_by: Option<Timestamp>,
    /// Only dead letters: runs that need a person.
    pub dead_letters: bool,
    /// Only runs after this one, in the order of the listing (newest first).
    pub after: Option<RunId>,
    /// At most so many; 0 means 100.
    pub limit: usize,
}

/// One page of a listing, newest run first.
#[derive(Debug, Clone, Default)]
pub struct RunPage {
    /// The rows.
    pub runs: Vec<RunHead>,
    /// Pass as `after` for the next page; `None` at the end.
    pub next: Option<RunId>,
}

/// Durable state of runs, fenced by leases that only it grants.
///
/// Batches are the contract: a store writes a whole batch in one commit where it can, and answers
/// each element on its own. Each run of a worker writes by a call of its own, so a store whose
/// commits are dear makes one commit of the calls that wait at the same time (group commit), never
/// by a timer. No method sleeps to wait.
#[async_trait]
pub trait StateStore: Debug + Send + Sync + 'static {
    /// Stores new runs and requests; start keys and business keys are compared in the same commit.
    ///
    /// # Errors
    /// Nothing of the batch was stored, or (kind `Unavailable`) that is not known.
    async fn submit(&self, batch: &[Submission]) -> Result<Vec<Submitted>, StoreError>;

    /// Writes a batch of appends of different runs, each fenced on its own.
    ///
    /// # Errors
    /// Whether any of the batch was written is not known; repeat it unchanged.
    async fn append(&self, batch: &[Append]) -> Result<Vec<Appended>, StoreError>;

    /// Reads runs whole; `None` for unknown ones.
    ///
    /// # Errors
    /// The store cannot be read.
    async fn load(&self, runs: &[RunId]) -> Result<Vec<Option<RunRecord>>, StoreError>;

    /// Lists rows without journals.
    ///
    /// # Errors
    /// The store cannot be read.
    async fn list(&self, filter: &RunFilter) -> Result<RunPage, StoreError>;

    /// Reads the ledger, and writes what needs no lease: sightings, and the watch.
    ///
    /// # Errors
    /// The store cannot be reached.
    async fn ledger(&self, ops: &[LedgerOp]) -> Result<Vec<LedgerReply>, StoreError>;

    /// Renews this worker, takes over expired workers' runs, acquires, releases.
    ///
    /// An expired incarnation is first marked dead, conditional on its expiry, and only then are
    /// its runs taken. Expiry is judged by the store's clock.
    ///
    /// # Errors
    /// Whether leases were granted is not known; what was granted expires by itself.
    async fn lease(&self, request: &LeaseRequest) -> Result<LeaseGrant, StoreError>;

    /// The store's clock.
    ///
    /// # Errors
    /// The store cannot be reached.
    async fn now(&self) -> Result<Timestamp, StoreError>;
}
