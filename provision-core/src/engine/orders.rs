//! Orders: what a person, or another system, asks of a run. Each is checked against the journal,
//! stored beside it, and applied by whoever holds the run next.

use serde::Serialize;

use super::{Engine, retention::pruned};
use crate::{
    error::{Error, ErrorKind},
    id::{Data, ExternalId, Payload, RunId},
    ledger::{is_lived_with, rows_of},
    offers::offer_of,
    run::{
        decide::{Event, Halt, Moment, SIGNAL_REPEATED, decide},
        journal::{Finding, Order, RequestBody, SignalSource},
    },
    saga::SignalId,
    store::{RunRecord, Submission, Submitted},
};

/// Most requests of one run that no worker has taken yet (S25).
const REQUESTS_MAX: usize = 1_000;

/// Who gives an order, and why; both are journaled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    who: String,
    why: String,
}

impl By {
    /// Names who and why.
    #[must_use]
    pub fn new(who: impl Into<String>, why: impl Into<String>) -> Self {
        Self { who: who.into(), why: why.into() }
    }
}

impl Default for By {
    fn default() -> Self {
        Self::new("host", "")
    }
}

/// A person's answer about one step.
///
/// ```
/// use provision_core::{
///     By, Engine, LedgerQuery, MemoryStore, Resolution, ResourceState, RunStatus, Saga, SagaId,
///     executor::{Executor, HostDriven},
/// };
/// use provision_testkit::harness::{World, world::{Entry, RemoveEntry, Thing}};
///
/// const SHOP: SagaId<String, String> = SagaId::new("shop", 1);
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cloud = World::new();
/// let saga = Saga::define(SHOP, |s| {
///     let db = s.resource("db", Thing::named(&cloud)).input((), |name, ()| name.clone());
///     let paid = s.value("paid").pivot().input(db, |_, db| db);
///     let mail = s.step("mail", Entry(cloud.clone()), RemoveEntry(cloud.clone()));
///     mail.after(paid).input((), |name, ()| format!("mail-{name}"));
///     paid
/// })?;
/// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
/// cloud.block("put mail-acme");
/// cloud.block("delete acme");
///
/// // The mail is refused after the point of no return: a person says that it is not wanted.
/// let run = engine.start(SHOP, &"acme".to_owned()).await?;
/// let head = HostDriven.drive(&engine, run.id()).await?;
/// assert_eq!(head.status, RunStatus::Parked);
/// let skip = Resolution::Skip { path: "mail".to_owned() };
/// engine.resolve(run.id(), skip, By::new("ann", "they were called")).await?;
/// let head = HostDriven.drive(&engine, run.id()).await?;
/// assert_eq!(head.status, RunStatus::Succeeded);
///
/// // The delete is refused: a person gives it up, and the ledger keeps what is left behind.
/// engine.tear_down(run.id(), By::new("ann", "contract is over")).await?;
/// let head = HostDriven.drive(&engine, run.id()).await?;
/// assert_eq!(head.status, RunStatus::Parked);
/// let abandon = Resolution::Abandon { path: "db".to_owned() };
/// engine.resolve(run.id(), abandon, By::new("ann", "they keep it")).await?;
/// HostDriven.drive(&engine, run.id()).await?;
/// let rows = engine.ledger(&LedgerQuery::default()).await?;
/// assert_eq!(rows[0].state, ResourceState::LeftBehind);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resolution {
    /// The resource does not exist: the next generation begins, or its undo is done.
    Absent {
        /// The step.
        path: String,
    },
    /// The resource exists with this id, and is ours.
    Exists {
        /// The step.
        path: String,
        /// Its id.
        id: ExternalId,
    },
    /// The step counts as succeeded with this output.
    Succeeded {
        /// The step.
        path: String,
        /// Its output as JSON.
        output: Payload,
    },
    /// The step is not wanted.
    Skip {
        /// The step.
        path: String,
    },
    /// The undo is given up: what may remain is left behind, with its cost, in the ledger.
    Abandon {
        /// The step.
        path: String,
    },
    /// The dead letter has been looked at.
    Acknowledge,
}

