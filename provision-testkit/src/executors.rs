//! What every executor shows: the cases behind [`executor_suite!`](crate::executor_suite).
//!
//! Each case is an async function over an executor and a [`Setting`]; the macro only names them. They
//! run on the memory store with paused time, or on any other store in real time.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use provision_core::{
    By, Compensator, Engine, EngineBuilder, Failure, MemoryStore, Outcome, Policy, RunHandle,
    RunStatus, Saga, SagaBuilder, SagaId, SignalId, Step, StepContext, StepError, Undo,
    engine::StepStatus, executor::Executor, saga::Handle,
};

/// Where a case runs: over which store, and how long what has to be waited for takes there.
pub struct Setting {
    engine: Box<dyn Fn() -> EngineBuilder + Send + Sync>,
    wait: Duration,
    _kept: Box<dyn Send + Sync>,
}

impl Setting {
    /// A fresh store of its own in memory for each engine, with waits of an hour: for paused time.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::new(|| Engine::builder(MemoryStore::new()), Duration::from_secs(3_600), ())
    }

    /// A store whose time passes as it does, with waits of a second. `engine` begins an engine over
    /// it; nobody else may use the namespace. `kept` is dropped when the case is over: a folder, a
    /// schema, a server.
    #[must_use]
    pub fn in_real_time(
        engine: impl Fn() -> EngineBuilder + Send + Sync + 'static,
        kept: impl Send + Sync + 'static,
    ) -> Self {
        Self::new(engine, Duration::from_secs(1), kept)
    }

    fn new(
        engine: impl Fn() -> EngineBuilder + Send + Sync + 'static,
        wait: Duration,
        kept: impl Send + Sync + 'static,
    ) -> Self {
        Self { engine: Box::new(engine), wait, _kept: Box::new(kept) }
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setting").field("wait", &self.wait).finish_non_exhaustive()
    }
}

/// Counts calls, and fails the first ones.
#[derive(Debug, Clone, Default)]
struct Counter {
    done: Arc<AtomicU32>,
    undone: Arc<AtomicU32>,
    fail_first: u32,
    refuse: bool,
}

impl Counter {
    fn failing(times: u32) -> Self {
        Self { fail_first: times, ..Self::default() }
    }

    fn refusing() -> Self {
        Self { refuse: true, ..Self::default() }
    }

    fn counts(&self) -> (u32, u32) {
        (self.done.load(Ordering::SeqCst), self.undone.load(Ordering::SeqCst))
    }
}

impl Step for Counter {
    const KIND: &'static str = "kit.count";
    type Input = u32;
    type Output = u32;

    async fn run(&self, _: &StepContext, n: u32) -> Result<u32, StepError> {
        let calls = self.done.fetch_add(1, Ordering::SeqCst) + 1;
        if self.refuse {
            return Err(StepError::permanent("count").with_code("refused"));
        }
        if calls <= self.fail_first {
            return Err(StepError::retry("count"));
        }
        Ok(n + 1)
    }
}

impl Compensator<Self> for Counter {
    async fn compensate(&self, _: &StepContext, _: u32, _: Undo<u32>) -> Result<(), StepError> {
        self.undone.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

const SAGA: SagaId<u32, u32> = SagaId::new("kit", 1);
const GO: SignalId<u32> = SignalId::new("go");

fn count<'s>(
    s: &mut SagaBuilder<'s, u32>,
    path: &str,
    counter: &Counter,
    after: Option<Handle<'s, u32>>,
) -> Handle<'s, u32> {
    let node = s.step(path, counter.clone(), counter.clone());
    match after {
        None => node.input((), |n, ()| *n),
        Some(before) => node.input(before, |_, n| n),
    }
}

async fn start(on: &Setting, saga: Saga<u32, u32>) -> (Engine, RunHandle<u32>) {
    let engine = (on.engine)().register(saga).build().await.unwrap();
    let run = engine.start(SAGA, &1).await.unwrap();
    (engine, run)
}

