//! One scenario: a run from its start to its end, over the death of the process that drives it.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use provision_core::{
    By, Engine, RunHandle, RunId, RunStatus, Timestamp, Worker,
    draw::SeededEntropy,
    engine::Backend,
    error::StoreError,
    executor::stands_still,
    run::journal::Record,
    store::{RunFilter, RunHead, StateStore},
};

use super::{
    Outside as _, Place, Script, Subject,
    judge::{Expected, Facts},
    trace::{Trace, Watch},
};

/// Longer than the lease of a process that died.
const LEASE_OVER: Duration = Duration::from_secs(16);
/// Start key of the run; a client that saw its process die asks again with it.
const KEY: &str = "scenario";
/// Leases and waits of one run; more of them mean that it does not come to an end.
const ROUNDS_MAX: u32 = 4_000;
/// Processes of one scenario; more of them mean that the run kills its workers for ever.
const LIVES_MAX: u32 = 32;
/// How often a run is looked at that a worker drives.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A saga, its world, and the place of its store: what outlives every crash of a scenario.
#[derive(Debug)]
pub struct Stage<S: Subject, P> {
    pub(super) subject: Arc<S>,
    pub(super) world: S::World,
    pub(super) place: P,
    pub(super) in_turn: bool,
}

/// What a scenario showed.
#[derive(Debug)]
pub(super) struct Performed {
    pub(super) trace: Arc<Trace>,
    pub(super) found: Expected,
    pub(super) flaws: Vec<String>,
}

struct Life<O> {
    engine: Engine,
    store: Arc<dyn StateStore>,
    run: RunHandle<O>,
}

/// How the life of a process ended.
enum Lived<O> {
    /// Its run is over.
    Over(Life<O>),
    /// It was told to stop, and has left.
    Left,
    /// It was killed: at the point of the crash, or by a call that it made.
    Killed,
}

/// The worker of a process, where it has one. A plain mutex, held for one look.
type Employed = Mutex<Option<Worker>>;

impl<S: Subject, P: Place> Stage<S, P> {
    /// Puts a stage together.
    #[must_use]
    pub fn new(subject: Arc<S>, world: S::World, place: P) -> Self {
        Self { subject, world, place, in_turn: false }
    }

    fn trace(&self, script: &Script) -> Arc<Trace> {
        Trace::new(script, self.in_turn)
    }

    /// Plays a script up to its crash, and stays there: for a process that is killed at the point.
    /// Calls `reached` when it is there; comes back only when the run ended without reaching it.
    pub async fn play_to_crash(&self, script: &Script, reached: impl FnOnce() + Send) {
        let trace = self.trace(script);
        tokio::select! {
            biased;
            () = trace.stopped() => {
                reached();
                std::future::pending::<()>().await;
            }
            _over = Box::pin(self.live(&trace, script)) => {}
        }
    }

    /// Opens what another process left behind, drives it to its end, and says what is wrong with
    /// it, compared with how the same script ends without a crash.
    pub async fn recover(&self, script: &Script, calm: &Self) -> Vec<String> {
        let calm_script = Script { crash: None, ..script.clone() };
        let expected = calm.perform(&calm_script, &[]).await.found;
        let trace = self.trace(&calm_script);
        self.place.pass(LEASE_OVER).await;
        if let Err(flaw) = self.read_journals(&trace).await {
            return vec![flaw];
        }
        trace.ended();
        let lived = Box::pin(self.lives(&trace, script)).await;
        self.conclude(lived, &trace, &[expected]).await.flaws
    }

    async fn read_journals(&self, trace: &Trace) -> Result<(), String> {
        let store = self.place.open().await;
        let cannot = |error: StoreError| format!("what is left cannot be read: {error}");
        let page = store.list(&RunFilter::default()).await.map_err(cannot)?;
        let ids: Vec<RunId> = page.runs.iter().map(|head| head.id).collect();
        for record in store.load(&ids).await.map_err(cannot)?.into_iter().flatten() {
            for frame in &record.frames {
                let records = Record::decode(&frame.body);
                let records = records.map_err(|error| format!("frame {}: {error}", frame.seq))?;
                trace.remember(record.head.id, records);
            }
        }
        Ok(())
    }

