//! A context for looking without consequences: plan, preflight, watch, sweep. It journals nothing,
//! so nothing that needs a journal is allowed in it, and no mutating call either.

use std::{borrow::Cow, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::Engine;
use crate::{
    context::{Attempt, Call, CallKind, ContextHost, Memory, Seam, StepContext},
    drive::key_trouble,
    error::{Effect, Error, StepError, Verdict},
    id::{ExternalId, RunId, Timestamp},
    ledger::Origin,
    limit::{Admission, Ask, Observed, Turn},
    resource::{Intent, IntentRecord},
    secret::{Secret, SecretRef, SecretSpec},
    store::Incarnation,
    vault::Binding,
};

struct Looker {
    engine: Engine,
    tenant: Option<String>,
    now: Timestamp,
    allowed: Allowed,
}

/// Which calls are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Allowed {
    /// Those that only look.
    Looks,
    /// All of them: somebody else keeps the record of what they do.
    Changes,
}

/// An attempt that no run makes, at a step of one.
pub(super) fn nobodys(run: RunId, path: impl Into<String>, tenant: Option<String>) -> Attempt {
    let (path, memory) = (path.into(), Memory::default());
    Attempt { run, tenant, path, number: 0, generation: 1, memory }
}

fn refused(operation: &'static str) -> StepError {
    StepError::permanent(operation)
        .with_code("look_only")
        .with_message("nothing is changed while only looking")
}

impl Engine {
    /// A context outside of every run, for what an adapter offers to hosts: calls that only look,
    /// such as one for an address that is signed when somebody asks.
    ///
    /// Calls in it go through the host's limiter and resolver, and are told to the provider as
    /// those of the run of zeros. It journals nothing: a mutating call fails with code `look_only`
    /// before its first byte, and a step or resource that creates in it before its intent. Values
    /// sealed by runs of `tenant` can be opened.
    ///
    /// # Errors
    /// The store does not tell its time.
    pub async fn outside(&self, tenant: Option<&str>) -> Result<StepContext, Error> {
        self.looking(outsider(tenant)).await
    }

    /// A context as that of [`Engine::outside`], in which mutating calls are made, too: for what a
    /// host prepares before its runs.
    ///
    /// They are journaled nowhere, undone by nobody and repeated by the host alone. So it is only
    /// for what may be made twice and is to stay, such as a role that all runs share.
    ///
    /// # Errors
    /// The store does not tell its time.
    pub async fn preparing(&self, tenant: Option<&str>) -> Result<StepContext, Error> {
        self.changing(outsider(tenant)).await
    }

    /// A context of a run and step in which only looking is allowed.
    pub(super) async fn looking(&self, attempt: Attempt) -> Result<StepContext, Error> {
        self.apart(attempt, Allowed::Looks).await
    }

    /// A context of a run and step for a change that is recorded elsewhere: a removal.
    pub(super) async fn changing(&self, attempt: Attempt) -> Result<StepContext, Error> {
        self.apart(attempt, Allowed::Changes).await
    }

    async fn apart(&self, attempt: Attempt, allowed: Allowed) -> Result<StepContext, Error> {
        let now = self.inner.store.now().await?;
        let host = Looker { engine: self.clone(), tenant: attempt.tenant.clone(), now, allowed };
        Ok(StepContext::new(attempt, Arc::new(host)))
    }
}

fn outsider(tenant: Option<&str>) -> Attempt {
    nobodys(RunId::from_uuid(uuid::Uuid::nil()), "outside", tenant.map(ToOwned::to_owned))
}

#[async_trait]
impl ContextHost for Looker {
    async fn note(&self, _: ExternalId, _: Origin) -> Result<(), StepError> {
        Err(refused("note an id"))
    }

    async fn intend(&self, _: IntentRecord, _: &[SecretSpec]) -> Result<Intent, StepError> {
        Err(refused("record an intent"))
    }

    async fn seal(&self, _: &'static str, _: Secret) -> Result<SecretRef, StepError> {
        Err(refused("seal a value"))
    }

    fn keep(&self, _: &'static str, _: Secret) -> SecretRef {
        SecretRef::named("")
    }

    async fn reveal(&self, secret: &SecretRef) -> Result<Secret, StepError> {
        let inner = &self.engine.inner;
        let missing = |name: &str| {
            StepError::permanent("resolve a secret")
                .with_code("secret_missing")
                .with_message(format!("`{name}` is not set"))
        };
        if let Some(key) = secret.key() {
            let stored = inner.secrets.get(&key).await.map_err(|error| {
                StepError::retry("open a sealed value").with_code("store").with_source(error)
            })?;
            let (Some(sealed), Some(vault)) = (stored, &inner.vault) else {
                return Err(missing(&key.name));
            };
            let binding = Binding::new(&*inner.namespace, self.tenant.as_deref(), &key);
            return vault.open(&binding, &sealed).await.map_err(|error| {
                if error.is_transient() {
                    return key_trouble(error);
                }
                StepError::new(Effect::None, Verdict::Operator, "open a sealed value")
                    .with_code("secret_unreadable")
                    .with_source(error)
            });
        }
        let name = secret.name().unwrap_or_default();
        let found = inner.resolver.resolve(name).await.map_err(|error| {
            StepError::retry("resolve a secret").with_code("resolver").with_source(error)
        })?;
        found.ok_or_else(|| missing(name))
    }

    async fn admit(&self, call: &Call) -> Result<(), StepError> {
        if call.kind == CallKind::Mutate && self.allowed == Allowed::Looks {
            return Err(refused(call.operation));
        }
        let Some(profile) = &call.limit else { return Ok(()) };
        let ask = Ask {
            profile: profile.clone(),
            calls: 1,
            worker: Incarnation(uuid::Uuid::nil()),
            slot: false,
            turn: Turn::Open,
        };
        match self.engine.inner.limiter.admit(&ask).await {
            Ok(Admission::At { wait, .. }) => {
                let bucket = profile.bucket.clone();
                let verdict = Verdict::Throttled { bucket, after: wait };
                Err(StepError::new(Effect::None, verdict, call.operation))
            }
            Ok(Admission::Now { .. }) | Err(_) => Ok(()),
        }
    }

    fn limited<'c>(&self, call: &'c Call) -> Cow<'c, Call> {
        self.engine.inner.limits.limited(call)
    }

    async fn observe(&self, bucket: &str, seen: Observed) {
        let worker = Incarnation(uuid::Uuid::nil());
        if let Err(error) = self.engine.inner.limiter.observe(bucket, worker, &seen).await {
            tracing::debug!(%error, bucket, "the limiter could not be told");
        }
    }

    fn deadline(&self, call: &Call) -> Result<Duration, StepError> {
        Ok(call.timeout)
    }

    async fn pass(&self, _: &Call, _: Seam) {}

    fn now(&self) -> Timestamp {
        self.now
    }

    async fn adopter_of(
        &self,
        _: &str,
        _: &str,
        _: &ExternalId,
    ) -> Result<Option<RunId>, StepError> {
        Ok(None)
    }
}
