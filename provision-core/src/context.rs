//! What a step is handed besides its input: who it is, and the calls back into the engine.
//!
//! Every provider call goes through [`StepContext::call`]: it asks the shared limiter, looks at
//! the lease right before the first byte, and cuts the call when its time is over.

use std::{
    borrow::Cow,
    fmt::{self, Debug},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tracing::Instrument;
use uuid::Uuid;

use crate::{
    clock,
    error::{Effect, StepError, Verdict},
    id::{ExternalId, RunId, Timestamp},
    ledger::Origin,
    limit::{Observed, Profile},
    mark::OwnerMark,
    metric::{self, Label},
    resource::{AdoptPolicy, Intent, IntentRecord},
    run::journal::SignalSource,
    secret::{Secret, SecretKey, SecretRef, SecretSpec},
};

/// Whether a call changes something at the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// It only looks: an end without an answer has no effect.
    Read,
    /// It may change something: an end without an answer is unknown.
    Mutate,
}

/// Describes one provider call to [`StepContext::call`].
///
/// Calls on one bucket share its limits, in all processes; what has to wait uses up no attempt.
///
/// ```
/// use std::time::Duration;
///
/// use provision_core::{
///     Call, Engine, MemoryStore, NothingToUndo, Policy, Saga, SagaId, Step, StepContext, StepError,
///     executor::{Executor, InProcess}, limit::{Profile, Rate},
/// };
///
/// struct Ask;
/// impl Step for Ask {
///     const KIND: &'static str = "docs.ask";
///     type Input = u32;
///     type Output = u32;
///     async fn run(&self, cx: &StepContext, n: u32) -> Result<u32, StepError> {
///         let rate = Rate { calls: 1, per: Duration::from_secs(10), burst: 1 };
///         let bucket = "docs/acme/api".to_owned();
///         let profile = Profile { bucket, rate: Some(rate), concurrency: Some(4_u32.into()) };
///         let call = Call::read("ask").with_timeout(Duration::from_secs(5)).with_limit(profile);
///         cx.call(&call, async { Ok(n) }).await
///     }
/// }
///
/// const ASK: SagaId<u32, u32> = SagaId::new("ask", 1);
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let saga = Saga::define(ASK, |s| {
///     s.step("ask", Ask, NothingToUndo).retry(Policy::once()).input((), |n, ()| *n)
/// })?;
/// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
/// let began = tokio::time::Instant::now();
/// for number in 0..3 {
///     let run = engine.start(ASK, &number).await?;
///     InProcess::default().drive(&engine, run.id()).await?;
///     assert_eq!(run.output().await?, number);
/// }
/// assert!(began.elapsed() >= Duration::from_secs(20));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Call {
    /// Short constant, such as `"create project"`.
    pub operation: &'static str,
    /// Whether it changes something.
    pub kind: CallKind,
    /// Longest time for the whole call.
    pub timeout: Duration,
    /// The bucket it counts against, if its provider has limits.
    pub limit: Option<Profile>,
}

impl Call {
    /// Describes a call that only looks; 30 s.
    #[must_use]
    pub const fn read(operation: &'static str) -> Self {
        Self { operation, kind: CallKind::Read, timeout: Duration::from_secs(30), limit: None }
    }

    /// Describes a call that may change something; 30 s.
    #[must_use]
    pub const fn mutate(operation: &'static str) -> Self {
        Self { operation, kind: CallKind::Mutate, timeout: Duration::from_secs(30), limit: None }
    }

    /// Sets the longest time for the whole call.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Counts the call against a bucket.
    #[must_use]
    pub fn with_limit(mut self, profile: Profile) -> Self {
        self.limit = Some(profile);
        self
    }
}

/// A point at which a recorder can look, and a test can stop the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seam {
    /// Right before the first byte of a call.
    Sending,
    /// Right after the answer of a call, or its end without one.
    Answered,
}