    /// Plays a script from its start to its end and judges what is there then.
    /// It has to end as one of `expected`; where there are none, anyhow.
    pub(super) async fn perform(&self, script: &Script, expected: &[Expected]) -> Performed {
        let trace = self.trace(script);
        let lived = Box::pin(self.lives(&trace, script)).await;
        self.conclude(lived, &trace, expected).await
    }

    /// One process after the other, until the run is over.
    async fn lives(&self, trace: &Arc<Trace>, script: &Script) -> Result<Life<S::Output>, String> {
        for _ in 0..LIVES_MAX {
            let lived = tokio::select! {
                biased;
                // Everything of this process is dropped here: engine, drive, heartbeat, store.
                () = trace.stopped() => Lived::Killed,
                () = self.world.kills() => Lived::Killed,
                lived = self.live(trace, script) => lived?,
            };
            match lived {
                Lived::Over(life) => return Ok(life),
                // It let go of everything, so the next one goes on at once.
                Lived::Left => trace.ended(),
                Lived::Killed => {
                    trace.ended();
                    self.place.pass(LEASE_OVER).await;
                    self.subject.visited(&self.place, &self.world).await;
                }
            }
        }
        Err(format!("it does not come to an end within {LIVES_MAX} processes"))
    }

    async fn conclude(
        &self,
        lived: Result<Life<S::Output>, String>,
        trace: &Arc<Trace>,
        expected: &[Expected],
    ) -> Performed {
        self.world.settle();
        let trace = Arc::clone(trace);
        let life = match lived {
            Ok(life) => life,
            Err(flaw) => {
                let found = Expected::of(RunStatus::Parked);
                return Performed { trace, found, flaws: vec![flaw] };
            }
        };
        let outcome = life.run.outcome().await.map_err(|error| error.to_string()).err();
        let mut facts = Facts::gather(&life.engine, &*life.store, *life.run.id()).await;
        facts.look_outside(&self.world, trace.seen());
        facts.bytes = self.place.bytes();
        facts.has_phase = !self.in_turn;
        let mut flaws = facts.judge(&self.world, expected);
        flaws.extend(outcome.map(|error| format!("its outcome cannot be read: {error}")));
        Performed { trace, found: facts.found(), flaws }
    }

    /// One process: opens the store, starts the run or finds it, and drives it to its end, or until
    /// it is told to stop.
    async fn live(&self, trace: &Arc<Trace>, script: &Script) -> Result<Lived<S::Output>, String> {
        let store = self.place.open().await;
        let state: Arc<dyn StateStore> = Arc::new(store.clone());
        let engine = self.engine(store, trace).await?;
        let saga = self.subject.saga(&self.world);
        let run = self.subject.begin(engine.start(&saga, &self.subject.input()).key(KEY)).await;
        let run = run.map_err(|error| format!("it cannot be started: {error}"))?;
        if trace.processes_before() > 0 && run.is_new() {
            return Err("the run that was started by the process before is lost".to_owned());
        }
        let worker = Employed::new(self.subject.worker().map(|config| engine.spawn_worker(config)));
        let over = tokio::select! {
            biased;
            driven = self.to_its_end(&engine, &*state, run.id(), script) => driven.map(|()| true)?,
            left = self.interrupts(trace, &engine, run.id(), &worker) => left.map(|()| false)?,
        };
        if let Some(worker) = employed(&worker) {
            worker.stop().await;
        }
        Ok(if over { Lived::Over(Life { engine, store: state, run }) } else { Lived::Left })
    }

    /// Waits for the point at which somebody interrupts the run, and is that somebody. Comes back
    /// only where the process has a worker, which is then told to stop.
    async fn interrupts(
        &self,
        trace: &Trace,
        engine: &Engine,
        run: &RunId,
        worker: &Employed,
    ) -> Result<(), String> {
        loop {
            trace.interrupts().await;
            self.subject.interrupt(engine, &self.world, run).await;
            let Some(worker) = employed(worker) else {
                trace.interrupted();
                continue;
            };
            let mut stop = pin!(worker.stop());
            // The order is given before the run goes on.
            let has_stopped = poll_fn(|cx| Poll::Ready(stop.as_mut().poll(cx).is_ready())).await;
            trace.interrupted();
            if !has_stopped {
                stop.await;
            }
            let head = engine.run(run).await.map_err(|e| format!("it cannot be read: {e}"))?;
            return match head.owner {
                None => Ok(()),
                Some(_) => Err("the worker has stopped, and still holds the run".to_owned()),
            };
        }
    }

