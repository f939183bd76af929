//! No fault brings a secret to where people or disks can read it: logs at their most talkative,
//! metrics, errors, events, journal, ledger. Tokens, values of the host, what a provider draws, and what is
//! drawn for it are all looked for, in each form in which a secret usually escapes.

use std::{
    collections::BTreeSet,
    fmt::Debug,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use provision_adapters::sim::{Fault, FaultRule, RetryAfterForm};
use provision_core::store::{RunFilter, StateStore as _};
use provision_testkit::{harness::encodings, skips::is_long};
use serde_json::Value;
use tracing_subscriber::fmt::MakeWriter;

use crate::{
    engine::{Build, Scene, Stage, each_alone, ended, paused},
    resend_runs::OnResend,
    scenes::{OnGitHub, OnN8n, OnSupabase, OnVercel, TOKEN, VALUE},
    scenes_elevenlabs::OnElevenLabs,
    scenes_hetzner::{OnHetzner, OnMachine},
    scenes_storage::OnStorage,
    scenes_tailscale::OnTailscale,
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
struct Shown {
    log: String,
    metrics: String,
}

impl Shown {
    fn has(&self, form: &str) -> bool {
        self.log.contains(form) || self.metrics.contains(form)
    }
}

/// Runs it with every event, span and metric of this thread written down.
fn shown<T>(work: impl FnOnce() -> T) -> (T, Shown) {
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

/// Ways in which a request goes wrong, and in which the answer speaks of what was sent.
fn faults() -> Vec<Fault> {
    vec![
        Fault::RefuseBefore,
        Fault::DropAfter,
        Fault::CutBody,
        Fault::Garbage200,
        Fault::Html200,
        Fault::StatusAfter(500),
        Fault::RateLimited { retry_after: RetryAfterForm::Seconds(1) },
        Fault::TokenRevoked,
        Fault::Echo(400),
        Fault::Echo(403),
        Fault::Echo(409),
        Fault::Echo(422),
        Fault::Echo(500),
    ]
}

/// Everything a person or a disk can have of the runs of a stage.
async fn texts<S: Scene>(stage: &Stage<S>) -> Vec<(&'static str, String)> {
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
fn drawn<S: Scene>(stage: &Stage<S>) -> BTreeSet<String> {
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

struct Case<S> {
    scene: S,
    build: Build,
    nth: u64,
    fault: Option<Fault>,
}

/// Runs one case; tells how many secrets of its own it had.
fn search<S: Scene>(case: &Case<S>) -> usize {
    let name = format!("request {}, {:?}, {:?}", case.nth, case.fault, case.build);
    let ((texts, secrets), seen) = shown(|| {
        paused(async {
            let stage = Stage::set(case.scene.clone(), case.build).await;
            if let Some(fault) = case.fault.clone() {
                stage.server.faults().add(FaultRule::new(fault).nth(case.nth).once());
            }
            let run = stage.start().await;
            let parked = tokio::time::timeout(Duration::from_secs(6 * 3_600), run.outcome()).await;
            let mut texts = texts(&stage).await;
            texts.push(("the outcome", format!("{parked:?}")));
            let secrets = drawn(&stage);
            stage.close().await;
            (texts, secrets)
        })
    });
    assert!(["TRACE", "DEBUG", "INFO"].iter().any(|level| seen.log.contains(level)), "{name}");
    assert!(seen.metrics.contains("http.request.latency"), "{name}: {}", seen.metrics);
    let hosts = [TOKEN.to_owned(), VALUE.to_owned()];
    for secret in secrets.iter().chain(&hosts) {
        for form in encodings(secret) {
            assert!(!seen.has(&form), "{name}: the log or a metric shows {form}");
            for (place, text) in &texts {
                assert!(!text.contains(&form), "{name}: {place} shows {form}");
            }
        }
    }
    secrets.len()
}

/// The requests of a run that nothing disturbs: whether each of them changes anything.
fn requests<S: Scene>(scene: &S, build: Build) -> Vec<bool> {
    paused(async {
        let stage = Stage::set(scene.clone(), build).await;
        ended(&stage.start().await).await;
        let requests = stage.server.requests();
        stage.close().await;
        requests.iter().map(|request| request.method != "GET").collect()
    })
}

/// Which requests meet which faults: in the long lane all of them all. Else each request that changes
/// something meets every third fault, the next one the faults beside them, so that every fault falls on
/// requests from everywhere; and a few requests that only look meet all of them. The way back is
/// included.
fn disturbed(requests: &[bool]) -> Vec<(u64, Fault)> {
    let long = is_long();
    let every = requests.len().div_ceil(6).max(1);
    let mut all = Vec::new();
    for (at, changes) in requests.iter().enumerate() {
        for (number, fault) in faults().into_iter().enumerate() {
            let chosen = if *changes { (at + number) % 3 == 0 } else { at % every == 0 };
            if long || chosen {
                all.push((at as u64 + 1, fault));
            }
        }
    }
    all
}

fn canaries<S: Scene>(scene: &S, own: usize) {
    what_is_planted_is_found();
    let mut cases = Vec::new();
    for build in [Build::GOES_WELL, Build::FAILS_AT_THE_END] {
        for (nth, fault) in disturbed(&requests(scene, build)) {
            cases.push(Case { scene: scene.clone(), build, nth, fault: Some(fault) });
        }
    }
    let undisturbed = Case { scene: scene.clone(), build: Build::GOES_WELL, nth: 0, fault: None };
    assert!(search(&undisturbed) >= own, "the search has nothing to look for");
    each_alone(cases, |case| {
        search(case);
    });
}

/// The search finds what is there to find, in each of its forms.
fn what_is_planted_is_found() {
    for form in encodings(TOKEN) {
        let word = format!("x{form}y");
        let ((), seen) = shown(|| tracing::trace!(%word, "planted"));
        assert!(seen.has(&form), "{form} is overlooked in the log");
        let ((), seen) = shown(|| metrics::counter!("planted", "word" => word).increment(1));
        assert!(seen.has(&form), "{form} is overlooked in a label");
    }
}

// covers: X1, X2, R1-61, R1-15
#[test]
fn no_fault_on_github_shows_a_secret() {
    canaries(&OnGitHub, 0);
}

// covers: X1, X2, R1-61, R1-15
#[test]
fn no_fault_on_supabase_shows_a_secret() {
    canaries(&OnSupabase, 2);
}

// covers: X1, X2, R1-61, R1-15
#[test]
fn no_fault_on_vercel_shows_a_secret() {
    canaries(&OnVercel, 0);
}

// covers: X1, X2, R1-61, R1-15
#[test]
fn no_fault_on_n8n_shows_a_secret() {
    canaries(&OnN8n { release: provision_adapters::n8n::sim::Release::V2_8 }, 1);
}

// covers: X1, X2, R1-61, R2-10
#[test]
fn no_fault_on_tailscale_shows_a_secret() {
    canaries(&OnTailscale, 2);
}

// covers: X1, X2, R1-61, R1-15, R2-09
#[test]
fn no_fault_on_hetzner_shows_a_secret() {
    // Without a key the provider draws a password, and shows it once.
    canaries(&OnHetzner { keyed: false }, 1);
}

// covers: X1, X2, R1-61
#[test]
fn no_fault_on_a_machine_shows_a_secret() {
    // One password is drawn when it is made, and one when it is made anew.
    canaries(&OnMachine, 2);
}

// covers: X1, X2, R1-61
#[test]
fn no_fault_on_a_storage_shows_a_secret() {
    canaries(&OnStorage::new(), 0);
}

// covers: X1, X2, R1-61
#[test]
fn no_fault_on_elevenlabs_shows_a_secret() {
    canaries(&OnElevenLabs { again: Some(1), ..OnElevenLabs::default() }, 0);
}

// covers: X1, X2, R1-61
#[test]
fn no_fault_on_resend_shows_a_secret() {
    canaries(&OnResend::default(), 0);
}
