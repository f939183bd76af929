//! The engine's side of a step's context: messages to the driver, and the services it may use.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use super::{Shared, patience::patiently, slots::Asking};
use crate::{
    bucket::{SLOT_RECHECK, TURNS_NEAR},
    clock::{self, Moment},
    context::{Call, ContextHost, Seam},
    error::{Effect, StepError, StoreError, Verdict},
    id::{ExternalId, RunId, Timestamp},
    ledger::{Origin, Sighting, adopter, being_removed, sightings},
    limit::{Admission, Ask, HeldBy, Observed, Profile, Turn},
    probe::Juncture,
    resource::{Intent, IntentRecord},
    secret::{Secret, SecretKey, SecretRef, SecretSpec},
    vault::Binding,
};

/// Longest id of a resource, in bytes.
const ID_BYTES_MAX: usize = 4096;

/// What an open attempt asks of its driver.
#[derive(Debug)]
pub(crate) enum Message {
    Note { node: usize, id: ExternalId, origin: Origin, reply: Reply<()> },
    Intend { node: usize, intent: Box<IntentRecord>, draw: Vec<SecretSpec>, reply: Reply<Intent> },
    Seal { node: usize, name: &'static str, value: Secret, reply: Reply<SecretRef> },
    Remove { node: usize, reply: Reply<()> },
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T, StepError>>;

/// Values that the append of the outcome seals.
pub(crate) type Kept = Arc<Mutex<Vec<(SecretKey, Secret)>>>;

/// The host of one attempt.
#[derive(Debug)]
pub(crate) struct AttemptHost {
    pub(crate) shared: Arc<Shared>,
    pub(crate) node: usize,
    pub(crate) run: RunId,
    pub(crate) tenant: Option<String>,
    pub(crate) path: Arc<str>,
    pub(crate) generation: u32,
    pub(crate) provider: &'static str,
    pub(crate) driver: mpsc::UnboundedSender<Message>,
    pub(crate) kept: Kept,
    /// Whether it has begun without a record.
    pub(crate) quiet: bool,
    /// When the attempt is cut.
    pub(crate) ends: Moment,
}

/// A call that is held back is waited for so long at least: no limiter is asked without a pause.
const HOLD_MIN: Duration = Duration::from_millis(5);
/// A call that is held back for no longer is waited for inside its attempt, without a record.
const HOLD_MAX: Duration = TURNS_NEAR;
/// Longest time that one call is waited for in this way.
const HOLDS_MAX: Duration = Duration::from_secs(15);

/// A call that is held back for long ends its attempt, which costs none.
fn held(call: &Call, bucket: &str, after: Duration, reason: HeldBy) -> StepError {
    let code = match reason {
        HeldBy::Rate | HeldBy::Turn => "held_by_rate",
        HeldBy::Pause => "held_by_pause",
        HeldBy::Concurrency => "held_by_concurrency",
        HeldBy::Breaker => "held_by_breaker",
    };
    let verdict = Verdict::Throttled { bucket: bucket.to_owned(), after };
    StepError::new(Effect::None, verdict, call.operation).with_code(code)
}

/// What a step is told when nothing new may begin in it.
pub(crate) fn stopped() -> StepError {
    StepError::retry("go on").with_code("stopped").with_message("the attempt was told to stop")
}

fn store_trouble(operation: &'static str, error: StoreError) -> StepError {
    StepError::retry(operation).with_code("store").with_source(error).uncounted()
}

impl AttemptHost {
    async fn ask<T>(&self, message: impl FnOnce(Reply<T>) -> Message) -> Result<T, StepError> {
        let (reply, answer) = oneshot::channel();
        self.driver.send(message(reply)).map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Asks the limiter once; when it says no, how long it means, what it calls that moment, and why.
    async fn held_back(&self, profile: &Profile, turn: Turn) -> Option<(Duration, Turn, HeldBy)> {
        self.shared.give_back_slots().await;
        match self.admission(profile, turn).await {
            // S20: its clock may be another one than the store's.
            Some(Ok(Admission::At { at, wait, reason })) => Some((wait, Turn::Came(at), reason)),
            // The limiter guards the provider's patience, not correctness: without it calls go on.
            Some(Ok(Admission::Now { .. }) | Err(_)) | None => {
                if profile.concurrency.is_some() {
                    self.shared.slots.taken(&profile.bucket);
                }
                None
            }
        }
    }

    /// The limiter's answer; `None` when it does not come in time.
    async fn admission(
        &self,
        profile: &Profile,
        turn: Turn,
    ) -> Option<Result<Admission, StoreError>> {
        let shared = &self.shared;
        if shared.limiter_is_beside && shared.limiter_silence.is_on() {
            // Not even begun: an ask for a slot that nobody hears out would be kept.
            return None;
        }
        let (limiter, slot) = (Arc::clone(&shared.limiter), profile.concurrency.is_some());
        let ask = Ask { profile: profile.clone(), calls: 1, worker: shared.worker, slot, turn };
        if !slot {
            return shared.heard_of_limiter(limiter.admit(&ask)).await;
        }
        let answer = Box::pin(async move { limiter.admit(&ask).await });
        let asking = Asking::new(&shared.slots, &profile.bucket, answer);
        shared.heard_of_limiter(asking.answer()).await
    }

    /// Whether the attempt may still wait so long: neither its end nor a stop comes first.
    fn may_wait(&self, time: Duration) -> bool {
        let left = self.ends.saturating_duration_since(clock::moment());
        !self.shared.is_stopping() && time < left
    }

    /// Lets time pass; false when the worker stops meanwhile.
    async fn rest(&self, time: Duration) -> bool {
        let (stop, left) = (self.shared.control.stop.notified(), self.shared.left.notified());
        if self.shared.is_stopping() {
            return false;
        }
        tokio::select! {
            biased;
            () = stop => false,
            () = left => false,
            () = clock::sleep(time) => true,
        }
    }

    fn key(&self, name: &str) -> SecretKey {
        SecretKey {
            scope: self.run.to_string(),
            generation: self.generation,
            name: name.to_owned(),
            path: self.path.to_string(),
        }
    }

    async fn unseal(&self, key: &SecretKey) -> Result<Secret, StepError> {
        let stored = patiently(|| self.shared.secrets.get(key)).await;
        let stored = stored.map_err(|error| store_trouble("open a sealed value", error))?;
        let cannot = |code: &'static str| {
            StepError::new(Effect::None, Verdict::Operator, "open a sealed value")
                .with_code(code)
                .with_message(format!("`{}` of `{}`", key.name, key.path))
        };
        let sealed = stored.ok_or_else(|| {
            cannot("secret_missing").with_hint("it was erased, or shown once and lost: rotate it")
        })?;
        let vault = self.shared.vault()?;
        let binding = Binding::new(&*self.shared.namespace, self.tenant.as_deref(), key);
        vault.open(&binding, &sealed).await.map_err(|error| match error.is_transient() {
            true => super::seal::key_trouble(error),
            false => {
                cannot("secret_unreadable").with_hint("give the vault the key it was sealed under")
            }
        })
    }
}

#[async_trait]
impl ContextHost for AttemptHost {
    async fn note(&self, id: ExternalId, origin: Origin) -> Result<(), StepError> {
        if id.as_str().len() > ID_BYTES_MAX {
            return Err(StepError::new(Effect::Unknown, Verdict::Operator, "note an id")
                .with_code("id_too_large")
                .with_message(format!("{} bytes, at most {ID_BYTES_MAX}", id.as_str().len()))
                .with_hint("note the provider's id alone; then say whether the resource exists"));
        }
        let node = self.node;
        self.ask(|reply| Message::Note { node, id, origin, reply }).await
    }

    async fn intend(&self, intent: IntentRecord, draw: &[SecretSpec]) -> Result<Intent, StepError> {
        let (node, intent, draw) = (self.node, Box::new(intent), draw.to_vec());
        self.ask(|reply| Message::Intend { node, intent, draw, reply }).await
    }

    async fn seal(&self, name: &'static str, value: Secret) -> Result<SecretRef, StepError> {
        let node = self.node;
        self.ask(|reply| Message::Seal { node, name, value, reply }).await
    }

    async fn removes(&self) -> Result<(), StepError> {
        if !self.quiet {
            return Ok(());
        }
        let node = self.node;
        self.ask(|reply| Message::Remove { node, reply }).await
    }

    fn keep(&self, name: &'static str, value: Secret) -> SecretRef {
        let key = self.key(name);
        let reference = SecretRef::sealed(&key);
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push((key, value));
        reference
    }

    async fn reveal(&self, secret: &SecretRef) -> Result<Secret, StepError> {
        if let Some(key) = secret.key() {
            let kept = {
                let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.iter().find(|(k, _)| *k == key).map(|(_, value)| value.clone())
            };
            return match kept {
                Some(value) => Ok(value),
                None => self.unseal(&key).await,
            };
        }
        let name = secret.name().unwrap_or_default();
        let found = self.shared.resolver.resolve(name).await;
        let found = found.map_err(|error| {
            StepError::retry("resolve a secret").with_code("resolver").with_source(error)
        })?;
        found.ok_or_else(|| {
            StepError::permanent("resolve a secret")
                .with_code("secret_missing")
                .with_message(format!("`{name}` is not set"))
                .with_hint(format!("set `{name}` where the host's resolver looks"))
        })
    }

    async fn admit(&self, call: &Call) -> Result<(), StepError> {
        let Some(profile) = &call.limit else { return Ok(()) };
        let (mut turn, mut waited, mut recheck) = (Turn::Waits, Duration::ZERO, SLOT_RECHECK);
        loop {
            let patient = waited + HOLD_MAX <= HOLDS_MAX && self.may_wait(HOLD_MAX);
            if turn == Turn::Waits && !patient {
                turn = Turn::Open;
            }
            let Some((wait, came, reason)) = self.held_back(profile, turn).await else {
                return Ok(());
            };
            let mut hold = wait.max(HOLD_MIN);
            if reason == HeldBy::Concurrency {
                hold = hold.max(recheck);
                recheck = hold * 2;
            }
            if hold > HOLD_MAX || !patient || !self.rest(hold).await {
                return Err(held(call, &profile.bucket, hold, reason));
            }
            waited += hold;
            turn = match reason {
                HeldBy::Turn => came,
                HeldBy::Concurrency => turn,
                HeldBy::Rate | HeldBy::Pause | HeldBy::Breaker => Turn::Waits,
            };
        }
    }

    fn limited<'c>(&self, call: &'c Call) -> Cow<'c, Call> {
        self.shared.limits.limited(call)
    }

