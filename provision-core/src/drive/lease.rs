//! What a worker knows of its lease and of the store's clock.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::{
    clock::{self, Moment},
    id::Timestamp,
};

/// The worker's view; one per incarnation, shared by all its runs.
#[derive(Debug)]
pub(crate) struct LeaseView {
    inner: Mutex<View>,
    ttl: Duration,
}

#[derive(Debug, Clone, Copy)]
struct View {
    /// Counted from before the claim or renewal was sent.
    until: Option<Moment>,
    store_now: Timestamp,
    /// Before the store's clock was asked, and after it had answered.
    asked_at: Moment,
    read_at: Moment,
}

impl LeaseView {
    pub(crate) fn new(ttl: Duration) -> Self {
        let now = clock::moment();
        let view = View { until: None, store_now: Timestamp::ZERO, asked_at: now, read_at: now };
        Self { inner: Mutex::new(view), ttl }
    }

    /// A claim or renewal that was sent at `sent` was granted.
    pub(crate) fn renewed(&self, sent: Moment, ttl: Duration, store_now: Timestamp) {
        let mut view = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let until = sent + ttl;
        view.until = Some(view.until.map_or(until, |old| old.max(until)));
        view.store_now = store_now;
        view.asked_at = sent;
        view.read_at = clock::moment();
    }

    /// The incarnation is dead: nothing may be sent any more.
    pub(crate) fn lost(&self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).until = None;
    }

    /// How long a lease lasts that is not renewed.
    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// How long calls may still last (S6).
    pub(crate) fn left(&self) -> Duration {
        let view = *self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let left = view
            .until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(clock::moment()));
        left.saturating_sub(self.ttl / 10)
    }

    /// The store's clock, carried on by the local monotonic one; behind it by at most the time its
    /// last answer needed, never ahead.
    pub(crate) fn now(&self) -> Timestamp {
        let view = *self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        view.store_now.plus(view.read_at.elapsed())
    }

    /// The store's clock as [`Self::now`], but never behind it.
    ///
    /// S7: a quiet time that began at a reading behind the clock would end before a call that was
    /// sent since can have landed.
    pub(crate) fn latest(&self) -> Timestamp {
        let view = *self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        view.store_now.plus(view.asked_at.elapsed())
    }
}
