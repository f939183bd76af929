//! The harness finds what is planted: leaks, doubled effects, shown secrets, points it missed.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use provision_core::{
    Compensator, EngineBuilder, ExternalId, Found, Identity, Intent, Listing, MemoryStore,
    Readiness, Resource, Saga, SagaId, SecretSpec, Step, StepContext, StepError, Timing, Undo,
    vault::LocalKeys,
};
use provision_testkit::harness::{
    Harness, InMemory, Place, Report, Subject, World, encodings,
    world::{Entry, RemoveEntry, Thing},
};

/// What is wrong with a step of [`Planted`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plant {
    /// Nothing: the harness finds nothing.
    Nothing,
    /// The delete says that it is done and does nothing.
    ForgetfulDelete,
    /// The look-up never finds what was made.
    BlindFind,
    /// Repeated, the plain step does its work a second time.
    Repeats,
    /// Repeated, the undo says that there is nothing to undo, for good.
    UndoOnce,
    /// The undo does nothing.
    NoUndo,
    /// The output of the plain step shows the secret of the resource, in hexadecimal.
    ShowsSecret,
    /// The error of the plain step's undo shows it, in base64.
    ErrorShowsSecret,
    /// The plain step leaves it beside what is stored, in upper-case hexadecimal.
    SpillsSecret,
    /// The undisturbed run makes a call that no later one makes.
    CallsOnce,
}

#[derive(Debug, Clone)]
struct Planted {
    plant: Plant,
    runs: Arc<AtomicU32>,
    spilt: Arc<Mutex<Vec<u8>>>,
}

/// A store in memory, and whatever else lies where it is kept.
#[derive(Debug, Clone, Default)]
struct Beside {
    store: InMemory,
    spilt: Arc<Mutex<Vec<u8>>>,
}

impl Place for Beside {
    type Store = MemoryStore;

    async fn open(&self) -> MemoryStore {
        self.store.open().await
    }

    async fn pass(&self, by: Duration) {
        self.store.pass(by).await;
    }

    fn bytes(&self) -> Vec<u8> {
        self.spilt.lock().unwrap().clone()
    }
}

const PLANTED: SagaId<String, String> = SagaId::new("planted", 1);

/// A thing with one fault.
#[derive(Debug, Clone)]
struct Bad {
    thing: Thing,
    plant: Plant,
}

impl Resource for Bad {
    const KIND: &'static str = "world.thing";
    type Spec = String;
    type Output = String;

    fn identity(&self, _: &String) -> Identity {
        Identity::Label
    }

    async fn find(&self, cx: &StepContext, spec: &String) -> Result<Found, StepError> {
        let found = self.thing.find(cx, spec).await?;
        Ok(if self.plant == Plant::BlindFind { Found::Absent } else { found })
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &String,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        self.thing.create(cx, spec, intent).await
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &String,
        id: &ExternalId,
    ) -> Result<Readiness<String>, StepError> {
        self.thing.ready(cx, spec, id).await
    }

    async fn delete(
        &self,
        cx: &StepContext,
        spec: &String,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        match self.plant {
            Plant::ForgetfulDelete => Ok(()),
            _ => self.thing.delete(cx, spec, id).await,
        }
    }

    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        self.thing.list_owned(cx).await
    }

    fn secrets(&self, spec: &String) -> Vec<SecretSpec> {
        self.thing.secrets(spec)
    }

    fn timing(&self) -> Timing {
        self.thing.timing()
    }
}

/// A plain step with one fault.
#[derive(Debug, Clone)]
struct BadStep {
    world: World,
    planted: Planted,
}

impl BadStep {
    async fn secret(&self, cx: &StepContext) -> Result<String, StepError> {
        let mut key = cx.secret_key("admin");
        key.path = "thing".to_owned();
        let secret = cx.reveal(&provision_core::SecretRef::sealed(&key)).await?;
        Ok(secret.expose().to_owned())
    }
}

impl Step for BadStep {
    const KIND: &'static str = "world.bad";
    type Input = String;
    type Output = String;

