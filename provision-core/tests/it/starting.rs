//! What a start refuses, what it keeps, and what a host may change while workers run.

use std::time::Duration;

use provision_core::{
    Engine, ErrorKind, MemoryStore, NothingToUndo, Outcome, Payload, Policy, RunStatus, Saga,
    SagaId, SignalId, Step, StepContext, StepError, WorkerConfig, limit::Rate, retry::Overrides,
    store::RunFilter,
};

use crate::cloud::{Cloud, Do, Fault, Thing, UndoIt};

const ORDER: SagaId<String, String> = SagaId::new("order", 1);
const SHOP: SagaId<String, String> = SagaId::new("shop", 1);

/// Takes names that are not empty and have no spaces; makes one thing.
fn order(cloud: &Cloud) -> Saga<String, String> {
    Saga::define(ORDER, |s| {
        s.validate(|name: &String| if name.is_empty() { Err("no name") } else { Ok(()) });
        s.validate(|name: &String| match name.find(' ') {
            Some(at) => Err(format!("a space at {at}")),
            None => Ok(()),
        });
        s.resource("b", Thing::new(cloud)).retry(Policy::attempts(4)).input((), |c, ()| c.clone())
    })
    .unwrap()
}

async fn stored(engine: &Engine) -> usize {
    engine.runs(&RunFilter::default()).await.unwrap().runs.len()
}

// covers: R3-08
#[tokio::test(start_paused = true)]
async fn an_input_that_a_check_objects_to_is_refused_and_nothing_is_stored() {
    let cloud = Cloud::default();
    let engine = Engine::builder(MemoryStore::new()).register(order(&cloud)).build().await.unwrap();
    for (name, objection) in [("", "no name"), ("a b", "a space at 1")] {
        let refused = engine.start(ORDER, &name.to_owned()).key("k").await.unwrap_err();
        assert_eq!((refused.kind(), refused.code()), (ErrorKind::Invalid, "invalid_input"));
        assert_eq!(refused.context(), Some(objection));
        let planned = engine.plan(ORDER, &name.to_owned()).await.unwrap_err();
        assert_eq!((planned.code(), planned.context()), ("invalid_input", Some(objection)));
    }
    assert_eq!(stored(&engine).await, 0);
    assert!(cloud.asked().is_empty(), "{:?}", cloud.asked());
    let run = engine.start(ORDER, &"ab".to_owned()).key("k").await.unwrap();
    assert!(run.is_new(), "the key is free");
}

// covers: R3-08, S2
#[tokio::test(start_paused = true)]
async fn what_was_started_once_is_answered_also_under_a_stricter_check() {
    let store = MemoryStore::new();
    let lax = Saga::define(ORDER, |s| s.value("v").input((), |c: &String, ()| c.clone())).unwrap();
    let strict = Saga::define(ORDER, |s| {
        s.validate(|_: &String| Err::<(), _>("closed"));
        s.value("v").input((), |c: &String, ()| c.clone())
    });
    let engine = Engine::builder(store.clone()).register(lax).build().await.unwrap();
    let run = engine.start(ORDER, &"x".to_owned()).key("k").await.unwrap();
    let engine = Engine::builder(store).register(strict.unwrap()).build().await.unwrap();
    let again = engine.start(ORDER, &"x".to_owned()).key("k").await.unwrap();
    assert_eq!((again.id(), again.is_new()), (run.id(), false));
    assert_eq!(
        engine.start(ORDER, &"y".to_owned()).key("k").await.unwrap_err().code(),
        "invalid_input"
    );
}