    /// Drives the run to its end; where the script says so, on to the end of its tear-down.
    async fn to_its_end(
        &self,
        engine: &Engine,
        store: &dyn StateStore,
        run: &RunId,
        script: &Script,
    ) -> Result<(), String> {
        let mut head = self.to_end(engine, store, run).await?;
        let done = matches!(head.status, RunStatus::Succeeded | RunStatus::PartlySucceeded);
        if script.tear_down && done {
            // Apart from the end of the run, so that no look-up may still lag behind it.
            self.place.pass(Duration::from_secs(1)).await;
            let ordered = engine.tear_down(run, By::new("harness", "clean slate")).await;
            ordered.map_err(|error| format!("it cannot be torn down: {error}"))?;
            head = self.to_end(engine, store, run).await?;
        }
        if !head.status.is_end() && head.status != RunStatus::Parked {
            return Err(format!("it stands still as {}", head.status.as_str()));
        }
        Ok(())
    }

    async fn engine(&self, store: impl Backend, trace: &Arc<Trace>) -> Result<Engine, String> {
        // The same draws in every run, so that a point is found again; others in the next process,
        // which is another incarnation.
        let entropy = SeededEntropy::new(trace.processes_before());
        let builder = Engine::builder(store).register(self.subject.saga(&self.world));
        let builder = builder.entropy(entropy);
        let builder = self.subject.equip(builder, &self.world).probe(Watch(Arc::clone(trace)));
        builder.build().await.map_err(|error| format!("the engine cannot be built: {error}"))
    }

    /// Drives whatever is due until the run stands still; lets time pass where nothing is due.
    async fn to_end(
        &self,
        engine: &Engine,
        store: &dyn StateStore,
        run: &RunId,
    ) -> Result<RunHead, String> {
        let by_worker = self.subject.worker().is_some();
        for _ in 0..ROUNDS_MAX {
            let cannot = |error| format!("it cannot be driven: {error}");
            if !by_worker && engine.run_one().await.map_err(cannot)?.is_some() {
                continue;
            }
            let head = engine.run(run).await.map_err(|e| format!("it cannot be read: {e}"))?;
            let now = store.now().await.map_err(|e| format!("no clock: {e}"))?;
            let taken = head.requests == head.consumed;
            // Where a worker drives, what is due is about to be taken.
            let rests = !by_worker || (head.owner.is_none() && head.due > now);
            if taken && rests && self.subject.nudge(engine, &self.world, &head).await {
                continue;
            }
            let over = head.status.is_end() || head.status == RunStatus::Parked;
            let wait = match (over && taken) || stands_still(&head) {
                false => Some(wait_of(&head, now)),
                // What somebody has started beside it comes to an end, too.
                true => self.wait_beside(store, now).await?,
            };
            match wait {
                Some(wait) if by_worker => self.place.pass(wait.max(LOOK_EVERY)).await,
                Some(wait) => self.place.pass(wait).await,
                None => return Ok(head),
            }
        }
        Err(format!("it does not come to an end within {ROUNDS_MAX} leases and waits"))
    }

    /// How long the runs that are not over yet wait, if there are any that time moves on.
    async fn wait_beside(
        &self,
        store: &dyn StateStore,
        now: Timestamp,
    ) -> Result<Option<Duration>, String> {
        let status = RunStatus::ALL.into_iter().filter(|status| status.is_moving()).collect();
        let moving = RunFilter { status, limit: 1_000, ..RunFilter::default() };
        let page = store.list(&moving).await.map_err(|e| format!("runs cannot be listed: {e}"))?;
        let due = page.runs.iter().filter(|head| !stands_still(head));
        Ok(due.map(|head| wait_of(head, now)).min())
    }
}

fn employed(worker: &Employed) -> Option<Worker> {
    worker.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// How long to wait for what the run waits for.
fn wait_of(head: &RunHead, now: Timestamp) -> Duration {
    if head.due == Timestamp::NEVER {
        // A child run is what moves it; that one has a due time of its own.
        return Duration::from_secs(1);
    }
    head.due.since(now).max(Duration::from_millis(1))
}
