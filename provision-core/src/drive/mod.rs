//! The only loop with I/O: it owns the state of one leased run, feeds events to the pure machine,
//! writes what it decides, and only then performs it.
//!
//! One append of a run is under way at a time. Steps never touch the state; they return values, or
//! send messages that become events.

pub(crate) mod attempt;
mod begun;
pub(crate) mod child;
mod fold;
mod host;
pub(crate) mod lease;
mod park;
pub(crate) mod patience;
mod report;
mod requests;
mod seal;
mod shared;
mod slots;
mod stop;

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::sync::{Notify, mpsc};
use tracing::Instrument;

use attempt::Back;
pub(crate) use attempt::{Attempt, Finished};
pub(crate) use begun::Begun;
pub(crate) use fold::{Unusable, fold, records};
pub(crate) use host::{AttemptHost, Kept, Message};
use patience::patiently;
pub(crate) use seal::key_trouble;
pub(crate) use shared::{Plans, Shared};
pub(crate) use slots::Slots;
use stop::{Driven, Stop};

use crate::{
    changes::Still,
    clock,
    error::{Effect, StepError, Verdict, is_held},
    id::{ExternalId, Timestamp},
    ledger::{LedgerRow, Origin, Sighting, halves},
    panics,
    run::{
        RunStatus,
        decide::{AttemptEnd, Decision, Event, State, decide},
        journal::{Direction, Record},
    },
    secret::{Sealed, SecretKey},
    store::{Append, Appended, GuardUntil, Leased, Release, RunHead},
};

/// Why a drive is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// The lease was given back with the last append.
    Released,
    /// The lease is somebody else's: nothing more was sent.
    Lost,
}

/// One leased run under way.
pub(crate) struct Drive {
    shared: Arc<Shared>,
    state: State,
    leased: Leased,
    seq: u64,
    consumed: u64,
    requests: u64,
    /// Requests are taken one by one, and this is not the last of them.
    more_is_asked: bool,
    attempts: FuturesUnordered<Attempt>,
    /// Attempts that ended while an append was under way.
    backlog: Vec<Finished>,
    sender: mpsc::UnboundedSender<Message>,
    inbox: mpsc::UnboundedReceiver<Message>,
    kept: BTreeMap<usize, Kept>,
    /// Values that the append of the next outcome seals.
    outcome_seals: Vec<(SecretKey, Sealed)>,
    lost: Arc<Notify>,
}

/// What one turn of the loop waits for.
enum Turn {
    Lost,
    Message(Message),
    Finished(Finished),
    Due,
    Stop,
}

impl Drive {
    /// Drives a run until its lease is given back or lost.
    ///
    /// S21: a panic outside of any attempt, in an author's declarations say, parks its run and
    /// hurts nothing else.
    pub(crate) async fn run(
        shared: Arc<Shared>,
        leased: Leased,
        begun: Option<Box<Begun>>,
        lost: Arc<Notify>,
    ) -> Left {
        report::claimed(&leased, shared.lease.now());
        let (run, fence) = (leased.record.head.id, leased.fence);
        let drive = AssertUnwindSafe(Self::to_the_end(Arc::clone(&shared), leased, begun, lost));
        let stop = match drive.catch_unwind().await {
            Ok(Ok(())) => return Left::Released,
            Ok(Err(stop)) => stop,
            Err(_) => {
                panics::count("drive a run");
                Stop::Park(Box::new(park::panicked()))
            }
        };
        match stop {
            Stop::Lost => Left::Lost,
            Stop::Park(error) => park::park(&shared, run, fence, &error).await,
            Stop::Leave(unusable) => park::leave(&shared, run, fence, &unusable).await,
        }
    }

