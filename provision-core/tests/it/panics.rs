//! Panics of other people's code outside of any attempt: each hurts only the call it happened in.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use provision_core::{
    Engine, MemoryStore, NothingToUndo, OwnerMark, Policy, RunStatus, Saga, SagaId, Timing,
    WorkerConfig,
    clock::sleep,
    schedule::{Misfire, Schedule},
    store::RunFilter,
};

use crate::{
    telling::Log,
    yard::{How, Pass, Plot, Yard},
};

const ONE: SagaId<String, String> = SagaId::new("one", 1);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A worker whose maintenance looks at once when it is told to.
fn config(maintain: u64) -> WorkerConfig {
    WorkerConfig::default().with_maintenance(secs(maintain))
}

/// One resource `r` that is tried once.
fn once(yard: &Yard) -> Saga<String, String> {
    Saga::define(ONE, |s| {
        let node = s.resource("r", yard.clone()).retry(Policy::once());
        node.input((), |name: &String, ()| name.clone())
    })
    .unwrap()
}

async fn fired(engine: &Engine, name: &str) -> usize {
    let prefix = Some(format!("schedule:{name}:"));
    let filter = RunFilter { key_prefix: prefix, ..RunFilter::default() };
    engine.runs(&filter).await.unwrap().runs.len()
}

// covers: S21, L3
#[tokio::test(start_paused = true)]
async fn a_schedule_whose_input_panics_stops_no_other_and_is_tried_again() {
    let log = Log::default();
    let _guard = log.listen();
    let mood = Arc::new(AtomicBool::new(false));
    let bad = Arc::clone(&mood);
    let echo = Saga::define(ONE, |s| s.value("echo").input((), |i: &String, ()| i.clone()));
    let minute = |name| Schedule::every(name, secs(60)).unwrap();
    let engine = Engine::builder(MemoryStore::new())
        .register(echo.unwrap())
        .schedule(minute("bad").with_misfire(Misfire::All), ONE, move |_| {
            assert!(!bad.load(SeqCst), "as planned");
            "bad".to_owned()
        })
        .schedule(minute("good"), ONE, |_| "good".to_owned())
        .build()
        .await
        .unwrap();
    let worker = engine.spawn_worker(config(10_000_000));
    sleep(secs(5)).await;
    mood.store(true, SeqCst);
    // One, or two where a minute of the wall clock has just begun.
    let before = fired(&engine, "bad").await;
    sleep(secs(610)).await;
    assert_eq!(fired(&engine, "bad").await, before);
    let good = fired(&engine, "good").await;
    assert!((10..=11).contains(&(good - before)), "{good} after {before}");
    let told = log.told("code of the host or of an adapter panicked");
    assert!(told.len() >= 10, "each turn tells of it: {}", told.len());
    for line in told {
        assert_eq!((&line["level"], &line["code"]), (&"ERROR".into(), &"panic".into()));
        assert_eq!(
            (&line["operation"], &line["of"]),
            (&"start a scheduled run".into(), &"bad".into())
        );
    }
    let refused = engine.fire_schedules(None).await.unwrap_err();
    assert_eq!(refused.code(), "panic");
    mood.store(false, SeqCst);
    sleep(secs(120)).await;
    assert!(fired(&engine, "bad").await >= 11, "what it missed is made up for");
    worker.stop().await;
}

/// Waits until something is so, at most so many seconds.
async fn passes(so: &(dyn Fn() -> bool + Sync), seconds: u32) {
    for _ in 0..seconds {
        if so() {
            return;
        }
        sleep(secs(1)).await;
    }
    panic!("not within {seconds} s");
}

// covers: S15, S21
#[tokio::test(start_paused = true)]
async fn a_listing_that_panics_ends_no_watch() {
    let yard = Yard::new();
    let engine = Engine::builder(MemoryStore::new()).register(once(&yard)).build().await.unwrap();
    let worker = engine.spawn_worker(config(60));
    for name in ["x", "y"] {
        yard.creates(&[How::Late]);
        let run = engine.start(ONE, &name.to_owned()).await.unwrap();
        run.outcome().await.unwrap();
        assert_eq!(engine.run(run.id()).await.unwrap().status, RunStatus::RolledBack);
        let mark = OwnerMark::new(*run.id(), "r");
        let created = provision_core::Timestamp::ZERO;
        yard.put(Plot::new(&format!("late {name}"), name, Some(mark), created));
    }
    yard.world().listings_panic = 1;
    passes(&|| yard.ids().len() == 1, 4_000).await;
    assert_eq!(yard.world().listings_panic, 0, "the other is looked at all the same");
    yard.world().deletes.push_back(How::Panic);
    passes(&|| yard.world().deletes.is_empty(), 400).await;
    assert_eq!(yard.ids().len(), 1, "its delete panicked");
    sleep(secs(700)).await;
    assert!(yard.ids().is_empty(), "{:?}", yard.log());
    worker.stop().await;
}

