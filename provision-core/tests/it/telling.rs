//! What logs are told: one line for every failed attempt, one span for every attempt and call.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use provision_core::{
    Call, Engine, MemoryStore, NothingToUndo, OrFail, Outcome, Saga, SagaId, Step, StepContext,
    StepError, WorkerConfig,
};
use serde_json::{Map, Value, json};
use tracing::{
    Dispatch, Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::DefaultGuard,
};

use crate::cloud::{Cloud, Do, Fault, Thing, UndoIt};

/// Keeps spans and events as JSON, as a host's formatter would write them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Kept>);

#[derive(Debug, Default)]
struct Kept {
    next: AtomicU64,
    spans: Mutex<BTreeMap<u64, Value>>,
    entered: Mutex<Vec<u64>>,
    events: Mutex<Vec<Value>>,
}

#[derive(Default)]
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Log {
    /// Writes down what this thread tells until the guard is dropped.
    ///
    /// While a process has one subscriber alone, whoever comes first to a place decides for all
    /// whether that place is listened to, and other tests listen to nothing. A second one, kept for
    /// as long as the process lives, makes every place ask each of them.
    pub(crate) fn listen(&self) -> DefaultGuard {
        static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(Log::default()));
        LazyLock::force(&SECOND);
        tracing::subscriber::set_default(self.clone())
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("provision_core")
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let id = self.0.next.fetch_add(1, Ordering::SeqCst) + 1;
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let parent = match attributes.parent() {
            Some(parent) => Some(parent.into_u64()),
            None if attributes.is_root() => None,
            None => self.0.entered.lock().unwrap().last().copied(),
        };
        fields.0.insert("name".into(), attributes.metadata().name().into());
        fields.0.insert("parent".into(), json!(parent));
        self.0.spans.lock().unwrap().insert(id, fields.0.into());
        span::Id::from_u64(id)
    }

    fn record(&self, span: &span::Id, values: &span::Record<'_>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        let mut spans = self.0.spans.lock().unwrap();
        let kept = spans.get_mut(&span.into_u64()).unwrap().as_object_mut().unwrap();
        kept.extend(fields.0);
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let span = self.0.entered.lock().unwrap().last().copied();
        fields.0.insert("span".into(), json!(span));
        fields.0.insert("level".into(), event.metadata().level().as_str().into());
        self.0.events.lock().unwrap().push(fields.0.into());
    }

    fn enter(&self, span: &span::Id) {
        self.0.entered.lock().unwrap().push(span.into_u64());
    }

    fn exit(&self, span: &span::Id) {
        let mut entered = self.0.entered.lock().unwrap();
        let last = entered.iter().rposition(|id| *id == span.into_u64()).unwrap();
        entered.remove(last);
    }
}

impl Log {
    pub(crate) fn told(&self, message: &str) -> Vec<Value> {
        let events = self.0.events.lock().unwrap();
        events.iter().filter(|event| event["message"] == message).cloned().collect()
    }

    fn span(&self, id: &Value) -> Value {
        self.0.spans.lock().unwrap()[&id.as_u64().unwrap()].clone()
    }

    fn spans(&self, name: &str) -> Vec<Value> {
        let spans = self.0.spans.lock().unwrap();
        spans.values().filter(|span| span["name"] == name).cloned().collect()
    }
}

const ORDER: SagaId<String, String> = SagaId::new("order", 1);

fn saga(cloud: &Cloud) -> Saga<String, String> {
    Saga::define(ORDER, |s| {
        let b = s.resource("b", Thing::new(cloud)).input((), |c, ()| c.clone());
        s.step("c", Do(cloud.clone()), UndoIt(cloud.clone())).input(b, |c, _| format!("c {c}"))
    })
    .unwrap()
}

