//! What a failure leaves for people and programs: dead letters, hooks, classes, causes.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use provision_core::{
    By, Classify, Effect, Engine, Failure, MemoryStore, NothingToUndo, OrFail, Outcome, Resolution,
    RunStatus, Saga, SagaId, Step, StepContext, StepError, Verdict, WorkerConfig,
    clock::sleep,
    engine::{StepStatus, What},
    run::journal::{Order, RequestBody},
    store::RunFilter,
};
use serde::{Deserialize, Serialize};

use crate::cloud::{Cloud, Do, Fault, Thing, UndoIt};

const ORDER: SagaId<NewOrder, String> = SagaId::new("order", 1);

/// What a run is started with, and what its hook must get back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct NewOrder {
    number: u32,
    mail: Option<String>,
}

fn order() -> NewOrder {
    NewOrder { number: 7, mail: Some("ada@example.org".to_owned()) }
}

/// Remembers how it was called; hangs at its first attempt when told to.
#[derive(Debug, Clone, Default)]
struct Tell {
    begun: Arc<Mutex<u32>>,
    told: Arc<Mutex<Vec<(NewOrder, String, String)>>>,
    hangs: bool,
}

impl Step for Tell {
    const KIND: &'static str = "test.tell";
    type Input = (NewOrder, String, String);
    type Output = ();

    async fn run(&self, cx: &StepContext, input: Self::Input) -> Result<(), StepError> {
        *self.begun.lock().unwrap() += 1;
        if self.hangs && cx.attempt() == 1 {
            sleep(Duration::from_secs(3600)).await;
        }
        self.told.lock().unwrap().push(input);
        Ok(())
    }
}

/// A resource, a step that uses it, and a hook.
fn saga(cloud: &Cloud, tell: &Tell) -> Saga<NewOrder, String> {
    Saga::define(ORDER, |s| {
        s.on_end("tell", tell.clone(), |order, end| {
            let why = end.failure.as_ref().map(|failure| failure.code.clone());
            (order.clone(), end.status.as_str().to_owned(), why.unwrap_or_default())
        });
        let b = s
            .resource("b", Thing::new(cloud))
            .input((), |order: &NewOrder, ()| format!("order-{}", order.number));
        s.step("c", Do(cloud.clone()), UndoIt(cloud.clone())).input(b, |_, _| "c".into())
    })
    .unwrap()
}

async fn engine(saga: Saga<NewOrder, String>) -> Engine {
    Engine::builder(MemoryStore::new()).register(saga).build().await.unwrap()
}

// covers: R3-26, R5-35, R3-12
#[tokio::test(start_paused = true)]
async fn a_dead_letter_says_everything_can_be_resolved_and_opened_again() {
    let cloud = Cloud::default();
    cloud.fault("do c", &[Fault::Refuse]);
    cloud.fault("delete order-7", &[Fault::Refuse]);
    let engine = engine(saga(&cloud, &Tell::default())).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(ORDER, &order()).context("customer", "c-1").await.unwrap();
    let Outcome::Parked(_, leftovers) = run.outcome().await.unwrap() else { panic!() };
    let letter = engine.dead_letters().await.unwrap().runs.remove(0);
    assert_eq!((letter.id, &*letter.saga.name), (*run.id(), "order"));
    assert_eq!(letter.input.decode::<NewOrder>().unwrap(), order());
    let failure = letter.summary.failure.clone().unwrap();
    assert_eq!((&*failure.path, &*failure.code, failure.attempt), ("b", "no", 1));
    assert_eq!(letter.context["customer"], "c-1");
    assert_eq!(leftovers.len(), 1);
    let history = engine.failures(run.id()).await.unwrap();
    let paths: Vec<_> = history.iter().map(|view| view.failure.path.as_str()).collect();
    assert_eq!(paths, ["c", "b"], "the cause, and what kept it from being undone");

    engine.resolve(run.id(), Resolution::Acknowledge, By::new("ann", "seen")).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    assert!(engine.dead_letters().await.unwrap().runs.is_empty(), "looked at");
    engine.retry(run.id(), By::new("ann", "try again")).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(Some(_))));
    engine.redrive(run.id(), By::new("ann", "from the start")).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(run.output().await.unwrap(), "c");
    worker.stop().await;
}