    async fn observe(&self, bucket: &str, seen: Observed) {
        let told = self.shared.limiter.observe(bucket, self.shared.worker, &seen);
        if !matches!(self.shared.heard_of_limiter(told).await, Some(Ok(()))) {
            tracing::debug!(bucket, "the limiter could not be told");
        }
    }

    fn deadline(&self, call: &Call) -> Result<Duration, StepError> {
        let left = self.shared.lease.left();
        if left.is_zero() {
            return Err(StepError::retry(call.operation)
                .with_code("lease_over")
                .with_message("the lease does not allow a call")
                .uncounted());
        }
        Ok(left.min(call.timeout))
    }

    // L3: also where the limiter did not answer: a lost answer may have granted a slot, and one too
    // many that is given back is made good when this worker's calls are over, a kept one never.
    fn over(&self, call: &Call) {
        if let Some(profile) = call.limit.as_ref().filter(|profile| profile.concurrency.is_some()) {
            self.shared.slots.freed(&profile.bucket);
        }
    }

    async fn pass(&self, call: &Call, seam: Seam) {
        if seam == Seam::Answered {
            self.shared.give_back_slots().await;
        }
        self.shared.probe.call(&self.run, &self.path, call, seam).await;
    }

    fn upset(&self, call: &Call) -> Option<StepError> {
        self.shared.probe.upset(&self.run, &self.path, Juncture::Answered(call))
    }