/// What the engine knows of earlier attempts of the same generation when an attempt begins.
#[allow(clippy::struct_excessive_bools, reason = "facts about earlier attempts, each read alone")]
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// The intent, once recorded.
    pub intent: Option<IntentRecord>,
    /// Ids known so far, with their origin.
    pub noted: Vec<(ExternalId, Origin)>,
    /// Whether an earlier call of this generation may have landed, and its end is not known.
    pub unknown: bool,
    /// Whether anything of this generation may exist: not every call of it is proven to have done
    /// nothing.
    pub may_exist: bool,
    /// When "absent" may be believed, by the store's clock.
    pub quiet_until: Option<Timestamp>,
    /// When an intent or an id of this generation was recorded last, by the store's clock.
    pub called_at: Option<Timestamp>,
    /// When the first attempt of this generation was recorded, by the store's clock: no call of
    /// the step under its key is older. Orders and waits do not move it.
    pub begun_at: Option<Timestamp>,
    /// When polling for readiness began.
    pub polling_since: Option<Timestamp>,
    /// What to do with a foreign resource.
    pub adopt: AdoptPolicy,
    /// How often a call without identity may be repeated after an unknown end, if at all.
    pub run_again: Option<u32>,
    /// Calls of this generation whose end is unknown.
    pub unknown_calls: u32,
    /// Whether an undo of this generation ended unknown, and the run goes forward again.
    pub undo_unknown: bool,
    /// Whether an order has moved the run since it began: while it stood still, what nothing
    /// wanted may have been found, and its removal begun.
    pub reordered: bool,
}

/// The engine's side of a [`StepContext`]; test kits implement it for steps run alone.
#[async_trait]
pub trait ContextHost: Send + Sync + 'static {
    /// Journals an id the moment it is known.
    async fn note(&self, id: ExternalId, origin: Origin) -> Result<(), StepError>;
    /// Journals an intent with freshly drawn and sealed values; answers what then is recorded.
    async fn intend(&self, intent: IntentRecord, draw: &[SecretSpec]) -> Result<Intent, StepError>;
    /// Draws a value once, seals it and journals that.
    async fn seal(&self, name: &'static str, value: Secret) -> Result<SecretRef, StepError>;
    /// Keeps a value that is sealed by the very append that records the outcome.
    fn keep(&self, name: &'static str, value: Secret) -> SecretRef;
    /// Opens a sealed value, or asks the host's resolver.
    async fn reveal(&self, secret: &SecretRef) -> Result<Secret, StepError>;
    /// The attempt is about to remove something: from here on it is journaled that it has begun.
    ///
    /// # Errors
    /// Nothing new may begin in the attempt.
    async fn removes(&self) -> Result<(), StepError> {
        Ok(())
    }
    /// Asks the shared limiter; an error is `Throttled` with effect `None`.
    async fn admit(&self, call: &Call) -> Result<(), StepError>;
    /// The call under the limits that an operator has set; default: as its caller says.
    fn limited<'c>(&self, call: &'c Call) -> Cow<'c, Call> {
        Cow::Borrowed(call)
    }
    /// Tells the limiter what an answer said.
    async fn observe(&self, bucket: &str, seen: Observed);
    /// How long a call may last from now on.
    ///
    /// # Errors
    /// The lease does not allow a call.
    fn deadline(&self, call: &Call) -> Result<Duration, StepError>;
    /// A call that was admitted is over, also when it was dropped: its slot is free again.
    fn over(&self, _call: &Call) {}
    /// Passes a point at which tests stop the world.
    async fn pass(&self, call: &Call, seam: Seam);
    /// What replaces the good answer of a call, where a test wants it lost.
    fn upset(&self, _call: &Call) -> Option<StepError> {
        None
    }
    /// The store's clock, as far as this worker knows it.
    fn now(&self) -> Timestamp;
    /// The provider that the step talks to, as metrics name it: the first part of its kind.
    fn provider(&self) -> &str {
        "unknown"
    }
    /// Another run that lives with this resource of a durable kind (`provider.kind`) in an account
    /// because it has adopted it, if there is one.
    async fn adopter_of(
        &self,
        kind: &str,
        account: &str,
        id: &ExternalId,
    ) -> Result<Option<RunId>, StepError>;
    /// Whether the watch or a sweep is removing something of a durable kind in an account: what
    /// carries the mark of this step, or, with an id, that thing, whoever's it is.
    async fn being_removed(
        &self,
        _kind: &str,
        _account: &str,
        _id: Option<&ExternalId>,
    ) -> Result<bool, StepError> {
        Ok(false)
    }
    /// What a worker had created for this step and generation when its lease was lost; it could
    /// not note it any more.
    async fn sighted(&self) -> Result<Vec<ExternalId>, StepError> {
        Ok(Vec::new())
    }
}

/// Facts of one attempt.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The run.
    pub run: RunId,
    /// Tenant of the run.
    pub tenant: Option<String>,
    /// Stable path of the step.
    pub path: String,
    /// Number of the attempt, from 1.
    pub number: u32,
    /// Generation of the step's effect, from 1.
    pub generation: u32,
    /// What earlier attempts left.
    pub memory: Memory,
}

/// Handed to every attempt. Cheap to clone; holds no lifetime.
#[derive(Clone)]
pub struct StepContext {
    inner: Arc<Inner>,
}