impl Resolution {
    /// Treats a step as succeeded with a typed output.
    ///
    /// # Errors
    /// The output cannot be encoded, or is above [`Payload::MAX_BYTES`].
    pub fn succeeded<T: Serialize>(path: impl Into<String>, output: &T) -> Result<Self, Error> {
        let output = super::encode(output, "output_too_large", "encode an output")?;
        Ok(Self::Succeeded { path: path.into(), output })
    }

    fn order(self) -> Order {
        match self {
            Self::Absent { path } => Order::Found { path, finding: Finding::Absent },
            Self::Exists { path, id } => Order::Found { path, finding: Finding::Ours(id) },
            Self::Succeeded { path, output } => Order::ResolveAs { path, output },
            Self::Skip { path } => Order::Skip { path },
            Self::Abandon { path } => Order::Abandon { path },
            Self::Acknowledge => Order::Acknowledge,
        }
    }
}

impl Engine {
    /// Sends a signal to the one step that waits for it; one that comes earlier is kept for the
    /// next step that does.
    ///
    /// One signal is handed to one step. At most 1,000 are kept, of 1 MiB each.
    ///
    /// # Errors
    /// There is no such run, it is over, the value is above [`Payload::MAX_BYTES`] or too many are
    /// kept (kind `Limit`), or the store cannot be reached.
    pub async fn signal<T: Data>(
        &self,
        run: &RunId,
        signal: SignalId<T>,
        value: &T,
    ) -> Result<(), Error> {
        let value = super::encode(value, "signal_too_large", "encode a signal")?;
        let (name, source) = (signal.name().to_owned(), None);
        self.request(run, RequestBody::Signal { name, value, source }).await
    }

