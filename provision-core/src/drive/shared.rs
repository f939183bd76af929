//! What all runs of one worker incarnation share.

use std::{
    collections::HashMap,
    fmt, slice,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

use super::{lease::LeaseView, patience::patiently, slots::Slots};
use crate::{
    changes::Changes,
    clock,
    draw::Entropy,
    error::{Effect, StepError, StoreError, Verdict},
    ledger::{LedgerOp, Sighting},
    limit::{Limiter, LiveLimits},
    metric,
    offers::{Offers, Told},
    probe::Probe,
    resolver::SecretResolver,
    run::decide::Moment,
    saga::Plan,
    secret::SecretStore,
    silence::Silence,
    store::{Append, Appended, Incarnation, RunHead, SagaRef, StateStore},
    vault::Vault,
    worker::Control,
};

/// Sagas by name, version and fingerprint.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plans {
    plans: HashMap<SagaRef, Arc<Plan>>,
}

impl Plans {
    pub(crate) fn insert(&mut self, plan: Arc<Plan>) -> Option<Arc<Plan>> {
        self.plans.insert(plan.saga.clone(), plan)
    }

    pub(crate) fn get(&self, saga: &SagaRef) -> Option<&Arc<Plan>> {
        self.plans.get(saga)
    }

    pub(crate) fn named(&self, name: &str, version: u32) -> Option<&Arc<Plan>> {
        self.plans.values().find(|plan| plan.saga.name == name && plan.saga.version == version)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Plan>> {
        self.plans.values()
    }

    pub(crate) fn refs(&self) -> Vec<SagaRef> {
        let mut refs: Vec<_> = self.plans.keys().cloned().collect();
        refs.sort();
        refs
    }
}

pub(crate) struct Shared {
    pub(crate) worker: Incarnation,
    pub(crate) namespace: Arc<str>,
    pub(crate) store: Arc<dyn StateStore>,
    pub(crate) limiter: Arc<dyn Limiter>,
    /// Limits that replace those of adapters and steps.
    pub(crate) limits: Arc<LiveLimits>,
    pub(crate) secrets: Arc<dyn SecretStore>,
    pub(crate) resolver: Arc<dyn SecretResolver>,
    pub(crate) vault: Option<Vault>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) probe: Arc<dyn Probe>,
    pub(crate) plans: Arc<Plans>,
    pub(crate) lease: LeaseView,
    pub(crate) slots: Slots,
    /// What the worker is told from outside.
    pub(crate) control: Arc<Control>,
    /// Set when this incarnation ends although its worker goes on.
    pub(crate) leaving: AtomicBool,
    /// Woken when `leaving` is set.
    pub(crate) left: Notify,
    /// Wakes whoever waits for a change of a run, in this process.
    pub(crate) changes: Arc<Changes>,
    /// The queue beside the store, where there is one.
    pub(crate) offers: Option<Arc<Offers>>,
    /// The limiter is not the store: it is told at each heartbeat that this worker lives.
    pub(crate) limiter_is_beside: bool,
    /// A limiter beside the store did not answer in time: calls go on without it.
    pub(crate) limiter_silence: Silence,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("worker", &self.worker).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn vault(&self) -> Result<&Vault, StepError> {
        self.vault.as_ref().ok_or_else(|| {
            StepError::new(Effect::None, Verdict::Operator, "seal a value")
                .with_code("no_vault")
                .with_hint("give the engine keys: `Engine::builder(..).keys(..)`")
        })
    }

    /// Writes one append. Those of other runs that wait at the same time go out beside it: the store
    /// makes one commit of them.
    ///
    /// S18: trouble of the store is waited out here; an error means that this very append can
    /// never be written.
    pub(crate) async fn append(&self, append: Append) -> Result<Appended, StoreError> {
        let began = clock::moment();
        let written = patiently(|| self.store.append(slice::from_ref(&append))).await;
        metric::took(metric::STORE_LATENCY, began.elapsed(), &[]);
        written.map(|mut answers| answers.pop().unwrap_or(Appended::Stale))
    }

    /// What the queue beside the store is to hear once this append is applied.
    pub(crate) fn told(&self, head: &RunHead, append: &Append) -> Option<Box<Told>> {
        self.offers.as_ref().and_then(|_| Told::of(head, append))
    }

    /// Tells the queue beside the store.
    pub(crate) async fn tell_queue(&self, told: Option<Box<Told>>, requests: u64) {
        if let (Some(offers), Some(told)) = (&self.offers, told) {
            // Boxed: most drives have no such queue, and all of them would carry its size.
            Box::pin(offers.tell(told, requests)).await;
        }
    }

    /// Waits for an answer of the limiter. One beside the store may be frozen while the store is
    /// well: then `None` comes, and it is left alone for a while.
    pub(crate) async fn heard_of_limiter<T>(
        &self,
        call: impl Future<Output = T> + Send,
    ) -> Option<T> {
        match self.limiter_is_beside {
            true => self.limiter_silence.broken_by(call).await,
            false => Some(call.await),
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.control.stopping.load(Ordering::Acquire) || self.is_leaving()
    }

    /// Whether this incarnation was declared dead: its leases are gone.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    pub(crate) fn is_cutting(&self) -> bool {
        self.control.cutting.load(Ordering::Acquire)
    }

    /// Ends this incarnation: it claims nothing more and lets go of what it holds.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
        self.left.notify_waiters();
    }

    /// What a decision is made with.
    pub(crate) fn moment(&self) -> Moment {
        Moment {
            now: self.lease.now(),
            latest: self.lease.latest(),
            draw: self.draw(),
            hold: self.is_stopping(),
        }
    }

    pub(crate) fn draw(&self) -> u64 {
        crate::draw::number(&*self.entropy).unwrap_or_default()
    }

    /// S5: a stale owner may still say what it has created; the next look-up and the sweep read it.
    pub(crate) async fn sight(&self, sighting: Sighting) {
        let (run, path) = (sighting.run, sighting.path.clone());
        if let Err(error) = self.store.ledger(&[LedgerOp::Sight(sighting)]).await {
            tracing::warn!(%error, %run, path, "a sighting could not be recorded");
        }
    }
}