struct Inner {
    attempt: Attempt,
    key: OnceLock<String>,
    noted: Mutex<Vec<(ExternalId, Origin)>>,
    host: Arc<dyn ContextHost>,
}

impl Debug for StepContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepContext").field("attempt", &self.inner.attempt).finish_non_exhaustive()
    }
}

impl StepContext {
    /// Builds a context over a host; the engine does, and test kits that run a step alone.
    #[must_use]
    pub fn new(attempt: Attempt, host: Arc<dyn ContextHost>) -> Self {
        let noted = Mutex::new(attempt.memory.noted.clone());
        let inner = Inner { key: OnceLock::new(), attempt, noted, host };
        Self { inner: Arc::new(inner) }
    }

    /// The run this attempt belongs to.
    #[must_use]
    pub fn run_id(&self) -> &RunId {
        &self.inner.attempt.run
    }

    /// Tenant of the run.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        self.inner.attempt.tenant.as_deref()
    }

    /// Stable path of the step, such as `"variants[2]/compose"`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.inner.attempt.path
    }

    /// Number of the attempt, counted from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.inner.attempt.number
    }

    /// Generation of the step's effect, counted from 1.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.inner.attempt.generation
    }

    /// What earlier attempts of this generation left.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.inner.attempt.memory
    }

    /// Key of this step in this run and generation, the same on every attempt.
    #[must_use]
    pub fn idempotency_key(&self) -> &str {
        self.inner.key.get_or_init(|| self.idempotency_key_for("run"))
    }

    /// Key of one named call of this step, for steps that send several.
    #[must_use]
    pub fn idempotency_key_for(&self, call: &str) -> String {
        let attempt = &self.inner.attempt;
        idempotency_key(&attempt.run, &attempt.path, attempt.generation, call).to_string()
    }

    /// This step as the source of signals: what somebody outside reports on its behalf, until it is
    /// undone or made anew.
    #[must_use]
    pub fn signal_source(&self) -> SignalSource {
        SignalSource { path: self.path().to_owned(), generation: self.generation() }
    }

    /// The mark that says "this run and step made it", for labels, tags, metadata, descriptions.
    #[must_use]
    pub fn mark(&self) -> OwnerMark {
        OwnerMark::new(self.inner.attempt.run, &self.inner.attempt.path)
    }

    /// The store's clock, as far as this worker knows it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inner.host.now()
    }

    /// Journals an id the moment it is known; after this line a crash cannot lose it.
    ///
    /// # Errors
    /// The lease is lost, or the attempt was told to stop: return at once.
    pub async fn note(&self, id: &ExternalId) -> Result<(), StepError> {
        self.note_as(id, Origin::Created).await
    }

    /// Journals an id with its origin.
    ///
    /// # Errors
    /// As [`Self::note`].
    pub async fn note_as(&self, id: &ExternalId, origin: Origin) -> Result<(), StepError> {
        self.inner.host.note(id.clone(), origin).await?;
        let mut noted = self.known();
        if !noted.iter().any(|(known, _)| known == id) {
            noted.push((id.clone(), origin));
        }
        Ok(())
    }

    /// The ids noted in this generation, by this attempt or earlier ones.
    #[must_use]
    pub fn noted(&self) -> Vec<ExternalId> {
        self.known().iter().map(|(id, _)| id.clone()).collect()
    }

    /// Whether an id is somebody else's that this run only uses (S11): it is read, never written.
    #[must_use]
    pub fn is_adopted(&self, id: &ExternalId) -> bool {
        self.known().iter().any(|(known, origin)| known == id && *origin == Origin::Adopted)
    }

    fn known(&self) -> MutexGuard<'_, Vec<(ExternalId, Origin)>> {
        self.inner.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seals a value before it is used; an existing value of that name in this generation wins.
    ///
    /// # Errors
    /// The lease is lost, or no key to seal with is configured.
    pub async fn seal(
        &self,
        name: &'static str,
        draw: impl FnOnce() -> Secret + Send,
    ) -> Result<SecretRef, StepError> {
        self.inner.host.seal(name, draw()).await
    }

    /// Keeps a value that a provider shows once; the append that records the outcome seals it.
    #[must_use]
    pub fn keep(&self, name: &'static str, value: Secret) -> SecretRef {
        self.inner.host.keep(name, value)
    }

    /// The reference of a value sealed by this step in this generation.
    #[must_use]
    pub fn sealed(&self, name: &str) -> SecretRef {
        SecretRef::sealed(&self.secret_key(name))
    }

    /// Where a value of this step is kept.
    #[must_use]
    pub fn secret_key(&self, name: &str) -> SecretKey {
        let attempt = &self.inner.attempt;
        SecretKey {
            scope: attempt.run.to_string(),
            generation: attempt.generation,
            name: name.into(),
            path: attempt.path.clone(),
        }
    }

    /// Opens a reference: a sealed value, or a name the host's resolver knows.
    ///
    /// # Errors
    /// The value is missing (permanent, with its name) or cannot be opened (operator).
    pub async fn reveal(&self, secret: &SecretRef) -> Result<Secret, StepError> {
        self.inner.host.reveal(secret).await
    }

    /// Makes one provider call: permit, lease, first byte, answer or cut.
    ///
    /// `send` is not polled before the limiter admits the call and the lease allows it. When its
    /// time is over it is dropped; a mutating call is then `Unknown`, a reading one `None`.
    ///
    /// # Errors
    /// `Throttled` before the first byte, the time-out, or what `send` reports.
    pub async fn call<T>(
        &self,
        call: &Call,
        send: impl Future<Output = Result<T, StepError>> + Send,
    ) -> Result<T, StepError> {
        let host = &self.inner.host;
        // Once: a slot that is asked for is given back, whatever is configured meanwhile.
        let call = host.limited(call);
        let call = &*call;
        host.admit(call).await?;
        let open = Open { host: &**host, call };
        host.pass(call, Seam::Sending).await;
        let span = tracing::info_span!(
            "call", operation = call.operation, kind = ?call.kind, outcome = tracing::field::Empty
        );
        let began = clock::moment();
        let end = self.send_within(call, send).instrument(span.clone()).await;
        drop(open);
        let outcome = metric::outcome(end.as_ref().err());
        span.record("outcome", outcome);
        let by = [(Label::Provider, host.provider()), (Label::Outcome, outcome)];
        metric::count(metric::API_ERROR_RATE, 1, &by);
        let by = [by[0], (Label::Operation, call.operation), by[1]];
        metric::took(metric::HTTP_REQUEST_LATENCY, began.elapsed(), &by);
        host.pass(call, Seam::Answered).await;
        match host.upset(call) {
            Some(error) if end.is_ok() => Err(error),
            _ => end,
        }
    }

    /// S6: the one place where the deadline is looked at, before every poll of the call. A renewed
    /// lease moves it on, up to the call's own time-out.
    async fn send_within<T>(
        &self,
        call: &Call,
        send: impl Future<Output = Result<T, StepError>> + Send,
    ) -> Result<T, StepError> {
        let host = &self.inner.host;
        let began = clock::moment();
        let mut allowed = host.deadline(call)?;
        let mut send = std::pin::pin!(send);
        loop {
            if let Some(answer) = clock::within(allowed, &mut send).await {
                return answer;
            }
            let left = call.timeout.saturating_sub(began.elapsed());
            allowed = match host.deadline(call) {
                Ok(allowed) => allowed.min(left),
                // S18: not its own time is over. What the host says of that stands.
                Err(over) if !left.is_zero() => return Err(over.with_effect(effect_of(call))),
                Err(_) => Duration::ZERO,
            };
            if allowed.is_zero() {
                return Err(timed_out(call, began.elapsed()));
            }
        }
    }

    /// Tells the shared limiter what an answer said about a bucket.
    pub async fn observe(&self, bucket: &str, seen: Observed) {
        self.inner.host.observe(bucket, seen).await;
    }

    pub(crate) fn host(&self) -> &dyn ContextHost {
        &*self.inner.host
    }
}

/// A call that is admitted and not over.
struct Open<'a> {
    host: &'a dyn ContextHost,
    call: &'a Call,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.host.over(self.call);
    }
}

/// What a call may have done that was dropped without an answer.
fn effect_of(call: &Call) -> Effect {
    match call.kind {
        CallKind::Read => Effect::None,
        CallKind::Mutate => Effect::Unknown,
    }
}

fn timed_out(call: &Call, allowed: Duration) -> StepError {
    StepError::new(effect_of(call), Verdict::Retry { after: None }, call.operation)
        .with_code("timeout")
        .with_message(format!("no answer within {} ms", allowed.as_millis()))
}

/// S10: uuid v5 of run, path, generation and call name.
#[must_use]
pub fn idempotency_key(run: &RunId, path: &str, generation: u32, call: &str) -> Uuid {
    Uuid::new_v5(run.as_uuid(), format!("{path}\u{0}{generation}\u{0}{call}").as_bytes())
}
