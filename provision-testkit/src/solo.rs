//! A host for one step or resource run alone, in memory: what an adapter's tests call `find`,
//! `create`, `ready` and `delete` with.
//!
//! It differs from the engine in that it decides nothing: it answers what a [`StepContext`] asks
//! for, and records what was asked.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use provision_core::{
    Call, ExternalId, Identity, Intent, Origin, OwnerMark, Resource, RunId, Secret, SecretRef,
    SecretSpec, StepContext, StepError, Timestamp,
    clock::{Clock, SystemClock},
    context::{Attempt, ContextHost, Memory, Seam, idempotency_key},
    limit::Observed,
    resource::IntentRecord,
};
use tokio::time::Instant;
use uuid::Uuid;

/// Everything a lone host was told, in its order.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Ids noted, with the path of the step and their origin.
    pub notes: Vec<(String, ExternalId, Origin)>,
    /// Intents recorded, with the path of the step.
    pub intents: Vec<(String, IntentRecord)>,
    /// What answers said about buckets.
    pub observed: Vec<(String, Observed)>,
    /// Operations that were admitted.
    pub calls: Vec<&'static str>,
}

#[derive(Debug, Default)]
struct State {
    told: Told,
    named: HashMap<String, Secret>,
    sealed: BTreeMap<String, Secret>,
    adopters: HashMap<ExternalId, RunId>,
    call_max: Option<Duration>,
    now: Option<Timestamp>,
}

/// A host without an engine. Cheap to clone; clones share everything.
#[derive(Debug, Clone, Default)]
pub struct SoloHost {
    // A plain mutex: held for single reads and writes, never across an `.await`.
    state: Arc<Mutex<State>>,
}

impl SoloHost {
    /// A host that knows no secrets and allows every call its own time-out.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `SecretRef::named(name)` resolve to `value`.
    #[must_use]
    pub fn with_secret(self, name: &str, value: &str) -> Self {
        self.set_secret(name, value);
        self
    }

    /// Sets what a name resolves to from now on.
    pub fn set_secret(&self, name: &str, value: &str) {
        self.state().named.insert(name.to_owned(), Secret::new(value));
    }

    /// Allows no call more than this.
    #[must_use]
    pub fn with_call_max(self, most: Duration) -> Self {
        self.state().call_max = Some(most);
        self
    }

    /// Stops the clock of the store at this moment.
    #[must_use]
    pub fn with_now(self, now: Timestamp) -> Self {
        self.state().now = Some(now);
        self
    }

    /// Says that a live run has adopted a resource.
    pub fn set_adopter(&self, id: ExternalId, run: RunId) {
        self.state().adopters.insert(id, run);
    }

    /// What it was told so far.
    #[must_use]
    pub fn told(&self) -> Told {
        self.state().told.clone()
    }

    /// The context of the first attempt of a step.
    #[must_use]
    pub fn context(&self, run: RunId, path: &str) -> StepContext {
        self.attempt(run, path, 1, Memory::default())
    }

    /// The context of a later attempt, with what earlier ones left.
    #[must_use]
    pub fn attempt(&self, run: RunId, path: &str, number: u32, memory: Memory) -> StepContext {
        let attempt =
            Attempt { run, tenant: None, path: path.to_owned(), number, generation: 1, memory };
        StepContext::new(attempt, Arc::new(self.soloist(run, path)))
    }

    /// Records the intent that the engine would record for this resource, after an "absent".
    ///
    /// Its secrets are drawn from run, path and name, so that a repetition gives the same values.
    pub fn intend<R: Resource>(&self, cx: &StepContext, resource: &R, spec: &R::Spec) -> Intent {
        let facts = resource.facts(spec);
        let name = facts.name.or(match resource.identity(spec) {
            Identity::Named(name) => Some(name),
            Identity::ProviderKey | Identity::Label | Identity::None => None,
        });
        let specs = resource.secrets(spec);
        let secrets = specs.iter().map(|secret| secret.name.to_owned()).collect();
        let record = IntentRecord {
            key: idempotency_key(cx.run_id(), cx.path(), cx.generation(), "create"),
            name,
            account: resource.account().to_owned(),
            region: facts.region,
            template: facts.template,
            cost: facts.cost,
            secrets,
            at: cx.now(),
        };
        self.soloist(*cx.run_id(), cx.path()).record(record, &specs)
    }

