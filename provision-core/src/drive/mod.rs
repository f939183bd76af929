//! The only loop with I/O: it owns the state of one leased run, feeds events to the pure machine,
//! writes what it decides, and only then performs it.
//!
//! One append of a run is under way at a time. Steps never touch the state; they return values, or
//! send messages that become events.

pub(crate) mod attempt;
pub(crate) mod child;
pub(crate) mod commit;
mod fold;
mod host;
pub(crate) mod lease;
mod report;
mod seal;
mod shared;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::{Notify, mpsc};
use tracing::Instrument;

use attempt::Back;
pub(crate) use attempt::{Attempt, Finished};
pub(crate) use fold::fold;
pub(crate) use host::{AttemptHost, Kept, Message};
pub(crate) use shared::{Plans, Shared};

use crate::{
    changes::Still,
    clock,
    error::{Effect, Failure, StepError, Verdict},
    id::Timestamp,
    ledger::LedgerRow,
    run::{
        RunStatus,
        decide::{AttemptEnd, Decision, Event, Halt, Moment, State, decide},
        journal::{Direction, Record, RequestBody},
    },
    secret::{Sealed, SecretKey},
    store::{Append, Appended, GuardUntil, Leased, Release, Request, RunHead},
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

type Driven<T> = Result<T, Left>;

impl Drive {
    /// Drives a run until its lease is given back or lost.
    pub(crate) async fn run(shared: Arc<Shared>, leased: Leased, lost: Arc<Notify>) -> Left {
        let folded = fold(&leased.record.head, &leased.record.frames, &shared.plans);
        let (sender, inbox) = mpsc::unbounded_channel();
        let head = &leased.record.head;
        let (seq, consumed, requests) = (head.seq, head.consumed, head.requests);
        let state = match folded {
            Ok(state) => state,
            Err(damage) => return park_damaged(&shared, &leased, &damage).await,
        };
        let mut drive = Self {
            shared,
            state,
            leased,
            seq,
            consumed,
            requests,
            attempts: FuturesUnordered::new(),
            backlog: Vec::new(),
            sender,
            inbox,
            kept: BTreeMap::new(),
            outcome_seals: Vec::new(),
            lost,
        };
        match drive.go().await {
            Ok(()) => Left::Released,
            Err(left) => left,
        }
    }

    async fn go(&mut self) -> Driven<()> {
        let died_at = self.leased.died_at;
        let poisoned = self.leased.record.head.deaths >= DEATHS_MAX;
        if poisoned && self.state.parked.is_none() {
            return self.park_poisoned().await;
        }
        let waiting = std::mem::take(&mut self.leased.record.requests);
        let mut released = self.event(Event::Claimed { died_at }, &waiting).await?;
        while !released {
            released = self.requests().await?;
            if released {
                break;
            }
            released = match self.turn().await {
                Turn::Lost => return Err(Left::Lost),
                Turn::Message(message) => self.message(message).await?,
                Turn::Finished(finished) => self.finished(finished).await?,
                Turn::Due => self.event(Event::Due, &[]).await?,
                Turn::Stop => self.stop().await?,
            };
        }
        Ok(())
    }

    async fn turn(&mut self) -> Turn {
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
        let end = match (end, self.seal_kept(node).await) {
            (AttemptEnd::Done(_), Err(error)) => AttemptEnd::Failed(error),
            (end, _) => end,
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
        if error.code().starts_with("held_by_") {
            return;
        }
        let seen = crate::limit::Observed { pause: Some(*after), ..Default::default() };
        if let Err(error) = self.shared.limiter.observe(bucket, self.shared.worker, &seen).await {
            tracing::debug!(%error, bucket, "the limiter could not be told");
        }
    }

    /// Requests that came in while the run was leased.
    async fn requests(&mut self) -> Driven<bool> {
        if self.requests <= self.consumed {
            return Ok(false);
        }
        let loaded = self.shared.store.load(&[self.state.run]).await;
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

    fn moment(&self) -> Moment {
        Moment {
            now: self.shared.lease.now(),
            latest: self.shared.lease.latest(),
            draw: self.shared.draw(),
            hold: self.shared.is_stopping(),
        }
    }

    /// Decides about an event and pending requests, writes that, and performs it. True when the
    /// lease was given back with the write.
    async fn event(&mut self, event: Event, requests: &[Request]) -> Driven<bool> {
        let moment = self.moment();
        let mut decision = match decide(&mut self.state, event, moment) {
            Ok(decision) => decision,
            Err(halt) => return self.halted(halt).await,
        };
        for request in requests {
            self.consumed = self.consumed.max(request.number);
            let Ok(body) = request.body.decode::<RequestBody>() else { continue };
            match decide(&mut self.state, Event::Request(body), moment) {
                Ok(more) => decision.merge(more),
                Err(Halt::Refused(refusal)) => {
                    tracing::info!(run = %self.state.run, %refusal, "a request was not taken");
                }
                Err(halt) => return self.halted(halt).await,
            }
        }
        let sealed = std::mem::take(&mut self.outcome_seals);
        match self.commit(decision, sealed).await? {
            Committed::Released => Ok(true),
            Committed::Goes => Ok(false),
            Committed::Conflict(row) => {
                tracing::error!(run = %self.state.run, ?row, "a conflict without an intent");
                Err(Left::Lost)
            }
        }
    }

    /// The machine refused: nothing of the event is written.
    async fn halted(&mut self, halt: Halt) -> Driven<bool> {
        match halt {
            Halt::Stopped | Halt::Refused(_) => Ok(false),
            Halt::Illegal(illegal) => {
                park_damaged(&self.shared, &self.leased, &illegal.to_string()).await;
                Err(Left::Lost)
            }
        }
    }

    async fn message(&mut self, message: Message) -> Driven<bool> {
        match message {
            Message::Note { node, id, origin, reply } => {
                let committed = self.small(Event::Noted { node, id, origin }, Vec::new()).await?;
                let _ = reply.send(committed.map(|_| ()));
            }
            Message::Intend { node, intent, draw, reply } => {
                let intent = self.intend(node, *intent, &draw).await?;
                let _ = reply.send(intent);
            }
            Message::Seal { node, name, value, reply } => {
                let sealed = self.seal(node, name, value).await?;
                let _ = reply.send(sealed);
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
        let moment = self.moment();
        let decision = match decide(&mut self.state, event, moment) {
            Ok(decision) => decision,
            Err(Halt::Illegal(illegal)) => {
                park_damaged(&self.shared, &self.leased, &illegal.to_string()).await;
                return Err(Left::Lost);
            }
            Err(Halt::Stopped | Halt::Refused(_)) => return Ok(Err(host::stopped())),
        };
        match self.commit(decision, sealed).await? {
            Committed::Goes | Committed::Released => Ok(Ok(())),
            Committed::Conflict(row) => {
                self.refold().await?;
                Ok(Err(conflict(&row)))
            }
        }
    }

    /// After a refused write the state is rebuilt from what is stored; open attempts stay.
    async fn refold(&mut self) -> Driven<()> {
        let open: Vec<(usize, bool)> =
            self.state.nodes.iter().map(|n| n.quiet_start).enumerate().collect();
        let loaded = self.shared.store.load(&[self.state.run]).await.map_err(|_| Left::Lost)?;
        let record = loaded.into_iter().next().flatten().ok_or(Left::Lost)?;
        self.state =
            fold(&record.head, &record.frames, &self.shared.plans).map_err(|_| Left::Lost)?;
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
            let open: Vec<(usize, Direction)> = self.attempts.iter().map(Attempt::place).collect();
            // S6: dropping a call cuts it; its end is unknown from here on.
            self.attempts.clear();
            let moment = self.moment();
            let mut decision = Decision::default();
            for (node, dir) in open {
                let event = Event::Ended { node, dir, end: AttemptEnd::Cut };
                match decide(&mut self.state, event, moment) {
                    Ok(more) => decision.merge(more),
                    Err(halt) => return self.halted(halt).await,
                }
            }
            return match self.commit(decision, Vec::new()).await? {
                Committed::Released => Ok(true),
                Committed::Goes => Ok(false),
                Committed::Conflict(_) => Err(Left::Lost),
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
            && !self.state.has_open();
        let release = idle.then(|| self.release());
        if decision.append.is_empty() && release.is_none() && sealed.is_empty() {
            self.perform(&decision);
            return Ok(Committed::Goes);
        }
        let append = self.append(&decision, sealed, release.clone())?;
        self.shared.probe.appending(&self.state.run, &decision.append).await;
        let answer = self.write(append).await?;
        let Appended::Applied { requests, lease_lost } = answer else {
            return match answer {
                Appended::Conflict(row) => Ok(Committed::Conflict(row)),
                _ => Err(Left::Lost),
            };
        };
        self.seq += u64::from(!decision.append.is_empty());
        self.requests = requests;
        report::committed(&self.leased.record.head, &decision.append);
        self.shared.probe.appended(&self.state.run, &decision.append).await;
        self.tell_watchers();
        if lease_lost {
            return Err(Left::Lost);
        }
        if release.is_some() {
            return Ok(Committed::Released);
        }
        self.perform(&decision);
        Ok(Committed::Goes)
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
        let mut answer = std::pin::pin!(shared.committer.append(append));
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => {
                    return answer.map_err(|error| {
                        tracing::error!(%error, run = %self.state.run, "an append was refused");
                        Left::Lost
                    });
                }
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
            Some(Record::encode(&decision.append).map_err(|error| {
                tracing::error!(%error, run = %self.state.run, "records cannot be encoded");
                Left::Lost
            })?)
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
            open: self.state.has_open() || !decision.perform.is_empty(),
            consumed: self.consumed,
            release,
            free_guard: ended_now && frees_guard(head, status),
            ledger: self.ledger(decision),
            sealed,
            wakes: parent.map(|parent| parent.run).into_iter().collect(),
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
        Release { due, polls: self.state.polls() }
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

    async fn park_poisoned(&mut self) -> Driven<()> {
        let error = StepError::new(Effect::None, Verdict::Operator, "run the step")
            .with_code("crash_loop")
            .with_message("workers died with an attempt of this run open, three times in a row")
            .with_hint("mend the step, then retry the run");
        let failure = Failure::of("", 0, &error);
        let mut decision = Decision::default();
        let moment = self.moment();
        self.state.at = moment.now;
        let record = Record::Parked { failure };
        if self.state.apply(&record).is_err() {
            return Err(Left::Lost);
        }
        decision.append.push(record);
        let release = Some(self.release());
        let append = self.append(&decision, Vec::new(), release)?;
        self.write(append).await.map(|_| ())
    }
}

/// Leases that may end by death with an attempt open before the run is parked (S21).
const DEATHS_MAX: u32 = 3;

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

fn conflict(row: &LedgerRow) -> StepError {
    StepError::permanent("record the intent")
        .with_code("conflict")
        .with_message(format!(
            "{} {} `{}` is owned by run {}",
            row.provider,
            row.kind,
            row.name.as_deref().unwrap_or_default(),
            row.run
        ))
        .with_hint("tear that run down, or choose another name")
}

/// A journal that cannot be folded is kept as it is; the run is parked by its row alone.
async fn park_damaged(shared: &Shared, leased: &Leased, damage: &str) -> Left {
    let error = StepError::new(Effect::None, Verdict::Operator, "read the journal")
        .with_code("damaged_journal")
        .with_message(damage.to_owned())
        .with_hint("restore the store from a backup; nothing of the run is guessed at");
    tracing::error!(run = %leased.record.head.id, damage, "a journal is damaged");
    let head = &leased.record.head;
    let mut summary = head.summary.clone();
    summary.failure = Some(Failure::of("", 0, &error));
    let append = Append {
        run: head.id,
        fence: leased.fence,
        seq: head.seq,
        frame: None,
        at: shared.lease.now(),
        status: RunStatus::Parked,
        summary,
        open: false,
        consumed: head.requests,
        release: Some(Release { due: Timestamp::NEVER, polls: BTreeMap::new() }),
        free_guard: false,
        ledger: Vec::new(),
        sealed: Vec::new(),
        wakes: Vec::new(),
    };
    match shared.committer.append(append).await {
        Ok(Appended::Applied { .. }) => Left::Released,
        _ => Left::Lost,
    }
}