/// A run of three steps succeeds, and each step is called once.
pub async fn a_run_succeeds_and_calls_each_step_once(executor: impl Executor, on: Setting) {
    let counters = [Counter::default(), Counter::default(), Counter::default()];
    let saga = Saga::define(SAGA, |s| {
        let a = count(s, "a", &counters[0], None);
        let b = count(s, "b", &counters[1], Some(a));
        count(s, "c", &counters[2], Some(b))
    });
    let (engine, run) = start(&on, saga.unwrap()).await;
    let head = executor.drive(&engine, run.id()).await.unwrap();
    assert_eq!(head.status, RunStatus::Succeeded);
    assert_eq!(run.output().await.unwrap(), 4);
    assert!(counters.iter().all(|counter| counter.counts() == (1, 0)));
    // S17: driving a finished run again does nothing.
    executor.drive(&engine, run.id()).await.unwrap();
    assert!(counters.iter().all(|counter| counter.counts() == (1, 0)));
}

/// Failed attempts are repeated as the policy says, and not oftener.
pub async fn attempts_follow_the_policy(executor: impl Executor, on: Setting) {
    for (failures, attempts, status) in
        [(2, 3, RunStatus::Succeeded), (3, 3, RunStatus::RolledBack)]
    {
        let counter = Counter::failing(failures);
        let saga = Saga::define(SAGA, |s| {
            s.step("a", counter.clone(), counter.clone())
                .retry(Policy::attempts(3))
                .input((), |n, ()| *n)
        });
        let (engine, run) = start(&on, saga.unwrap()).await;
        let head = executor.drive(&engine, run.id()).await.unwrap();
        assert_eq!(head.status, status);
        assert_eq!(counter.counts().0, attempts);
    }
}

/// A refused step unwinds what was done before it, once.
pub async fn a_refused_step_unwinds_what_was_done(executor: impl Executor, on: Setting) {
    let (a, b) = (Counter::default(), Counter::refusing());
    let saga = Saga::define(SAGA, |s| {
        let first = count(s, "a", &a, None);
        count(s, "b", &b, Some(first))
    });
    let (engine, run) = start(&on, saga.unwrap()).await;
    let head = executor.drive(&engine, run.id()).await.unwrap();
    assert_eq!(head.status, RunStatus::RolledBack);
    assert_eq!((a.counts(), b.counts()), ((1, 1), (1, 0)));
}

/// A sleep lets its time pass, and no less.
pub async fn a_sleep_lets_its_time_pass(executor: impl Executor, on: Setting) {
    let (counter, wait) = (Counter::default(), on.wait);
    let saga = Saga::define(SAGA, |s| {
        let night = s.sleep("night").input((), move |_, ()| wait);
        s.step("a", counter.clone(), counter.clone()).input(night, |n, ()| *n)
    });
    let (engine, run) = start(&on, saga.unwrap()).await;
    let began = tokio::time::Instant::now();
    let head = executor.drive(&engine, run.id()).await.unwrap();
    assert_eq!(head.status, RunStatus::Succeeded);
    // The store's clock counts whole milliseconds, and is not the one that is looked at here.
    assert!(began.elapsed() >= wait.mul_f64(0.98), "{:?}", began.elapsed());
}

/// A signal that came before the run waits for it is kept.
pub async fn an_early_signal_is_kept(executor: impl Executor, on: Setting) {
    let saga = Saga::define(SAGA, |s| s.signal(GO).input((), |_, ()| Duration::from_secs(60)));
    let (engine, run) = start(&on, saga.unwrap()).await;
    engine.signal(run.id(), GO, &9).await.unwrap();
    executor.drive(&engine, run.id()).await.unwrap();
    assert_eq!(run.output().await.unwrap(), 9);
}

/// A signal that never comes is a failure when its time is over.
pub async fn a_missing_signal_fails_at_its_limit(executor: impl Executor, on: Setting) {
    let wait = on.wait;
    let saga = Saga::define(SAGA, |s| s.signal(GO).input((), move |_, ()| wait));
    let (engine, run) = start(&on, saga.unwrap()).await;
    let head = executor.drive(&engine, run.id()).await.unwrap();
    assert_eq!(head.status, RunStatus::RolledBack);
    assert_eq!(head.summary.failure.unwrap().code, "signal_timeout");
}

/// A condition that does not hold skips the step, which is then never undone.
pub async fn a_skipped_step_is_never_called_nor_undone(executor: impl Executor, on: Setting) {
    let (never, last) = (Counter::default(), Counter::refusing());
    let saga = Saga::define(SAGA, |s| {
        let skipped =
            s.step("never", never.clone(), never.clone()).when(|n| *n > 100).input((), |n, ()| *n);
        s.step("last", last.clone(), last.clone()).input(skipped, |n, skipped| {
            assert!(skipped.is_none());
            *n
        })
    });
    let (engine, run) = start(&on, saga.unwrap()).await;
    executor.drive(&engine, run.id()).await.unwrap();
    assert_eq!(never.counts(), (0, 0));
}