    /// Sends a signal on behalf of a step, once: what an outside executor that the step has started
    /// reports. Answers whether it is new.
    ///
    /// A repetition, of the same name on behalf of the same generation of the same step, is stored
    /// nowhere and is answered without an error, also when the run is over.
    ///
    /// # Errors
    /// As [`Self::signal`]; and of kind `Conflict` with the code `source_gone`, when the step was
    /// undone meanwhile or is being made anew.
    pub async fn signal_once<T: Data>(
        &self,
        run: &RunId,
        signal: SignalId<T>,
        source: &SignalSource,
        value: &T,
    ) -> Result<bool, Error> {
        let value = super::encode(value, "signal_too_large", "encode a signal")?;
        let record = self.load(run).await?;
        // Whoever drives the run judges what cannot be read here.
        if self.has_heard(&record, signal.name(), source).unwrap_or(false) {
            return Ok(false);
        }
        let (name, source) = (signal.name().to_owned(), Some(source.clone()));
        match self.request(run, RequestBody::Signal { name, value, source }).await {
            Ok(()) => Ok(true),
            Err(error) if error.code() == SIGNAL_REPEATED => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a signal of this name was taken on behalf of a step: [`Self::signal_once`] would
    /// answer it as a repetition. Nothing is written.
    ///
    /// # Errors
    /// There is no such run, the store cannot be reached, or the run cannot be read here: its saga is
    /// not registered with this engine, or its journal is damaged.
    pub async fn has_signal(
        &self,
        run: &RunId,
        name: &str,
        source: &SignalSource,
    ) -> Result<bool, Error> {
        self.has_heard(&self.load(run).await?, name, source)
    }

    /// Whether the journal or the requests beside it have this name of this source.
    fn has_heard(
        &self,
        record: &RunRecord,
        wanted: &str,
        by: &SignalSource,
    ) -> Result<bool, Error> {
        let waits = record.requests.iter().any(|request| {
            matches!(
                request.body.decode(),
                Ok(RequestBody::Signal { name, source: Some(source), .. })
                    if name == wanted && source == *by
            )
        });
        if waits {
            return Ok(true);
        }
        let state = crate::drive::fold(&record.head, &record.frames, &self.inner.plans)?;
        Ok(state.has_heard(wanted, by))
    }

    /// Asks a run to undo everything and end; one that is paused goes on for that.
    ///
    /// The request is stored and taken between attempts. One that comes too late, while the run's
    /// last call is open, finds the run over: [`RunSummary::refused`](crate::RunSummary::refused) of its row
    /// says so, with who asked.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use provision_core::{By, Engine, MemoryStore, Outcome, Saga, SagaId, SignalId, executor::{Executor, HostDriven}};
    ///
    /// const SEATS: SagaId<u32, bool> = SagaId::new("seats", 1);
    /// const GO: SignalId<bool> = SignalId::new("go");
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let saga = Saga::define(SEATS, |s| s.signal(GO).input((), |_, ()| Duration::from_secs(60)))?;
    /// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
    /// let run = engine.start(SEATS, &4).await?;
    /// engine.cancel(run.id(), By::new("ann", "ordered twice")).await?;
    /// HostDriven.drive(&engine, run.id()).await?;
    /// assert_eq!(run.outcome().await?, Outcome::RolledBack(None));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The run is over, or past its point of no return (kind `Conflict`).
    pub async fn cancel(&self, run: &RunId, by: By) -> Result<(), Error> {
        self.order(run, Order::Cancel, by).await
    }

    /// Asks a run to start nothing more, neither forward nor undoing, until it is resumed.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use provision_core::{By, Engine, MemoryStore, RunStatus, Saga, SagaId, SignalId, executor::{Executor, HostDriven}};
    ///
    /// const SEATS: SagaId<u32, bool> = SagaId::new("seats", 1);
    /// const GO: SignalId<bool> = SignalId::new("go");
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let saga = Saga::define(SEATS, |s| s.signal(GO).input((), |_, ()| Duration::from_secs(60)))?;
    /// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
    /// let run = engine.start(SEATS, &4).await?;
    /// engine.pause(run.id(), By::new("ann", "maintenance")).await?;
    /// engine.signal(run.id(), GO, &true).await?;
    /// let head = HostDriven.drive(&engine, run.id()).await?;
    /// assert_eq!(head.status, RunStatus::Paused);
    /// engine.resume(run.id(), By::new("ann", "done")).await?;
    /// let head = HostDriven.drive(&engine, run.id()).await?;
    /// assert_eq!(head.status, RunStatus::Succeeded);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The run is over.
    pub async fn pause(&self, run: &RunId, by: By) -> Result<(), Error> {
        self.order(run, Order::Pause, by).await
    }

    /// Lets a paused run go on.
    ///
    /// # Errors
    /// The run is over.
    pub async fn resume(&self, run: &RunId, by: By) -> Result<(), Error> {
        self.order(run, Order::Resume, by).await
    }

    /// Tries again what gave up, forward or undo, keeping what exists.
    ///
    /// ```
    /// use std::sync::{Arc, atomic::{AtomicBool, Ordering::Relaxed}};
    ///
    /// use provision_core::{
    ///     By, Engine, MemoryStore, NothingToUndo, RunStatus, Saga, SagaId, Step, StepContext, StepError,
    ///     executor::{Executor, HostDriven}, saga::OnFailure,
    /// };
    ///
    /// #[derive(Clone, Default)]
    /// struct Put(Arc<AtomicBool>);
    /// impl Step for Put {
    ///     const KIND: &'static str = "docs.put";
    ///     type Input = u32;
    ///     type Output = u32;
    ///     async fn run(&self, _: &StepContext, n: u32) -> Result<u32, StepError> {
    ///         if self.0.load(Relaxed) { Ok(n) } else { Err(StepError::permanent("put")) }
    ///     }
    /// }
    ///
    /// const SEATS: SagaId<u32, u32> = SagaId::new("seats", 1);
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let put = Put::default();
    /// let saga = Saga::define(SEATS, |s| {
    ///     s.on_failure(OnFailure::Ask);
    ///     s.step("put", put.clone(), NothingToUndo).input((), |n, ()| *n)
    /// })?;
    /// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
    /// let run = engine.start(SEATS, &4).await?;
    /// let head = HostDriven.drive(&engine, run.id()).await?;
    /// assert_eq!(head.status, RunStatus::Parked);
    /// put.0.store(true, Relaxed);
    /// engine.retry(run.id(), By::new("ann", "mended")).await?;
    /// HostDriven.drive(&engine, run.id()).await?;
    /// assert_eq!(run.output().await?, 4);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Nothing has given up.
    pub async fn retry(&self, run: &RunId, by: By) -> Result<(), Error> {
        self.order(run, Order::Retry, by).await
    }

    /// Drives a rolled back run forward again: finished steps stay, undone ones begin anew. A
    /// business key that the rollback has freed is taken again with the order.
    ///
    /// ```
    /// use std::sync::{Arc, atomic::{AtomicBool, Ordering::Relaxed}};
    ///
    /// use provision_core::{
    ///     By, Engine, MemoryStore, NothingToUndo, RunStatus, Saga, SagaId, Step, StepContext, StepError,
    ///     executor::{Executor, HostDriven},
    /// };
    ///
    /// #[derive(Clone, Default)]
    /// struct Put(Arc<AtomicBool>);
    /// impl Step for Put {
    ///     const KIND: &'static str = "docs.put";
    ///     type Input = u32;
    ///     type Output = u32;
    ///     async fn run(&self, _: &StepContext, n: u32) -> Result<u32, StepError> {
    ///         if self.0.load(Relaxed) { Ok(n) } else { Err(StepError::permanent("put")) }
    ///     }
    /// }
    ///
    /// const SEATS: SagaId<u32, u32> = SagaId::new("seats", 1);
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let put = Put::default();
    /// let saga = Saga::define(SEATS, |s| {
    ///     s.step("put", put.clone(), NothingToUndo).input((), |n, ()| *n)
    /// })?;
    /// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
    /// let run = engine.start(SEATS, &4).await?;
    /// let head = HostDriven.drive(&engine, run.id()).await?;
    /// assert_eq!(head.status, RunStatus::RolledBack);
    /// put.0.store(true, Relaxed);
    /// engine.redrive(run.id(), By::new("ann", "mended")).await?;
    /// HostDriven.drive(&engine, run.id()).await?;
    /// assert_eq!(run.output().await?, 4);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The run is not rolled back, or another run holds its business key now (`guarded`).
    pub async fn redrive(&self, run: &RunId, by: By) -> Result<(), Error> {
        self.order(run, Order::Redrive, by).await
    }

    /// Removes what a succeeded run made, or what a failed one has kept
    /// ([`OnFailure::Keep`](crate::saga::OnFailure::Keep)).
    ///
    /// ```
    /// use provision_core::{By, Engine, MemoryStore, Outcome, Saga, SagaId, executor::{Executor, HostDriven}};
    ///
    /// const SEATS: SagaId<u32, u32> = SagaId::new("seats", 1);
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let saga = Saga::define(SEATS, |s| s.value("seats").input((), |n, ()| *n))?;
    /// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
    /// let run = engine.start(SEATS, &4).await?;
    /// HostDriven.drive(&engine, run.id()).await?;
    /// engine.tear_down(run.id(), By::new("ann", "contract is over")).await?;
    /// HostDriven.drive(&engine, run.id()).await?;
    /// assert_eq!(run.outcome().await?, Outcome::TornDown);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The run is not over (`run_open`), or nothing stands that could be removed (`nothing_kept`).
    pub async fn tear_down(&self, run: &RunId, by: By) -> Result<(), Error> {
        self.order(run, Order::TearDown, by).await
    }

    /// Answers what a run asks of a person, such as about a step that failed after the point of no
    /// return.
    ///
    /// ```
    /// use provision_core::{
    ///     By, Engine, MemoryStore, Resolution, RunStatus, Saga, SagaId, StepError,
    ///     executor::{Executor, HostDriven},
    /// };
    ///
    /// const SEATS: SagaId<u32, u32> = SagaId::new("seats", 1);
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let saga = Saga::define(SEATS, |s| {
    ///     let paid = s.value("paid").pivot().input((), |n, ()| *n);
    ///     s.value("sent").try_input(paid, |_, _| Err(StepError::permanent("send")))
    /// })?;
    /// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
    /// let run = engine.start(SEATS, &4).await?;
    /// let head = HostDriven.drive(&engine, run.id()).await?;
    /// assert_eq!(head.status, RunStatus::Parked);
    /// let by_hand = Resolution::succeeded("sent", &4_u32)?;
    /// engine.resolve(run.id(), by_hand, By::new("ann", "sent by hand")).await?;
    /// HostDriven.drive(&engine, run.id()).await?;
    /// assert_eq!(run.output().await?, 4);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The answer does not fit the step's state.
    pub async fn resolve(&self, run: &RunId, answer: Resolution, by: By) -> Result<(), Error> {
        self.order(run, answer.order(), by).await
    }

    async fn order(&self, run: &RunId, order: Order, by: By) -> Result<(), Error> {
        self.request(run, RequestBody::Order { order, who: by.who, why: by.why }).await
    }

    /// Checks a request on a copy of the state, then stores it; the run is due at once.
    async fn request(&self, run: &RunId, body: RequestBody) -> Result<(), Error> {
        let record = self.load(run).await?;
        if record.requests.len() >= REQUESTS_MAX {
            return Err(Error::new(ErrorKind::Limit, "too_many_requests", "give an order")
                .with_context(format!("{REQUESTS_MAX} requests wait for a worker"))
                .with_hint("start a worker that has the run's saga registered"));
        }
        if let Ok(mut state) = crate::drive::fold(&record.head, &record.frames, &self.inner.plans) {
            let moment = Moment { now: state.at, latest: state.at, draw: 0, hold: true };
            match decide(&mut state, Event::Request(body.clone()), moment) {
                Ok(_) | Err(Halt::Stopped) => {}
                Err(Halt::Refused(refusal)) => {
                    let limit = refusal.is_limit();
                    let kind = if limit { ErrorKind::Limit } else { ErrorKind::Conflict };
                    return Err(Error::new(kind, refusal.code, "give an order")
                        .with_context(refusal.message)
                        .with_hint(refusal.hint));
                }
                Err(Halt::Illegal(illegal)) => {
                    return Err(super::damaged(illegal.to_string()));
                }
            }
        }
        self.check_owner(&record, &body).await?;
        // A business key that its end has freed is taken again, or the order is refused.
        let reopens = matches!(&body, RequestBody::Order { order: Order::Redrive, .. });
        let body = Payload::encode(&body).map_err(|error| {
            Error::new(ErrorKind::Invalid, "not_serializable", "encode an order").with_source(error)
        })?;
        let id = *run;
        let request = if reopens {
            Submission::Reopen { run: id, body }
        } else {
            Submission::Request { run: id, body }
        };
        match self.inner.store.submit(&[request]).await?.pop() {
            Some(Submitted::Requested(_)) => {
                // Due at once: by the store's clock this moment is over.
                self.inner.offer(offer_of(&record.head, record.head.updated_at)).await;
                Ok(())
            }
            Some(Submitted::Guarded(holder)) => {
                Err(Error::new(ErrorKind::Conflict, "guarded", "give an order")
                    .with_context(format!("run {} holds its business key now", holder.id))
                    .with_hint("tear that run down first, or leave this one as it is"))
            }
            Some(Submitted::Pruned(tombstone)) => Err(pruned(&tombstone)),
            _ => Err(self.absent(run).await),
        }
    }

    /// S11: what a person says to exist is not taken from another run that lives with it.
    async fn check_owner(&self, record: &RunRecord, body: &RequestBody) -> Result<(), Error> {
        let RequestBody::Order { order: Order::Found { path, finding }, .. } = body else {
            return Ok(());
        };
        let Finding::Ours(id) = finding else { return Ok(()) };
        let rows = rows_of(&*self.inner.store, record.head.id, path).await?;
        let Some(row) = rows.iter().find(|row| row.index == 0) else { return Ok(()) };
        let (kind, mine) = (row.full_kind(), (record.head.id, &**path));
        let place = (&*kind, &*row.account);
        if !is_lived_with(&*self.inner.store, place, id, mine).await? {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Conflict, "owned_elsewhere", "give an order")
            .with_context(format!("{kind} {id} is of another step or run"))
            .with_hint("look it up in the ledger, and name the resource that this step has made"))
    }
}