    fn soloist(&self, run: RunId, path: &str) -> Soloist {
        let (state, path) = (Arc::clone(&self.state), path.to_owned());
        Soloist { state, run, path, sending: Mutex::new(None) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The host of one context.
struct Soloist {
    state: Arc<Mutex<State>>,
    run: RunId,
    path: String,
    /// When the latest call began.
    sending: Mutex<Option<Instant>>,
}

impl Soloist {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reference(&self, name: &str) -> SecretRef {
        SecretRef::sealed(&provision_core::secret::SecretKey {
            scope: self.run.to_string(),
            generation: 1,
            name: name.to_owned(),
            path: self.path.clone(),
        })
    }

    fn put(&self, name: &str, value: Secret) -> SecretRef {
        let reference = self.reference(name);
        self.state().sealed.entry(reference.as_str().to_owned()).or_insert(value);
        reference
    }

    fn record(&self, record: IntentRecord, specs: &[SecretSpec]) -> Intent {
        let mut secrets = Vec::new();
        for spec in specs {
            let value = Secret::new(draw(self.run, &self.path, spec));
            self.put(spec.name, value.clone());
            secrets.push((spec.name.to_owned(), value));
        }
        self.state().told.intents.push((self.path.clone(), record.clone()));
        Intent::new(record, OwnerMark::new(self.run, &self.path), secrets)
    }
}

/// Characters that depend on run, path and name alone.
fn draw(run: RunId, path: &str, spec: &SecretSpec) -> String {
    let alphabet: Vec<char> = spec.alphabet.chars().collect();
    let letter = |place: usize| {
        let seed = format!("{path}\u{0}{}\u{0}{place}", spec.name);
        let bytes = *Uuid::new_v5(run.as_uuid(), seed.as_bytes()).as_bytes();
        alphabet[usize::from(bytes[0]) % alphabet.len()]
    };
    (0..spec.length).map(letter).collect()
}

#[async_trait]
impl ContextHost for Soloist {
    async fn note(&self, id: ExternalId, origin: Origin) -> Result<(), StepError> {
        self.state().told.notes.push((self.path.clone(), id, origin));
        Ok(())
    }

    async fn intend(&self, intent: IntentRecord, draw: &[SecretSpec]) -> Result<Intent, StepError> {
        Ok(self.record(intent, draw))
    }

    async fn seal(&self, name: &'static str, value: Secret) -> Result<SecretRef, StepError> {
        Ok(self.put(name, value))
    }

    fn keep(&self, name: &'static str, value: Secret) -> SecretRef {
        self.put(name, value)
    }

    async fn reveal(&self, secret: &SecretRef) -> Result<Secret, StepError> {
        let state = self.state();
        let found = match secret.name() {
            Some(name) => state.named.get(name),
            None => state.sealed.get(secret.as_str()),
        };
        found.cloned().ok_or_else(|| {
            StepError::permanent("reveal secret")
                .with_code("secret_missing")
                .with_message(format!("no value for {}", secret.as_str()))
        })
    }

    async fn admit(&self, call: &Call) -> Result<(), StepError> {
        self.state().told.calls.push(call.operation);
        Ok(())
    }

    async fn observe(&self, bucket: &str, seen: Observed) {
        self.state().told.observed.push((bucket.to_owned(), seen));
    }

    fn deadline(&self, call: &Call) -> Result<Duration, StepError> {
        // Asked again during a call, like a lease: what is left of it.
        let began = *self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let spent = began.map(|at| at.elapsed()).unwrap_or_default();
        let most = self.state().call_max;
        Ok(most.map_or(call.timeout, |most| most.saturating_sub(spent).min(call.timeout)))
    }

    async fn pass(&self, _: &Call, seam: Seam) {
        let began = (seam == Seam::Sending).then(Instant::now);
        *self.sending.lock().unwrap_or_else(PoisonError::into_inner) = began;
    }

    fn now(&self) -> Timestamp {
        self.state().now.unwrap_or_else(|| SystemClock.wall())
    }

    async fn adopter_of(
        &self,
        _: &str,
        _: &str,
        id: &ExternalId,
    ) -> Result<Option<RunId>, StepError> {
        Ok(self.state().adopters.get(id).copied())
    }
}