// covers: R3-27, R3-50
#[tokio::test(start_paused = true)]
async fn a_hook_gets_the_original_input_and_survives_a_kill_inside_it() {
    let cloud = Cloud::default();
    cloud.fault("do c", &[Fault::Refuse]);
    let tell = Tell { hangs: true, ..Tell::default() };
    let engine = engine(saga(&cloud, &tell)).await;
    let first = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(ORDER, &order()).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    assert_eq!((*tell.begun.lock().unwrap(), tell.told.lock().unwrap().len()), (1, 0));
    first.kill();
    let second = engine.spawn_worker(WorkerConfig::default());
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(Some(_))));
    let told = tell.told.lock().unwrap().clone();
    assert_eq!(told, [(order(), "RolledBack".to_owned(), "no".to_owned())]);
    assert_eq!(*tell.begun.lock().unwrap(), 2);
    assert!(cloud.names().is_empty());
    second.stop().await;
}

#[derive(Debug, thiserror::Error)]
#[error("connection to db.internal:5432 as root with hunter2 refused")]
struct Refused;

#[derive(Debug, thiserror::Error)]
#[error("the pool gave up")]
struct Pool(#[source] Refused);

impl Classify for Pool {
    fn effect(&self) -> Effect {
        Effect::None
    }

    fn verdict(&self) -> Verdict {
        Verdict::Permanent
    }

    fn operation(&self) -> &'static str {
        "open a connection"
    }
}

/// Fails with an error that has a cause.
struct Dig;

impl Step for Dig {
    const KIND: &'static str = "test.dig";
    type Input = u32;
    type Output = u32;

    async fn run(&self, _: &StepContext, _: u32) -> Result<u32, StepError> {
        Err(Pool(Refused))?
    }
}

// covers: R4-14
#[test]
fn a_failure_has_its_class_and_keeps_its_cause() {
    let classified = StepError::from(Pool(Refused));
    assert_eq!((classified.effect(), classified.verdict()), (Effect::None, &Verdict::Permanent));
    assert_eq!(classified.operation(), "open a connection");
    let on_the_spot = [
        (Err::<(), _>(Refused).or_unknown("send").unwrap_err(), Effect::Unknown, "retry"),
        (Err::<(), _>(Refused).or_retry("send").unwrap_err(), Effect::None, "retry"),
        (Err::<(), _>(Refused).or_permanent("send").unwrap_err(), Effect::None, "permanent"),
    ];
    for (error, effect, code) in on_the_spot {
        assert_eq!((error.effect(), error.code()), (effect, code));
        assert!(std::error::Error::source(&error).is_some_and(|cause| cause.is::<Refused>()));
    }
    let cause = std::error::Error::source(&classified).unwrap();
    assert!(cause.is::<Pool>() && cause.source().is_some_and(|deeper| deeper.is::<Refused>()));
}

// covers: R1-62, R1-30
#[tokio::test(start_paused = true)]
async fn what_users_are_shown_holds_no_cause_and_no_trace() {
    const DIG: SagaId<u32, u32> = SagaId::new("dig", 1);
    let saga = Saga::define(DIG, |s| s.step("dig", Dig, NothingToUndo).input((), |n, ()| *n));
    let store = MemoryStore::new();
    let engine = Engine::builder(store).register(saga.unwrap()).build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(DIG, &1).await.unwrap();
    let error = run.output().await.unwrap_err();
    let head = engine.run(run.id()).await.unwrap();
    let history = engine.failures(run.id()).await.unwrap();
    let shown = [
        StepError::from(Pool(Refused)).to_string(),
        error.to_string(),
        serde_json::to_string(&head).unwrap(),
        serde_json::to_string(&history).unwrap(),
    ];
    for text in shown {
        assert!(text.contains("open a connection") || text.contains("output"), "{text}");
        for inner in ["hunter2", "db.internal", "gave up", ".rs:", "stack"] {
            assert!(!text.contains(inner), "{inner} in {text}");
        }
    }
    worker.stop().await;
}

// covers: R2-20
#[tokio::test(start_paused = true)]
async fn a_failed_run_shows_its_cause_with_a_code_and_what_to_do() {
    let cloud = Cloud::default();
    cloud.put_foreign("order-7");
    let engine = engine(saga(&cloud, &Tell::default())).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(ORDER, &order()).await.unwrap();
    let Outcome::RolledBack(Some(failure)) = run.outcome().await.unwrap() else { panic!() };
    let Failure { path, code, message, hint, .. } = failure;
    assert_eq!((&*path, &*code), ("b", "foreign"));
    assert!(message.unwrap().contains("f-order-7 exists already"));
    assert!(hint.unwrap().contains("another name"));
    let error = run.output().await.unwrap_err();
    assert_eq!(error.code(), "rolled_back");
    assert!(error.context().unwrap().contains("b: create cloud.thing: foreign"), "{error}");
    assert!(error.hint().unwrap().contains("redrive"));
    worker.stop().await;
}