    async fn to_the_end(
        shared: Arc<Shared>,
        leased: Leased,
        begun: Option<Box<Begun>>,
        lost: Arc<Notify>,
    ) -> Driven<()> {
        let head = &leased.record.head;
        let (seq, consumed, requests) = (head.seq, head.consumed, head.requests);
        let (state, decision) = match begun.and_then(|begun| begun.in_time(&shared)) {
            Some((state, decision)) => (state, Some(decision)),
            None => (fold(head, &leased.record.frames, &shared.plans)?, None),
        };
        let (sender, inbox) = mpsc::unbounded_channel();
        let mut drive = Self {
            shared,
            state,
            leased,
            seq,
            consumed,
            requests,
            more_is_asked: false,
            attempts: FuturesUnordered::new(),
            backlog: Vec::new(),
            sender,
            inbox,
            kept: BTreeMap::new(),
            outcome_seals: Vec::new(),
            lost,
        };
        let end = drive.go(decision).await;
        while let Ok(message) = drive.inbox.try_recv() {
            if let Message::Note { node, id, origin, .. } = message {
                drive.sight(node, id, origin).await;
            }
        }
        end
    }

    /// What this worker has created and cannot note any more.
    async fn sight(&mut self, node: usize, external_id: ExternalId, origin: Origin) {
        let node = self.state.node(node);
        if origin == Origin::Adopted {
            return;
        }
        let (provider, kind) = halves(node.def().kind_name());
        let sighting = Sighting {
            run: self.state.run,
            path: node.path.to_string(),
            generation: node.generation,
            provider: provider.to_owned(),
            kind: kind.to_owned(),
            external_id,
            epoch: self.leased.fence.epoch,
            at: self.shared.lease.now(),
        };
        self.shared.sight(sighting).await;
    }

    async fn go(&mut self, begun: Option<Decision>) -> Driven<()> {
        let mut released = match begun {
            Some(decision) => {
                self.begun(&decision).await;
                false
            }
            None => self.claimed().await?,
        };
        while !released {
            released = self.requests().await?;
            if released {
                break;
            }
            released = match self.turn().await {
                Turn::Lost => return Err(Stop::Lost),
                Turn::Message(message) => self.message(message).await?,
                Turn::Finished(finished) => self.finished(finished).await?,
                Turn::Due => self.due().await?,
                Turn::Stop => self.stop().await?,
            };
        }
        Ok(())
    }

    async fn claimed(&mut self) -> Driven<bool> {
        let died_at = self.leased.died_at;
        let poisoned = self.leased.record.head.deaths >= park::DEATHS_MAX;
        if poisoned && self.state.parked.is_none() && self.state.ended.is_none() {
            return Err(Stop::Park(Box::new(park::crash_loop())));
        }
        let waiting = std::mem::take(&mut self.leased.record.requests);
        self.event(Event::Claimed { died_at }, &waiting).await
    }

    async fn turn(&mut self) -> Turn {
        // S18: an id that was handed over is taken before the end of its attempt.
        if let Ok(message) = self.inbox.try_recv() {
            return Turn::Message(message);
        }
        if let Some(finished) = self.backlog.pop() {
            return Turn::Finished(finished);
        }
        // A worker that stops begins nothing that is due: only what is open is waited for.
        let due = self.state.next_due().filter(|_| !self.shared.is_stopping());
        let wait = due.map(|due| due.since(self.shared.lease.now()));
        let shared = Arc::clone(&self.shared);
        let stop = shared.control.stop.notified();
        let left = shared.left.notified();
        let must_stop =
            self.shared.is_cutting() || (self.shared.is_stopping() && self.attempts.is_empty());
        tokio::select! {
            biased;
            () = self.lost.notified() => Turn::Lost,
            () = std::future::ready(()), if must_stop => Turn::Stop,
            Some(message) = self.inbox.recv() => Turn::Message(message),
            Some(finished) = self.attempts.next(), if !self.attempts.is_empty() => {
                Turn::Finished(finished)
            }
            () = clock::sleep(wait.unwrap_or_default()), if wait.is_some() => Turn::Due,
            () = stop => Turn::Stop,
            () = left => Turn::Stop,
        }
    }

