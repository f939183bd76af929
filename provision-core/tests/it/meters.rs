//! What a host's recorder is told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use provision_core::{
    Engine, MemoryStore, Outcome, Saga, SagaId, Secret, Timestamp, WorkerConfig, metric,
    schedule::Schedule,
    vault::{LocalKeys, MemoryAudit, TokenName, TokenVault, Vault},
};

use crate::cloud::{Cloud, Do, Fault, Thing, UndoIt};

/// Adds up everything by name and labels; counts the values of histograms.
#[derive(Debug, Clone, Default)]
struct Sheet(Arc<Mutex<BTreeMap<String, f64>>>);

struct Cell(Sheet, String);

impl Cell {
    fn of(sheet: &Sheet, key: &Key) -> Arc<Self> {
        let mut labels: Vec<_> =
            key.labels().map(|l| format!(" {}={}", l.key(), l.value())).collect();
        labels.sort();
        Arc::new(Self(sheet.clone(), key.name().to_owned() + &labels.concat()))
    }

    fn change(&self, change: impl Fn(&mut f64)) {
        change(self.0.0.lock().unwrap().entry(self.1.clone()).or_default());
    }
}

impl CounterFn for Cell {
    fn increment(&self, by: u64) {
        self.change(|v| *v += f64::from(u32::try_from(by).unwrap()));
    }

    fn absolute(&self, to: u64) {
        self.change(|v| *v = f64::from(u32::try_from(to).unwrap()));
    }
}

impl GaugeFn for Cell {
    fn increment(&self, by: f64) {
        self.change(|v| *v += by);
    }

    fn decrement(&self, by: f64) {
        self.change(|v| *v -= by);
    }

    fn set(&self, to: f64) {
        self.change(|v| *v = to);
    }
}

impl HistogramFn for Cell {
    fn record(&self, value: f64) {
        assert!((0.0..86_400.0).contains(&value), "{} {value}", self.1);
        self.change(|v| *v += 1.0);
    }
}

impl Recorder for Sheet {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Cell::of(self, key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Cell::of(self, key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Cell::of(self, key))
    }
}

impl Sheet {
    /// Runs on this thread alone, where the recorder is.
    fn during(&self, work: impl Future<Output = ()>) -> BTreeMap<String, f64> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        metrics::with_local_recorder(self, || runtime.block_on(work));
        self.0.lock().unwrap().clone()
    }
}

const ORDER: SagaId<String, String> = SagaId::new("order", 1);

fn saga(cloud: &Cloud) -> Saga<String, String> {
    Saga::define(ORDER, |s| {
        let cloud = cloud.clone();
        let b = s.resource("b", Thing::new(&cloud)).input((), |c, ()| c.clone());
        let each = s.each("each", b, |c, _| vec![c.clone()]).body(|item| {
            item.step("c", Do(cloud.clone()), UndoIt(cloud.clone())).input((), |c, ()| c.clone())
        });
        s.value("all").input(each, |_, each| each.concat())
    })
    .unwrap()
}