/// A tolerated failure reaches dependents as a value, and the run succeeds in part.
pub async fn a_tolerated_failure_reaches_dependents(executor: impl Executor, on: Setting) {
    let (bad, good) = (Counter::refusing(), Counter::default());
    let saga = Saga::define(SAGA, |s| {
        let a = s.step("bad", bad.clone(), bad.clone()).optional().input((), |n, ()| *n);
        let b = s.step("good", good.clone(), good.clone()).optional().input((), |n, ()| *n);
        s.any("first", vec![a, b])
    });
    let (engine, run) = start(&on, saga.unwrap()).await;
    executor.drive(&engine, run.id()).await.unwrap();
    let outcome = run.outcome().await.unwrap();
    let Outcome::PartlySucceeded(2, failures) = outcome else { panic!("{outcome:?}") };
    assert_eq!(failures.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["bad"]);
}

/// A fan-out gives its outputs in the order of its list.
pub async fn a_fan_out_keeps_the_order_of_its_list(executor: impl Executor, on: Setting) {
    let counter = Counter::default();
    let saga = Saga::define(SAGA, |s| {
        let all = s
            .each("all", (), |_, ()| vec![10, 20, 30])
            .body(|item| item.step("one", counter.clone(), counter.clone()).input((), |n, ()| *n));
        s.value("sum").input(all, |_, all| {
            assert_eq!(all, [11, 21, 31]);
            all.iter().sum()
        })
    });
    let (engine, run) = start(&on, saga.unwrap()).await;
    executor.drive(&engine, run.id()).await.unwrap();
    assert_eq!((run.output().await.unwrap(), counter.counts()), (63, (3, 0)));
}

/// A paused run stands still and loses nothing; resumed, it goes on.
pub async fn a_paused_run_stands_still_until_resumed(executor: impl Executor, on: Setting) {
    let counter = Counter::default();
    let saga = Saga::define(SAGA, |s| count(s, "a", &counter, None));
    let (engine, run) = start(&on, saga.unwrap()).await;
    engine.pause(run.id(), By::new("ann", "maintenance")).await.unwrap();
    let head = executor.drive(&engine, run.id()).await.unwrap();
    assert!(!head.status.is_end(), "{:?}", head.status);
    let before = counter.counts().0;
    engine.resume(run.id(), By::new("ann", "done")).await.unwrap();
    let head = executor.drive(&engine, run.id()).await.unwrap();
    assert_eq!(head.status, RunStatus::Succeeded);
    assert!(before <= 1 && counter.counts().0 == 1);
}

/// A cancelled run is undone; nothing new starts in it.
pub async fn a_cancelled_run_is_undone(executor: impl Executor, on: Setting) {
    let counter = Counter::default();
    let saga = Saga::define(SAGA, |s| {
        let a = count(s, "a", &counter, None);
        s.signal(GO).after(a).input((), |_, ()| Duration::from_secs(600))
    });
    let (engine, run) = start(&on, saga.unwrap()).await;
    while engine.run_one().await.unwrap().is_some() {}
    engine.cancel(run.id(), By::new("ann", "wrong client")).await.unwrap();
    let head = executor.drive(&engine, run.id()).await.unwrap();
    assert_eq!(head.status, RunStatus::RolledBack);
    assert_eq!(counter.counts(), (1, 1));
}

/// After the point of no return a failure parks, cancel is refused, and a retry ends the run.
pub async fn after_the_pivot_nothing_unwinds(executor: impl Executor, on: Setting) {
    let (a, b) = (Counter::default(), Counter::failing(1));
    let saga = Saga::define(SAGA, |s| {
        let pivot = s.step("a", a.clone(), a.clone()).pivot().input((), |n, ()| *n);
        s.step("b", b.clone(), b.clone()).retry(Policy::once()).input(pivot, |_, n| n)
    });
    let (engine, run) = start(&on, saga.unwrap()).await;
    let head = executor.drive(&engine, run.id()).await.unwrap();
    assert_eq!(head.status, RunStatus::Parked);
    let refused = engine.cancel(run.id(), By::default()).await.unwrap_err();
    assert_eq!(refused.code(), "pivot_passed");
    engine.retry(run.id(), By::default()).await.unwrap();
    let head = executor.drive(&engine, run.id()).await.unwrap();
    assert_eq!(head.status, RunStatus::Succeeded);
    assert_eq!((a.counts(), b.counts()), ((1, 0), (2, 0)));
}

