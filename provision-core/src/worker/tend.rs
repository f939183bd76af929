//! What goes on beside claiming: the heartbeat, schedules, the ledger's watch.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError},
    time::Duration,
};

use super::incarnation::{Held, lease};
use crate::{clock, drive::Shared, engine::Engine, id::RunId, store::LeaseGrant};

/// Renews the lease every third of its length, and tells drives whose run is no longer ours.
///
/// A run that the store holds for us and that we do not know was leased by an answer that was
/// lost. Nobody has its nonce, so it can only be freed with the whole incarnation: seen twice in a
/// row, the incarnation lets go of everything and retires.
pub(super) async fn heartbeat(shared: Arc<Shared>, ttl: Duration, held: Held) {
    let mut strangers = HashSet::new();
    loop {
        clock::sleep(ttl / 3).await;
        match lease(&shared, ttl, None, Vec::new(), false).await {
            Ok(grant) => {
                tell_lost(&grant, &held);
                let now = unknown(&grant, &held);
                if !grant.alive || now.iter().any(|run| strangers.contains(run)) {
                    shared.leave();
                }
                strangers = now;
            }
            // S6: calls are cut by their own deadline, which was not moved.
            Err(error) => tracing::warn!(%error, "the lease could not be renewed"),
        }
    }
}

fn unknown(grant: &LeaseGrant, held: &Held) -> HashSet<RunId> {
    let held = held.lock().unwrap_or_else(PoisonError::into_inner);
    grant.held.iter().map(|(run, _)| *run).filter(|run| !held.contains_key(run)).collect()
}

pub(super) fn tell_lost(grant: &LeaseGrant, held: &Held) {
    let held = held.lock().unwrap_or_else(PoisonError::into_inner);
    for (run, lost) in held.iter() {
        if !grant.alive || !grant.held.iter().any(|(kept, _)| kept == run) {
            // A permit is stored, so a drive that is not waiting right now still hears of it.
            lost.notify_one();
        }
    }
}

/// Starts scheduled runs as their time comes. A worker that begins looks back as far as each
/// schedule's misfire rule says; the start key keeps a firing from starting twice.
pub(super) async fn fire(engine: Engine) {
    let mut since = None;
    loop {
        let now = engine.inner.store.now().await;
        match (engine.fire_schedules(since).await, &now) {
            (Ok(_), Ok(now)) => since = Some(*now),
            (Err(error), _) => tracing::warn!(%error, "scheduled runs could not be started"),
            (Ok(_), Err(error)) => tracing::warn!(%error, "the store's clock could not be read"),
        }
        let now = since.unwrap_or_default();
        let wait = engine.next_firing(now).map_or(FIRE_EVERY, |next| next.since(now));
        clock::sleep(wait.clamp(Duration::from_millis(10), FIRE_EVERY)).await;
    }
}

/// How often schedules are looked at, at the latest.
const FIRE_EVERY: Duration = Duration::from_secs(30);

/// S15: any worker's maintenance looks after the watch.
pub(super) async fn maintain(engine: Engine, every: Duration) {
    loop {
        clock::sleep(every).await;
        if let Err(error) = engine.watch_ledger(20).await {
            tracing::debug!(%error, "the watch could not look");
        }
    }
}
