//! A store that is away, or silent, at any call of a run: never a failure of a step.

use std::{sync::Arc, time::Duration};

use provision_core::{
    Engine, LedgerQuery, MemoryStore, Outcome, Policy, ResourceState, RunStatus, Saga, SagaId,
    SecretRef, WorkerConfig,
    id::Payload,
    run::journal::Record,
    store::{NewRun, StateStore as _, Submission, Submitted},
    vault::LocalKeys,
};
use provision_testkit::{
    conformance::{append_of, new_worker, run_head},
    faulty::{Fault, Faults, Faulty, Odds, Op},
    harness::{
        World,
        world::{Compare, Comparison, Entry, RemoveEntry, RevokeToken, Thing, Token},
    },
};

const SHORT: SagaId<String, String> = SagaId::new("short", 1);

/// Every step may be tried once only: one attempt used up by the store would unwind the run.
fn short(world: &World) -> Saga<String, String> {
    let once = Policy::once;
    Saga::define(SHORT, |s| {
        let put = Entry(world.clone());
        let entry = s
            .step("entry", put.clone(), RemoveEntry(world.clone()))
            .retry(once())
            .input((), |name: &String, ()| name.clone());
        let token = s
            .step("token", Token(world.clone()), RevokeToken(world.clone()))
            .retry(once())
            .input(entry, |name, _| name.clone());
        let thing = Thing::labelled(world).slow(1, Duration::from_secs(10)).with_secret("admin");
        let thing = s
            .resource("thing", thing)
            .retry(once())
            .input(token, |name, _: SecretRef| name.clone());
        let same = s
            .step("same", Compare(world.clone()), provision_core::NothingToUndo)
            .retry(once())
            .after(thing)
            .input(token, |name, token| Comparison { name: name.clone(), token });
        s.step("last", put, RemoveEntry(world.clone()))
            .retry(once())
            .input((same, thing), |_, (_, thing)| format!("last {thing}"))
    })
    .unwrap()
}

struct Played {
    world: World,
    engine: Engine,
    outcome: Outcome<String>,
    records: Vec<Record>,
}

/// Plays the saga on a store with this trouble, and waits for its end.
async fn play(faults: &Faults, world: World) -> Played {
    let store = MemoryStore::new();
    let faulty = Faulty::new(store.clone(), faults);
    // Starting is the host's to repeat; the trouble begins with the run.
    let quiet = Engine::builder(store.clone()).register(short(&world));
    let quiet = quiet.build().await.unwrap();
    let run = *quiet.start(SHORT, &"x".into()).await.unwrap().id();
    let engine = loop {
        let keys = LocalKeys::new("harness", [7; 32]).unwrap();
        let builder = Engine::builder(faulty.clone()).register(short(&world)).keys(keys);
        match builder.build().await {
            Ok(engine) => break engine,
            Err(_) => provision_core::clock::sleep(Duration::from_secs(1)).await,
        }
    };
    let worker = engine.spawn_worker(WorkerConfig::default());
    let handle = quiet.handle::<String>(run);
    let outcome = tokio::time::timeout(Duration::from_secs(3600), handle.outcome()).await;
    worker.stop().await;
    let record = store.load(&[run]).await.unwrap().remove(0).unwrap();
    let frames = record.frames.iter().flat_map(|f| Record::decode(&f.body).unwrap());
    let records = frames.collect();
    Played { world, engine: quiet, outcome: outcome.unwrap().unwrap(), records }
}

impl Played {
    /// S18: nothing failed, nothing was undone, and everything is there once.
    async fn must_be_undisturbed(&self, what: &str) {
        assert_eq!(self.outcome, Outcome::Succeeded("last x@t-1".into()), "{what}");
        for record in &self.records {
            let failed = matches!(record, Record::Failed { interrupted: false, .. });
            let unwound = matches!(record, Record::UnwindStarted { .. } | Record::GaveUp { .. });
            assert!(!failed && !unwound, "{what}: {record:?}");
        }
        assert_eq!(self.world.names(), ["x"], "{what}");
        assert_eq!(self.world.calls("create x"), 1, "{what}");
        let rows = self.engine.ledger(&LedgerQuery::default()).await.unwrap();
        let states: Vec<_> = rows.iter().map(|row| row.state).collect();
        assert_eq!(states, [ResourceState::Alive], "{what}");
    }
}