// covers: R3-08
#[tokio::test(start_paused = true)]
async fn a_sub_saga_whose_input_is_refused_fails_without_an_effect() {
    let cloud = Cloud::default();
    let child = order(&cloud);
    let parent =
        Saga::define(SHOP, |s| s.saga("order", &child).input((), |c: &String, ()| c.clone()));
    let builder = Engine::builder(MemoryStore::new()).register(child.clone());
    let engine = builder.register(parent.unwrap()).build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(SHOP, &"a b".to_owned()).await.unwrap();
    let Outcome::RolledBack(Some(failure)) = run.outcome().await.unwrap() else { panic!() };
    assert_eq!((&*failure.path, &*failure.code), ("order", "invalid_input"));
    assert_eq!(failure.message.as_deref(), Some("a space at 1"));
    assert_eq!(stored(&engine).await, 1, "no run of the child");
    worker.stop().await;
}

#[test]
fn the_input_of_an_item_cannot_be_checked_before_a_start() {
    let wrong = Saga::define(SagaId::<Vec<u32>, Vec<u32>>::new("items", 1), |s| {
        s.each("each", (), |list, ()| list.clone()).body(|item| {
            item.validate(|_| Err::<(), _>("never"));
            item.value("one").input((), |n, ()| *n)
        })
    });
    assert!(wrong.unwrap_err().to_string().contains("`each`"));
}

// covers: S25, R3-57
#[tokio::test(start_paused = true)]
async fn what_is_computed_listed_or_joined_is_bounded_like_every_value() {
    const LARGE: SagaId<usize, Vec<String>> = SagaId::new("large", 1);
    let text = |bytes: usize| "x".repeat(bytes);
    let half = Payload::MAX_BYTES / 2;
    let sagas = [
        ("value", Saga::define(LARGE, |s| s.value("value").input((), move |n, ()| vec![text(*n)]))),
        ("step", {
            Saga::define(LARGE, |s| {
                let step = s.step("step", Length, NothingToUndo).input((), move |n, ()| text(*n));
                s.value("length").input(step, |_, n| vec![n.to_string()])
            })
        }),
        ("each", {
            Saga::define(LARGE, |s| {
                s.each("each", (), move |n, ()| vec![text(n / 2); 2])
                    .body(|item| item.value("length").input((), |text, ()| text.len().to_string()))
            })
        }),
        ("copies", {
            Saga::define(LARGE, |s| {
                s.each("copies", (), |n, ()| vec![n / 2; 2])
                    .body(|item| item.value("copy").input((), move |n, ()| text(*n)))
            })
        }),
        ("both", {
            Saga::define(LARGE, |s| {
                let mut member =
                    |path: &str| s.value(path).optional().input((), move |n, ()| text(n / 2));
                let members = vec![member("one"), member("two")];
                s.at_least("both", 1, members)
            })
        }),
    ];
    for (path, saga) in sagas {
        let saga = saga.unwrap();
        let engine = Engine::builder(MemoryStore::new()).register(saga).build().await.unwrap();
        let worker = engine.spawn_worker(WorkerConfig::default());
        let run = engine.start(LARGE, &(2 * half)).await.unwrap();
        let outcome = run.outcome().await.unwrap();
        let Outcome::RolledBack(Some(failure)) = outcome else { panic!("{path}: {outcome:?}") };
        assert_eq!((&*failure.path, &*failure.code), (path, "value_too_large"));
        assert!(failure.hint.unwrap().contains("a reference"));
        // What is a little smaller passes.
        let run = engine.start(LARGE, &(2 * half - 100)).await.unwrap();
        run.output().await.unwrap();
        worker.stop().await;
    }
}

/// Counts the letters.
struct Length;

impl Step for Length {
    const KIND: &'static str = "test.length";
    type Input = String;
    type Output = usize;

    async fn run(&self, _: &StepContext, text: String) -> Result<usize, StepError> {
        Ok(text.len())
    }
}

/// Gives back as many bytes as it is asked for.
struct Blob;

impl Step for Blob {
    const KIND: &'static str = "test.blob";
    type Input = usize;
    type Output = String;

    async fn run(&self, _: &StepContext, bytes: usize) -> Result<String, StepError> {
        Ok("b".repeat(bytes))
    }
}