    fn now(&self) -> Timestamp {
        self.shared.lease.now()
    }

    fn provider(&self) -> &str {
        self.provider
    }

    async fn adopter_of(
        &self,
        kind: &str,
        account: &str,
        id: &ExternalId,
    ) -> Result<Option<RunId>, StepError> {
        let adopter = patiently(|| adopter(&*self.shared.store, (kind, account), id, self.run));
        adopter.await.map_err(|error| store_trouble("look for adopters", error))
    }

    async fn being_removed(
        &self,
        kind: &str,
        account: &str,
        id: Option<&ExternalId>,
    ) -> Result<bool, StepError> {
        let (place, step) = ((kind, account), (self.run, &*self.path));
        let removed = patiently(|| being_removed(&*self.shared.store, place, step, id)).await;
        removed.map_err(|error| store_trouble("look for removals", error))
    }

    async fn sighted(&self) -> Result<Vec<ExternalId>, StepError> {
        let found = patiently(|| sightings(&*self.shared.store, Some(self.run))).await;
        let found = found.map_err(|error| store_trouble("read sightings", error))?;
        let own = |s: &Sighting| *s.path == *self.path && s.generation == self.generation;
        Ok(found.into_iter().filter(own).map(|sighting| sighting.external_id).collect())
    }
}