    async fn finished(&mut self, finished: Finished) -> Driven<bool> {
        let Finished { node, dir, end, span } = finished;
        if matches!(end, AttemptEnd::Failed(_)) && !self.is_resource(node) {
            // A plain step runs again whole: what it was shown this time is worth nothing then,
            // and sealed it would stand in the way of what the next attempt keeps. A resource is
            // made once, and what its create was shown is not shown again.
            self.kept.remove(&node);
        }
        let end = match self.seal_kept(node).await? {
            Ok(()) => end,
            // S12: what was made is there, though what was shown of it cannot be kept.
            Err(error) => AttemptEnd::Failed(error.with_effect(end.effect().max(Effect::Applied))),
        };
        self.tell_limiter(&end).await;
        self.event(Event::Ended { node, dir, end }, &[]).instrument(span).await
    }

    fn is_resource(&self, node: usize) -> bool {
        let action = self.state.node(node).def().action();
        action.is_some_and(|action| action.timing().is_some())
    }

    /// A pause that a step reports by itself is shared with all workers.
    async fn tell_limiter(&mut self, end: &AttemptEnd) {
        let AttemptEnd::Failed(error) = end else { return };
        let Verdict::Throttled { bucket, after } = error.verdict() else { return };
        if is_held(error.code()) {
            return;
        }
        let seen = crate::limit::Observed { pause: Some(*after), ..Default::default() };
        let shared = Arc::clone(&self.shared);
        let told = shared.limiter.observe(bucket, shared.worker, &seen);
        if let Err(error) = self.alongside(told).await {
            tracing::debug!(%error, bucket, "the limiter could not be told");
        }
    }

    async fn message(&mut self, message: Message) -> Driven<bool> {
        match message {
            // Its attempt is over: nothing will be called after it.
            Message::Intend { reply, .. } if reply.is_closed() => {}
            Message::Seal { reply, .. } if reply.is_closed() => {}
            Message::Remove { reply, .. } if reply.is_closed() => {}
            Message::Note { node, id, origin, reply } => {
                let event = Event::Noted { node, id: id.clone(), origin };
                let noted = self.small(event, Vec::new()).await;
                if !matches!(noted, Ok(Ok(()))) {
                    self.sight(node, id, origin).await;
                }
                let _ = reply.send(noted?);
            }
            Message::Intend { node, intent, draw, reply } => {
                let intent = self.intend(node, *intent, &draw).await?;
                let _ = reply.send(intent);
            }
            Message::Seal { node, name, value, reply } => {
                let sealed = self.seal(node, name, value).await?;
                let _ = reply.send(sealed);
            }
            Message::Remove { node, reply } => {
                let begun = self.small(Event::Removes { node }, Vec::new()).await?;
                let _ = reply.send(begun);
            }
        }
        Ok(false)
    }

    /// Writes an event of an open attempt by itself; its refusal is the attempt's to hear.
    async fn small(
        &mut self,
        event: Event,
        sealed: Vec<(SecretKey, Sealed)>,
    ) -> Driven<Result<(), StepError>> {
        let moment = self.shared.moment();
        let decision = match decide(&mut self.state, event, moment) {
            Ok(decision) => decision,
            Err(halt) => return park::halted(&halt).map(|_| Err(host::stopped())),
        };
        match self.commit(decision, sealed).await? {
            Committed::Goes | Committed::Released => Ok(Ok(())),
            Committed::Conflict(row) => {
                self.refold().await?;
                Ok(Err(seal::conflict(&row)))
            }
        }
    }

    /// After a refused write the state is rebuilt from what is stored; open attempts stay.
    async fn refold(&mut self) -> Driven<()> {
        let begun = self.attempts.iter().map(Attempt::place).map(|(node, _)| node);
        let ended = self.backlog.iter().map(|finished| finished.node);
        let open: Vec<(usize, bool)> = begun
            .chain(ended)
            .filter_map(|node| self.state.nodes.get(node).map(|known| (node, known.quiet_start)))
            .collect();
        let (shared, asked) = (Arc::clone(&self.shared), [self.state.run]);
        let loaded = self.alongside(patiently(|| shared.store.load(&asked))).await;
        let record = loaded.ok().and_then(|mut records| records.pop().flatten());
        let record = record.ok_or(Stop::Lost)?;
        self.state = fold(&record.head, &record.frames, &self.shared.plans)?;
        for (number, quiet) in open {
            if let Some(node) = self.state.nodes.get_mut(number) {
                node.quiet_start = quiet;
            }
        }
        Ok(())
    }