/// A hook runs after everything else, whatever the end, and is told how it ended.
pub async fn a_hook_runs_at_every_end(executor: impl Executor, on: Setting) {
    for bad in [false, true] {
        let (step, hook) = (Counter { refuse: bad, ..Counter::default() }, Counter::default());
        let told = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&told);
        let saga = Saga::define(SAGA, |s| {
            s.on_end("hook", hook.clone(), move |n, end| {
                assert_eq!(end.failure.is_some(), bad);
                seen.fetch_add(1, Ordering::SeqCst);
                *n
            });
            count(s, "a", &step, None)
        });
        let (engine, run) = start(&on, saga.unwrap()).await;
        let head = executor.drive(&engine, run.id()).await.unwrap();
        assert_eq!(head.status == RunStatus::RolledBack, bad);
        assert_eq!((hook.counts(), told.load(Ordering::SeqCst)), ((1, 0), 1));
    }
}

/// A person's answer stands in for a step that gave up after the pivot.
pub async fn a_step_can_be_resolved_by_a_person(executor: impl Executor, on: Setting) {
    let (a, b) = (Counter::default(), Counter::refusing());
    let saga = Saga::define(SAGA, |s| {
        let pivot = s.step("a", a.clone(), a.clone()).pivot().input((), |n, ()| *n);
        s.step("b", b.clone(), b.clone()).input(pivot, |_, n| n)
    });
    let (engine, run) = start(&on, saga.unwrap()).await;
    executor.drive(&engine, run.id()).await.unwrap();
    let answer = provision_core::Resolution::succeeded("b", &42).unwrap();
    engine.resolve(run.id(), answer, By::new("ann", "done by hand")).await.unwrap();
    executor.drive(&engine, run.id()).await.unwrap();
    assert_eq!(run.output().await.unwrap(), 42);
    let steps = engine.snapshot(run.id()).await.unwrap().steps;
    assert!(steps.iter().all(|step| step.status == StepStatus::Succeeded));
    let failures: Vec<Failure> =
        engine.failures(run.id()).await.unwrap().into_iter().map(|view| view.failure).collect();
    assert_eq!(failures.len(), 1);
}

/// Names every case as a test over an executor.
///
/// By itself it runs on the store in memory with paused time. A third argument is an async function
/// without arguments that answers with a [`Setting`](crate::executors::Setting) over another store, or
/// with `None` where its server is missing; the cases then take the time that they take.
///
/// ```
/// use provision_core::executor::{HostDriven, InProcess};
///
/// provision_testkit::executor_suite!(in_process, InProcess::default());
/// provision_testkit::executor_suite!(host_driven, HostDriven);
/// ```
#[macro_export]
macro_rules! executor_suite {
    ($name:ident, $executor:expr) => {
        $crate::executor_suite!(@all $name, $executor,
            (start_paused = true), std::future::ready(Some($crate::executors::Setting::in_memory()))
        );
    };
    ($name:ident, $executor:expr, $setting:path) => {
        $crate::executor_suite!(@all $name, $executor, (flavor = "current_thread"), $setting());
    };
    (@all $name:ident, $executor:expr, $flavor:tt, $setting:expr) => {
        $crate::executor_suite!(@cases $name, $executor, $flavor, $setting,
            a_run_succeeds_and_calls_each_step_once
            attempts_follow_the_policy
            a_refused_step_unwinds_what_was_done
            a_sleep_lets_its_time_pass
            an_early_signal_is_kept
            a_missing_signal_fails_at_its_limit
            a_skipped_step_is_never_called_nor_undone
            a_tolerated_failure_reaches_dependents
            a_fan_out_keeps_the_order_of_its_list
            a_paused_run_stands_still_until_resumed
            a_cancelled_run_is_undone
            after_the_pivot_nothing_unwinds
            a_hook_runs_at_every_end
            a_step_can_be_resolved_by_a_person
        );
    };
    (@cases $name:ident, $executor:expr, $flavor:tt, $setting:expr, $($case:ident)+) => {
        mod $name {
            $(
                #[tokio::test $flavor]
                async fn $case() {
                    #[allow(unused_imports, reason = "the expression may name what is outside")]
                    use super::*;
                    let Some(setting) = $setting.await else { return };
                    $crate::executors::$case($executor, setting).await;
                }
            )+
        }
    };
}
