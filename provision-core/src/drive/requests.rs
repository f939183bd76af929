//! Requests from outside, and their place among the other events of a run.

use std::{slice, sync::Arc, time::Duration};

use super::{Committed, Drive, Driven, Stop, park, patience::patiently, seal};
use crate::{
    id::Timestamp,
    run::{
        decide::{Decision, Event, Halt, Moment, Refusal, decide, owned_elsewhere},
        journal::RequestBody,
    },
    store::Request,
};

/// How long before its end a wait for a signal is looked at with the requests that are stored:
/// longer than a decision takes.
const SIGNAL_MARGIN: Duration = Duration::from_secs(1);

impl Drive {
    /// Requests that came in while the run was leased.
    pub(super) async fn requests(&mut self) -> Driven<bool> {
        if self.requests <= self.consumed {
            return Ok(false);
        }
        let (shared, asked) = (Arc::clone(&self.shared), [self.state.run]);
        let load = patiently(|| shared.store.load(&asked));
        let loaded = self.alongside(load).await;
        let Ok(Some(record)) = loaded.map(|mut records| records.pop().flatten()) else {
            // They are found again after the next append.
            self.requests = self.consumed;
            return Ok(false);
        };
        if record.requests.is_empty() {
            self.requests = self.consumed;
            return Ok(false);
        }
        self.event(Event::Due, &record.requests).await
    }

    /// Time has passed. S20: before the wait for a signal is over, what is stored is looked at.
    pub(super) async fn due(&mut self) -> Driven<bool> {
        let soon = self.shared.lease.latest().plus(SIGNAL_MARGIN);
        if !self.state.signal_is_late(soon) {
            return self.event(Event::Due, &[]).await;
        }
        let (shared, run) = (Arc::clone(&self.shared), [self.state.run]);
        let load = patiently(|| shared.store.load(&run));
        let loaded = self.alongside(load).await.map_err(|_| Stop::Lost)?;
        let record = loaded.into_iter().next().flatten().ok_or(Stop::Lost)?;
        self.event(Event::Due, &record.requests).await
    }

    /// Decides about an event and pending requests, writes that, and performs it. True when the
    /// lease was given back with the write.
    pub(super) async fn event(&mut self, event: Event, requests: &[Request]) -> Driven<bool> {
        let moment = self.shared.moment();
        let (consumed, died_at) = (self.consumed, event.died_at());
        match self.decided(event, requests, moment) {
            Ok(decision) => self.taken(decision, (consumed, died_at), requests).await,
            Err(halt) => park::halted(&halt),
        }
    }

    /// Writes and performs a decision; `before` is what had been consumed, and whose death the event
    /// told of.
    async fn taken(
        &mut self,
        decision: Decision,
        before: (u64, Option<Option<Timestamp>>),
        requests: &[Request],
    ) -> Driven<bool> {
        let sealed = std::mem::take(&mut self.outcome_seals);
        let row = match self.commit(decision, sealed).await? {
            Committed::Released => return Ok(true),
            Committed::Goes => return Ok(false),
            Committed::Conflict(row) => row,
        };
        self.refold().await?;
        let (consumed, died_at) = before;
        let again = died_at.map_or(Event::Due, |died_at| Event::Claimed { died_at });
        match requests {
            [] => Err(Stop::Park(Box::new(seal::conflict(&row)))),
            // What it asks for names a resource of another run: an order like any refused one.
            [request] => match self.refused(request, owned_elsewhere(&row), again) {
                Ok(decision) => Box::pin(self.taken(decision, (consumed, died_at), &[])).await,
                Err(halt) => park::halted(&halt),
            },
            // One of them, nobody knows which.
            all => {
                self.consumed = consumed;
                self.one_by_one(again, all).await
            }
        }
    }

    /// Takes requests one by one, each in a write of its own.
    ///
    /// S16: until the last of them is taken nothing begins, and the lease stays: it may be a cancel.
    async fn one_by_one(&mut self, event: Event, requests: &[Request]) -> Driven<bool> {
        let (mut event, mut released) = (Some(event), false);
        for (request, taken) in requests.iter().zip(1..) {
            self.more_is_asked = taken < requests.len();
            let event = event.take().unwrap_or(Event::Due);
            released = Box::pin(self.event(event, slice::from_ref(request))).await?;
        }
        Ok(released)
    }

    /// Decides about an event and the requests that are stored. S20: a signal that is stored
    /// comes before the end of the wait for it, so what is due comes last.
    pub(super) fn decided(
        &mut self,
        event: Event,
        requests: &[Request],
        moment: Moment,
    ) -> Result<Decision, Halt> {
        let mut decision = Decision::default();
        let (first, due) = match event {
            Event::Due => (None, true),
            event => {
                let claimed = matches!(event, Event::Claimed { .. });
                (Some(event), claimed)
            }
        };
        let asked = requests.iter().any(|request| request.number > self.consumed);
        // S16: nothing begins before all that was asked for is known: the last of it may be a
        // cancel. What is due comes after it, and begins what may.
        let hold = moment.hold || self.more_is_asked || (asked && due);
        let held = Moment { hold, ..moment };
        if let Some(event) = first {
            decision.merge(decide(&mut self.state, event, held)?);
        }
        let consumed = self.consumed;
        for request in requests.iter().filter(|request| request.number > consumed) {
            decision.merge(self.asked(request, held)?);
        }
        let newest = requests.iter().map(|request| request.number).max();
        self.consumed = self.consumed.max(newest.unwrap_or_default());
        if due && !self.more_is_asked {
            decision.merge(decide(&mut self.state, Event::Due, moment)?);
        }
        Ok(decision)
    }

    /// Decides about one request; what is refused is told, but for a repetition.
    fn asked(&mut self, request: &Request, held: Moment) -> Result<Decision, Halt> {
        let body = body_of(request);
        match decide(&mut self.state, Event::Request(body.clone()), held) {
            // Sent twice at once: both were stored, the first was taken, and nobody is to be told
            // of a refusal.
            Err(Halt::Refused(refusal)) if refusal.is_repetition() => Ok(Decision::default()),
            Err(Halt::Refused(refusal)) => {
                tracing::warn!(run = %self.state.run, %refusal, "a request was not taken");
                decide(&mut self.state, Event::Refused(body, refusal), held)
            }
            told => told,
        }
    }

    /// Decides anew about an event whose write failed for what a request asks: the request is refused.
    pub(super) fn refused(
        &mut self,
        request: &Request,
        refusal: Refusal,
        event: Event,
    ) -> Result<Decision, Halt> {
        let moment = self.shared.moment();
        tracing::warn!(run = %self.state.run, %refusal, "a request was not taken");
        let refused = Event::Refused(body_of(request), refusal);
        // Nothing begins before the event is taken: it may say that what is open was cut.
        let mut decision = decide(&mut self.state, refused, Moment { hold: true, ..moment })?;
        decision.merge(self.decided(event, &[], moment)?);
        Ok(decision)
    }
}

/// What is asked. What cannot be read is refused with a record, not passed over in silence.
fn body_of(request: &Request) -> RequestBody {
    let body = request.body.decode();
    body.unwrap_or(RequestBody::Unreadable { number: request.number })
}