/// Calls of an undisturbed run.
async fn calls() -> Faults {
    let faults = Faults::none();
    play(&faults, World::new()).await.must_be_undisturbed("no trouble").await;
    faults
}

// covers: S18
#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_for_a_minute_at_any_call_fails_no_step() {
    let all = calls().await.all_calls();
    assert!(all > 30, "only {all} calls");
    for number in 1..=all {
        let faults = Faults::none();
        faults.outage_at(number, Duration::from_secs(60));
        let played = play(&faults, World::new()).await;
        assert!(faults.failed() > 0, "call {number} did not fail");
        played.must_be_undisturbed(&format!("down from call {number}")).await;
    }
}

// covers: S18, S19
#[tokio::test(start_paused = true)]
async fn a_lost_reply_or_a_refusal_of_any_call_fails_no_step() {
    let calm = calls().await;
    for op in [Op::Append, Op::Lease, Op::Load, Op::Get, Op::Ledger, Op::Claim, Op::Now, Op::List] {
        for number in 0..calm.calls(op) {
            for fault in [Fault::Before, Fault::After] {
                let faults = Faults::none();
                faults.fail(op, usize::try_from(number).unwrap(), fault);
                let played = play(&faults, World::new()).await;
                let what = format!("{op:?} number {number} fails {fault:?}");
                played.must_be_undisturbed(&what).await;
            }
        }
    }
}

// covers: S18, S19
#[tokio::test(start_paused = true)]
async fn a_store_that_is_bad_all_the_time_fails_no_step() {
    for seed in 0..40 {
        let faults = Faults::seeded(seed, Odds { before: 150, after: 150 });
        let played = play(&faults, World::new()).await;
        assert!(faults.failed() > 0);
        played.must_be_undisturbed(&format!("seed {seed}")).await;
    }
}

// covers: S18
#[tokio::test(start_paused = true)]
async fn an_unwinding_goes_on_after_an_outage_at_any_call() {
    use provision_testkit::harness::world::Mishap;
    let refused = || {
        let world = World::new();
        world.plan("put last x@t-1", [Mishap::Refuse]);
        world
    };
    let calm = Faults::none();
    play(&calm, refused()).await;
    for number in 1..=calm.all_calls() {
        let faults = Faults::none();
        faults.outage_at(number, Duration::from_secs(60));
        let played = play(&faults, refused()).await;
        let Outcome::RolledBack(Some(failure)) = &played.outcome else {
            panic!("down from call {number}: {:?}", played.outcome);
        };
        assert_eq!(failure.path, "last", "down from call {number}");
        assert!(played.world.names().is_empty());
        assert!(played.world.log().iter().any(|line| line == "remove x"));
    }
}

// covers: S19
#[tokio::test(start_paused = true)]
async fn a_repeated_append_finds_its_own_record_and_no_other() {
    let faults = Faults::none();
    let store = Arc::new(Faulty::new(MemoryStore::new(), &faults));
    let lease_to = Some((new_worker(), Duration::from_secs(15)).into());
    let new = NewRun { head: run_head(), lease_to };
    let submitted = store.submit(&[Submission::Run(Box::new(new))]).await.unwrap().remove(0);
    let Submitted::Created(Some(leased)) = submitted else { panic!("{submitted:?}") };
    faults.fail(Op::Append, 0, Fault::After);
    let append = append_of(&leased, 1);
    store.append(std::slice::from_ref(&append)).await.unwrap_err();
    let again = store.append(std::slice::from_ref(&append)).await.unwrap();
    assert!(matches!(
        again[..],
        [provision_core::store::Appended::Applied { lease_lost: false, .. }]
    ));
    let mut other = append;
    other.frame = Some(Payload::encode(&"another").unwrap().as_str().into());
    let refused = store.append(&[other]).await.unwrap();
    assert_eq!(refused, [provision_core::store::Appended::Stale]);
    let record = store.load(&[leased.record.head.id]).await.unwrap().remove(0).unwrap();
    assert_eq!((record.frames.len(), record.head.status), (1, RunStatus::Running));
}