// covers: R3-57
#[tokio::test(start_paused = true)]
async fn a_blob_does_not_travel_through_the_state_and_a_reference_does() {
    const BLOB: SagaId<usize, usize> = SagaId::new("blob", 1);
    const GO: SignalId<String> = SignalId::new("go");
    let saga = Saga::define(BLOB, |s| {
        let blob = s.step("blob", Blob, NothingToUndo).input((), |n, ()| *n);
        s.value("length").input(blob, |_, blob| blob.len())
    });
    let engine = Engine::builder(MemoryStore::new()).register(saga.unwrap()).build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(BLOB, &50_000_000).await.unwrap();
    let Outcome::Parked(failure, _) = run.outcome().await.unwrap() else { panic!() };
    assert_eq!((&*failure.path, &*failure.code), ("blob", "output_too_large"));
    assert_eq!(failure.message.as_deref(), Some("50000002 bytes, at most 1048576"));
    assert!(failure.hint.unwrap().contains("a reference"));

    let large = "x".repeat(Payload::MAX_BYTES);
    let refused = engine.signal(run.id(), GO, &large).await.unwrap_err();
    assert_eq!((refused.kind(), refused.code()), (ErrorKind::Limit, "signal_too_large"));
    let refused =
        provision_core::Resolution::succeeded("blob", &large).expect_err("as large as before");
    assert_eq!(refused.code(), "output_too_large");
    let reference = provision_core::Resolution::succeeded("blob", &"s3://b/1".to_owned()).unwrap();
    engine.resolve(run.id(), reference, provision_core::By::new("ann", "stored")).await.unwrap();
    provision_core::clock::sleep(Duration::from_secs(5)).await;
    assert_eq!(run.output().await.unwrap(), 8);
    worker.stop().await;
}

// covers: R3-57
#[tokio::test(start_paused = true)]
async fn an_id_as_long_as_an_answer_is_not_journaled() {
    let cloud = Cloud::default();
    let engine = Engine::builder(MemoryStore::new()).register(order(&cloud)).build().await.unwrap();
    cloud.long_ids();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(ORDER, &"x".to_owned()).await.unwrap();
    let Outcome::Parked(failure, _) = run.outcome().await.unwrap() else { panic!() };
    assert_eq!(failure.code, "id_too_large");
    worker.stop().await;
}

// covers: R5-68
#[tokio::test(start_paused = true)]
async fn every_run_keeps_the_version_of_the_program_that_started_it() {
    let cloud = Cloud::default();
    let store = MemoryStore::new();
    let child = order(&cloud);
    for version in ["1.4.0", "1.5.0"] {
        let parent =
            Saga::define(SHOP, |s| s.saga("order", &child).input((), |c: &String, ()| c.clone()));
        let builder = Engine::builder(store.clone()).app_version(version);
        let builder = builder.register(child.clone()).register(parent.unwrap());
        let engine = builder.build().await.unwrap();
        let worker = engine.spawn_worker(WorkerConfig::default());
        let run = engine.start(SHOP, &format!("x-{version}")).await.unwrap();
        run.output().await.unwrap();
        let runs = engine.runs(&RunFilter::default()).await.unwrap().runs;
        let of_this = runs.iter().filter(|run| run.context["app_version"] == version);
        assert_eq!(of_this.count(), 2, "the run and its child: {runs:?}");
        worker.stop().await;
    }
}

// covers: R4-31
#[tokio::test(start_paused = true)]
async fn one_start_too_many_is_told_when_to_come_back_and_nothing_is_stored() {
    let cloud = Cloud::default();
    let rate = Rate { calls: 60, per: Duration::from_secs(60), burst: 3 };
    let builder = Engine::builder(MemoryStore::new()).register(order(&cloud)).start_limit(rate);
    let engine = builder.build().await.unwrap();
    let start = |name: &str| engine.start(ORDER, &name.to_owned()).tenant("acme").key(name);
    for name in ["a", "b", "c"] {
        start(name).await.unwrap();
    }
    let refused = start("d").await.unwrap_err();
    assert_eq!((refused.kind(), refused.code()), (ErrorKind::Limit, "too_many_starts"));
    let wait = refused.retry_after().unwrap();
    assert!(Duration::ZERO < wait && wait <= Duration::from_secs(1), "{wait:?}");
    assert_eq!(stored(&engine).await, 3);
    assert!(!start("a").await.unwrap().is_new(), "a known key is not a new start");
    engine.start(ORDER, &"other".to_owned()).tenant("beta").await.unwrap();
    provision_core::clock::sleep(wait).await;
    assert!(start("d").await.unwrap().is_new());
}

