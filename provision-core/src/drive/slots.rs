//! Concurrency slots of one worker incarnation, on their way back to the limiter.
//!
//! A call can be dropped at any moment: by its author, by its time-out, with its run. What gives
//! its slot back is therefore a drop, which cannot wait for a store: it leaves a note here, and
//! whoever asks the limiter next, or the heartbeat, carries it there.

use std::{
    collections::BTreeMap,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::Shared;
use crate::{
    error::StoreError,
    limit::{Admission, Observed},
};

type Answer = Pin<Box<dyn Future<Output = Result<Admission, StoreError>> + Send>>;

/// Slots to be given back.
#[derive(Default)]
pub(crate) struct Slots {
    /// A std mutex: held for a look only.
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Calls that hold a slot, by bucket.
    held: BTreeMap<String, u32>,
    /// Buckets of calls that are over.
    freed: Vec<String>,
    /// Asks whose caller was dropped before the answer: it may grant a slot.
    unheard: Vec<(String, Answer)>,
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots").field("freed", &self.inner().freed).finish_non_exhaustive()
    }
}

impl Slots {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call on this bucket has a slot.
    pub(crate) fn taken(&self, bucket: &str) {
        let mut inner = self.inner();
        let held = inner.held.entry(bucket.to_owned()).or_default();
        *held = held.saturating_add(1);
    }

    /// A call on this bucket is over.
    pub(crate) fn freed(&self, bucket: &str) {
        let mut inner = self.inner();
        if let Some(held) = inner.held.get_mut(bucket) {
            *held = held.saturating_sub(1);
        }
        inner.held.retain(|_, held| *held > 0);
        inner.freed.push(bucket.to_owned());
    }

    /// Puts back what could not be carried.
    fn keep(&self, bucket: String) {
        self.inner().freed.push(bucket);
    }
}

/// An ask for a slot that is heard out even when its caller is dropped.
pub(super) struct Asking<'a> {
    slots: &'a Slots,
    bucket: &'a str,
    answer: Option<Answer>,
}

impl<'a> Asking<'a> {
    pub(super) fn new(slots: &'a Slots, bucket: &'a str, answer: Answer) -> Self {
        Self { slots, bucket, answer: Some(answer) }
    }

    pub(super) async fn answer(mut self) -> Result<Admission, StoreError> {
        let answer = poll_fn(|cx| match &mut self.answer {
            Some(answer) => answer.as_mut().poll(cx),
            None => std::task::Poll::Pending,
        })
        .await;
        self.answer = None;
        answer
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            self.slots.inner().unheard.push((self.bucket.to_owned(), answer));
        }
    }
}

impl Shared {
    /// Tells a limiter that does not know who lives of the slots that are held here.
    pub(crate) async fn tell_of_slots(&self) {
        let held: Vec<String> = self.slots.inner().held.keys().cloned().collect();
        for bucket in &held {
            let seen = Observed::default();
            let told = self.heard_of_limiter(self.limiter.observe(bucket, self.worker, &seen));
            if !matches!(told.await, Some(Ok(()))) {
                tracing::debug!(bucket, "the limiter was not told of a slot");
            }
        }
    }

    /// Carries freed slots to the limiter; what it does not take now is kept for the next time.
    pub(crate) async fn give_back_slots(&self) {
        loop {
            let Some((bucket, answer)) = self.slots.inner().unheard.pop() else { break };
            let asking = Asking::new(&self.slots, &bucket, answer);
            match self.heard_of_limiter(asking.answer()).await {
                Some(Ok(Admission::Now { .. })) => self.slots.keep(bucket),
                Some(_) => {}
                // It is heard out another time.
                None => return,
            }
        }
        loop {
            let Some(bucket) = self.slots.inner().freed.pop() else { break };
            let carried = Carried { slots: &self.slots, bucket: Some(bucket) };
            if !carried.to(self).await {
                break;
            }
        }
    }
}

/// One freed slot under way; dropped before the limiter has it, it goes back.
struct Carried<'a> {
    slots: &'a Slots,
    bucket: Option<String>,
}

impl Carried<'_> {
    async fn to(mut self, shared: &Shared) -> bool {
        let Some(bucket) = &self.bucket else { return true };
        let seen = Observed { slot_freed: true, ..Observed::default() };
        let told = shared.heard_of_limiter(shared.limiter.observe(bucket, shared.worker, &seen));
        match told.await {
            Some(Ok(())) => {
                self.bucket = None;
                true
            }
            missed => {
                tracing::debug!(?missed, bucket, "a slot is given back later");
                false
            }
        }
    }
}

impl Drop for Carried<'_> {
    fn drop(&mut self) {
        if let Some(bucket) = self.bucket.take() {
            self.slots.keep(bucket);
        }
    }
}