// covers: R3-42, R5-39
#[tokio::test(start_paused = true)]
async fn every_failed_attempt_is_one_line_with_run_step_attempt_and_the_callers_fields() {
    let log = Log::default();
    let _guard = log.listen();
    let cloud = Cloud::default();
    let engine = Engine::builder(MemoryStore::new()).register(saga(&cloud)).build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let faults = [Fault::Before, Fault::Refuse, Fault::After, Fault::Throttle, Fault::Panic];
    for number in 0..20 {
        let (name, fault) = (format!("n{number}"), faults[number % 5]);
        let step = if number < 10 { "b" } else { "c" };
        let call = if number < 10 { format!("create {name}") } else { format!("do c {name}") };
        cloud.fault(&call, &[fault]);
        let start = engine.start(ORDER, &name).context("order", number.to_string());
        let run = start.tenant("acme").await.unwrap();
        run.outcome().await.unwrap();
        let lines = log.told("an attempt failed");
        assert_eq!(lines.len(), number + 1, "one line per failed attempt");
        let line = lines.last().unwrap();
        let id = run.id().to_string();
        assert_eq!((&line["run"], &line["saga"]), (&json!(id), &json!("order")));
        assert_eq!((&line["step"], &line["attempt"]), (&json!(step), &json!(1)));
        assert_eq!(line["tenant"], "acme");
        let context: Value = serde_json::from_str(line["context"].as_str().unwrap()).unwrap();
        assert_eq!(context, json!({ "order": number.to_string() }));
        let (code, effect, level) = match fault {
            Fault::Before => ("retry", "None", "WARN"),
            Fault::Refuse => ("no", "None", "ERROR"),
            Fault::After => ("retry", "Unknown", "WARN"),
            Fault::Told => ("retry", "Applied", "WARN"),
            Fault::Throttle => ("throttled", "None", "INFO"),
            Fault::Panic | Fault::Hang => ("panic", "Unknown", "WARN"),
        };
        assert_eq!((&line["code"], &line["effect"]), (&json!(code), &json!(effect)), "{line}");
        assert_eq!(line["level"], level);
        let span = log.span(&line["span"]);
        assert_eq!((&span["name"], &span["run"]), (&json!("attempt"), &json!(id)));
        assert_eq!((&span["step"], &span["number"]), (&json!(step), &json!(1)));
    }
    worker.stop().await;
}

/// Fails with a cause that must stay inside.
struct Leaky;

impl Step for Leaky {
    const KIND: &'static str = "test.leaky";
    type Input = String;
    type Output = String;

    async fn run(&self, cx: &StepContext, _: String) -> Result<String, StepError> {
        cx.call(&Call::mutate("send"), async {
            Err(std::io::Error::other("password hunter2")).or_permanent("send")
        })
        .await
    }
}

// covers: R3-42, X1
#[tokio::test(start_paused = true)]
async fn no_line_and_no_span_holds_the_cause_of_a_failure() {
    let log = Log::default();
    let _guard = log.listen();
    let saga =
        Saga::define(ORDER, |s| s.step("a", Leaky, NothingToUndo).input((), |c, ()| c.clone()));
    let engine = Engine::builder(MemoryStore::new()).register(saga.unwrap()).build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(ORDER, &"x".into()).await.unwrap();
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(Some(_))));
    worker.stop().await;
    assert_eq!(log.told("an attempt failed").len(), 1);
    assert!(!format!("{:?}", log.0).contains("hunter2"));
}

// covers: R5-41
#[tokio::test(start_paused = true)]
async fn every_call_has_a_span_inside_the_span_of_its_attempt() {
    let log = Log::default();
    let _guard = log.listen();
    let cloud = Cloud::default();
    cloud.fault("do c x", &[Fault::After]);
    let engine = Engine::builder(MemoryStore::new()).register(saga(&cloud)).build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(ORDER, &"x".into()).await.unwrap();
    run.output().await.unwrap();
    worker.stop().await;
    let (calls, attempts) = (log.spans("call"), log.spans("attempt"));
    assert_eq!(calls.len(), cloud.asked().len());
    let ended: Vec<_> = calls.iter().map(|call| call["outcome"].as_str().unwrap()).collect();
    assert_eq!(ended.iter().filter(|end| **end == "unknown").count(), 1);
    assert_eq!(ended.iter().filter(|end| **end == "ok").count(), ended.len() - 1);
    for call in &calls {
        assert!(call["operation"].as_str().is_some_and(|operation| !operation.is_empty()));
        assert_eq!(log.span(&call["parent"])["name"], "attempt");
    }
    assert!(attempts.iter().all(|attempt| attempt["parent"].is_null()), "{attempts:?}");
    assert_eq!(attempts.len(), 3, "b once, c twice");
}