    async fn run(&self, cx: &StepContext, name: String) -> Result<String, StepError> {
        let put = Entry(self.world.clone());
        match self.planted.plant {
            Plant::Repeats => {
                // A name of its own for each attempt: what is put twice is there twice.
                put.run(cx, format!("{name}-{}", cx.attempt())).await
            }
            Plant::ShowsSecret => {
                let secret = self.secret(cx).await?;
                put.run(cx, name).await?;
                Ok(secret.bytes().map(|byte| format!("{byte:02x}")).collect())
            }
            Plant::SpillsSecret => {
                let secret = self.secret(cx).await?;
                let mut spilt = vec![0xff; 64];
                secret.bytes().for_each(|byte| spilt.extend(format!("{byte:02X}").bytes()));
                *self.planted.spilt.lock().unwrap() = spilt;
                put.run(cx, name).await
            }
            Plant::CallsOnce if self.planted.runs.fetch_add(1, Ordering::SeqCst) == 0 => {
                put.run(cx, name.clone()).await?;
                put.run(cx, name).await
            }
            _ => put.run(cx, name).await,
        }
    }
}

impl Compensator<Self> for BadStep {
    async fn compensate(
        &self,
        cx: &StepContext,
        name: String,
        undo: Undo<String>,
    ) -> Result<(), StepError> {
        let remove = RemoveEntry(self.world.clone());
        match self.planted.plant {
            Plant::NoUndo => Ok(()),
            Plant::UndoOnce if self.world.calls(&format!("remove {name}")) > 0 => {
                Err(StepError::permanent("remove").with_code("not_there"))
            }
            Plant::ErrorShowsSecret if cx.attempt() == 1 => {
                let secret = self.secret(cx).await?;
                let shown = encodings(&secret).into_iter().find(|form| *form != secret);
                Err(StepError::retry("remove").with_message(shown.unwrap()))
            }
            Plant::Repeats => {
                for attempt in 1..9 {
                    let undo = Undo::Unknown(Vec::new());
                    remove.compensate(cx, format!("{name}-{attempt}"), undo).await?;
                }
                Ok(())
            }
            _ => remove.compensate(cx, name, undo).await,
        }
    }
}

impl Subject for Planted {
    type Input = String;
    type Output = String;
    type World = World;

    fn world(&self) -> World {
        World::new()
    }

    fn saga(&self, world: &World) -> Saga<String, String> {
        let thing = Thing::labelled(world).with_secret("admin");
        let bad = BadStep { world: world.clone(), planted: self.clone() };
        Saga::define(PLANTED, |s| {
            let thing = s
                .resource("thing", Bad { thing, plant: self.plant })
                .input((), |name: &String, ()| name.clone());
            let entry = s.step("entry", bad.clone(), bad).input(thing, |name, _| name.clone());
            s.step("last", Entry(world.clone()), RemoveEntry(world.clone()))
                .pivot()
                .input(entry, |_, _| "last".to_owned())
        })
        .unwrap()
    }

    fn input(&self) -> String {
        "x".to_owned()
    }

    fn equip(&self, builder: EngineBuilder, _: &World) -> EngineBuilder {
        builder.keys(LocalKeys::new("harness", [7; 32]).unwrap())
    }
}

async fn found(plant: Plant) -> Report {
    let planted = Planted { plant, runs: Arc::default(), spilt: Arc::default() };
    let spilt = Arc::clone(&planted.spilt);
    let place = || std::future::ready(Beside { store: InMemory::new(), spilt: Arc::clone(&spilt) });
    let report = Harness::new(planted, place).run().await;
    println!("{plant:?}: {} scenarios, {} flawed", report.scenarios, report.flaws.len());
    report
}

#[tokio::test(start_paused = true)]
async fn a_sound_saga_has_no_flaw() {
    let report = found(Plant::Nothing).await;
    report.assert_flawless();
    assert!(report.killed > 150, "{report}");
}

// covers: X1
#[tokio::test(start_paused = true)]
async fn planted_bugs_are_found() {
    for (plant, words) in [
        (Plant::ForgetfulDelete, "leaked"),
        (Plant::BlindFind, "leaked"),
        (Plant::BlindFind, "doubled"),
        (Plant::Repeats, "effects of plain steps"),
        (Plant::UndoOnce, "it ended Parked, not RolledBack"),
        (Plant::NoUndo, "is left"),
        (Plant::ShowsSecret, "stands in the journal"),
        (Plant::ErrorShowsSecret, "stands in the failures"),
        (Plant::ErrorShowsSecret, "stands in an event"),
        (Plant::SpillsSecret, "stands in the stored bytes"),
        (Plant::CallsOnce, "never reached again"),
    ] {
        let report = found(plant).await;
        assert!(report.tells_of(words), "{plant:?} was not found: {report}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_recorded_and_never_killed_fails() {
    let report = found(Plant::CallsOnce).await;
    assert!(report.killed < report.points);
    let refused = std::panic::catch_unwind(|| report.assert_flawless());
    assert!(refused.is_err());
}
