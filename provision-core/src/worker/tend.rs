//! What goes on beside claiming: the heartbeat, schedules, the ledger's watch.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    held::Held,
    incarnation::{asking, lease},
};
use crate::{
    clock,
    drive::Shared,
    engine::{Engine, Fired},
    metric, panics,
    retention::Retention,
    store::LeaseRequest,
};

/// Renews the lease every third of its length, and tells drives whose run is no longer ours.
///
/// A run that the store holds for us and that nobody drives was leased by an answer that was lost,
/// or its drive came to no good end. Seen twice in a row, its lease is given back, so that anybody
/// can claim it; an answer that is merely late finds another epoch.
pub(super) async fn heartbeat(shared: Arc<Shared>, ttl: Duration, held: Held) {
    let mut seen = BTreeSet::new();
    let mut strangers = Vec::new();
    loop {
        clock::sleep(ttl / 3).await;
        let before = held.leases();
        let request = LeaseRequest { strangers: strangers.clone(), ..asking(&shared, ttl) };
        match lease(&shared, &request).await {
            Ok(grant) => {
                held.tell_lost(&before, &grant);
                if !grant.alive {
                    shared.leave();
                }
                let now = held.strangers(&grant);
                strangers = now.intersection(&seen).copied().collect();
                seen = now;
            }
            // S6: calls are cut by their own deadline, which was not moved.
            Err(error) => tracing::warn!(%error, "the lease could not be renewed"),
        }
    }
}

/// Carries freed slots to the limiter, and tells one beside the store which are held. Apart from the
/// heartbeat: no renewal waits for a limiter.
pub(super) async fn keep_slots(shared: Arc<Shared>, ttl: Duration) {
    loop {
        clock::sleep(ttl / 3).await;
        clock::within(ttl / 3, shared.give_back_slots()).await;
        if shared.limiter_is_beside {
            clock::within(ttl / 3, shared.tell_of_slots()).await;
        }
    }
}

/// Starts scheduled runs as their time comes. A worker that begins looks back as far as each
/// schedule's misfire rule says; the start key keeps a firing from starting twice.
pub(super) async fn fire(engine: Engine) {
    let mut fired = None;
    loop {
        // S21: the schedules are looked at again, whatever a store or a clock panics about.
        let turn = panics::caught("look at schedules", "", fire_due(&engine, &mut fired)).await;
        let wait = turn.unwrap_or(FIRE_EVERY);
        clock::sleep(wait.clamp(Duration::from_millis(10), FIRE_EVERY)).await;
    }
}

/// Starts what is due; answers how long nothing will be.
async fn fire_due(engine: &Engine, fired: &mut Option<Fired>) -> Duration {
    if fired.is_none() {
        match engine.fired_before().await {
            Ok(before) => *fired = Some(before),
            Err(error) => tracing::warn!(%error, "schedules could not be looked at"),
        }
    }
    let Some(fired) = fired else { return FIRE_EVERY };
    let next = |now| engine.next_firing(now).map_or(FIRE_EVERY, |next| next.since(now));
    if let Ok(now) = engine.fire_since(fired, &mut Vec::new()).await {
        return if engine.is_behind(fired, now) { Duration::ZERO } else { next(now) };
    }
    match engine.inner.store.now().await {
        // The others go on in time, whatever one of them is waiting for.
        Ok(now) => next(now).max(Duration::from_secs(1)),
        Err(_) => FIRE_EVERY,
    }
}

/// How often schedules are looked at, at the latest.
const FIRE_EVERY: Duration = Duration::from_secs(30);

/// Removes runs that are over and were kept for long enough. A worker that lives for less than one
/// round of maintenance removes nothing.
pub(super) async fn retire(engine: Engine, retention: Retention, first: Duration) {
    clock::sleep(first).await;
    loop {
        let pruning = panics::caught("remove runs", "", engine.prune(&retention));
        if let Some(Err(error)) = pruning.await {
            tracing::warn!(%error, "runs that are over could not be removed");
        }
        clock::sleep(retention.every()).await;
    }
}

/// S15: any worker's maintenance looks after the watch.
pub(super) async fn maintain(engine: Engine, every: Duration) {
    loop {
        clock::sleep(every).await;
        panics::caught("look after the ledger", "", tidy(&engine)).await;
    }
}

async fn tidy(engine: &Engine) {
    if let Err(error) = engine.watch_ledger(20).await {
        tracing::debug!(%error, "the watch could not look");
    }
    if metric::ENABLED {
        measure_queue(engine).await;
    }
}

async fn measure_queue(engine: &Engine) {
    match engine.inner.queue.stats().await {
        Ok(stats) => {
            let waiting = u32::try_from(stats.ready).unwrap_or(u32::MAX);
            metric::gauge(metric::QUEUE_JOBS_WAITING, waiting, &[]);
        }
        Err(error) => tracing::debug!(%error, "the queue could not be measured"),
    }
}