// covers: R3-42
#[tokio::test(start_paused = true)]
async fn every_recorded_failure_names_run_step_attempt_and_the_callers_fields() {
    let cloud = Cloud::default();
    let engine = engine(saga(&cloud, &Tell::default())).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    for number in 1..=20 {
        let call =
            if number % 2 == 0 { "do c".to_owned() } else { format!("create order-{number}") };
        let fault = if number % 4 < 2 { Fault::Refuse } else { Fault::Before };
        cloud.fault(&call, &[fault]);
        let input = NewOrder { number, mail: None };
        let start = engine.start(ORDER, &input).context("order", number.to_string());
        let run = start.tenant("acme").await.unwrap();
        run.outcome().await.unwrap();
        let head = serde_json::to_value(engine.run(run.id()).await.unwrap()).unwrap();
        assert_eq!(head["id"], run.id().to_string());
        assert_eq!(
            (&head["context"]["order"], &head["tenant"]),
            (&number.to_string().into(), &"acme".into())
        );
        let line = serde_json::to_value(engine.failures(run.id()).await.unwrap()).unwrap();
        let failure = &line[0]["failure"];
        assert_eq!(failure["path"], if number % 2 == 0 { "c" } else { "b" });
        assert_eq!((&failure["attempt"], &failure["effect"]), (&1.into(), &"none".into()));
        for field in ["operation", "code"] {
            assert!(failure[field].as_str().is_some_and(|text| !text.is_empty()), "{line}");
        }
    }
    let failed = RunFilter { status: vec![RunStatus::RolledBack], ..RunFilter::default() };
    assert_eq!(engine.runs(&failed).await.unwrap().runs.len(), 10);
    worker.stop().await;
}

/// Tells after so many seconds.
#[derive(Debug, Clone)]
struct TellLate(Arc<Mutex<Vec<(u64, String)>>>, u64);

impl Step for TellLate {
    const KIND: &'static str = "test.tell_late";
    type Input = String;
    type Output = ();

    async fn run(&self, _: &StepContext, status: String) -> Result<(), StepError> {
        sleep(Duration::from_secs(self.1)).await;
        self.0.lock().unwrap().push((self.1, status));
        Ok(())
    }
}

// covers: S17
#[tokio::test(start_paused = true)]
async fn hooks_are_told_again_when_a_cancel_comes_while_they_run() {
    let (cloud, told) = (Cloud::default(), Arc::default());
    let saga = Saga::define(ORDER, |s| {
        for (name, seconds) in [("early", 15), ("late", 30)] {
            let tell = TellLate(Arc::clone(&told), seconds);
            s.on_end(name, tell, |_, end| end.status.as_str().to_owned());
        }
        s.resource("b", Thing::new(&cloud)).input((), |_, ()| "b".into())
    });
    let engine = engine(saga.unwrap()).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(ORDER, &order()).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    engine.cancel(run.id(), By::default()).await.unwrap();
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(None)));
    let told: Vec<_> = told.lock().unwrap().iter().map(|(n, s)| format!("{n} {s}")).collect();
    assert_eq!(told, ["15 Succeeded", "30 Succeeded", "15 RolledBack", "30 RolledBack"]);
    assert!(cloud.names().is_empty());
    worker.stop().await;
}

/// A call that takes a minute.
#[derive(Debug, Clone)]
struct Minute;

impl Step for Minute {
    const KIND: &'static str = "test.minute";
    type Input = ();
    type Output = ();