    /// The worker stops: lets go between calls; at the hard deadline cuts what is open.
    async fn stop(&mut self) -> Driven<bool> {
        if self.shared.is_cutting() && !self.attempts.is_empty() {
            // What is known of the open calls is noted before they are cut.
            while let Ok(message) = self.inbox.try_recv() {
                if matches!(message, Message::Note { .. }) {
                    self.message(message).await?;
                }
            }
            let open: Vec<(usize, Direction)> = self.attempts.iter().map(Attempt::place).collect();
            // S6: dropping a call cuts it; its end is unknown from here on.
            self.attempts.clear();
            let moment = self.shared.moment();
            let mut decision = Decision::default();
            for (node, dir) in open {
                let event = Event::Ended { node, dir, end: AttemptEnd::Cut };
                match decide(&mut self.state, event, moment) {
                    Ok(more) => decision.merge(more),
                    Err(halt) => return park::halted(&halt),
                }
            }
            return match self.commit(decision, Vec::new()).await? {
                Committed::Released => Ok(true),
                Committed::Goes => Ok(false),
                Committed::Conflict(_) => Err(Stop::Lost),
            };
        }
        if !self.shared.is_stopping() || !self.attempts.is_empty() {
            return Ok(false);
        }
        self.event(Event::Due, &[]).await
    }

    async fn commit(
        &mut self,
        decision: Decision,
        sealed: Vec<(SecretKey, Sealed)>,
    ) -> Driven<Committed> {
        let idle = self.attempts.is_empty()
            && self.backlog.is_empty()
            && decision.perform.is_empty()
            && !self.state.has_open()
            && !self.more_is_asked;
        let release = idle.then(|| self.release());
        if decision.append.is_empty() && release.is_none() && sealed.is_empty() {
            self.perform(&decision);
            return Ok(Committed::Goes);
        }
        let append = self.append(&decision, sealed, release.clone())?;
        self.shared.probe.appending(&self.state.run, &decision.append).await;
        let told = self.shared.told(&self.leased.record.head, &append);
        let answer = self.write(append).await?;
        let Appended::Applied { requests, lease_lost } = answer else {
            return match answer {
                Appended::Conflict(row) => Ok(Committed::Conflict(row)),
                _ => Err(Stop::Lost),
            };
        };
        self.seq += u64::from(!decision.append.is_empty());
        self.requests = requests;
        self.tell(&decision.append).await;
        if lease_lost {
            return Err(Stop::Lost);
        }
        if told.is_some() {
            let shared = Arc::clone(&self.shared);
            self.alongside(shared.tell_queue(told, requests)).await;
        }
        if release.is_some() {
            return Ok(Committed::Released);
        }
        self.perform(&decision);
        Ok(Committed::Goes)
    }

    /// What the write that created the run has committed: it is told, and performed.
    async fn begun(&mut self, decision: &Decision) {
        self.tell(&decision.append).await;
        self.perform(decision);
    }

    /// Tells of records that were committed.
    async fn tell(&mut self, records: &[Record]) {
        report::committed(&self.leased.record.head, records, self.state.cause.is_some());
        self.shared.probe.appended(&self.state.run, records).await;
        self.tell_watchers();
    }

    fn tell_watchers(&self) {
        let (run, state) = (&self.state.run, &self.state);
        if state.ended.is_none() && state.parked.is_none() {
            return self.shared.changes.changed(run);
        }
        // An order that nobody has looked at yet may open the run again.
        let pending = self.requests > self.consumed;
        self.shared.changes.stopped(run, || {
            (!pending).then(|| Still {
                status: state.status(),
                failure: state.summary().failure,
                output: state.output.clone(),
                tolerated: state.tolerated(),
            })
        });
    }