// covers: S21
#[tokio::test(start_paused = true)]
async fn a_sweep_a_preflight_and_a_plan_report_panics() {
    let yard = Yard::new();
    let picky = Saga::define(ONE, |s| {
        let plot = s.resource("r", yard.clone()).input((), |name: &String, ()| name.clone());
        let node = s.step("p", Pass(Arc::default()), NothingToUndo).after(plot);
        node.when(|name| !name.is_empty() || panic!("as planned"))
            .input((), |name, ()| name.clone());
        plot
    });
    let engine =
        Engine::builder(MemoryStore::new()).register(picky.unwrap()).build().await.unwrap();
    let worker = engine.spawn_worker(config(10_000_000));
    let run = engine.start(ONE, &"x".to_owned()).await.unwrap();
    assert_eq!(run.output().await.unwrap(), "t1");
    yard.land("stray", run.id());

    yard.world().listings_panic = 1;
    let report = engine.sweep(true).await.unwrap();
    assert_eq!((report.failures[0].code.as_str(), report.failures.len()), ("panic", 1));
    yard.world().deletes.push_back(How::Panic);
    let report = engine.sweep(true).await.unwrap();
    assert_eq!((report.strays.len(), report.strays[0].deleted), (1, false));
    // It is known as being removed, and the watch goes on with it.
    sleep(secs(301)).await;
    assert_eq!(engine.watch_ledger(20).await.unwrap(), 1);
    assert_eq!((engine.sweep(true).await.unwrap().strays, yard.ids()), (vec![], vec!["t1".into()]));

    yard.world().listings_panic = 1;
    let preflight = engine.preflight(ONE).await.unwrap();
    assert_eq!(preflight.checks[0].1.as_ref().map(|failure| failure.code.as_str()), Some("panic"));
    let plan = engine.plan(ONE, &String::new()).await.unwrap();
    let unclear = serde_json::to_value(&plan.steps[1]).unwrap();
    assert_eq!(
        (&unclear["change"], &unclear["failure"]["code"]),
        (&"unclear".into(), &"panic".into())
    );
    worker.stop().await;
}

// covers: S21, S25
#[test]
fn times_that_cannot_be_used_are_found_when_the_saga_is_defined() {
    let never = || Timing { ready_within: Duration::ZERO, ..Timing::default() };
    let ages = || Timing { late_window: Duration::MAX, ..Timing::default() };
    for (times, said) in [
        ((|| panic!("as planned")) as fn() -> Timing, "panicked"),
        (never, "`ready_within` is zero"),
        (ages, "`late_window` is longer than 90 days"),
    ] {
        let refused = Saga::define(ONE, |s| {
            let mut yard = Yard::new();
            yard.times = times;
            s.resource("r", yard).input((), |name: &String, ()| name.clone())
        });
        let refused = refused.map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains("`r`") && refused.contains(said), "{refused}");
    }
}

// covers: S21
#[tokio::test(start_paused = true)]
async fn times_are_read_once() {
    static READ: AtomicU32 = AtomicU32::new(0);
    let times = || {
        READ.fetch_add(1, SeqCst);
        Timing::default()
    };
    let mut yard = Yard::new();
    yard.times = times;
    let engine = Engine::builder(MemoryStore::new()).register(once(&yard)).build().await.unwrap();
    let worker = engine.spawn_worker(config(60));
    yard.creates(&[How::Lost]);
    let run = engine.start(ONE, &"x".to_owned()).await.unwrap();
    run.outcome().await.unwrap();
    engine.sweep(false).await.unwrap();
    worker.stop().await;
    assert_eq!(READ.load(SeqCst), 1);
}
