//! Runs that are driven now, each under its lease, and how to tell one that its lease is lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::{id::RunId, store::LeaseGrant};

/// A lease of a run: its epoch tells it from earlier and later ones.
pub(super) type Lease = (RunId, u64);

/// A lease that is being driven, until this is dropped: also a drive that is cut or panics keeps no
/// lease alive.
#[derive(Debug)]
pub(super) struct Driving {
    held: Held,
    lease: Lease,
    lost: Arc<Notify>,
}

impl Driving {
    /// Woken when the lease is lost.
    pub(super) fn lost(&self) -> Arc<Notify> {
        Arc::clone(&self.lost)
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        self.held.forget(self.lease);
    }
}

/// Shared by claiming and by the heartbeat. Ordered, so that a simulation tells runs in the same
/// order every time.
#[derive(Debug, Clone, Default)]
pub(super) struct Held(Arc<Mutex<BTreeMap<RunId, Driven>>>);

#[derive(Debug)]
struct Driven {
    epoch: u64,
    lost: Arc<Notify>,
}

impl Held {
    fn runs(&self) -> MutexGuard<'_, BTreeMap<RunId, Driven>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a lease in; `None` when a newer one of the same run is driven already, because the
    /// answer with this one was late.
    pub(super) fn add(&self, (run, epoch): Lease) -> Option<Driving> {
        let mut runs = self.runs();
        if runs.get(&run).is_some_and(|driven| driven.epoch >= epoch) {
            return None;
        }
        let lost = Arc::new(Notify::new());
        runs.insert(run, Driven { epoch, lost: Arc::clone(&lost) });
        Some(Driving { held: self.clone(), lease: (run, epoch), lost })
    }

    fn forget(&self, (run, epoch): Lease) {
        let mut runs = self.runs();
        if runs.get(&run).is_some_and(|driven| driven.epoch == epoch) {
            runs.remove(&run);
        }
    }

    /// What is driven now. Taken before the store is asked: an answer says nothing about leases
    /// that were granted after it was given.
    pub(super) fn leases(&self) -> BTreeSet<Lease> {
        self.runs().iter().map(|(run, driven)| (*run, driven.epoch)).collect()
    }

    /// Tells those drives whose lease was held before the store was asked and is not any more.
    pub(super) fn tell_lost(&self, before: &BTreeSet<Lease>, grant: &LeaseGrant) {
        for (run, driven) in self.runs().iter() {
            let lease = (*run, driven.epoch);
            let kept = !before.contains(&lease) || grant.held.contains(&lease);
            if !grant.alive || !kept {
                // A permit is stored, so a drive that is not waiting right now still hears of it.
                driven.lost.notify_one();
            }
        }
    }

    /// What the store holds for this worker and nobody drives.
    pub(super) fn strangers(&self, grant: &LeaseGrant) -> BTreeSet<Lease> {
        let runs = self.runs();
        let driven = |(run, epoch): &Lease| runs.get(run).is_some_and(|d| d.epoch == *epoch);
        grant.held.iter().copied().filter(|lease| !driven(lease)).collect()
    }
}