// covers: S2
#[tokio::test(start_paused = true)]
async fn a_refused_start_is_not_answered_with_the_run_of_another_saga() {
    let cloud = Cloud::default();
    let rate = Rate { calls: 1, per: Duration::from_secs(60), burst: 1 };
    let other = Saga::define(SHOP, |s| {
        s.resource("b", Thing::new(&cloud)).input((), |c: &String, ()| c.clone())
    });
    let builder = Engine::builder(MemoryStore::new()).register(order(&cloud)).start_limit(rate);
    let engine = builder.register(other.unwrap()).build().await.unwrap();
    let (name, key) = ("a".to_owned(), "k");
    engine.start(ORDER, &name).tenant("acme").key(key).await.unwrap();
    let refused = engine.start(SHOP, &name).tenant("acme").key(key).await.unwrap_err();
    assert_eq!(refused.code(), "too_many_starts");
}

// covers: R3-30, R1-87
#[tokio::test(start_paused = true)]
async fn retry_counts_are_configuration_that_changes_while_workers_run() {
    let cloud = Cloud::default();
    let twice = Overrides::new().with_step("order", "b", Policy::attempts(2));
    let builder = Engine::builder(MemoryStore::new()).register(order(&cloud));
    let engine = builder.retry_overrides(twice).build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let attempts = async |name: &str| {
        cloud.fault(&format!("create {name}"), &[Fault::Before; 20]);
        let run = engine.start(ORDER, &name.to_owned()).await.unwrap();
        assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(_)));
        engine.failures(run.id()).await.unwrap().len()
    };
    assert_eq!(attempts("a").await, 2);
    engine.set_retry_overrides(Overrides::new()).unwrap();
    assert_eq!(attempts("b").await, 4, "the saga's own");
    let by_code = Overrides::new().with_code(Some("order"), "retry", Policy::attempts(7));
    engine.set_retry_overrides(by_code).unwrap();
    assert_eq!(attempts("c").await, 7);
    let bad = Overrides::new().with_saga("order", Policy::attempts(0));
    assert_eq!(engine.set_retry_overrides(bad.clone()).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(attempts("d").await, 7, "what was refused changed nothing");
    worker.stop().await;
    let builder = Engine::builder(MemoryStore::new()).retry_overrides(bad);
    assert_eq!(builder.build().await.unwrap_err().kind(), ErrorKind::Invalid);
}

// covers: R3-30
#[tokio::test(start_paused = true)]
async fn an_override_never_makes_an_undo_give_up_earlier() {
    let cloud = Cloud::default();
    cloud.fault("do c", &[Fault::Refuse]);
    cloud.fault("delete x", &[Fault::Before; 3]);
    let saga = Saga::define(ORDER, |s| {
        let b = s.resource("b", Thing::new(&cloud)).input((), |c: &String, ()| c.clone());
        s.step("c", Do(cloud.clone()), UndoIt(cloud.clone())).input(b, |_, _| "c".to_owned())
    });
    let once = Overrides::new().with_saga("order", Policy::once());
    let builder = Engine::builder(MemoryStore::new()).register(saga.unwrap());
    let engine = builder.retry_overrides(once).build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(ORDER, &"x".to_owned()).await.unwrap();
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(_)));
    assert_eq!(engine.run(run.id()).await.unwrap().status, RunStatus::RolledBack);
    assert!(cloud.names().is_empty());
    worker.stop().await;
}
