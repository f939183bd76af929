//! The search for secrets where people or disks can read them: logs at their most talkative, metrics,
//! errors, events, journal, ledger. Tokens, values of the host, what a provider draws, and what is
//! drawn for it are all looked for, in each form in which a secret usually escapes.

use std::{
    collections::BTreeSet,
    fmt::Debug,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use provision_core::store::{RunFilter, StateStore as _};
use provision_testkit::harness::encodings;
use serde_json::Value;
use tracing_subscriber::fmt::MakeWriter;

use crate::{
    engine::{Scene, Stage},
    scenes::{TOKEN, VALUE},
};

/// Fields of requests and answers whose values are secrets, where they are long enough to be one.
const SECRET_FIELDS: [&str; 7] = [
    "db_pass",
    "api_key",
    "password",
    "secret",
    "temp_clone_token",
    "access_token",
    "root_password",
];
/// What secrets of a provider begin with, in whatever field.
const SECRET_PREFIXES: [&str; 1] = ["tskey-"];
/// Shorter values would be found by chance.
const SECRET_BYTES_MIN: usize = 12;

/// Everything that is logged on one thread.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    fn add(&self, key: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(format!("{key}\n").bytes());
    }

    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Writes down every name and label under which something is counted.
impl Recorder for Log {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.add(key);
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.add(key);
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.add(key);
        Histogram::noop()
    }
}

/// What one thread has shown.
#[derive(Debug)]
pub(crate) struct Shown {
    log: String,
    metrics: String,
}

impl Shown {
    fn has(&self, form: &str) -> bool {
        self.log.contains(form) || self.metrics.contains(form)
    }
}

/// Runs it with every event, span and metric of this thread written down.
pub(crate) fn shown<T>(work: impl FnOnce() -> T) -> (T, Shown) {
    let (log, meters) = (Log::default(), Log::default());
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_writer(log.clone())
        .with_ansi(false)
        .finish();
    let counted = || metrics::with_local_recorder(&meters, work);
    let done = tracing::subscriber::with_default(subscriber, counted);
    (done, Shown { log: log.text(), metrics: meters.text() })
}

/// Everything a person or a disk can have of the runs of a stage.
pub(crate) async fn texts<S: Scene>(stage: &Stage<S>) -> Vec<(&'static str, String)> {
    let mut texts = Vec::new();
    let mut add = |place, thing: &dyn Debug| texts.push((place, format!("{thing:?}")));
    let runs = stage.store.list(&RunFilter::default()).await.unwrap().runs;
    let ids: Vec<_> = runs.iter().map(|run| run.id).collect();
    add("the dead letters", &stage.engine.dead_letters().await.unwrap());
    add("the ledger", &stage.engine.ledger(&provision_core::LedgerQuery::default()).await.unwrap());
    for record in stage.store.load(&ids).await.unwrap().into_iter().flatten() {
        let id = record.head.id;
        add("the row of a run", &record.head);
        add("a snapshot", &stage.engine.snapshot(&id).await.unwrap());
        add("the failures", &stage.engine.failures(&id).await.unwrap());
        for frame in &record.frames {
            add("the journal", &frame.body.to_string());
        }
        let mut events = stage.engine.watch(&id, 0);
        while let Ok(Some(event)) = events.next().await {
            add("an event", &event);
        }
    }
    texts
}

/// The secrets that went over the wire, either way, besides those of the host.
pub(crate) fn drawn<S: Scene>(stage: &Stage<S>) -> BTreeSet<String> {
    let mut secrets = BTreeSet::new();
    for exchange in stage.server.exchanges() {
        for body in [&exchange.request.body, &exchange.response.body] {
            if let Ok(value) = serde_json::from_slice::<Value>(body) {
                collect(&value, false, &mut secrets);
            }
        }
    }
    secrets
}

fn collect(value: &Value, secret: bool, into: &mut BTreeSet<String>) {
    match value {
        Value::String(text)
            if (secret || SECRET_PREFIXES.iter().any(|prefix| text.starts_with(prefix)))
                && text.len() >= SECRET_BYTES_MIN =>
        {
            into.insert(text.clone());
        }
        Value::Array(all) => all.iter().for_each(|one| collect(one, secret, into)),
        Value::Object(fields) => {
            // n8n: what a credential holds. Its metadata is in the object around it.
            let credential = fields.contains_key("type") && fields.contains_key("data");
            for (name, value) in fields {
                let named = SECRET_FIELDS.contains(&name.as_str());
                let held = credential && name == "data";
                collect(value, secret || named || held, into);
            }
        }
        _ => {}
    }
}

/// Panics if anything shows one of these secrets, or one of the host's.
pub(crate) fn assert_nothing_shows(
    name: &str,
    secrets: &BTreeSet<String>,
    (seen, texts): (&Shown, &[(&'static str, String)]),
) {
    assert!(["TRACE", "DEBUG", "INFO"].iter().any(|level| seen.log.contains(level)), "{name}");
    assert!(seen.metrics.contains("http.request.latency"), "{name}: {}", seen.metrics);
    let hosts = [TOKEN.to_owned(), VALUE.to_owned()];
    for secret in secrets.iter().chain(&hosts) {
        for form in encodings(secret) {
            assert!(!seen.has(&form), "{name}: the log or a metric shows {form}");
            for (place, text) in texts {
                assert!(!text.contains(&form), "{name}: {place} shows {form}");
            }
        }
    }
}

/// The search finds what is there to find, in each of its forms.
// covers: X1, R1-61
#[test]
fn what_is_planted_is_found() {
    for form in encodings(TOKEN) {
        let word = format!("x{form}y");
        let ((), seen) = shown(|| tracing::trace!(%word, "planted"));
        assert!(seen.has(&form), "{form} is overlooked in the log");
        let ((), seen) = shown(|| metrics::counter!("planted", "word" => word).increment(1));
        assert!(seen.has(&form), "{form} is overlooked in a label");
    }
}