// covers: R4-30, R5-40, R3-35
#[test]
fn latencies_error_rates_queues_and_dead_letters_reach_the_hosts_recorder() {
    let sheet = Sheet::default();
    let seen = sheet.during(async {
        let cloud = Cloud::default();
        cloud.fault("create n-good", &[Fault::Before, Fault::After]);
        cloud.fault("do n-bad", &[Fault::Refuse]);
        cloud.fault("do n-stuck", &[Fault::Refuse]);
        cloud.fault("delete n-stuck", &[Fault::Refuse]);
        let engine =
            Engine::builder(MemoryStore::new()).register(saga(&cloud)).build().await.unwrap();
        let config = WorkerConfig::default().with_maintenance(Duration::from_secs(20));
        let worker = engine.spawn_worker(config);
        for name in ["n-good", "n-bad", "n-stuck"] {
            let run = engine.start(ORDER, &name.to_owned()).await.unwrap();
            let outcome = run.outcome().await.unwrap();
            match name {
                "n-good" => assert!(matches!(outcome, Outcome::Succeeded(_))),
                "n-bad" => assert!(matches!(outcome, Outcome::RolledBack(_))),
                _ => assert!(matches!(outcome, Outcome::Parked(..))),
            }
        }
        worker.stop().await;
        // Nobody serves what comes now; another worker's maintenance sees it waiting.
        let idle = WorkerConfig::default().with_queues(["other"]);
        let worker = engine.spawn_worker(idle.with_maintenance(Duration::from_secs(20)));
        engine.start(ORDER, &"n-late".to_owned()).await.unwrap();
        provision_core::clock::sleep(Duration::from_secs(30)).await;
        worker.stop().await;
    });
    let expected = [
        ("run.ended outcome=Succeeded saga=order", 1.0),
        ("run.ended outcome=RolledBack saga=order", 1.0),
        ("run.ended outcome=Parked saga=order", 1.0),
        ("run.dead_letters saga=order", 2.0),
        ("step.retries outcome=retry saga=order step=b", 1.0),
        ("step.retries outcome=unknown saga=order step=b", 1.0),
        ("operation.latency outcome=retry saga=order step=b", 1.0),
        ("operation.latency outcome=permanent saga=order step=each[]/c", 2.0),
        ("queue.jobs_waiting", 1.0),
    ];
    for (name, value) in expected {
        assert_eq!(seen.get(name), Some(&value), "{name} in {seen:#?}");
    }
    assert!(seen["queue.latency queue=default"] >= 3.0, "{seen:#?}");
    let sum = |prefix: &str| -> f64 {
        seen.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, value)| value).sum()
    };
    let calls = sum("api.error_rate");
    assert!(calls > 5.0 && sum("http.request.latency") == calls, "{seen:#?}");
    assert!(sum("api.error_rate outcome=unknown provider=cloud") == 1.0, "{seen:#?}");
    assert!(sum("store.latency") > 3.0);
    let names = seen.keys().filter_map(|name| name.split(' ').next());
    assert!(names.clone().all(|name| metric::ALL.contains(&name)), "{seen:#?}");
    for identity in ["n-", "[0]"] {
        assert!(!seen.keys().any(|name| name.contains(identity)), "{seen:#?}");
    }
}

// covers: R5-40, R5-45, R5-46
#[test]
fn take_overs_and_values_that_expire_soon_reach_the_hosts_recorder() {
    let sheet = Sheet::default();
    let seen = sheet.during(async {
        let cloud = Cloud::default();
        cloud.fault("create x", &[Fault::Hang]);
        let store = MemoryStore::new();
        let engine = Engine::builder(store.clone()).register(saga(&cloud)).build().await.unwrap();
        let first = engine.spawn_worker(WorkerConfig::default());
        let run = engine.start(ORDER, &"x".to_owned()).await.unwrap();
        provision_core::clock::sleep(Duration::from_secs(1)).await;
        first.kill();
        let second = engine.spawn_worker(WorkerConfig::default());
        run.output().await.unwrap();
        second.stop().await;

        let keys = Vault::new(Arc::new(LocalKeys::new("test", [7; 32]).unwrap()));
        let tokens = TokenVault::new("", Arc::new(store), keys, Arc::new(MemoryAudit::new()));
        for (name, expires) in [("old", Some(Timestamp::ZERO)), ("lasting", None)] {
            let name = TokenName::new("acme", "mail", name).unwrap();
            tokens.put(&name, &Secret::new("v"), expires).await.unwrap();
        }
        assert_eq!(tokens.expiring_within(Duration::from_secs(60)).await.unwrap().len(), 1);
    });
    assert_eq!(seen.get("lease.taken_over"), Some(&1.0), "{seen:#?}");
    assert_eq!(seen.get("token.expiring_soon"), Some(&1.0), "{seen:#?}");
}

// covers: S21
#[test]
fn panics_of_steps_and_of_schedules_are_counted() {
    let sheet = Sheet::default();
    let seen = sheet.during(async {
        let cloud = Cloud::default();
        cloud.fault("do x", &[Fault::Panic]);
        let hourly = Schedule::every("hourly", Duration::from_secs(3_600)).unwrap();
        let builder = Engine::builder(MemoryStore::new()).register(saga(&cloud));
        let builder = builder.schedule(hourly, ORDER, |_| panic!("as planned"));
        let engine = builder.build().await.unwrap();
        let run = engine.start(ORDER, &"x".to_owned()).await.unwrap();
        assert!(engine.fire_schedules(None).await.is_err());
        let worker = engine.spawn_worker(WorkerConfig::default().with_queues(["other"]));
        provision_core::clock::sleep(Duration::from_millis(500)).await;
        worker.stop().await;
        while engine.run_one().await.unwrap().is_none_or(|one| one != *run.id()) {}
    });
    assert_eq!(seen.get("code.panics operation=run the step"), Some(&1.0), "{seen:#?}");
    assert_eq!(seen.get("code.panics operation=start a scheduled run"), Some(&2.0), "{seen:#?}");
}
