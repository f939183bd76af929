//! What a case is given: handles to one fresh store, and the means to let its time pass.

use std::{any::Any, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use provision_core::{
    id::{Payload, RunId, Timestamp},
    ledger::{LedgerOp, LedgerQuery, LedgerReply, LedgerRow},
    limit::Limiter,
    queue::Queue,
    retention::RetentionStore,
    secret::SecretStore,
    store::{
        Append, Appended, Incarnation, LeaseGrant, LeaseRequest, Leased, NewRun, RunHead,
        RunRecord, StateStore, Submission, Submitted,
    },
};

use super::given::{acquire_any, held_for};

/// Lets the store's clock pass.
pub type Advance = Arc<dyn Fn(Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// The five seams of one store handle; they may be different stores.
#[derive(Debug, Clone)]
pub struct Handle {
    /// Runs, leases and the ledger.
    pub state: Arc<dyn StateStore>,
    /// Proposals.
    pub queue: Arc<dyn Queue>,
    /// Shared limits.
    pub limiter: Arc<dyn Limiter>,
    /// Sealed values.
    pub secrets: Arc<dyn SecretStore>,
    /// What removes runs that are over.
    pub retention: Arc<dyn RetentionStore>,
}

/// A fresh, empty store, seen through several handles.
pub struct Fixture {
    /// The handle most cases use.
    pub main: Handle,
    /// Another handle on the same data and namespace, such as another connection or process's.
    pub again: Handle,
    /// A handle on the same data in another namespace.
    pub elsewhere: Handle,
    /// Length of the leases that cases take; long enough for a dozen calls.
    pub ttl: Duration,
    advance: Advance,
    _keep: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture").field("main", &self.main).finish_non_exhaustive()
    }
}

/// What a suite's factory answers with: a fixture, or none where its server is not there.
///
/// A factory that answers `None` says aloud that its cases are skipped.
pub trait Given {
    /// The fixture, if there is one.
    fn given(self) -> Option<Fixture>;
}

impl Given for Fixture {
    fn given(self) -> Option<Fixture> {
        Some(self)
    }
}

impl Given for Option<Fixture> {
    fn given(self) -> Option<Fixture> {
        self
    }
}

impl Fixture {
    /// Puts a fixture together. `keep` lives as long as it does: a directory, a server.
    #[must_use]
    pub fn new(
        [main, again, elsewhere]: [Handle; 3],
        ttl: Duration,
        advance: Advance,
        keep: impl Any + Send + Sync,
    ) -> Self {
        Self { main, again, elsewhere, ttl, advance, _keep: Box::new(keep) }
    }

    /// Lets the store's clock pass by `duration` at least.
    pub async fn advance(&self, duration: Duration) {
        (self.advance)(duration).await;
    }

    /// Lets every lease that was not renewed expire.
    pub async fn expire(&self) {
        self.advance(self.ttl + self.ttl / 4).await;
    }

    /// Leases everything that is due to `worker`.
    pub async fn take(&self, worker: Incarnation) -> Vec<Leased> {
        self.main.lease(&acquire_any(worker, self.ttl)).await.leased
    }

    /// Starts one plain run and leases it to `worker`.
    pub async fn leased_run(&self, worker: Incarnation) -> Leased {
        self.leased(worker, super::run_head()).await
    }

    /// Starts this run and leases it to `worker`.
    pub async fn leased(&self, worker: Incarnation, head: RunHead) -> Leased {
        let new = NewRun { head, lease_to: Some((worker, self.ttl).into()) };
        match self.main.submit(Submission::Run(Box::new(new))).await {
            Submitted::Created(Some(leased)) => *leased,
            other => panic!("expected a leased run, found {other:?}"),
        }
    }

    /// Renews `worker` and nothing else.
    pub async fn renew(&self, worker: Incarnation) -> LeaseGrant {
        self.main.lease(&held_for(worker, self.ttl)).await
    }

    /// A moment that lies `duration` after the store's clock.
    pub async fn later(&self, duration: Duration) -> Timestamp {
        self.main.state.now().await.expect("the clock is read").plus(duration)
    }
}

impl Handle {
    /// All five seams from one store.
    #[must_use]
    pub fn of<S: StateStore + Queue + Limiter + SecretStore + RetentionStore>(
        store: Arc<S>,
    ) -> Self {
        Self {
            state: Arc::<S>::clone(&store),
            queue: Arc::<S>::clone(&store),
            limiter: Arc::<S>::clone(&store),
            secrets: Arc::<S>::clone(&store),
            retention: store,
        }
    }

    /// Submits one thing.
    pub async fn submit(&self, submission: Submission) -> Submitted {
        let mut answers = self.state.submit(&[submission]).await.expect("submit answers");
        assert_eq!(answers.len(), 1, "one answer for each submission");
        answers.remove(0)
    }

    /// Starts a run without a lease.
    pub async fn start(&self, head: RunHead) -> Submitted {
        self.submit(Submission::Run(Box::new(NewRun { head, lease_to: None }))).await
    }

    /// Starts a run that must be new, and names it.
    pub async fn started(&self, head: RunHead) -> RunId {
        let id = head.id;
        match self.start(head).await {
            Submitted::Created(None) => id,
            other => panic!("expected a new run, found {other:?}"),
        }
    }

    /// Sends a request to a run that exists.
    pub async fn request(&self, run: RunId, json: &str) -> u64 {
        let body = Payload::from_json(json).expect("the request is JSON");
        match self.submit(Submission::Request { run, body }).await {
            Submitted::Requested(number) => number,
            other => panic!("expected a stored request, found {other:?}"),
        }
    }

    /// Leases.
    pub async fn lease(&self, request: &LeaseRequest) -> LeaseGrant {
        self.state.lease(request).await.expect("lease answers")
    }

    /// Appends one thing.
    pub async fn append(&self, append: Append) -> Appended {
        let mut answers = self.state.append(&[append]).await.expect("append answers");
        assert_eq!(answers.len(), 1, "one answer for each append");
        answers.remove(0)
    }

    /// Appends one thing that must be accepted, with the lease still current.
    pub async fn applied(&self, append: Append) {
        let answer = self.append(append).await;
        assert!(
            matches!(answer, Appended::Applied { lease_lost: false, .. }),
            "expected it to be applied, found {answer:?}"
        );
    }

    /// Everything stored of a run that exists.
    pub async fn record(&self, run: RunId) -> RunRecord {
        let mut found = self.state.load(&[run]).await.expect("load answers");
        found.remove(0).expect("the run is stored")
    }

    /// The row of a run that exists.
    pub async fn head(&self, run: RunId) -> RunHead {
        self.record(run).await.head
    }

    /// Does one thing with the ledger.
    pub async fn ledger(&self, op: LedgerOp) -> LedgerReply {
        let mut replies = self.state.ledger(&[op]).await.expect("the ledger answers");
        assert_eq!(replies.len(), 1, "one reply for each operation");
        replies.remove(0)
    }

    /// Rows of the ledger.
    pub async fn rows(&self, query: LedgerQuery) -> Vec<LedgerRow> {
        match self.ledger(LedgerOp::Query(query)).await {
            LedgerReply::Rows(rows) => rows,
            other => panic!("expected rows, found {other:?}"),
        }
    }

    /// Whether a ledger operation changed something.
    pub async fn changes(&self, op: LedgerOp) -> bool {
        match self.ledger(op).await {
            LedgerReply::Changed(changed) => changed,
            other => panic!("expected a change or none, found {other:?}"),
        }
    }
}