    async fn run(&self, _: &StepContext, (): ()) -> Result<(), StepError> {
        sleep(Duration::from_secs(60)).await;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_that_comes_too_late_is_shown_with_its_reason() {
    let cloud = Cloud::default();
    let saga = Saga::define(ORDER, |s| {
        let paid = s.step("pay", Minute, NothingToUndo).pivot().input((), |_, ()| ());
        let sent = s.step("send", Minute, NothingToUndo).input(paid, |_, ()| ());
        s.step("c", Do(cloud.clone()), UndoIt(cloud.clone())).input(sent, |_, ()| "c".into())
    });
    let engine = engine(saga.unwrap()).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(ORDER, &order()).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    engine.cancel(run.id(), By::new("ann", "too dear")).await.unwrap();
    assert_eq!(run.output().await.unwrap(), "c");
    let mut events = engine.watch(run.id(), 0);
    let mut refused = Vec::new();
    while let Some(event) = events.next().await.unwrap() {
        if let What::Refused { request: RequestBody::Order { order, who, .. }, code, .. } =
            event.what
        {
            refused.push((order, who, code));
        }
    }
    assert_eq!(refused, [(Order::Cancel, "ann".to_owned(), "pivot_passed".to_owned())]);
    worker.stop().await;
}

// covers: L6
#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_begins_no_hook_and_the_next_one_does() {
    let tell = Tell::default();
    let saga = Saga::define(ORDER, |s| {
        s.on_end("tell", tell.clone(), |order: &NewOrder, end| {
            (order.clone(), end.status.as_str().to_owned(), String::new())
        });
        let waited = s.step("wait", Minute, NothingToUndo).input((), |_, ()| ());
        s.value("v").input(waited, |_, ()| "v".to_owned())
    });
    let engine = engine(saga.unwrap()).await;
    let first = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(ORDER, &order()).await.unwrap();
    sleep(Duration::from_secs(55)).await;
    first.stop().await;
    let steps = engine.snapshot(run.id()).await.unwrap().steps;
    let done = steps.iter().find(|step| step.path == "wait").unwrap();
    assert_eq!(done.status, StepStatus::Succeeded, "what was under way has come to its end");
    assert_eq!(*tell.begun.lock().unwrap(), 0, "the hook has not begun");
    let second = engine.spawn_worker(WorkerConfig::default());
    assert_eq!(run.output().await.unwrap(), "v");
    assert_eq!(*tell.begun.lock().unwrap(), 1);
    second.stop().await;
}

// covers: S16, S17
#[tokio::test(start_paused = true)]
async fn an_order_that_finds_the_run_over_is_shown_in_its_row() {
    let told = Arc::default();
    let saga = Saga::define(ORDER, |s| {
        let tell = TellLate(Arc::clone(&told), 30);
        s.on_end("tell", tell, |_, end| end.status.as_str().to_owned());
        s.value("v").input((), |_, ()| "v".to_owned())
    });
    let engine = engine(saga.unwrap()).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(ORDER, &order()).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    // The last call of the run is open: nothing is between it and the end.
    engine.cancel(run.id(), By::new("ann", "too dear")).await.unwrap();
    assert_eq!(run.output().await.unwrap(), "v");
    sleep(Duration::from_secs(5)).await;
    let head = engine.run(run.id()).await.unwrap();
    assert_eq!((head.status, head.consumed), (RunStatus::Succeeded, 1));
    let refused = head.summary.refused.expect("it is told");
    let RequestBody::Order { order, who, why } = refused.request else { panic!() };
    assert_eq!((order, who.as_str(), why.as_str()), (Order::Cancel, "ann", "too dear"));
    assert_eq!(refused.code, "run_over");
    let again = engine.cancel(run.id(), By::default()).await.unwrap_err();
    assert_eq!(again.code(), "run_over");
    worker.stop().await;
}

// covers: S16
#[tokio::test(start_paused = true)]
async fn a_paused_run_that_is_cancelled_is_undone() {
    for unwinding in [false, true] {
        let cloud = Cloud::default();
        let saga = Saga::define(ORDER, |s| {
            let b = s.resource("b", Thing::new(&cloud)).input((), |_, ()| "b".into());
            let c = s.step("wait", Minute, NothingToUndo).input(b, |_, _| ());
            let d = s.step("more", Minute, NothingToUndo).input(c, |_, ()| ());
            s.value("v").input(d, |_, ()| "v".to_owned())
        });
        let engine = engine(saga.unwrap()).await;
        let worker = engine.spawn_worker(WorkerConfig::default());
        let run = engine.start(ORDER, &order()).await.unwrap();
        sleep(Duration::from_secs(10)).await;
        if unwinding {
            engine.cancel(run.id(), By::default()).await.unwrap();
        }
        engine.pause(run.id(), By::default()).await.unwrap();
        sleep(Duration::from_secs(300)).await;
        assert!(!engine.run(run.id()).await.unwrap().status.is_end());
        assert_eq!(cloud.names().len(), 1, "nothing starts while it is paused");
        engine.cancel(run.id(), By::default()).await.unwrap();
        sleep(Duration::from_secs(300)).await;
        assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(None)));
        assert!(cloud.names().is_empty());
        worker.stop().await;
    }
}