    /// Waits for the store's answer; attempts go on meanwhile.
    async fn write(&mut self, append: Append) -> Driven<Appended> {
        let shared = Arc::clone(&self.shared);
        let answer = self.alongside(shared.append(append)).await;
        answer.map_err(|error| {
            tracing::error!(%error, run = %self.state.run, "an append was refused");
            Stop::Park(Box::new(park::refused(&error)))
        })
    }

    /// Waits for something while the attempts go on.
    ///
    /// S6: their deadlines live inside them, so they are polled whatever the drive waits for.
    pub(super) async fn alongside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                Some(finished) = self.attempts.next(), if !self.attempts.is_empty() => {
                    self.backlog.push(finished);
                }
            }
        }
    }

    fn append(
        &self,
        decision: &Decision,
        sealed: Vec<(SecretKey, Sealed)>,
        release: Option<Release>,
    ) -> Driven<Append> {
        let frame = if decision.append.is_empty() {
            None
        } else {
            let frame = Record::encode(&decision.append);
            Some(frame.map_err(|error| Stop::Park(Box::new(park::refused(&error))))?)
        };
        let head = &self.leased.record.head;
        let status = self.state.status();
        let ended_now = decision.append.iter().any(|r| matches!(r, Record::Ended { .. }));
        let parked_now = decision.append.iter().any(|r| matches!(r, Record::Parked { .. }));
        let parent = head.parent.as_ref().filter(|_| ended_now || parked_now);
        Ok(Append {
            run: self.state.run,
            fence: self.leased.fence,
            seq: self.seq + u64::from(frame.is_some()),
            frame,
            at: self.state.at,
            status,
            summary: self.state.summary(),
            // S21: a poll begins without a record, so what the row says must hold for it too.
            open: self.state.has_open() || !decision.perform.is_empty() || self.state.looks_again(),
            settled: decision.append.iter().any(park::settles)
                || release.as_ref().is_some_and(|release| release.polls != head.polls),
            consumed: self.consumed,
            release,
            free_guard: ended_now && frees_guard(head, status),
            ledger: self.ledger(decision),
            sealed,
            wakes: parent.map(|parent| parent.run).into_iter().collect(),
            starts: child::begun(&self.shared, &self.state, head, decision),
        })
    }

    fn ledger(&self, decision: &Decision) -> Vec<LedgerRow> {
        let tenant = self.leased.record.head.tenant.as_deref();
        let mut touched = decision.touched.clone();
        touched.sort_unstable();
        touched.dedup();
        let mut rows = decision.closed.clone();
        for row in &mut rows {
            row.tenant = tenant.map(str::to_owned);
        }
        rows.extend(touched.into_iter().flat_map(|node| self.state.ledger_rows(node, tenant)));
        rows
    }

    fn release(&self) -> Release {
        let held = self.shared.is_stopping();
        let over = self.state.ended.is_some() || self.state.parked.is_some() || self.state.paused;
        let due = match self.state.next_due() {
            _ if over => Timestamp::NEVER,
            Some(due) => due,
            // Held back between two steps: the next owner goes on at once.
            None if held => self.shared.lease.now(),
            None => Timestamp::NEVER,
        };
        Release { due, polls: self.state.polls(), seen: 0 }
    }

    fn perform(&mut self, decision: &Decision) {
        for command in &decision.perform {
            let kept: Kept = Arc::new(Mutex::new(Vec::new()));
            let attempt = Attempt::begin(
                &self.shared,
                &self.state,
                &self.leased.record.head,
                *command,
                Back { driver: self.sender.clone(), kept: Arc::clone(&kept) },
            );
            self.kept.insert(command.node, kept);
            self.attempts.push(attempt);
        }
    }
}

enum Committed {
    Goes,
    Released,
    Conflict(Box<LedgerRow>),
}

fn frees_guard(head: &RunHead, status: RunStatus) -> bool {
    match head.guard.as_ref().map(|guard| guard.until) {
        Some(GuardUntil::Gone) => matches!(status, RunStatus::RolledBack | RunStatus::TornDown),
        Some(GuardUntil::Ended) => status.is_end(),
        None => false,
    }
}
